//! The model of a table with a key: whatever is built, merged and copied in whatever order, what is read is what was done.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::DataType;
use proptest::prelude::*;
use tidemill_bootstrap_store::*;
use tidemill_event::{ColumnSchema, Position, RowKind, TableSchema};

use crate::common::{all, at, block_on, key, name, reader, state, store, window};

/// The key: a number and a text. The number's order in a source with another collation is not ours.
type Key = (i32, String);
type Row = (Key, Option<i64>);
type Table = BTreeMap<Key, Option<i64>>;

fn schema() -> Arc<TableSchema> {
    TableSchema::new(
        name(),
        vec![
            ColumnSchema::new("value", DataType::Int64, "bigint", true),
            ColumnSchema::new("shop", DataType::Utf8, "varchar(20)", false),
            ColumnSchema::new("id", DataType::Int32, "int", false),
        ],
        vec![2, 1],
    )
}

fn columns(rows: &[Row]) -> Vec<ArrayRef> {
    vec![
        Arc::new(rows.iter().map(|row| row.1).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| Some(&row.0.1)).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| row.0.0).collect::<Int32Array>()),
    ]
}

fn rows(batch: &RecordBatch) -> Vec<Row> {
    use arrow_array::Array;
    let (value, shop, id) =
        (batch.column(0).as_primitive::<Int64Type>(), batch.column(1).as_string::<i32>(), batch.column(2));
    let id = id.as_primitive::<Int32Type>();
    let value = |row| value.is_valid(row).then(|| value.value(row));
    (0..batch.num_rows()).map(|row| ((id.value(row), shop.value(row).to_owned()), value(row))).collect()
}

#[derive(Clone, Debug)]
enum Op {
    Put(u8, Option<i64>),
    Remove(u8),
    Move(u8, u8),
}

#[derive(Clone, Debug)]
enum Step {
    Transaction(Vec<Op>),
    Build,
    MergeRuns(u8, u8),
    MergeBase(bool),
    Truncate,
}

fn key_of(number: u8) -> Key {
    (i32::from(number / 4) - 5, ["", "a", "a\0", "é and a long one"][usize::from(number % 4)].to_owned())
}

/// Does it to the table, and says what the log says.
fn apply(table: &mut Table, ops: &[Op]) -> Vec<(RowKind, Row)> {
    let mut log = vec![];
    for op in ops {
        match op {
            Op::Put(k, value) => match table.insert(key_of(*k), *value) {
                Some(old) => {
                    log.push((RowKind::UpdateBefore, (key_of(*k), old)));
                    log.push((RowKind::UpdateAfter, (key_of(*k), *value)));
                }
                None => log.push((RowKind::Insert, (key_of(*k), *value))),
            },
            Op::Remove(k) => {
                if let Some(old) = table.remove(&key_of(*k)) {
                    log.push((RowKind::Delete, (key_of(*k), old)));
                }
            }
            Op::Move(from, to) if !table.contains_key(&key_of(*to)) => {
                if let Some(value) = table.remove(&key_of(*from)) {
                    table.insert(key_of(*to), value);
                    log.push((RowKind::UpdateBefore, (key_of(*from), value)));
                    log.push((RowKind::UpdateAfter, (key_of(*to), value)));
                }
            }
            Op::Move(..) => {}
        }
    }
    log
}

struct Model {
    store: Store,
    schema: Arc<TableSchema>,
    state: TableState,
    /// The table after each transaction, by position.
    history: Vec<Table>,
    log: Vec<Vec<(RowKind, Row)>>,
    applied: Position,
    options: MergeOptions,
}

impl Model {
    fn new(prefix: &[Vec<Op>]) -> Model {
        let schema = schema();
        let stored = StoredSchema::new(&schema, 1);
        let options =
            MergeOptions { complete_dirs: true, file_bytes: 1500, file_bytes_min: 1200, row_group_rows: 4 };
        let mut model = Model {
            store: store(),
            schema,
            state: state(stored, key(&[3, 2])),
            history: vec![Table::new()],
            log: vec![vec![]],
            applied: at(0),
            options,
        };
        prefix.iter().for_each(|ops| model.transaction(ops));
        model
    }

    fn now(&self) -> Position {
        at(self.history.len() as u64 - 1)
    }

    fn transaction(&mut self, ops: &[Op]) {
        let mut table = self.history.last().unwrap().clone();
        self.log.push(apply(&mut table, ops));
        self.history.push(table);
    }

    /// Copies the table in chunks, each read somewhere after its low mark, and builds the log from the lowest one on.
    async fn copy(&mut self, chunks: &[(u8, u8)]) {
        let (mut files, mut lowest) = (vec![], self.now());
        let end = self.history.len() - 1;
        for (number, (low, read)) in chunks.iter().enumerate() {
            let low = usize::from(*low) * end / 255;
            let read = low + usize::from(*read) * (end - low) / 255;
            let mine = |key: &Key| (key.0.rem_euclid(7) as usize * 3 + key.1.len()) % chunks.len() == number;
            let mut rows: Vec<Row> =
                self.history[read].iter().filter(|row| mine(row.0)).map(|(k, v)| (k.clone(), *v)).collect();
            rows.reverse();
            let schema = self.state.schema.clone();
            let mut writer = ChunkWriter::new(&self.store, "shop.orders", schema, self.state.key.clone());
            for rows in rows.chunks(5) {
                writer.add(RecordBatch::try_new(Arc::clone(self.schema.arrow()), columns(rows)).unwrap());
            }
            files.extend(writer.finish(number as u32, at(low as u64)).await.unwrap());
            lowest = lowest.min(at(low as u64));
        }
        self.state.base = Some(BaseVersion { path: None, at: lowest, files });
        self.applied = lowest;
        self.state.deltas_since = lowest;
        self.build().await;
    }

    async fn build(&mut self) {
        let mut builder = RunBuilder::new(self.state.schema.clone(), self.state.key.clone());
        for scn in self.applied.scn.0 + 1..=self.now().scn.0 {
            let (kinds, rows): (Vec<_>, Vec<_>) = self.log[scn as usize].iter().cloned().unzip();
            let window = window(&self.schema, scn, &kinds, columns(&rows), vec![]);
            builder.add(&window, &window.tables[0], 1).unwrap();
        }
        let run = builder.finish(&self.store, "shop.orders", self.applied, self.now()).await.unwrap();
        self.state.runs.extend(run);
        self.applied = self.now();
    }

    async fn step(&mut self, step: &Step) {
        match step {
            Step::Transaction(ops) => self.transaction(ops),
            Step::Build => self.build().await,
            Step::MergeRuns(from, count) => {
                let runs = self.state.runs.len();
                let from = usize::from(*from) % runs.max(1);
                let to = (from + 2 + usize::from(*count) % 3).min(runs);
                if to - from.min(to) >= 2 {
                    let run = merge_runs(&self.store, &self.state, &self.state.runs[from..to]).await.unwrap();
                    self.state.runs.splice(from..to, [run]);
                }
            }
            Step::MergeBase(complete) => {
                let options = MergeOptions { complete_dirs: *complete, ..self.options.clone() };
                let merged = merge_base(&self.store, &self.state, self.applied, &options).await;
                let (base, stats) = merged.unwrap();
                assert_eq!(stats.files_written + stats.files_kept, base.files.len() as u64);
                self.check_base(&base);
                self.state.base = Some(base);
                let merged = std::mem::take(&mut self.state.runs);
                self.state.merged_runs.extend(merged);
            }
            Step::Truncate => {
                self.log.push(vec![]);
                self.history.push(Table::new());
                self.applied = self.now();
                self.state.deltas_since = self.applied;
                self.state.base = None;
                self.state.runs.clear();
                self.state.merged_runs.clear();
            }
        }
    }

    /// A base version's files are disjoint and in order, with one schema.
    fn check_base(&self, base: &BaseVersion) {
        for pair in base.files.windows(2) {
            assert!(pair[0].last_key < pair[1].first_key, "{base:?}");
        }
        let directory = base.path.as_ref().unwrap();
        assert!(base.files.iter().all(|file| file.first_key <= file.last_key
            && file.at == self.applied
            && file.schema == self.state.schema.fingerprint()));
        assert!(directory.starts_with("shop.orders/snap-0000000000000000"), "{directory}");
        let rows: u64 = base.files.iter().map(|file| file.rows).sum();
        assert_eq!(rows, self.history[self.applied.scn.0 as usize].len() as u64);
    }

    async fn check_scan(&self, batch_rows: usize) {
        let expected = &self.history[self.applied.scn.0 as usize];
        let reader = reader(&self.store, &self.state, self.applied);
        let mut found = Table::new();
        let mut options = ScanOptions { batch_rows, ..ScanOptions::default() };
        // A new scan after each batch: what a consumer does that comes back.
        while let Some(batch) = reader.scan(options.clone()).next().await.unwrap() {
            found.extend(rows(&batch.rows));
            options.after = Some(batch.last_key);
        }
        assert_eq!(&found, expected);
        let whole = all(reader.scan(ScanOptions { batch_rows, ..ScanOptions::default() })).await;
        let whole: Vec<Row> = whole.iter().flat_map(|batch| rows(&batch.rows)).collect();
        assert_eq!(whole.len(), expected.len());
        let mut sorted = whole.clone();
        sorted.sort();
        assert_eq!(whole, sorted, "in key order");
    }

    async fn check_deltas(&self, batch_rows: usize) {
        let expected = &self.history[self.applied.scn.0 as usize];
        let reader = reader(&self.store, &self.state, self.applied);
        for since in self.state.deltas_since.scn.0..=self.applied.scn.0 {
            let mut table = self.history[since as usize].clone();
            let options = ScanOptions { batch_rows, ..ScanOptions::default() };
            for batch in all(reader.deltas(at(since), options)).await {
                assert!(batch.scn.iter().all(|scn| *scn > since as i64));
                for (place, (key, value)) in rows(&batch.rows).into_iter().enumerate() {
                    match batch.deleted.as_ref().is_some_and(|deleted| deleted.value(place)) {
                        true => drop(table.remove(&key)),
                        false => drop(table.insert(key, value)),
                    }
                }
            }
            assert_eq!(&table, expected, "since {since}");
        }
    }
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0u8..40, prop::option::weighted(0.8, any::<i64>())).prop_map(|(key, value)| Op::Put(key, value)),
        2 => (0u8..40).prop_map(Op::Remove),
        1 => (0u8..40, 0u8..40).prop_map(|(from, to)| Op::Move(from, to)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::vec(op(), 1..6).prop_map(Step::Transaction),
        4 => Just(Step::Build),
        2 => (any::<u8>(), any::<u8>()).prop_map(|(from, count)| Step::MergeRuns(from, count)),
        2 => any::<bool>().prop_map(Step::MergeBase),
        1 => Just(Step::Truncate),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(debug_assertions) { 96 } else { 1500 }, ..ProptestConfig::default() })]
    #[test]
    fn whatever_is_built_and_merged_what_is_read_is_what_was_done(
        prefix in prop::collection::vec(prop::collection::vec(op(), 1..12), 1..6),
        chunks in prop::collection::vec((any::<u8>(), any::<u8>()), 1..4),
        steps in prop::collection::vec(step(), 1..24),
        batch_rows in 1usize..9,
    ) {
        block_on(async {
            let mut model = Model::new(&prefix);
            model.copy(&chunks).await;
            model.check_scan(batch_rows).await;
            for step in &steps {
                model.step(step).await;
                model.check_scan(batch_rows).await;
            }
            model.build().await;
            model.check_scan(batch_rows).await;
            model.check_deltas(batch_rows).await;
        });
    }
}

#[test]
fn a_chunk_that_was_empty_does_not_hide_rows_that_came_later() {
    block_on(async {
        let mut model = Model::new(&[vec![Op::Put(7, None), Op::Put(37, None)]]);
        model.copy(&[(255, 0), (0, 0)]).await;
        assert_eq!(model.state.base.as_ref().unwrap().files.len(), 1, "one chunk had no rows");
        model.check_scan(1).await;
    });
}

#[test]
fn a_change_of_a_later_timeline_is_newer_whatever_its_clock_says() {
    block_on(async {
        let (schema, store) = (schema(), store());
        let mut state = state(StoredSchema::new(&schema, 1), key(&[3, 2]));
        let mut after = at(80);
        for (timeline, scn, value) in [(1, 90, 1), (2, 4, 2)] {
            let row = (key_of(1), Some(value));
            let window = window(&schema, scn, &[RowKind::UpdateAfter], columns(&[row]), vec![]);
            let mut builder = RunBuilder::new(state.schema.clone(), state.key.clone());
            builder.add(&window, &window.tables[0], timeline).unwrap();
            let upto = Position { timeline, ..at(scn) };
            state.runs.extend(builder.finish(&store, "shop.orders", after, upto).await.unwrap());
            after = upto;
        }
        let newest = [(key_of(1), Some(2))];
        let reader = reader(&store, &state, after);
        assert_eq!(rows(&all(reader.scan(ScanOptions::default())).await[0].rows), newest);
        let batches = all(reader.deltas(at(90), ScanOptions::default())).await;
        assert_eq!((rows(&batches[0].rows), &batches[0].scn[..]), (newest.to_vec(), &[4][..]));
        let merged = merge_runs(&store, &state, &state.runs).await.unwrap();
        assert_eq!((merged.rows, merged.level, merged.after, merged.upto), (1, 1, at(80), after));
        state.runs = vec![merged];
        let (base, _) = merge_base(&store, &state, after, &MergeOptions::default()).await.unwrap();
        (state.base, state.runs) = (Some(base), vec![]);
        let reader = crate::common::reader(&store, &state, after);
        assert_eq!(rows(&all(reader.scan(ScanOptions::default())).await[0].rows), newest);
    });
}
