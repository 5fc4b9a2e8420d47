//! One table's rows on object storage: what is written (runs, chunks of a copy, base versions, log segments), what is
//! merged, and what is read. Which of it belongs to a table is the manifest's word; when to merge is decided elsewhere.
//!
//! ```text
//! changes ─▶ RunBuilder ─▶ run ──┬─▶ merge_runs ─▶ run of the next level
//! chunk ──▶ ChunkWriter ─▶ file ─┤
//!                                ├─▶ merge_base ─▶ base version
//!                                └─▶ TableReader ─▶ Scan: live rows, or what changed since
//! ```

mod base;
mod chunk;
mod compact;
mod error;
mod log;
mod name;
mod reader;
mod run;
mod widen;

pub use base::{MergeOptions, MergeStats, merge_base};
pub use chunk::ChunkWriter;
pub use compact::merge_runs;
pub use error::DataError;
pub use log::{LogBuffer, read_segment};
pub use name::table_root;
pub use reader::{Batch, ColumnRange, Scan, ScanOptions, TableReader};
pub use run::RunBuilder;
pub use widen::{can_widen, can_widen_key};
