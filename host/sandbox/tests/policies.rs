//! Policies in the sandbox: what they decline, drop or mask is nowhere in what goes on, by whatever path.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch, StringArray, new_null_array};
use arrow_schema::DataType;
use support::{
    Order, Random, changes, config, inserts, module, order_changes, orders, rows_of, window, with_absent,
};
use tidemill_event::{
    ColumnSchema, Event, EventKind, RowKind, Sensitivity, TableName, TableSchema, encode_window,
};
use tidemill_sandbox::{Answer, Comparison, GuestEnd, GuestError, PolicyStage};

const SELECT: &str = r#"{"tables":[{"match":"shop.orders",
    "columns":{"status":{"pseudonym":"STATUS_KEY"},"note":"drop","quantity":"blank"},
    "rows":"amount > 0 and status in ('paid', 'sent')"}]}"#;

fn policy(json: &str) -> Result<PolicyStage, GuestError> {
    let secrets = HashMap::from([("STATUS_KEY".to_owned(), b"key".to_vec())]);
    PolicyStage::open(&module("select"), config(json), secrets)
}

const CANARY: &str = "canary-7f3a";

fn secret_table() -> Arc<TableSchema> {
    let text = |name| ColumnSchema::new(name, DataType::Utf8, "text", true);
    TableSchema::new(TableName::new("shop", "secret"), vec![text("word")], vec![])
}

#[test]
fn a_canary_in_dropped_masked_and_declined_places_is_nowhere_in_the_stored_bytes() {
    let mut order = Order::new(1, 100, "paid");
    order.note = Some(CANARY.into());
    let mut filtered = Order::new(2, -5, "sent");
    filtered.status = Some(CANARY.into());
    let rows = [(RowKind::Insert, 0, 0, order), (RowKind::Insert, 1, 0, filtered)];
    let words: ArrayRef = Arc::new(StringArray::from(vec![CANARY]));
    let declined = changes(&secret_table(), vec![words], &[(RowKind::Insert, 2, 0)]);
    let mut before = window(vec![order_changes(&rows), declined], &[4]);
    let statement = Some(format!("ALTER TABLE t COMMENT '{CANARY}'"));
    let kind = EventKind::SchemaChange { database: "shop".into(), tables: vec![], statement };
    before.events.push(Event { ordinal: 3, txn: 0, kind });
    let after = policy(SELECT).unwrap().apply(before).unwrap();
    after.validate().unwrap();
    let frame = encode_window(&after).unwrap();
    let bytes = frame.bytes();
    assert!(!bytes.windows(CANARY.len()).any(|bytes| bytes == CANARY.as_bytes()));
    assert_eq!(after.events.len(), 1);
    assert_eq!((after.tables.len(), after.row_count()), (1, 1));
}

#[test]
fn columns_are_treated_as_the_policy_says() {
    let mut null = Order::new(3, 100, "sent");
    null.status = None;
    let before = inserts(&[Order::new(1, 100, "paid"), Order::new(2, 100, "open"), null]);
    let mut stage = policy(SELECT).unwrap();
    let after = stage.apply(before.clone()).unwrap();
    let table = &after.tables[0];
    let columns = table.schema.columns();
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["id", "amount", "status", "quantity"]);
    assert_eq!((columns[2].sensitivity, table.schema.key()), (Sensitivity::Pseudonym, &[0][..]));
    // `open` and NULL are not among the states that are kept.
    assert_eq!((table.rows.num_rows(), &table.ordinal[..]), (1, &[0][..]));
    // printf paid | openssl dgst -sha256 -hmac key
    let expected = "STATUS_KEY:8a3a98ec383a712d90c5841e5cd1b342339f3c3eadd474f13a9ad32a93ad0d71";
    assert_eq!(table.rows.column(2).as_string::<i32>().value(0), expected);
    assert!(table.rows.column(3).is_null(0) && !table.is_absent(0, 3));
    assert_eq!(after.transactions, before.transactions);
    // The same policy has the same fingerprint, another one another.
    assert_eq!(stage.fingerprint(), policy(SELECT).unwrap().fingerprint());
    assert_ne!(stage.fingerprint(), policy(r#"{"tables":[]}"#).unwrap().fingerprint());
}

#[test]
fn two_policies_that_store_the_same_of_a_table_have_decided_the_same_about_it() {
    let decided = |json: &str| policy(json).unwrap().decided(&orders()).unwrap();
    let alone = |entry: &str| decided(&format!(r#"{{"tables":[{{"match":"shop.orders"{entry}}}]}}"#));
    let beside = |entry: &str| {
        let other = r#"{"match":"shop.secret","columns":{"word":"drop"}}"#;
        decided(&format!(r#"{{"tables":[{other},{{"match":"shop.orders"{entry}}}]}}"#))
    };
    let mut different = std::collections::BTreeSet::new();
    for entry in [
        "",
        r#","columns":{"note":"drop"}"#,
        r#","columns":{"note":"blank"}"#,
        r#","columns":{"note":{"pseudonym":"STATUS_KEY"}}"#,
        r#","columns":{"status":{"pseudonym":"STATUS_KEY"}}"#,
        r#","rows":"amount > 0""#,
        r#","rows":"amount > 1""#,
        r#","rows":"amount >= 1""#,
        r#","rows":"quantity > 1""#,
    ] {
        assert!(different.insert(alone(entry).unwrap()), "{entry}");
        // What is decided about another table is nothing to this one.
        assert_eq!(beside(entry), alone(entry), "{entry}");
    }
    assert_eq!(alone(""), Some(PolicyStage::decided_by_none(&orders())));
    let either = alone(r#","rows":"amount > 1 and quantity > 1""#);
    assert_eq!(alone(r#","rows":"quantity > 1 and amount > 1""#), either);
    // The guest judges rows: nobody knows which part of its configuration it looks at.
    let judged = r#","rows":"not (amount > 1)""#;
    assert!(different.insert(alone(judged).unwrap()));
    assert_ne!(beside(judged), alone(judged));
    assert_eq!(decided(r#"{"tables":[{"match":"shop.secret"}]}"#), None);
}

#[test]
fn another_instance_of_a_policy_judges_as_the_first_does() {
    let (mut first, before) = (policy(SELECT).unwrap(), Random(9).window(300));
    let mut second = first.another().unwrap();
    assert_eq!(second.fingerprint(), first.fingerprint());
    let stored = |stage: &mut PolicyStage| {
        encode_window(&stage.apply(before.clone()).unwrap()).unwrap().bytes().to_vec()
    };
    assert!(stored(&mut first) == stored(&mut second));
}

#[test]
fn conditions_and_what_is_left_for_the_guest_select_the_same_rows() {
    let before = Random(33).window(600);
    let keep = |rows: &str| {
        let json = format!(r#"{{"tables":[{{"match":"shop.*","rows":{rows:?}}}]}}"#);
        let after = policy(&json).unwrap().apply(before.clone()).unwrap();
        after.tables.first().map(rows_of).unwrap_or_default()
    };
    // The first form is judged by the host, the second has to be judged by the guest.
    let native = keep("amount >= 50 and quantity <= 2");
    let guest = keep("not (not (amount >= 50 and quantity <= 2))");
    let expected: Vec<_> = rows_of(&before.tables[0])
        .into_iter()
        .filter(|(.., o)| o.cents.is_some_and(|c| c >= 5_000) && o.quantity.is_some_and(|q| q <= 2))
        .collect();
    assert!(!expected.is_empty());
    assert_eq!(native, expected);
    assert_eq!(guest, expected);
}

#[test]
fn who_copies_a_table_reads_only_what_is_stored_or_judged_and_stores_the_same() {
    let mut stage = policy(SELECT).unwrap();
    let reads = stage.reads(&orders()).unwrap().unwrap();
    // `note` is dropped, `quantity` is blanked.
    assert_eq!(reads.columns, [0, 1, 2]);
    let compared: Vec<(u32, Comparison)> =
        reads.conditions.iter().map(|c| (c.column, c.comparison)).collect();
    assert_eq!(compared, [(1, Comparison::Gt), (2, Comparison::OneOf)]);
    let before = Random(7).window(300);
    let mut copied = before.clone();
    let rows = &mut copied.tables[0].rows;
    let column = |ordinal: usize| match reads.columns.contains(&(ordinal as u32)) {
        true => Arc::clone(rows.column(ordinal)),
        false => new_null_array(rows.column(ordinal).data_type(), rows.num_rows()),
    };
    let columns = (0..rows.num_columns()).map(column).collect();
    *rows = RecordBatch::try_new(rows.schema(), columns).unwrap();
    let [stored, copied] = [before, copied].map(|window| stage.apply(window).unwrap().tables.remove(0));
    assert_eq!(stored.rows, copied.rows);
    assert!(stored.rows.num_rows() > 0 && stored.schema == reads.schema);
    assert_eq!(stage.reads(&secret_table()).unwrap(), None);
    // What only the guest judges is read, and stored nowhere.
    let json =
        r#"{"tables":[{"match":"shop.*","columns":{"quantity":"drop"},"rows":"not (not quantity <= 2)"}]}"#;
    let reads = policy(json).unwrap().reads(&orders()).unwrap().unwrap();
    assert_eq!((reads.columns, reads.conditions.len()), (vec![0, 1, 2, 3, 4], 0));
}

#[test]
fn a_declined_table_is_known_before_its_rows_and_its_events_vanish() {
    let mut stage = policy(SELECT).unwrap();
    assert!(stage.decides(&orders()).unwrap());
    assert!(!stage.decides(&secret_table()).unwrap());
    let mut before = inserts(&[Order::new(1, 100, "paid")]);
    before.transactions[0].change_count = 8;
    let [orders, secret, other] = ["orders", "secret", "other"].map(|name| TableName::new("shop", name));
    let rename = |from: &TableName, to: &TableName| EventKind::Rename { from: from.clone(), to: to.clone() };
    let tables = vec![secret.clone(), orders.clone()];
    let kinds = [
        EventKind::Truncate { table: secret.clone() },
        EventKind::Truncate { table: orders.clone() },
        EventKind::Drop { table: secret.clone() },
        rename(&orders, &other),
        rename(&orders, &secret),
        rename(&secret, &orders),
        EventKind::SchemaChange { database: "shop".into(), tables, statement: None },
    ];
    for (ordinal, kind) in (1..).zip(kinds) {
        before.events.push(Event { ordinal, txn: 0, kind });
    }
    let after = stage.apply(before).unwrap();
    let kept: Vec<(u32, EventKind)> =
        after.events.into_iter().map(|event| (event.ordinal, event.kind)).collect();
    let left = vec![orders.clone()];
    assert_eq!(
        kept,
        [
            (2, EventKind::Truncate { table: orders.clone() }),
            (4, rename(&orders, &other)),
            // Nothing tells the declined name: the table is gone.
            (5, EventKind::Drop { table: orders.clone() }),
            (7, EventKind::SchemaChange { database: "shop".into(), tables: left, statement: None }),
        ]
    );
    // With `otherwise` everything else is taken as it is.
    let mut stage = policy(r#"{"tables":[],"otherwise":"keep"}"#).unwrap();
    let before = inserts(&[Order::new(1, 100, "paid")]);
    assert_eq!(stage.apply(before.clone()).unwrap().tables[0].rows, before.tables[0].rows);
}

#[test]
fn what_a_policy_cannot_decide_stops_its_source() {
    let config_error = |json: &str| {
        let error = policy(json).and_then(|mut stage| stage.decides(&orders())).unwrap_err();
        assert!(matches!(error.end, GuestEnd::Error(Answer::Config(_))), "{error}");
        error.to_string()
    };
    let text =
        config_error(r#"{"tables":[{"match":"shop.orders","columns":{"note":{"pseudonym":"OTHER"}}}]}"#);
    assert!(text.contains("column \"note\": there is no secret \"OTHER\""), "{text}");
    let text = config_error(r#"{"tables":[{"match":"shop.orders","columns":{"id":"drop"}}]}"#);
    assert!(text.contains("id"), "{text}");
    // A condition on a value that the source did not log.
    let mut stage = policy(SELECT).unwrap();
    let mut before = inserts(&[Order::new(1, 100, "paid")]);
    before.tables[0] = with_absent(before.tables[0].clone(), 1, &[0]);
    let error = stage.apply(before).unwrap_err();
    assert!(error.to_string().contains("column \"amount\" decides which rows may be stored"), "{error}");
    // Where another condition decides, it does not matter.
    let mut before = inserts(&[Order::new(1, 100, "open")]);
    before.tables[0] = with_absent(before.tables[0].clone(), 1, &[0]);
    assert_eq!(stage.apply(before).unwrap().row_count(), 0);
}

#[test]
fn a_row_that_moves_out_of_a_policy_is_deleted_downstream() {
    let rows = [
        (RowKind::UpdateBefore, 0, 0, Order::new(1, 100, "paid")),
        (RowKind::UpdateAfter, 0, 0, Order::new(1, 100, "open")),
    ];
    let after = policy(SELECT).unwrap().apply(window(vec![order_changes(&rows)], &[1])).unwrap();
    let change = after.changes_in_order()[0];
    assert_eq!((change.before, change.after), (Some(0), None));
}
