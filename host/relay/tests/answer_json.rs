//! Lines of JSON are those of the guest `print`, for every type and whatever happened.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support {
    pub mod shop;
}

use std::sync::Arc;

use arrow_array::*;
use arrow_buffer::{BooleanBuffer, i256};
use arrow_schema::{DataType, TimeUnit};
use support::shop::*;
use tidemill_event::{
    ColumnSchema, Event, EventKind, Part, RowKind, TableChanges, TableName, TableSchema, Window,
};
use tidemill_relay::Format;
use tidemill_sandbox::{BoxError, ConsumerStage, DeliveryPhase, Grant, GuestConfig, Limits, StateReader};

struct Nothing;

impl StateReader for Nothing {
    fn get(&self, _: &[u8]) -> Result<Option<Vec<u8>>, BoxError> {
        Ok(None)
    }
}

/// What the guest prints of the windows, one after the other.
async fn printed(windows: &[Window]) -> String {
    let config =
        GuestConfig { limits: Limits::consumer(), ..GuestConfig::new("shop", r#"{"schema_changes":true}"#) };
    let state: Arc<dyn StateReader> = Arc::new(Nothing);
    let mut print = ConsumerStage::open(&module("print"), config, vec![Grant::Stdout], state).await.unwrap();
    let mut lines = vec![];
    for window in windows {
        lines.extend(print.deliver(window, DeliveryPhase::Live).await.unwrap().stdout);
    }
    String::from_utf8(lines).unwrap()
}

/// What the relay says of them, without its own lines.
async fn answered(windows: &[Window]) -> String {
    let mut shop = Shop::new();
    windows.iter().for_each(|window| shop.append(window));
    let body = body(&answers(), &shop, all(Format::Json)).await;
    let text = std::str::from_utf8(&body).unwrap();
    let own = |line: &&str| !line.starts_with("{\"checkpoint\":");
    text.split_inclusive('\n').filter(own).collect()
}

async fn check(windows: &[Window]) {
    let (ours, theirs) = (answered(windows).await, printed(windows).await);
    for (ours, theirs) in ours.lines().zip(theirs.lines()) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(ours.lines().count(), theirs.lines().count());
    assert!(!ours.is_empty());
}

fn column(name: &str, array: ArrayRef, source_type: &str) -> (ColumnSchema, ArrayRef) {
    (ColumnSchema::new(name, array.data_type().clone(), source_type, true), array)
}

/// One column of each type, with extremes, NULL, and what JSON has no number for.
fn every_type() -> Vec<(ColumnSchema, ArrayRef)> {
    let decimal128 = |p, s, v: [i128; 3]| {
        let array = Decimal128Array::from(vec![Some(v[0]), Some(v[1]), Some(v[2]), None]);
        Arc::new(array.with_precision_and_scale(p, s).unwrap()) as ArrayRef
    };
    let decimal256 = |p, s, v: [i256; 3]| {
        let array = Decimal256Array::from(vec![Some(v[0]), Some(v[1]), Some(v[2]), None]);
        Arc::new(array.with_precision_and_scale(p, s).unwrap()) as ArrayRef
    };
    let huge = i256::from_string(&"9".repeat(65)).unwrap();
    let micros = [Some(-1), Some(1_700_000_000_123_456), Some(253_402_300_799_999_999), None];
    let binary: Vec<Option<&[u8]>> = vec![Some(b""), Some(b"\x00\xff"), Some(b"foobar"), None];
    let uuid: Vec<Option<&[u8]>> = vec![Some(&[0; 16]), Some(&[0x1a; 16]), Some(&[0xff; 16]), None];
    let texts = vec![Some("a\"\\\n\u{1}\u{7f}ä€😀"), Some(""), Some("/</script>\u{2028}"), None];
    vec![
        column(
            "a bool",
            Arc::new(BooleanArray::from(vec![Some(true), Some(false), Some(true), None])),
            "tinyint(1)",
        ),
        column("i8", Arc::new(Int8Array::from(vec![Some(i8::MIN), Some(0), Some(i8::MAX), None])), "tinyint"),
        column(
            "i16",
            Arc::new(Int16Array::from(vec![Some(i16::MIN), Some(0), Some(i16::MAX), None])),
            "smallint",
        ),
        column("i32", Arc::new(Int32Array::from(vec![Some(i32::MIN), Some(0), Some(i32::MAX), None])), "int"),
        column(
            "i64",
            Arc::new(Int64Array::from(vec![Some(i64::MIN), Some(0), Some(i64::MAX), None])),
            "bigint",
        ),
        column(
            "u8",
            Arc::new(UInt8Array::from(vec![Some(0), Some(1), Some(u8::MAX), None])),
            "tinyint unsigned",
        ),
        column(
            "u16",
            Arc::new(UInt16Array::from(vec![Some(0), Some(1), Some(u16::MAX), None])),
            "smallint unsigned",
        ),
        column(
            "u32",
            Arc::new(UInt32Array::from(vec![Some(0), Some(1), Some(u32::MAX), None])),
            "int unsigned",
        ),
        column(
            "u64",
            Arc::new(UInt64Array::from(vec![Some(0), Some(1), Some(u64::MAX), None])),
            "bigint unsigned",
        ),
        column(
            "f32",
            Arc::new(Float32Array::from(vec![Some(0.1), Some(f32::NAN), Some(f32::MIN), None])),
            "float",
        ),
        column(
            "f64",
            Arc::new(Float64Array::from(vec![Some(-0.0), Some(f64::INFINITY), Some(1e300), None])),
            "double",
        ),
        column(
            "f64_",
            Arc::new(Float64Array::from(vec![Some(5e-324), Some(-f64::INFINITY), Some(0.1), None])),
            "double",
        ),
        column("d", decimal128(12, 2, [-5, 0, 999_999_999_999]), "decimal(12,2)"),
        column("d0", decimal128(38, 0, [i128::from(i64::MIN), 7, 10i128.pow(38) - 1]), "decimal(38,0)"),
        column("dd", decimal128(4, 4, [-1, 0, 9_999]), "decimal(4,4)"),
        column("d256", decimal256(65, 30, [-huge, i256::ZERO, huge]), "decimal(65,30)"),
        column("text", Arc::new(StringArray::from(texts)), "text"),
        column(
            "json",
            Arc::new(StringArray::from(vec![Some("{\"a\": 1}"), Some("[]"), Some("null"), None])),
            "json",
        ),
        column("bytes", Arc::new(BinaryArray::from(binary)), "blob"),
        column("uuid", Arc::new(BinaryArray::from(uuid)), "uuid"),
        column(
            "date",
            Arc::new(Date32Array::from(vec![Some(-719_162), Some(0), Some(2_932_896), None])),
            "date",
        ),
        column("datetime", Arc::new(TimestampMicrosecondArray::from(micros.to_vec())), "datetime(6)"),
        column(
            "timestamp",
            Arc::new(TimestampMicrosecondArray::from(micros.to_vec()).with_timezone("UTC")),
            "timestamp(6)",
        ),
        column(
            "time",
            Arc::new(DurationMicrosecondArray::from(vec![
                Some(-3_020_399_000_000),
                Some(1),
                Some(3_020_399_999_999),
                None,
            ])),
            "time(6)",
        ),
    ]
}

/// The four rows of [`every_type`] as an insert, the two images of an update, and a delete.
fn typed(absent: bool) -> Window {
    let (columns, arrays): (Vec<ColumnSchema>, Vec<ArrayRef>) = every_type().into_iter().unzip();
    let types: Vec<&DataType> = columns.iter().map(|c| &c.data_type).collect();
    assert!(types.contains(&&DataType::Timestamp(TimeUnit::Microsecond, None)));
    let count = columns.len();
    let schema = TableSchema::new(TableName::new("sh\"op", "ty.pes"), columns, vec![4]);
    let mut window = window(
        0,
        &[Commit(
            7,
            vec![
                (0, Change::Insert(row(1, "x"))),
                (0, Change::Insert(row(1, "x"))),
                (0, Change::Insert(row(1, "x"))),
            ],
        )],
    );
    let bits = |column: usize| Some(BooleanBuffer::collect_bool(4, |row| (row + column).is_multiple_of(3)));
    window.tables = vec![TableChanges {
        rows: RecordBatch::try_new(Arc::clone(schema.arrow()), arrays).unwrap(),
        schema,
        absent: if absent { (0..count).map(bits).collect() } else { vec![] },
        kind: [RowKind::Insert, RowKind::UpdateBefore, RowKind::UpdateAfter, RowKind::Delete]
            .map(|k| k as u8)
            .to_vec()
            .into(),
        ordinal: vec![0, 1, 1, 2].into(),
        txn: vec![0; 4].into(),
    }];
    window
}

#[tokio::test]
async fn values_of_every_type_are_spelled_as_the_guest_spells_them() {
    check(&[typed(false)]).await;
}

#[tokio::test]
async fn what_was_not_logged_is_left_out_as_the_guest_leaves_it_out() {
    check(&[typed(true)]).await;
}

#[tokio::test]
async fn changes_stand_in_commit_order_over_all_tables() {
    let first = vec![
        (0, Change::Insert(row(1, "a"))),
        (1, Change::Insert(row(2, "b"))),
        (0, Change::Update(row(1, "a"), row(1, "c"))),
        // The key changes: another row.
        (0, Change::Update(row(1, "c"), row(5, "c"))),
        (2, Change::Update(row(1, "c"), row(5, "c"))),
        (1, Change::Delete(row(2, "b"))),
    ];
    let second = vec![(1, Change::Insert(row(3, "b"))), (0, Change::Delete(row(5, "c")))];
    let mut last = window(20, &[Commit(30, vec![(0, Change::Insert(row(9, "z")))])]);
    // A source that gives its transactions no ids.
    last.transactions[0].gtid = String::new();
    check(&[window(0, &[Commit(10, first), Commit(20, second)]), last]).await;
}

#[tokio::test]
async fn halves_of_updates_are_deletes_and_inserts() {
    let mut window = window(
        0,
        &[Commit(
            10,
            vec![
                (0, Change::Update(row(1, "a"), row(1, "b"))),
                (0, Change::Update(row(2, "a"), row(2, "b"))),
            ],
        )],
    );
    let keep = BooleanBuffer::from(vec![true, false, false, true]);
    window.tables[0] = window.tables[0].keep(&keep).unwrap();
    check(&[window]).await;
}

#[tokio::test]
async fn what_happened_to_tables_has_its_line() {
    let orders = || TableName::new("shop", "orders");
    let kinds = [
        EventKind::SchemaChange {
            database: "shop".into(),
            tables: vec![orders()],
            statement: Some("ALTER TABLE `orders` ADD \"x\"\nINT".into()),
        },
        EventKind::SchemaChange {
            database: "shop".into(),
            tables: vec![orders(), TableName::new("bank", "b")],
            statement: None,
        },
        EventKind::SchemaChange {
            database: "shop".into(),
            tables: vec![],
            statement: Some("CREATE DATABASE x".into()),
        },
        EventKind::Truncate { table: orders() },
        EventKind::Drop { table: orders() },
        EventKind::DropDatabase { database: "old".into() },
        EventKind::Rename { from: TableName::new("shop", "a"), to: orders() },
        EventKind::Invalidate { table: orders(), reason: "renamed".into() },
    ];
    let change = (0, Change::Insert(row(1, "a")));
    let mut window = window(0, &[Commit(10, vec![change.clone(); kinds.len() + 1])]);
    // Every ordinal but the first is an event's.
    let keep = BooleanBuffer::collect_bool(kinds.len() + 1, |row| row == 0);
    window.tables[0] = window.tables[0].keep(&keep).unwrap();
    window.events = (1..).zip(kinds).map(|(ordinal, kind)| Event { ordinal, txn: 0, kind }).collect();
    check(&[window]).await;
}

#[tokio::test]
async fn numbers_go_on_over_the_parts_of_a_transaction() {
    let some = |count: i64, table: usize| {
        let change = |id| (table, Change::Insert(row(id, "open")));
        window(10, &[Commit(20, (0..count).map(change).chain([(1, Change::Delete(row(0, "x")))]).collect())])
    };
    let parts = [
        part(some(2, 0), Part::First, 0),
        part(some(1, 2), Part::Middle, 3),
        part(some(3, 0), Part::Last, 5),
    ];
    // The guest is given no state here, so that its own numbers begin anew with each delivery: the relay's are held
    // against one delivery of everything.
    let mut together: Vec<(usize, Change)> = vec![];
    for (count, table) in [(2, 0), (1, 2), (3, 0)] {
        together.extend((0..count).map(|id| (table, Change::Insert(row(id, "open")))));
        together.push((1, Change::Delete(row(0, "x"))));
    }
    assert_eq!(answered(&parts).await, printed(&[window(10, &[Commit(20, together)])]).await);
}
