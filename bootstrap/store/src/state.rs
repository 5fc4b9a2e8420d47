//! What a manifest says, and the state of each table that it points to. Both are JSON objects that are written once.
//!
//! ```text
//! manifest 4711 ──┬─ applied: every table's base + runs are the source at this position
//!                 ├─ logged:  everything up to here is in runs or in log segments
//!                 ├─ log segments
//!                 └─ tables ──▶ state of a table ──┬─ schema, key, phase
//!                                                  ├─ base version: a directory of disjoint, sorted files
//!                                                  └─ runs (newest version of each key, tombstones), merged runs
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidemill_event::{Checkpoint, Phase, Position, Scn, TableName, TableSchema};

use crate::{StoredColumn, StoredSchema, TableKey};

/// Numbers the tables of a store; a table keeps its number through renames, one that is made again has another.
pub type TableId = u32;

/// A place in the source's log as this store counts it: positions of different timelines order by timeline.
///
/// `timeline` counts the timelines that this store has seen, from 1: [`Manifest::timelines`] names the server of each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Where.
    #[serde(with = "position")]
    pub position: Position,
    /// The set of transactions executed up to there, in the source's own text form; empty where it has none.
    pub executed: String,
    /// When the last transaction up to there committed: microseconds since 1970-01-01 UTC; 0: none did.
    pub time_us: i64,
}

/// An object that is written once, and what it must be when it is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRef {
    /// Its path, from the store's root.
    pub path: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// CRC-32C of it.
    pub crc32c: u32,
}

/// Raw transactions: the relay's frames of all tables in commit order, compressed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSegment {
    /// Where it is.
    pub object: ObjectRef,
    /// Everything up to here came before.
    #[serde(with = "position")]
    pub after: Position,
    /// Everything up to here is included.
    #[serde(with = "position")]
    pub upto: Position,
    /// When its last transaction committed: microseconds since 1970-01-01 UTC.
    pub time_us: i64,
}

/// One commit: a cut over all tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The format of this object and all that it points to: 1.
    pub format: u32,
    /// Counts commits, from 1, without gaps.
    pub number: u64,
    /// Random, so that a writer knows its own commit again when the store's answer was lost.
    pub commit_id: String,
    /// Rises with every writer that took over: the older one stops.
    pub epoch: u64,
    /// Who wrote it, for people: host and process.
    pub writer: String,
    /// When it was written: microseconds since 1970-01-01 UTC.
    pub time_us: i64,
    /// The source's name.
    pub source: String,
    /// The identity of the server of each timeline, from the first.
    pub timelines: Vec<String>,
    /// Every table that is [`TablePhase::Ready`]: base and runs are the source as of here.
    pub applied: Mark,
    /// Everything up to here is in runs or in `log`.
    pub logged: Mark,
    /// The segments that are kept, oldest first.
    pub log: Vec<LogSegment>,
    /// The tables, by name `database.table`.
    pub tables: BTreeMap<String, TableRef>,
    /// The number of the next table that is made; numbers are never used twice.
    pub next_table: TableId,
    /// Tables that are gone, newest last, as long as someone may have to be told.
    pub dropped: Vec<Dropped>,
}

/// A table of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableRef {
    /// Its number.
    pub id: TableId,
    /// Its [`TableState`].
    pub state: ObjectRef,
}

/// A table that is gone, or has another name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// The name that it had.
    #[serde(with = "table")]
    pub table: TableName,
    /// Since when.
    #[serde(with = "position")]
    pub at: Position,
}

/// Whether a table can be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum TablePhase {
    /// It is being copied for the first time: nothing can be read.
    Cloning(CloneProgress),
    /// Base and runs are the table as of [`Manifest::applied`].
    Ready,
    /// Its content changed in a way that the log does not tell: what was published stays as it was, and a new copy
    /// is made.
    Stale {
        /// Why.
        reason: String,
        /// Since when.
        #[serde(with = "position")]
        since: Position,
        /// The new copy; `None`: not begun.
        clone: Option<CloneProgress>,
    },
}

/// A copy that is being made, chunk by chunk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloneProgress {
    /// The chunks that are done, in any order.
    pub chunks: Vec<ChunkDone>,
    /// Every chunk is done: the table is ready when everything up to the highest `high` is applied.
    pub complete: bool,
    /// What the copying side needs to go on, in its own form: chunk bounds, schema, policy. Opaque here.
    pub plan: serde_json::Value,
}

/// One chunk of a copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkDone {
    /// Its number in the plan.
    pub number: u32,
    /// Its rows contain every transaction up to here …
    #[serde(with = "position")]
    pub low: Position,
    /// … and nothing after here.
    #[serde(with = "position")]
    pub high: Position,
    /// Its rows, each file's `at` being `low`; empty: it has none.
    pub files: Vec<BaseFile>,
}

/// The state of one table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableState {
    /// Its number.
    pub id: TableId,
    /// Its name now.
    #[serde(with = "table")]
    pub name: TableName,
    /// Whether it can be read.
    #[serde(flatten)]
    pub phase: TablePhase,
    /// The schema of what is read now.
    pub schema: StoredSchema,
    /// What orders and identifies its rows.
    pub key: TableKey,
    /// Which policy judged everything that is stored, in the form of who copies; empty: none did. Opaque here.
    pub policy: String,
    /// The live rows as of `at` of each file; `None`: nothing was published yet.
    pub base: Option<BaseVersion>,
    /// The directories of versions that were published before, oldest first, as long as they are kept. A commit that
    /// replaces `base` enters the one before it here by itself.
    pub older: Vec<String>,
    /// Runs that are not merged into the base, oldest first.
    pub runs: Vec<Run>,
    /// Runs that are, kept for consolidated deltas, oldest first.
    pub merged_runs: Vec<Run>,
    /// Consolidated deltas can be given to who has everything up to here or later; to others the whole table. It moves
    /// with a copy that was made anew, with TRUNCATE and with runs that are dropped.
    #[serde(with = "position")]
    pub deltas_since: Position,
    /// The next field id; ids are never used twice.
    pub next_field: u32,
}

/// A base version: a complete directory of Parquet files with one schema. `_manifest.json` in that directory has these fields, and
/// more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseVersion {
    /// The directory, from the store's root; `None`: files of a copy that are not published yet.
    pub path: Option<String>,
    /// The position that its rows are exact at; meaningless without a path.
    #[serde(with = "position")]
    pub at: Position,
    /// The files, by key; ranges do not overlap when there is a path.
    pub files: Vec<BaseFile>,
}

/// One Parquet file of live rows, sorted by key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseFile {
    /// Where it is.
    pub object: ObjectRef,
    /// How many rows it has.
    pub rows: u64,
    /// Its first and last key, in the key encoding of `key_encoding`, as hexadecimal digits.
    pub first_key: String,
    /// The last one.
    pub last_key: String,
    /// The schema of its columns, by [`StoredSchema::fingerprint`].
    pub schema: String,
    /// A row of a run loses against a row of this file if its position is not after this one.
    #[serde(with = "position")]
    pub at: Position,
}

/// One sorted Parquet file of changes: for each key that changed in `(after, upto]` its newest version, or a tombstone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Where it is.
    pub object: ObjectRef,
    /// 0: as it was built; each merge of runs gives the next level.
    pub level: u32,
    /// Everything up to here came before.
    #[serde(with = "position")]
    pub after: Position,
    /// Everything up to here is included.
    #[serde(with = "position")]
    pub upto: Position,
    /// Rows, tombstones included.
    pub rows: u64,
    /// Tombstones.
    pub deletes: u64,
    /// When the last transaction up to `upto` that it knows of committed: microseconds since 1970-01-01 UTC.
    pub time_us: i64,
    /// Its first key, as in [`BaseFile`].
    pub first_key: String,
    /// Its last key.
    pub last_key: String,
    /// The schema of its columns.
    pub schema: StoredSchema,
}

impl TableState {
    /// A table of which nothing is stored yet, and which is to be copied.
    pub fn new(id: TableId, name: TableName, schema: StoredSchema, key: TableKey) -> TableState {
        let next_field = schema.columns.iter().map(|c| c.field + 1).max().unwrap_or(1);
        TableState {
            id,
            name,
            phase: TablePhase::Cloning(CloneProgress::default()),
            schema,
            key,
            policy: String::new(),
            base: None,
            older: Vec::new(),
            runs: Vec::new(),
            merged_runs: Vec::new(),
            deltas_since: Position::default(),
            next_field,
        }
    }

    /// Its content is not known any more, since there: a new copy is needed, of which nothing from before counts. A row that a run
    /// has and the copy does not find is gone as well. What was published stays as it was.
    pub fn invalidate(&mut self, at: Position, reason: &str) {
        self.runs.clear();
        self.merged_runs.clear();
        self.deltas_since = at;
        if self.base.as_ref().is_none_or(|base| base.path.is_none()) {
            (self.base, self.phase) = (None, TablePhase::Cloning(CloneProgress::default()));
            return;
        }
        let reason = match &self.phase {
            TablePhase::Stale { reason, .. } => reason.clone(),
            _ => reason.to_owned(),
        };
        self.phase = TablePhase::Stale { reason, since: at, clone: None };
    }

    /// The stored form of that schema for a copy of this table that begins now: a column of the name and the type that the
    /// table has keeps its field id. Who copies and who follows make it each by themselves, and alike.
    pub fn copy_schema(&self, schema: &TableSchema) -> StoredSchema {
        let mut stored = StoredSchema::new(schema, self.next_field);
        if stored.id == self.schema.id {
            return self.schema.clone();
        }
        for column in &mut stored.columns {
            let same =
                |known: &&StoredColumn| (&known.name, &known.data_type) == (&column.name, &column.data_type);
            column.field = self.schema.columns.iter().find(same).map_or(column.field, |known| known.field);
        }
        stored
    }
}

impl Mark {
    /// The checkpoint of who has everything up to here; `timelines` are the manifest's.
    pub fn checkpoint(&self, source: &str, timelines: &[String]) -> Checkpoint {
        let number = self.position.timeline.checked_sub(1);
        let server = number.and_then(|number| timelines.get(number as usize));
        Checkpoint {
            source: source.to_owned(),
            server: server.cloned().unwrap_or_default(),
            position: self.position,
            gtid_set: self.executed.clone(),
            phase: Phase::Stream,
        }
    }
}

/// A position as `[timeline, scn]`.
mod position {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Position, Scn};

    pub(super) fn serialize<S: Serializer>(position: &Position, to: S) -> Result<S::Ok, S::Error> {
        (position.timeline, position.scn.0).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Position, D::Error> {
        let (timeline, scn) = <(u32, u64)>::deserialize(from)?;
        Ok(Position { timeline, scn: Scn(scn) })
    }
}

/// A table's name as `[database, table]`.
mod table {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::TableName;

    pub(super) fn serialize<S: Serializer>(name: &TableName, to: S) -> Result<S::Ok, S::Error> {
        (&name.database, &name.table).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<TableName, D::Error> {
        let (database, table) = <(String, String)>::deserialize(from)?;
        Ok(TableName { database, table })
    }
}
