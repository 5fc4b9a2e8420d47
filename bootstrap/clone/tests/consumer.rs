//! Copies straight to a consumer: its checkpoint is all that there is to go on from.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeMap;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use support::model::{Model, name, schema};
use tidemill_bootstrap_clone::{CloneControl, CloneOptions, Fed, InitialCopy, Policy};
use tidemill_event::{Checkpoint, EventKind, Phase, Position, Scn, TableName, Window};
use tidemill_fetchers_api::extract::SourceKey;

fn start() -> Checkpoint {
    Checkpoint {
        source: "shop".into(),
        server: "model".into(),
        position: Position { timeline: 3, scn: Scn(90) },
        gtid_set: String::new(),
        phase: Phase::Stream,
    }
}

fn copy(source: &Model, from: Checkpoint) -> InitialCopy {
    let options = CloneOptions { chunk_rows: 10, chunks_in_flight: 5, ..CloneOptions::default() };
    let tables: Vec<TableName> = ["orders", "items", "words"].map(name).to_vec();
    InitialCopy::new(source.clone(), Policy::none(), &tables, from, CloneControl::default(), options)
}

/// A consumer that keeps ids by table, as a sink without keys would: a row that comes twice is twice there.
#[derive(Default)]
struct Consumer {
    rows: BTreeMap<TableName, Vec<i64>>,
}

impl Consumer {
    fn take(&mut self, window: &Window) -> Checkpoint {
        window.validate().unwrap();
        for event in &window.events {
            let EventKind::Truncate { table } = &event.kind else { panic!("{event:?}") };
            self.rows.remove(table);
        }
        for changes in &window.tables {
            let ids = changes.rows.column(0).as_primitive::<Int64Type>().values();
            self.rows.entry(changes.schema.name().clone()).or_default().extend(ids);
        }
        let checkpoint = window.checkpoint();
        // As it is stored.
        Checkpoint::decode(&checkpoint.encode()).unwrap()
    }

    fn has_all(&self) {
        for (table, count) in TABLES {
            assert_eq!(self.rows[&name(table)], (0..*count).collect::<Vec<i64>>(), "{table}");
        }
    }
}

const TABLES: &[(&str, i64)] = &[("items", 95), ("orders", 205), ("words", 3)];

fn source() -> Model {
    Model::with(TABLES)
}

#[tokio::test]
async fn tables_come_one_after_another_in_the_order_of_their_keys_and_then_the_stream() {
    let (source, mut consumer) = (source(), Consumer::default());
    let mut copy = copy(&source, start());
    let mut tables = vec![];
    let end = loop {
        match copy.next().await.unwrap().unwrap() {
            Fed::Window(window) => {
                let Phase::Snapshot(cursor) = &window.phase else { panic!("{:?}", window.phase) };
                tables.push(cursor.table.clone());
                consumer.take(&window);
                source.change(|state| state.scn += 1);
            }
            end => break end,
        }
    };
    assert!(tables.is_sorted() && tables.len() == 10 + 21 + 1, "{tables:?}");
    consumer.has_all();
    let Fed::Stream { checkpoint, exact_from } = end else { panic!("{end:?}") };
    assert_eq!(checkpoint, start());
    let seen = source.change(|state| Scn(state.scn));
    assert!(exact_from.timeline == 3 && (Scn(100)..=seen).contains(&exact_from.scn), "{exact_from}");
    assert!(copy.next().await.unwrap().is_none());
}

#[tokio::test]
async fn b23_a_consumer_that_goes_on_from_any_checkpoint_gets_every_row_once() {
    for every in [1, 2, 7, 13] {
        let (source, mut consumer) = (source(), Consumer::default());
        let (mut from, mut crashes) = (start(), 0);
        'crashed: loop {
            let mut copy = copy(&source, from.clone());
            for _ in 0..every {
                match copy.next().await.unwrap().unwrap() {
                    Fed::Window(window) => from = consumer.take(&window),
                    Fed::Stream { exact_from, .. } => {
                        assert_eq!(exact_from.scn, Scn(100));
                        break 'crashed;
                    }
                }
            }
            crashes += 1;
        }
        consumer.has_all();
        assert_eq!(crashes, 32 / every);
        let given = source.change(|state| state.rows_given);
        assert!(given <= 303 + crashes * 6 * 10, "{given} rows, {crashes} crashes");
    }
}

#[tokio::test]
async fn a_table_that_is_defined_anew_begins_with_the_end_of_its_rows() {
    let (source, mut consumer) = (source(), Consumer::default());
    let mut from = start();
    let mut first = copy(&source, from.clone());
    for _ in 0..15 {
        let Some(Fed::Window(window)) = first.next().await.unwrap() else { panic!("more rows are to come") };
        from = consumer.take(&window);
    }
    drop(first);
    assert_eq!(consumer.rows[&name("orders")].len(), 50);
    source.change(|state| {
        state.tables.get_mut(&name("orders")).unwrap().schema = schema(&name("orders"), &["more"]);
    });
    // The consumer stops right behind the truncation, too.
    for _ in 0..2 {
        let mut next = copy(&source, from.clone());
        let Some(Fed::Window(window)) = next.next().await.unwrap() else { panic!("more rows are to come") };
        from = consumer.take(&window);
    }
    assert_eq!(consumer.rows[&name("orders")].len(), 10);
    let mut rest = copy(&source, from);
    while let Some(Fed::Window(window)) = rest.next().await.unwrap() {
        assert!(window.events.is_empty());
        consumer.take(&window);
    }
    consumer.has_all();
}

#[tokio::test]
async fn a_table_without_key_ends_the_copy_before_those_behind_it_and_so_does_another_server() {
    let source = source();
    source.change(|state| state.tables.get_mut(&name("orders")).unwrap().key = SourceKey::Nothing);
    let tables: Vec<TableName> = ["items", "orders", "words"].map(name).to_vec();
    let without = InitialCopy::without_key(&source, &Policy::none(), &tables).await.unwrap();
    assert_eq!(without, [name("orders")], "who asks before is told");
    let (mut from, mut had) = (start(), Consumer::default());
    // However often it is tried.
    for windows in [10, 0] {
        let mut copy = copy(&source, from.clone());
        for _ in 0..windows {
            let Some(Fed::Window(window)) = copy.next().await.unwrap() else { panic!("items have a key") };
            from = had.take(&window);
        }
        let error = copy.next().await.unwrap_err();
        let why = tidemill_event::chain(&error);
        assert!(why.contains("table shop.orders is not copied") && why.contains("it has no key"), "{why}");
    }
    assert_eq!(had.rows.keys().collect::<Vec<_>>(), [&name("items")]);
    source.change(|state| state.tables.get_mut(&name("orders")).unwrap().key = SourceKey::Primary(vec![0]));
    let mut rest = copy(&source, from);
    while let Some(Fed::Window(window)) = rest.next().await.unwrap() {
        had.take(&window);
    }
    had.has_all();
    let foreign = Checkpoint { server: "another".into(), ..start() };
    let error = copy(&source, foreign).next().await.unwrap_err();
    let why = tidemill_event::chain(&error);
    assert!(why.contains("model was read, and the stream is that of another"), "{why}");
}
