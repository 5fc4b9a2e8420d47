//! One source: fetches windows, which its fetcher lets the policy judge, and appends them to the log. One task owns it.

use std::error::Error;
use std::sync::Arc;

use tidemill_event::{Position, Scn, Window};
use tidemill_fetchers_api::{FetchError, Fetcher};
use tidemill_log::{AppendError, Writer};
use tidemill_sandbox::PolicyStage;
use tokio::sync::watch;

use crate::shutdown::stopped;
use crate::status::Fetched;

/// What a source is made of; `wiring` makes it.
pub struct Source<F> {
    /// Its name.
    pub name: String,
    /// Where its transactions come from.
    pub fetcher: F,
    /// The log.
    pub writer: Writer,
    /// When each window was read.
    pub fetched: Fetched,
    /// What is stored.
    pub at: Position,
    /// Where the source ends, if it is not to go on for ever.
    pub until: Option<Scn>,
}

/// The policy, asked by its source's fetcher about tables and about windows.
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
        source: Arc<dyn Error + Send + Sync>,
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
            let Some(window) = next.map_err(|error| self.failed(error))? else {
                return Ok(());
            };
            tokio::task::block_in_place(|| self.append(&window))?;
        }
        Ok(())
    }

    fn failed(&self, error: FetchError) -> SourceError {
        let (name, at) = (self.name.clone(), self.at);
        match error {
            FetchError::Judge { source } => SourceError::Policy { name, at, source },
            source => SourceError::Fetch { name, at, source },
        }
    }

    fn append(&mut self, window: &Window) -> Result<(), SourceError> {
        let at = self.at;
        self.fetched.add(window);
        let appended = self.writer.append(window);
        appended.map_err(|source| SourceError::Append { name: self.name.clone(), at, source })?;
        if let Some(upto) = self.writer.durable() {
            self.fetcher.stored(upto);
        }
        self.at = window.position();
        Ok(())
    }
}
