//! Reads versions of a store and compares them with the model.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::{Array, Int64Array, RecordBatch, StringArray};
use tidemill_bootstrap_store::{
    BaseFile, Manifest, Run, ScanOptions, Store, TableKey, TablePhase, TableReader, TableState,
};

use super::model::{Model, Table, Values};

/// Rows by id, each column by its name.
pub type Rows = BTreeMap<i64, BTreeMap<String, Option<String>>>;

fn rows(batch: &RecordBatch, into: &mut Vec<(i64, BTreeMap<String, Option<String>>)>) {
    let schema = batch.schema();
    for row in 0..batch.num_rows() {
        let (mut id, mut values) = (0, BTreeMap::new());
        for (field, column) in schema.fields().iter().zip(batch.columns()) {
            match column.as_any().downcast_ref::<StringArray>() {
                Some(texts) => {
                    let value = texts.is_valid(row).then(|| texts.value(row).to_owned());
                    values.insert(field.name().clone(), value);
                }
                None => id = column.as_any().downcast_ref::<Int64Array>().unwrap().value(row),
            }
        }
        into.push((id, values));
    }
}

/// The table as a version has it.
pub async fn scan(store: &Store, manifest: &Manifest, table: &Arc<TableState>) -> Rows {
    let reader = TableReader::new(store.clone(), Arc::clone(table), manifest.applied.position);
    let (mut scan, mut all) = (reader.scan(ScanOptions { batch_rows: 7, ..Default::default() }), vec![]);
    while let Some(batch) = scan.next().await.unwrap() {
        rows(&batch.rows, &mut all);
    }
    let count = all.len();
    let rows: Rows = all.into_iter().collect();
    assert_eq!(rows.len(), count, "{} has a row twice", table.name);
    rows
}

/// The rows of a table of the model, with these columns only.
pub fn project(table: &Table, columns: &[String]) -> Rows {
    let project = |values: &Values| -> BTreeMap<String, Option<String>> {
        let value = |column: &String| {
            let at = table.columns.iter().position(|known| known == column);
            (column.clone(), at.and_then(|at| values[at].clone()))
        };
        columns.iter().map(value).collect()
    };
    table.rows.iter().map(|(id, values)| (*id, project(values))).collect()
}

pub fn columns(table: &TableState) -> Vec<String> {
    table.schema.columns.iter().map(|c| c.name.clone()).filter(|name| name != "id").collect()
}

/// A table in a few words.
fn describe(table: &TableState) -> String {
    let run = |run: &Run| format!("{}..{} level {}", run.after, run.upto, run.level);
    let runs = |runs: &[Run]| runs.iter().map(run).collect::<Vec<_>>().join(", ");
    let file = |file: &BaseFile| format!("{} rows at {}", file.rows, file.at);
    let base = table.base.as_ref().map(|base| {
        let files: Vec<String> = base.files.iter().map(file).collect();
        format!("{:?} at {} with {files:?}", base.path, base.at)
    });
    let (name, key, phase) = (&table.name, &table.key, &table.phase);
    let (open, merged) = (runs(&table.runs), runs(&table.merged_runs));
    format!(
        "{name} {key:?} {phase:?}, base {base:?}, runs {open}, merged {merged}, since {}",
        table.deltas_since
    )
}

/// Every table of a version that is ready is the source as of `applied`; every table with rows is there in some phase.
pub async fn check(store: &Store, model: &Model, manifest: &Manifest) -> usize {
    let at = manifest.applied.position;
    let truth = model.at(at);
    let mut ready = 0;
    for (name, table_ref) in &manifest.tables {
        let table = store.table(table_ref).await.unwrap();
        assert_eq!(table.name.to_string(), *name);
        if table.phase != TablePhase::Ready {
            continue;
        }
        let context = format!("manifest {} at {at}: {}", manifest.number, describe(&table));
        let source = truth.get(&table.name).unwrap_or_else(|| panic!("there is no such table: {context}"));
        let stored = columns(&table);
        let read = scan(store, manifest, &table).await;
        assert_eq!(read, project(source, &stored), "{context}");
        // A column that is not stored yet has no value in any row.
        for (at, column) in source.columns.iter().enumerate().filter(|(_, c)| !stored.contains(c)) {
            assert!(
                source.rows.values().all(|row| row[at].is_none()),
                "column {column} is missing: {context}"
            );
        }
        assert!(stored.iter().all(|column| source.columns.contains(column)), "{context}");
        ready += 1;
    }
    ready
}

/// What changed since an older version leads from the source as it was then to the source as it is at this one.
pub async fn check_deltas(store: &Store, model: &Model, old: &Manifest, new: &Manifest) -> usize {
    let (since, at) = (old.applied.position, new.applied.position);
    let mut checked = 0;
    for table_ref in new.tables.values() {
        let table = store.table(table_ref).await.unwrap();
        let same = table.phase == TablePhase::Ready && table.key != TableKey::WholeRow;
        if !same || table.deltas_since > since {
            continue;
        }
        let (before, after) = (model.at(since).get(&table.name), &model.at(at)[&table.name]);
        let before =
            before.unwrap_or_else(|| panic!("deltas of {} since {since}: it was not there", table.name));
        let stored = columns(&table);
        let mut state = project(before, &stored);
        // Columns that were renamed or are new have other values than by their name.
        if before.columns != after.columns {
            continue;
        }
        let reader = TableReader::new(store.clone(), Arc::clone(&table), at);
        let mut deltas = reader.deltas(since, ScanOptions::default());
        while let Some(batch) = deltas.next().await.unwrap() {
            let mut changed = vec![];
            rows(&batch.rows, &mut changed);
            for (row, (id, values)) in changed.into_iter().enumerate() {
                if batch.deleted.as_ref().is_some_and(|deleted| deleted.value(row)) {
                    state.remove(&id);
                } else {
                    state.insert(id, values);
                }
            }
        }
        assert_eq!(state, project(after, &stored), "deltas of {} from {since} to {at}", table.name);
        checked += 1;
    }
    checked
}
