//! Merges runs into the base: a new directory in which only the files that changes hit are new.

use tidemill_event::Position;

use crate::{BaseVersion, DataError, Store, TableState, limits};

/// How a base version is written.
#[derive(Clone, Debug)]
pub struct MergeOptions {
    /// Whether files that no change hits are copied into the new directory, so that it is complete by itself; else they
    /// stay where they are.
    pub complete_dirs: bool,
    /// Compressed bytes of a file that is closed and followed by the next one.
    pub file_bytes: u64,
    /// A file below this is merged with its neighbour when either is rewritten.
    pub file_bytes_min: u64,
    /// Rows of a row group.
    pub row_group_rows: usize,
}

impl Default for MergeOptions {
    fn default() -> MergeOptions {
        MergeOptions {
            complete_dirs: true,
            file_bytes: limits::FILE_BYTES,
            file_bytes_min: limits::FILE_BYTES_MIN,
            row_group_rows: limits::ROW_GROUP_ROWS,
        }
    }
}

/// What a merge did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MergeStats {
    /// Rows of base files that were read.
    pub base_rows_read: u64,
    /// Rows of runs that were read, of each key the newest.
    pub delta_rows: u64,
    /// Rows that were written.
    pub rows_written: u64,
    /// Bytes that were written.
    pub bytes_written: u64,
    /// Files that were written.
    pub files_written: u64,
    /// Files that stay as they are.
    pub files_kept: u64,
}

/// Writes the base version of everything up to `upto`: base and runs of `state` up to there, merged. Nothing is committed.
/// The directory is `<table>/snap-<scn>-<id>`, with `_manifest.json` and `_SUCCESS` in it.
pub async fn merge_base(
    store: &Store,
    state: &TableState,
    upto: Position,
    options: &MergeOptions,
) -> Result<(BaseVersion, MergeStats), DataError> {
    let _ = (store, state, upto, options);
    todo!()
}
