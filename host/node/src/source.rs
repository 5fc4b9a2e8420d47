//! One source: fetches windows, which its fetcher lets the policy judge, and appends them to the log. One task owns it.
//!
//! ```text
//!              pause                    error
//!  running ───────────▶ paused   running ─────▶ it may mend itself: opened again after a while
//!     ▲                    │                    else: failed until an operator resumes it, or the source's end where
//!     └──────resume────────┘                    there is none
//! ```

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use tidemill_event::{Position, Remedy, Scn, Window};
use tidemill_fetchers_api::{FetchError, Fetcher};
use tidemill_log::{AppendError, Log, OpenError, Writer};
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::fetch::{AnyFetcher, Opener};
use crate::handle::{Doing, SourceHandle};
use crate::shutdown::stopped;
use tidemill_event::chain;

/// The wait before a source that failed is opened again; it doubles up to the longest.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_LONGEST: Duration = Duration::from_secs(30);

/// What a source is made of; `wiring` makes it.
pub struct Source {
    /// How its fetcher is opened.
    pub opener: Opener,
    /// The fetcher that was opened already, to see that the source can be reached at all.
    pub opened: Option<AnyFetcher>,
    /// The log.
    pub log: Log,
    /// What others see of it, and tell it.
    pub handle: SourceHandle,
    /// What is stored.
    pub at: Position,
    /// Where the source ends, if it is not to go on for ever.
    pub until: Option<Scn>,
    /// What becomes of errors.
    pub on_error: OnError,
}

/// What becomes of a source that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// It ends, whatever the error.
    End,
    /// It is opened again where the error may mend itself, else it ends.
    Retry,
    /// It is opened again where the error may mend itself, else it waits for an operator to resume it.
    Hold,
}

/// Why a source stopped. It stands behind its last appended window until the cause is mended.
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
    /// The log could not be written again.
    #[error("source `{name}` stops after {at}")]
    Log {
        /// The source.
        name: String,
        /// What is stored.
        at: Position,
        /// The cause.
        source: Box<OpenError>,
    },
}

impl SourceError {
    /// Whether the same may go well a while later, without anybody's doing or with space on a disk.
    fn may_mend_itself(&self) -> bool {
        match self {
            SourceError::Fetch { source, .. } => matches!(source.remedy(), Remedy::Retry | Remedy::Wait),
            SourceError::Policy { .. } => false,
            SourceError::Append { source, .. } => {
                matches!(source, AppendError::Storage(_) | AppendError::Poisoned(_))
            }
            SourceError::Log { source, .. } => matches!(**source, OpenError::Storage(_)),
        }
    }
}

/// Why a source is not followed any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It was told to stop.
    Stop,
    /// There is nothing more to fetch.
    Source,
}

impl Source {
    /// Runs until told to stop, until the source ends, or until it cannot go on. However it ends, the log is synced and
    /// closed, so that subscriptions deliver what is stored and then end too.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), SourceError> {
        let ended = self.supervise(&mut stop).await;
        match &ended {
            Ok(()) => self.handle.is(Doing::Ended),
            Err(error) => self.handle.failed(&chain(error), false),
        }
        let closed = tokio::task::block_in_place(|| self.close());
        ended.and(closed)
    }

    /// Follows the source, and decides after each error.
    async fn supervise(&mut self, stop: &mut watch::Receiver<bool>) -> Result<(), SourceError> {
        let mut wait = RETRY_FIRST;
        loop {
            let before = self.at;
            let failed = match self.follow(stop).await {
                Ok(End::Source) if self.on_error == OnError::Hold => {
                    // Whoever is served here may still read what is stored.
                    info!(source = %self.opener.name, "the source has ended; it is served on");
                    self.handle.is(Doing::Ended);
                    stopped(stop).await;
                    return Ok(());
                }
                Ok(_) => return Ok(()),
                Err(failed) => failed,
            };
            if self.at != before {
                wait = RETRY_FIRST;
            }
            let again = self.on_error != OnError::End && failed.may_mend_itself();
            if !again && self.on_error != OnError::Hold {
                return Err(failed);
            }
            let text = chain(&failed);
            if again {
                warn!(source = %self.opener.name, error = %text, wait_ms = wait.as_millis() as u64, "failed; opened again");
            } else {
                error!(source = %self.opener.name, error = %text, "failed; an operator may resume it");
            }
            let resumes = self.handle.resumes();
            self.handle.failed(&text, again);
            tokio::select! {
                biased;
                () = stopped(stop) => return if again { Ok(()) } else { Err(failed) },
                () = self.handle.resumed_after(resumes) => {}
                () = tokio::time::sleep(wait), if again => wait = (wait * 2).min(RETRY_LONGEST),
            }
        }
    }

    /// Opens log and source, if they are not, and appends what the source gives.
    async fn follow(&mut self, stop: &mut watch::Receiver<bool>) -> Result<End, SourceError> {
        // First the writer: it cuts what is in doubt, so that the source is read on from what is left.
        let writer = tokio::task::block_in_place(|| self.log.writer());
        let mut writer = writer.map_err(|source| {
            let (name, at) = (self.opener.name.clone(), self.at);
            SourceError::Log { name, at, source: Box::new(source) }
        })?;
        let stored = self.log.checkpoint();
        self.at = stored.as_ref().map(|checkpoint| checkpoint.position).unwrap_or_default();
        let mut fetcher = match self.opened.take() {
            Some(fetcher) => fetcher,
            None => tokio::select! {
                biased;
                () = stopped(stop) => return Ok(End::Stop),
                opened = self.opener.open(stored) => opened.map_err(|e| self.fetch_error(e))?,
            },
        };
        self.handle.opened(fetcher.liveness());
        info!(source = %self.opener.name, at = %self.at, "source is open");
        let end = self.fetch(&mut fetcher, &mut writer, stop).await?;
        tokio::task::block_in_place(|| writer.sync()).map_err(|e| self.append_error(e))?;
        Ok(end)
    }

    async fn fetch(
        &mut self,
        fetcher: &mut AnyFetcher,
        writer: &mut Writer,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<End, SourceError> {
        while self.until.is_none_or(|end| self.at.scn < end) {
            let next = tokio::select! {
                biased;
                // A window that was not appended is fetched again after the next start: safe to leave.
                () = stopped(stop) => return Ok(End::Stop),
                () = self.handle.pause_wanted() => None,
                next = fetcher.next() => Some(next),
            };
            match next {
                // The connection stays as it is; one that the source gives up meanwhile is made again.
                None => {
                    self.handle.is(Doing::Paused);
                    info!(source = %self.opener.name, at = %self.at, "source is paused");
                    tokio::select! {
                        biased;
                        () = stopped(stop) => return Ok(End::Stop),
                        () = self.handle.running_wanted() => {}
                    }
                    info!(source = %self.opener.name, at = %self.at, "source is resumed");
                    self.handle.is(Doing::Running);
                }
                Some(next) => match next.map_err(|error| self.fetch_error(error))? {
                    None => return Ok(End::Source),
                    Some(window) => tokio::task::block_in_place(|| self.append(fetcher, writer, &window))?,
                },
            }
        }
        Ok(End::Source)
    }

    fn append(
        &mut self,
        fetcher: &mut AnyFetcher,
        writer: &mut Writer,
        window: &Window,
    ) -> Result<(), SourceError> {
        self.handle.fetched.add(window);
        let appended = match fetcher.take_frame() {
            Some(frame) => writer.append_frame(&frame, window),
            None => writer.append(window),
        };
        appended.map_err(|error| self.append_error(error))?;
        self.handle.fetched.stored(window);
        self.at = window.position();
        if let Some(upto) = writer.durable() {
            fetcher.stored(upto);
        }
        Ok(())
    }

    fn fetch_error(&self, error: FetchError) -> SourceError {
        let (name, at) = (self.opener.name.clone(), self.at);
        match error {
            FetchError::Judge { source } => SourceError::Policy { name, at, source },
            source => SourceError::Fetch { name, at, source },
        }
    }

    fn append_error(&self, source: AppendError) -> SourceError {
        SourceError::Append { name: self.opener.name.clone(), at: self.at, source }
    }

    /// A new writer closes the log, since what the last one left behind may be in doubt.
    fn close(&self) -> Result<(), SourceError> {
        let (name, at) = (self.opener.name.clone(), self.at);
        let failed = |source| SourceError::Log { name, at, source: Box::new(source) };
        let writer = self.log.writer().map_err(failed)?;
        writer.close().map_err(|error| self.append_error(error))
    }
}
