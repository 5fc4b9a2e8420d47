//! Filter and mask through the sandbox, against the same work in native code over the same columns.
//! `items/s` is rows; the bars are at 4096 rows: filter 2.5 ns a row (400 M rows/s), mask 1.5 times native.

use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_buffer::BooleanBuffer;
use arrow_schema::DataType;
use divan::counter::ItemsCount;
use divan::{Bencher, black_box_drop};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use tidemill_event::{
    ColumnSchema, Part, Scn, Span, TableChanges, TableName, TableSchema, Timeline, Transaction, Window,
};
use tidemill_sandbox::{
    FilterStage, GuestConfig, Module, ProjectionStage, Sandbox, SandboxConfig, catalogue,
};

const ROWS: [usize; 2] = [256, 4096];
const KEY: &str = "0123456789abcdef0123456789abcdef";

fn main() {
    divan::main();
}

fn module(name: &str) -> Module {
    let cache = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("guest-cache");
    let sandbox = Sandbox::new(SandboxConfig::new(cache)).expect("it starts");
    sandbox.load(name, catalogue::builtin(name).expect("it is in the catalogue")).expect("it loads")
}

/// Ten columns, as tables have; the filter wants two of them, the mask one.
fn window(rows: usize) -> Window {
    let column = |name: &str, data_type: DataType| ColumnSchema::new(name, data_type, "any", false);
    let mut columns = vec![column("id", DataType::Int64), column("amount", DataType::Int64)];
    columns.push(column("status", DataType::Utf8));
    columns.push(column("email", DataType::Utf8));
    columns.extend((4..10).map(|i| column(&format!("other{i}"), DataType::Int64)));
    let schema = TableSchema::new(TableName::new("shop", "orders"), columns, vec![0]);
    let ints = |f: fn(i64) -> i64| -> ArrayRef { Arc::new((0..rows as i64).map(f).collect::<Int64Array>()) };
    let texts = |f: fn(usize) -> String| -> ArrayRef {
        Arc::new((0..rows).map(|i| Some(f(i))).collect::<StringArray>())
    };
    let state = |i: usize| {
        if i.is_multiple_of(3) { format!("inactive since {i:05}") } else { format!("active since {i:07}") }
    };
    let mut arrays = vec![ints(|i| i), ints(|i| i * 7919 % 100)];
    arrays.push(texts(state));
    arrays.push(texts(|i| format!("user{i:07}@example.com")));
    arrays.extend((4..10).map(|_| ints(|i| i * 31)));
    let changes = TableChanges {
        rows: RecordBatch::try_new(Arc::clone(schema.arrow()), arrays).expect("the columns fit"),
        schema,
        absent: vec![],
        kind: vec![0u8; rows].into(),
        ordinal: (0..rows as u32).collect::<Vec<_>>().into(),
        txn: vec![0u32; rows].into(),
    };
    let transaction = Transaction {
        scn: Scn(2),
        gtid: String::new(),
        commit_time_us: 0,
        first_ordinal: 0,
        change_count: rows as u32,
        change_offset: 0,
        part: Part::Whole,
    };
    Window {
        source: "shop".into(),
        timeline: Timeline { number: 1, server: "server".into() },
        span: Span { after: Scn(1), upto: Scn(2) },
        executed: "".into(),
        transactions: vec![transaction],
        tables: vec![changes],
        events: vec![],
        phase: tidemill_event::Phase::Stream,
    }
}

/// The guest's call: plan, lowering, judging, lifting. A predicate that no row fulfils, so that the copy of
/// what is kept, which native code makes as well, is not in it.
#[divan::bench(args = ROWS)]
fn filter_sandbox(bencher: Bencher<'_, '_>, rows: usize) {
    filter(bencher, rows, r#"{"where":"amount >= 50 and status like 'activf%'"}"#);
}

/// The same with what is kept: a third of the rows, ten columns.
#[divan::bench(args = ROWS)]
fn filter_sandbox_and_keep(bencher: Bencher<'_, '_>, rows: usize) {
    filter(bencher, rows, r#"{"where":"amount >= 50 and status like 'active%'"}"#);
}

fn filter(bencher: Bencher<'_, '_>, rows: usize, json: &str) {
    let mut stage = FilterStage::open(&module("where"), GuestConfig::new("shop", json)).expect("it opens");
    let window = window(rows);
    bencher
        .counter(ItemsCount::new(rows))
        .with_inputs(|| window.clone())
        .bench_local_values(|window| stage.apply(window).expect("it judges"));
}

fn native_mask(changes: &TableChanges, prefix: &str) -> BooleanBuffer {
    let amounts = changes.rows.column(1).as_primitive::<Int64Type>().values();
    let states = changes.rows.column(2).as_string::<i32>();
    let (offsets, data) = (states.value_offsets(), states.value_data());
    let starts =
        |row: usize| data[offsets[row] as usize..offsets[row + 1] as usize].starts_with(prefix.as_bytes());
    BooleanBuffer::collect_bool(amounts.len(), |row| amounts[row] >= 50 && starts(row))
}

#[divan::bench(args = ROWS)]
fn filter_native(bencher: Bencher<'_, '_>, rows: usize) {
    let window = window(rows);
    bencher
        .counter(ItemsCount::new(rows))
        .bench_local(|| native_mask(black_box(&window.tables[0]), black_box("activf")));
}

#[divan::bench(args = ROWS)]
fn filter_native_and_keep(bencher: Bencher<'_, '_>, rows: usize) {
    let window = window(rows);
    bencher.counter(ItemsCount::new(rows)).bench_local(|| {
        let changes = black_box(&window.tables[0]);
        changes.keep(&native_mask(changes, black_box("active")))
    });
}

#[divan::bench(args = ROWS)]
fn mask_sandbox(bencher: Bencher<'_, '_>, rows: usize) {
    let json = format!(
        r#"{{"key_id":"k1","key":"{KEY}","rules":[{{"columns":"shop.orders.email","action":"hash"}}]}}"#
    );
    let mut stage = ProjectionStage::open(&module("mask"), GuestConfig::new("shop", json)).expect("it opens");
    let window = window(rows);
    bencher
        .counter(ItemsCount::new(rows))
        .with_inputs(|| window.clone())
        .bench_local_values(|window| stage.apply(window).expect("it masks"));
}

/// HMAC-SHA-256 as text, with the key's pads made once, as the guest does.
#[divan::bench(args = ROWS)]
fn mask_native(bencher: Bencher<'_, '_>, rows: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let window = window(rows);
    let key = Hmac::<Sha256>::new_from_slice(KEY.as_bytes()).expect("HMAC takes a key of any length");
    bencher.counter(ItemsCount::new(rows)).bench_local(|| {
        let emails = black_box(&window.tables[0]).rows.column(3).as_string::<i32>();
        let mut masked = StringBuilder::with_capacity(emails.len(), emails.len() * 67);
        let mut text = String::with_capacity(67);
        for row in 0..emails.len() {
            let digest = key.clone().chain_update(emails.value(row)).finalize().into_bytes();
            text.clear();
            text.push_str("k1:");
            for byte in digest {
                text.push(char::from(DIGITS[usize::from(byte >> 4)]));
                text.push(char::from(DIGITS[usize::from(byte & 15)]));
            }
            masked.append_value(&text);
        }
        black_box_drop(masked.finish());
    });
}
