//! From a table map and row images to columns: what the map says, which schema and decoders follow from it, and the
//! builders that rows are decoded straight into.

mod charset;
mod column;
pub(crate) mod fault;
mod layout;
mod map;
mod rows;
#[cfg(test)]
mod tests;

pub(crate) use charset::Charset;
pub(crate) use column::{Column, Kind};
pub(crate) use layout::Layout;
pub(crate) use map::{MapColumn, TableMap, code, table_id};
pub(crate) use rows::{RowError, RowsEvent, TableBuilder};
