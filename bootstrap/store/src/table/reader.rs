//! Reads one table of one manifest: base and runs merged, or what changed since a position.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_buffer::{BooleanBuffer, ScalarBuffer};
use tidemill_event::{Position, TableSchema};

use crate::{DataError, Store, TableState};

/// One table of one manifest; cheap to clone.
#[derive(Clone)]
pub struct TableReader {}

/// What is read.
#[derive(Clone, Debug, Default)]
pub struct ScanOptions {
    /// Only keys after this one, in the key encoding.
    pub after: Option<Vec<u8>>,
    /// Only keys up to this one.
    pub upto: Option<Vec<u8>>,
    /// Rows outside of any of these need not come, though they may.
    pub ranges: Vec<ColumnRange>,
    /// Rows of a batch, about; 0: [`crate::limits::BATCH_ROWS`].
    pub batch_rows: usize,
}

/// Values of one column that are wanted.
#[derive(Clone, Debug)]
pub struct ColumnRange {
    /// The column's name.
    pub column: String,
    /// The lowest, as an array of one value in the stream's type; `None`: no bound.
    pub low: Option<ArrayRef>,
    /// The highest.
    pub high: Option<ArrayRef>,
}

/// A piece of a scan.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The rows, in key order, with the Arrow schema of [`TableReader::schema`].
    pub rows: RecordBatch,
    /// Of deltas, a bit a row: the row is gone, its columns are the last ones known. `None`: no row is.
    pub deleted: Option<BooleanBuffer>,
    /// The clock value of each row's last change, as far as it is known.
    pub scn: ScalarBuffer<i64>,
    /// The key of the last row: [`ScanOptions::after`] of who goes on from here.
    pub last_key: Vec<u8>,
}

/// Rows as they come.
pub struct Scan {}

impl TableReader {
    /// A reader of that state, which is of the manifest that was applied up to `applied`.
    pub fn new(store: Store, state: Arc<TableState>, applied: Position) -> TableReader {
        let _ = (store, state, applied);
        todo!()
    }

    /// The schema of what is read.
    pub fn schema(&self) -> &Arc<TableSchema> {
        todo!()
    }

    /// The live rows, in key order.
    pub fn scan(&self, options: ScanOptions) -> Scan {
        let _ = options;
        todo!()
    }

    /// The newest version of each key that changed after `since`, in key order.
    pub fn deltas(&self, since: Position, options: ScanOptions) -> Scan {
        let _ = (since, options);
        todo!()
    }

    /// Bytes of objects that a whole scan reads.
    pub fn whole_bytes(&self) -> u64 {
        todo!()
    }

    /// Bytes of objects that deltas since then read.
    pub fn delta_bytes(&self, since: Position) -> u64 {
        let _ = since;
        todo!()
    }
}

impl Scan {
    /// The next rows, at least one; `None`: that was all. An error ends the scan.
    pub async fn next(&mut self) -> Result<Option<Batch>, DataError> {
        todo!()
    }
}
