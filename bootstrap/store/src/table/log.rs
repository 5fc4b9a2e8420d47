//! Windows of all tables become one compressed segment, and come back as they were.

use tidemill_event::Window;

use crate::{DataError, LogSegment, Store};

/// Collects windows that follow each other.
#[derive(Default)]
pub struct LogBuffer {}

impl LogBuffer {
    /// Nothing in it.
    pub fn new() -> LogBuffer {
        todo!()
    }

    /// Adds the next window. `timeline` is the store's number of its timeline.
    pub fn add(&mut self, window: &Window, timeline: u32) -> Result<(), DataError> {
        let _ = (window, timeline);
        todo!()
    }

    /// Windows that are held.
    pub fn windows(&self) -> usize {
        todo!()
    }

    /// Bytes of memory that are held.
    pub fn bytes(&self) -> usize {
        todo!()
    }

    /// Writes the segment. Call it with at least one window.
    pub async fn finish(self, store: &Store) -> Result<LogSegment, DataError> {
        let _ = store;
        todo!()
    }
}

/// The windows of a segment, in order, as they were.
pub async fn read_segment(store: &Store, segment: &LogSegment) -> Result<Vec<Window>, DataError> {
    let _ = (store, segment);
    todo!()
}
