//! The seam between the log and the file system, so that tests can make writes fail, tear and vanish.

use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

/// Where a log's files are. Called from the writer, its sync thread and readers, in parallel.
pub trait Files: Debug + Send + Sync {
    /// An empty file of that name, for writing and reading; one that is there is emptied.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn SegmentFile>>;
    /// The file of that name, for writing and reading.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn SegmentFile>>;
    /// Gives a file another name, in one step, in place of the one that had it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file; who has it open keeps it.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals in a directory durable.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;
}

/// An open file. Reads and writes name their offset, so that several readers and the writer share it.
pub trait SegmentFile: Debug + Send + Sync {
    /// Writes all of it there, or fails; then any part of it may have been written.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Fills the buffer from there.
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;
    /// How many bytes it has.
    fn length(&self) -> io::Result<u64>;
    /// Cuts it to that many bytes.
    fn truncate(&self, length: u64) -> io::Result<()>;
    /// Returns when everything written so far is durable.
    fn sync(&self) -> io::Result<()>;
    /// When it was last written to.
    fn modified(&self) -> io::Result<SystemTime>;
}

/// The real file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskFiles;

impl Files for DiskFiles {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn SegmentFile>> {
        let mut options = OpenOptions::new();
        Ok(Arc::new(options.read(true).write(true).create(true).truncate(true).open(path)?))
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn SegmentFile>> {
        Ok(Arc::new(OpenOptions::new().read(true).write(true).open(path)?))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }
    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

impl SegmentFile for File {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, bytes, offset)
    }
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
    fn truncate(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }
    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
    fn modified(&self) -> io::Result<SystemTime> {
        self.metadata()?.modified()
    }
}

/// The whole of a small file.
pub(crate) fn read_all(file: &dyn SegmentFile) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; file.length()? as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Puts a small file in place of another, atomically and durably.
pub(crate) fn replace(files: &dyn Files, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let file = files.create(&fresh)?;
    file.write_all_at(bytes, 0)?;
    file.sync()?;
    files.rename(&fresh, path)?;
    files.sync_directory(path.parent().expect("a log's files lie in its directory"))
}
