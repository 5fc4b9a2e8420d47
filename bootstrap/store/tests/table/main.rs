//! A table's rows in storage, from outside: types, files, the model.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
mod files;
mod keyed;
mod types;
mod whole_row;
