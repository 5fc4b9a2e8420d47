//! The store by itself, over restarts.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use tidemill_event::{EventKind, Part, Position, Scn, Span, TableName, Timeline, Transaction, Window};

use super::{Held, PreparedStore, State};
use crate::xa::Xid;

fn at(scn: u64) -> Position {
    Position { timeline: 1, scn: Scn(scn) }
}

fn xid(name: &str) -> Xid {
    let hexadecimal: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
    Xid::parse(&format!("XA COMMIT X'{hexadecimal}',X'',1")).unwrap()
}

/// A window of one event, whose number tells windows apart.
fn window(number: u64) -> Window {
    let table = TableName::new("d", number.to_string());
    let transaction = Transaction {
        scn: Scn(2),
        gtid: String::new(),
        commit_time_us: 0,
        first_ordinal: 0,
        change_count: 1,
        change_offset: number,
        part: Part::First,
    };
    Window {
        source: "test".into(),
        timeline: Timeline { number: 1, server: "s".into() },
        span: Span { after: Scn(1), upto: Scn(1) },
        executed: Arc::from(""),
        transactions: vec![transaction],
        tables: vec![],
        events: vec![tidemill_event::Event { ordinal: 0, txn: 0, kind: EventKind::Truncate { table } }],
        phase: tidemill_event::Phase::Stream,
    }
}

fn prepare(store: &mut PreparedStore, name: &str, begin: u64, fragments: u32) {
    for number in 0..fragments {
        store.add(at(begin), number, &window(u64::from(number))).unwrap();
    }
    let held = Held { fragments, changes: u64::from(fragments), ..Held::default() };
    store.prepare(&xid(name), at(begin), &held).unwrap();
}

fn numbers(store: &mut PreparedStore, begin: u64, fragments: u32) -> Vec<u64> {
    (0..fragments).map(|n| store.fragment(at(begin), n).unwrap().transactions[0].change_offset).collect()
}

#[test]
fn what_was_synced_is_there_after_a_restart_and_a_new_beginning_clears_it() {
    let directory = tempfile::tempdir().unwrap();
    let open = |resumed| PreparedStore::open(Some(directory.path()), resumed).unwrap();
    let mut store = open(None);
    assert_eq!(store.oldest().unwrap(), None);
    prepare(&mut store, "b", 200, 2);
    prepare(&mut store, "a", 100, 3);
    store.sync().unwrap();
    drop(store);

    let mut store = open(Some(at(300)));
    assert_eq!(store.oldest().unwrap(), Some(at(100)));
    let (begin, held) = store.find(&xid("b"), at(400)).unwrap().unwrap();
    assert_eq!((begin, held.fragments, held.changes), (at(200), 2, 2));
    assert_eq!(numbers(&mut store, 200, 2), [0, 1]);
    drop(store);
    assert_eq!(open(None).find(&xid("b"), at(400)).unwrap(), None);
}

#[test]
fn a_commit_stays_until_the_reader_has_it_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    let open = |resumed| PreparedStore::open(Some(directory.path()), Some(resumed)).unwrap();
    let mut store = open(at(1));
    prepare(&mut store, "a", 100, 1);
    let (begin, held) = store.find(&xid("a"), at(200)).unwrap().unwrap();
    store.commit(&xid("a"), begin, &held, at(200)).unwrap();
    assert_eq!(store.oldest().unwrap(), None, "it is not prepared any more");
    store.stored(at(199)).unwrap();
    store.sync().unwrap();
    drop(store);

    let mut store = open(at(150));
    let (_, again) = store.find(&xid("a"), at(200)).unwrap().unwrap();
    assert_eq!(again.state, State::Committed(at(200)));
    assert_eq!(numbers(&mut store, 100, 1), [0]);
    assert_eq!(
        store.find(&xid("a"), at(300)).unwrap(),
        None,
        "another commit of the same id is not this one"
    );
    store.stored(at(200)).unwrap();
    assert_eq!(store.find(&xid("a"), at(200)).unwrap(), None);
    assert!(store.fragment(at(100), 0).is_err());

    prepare(&mut store, "a", 300, 1);
    let (begin, held) = store.find(&xid("a"), at(400)).unwrap().unwrap();
    store.commit(&xid("a"), begin, &held, at(400)).unwrap();
    store.sync().unwrap();
    drop(store);
    assert_eq!(
        open(at(400)).find(&xid("a"), at(400)).unwrap(),
        None,
        "a checkpoint behind the commit is as good"
    );
}

#[test]
fn an_id_that_is_used_again_is_another_transaction() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = PreparedStore::open(Some(directory.path()), None).unwrap();
    prepare(&mut store, "a", 100, 1);
    prepare(&mut store, "a", 300, 2);
    prepare(&mut store, "ab", 350, 1);
    assert_eq!(store.find(&xid("a"), at(200)).unwrap().unwrap().0, at(100));
    assert_eq!(store.find(&xid("a"), at(400)).unwrap().unwrap().0, at(300));
    store.forget(&xid("a"), at(300)).unwrap();
    assert_eq!(store.find(&xid("a"), at(400)).unwrap().unwrap().0, at(100));
    assert_eq!(store.oldest().unwrap(), Some(at(100)));
}

#[test]
fn a_transaction_that_is_read_again_replaces_what_was_kept() {
    let directory = tempfile::tempdir().unwrap();
    let open = || PreparedStore::open(Some(directory.path()), Some(at(1))).unwrap();
    let mut store = open();
    for number in 0..5 {
        store.add(at(100), number, &window(u64::from(number))).unwrap();
    }
    prepare(&mut store, "a", 100, 2);
    assert!(store.fragment(at(100), 2).is_err(), "a longer reading before left nothing");
    store.add(at(200), 0, &window(0)).unwrap();
    store.sync().unwrap();
    drop(store);
    let mut store = open();
    assert!(store.fragment(at(200), 0).is_err(), "what was never prepared is gone with the restart");
    prepare(&mut store, "a", 100, 0);
    assert!(store.fragment(at(100), 0).is_err(), "nothing is kept of an empty one");
    assert_eq!(store.find(&xid("a"), at(300)).unwrap().unwrap().1.fragments, 0);
}

#[test]
fn one_process_at_a_time_has_the_store_and_the_error_says_which() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = PreparedStore::open(Some(directory.path()), None).unwrap();
    prepare(&mut store, "a", 100, 1);
    for resumed in [None, Some(at(1))] {
        let error = PreparedStore::open(Some(directory.path()), resumed).unwrap_err().to_string();
        assert!(error.contains("prepared.redb"), "{error}");
    }
    assert_eq!(numbers(&mut store, 100, 1), [0], "the other one has lost nothing");
}
