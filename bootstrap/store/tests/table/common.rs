//! Windows, stores and tables for tests.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_buffer::BooleanBuffer;
use object_store::memory::InMemory;
use tidemill_bootstrap_store::{
    Batch, Scan, Store, StoredSchema, TableKey, TablePhase, TableReader, TableState,
};
use tidemill_event::{
    Part, Phase, Position, RowKind, Scn, Span, TableChanges, TableName, TableSchema, Timeline, Transaction,
    Window,
};

pub(crate) fn at(scn: u64) -> Position {
    Position { timeline: 1, scn: Scn(scn) }
}

pub(crate) fn store() -> Store {
    Store::new(Arc::new(InMemory::new()), "shop")
}

pub(crate) fn name() -> TableName {
    TableName::new("shop", "orders")
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// A window of one transaction of one table.
pub(crate) fn window(
    schema: &Arc<TableSchema>,
    scn: u64,
    kinds: &[RowKind],
    columns: Vec<ArrayRef>,
    absent: Vec<Option<BooleanBuffer>>,
) -> Window {
    let rows = RecordBatch::try_new(Arc::clone(schema.arrow()), columns).unwrap();
    let mut ordinals: Vec<u32> = vec![];
    for (row, kind) in kinds.iter().enumerate() {
        let joined = *kind == RowKind::UpdateAfter && row > 0 && kinds[row - 1] == RowKind::UpdateBefore;
        let last = ordinals.last().copied();
        ordinals.push(last.map_or(0, |last| if joined { last } else { last + 1 }));
    }
    let changes = TableChanges {
        schema: Arc::clone(schema),
        rows,
        absent,
        kind: kinds.iter().map(|kind| *kind as u8).collect(),
        txn: vec![0; kinds.len()].into(),
        ordinal: ordinals.clone().into(),
    };
    let transaction = Transaction {
        scn: Scn(scn),
        gtid: String::new(),
        commit_time_us: scn as i64 * 1000,
        first_ordinal: 0,
        change_count: ordinals.last().map_or(0, |last| last + 1),
        change_offset: 0,
        part: Part::Whole,
    };
    let window = Window {
        source: "shop".into(),
        timeline: Timeline { number: 1, server: "s".into() },
        span: Span { after: Scn(scn - 1), upto: Scn(scn) },
        executed: "".into(),
        transactions: vec![transaction],
        tables: vec![changes],
        events: vec![],
        phase: Phase::Stream,
    };
    window.validate().unwrap();
    window
}

pub(crate) fn state(schema: StoredSchema, key: TableKey) -> TableState {
    let mut state = TableState::new(1, name(), schema, key);
    state.phase = TablePhase::Ready;
    state
}

pub(crate) fn key(fields: &[u32]) -> TableKey {
    TableKey::Columns { fields: fields.to_vec() }
}

pub(crate) fn reader(store: &Store, state: &TableState, applied: Position) -> TableReader {
    TableReader::new(store.clone(), Arc::new(state.clone()), applied)
}

pub(crate) async fn all(mut scan: Scan) -> Vec<Batch> {
    let mut batches = vec![];
    while let Some(batch) = scan.next().await.unwrap() {
        assert!(batch.rows.num_rows() > 0 && batch.scn.len() == batch.rows.num_rows());
        batches.push(batch);
    }
    batches
}

/// Every object below the store's root, with its bytes.
pub(crate) async fn objects(store: &Store) -> Vec<(String, bytes::Bytes)> {
    use futures_util::TryStreamExt;
    use object_store::{ObjectStore, ObjectStoreExt};
    let metas: Vec<_> = store.objects().list(None).try_collect().await.unwrap();
    let mut objects = vec![];
    for meta in metas {
        let bytes = store.objects().get(&meta.location).await.unwrap().bytes().await.unwrap();
        objects.push((meta.location.to_string(), bytes));
    }
    objects.sort();
    objects
}
