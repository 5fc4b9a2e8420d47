//! The model of a table without key: equal rows are counted.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int16Type;
use arrow_array::{Array, ArrayRef, Int16Array, RecordBatch, StringArray};
use arrow_schema::DataType;
use proptest::prelude::*;
use tidemill_bootstrap_store::*;
use tidemill_event::{ColumnSchema, RowKind, TableSchema};

use crate::common::{all, at, block_on, name, reader, state, store, window};

type Row = (Option<i16>, Option<String>);
type Table = BTreeMap<Row, u32>;

fn schema() -> Arc<TableSchema> {
    let columns = vec![
        ColumnSchema::new("a", DataType::Int16, "smallint", true),
        ColumnSchema::new("b", DataType::Utf8, "text", true),
    ];
    TableSchema::new(name(), columns, vec![])
}

fn columns(rows: &[Row]) -> Vec<ArrayRef> {
    vec![
        Arc::new(rows.iter().map(|row| row.0).collect::<Int16Array>()),
        Arc::new(rows.iter().map(|row| row.1.as_ref()).collect::<StringArray>()),
    ]
}

fn rows(batch: &RecordBatch) -> Vec<Row> {
    let (a, b) = (batch.column(0).as_primitive::<Int16Type>(), batch.column(1).as_string::<i32>());
    let row = |row| (a.is_valid(row).then(|| a.value(row)), b.is_valid(row).then(|| b.value(row).to_owned()));
    (0..batch.num_rows()).map(row).collect()
}

fn row_of(number: u8) -> Row {
    let a = (!number.is_multiple_of(4)).then_some(i16::from(number % 4) - 2);
    (a, (number / 4 != 0).then(|| "x".repeat(usize::from(number / 4) - 1)))
}

#[derive(Clone, Debug)]
enum Step {
    Add(u8, u8),
    Remove(u8, u8),
    Change(u8, u8),
    Build,
    MergeRuns,
    MergeBase,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u8..12, 1u8..9).prop_map(|(row, count)| Step::Add(row, count)),
        3 => (0u8..12, 1u8..9).prop_map(|(row, count)| Step::Remove(row, count)),
        2 => (0u8..12, 0u8..12).prop_map(|(from, to)| Step::Change(from, to)),
        3 => Just(Step::Build),
        1 => Just(Step::MergeRuns),
        1 => Just(Step::MergeBase),
    ]
}

fn apply(table: &mut Table, step: &Step) -> Vec<(RowKind, Row)> {
    let mut log = vec![];
    let take = |table: &mut Table, row: &Row| {
        let count = table.get_mut(row).filter(|count| **count > 0);
        count.map(|count| *count -= 1).is_some()
    };
    match step {
        Step::Add(row, count) => {
            *table.entry(row_of(*row)).or_default() += u32::from(*count);
            log.extend((0..*count).map(|_| (RowKind::Insert, row_of(*row))));
        }
        Step::Remove(row, count) => {
            for _ in 0..*count {
                if take(table, &row_of(*row)) {
                    log.push((RowKind::Delete, row_of(*row)));
                }
            }
        }
        Step::Change(from, to) if take(table, &row_of(*from)) => {
            *table.entry(row_of(*to)).or_default() += 1;
            log.push((RowKind::UpdateBefore, row_of(*from)));
            log.push((RowKind::UpdateAfter, row_of(*to)));
        }
        _ => {}
    }
    table.retain(|_, count| *count > 0);
    log
}

async fn check(store: &Store, state: &TableState, applied: u64, expected: &Table, batch_rows: usize) {
    let reader = reader(store, state, at(applied));
    let mut found = Table::new();
    let mut options = ScanOptions { batch_rows, ..ScanOptions::default() };
    while let Some(batch) = reader.scan(options.clone()).next().await.unwrap() {
        rows(&batch.rows).into_iter().for_each(|row| *found.entry(row).or_default() += 1);
        options.after = Some(batch.last_key);
    }
    assert_eq!(&found, expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(debug_assertions) { 96 } else { 1500 }, ..ProptestConfig::default() })]
    #[test]
    fn equal_rows_are_counted_through_every_merge(
        copied in prop::collection::vec((0u8..12, 1u32..9), 0..8),
        steps in prop::collection::vec(step(), 1..24),
        batch_rows in 1usize..9,
    ) {
        block_on(async {
            let (schema, store) = (schema(), store());
            let mut state = state(StoredSchema::new(&schema, 1), TableKey::WholeRow);
            let options = MergeOptions { complete_dirs: true, file_bytes: 900, file_bytes_min: 700, row_group_rows: 3 };
            let mut table = Table::new();
            copied.iter().for_each(|(row, count)| *table.entry(row_of(*row)).or_default() += count);
            let copy: Vec<Row> =
                table.iter().rev().flat_map(|(row, count)| (0..*count).map(|_| row.clone())).collect();
            let mut writer = ChunkWriter::new(&store, "shop.orders", state.schema.clone(), state.key.clone());
            writer.add(RecordBatch::try_new(Arc::clone(schema.arrow()), columns(&copy)).unwrap());
            let files = writer.finish(0, at(5)).await.unwrap();
            state.base = Some(BaseVersion { path: None, at: at(5), files });
            let (mut now, mut applied) = (5, 5);
            let mut built = table.clone();
            let mut log: Vec<Vec<(RowKind, Row)>> = vec![];
            for step in steps.iter().chain([&Step::Build]) {
                match step {
                    Step::Build => {
                        let mut builder = RunBuilder::new(state.schema.clone(), TableKey::WholeRow);
                        for (scn, rows) in (applied + 1..).zip(log.drain(..)) {
                            let (kinds, rows): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
                            let window = window(&schema, scn, &kinds, columns(&rows), vec![]);
                            builder.add(&window, &window.tables[0], 1).unwrap();
                        }
                        state.runs.extend(builder.finish(&store, "shop.orders", at(applied), at(now)).await.unwrap());
                        applied = now;
                        built = table.clone();
                    }
                    Step::MergeRuns if state.runs.len() > 1 => {
                        let run = merge_runs(&store, &state, &state.runs).await.unwrap();
                        state.runs = vec![run];
                    }
                    Step::MergeRuns => {}
                    Step::MergeBase => {
                        let (base, _) = merge_base(&store, &state, at(applied), &options).await.unwrap();
                        state.base = Some(base);
                        state.merged_runs.append(&mut state.runs);
                    }
                    step => {
                        log.push(apply(&mut table, step));
                        now += 1;
                    }
                }
                check(&store, &state, applied, &built, batch_rows).await;
            }
        });
    }
}

fn one(schema: &Arc<TableSchema>, scn: u64, kind: RowKind) -> tidemill_event::Window {
    window(schema, scn, &[kind], columns(&[row_of(5)]), vec![])
}

#[test]
fn more_deletes_than_copies_are_an_error_that_names_the_table() {
    block_on(async {
        let (schema, store) = (schema(), store());
        let mut state = state(StoredSchema::new(&schema, 1), TableKey::WholeRow);
        let mut builder = RunBuilder::new(state.schema.clone(), TableKey::WholeRow);
        let window = one(&schema, 6, RowKind::Delete);
        builder.add(&window, &window.tables[0], 1).unwrap();
        state.runs.extend(builder.finish(&store, "shop.orders", at(5), at(6)).await.unwrap());
        let error = reader(&store, &state, at(6)).scan(ScanOptions::default()).next().await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "shop.orders, which has no key, would have -1 copies of a row; its copy and its log do not fit, let it be cloned again"
        );
        assert!(merge_base(&store, &state, at(6), &MergeOptions::default()).await.is_err());
    });
}

#[test]
fn what_a_copy_without_key_has_already_is_left_out_of_its_first_run() {
    block_on(async {
        let (schema, store) = (schema(), store());
        let mut state = state(StoredSchema::new(&schema, 1), TableKey::WholeRow);
        let mut writer = ChunkWriter::new(&store, "shop.orders", state.schema.clone(), state.key.clone());
        writer.add(RecordBatch::try_new(Arc::clone(schema.arrow()), columns(&[row_of(5)])).unwrap());
        let files = writer.finish(0, at(5)).await.unwrap();
        state.base = Some(BaseVersion { path: None, at: at(5), files });
        let mut builder = RunBuilder::new(state.schema.clone(), TableKey::WholeRow);
        builder.skip_upto(at(5));
        for scn in 4..7 {
            let window = one(&schema, scn, RowKind::Insert);
            builder.add(&window, &window.tables[0], 1).unwrap();
        }
        let run = builder.finish(&store, "shop.orders", at(3), at(6)).await.unwrap().unwrap();
        // A run that begins before the copy and was not told so could not be told apart.
        state.runs = vec![run.clone()];
        let reader_of = |state: &TableState| reader(&store, state, at(6)).scan(ScanOptions::default());
        assert!(reader_of(&state).next().await.unwrap_err().to_string().contains("begins before its copy"));
        state.runs = vec![Run { after: at(5), ..run }];
        let batches = all(reader_of(&state)).await;
        assert_eq!(rows(&batches[0].rows), [row_of(5), row_of(5)]);
        let error = reader(&store, &state, at(6)).deltas(at(5), ScanOptions::default()).next().await;
        assert!(error.unwrap_err().to_string().starts_with("shop.orders has no key"));
    });
}
