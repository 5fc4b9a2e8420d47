//! Numbers with a reason.

use std::time::Duration;

/// Positions that a follower remembers for copies beside it: hours of them at a few windows a second, in a few megabytes.
pub const MARKS_MAX: usize = 4096;
/// Stretches remembered for each table: a table without key is copied again when it changed under its copy, and one that
/// changes more often than this while it is copied changed for sure.
pub const TOUCHES_MAX: usize = 256;

/// How long a feed that failed is left alone, the first time; it doubles …
pub const RETRY_FIRST: Duration = Duration::from_millis(200);
/// … up to this.
pub const RETRY_MAX: Duration = Duration::from_secs(30);
/// How long a table whose merge failed is left alone: its readers have its runs.
pub const RETRY_JOB: Duration = Duration::from_secs(60);

const _: () = assert!(MARKS_MAX.is_multiple_of(4));

/// Deltas are given as long as they have no more than this share of the bytes of the whole table, where runs are merged into
/// that, too: a row costs about the same on either path. Where runs repeat the same keys they have more bytes than the table,
/// and are read for few rows.
pub const DELTA_SHARE_MAX: f64 = 1.0;

/// The same where nothing is merged into the base: its rows are read as they lie, each for about half of what a row of runs costs
/// (`benches/chooser.rs`).
pub const DELTA_SHARE_OF_BASE_MAX: f64 = 0.7;

/// Bytes of memory of the rows of one window that is served: as many as a window of the stream has, and no more calls to a
/// consumer than needed.
pub const SERVED_BYTES: u64 = 2 << 20;

/// Rows of one window that is served, at most and at least.
pub const SERVED_ROWS: std::ops::RangeInclusive<u64> = 64..=8192;

/// Parquet holds rows in about this part of the memory that they take.
pub const PACKED: u64 = 4;

/// How long a reader may be away before the version that it reads may go. What it reads on is right even then, but longer.
pub const PIN_TTL: std::time::Duration = std::time::Duration::from_secs(48 * 3600);
