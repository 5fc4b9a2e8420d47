//! Every type of the stream goes through files and comes back as it was; and what the files look like to others.

use std::sync::Arc;

use arrow_array::*;
use arrow_buffer::i256;
use arrow_schema::DataType;
use parquet::file::reader::{FileReader, SerializedFileReader};
use tidemill_bootstrap_store::*;
use tidemill_event::{ColumnSchema, RowKind, TableSchema};

use crate::common::{all, at, block_on, key, name, objects, reader, state, store, window};

fn day(year: i64, month: i64, day: i64) -> i64 {
    // Days since 1970-01-01, by the civil calendar.
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let era = year.div_euclid(400);
    let of_era = year - era * 400;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + (153 * month + 2) / 5 + day - 1 - 719_468
}

/// A column of each type, with its extremes and NULL.
fn columns() -> Vec<(&'static str, ArrayRef)> {
    const HOUR: i64 = 3_600_000_000;
    let limit = |digits: u32| 10i128.pow(digits) - 1;
    let nines =
        |digits: u32| (0..digits).fold(i256::ZERO, |n, _| n * i256::from_i128(10) + i256::from_i128(9));
    let (first, last) = (day(1, 1, 1), day(9999, 12, 31));
    let micros = |days: i64, more: i64| days * 24 * HOUR + more;
    let time = 838 * HOUR + 59 * 60_000_000 + 59_999_999;
    let stamps = vec![None, Some(micros(first, 0)), Some(micros(last, 24 * HOUR - 1)), Some(0), Some(-1)];
    let decimal = |values: Vec<Option<i128>>, p, s| -> ArrayRef {
        Arc::new(Decimal128Array::from(values).with_precision_and_scale(p, s).unwrap())
    };
    let wide = |values: Vec<Option<i256>>, p, s| -> ArrayRef {
        Arc::new(Decimal256Array::from(values).with_precision_and_scale(p, s).unwrap())
    };
    let texts = vec![None, Some(""), Some("a\0b"), Some("\u{1F980} Ünïcode"), Some("'\"\\\n")];
    vec![
        (
            "bool",
            Arc::new(BooleanArray::from(vec![None, Some(true), Some(false), None, Some(true)])) as ArrayRef,
        ),
        ("int8", Arc::new(Int8Array::from(vec![None, Some(i8::MIN), Some(i8::MAX), Some(0), Some(-1)]))),
        ("int16", Arc::new(Int16Array::from(vec![None, Some(i16::MIN), Some(i16::MAX), Some(0), Some(-1)]))),
        ("int32", Arc::new(Int32Array::from(vec![None, Some(i32::MIN), Some(i32::MAX), Some(0), Some(-1)]))),
        ("int64", Arc::new(Int64Array::from(vec![None, Some(i64::MIN), Some(i64::MAX), Some(0), Some(-1)]))),
        ("uint8", Arc::new(UInt8Array::from(vec![None, Some(0), Some(u8::MAX), Some(1), Some(128)]))),
        ("uint16", Arc::new(UInt16Array::from(vec![None, Some(0), Some(u16::MAX), Some(1), Some(1 << 15)]))),
        ("uint32", Arc::new(UInt32Array::from(vec![None, Some(0), Some(u32::MAX), Some(1), Some(1 << 31)]))),
        ("uint64", Arc::new(UInt64Array::from(vec![None, Some(0), Some(u64::MAX), Some(1), Some(1 << 63)]))),
        (
            "float32",
            Arc::new(Float32Array::from(vec![
                None,
                Some(f32::MIN),
                Some(f32::MIN_POSITIVE),
                Some(-0.0),
                Some(0.1),
            ])),
        ),
        (
            "float64",
            Arc::new(Float64Array::from(vec![
                None,
                Some(f64::MAX),
                Some(5e-324),
                Some(-0.0),
                Some(f64::INFINITY),
            ])),
        ),
        ("text", Arc::new(StringArray::from(texts))),
        (
            "bytes",
            Arc::new(BinaryArray::from(vec![None, Some(&b""[..]), Some(&[0, 255, 0]), Some(b"x"), None])),
        ),
        (
            "date",
            Arc::new(Date32Array::from(vec![None, Some(first as i32), Some(last as i32), Some(0), Some(-1)])),
        ),
        ("datetime", Arc::new(TimestampMicrosecondArray::from(stamps.clone()))),
        ("timestamp", Arc::new(TimestampMicrosecondArray::from(stamps).with_timezone("UTC"))),
        (
            "time",
            Arc::new(DurationMicrosecondArray::from(vec![None, Some(time), Some(-time), Some(0), Some(-1)])),
        ),
        ("decimal_1_0", decimal(vec![None, Some(9), Some(-9), Some(0), Some(1)], 1, 0)),
        ("decimal_10_2", decimal(vec![None, Some(limit(10)), Some(-limit(10)), Some(0), Some(-1)], 10, 2)),
        ("decimal_38_10", decimal(vec![None, Some(limit(38)), Some(-limit(38)), Some(0), Some(-1)], 38, 10)),
        (
            "decimal_65_30",
            wide(
                vec![None, Some(nines(65)), Some(-nines(65)), Some(i256::ZERO), Some(i256::MINUS_ONE)],
                65,
                30,
            ),
        ),
        (
            "decimal_65_0",
            wide(vec![None, Some(nines(65)), Some(-nines(65)), Some(i256::ZERO), Some(i256::ONE)], 65, 0),
        ),
    ]
}

fn schema() -> (Arc<TableSchema>, Vec<ArrayRef>) {
    let mut fields = vec![ColumnSchema::new("id", DataType::UInt32, "int unsigned", false)];
    let mut arrays: Vec<ArrayRef> = vec![Arc::new(UInt32Array::from(vec![0, 1, 2, 3, 4]))];
    for (name, array) in columns() {
        fields.push(ColumnSchema::new(name, array.data_type().clone(), name, true));
        arrays.push(array);
    }
    (TableSchema::new(name(), fields, vec![0]), arrays)
}

/// The rows of a table of every type: of a copy, of a run, of a merged base.
async fn written(table_key: TableKey) -> Vec<(&'static str, Store, RecordBatch, RecordBatch)> {
    let (schema, arrays) = schema();
    let rows = RecordBatch::try_new(Arc::clone(schema.arrow()), arrays.clone()).unwrap();
    let stored = StoredSchema::new(&schema, 1);
    let mut found = vec![];
    for part in ["base", "run", "merged"] {
        let store = store();
        let mut state = state(stored.clone(), table_key.clone());
        if part == "base" {
            let mut writer = ChunkWriter::new(&store, "shop.orders", stored.clone(), table_key.clone());
            writer.add(rows.clone());
            let files = writer.finish(0, at(1)).await.unwrap();
            state.base = Some(BaseVersion { path: None, at: at(1), files });
        } else {
            let mut builder = RunBuilder::new(stored.clone(), table_key.clone());
            let window = window(&schema, 7, &[RowKind::Insert; 5], arrays.clone(), vec![]);
            builder.add(&window, &window.tables[0], 1).unwrap();
            state.runs.extend(builder.finish(&store, "shop.orders", at(1), at(7)).await.unwrap());
        }
        if part == "merged" {
            let (base, _) = merge_base(&store, &state, at(7), &MergeOptions::default()).await.unwrap();
            state.base = Some(base);
            state.runs.clear();
        }
        let batches = all(reader(&store, &state, at(7)).scan(ScanOptions::default())).await;
        assert_eq!(batches.len(), 1, "{part}");
        found.push((part, store, rows.clone(), batches.into_iter().next().unwrap().rows));
    }
    found
}

#[test]
fn every_type_comes_back_as_it_was_with_its_extremes_and_null() {
    for key in [key(&[1]), TableKey::WholeRow] {
        for (part, _, rows, found) in block_on(written(key.clone())) {
            assert_eq!(found.schema(), rows.schema(), "{part}");
            for (column, field) in rows.schema().fields().iter().enumerate() {
                assert_eq!(found.column(column), rows.column(column), "{part}: {field}");
            }
        }
    }
}

/// The schema is what Spark, DuckDB and others see, so it is kept as text: `BLESS=1` writes it anew.
#[test]
fn the_schemas_of_files_are_golden() {
    for (kind, table_key) in [("keyed", key(&[1])), ("counted", TableKey::WholeRow)] {
        for (part, store, ..) in block_on(written(table_key)) {
            let objects = block_on(objects(&store));
            let file = objects.into_iter().find(|(path, _)| match part {
                "merged" => path.contains("/snap-") && path.ends_with(".parquet"),
                _ => path.ends_with(".parquet"),
            });
            let file = SerializedFileReader::new(file.unwrap().1).unwrap();
            let mut text = vec![];
            parquet::schema::printer::print_schema(&mut text, file.metadata().file_metadata().schema());
            let text = String::from_utf8(text).unwrap();
            // A merged base looks as a copied one.
            let part = if part == "merged" { "base" } else { part };
            let golden = format!("{}/tests/golden/parquet-{kind}-{part}.txt", env!("CARGO_MANIFEST_DIR"));
            if std::env::var_os("BLESS").is_some() {
                std::fs::write(&golden, &text).unwrap();
            }
            let kept = std::fs::read_to_string(&golden).unwrap_or_default();
            assert_eq!(text, kept, "{golden}; BLESS=1 writes it");
        }
    }
}

#[test]
fn a_column_named_as_one_of_ours_is_one_among_columns_of_different_names() {
    let names = ["_scn", "__SCN", "__op", "__count", "__timeline"];
    let columns = names.map(|name| ColumnSchema::new(name, DataType::Int64, "bigint", false));
    let schema = TableSchema::new(name(), columns.to_vec(), vec![0]);
    let arrays: Vec<ArrayRef> =
        (0..5).map(|column| Arc::new(Int64Array::from(vec![column, column + 10])) as ArrayRef).collect();
    let rows = RecordBatch::try_new(Arc::clone(schema.arrow()), arrays.clone()).unwrap();
    for table_key in [key(&[1]), TableKey::WholeRow] {
        let (store, stored) = (store(), StoredSchema::new(&schema, 1));
        let mut state = state(stored.clone(), table_key.clone());
        let mut builder = RunBuilder::new(stored, table_key);
        let window = window(&schema, 7, &[RowKind::Insert; 2], arrays.clone(), vec![]);
        builder.add(&window, &window.tables[0], 1).unwrap();
        state.runs.extend(block_on(builder.finish(&store, "shop.orders", at(1), at(7))).unwrap());
        let (base, _) = block_on(merge_base(&store, &state, at(7), &MergeOptions::default())).unwrap();
        state.base = Some(base);
        state.runs.clear();
        let found = block_on(all(reader(&store, &state, at(7)).scan(ScanOptions::default())));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].rows, rows);
        for (path, bytes) in block_on(objects(&store)) {
            let Ok(file) = SerializedFileReader::new(bytes) else { continue };
            let schema = file.metadata().file_metadata().schema_descr();
            let names: Vec<String> = schema.columns().iter().map(|c| c.name().to_lowercase()).collect();
            let different: std::collections::BTreeSet<&String> = names.iter().collect();
            assert_eq!(different.len(), names.len(), "{path}: {names:?}");
            assert!(!path.contains("/snap-") || names.last().unwrap() == "___scn", "{path}: {names:?}");
        }
    }
}
