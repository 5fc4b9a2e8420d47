//! Tables that a consumer writes. What is appended while a batch is processed is committed together
//! with the batch's position, or not at all. Natively there is no sink, and every call says so.

use crate::{Column, ColumnDef, Error};

/// A table of the sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table(u32);

impl Table {
    /// Opens a table by name, or makes it. `key` are ordinals of `columns`.
    ///
    /// # Errors
    /// Those of `output.open` in the contract.
    pub fn open(name: &str, columns: &[ColumnDef], key: &[u32]) -> Result<Self, Error> {
        open(name, columns, key).map(Table)
    }

    /// Appends changes: one op and one value a column for each of the `ops`.
    ///
    /// # Errors
    /// Those of `output.append` in the contract.
    pub fn append(self, ops: &[u8], columns: &[Column]) -> Result<(), Error> {
        append(self.0, ops, columns)
    }
}

#[cfg(target_arch = "wasm32")]
fn open(name: &str, columns: &[ColumnDef], key: &[u32]) -> Result<u32, Error> {
    crate::bindings::consumer::tidemill::guest::output::open(name, columns, key)
}

#[cfg(target_arch = "wasm32")]
fn append(table: u32, ops: &[u8], columns: &[Column]) -> Result<(), Error> {
    let count = u32::try_from(ops.len()).expect("a batch has fewer rows than u32");
    crate::bindings::consumer::tidemill::guest::output::append(table, count, ops, columns)
}

#[cfg(not(target_arch = "wasm32"))]
fn open(name: &str, _: &[ColumnDef], _: &[u32]) -> Result<u32, Error> {
    Err(Error::Unsupported(format!("table {name}: there is no sink outside of the host")))
}

#[cfg(not(target_arch = "wasm32"))]
fn append(_: u32, _: &[u8], _: &[Column]) -> Result<(), Error> {
    Err(Error::Unsupported("there is no sink outside of the host".to_owned()))
}
