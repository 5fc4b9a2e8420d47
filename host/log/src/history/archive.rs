//! Brings sealed segments into history in their order, and lets go what is older than configured. Whatever fails is tried
//! again for ever, with growing waits: this disk keeps what history does not have.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use object_store::{Error, ObjectStoreExt};
use tokio::sync::watch;

use crate::history::cache::blocking;
use crate::history::upload::upload;
use crate::history::{Entry, History, HistoryError, HistoryStats};
use crate::log::Log;
use crate::retain::drop_old;
use crate::state::{Segment, Shared};
use crate::writer::seal_old;
use tidemill_event::chain;

/// How often ages are looked at, at most and at least.
const TICK_MAX: Duration = Duration::from_secs(60);
const TICK_MIN: Duration = Duration::from_millis(10);

impl Log {
    /// Brings sealed segments into history until told to stop. Without it a log with history grows on this disk: one task
    /// of the process runs it. It ends with an error only when the history is another log's; all others are tried again,
    /// said in the log and in [`Log::history_stats`].
    ///
    /// Cancel-safe: what was begun is done again.
    pub async fn archive(&self, mut stop: watch::Receiver<bool>) -> Result<(), HistoryError> {
        tokio::select! {
            biased;
            // An end of the sender is the end of who started this.
            _ = stop.wait_for(|stop| *stop) => Ok(()),
            ended = archive_for_ever(self.shared()) => ended,
        }
    }

    /// Brings into history what is sealed by now, and lets go what is too old, once. For a last time before a process ends.
    pub async fn archive_now(&self) -> Result<(), HistoryError> {
        match &self.shared().history {
            Some(history) => {
                let _turn = history.archiving.lock().await;
                round(self.shared(), history).await
            }
            None => Ok(()),
        }
    }

    /// What its history holds; `None`: it has none.
    pub fn history_stats(&self) -> Option<HistoryStats> {
        let shared = self.shared();
        let history = shared.history.as_ref()?;
        let cache_bytes = history.cache.bytes();
        let (last_error, is_over_limit) = {
            let status = history.status();
            (status.last_error.clone(), status.is_over_limit)
        };
        let state = shared.state();
        let archived = state.history.back().map_or(0, |entry| entry.sequence());
        let waiting = state.segments.iter().filter(|s| s.header.sequence > archived);
        Some(HistoryStats {
            bytes: state.history.iter().map(|entry| entry.bytes()).sum(),
            segment_count: state.history.len(),
            earliest: state.history.front().map(|entry| entry.header.start()),
            archived: state.history.back().map(|entry| entry.end()),
            waiting_bytes: waiting.map(|s| s.index.length).sum(),
            is_over_limit,
            cache_bytes,
            last_error,
        })
    }
}

async fn archive_for_ever(shared: &Arc<Shared>) -> Result<(), HistoryError> {
    let Some(history) = &shared.history else { return std::future::pending().await };
    let _turn = history.archiving.lock().await;
    let config = &history.config;
    let tick = config.upload_after.map_or(TICK_MAX, |after| (after / 4).clamp(TICK_MIN, TICK_MAX));
    let mut wait = config.retry_first;
    loop {
        match round(shared, history).await {
            Ok(()) => {
                wait = config.retry_first;
                // Whichever comes first; a segment that is sealed meanwhile leaves a permit.
                let _ = tokio::time::timeout(tick, history.sealed.notified()).await;
            }
            Err(error @ HistoryError::Other(_)) => return Err(error),
            Err(error) => {
                let log = shared.config.directory.display();
                tracing::warn!(%log, error = %chain(&error), "history waits and tries again");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(config.retry_max);
            }
        }
    }
}

async fn round(shared: &Arc<Shared>, history: &Arc<History>) -> Result<(), HistoryError> {
    let done = try_round(shared, history).await;
    history.status().last_error = done.as_ref().err().map(|error| chain(error));
    done
}

async fn try_round(shared: &Arc<Shared>, history: &Arc<History>) -> Result<(), HistoryError> {
    if let Some(age) = history.config.upload_after {
        let of = Arc::clone(shared);
        blocking(move || seal_old(&of, age)).await?;
    }
    while let Some(segment) = next_segment(shared) {
        if shared.state().durable < Some(segment.end()) {
            let of = Arc::clone(shared);
            blocking(move || of.sync()).await?;
        }
        let entry = upload(&history.config, &shared.files, &segment).await?;
        shared.state().history.push_back(entry);
        let of = Arc::clone(shared);
        blocking(move || drop_old(&of)).await;
    }
    expire(shared, history).await
}

/// The oldest sealed segment that is not in history.
fn next_segment(shared: &Shared) -> Option<Segment> {
    let state = shared.state();
    let archived = state.history.back().map_or(0, |entry| entry.sequence());
    let next = state.segments.iter().find(|s| s.header.sequence > archived)?;
    let sealed = state.active != Some(next.header.sequence) && !next.index.is_empty();
    sealed.then(|| next.clone())
}

/// Lets go what is older than configured, oldest first: the entry, then the object. The newest segment stays, since it
/// says where the log goes on.
async fn expire(shared: &Arc<Shared>, history: &History) -> Result<(), HistoryError> {
    let Some(keep) = history.config.keep_time else { return Ok(()) };
    while let Some(entry) = oldest_expired(shared, keep) {
        let config = &history.config;
        let path = config.entry_path(entry.sequence());
        delete(history, &path).await?;
        {
            let mut state = shared.state();
            state.history.pop_front();
            state.dropped_end = state.dropped_end.max(Some(entry.end_place()));
        }
        delete(history, &config.object_path(&entry.object)).await?;
    }
    Ok(())
}

fn oldest_expired(shared: &Shared, keep: Duration) -> Option<Arc<Entry>> {
    let now = shared.clock.now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let state = shared.state();
    let oldest = state.history.front().filter(|_| state.history.len() > 1)?;
    let written = Duration::from_micros(u64::try_from(oldest.written_us).unwrap_or(0));
    (now.saturating_sub(written) > keep).then(|| Arc::clone(oldest))
}

async fn delete(history: &History, path: &object_store::path::Path) -> Result<(), HistoryError> {
    match history.config.store.delete(path).await {
        Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(history.config.failed("remove", path)(error).into()),
    }
}
