//! Filters in the sandbox: the same answer as native code, and what that does to a window.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use support::{Order, Random, config, filter, inserts, module, order_changes, rows_of, window, with_absent};
use tidemill_event::{EventKind, RowKind, TableName};
use tidemill_sandbox::{Answer, FilterStage, GuestEnd, Kind, Limits};

const WHERE: &str = r#"{"tables":["shop.orders"],"where":"amount >= 50 and status like 'active%'"}"#;

/// The same, natively.
fn passes(order: &Order) -> bool {
    order.cents.is_some_and(|cents| cents >= 5_000)
        && order.status.as_ref().is_some_and(|status| status.starts_with("active"))
}

#[test]
fn where_in_the_sandbox_keeps_what_native_code_keeps() {
    let mut stage = filter("where", WHERE).unwrap();
    let mut random = Random(7);
    for round in 0..40 {
        let size = [1, 7, 64, 65, 300][round % 5];
        let before = random.window(size);
        let expected: Vec<_> =
            rows_of(&before.tables[0]).into_iter().filter(|(.., order)| passes(order)).collect();
        let after = stage.apply(before.clone()).unwrap();
        let kept = after.tables.first().map(rows_of).unwrap_or_default();
        assert_eq!(kept, expected, "round {round}");
        assert_eq!((after.span, &after.transactions), (before.span, &before.transactions));
        after.validate().unwrap();
    }
}

#[test]
fn batches_of_any_size_give_the_same_answer() {
    let whole = Random(3).window(500);
    let expected = rows_of(&filter("where", WHERE).unwrap().apply(whole.clone()).unwrap().tables[0]);
    for batch_rows in [1, 3, 8, 64, 100_000] {
        let limits = Limits { batch_rows, ..Limits::pure() };
        let mut config = config(WHERE);
        config.limits = limits;
        let mut stage = FilterStage::open(&module("where"), config).unwrap();
        assert_eq!(rows_of(&stage.apply(whole.clone()).unwrap().tables[0]), expected, "{batch_rows}");
    }
    // Bytes cut batches as rows do.
    let mut config = config(WHERE);
    config.limits.input_bytes = 200;
    let mut stage = FilterStage::open(&module("where"), config).unwrap();
    assert_eq!(rows_of(&stage.apply(whole).unwrap().tables[0]), expected);
}

#[test]
fn a_row_that_moves_in_becomes_an_insert_and_one_that_moves_out_a_delete() {
    let (small, large) = (|id| Order::new(id, 100, "active"), |id| Order::new(id, 9_000, "active"));
    let rows = [
        (RowKind::UpdateBefore, 0, 0, small(1)),
        (RowKind::UpdateAfter, 0, 0, large(1)),
        (RowKind::UpdateBefore, 1, 0, large(2)),
        (RowKind::UpdateAfter, 1, 0, small(2)),
        (RowKind::UpdateBefore, 2, 0, large(3)),
        (RowKind::UpdateAfter, 2, 0, large(3)),
    ];
    let after = filter("where", WHERE).unwrap().apply(window(vec![order_changes(&rows)], &[3])).unwrap();
    let kept: Vec<(Option<u32>, Option<u32>)> =
        after.changes_in_order().iter().map(|c| (c.before, c.after)).collect();
    assert_eq!(kept, [(None, Some(0)), (Some(1), None), (Some(2), Some(3))]);
    assert_eq!(&after.tables[0].ordinal[..], [0, 1, 2, 2]);
}

#[test]
fn a_window_without_any_row_left_keeps_its_transactions_and_events() {
    let mut before = inserts(&[Order::new(1, 1, "sent"), Order::new(2, 2, "sent")]);
    before.transactions[1].change_count = 2;
    let table = TableName::new("shop", "orders");
    before.events.push(tidemill_event::Event { ordinal: 2, txn: 1, kind: EventKind::Truncate { table } });
    let after = filter("where", WHERE).unwrap().apply(before.clone()).unwrap();
    assert!(after.tables.is_empty());
    assert_eq!((&after.transactions, &after.events), (&before.transactions, &before.events));
    assert_eq!((after.span, after.checkpoint()), (before.span, before.checkpoint()));
}

#[test]
fn null_does_not_pass_and_absent_is_an_error_that_names_the_column() {
    let mut order = Order::new(1, 9_000, "active");
    order.cents = None;
    let mut stage = filter("where", WHERE).unwrap();
    assert!(stage.apply(inserts(&[order.clone()])).unwrap().tables.is_empty());
    let mut before = inserts(&[order]);
    before.tables[0] = with_absent(before.tables[0].clone(), 1, &[0]);
    let error = stage.apply(before).unwrap_err();
    assert!(matches!(error.end, GuestEnd::Error(Answer::Rejected(_))), "{error}");
    let text = error.to_string();
    for part in ["\"where\"", "function keep", "shop.orders", "after 1/100 up to 200", "amount"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // An absent value in a column that does not decide stays absent.
    let mut before = inserts(&[Order::new(1, 9_000, "active"), Order::new(2, 1, "active")]);
    before.tables[0] = with_absent(before.tables[0].clone(), 4, &[0]);
    let after = stage.apply(before).unwrap();
    assert!(after.tables[0].is_absent(0, 4) && !after.tables[0].is_absent(0, 1));
}

#[test]
fn a_table_that_the_filter_does_not_name_passes_as_it_is() {
    let before = inserts(&[Order::new(1, 1, "sent")]);
    let mut stage = filter("where", r#"{"tables":["shop.customers"],"where":"amount > 1"}"#).unwrap();
    let after = stage.apply(before.clone()).unwrap();
    assert_eq!(after.tables[0].rows, before.tables[0].rows);
}

#[test]
fn wrong_configurations_name_guest_and_key() {
    let error = filter("where", r#"{"where":"amount >"}"#).err().unwrap();
    assert!(matches!(error.end, GuestEnd::Error(Answer::Config(_))), "{error}");
    assert_eq!((error.function, error.kind, &*error.guest), ("setup", Kind::Filter, "where"));
    let error = filter("where", r#"{"wher":"amount > 1"}"#).err().unwrap();
    assert!(error.to_string().contains("wher"), "{error}");
    let mut stage = filter("where", r#"{"where":"colour = 'red'"}"#).unwrap();
    let error = stage.apply(inserts(&[Order::new(1, 1, "sent")])).unwrap_err();
    assert_eq!(error.function, "plan");
    assert!(error.to_string().contains("colour"), "{error}");
    let error = filter("mask", "{}").err().unwrap();
    assert!(error.to_string().contains("the module is a projection, not a filter"), "{error}");
    let mut greedy = config(WHERE);
    greedy.limits.memory_bytes = 1 << 40;
    let error = FilterStage::open(&module("where"), greedy).err().unwrap();
    assert!(error.to_string().contains("memory of 1099511627776 bytes is more than 536870912"), "{error}");
}

#[test]
fn partitions_hold_every_row_exactly_once() {
    let before = Random(11).window(400);
    let all = rows_of(&before.tables[0]);
    let configs = [
        ("hash", r#""of":4"#, 4),
        ("mod", r#""of":3,"column":"quantity""#, 3),
        ("range", r#""bounds":[-2,0,3],"column":"quantity""#, 4),
        ("range", r#""bounds":["active 1","b"],"column":"status""#, 3),
    ];
    for (by, rest, of) in configs {
        let mut found = vec![];
        for bucket in 0..of {
            let json = format!(r#"{{"by":"{by}",{rest},"take":[{bucket}]}}"#);
            let after = filter("partition", &json).unwrap().apply(before.clone()).unwrap();
            found.extend(after.tables.first().map(rows_of).unwrap_or_default());
        }
        // An update's two rows share an ordinal: the kind orders them.
        found.sort_by_key(|row| (row.1, row.0 as u8));
        assert_eq!(found, all, "{by}");
    }
}
