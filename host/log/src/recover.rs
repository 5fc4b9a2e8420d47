//! Opening a directory: which segments there are, whether they follow one another, and where the last one ends.
//! Sealed segments are believed by their index and checked when they are read; the last one is read whole.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::LogConfig;
use crate::error::{Damaged, OpenError, StorageError, storage};
use crate::files::{Files, SegmentFile, read_all, replace};
use crate::index::Index;
use crate::limits::READ_BYTES;
use crate::ring::Place;
use crate::scan::{Scan, ScanError, scan};
use crate::segment::{self, HeaderError, SegmentHeader, read_header};
use crate::state::{Head, Segment};
use crate::sync::{read_durable, write_durable};

const EPOCH_FILE: &str = "epoch";

/// What a directory holds.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) segments: VecDeque<Segment>,
    pub(crate) head: Option<Head>,
    pub(crate) epoch: u64,
}

impl From<ScanError> for OpenError {
    fn from(error: ScanError) -> Self {
        match error {
            ScanError::Damaged(damaged) => OpenError::Damaged(damaged),
            ScanError::Storage(storage) => OpenError::Storage(storage),
        }
    }
}

/// Reads the directory, cuts the torn tail and makes what is left durable.
pub(crate) fn recover(config: &LogConfig, files: &dyn Files) -> Result<Recovered, OpenError> {
    let directory = &config.directory;
    let durable = read_durable(files, directory)?;
    let paths = segment::list(directory).map_err(storage("list", directory))?;
    let mut segments: VecDeque<Segment> = VecDeque::new();
    let mut last_scan = None;
    for (i, path) in paths.iter().enumerate() {
        let later = &paths[i + 1..];
        let Some(opened) = open_header(files, path, segments.back(), durable, later)? else { break };
        let whole = is_durable(&opened.header, durable, later.is_empty());
        let (segment, scan, torn) = if whole {
            (recover_sealed(files, opened)?, None, false)
        } else {
            let (segment, scan, torn) = recover_recent(files, opened, durable)?;
            (segment, Some(scan), torn)
        };
        if let Some(last) = segments.back() {
            check_follows(last, &segment)?;
        }
        segments.push_back(segment);
        last_scan = scan;
        if torn {
            remove_torn(files, later)?;
            break;
        }
    }
    if segments.back().is_some_and(|last| last.index.is_empty()) {
        // It was begun and nothing in it was acknowledged; where the log ends, the one before it says.
        let empty = segments.pop_back().expect("it is there");
        remove_segment(files, &empty.path)?;
        last_scan = None;
    }
    let head = segments.back().map(|last| head_of(files, last, last_scan)).transpose()?;
    if let Some(last) = segments.back() {
        files.sync_directory(directory).map_err(storage("sync", directory))?;
        write_durable(files, directory, last.end_place())?;
    }
    let epoch = segments.iter().map(|s| s.header.epoch).max().unwrap_or(0);
    Ok(Recovered { segments, head, epoch: epoch.max(read_epoch(files, directory)?) })
}

/// Whether all of a segment was durable when the log was last used. What nobody knows of is taken for durable,
/// but for the last segment.
fn is_durable(header: &SegmentHeader, durable: Option<Place>, is_last: bool) -> bool {
    !is_last && durable.is_none_or(|d| header.sequence < d.sequence)
}

fn head_of(files: &dyn Files, last: &Segment, scanned: Option<Scan>) -> Result<Head, OpenError> {
    let scan = match scanned {
        Some(scan) => scan,
        None => {
            let file = files.open(&last.path).map_err(storage("open", &last.path))?;
            scan(&file, &last.path, &last.header, last.first, last.index.length)?
        }
    };
    Ok(Head {
        source: Arc::clone(&last.header.source),
        timeline: last.header.timeline.clone(),
        scn: scan.index.end,
        executed: scan.executed,
    })
}

/// A segment whose header was read.
struct Opened {
    file: Arc<dyn SegmentFile>,
    path: PathBuf,
    header: SegmentHeader,
    first: u64,
}

/// Opens a segment. One that lost its header to a crash before anything in it was durable is removed, with
/// those that follow it; then there is none.
fn open_header(
    files: &dyn Files,
    path: &Path,
    before: Option<&Segment>,
    durable: Option<Place>,
    later: &[PathBuf],
) -> Result<Option<Opened>, OpenError> {
    let file = files.open(path).map_err(storage("open", path))?;
    match read_header(&*file, path) {
        Ok((header, first)) => Ok(Some(Opened { file, path: path.to_owned(), header, first })),
        Err(HeaderError::Storage(error)) => Err(error.into()),
        Err(HeaderError::Damaged(damaged)) => {
            let sequence = before.map_or(1, |before| before.header.sequence + 1);
            let may_be_torn = durable.map_or(later.is_empty(), |d| before.is_some() && sequence > d.sequence);
            if !may_be_torn {
                return Err(damaged.into());
            }
            remove_torn(files, &[&[path.to_owned()], later].concat())?;
            Ok(None)
        }
    }
}

/// Removes segments that were begun after one that a crash tore: nothing in them was durable.
fn remove_torn(files: &dyn Files, paths: &[PathBuf]) -> Result<(), OpenError> {
    for path in paths {
        tracing::warn!(path = %path.display(), "removed: a crash came before anything in it was durable");
        remove_segment(files, path)?;
    }
    Ok(())
}

/// Removes a segment and its index.
pub(crate) fn remove_segment(files: &dyn Files, path: &Path) -> Result<(), StorageError> {
    let index = index_path(path);
    match files.remove(&index) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(storage("remove", index)(e)),
        _ => {}
    }
    files.remove(path).map_err(storage("remove", path))
}

/// Reads all of a segment that may not be durable, cuts what a crash tore, and makes the rest durable. Says
/// whether something was cut.
fn recover_recent(
    files: &dyn Files,
    opened: Opened,
    durable: Option<Place>,
) -> Result<(Segment, Scan, bool), OpenError> {
    let Opened { file, path, header, first } = opened;
    let written = file.modified().map_err(storage("read", &path))?;
    let total = file.length().map_err(storage("read", &path))?;
    let durable = match durable {
        Some(durable) if durable.sequence == header.sequence => durable.offset,
        Some(durable) if durable.sequence > header.sequence => total,
        _ => 0,
    };
    let scan = scan(&file, &path, &header, first, durable)?;
    let length = scan.index.length;
    if length < total {
        let why = scan.cut.as_ref().map_or("an incomplete transaction".into(), |e| tidemill_event::chain(e));
        tracing::warn!(path = %path.display(), at = length, bytes = total - length, why, "cut what a crash left");
    }
    settle(&*file, &path, durable, length)?;
    write_index(files, &path, &scan.index)?;
    let segment = Segment { path, header: Arc::new(header), first, index: scan.index.clone(), written };
    Ok((segment, scan, length < total))
}

/// Cuts a file to its good part and makes that durable. After a failed sync the operating system may hold bytes
/// for written that never were, so what was not durable is written again.
pub(crate) fn settle(
    file: &dyn SegmentFile,
    path: &Path,
    durable: u64,
    length: u64,
) -> Result<(), StorageError> {
    if file.length().map_err(storage("read", path))? > length {
        file.truncate(length).map_err(storage("cut", path))?;
    }
    let mut offset = durable;
    while offset < length {
        let mut bytes = vec![0; READ_BYTES.min(length - offset) as usize];
        file.read_exact_at(&mut bytes, offset).map_err(storage("read", path))?;
        file.write_all_at(&bytes, offset).map_err(storage("write", path))?;
        offset += bytes.len() as u64;
    }
    file.sync().map_err(storage("sync", path))
}

/// A sealed segment, by its index; where that does not fit, by reading the segment.
fn recover_sealed(files: &dyn Files, opened: Opened) -> Result<Segment, OpenError> {
    let Opened { file, path, header, first } = opened;
    let total = file.length().map_err(storage("read", &path))?;
    let written = file.modified().map_err(storage("read", &path))?;
    let index = match read_index(files, &path, total) {
        Ok(index) => index,
        Err(why) => {
            tracing::info!(path = %path.display(), why, "the index is made again from the segment");
            // It was durable before the next one was, so nothing in it may be torn.
            let scan = scan(&file, &path, &header, first, total)?;
            write_index(files, &path, &scan.index)?;
            scan.index
        }
    };
    Ok(Segment { path, header: Arc::new(header), first, index, written })
}

fn read_index(files: &dyn Files, segment: &Path, total: u64) -> Result<Index, String> {
    let file = files.open(&index_path(segment)).map_err(|e| e.to_string())?;
    let bytes = read_all(&*file).map_err(|e| e.to_string())?;
    let index = Index::decode(&bytes).map_err(|e| e.to_string())?;
    if index.length == total { Ok(index) } else { Err("it is not of this segment".into()) }
}

/// Where a segment's index lies.
pub(crate) fn index_path(segment: &Path) -> PathBuf {
    segment.with_extension("idx")
}

/// Writes a sealed segment's index. It is not synced: one that is lost or torn is made again.
pub(crate) fn write_index(files: &dyn Files, segment: &Path, index: &Index) -> Result<(), StorageError> {
    let path = index_path(segment);
    let file = files.create(&path).map_err(storage("create", &path))?;
    file.write_all_at(&index.encode(), 0).map_err(storage("write", &path))
}

fn check_follows(last: &Segment, next: &Segment) -> Result<(), Damaged> {
    let (before, after) = (&last.header, &next.header);
    let same = before.timeline == after.timeline;
    let fits =
        if same { last.end() == after.start() } else { before.timeline.number < after.timeline.number };
    if after.sequence == before.sequence + 1 && fits && before.source == after.source {
        return Ok(());
    }
    let what = format!(
        "it does not follow {}, which ends at {} (a segment between them is missing)",
        last.path.display(),
        last.end()
    );
    Err(Damaged { path: next.path.clone(), offset: 0, what })
}

/// The epoch of the newest writer that the directory has seen; the segments know it too, unless that writer
/// has written nothing.
pub(crate) fn read_epoch(files: &dyn Files, directory: &Path) -> Result<u64, StorageError> {
    let path = directory.join(EPOCH_FILE);
    let file = match files.open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(e) => return Err(storage("open", path)(e)),
    };
    let bytes = read_all(&*file).map_err(storage("read", &path))?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.trim().parse().unwrap_or_else(|_| {
        tracing::warn!(path = %path.display(), "unreadable; the epoch of the newest segment is taken");
        0
    }))
}

/// Raises the epoch, atomically and durably.
pub(crate) fn write_epoch(files: &dyn Files, directory: &Path, epoch: u64) -> Result<(), StorageError> {
    let path = directory.join(EPOCH_FILE);
    replace(files, &path, format!("{epoch}\n").as_bytes()).map_err(storage("replace", path))
}
