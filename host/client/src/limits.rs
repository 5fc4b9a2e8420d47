//! Numbers with a reason.

use std::time::Duration;

/// Small windows are merged up to this many rows: enough that a guest call costs less than its rows.
pub const MERGE_ROWS_MAX: usize = 8192;

/// A window of this many rows is not worth copying into a larger one.
pub const MERGE_ROWS_EACH_MAX: usize = 1024;

/// The wait before the first repetition of a delivery; it doubles.
pub const RETRY_FIRST: Duration = Duration::from_millis(50);

/// The longest wait before a repetition of a delivery.
pub const RETRY_MOST: Duration = Duration::from_secs(10);

const _: () = assert!(MERGE_ROWS_EACH_MAX <= MERGE_ROWS_MAX);

/// Windows decoded and not done with: sixteen of the largest ordinary ones, so that decoding and delivering overlap.
pub const IN_FLIGHT_BYTES: usize = 16 << 20;

/// What a window costs at least, however small its frame: its vectors and its place in the queue.
pub const WINDOW_BYTES_LEAST: usize = 1 << 10;

/// How often a relay says that it is alive.
pub const HEARTBEAT: Duration = Duration::from_secs(5);

/// A relay that is silent for so many heartbeats is lost: one may be late, two are not.
pub const HEARTBEATS_SILENT: u32 = 3;

/// How long connecting may take, and the beginning of an answer: a relay may have to read old segments first.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The wait after the first round over all relays.
pub const RECONNECT_FIRST: Duration = Duration::from_millis(100);

/// The longest wait between two rounds: a relay that is back is found within this.
pub const RECONNECT_MOST: Duration = Duration::from_secs(5);

/// So many rounds over all relays are waited for one that still has what is gone from those that answer: with the usual
/// waits half a minute, in which a relay that was restarted is back.
pub const GONE_ROUNDS_MAX: usize = 10;

/// A refusal is a short text; what is longer is not one of ours.
pub const PROBLEM_BYTES_MAX: usize = 64 << 10;

/// A frame's buffer begins with at most this and grows with what comes, since a length may be damaged. The ordinary window
/// fits, so that it is copied once.
pub const FRAME_BYTES_EAGER: usize = 4 << 20;

/// What a compressed chunk is unpacked into, piece by piece.
pub const UNPACK_BYTES: usize = 128 << 10;

const _: () = assert!(IN_FLIGHT_BYTES >= 4 * tidemill_event::limits::WINDOW_BYTES_MAX);
const _: () = assert!(FRAME_BYTES_EAGER >= 2 * tidemill_event::limits::WINDOW_BYTES_MAX);
