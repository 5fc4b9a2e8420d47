//! Tables that a consumer writes. What is done to them while a batch is processed is done in order, and committed
//! together with the batch's position, or not at all. Natively it is written down for the test's thread
//! ([`testing::written`](crate::testing::written)).

#[cfg(target_arch = "wasm32")]
use crate::bindings::consumer::tidemill::guest::output as sink;
#[cfg(not(target_arch = "wasm32"))]
use crate::testing::sink;
use crate::{Column, ColumnDef, Error};

/// A table of the sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table(u32);

impl Table {
    /// Opens a table by name, or makes it. `key` are ordinals of `columns`. A table without rows takes other columns
    /// than it had.
    ///
    /// # Errors
    /// Those of `output.open` in the contract.
    pub fn open(name: &str, columns: &[ColumnDef], key: &[u32]) -> Result<Self, Error> {
        sink::open(name, columns, key).map(Table)
    }

    /// Appends changes: one op and one value a column for each of the `ops`.
    ///
    /// # Errors
    /// Those of `output.append` in the contract.
    pub fn append(self, ops: &[u8], columns: &[Column]) -> Result<(), Error> {
        let count = u32::try_from(ops.len()).expect("a batch has fewer rows than u32");
        sink::append(self.0, count, ops, columns)
    }
}

/// Takes every row out of the table of that name, where there is one.
///
/// # Errors
/// Those of `output.truncate` in the contract.
pub fn truncate(name: &str) -> Result<(), Error> {
    sink::truncate(name)
}

/// Gives the rows of a table to another name, whose own are gone.
///
/// # Errors
/// Those of `output.rename` in the contract.
pub fn rename(name: &str, to: &str) -> Result<(), Error> {
    sink::rename(name, to)
}
