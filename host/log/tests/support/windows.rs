//! Windows for tests: transactions of one to three rows over two tables, whose content follows from their SCN, so that
//! whatever is read can be checked without keeping what was written.

#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::{Array, RecordBatch, StringArray, UInt64Array};
use arrow_schema::DataType;
use tidemill_event::{
    ColumnSchema, Part, Position, RowKind, Scn, Span, TableChanges, TableName, TableSchema, Timeline,
    Transaction, Window,
};
use tidemill_log::{Fsync, LogConfig};

pub const DAY: Duration = Duration::from_secs(86_400);

/// Settings under which nothing happens by itself: no sync and no idle position within the life of a test.
pub fn config(directory: &Path) -> LogConfig {
    LogConfig { fsync: Fsync::Interval(DAY), idle_interval: DAY, ..LogConfig::new(directory) }
}

pub fn at(timeline: u32, scn: u64) -> Position {
    Position { timeline, scn: Scn(scn) }
}

fn schema(table: &str) -> Arc<TableSchema> {
    let columns = vec![
        ColumnSchema::new("id", DataType::UInt64, "bigint unsigned", false),
        ColumnSchema::new("note", DataType::Utf8, "text", true),
    ];
    TableSchema::new(TableName::new("shop", table), columns, vec![0])
}

fn row_count(scn: u64) -> u32 {
    1 + (scn % 3) as u32
}

fn note(scn: u64, row: u32) -> String {
    format!("transaktion-{scn}-{row}-{}", "ü".repeat((scn % 7) as usize))
}

/// The time at which the transaction with that SCN committed.
pub fn time_of(scn: u64) -> i64 {
    1_700_000_000_000_000 + scn as i64 * 1_000
}

fn table_of(scn: u64) -> usize {
    usize::from(scn.is_multiple_of(5))
}

fn changes(table: usize, transactions: &[Transaction]) -> Option<TableChanges> {
    let (mut id, mut notes, mut ordinal, mut txn) = (vec![], vec![], vec![], vec![]);
    for (index, t) in transactions.iter().enumerate().filter(|(_, t)| table_of(t.scn.0) == table) {
        for row in 0..t.change_count {
            id.push(t.scn.0);
            notes.push(note(t.scn.0, row + t.change_offset as u32));
            ordinal.push(t.first_ordinal + row);
            txn.push(index as u32);
        }
    }
    if id.is_empty() {
        return None;
    }
    let schema = schema(["orders", "parts"][table]);
    let kind = vec![RowKind::Insert as u8; id.len()];
    let columns: Vec<Arc<dyn Array>> =
        vec![Arc::new(UInt64Array::from(id)), Arc::new(StringArray::from(notes))];
    Some(TableChanges {
        rows: RecordBatch::try_new(Arc::clone(schema.arrow()), columns).unwrap(),
        schema,
        absent: vec![],
        kind: kind.into(),
        ordinal: ordinal.into(),
        txn: txn.into(),
    })
}

pub fn timeline(number: u32) -> Timeline {
    Timeline { number, server: format!("server-{number}").into() }
}

fn build(after: u64, upto: u64, transactions: Vec<Transaction>) -> Window {
    Window {
        source: "shop".into(),
        timeline: timeline(1),
        span: Span { after: Scn(after), upto: Scn(upto) },
        executed: format!("server-1:1-{upto}").into(),
        tables: (0..2).filter_map(|t| changes(t, &transactions)).collect(),
        transactions,
        events: vec![],
        phase: tidemill_event::Phase::Stream,
    }
}

/// Whole transactions with those SCNs.
pub fn window(after: u64, scns: &[u64]) -> Window {
    let mut ordinal = 0;
    let transaction = |scn: &u64| {
        let first_ordinal = ordinal;
        ordinal += row_count(*scn);
        Transaction {
            scn: Scn(*scn),
            gtid: format!("server-1:{scn}"),
            commit_time_us: time_of(*scn),
            first_ordinal,
            change_count: row_count(*scn),
            change_offset: 0,
            part: Part::Whole,
        }
    };
    let transactions = scns.iter().map(transaction).collect();
    build(after, *scns.last().unwrap(), transactions)
}

/// A part of the transaction with that SCN. Only the last one moves the position.
pub fn fragment(after: u64, scn: u64, part: Part, change_offset: u64) -> Window {
    let mut window = window(after, &[scn]);
    window.transactions[0].part = part;
    window.transactions[0].change_offset = change_offset;
    let upto = if part.completes() { scn } else { after };
    build(after, upto, window.transactions)
}

/// As [`fragment`], with that many rows.
pub fn long_fragment(after: u64, scn: u64, part: Part, change_offset: u64, rows: u32) -> Window {
    let mut window = fragment(after, scn, part, change_offset);
    window.transactions[0].change_count = rows;
    build(after, window.span.upto.0, window.transactions)
}

/// A source that says it is alive.
pub fn idle(after: u64, upto: u64) -> Window {
    build(after, upto, vec![])
}

/// The same on another timeline.
pub fn on_timeline(number: u32, mut window: Window) -> Window {
    window.timeline = timeline(number);
    window
}

/// Whether two windows say the same.
#[track_caller]
pub fn assert_same(a: &Window, b: &Window) {
    assert_eq!((&a.source, &a.timeline, a.span, &a.executed), (&b.source, &b.timeline, b.span, &b.executed));
    assert_eq!(a.transactions, b.transactions);
    assert_eq!((&a.events, a.tables.len()), (&b.events, b.tables.len()));
    for (a, b) in a.tables.iter().zip(&b.tables) {
        assert_eq!((&a.schema, &a.rows), (&b.schema, &b.rows));
        assert_eq!((&a.kind, &a.ordinal, &a.txn), (&b.kind, &b.ordinal, &b.txn));
    }
}

/// Checks that every row of the window is what [`window`] or [`fragment`] made.
#[track_caller]
pub fn assert_sound(window: &Window) {
    window.validate().unwrap();
    let mut rows = 0;
    for table in &window.tables {
        let ids = table.rows.column(0).to_data();
        let ids = UInt64Array::from(ids);
        let notes = StringArray::from(table.rows.column(1).to_data());
        for row in 0..ids.len() {
            let t = &window.transactions[table.txn[row] as usize];
            let number = t.change_number(table.ordinal[row]) as u32;
            assert_eq!(ids.value(row), t.scn.0);
            assert_eq!(notes.value(row), note(t.scn.0, number));
            rows += 1;
        }
    }
    assert_eq!(rows, window.transactions.iter().map(|t| t.change_count).sum::<u32>());
}

/// The same after its tables got a column more, of which there are versions; version 0 has none.
pub fn altered(mut window: Window, version: u32) -> Window {
    for table in window.tables.iter_mut().filter(|_| version > 0) {
        let mut columns = table.schema.columns().to_vec();
        columns.push(ColumnSchema::new(
            &format!("extra{version}"),
            DataType::UInt64,
            "bigint unsigned",
            true,
        ));
        let schema = TableSchema::new(table.schema.name().clone(), columns, vec![0]);
        let mut arrays = table.rows.columns().to_vec();
        arrays.push(Arc::new(UInt64Array::from(vec![u64::from(version); table.rows.num_rows()])));
        table.rows = RecordBatch::try_new(Arc::clone(schema.arrow()), arrays).unwrap();
        table.schema = schema;
    }
    window
}

/// Numbers that look random and are the same in every run.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}
