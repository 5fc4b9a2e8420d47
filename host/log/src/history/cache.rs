//! Segments of history on this disk, for readers: each fetched whole, once for all who want it, and checked before anyone
//! has it. The ones that were not used for the longest time make room.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt;
use futures_util::future::{BoxFuture, FutureExt, Shared};
use object_store::ObjectStoreExt;

use crate::error::{StorageError, storage};
use crate::files::{Files, SegmentFile};
use crate::history::{Entry, Fetched, History, HistoryConfig, HistoryError};
use crate::limits::{CACHE_SEGMENTS_MIN, READ_BYTES};

/// An open segment file, checked.
pub(crate) type Segment = Arc<dyn SegmentFile>;

type Fetching = Shared<BoxFuture<'static, Fetched<Segment>>>;

/// See the module.
#[derive(Debug)]
pub(crate) struct Cache {
    directory: PathBuf,
    bytes_max: u64,
    files: Arc<dyn Files>,
    held: Mutex<Holdings>,
}

#[derive(Debug, Default)]
struct Holdings {
    /// By the object's name, which is the file's.
    files: HashMap<String, Held>,
    fetching: HashMap<String, Fetching>,
    /// Bytes of what is on its way.
    fetching_bytes: u64,
    uses: u64,
}

#[derive(Debug)]
struct Held {
    bytes: u64,
    /// When it was used last, counted in uses.
    used: u64,
    /// `None`: it was there when the log was opened, and was not checked.
    file: Option<Segment>,
}

impl Cache {
    /// The cache in that directory. What an earlier process left there is taken over.
    pub(crate) fn open(
        directory: PathBuf,
        bytes_max: u64,
        files: Arc<dyn Files>,
    ) -> Result<Cache, StorageError> {
        std::fs::create_dir_all(&directory).map_err(storage("create", &directory))?;
        let mut held = Holdings::default();
        for file in std::fs::read_dir(&directory).map_err(storage("list", &directory))? {
            let file = file.map_err(storage("list", &directory))?;
            let bytes = file.metadata().map_err(storage("read", file.path()))?.len();
            match file.file_name().into_string() {
                Ok(name) if name.ends_with(".seg") => {
                    held.files.insert(name, Held { bytes, used: 0, file: None });
                }
                // What was on its way when the process ended.
                _ => std::fs::remove_file(file.path()).map_err(storage("remove", file.path()))?,
            }
        }
        Ok(Cache { directory, bytes_max, files, held: Mutex::new(held) })
    }

    fn held(&self) -> MutexGuard<'_, Holdings> {
        // Nothing is changed by halves under this lock.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes on this disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.held().files.values().map(|held| held.bytes).sum()
    }

    /// Where a segment lies, or would.
    pub(crate) fn path(&self, entry: &Entry) -> PathBuf {
        self.directory.join(&entry.object)
    }

    /// The segment, if it is there and was checked.
    pub(crate) fn get(&self, entry: &Entry) -> Option<Segment> {
        self.held().take(&entry.object)
    }

    /// Forgets a segment that turned out to be damaged on this disk. Who reads it keeps it.
    pub(crate) fn evict(&self, entry: &Entry) {
        if self.held().files.remove(&entry.object).is_some() {
            self.remove(&self.path(entry));
        }
    }

    fn remove(&self, path: &Path) {
        match self.files.remove(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), %error, "a file of the cache stays on disk");
            }
            _ => {}
        }
    }

    /// Makes room for what is on its way; that itself is always allowed, or a reader of a large segment would never go on.
    fn make_room(&self) {
        loop {
            let mut held = self.held();
            let total: u64 = held.files.values().map(|held| held.bytes).sum();
            let oldest = held.files.iter().min_by_key(|(_, held)| held.used).map(|(name, _)| name.clone());
            let is_full = total + held.fetching_bytes > self.bytes_max;
            let Some(oldest) = oldest.filter(|_| is_full) else { return };
            held.files.remove(&oldest);
            drop(held);
            self.remove(&self.directory.join(oldest));
        }
    }

    /// Checks a file that an earlier process left.
    fn check_kept(&self, entry: &Entry) -> Option<Segment> {
        let path = self.path(entry);
        self.held().files.get(&entry.object)?;
        let file = self.files.open(&path).ok()?;
        let is_whole = file.length().is_ok_and(|length| length == entry.bytes());
        match checksum(&*file, entry.bytes()) {
            Ok(crc) if crc == entry.crc && is_whole => Some(file),
            _ => {
                tracing::info!(path = %path.display(), "a damaged file of the cache is fetched again");
                self.evict(entry);
                None
            }
        }
    }
}

impl Holdings {
    fn take(&mut self, object: &str) -> Option<Segment> {
        self.uses += 1;
        let held = self.files.get_mut(object)?;
        held.used = self.uses;
        held.file.clone()
    }
}

/// The checksum of a file's beginning.
pub(crate) fn checksum(file: &dyn SegmentFile, length: u64) -> std::io::Result<u32> {
    let (mut crc, mut offset) = (0, 0);
    let mut piece = vec![0; READ_BYTES.min(length) as usize];
    while offset < length {
        let take = READ_BYTES.min(length - offset) as usize;
        file.read_exact_at(&mut piece[..take], offset)?;
        crc = crc32c::crc32c_append(crc, &piece[..take]);
        offset += take as u64;
    }
    Ok(crc)
}

impl History {
    /// The segment, from this disk or from the store. One fetch serves all who ask meanwhile, and goes on when they do
    /// not wait for it.
    pub(crate) async fn fetch(self: &Arc<Self>, entry: &Arc<Entry>) -> Fetched<Segment> {
        let fetching = {
            let mut held = self.cache.held();
            if let Some(file) = held.take(&entry.object) {
                return Ok(file);
            }
            self.fetching(&mut held, entry)
        };
        fetching.await
    }

    /// Begins to fetch what a reader will want next, where there is room for it beside what is read.
    pub(crate) fn fetch_ahead(self: &Arc<Self>, entry: &Arc<Entry>) {
        let mut held = self.cache.held();
        let has_room = entry.bytes().saturating_mul(CACHE_SEGMENTS_MIN) <= self.config.cache_bytes;
        if has_room && !held.files.contains_key(&entry.object) {
            drop(self.fetching(&mut held, entry));
        }
    }

    fn fetching(self: &Arc<Self>, held: &mut Holdings, entry: &Arc<Entry>) -> Fetching {
        if let Some(fetching) = held.fetching.get(&entry.object) {
            return fetching.clone();
        }
        let fetching = begin_fetch(Arc::clone(self), Arc::clone(entry));
        held.fetching.insert(entry.object.clone(), fetching.clone());
        held.fetching_bytes += entry.bytes();
        fetching
    }
}

fn begin_fetch(history: Arc<History>, entry: Arc<Entry>) -> Fetching {
    let task = tokio::spawn(async move {
        let fetched = fetch(&history, &entry).await.map_err(Arc::new);
        let mut held = history.cache.held();
        held.fetching.remove(&entry.object);
        held.fetching_bytes -= entry.bytes();
        if let Ok(file) = &fetched {
            held.uses += 1;
            let (bytes, used, file) = (entry.bytes(), held.uses, Some(Arc::clone(file)));
            held.files.insert(entry.object.clone(), Held { bytes, used, file });
        }
        fetched
    });
    task.map(|ended| ended.expect("a fetch does not panic, and the runtime runs")).boxed().shared()
}

async fn fetch(history: &Arc<History>, entry: &Arc<Entry>) -> Result<Segment, HistoryError> {
    let (kept_by, of) = (Arc::clone(history), Arc::clone(entry));
    if let Some(file) = blocking(move || kept_by.cache.check_kept(&of)).await {
        return Ok(file);
    }
    let config = &history.config;
    let mut wait = config.retry_first;
    let mut tries = 1;
    loop {
        history.cache.make_room();
        let error = match download(history, config, entry).await {
            Ok(file) => return Ok(file),
            Err(error) => error,
        };
        history.cache.remove(&fresh(&history.cache.path(entry)));
        if tries >= config.fetch_tries {
            return Err(error);
        }
        tracing::warn!(error = %tidemill_event::chain(&error), tries, "a segment of history is asked for again");
        tokio::time::sleep(wait).await;
        (wait, tries) = ((wait * 2).min(config.retry_max), tries + 1);
    }
}

fn fresh(path: &Path) -> PathBuf {
    path.with_extension("new")
}

/// Fetches an object into the cache's directory, checking it on the way.
async fn download(
    history: &Arc<History>,
    config: &HistoryConfig,
    entry: &Arc<Entry>,
) -> Result<Segment, HistoryError> {
    let object = config.object_path(&entry.object);
    let path = history.cache.path(entry);
    let (files, name) = (Arc::clone(&history.cache.files), fresh(&path));
    let file = blocking(move || files.create(&name)).await.map_err(storage("create", fresh(&path)))?;
    let mut pieces = config.store.get(&object).await.map_err(config.failed("read", &object))?.into_stream();
    let (mut crc, mut length, mut open) = (0, 0u64, Vec::new());
    loop {
        let piece = pieces.next().await.transpose().map_err(config.failed("read", &object))?;
        let is_end = piece.is_none();
        open.extend_from_slice(&piece.unwrap_or_default());
        if is_end || open.len() as u64 >= READ_BYTES {
            let (to, offset, bytes) = (Arc::clone(&file), length, std::mem::take(&mut open));
            crc = crc32c::crc32c_append(crc, &bytes);
            length += bytes.len() as u64;
            let written = blocking(move || to.write_all_at(&bytes, offset)).await;
            written.map_err(storage("write", fresh(&path)))?;
        }
        if length > entry.bytes() || is_end {
            break;
        }
    }
    if (length, crc) != (entry.bytes(), entry.crc) {
        let what = format!(
            "it has {length} bytes and checksum {crc:08x}, not {} and {:08x}",
            entry.bytes(),
            entry.crc
        );
        return Err(config.damaged(&object, what).into());
    }
    let (files, to) = (Arc::clone(&history.cache.files), path.clone());
    blocking(move || files.rename(&fresh(&to), &to)).await.map_err(storage("create", path))?;
    Ok(file)
}

/// Runs file calls where they block nobody.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("file calls do not panic, and the runtime runs")
}
