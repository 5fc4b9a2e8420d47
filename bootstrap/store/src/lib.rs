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

pub use schema::{ColumnType, StoredColumn, StoredSchema, TableKey};
pub use state::{
    BaseFile, BaseVersion, ChunkDone, CloneProgress, Dropped, LogSegment, Manifest, Mark, ObjectRef, Run,
    TableId, TablePhase, TableRef, TableState,
};
