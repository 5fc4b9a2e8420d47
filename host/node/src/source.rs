//! One source: fetches windows, lets the policy judge them, appends them to the log. One task owns it.

use std::sync::Arc;

use tidemill_event::{Position, Scn, Window};
use tidemill_fetchers_api::{FetchError, Fetcher};
use tidemill_log::{AppendError, Writer};
use tidemill_sandbox::{GuestError, PolicyStage};
use tokio::sync::watch;

use crate::shutdown::stopped;
use crate::status::Fetched;

/// What a source is made of; `wiring` makes it.
pub struct Source<F> {
    /// Its name.
    pub name: String,
    /// Where its transactions come from.
    pub fetcher: F,
    /// What may be stored; shared with the fetcher's table selector.
    pub policy: Option<SharedPolicy>,
    /// The log.
    pub writer: Writer,
    /// When each window was read.
    pub fetched: Fetched,
    /// What is stored.
    pub at: Position,
    /// Where the source ends, if it is not to go on for ever.
    pub until: Option<Scn>,
}

/// The policy judges windows on the source's task and tables on the fetcher's.
pub type SharedPolicy = Arc<std::sync::Mutex<PolicyStage>>;

/// Why a source stopped. It stands behind its last appended window until a person mends the cause.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The fetcher cannot go on.
    #[error("source `{name}` stops after {at}")]
    Fetch {
        /// The source.
        name: String,
        /// What is stored.
        at: Position,
        /// The cause.
        source: FetchError,
    },
    /// The policy failed; nothing that it did not judge is stored.
    #[error("source `{name}` stops after {at}: its policy failed")]
    Policy {
        /// The source.
        name: String,
        /// What is stored.
        at: Position,
        /// The cause.
        source: Box<GuestError>,
    },
    /// The log did not take a window.
    #[error("source `{name}` stops after {at}")]
    Append {
        /// The source.
        name: String,
        /// What is stored.
        at: Position,
        /// The cause.
        source: AppendError,
    },
}

impl<F: Fetcher> Source<F> {
    /// Runs until told to stop, until the source ends, or until it cannot go on. However it ends, the log is synced and
    /// closed, so that subscriptions deliver what is stored and then end too.
    pub async fn run(mut self, stop: watch::Receiver<bool>) -> Result<(), SourceError> {
        let ended = self.fetch(stop).await;
        let (name, at) = (self.name, self.at);
        let closed = self.writer.close().map_err(|source| SourceError::Append { name, at, source });
        ended.and(closed)
    }

    async fn fetch(&mut self, mut stop: watch::Receiver<bool>) -> Result<(), SourceError> {
        while self.until.is_none_or(|end| self.at.scn < end) {
            let next = tokio::select! {
                biased;
                // A window that was not appended is fetched again after the next start: safe to leave.
                () = stopped(&mut stop) => return Ok(()),
                next = self.fetcher.next() => next,
            };
            let (name, at) = (self.name.clone(), self.at);
            let Some(window) = next.map_err(|source| SourceError::Fetch { name, at, source })? else {
                return Ok(());
            };
            tokio::task::block_in_place(|| self.append(window))?;
        }
        Ok(())
    }

    fn append(&mut self, window: Window) -> Result<(), SourceError> {
        let at = self.at;
        let judged = match &self.policy {
            Some(policy) => policy.lock().expect("no holder panics").apply(window).map_err(|source| {
                SourceError::Policy { name: self.name.clone(), at, source: Box::new(source) }
            })?,
            None => window,
        };
        self.fetched.add(&judged);
        let appended = self.writer.append(&judged);
        appended.map_err(|source| SourceError::Append { name: self.name.clone(), at, source })?;
        self.at = judged.position();
        Ok(())
    }
}
