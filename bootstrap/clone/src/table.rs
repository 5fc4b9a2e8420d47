//! One table of a clone: which of its chunks are known, read and done, and what is to be done next. No I/O.

use std::collections::BTreeSet;
use std::sync::Arc;

use tidemill_fetchers_api::extract::{Bound, SourceTable};
use tokio::time::Instant;

use crate::{CopyId, Plan, TableProgress, TableReads};

/// What a copy of a table needs in every chunk.
pub(crate) struct Work {
    pub(crate) id: CopyId,
    /// The table; its key is the one that its rows are stored under.
    pub(crate) table: SourceTable,
    pub(crate) reads: TableReads,
    /// Rows of a chunk.
    pub(crate) rows: u64,
}

/// A table that is being copied, or was.
pub(crate) struct Copying {
    pub(crate) work: Arc<Work>,
    pub(crate) plan: Arc<Plan>,
    done: BTreeSet<u32>,
    ready: BTreeSet<u32>,
    running: BTreeSet<u32>,
    bound: Job,
    finish: Job,
    pace: Pace,
}

/// A thing to do once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Job {
    ToDo,
    Running,
    Done,
}

struct Pace {
    began: Instant,
    rows: u64,
    bytes: u64,
    chunks: u32,
}

impl Copying {
    pub(crate) fn new(work: Work, plan: Plan, done: BTreeSet<u32>, now: Instant) -> Copying {
        let bound = if plan.is_whole { Job::Done } else { Job::ToDo };
        let ready = (0..plan.chunk_count()).filter(|chunk| !done.contains(chunk)).collect();
        Copying {
            work: Arc::new(work),
            plan: Arc::new(plan),
            done,
            ready,
            running: BTreeSet::new(),
            bound,
            finish: Job::ToDo,
            pace: Pace { began: now, rows: 0, bytes: 0, chunks: 0 },
        }
    }

    /// Whether the next bound is to be asked for, so that no more than `ahead` chunks wait to be read; the bound that it
    /// comes after.
    pub(crate) fn take_bound(&mut self, ahead: usize) -> Option<Option<Bound>> {
        if self.bound != Job::ToDo || self.ready.len() >= ahead {
            return None;
        }
        self.bound = Job::Running;
        Some(self.plan.bounds.last().cloned().map(Bound))
    }

    /// The next bound; `None`: the chunk that it was asked for is the last one.
    pub(crate) fn bounded(&mut self, bound: Option<Bound>) {
        let chunk = self.plan.bounds.len() as u32;
        let plan = Arc::make_mut(&mut self.plan);
        self.bound = match bound {
            Some(Bound(bound)) => {
                plan.bounds.push(bound);
                Job::ToDo
            }
            None => {
                plan.is_whole = true;
                Job::Done
            }
        };
        self.ready.insert(chunk);
    }

    /// The next chunk to be read.
    pub(crate) fn take_chunk(&mut self) -> Option<u32> {
        let chunk = self.ready.pop_first()?;
        self.running.insert(chunk);
        Some(chunk)
    }

    /// The destination has that chunk.
    pub(crate) fn chunk_done(&mut self, chunk: u32, rows: u64, bytes: u64) {
        self.running.remove(&chunk);
        // While it was being read, it may have been asked for again.
        if !self.ready.contains(&chunk) {
            self.done.insert(chunk);
        }
        self.pace.rows += rows;
        self.pace.bytes += bytes;
        self.pace.chunks += 1;
    }

    /// Those are to be read again; what is not known yet will be read anyway.
    pub(crate) fn redo(&mut self, chunks: impl IntoIterator<Item = u32>) {
        let known = self.plan.chunk_count();
        for chunk in chunks.into_iter().filter(|chunk| *chunk < known) {
            self.done.remove(&chunk);
            self.ready.insert(chunk);
            self.finish = Job::ToDo;
        }
    }

    /// Whether every chunk is done and the destination is to be told.
    pub(crate) fn take_finish(&mut self) -> bool {
        let all = self.bound == Job::Done && self.ready.is_empty() && self.running.is_empty();
        let take = all && self.finish == Job::ToDo;
        if take {
            self.finish = Job::Running;
        }
        take
    }

    /// The destination was told, and lacks those.
    pub(crate) fn finished(&mut self, missing: BTreeSet<u32>) {
        if self.finish == Job::Running {
            self.finish = if missing.is_empty() { Job::Done } else { Job::ToDo };
        }
        self.redo(missing);
    }

    /// Whether nothing is left to do.
    pub(crate) fn is_done(&self) -> bool {
        self.finish == Job::Done
    }

    /// The figures of how far it is.
    pub(crate) fn tell(&self, progress: &mut TableProgress, now: Instant) {
        let (pace, known) = (&self.pace, self.plan.chunk_count());
        let expected = match self.plan.is_whole {
            true => known,
            false => (self.work.table.rows_estimate.div_ceil(self.work.rows) as u32).max(known + 1),
        };
        (progress.rows, progress.bytes) = (pace.rows, pace.bytes);
        (progress.chunks_done, progress.chunks_expected) = (self.done.len() as u32, expected);
        let elapsed = now.duration_since(pace.began);
        progress.rows_per_second = match elapsed.is_zero() {
            true => 0.0,
            false => pace.rows as f64 / elapsed.as_secs_f64(),
        };
        let left = expected - progress.chunks_done;
        progress.remaining = (pace.chunks > 0).then(|| elapsed * left / pace.chunks);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use arrow_schema::DataType;
    use tidemill_bootstrap_store::{StoredSchema, TableKey};
    use tidemill_event::{ColumnSchema, TableName, TableSchema};
    use tidemill_fetchers_api::extract::SourceKey;

    use super::*;

    fn copying(bounds: usize, is_whole: bool, done: &[u32]) -> Copying {
        let name = TableName::new("shop", "orders");
        let id = ColumnSchema::new("id", DataType::Int64, "bigint", false);
        let schema = TableSchema::new(name.clone(), vec![id], vec![0]);
        let plan = Plan {
            format: 1,
            copy: "c".into(),
            source_schema: schema.id().to_string(),
            policy: String::new(),
            schema: StoredSchema::new(&schema, 1),
            key: TableKey::Columns { fields: vec![1] },
            bounds: (0..bounds).map(|n| vec![n.to_string()]).collect(),
            is_whole,
        };
        let table = SourceTable {
            schema: Arc::clone(&schema),
            key: SourceKey::Primary(vec![0]),
            index: None,
            rows_estimate: 1000,
            bytes_estimate: 0,
        };
        let reads = TableReads { columns: vec![0], conditions: vec![], schema };
        let id = CopyId { table: name, copy: "c".into() };
        let work = Work { id, table, reads, rows: 100 };
        Copying::new(work, plan, done.iter().copied().collect(), Instant::now())
    }

    #[test]
    fn what_is_done_is_not_read_again_and_planning_goes_on_behind_the_last_bound() {
        let mut table = copying(3, false, &[0, 2]);
        assert_eq!((table.take_chunk(), table.take_chunk()), (Some(1), None));
        let asked = table.take_bound(1);
        assert_eq!(asked, Some(Some(Bound(vec!["2".into()]))));
        assert_eq!(table.take_bound(1), None, "one is asked for at a time");
        table.bounded(Some(Bound(vec!["3".into()])));
        assert_eq!(table.take_bound(1), None, "a chunk waits");
        assert_eq!(table.take_chunk(), Some(3));
        assert_eq!(table.take_bound(1), Some(Some(Bound(vec!["3".into()]))));
        table.bounded(None);
        assert_eq!(table.take_chunk(), Some(4));
        assert_eq!(table.plan.range(4), (Some(Bound(vec!["3".into()])), None));
        for chunk in [3, 1, 4] {
            assert!(!table.take_finish());
            table.chunk_done(chunk, 1, 1);
        }
        assert!(table.take_finish() && !table.take_finish());
        table.finished(BTreeSet::new());
        assert!(table.is_done());
    }

    #[test]
    fn a_chunk_that_is_asked_for_again_is_read_again_whenever_that_is() {
        let mut table = copying(0, true, &[]);
        assert_eq!(table.take_chunk(), Some(0));
        table.redo([0, 7]);
        table.chunk_done(0, 1, 1);
        assert!(!table.take_finish());
        assert_eq!((table.take_chunk(), table.take_chunk()), (Some(0), None));
        table.chunk_done(0, 1, 1);
        assert!(table.take_finish());
        // The destination turns out not to have it.
        table.finished(BTreeSet::from([0]));
        assert!(!table.is_done());
        assert_eq!(table.take_chunk(), Some(0));
        table.chunk_done(0, 1, 1);
        assert!(table.take_finish());
        // Asked for while the destination is told.
        table.redo([0]);
        table.finished(BTreeSet::new());
        assert!(!table.is_done() && table.take_chunk() == Some(0));
    }

    #[test]
    fn the_remaining_time_is_that_of_the_chunks_that_are_left_at_the_pace_so_far() {
        let (mut table, mut progress) = (copying(1, false, &[]), TableProgress::default());
        let began = Instant::now();
        table.pace.began = began;
        table.tell(&mut progress, began);
        assert_eq!((progress.chunks_done, progress.chunks_expected, progress.remaining), (0, 10, None));
        table.take_chunk();
        table.chunk_done(0, 90, 900);
        table.tell(&mut progress, began + Duration::from_secs(2));
        assert_eq!((progress.chunks_done, progress.rows, progress.bytes), (1, 90, 900));
        assert_eq!((progress.rows_per_second, progress.remaining), (45.0, Some(Duration::from_secs(18))));
    }
}
