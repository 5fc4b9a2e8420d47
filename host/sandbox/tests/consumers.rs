//! Consumers in the sandbox: what they are given, what they did, and that nothing of a delivery that failed is
//! left over.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, UInt64Type};
use arrow_array::{ArrayRef, Int64Array};
use arrow_schema::DataType;
use serde_json::{Value, json};
use support::{
    Order, Random, Row, changes, config, inserts, module, order_changes, replaced, window, with_absent,
};
use tidemill_event::{ColumnSchema, Event, EventKind, Part, Remedy, RowKind, TableName, TableSchema, Window};
use tidemill_sandbox::{
    Answer, BoxError, ConsumerStage, Delivered, DeliveryPhase, Grant, GuestConfig, GuestEnd, GuestError,
    Kind, LimitHit, Limits, OutputChange, StateReader,
};

/// A sink of nothing but state, committed when the test says so.
#[derive(Default)]
struct Sink(Mutex<HashMap<Vec<u8>, Vec<u8>>>);

impl Sink {
    fn commit(&self, delivered: &Delivered) {
        assert!(delivered.complete);
        let mut state = self.0.lock().unwrap();
        for (key, value) in &delivered.state {
            match value {
                Some(value) => state.insert(key.clone(), value.clone()),
                None => state.remove(key),
            };
        }
    }

    fn text(&self, key: &str) -> Option<String> {
        let value = self.0.lock().unwrap().get(key.as_bytes()).cloned();
        value.map(|bytes| String::from_utf8(bytes).unwrap())
    }

    fn json(&self, key: &str) -> Value {
        serde_json::from_str(&self.text(key).unwrap()).unwrap()
    }
}

impl StateReader for Sink {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, BoxError> {
        Ok(self.0.lock().unwrap().get(key).cloned())
    }
}

async fn open(name: &str, json: &str, limits: Limits, sink: &Arc<Sink>) -> Result<ConsumerStage, GuestError> {
    let mut config = config(json);
    config.limits = limits;
    let state: Arc<dyn StateReader> = Arc::clone(sink) as _;
    ConsumerStage::open(&module(name), config, vec![Grant::Stdout], state).await
}

async fn consumer(name: &str, json: &str, sink: &Arc<Sink>) -> ConsumerStage {
    open(name, json, Limits::consumer(), sink).await.unwrap()
}

fn some_orders(count: u64) -> Window {
    inserts(&(1..=count).map(|id| Order::new(id, 9_000, "active")).collect::<Vec<_>>())
}

fn lines(delivered: &Delivered) -> Vec<Value> {
    let text = std::str::from_utf8(&delivered.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn print_writes_each_change_in_commit_order_over_all_tables() {
    let log = TableSchema::new(
        TableName::new("shop", "log"),
        vec![ColumnSchema::new("n", DataType::Int64, "bigint", false)],
        vec![],
    );
    let rows = [
        (RowKind::Insert, 0, 0, Order::new(1, 990, "sent")),
        (RowKind::UpdateBefore, 2, 1, Order::new(1, 990, "sent")),
        (RowKind::UpdateAfter, 2, 1, Order::new(1, 1_000, "sent")),
        (RowKind::Delete, 4, 1, Order::new(1, 1_000, "sent")),
    ];
    let ns: ArrayRef = Arc::new(Int64Array::from(vec![10, 20]));
    let second = changes(&log, vec![ns], &[(RowKind::Insert, 1, 0), (RowKind::Insert, 3, 1)]);
    let window = window(vec![order_changes(&rows), second], &[2, 3]);
    let mut print = consumer("print", "{}", &Arc::default()).await;
    let delivered = print.deliver(&window, DeliveryPhase::Live).await.unwrap();
    assert_eq!((delivered.complete, delivered.transactions, delivered.changes), (true, 2, 5));
    let lines = lines(&delivered);
    let seen: Vec<(&str, &str)> =
        lines.iter().map(|l| (l["op"].as_str().unwrap(), l["source"]["table"].as_str().unwrap())).collect();
    assert_eq!(seen, [("c", "orders"), ("c", "log"), ("u", "orders"), ("c", "log"), ("d", "orders")]);
    assert_eq!(lines[0]["after"]["amount"], json!("9.90"));
    assert_eq!(lines[0]["before"], Value::Null);
    assert_eq!(
        (&lines[2]["before"]["amount"], &lines[2]["after"]["amount"]),
        (&json!("9.90"), &json!("10.00"))
    );
    assert_eq!((&lines[4]["after"], &lines[4]["before"]["id"]), (&Value::Null, &json!(1)));
    assert_eq!(lines[4]["source"]["scn"], json!(300));
    print.close().await.unwrap();
}

#[tokio::test]
async fn null_is_null_and_absent_is_left_out() {
    let mut order = Order::new(1, 990, "sent");
    order.note = None;
    let mut window = inserts(&[order]);
    window.tables[0] = with_absent(window.tables[0].clone(), 2, &[0]);
    let mut print = consumer("print", "{}", &Arc::default()).await;
    let after = &lines(&print.deliver(&window, DeliveryPhase::Live).await.unwrap())[0]["after"];
    assert_eq!(after.get("note"), Some(&Value::Null));
    assert_eq!(after.get("status"), None);
}

#[tokio::test]
async fn a_changed_key_is_a_delete_and_then_an_insert() {
    let rows = [
        (RowKind::UpdateBefore, 0, 0, Order::new(1, 1, "sent")),
        (RowKind::UpdateAfter, 0, 0, Order::new(2, 1, "sent")),
        // Lone halves, as a filter leaves them.
        (RowKind::UpdateBefore, 1, 0, Order::new(3, 1, "sent")),
        (RowKind::UpdateAfter, 2, 0, Order::new(4, 1, "sent")),
    ];
    let window = window(vec![order_changes(&rows)], &[3]);
    let mut print = consumer("print", "{}", &Arc::default()).await;
    let delivered = print.deliver(&window, DeliveryPhase::Live).await.unwrap();
    assert_eq!(delivered.changes, 4);
    let id = |image: &Value| image["id"].as_u64();
    let seen: Vec<_> = lines(&delivered)
        .iter()
        .map(|l| (l["op"].as_str().unwrap().to_owned(), id(&l["before"]), id(&l["after"])))
        .collect();
    let expected = [("d", Some(1), None), ("c", None, Some(2)), ("d", Some(3), None), ("c", None, Some(4))];
    assert_eq!(seen, expected.map(|(op, before, after)| (op.to_owned(), before, after)));
}

#[tokio::test]
async fn batches_of_any_size_print_the_same() {
    let window = Random(5).window(300);
    let whole =
        consumer("print", "{}", &Arc::default()).await.deliver(&window, DeliveryPhase::Live).await.unwrap();
    for (batch_rows, input_bytes) in [(1, 8 << 20), (7, 8 << 20), (8192, 300)] {
        let limits = Limits { batch_rows, input_bytes, ..Limits::consumer() };
        let mut print = open("print", "{}", limits, &Arc::default()).await.unwrap();
        let delivered = print.deliver(&window, DeliveryPhase::Live).await.unwrap();
        assert_eq!(delivered.changes, whole.changes);
        // `total_order` counts within a part; all else is the same.
        let strip = |delivered: &Delivered| {
            let mut lines = lines(delivered);
            lines.iter_mut().for_each(|line| drop(line.as_object_mut().unwrap().remove("transaction")));
            lines
        };
        assert!(strip(&delivered) == strip(&whole), "batches of {batch_rows} rows, {input_bytes} bytes");
    }
}

#[tokio::test]
async fn a_snapshot_row_says_so_and_a_window_without_changes_does_not_wake_the_guest() {
    let mut print = consumer("print", r#"{"tables":["shop.orders"]}"#, &Arc::default()).await;
    let delivered = print.deliver(&some_orders(1), DeliveryPhase::Snapshot).await.unwrap();
    assert_eq!(lines(&delivered)[0]["op"], json!("r"));
    let mut empty = some_orders(3);
    empty.tables.clear();
    // This one traps in every call of `process`, so that a delivery shows that there was none.
    let mut evil = consumer("evil-consumer", r#"{"do":"trap"}"#, &Arc::default()).await;
    let delivered = evil.deliver(&empty, DeliveryPhase::Live).await.unwrap();
    assert_eq!((delivered.complete, delivered.transactions, delivered.changes), (true, 0, 0));
}

#[tokio::test]
async fn replica_check_has_the_digest_of_the_rows_that_are_there() {
    let sink = Arc::new(Sink::default());
    let mut check = consumer("replica-check", "{}", &sink).await;
    let first: Vec<Row> = [
        (RowKind::Insert, 0, 0, Order::new(1, 500, "sent")),
        (RowKind::Insert, 1, 0, Order::new(2, 700, "sent")),
        (RowKind::UpdateBefore, 2, 1, Order::new(2, 700, "sent")),
        (RowKind::UpdateAfter, 2, 1, Order::new(2, 750, "paid")),
        (RowKind::Delete, 3, 2, Order::new(1, 500, "sent")),
    ]
    .into();
    let delivered =
        check.deliver(&window(vec![order_changes(&first)], &[2, 1, 1]), DeliveryPhase::Live).await;
    sink.commit(&delivered.unwrap());
    let table = sink.json("table/shop.orders");
    assert_eq!((&table["rows"], &table["inserts"], &table["deletes"]), (&json!(1), &json!(2), &json!(1)));
    assert_eq!(sink.json("total")["transactions"], json!(3));
    // Another way to the same rows gives the same digest.
    let other = Arc::new(Sink::default());
    let mut check = consumer("replica-check", "{}", &other).await;
    let rows = [(RowKind::Insert, 0, 0, Order::new(2, 750, "paid"))];
    let delivered = check.deliver(&window(vec![order_changes(&rows)], &[1]), DeliveryPhase::Live).await;
    other.commit(&delivered.unwrap());
    assert_eq!(other.json("table/shop.orders")["digest"], table["digest"]);
}

#[tokio::test]
async fn mirror_gives_each_row_as_it_is_and_a_changed_key_as_a_row_less_and_a_row_more() {
    let rows: Vec<Row> = [
        (RowKind::Insert, 0, 0, Order::new(1, 500, "sent")),
        (RowKind::UpdateBefore, 1, 0, Order::new(1, 500, "sent")),
        (RowKind::UpdateAfter, 1, 0, Order { note: None, ..Order::new(1, -750, "paid") }),
        (RowKind::UpdateBefore, 2, 1, Order::new(1, 750, "paid")),
        (RowKind::UpdateAfter, 2, 1, Order::new(2, 750, "paid")),
        (RowKind::Delete, 3, 1, Order::new(2, 750, "paid")),
    ]
    .into();
    let window = window(vec![order_changes(&rows)], &[2, 2]);
    for batch_rows in [1, 8192] {
        let limits = Limits { batch_rows, ..Limits::consumer() };
        let mut mirror = open("mirror", "{}", limits, &Arc::default()).await.unwrap();
        let delivered = mirror.deliver(&window, DeliveryPhase::Live).await.unwrap();
        let (mut ops, mut ids) = (Vec::<u8>::new(), Vec::<u64>::new());
        let (mut amounts, mut notes) = (Vec::<Option<i128>>::new(), Vec::<Option<String>>::new());
        for output in &delivered.output {
            let OutputChange::Rows(output) = output else { panic!("{output:?}") };
            assert_eq!((output.table.as_str(), output.key.as_slice()), ("shop.orders", &[0][..]));
            let column = |ordinal: usize| output.columns.column(ordinal);
            ops.extend(&output.ops);
            ids.extend(column(0).as_primitive::<UInt64Type>().values());
            amounts.extend(column(1).as_primitive::<Decimal128Type>().iter());
            notes.extend(column(4).as_string::<i32>().iter().map(|note| note.map(str::to_owned)));
        }
        assert_eq!(ops, [0, 1, 2, 0, 2]);
        assert_eq!(ids, [1, 1, 1, 2, 2]);
        assert_eq!(amounts, [Some(500), Some(-750), None, Some(750), None]);
        assert_eq!(notes[..2], [Some("note 1".to_owned()), None]);
    }
}

#[tokio::test]
async fn a_delivery_that_fails_leaves_nothing_and_can_be_made_again() {
    for deed in [r#"{"do":"fail","k":2,"times":1}"#, r#"{"do":"trap","k":2,"times":1}"#] {
        let sink = Arc::new(Sink::default());
        let mut evil = consumer("evil-consumer", deed, &sink).await;
        let first = evil.deliver(&some_orders(3), DeliveryPhase::Live).await.unwrap();
        sink.commit(&first);
        let error = evil.deliver(&some_orders(5), DeliveryPhase::Live).await.unwrap_err();
        assert_eq!((error.done, error.error.remedy()), (0, Remedy::Retry), "{error}");
        assert!(error.effects.state.is_empty());
        assert_eq!(sink.text("processed").as_deref(), Some("3"));
        // A fresh instance begins to count its calls at one: this time it behaves.
        let again = evil.deliver(&some_orders(5), DeliveryPhase::Live).await.unwrap();
        sink.commit(&again);
        assert_eq!(sink.text("processed").as_deref(), Some("8"), "{deed}");
    }
}

#[tokio::test]
async fn what_was_done_before_a_failure_is_told_with_its_effects() {
    // Two calls of two transactions each; the second call fails.
    let limits = Limits { batch_rows: 2, ..Limits::consumer() };
    let sink = Arc::new(Sink::default());
    let mut evil = open("evil-consumer", r#"{"do":"trap","k":2}"#, limits, &sink).await.unwrap();
    let error = evil.deliver(&some_orders(4), DeliveryPhase::Live).await.unwrap_err();
    assert_eq!(error.done, 2);
    assert_eq!(error.effects.state, [(b"processed".to_vec(), Some(b"2".to_vec()))]);
    // The guest may say itself that a part is done.
    let mut evil = consumer("evil-consumer", r#"{"do":"fail","done":3}"#, &sink).await;
    let error = evil.deliver(&some_orders(4), DeliveryPhase::Live).await.unwrap_err();
    assert_eq!(error.done, 3);
    assert_eq!(error.effects.state[0].1.as_deref(), Some(&b"of a call that failed"[..]));
    // But not more than there is.
    let mut evil = consumer("evil-consumer", r#"{"do":"fail","done":9}"#, &sink).await;
    let error = evil.deliver(&some_orders(4), DeliveryPhase::Live).await.unwrap_err();
    assert!(matches!(error.error.end, GuestEnd::Invalid(_)), "{error}");
    assert_eq!((error.done, error.effects.state.len()), (0, 0));
}

#[tokio::test]
async fn a_transaction_too_large_for_one_call_is_rolled_back_as_a_whole() {
    let limits = Limits { batch_rows: 2, ..Limits::consumer() };
    let rows: Vec<Row> = (0..6).map(|i| (RowKind::Insert, i, 0, Order::new(i.into(), 1, "sent"))).collect();
    let one = window(vec![order_changes(&rows)], &[6]);
    let sink = Arc::new(Sink::default());
    let mut evil = open("evil-consumer", r#"{"do":"fail","k":3}"#, limits, &sink).await.unwrap();
    let error = evil.deliver(&one, DeliveryPhase::Live).await.unwrap_err();
    assert_eq!((error.done, error.effects.state.len()), (0, 0), "{error}");
    let mut good = open("evil-consumer", r#"{"do":"behave"}"#, limits, &sink).await.unwrap();
    let delivered = good.deliver(&one, DeliveryPhase::Live).await.unwrap();
    assert_eq!((delivered.transactions, delivered.changes), (3, 6));
    assert_eq!(delivered.state, [(b"processed".to_vec(), Some(b"6".to_vec()))]);
}

#[tokio::test]
async fn effects_of_fragments_are_held_back_until_the_last_one() {
    let fragment = |part: Part, offset: u64| {
        let mut window = some_orders(1);
        window.transactions[0].part = part;
        window.transactions[0].change_offset = offset;
        window
    };
    let sink = Arc::new(Sink::default());
    let mut good = consumer("evil-consumer", r#"{"do":"behave"}"#, &sink).await;
    for (part, offset) in [(Part::First, 0), (Part::Middle, 1)] {
        let held = good.deliver(&fragment(part, offset), DeliveryPhase::Live).await.unwrap();
        assert_eq!((held.complete, held.state.len(), held.changes), (false, 0, 1));
    }
    let last = good.deliver(&fragment(Part::Last, 2), DeliveryPhase::Live).await.unwrap();
    sink.commit(&last);
    assert_eq!(sink.text("processed").as_deref(), Some("3"));
    // A rollback in the middle forgets the beginning.
    good.deliver(&fragment(Part::First, 0), DeliveryPhase::Live).await.unwrap();
    good.rollback();
    let whole = good.deliver(&some_orders(2), DeliveryPhase::Live).await.unwrap();
    sink.commit(&whole);
    assert_eq!(sink.text("processed").as_deref(), Some("5"));
}

/// One insert, then these events in the same transaction, then another insert.
fn with_events(kinds: &[EventKind]) -> Window {
    let count = kinds.len() as u32;
    let row = |id, ordinal| (RowKind::Insert, ordinal, 0, Order::new(id, 100, "paid"));
    let mut window = window(vec![order_changes(&[row(1, 0), row(2, count + 1)])], &[count + 2]);
    for (ordinal, kind) in (1..).zip(kinds) {
        window.events.push(Event { ordinal, txn: 0, kind: kind.clone() });
    }
    window.validate().unwrap();
    window
}

#[tokio::test]
async fn l60_what_happened_to_a_table_comes_in_its_place_among_the_changes() {
    let orders = TableName::new("shop", "orders");
    let other = TableName::new("shop", "other");
    let window = with_events(&[
        EventKind::Truncate { table: orders.clone() },
        EventKind::Truncate { table: other.clone() },
        EventKind::SchemaChange {
            database: "shop".into(),
            tables: vec![orders.clone()],
            statement: Some("ALTER TABLE orders FORCE".into()),
        },
        EventKind::Rename { from: orders.clone(), to: other.clone() },
        EventKind::Invalidate { table: orders.clone(), reason: "its tablespace was imported".into() },
        EventKind::Drop { table: orders },
        EventKind::DropDatabase { database: "shop".into() },
    ]);
    let mut print =
        consumer("print", r#"{"tables":["shop.orders"],"schema_changes":true}"#, &Arc::default()).await;
    let delivered = print.deliver(&window, DeliveryPhase::Live).await.unwrap();
    assert_eq!((delivered.transactions, delivered.changes), (1, 9));
    let lines: Vec<serde_json::Value> = String::from_utf8(delivered.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let said = |line: &serde_json::Value| {
        let word = line["op"].as_str().or(line["event"].as_str()).unwrap_or_default().to_owned();
        format!("{} {word}", line["source"]["ordinal"])
    };
    // The table that is not wanted keeps its number and has no line.
    let expected = [
        "0 c",
        "1 t",
        "3 schema-changed",
        "4 renamed",
        "5 invalidated",
        "6 dropped",
        "7 schema-dropped",
        "8 c",
    ];
    assert_eq!(lines.iter().map(said).collect::<Vec<_>>(), expected);
    assert_eq!(lines[2]["statement"], "ALTER TABLE orders FORCE");
    assert_eq!(lines[4]["reason"], "its tablespace was imported");
}

#[tokio::test]
async fn l60_a_truncated_table_has_no_rows_for_the_replica_check() {
    let sink = Arc::default();
    let mut check = consumer("replica-check", "{}", &sink).await;
    let window = with_events(&[EventKind::Truncate { table: TableName::new("shop", "orders") }]);
    let delivered = check.deliver(&window, DeliveryPhase::Live).await.unwrap();
    sink.commit(&delivered);
    let table = sink.json("table/shop.orders");
    assert_eq!((&table["rows"], &table["inserts"], &table["emptied"]), (&1.into(), &2.into(), &1.into()));
    // An event alone is delivered too: the digest is that of no row.
    let mut alone = with_events(&[EventKind::Drop { table: TableName::new("shop", "orders") }]);
    alone.tables.clear();
    let delivered = check.deliver(&alone, DeliveryPhase::Live).await.unwrap();
    assert_eq!(delivered.changes, 1);
    sink.commit(&delivered);
    assert_eq!(sink.json("table/shop.orders")["rows"], 0);
}

/// What becomes of output tables, in words: rows by how many.
fn said(delivered: &Delivered) -> Vec<String> {
    let said = |change: &OutputChange| match change {
        OutputChange::Rows(rows) => format!("{} + {}", rows.table, rows.ops.len()),
        OutputChange::Truncate { table } => format!("truncate {table}"),
        OutputChange::Rename { table, to } => format!("{table} to {to}"),
    };
    delivered.output.iter().map(said).collect()
}

#[tokio::test]
async fn l60_mirror_empties_and_renames_its_tables_between_the_rows_around_it() {
    let orders = || TableName::new("shop", "orders");
    let other = TableName::new("shop", "other");
    let sink = Arc::default();
    for (kind, expected) in [
        (EventKind::Truncate { table: orders() }, "truncate shop.orders"),
        (EventKind::Drop { table: orders() }, "truncate shop.orders"),
        (EventKind::DropDatabase { database: "shop".into() }, "truncate shop.orders"),
        (EventKind::Rename { from: orders(), to: other.clone() }, "shop.orders to shop.other"),
    ] {
        let window = with_events(&[kind]);
        // Small batches cut the transaction, and each table's rows are written as they come.
        for batch_rows in [1, 8192] {
            let limits = Limits { batch_rows, ..Limits::consumer() };
            let mut mirror = open("mirror", "{}", limits, &sink).await.unwrap();
            let delivered = mirror.deliver(&window, DeliveryPhase::Live).await.unwrap();
            assert_eq!(said(&delivered), ["shop.orders + 1", expected, "shop.orders + 1"]);
        }
    }
}

#[tokio::test]
async fn mirror_stops_before_a_table_whose_content_is_not_known_and_writes_nothing_of_the_delivery() {
    let table = TableName::new("shop", "orders");
    let truncated = EventKind::Truncate { table: table.clone() };
    let unknown = EventKind::Invalidate { table, reason: "its tablespace was imported".into() };
    let mut mirror = consumer("mirror", "{}", &Arc::default()).await;
    let error = mirror.deliver(&with_events(&[truncated.clone(), unknown]), DeliveryPhase::Live).await;
    let error = error.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("table shop.orders is no longer what its changes say, from SCN 200 on"), "{text}");
    assert_eq!((error.done, error.effects.output.len()), (0, 0));
    assert_eq!(error.error.remedy(), Remedy::Fix);
    // The next delivery begins with nothing of the one that was rolled back.
    let delivered = mirror.deliver(&with_events(&[truncated]), DeliveryPhase::Live).await.unwrap();
    assert_eq!(said(&delivered), ["shop.orders + 1", "truncate shop.orders", "shop.orders + 1"]);
}

#[tokio::test]
async fn a_consumer_without_events_is_stopped_by_what_would_make_its_copy_wrong() {
    let orders = || TableName::new("shop", "orders");
    let change = EventKind::SchemaChange { database: "shop".into(), tables: vec![orders()], statement: None };
    let mut evil = consumer("evil-consumer", r#"{"do":"behave"}"#, &Arc::default()).await;
    let delivered = evil.deliver(&with_events(&[change]), DeliveryPhase::Live).await.unwrap();
    assert_eq!(delivered.changes, 2);
    for (kind, what) in [
        (EventKind::Truncate { table: orders() }, "table shop.orders was truncated"),
        (EventKind::Drop { table: orders() }, "table shop.orders was dropped"),
        (EventKind::DropDatabase { database: "shop".into() }, "database shop was dropped"),
        (
            EventKind::Rename { from: orders(), to: TableName::new("shop", "b") },
            "table shop.orders was renamed to shop.b",
        ),
        (
            EventKind::Invalidate { table: orders(), reason: "a partition was exchanged".into() },
            "table shop.orders must be cloned again: a partition was exchanged",
        ),
    ] {
        let error = evil.deliver(&with_events(&[kind]), DeliveryPhase::Live).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains(what) && text.contains("in the transaction at 200"), "{text}");
        assert_eq!(error.error.remedy(), Remedy::Fix);
    }
}

/// With the names of the contract's first version of this minor one; they stand in exports and imports.
fn as_of_0_2_0(wasm: &[u8]) -> Vec<u8> {
    let interfaces = ["types", "host", "output", "state", "lifecycle", "row-filter", "row-projection"];
    let interfaces = interfaces.into_iter().chain(["clone-policy", "change-consumer"]);
    interfaces.fold(wasm.to_vec(), |wasm, interface| {
        let name = |version| format!("tidemill:guest/{interface}@{version}").into_bytes();
        let has_it = wasm.windows(name("0.2.1").len()).any(|bytes| bytes == name("0.2.1"));
        if has_it { replaced(&wasm, &name("0.2.1"), &name("0.2.0")) } else { wasm }
    })
}

/// As `wit/README.md` promises: a PATCH adds what guests may import, and takes nothing away.
#[tokio::test]
async fn guests_that_were_built_for_0_2_0_run_as_they_did() {
    for name in ["where", "partition", "mask", "select", "print", "mirror", "replica-check"] {
        let wasm = as_of_0_2_0(tidemill_artifacts::wasm(name));
        let old = support::sandbox().load(name, &wasm).unwrap();
        if old.kinds().contains(&Kind::Consumer) {
            let state: Arc<dyn StateReader> = Arc::new(Sink::default());
            let config = GuestConfig { limits: Limits::consumer(), ..config("{}") };
            let mut guest = ConsumerStage::open(&old, config, vec![Grant::Stdout], state).await.unwrap();
            let delivered = guest.deliver(&some_orders(3), DeliveryPhase::Live).await.unwrap();
            let mut today = consumer(name, "{}", &Arc::default()).await;
            let as_today = today.deliver(&some_orders(3), DeliveryPhase::Live).await.unwrap();
            assert_eq!(
                (delivered.changes, delivered.stdout, delivered.state),
                (3, as_today.stdout, as_today.state)
            );
        }
    }
}

async fn end_of(json: &str, limits: Limits) -> GuestError {
    let mut evil = open("evil-consumer", json, limits, &Arc::default()).await.unwrap();
    let error = evil.deliver(&some_orders(20), DeliveryPhase::Live).await.unwrap_err().error;
    let text = error.to_string();
    let named = ["consumer guest \"evil-consumer\"", "function ", "after 1/100 up to 2100"];
    assert!(named.iter().all(|part| text.contains(part)), "{text}");
    error
}

#[tokio::test]
async fn a_bad_consumer_ends_at_its_limits() {
    let short = Limits { call_time: Duration::from_millis(500), ..Limits::consumer() };
    let error = end_of(r#"{"do":"spin"}"#, short).await;
    assert!(matches!(error.end, GuestEnd::Limit(LimitHit::Time(_))), "{error}");
    let error = end_of(r#"{"do":"memory"}"#, Limits::consumer()).await;
    assert!(matches!(error.end, GuestEnd::Limit(LimitHit::Memory(_))), "{error}");
    let effects = Limits { effect_bytes: 8 << 20, ..Limits::consumer() };
    for deed in [r#"{"do":"state-flood"}"#, r#"{"do":"stdout-flood"}"#, r#"{"do":"truncate-flood"}"#] {
        let error = end_of(deed, effects).await;
        assert!(matches!(error.end, GuestEnd::Limit(LimitHit::Effects(_))), "{deed}: {error}");
    }
    let error = end_of(r#"{"do":"panic"}"#, Limits::consumer()).await;
    assert!(error.to_string().contains("evil-consumer was asked to panic"), "{error}");
    let error = end_of(r#"{"do":"state-in-plan"}"#, Limits::consumer()).await;
    assert!(error.to_string().contains("state was written outside `process`"), "{error}");
    let error = end_of(r#"{"do":"truncate-in-plan"}"#, Limits::consumer()).await;
    assert!(error.to_string().contains("output was written outside `process`"), "{error}");
    assert_eq!(error.function, "plan");
}

#[tokio::test]
async fn without_a_grant_there_are_no_files_no_network_no_clock_and_no_output() {
    let error = end_of(r#"{"do":"snoop"}"#, Limits::consumer()).await;
    let GuestEnd::Error(Answer::Fatal(text)) = &error.end else { panic!("{error}") };
    assert!(!text.contains("REACHED") && text.contains("environment: 0 variables"), "{text}");
    let error = end_of(r#"{"do":"sleep"}"#, Limits::consumer()).await;
    assert!(error.to_string().contains("grant \"clocks\""), "{error}");
    let print = ConsumerStage::open(&module("print"), config("{}"), vec![], Arc::new(Sink::default())).await;
    let error = print.unwrap().deliver(&some_orders(1), DeliveryPhase::Live).await.unwrap_err();
    assert!(matches!(error.error.end.ending(), tidemill_sandbox::Ending::Error), "{error}");
}

#[tokio::test]
async fn with_clocks_a_sleeping_consumer_is_stopped_by_the_wall_clock() {
    let mut config = config(r#"{"do":"sleep"}"#);
    config.limits = Limits { call_time: Duration::from_millis(500), ..Limits::consumer() };
    let module = module("evil-consumer");
    let opened = ConsumerStage::open(&module, config, vec![Grant::Clocks], Arc::new(Sink::default())).await;
    let error = opened.unwrap().deliver(&some_orders(1), DeliveryPhase::Live).await.unwrap_err();
    assert!(matches!(error.error.end, GuestEnd::Limit(LimitHit::Time(_))), "{error}");
}

#[tokio::test]
async fn a_trap_in_close_is_reported() {
    let mut evil = consumer("evil-consumer", r#"{"do":"trap-in-close"}"#, &Arc::default()).await;
    evil.deliver(&some_orders(1), DeliveryPhase::Live).await.unwrap();
    let error = evil.close().await.unwrap_err();
    assert_eq!(error.function, "close");
    assert!(matches!(error.end, GuestEnd::Trap(_)), "{error}");
}

#[tokio::test]
async fn a_state_that_cannot_be_read_is_the_hosts_fault() {
    let broken = |_: &[u8]| Err::<Option<Vec<u8>>, BoxError>("the disk is gone".into());
    let (module, config) = (module("evil-consumer"), config(r#"{"do":"behave"}"#));
    let opened = ConsumerStage::open(&module, config, vec![], Arc::new(broken));
    let error = opened.await.unwrap().deliver(&some_orders(1), DeliveryPhase::Live).await.unwrap_err();
    assert!(matches!(error.error.end, GuestEnd::HostFault(_)), "{error}");
    assert_eq!(error.error.remedy(), Remedy::Retry);
}

#[test]
fn deliveries_can_move_between_threads() {
    fn is_send<T: Send>(_: T) {}
    fn check(stage: &mut ConsumerStage, window: &Window) {
        is_send(stage.deliver(window, DeliveryPhase::Live));
    }
    let _ = check;
}
