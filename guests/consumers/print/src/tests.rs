//! Lines as the host would see them, natively.

#![allow(clippy::unwrap_used, reason = "tests")]

use tidemill_guest::consumer::{
    Batch, Consumer, Failure, Happening, Interested, Invalidation, Part, Phase, Renaming, Running,
    SchemaChange,
};
use tidemill_guest::testing::{self, Deliveries};
use tidemill_guest::{Error, TableDef, build};

use super::{Layout, Print, render};

/// The same guest, with the lines kept instead of written.
struct Kept(Print, std::rc::Rc<std::cell::RefCell<Vec<u8>>>);

thread_local! {
    static LINES: std::rc::Rc<std::cell::RefCell<Vec<u8>>> = std::rc::Rc::default();
}

impl Consumer for Kept {
    type Config = <Print as Consumer>::Config;
    type Plan = Layout;
    fn setup(config: Self::Config) -> Result<Self, Error> {
        Ok(Kept(Print::setup(config)?, LINES.with(std::rc::Rc::clone)))
    }
    fn plan(&self, table: &TableDef) -> Result<Option<Interested<Layout>>, Error> {
        self.0.plan(table)
    }
    fn process(&mut self, batch: &Batch<'_, Layout>) -> Result<(), Failure> {
        render(batch, &self.0.config, &mut self.1.borrow_mut()).keep(batch);
        Ok(())
    }
}

fn orders() -> TableDef {
    testing::table("shop.orders", &[("id", "int64"), ("note", "text")], &["id"])
}

fn printed(deliver: impl FnOnce(&mut Deliveries, &TableDef), phase: Phase) -> Vec<String> {
    let mut guest = Running::<Kept>::setup(r#"{"schema_changes":true}"#).unwrap();
    guest.plan(&orders()).unwrap();
    let mut deliveries = Deliveries::new(phase);
    deliver(&mut deliveries, &orders());
    guest.process(&deliveries.batch()).unwrap();
    let lines = LINES.with(|lines| std::mem::take(&mut *lines.borrow_mut()));
    let lines = String::from_utf8(lines).unwrap();
    for line in lines.lines() {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
    }
    lines.lines().map(str::to_owned).collect()
}

#[test]
fn a_transaction_is_written_in_the_debezium_envelope() {
    let lines = printed(
        |deliveries, orders| {
            let after = vec![build::Ints::of(&[1, 1, 0]), build::Texts::of(&["a", "b", ""])];
            let mut note = build::Texts::default();
            note.push("");
            note.push_null();
            note.push_absent();
            let before = vec![build::Ints::of(&[0, 1, 1]), note.finish()];
            deliveries.begin("uuid:7", Part::Whole).changes(orders, &[0, 1, 2], after, before);
        },
        Phase::Live,
    );
    let source = |ordinal| {
        format!(
            r#""source":{{"connector":"tidemill","name":"test","db":"shop","table":"orders","snapshot":"false","scn":1,"gtid":"uuid:7","ts_us":1500000,"ordinal":{ordinal}}}"#
        )
    };
    let transaction = |order| {
        format!(r#""transaction":{{"id":"uuid:7","total_order":{order},"data_collection_order":{order}}}"#)
    };
    assert_eq!(
        lines,
        [
            format!(
                r#"{{"before":null,"after":{{"id":1,"note":"a"}},{},{},"op":"c","ts_ms":1500}}"#,
                source(0),
                transaction(1)
            ),
            format!(
                r#"{{"before":{{"id":1,"note":null}},"after":{{"id":1,"note":"b"}},{},{},"op":"u","ts_ms":1500}}"#,
                source(1),
                transaction(2)
            ),
            format!(
                r#"{{"before":{{"id":1}},"after":null,{},{},"op":"d","ts_ms":1500}}"#,
                source(2),
                transaction(3)
            ),
        ]
    );
}

#[test]
fn what_happened_has_a_line_in_its_place() {
    let lines = printed(
        |deliveries, orders| {
            let columns = || vec![build::Ints::of(&[5]), build::Texts::of(&["x"])];
            let name = testing::name;
            deliveries
                .begin("t", Part::Whole)
                .changes(orders, &[0], columns(), columns())
                .event(Happening::Truncated(name("shop.orders")))
                .event(Happening::SchemaChanged(SchemaChange {
                    schema: "shop".to_owned(),
                    tables: vec![name("shop.orders"), name("shop.b")],
                    statement: Some("ALTER \"x\"".to_owned()),
                }))
                .event(Happening::Renamed(Renaming { from: name("shop.a"), to: name("shop.b") }))
                .event(Happening::Invalidated(Invalidation {
                    table: name("shop.b"),
                    reason: "renamed".to_owned(),
                }))
                .event(Happening::SchemaDropped("old".to_owned()))
                .changes(orders, &[0], columns(), columns());
        },
        Phase::Live,
    );
    let rest = |number: u32| {
        format!(
            r#","snapshot":"false","scn":1,"gtid":"t","ts_us":1500000,"ordinal":{}}},"transaction":{{"id":"t","total_order":{number}}}"#,
            number - 1
        )
    };
    let source = r#""source":{"connector":"tidemill","db":"#;
    assert_eq!(
        lines[1..6],
        [
            format!(
                r#"{{"before":null,"after":null,{source}"shop","table":"orders"{},"op":"t","ts_ms":1500}}"#,
                rest(2)
            ),
            format!(
                r#"{{"event":"schema-changed","statement":"ALTER \"x\"","tables":["shop.orders","shop.b"],{source}"shop"{},"ts_ms":1500}}"#,
                rest(3)
            ),
            format!(
                r#"{{"event":"renamed","from":"shop.a","to":"shop.b",{source}"shop","table":"b"{},"ts_ms":1500}}"#,
                rest(4)
            ),
            format!(
                r#"{{"event":"invalidated","reason":"renamed",{source}"shop","table":"b"{},"ts_ms":1500}}"#,
                rest(5)
            ),
            format!(r#"{{"event":"schema-dropped",{source}"old"{},"ts_ms":1500}}"#, rest(6)),
        ]
    );
    // Each call of `changes` makes a change-set of its own, of which this is the first.
    let last = r#""ordinal":6},"transaction":{"id":"t","total_order":7,"data_collection_order":1}"#;
    assert!(lines[6].contains(last), "{lines:?}");
}

#[test]
fn a_snapshot_row_is_read() {
    let lines = printed(
        |deliveries, orders| {
            let columns = || vec![build::Ints::of(&[5]), build::Texts::of(&["x"])];
            deliveries.begin("snapshot", Part::Whole).changes(orders, &[3], columns(), columns());
        },
        Phase::Snapshot,
    );
    assert!(
        lines[0].contains(r#""snapshot":"true""#) && lines[0].contains(r#""transaction":null,"op":"r""#),
        "{lines:?}"
    );
}

#[test]
fn the_last_state_of_a_row_has_no_transaction() {
    let lines = printed(
        |deliveries, orders| {
            let columns = || vec![build::Ints::of(&[5]), build::Texts::of(&["x"])];
            deliveries.begin("deltas", Part::Whole).changes(orders, &[0], columns(), columns());
        },
        Phase::Deltas,
    );
    assert!(
        lines[0].contains(r#""snapshot":"incremental""#)
            && lines[0].contains(r#""transaction":null,"op":"c""#),
        "{lines:?}"
    );
}

#[test]
fn orders_go_on_over_the_parts_of_a_transaction_in_any_instance() {
    let part = |part| {
        printed(
            |deliveries, orders| {
                let columns = || vec![build::Ints::of(&[5, 6]), build::Texts::of(&["x", "y"])];
                deliveries.begin("big", part).changes(orders, &[0, 0], columns(), columns());
            },
            Phase::Live,
        )
    };
    let lines: Vec<String> = [Part::First, Part::Middle, Part::Last].into_iter().flat_map(part).collect();
    let expected =
        (1..=6).map(|order| format!("\"total_order\":{order},\"data_collection_order\":{order}}}"));
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.contains(&expected), "{line}");
    }
    assert_eq!(lines.len(), 6);
    assert_eq!(tidemill_guest::state::get("print/open"), None);
}

#[test]
fn the_guest_writes_to_standard_output() {
    let mut guest = Running::<Print>::setup(r#"{"tables":["shop.*"]}"#).unwrap();
    assert_eq!(guest.plan(&testing::table("bank.a", &[], &[])), Ok(None));
    guest.plan(&orders()).unwrap();
    let columns = || vec![build::Ints::of(&[1]), build::Texts::of(&["a"])];
    let mut deliveries = Deliveries::new(Phase::Live);
    deliveries.begin("t", Part::Whole).changes(&orders(), &[0], columns(), columns());
    assert_eq!(guest.process(&deliveries.batch()), Ok(()));
    assert!(Running::<Print>::setup(r#"{"pretty":true}"#).is_err());
}
