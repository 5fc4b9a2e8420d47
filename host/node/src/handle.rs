//! What others see of a source while its task owns it, and how they tell it to pause and to resume.

use std::sync::{Arc, Mutex, MutexGuard};

use tidemill_fetchers_api::Liveness;
use tidemill_log::Log;
use tokio::sync::watch;

use crate::status::{Costs, Fetched};

/// What a source is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Doing {
    /// It is being opened for the first time.
    #[default]
    Opening,
    /// It fetches, or waits for something to fetch.
    Running,
    /// An operator paused it.
    Paused,
    /// An error stopped it; it is opened again by itself.
    Retrying,
    /// An error stopped it until an operator resumes it.
    Failed,
    /// There is nothing more to fetch, or the process stops.
    Ended,
}

/// What a source says of itself.
#[derive(Clone, Debug, Default)]
pub struct Condition {
    /// What it is doing.
    pub doing: Doing,
    /// Why, if it is an error: with its causes.
    pub why: Option<String>,
    /// The last error, also when it is mended.
    pub last_error: Option<String>,
    /// How many errors there were.
    pub errors: u64,
    /// Whether it was open once.
    pub was_open: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Wanted {
    paused: bool,
    /// Counts the calls of `resume`, for a source that failed.
    resumes: u64,
}

/// A handle on one source; cheap to clone.
#[derive(Clone)]
pub struct SourceHandle {
    /// Its name.
    pub name: Arc<str>,
    /// Its log.
    pub log: Log,
    /// What was read from it.
    pub fetched: Fetched,
    /// What its policy has cost.
    pub costs: Costs,
    wanted: watch::Sender<Wanted>,
    says: Arc<Mutex<(Condition, Liveness)>>,
}

impl SourceHandle {
    /// The handle of a source that is not open yet.
    pub fn new(name: &str, log: Log) -> SourceHandle {
        SourceHandle {
            name: name.into(),
            log,
            fetched: Fetched::default(),
            costs: Costs::default(),
            wanted: watch::Sender::default(),
            says: Arc::default(),
        }
    }

    /// What it is doing. One that runs and does not answer says so.
    pub fn condition(&self) -> Condition {
        let (mut condition, liveness) = self.says().clone();
        if condition.doing == Doing::Running {
            condition.why = liveness.why();
        }
        condition
    }

    /// Lets it stand still behind the window in hand.
    pub fn pause(&self) {
        self.wanted.send_modify(|wanted| wanted.paused = true);
    }

    /// Lets it go on, also after an error.
    pub fn resume(&self) {
        self.wanted.send_modify(|wanted| {
            wanted.paused = false;
            wanted.resumes += 1;
        });
    }

    /// The task: it does this now, without an error.
    pub fn is(&self, doing: Doing) {
        let mut says = self.says();
        says.0.doing = doing;
        says.0.why = None;
    }

    /// The task: its fetcher is open.
    pub fn opened(&self, liveness: Liveness) {
        let mut says = self.says();
        says.1 = liveness;
        says.0 = Condition { doing: Doing::Running, why: None, was_open: true, ..says.0.clone() };
    }

    /// The task: this error stopped it.
    pub fn failed(&self, error: &str, again: bool) {
        let mut says = self.says();
        let condition = &mut says.0;
        condition.doing = if again { Doing::Retrying } else { Doing::Failed };
        condition.why = Some(error.to_owned());
        condition.last_error = Some(error.to_owned());
        condition.errors += 1;
    }

    /// How often it was told to resume.
    pub fn resumes(&self) -> u64 {
        self.wanted.borrow().resumes
    }

    /// Waits until it was told to resume once more. Cancel-safe.
    pub async fn resumed_after(&self, resumes: u64) {
        self.wait(|wanted| wanted.resumes > resumes).await;
    }

    /// Waits until it is to pause. Cancel-safe.
    pub async fn pause_wanted(&self) {
        self.wait(|wanted| wanted.paused).await;
    }

    /// Waits until it is to run. Cancel-safe.
    pub async fn running_wanted(&self) {
        self.wait(|wanted| !wanted.paused).await;
    }

    async fn wait(&self, condition: impl Fn(&Wanted) -> bool) {
        let mut wanted = self.wanted.subscribe();
        wanted.wait_for(condition).await.expect("the sender lives in this handle");
    }

    fn says(&self) -> MutexGuard<'_, (Condition, Liveness)> {
        self.says.lock().expect("nothing panics while it holds this")
    }
}
