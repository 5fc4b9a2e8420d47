//! One table's rows on object storage: what is written (runs, chunks of a copy, base versions, log segments), what is
//! merged, and what is read. Which of it belongs to a table is the manifest's word; when to merge is decided elsewhere.
//!
//! ```text
//! changes ─▶ RunBuilder ─▶ run ──┬─▶ merge_runs ─▶ run of the next level
//! chunk ──▶ ChunkWriter ─▶ file ─┤
//!                                ├─▶ merge_base ─▶ base version
//!                                └─▶ TableReader ─▶ Scan: live rows, or what changed since
//! ```

// What a file is.
mod key;
mod layout;
mod mapping;
mod name;
mod widen;

// One file.
mod read;
mod write;

// What is written.
mod chunk;
mod files;
mod log;
mod run;
mod sorted;

// Many files: read together, and merged.
mod base;
mod compact;
mod lanes;
mod merge;
mod narrow;
mod reader;
mod ways;

// All of it, by whoever wants to know or to have it.
mod check;
mod export;

mod error;

pub use base::{MergeOptions, MergeStats, merge_base};
pub use check::{Checked, Problem, check_table};
pub use chunk::ChunkWriter;
pub use compact::merge_runs;
pub use error::DataError;
pub use export::export_table;
pub(crate) use layout::own_name;
pub use log::{LogBuffer, read_segment};
pub use name::table_root;
pub use reader::{Batch, ColumnRange, Scan, ScanOptions, TableReader};
pub use run::RunBuilder;
pub use widen::{can_widen, can_widen_key};
