#![allow(clippy::unwrap_used, reason = "tests")]

use tidemill_guest::consumer::{Batch, Consumer, Failure, Interested, Part, Phase, RawBatch, Running};
use tidemill_guest::testing::{self, Deliveries};
use tidemill_guest::{Cell, Column, Error, TableDef, Values, build};

use super::Mirror;

fn table() -> TableDef {
    testing::table("shop.orders", &[("note", "text"), ("id", "int64")], &["id"])
}

/// `(op, before-image's id, after-image)` of each change, as one transaction.
fn batch(changes: &[(u8, i64, i64, Option<&str>)]) -> RawBatch {
    let mut notes = build::Texts::default();
    changes.iter().for_each(|(_, _, _, note)| notes.push_or_null(*note));
    let ids = build::Ints::of(&changes.iter().map(|change| change.2).collect::<Vec<_>>());
    let before = build::Ints::of(&changes.iter().map(|change| change.1).collect::<Vec<_>>());
    let ops: Vec<u8> = changes.iter().map(|change| change.0).collect();
    let mut deliveries = Deliveries::new(Phase::Live);
    deliveries.begin("t", Part::Whole).changes(&table(), &ops, vec![notes.finish(), ids], vec![before]);
    deliveries.batch()
}

/// Ops, notes and ids that the guest gives for a batch.
fn given(raw: &RawBatch) -> (Vec<u8>, Vec<Column>) {
    let mut probe = Running::<Probe>::setup("{}").unwrap();
    probe.plan(&table()).unwrap();
    probe.process(raw).unwrap();
    GIVEN.take().unwrap()
}

std::thread_local! {
    static GIVEN: std::cell::RefCell<Option<(Vec<u8>, Vec<Column>)>> = const { std::cell::RefCell::new(None) };
}

/// The guest, with its output written down: natively there is no sink.
struct Probe(Mirror);

impl Consumer for Probe {
    type Config = super::Config;
    type Plan = super::Plan;
    fn setup(config: super::Config) -> Result<Self, Error> {
        Mirror::setup(config).map(Probe)
    }
    fn plan(&self, table: &TableDef) -> Result<Option<Interested<super::Plan>>, Error> {
        self.0.plan(table)
    }
    fn process(&mut self, batch: &Batch<'_, super::Plan>) -> Result<(), Failure> {
        let rows = super::gathered(batch).pop().unwrap();
        GIVEN.set(Some(rows.finish(&batch.plans()[0].columns)));
        Ok(())
    }
}

fn ids(column: &Column) -> &[i64] {
    match &column.values {
        Values::Ints(ids) => ids,
        other => panic!("{other:?}"),
    }
}

#[test]
fn rows_go_on_as_they_are_in_the_order_of_their_statements() {
    let raw = batch(&[(0, 0, 1, Some("a")), (1, 1, 1, None), (2, 1, 0, None), (3, 0, 7, Some("s"))]);
    let (ops, columns) = given(&raw);
    assert_eq!(ops, [0, 1, 2, 3]);
    assert_eq!(ids(&columns[1]), [1, 1, 1, 7]);
    let notes: Vec<_> = (0..4).map(|row| columns[0].cell::<&str>(row).unwrap()).collect();
    assert_eq!(notes, [Cell::Value("a"), Cell::Null, Cell::Absent, Cell::Value("s")]);
}

#[test]
fn a_table_without_key_is_refused_by_name() {
    let bare = testing::table("shop.log", &[("line", "text")], &[]);
    let mut guest = Running::<Mirror>::setup("{}").unwrap();
    let Err(Error::Unsupported(message)) = guest.plan(&bare) else { panic!("it has no key") };
    assert!(message.starts_with("table shop.log has no key"), "{message}");
    let mut guest = Running::<Mirror>::setup(r#"{"tables":["bank.*"]}"#).unwrap();
    assert_eq!(guest.plan(&bare).unwrap(), None);
}
