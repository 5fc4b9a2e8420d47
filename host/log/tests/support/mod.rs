//! Logs for tests: their settings, their files, what is appended to them and read from them.

#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod windows;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use object_store::ObjectStore;
use object_store::memory::InMemory;
use tidemill_event::{Frame, Window};
use tidemill_log::{DiskFiles, Files, HistoryConfig, Log, LogConfig, Reader, SegmentFile, Writer};
use tidemill_world::faulty::{Faults, FaultyStore};

pub use windows::*;

/// Everything that is there now.
#[track_caller]
pub fn drain(reader: &mut Reader) -> Vec<Arc<Window>> {
    let mut all = vec![];
    while let Some(window) = reader.try_next().unwrap() {
        assert_sound(&window);
        all.push(window);
    }
    all
}

/// The SCNs of the transactions, in order; those in fragments once.
pub fn scns(windows: &[Arc<Window>]) -> Vec<u64> {
    let completed = |w: &Arc<Window>| -> Vec<u64> {
        w.transactions.iter().filter(|t| t.part.completes()).map(|t| t.scn.0).collect()
    };
    windows.iter().flat_map(completed).collect()
}

/// Ten windows of two transactions each: SCNs 10, 20, … 200.
pub fn append_ten(writer: &mut Writer) {
    for i in 0..10 {
        writer.append(&window(i * 20, &[i * 20 + 10, i * 20 + 20])).unwrap();
    }
}

pub fn tens(from: u64, to: u64) -> Vec<u64> {
    (from / 10..=to / 10).map(|n| n * 10).collect()
}

/// The real files, of which none is ever synced: for tests that open a log thousands of times.
#[derive(Debug)]
pub struct QuickFiles;

#[derive(Debug)]
struct QuickFile(Arc<dyn SegmentFile>);

impl Files for QuickFiles {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn SegmentFile>> {
        Ok(Arc::new(QuickFile(DiskFiles.create(path)?)))
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn SegmentFile>> {
        Ok(Arc::new(QuickFile(DiskFiles.open(path)?)))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        DiskFiles.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        DiskFiles.remove(path)
    }
    fn sync_directory(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

impl SegmentFile for QuickFile {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(bytes, offset)
    }
    fn length(&self) -> io::Result<u64> {
        self.0.length()
    }
    fn truncate(&self, length: u64) -> io::Result<()> {
        self.0.truncate(length)
    }
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
    fn modified(&self) -> io::Result<SystemTime> {
        self.0.modified()
    }
}

/// The segment files of a log, oldest first.
pub fn segments(directory: &Path) -> Vec<PathBuf> {
    files(directory, "seg")
}

pub fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|e| e.unwrap().path());
    let mut all: Vec<_> = entries.filter(|p| p.extension().is_some_and(|e| e == extension)).collect();
    all.sort();
    all
}

/// The end of what a log knows.
pub fn end(log: &Log) -> Option<u64> {
    log.checkpoint().map(|c| c.position.scn.0)
}

/// A store in memory that does what the faults say.
pub fn faulty_store() -> (Arc<dyn ObjectStore>, Faults) {
    let faults = Faults::default();
    (Arc::new(FaultyStore::new(Arc::new(InMemory::new()), faults.clone())), faults)
}

/// A history that tries again at once, and seals nothing by itself.
pub fn history(store: &Arc<dyn ObjectStore>) -> HistoryConfig {
    HistoryConfig {
        upload_after: None,
        retry_first: Duration::from_millis(1),
        retry_max: Duration::from_millis(2),
        ..HistoryConfig::new(Arc::clone(store), "test://store", "shop")
    }
}

/// A log with small segments and history.
pub async fn tiered(log: LogConfig, history: HistoryConfig) -> Log {
    Log::open_tiered(log, Arc::new(QuickFiles), Some(history)).await.unwrap()
}

/// Nothing in memory, a transaction or two in a segment.
pub fn tiny(directory: &Path) -> LogConfig {
    LogConfig { memory_bytes: 0, segment_bytes: 1_500, ..config(directory) }
}

/// As [`tiny`], where a segment leaves this disk as soon as it may.
pub fn fleeting(directory: &Path) -> LogConfig {
    LogConfig { retention_bytes: Some(1), ..tiny(directory) }
}

/// What a reader gives up to the transaction with that SCN.
pub async fn read_to(reader: &mut Reader, last: u64) -> Vec<(Frame, Arc<Window>)> {
    let mut all = vec![];
    while reader.position().is_none_or(|p| p.scn.0 < last) {
        let (frame, window) = reader.next_frame().await.unwrap().unwrap();
        assert_sound(&window);
        all.push((frame, window));
    }
    all
}

pub fn scns_of(given: &[(Frame, Arc<Window>)]) -> Vec<u64> {
    scns(&given.iter().map(|(_, window)| Arc::clone(window)).collect::<Vec<_>>())
}

/// Appends whole transactions with those SCNs, a window each.
pub fn append_tens(writer: &mut Writer, from: u64, to: u64) {
    for scn in tens(from, to) {
        writer.append(&window(scn - 10, &[scn])).unwrap();
    }
}
