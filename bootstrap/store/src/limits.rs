//! Numbers with a reason.

/// Rows of a row group: small enough that a reader's page of memory is bounded, large enough to compress well.
pub const ROW_GROUP_ROWS: usize = 128 * 1024;
/// Compressed bytes of a base file that is closed and followed by the next one.
pub const FILE_BYTES: u64 = 256 << 20;
/// A base file below this is merged with its neighbour when either is rewritten.
pub const FILE_BYTES_MIN: u64 = 32 << 20;
/// Rows that are merged and encoded at a time.
pub const BATCH_ROWS: usize = 8 * 1024;

const _: () = assert!(FILE_BYTES_MIN * 4 <= FILE_BYTES);
const _: () = assert!(ROW_GROUP_ROWS.is_multiple_of(BATCH_ROWS));
