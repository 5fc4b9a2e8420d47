//! Numbers with a reason.

use std::time::Duration;

/// Rows of a row group: small enough that a reader's page of memory is bounded, large enough to compress well.
pub const ROW_GROUP_ROWS: usize = 128 * 1024;
/// Compressed bytes of a base file that is closed and followed by the next one.
pub const FILE_BYTES: u64 = 256 << 20;
/// A base file below this is merged with its neighbour when either is rewritten.
pub const FILE_BYTES_MIN: u64 = 32 << 20;
/// A file of a copy below this is merged with its neighbours in the first version: above, opening a file costs a reader
/// little beside reading it.
pub const COPY_FILE_BYTES_MIN: u64 = 1 << 20;
/// Rows that are merged and encoded at a time.
pub const BATCH_ROWS: usize = 8 * 1024;
/// Files with overlapping keys that a merge has open at a time; each takes 1 to 10 MB of memory.
pub const LANES_MAX: usize = 32;

const _: () = assert!(FILE_BYTES_MIN * 4 <= FILE_BYTES);
const _: () = assert!(COPY_FILE_BYTES_MIN <= FILE_BYTES_MIN);
const _: () = assert!(ROW_GROUP_ROWS.is_multiple_of(BATCH_ROWS));
/// Bytes of a page before it is compressed. What a page is made in is made anew for each, column by column: of this size it
/// is in the cache, and what the one gives back the next one has; of the usual 1 MiB it came from the system each time.
pub const PAGE_BYTES: usize = 256 << 10;
/// Bytes of one part of an upload; what is not larger is put at once. S3 wants 5 MiB at least.
pub const PART_BYTES: usize = 16 << 20;
/// Parts that are on their way at a time.
pub const PARTS_AT_ONCE: usize = 4;
/// Table states that are read or written at a time.
pub const STATES_AT_ONCE: usize = 16;
/// Bytes of table states, and of manifests, that a store keeps in memory for its readers.
pub const CACHE_BYTES: u64 = 64 << 20;
/// Manifests that are asked for one by one after the hint, before the directory is listed.
pub const PROBES_MAX: u64 = 16;
/// A writer that knew its head to be the newest so long ago looks again before it commits. Manifests are kept longer, so
/// that no number is ever free again for who does not know.
pub const HEAD_TRUSTED: Duration = Duration::from_secs(3600);
/// A reader pins a version that was the newest not longer ago than this.
pub const PIN_WITHIN: Duration = Duration::from_secs(3600);
/// A pin is honoured for so long after it ran out: its reader's clock is another one.
pub const PIN_SLACK: Duration = Duration::from_secs(600);
/// Manifests are kept at least so long after they were the newest, whatever is configured.
pub const KEEP_MANIFESTS_MIN: Duration = Duration::from_secs(2 * 3600);
/// What nothing points to is kept at least so long, whatever is configured: a commit may be about to.
pub const GRACE_MIN: Duration = Duration::from_secs(3600);
/// Marks of positions that a writer remembers, to say more of a version than its position.
pub const MARKS_MAX: usize = 1024;

const _: () = assert!(HEAD_TRUSTED.as_secs() * 2 <= KEEP_MANIFESTS_MIN.as_secs());
const _: () = assert!(PIN_WITHIN.as_secs() * 2 <= KEEP_MANIFESTS_MIN.as_secs());
