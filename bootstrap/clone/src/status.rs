//! What a clone tells about itself.

use std::collections::BTreeMap;
use std::time::Duration;

use tidemill_event::TableName;

/// How a clone is getting on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CloneStatus {
    /// Whether new chunks are read.
    pub gate: Gate,
    /// Rows that the source was made to read, over all tables, those of chunks that were read again included.
    pub rows_read: u64,
    /// The last error that mended, or will mend, itself.
    pub last_error: Option<String>,
    /// What it is not begun, or begun again, for want of.
    pub waits_for: Option<String>,
    /// Every table that was asked for.
    pub tables: BTreeMap<TableName, TableProgress>,
}

/// Whether new chunks are read. Those in flight end in any case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Gate {
    /// They are.
    #[default]
    Open,
    /// An operator paused the clone.
    Paused,
    /// The source is busier than it may be.
    Busy {
        /// What exceeds which limit.
        why: String,
    },
}

/// How far one table is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TableProgress {
    /// What is done with it now.
    pub stage: TableStage,
    /// Rows that were given to the destination, what the policy declined not counted.
    pub rows: u64,
    /// What these rows take in memory.
    pub bytes: u64,
    /// Chunks that are done, those of earlier runs included.
    pub chunks_done: u32,
    /// How many there will be: counted once every bound is known, estimated before.
    pub chunks_expected: u32,
    /// Rows a second, over the time that the table is being copied by this process.
    pub rows_per_second: f64,
    /// How long it will take at this pace; `None`: not known.
    pub remaining: Option<Duration>,
}

/// What is done with a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TableStage {
    /// Others come first.
    #[default]
    Waiting,
    /// Its chunks are read.
    Copying,
    /// Every chunk is with the destination.
    Done,
    /// The policy takes nothing of it.
    Declined,
    /// It is not copied; the others are.
    Failed {
        /// Why, and how to mend it.
        reason: String,
    },
}

impl CloneStatus {
    /// Whether nothing is left to do unless a table is added or copied again.
    pub fn is_idle(&self) -> bool {
        self.tables.values().all(|table| table.stage.is_end())
    }
}

impl TableStage {
    /// Whether nothing more is done with the table.
    pub fn is_end(&self) -> bool {
        !matches!(self, TableStage::Waiting | TableStage::Copying)
    }
}
