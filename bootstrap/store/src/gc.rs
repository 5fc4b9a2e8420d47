//! Removes what nothing points to any more.

use crate::{Retention, StoreError, Writer};

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Manifests.
    pub manifests: u64,
    /// Other objects.
    pub objects: u64,
    /// Bytes of them.
    pub bytes: u64,
}

impl Writer {
    /// Removes manifests that are not kept any more, and what no kept manifest points to.
    pub async fn collect_garbage(&self, keep: &Retention, now_us: i64) -> Result<Swept, StoreError> {
        todo!("{keep:?} {now_us}")
    }
}
