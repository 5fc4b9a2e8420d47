//! What one delivery does: state that it sets and rows that it writes.

use arrow_array::RecordBatch;

/// What a delivery does, committed with its checkpoint or not at all.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// Keys of the consumer's state with their new values; `None` removes the key. In order: the last one counts.
    pub state: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// What becomes of its output tables, in order.
    pub output: Vec<OutputChange>,
}

/// What becomes of one output table.
#[derive(Clone, Debug)]
pub enum OutputChange {
    /// Rows of it appear, change or vanish.
    Rows(OutputRows),
    /// Every row of it vanishes. It may have other columns and another key from here on.
    Truncate {
        /// The table; none of that name is no error.
        table: String,
    },
    /// It has another name.
    Rename {
        /// The name that it had; without such a table there is none of the new name either from here on.
        table: String,
        /// The name that it has. Whatever had it is gone.
        to: String,
    },
}

/// Changes of one output table, in order.
#[derive(Clone, Debug)]
pub struct OutputRows {
    /// The table.
    pub table: String,
    /// The ordinals of the key's columns, in key order; a row replaces the one of the same key. Empty: rows are
    /// only added.
    pub key: Vec<u32>,
    /// The rows: new images, of deletes the old one, of which only the key counts.
    pub columns: RecordBatch,
    /// An [`Op`] a row.
    pub ops: Vec<u8>,
}

/// What happens to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Op {
    /// It appears. The numbers are those of the guests' contract: keep them.
    Insert = 0,
    /// It changes.
    Update = 1,
    /// It vanishes.
    Delete = 2,
    /// It is there, says a snapshot.
    Snapshot = 3,
}

impl Op {
    /// The operation with that number, if there is one.
    pub fn from_u8(tag: u8) -> Option<Op> {
        [Op::Insert, Op::Update, Op::Delete, Op::Snapshot].into_iter().find(|op| *op as u8 == tag)
    }
}
