//! A source and its store: transactions go into windows, windows into runs, runs into bases, each committed as the service
//! commits them; and what every table had at each position.

#![allow(dead_code, reason = "each test module uses a part")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arrow_array::{ArrayRef, Decimal128Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::DataType;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use tempfile::TempDir;
use tidemill_bootstrap_service::{ServeLimits, SnapshotReader, SnapshotServer};
use tidemill_bootstrap_store::{
    BaseVersion, Draft, Dropped, Mark, MergeOptions, Retention, RunBuilder, Store, StoredSchema, TableId,
    TableKey, TablePhase, TableState, Writer, WriterOptions, merge_base, merge_runs, table_root,
};
use tidemill_event::{
    ColumnSchema, Event, EventKind, Part, Position, RowKind, Scn, Span, TableChanges, TableName, TableSchema,
    Timeline, Transaction, Window,
};
use tidemill_relay::{SnapshotPath, TablePattern};

use crate::model::{Content, Row, Rows, shown};

pub const SERVER: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
pub const ORDERS: &str = "shop.orders";
pub const ITEMS: &str = "shop.items";
/// Without a key.
pub const NOTES: &str = "bank.notes";
/// Without a primary key, and with a unique one.
pub const TAGS: &str = "bank.tags";

/// One change of a transaction: the row that a key has from now on, or a copy more or less of a row.
#[derive(Clone, Debug)]
pub enum Change {
    Set(&'static str, Row),
    Delete(&'static str, Row),
}

pub fn row(id: i64, note: &str) -> Row {
    Row { id, part: Some((id % 7) as i32), cents: Some(id * 37 - 1000), note: Some(note.to_owned()) }
}

/// With values of that moment, some of them NULL.
fn varied(row: Row, moment: i64) -> Row {
    let of = moment * 31 + row.id * 37;
    let cents = (of % 7 != 0).then_some(of % 5000 - 2500);
    Row { part: row.part.filter(|_| of % 5 != 0), cents, ..row }
}

/// See the module.
pub struct Shop {
    pub directory: Option<TempDir>,
    pub store: Store,
    pub writer: Writer,
    pub scn: u64,
    pub content: Content,
    /// What there was at each position.
    pub history: BTreeMap<u64, Content>,
    /// Everything that the source said.
    pub windows: Vec<Window>,
    /// How many of them are in runs.
    applied: usize,
    ids: BTreeMap<String, TableId>,
}

fn at(scn: u64) -> Position {
    Position { timeline: 1, scn: Scn(scn) }
}

pub fn executed(scn: u64) -> String {
    format!("{SERVER}:1-{scn}")
}

fn name(table: &str) -> TableName {
    let (database, table) = table.split_once('.').unwrap();
    TableName::new(database, table)
}

pub fn schema(table: &str) -> Arc<TableSchema> {
    let columns = vec![
        ColumnSchema::new("id", DataType::Int64, "bigint", false),
        ColumnSchema::new("part", DataType::Int32, "int", true),
        ColumnSchema::new("cents", DataType::Decimal128(12, 2), "decimal(12,2)", true),
        ColumnSchema::new("note", DataType::Utf8, "text", true),
    ];
    TableSchema::new(name(table), columns, if has_primary_key(table) { vec![0] } else { vec![] })
}

fn has_primary_key(table: &str) -> bool {
    table != NOTES && table != TAGS
}

fn stored(table: &str) -> StoredSchema {
    StoredSchema::new(&schema(table), 1)
}

fn key(table: &str) -> TableKey {
    if table == NOTES { TableKey::WholeRow } else { TableKey::Columns { fields: vec![1] } }
}

impl Shop {
    /// With its three tables, empty, at position 1.
    pub async fn new() -> Shop {
        let directory = tempfile::tempdir().unwrap();
        let objects = LocalFileSystem::new_with_prefix(directory.path()).unwrap();
        let mut shop = Shop::on(Arc::new(objects)).await;
        shop.directory = Some(directory);
        shop
    }

    pub async fn on(objects: Arc<dyn ObjectStore>) -> Shop {
        let store = Store::new(objects, "shop");
        let options = WriterOptions { writer: "test".into(), ..WriterOptions::default() };
        let writer = store.open_writer(options).await.unwrap();
        let mut shop = Shop {
            directory: None,
            store,
            writer,
            scn: 1,
            content: Content::new(),
            history: BTreeMap::new(),
            windows: vec![],
            applied: 0,
            ids: BTreeMap::new(),
        };
        let mark = shop.mark();
        shop.commit(|draft| {
            draft.manifest.timelines = vec![SERVER.into()];
            draft.manifest.applied = mark.clone();
            draft.manifest.logged = mark;
        })
        .await;
        for table in [ORDERS, ITEMS, NOTES] {
            shop.create(table).await;
        }
        shop
    }

    pub async fn create(&mut self, table: &'static str) {
        let since = at(self.scn);
        let id = self
            .commit(|draft| {
                let id = draft.next_table_id();
                let state = TableState::new(id, name(table), stored(table), key(table));
                let state = TableState { phase: TablePhase::Ready, deltas_since: since, ..state };
                draft.tables.insert(id, state);
                id
            })
            .await;
        self.ids.insert(table.to_owned(), id);
        self.content.insert(table.to_owned(), Rows::new(has_primary_key(table)));
        self.history.insert(self.scn, shown(&self.content));
    }

    async fn commit<T>(&self, change: impl FnOnce(&mut Draft) -> T + Send) -> T {
        self.writer.commit(change).await.unwrap()
    }

    fn mark(&self) -> Mark {
        Mark { position: at(self.scn), executed: executed(self.scn), time_us: self.scn as i64 * 1000 }
    }

    /// One transaction.
    pub fn change(&mut self, changes: &[Change]) {
        self.scn += 1;
        let mut tables: BTreeMap<&str, Vec<(u32, RowKind, Row)>> = BTreeMap::new();
        for (ordinal, change) in (0..).zip(changes) {
            let (Change::Set(table, row) | Change::Delete(table, row)) = change;
            let rows = self.content.get_mut(*table).unwrap();
            let images = tables.entry(table).or_default();
            let mut image = |kind, row: &Row| images.push((ordinal, kind, row.clone()));
            match (change, &*rows) {
                (Change::Set(..), Rows::Keyed(keyed)) => match keyed.get(&row.id).cloned() {
                    Some(before) => {
                        image(RowKind::UpdateBefore, &before);
                        image(RowKind::UpdateAfter, row);
                    }
                    None => image(RowKind::Insert, row),
                },
                (Change::Set(..), Rows::Counted(_)) => image(RowKind::Insert, row),
                (Change::Delete(..), Rows::Keyed(keyed)) => image(RowKind::Delete, &keyed[&row.id].clone()),
                (Change::Delete(..), Rows::Counted(_)) => image(RowKind::Delete, row),
            }
            match change {
                Change::Set(..) => rows.add(row.clone()),
                Change::Delete(..) => rows.remove(row),
            }
        }
        let tables = tables.iter().map(|(table, images)| rows_of(table, images)).collect();
        self.push(tables, vec![], changes.len() as u32);
    }

    pub fn truncate(&mut self, table: &'static str) {
        self.scn += 1;
        self.content.insert(table.to_owned(), Rows::new(has_primary_key(table)));
        self.push(vec![], vec![EventKind::Truncate { table: name(table) }], 1);
    }

    fn push(&mut self, tables: Vec<TableChanges>, events: Vec<EventKind>, change_count: u32) {
        let events = (0..).zip(events).map(|(ordinal, kind)| Event { ordinal, txn: 0, kind }).collect();
        let transaction = Transaction {
            scn: Scn(self.scn),
            gtid: format!("{SERVER}:{}", self.scn),
            commit_time_us: self.scn as i64 * 1000,
            first_ordinal: 0,
            change_count,
            change_offset: 0,
            part: Part::Whole,
        };
        let span = Span { after: Scn(self.scn - 1), upto: Scn(self.scn) };
        let timeline = Timeline { number: 1, server: SERVER.into() };
        let empty = Window::empty("shop".into(), timeline, span, executed(self.scn).into());
        let window = Window { transactions: vec![transaction], tables, events, ..empty };
        window.validate().unwrap();
        self.windows.push(window);
        self.history.insert(self.scn, shown(&self.content));
    }

    /// Everything that was said becomes runs, and one commit.
    pub async fn apply(&mut self) {
        let (after, upto) = (self.writer.head().applied.position, at(self.scn));
        let mut runs = vec![];
        let mut emptied = BTreeMap::new();
        for (table, id) in &self.ids {
            let fresh = || RunBuilder::new(stored(table), key(table));
            let mut builder = fresh();
            for window in &self.windows[self.applied..] {
                if window.events.iter().any(|e| e.kind.tables().contains(&&name(table))) {
                    builder = fresh();
                    emptied.insert(*id, window.position());
                }
                for changes in window.tables.iter().filter(|t| *t.schema.name() == name(table)) {
                    builder.add(window, changes, 1).unwrap();
                }
            }
            let run = builder.finish(&self.store, &table_root(&name(table)), after, upto).await.unwrap();
            runs.extend(run.map(|run| (*id, run)));
        }
        let mark = self.mark();
        self.commit(|draft| {
            for (id, since) in emptied {
                let state = draft.tables.get_mut(&id).unwrap();
                (state.base, state.deltas_since) = (None, since);
                state.runs.clear();
                state.merged_runs.clear();
            }
            for (id, run) in runs {
                draft.tables.get_mut(&id).unwrap().runs.push(run);
            }
            draft.manifest.applied = mark.clone();
            draft.manifest.logged = mark;
        })
        .await;
        self.applied = self.windows.len();
    }

    /// A new base of a table, and its runs are merged ones.
    pub async fn publish(&self, table: &str) {
        let small = MergeOptions {
            row_group_rows: 500,
            file_bytes: 20_000,
            file_bytes_min: 2_000,
            ..MergeOptions::default()
        };
        self.publish_as(table, small).await;
    }

    pub async fn publish_as(&self, table: &str, options: MergeOptions) {
        let id = self.ids[table];
        let state = Arc::clone(&self.writer.tables()[&id]);
        if state.runs.is_empty() {
            return;
        }
        let upto = self.writer.head().applied.position;
        let (base, _): (BaseVersion, _) = merge_base(&self.store, &state, upto, &options).await.unwrap();
        self.commit(|draft| {
            let state = draft.tables.get_mut(&id).unwrap();
            state.base = Some(base);
            let merged = std::mem::take(&mut state.runs);
            state.merged_runs.extend(merged);
        })
        .await;
    }

    /// One run in place of all that are not merged into the base.
    pub async fn compact(&self, table: &str) {
        let id = self.ids[table];
        let state = Arc::clone(&self.writer.tables()[&id]);
        if state.runs.len() < 2 {
            return;
        }
        let run = merge_runs(&self.store, &state, &state.runs).await.unwrap();
        self.commit(|draft| draft.tables.get_mut(&id).unwrap().runs = vec![run]).await;
    }

    /// The table is gone, in the next transaction.
    pub async fn drop_table(&mut self, table: &'static str) {
        self.scn += 1;
        self.content.remove(table);
        self.push(vec![], vec![EventKind::Drop { table: name(table) }], 1);
        let id = self.ids.remove(table).unwrap();
        let dropped = Dropped { table: name(table), at: at(self.scn) };
        self.commit(|draft| {
            draft.tables.remove(&id);
            draft.manifest.dropped.push(dropped);
        })
        .await;
        self.apply().await;
    }

    /// Old manifests, and everything that no kept one has, are removed.
    pub async fn sweep(&self) {
        let keep = Retention {
            keep_manifests: Duration::ZERO,
            keep_versions: 1,
            keep_deltas: Duration::ZERO,
            keep_log: Duration::ZERO,
            grace: Duration::ZERO,
        };
        // Far enough for every pin to have run out.
        self.writer.collect_garbage(&keep, 10 * now_us()).await.unwrap();
    }

    pub fn server(&self) -> SnapshotServer {
        SnapshotServer::new(self.store.clone(), ServeLimits::default())
    }

    pub fn reader(&self, path: SnapshotPath) -> SnapshotReader {
        self.server().reader(vec![], path, "test")
    }

    /// Of a server that was started just now: nothing is remembered.
    pub fn fresh_reader(&self) -> SnapshotReader {
        let store = Store::new(Arc::clone(self.store.objects()), "shop");
        SnapshotServer::new(store, ServeLimits::default()).reader(vec![], SnapshotPath::Auto, "test")
    }

    pub fn reader_of(&self, tables: &[&str]) -> SnapshotReader {
        let tables = tables.iter().map(|text| TablePattern::parse(text).unwrap()).collect();
        self.server().reader(tables, SnapshotPath::Auto, "test")
    }

    /// What there was at the position of a checkpoint.
    pub fn at(&self, scn: u64) -> &Content {
        &self.history[&scn]
    }

    /// The tables that there are.
    pub fn tables(&self) -> BTreeSet<&str> {
        self.ids.keys().map(String::as_str).collect()
    }
}

pub fn now_us() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros() as i64
}

fn rows_of(table: &str, images: &[(u32, RowKind, Row)]) -> TableChanges {
    let schema = schema(table);
    let cents: Decimal128Array = images.iter().map(|(.., row)| row.cents.map(i128::from)).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(images.iter().map(|(.., row)| Some(row.id)).collect::<Int64Array>()),
        Arc::new(images.iter().map(|(.., row)| row.part).collect::<Int32Array>()),
        Arc::new(cents.with_precision_and_scale(12, 2).unwrap()),
        Arc::new(images.iter().map(|(.., row)| row.note.clone()).collect::<StringArray>()),
    ];
    TableChanges {
        rows: RecordBatch::try_new(Arc::clone(schema.arrow()), columns).unwrap(),
        schema,
        absent: vec![],
        kind: images.iter().map(|(_, kind, _)| *kind as u8).collect(),
        ordinal: images.iter().map(|(ordinal, ..)| *ordinal).collect(),
        txn: vec![0; images.len()].into(),
    }
}

/// Numbers that look random and are the same every time.
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

impl Shop {
    /// Some transactions over all tables that there are.
    pub fn trade(&mut self, dice: &mut Dice, transactions: u64, keys: u64) {
        let tables: Vec<&'static str> =
            [ORDERS, ITEMS, NOTES].into_iter().filter(|table| self.ids.contains_key(*table)).collect();
        for _ in 0..transactions {
            let mut changes: Vec<Change> = vec![];
            let mut touched = BTreeSet::new();
            for _ in 0..1 + dice.next(6) {
                let table = tables[dice.next(tables.len() as u64) as usize];
                let id = dice.next(keys) as i64 - keys as i64 / 4;
                if !touched.insert((table, id)) {
                    continue;
                }
                let row = match table {
                    // Few different ones, so that there are several copies of some.
                    NOTES => row(id.rem_euclid(5), "again"),
                    _ => varied(row(id, &format!("{} at {}", table, self.scn)), self.scn as i64),
                };
                let is_there = match &self.content[table] {
                    Rows::Keyed(rows) => rows.contains_key(&id),
                    Rows::Counted(rows) => {
                        let gone =
                            changes.iter().filter(|c| matches!(c, Change::Delete(NOTES, r) if *r == row));
                        rows.get(&row).is_some_and(|count| *count > gone.count() as u64)
                    }
                };
                changes.push(match is_there && dice.next(3) == 0 {
                    true => Change::Delete(table, row),
                    false => Change::Set(table, row),
                });
            }
            self.change(&changes);
        }
    }
}
