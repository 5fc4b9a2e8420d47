//! Files: which are written anew, which stay, what a reader spares, and what happens to those of an older schema.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, Int16Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow_buffer::BooleanBuffer;
use arrow_schema::DataType;
use tidemill_bootstrap_store::*;
use tidemill_event::{ColumnSchema, Position, RowKind, TableSchema};
use tidemill_world::faulty::{Fault, Faults, FaultyStore, Op};
use tidemill_world::objects as worlds;

use crate::common::{all, at, block_on, key, name, objects, reader, state, store, window};

fn schema() -> Arc<TableSchema> {
    let columns = vec![
        ColumnSchema::new("id", DataType::Int64, "bigint", false),
        ColumnSchema::new("note", DataType::Utf8, "text", true),
    ];
    TableSchema::new(name(), columns, vec![0])
}

fn columns(ids: &[i64], note: &str) -> Vec<ArrayRef> {
    vec![
        Arc::new(Int64Array::from(ids.to_vec())),
        Arc::new(StringArray::from_iter_values(ids.iter().map(|id| format!("{note} {id}")))),
    ]
}

/// Notes that do not compress, so that a file is too large to be read whole.
fn long_notes(ids: &[i64]) -> ArrayRef {
    let note = |id: &i64| {
        let hash = id.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64);
        format!("first {id} {hash:016x}{:016x}", hash.rotate_left(29).wrapping_mul(hash | 1))
    };
    Arc::new(StringArray::from_iter_values(ids.iter().map(note)))
}

/// A table of that many rows with even ids, in files of so many, as if it had been published at 1.
async fn table(store: &Store, ids: i64, file_rows: usize) -> TableState {
    let schema = schema();
    let mut state = state(StoredSchema::new(&schema, 1), key(&[1]));
    let mut files = vec![];
    let ids: Vec<i64> = (0..ids).map(|id| 2 * id).collect();
    for ids in ids.chunks(file_rows) {
        let mut writer = ChunkWriter::new(store, "shop.orders", state.schema.clone(), state.key.clone());
        let mut columns = columns(ids, "first");
        if file_rows > 100_000 {
            columns[1] = long_notes(ids);
        }
        writer.add(RecordBatch::try_new(Arc::clone(schema.arrow()), columns).unwrap());
        files.extend(writer.finish(0, at(1)).await.unwrap());
    }
    state.base = Some(BaseVersion { path: Some("shop.orders/made".to_owned()), at: at(1), files });
    state
}

async fn change(store: &Store, state: &mut TableState, scn: u64, kind: RowKind, ids: &[i64]) {
    let mut builder = RunBuilder::new(state.schema.clone(), state.key.clone());
    let window = window(&schema(), scn, &vec![kind; ids.len()], columns(ids, "then"), vec![]);
    builder.add(&window, &window.tables[0], 1).unwrap();
    assert_eq!(builder.rows(), ids.len() as u64);
    assert!(builder.bytes() > 0);
    let run = builder.finish(store, "shop.orders", at(scn - 1), at(scn)).await.unwrap().unwrap();
    assert_eq!((run.rows, run.time_us), (ids.len() as u64, scn as i64 * 1000));
    assert_eq!(run.deletes, if kind == RowKind::Delete { run.rows } else { 0 });
    state.runs.push(run);
}

fn options(file_bytes: u64, file_bytes_min: u64) -> MergeOptions {
    MergeOptions { complete_dirs: true, file_bytes, file_bytes_min, row_group_rows: 1 << 17 }
}

/// Ids and notes of a scan.
async fn read(store: &Store, state: &TableState, options: ScanOptions) -> Vec<(i64, String)> {
    let batches = all(reader(store, state, at(99)).scan(options)).await;
    let mut found = vec![];
    for batch in &batches {
        let (ids, notes) = (batch.rows.column(0).as_primitive::<Int64Type>(), batch.rows.column(1));
        let notes = notes.as_string::<i32>();
        found.extend((0..ids.len()).map(|row| (ids.value(row), notes.value(row).to_owned())));
    }
    found
}

#[test]
fn a_merge_writes_only_the_files_that_changes_hit() {
    block_on(async {
        let store = store();
        let mut state = table(&store, 50, 10).await;
        change(&store, &mut state, 2, RowKind::UpdateAfter, &[44]).await;
        let (base, stats) = merge_base(&store, &state, at(2), &options(1 << 20, 0)).await.unwrap();
        assert_eq!((stats.files_kept, stats.files_written, stats.base_rows_read), (4, 1, 10));
        assert_eq!(base.files.iter().map(|file| file.rows).sum::<u64>(), 50);
        let before = state.base.clone().unwrap();
        for place in [0, 1, 3, 4] {
            assert_eq!(base.files[place].object.crc32c, before.files[place].object.crc32c);
            assert_ne!(base.files[place].object.path, before.files[place].object.path);
        }
        let directory = base.path.clone().unwrap();
        assert!(base.files.iter().all(|file| file.object.path.starts_with(&directory) && file.at == at(2)));
        let paths: Vec<String> = objects(&store).await.into_iter().map(|(path, _)| path).collect();
        let here = |path: &&String| path.starts_with(&format!("shop/{directory}/"));
        assert_eq!(paths.iter().filter(here).count(), 8, "files and what tells of them: {paths:?}");

        let here = MergeOptions { complete_dirs: false, ..options(1 << 20, 0) };
        let (base, _) = merge_base(&store, &state, at(2), &here).await.unwrap();
        assert_eq!(
            base.files[0].object, before.files[0].object,
            "a file that is not copied stays where it is"
        );
    });
}

#[test]
fn a_version_that_is_being_made_of_old_files_is_no_garbage() {
    block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let objects = worlds::open(&format!("file://{}", dir.path().display())).unwrap();
        let faults = Faults::default();
        let store = Store::new(Arc::new(FaultyStore::new(objects, faults.clone())), "shop");
        let writer = store.open_writer(WriterOptions::default()).await.unwrap();
        let table = table(&store, 30, 10).await;
        let change = |draft: &mut Draft| {
            let id = draft.next_table_id();
            draft.tables.insert(id, TableState { id, ..table.clone() });
        };
        writer.commit(change).await.unwrap();
        let (now, days) = (SystemTime::now(), Duration::from_secs(3 * 24 * 3600));
        for file in &table.base.as_ref().unwrap().files {
            let file = dir.path().join("shop").join(&file.object.path);
            std::fs::File::open(file).unwrap().set_modified(now - days).unwrap();
        }
        faults.only(Op::Copy);
        faults.at(2, Fault::Fail);
        // The first file is there, and the second not yet.
        merge_base(&store, &table, at(2), &options(1 << 20, 0)).await.unwrap_err();
        let now_us = now.duration_since(UNIX_EPOCH).unwrap().as_micros() as i64;
        let parts = || async { objects_of_versions(&store).await };
        assert_eq!(parts().await, 2);
        writer.collect_garbage(&Retention::default(), now_us).await.unwrap();
        assert_eq!(parts().await, 2);
        let later = now_us + days.as_micros() as i64;
        writer.collect_garbage(&Retention::default(), later).await.unwrap();
        assert_eq!(parts().await, 0, "nobody goes on with it");
    });
}

async fn objects_of_versions(store: &Store) -> usize {
    objects(store).await.iter().filter(|(path, _)| path.contains("/snap-")).count()
}

#[test]
fn rows_at_the_tail_leave_large_files_alone_and_small_ones_grow() {
    block_on(async {
        let store = store();
        let mut state = table(&store, 30, 10).await;
        change(&store, &mut state, 2, RowKind::Insert, &[1001, 1003]).await;
        let (base, stats) = merge_base(&store, &state, at(2), &options(1 << 20, 0)).await.unwrap();
        assert_eq!((stats.files_kept, stats.files_written, stats.base_rows_read), (3, 1, 0));
        state.base = Some(base);
        state.runs.clear();
        change(&store, &mut state, 3, RowKind::Insert, &[1005]).await;
        let (base, stats) = merge_base(&store, &state, at(3), &options(1 << 20, 1 << 20)).await.unwrap();
        assert_eq!((stats.files_kept, stats.files_written), (3, 1), "the last file, which is small, grew");
        assert_eq!(base.files[3].rows, 3);
        state.base = Some(base);
        state.runs.clear();
        assert_eq!(read(&store, &state, ScanOptions::default()).await.len(), 33);
    });
}

#[test]
fn a_file_that_grew_is_split_and_a_table_that_shrank_to_nothing_has_one_empty_file() {
    block_on(async {
        let store = store();
        let mut state = table(&store, 20_000, 20_000).await;
        change(&store, &mut state, 2, RowKind::Insert, &(0..20_000).map(|id| 2 * id + 1).collect::<Vec<_>>())
            .await;
        let (base, _) = merge_base(&store, &state, at(2), &options(60_000, 0)).await.unwrap();
        assert!(base.files.len() > 2, "{}", base.files.len());
        assert!(base.files.windows(2).all(|pair| pair[0].last_key < pair[1].first_key));
        state.base = Some(base);
        state.runs.clear();
        let all_rows = read(&store, &state, ScanOptions::default()).await;
        assert_eq!(all_rows.len(), 40_000);
        assert!(all_rows.iter().enumerate().all(|(place, row)| row.0 == place as i64));

        change(&store, &mut state, 3, RowKind::Delete, &(0..40_000).collect::<Vec<_>>()).await;
        let (base, _) = merge_base(&store, &state, at(3), &options(60_000, 0)).await.unwrap();
        assert_eq!((base.files.len(), base.files[0].rows), (1, 0));
        state.base = Some(base);
        state.runs.clear();
        assert_eq!(read(&store, &state, ScanOptions::default()).await, []);
        change(&store, &mut state, 4, RowKind::Insert, &[7]).await;
        let (base, _) = merge_base(&store, &state, at(4), &options(60_000, 0)).await.unwrap();
        assert_eq!((base.files.len(), base.files[0].rows), (1, 1));
    });
}

#[test]
fn a_scan_reads_only_the_row_groups_of_its_keys_and_ranges() {
    block_on(async {
        let store = store();
        let mut state = table(&store, 300_000, 300_000).await;
        assert_eq!(state.base.as_ref().unwrap().files.len(), 1);
        assert!(state.base.as_ref().unwrap().files[0].object.bytes > 2 << 20, "read by ranges, not whole");
        change(&store, &mut state, 2, RowKind::UpdateAfter, &[10, 300_000, 599_998]).await;
        let whole = read(&store, &state, ScanOptions::default()).await;
        assert_eq!(whole.len(), 300_000);
        assert_eq!((&whole[5].1[..], &whole[6].1[..8]), ("then 10", "first 12"));

        let mut scan =
            reader(&store, &state, at(2)).scan(ScanOptions { batch_rows: 100, ..Default::default() });
        let mut last_keys = vec![];
        for _ in 0..3 {
            last_keys.push(scan.next().await.unwrap().unwrap().last_key);
        }
        let part = ScanOptions {
            after: Some(last_keys[0].clone()),
            upto: Some(last_keys[2].clone()),
            ..ScanOptions::default()
        };
        assert_eq!(read(&store, &state, part).await, whole[100..300]);

        let one = |id: i64| Some(Arc::new(Int64Array::from(vec![id])) as ArrayRef);
        let range = ColumnRange { column: "id".to_owned(), low: one(590_000), high: None };
        let spared = read(&store, &state, ScanOptions { ranges: vec![range], ..Default::default() }).await;
        // Rows of runs come in any case; of the base only the last row group, which begins at row 262,144.
        assert_eq!(spared.len(), 300_000 - 262_144 + 2);
        assert_eq!((spared[0].0, &spared[1].1[..]), (10, "then 300000"));
        let text = |text: &str| Some(Arc::new(StringArray::from(vec![text])) as ArrayRef);
        let none = ColumnRange { column: "note".to_owned(), low: text("g"), high: text("h") };
        let spared = read(&store, &state, ScanOptions { ranges: vec![none], ..Default::default() }).await;
        assert_eq!(spared.len(), 3);

        // Of a range of the key even runs are left out, in deltas too: no version of a key has another one.
        let between = |low: i64, high: i64| ScanOptions {
            ranges: vec![ColumnRange { column: "id".to_owned(), low: one(low), high: one(high) }],
            ..ScanOptions::default()
        };
        change(&store, &mut state, 3, RowKind::Delete, &[100, 102]).await;
        let ids = |batches: Vec<Batch>| batches.iter().map(|batch| batch.rows.num_rows()).sum::<usize>();
        let deltas = |options| all(reader(&store, &state, at(3)).deltas(at(2), options));
        assert_eq!(ids(deltas(between(0, 100)).await), 2);
        assert_eq!(ids(deltas(between(104, 200)).await), 0);
        assert_eq!(ids(deltas(between(0, 99)).await), 0);
    });
}

#[test]
fn a_row_that_a_range_leaves_out_brings_no_older_version_of_it_back() {
    block_on(async {
        let store = store();
        let mut state = table(&store, 10, 10).await;
        change(&store, &mut state, 2, RowKind::UpdateAfter, &[4]).await;
        // Chunks of a copy, read after that: they are newer than the run, which others may need.
        let base = state.base.as_mut().unwrap();
        (base.path, base.files[0].at) = (None, at(5));
        assert_eq!(read(&store, &state, ScanOptions::default()).await[2], (4, "first 4".to_owned()));
        let text = |text: &str| Some(Arc::new(StringArray::from(vec![text])) as ArrayRef);
        let range = ColumnRange { column: "note".to_owned(), low: text("t"), high: None };
        let spared = read(&store, &state, ScanOptions { ranges: vec![range], ..Default::default() }).await;
        assert!(!spared.contains(&(4, "then 4".to_owned())), "{spared:?}");
    });
}

fn evolved() -> Arc<TableSchema> {
    let columns = vec![
        ColumnSchema::new("id", DataType::Int64, "bigint", false),
        ColumnSchema::new("count", DataType::Int64, "bigint", true),
        ColumnSchema::new("added", DataType::Utf8, "text", true),
    ];
    TableSchema::new(name(), columns, vec![0])
}

#[test]
fn files_of_an_older_schema_are_read_as_the_table_is_now() {
    block_on(async {
        let store = store();
        let then = TableSchema::new(
            name(),
            vec![
                ColumnSchema::new("dropped", DataType::Utf8, "text", true),
                ColumnSchema::new("id", DataType::Int16, "smallint", false),
                ColumnSchema::new("number", DataType::Int32, "int", true),
            ],
            vec![1],
        );
        let old = StoredSchema::new(&then, 1);
        let mut state = state(old.clone(), key(&[2]));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec!["x", "y"])),
            Arc::new(Int16Array::from(vec![-7, 8])),
            Arc::new(Int32Array::from(vec![Some(i32::MIN), None])),
        ];
        let mut writer = ChunkWriter::new(&store, "shop.orders", old.clone(), state.key.clone());
        writer.add(RecordBatch::try_new(Arc::clone(then.arrow()), columns).unwrap());
        let files = writer.finish(0, at(1)).await.unwrap();
        state.base = Some(BaseVersion { path: Some("made".to_owned()), at: at(1), files });

        let mut new = StoredSchema::new(&evolved(), 1);
        (new.columns[0].field, new.columns[1].field, new.columns[2].field) = (2, 3, 4);
        state.schema = new;
        let check = async |state: &TableState| {
            let batches = all(reader(&store, state, at(9)).scan(ScanOptions::default())).await;
            let rows = &batches[0].rows;
            assert_eq!(&rows.schema(), evolved().arrow());
            assert_eq!(rows.column(0).as_ref(), &Int64Array::from(vec![-7, 8]) as &dyn Array);
            let counts = Int64Array::from(vec![Some(i64::from(i32::MIN)), None]);
            assert_eq!(rows.column(1).as_ref(), &counts as &dyn Array);
            assert_eq!(rows.column(2).null_count(), 2);
        };
        check(&state).await;
        let (base, stats) = merge_base(&store, &state, at(1), &options(1 << 20, 0)).await.unwrap();
        assert_eq!((stats.files_kept, stats.files_written), (0, 1), "one schema in a directory");
        let merged = TableState { base: Some(base), ..state.clone() };
        check(&merged).await;

        // Dropped and made again: the same names and types, other values.
        let mut again = merged.clone();
        again.schema.columns[1].field = 9;
        let (base, stats) = merge_base(&store, &again, at(1), &options(1 << 20, 0)).await.unwrap();
        assert_eq!((stats.files_kept, stats.files_written), (0, 1));
        again.base = Some(base);
        let batches = all(reader(&store, &again, at(9)).scan(ScanOptions::default())).await;
        assert_eq!(batches[0].rows.column(1).null_count(), 2);

        let mut narrowed = merged.clone();
        narrowed.schema.columns[1].data_type = ColumnType(DataType::Int16);
        let error = reader(&store, &narrowed, at(9)).scan(ScanOptions::default()).next().await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "column `count` changed from Int64 to Int16, which does not hold every value; let the table be cloned again"
        );
    });
}

#[test]
fn an_upsert_without_all_values_is_an_error_that_says_how_to_mend_it() {
    let schema = schema();
    let absent = vec![None, Some(BooleanBuffer::from(vec![true]))];
    let builder = || RunBuilder::new(StoredSchema::new(&schema, 1), key(&[1]));
    let missing = |kind| window(&schema, 7, &[kind], columns(&[1], ""), absent.clone());
    let update = missing(RowKind::UpdateAfter);
    let error = builder().add(&update, &update.tables[0], 3).unwrap_err();
    assert_eq!(
        error.to_string(),
        "shop.orders at 3/7: the log does not have the value of column `note`; set binlog_row_image=FULL at the source, and \
         let the table be cloned again"
    );
    let delete = missing(RowKind::Delete);
    builder().add(&delete, &delete.tables[0], 3).unwrap();
    let keyless = vec![Some(BooleanBuffer::from(vec![true])), None];
    let delete = window(&schema, 7, &[RowKind::Delete], columns(&[1], ""), keyless);
    assert!(builder().add(&delete, &delete.tables[0], 3).is_err(), "a tombstone needs its key");
}

#[test]
fn what_is_stored_is_checked_when_it_is_read() {
    block_on(async {
        let store = store();
        let mut state = table(&store, 10, 10).await;
        state.base.as_mut().unwrap().files[0].object.crc32c ^= 1;
        let error = reader(&store, &state, at(1)).scan(ScanOptions::default()).next().await.unwrap_err();
        assert!(matches!(error, DataError::Store(StoreError::Damaged(_))), "{error}");
    });
}

#[test]
fn windows_come_back_from_a_segment_as_they_were() {
    block_on(async {
        let store = store();
        let mut log = LogBuffer::new();
        let windows: Vec<_> = (3..6)
            .map(|scn| window(&schema(), scn, &[RowKind::Insert; 2], columns(&[scn as i64, 9], "x"), vec![]))
            .collect();
        windows.iter().for_each(|window| log.add(window, 2).unwrap());
        assert_eq!(log.windows(), 3);
        let segment = log.finish(&store).await.unwrap();
        let place = |scn| Position { timeline: 2, ..at(scn) };
        assert_eq!((segment.after, segment.upto, segment.time_us), (place(2), place(5), 5000));
        let found = read_segment(&store, &segment).await.unwrap();
        assert_eq!(found.len(), 3);
        for (found, window) in found.iter().zip(&windows) {
            assert_eq!((found.span, &found.transactions), (window.span, &window.transactions));
            assert_eq!(found.tables[0].rows, window.tables[0].rows);
            assert_eq!((found.timeline.number, &found.tables[0].schema), (1, &window.tables[0].schema));
        }
    });
}

/// A copy whose chunks all overlap in our order, as with a collation of the source.
#[test]
fn more_overlapping_chunks_than_may_be_open_are_merged_in_passes() {
    block_on(async {
        let store = store();
        let schema = schema();
        let mut state = state(StoredSchema::new(&schema, 1), key(&[1]));
        let mut files = vec![];
        let chunks = limits::LANES_MAX as i64 * 3 + 1;
        for chunk in 0..chunks {
            let mut writer = ChunkWriter::new(&store, "shop.orders", state.schema.clone(), state.key.clone());
            let ids: Vec<i64> = (0..20).map(|row| row * chunks + chunk).collect();
            writer.add(RecordBatch::try_new(Arc::clone(schema.arrow()), columns(&ids, "first")).unwrap());
            files.extend(writer.finish(chunk as u32, at(3 + chunk as u64 % 5)).await.unwrap());
        }
        state.base = Some(BaseVersion { path: None, at: at(3), files });
        // In the copies of chunks with a mark of 6 and 7 already, in those of 3 to 5 not.
        change(&store, &mut state, 6, RowKind::UpdateAfter, &(0..chunks).collect::<Vec<_>>()).await;
        change(&store, &mut state, 9, RowKind::Delete, &[5, 1900]).await;
        let scanned = read(&store, &state, ScanOptions::default()).await;
        assert_eq!(scanned.len() as i64, 20 * chunks - 2);
        let (base, stats) = merge_base(&store, &state, at(9), &options(1 << 20, 0)).await.unwrap();
        assert_eq!((stats.files_written, stats.base_rows_read), (1, 20 * chunks as u64));
        state.base = Some(base);
        state.runs.clear();
        let merged = read(&store, &state, ScanOptions::default()).await;
        assert_eq!(merged.len(), scanned.len());
        for (merged, scanned) in merged.iter().zip(&scanned) {
            assert_eq!(merged.0, scanned.0);
        }
        assert_eq!(&merged[0].1, "then 0");
    });
}

#[test]
fn many_small_transactions_take_little_memory_and_the_last_one_wins() {
    block_on(async {
        let (store, schema) = (store(), schema());
        let mut state = state(StoredSchema::new(&schema, 1), key(&[1]));
        let mut builder = RunBuilder::new(state.schema.clone(), state.key.clone());
        for scn in 1..=10_000 {
            let columns = columns(&[scn as i64 % 2_500], &format!("at {scn}:"));
            let window = window(&schema, scn, &[RowKind::UpdateAfter], columns, vec![]);
            builder.add(&window, &window.tables[0], 1).unwrap();
        }
        assert_eq!(builder.rows(), 10_000);
        assert!(builder.bytes() < 10_000 * 150, "{} bytes", builder.bytes());
        state.runs.extend(builder.finish(&store, "shop.orders", at(0), at(10_000)).await.unwrap());
        let found = read(&store, &state, ScanOptions::default()).await;
        assert_eq!(found.len(), 2_500);
        for (id, note) in found {
            let newest = if id == 0 { 10_000 } else { 7_500 + id };
            assert_eq!(note, format!("at {newest}: {id}"));
        }
    });
}
