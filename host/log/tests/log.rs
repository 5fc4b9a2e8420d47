//! What goes in comes out, in order, from wherever a reader begins, out of memory or off the disk.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::Arc;

use support::*;
use tempfile::tempdir;
use tidemill_event::{Event, EventKind, Frame, Part, Scn, Span, TableName, Transaction, Window};
use tidemill_log::{Ack, AppendError, Asked, From, Fsync, Log, LogConfig, OpenError, ReadError};

/// Runs with everything in memory, and with everything read from small segments on disk.
fn in_memory_and_on_disk(check: impl Fn(LogConfig)) {
    let dir = tempdir().unwrap();
    check(config(&dir.path().join("memory")));
    check(LogConfig { memory_bytes: 0, segment_bytes: 4096, ..config(&dir.path().join("disk")) });
}

#[test]
fn windows_come_out_as_they_went_in() {
    in_memory_and_on_disk(|config| {
        let log = Log::open(config).unwrap();
        let mut writer = log.writer().unwrap();
        let mut reader = log.reader(From::Earliest).unwrap();
        assert!(reader.try_next().unwrap().is_none());
        let windows = [window(5, &[7, 8]), window(8, &[9]), window(9, &[10, 15, 21])];
        for window in &windows {
            writer.append(window).unwrap();
        }
        for window in &windows {
            assert_same(&reader.try_next().unwrap().unwrap(), window);
            assert_eq!(reader.position(), Some(window.position()));
        }
        assert!(reader.try_next().unwrap().is_none());
    });
}

#[test]
fn a_reader_in_memory_shares_what_was_encoded() {
    let dir = tempdir().unwrap();
    let log = Log::open(config(dir.path())).unwrap();
    log.writer().unwrap().append(&window(0, &[1])).unwrap();
    let next = || log.reader(From::Earliest).unwrap().try_next().unwrap().unwrap();
    assert!(Arc::ptr_eq(&next(), &next()));
}

#[tokio::test]
async fn frames_are_those_of_the_disk() {
    let dir = tempdir().unwrap();
    let log = Log::open(config(dir.path())).unwrap();
    let mut writer = log.writer().unwrap();
    append_ten(&mut writer);
    let disk = std::fs::read(&segments(dir.path())[0]).unwrap();
    let mut reader = log.reader(From::Earliest).unwrap();
    for _ in 0..10 {
        let (frame, window) = reader.next_frame().await.unwrap().unwrap();
        assert_eq!(frame.window_span().unwrap(), Some((window.position(), window.span)));
        assert!(disk.windows(frame.bytes().len()).any(|part| part == frame.bytes()));
    }
    let mut reader = log.reader(From::After(at(1, 30))).unwrap();
    let (frame, window) = reader.next_frame().await.unwrap().unwrap();
    assert_eq!(Frame::read(frame.bytes()).unwrap().window_span().unwrap().unwrap().1, window.span);
    assert_eq!(window.span, Span { after: Scn(30), upto: Scn(40) });
}

/// B12, B40: below the least, at a window's end, within a window, in a gap, at the head, above it.
#[test]
fn b40_a_reader_begins_where_it_says() {
    in_memory_and_on_disk(|config| {
        let log = Log::open(config).unwrap();
        let mut writer = log.writer().unwrap();
        append_ten(&mut writer);
        let after = |scn| scns(&drain(&mut log.reader(From::After(at(1, scn))).unwrap()));
        for scn in 0..=200 {
            assert_eq!(after(scn), tens(scn / 10 * 10 + 10, 200), "after {scn}");
        }
        assert_eq!(after(500), [0; 0]);
        assert_eq!(scns(&drain(&mut log.reader(From::Earliest).unwrap())), tens(10, 200));
        let mut now = log.reader(From::Now).unwrap();
        assert!(now.try_next().unwrap().is_none());
        writer.append(&window(200, &[210])).unwrap();
        assert_eq!(scns(&drain(&mut now)), [210]);
    });
}

#[test]
fn a_reader_that_is_ahead_waits_and_gets_only_what_follows() {
    in_memory_and_on_disk(|config| {
        let log = Log::open(config).unwrap();
        let mut writer = log.writer().unwrap();
        let mut empty = log.reader(From::After(at(1, 110))).unwrap();
        append_ten(&mut writer);
        assert_eq!(scns(&drain(&mut empty)), tens(120, 200));
        let mut reader = log.reader(From::After(at(1, 230))).unwrap();
        writer.append(&window(200, &[210, 220])).unwrap();
        assert!(reader.try_next().unwrap().is_none());
        writer.append(&window(220, &[230, 240])).unwrap();
        let rest = drain(&mut reader);
        assert_eq!((scns(&rest), rest[0].span), (vec![240], Span { after: Scn(230), upto: Scn(240) }));
    });
}

#[test]
fn b40_a_reader_begins_at_a_time() {
    in_memory_and_on_disk(|config| {
        let log = Log::open(config).unwrap();
        append_ten(&mut log.writer().unwrap());
        let since = |time| scns(&drain(&mut log.reader(From::Time(time)).unwrap()));
        for scn in tens(10, 200) {
            assert_eq!(since(time_of(scn)), tens(scn, 200), "at {scn}");
            assert_eq!(since(time_of(scn) - 1), tens(scn, 200), "before {scn}");
        }
        assert_eq!(since(0), tens(10, 200));
        assert_eq!(since(time_of(200) + 1), [0; 0]);
    });
}

#[test]
fn b12_what_came_before_the_log_is_too_old_and_the_answer_names_the_range() {
    let dir = tempdir().unwrap();
    let log = Log::open(config(dir.path())).unwrap();
    let mut early = log.reader(From::After(at(1, 99))).unwrap();
    let mut writer = log.writer().unwrap();
    writer.append(&window(100, &[110])).unwrap();
    let refused = [early.try_next().unwrap_err(), log.reader(From::After(at(1, 99))).unwrap_err()];
    for error in refused {
        let ReadError::TooOld(too_old) = error else { panic!("{error}") };
        assert_eq!(
            (too_old.asked, too_old.earliest, too_old.latest),
            (Asked::After(at(1, 99)), at(1, 100), at(1, 110))
        );
    }
    assert!(early.try_next().is_err(), "it stays so");
}

#[test]
fn a_large_transaction_is_visible_only_when_it_is_whole() {
    in_memory_and_on_disk(|config| {
        let log = Log::open(config).unwrap();
        let mut writer = log.writer().unwrap();
        writer.append(&window(0, &[10])).unwrap();
        let mut reader = log.reader(From::Earliest).unwrap();
        assert_eq!(scns(&drain(&mut reader)), [10]);
        let parts = [
            fragment(10, 20, Part::First, 0),
            fragment(10, 20, Part::Middle, 3),
            fragment(10, 20, Part::Middle, 6),
            fragment(10, 20, Part::Last, 9),
        ];
        for part in &parts {
            assert!(reader.try_next().unwrap().is_none());
            assert!(matches!(writer.append(part).unwrap(), Ack::Accepted(_)));
        }
        for part in &parts {
            assert_same(&reader.try_next().unwrap().unwrap(), part);
        }
        assert_eq!(reader.position(), Some(at(1, 20)));
        // Who stands before it gets all of it, who has it none.
        let from = |scn| drain(&mut log.reader(From::After(at(1, scn))).unwrap()).len();
        assert_eq!((from(10), from(15), from(20)), (4, 4, 0));
    });
}

#[test]
fn an_unfinished_transaction_is_forgotten_over_a_restart_and_comes_again() {
    let dir = tempdir().unwrap();
    for round in 0..3u64 {
        let log = Log::open(config(dir.path())).unwrap();
        assert_eq!(end(&log).unwrap_or(0), round * 10);
        let mut writer = log.writer().unwrap();
        if round > 0 {
            let scn = round * 10 + 10;
            writer.append(&fragment(round * 10, scn, Part::First, 0)).unwrap();
            writer.append(&fragment(round * 10, scn, Part::Middle, 1)).unwrap();
            drop(writer);
            drop(log);
            let log = Log::open(config(dir.path())).unwrap();
            writer = log.writer().unwrap();
            writer.append(&fragment(round * 10, scn, Part::First, 0)).unwrap();
            writer.append(&fragment(round * 10, scn, Part::Last, 1)).unwrap();
        } else {
            writer.append(&window(0, &[10])).unwrap();
        }
    }
    let log = Log::open(config(dir.path())).unwrap();
    let all = drain(&mut log.reader(From::Earliest).unwrap());
    assert_eq!((scns(&all), all.len()), (vec![10, 20, 30], 5));
}

#[test]
fn a_restart_at_every_window_changes_nothing() {
    let dir = tempdir().unwrap();
    for i in 0..12u64 {
        let log = Log::open(LogConfig { segment_bytes: 4096, ..config(dir.path()) }).unwrap();
        assert_eq!(log.checkpoint().map(|c| c.position), (i > 0).then(|| at(1, i * 10)));
        assert_eq!(log.checkpoint().map(|c| c.gtid_set), (i > 0).then(|| format!("server-1:1-{}", i * 10)));
        let mut writer = log.writer().unwrap();
        writer.append(&window(i * 10, &[i * 10 + 10])).unwrap();
        if i % 2 == 0 {
            writer.close().unwrap();
        }
        assert_eq!(scns(&drain(&mut log.reader(From::Earliest).unwrap())), tens(10, i * 10 + 10));
    }
}

#[test]
fn what_does_not_follow_is_refused_and_the_log_goes_on() {
    let dir = tempdir().unwrap();
    let log = Log::open(config(dir.path())).unwrap();
    let mut writer = log.writer().unwrap();
    writer.append(&window(0, &[10])).unwrap();
    let mut foreign = window(10, &[20]);
    foreign.source = "other".into();
    let mut backwards = window(10, &[20, 30]);
    backwards.transactions.swap(0, 1);
    let wrong = [
        window(11, &[20]),
        window(0, &[10]),
        idle(11, 12),
        foreign,
        fragment(10, 20, Part::Last, 3),
        on_timeline(0, window(10, &[20])),
    ];
    for window in &wrong {
        let error = writer.append(window).unwrap_err();
        assert!(matches!(error, AppendError::Discontinuous(_)), "{error}");
    }
    assert!(matches!(writer.append(&backwards).unwrap_err(), AppendError::Invalid(_)));
    assert_eq!(
        writer.append(&wrong[0]).unwrap_err().to_string(),
        "the window 1/11..20 of source \"shop\" does not follow the log's end 1/10: it begins elsewhere"
    );
    writer.append(&window(10, &[20])).unwrap();
    assert_eq!(scns(&drain(&mut log.reader(From::Earliest).unwrap())), [10, 20]);
}

#[test]
fn an_idle_source_moves_its_readers_on_and_writes_nothing() {
    let dir = tempdir().unwrap();
    let log = Log::open(config(dir.path())).unwrap();
    let mut writer = log.writer().unwrap();
    writer.append(&window(0, &[10])).unwrap();
    let mut reader = log.reader(From::Earliest).unwrap();
    let mut slow = log.reader(From::Earliest).unwrap();
    assert_eq!(drain(&mut reader).len(), 1);
    let before = log.stats().disk_bytes;
    for scn in 10..60 {
        writer.append(&idle(scn, scn + 1)).unwrap();
        let moved = drain(&mut reader);
        assert_eq!((moved.len(), moved[0].span), (1, Span { after: Scn(scn), upto: Scn(scn + 1) }));
        assert_eq!(&*moved[0].executed, format!("server-1:1-{}", scn + 1));
    }
    assert_eq!(log.stats().disk_bytes, before);
    assert_eq!((end(&log), log.stats().latest), (Some(60), Some(at(1, 60))));
    writer.append(&window(60, &[70])).unwrap();
    assert_eq!(drain(&mut reader).iter().map(|w| w.span).collect::<Vec<_>>(), [span(60, 70)]);
    let whole: Vec<_> = drain(&mut slow).iter().map(|w| w.span).collect();
    assert_eq!(whole, [span(0, 10), span(10, 60), span(60, 70)]);
    drop((writer, reader, slow, log));
    let log = Log::open(config(dir.path())).unwrap();
    let again: Vec<_> = drain(&mut log.reader(From::Earliest).unwrap()).iter().map(|w| w.span).collect();
    assert_eq!(again, whole);
}

fn span(after: u64, upto: u64) -> Span {
    Span { after: Scn(after), upto: Scn(upto) }
}

#[test]
fn an_idle_position_is_kept_by_a_close_and_by_its_interval() {
    let dir = tempdir().unwrap();
    let log = Log::open(config(dir.path())).unwrap();
    let mut writer = log.writer().unwrap();
    writer.append(&window(0, &[10])).unwrap();
    writer.append(&idle(10, 20)).unwrap();
    writer.close().unwrap();
    drop(log);
    let often = LogConfig { idle_interval: std::time::Duration::ZERO, ..config(dir.path()) };
    let log = Log::open(often).unwrap();
    assert_eq!(end(&log), Some(20));
    let mut writer = log.writer().unwrap();
    writer.append(&idle(20, 30)).unwrap();
    drop((writer, log));
    assert_eq!(end(&Log::open(config(dir.path())).unwrap()), Some(30));
}

#[test]
fn a_new_timeline_follows_and_a_reader_that_was_further_is_told() {
    in_memory_and_on_disk(|config| {
        let log = Log::open(config.clone()).unwrap();
        let mut writer = log.writer().unwrap();
        append_ten(&mut writer);
        writer.append(&idle(200, 220)).unwrap();
        let mut ahead = log.reader(From::After(at(1, 300))).unwrap();
        let mut idle_one = log.reader(From::After(at(1, 200))).unwrap();
        assert_eq!(drain(&mut idle_one).len(), 1);
        writer.append(&on_timeline(2, window(40, &[50, 60]))).unwrap();
        let told = ahead.try_next().unwrap_err();
        let ReadError::Diverged(diverged) = told else { panic!("{told}") };
        assert_eq!((diverged.at, diverged.end, diverged.next), (at(1, 300), at(1, 220), at(2, 40)));
        assert!(matches!(ahead.try_next(), Err(ReadError::Diverged(_))), "it stays so");
        assert_eq!(scns(&drain(&mut idle_one)), [50, 60]);
        let all = drain(&mut log.reader(From::Earliest).unwrap());
        assert_eq!(scns(&all), [tens(10, 200), vec![50, 60]].concat());
        assert_eq!(scns(&drain(&mut log.reader(From::After(at(2, 50))).unwrap())), [60]);
        let before = log.reader(From::After(at(2, 30))).unwrap().try_next();
        assert!(matches!(before, Err(ReadError::TooOld(_))));
        assert_eq!(log.timelines(), [timeline(1), timeline(2)]);
        drop((writer, ahead, idle_one, log));
        let log = Log::open(config).unwrap();
        assert_eq!(log.checkpoint().unwrap().position, at(2, 60));
        assert_eq!(scns(&drain(&mut log.reader(From::Earliest).unwrap())), scns(&all));
    });
}

#[test]
fn b18_oldest_segments_go_and_who_needs_them_is_told() {
    let dir = tempdir().unwrap();
    let small =
        LogConfig { memory_bytes: 0, segment_bytes: 2048, retention_bytes: Some(8192), ..config(dir.path()) };
    let log = Log::open(small).unwrap();
    let mut writer = log.writer().unwrap();
    writer.append(&window(0, &[10])).unwrap();
    let mut slow = log.reader(From::Earliest).unwrap();
    let mut slower = log.reader(From::Earliest).unwrap();
    assert_eq!(scns(&[slow.try_next().unwrap().unwrap()]), [10]);
    writer.append(&window(10, &[20])).unwrap();
    for scn in 2..100u64 {
        writer.append(&window(scn * 10, &[scn * 10 + 10])).unwrap();
        assert!(log.stats().disk_bytes <= 8192 + 2048, "{:?}", log.stats());
    }
    let stats = log.stats();
    assert_eq!(segments(dir.path()).len(), stats.segment_count);
    assert!(stats.segment_count > 1 && stats.earliest > Some(at(1, 100)));
    // The one that has a segment open reads it to its end, then misses the next.
    let mut got = vec![];
    let error = loop {
        match slow.try_next() {
            Ok(window) => got.push(window.unwrap()),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, ReadError::TooOld(t) if t.latest == at(1, 1000)), "{error}");
    assert_eq!(scns(&got), tens(20, 10 + got.len() as u64 * 10));
    assert!(!got.is_empty() && matches!(slower.try_next(), Err(ReadError::TooOld(_))));
    assert!(matches!(log.reader(From::After(at(1, 50))), Err(ReadError::TooOld(_))));
    assert!(matches!(log.reader(From::Time(time_of(10))), Err(ReadError::TooOld(_))));
    let earliest = stats.earliest.unwrap().scn.0;
    let rest = scns(&drain(&mut log.reader(From::Earliest).unwrap()));
    assert_eq!(rest, tens(earliest + 10, 1000));
    drop((writer, slow, slower, log));
    let log = Log::open(config(dir.path())).unwrap();
    assert_eq!(log.stats().earliest, stats.earliest);
}

#[test]
fn b18_segments_go_by_age_but_never_the_last() {
    let dir = tempdir().unwrap();
    let small = |time| LogConfig { segment_bytes: 2048, retention_time: time, ..config(dir.path()) };
    let log = Log::open(small(None)).unwrap();
    let mut writer = log.writer().unwrap();
    append_ten(&mut writer);
    writer.close().unwrap();
    drop(log);
    let paths = segments(dir.path());
    assert!(paths.len() > 2);
    for path in &paths[..paths.len() - 2] {
        let file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
        file.set_modified(std::time::SystemTime::now() - 2 * DAY).unwrap();
    }
    let log = Log::open(small(Some(DAY))).unwrap();
    let mut writer = log.writer().unwrap();
    writer.append(&idle(200, 201)).unwrap();
    assert_eq!(segments(dir.path()), paths[paths.len() - 2..]);
    let all = LogConfig { retention_time: Some(std::time::Duration::ZERO), ..small(None) };
    drop((writer, log));
    let log = Log::open(all).unwrap();
    log.writer().unwrap().append(&idle(200, 201)).unwrap();
    assert_eq!(segments(dir.path()), paths[paths.len() - 1..]);
}

#[test]
fn the_newer_writer_fences_the_older() {
    let dir = tempdir().unwrap();
    let log = Log::open(config(dir.path())).unwrap();
    let mut old = log.writer().unwrap();
    old.append(&window(0, &[10])).unwrap();
    old.append(&fragment(10, 20, Part::First, 0)).unwrap();
    let mut new = log.writer().unwrap();
    let fenced = old.append(&fragment(10, 20, Part::Last, 1)).unwrap_err();
    let AppendError::Fenced(fenced) = fenced else { panic!("{fenced}") };
    assert_eq!((fenced.mine, fenced.newer), (1, 2));
    new.append(&window(10, &[20])).unwrap();
    assert!(matches!(old.sync(), Err(AppendError::Fenced(_))));
    drop(old);
    new.append(&window(20, &[30])).unwrap();
    let read = || scns(&drain(&mut log.reader(From::Earliest).unwrap()));
    assert_eq!(read(), [10, 20, 30]);
}

#[test]
fn another_process_cannot_open_the_log() {
    let dir = tempdir().unwrap();
    let log = Log::open(config(dir.path())).unwrap();
    let reader = log.reader(From::Now).unwrap();
    let refused = Log::open(config(dir.path())).unwrap_err();
    assert!(matches!(refused, OpenError::InUse(_)), "{refused}");
    drop(log);
    assert!(Log::open(config(dir.path())).is_err(), "the reader still has it");
    drop(reader);
    Log::open(config(dir.path())).unwrap();
}

/// A lock that does not work, as on some network file systems: the epoch on disk decides.
#[test]
fn an_epoch_raised_from_outside_fences() {
    let dir = tempdir().unwrap();
    let log = Log::open(LogConfig { fsync: Fsync::Always, ..config(dir.path()) }).unwrap();
    let mut writer = log.writer().unwrap();
    assert_eq!(writer.append(&window(0, &[10])).unwrap(), Ack::Durable(at(1, 10)));
    std::fs::write(dir.path().join("epoch"), "7\n").unwrap();
    writer.append(&window(10, &[20])).unwrap();
    let AppendError::Fenced(fenced) = writer.append(&window(20, &[30])).unwrap_err() else { panic!() };
    assert_eq!((fenced.mine, fenced.newer), (1, 7));
}

#[test]
fn durability_is_said_as_it_is() {
    let dir = tempdir().unwrap();
    let log = Log::open(config(dir.path())).unwrap();
    let mut writer = log.writer().unwrap();
    // The first window of a history is synced, so that a log is never empty again.
    assert_eq!(writer.append(&window(0, &[10])).unwrap(), Ack::Durable(at(1, 10)));
    assert_eq!(writer.append(&window(10, &[20])).unwrap(), Ack::Accepted(at(1, 20)));
    assert_eq!(log.stats().durable, Some(at(1, 10)));
    assert_eq!(writer.sync().unwrap(), Some(at(1, 20)));
    writer.append(&window(20, &[30])).unwrap();
    writer.close().unwrap();
    assert_eq!(log.stats().durable, Some(at(1, 30)));
}

#[tokio::test]
async fn a_sync_comes_by_itself() {
    let dir = tempdir().unwrap();
    let soon =
        LogConfig { fsync: Fsync::Interval(std::time::Duration::from_millis(1)), ..config(dir.path()) };
    let log = Log::open(soon).unwrap();
    let mut writer = log.writer().unwrap();
    append_ten(&mut writer);
    while log.stats().durable != Some(at(1, 200)) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_closed_log_ends_its_readers_when_they_have_everything() {
    let dir = tempdir().unwrap();
    let log = Log::open(config(dir.path())).unwrap();
    let mut writer = log.writer().unwrap();
    let mut reader = log.reader(From::Earliest).unwrap();
    let waiting = tokio::spawn(async move {
        let mut all = vec![];
        while let Some(window) = reader.next().await.unwrap() {
            all.push(window);
        }
        all
    });
    tokio::task::yield_now().await;
    append_ten(&mut writer);
    writer.close().unwrap();
    let all: Vec<Arc<Window>> = waiting.await.unwrap();
    assert_eq!(scns(&all), tens(10, 200));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_of_every_speed_get_everything_while_the_writer_writes() {
    let dir = tempdir().unwrap();
    let small = LogConfig { memory_bytes: 20_000, segment_bytes: 50_000, ..config(dir.path()) };
    let log = Log::open(small).unwrap();
    let mut writer = log.writer().unwrap();
    writer.append(&window(0, &[10])).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for reader in 0..6u64 {
        let mut from = log.reader(From::After(at(1, reader))).unwrap();
        tasks.spawn(async move {
            let (mut dice, mut last) = (Dice(reader), 0);
            while let Some(window) = from.next().await.unwrap() {
                assert_sound(&window);
                for t in window.transactions.iter().filter(|t| t.part.completes()) {
                    assert_eq!(t.scn.0, last + 10);
                    last = t.scn.0;
                }
                for _ in 0..dice.below(reader * 20 + 1) {
                    tokio::task::yield_now().await;
                }
            }
            last
        });
    }
    let end = tokio::task::spawn_blocking(move || {
        append_mixture(&mut writer, 10, 3000).map(|end| (writer.close(), end).1)
    });
    let end = end.await.unwrap().unwrap();
    while let Some(last) = tasks.join_next().await {
        assert_eq!(last.unwrap(), end);
    }
}

/// Whole transactions, transactions in fragments and idle times.
fn append_mixture(writer: &mut tidemill_log::Writer, mut end: u64, count: u64) -> Result<u64, AppendError> {
    let mut dice = Dice(7);
    for _ in 0..count {
        let next = end + 10;
        match dice.below(5) {
            0 => {
                writer.append(&fragment(end, next, Part::First, 0))?;
                writer.append(&fragment(end, next, Part::Middle, 1))?;
                writer.append(&fragment(end, next, Part::Last, 2))?;
            }
            1 => {
                writer.append(&idle(end, end + 1))?;
                writer.append(&window(end + 1, &[next]))?;
            }
            _ => {
                writer.append(&window(end, &[next]))?;
            }
        }
        end = next;
    }
    Ok(end)
}

/// A segment with many index points, looked up by its index before and after a restart.
#[test]
fn a_large_segment_is_entered_near_what_was_asked_for() {
    let dir = tempdir().unwrap();
    let on_disk = LogConfig { memory_bytes: 0, ..config(dir.path()) };
    let log = Log::open(on_disk.clone()).unwrap();
    let mut writer = log.writer().unwrap();
    let last = 40_000u64;
    for after in (0..last).step_by(1_000) {
        let scns: Vec<u64> = (after + 1..=after + 1_000).collect();
        writer.append(&window(after, &scns)).unwrap();
    }
    assert!(log.stats().segment_count == 1 && log.stats().disk_bytes > 4 << 20, "{:?}", log.stats());
    let check = |log: &Log| {
        let mut dice = Dice(5);
        for _ in 0..20 {
            let scn = dice.below(last);
            for from in [From::After(at(1, scn)), From::Time(time_of(scn) + 1)] {
                let first = log.reader(from).unwrap().try_next().unwrap().unwrap();
                assert_sound(&first);
                assert_eq!((first.transactions[0].scn, first.span.after), (Scn(scn + 1), Scn(scn)));
            }
        }
    };
    check(&log);
    writer.close().unwrap();
    drop(log);
    check(&Log::open(on_disk).unwrap());
}

#[test]
fn a_window_without_its_first_transactions_keeps_what_belongs_to_the_rest() {
    let dir = tempdir().unwrap();
    let log = Log::open(config(dir.path())).unwrap();
    let mut whole = window(0, &[11, 12, 16]);
    let event = |ordinal, txn| Event {
        ordinal,
        txn,
        kind: EventKind::Truncate { table: TableName::new("shop", format!("of-{txn}")) },
    };
    whole.transactions.iter_mut().enumerate().for_each(|(i, t)| {
        t.first_ordinal += i as u32;
        t.change_count += 1;
    });
    let table = &mut whole.tables[0];
    table.ordinal = table.ordinal.iter().zip(table.txn.iter()).map(|(o, txn)| o + txn).collect();
    let ends = |t: &Transaction| t.first_ordinal + t.change_count - 1;
    whole.events = whole.transactions.iter().enumerate().map(|(i, t)| event(ends(t), i as u32)).collect();
    let rows = table.rows.num_rows();
    let bits: Vec<bool> = (0..rows).map(|row| table.txn[row] == 1).collect();
    table.absent = vec![None, Some(bits.into())];
    log.writer().unwrap().append(&whole).unwrap();
    let rest = log.reader(From::After(at(1, 11))).unwrap().try_next().unwrap().unwrap();
    rest.validate().unwrap();
    assert_eq!(rest.transactions, whole.transactions[1..]);
    let moved = whole.events[1..].iter().map(|e| Event { txn: e.txn - 1, ..e.clone() });
    assert_eq!(rest.events, moved.collect::<Vec<_>>());
    let table = &rest.tables[0];
    for row in 0..table.rows.num_rows() {
        assert_eq!(table.is_absent(row, 1), table.txn[row] == 0, "row {row}");
    }
    assert_eq!(table.rows.num_rows(), rows - whole.tables[0].txn.iter().filter(|t| **t == 0).count());
}

#[test]
fn a_log_that_only_said_where_it_begins_goes_on_after_it_was_opened_again() {
    let dir = tempdir().unwrap();
    let log = Log::open(config(dir.path())).unwrap();
    let mut writer = log.writer().unwrap();
    writer.append(&idle(20, 20)).unwrap();
    writer.close().unwrap();
    drop(log);
    let log = Log::open(config(dir.path())).unwrap();
    let mut early = log.reader(From::After(at(1, 20))).unwrap();
    let mut writer = log.writer().unwrap();
    writer.append(&window(20, &[30, 40])).unwrap();
    assert_eq!(scns(&drain(&mut early)), [30, 40]);
    assert_eq!(segments(dir.path()).len(), 2, "none was put in place of another");
    writer.close().unwrap();
    drop((early, log));
    let again = Log::open(config(dir.path())).unwrap();
    for from in [From::After(at(1, 20)), From::Earliest, From::Time(0)] {
        assert_eq!(scns(&drain(&mut again.reader(from).unwrap())), [30, 40]);
    }
}

#[test]
fn a_reader_at_a_position_goes_on_though_a_window_executed_more_than_it_tells_of() {
    const SERVER: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    let executed = |window, upto: u64| Window { executed: format!("{SERVER}:1-{upto}").into(), ..window };
    let dir = tempdir().unwrap();
    let log = Log::open(config(dir.path())).unwrap();
    let mut writer = log.writer().unwrap();
    writer.append(&executed(idle(20, 20), 7)).unwrap();
    let had = log.checkpoint().unwrap();
    // As of a source whose policy takes nothing of some transactions.
    writer.append(&executed(window(20, &[30, 40]), 12)).unwrap();
    let mut reader = log.reader(log.locate(&had).unwrap()).unwrap();
    assert_eq!(scns(&drain(&mut reader)), [30, 40]);
}
