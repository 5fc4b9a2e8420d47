//! Keeps the store in shape beside following: merges runs, publishes versions, removes what nobody needs. One job at a time;
//! what it makes is committed to the head as it is then.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tidemill_bootstrap_store::{
    Draft, MergeOptions, Retention, TableId, TableState, Writer, merge_base, merge_runs, trim,
};
use tidemill_event::{Position, Remedy, chain};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::FollowError;
use super::change::needed_log;
use super::merge::{Wish, replace_base, replace_runs, wish};
use crate::ServiceOptions;
use crate::limits::RETRY_JOB;

/// See the module.
pub(crate) struct Keeper {
    writer: Writer,
    options: ServiceOptions,
    jobs: JoinSet<(Option<TableId>, Result<(), FollowError>)>,
    published: HashMap<TableId, Instant>,
    /// When a table had its last job.
    served: HashMap<TableId, Instant>,
    /// Tables whose job failed, and when it is tried again.
    failed: HashMap<TableId, Instant>,
    /// Why, until a job of theirs goes well.
    troubles: HashMap<TableId, String>,
    /// Tables that somebody wants published.
    asked: HashSet<TableId>,
    started: Instant,
    collect_at: Instant,
}

impl Keeper {
    pub(crate) fn new(writer: Writer, options: &ServiceOptions) -> Keeper {
        let now = Instant::now();
        Keeper {
            writer,
            options: options.clone(),
            jobs: JoinSet::new(),
            published: HashMap::new(),
            served: HashMap::new(),
            failed: HashMap::new(),
            troubles: HashMap::new(),
            asked: HashSet::new(),
            started: now,
            collect_at: now + options.collect_every,
        }
    }

    /// Publishes everything that changed, as soon as it can.
    pub(crate) fn publish_all(&mut self) {
        self.asked.extend(self.writer.tables().into_keys());
        self.wake();
    }

    /// Starts the next job, unless one is under way.
    pub(crate) fn wake(&mut self) {
        if !self.jobs.is_empty() {
            return;
        }
        let now = Instant::now();
        let writer = self.writer.clone();
        if now >= self.collect_at {
            self.collect_at = now + self.options.collect_every;
            let (keep, now_us) = (self.options.retention.clone(), (self.options.now_us)());
            self.jobs.spawn(async move { (None, collect(&writer, &keep, now_us).await) });
            return;
        }
        let tables = self.writer.tables();
        self.failed.retain(|_, until| *until > now);
        let mut tables: Vec<&Arc<TableState>> =
            tables.values().filter(|table| !self.failed.contains_key(&table.id)).collect();
        // Each has its turn, however much another one changes.
        tables.sort_by_key(|table| self.served.get(&table.id).copied());
        for table in tables {
            let last = self.published.get(&table.id).copied().unwrap_or(self.started);
            let is_due = now >= last + self.options.publish_every || self.asked.contains(&table.id);
            let Some(wish) = wish(table, is_due, &self.options) else {
                self.asked.remove(&table.id);
                continue;
            };
            if wish == Wish::Base {
                self.published.insert(table.id, now);
                self.asked.remove(&table.id);
            }
            self.served.insert(table.id, now);
            let (table, merge) = (Arc::clone(table), self.options.merge.clone());
            let applied = writer.head().applied.position;
            self.jobs.spawn(async move {
                (Some(table.id), merge_table(&writer, &table, wish, applied, &merge).await)
            });
            return;
        }
    }

    /// When there may be something to do although nothing happened.
    pub(crate) fn next(&self) -> Instant {
        let publish = Instant::now() + self.options.publish_every.min(Duration::from_secs(60));
        self.collect_at.min(publish).max(Instant::now() + Duration::from_millis(100))
    }

    /// Why a table is not merged, where that failed.
    pub(crate) fn trouble(&self, table: TableId) -> Option<&str> {
        self.troubles.get(&table).map(String::as_str)
    }

    pub(crate) fn is_busy(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// The end of the job in hand; waits for ever where there is none. An error is one that does not mend itself.
    pub(crate) async fn done(&mut self) -> Result<Option<FollowError>, FollowError> {
        let (table, result) = match self.jobs.join_next().await {
            Some(Ok(done)) => done,
            Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
            None => std::future::pending().await,
        };
        let Err(error) = result else {
            table.map(|table| self.troubles.remove(&table));
            return Ok(None);
        };
        if error.remedy() == Remedy::Fenced {
            return Err(error);
        }
        // The stream goes on: readers have the runs.
        if let Some(table) = table {
            self.failed.insert(table, Instant::now() + RETRY_JOB);
            self.troubles.insert(table, chain(&error));
        }
        Ok(Some(error))
    }
}

async fn collect(writer: &Writer, keep: &Retention, now_us: i64) -> Result<(), FollowError> {
    writer.commit(|draft| trim_log(draft, |draft| trim(draft, keep, now_us))).await?;
    let swept = writer.collect_garbage(keep, now_us).await.map_err(FollowError::Store)?;
    tracing::debug!(?swept, "removed what nobody needs");
    Ok(())
}

/// Keeps what is still to be read again, however old it is: see [`needed_log`].
fn trim_log(draft: &mut Draft, trim: impl FnOnce(&mut Draft)) {
    let (needed, mut log) = (needed_log(&draft.tables), draft.manifest.log.clone());
    trim(draft);
    log.retain(|segment| {
        draft.manifest.log.contains(segment) || needed.is_some_and(|needed| segment.upto > needed)
    });
    draft.manifest.log = log;
}

async fn merge_table(
    writer: &Writer,
    table: &TableState,
    wish: Wish,
    applied: Position,
    options: &MergeOptions,
) -> Result<(), FollowError> {
    match wish {
        Wish::Runs(range) => {
            let read = &table.runs[range];
            let merged = merge_runs(writer.store(), table, read).await?;
            writer.commit(|draft| replace_runs(draft, table.id, read, merged)).await?;
        }
        Wish::Base => {
            let (merged, stats) = merge_base(writer.store(), table, applied, options).await?;
            tracing::debug!(table = %table.name, ?stats, "merged a new version");
            writer.commit(|draft| replace_base(draft, table, merged)).await?;
        }
    }
    Ok(())
}
