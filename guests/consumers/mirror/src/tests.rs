#![allow(clippy::unwrap_used, reason = "tests")]

use tidemill_guest::consumer::{Happening, Invalidation, Part, Phase, Renaming, Running, SchemaChange};
use tidemill_guest::testing::{self, Deliveries, Written, written};
use tidemill_guest::{Cell, Column, Error, TableDef, Values, build, state};

use super::Mirror;

fn table() -> TableDef {
    testing::table("shop.orders", &[("note", "text"), ("id", "int64")], &["id"])
}

fn named(path: &str, id: u32) -> TableDef {
    TableDef { id, ..testing::table(path, &[("id", "int64")], &["id"]) }
}

/// A guest that has planned these tables.
fn mirror(config: &str, tables: &[&TableDef]) -> Running<Mirror> {
    let mut guest = Running::<Mirror>::setup(config).unwrap();
    assert!(guest.takes_events());
    tables.iter().for_each(|table| drop(guest.plan(table).unwrap()));
    guest
}

/// Inserts of these ids, in a table of nothing else.
fn insert(deliveries: &mut Deliveries, table: &TableDef, ids: &[i64]) {
    let ids_of = |ids: &[i64]| vec![build::Ints::of(ids)];
    deliveries.changes(table, &vec![0; ids.len()], ids_of(ids), ids_of(&vec![0; ids.len()]));
}

fn renamed(from: &str, to: &str) -> Happening {
    Happening::Renamed(Renaming { from: testing::name(from), to: testing::name(to) })
}

fn invalidated(table: &str) -> Happening {
    let reason = "a partition was exchanged".to_owned();
    Happening::Invalidated(Invalidation { table: testing::name(table), reason })
}

/// What was written, in words: rows by their ids.
fn said() -> Vec<String> {
    let said = |written| match written {
        Written::Rows { table, columns, .. } => format!("{table} {:?}", ids(columns.last().unwrap())),
        Written::Truncated(name) => format!("truncate {name}"),
        Written::Renamed { name, to } => format!("{name} to {to}"),
    };
    written().into_iter().map(said).collect()
}

fn ids(column: &Column) -> &[i64] {
    match &column.values {
        Values::Ints(ids) => ids,
        other => panic!("{other:?}"),
    }
}

/// What the guest does when these happen, one transaction each; a configuration that wants `shop.*`.
fn after(happenings: &[&[Happening]]) -> Result<Vec<String>, Error> {
    let mut guest = mirror(r#"{"tables":["shop.*"]}"#, &[]);
    let mut deliveries = Deliveries::new(Phase::Live);
    for (number, transaction) in happenings.iter().enumerate() {
        deliveries.begin(&number.to_string(), Part::Whole);
        for what in *transaction {
            deliveries.event(what.clone());
        }
    }
    let done = guest.process(&deliveries.batch());
    let said = said();
    done.map(|()| said).map_err(|failure| failure.cause)
}

#[test]
fn rows_go_on_as_they_are_in_the_order_of_their_statements() {
    let mut notes = build::Texts::default();
    [Some("a"), None, None, Some("s")].into_iter().for_each(|note| notes.push_or_null(note));
    let (after, before) = (build::Ints::of(&[1, 1, 0, 7]), build::Ints::of(&[0, 1, 1, 0]));
    let mut deliveries = Deliveries::new(Phase::Live);
    let ops = [0, 1, 2, 3];
    deliveries.begin("t", Part::Whole).changes(&table(), &ops, vec![notes.finish(), after], vec![before]);
    mirror("{}", &[&table()]).process(&deliveries.batch()).unwrap();
    let all = written();
    let [Written::Rows { table, ops, columns }] = &all[..] else { panic!("{all:?}") };
    assert_eq!((table.as_str(), &ops[..]), ("shop.orders", &[0, 1, 2, 3][..]));
    assert_eq!(ids(&columns[1]), [1, 1, 1, 7]);
    let notes: Vec<_> = (0..4).map(|row| columns[0].cell::<&str>(row).unwrap()).collect();
    assert_eq!(notes, [Cell::Value("a"), Cell::Null, Cell::Absent, Cell::Value("s")]);
}

#[test]
fn a_table_is_emptied_between_the_rows_before_and_those_behind() {
    let (orders, items) = (named("shop.orders", 1), named("shop.items", 2));
    let mut guest = mirror("{}", &[&orders, &items]);
    let mut deliveries = Deliveries::new(Phase::Live);
    deliveries.begin("t1", Part::Whole);
    insert(&mut deliveries, &orders, &[1, 2]);
    insert(&mut deliveries, &items, &[5]);
    deliveries.event(Happening::Truncated(testing::name("shop.orders")));
    insert(&mut deliveries, &orders, &[3]);
    deliveries.event(Happening::Dropped(testing::name("shop.items")));
    guest.process(&deliveries.batch()).unwrap();
    let expected = ["shop.orders [1, 2]", "shop.items [5]", "truncate shop.orders", "shop.orders [3]"];
    assert_eq!(said(), [&expected[..], &["truncate shop.items"]].concat());
}

#[test]
fn a_dropped_schema_takes_every_table_along_that_any_instance_has_written() {
    let tables = ["shop.a", "shop.b", "shop.c", "shop.d", "shops.a"];
    for (path, id) in tables.into_iter().zip(1..) {
        let table = named(path, id);
        let mut deliveries = Deliveries::new(Phase::Live);
        deliveries.begin("t", Part::Whole);
        insert(&mut deliveries, &table, &[1]);
        mirror("{}", &[&table]).process(&deliveries.batch()).unwrap();
    }
    let mut deliveries = Deliveries::new(Phase::Live);
    deliveries.begin("t", Part::Whole);
    deliveries.event(Happening::Dropped(testing::name("shop.a"))).event(renamed("shop.b", "shop.e"));
    deliveries.event(Happening::SchemaDropped("shop".to_owned()));
    deliveries.event(Happening::SchemaDropped("shop".to_owned()));
    written();
    mirror("{}", &[]).process(&deliveries.batch()).unwrap();
    let emptied = ["truncate shop.c", "truncate shop.d", "truncate shop.e"];
    assert_eq!(said(), [&["truncate shop.a", "shop.b to shop.e"], &emptied[..]].concat());
    assert_eq!((state::get("tables/shop"), state::get("tables/shops")), (None, Some(br#"["a"]"#.to_vec())));
}

#[test]
fn a_renamed_table_takes_its_rows_along_where_both_names_are_wanted() {
    let swapped =
        [renamed("shop.orders", "shop.old"), renamed("shop.new", "shop.orders"), invalidated("shop.orders")];
    assert_eq!(after(&[&swapped]).unwrap(), ["shop.orders to shop.old", "shop.new to shop.orders"]);
    let away = [renamed("shop.orders", "bank.orders"), invalidated("bank.orders")];
    assert_eq!(after(&[&away]).unwrap(), ["truncate shop.orders"]);
    // What its rows are was never told.
    let into_place = [renamed("shop.a", "shop.b"), renamed("shop.b", "shop.c"), renamed("bank.a", "shop.b")];
    let Err(Error::Unsupported(message)) = after(&[&into_place, &[invalidated("shop.b")]]) else {
        panic!("nobody knows its rows")
    };
    assert!(
        message.starts_with("table shop.b is no longer what its changes say, from SCN 2 on"),
        "{message}"
    );
}

#[test]
fn a_table_whose_content_is_not_known_stops_by_name_and_others_do_not() {
    let Err(Error::Unsupported(message)) = after(&[&[invalidated("shop.orders")]]) else { panic!("unknown") };
    assert_eq!(
        message,
        "table shop.orders is no longer what its changes say, from SCN 1 on: a partition was exchanged; where there is \
         snapshot storage, stop and `tidemill checkpoint set --to deltas` has it come anew; or leave the table out of \
         `tables`"
    );
    // A rename tells what rows are there in its own transaction alone.
    let later = after(&[&[renamed("shop.a", "shop.orders")], &[invalidated("shop.orders")]]);
    assert!(matches!(later, Err(Error::Unsupported(_))), "{later:?}");
    let change = SchemaChange {
        schema: "shop".to_owned(),
        tables: vec![testing::name("shop.orders")],
        statement: None,
    };
    let of_others = [
        invalidated("bank.orders"),
        Happening::Truncated(testing::name("bank.orders")),
        Happening::Dropped(testing::name("bank.orders")),
        Happening::SchemaDropped("bank".to_owned()),
        Happening::SchemaChanged(change),
    ];
    assert_eq!(after(&[&of_others]).unwrap(), Vec::<String>::new());
}

#[test]
fn two_versions_of_a_table_are_written_one_behind_the_other() {
    let (first, second) = (named("shop.orders", 1), named("shop.orders", 2));
    let mut guest = mirror("{}", &[&first, &second]);
    let mut deliveries = Deliveries::new(Phase::Live);
    deliveries.begin("t1", Part::Whole);
    // The host gives sets in any order.
    insert(&mut deliveries, &second, &[1]);
    insert(&mut deliveries, &first, &[2]);
    insert(&mut deliveries, &second, &[3]);
    guest.process(&deliveries.batch()).unwrap();
    assert_eq!(said(), ["shop.orders [1]", "shop.orders [2]", "shop.orders [3]"]);
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
