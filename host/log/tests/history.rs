//! Change history: what was sealed goes there, comes back from there, and is the same bytes wherever it lies.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use support::*;
use tempfile::tempdir;
use tidemill_event::{Remedy, Scn};
use tidemill_log::{From, HistoryConfig, HistoryError, Log, LogConfig, OpenError, ReadError};
use tidemill_world::faulty::{Faults, Op};
use tokio::sync::watch;

/// A log of transactions 10 to 300, of which this disk has the newest segment and history all others.
async fn mostly_archived(dir: &std::path::Path, store: &Arc<dyn ObjectStore>) -> Log {
    let log = tiered(fleeting(dir), history(store)).await;
    append_tens(&mut log.writer().unwrap(), 10, 300);
    log.archive_now().await.unwrap();
    let (stats, archived) = (log.stats(), log.history_stats().unwrap());
    assert_eq!((stats.segment_count, stats.earliest), (1, Some(at(1, 0))));
    assert!(archived.segment_count > 20 && !archived.is_over_limit, "{archived:?}");
    log
}

#[tokio::test]
async fn b18_old_transactions_are_read_from_history_by_position_and_by_time() {
    let (dir, (store, _)) = (tempdir().unwrap(), faulty_store());
    let log = mostly_archived(dir.path(), &store).await;
    assert_eq!(scns_of(&read_to(&mut log.reader(From::Earliest).unwrap(), 300).await), tens(10, 300));
    for scn in tens(10, 290) {
        let mut by_position = log.reader(From::After(at(1, scn))).unwrap();
        assert_eq!(scns_of(&read_to(&mut by_position, 300).await), tens(scn + 10, 300));
        let mut by_time = log.reader(From::Time(time_of(scn))).unwrap();
        assert_eq!(scns_of(&read_to(&mut by_time, 300).await), tens(scn, 300));
    }
    let stats = log.stats();
    assert_eq!((stats.earliest_time_us, stats.latest_time_us), (Some(time_of(10)), Some(time_of(300))));
}

#[tokio::test]
async fn b59_every_tier_gives_the_same_frames() {
    let (dir, (store, _)) = (tempdir().unwrap(), faulty_store());
    let log = tiered(LogConfig { memory_bytes: 1 << 20, ..tiny(dir.path()) }, history(&store)).await;
    let mut writer = log.writer().unwrap();
    append_tens(&mut writer, 10, 300);
    let memory = read_to(&mut log.reader(From::Earliest).unwrap(), 300).await;
    let part = read_to(&mut log.reader(From::After(at(1, 155))).unwrap(), 300).await;
    writer.close().unwrap();
    log.archive_now().await.unwrap();
    drop(log);
    let log = tiered(tiny(dir.path()), history(&store)).await;
    assert!(log.stats().segment_count > 20);
    let disk = read_to(&mut log.reader(From::Earliest).unwrap(), 300).await;
    drop(log);
    std::fs::remove_dir_all(dir.path()).unwrap();
    let log = tiered(tiny(dir.path()), history(&store)).await;
    assert_eq!(log.stats().segment_count, 0);
    let frames = |given: &[(tidemill_event::Frame, Arc<tidemill_event::Window>)]| {
        given.iter().map(|(frame, _)| frame.clone()).collect::<Vec<_>>()
    };
    for _ in 0..2 {
        let history = read_to(&mut log.reader(From::Earliest).unwrap(), 300).await;
        assert!(frames(&history) == frames(&memory) && frames(&disk) == frames(&memory));
        let again = read_to(&mut log.reader(From::After(at(1, 155))).unwrap(), 300).await;
        assert!(frames(&again) == frames(&part), "a range that begins between transactions");
    }
}

#[tokio::test]
async fn a_log_whose_directory_was_lost_goes_on_where_history_ends() {
    let (dir, (store, _)) = (tempdir().unwrap(), faulty_store());
    let log = tiered(tiny(dir.path()), history(&store)).await;
    let mut writer = log.writer().unwrap();
    // Of `orders`, in the first segment only; all others are of `parts`.
    writer.append(&window(0, &[3])).unwrap();
    writer.append(&window(3, &[10])).unwrap();
    append_tens(&mut writer, 20, 100);
    writer.close().unwrap();
    log.archive_now().await.unwrap();
    let end = log.checkpoint();
    drop(log);
    std::fs::remove_dir_all(dir.path()).unwrap();
    let log = tiered(tiny(dir.path()), history(&store)).await;
    assert_eq!(log.checkpoint(), end, "position, server and set of executed transactions");
    assert_eq!(log.stats().durable, Some(at(1, 100)));
    let known = log.schemas().await.unwrap();
    let names: Vec<String> = known.iter().map(|s| s.name().to_string()).collect();
    assert_eq!(names, ["shop.orders", "shop.parts"], "although no segment is on this disk");
    for schema in known {
        assert_eq!(log.schema(schema.id()).await.unwrap(), Some(schema));
    }
    append_tens(&mut log.writer().unwrap(), 110, 200);
    let all = [vec![3], tens(10, 200)].concat();
    assert_eq!(scns_of(&read_to(&mut log.reader(From::Earliest).unwrap(), 200).await), all);
    log.archive_now().await.unwrap();
    drop(log);
    let log = tiered(tiny(dir.path()), history(&store)).await;
    assert_eq!(scns_of(&read_to(&mut log.reader(From::Earliest).unwrap(), 200).await), all);
}

#[tokio::test]
async fn a_directory_that_is_behind_its_history_is_left_for_it() {
    let (dir, old, (store, _)) = (tempdir().unwrap(), tempdir().unwrap(), faulty_store());
    let log = tiered(tiny(dir.path()), history(&store)).await;
    let mut writer = log.writer().unwrap();
    append_tens(&mut writer, 10, 50);
    writer.sync().unwrap();
    for entry in std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_file()) {
        std::fs::copy(&entry, old.path().join(entry.file_name().unwrap())).unwrap();
    }
    append_tens(&mut writer, 60, 200);
    writer.close().unwrap();
    log.archive_now().await.unwrap();
    let log = tiered(tiny(old.path()), history(&store)).await;
    assert_eq!((log.stats().segment_count, end(&log)), (0, Some(200)));
    append_tens(&mut log.writer().unwrap(), 210, 250);
    assert_eq!(scns_of(&read_to(&mut log.reader(From::Earliest).unwrap(), 250).await), tens(10, 250));
}

#[tokio::test]
async fn two_logs_do_not_share_a_history() {
    let (one, two, (store, _)) = (tempdir().unwrap(), tempdir().unwrap(), faulty_store());
    let first = tiered(tiny(one.path()), history(&store)).await;
    let second = tiered(tiny(two.path()), history(&store)).await;
    let mut writer = first.writer().unwrap();
    append_tens(&mut writer, 10, 100);
    first.archive_now().await.unwrap();
    let mut other = second.writer().unwrap();
    other.append(&window(0, &[10, 20, 30])).unwrap();
    append_tens(&mut other, 40, 100);
    let error = second.archive_now().await.unwrap_err();
    assert!(matches!(error, HistoryError::Other(_)), "{error}");
    assert_eq!(error.remedy(), Remedy::Fenced);
    assert!(
        error.to_string().contains("test://store/shop/catalogue/00000000000000000001 holds segment 1"),
        "{error}"
    );
    let (_stop, stopped) = watch::channel(false);
    assert!(matches!(second.archive(stopped).await, Err(HistoryError::Other(_))), "the task ends");
    assert_eq!(scns_of(&read_to(&mut second.reader(From::Earliest).unwrap(), 100).await), tens(10, 100));
    assert_eq!(scns_of(&read_to(&mut first.reader(From::Earliest).unwrap(), 100).await), tens(10, 100));
    other.close().unwrap();
    drop(second);
    let again = Log::open_tiered(tiny(two.path()), Arc::new(QuickFiles), Some(history(&store))).await;
    assert!(matches!(again, Err(OpenError::History(HistoryError::Other(_)))), "{again:?}");
}

#[tokio::test]
async fn a_directory_that_begins_after_its_history_ended_is_refused() {
    let (dir, (store, _)) = (tempdir().unwrap(), faulty_store());
    let log = tiered(tiny(dir.path()), history(&store)).await;
    let mut writer = log.writer().unwrap();
    append_tens(&mut writer, 10, 50);
    log.archive_now().await.unwrap();
    drop((log, writer));
    let alone = Log::open(fleeting(dir.path())).unwrap();
    append_tens(&mut alone.writer().unwrap(), 60, 200);
    drop(alone);
    let again = Log::open_tiered(tiny(dir.path()), Arc::new(QuickFiles), Some(history(&store))).await;
    assert!(matches!(again, Err(OpenError::History(HistoryError::Other(_)))), "{again:?}");
}

#[tokio::test]
async fn what_history_does_not_have_stays_on_this_disk() {
    let (dir, (store, faults)) = (tempdir().unwrap(), faulty_store());
    let log = tiered(fleeting(dir.path()), history(&store)).await;
    faults.only(Op::Put);
    faults.from(1, tidemill_world::faulty::Fault::Fail);
    let mut writer = log.writer().unwrap();
    append_tens(&mut writer, 10, 200);
    assert!(log.archive_now().await.is_err());
    append_tens(&mut writer, 210, 300);
    let stats = log.history_stats().unwrap();
    assert!(stats.is_over_limit && stats.segment_count == 0, "{stats:?}");
    assert!(stats.last_error.as_deref().is_some_and(|e| e.contains("told to fail")), "{stats:?}");
    assert!(log.stats().segment_count > 20 && stats.waiting_bytes == log.stats().disk_bytes);
    faults.clear();
    log.archive_now().await.unwrap();
    let stats = log.history_stats().unwrap();
    assert_eq!((stats.is_over_limit, stats.last_error, log.stats().segment_count), (false, None, 1));
    assert_eq!(scns_of(&read_to(&mut log.reader(From::Earliest).unwrap(), 300).await), tens(10, 300));
}

#[tokio::test]
async fn the_task_archives_what_is_sealed_and_seals_what_is_old() {
    let (dir, (store, _)) = (tempdir().unwrap(), faulty_store());
    let sealing = HistoryConfig { upload_after: Some(Duration::ZERO), ..history(&store) };
    let log = tiered(config(dir.path()), sealing).await;
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn({
        let log = log.clone();
        async move { log.archive(stopped).await }
    });
    let mut writer = log.writer().unwrap();
    for scn in tens(10, 50) {
        writer.append(&window(scn - 10, &[scn])).unwrap();
        while log.history_stats().unwrap().archived != Some(at(1, scn)) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(log.stats().durable, Some(at(1, scn)), "history is never ahead of this disk");
    }
    assert_eq!(log.history_stats().unwrap().waiting_bytes, 0);
    stop.send_replace(true);
    task.await.unwrap().unwrap();
    assert_eq!(scns_of(&read_to(&mut log.reader(From::Earliest).unwrap(), 50).await), tens(10, 50));
}

#[tokio::test]
async fn b18_segments_leave_history_by_age_and_who_needs_them_is_told_the_range() {
    let (dir, (store, faults)) = (tempdir().unwrap(), faulty_store());
    let log = mostly_archived(dir.path(), &store).await;
    let mut slow = log.reader(From::Earliest).unwrap();
    let first = slow.next().await.unwrap().unwrap();
    assert_eq!(scns(&[first]), [10]);
    drop(log);
    let mut old = slow;
    // The directory is another process's, as far as the log knows; the old handle still reads what it has open.
    let gone = dir.path().join("lock");
    std::fs::remove_file(gone).unwrap();
    let ageing = HistoryConfig { keep_time: Some(Duration::ZERO), ..history(&store) };
    let log = tiered(fleeting(dir.path()), ageing).await;
    log.archive_now().await.unwrap();
    let stats = log.history_stats().unwrap();
    assert_eq!(stats.segment_count, 1, "the newest says where the log goes on");
    let names: Vec<_> =
        faults.calls().into_iter().filter(|(op, _)| *op == Op::Delete).map(|(_, p)| p).collect();
    assert!(names[0].as_ref().contains("catalogue") && names[1].as_ref().contains("segments"), "{names:?}");
    let earliest = stats.earliest.unwrap();
    assert!(
        matches!(log.reader(From::After(at(1, 50))), Err(ReadError::TooOld(t)) if t.earliest == earliest)
    );
    assert!(matches!(log.reader(From::Time(time_of(50))), Err(ReadError::TooOld(_))));
    let rest = scns_of(&read_to(&mut log.reader(From::Earliest).unwrap(), 300).await);
    assert_eq!(rest, tens(earliest.scn.0 + 10, 300));
    let error = loop {
        match old.next().await {
            Ok(window) => assert!(window.unwrap().span.after > Scn(0)),
            Err(error) => break error,
        }
    };
    assert!(matches!(&error, ReadError::History(e) if matches!(**e, HistoryError::Store(_))), "{error}");
}

/// How often the first segment was asked for.
fn gets_of_first(faults: &Faults) -> usize {
    let is_first =
        |(op, path): &(Op, Path)| *op == Op::Get && path.as_ref().contains("/00000000000000000001-");
    faults.calls().iter().filter(|call| is_first(call)).count()
}

#[tokio::test]
async fn the_segment_that_follows_is_fetched_while_one_is_read() {
    let (dir, (store, _)) = (tempdir().unwrap(), faulty_store());
    let log = mostly_archived(dir.path(), &store).await;
    let mut reader = log.reader(From::Earliest).unwrap();
    reader.next().await.unwrap();
    while files(&dir.path().join("cache"), "seg").len() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(scns_of(&read_to(&mut reader, 300).await), tens(20, 300));
}

#[tokio::test]
async fn one_fetch_serves_all_readers_and_try_next_waits_for_none() {
    let (dir, (store, faults)) = (tempdir().unwrap(), faulty_store());
    let log = mostly_archived(dir.path(), &store).await;
    let before = gets_of_first(&faults);
    faults.hold();
    let readers: Vec<_> = (0..20)
        .map(|_| {
            let mut reader = log.reader(From::Earliest).unwrap();
            assert!(reader.try_next().unwrap().is_none(), "it is not on this disk");
            tokio::spawn(async move { reader.next().await.map(|w| w.unwrap().span.upto) })
        })
        .collect();
    tokio::task::yield_now().await;
    faults.release();
    for reader in readers {
        assert_eq!(reader.await.unwrap().unwrap(), Scn(10));
    }
    assert_eq!(gets_of_first(&faults), before + 1);
    let mut reader = log.reader(From::Earliest).unwrap();
    assert_eq!(reader.try_next().unwrap().unwrap().span.upto, Scn(10), "it is now");
}

#[tokio::test]
async fn a_reader_that_gives_up_waiting_leaves_the_fetch_to_others() {
    let (dir, (store, faults)) = (tempdir().unwrap(), faulty_store());
    let log = mostly_archived(dir.path(), &store).await;
    let before = gets_of_first(&faults);
    faults.hold();
    let (mut one, mut two) = (log.reader(From::Earliest).unwrap(), log.reader(From::Earliest).unwrap());
    {
        let first = one.next();
        tokio::pin!(first);
        assert!(futures_util::poll!(&mut first).is_pending());
        tokio::task::yield_now().await;
    }
    faults.release();
    assert_eq!(two.next().await.unwrap().unwrap().span.upto, Scn(10));
    assert_eq!(one.next().await.unwrap().unwrap().span.upto, Scn(10));
    assert_eq!(gets_of_first(&faults), before + 1);
}

#[tokio::test]
async fn the_cache_keeps_to_its_bytes_and_what_was_used_last() {
    let (dir, (store, faults)) = (tempdir().unwrap(), faulty_store());
    drop(mostly_archived(dir.path(), &store).await);
    let small = HistoryConfig { cache_bytes: 4_000, ..history(&store) };
    let log = tiered(fleeting(dir.path()), small.clone()).await;
    for _ in 0..3 {
        let mut reader = log.reader(From::Earliest).unwrap();
        while reader.position().is_none_or(|p| p.scn < Scn(300)) {
            reader.next().await.unwrap();
            let on_disk: u64 = files(&dir.path().join("cache"), "seg")
                .iter()
                .map(|p| std::fs::metadata(p).map_or(0, |m| m.len()))
                .sum();
            let told = log.history_stats().unwrap().cache_bytes;
            assert!(on_disk <= 4_000 && told <= 4_000, "{on_disk} {told}");
        }
    }
    let before = faults.count(Op::Get);
    let mut newest = log.reader(From::After(at(1, 280))).unwrap();
    newest.next().await.unwrap();
    assert_eq!(faults.count(Op::Get), before, "it was read last");
    drop((newest, log));
    let log = tiered(fleeting(dir.path()), small).await;
    let before = faults.count(Op::Get);
    let mut newest = log.reader(From::After(at(1, 280))).unwrap();
    newest.next().await.unwrap();
    assert_eq!(faults.count(Op::Get), before, "and is taken over by the next process");
}

#[tokio::test]
async fn a_segment_larger_than_a_part_goes_in_parts_and_comes_back() {
    let (dir, (store, _)) = (tempdir().unwrap(), faulty_store());
    let log = tiered(LogConfig { memory_bytes: 0, ..config(dir.path()) }, history(&store)).await;
    let mut writer = log.writer().unwrap();
    let many: Vec<u64> = (1..=40_000).collect();
    let mut after = 0;
    while log.stats().disk_bytes < 40 << 20 {
        let scns: Vec<u64> = many.iter().map(|n| after + n).collect();
        writer.append(&window(after, &scns)).unwrap();
        after += 40_000;
    }
    writer.close().unwrap();
    log.archive_now().await.unwrap();
    let entry = log.history_stats().unwrap();
    assert_eq!((entry.segment_count, entry.bytes), (1, log.stats().disk_bytes));
    drop(log);
    std::fs::remove_dir_all(dir.path()).unwrap();
    let log = tiered(config(dir.path()), history(&store)).await;
    let all = read_to(&mut log.reader(From::Earliest).unwrap(), after).await;
    assert_eq!(all.len() as u64, after / 40_000);
}

#[tokio::test]
async fn history_lies_in_a_directory_where_the_url_is_one() {
    let dir = tempdir().unwrap();
    let url = format!("file://{}", dir.path().join("history").display());
    let store = tidemill_world::objects::open(&url).unwrap();
    let log = mostly_archived(&dir.path().join("log"), &store).await;
    assert_eq!(scns_of(&read_to(&mut log.reader(From::Earliest).unwrap(), 300).await), tens(10, 300));
    assert!(dir.path().join("history/shop/catalogue/00000000000000000001").exists());
    let first = store.list(Some(&Path::from("shop/segments")));
    let names: Vec<_> = futures_util::TryStreamExt::try_collect::<Vec<_>>(first).await.unwrap();
    let object = store.get(&names.iter().map(|m| &m.location).min().unwrap().clone()).await.unwrap();
    assert_eq!(&object.bytes().await.unwrap()[..4], b"TMSG", "a segment as it lay on disk");
}

/// What a log gives that begins at 20 and ends at 200, from wherever one asks.
async fn assert_begins_at_20(log: &Log, when: &str) {
    for from in [From::After(at(1, 20)), From::Earliest, From::Time(0), From::Time(time_of(30))] {
        let mut reader = log.reader(from.clone()).unwrap();
        assert_eq!(scns_of(&read_to(&mut reader, 200).await), tens(30, 200), "{when}: {from:?}");
    }
    let mut later = log.reader(From::After(at(1, 30))).unwrap();
    assert_eq!(scns_of(&read_to(&mut later, 200).await), tens(40, 200), "{when}");
}

#[tokio::test]
async fn a_segment_that_only_says_where_the_log_begins_goes_to_history_before_the_one_that_begins_there_too()
{
    let whole = |directory: &std::path::Path| LogConfig { segment_bytes: 1 << 20, ..tiny(directory) };
    // The directory is kept, lost, or an old copy of it is put back; what was begun goes to history at once or later.
    for (is_archived, fate) in
        [(false, "kept"), (true, "kept"), (true, "lost"), (false, "old"), (true, "old")]
    {
        let when = format!("archived at once: {is_archived}, {fate}");
        for config in [tiny, whole] as [fn(&std::path::Path) -> LogConfig; 2] {
            let (dir, old, (store, _)) = (tempdir().unwrap(), tempdir().unwrap(), faulty_store());
            let log = tiered(config(dir.path()), history(&store)).await;
            let mut writer = log.writer().unwrap();
            writer.append(&idle(20, 20)).unwrap();
            writer.close().unwrap();
            if is_archived {
                log.archive_now().await.unwrap();
            }
            drop(log);
            let there = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
            for file in there.filter(|path| path.is_file()) {
                std::fs::copy(&file, old.path().join(file.file_name().unwrap())).unwrap();
            }
            if fate == "lost" {
                std::fs::remove_dir_all(dir.path()).unwrap();
            }
            let log = tiered(config(dir.path()), history(&store)).await;
            assert_eq!(log.checkpoint().unwrap().position, at(1, 20), "{when}");
            let mut writer = log.writer().unwrap();
            writer.append(&window(20, &[30, 40])).unwrap();
            append_tens(&mut writer, 50, 200);
            assert_begins_at_20(&log, &when).await;
            writer.close().unwrap();
            log.archive_now().await.unwrap();
            assert!(log.history_stats().unwrap().segment_count > 1, "{when}");
            assert_begins_at_20(&log, &when).await;
            drop(log);
            let directory = if fate == "old" { old.path() } else { dir.path() };
            let log = tiered(config(directory), history(&store)).await;
            assert_begins_at_20(&log, &format!("{when}, opened again")).await;
            drop(log);
            std::fs::remove_dir_all(directory).unwrap();
            let log = tiered(config(directory), history(&store)).await;
            assert_eq!(log.checkpoint().unwrap().position, at(1, 200), "{when}");
            assert_begins_at_20(&log, &format!("{when}, from history alone")).await;
        }
    }
}
