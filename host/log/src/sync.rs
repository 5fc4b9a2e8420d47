//! Forces what was appended to the disk, in order, at most an interval after it was written, off the append path.
//! After each sync it notes how far the log is durable, so that recovery can tell a torn tail from damage.
//!
//! `durable`: a record (see `codec`) with magic `TMDU` and the fields segment sequence (u64), offset (u64). It is
//! written after the sync that it speaks of and is itself not synced: what it says is always true, and may be old.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tidemill_event::{Position, chain};

use crate::codec::{Builder, Fields};
use crate::error::{StorageError, storage};
use crate::files::{Files, SegmentFile, read_all, replace};
use crate::ring::Place;

const MAGIC: [u8; 4] = *b"TMDU";
const FILE: &str = "durable";

/// A segment that may have bytes which are not durable.
#[derive(Clone, Debug)]
pub(crate) struct Unsynced {
    pub(crate) file: Arc<dyn SegmentFile>,
    pub(crate) path: PathBuf,
    /// The end of what readers can see of it.
    pub(crate) end: Place,
    /// The position there.
    pub(crate) position: Position,
    /// Whether its name is not durable yet.
    pub(crate) is_new: bool,
    /// Whether it was written to since the last sync.
    pub(crate) is_dirty: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Syncer {
    queue: Mutex<Queue>,
    woken: Condvar,
    /// Held during a sync, so that syncs are in order.
    turn: Mutex<()>,
}

#[derive(Debug, Default)]
struct Queue {
    segments: VecDeque<Unsynced>,
    /// What failed, once something has.
    failed: Option<String>,
    /// Counts the writers that ended their sync thread.
    stopped_epoch: u64,
}

impl Syncer {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // A queue is whole between any two of its statements.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that a segment has grown, or begun.
    pub(crate) fn note(&self, segment: Unsynced) {
        let mut queue = self.queue();
        match queue.segments.back_mut() {
            Some(last) if last.end.sequence == segment.end.sequence => {
                let is_new = last.is_new || segment.is_new;
                *last = Unsynced { is_new, ..segment };
            }
            _ => queue.segments.push_back(segment),
        }
        self.woken.notify_all();
    }

    /// What failed since the log was opened by its present writer.
    pub(crate) fn failed(&self) -> Option<String> {
        self.queue().failed.clone()
    }

    /// Nothing is known to be unsynced: a new writer begins.
    pub(crate) fn reset(&self) {
        let mut queue = self.queue();
        queue.segments.clear();
        queue.failed = None;
    }

    /// Makes everything durable that was noted before the call; gives the position. Nothing was noted: `None`.
    pub(crate) fn sync(&self, files: &dyn Files, directory: &Path) -> Result<Option<Position>, StorageError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let work = self.queue().segments.clone();
        let Some(last) = work.back() else { return Ok(None) };
        for segment in &work {
            if let Err(error) = sync_one(files, directory, segment) {
                self.queue().failed = Some(chain(&error));
                return Err(error);
            }
        }
        write_durable(files, directory, last.end)?;
        self.forget(last);
        Ok(Some(last.position))
    }

    /// What was synced needs no sync; the last segment stays, it may grow.
    fn forget(&self, last: &Unsynced) {
        let mut queue = self.queue();
        queue.segments.retain(|s| s.end.sequence >= last.end.sequence);
        if let Some(same) = queue.segments.front_mut().filter(|s| s.end.sequence == last.end.sequence) {
            same.is_new = false;
            // Fragments that no reader sees may be unsynced still; the one that completes them moves the end.
            same.is_dirty = same.end != last.end;
        }
    }

    /// Waits until something is unsynced, then for the interval; `false`: the writer of that epoch stopped.
    pub(crate) fn wait(&self, interval: Duration, epoch: u64) -> bool {
        let mut queue = self.queue();
        while !queue.segments.iter().any(|s| s.is_dirty || s.is_new) {
            if queue.stopped_epoch >= epoch {
                return false;
            }
            queue = self.woken.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        let begun = Instant::now();
        loop {
            let left = interval.saturating_sub(begun.elapsed());
            if queue.stopped_epoch >= epoch || left.is_zero() {
                return queue.stopped_epoch < epoch;
            }
            queue = self.woken.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Ends the waiting of that epoch's thread, and of older ones.
    pub(crate) fn stop(&self, epoch: u64) {
        let mut queue = self.queue();
        queue.stopped_epoch = queue.stopped_epoch.max(epoch);
        self.woken.notify_all();
    }
}

fn sync_one(files: &dyn Files, directory: &Path, segment: &Unsynced) -> Result<(), StorageError> {
    if segment.is_dirty {
        segment.file.sync().map_err(storage("sync", &segment.path))?;
    }
    if segment.is_new {
        files.sync_directory(directory).map_err(storage("sync", directory))?;
    }
    Ok(())
}

/// Notes that everything up to that place is durable.
pub(crate) fn write_durable(files: &dyn Files, directory: &Path, end: Place) -> Result<(), StorageError> {
    let path = directory.join(FILE);
    let record = Builder::new(MAGIC).u64(end.sequence).u64(end.offset).finish();
    match files.open(&path) {
        Ok(file) => file.write_all_at(&record, 0).map_err(storage("write", path)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            replace(files, &path, &record).map_err(storage("write", path))
        }
        Err(e) => Err(storage("open", path)(e)),
    }
}

/// Up to where the log was durable when it was last used; `None` when nobody knows.
pub(crate) fn read_durable(files: &dyn Files, directory: &Path) -> Result<Option<Place>, StorageError> {
    let path = directory.join(FILE);
    let file = match files.open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(storage("open", path)(e)),
    };
    let bytes = read_all(&*file).map_err(storage("read", &path))?;
    match Fields::open(MAGIC, &bytes).and_then(|mut f| Ok((f.u64()?, f.u64()?))) {
        Ok((sequence, offset)) => Ok(Some(Place { sequence, offset })),
        Err(error) => {
            let path = path.display();
            tracing::warn!(%path, %error, "unreadable; damage at the end of the last segment is taken for a torn tail");
            Ok(None)
        }
    }
}
