//! Snapshot storage in memory, and what copies have put there.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_array::RecordBatch;
use object_store::memory::InMemory;
use tidemill_bootstrap_clone::Plan;
use tidemill_bootstrap_store::{
    BaseVersion, CloneProgress, ScanOptions, Store, TablePhase, TableReader, TableState, Writer,
    WriterOptions,
};
use tidemill_event::{Position, Scn, TableName};

pub fn store() -> Store {
    Store::new(Arc::new(InMemory::new()), "shop")
}

/// Takes the store over.
pub async fn writer(store: &Store) -> Writer {
    store.open_writer(WriterOptions::default()).await.unwrap()
}

pub fn state(writer: &Writer, table: &TableName) -> Option<Arc<TableState>> {
    writer.tables().into_values().find(|state| state.name == *table)
}

/// The copy of a table that is being made.
pub fn progress(writer: &Writer, table: &TableName) -> CloneProgress {
    match &state(writer, table).expect("its copy was begun").phase {
        TablePhase::Cloning(progress) => progress.clone(),
        phase => panic!("{phase:?}"),
    }
}

/// The rows of a copy that is complete, in key order, as the follower would make it the table's content.
pub async fn rows(writer: &Writer, table: &TableName) -> Vec<RecordBatch> {
    let (progress, state) = (progress(writer, table), state(writer, table).unwrap());
    assert!(progress.complete);
    let plan = Plan::of(&progress).unwrap();
    let numbers: BTreeSet<u32> = progress.chunks.iter().map(|chunk| chunk.number).collect();
    assert_eq!(numbers, (0..plan.chunk_count()).collect());
    let at = Position { timeline: 9, scn: Scn::MAX };
    let files = progress.chunks.into_iter().flat_map(|chunk| chunk.files).collect();
    let state = TableState {
        base: Some(BaseVersion { path: None, at, files }),
        schema: plan.schema,
        key: plan.key,
        ..(*state).clone()
    };
    let mut scan = TableReader::new(writer.store().clone(), Arc::new(state), at).scan(ScanOptions::default());
    let mut rows = vec![];
    while let Some(batch) = scan.next().await.unwrap() {
        rows.push(batch.rows);
    }
    rows
}
