//! Pins: as long as a reader's pin runs, all that its manifest points to stays.

use std::time::Duration;

use crate::{Store, StoreError};

impl Store {
    /// Keeps a version for a reader, until so long after `now_us`. Again before that runs out: goes on. It has to be the
    /// version that the reader has pinned, or one that was the newest a moment ago: otherwise it may be on its way out,
    /// and is [`StoreError::Gone`].
    pub async fn pin(
        &self,
        client: &str,
        version: u64,
        ttl: Duration,
        now_us: i64,
    ) -> Result<(), StoreError> {
        todo!("{client} {version} {ttl:?} {now_us}")
    }

    /// The reader is done: its version goes as others do.
    pub async fn unpin(&self, client: &str) -> Result<(), StoreError> {
        todo!("{client}")
    }
}
