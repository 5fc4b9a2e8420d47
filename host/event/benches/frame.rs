//! `cargo bench -p tidemill-event`: window → frame and frame → window, rows a second and bytes a second.

#[path = "../tests/support/mod.rs"]
#[allow(dead_code, reason = "shared with the tests, which use all of it")]
mod support;

use arrow_schema::{DataType, TimeUnit};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use tidemill_event::{Frame, RowKind, SchemaSet, Window, decode, encode_shared, encode_window};

fn main() {
    divan::main();
}

const ROWS: [usize; 3] = [1, 256, 4096];

/// Ten mixed columns, inserts only, one transaction.
fn window(count: usize) -> Window {
    let types = [
        DataType::UInt64,
        DataType::Int32,
        DataType::Int16,
        DataType::Decimal128(12, 4),
        DataType::Utf8,
        DataType::Utf8,
        DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Utf8,
        DataType::Utf8,
        DataType::Float64,
    ];
    let schema = support::schema("bench", &types);
    let rows: Vec<_> = (0..count as u32).map(|i| (RowKind::Insert, i, 0)).collect();
    let mut window = support::example();
    window.transactions = vec![support::transaction(200, 0, count as u32)];
    window.tables = vec![support::rows(&schema, &rows, 3)];
    window.events.clear();
    window
}

#[divan::bench(args = ROWS)]
fn encode(bencher: Bencher<'_, '_>, rows: usize) {
    let window = window(rows);
    let bytes = encode_window(&window).expect("fits a frame").bytes().len();
    bencher
        .counter(ItemsCount::new(rows))
        .counter(BytesCount::new(bytes))
        .bench(|| encode_window(&window).expect("fits a frame"));
}

#[divan::bench(args = ROWS)]
fn encode_and_share(bencher: Bencher<'_, '_>, rows: usize) {
    let window = window(rows);
    bencher.counter(ItemsCount::new(rows)).bench(|| encode_shared(&window).expect("fits a frame"));
}

#[divan::bench(args = ROWS)]
fn read_and_decode(bencher: Bencher<'_, '_>, rows: usize) {
    let window = window(rows);
    let frame = encode_window(&window).expect("fits a frame");
    let mut schemas = SchemaSet::default();
    schemas.insert(window.tables[0].schema.clone());
    bencher.counter(ItemsCount::new(rows)).counter(BytesCount::new(frame.bytes().len())).bench(|| {
        let frame = Frame::read(frame.bytes()).expect("is whole");
        decode(&frame, &schemas).expect("is sound")
    });
}
