//! The handle from which a log's writer and readers come.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tidemill_event::{Checkpoint, Phase, Position, SchemaId, TableSchema, Timeline};
use tokio::sync::watch;

use crate::clock::Clock;
use crate::config::{From, LogConfig};
use crate::error::{InUse, OpenError, ReadError, StorageError, storage};
use crate::files::{DiskFiles, Files};
use crate::history::{Cache, Catalogue, History, HistoryConfig, cache_directory};
use crate::locate::locate;
use crate::reader::Reader;
use crate::recover::{read_epoch, recover};
use crate::ring::Ring;
use crate::state::{Shared, State};
use crate::sync::Syncer;
use crate::writer::{Appender, Writer};

/// One source's log. Cheap to clone. The directory is this process's while any clone, writer or reader lives.
#[derive(Clone, Debug)]
pub struct Log {
    shared: Arc<Shared>,
}

/// What a log holds, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogStats {
    /// Bytes of its segments on this disk.
    pub disk_bytes: u64,
    /// Bytes of its memory ring.
    pub memory_bytes: usize,
    /// How many segments there are on this disk.
    pub segment_count: usize,
    /// It can be read after this position, history included.
    pub earliest: Option<Position>,
    /// The source is known up to here.
    pub latest: Option<Position>,
    /// Everything up to here survives a loss of power.
    pub durable: Option<Position>,
    /// When the first transaction that it holds committed: microseconds since 1970-01-01 UTC.
    pub earliest_time_us: Option<i64>,
    /// The greatest commit time that it holds.
    pub latest_time_us: Option<i64>,
}

impl Log {
    /// Opens or makes the log of a directory. What a crash left unfinished is cut. Blocks while it reads the last
    /// segment.
    pub fn open(config: LogConfig) -> Result<Log, OpenError> {
        Log::open_with(config, Arc::new(DiskFiles))
    }

    /// As [`Log::open`], with files that are reached in another way.
    pub fn open_with(config: LogConfig, files: Arc<dyn Files>) -> Result<Log, OpenError> {
        Log::open_parts(config, files, None)
    }

    /// As [`Log::open_with`], of a log that has history. Where the directory has less than history, or nothing, the log
    /// goes on where history ends.
    pub async fn open_tiered(
        config: LogConfig,
        files: Arc<dyn Files>,
        history: Option<HistoryConfig>,
    ) -> Result<Log, OpenError> {
        let history = match history {
            Some(history) => Some((history.load().await?, history)),
            None => None,
        };
        let open = move || Log::open_parts(config, files, history);
        tokio::task::spawn_blocking(open).await.expect("opening a log does not panic, and the runtime runs")
    }

    fn open_parts(
        config: LogConfig,
        files: Arc<dyn Files>,
        history: Option<(Catalogue, HistoryConfig)>,
    ) -> Result<Log, OpenError> {
        let directory = &config.directory;
        std::fs::create_dir_all(directory).map_err(storage("create", directory))?;
        let lock = lock(directory)?;
        let mut recovered = recover(&config, &*files)?;
        let (mut archived, mut tier) = (Catalogue::default(), None);
        if let Some((catalogue, config)) = history {
            recovered.join(&config, &catalogue, &*files)?;
            let cache = Cache::open(cache_directory(directory), config.cache_bytes, Arc::clone(&files))?;
            (archived, tier) = (catalogue, Some(Arc::new(History::new(config, cache))));
        }
        let mut state = State {
            segments: recovered.segments,
            history: archived,
            active: None,
            ring: Ring::new(config.memory_bytes, Default::default()),
            head: recovered.head,
            durable: None,
            closed: false,
            dropped_end: None,
        };
        state.ring = Ring::new(config.memory_bytes, state.stored_place());
        state.durable = state.stored();
        let executed = state.head.as_ref().map_or_else(|| "".into(), |head| Arc::clone(&head.executed));
        let shared = Shared {
            files,
            state: Mutex::new(state),
            appender: Mutex::new(Appender::new(executed)),
            syncer: Syncer::default(),
            clock: Clock::new(),
            history: tier,
            schemas: Mutex::default(),
            epoch: AtomicU64::new(recovered.epoch),
            changed: watch::Sender::new(0),
            _lock: lock,
            config,
        };
        Ok(Log { shared: Arc::new(shared) })
    }

    /// The one writer. It raises the epoch: an older writer's next append gives `Fenced`. What an older one left
    /// unfinished or in doubt is cut, so resume the source at [`Log::checkpoint`].
    pub fn writer(&self) -> Result<Writer, OpenError> {
        Writer::open(Arc::clone(&self.shared))
    }

    /// A reader from there on.
    pub fn reader(&self, from: From) -> Result<Reader, ReadError> {
        Reader::open(Arc::clone(&self.shared), from)
    }

    /// Where the log ends: the source is read on from here. `None`: the log is empty.
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        let state = self.shared.state();
        let head = state.head.as_ref()?;
        Some(Checkpoint {
            source: head.source.to_string(),
            server: head.timeline.server.to_string(),
            position: head.position(),
            gtid_set: head.executed.to_string(),
            phase: Phase::Stream,
        })
    }

    /// Where a reader goes on that has everything up to a checkpoint, of whichever relay that reads a server of the same
    /// lineage.
    pub fn locate(&self, checkpoint: &Checkpoint) -> Result<From, ReadError> {
        locate(&self.shared.state(), checkpoint)
    }

    /// The newest version of each table that the log knows, by name; history included.
    pub async fn schemas(&self) -> Result<Vec<Arc<TableSchema>>, ReadError> {
        self.shared.newest_schemas().await
    }

    /// The schema with that id, if the log knows it.
    pub async fn schema(&self, id: SchemaId) -> Result<Option<Arc<TableSchema>>, ReadError> {
        self.shared.schema(id).await
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The timelines of which the log still holds something, oldest first.
    pub fn timelines(&self) -> Vec<Timeline> {
        let state = self.shared.state();
        let mut all: Vec<Timeline> = state.pieces().map(|piece| piece.header().timeline.clone()).collect();
        all.dedup();
        all
    }

    /// What it holds.
    pub fn stats(&self) -> LogStats {
        let state = self.shared.state();
        LogStats {
            disk_bytes: state.segments.iter().map(|s| s.index.length).sum(),
            memory_bytes: state.ring.bytes(),
            segment_count: state.segments.len(),
            earliest: state.earliest(),
            latest: state.head.as_ref().map(|head| head.position()),
            durable: state.durable,
            earliest_time_us: state.earliest_time_us(),
            latest_time_us: state.latest_time_us(),
        }
    }
}

impl Shared {
    /// Makes everything durable that was written before the call, and looks whether another process has taken
    /// the log in spite of its lock.
    pub(crate) fn sync(&self) -> Result<(), StorageError> {
        let directory = &self.config.directory;
        if let Some(position) = self.syncer.sync(&*self.files, directory)? {
            self.state().durable = Some(position);
        }
        self.look_for_newer_epoch()
    }

    pub(crate) fn look_for_newer_epoch(&self) -> Result<(), StorageError> {
        let newest = read_epoch(&*self.files, &self.config.directory)?;
        self.epoch.fetch_max(newest, Ordering::SeqCst);
        Ok(())
    }
}

fn lock(directory: &Path) -> Result<File, OpenError> {
    let path = directory.join("lock");
    let file = File::create(&path).map_err(storage("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(InUse { directory: directory.to_owned() }.into()),
        Err(TryLockError::Error(source)) => Err(storage("lock", path)(source).into()),
    }
}
