//! What one subscription was given, counted where it happens. Who shows it is the server's.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tidemill_event::{Position, Window};

/// The counters of one subscription. Clones count together, so that they outlive one answer of a subscriber that asks
/// again.
#[derive(Clone, Debug, Default)]
pub struct Meter(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    bytes: AtomicU64,
    windows: AtomicU64,
    transactions: AtomicU64,
    rows_read: AtomicU64,
    rows_given: AtomicU64,
    heartbeats: AtomicU64,
    commit_time_us: AtomicI64,
    position: Mutex<Option<Position>>,
}

/// What a [`Meter`] says at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metered {
    /// Bytes of the body that were handed to the connection, compressed where it is.
    pub bytes: u64,
    /// Windows of the log that were read, those that became empty included.
    pub windows: u64,
    /// Transactions that were completed.
    pub transactions: u64,
    /// Row images that the log gave.
    pub rows_read: u64,
    /// Row images that the selection left; the rest was filtered out.
    pub rows_given: u64,
    /// Signs of life.
    pub heartbeats: u64,
    /// When the last transaction committed at the source: microseconds since 1970-01-01 UTC; 0 before the first one.
    pub commit_time_us: i64,
    /// Everything up to here was handed to the connection.
    pub position: Option<Position>,
}

impl Meter {
    /// What it says now.
    pub fn read(&self) -> Metered {
        let counts = &*self.0;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Metered {
            bytes: count(&counts.bytes),
            windows: count(&counts.windows),
            transactions: count(&counts.transactions),
            rows_read: count(&counts.rows_read),
            rows_given: count(&counts.rows_given),
            heartbeats: count(&counts.heartbeats),
            commit_time_us: counts.commit_time_us.load(Ordering::Relaxed),
            position: *counts.position.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    pub(crate) fn bytes(&self, more: usize) {
        self.0.bytes.fetch_add(more as u64, Ordering::Relaxed);
    }

    pub(crate) fn heartbeat(&self) {
        self.0.heartbeats.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn window(&self, read: &Window, rows_given: usize) {
        let counts = &*self.0;
        let complete = read.transactions.iter().filter(|t| t.part.completes()).count();
        counts.windows.fetch_add(1, Ordering::Relaxed);
        counts.transactions.fetch_add(complete as u64, Ordering::Relaxed);
        counts.rows_read.fetch_add(read.row_count() as u64, Ordering::Relaxed);
        counts.rows_given.fetch_add(rows_given as u64, Ordering::Relaxed);
        if let Some(last) = read.transactions.last() {
            counts.commit_time_us.store(last.commit_time_us, Ordering::Relaxed);
        }
        *counts.position.lock().unwrap_or_else(PoisonError::into_inner) = Some(read.position());
    }
}
