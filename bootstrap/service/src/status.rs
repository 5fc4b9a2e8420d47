//! What people and programs see of a follower.

use std::collections::BTreeMap;

use tidemill_bootstrap_store::{Manifest, TableId, TablePhase, TableState};
use tidemill_event::Position;

/// What a follower is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// It reads again what was logged and not applied.
    #[default]
    Starting,
    /// It follows.
    Following,
    /// A stretch of the source's log is gone. Every table is stale.
    Gap {
        /// What is missing.
        missing: String,
    },
    /// Another writer took the store over.
    Fenced,
    /// It ended: its source did, it was told to, or an error ended it.
    Ended,
}

/// A follower, from outside.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    /// What it is doing.
    pub state: State,
    /// The manifest that is newest.
    pub manifest: u64,
    /// Every table that is ready is the source as of here.
    pub applied: Position,
    /// When the last transaction up to there committed, in microseconds; 0: none did.
    pub applied_time_us: i64,
    /// Everything up to here is durable.
    pub logged: Position,
    /// When the last transaction up to there committed.
    pub logged_time_us: i64,
    /// Everything up to here was read.
    pub read: Position,
    /// When the last transaction that was read committed.
    pub read_time_us: i64,
    /// The tables, by name.
    pub tables: BTreeMap<String, TableStatus>,
    /// The last error, with its causes; it stays after it is mended.
    pub last_error: Option<String>,
}

/// A table, from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableStatus {
    /// Its number in the store.
    pub id: TableId,
    /// Its copy: `None` where the table is ready.
    pub clone: Option<CloneState>,
    /// Why its content is not the source's any more: what was published stays as it was.
    pub stale: Option<String>,
    /// Why it gets no new version, where merging failed; it is tried again.
    pub trouble: Option<String>,
    /// Rows of its base.
    pub base_rows: u64,
    /// Runs that are not in the base yet, and their rows.
    pub runs: usize,
    /// Their rows.
    pub run_rows: u64,
    /// The position of the version that is published.
    pub published: Option<Position>,
}

/// How far a copy is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CloneState {
    /// Chunks that are done.
    pub chunks: usize,
    /// Their rows.
    pub rows: u64,
    /// Every chunk is done, and only the log up to the last one is to be applied.
    pub complete: bool,
}

impl TableStatus {
    fn of(table: &TableState) -> TableStatus {
        let (stale, clone) = match &table.phase {
            TablePhase::Ready => (None, None),
            TablePhase::Cloning(progress) => (None, Some(progress)),
            TablePhase::Stale { reason, clone, .. } => (Some(reason.clone()), clone.as_ref()),
        };
        let clone = clone.map(|progress| CloneState {
            chunks: progress.chunks.len(),
            rows: progress.chunks.iter().flat_map(|chunk| &chunk.files).map(|file| file.rows).sum(),
            complete: progress.complete,
        });
        let waits = !matches!(table.phase, TablePhase::Ready);
        let base = table.base.as_ref();
        TableStatus {
            id: table.id,
            clone: clone.or(waits.then(CloneState::default)),
            stale,
            trouble: None,
            base_rows: base.map_or(0, |base| base.files.iter().map(|file| file.rows).sum()),
            runs: table.runs.len(),
            run_rows: table.runs.iter().map(|run| run.rows).sum(),
            published: base.filter(|base| base.path.is_some()).map(|base| base.at),
        }
    }
}

impl Status {
    /// Takes over what a manifest says.
    pub(crate) fn committed<'a>(
        &mut self,
        manifest: &Manifest,
        tables: impl IntoIterator<Item = &'a TableState>,
        trouble: impl Fn(TableId) -> Option<String>,
    ) {
        self.manifest = manifest.number;
        (self.applied, self.applied_time_us) = (manifest.applied.position, manifest.applied.time_us);
        (self.logged, self.logged_time_us) = (manifest.logged.position, manifest.logged.time_us);
        let named = |table: &TableState| {
            // One that is copied anew loses what stood in the way.
            let trouble = trouble(table.id).filter(|_| table.phase == TablePhase::Ready);
            (table.name.to_string(), TableStatus { trouble, ..TableStatus::of(table) })
        };
        self.tables = tables.into_iter().map(named).collect();
    }

    /// The tables whose copy somebody has to make.
    pub fn to_clone(&self) -> impl Iterator<Item = &str> {
        let open = |table: &TableStatus| table.clone.is_some_and(|clone| !clone.complete);
        self.tables.iter().filter(move |(_, table)| open(table)).map(|(name, _)| name.as_str())
    }
}
