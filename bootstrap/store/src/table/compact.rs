//! Merges neighbouring runs into one of the next level.

use crate::{DataError, Run, Store, TableState};

/// Writes one run of everything in `runs`, which follow each other, oldest first. Nothing is committed.
pub async fn merge_runs(store: &Store, state: &TableState, runs: &[Run]) -> Result<Run, DataError> {
    let _ = (store, state, runs);
    todo!()
}
