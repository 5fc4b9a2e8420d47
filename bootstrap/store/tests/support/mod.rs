//! Stores with tables whose objects are any bytes: what the commit side has to keep, whatever is in it.

#![allow(dead_code, reason = "each test takes what it needs")]
#![allow(clippy::unwrap_used, reason = "tests")]

pub mod conformance;
pub mod dated;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use tidemill_bootstrap_store::{
    BaseFile, BaseVersion, Draft, LogSegment, Manifest, Mark, Run, Store, StoreError, StoredSchema, TableId,
    TableKey, TablePhase, TableState, Writer, WriterOptions, random_id,
};
use tidemill_event::{Position, Scn, TableName};

pub const HOUR_US: i64 = 3_600_000_000;
pub const DAY: Duration = Duration::from_secs(24 * 3600);

thread_local! {
    static NOW_US: Cell<i64> = Cell::new(real_now_us());
}

fn real_now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64
}

/// The time of this test, which stands still.
pub fn now_us() -> i64 {
    NOW_US.get()
}

pub fn pass(us: i64) {
    NOW_US.set(now_us() + us);
}

/// A writer that gives up soon, and waits for nobody.
pub fn options(writer: &str) -> WriterOptions {
    WriterOptions {
        writer: writer.to_owned(),
        now_us,
        tries: 2,
        retry_first: Duration::ZERO,
        retry_max: Duration::ZERO,
        hints: Vec::new(),
    }
}

pub fn memory() -> Arc<dyn ObjectStore> {
    Arc::new(InMemory::new())
}

pub fn at(scn: u64) -> Position {
    Position { timeline: 1, scn: Scn(scn) }
}

pub fn mark(scn: u64) -> Mark {
    Mark { position: at(scn), executed: format!("set:1-{scn}"), time_us: scn as i64 }
}

pub fn schema() -> StoredSchema {
    StoredSchema { id: "00000000000000aa".into(), columns: Vec::new(), primary_key: Vec::new() }
}

pub fn table(id: TableId, name: &str) -> TableState {
    let key = TableKey::Columns { fields: vec![1] };
    TableState {
        phase: TablePhase::Ready,
        ..TableState::new(id, TableName::new("shop", name), schema(), key)
    }
}

fn text(what: &str) -> Bytes {
    Bytes::from(format!("{what} {}", random_id()))
}

/// Puts a run of `(after, upto]`.
pub async fn put_run(store: &Store, name: &str, after: u64, upto: u64) -> Result<Run, StoreError> {
    let path = format!("shop.{name}/run/{after}-{upto}-{}.parquet", random_id());
    Ok(Run {
        object: store.put(&path, text("run")).await?,
        level: 0,
        after: at(after),
        upto: at(upto),
        rows: upto - after,
        deletes: 0,
        time_us: now_us(),
        first_key: "00".into(),
        last_key: "ff".into(),
        schema: schema(),
    })
}

/// Puts a segment of `(after, upto]`.
pub async fn put_segment(store: &Store, after: u64, upto: u64) -> Result<LogSegment, StoreError> {
    let path = format!("log/{after:020}-{upto:020}-{}.seg", random_id());
    let object = store.put(&path, text("segment")).await?;
    Ok(LogSegment { object, after: at(after), upto: at(upto), time_us: now_us() })
}

/// Puts a version of a table, two files and what says that it is whole. `shared` files are taken over as they are.
pub async fn put_version(
    store: &Store,
    name: &str,
    scn: u64,
    shared: &[BaseFile],
) -> Result<BaseVersion, StoreError> {
    let directory = format!("shop.{name}/snap-{scn:020}-{}", &random_id()[..8]);
    let mut files = shared.to_vec();
    for part in 0..2 {
        let object = store.put(&format!("{directory}/part-{part:05}.parquet"), text("part")).await?;
        let (first_key, last_key) = (format!("{part:02}00"), format!("{part:02}ff"));
        files.push(BaseFile { object, rows: 10, first_key, last_key, schema: schema().id, at: at(scn) });
    }
    let version = BaseVersion { path: Some(directory.clone()), at: at(scn), files };
    let list = serde_json::to_vec(&version).unwrap();
    store.put(&format!("{directory}/_manifest.json"), list.into()).await?;
    store.put(&format!("{directory}/_SUCCESS"), Bytes::new()).await?;
    Ok(version)
}

/// Makes table `name` ready, with nothing in it.
pub fn create_table(draft: &mut Draft, name: &str) -> TableId {
    let id = draft.next_table_id();
    draft.tables.insert(id, table(id, name));
    id
}

pub fn state<'a>(draft: &'a mut Draft, name: &str) -> &'a mut TableState {
    draft.tables.values_mut().find(|table| table.name.table == name).unwrap()
}

/// A commit that moves a store to `scn`, and names it.
pub async fn step(writer: &Writer, scn: u64) -> Result<(), tidemill_bootstrap_store::CommitError> {
    let change = |draft: &mut Draft| {
        (draft.manifest.applied, draft.manifest.logged) = (mark(scn), mark(scn));
    };
    writer.commit(change).await
}

/// Everything that a manifest points to, read and checked, by path; it panics where something is missing.
pub async fn whole(store: &Store, manifest: &Manifest) -> BTreeMap<TableId, Arc<TableState>> {
    let mut tables = BTreeMap::new();
    for segment in &manifest.log {
        store.get(&segment.object).await.unwrap();
    }
    for table in manifest.tables.values() {
        // Not what somebody remembers, but what is there.
        store.get(&table.state).await.unwrap();
        let state = store.table(table).await.unwrap();
        for run in state.runs.iter().chain(&state.merged_runs) {
            store.get(&run.object).await.unwrap();
        }
        if let Some(base) = &state.base {
            for file in &base.files {
                store.get(&file.object).await.unwrap();
            }
            let version = base.path.clone().unwrap();
            assert!(paths(store, &version).await.contains(&format!("{version}/_SUCCESS")));
        }
        tables.insert(table.id, state);
    }
    tables
}

/// What there is under a directory of the store.
pub async fn paths(store: &Store, under: &str) -> Vec<String> {
    let listed: Vec<_> = store.objects().list(Some(&store.path(under))).try_collect().await.unwrap();
    let root = format!("{}/", store.path(""));
    let relative = |path: &str| path.strip_prefix(&root).unwrap().to_owned();
    let mut paths: Vec<String> = listed.iter().map(|object| relative(object.location.as_ref())).collect();
    paths.sort();
    paths
}

/// Another reader of the same store, that remembers nothing.
pub fn fresh(store: &Store) -> Store {
    Store::new(Arc::clone(store.objects()), store.source())
}
