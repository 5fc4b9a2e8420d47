//! Reads manifests and table states, and finds the newest manifest.

use std::sync::Arc;

use crate::{Manifest, Store, StoreError, TableRef, TableState};

impl Store {
    /// The newest manifest; `None`: there is none.
    pub async fn newest(&self) -> Result<Option<Arc<Manifest>>, StoreError> {
        todo!()
    }

    /// The manifest of that number; `None`: it is not there, or not any more.
    pub async fn manifest(&self, number: u64) -> Result<Option<Arc<Manifest>>, StoreError> {
        todo!("{number}")
    }

    /// The numbers of the manifests that are there, in order and without gaps. What the oldest ones point to may be gone
    /// where only a pin of an older one keeps them.
    pub async fn manifests(&self) -> Result<Vec<u64>, StoreError> {
        todo!()
    }

    /// The state of a table.
    pub async fn table(&self, table: &TableRef) -> Result<Arc<TableState>, StoreError> {
        todo!("{table:?}")
    }
}
