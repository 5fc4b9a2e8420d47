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
