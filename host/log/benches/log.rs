//! What the log costs beside encoding: appending a full window, and reading it back from memory and from disk.

#![allow(clippy::unwrap_used, reason = "a benchmark")]

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use arrow_schema::DataType;
use divan::counter::{BytesCount, ItemsCount};
use tempfile::TempDir;
use tidemill_event::{
    ColumnSchema, Part, RowKind, Scn, Span, TableChanges, TableName, TableSchema, Timeline, Transaction,
    Window, encode_shared,
};
use tidemill_log::{From, Log, LogConfig, Writer};

fn main() {
    divan::main();
}

const ROWS: u64 = 65_536;

/// One transaction of so many rows, about 70 bytes each.
fn window(after: u64, rows: u64) -> Window {
    let columns = vec![
        ColumnSchema::new("id", DataType::UInt64, "bigint unsigned", false),
        ColumnSchema::new("note", DataType::Utf8, "text", true),
    ];
    let schema = TableSchema::new(TableName::new("shop", "orders"), columns, vec![0]);
    let ids: ArrayRef = Arc::new(UInt64Array::from_iter_values(0..rows));
    let notes = (0..rows).map(|i| format!("a note that is as long as notes are, number {i}"));
    let notes: ArrayRef = Arc::new(StringArray::from_iter_values(notes));
    let table = TableChanges {
        rows: RecordBatch::try_new(Arc::clone(schema.arrow()), vec![ids, notes]).unwrap(),
        schema,
        absent: vec![],
        kind: vec![RowKind::Insert as u8; rows as usize].into(),
        ordinal: (0..rows as u32).collect(),
        txn: vec![0; rows as usize].into(),
    };
    let transaction = Transaction {
        scn: Scn(after + 1),
        gtid: "server:1".into(),
        commit_time_us: 0,
        first_ordinal: 0,
        change_count: rows as u32,
        change_offset: 0,
        part: Part::Whole,
    };
    Window {
        source: "shop".into(),
        timeline: Timeline { number: 1, server: "server".into() },
        span: Span { after: Scn(after), upto: Scn(after + 1) },
        executed: "server:1".into(),
        transactions: vec![transaction],
        tables: vec![table],
        events: vec![],
        phase: tidemill_event::Phase::Stream,
    }
}

/// A log that keeps little, so that a benchmark may append for long.
fn open(directory: &TempDir, memory_bytes: usize) -> (Log, Writer) {
    let retention_bytes = Some(1 << 30);
    let log =
        Log::open(LogConfig { memory_bytes, retention_bytes, ..LogConfig::new(directory.path()) }).unwrap();
    let writer = log.writer().unwrap();
    (log, writer)
}

fn bytes(rows: u64) -> (BytesCount, ItemsCount) {
    let (frame, _) = encode_shared(&window(0, rows)).unwrap();
    (BytesCount::new(frame.bytes().len()), ItemsCount::new(rows))
}

#[divan::bench(args = [1, ROWS])]
fn encode(bencher: divan::Bencher<'_, '_>, rows: u64) {
    let (window, (bytes, items)) = (window(0, rows), bytes(rows));
    bencher.counter(bytes).counter(items).bench(|| encode_shared(&window).unwrap());
}

#[divan::bench(args = [1, ROWS])]
fn append(bencher: divan::Bencher<'_, '_>, rows: u64) {
    let directory = tempfile::tempdir().unwrap();
    let (_log, mut writer) = open(&directory, 64 << 20);
    let (mut window, (bytes, items)) = (window(0, rows), bytes(rows));
    bencher.counter(bytes).counter(items).bench_local(|| {
        let ack = writer.append(&window).unwrap();
        let next = window.span.upto.0;
        window.span = Span { after: Scn(next), upto: Scn(next + 1) };
        window.transactions[0].scn = Scn(next + 1);
        ack
    });
}

/// Reads all of a log that is larger than its memory, or not.
fn read(bencher: divan::Bencher<'_, '_>, memory_bytes: usize, rows: u64, windows: u64) {
    let directory = tempfile::tempdir().unwrap();
    let (log, mut writer) = open(&directory, memory_bytes);
    for i in 0..windows {
        writer.append(&window(i, rows)).unwrap();
    }
    let items = ItemsCount::new(rows * windows);
    bencher.counter(items).bench_local(|| {
        let mut reader = log.reader(From::Earliest).unwrap();
        let mut count = 0;
        while let Some(window) = reader.try_next().unwrap() {
            count += window.row_count();
        }
        assert_eq!(count as u64, rows * windows);
    });
}

#[divan::bench(args = [1, ROWS])]
fn read_memory(bencher: divan::Bencher<'_, '_>, rows: u64) {
    read(bencher, 256 << 20, rows, 16);
}

#[divan::bench(args = [1, ROWS])]
fn read_disk(bencher: divan::Bencher<'_, '_>, rows: u64) {
    read(bencher, 0, rows, if rows == 1 { 1000 } else { 16 });
}
