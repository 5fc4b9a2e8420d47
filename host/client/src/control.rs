//! The switch of a subscription: an operator's side, which pauses, resumes and looks, and the side of the loop that obeys.
//!
//! ```text
//!            pause                       error, retries used up
//! running ──────────▶ paused by operator        running ──────▶ paused by error ──resume──▶ running, the delivery again
//!    ▲                      │                                         │
//!    └───────resume─────────┘                     without an operator, or told to stop: it ends
//! ```

use std::time::Duration;

use tokio::sync::watch;

/// What a subscription is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It delivers, or waits for something to deliver.
    Running,
    /// An operator paused it, between two deliveries.
    PausedByOperator,
    /// A delivery failed, and so did its repetitions; an operator who mended the cause resumes it.
    PausedByError,
    /// It was told to stop, its source has ended, or it could not go on and nobody may resume it.
    Ended,
}

/// What an operator sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// What it is doing.
    pub state: State,
    /// How often a delivery was tried again.
    pub retries: u64,
    /// The last error, with its causes; it stays after the error is mended.
    pub last_error: Option<String>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Wanted {
    paused: bool,
    /// Counts the calls of `resume`, so that one which came too early wakes nobody later.
    resumed: u64,
}

/// An operator's side. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Switch {
    wanted: watch::Sender<Wanted>,
    status: watch::Receiver<Status>,
}

impl Switch {
    /// Lets it pause when the delivery in hand is done.
    pub fn pause(&self) {
        self.wanted.send_modify(|wanted| wanted.paused = true);
    }

    /// Lets it go on, whoever or whatever paused it.
    pub fn resume(&self) {
        self.wanted.send_modify(|wanted| {
            wanted.paused = false;
            wanted.resumed += 1;
        });
    }

    /// What it is doing.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Waits until what it is doing fulfils the condition, or its loop is gone.
    pub async fn wait(&self, condition: impl Fn(&Status) -> bool) {
        let mut status = self.status.clone();
        let _ = status.wait_for(|s| s.state == State::Ended || condition(s)).await;
    }
}

/// The side of the loop.
#[derive(Debug)]
pub struct Control {
    stop: watch::Receiver<bool>,
    wanted: watch::Receiver<Wanted>,
    status: watch::Sender<Status>,
    holds: bool,
}

/// Waits until the word is said.
async fn held<T>(word: &mut watch::Receiver<T>, condition: impl Fn(&T) -> bool) {
    // A closed channel means that nobody can say it any more; whoever waits then has other ways to end.
    if word.wait_for(condition).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// What a loop is to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interrupt {
    Stop,
    Pause,
}

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    GoOn,
    Stop,
}

impl Control {
    /// Both sides. `stop` turns true when the process, or whoever owns the subscription, ends.
    pub fn new(stop: watch::Receiver<bool>) -> (Switch, Control) {
        let running = Status { state: State::Running, retries: 0, last_error: None };
        let (wanted, status) = (watch::Sender::new(Wanted::default()), watch::Sender::new(running));
        let control = Control { stop, wanted: wanted.subscribe(), status: status.clone(), holds: false };
        (Switch { wanted, status: status.subscribe() }, control)
    }

    /// Lets an error wait for an operator to resume, instead of ending the loop.
    pub fn held_on_error(mut self) -> Control {
        self.holds = true;
        self
    }

    pub(crate) fn holds(&self) -> bool {
        self.holds
    }

    /// Waits until told to stop, or until an operator wants a pause. Cancel-safe.
    pub(crate) async fn interrupted(&mut self) -> Interrupt {
        tokio::select! {
            biased;
            () = held(&mut self.stop, |stop| *stop) => Interrupt::Stop,
            () = held(&mut self.wanted, |wanted| wanted.paused) => Interrupt::Pause,
        }
    }

    /// Waits that long, unless told to stop before.
    pub(crate) async fn sleep(&mut self, time: Duration) -> Told {
        tokio::select! {
            biased;
            () = held(&mut self.stop, |stop| *stop) => Told::Stop,
            () = tokio::time::sleep(time) => Told::GoOn,
        }
    }

    /// Stands still until resumed or told to stop.
    pub(crate) async fn pause(&mut self, state: State) -> Told {
        let resumed = self.wanted.borrow().resumed;
        self.says(|status| status.state = state);
        let told = tokio::select! {
            biased;
            () = held(&mut self.stop, |stop| *stop) => Told::Stop,
            () = held(&mut self.wanted, |w| !w.paused && w.resumed > resumed) => Told::GoOn,
        };
        if told == Told::GoOn {
            self.says(|status| status.state = State::Running);
        }
        told
    }

    pub(crate) fn says(&self, change: impl FnOnce(&mut Status)) {
        self.status.send_modify(change);
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.says(|status| status.state = State::Ended);
    }
}
