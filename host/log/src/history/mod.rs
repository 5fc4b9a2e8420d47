//! Change history: sealed segments in an object store, kept as long as configured. A segment is in history when the
//! catalogue has its entry; every name is written once.
//!
//! ```text
//! URL/SOURCE/segments/SEQUENCE-EPOCH-CHECKSUM.seg     a segment file as it lay on disk
//! URL/SOURCE/catalogue/SEQUENCE                       its entry, created where none is: the commit
//! ```
//!
//! Who puts segments there and lets them go is `archive`, who gets them back for readers is `cache`.

mod archive;
mod cache;
mod entry;
mod error;
mod join;
mod upload;
mod walk;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tidemill_event::Position;
use tokio::sync::Notify;

pub(crate) use cache::{Cache, blocking};
pub(crate) use entry::{Entry, TableAt};
pub(crate) use error::Fetched;
pub use error::{DamagedObject, HistoryError, OtherHistory};
use tidemill_world::objects::CallFailed;

use crate::limits::{CACHE_BYTES_DEFAULT, CATALOGUE_GETS};

/// The settings of a log's history.
#[derive(Clone, Debug)]
pub struct HistoryConfig {
    /// Where it is.
    pub store: Arc<dyn ObjectStore>,
    /// What the store is called in messages: its URL.
    pub url: String,
    /// The source's name: the directory of this log in the store.
    pub source: String,
    /// A segment is dropped when so much time has passed since its last append; none: never.
    pub keep_time: Option<Duration>,
    /// The active segment is sealed when it holds something older than this, so that it goes to history; none: when it is
    /// full.
    pub upload_after: Option<Duration>,
    /// Segments that were read from history lie on this disk up to so many bytes, but at least one does.
    pub cache_bytes: u64,
    /// How long to wait after a first failure; doubled with each one that follows.
    pub retry_first: Duration,
    /// The longest wait after a failure.
    pub retry_max: Duration,
    /// How often a reader's segment is asked for before the reader is told.
    pub fetch_tries: u32,
}

impl HistoryConfig {
    /// The defaults: everything is kept for ever, a segment goes there within ten minutes, 1 GiB of cache.
    pub fn new(store: Arc<dyn ObjectStore>, url: &str, source: &str) -> HistoryConfig {
        HistoryConfig {
            store,
            url: url.to_owned(),
            source: source.to_owned(),
            keep_time: None,
            upload_after: Some(Duration::from_secs(600)),
            cache_bytes: CACHE_BYTES_DEFAULT,
            retry_first: Duration::from_millis(100),
            retry_max: Duration::from_secs(30),
            fetch_tries: 5,
        }
    }
}

/// What a log's history holds, for metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryStats {
    /// Bytes of its segments.
    pub bytes: u64,
    /// How many segments there are.
    pub segment_count: usize,
    /// It can be read after this position.
    pub earliest: Option<Position>,
    /// Everything up to here is in it.
    pub archived: Option<Position>,
    /// Bytes of segments that are only on this disk.
    pub waiting_bytes: u64,
    /// The log has more on this disk than it should, because history does not have it yet.
    pub is_over_limit: bool,
    /// Bytes of its segments on this disk, for readers.
    pub cache_bytes: u64,
    /// Why it does not go on, since the last time that it did.
    pub last_error: Option<String>,
}

/// What a history has, oldest first.
pub(crate) type Catalogue = VecDeque<Arc<Entry>>;

/// The history of one log. What it holds is told by `State`, under the same lock as the other tiers.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) config: HistoryConfig,
    pub(crate) cache: Cache,
    /// Told when a segment was sealed.
    pub(crate) sealed: Notify,
    /// Held by the one task that archives.
    archiving: tokio::sync::Mutex<()>,
    status: Mutex<Status>,
}

#[derive(Debug, Default)]
pub(crate) struct Status {
    pub(crate) last_error: Option<String>,
    pub(crate) is_over_limit: bool,
}

impl History {
    pub(crate) fn new(config: HistoryConfig, cache: Cache) -> History {
        let (sealed, archiving) = (Notify::new(), tokio::sync::Mutex::new(()));
        History { config, cache, sealed, archiving, status: Mutex::default() }
    }

    pub(crate) fn status(&self) -> MutexGuard<'_, Status> {
        // A status is whole between any two statements.
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HistoryConfig {
    fn catalogue(&self) -> Path {
        Path::default().join(self.source.as_str()).join("catalogue")
    }

    fn entry_path(&self, sequence: u64) -> Path {
        self.catalogue().join(format!("{sequence:020}"))
    }

    fn segments(&self) -> Path {
        Path::default().join(self.source.as_str()).join("segments")
    }

    /// The path of an object that an entry names.
    fn object_path(&self, object: &str) -> Path {
        self.segments().join(object)
    }

    /// An object's full name, for messages.
    fn name(&self, path: &Path) -> String {
        format!("{}/{path}", self.url.trim_end_matches('/'))
    }

    fn failed(&self, action: &'static str, path: &Path) -> impl FnOnce(object_store::Error) -> CallFailed {
        let object = self.name(path);
        move |source| CallFailed { action, object, source }
    }

    fn damaged(&self, path: &Path, what: impl Into<String>) -> DamagedObject {
        DamagedObject { object: self.name(path), what: what.into() }
    }

    async fn get(&self, path: &Path) -> Result<Bytes, CallFailed> {
        let got = self.store.get(path).await.map_err(self.failed("read", path))?;
        got.bytes().await.map_err(self.failed("read", path))
    }

    /// The catalogue, oldest first.
    pub(crate) async fn load(&self) -> Result<Catalogue, HistoryError> {
        let mut sequences = Vec::new();
        let catalogue = self.catalogue();
        let mut names = self.store.list(Some(&catalogue));
        while let Some(object) = names.next().await {
            let path = object.map_err(self.failed("list", &catalogue))?.location;
            match path.filename().and_then(|name| name.parse::<u64>().ok()) {
                Some(sequence) if self.entry_path(sequence) == path => sequences.push(sequence),
                _ => tracing::warn!(object = %self.name(&path), "no entry of a catalogue; left alone"),
            }
        }
        sequences.sort_unstable();
        let entries = stream::iter(sequences).map(|sequence| self.read_entry(sequence));
        let entries: Catalogue = entries.buffered(CATALOGUE_GETS).try_collect().await?;
        for (before, after) in entries.iter().zip(entries.iter().skip(1)) {
            self.check_follows(before, after)?;
        }
        Ok(entries)
    }

    async fn read_entry(&self, sequence: u64) -> Result<Arc<Entry>, HistoryError> {
        let path = self.entry_path(sequence);
        let bytes = self.get(&path).await?;
        let entry = Entry::decode(&bytes).map_err(|e| self.damaged(&path, e.to_string()))?;
        if entry.sequence() != sequence {
            return Err(self.damaged(&path, format!("it is of segment {}", entry.sequence())).into());
        }
        Ok(Arc::new(entry))
    }

    fn check_follows(&self, before: &Entry, after: &Entry) -> Result<(), DamagedObject> {
        let (b, a) = (&before.header, &after.header);
        let same = b.timeline == a.timeline;
        let fits = if same { before.end() == a.start() } else { b.timeline.number < a.timeline.number };
        if a.sequence == b.sequence + 1 && fits && b.source == a.source {
            return Ok(());
        }
        let what = format!("it does not follow {}; an entry between them is missing", before.text());
        Err(self.damaged(&self.entry_path(a.sequence), what))
    }
}

/// The directory of the cache of a log.
pub(crate) fn cache_directory(log: &std::path::Path) -> PathBuf {
    log.join("cache")
}
