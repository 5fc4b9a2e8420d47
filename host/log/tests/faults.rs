//! The file system fails in every way it can, at every call in turn: short writes, no space, failed syncs, a loss
//! of power that keeps only what was synced.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use support::*;
use tempfile::tempdir;
use tidemill_event::{Part, Remedy};
use tidemill_log::{
    Ack, AppendError, DiskFiles, Files, From, Fsync, Log, LogConfig, OpenError, SegmentFile, Writer,
};

/// The real files, failing where it was told.
#[derive(Clone, Debug, Default)]
struct FaultyFiles(Arc<Mutex<Faults>>);

#[derive(Debug, Default)]
struct Faults {
    /// How many calls that change something were made.
    calls: u64,
    /// The call that fails.
    fail_at: Option<u64>,
    /// Per file, how many of its bytes were synced.
    synced: HashMap<PathBuf, u64>,
}

#[derive(Debug)]
struct FaultyFile {
    inner: Arc<dyn SegmentFile>,
    path: Mutex<PathBuf>,
    faults: Arc<Mutex<Faults>>,
}

fn no_space() -> io::Error {
    io::ErrorKind::StorageFull.into()
}

impl Faults {
    /// Counts a call; the chosen one fails.
    fn call(&mut self) -> io::Result<()> {
        self.calls += 1;
        if self.fail_at == Some(self.calls) { Err(no_space()) } else { Ok(()) }
    }
}

impl FaultyFiles {
    fn wrap(&self, inner: Arc<dyn SegmentFile>, path: &Path) -> Arc<dyn SegmentFile> {
        Arc::new(FaultyFile { inner, path: Mutex::new(path.to_owned()), faults: Arc::clone(&self.0) })
    }

    fn fail_at(&self, call: Option<u64>) {
        let mut faults = self.0.lock().unwrap();
        (faults.calls, faults.fail_at) = (0, call);
    }
}

impl Files for FaultyFiles {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn SegmentFile>> {
        self.0.lock().unwrap().call()?;
        Ok(self.wrap(DiskFiles.create(path)?, path))
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn SegmentFile>> {
        Ok(self.wrap(DiskFiles.open(path)?, path))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut faults = self.0.lock().unwrap();
        faults.call()?;
        let synced = faults.synced.remove(from).unwrap_or(0);
        faults.synced.insert(to.to_owned(), synced);
        DiskFiles.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.lock().unwrap().call()?;
        DiskFiles.remove(path)
    }
    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.0.lock().unwrap().call()?;
        DiskFiles.sync_directory(path)
    }
}

impl SegmentFile for FaultyFile {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let failed = self.faults.lock().unwrap().call();
        // A write that fails may have written a part.
        let part = if failed.is_err() { bytes.len() / 2 } else { bytes.len() };
        self.inner.write_all_at(&bytes[..part], offset)?;
        failed
    }
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.inner.read_exact_at(bytes, offset)
    }
    fn length(&self) -> io::Result<u64> {
        self.inner.length()
    }
    fn truncate(&self, length: u64) -> io::Result<()> {
        self.faults.lock().unwrap().call()?;
        self.inner.truncate(length)
    }
    fn sync(&self) -> io::Result<()> {
        let mut faults = self.faults.lock().unwrap();
        faults.call()?;
        let mut path = self.path.lock().unwrap().clone();
        if path.extension().is_some_and(|e| e == "new") && !path.exists() {
            path.set_extension("seg");
        }
        faults.synced.insert(path, self.inner.length()?);
        Ok(())
    }
    fn modified(&self) -> io::Result<SystemTime> {
        self.inner.modified()
    }
}

fn small(directory: &Path, fsync: Fsync) -> LogConfig {
    LogConfig { segment_bytes: 3_000, memory_bytes: 4_000, fsync, ..config(directory) }
}

/// Appends what is left of transactions 10 to 150, with fragments, idle times and a sync in between.
fn script(log: &Log, writer: &mut Writer) -> Result<(), AppendError> {
    let mut last = end(log).unwrap_or(0);
    while last < 150 {
        let next = last / 10 * 10 + 10;
        match next {
            40 | 110 => {
                writer.append(&fragment(last, next, Part::First, 0))?;
                writer.append(&fragment(last, next, Part::Middle, 2))?;
                writer.append(&fragment(last, next, Part::Last, 4))?;
            }
            70 => {
                if last < 69 {
                    writer.append(&idle(last, 69))?;
                }
                writer.append(&window(69, &[70]))?;
            }
            _ => drop(writer.append(&window(last, &[next]))?),
        }
        if next == 90 {
            writer.sync()?;
        }
        last = next;
    }
    Ok(())
}

fn all(log: &Log) -> Vec<u64> {
    scns(&drain(&mut log.reader(From::Earliest).unwrap()))
}

/// Fails each call in turn; after each failure goes on by `mend`, which gives the log and a new writer.
fn fail_each_call(fsync: Fsync, mend: impl Fn(Log, Writer, LogConfig, FaultyFiles) -> (Log, Writer)) {
    for call in 1.. {
        let dir = tempdir().unwrap();
        let files = FaultyFiles::default();
        let settings = small(dir.path(), fsync);
        let log = Log::open_with(settings.clone(), Arc::new(files.clone())).unwrap();
        let mut writer = log.writer().unwrap();
        let mut reader = log.reader(From::Earliest).unwrap();
        files.fail_at(Some(call));
        let result = script(&log, &mut writer);
        files.fail_at(None);
        let seen = drain(&mut reader);
        drop(reader);
        let Err(error) = result else {
            assert!(call > 20, "only {call} calls were made");
            return;
        };
        assert!(matches!(error, AppendError::Storage(_)), "call {call}: {error}");
        assert_eq!(error.remedy(), Remedy::Fix);
        let next = writer.append(&window(1_000, &[2_000])).unwrap_err();
        assert!(matches!(next, AppendError::Poisoned(_)), "call {call}: {next}");
        assert!(next.to_string().contains("no storage space"), "{next}");
        let (log, mut writer) = mend(log, writer, settings.clone(), files);
        assert!(end(&log) >= scns(&seen).last().copied(), "call {call}: a reader has seen more");
        script(&log, &mut writer).unwrap();
        assert_eq!(all(&log), tens(10, 150), "call {call}");
        writer.close().unwrap();
        drop(log);
        assert_eq!(all(&Log::open(settings).unwrap()), tens(10, 150), "call {call}, opened again");
    }
}

#[test]
fn b58_after_any_failure_a_new_writer_goes_on() {
    for fsync in [Fsync::Always, Fsync::Interval(DAY)] {
        fail_each_call(fsync, |log, writer, _, _| {
            let fresh = log.writer().unwrap();
            drop(writer);
            (log, fresh)
        });
    }
}

#[test]
fn b58_after_any_failure_the_log_can_be_opened_again() {
    for fsync in [Fsync::Always, Fsync::Interval(DAY)] {
        fail_each_call(fsync, |log, writer, settings, files| {
            drop((log, writer));
            let log = Log::open_with(settings, Arc::new(files)).unwrap();
            let writer = log.writer().unwrap();
            (log, writer)
        });
    }
}

/// A failure while a log is opened changes nothing: the next attempt succeeds.
#[test]
fn after_any_failure_while_opening_the_next_attempt_succeeds() {
    for call in 1.. {
        let dir = tempdir().unwrap();
        let files = FaultyFiles::default();
        let settings = small(dir.path(), Fsync::Interval(DAY));
        let log = Log::open_with(settings.clone(), Arc::new(files.clone())).unwrap();
        let mut writer = log.writer().unwrap();
        script(&log, &mut writer).unwrap();
        writer.append(&fragment(150, 160, Part::First, 0)).unwrap();
        drop((writer, log));
        files.fail_at(Some(call));
        let opened = Log::open_with(settings.clone(), Arc::new(files.clone())).and_then(|log| {
            let writer = log.writer()?;
            Ok((log, writer))
        });
        files.fail_at(None);
        match opened {
            Ok((log, _)) => {
                assert!(call > 5, "only {call} calls were made");
                assert_eq!(all(&log), tens(10, 150));
                return;
            }
            Err(error) => {
                assert!(matches!(error, OpenError::Storage(_)), "{error}");
                let log = Log::open(settings).unwrap();
                log.writer().unwrap();
                assert_eq!(all(&log), tens(10, 150), "call {call}");
            }
        }
    }
}

#[test]
fn a_failed_background_sync_is_said_by_the_next_append() {
    let dir = tempdir().unwrap();
    let files = FaultyFiles::default();
    let soon = Fsync::Interval(std::time::Duration::from_millis(1));
    let log = Log::open_with(small(dir.path(), soon), Arc::new(files.clone())).unwrap();
    let mut writer = log.writer().unwrap();
    writer.append(&window(0, &[10])).unwrap();
    let mut last = 10;
    let error = loop {
        // Of each append's calls, the first is the write and the next the sync thread's.
        files.fail_at(Some(2));
        match writer.append(&window(last, &[last + 10])) {
            Ok(_) => last += 10,
            Err(error) => break error,
        }
        std::thread::yield_now();
    };
    files.fail_at(None);
    assert!(matches!(error, AppendError::Poisoned(_) | AppendError::Storage(_)), "{error}");
    let mut writer = log.writer().unwrap();
    let end = end(&log).unwrap();
    writer.append(&window(end, &[end + 10])).unwrap();
    assert_eq!(all(&log), tens(10, end + 10));
}

/// Cuts or blanks, somewhere in what was not synced, every segment of the directory.
fn lose_power(directory: &Path, faults: &Faults, dice: &mut Dice) {
    for path in segments(directory) {
        let synced = faults.synced.get(&path).copied().unwrap_or(0);
        let mut bytes = std::fs::read(&path).unwrap();
        let unsynced = bytes.len() as u64 - synced;
        let at = (synced + dice.below(unsynced + 1)) as usize;
        match dice.below(3) {
            0 => bytes.truncate(at),
            1 => {
                let to = (at + dice.below(300) as usize).min(bytes.len());
                bytes[at..to].fill(0);
            }
            _ => {}
        }
        std::fs::write(path, bytes).unwrap();
    }
}

/// What was acknowledged as durable survives; what is there after is whole, and the source can be read on.
#[test]
fn b10_after_a_loss_of_power_what_was_durable_is_there_and_nothing_is_torn() {
    for seed in 0..300 {
        let dir = tempdir().unwrap();
        let (files, mut dice) = (FaultyFiles::default(), Dice(seed));
        let settings = small(dir.path(), Fsync::Interval(DAY));
        let log = Log::open_with(settings.clone(), Arc::new(files.clone())).unwrap();
        let mut writer = log.writer().unwrap();
        let (mut last, mut durable) = (0, 0);
        for _ in 0..1 + dice.below(25) {
            if let Ack::Durable(at) = writer.append(&window(last, &[last + 10])).unwrap() {
                durable = at.scn.0;
            }
            last += 10;
            if dice.below(6) == 0 {
                durable = writer.sync().unwrap().unwrap().scn.0;
            }
        }
        drop((writer, log));
        lose_power(dir.path(), &files.0.lock().unwrap(), &mut dice);
        let log = Log::open(settings).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let left = all(&log);
        let end = end(&log).unwrap();
        assert!(end >= durable, "seed {seed}: {durable} was durable, the log ends at {end}");
        assert_eq!(left, tens(10, end), "seed {seed}");
        log.writer().unwrap().append(&window(end, &[end + 10])).unwrap();
    }
}
