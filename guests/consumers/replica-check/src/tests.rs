//! The consumer as the host drives it, natively. Each test has a thread, and so a state, of its own.

#![allow(clippy::unwrap_used, reason = "tests")]

use tidemill_guest::consumer::{Failure, Happening, Invalidation, Part, Phase, RawBatch, Renaming, Running};
use tidemill_guest::digest::{Digest, Row, Value};
use tidemill_guest::testing::{self, Deliveries};
use tidemill_guest::{Column, Error, TableDef, build, state};

use super::ReplicaCheck;
use super::kept::{Table, Total};

const CONFIG: &str =
    r#"{"sum":[{"table":"bank.a","column":"balance"},{"table":"bank.b","column":"balance"}],"equals":100}"#;

fn tables() -> [TableDef; 2] {
    let columns = [("id", "int64"), ("balance", "decimal(10,2)")];
    let b = TableDef { id: 2, ..testing::table("bank.b", &columns, &["id"]) };
    [testing::table("bank.a", &columns, &["id"]), b]
}

fn instance() -> Running<ReplicaCheck> {
    let mut guest = Running::setup(CONFIG).unwrap();
    tables().iter().for_each(|table| assert!(guest.plan(table).unwrap().is_some()));
    guest
}

fn rows(rows: &[(i64, &str)]) -> Vec<Column> {
    let (ids, balances): (Vec<i64>, Vec<&str>) = rows.iter().copied().unzip();
    vec![build::Ints::of(&ids), build::Texts::of(&balances)]
}

/// One row into each table: 60 and 40.
fn seed() -> RawBatch {
    let [a, b] = tables();
    let mut deliveries = Deliveries::new(Phase::Live);
    deliveries.begin("seed-a", Part::Whole).changes(&a, &[0], rows(&[(1, "60.00")]), rows(&[(0, "")]));
    deliveries.begin("seed-b", Part::Whole).changes(&b, &[0], rows(&[(1, "40.00")]), rows(&[(0, "")]));
    deliveries.batch()
}

/// From a's 60 to b's 40.
fn transfer(id: &str, from: &str, to: &str) -> RawBatch {
    let [a, b] = tables();
    let mut deliveries = Deliveries::new(Phase::Live);
    deliveries.begin(id, Part::Whole).changes(&a, &[1], rows(&[(1, from)]), rows(&[(1, "60.00")])).changes(
        &b,
        &[1],
        rows(&[(1, to)]),
        rows(&[(1, "40.00")]),
    );
    deliveries.batch()
}

fn kept<T: serde::de::DeserializeOwned>(key: &str) -> T {
    serde_json::from_slice(&state::get(key).unwrap_or_else(|| panic!("state {key}"))).unwrap()
}

fn digest(rows: &[(i64, &str)]) -> Digest {
    let mut digest = Digest::default();
    for (id, balance) in rows {
        let mut row = Row::new();
        row.push(Value::Int((*id).into()));
        row.push(Value::Decimal(balance));
        digest.add(&row);
    }
    digest
}

#[test]
fn digests_are_those_of_the_rows_that_are_there() {
    let [a, _] = tables();
    let mut deliveries = Deliveries::new(Phase::Live);
    let after = rows(&[(1, "1.00"), (2, "2"), (1, "1.50"), (0, "")]);
    let before = rows(&[(0, ""), (0, ""), (1, "1.0"), (2, "2.00")]);
    deliveries.begin("t1", Part::Whole).changes(&a, &[0, 0, 1, 2], after, before);
    instance().process(&deliveries.batch()).unwrap();
    let table: Table = kept("table/bank.a");
    assert_eq!((table.digest, table.rows), (digest(&[(1, "1.5")]), 1));
    assert_eq!((table.inserts, table.updates, table.deletes, table.snapshot), (2, 1, 1, 0));
}

#[test]
fn any_instance_goes_on_where_another_one_stopped() {
    instance().process(&seed()).unwrap();
    instance().process(&transfer("t1", "50.00", "50.00")).unwrap();
    let total: Total = kept("total");
    assert_eq!(
        (total.transactions, total.id.as_str(), total.sum.to_string().as_str(), total.reached),
        (3, "t1", "100", true)
    );
    assert_eq!(kept::<Table>("table/bank.b").digest, digest(&[(1, "50")]));
}

#[test]
fn a_sum_that_is_not_kept_stops_at_its_transaction_and_leaves_no_trace() {
    let mut guest = instance();
    guest.process(&seed()).unwrap();
    let [a, _] = tables();
    let mut deliveries = Deliveries::new(Phase::Live);
    deliveries.begin("good", Part::Whole).changes(&a, &[1], rows(&[(1, "60.0")]), rows(&[(1, "60.00")]));
    deliveries.begin("bad", Part::Whole).changes(&a, &[1], rows(&[(1, "59.99")]), rows(&[(1, "60.00")]));
    let Err(Failure { done: 1, cause: Error::Fatal(message) }) = guest.process(&deliveries.batch()) else {
        panic!("a hundredth is lost")
    };
    assert!(
        message.starts_with("transaction bad at SCN 2 leaves a sum of 99.99, and 100 has to be kept"),
        "{message}"
    );
    let total: Total = kept("total");
    assert_eq!((total.id.as_str(), total.sum.to_string().as_str()), ("good", "100"));
    assert_eq!(kept::<Table>("table/bank.a").digest, digest(&[(1, "60")]));
}

#[test]
fn the_sum_is_looked_at_only_at_the_end_of_a_transaction_and_once_it_was_reached() {
    let mut guest = instance();
    guest.process(&seed()).unwrap();
    let [a, b] = tables();
    let part = |part, table: &TableDef, after, before| {
        let mut deliveries = Deliveries::new(Phase::Live);
        deliveries.begin("big", part).changes(table, &[1], rows(&[(1, after)]), rows(&[(1, before)]));
        deliveries.batch()
    };
    guest.process(&part(Part::First, &a, "0.00", "60.00")).unwrap();
    assert_eq!(kept::<Total>("total").transactions, 2);
    instance().process(&part(Part::Last, &b, "100.00", "40.00")).unwrap();
    assert_eq!(kept::<Total>("total").transactions, 3);
}

#[test]
fn a_row_that_was_not_sent_whole_is_rejected_by_name() {
    let [a, _] = tables();
    let mut balance = build::Texts::default();
    balance.push_absent();
    let mut deliveries = Deliveries::new(Phase::Live);
    let before = vec![build::Ints::of(&[1]), balance.finish()];
    deliveries.begin("t", Part::Whole).changes(&a, &[1], rows(&[(1, "1.00")]), before);
    let Err(Failure { done: 0, cause: Error::Rejected(rows) }) = instance().process(&deliveries.batch())
    else {
        panic!("the balance is absent")
    };
    assert!(rows[0].row == 0 && rows[0].message.starts_with("table bank.a: column \"balance\""), "{rows:?}");
}

#[test]
fn snapshot_rows_are_added_and_deltas_refused() {
    let [a, _] = tables();
    let batch = |phase| {
        let mut deliveries = Deliveries::new(phase);
        deliveries.begin("s", Part::Whole).changes(&a, &[3], rows(&[(1, "5")]), rows(&[(0, "")]));
        deliveries.batch()
    };
    instance().process(&batch(Phase::Snapshot)).unwrap();
    assert_eq!(kept::<Table>("table/bank.a").snapshot, 1);
    assert!(matches!(
        instance().process(&batch(Phase::Deltas)),
        Err(Failure { done: 0, cause: Error::Unsupported(_) })
    ));
}

#[test]
fn what_cannot_be_summed_is_refused() {
    let text = testing::table("bank.a", &[("id", "int64"), ("balance", "text")], &["id"]);
    let mut guest = Running::<ReplicaCheck>::setup(CONFIG).unwrap();
    let Err(Error::Unsupported(message)) = guest.plan(&text) else { panic!("text is no amount") };
    assert_eq!(
        message,
        "sum: column bank.a.balance is text; integers and decimals of up to 12 places are summed"
    );
    assert!(Running::<ReplicaCheck>::setup(r#"{"equals":1}"#).is_err());
}

#[test]
fn a_truncated_or_dropped_table_has_no_rows_and_a_renamed_one_takes_them_along() {
    let mut guest =
        Running::<ReplicaCheck>::setup(r#"{"sum":[{"table":"bank.a","column":"balance"}]}"#).unwrap();
    tables().iter().for_each(|table| assert!(guest.plan(table).unwrap().is_some()));
    guest.process(&seed()).unwrap();
    let happens = |guest: &mut Running<ReplicaCheck>, what| {
        let mut deliveries = Deliveries::new(Phase::Live);
        deliveries.begin("t", Part::Whole).event(what);
        guest.process(&deliveries.batch()).unwrap();
    };
    let name = testing::name;
    happens(&mut guest, Happening::Truncated(name("bank.a")));
    let table: Table = kept("table/bank.a");
    assert_eq!((table.digest, table.rows, table.inserts, table.emptied), (digest(&[]), 0, 1, 1));
    assert_eq!(kept::<Total>("total").sum.to_string(), "0");
    happens(&mut guest, Happening::Renamed(Renaming { from: name("bank.b"), to: name("bank.c") }));
    assert_eq!(kept::<Table>("table/bank.b").rows, 0);
    assert_eq!(kept::<Table>("table/bank.c").digest, digest(&[(1, "40")]));
    let reason = "renamed".to_owned();
    happens(&mut guest, Happening::Invalidated(Invalidation { table: name("bank.c"), reason }));
    assert_eq!(kept::<Table>("table/bank.c").invalidated, 1);
    happens(&mut guest, Happening::SchemaDropped("bank".to_owned()));
    assert_eq!(kept::<Table>("table/bank.c").rows, 0);
}
