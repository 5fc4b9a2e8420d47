//! What a log tells of itself: its tables, its times, and where a checkpoint stands in it. And frames that are stored as
//! they came.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::Arc;

use support::*;
use tempfile::tempdir;
use tidemill_event::{Checkpoint, Phase, Remedy, TableSchema, Window, encode_window};
use tidemill_log::{AppendError, From, Log, LogConfig, ReadError};

#[test]
fn b17_frames_that_are_appended_as_they_came_are_stored_as_they_came() {
    let (up, down) = (tempdir().unwrap(), tempdir().unwrap());
    let log = Log::open(config(up.path())).unwrap();
    append_ten(&mut log.writer().unwrap());
    let chained = Log::open(LogConfig { memory_bytes: 0, ..config(down.path()) }).unwrap();
    let mut writer = chained.writer().unwrap();
    let mut frames = vec![];
    let mut reader = log.reader(From::Earliest).unwrap();
    while let Some((frame, window)) = reader.try_next_frame().unwrap() {
        writer.append_frame(&frame, &window).unwrap();
        frames.push(frame);
    }
    let mut reader = chained.reader(From::Earliest).unwrap();
    for frame in frames {
        let (stored, window) = reader.try_next_frame().unwrap().unwrap();
        assert_sound(&window);
        assert_eq!(stored, frame);
    }
    assert_eq!(reader.try_next().unwrap().map(|w| w.span), None);
}

#[test]
fn a_frame_of_another_window_is_refused_and_the_log_goes_on() {
    let dir = tempdir().unwrap();
    let log = Log::open(config(dir.path())).unwrap();
    let mut writer = log.writer().unwrap();
    let (mine, other) = (window(0, &[10]), window(0, &[20]));
    let error = writer.append_frame(&encode_window(&other).unwrap(), &mine).unwrap_err();
    assert!(matches!(error, AppendError::Encode(_)), "{error}");
    assert_eq!(error.remedy(), Remedy::Bug);
    writer.append_frame(&encode_window(&mine).unwrap(), &mine).unwrap();
    assert_eq!(end(&log), Some(10));
}

async fn tables(log: &Log) -> Vec<(String, usize)> {
    let known = log.schemas().await.unwrap();
    known.iter().map(|s| (s.name().to_string(), s.columns().len())).collect()
}

fn only_table(window: &Window) -> Arc<TableSchema> {
    assert_eq!(window.tables.len(), 1);
    Arc::clone(&window.tables[0].schema)
}

/// SCNs that five divides are of `parts`, others of `orders`.
#[tokio::test]
async fn the_newest_version_of_every_table_is_known_wherever_it_lies() {
    let dir = tempdir().unwrap();
    let small = LogConfig { segment_bytes: 1, ..config(dir.path()) };
    let log = Log::open(small.clone()).unwrap();
    assert_eq!(tables(&log).await, []);
    let mut writer = log.writer().unwrap();
    writer.append(&window(0, &[5])).unwrap();
    assert_eq!(tables(&log).await, [("shop.parts".to_owned(), 2)]);
    for scn in 6..9 {
        writer.append(&altered(window(scn - 1, &[scn]), 1)).unwrap();
    }
    let both = [("shop.orders".to_owned(), 3), ("shop.parts".to_owned(), 2)];
    assert_eq!(tables(&log).await, both);
    writer.close().unwrap();
    drop(log);
    let log = Log::open(small).unwrap();
    assert_eq!(tables(&log).await, both, "after a restart, with `parts` in the oldest segment only");
    let parts = only_table(&window(0, &[5]));
    assert_eq!(log.schema(parts.id()).await.unwrap(), Some(parts));
    assert_eq!(log.schema(only_table(&window(0, &[6])).id()).await.unwrap(), None, "never stored");
}

#[tokio::test]
async fn a_table_that_gets_an_older_version_back_has_that_one() {
    let dir = tempdir().unwrap();
    let log = Log::open(LogConfig { memory_bytes: 0, ..config(dir.path()) }).unwrap();
    let mut writer = log.writer().unwrap();
    for (scn, version) in [(6, 0), (7, 1), (8, 0), (9, 0), (11, 1), (12, 0)] {
        let after = end(&log).unwrap_or(0);
        writer.append(&altered(window(after, &[scn]), version)).unwrap();
        assert_eq!(tables(&log).await, [("shop.orders".to_owned(), 2 + usize::from(version == 1))]);
    }
    drop(writer);
    drop(log);
    let log = Log::open(config(dir.path())).unwrap();
    assert_eq!(tables(&log).await, [("shop.orders".to_owned(), 2)]);
    assert_eq!(scns(&drain(&mut log.reader(From::Earliest).unwrap())), [6, 7, 8, 9, 11, 12]);
}

#[test]
fn times_of_the_first_and_the_last_transaction_are_told() {
    let dir = tempdir().unwrap();
    let log = Log::open(config(dir.path())).unwrap();
    assert_eq!((log.stats().earliest_time_us, log.stats().latest_time_us), (None, None));
    append_ten(&mut log.writer().unwrap());
    let stats = log.stats();
    assert_eq!((stats.earliest_time_us, stats.latest_time_us), (Some(time_of(10)), Some(time_of(200))));
}

fn checkpoint(server: &str, timeline: u32, scn: u64) -> Checkpoint {
    Checkpoint {
        source: "shop".into(),
        server: server.into(),
        position: at(timeline, scn),
        gtid_set: String::new(),
        phase: Phase::Stream,
    }
}

/// Timelines 1 and 3 are of one server, 2 of another.
fn three_timelines(log: &Log) {
    let mut writer = log.writer().unwrap();
    for (number, server, scn) in [(1, "a", 100), (2, "b", 1_000), (3, "a", 500)] {
        for scn in [scn + 10, scn + 20] {
            let mut window = on_timeline(number, window(scn - 10, &[scn]));
            window.timeline.server = server.into();
            writer.append(&window).unwrap();
        }
    }
}

#[test]
fn b11_a_checkpoint_is_found_by_its_server_whatever_number_its_timeline_had() {
    let dir = tempdir().unwrap();
    let log = Log::open(config(dir.path())).unwrap();
    three_timelines(&log);
    let rest = |server, number, scn| {
        let from = log.locate(&checkpoint(server, number, scn)).unwrap();
        scns(&drain(&mut log.reader(from).unwrap()))
    };
    assert_eq!(rest("a", 7, 110), [120, 1_010, 1_020, 510, 520]);
    assert_eq!(rest("b", 7, 1_010), [1_020, 510, 520]);
    assert_eq!(rest("a", 1, 510), [520]);
    let ahead = log.locate(&checkpoint("a", 1, 600)).unwrap();
    assert_eq!(ahead, From::After(at(3, 600)), "it waits");
    let old = log.locate(&checkpoint("b", 1, 7)).unwrap();
    assert_eq!(old, From::After(at(2, 7)));
}

#[test]
fn b11_a_checkpoint_without_a_place_is_refused_with_both_sides_named() {
    let dir = tempdir().unwrap();
    let log = Log::open(config(dir.path())).unwrap();
    let error = log.locate(&checkpoint("a", 1, 1)).unwrap_err();
    assert!(matches!(error, ReadError::NothingYet), "{error}");
    assert_eq!(error.remedy(), Remedy::Wait);
    three_timelines(&log);
    let other = Checkpoint { source: "crm".into(), ..checkpoint("a", 1, 110) };
    let error = log.locate(&other).unwrap_err();
    assert!(matches!(error, ReadError::OtherSource(_)), "{error}");
    let error = log.locate(&checkpoint("z", 1, 110)).unwrap_err();
    assert_eq!(error.remedy(), Remedy::Fix);
    assert_eq!(
        error.to_string(),
        "the checkpoint at 110 of server z has no place in this log, which has transactions of a, b, a: none of them is \
         that server, and it has no set of executed transactions; resume at a relay that reads that server, or clone what the checkpoint's holder has anew"
    );
}

const UUID: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

/// How a server names its transactions.
type Naming = (fn(u64) -> String, fn(&[u64]) -> String);

fn mysql() -> Naming {
    (
        |number| format!("{UUID}:{number}"),
        |numbers| {
            let all: Vec<String> = numbers.iter().map(u64::to_string).collect();
            format!("{UUID}:{}", all.join(":"))
        },
    )
}

fn mariadb() -> Naming {
    (|number| format!("0-7-{number}"), |numbers| format!("0-7-{}", numbers.iter().max().unwrap()))
}

/// A log of one server: those transactions of the lineage, in that order, at positions of the server's own, so many to a
/// window. The transactions before the first one were executed and are not in the log.
fn replica(
    dir: &std::path::Path,
    server: &str,
    base: u64,
    numbers: &[u64],
    each: usize,
    naming: Naming,
) -> Log {
    let log = Log::open(LogConfig { segment_bytes: 2_000, memory_bytes: 0, ..config(dir) }).unwrap();
    let mut writer = log.writer().unwrap();
    let mut executed: Vec<u64> = (1..*numbers.iter().min().unwrap()).collect();
    let mut after = base;
    for some in numbers.chunks(each) {
        let scns: Vec<u64> = (1..=some.len() as u64).map(|n| after + n * 10).collect();
        let mut window = window(after, &scns);
        window.timeline.server = server.into();
        for (transaction, number) in window.transactions.iter_mut().zip(some) {
            transaction.gtid = naming.0(*number);
            executed.push(*number);
        }
        window.executed =
            tidemill_event::gtid::GtidSet::parse(&naming.1(&executed)).unwrap().unwrap().to_string().into();
        writer.append(&window).unwrap();
        after = *scns.last().unwrap();
    }
    log
}

/// Everything from a checkpoint on: each window's checkpoint, and the ids of its transactions.
fn follow(log: &Log, from: &Checkpoint) -> Vec<(Checkpoint, Vec<String>)> {
    let mut reader = log.reader(log.locate(from).unwrap()).unwrap();
    let windows = drain(&mut reader);
    windows
        .iter()
        .map(|w| (w.checkpoint(), w.transactions.iter().map(|t| t.gtid.clone()).collect()))
        .collect()
}

fn ids(given: &[(Checkpoint, Vec<String>)]) -> Vec<String> {
    given.iter().flat_map(|(_, ids)| ids.clone()).collect()
}

/// From every checkpoint of the one log the other gives exactly the rest; and from every checkpoint on the way, either does.
fn every_hop_is_exact(one: &Log, other: &Log, naming: Naming, count: u64) {
    let earliest = Checkpoint { gtid_set: String::new(), ..one.checkpoint().unwrap() };
    let start = one.stats().earliest.unwrap();
    let all: std::collections::BTreeSet<String> = (1..=count).map(naming.0).collect();
    let mut have: Vec<String> = vec![];
    for (first, ids_first) in follow(one, &Checkpoint { position: start, ..earliest }) {
        have.extend(ids_first);
        let mut then = have.clone();
        let rest = follow(other, &first);
        for (second, ids_second) in &rest {
            then.extend(ids_second.clone());
            for log in [one, other] {
                let mut last = then.clone();
                last.extend(ids(&follow(log, second)));
                assert_eq!(
                    last.len() as u64,
                    count,
                    "nothing twice from {second:?}, which came after {first:?}"
                );
                assert_eq!(
                    last.into_iter().collect::<std::collections::BTreeSet<_>>(),
                    all,
                    "nothing is lost"
                );
            }
        }
        assert_eq!(then.len() as u64, count);
    }
}

#[test]
fn b11_a_checkpoint_of_another_server_of_the_lineage_goes_on_exactly() {
    let (a, b) = (tempdir().unwrap(), tempdir().unwrap());
    let numbers: Vec<u64> = (1..=40).collect();
    for naming in [mysql(), mariadb()] {
        let (a, b) = (tempfile::tempdir_in(a.path()).unwrap(), tempfile::tempdir_in(b.path()).unwrap());
        let one = replica(a.path(), "a", 1_000, &numbers, 3, naming);
        let other = replica(b.path(), "b", 7, &numbers, 4, naming);
        every_hop_is_exact(&one, &other, naming, 40);
    }
}

/// Replicas that apply in parallel commit in orders of their own.
#[test]
fn b11_replicas_whose_orders_differ_give_every_transaction_once() {
    let (a, b) = (tempdir().unwrap(), tempdir().unwrap());
    let numbers: Vec<u64> = (1..=40).collect();
    let mut shuffled = numbers.clone();
    for i in (0..36).step_by(4) {
        shuffled.swap(i, i + 3);
        shuffled.swap(i + 1, i + 2);
    }
    let one = replica(a.path(), "a", 1_000, &numbers, 3, mysql());
    let other = replica(b.path(), "b", 7, &shuffled, 5, mysql());
    every_hop_is_exact(&one, &other, mysql(), 40);
}

#[test]
fn b11_a_log_that_lacks_what_the_checkpoint_needs_says_too_old() {
    let (a, b) = (tempdir().unwrap(), tempdir().unwrap());
    for naming in [mysql(), mariadb()] {
        let (a, b) = (tempfile::tempdir_in(a.path()).unwrap(), tempfile::tempdir_in(b.path()).unwrap());
        let one = replica(a.path(), "a", 1_000, &(1..=40).collect::<Vec<_>>(), 1, naming);
        let late = replica(b.path(), "b", 7, &(20..=40).collect::<Vec<_>>(), 1, naming);
        let start =
            Checkpoint { position: at(1, 1_000), gtid_set: String::new(), ..one.checkpoint().unwrap() };
        for (i, (checkpoint, _)) in follow(&one, &start).iter().enumerate() {
            let mut reader = late.reader(late.locate(checkpoint).unwrap()).unwrap();
            for _ in 0..2 {
                let first = reader.try_next();
                match i + 1 < 19 {
                    true => assert!(matches!(first, Err(ReadError::TooOld(_))), "{i}: {first:?}"),
                    false => assert!(first.is_ok(), "{i}: {first:?}"),
                }
            }
        }
    }
}

#[test]
fn b11_another_lineage_is_refused() {
    let (a, b) = (tempdir().unwrap(), tempdir().unwrap());
    let one = replica(a.path(), "a", 1_000, &[1, 2, 3], 1, mysql());
    let other = replica(b.path(), "b", 7, &[1, 2, 3], 1, mariadb());
    let error = other.locate(&one.checkpoint().unwrap()).unwrap_err();
    assert!(matches!(&error, ReadError::OtherLineage(e) if e.theirs == "a" && e.ours == ["b"]), "{error}");
}
