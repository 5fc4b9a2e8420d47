//! Snapshot storage of one source on object storage: numbered manifests, each a cut over all tables at one position; per
//! table sorted delta runs and base files in plain Parquet, merged on read; raw log segments beside them.
//!
//! ```text
//! windows ─▶ LogBuffer ─▶ log segment ─┐
//!         └▶ RunBuilder ─▶ delta run ──┼─▶ Writer::commit ─▶ manifest n+1 ─▶ LATEST.json, Delta Lake metadata (hints)
//! clone ──▶ BaseWriter ─▶ base file ───┘        ▲
//!                        merge: base + runs ─▶ a new base version, only the files that changes hit
//! ```
//!
//! Who follows a relay, decides when to merge and serves readers is elsewhere.

// What a store is made of.
pub mod limits;
mod schema;
mod state;

// How it is written and read: objects, manifests, the one writer.
mod cache;
mod draft;
mod error;
mod gc;
mod head;
mod hints;
mod latest;
mod manifest;
mod named;
mod pin;
mod random;
mod retention;
mod sealed;
mod store;
mod writer;

// What readers of the Parquet files are told besides.
mod delta_lake;

pub use delta_lake::{DeltaError, DeltaLake, DeltaLog};
pub use draft::Draft;
pub use error::{CommitError, Damaged, Fenced, Gone, Lost, OtherFormat, StoreError};
pub use gc::Swept;
pub use hints::{HintError, Hints};
pub use random::random_id;
pub use retention::{Retention, trim};
pub use schema::{ColumnType, StoredColumn, StoredSchema, TableKey};
pub use state::{
    BaseFile, BaseVersion, ChunkDone, CloneProgress, Dropped, LogSegment, Manifest, Mark, ObjectRef, Run,
    TableId, TablePhase, TableRef, TableState,
};
pub use store::Store;
pub use writer::{Writer, WriterOptions};

// One table's rows.
mod table;

pub use table::{
    Batch, Checked, ChunkWriter, ColumnRange, DataError, LogBuffer, MergeOptions, MergeStats, Problem,
    RunBuilder, Scan, ScanOptions, TableReader, can_widen, can_widen_key, check_table, export_table,
    merge_base, merge_runs, read_segment, table_root,
};
