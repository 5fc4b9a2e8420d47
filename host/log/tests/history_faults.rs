//! History and everything that can go wrong on the way there and back: the store fails, throttles, loses answers and lies,
//! the process ends at any call, bits flip in every tier. Nothing is lost, nothing comes twice, nothing wrong is read.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use support::*;
use tempfile::tempdir;
use tidemill_event::{Part, Remedy};
use tidemill_log::{
    AppendError, Files, From, HistoryConfig, HistoryError, Log, LogConfig, OpenError, ReadError, SegmentFile,
    Writer,
};
use tidemill_world::faulty::{Fault, Faults, FaultyStore, Op};
use tokio::sync::watch;

/// A store, and the same one with faults.
fn stores() -> (Arc<dyn ObjectStore>, Arc<dyn ObjectStore>, Faults) {
    let (sound, faults): (Arc<dyn ObjectStore>, _) = (Arc::new(InMemory::new()), Faults::default());
    let faulty = Arc::new(FaultyStore::new(Arc::clone(&sound), faults.clone()));
    (sound, faulty, faults)
}

/// Appends what is left of transactions 10 to `last`, one of three parts among them.
fn append_rest(log: &Log, writer: &mut Writer, last: u64) -> Result<(), AppendError> {
    let mut at = end(log).unwrap_or(0);
    while at < last {
        let next = at + 10;
        if next.is_multiple_of(70) {
            for (part, offset) in [(Part::First, 0), (Part::Middle, 2), (Part::Last, 4)] {
                writer.append(&fragment(at, next, part, offset))?;
            }
        } else {
            writer.append(&window(at, &[next]))?;
        }
        at = next;
    }
    Ok(())
}

async fn everything(log: &Log, last: u64) -> Vec<u64> {
    scns_of(&read_to(&mut log.reader(From::Earliest).unwrap(), last).await)
}

/// The process ends at each call to the store in turn; what comes after finds whatever the calls before it left.
async fn end_at_each_call(fault: Fault, loses_directory: bool) {
    for call in 1.. {
        let dir = tempdir().unwrap();
        let (sound, faulty, faults) = stores();
        let log = tiered(fleeting(dir.path()), history(&faulty)).await;
        let mut writer = log.writer().unwrap();
        append_rest(&log, &mut writer, 60).unwrap();
        writer.sync().unwrap();
        faults.clear();
        if fault == Fault::LoseAnswer {
            faults.at(call, fault);
            faults.from(call + 1, Fault::Fail);
        } else {
            faults.from(call, fault);
        }
        let done = log.archive_now().await;
        let archived = log.history_stats().unwrap().archived;
        drop((writer, log));
        if loses_directory {
            std::fs::remove_dir_all(dir.path()).unwrap();
        }
        let log = tiered(fleeting(dir.path()), history(&sound)).await;
        let found = log.history_stats().unwrap().archived;
        assert!(found >= archived, "call {call}: {found:?}, and {archived:?} was in history");
        append_rest(&log, &mut log.writer().unwrap(), 100).unwrap();
        log.archive_now().await.unwrap();
        assert_eq!(everything(&log, 100).await, tens(10, 100), "call {call}");
        if done.is_ok() {
            assert!(call > 15, "only {call} calls were made");
            return;
        }
    }
}

#[tokio::test]
async fn b10_an_end_at_any_call_to_the_store_loses_nothing_and_doubles_nothing() {
    end_at_each_call(Fault::Fail, false).await;
    end_at_each_call(Fault::LoseAnswer, false).await;
}

#[tokio::test]
async fn b10_an_end_at_any_call_to_the_store_and_a_lost_directory_leave_what_history_has() {
    end_at_each_call(Fault::Fail, true).await;
    end_at_each_call(Fault::LoseAnswer, true).await;
}

/// A put that says success and stores nothing, or something else, is noticed before this disk lets the segment go.
#[tokio::test]
async fn b10_a_store_that_lies_about_each_call_is_not_believed() {
    for fault in [Fault::Vanish, Fault::Truncate, Fault::Flip] {
        for call in 1.. {
            let dir = tempdir().unwrap();
            let (sound, faulty, faults) = stores();
            let log = tiered(fleeting(dir.path()), history(&faulty)).await;
            append_rest(&log, &mut log.writer().unwrap(), 60).unwrap();
            faults.clear();
            faults.at(call, fault);
            let done = log.archive_now().await;
            let calls = faults.calls().len() as u64;
            if let Err(error) = &done {
                let seen = matches!(error, HistoryError::Damaged(_) | HistoryError::Store(_));
                assert!(seen, "call {call}, {fault:?}: {error}");
            }
            log.archive_now().await.unwrap();
            assert_eq!(log.stats().segment_count, 1);
            drop(log);
            // Only what is really there counts now.
            std::fs::remove_dir_all(dir.path().join("cache")).unwrap();
            let log = tiered(fleeting(dir.path()), history(&sound)).await;
            assert_eq!(everything(&log, 60).await, tens(10, 60), "call {call}, {fault:?}");
            if call > calls {
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_store_that_fails_throttles_and_lies_by_chance_costs_time_only() {
    for seed in 0..8 {
        let dir = tempdir().unwrap();
        let (sound, faulty, faults) = stores();
        let patient = HistoryConfig { fetch_tries: 1_000, ..history(&faulty) };
        let log = tiered(fleeting(dir.path()), patient).await;
        let all =
            [Fault::Fail, Fault::Throttle, Fault::LoseAnswer, Fault::Vanish, Fault::Truncate, Fault::Flip];
        faults.random(seed, 300, all.to_vec());
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn({
            let log = log.clone();
            async move { log.archive(stopped).await }
        });
        let mut reader = log.reader(From::Earliest).unwrap();
        let mut writer = log.writer().unwrap();
        append_rest(&log, &mut writer, 150).unwrap();
        // As slow as its store, a reader gets everything.
        assert_eq!(scns_of(&read_to(&mut reader, 150).await), tens(10, 150), "seed {seed}");
        while log.history_stats().unwrap().waiting_bytes > log.stats().disk_bytes
            || log.stats().segment_count > 1
        {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        assert_eq!(everything(&log, 150).await, tens(10, 150), "seed {seed}");
        stop.send_replace(true);
        task.await.unwrap().unwrap();
        drop((reader, writer, log));
        let log = tiered(fleeting(dir.path()), history(&sound)).await;
        assert_eq!(everything(&log, 150).await, tens(10, 150), "seed {seed}, opened again");
    }
}

/// A log of which history has all but the newest segment, closed; with its store.
async fn archived(dir: &std::path::Path) -> (Arc<dyn ObjectStore>, LogConfig) {
    let (sound, _, _) = stores();
    let log = tiered(fleeting(dir), history(&sound)).await;
    append_rest(&log, &mut log.writer().unwrap(), 60).unwrap();
    log.archive_now().await.unwrap();
    drop(log);
    (sound, fleeting(dir))
}

async fn objects(store: &Arc<dyn ObjectStore>, under: &str) -> Vec<Path> {
    let list: Vec<_> = store.list(Some(&Path::from(under))).try_collect().await.unwrap();
    let mut names: Vec<Path> = list.into_iter().map(|meta| meta.location).collect();
    names.sort();
    names
}

/// Everything that a log gives, or how it refuses.
async fn try_all(
    config: LogConfig,
    history: HistoryConfig,
    last: u64,
) -> Result<Vec<u64>, Box<dyn std::error::Error>> {
    let log = Log::open_tiered(config, Arc::new(QuickFiles), Some(history)).await?;
    let mut reader = log.reader(From::Earliest)?;
    let mut all = vec![];
    while reader.position().is_none_or(|p| p.scn.0 < last) {
        let Some(window) = reader.next().await? else { break };
        assert_sound(&window);
        all.push(window);
    }
    Ok(scns(&all))
}

#[tokio::test]
async fn b19_every_flipped_byte_of_an_object_of_history_is_refused_by_name() {
    let dir = tempdir().unwrap();
    let (store, config) = archived(dir.path()).await;
    let mut dice = Dice(5);
    let once = || HistoryConfig { fetch_tries: 1, ..history(&store) };
    let [first_entry, first_segment] = [
        objects(&store, "shop/catalogue").await[0].clone(),
        objects(&store, "shop/segments").await[0].clone(),
    ];
    for object in [first_entry, first_segment] {
        let bytes = store.get(&object).await.unwrap().bytes().await.unwrap();
        // What an earlier process fetched would be used.
        let _ = std::fs::remove_dir_all(dir.path().join("cache"));
        for at in 0..bytes.len() {
            let mut flipped = bytes.to_vec();
            flipped[at] ^= 1 << dice.below(8);
            store.put(&object, flipped.into()).await.unwrap();
            let error = try_all(config.clone(), once(), 60).await.unwrap_err();
            assert!(error.to_string().contains(object.as_ref()), "byte {at} of {object}: {error}");
            let remedy = match (error.downcast_ref::<OpenError>(), error.downcast_ref::<ReadError>()) {
                (Some(error), _) => error.remedy(),
                (_, Some(error)) => error.remedy(),
                _ => panic!("{error}"),
            };
            assert_eq!(remedy, Remedy::Fix, "{error}");
        }
        for length in [0, 1, bytes.len() / 2, bytes.len() - 1] {
            store.put(&object, bytes.slice(..length).into()).await.unwrap();
            assert!(try_all(config.clone(), once(), 60).await.is_err(), "{length} bytes of {object}");
        }
        store.put(&object, bytes.into()).await.unwrap();
        assert_eq!(try_all(config.clone(), once(), 60).await.unwrap(), tens(10, 60), "it was put back");
    }
}

#[tokio::test]
async fn b19_every_flipped_byte_of_a_file_of_the_cache_is_fetched_again() {
    let dir = tempdir().unwrap();
    let (store, config) = archived(dir.path()).await;
    assert_eq!(try_all(config.clone(), history(&store), 60).await.unwrap(), tens(10, 60));
    let path = files(&dir.path().join("cache"), "seg")[0].clone();
    let bytes = std::fs::read(&path).unwrap();
    let mut dice = Dice(9);
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << dice.below(8);
        std::fs::write(&path, flipped).unwrap();
        assert_eq!(try_all(config.clone(), history(&store), 60).await.unwrap(), tens(10, 60), "byte {at}");
        assert!(std::fs::read(&path).unwrap() == bytes, "byte {at}");
    }
}

#[tokio::test]
async fn b19_a_cache_that_is_damaged_while_it_is_read_is_fetched_again() {
    let dir = tempdir().unwrap();
    let (store, config) = archived(dir.path()).await;
    let log = tiered(config, history(&store)).await;
    assert_eq!(everything(&log, 60).await, tens(10, 60));
    for path in files(&dir.path().join("cache"), "seg") {
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 16;
        std::fs::write(&path, bytes).unwrap();
    }
    assert_eq!(everything(&log, 60).await, tens(10, 60), "the open file is the damaged one");
}

#[tokio::test]
async fn b19_what_is_damaged_or_missing_on_this_disk_is_read_from_history() {
    let dir = tempdir().unwrap();
    let (store, _, _) = stores();
    let log = tiered(tiny(dir.path()), history(&store)).await;
    append_rest(&log, &mut log.writer().unwrap(), 100).unwrap();
    log.archive_now().await.unwrap();
    let paths = segments(dir.path());
    for path in &paths[..2] {
        let mut bytes = std::fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }
    std::fs::remove_file(&paths[3]).unwrap();
    assert_eq!(everything(&log, 100).await, tens(10, 100));
    assert_eq!(log.stats().segment_count, paths.len(), "all of them were on this disk");
}

#[tokio::test]
async fn b18_a_reader_is_not_in_the_way_of_segments_that_leave_this_disk() {
    let dir = tempdir().unwrap();
    let (store, _, _) = stores();
    let log = tiered(fleeting(dir.path()), history(&store)).await;
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn({
        let log = log.clone();
        async move { log.archive(stopped).await }
    });
    let mut writer = log.writer().unwrap();
    let mut readers: Vec<_> = (0..5).map(|_| log.reader(From::Earliest).unwrap()).collect();
    for last in (100..=1_000).step_by(100) {
        append_rest(&log, &mut writer, last).unwrap();
        for (i, reader) in readers.iter_mut().enumerate() {
            // Each stands elsewhere while segments go.
            let upto = last - i as u64 * 20;
            let from = reader.position().map_or(0, |p| p.scn.0);
            assert_eq!(scns_of(&read_to(reader, upto).await), tens(from + 10, upto));
        }
    }
    stop.send_replace(true);
    task.await.unwrap().unwrap();
}

#[tokio::test]
async fn b19_a_segment_that_is_damaged_on_this_disk_never_reaches_history() {
    let dir = tempdir().unwrap();
    let (store, _, _) = stores();
    let log = tiered(tiny(dir.path()), history(&store)).await;
    append_rest(&log, &mut log.writer().unwrap(), 60).unwrap();
    let path: PathBuf = segments(dir.path())[1].clone();
    let bytes = std::fs::read(&path).unwrap();
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 2;
    std::fs::write(&path, flipped).unwrap();
    let error = log.archive_now().await.unwrap_err();
    assert!(matches!(&error, HistoryError::Segment(d) if d.path == path), "{error}");
    assert_eq!(objects(&store, "shop").await.len(), 2, "the segment before it, and its entry");
    std::fs::write(&path, bytes).unwrap();
    log.archive_now().await.unwrap();
    drop(log);
    std::fs::remove_dir_all(dir.path()).unwrap();
    let log = tiered(tiny(dir.path()), history(&store)).await;
    let last = end(&log).unwrap();
    assert_eq!(everything(&log, last).await, tens(10, last));
}

#[tokio::test]
async fn a_missing_entry_of_the_catalogue_is_noticed() {
    let dir = tempdir().unwrap();
    let (store, config) = archived(dir.path()).await;
    let entries = objects(&store, "shop/catalogue").await;
    store.delete(&entries[1]).await.unwrap();
    let error = try_all(config, history(&store), 60).await.unwrap_err().to_string();
    assert!(
        error.contains(entries[2].as_ref()) && error.contains("an entry between them is missing"),
        "{error}"
    );
}

#[tokio::test]
async fn a_reader_is_told_when_the_store_stays_away_and_goes_on_when_it_is_back() {
    let dir = tempdir().unwrap();
    let (sound, config) = archived(dir.path()).await;
    let faults = Faults::default();
    let faulty: Arc<dyn ObjectStore> = Arc::new(FaultyStore::new(sound, faults.clone()));
    let log = tiered(config, history(&faulty)).await;
    faults.only(Op::Get);
    faults.from(1, Fault::Throttle);
    let mut reader = log.reader(From::Earliest).unwrap();
    for _ in 0..2 {
        let error = reader.next().await.unwrap_err();
        assert!(matches!(&error, ReadError::History(e) if matches!(**e, HistoryError::Store(_))), "{error}");
        assert_eq!(error.remedy(), Remedy::Retry);
    }
    faults.clear();
    assert_eq!(scns_of(&read_to(&mut reader, 60).await), tens(10, 60));
}

/// The real files, of which those of the cache find no space.
#[derive(Debug, Default)]
struct FullCache(Arc<AtomicBool>);

impl Files for FullCache {
    fn create(&self, path: &std::path::Path) -> io::Result<Arc<dyn SegmentFile>> {
        let is_cache = path.parent().is_some_and(|parent| parent.ends_with("cache"));
        match is_cache && self.0.load(Ordering::SeqCst) {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => QuickFiles.create(path),
        }
    }
    fn open(&self, path: &std::path::Path) -> io::Result<Arc<dyn SegmentFile>> {
        QuickFiles.open(path)
    }
    fn rename(&self, from: &std::path::Path, to: &std::path::Path) -> io::Result<()> {
        QuickFiles.rename(from, to)
    }
    fn remove(&self, path: &std::path::Path) -> io::Result<()> {
        QuickFiles.remove(path)
    }
    fn sync_directory(&self, path: &std::path::Path) -> io::Result<()> {
        QuickFiles.sync_directory(path)
    }
}

#[tokio::test]
async fn b58_a_reader_of_history_on_a_full_disk_is_told_and_goes_on_when_there_is_space() {
    let dir = tempdir().unwrap();
    let (store, config) = archived(dir.path()).await;
    let is_full = Arc::new(AtomicBool::new(true));
    let files = Arc::new(FullCache(Arc::clone(&is_full)));
    let log = Log::open_tiered(config, files, Some(history(&store))).await.unwrap();
    let mut reader = log.reader(From::Earliest).unwrap();
    let error = reader.next().await.unwrap_err();
    assert!(matches!(&error, ReadError::History(e) if matches!(**e, HistoryError::File(_))), "{error}");
    assert_eq!(error.remedy(), Remedy::Fix);
    assert!(error.to_string().contains("free space"), "{error}");
    is_full.store(false, Ordering::SeqCst);
    assert_eq!(scns_of(&read_to(&mut reader, 60).await), tens(10, 60));
}

const CHILD: &str = "TIDEMILL_HISTORY_TEST_CHILD";

fn in_directory(dir: &std::path::Path) -> Arc<dyn ObjectStore> {
    let url = format!("file://{}", dir.join("history").display());
    tidemill_world::objects::open(&url).unwrap()
}

async fn live(dir: &std::path::Path) -> Log {
    let config = LogConfig { segment_bytes: 5_000, ..fleeting(&dir.join("log")) };
    tiered(config, history(&in_directory(dir))).await
}

/// Appends and archives for ever, and says what was acknowledged.
async fn archive_for_ever(dir: &std::path::Path) {
    let log = live(dir).await;
    let (_stop, stopped) = watch::channel(false);
    tokio::spawn({
        let log = log.clone();
        async move { log.archive(stopped).await }
    });
    let mut writer = log.writer().unwrap();
    loop {
        let next = end(&log).unwrap_or(0) + 10;
        append_rest(&log, &mut writer, next).unwrap();
        println!("ack {next}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn b10_a_killed_process_loses_nothing_acknowledged_of_log_and_history() {
    if let Some(directory) = std::env::var_os(CHILD) {
        archive_for_ever(std::path::Path::new(&directory)).await;
    }
    let dir = tempdir().unwrap();
    let mut dice = Dice(20);
    for round in 0..15 {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let name = "b10_a_killed_process_loses_nothing_acknowledged_of_log_and_history";
        command.args([name, "--exact", "--nocapture"]).env(CHILD, dir.path());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut acks = lines.filter_map(|line| line.strip_prefix("ack ").map(|n| n.parse::<u64>().unwrap()));
        let mut acknowledged = 0;
        for _ in 0..1 + dice.below(200) {
            acknowledged = acks.next().unwrap();
        }
        child.kill().unwrap();
        acknowledged = acks.last().unwrap_or(acknowledged);
        child.wait().unwrap();
        let log = live(dir.path()).await;
        let last = end(&log).unwrap();
        assert!(last >= acknowledged, "round {round}: {acknowledged} was acknowledged, {last} is there");
        assert_eq!(everything(&log, last).await, tens(10, last), "round {round}");
    }
    let log = live(dir.path()).await;
    assert!(log.history_stats().unwrap().segment_count > 10, "{:?}", log.history_stats());
}

/// The limit of file sizes is the only full disk that a test may have without being root.
#[tokio::test]
async fn b58_a_file_that_cannot_grow_stops_the_log_safely_and_it_goes_on_after() {
    if let Some(directory) = std::env::var_os(CHILD) {
        let log = Log::open(config(std::path::Path::new(&directory))).unwrap();
        let mut writer = log.writer().unwrap();
        let error = loop {
            let next = end(&log).unwrap_or(0) + 10;
            match append_rest(&log, &mut writer, next) {
                Ok(()) => println!("ack {next}"),
                Err(error) => break error,
            }
        };
        assert!(matches!(&error, AppendError::Storage(_)) && error.remedy() == Remedy::Fix, "{error:?}");
        assert!(error.to_string().contains("ulimit -f"), "{error}");
        let seen = end(&log).unwrap();
        assert_eq!(scns(&drain(&mut log.reader(From::Earliest).unwrap())), tens(10, seen));
        println!("stopped safely");
        return;
    }
    let dir = tempdir().unwrap();
    let limited = r#"trap '' XFSZ; ulimit -f 100; exec "$0" "$@""#;
    let name = "b58_a_file_that_cannot_grow_stops_the_log_safely_and_it_goes_on_after";
    let mut command = Command::new("sh");
    command.args(["-c", limited]).arg(std::env::current_exe().unwrap()).args([
        name,
        "--exact",
        "--nocapture",
    ]);
    let output = command.env(CHILD, dir.path()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("stopped safely"), "{text}");
    let acknowledged: u64 = text.lines().filter_map(|l| l.strip_prefix("ack ")?.parse().ok()).max().unwrap();
    let log = Log::open(config(dir.path())).unwrap();
    assert_eq!(end(&log), Some(acknowledged));
    append_rest(&log, &mut log.writer().unwrap(), acknowledged + 100).unwrap();
    assert_eq!(scns(&drain(&mut log.reader(From::Earliest).unwrap())), tens(10, acknowledged + 100));
}
