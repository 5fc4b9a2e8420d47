//! Numbers with a reason, and how they relate.

use std::time::Duration;

use tidemill_event::limits::{FRAME_BYTES_MAX, WINDOW_BYTES_MAX};

/// One event, as both families limit it by `max_allowed_packet`.
pub(crate) const EVENT_BYTES_MAX: usize = 1 << 30;

/// What one read asks the kernel for: large enough that a drain is bound by decoding, small enough for a cache.
pub(crate) const READ_BYTES: usize = 256 << 10;

/// A buffer that had to hold a larger event is given back down to this size.
pub(crate) const BUFFER_BYTES_KEPT: usize = 4 << 20;

/// A quiet or filtered stretch of the log moves readers on after this many bytes.
pub(crate) const SILENT_BYTES_MAX: u64 = 1 << 20;

/// A transaction whose end is not known in advance is held whole up to this many bytes: reading it twice costs a
/// connection and all of its bytes again.
pub(crate) const UNMEASURED_BYTES_MAX: usize = 4 << 20;

/// Table maps of one connection and layouts of all; past this many the caches start anew.
pub(crate) const TABLE_MAPS_MAX: usize = 1 << 14;

/// Definitions that were asked for are said to be in force still after this many bytes of the log: a reader that comes
/// back looks through no more of it than this.
pub(crate) const SCHEMA_MARK_BYTES: u64 = 64 << 20;

/// Between two looks at a file that is followed.
pub(crate) const FOLLOW_PAUSE: Duration = Duration::from_millis(20);

/// The first pause before a lost connection is made again; it doubles up to the last.
pub(crate) const RETRY_PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest pause.
pub(crate) const RETRY_PAUSE_MAX: Duration = Duration::from_secs(10);

/// Connecting, signing in and asking for the log.
pub(crate) const CONNECT_TIME_MAX: Duration = Duration::from_secs(30);

/// A batch of rows that a statement gives: large enough that making it costs nothing beside its rows, small enough that it
/// is still in a cache when they are looked at.
pub(crate) const BATCH_ROWS: usize = 8192;
/// The same for wide rows.
pub(crate) const BATCH_BYTES: usize = 4 << 20;

/// A statement that gives no row for so long is lost: a scan that finds none of those that are wanted takes its time.
pub(crate) const ANSWER_TIME_MAX: Duration = Duration::from_secs(3600);

/// A connection that was silent for this many heartbeats is lost.
pub(crate) const HEARTBEATS_MISSED: u32 = 3;

/// What the store of prepared transactions may hold in memory.
pub(crate) const STORE_CACHE_BYTES: usize = 8 << 20;

/// Written rows of prepared transactions are made durable at least this often, so that none pile up in memory.
pub(crate) const UNSYNCED_BYTES_MAX: usize = 16 << 20;

const _: () = assert!(EVENT_BYTES_MAX <= FRAME_BYTES_MAX);
const _: () = assert!(UNMEASURED_BYTES_MAX >= WINDOW_BYTES_MAX);
const _: () = assert!(READ_BYTES <= BUFFER_BYTES_KEPT);
const _: () = assert!(SILENT_BYTES_MAX <= WINDOW_BYTES_MAX as u64);
