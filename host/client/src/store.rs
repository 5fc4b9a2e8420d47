//! Where a subscriber of its own keeps how far it is, when nothing else commits it together with its effects.
//!
//! The file holds one checkpoint record, which has its own checksum. A new one is written beside it, synced, and renamed
//! over it, and the directory is synced too: after a crash there is the old one or the new one. Anything else is an error;
//! only a file that does not exist means that nothing was kept yet.

use std::fs::{File, OpenOptions};
use std::future::Future;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use tidemill_event::{Checkpoint, CheckpointError, Remedy};

/// Keeps one subscription's checkpoint. One task owns it.
pub trait CheckpointStore: Send {
    /// Why it failed.
    type Error: std::error::Error + Send + Sync + 'static;

    /// What was kept last; `None`: nothing was kept yet. A damaged record is an error.
    fn load(&mut self) -> impl Future<Output = Result<Option<Checkpoint>, Self::Error>> + Send;

    /// Keeps it in place of the last one. When this returns it survives a loss of power; when it fails, the last one or
    /// this one is there.
    fn save(&mut self, checkpoint: &Checkpoint) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// A checkpoint in a file.
#[derive(Debug)]
pub struct FileStore {
    path: PathBuf,
}

/// Why a file has no checkpoint, or took none.
#[derive(Debug, thiserror::Error)]
pub enum FileStoreError {
    /// A file operation failed.
    #[error("{action} {}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The file is not what was written.
    #[error("the checkpoint in {}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong, and how to mend it.
        source: CheckpointError,
    },
}

impl FileStoreError {
    /// What now.
    pub fn remedy(&self) -> Remedy {
        match self {
            FileStoreError::Io { .. } => Remedy::Retry,
            FileStoreError::Damaged { .. } => Remedy::Fix,
        }
    }
}

impl FileStore {
    /// A store in that file; the new one is written beside it as `NAME.new`. The directory exists.
    pub fn new(path: impl Into<PathBuf>) -> FileStore {
        FileStore { path: path.into() }
    }

    fn new_path(&self) -> PathBuf {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        self.path.with_file_name(name)
    }

    fn directory(&self) -> &Path {
        self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    fn read(&self) -> Result<Option<Checkpoint>, FileStoreError> {
        let mut record = Vec::new();
        let read = File::open(&self.path).and_then(|mut file| file.read_to_end(&mut record));
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(io_error("read", &self.path))?,
        };
        let damaged = |source| FileStoreError::Damaged { path: self.path.clone(), source };
        Checkpoint::decode(&record).map(Some).map_err(damaged)
    }

    fn write(&self, record: &[u8]) -> Result<(), FileStoreError> {
        let new = self.new_path();
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&new)
            .map_err(io_error("create", &new))?;
        file.write_all(record).and_then(|()| file.sync_all()).map_err(io_error("write", &new))?;
        std::fs::rename(&new, &self.path).map_err(io_error("replace", &self.path))?;
        let directory = self.directory();
        File::open(directory).and_then(|d| d.sync_all()).map_err(io_error("sync", directory))
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileStoreError {
    let path = path.to_owned();
    move |source| FileStoreError::Io { action, path, source }
}

impl CheckpointStore for FileStore {
    type Error = FileStoreError;

    async fn load(&mut self) -> Result<Option<Checkpoint>, FileStoreError> {
        let store = FileStore::new(&self.path);
        blocking(move || store.read()).await
    }

    async fn save(&mut self, checkpoint: &Checkpoint) -> Result<(), FileStoreError> {
        let (store, record) = (FileStore::new(&self.path), checkpoint.encode());
        blocking(move || store.write(&record)).await
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("file operations do not panic, and the runtime runs")
}
