//! A segment file: its name and its header. What follows the header is frames: each schema once, before the first
//! window that uses it; then windows.
//!
//! The name is the position after which it begins, `TIMELINE-SCN.seg`, both zero-padded, so that names sort as
//! positions do.
//!
//! Header: a record (see `codec`) with magic `TMSG` and the fields sequence (u64), epoch (u64), timeline number
//! (u32), after (u64), source, server, executed (texts).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidemill_event::{Position, Scn, Timeline};

use crate::codec::{self, Builder, Fields, RecordError};
use crate::error::{Damaged, StorageError, storage};
use crate::files::SegmentFile;

const MAGIC: [u8; 4] = *b"TMSG";
const EXTENSION: &str = "seg";

/// What is known of a segment before its first frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// Counts the log's segments, from 1: a missing one is noticed.
    pub(crate) sequence: u64,
    /// The epoch of the writer that began it.
    pub(crate) epoch: u64,
    /// Whose clock its positions are. A segment has one timeline.
    pub(crate) timeline: Timeline,
    /// Everything up to here came before.
    pub(crate) after: Scn,
    /// The source's name.
    pub(crate) source: Arc<str>,
    /// The set of transactions executed at `after`.
    pub(crate) executed: Arc<str>,
}

impl SegmentHeader {
    /// The position after which the segment begins.
    pub(crate) fn start(&self) -> Position {
        Position { timeline: self.timeline.number, scn: self.after }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        Builder::new(MAGIC)
            .u64(self.sequence)
            .u64(self.epoch)
            .u32(self.timeline.number)
            .u64(self.after.0)
            .text(&self.source)
            .text(&self.timeline.server)
            .text(&self.executed)
            .finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<SegmentHeader, RecordError> {
        let mut f = Fields::open(MAGIC, bytes)?;
        let (sequence, epoch, number) = (f.u64()?, f.u64()?, f.u32()?);
        let after = Scn(f.u64()?);
        let source = f.text()?.into();
        let timeline = Timeline { number, server: f.text()?.into() };
        Ok(SegmentHeader { sequence, epoch, timeline, after, source, executed: f.text()?.into() })
    }
}

/// The length of the header that those bytes begin with.
pub(crate) fn header_length(bytes: &[u8]) -> Result<usize, RecordError> {
    codec::length(MAGIC, bytes)
}

/// Why a segment's header could not be read.
#[derive(Debug)]
pub(crate) enum HeaderError {
    Damaged(Damaged),
    Storage(StorageError),
}

/// Reads a segment's header and says where its first frame begins.
pub(crate) fn read_header(file: &dyn SegmentFile, path: &Path) -> Result<(SegmentHeader, u64), HeaderError> {
    let failed = |e| HeaderError::Storage(storage("read", path)(e));
    let damaged = |e: RecordError| {
        HeaderError::Damaged(Damaged { path: path.to_owned(), offset: 0, what: format!("its header: {e}") })
    };
    let total = file.length().map_err(failed)?;
    let mut bytes = vec![0; codec::PREFIX.min(total as usize)];
    file.read_exact_at(&mut bytes, 0).map_err(failed)?;
    let length = codec::length(MAGIC, &bytes).map_err(damaged)?;
    if length as u64 > total {
        return Err(damaged(RecordError::Truncated));
    }
    bytes.resize(length, 0);
    file.read_exact_at(&mut bytes, 0).map_err(failed)?;
    Ok((SegmentHeader::decode(&bytes).map_err(damaged)?, length as u64))
}

/// The path of the segment that begins after that position.
pub(crate) fn path(directory: &Path, start: Position) -> PathBuf {
    directory.join(format!("{:010}-{:020}.{EXTENSION}", start.timeline, start.scn.0))
}

/// Where another one lies that begins where the segment of that path does; by name it comes behind it.
pub(crate) fn beside(path: &Path, sequence: u64) -> PathBuf {
    let name = path.file_stem().expect("a segment has a name").to_string_lossy();
    path.with_file_name(format!("{name}_{sequence:020}.{EXTENSION}"))
}

/// The paths of a directory's segments, in order of their positions.
pub(crate) fn list(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == EXTENSION) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            sequence: 7,
            epoch: 3,
            timeline: Timeline { number: 2, server: "3e11fa47-71ca-11e1-9e33-c80aa9429562".into() },
            after: Scn(1 << 40 | 154),
            source: "shop".into(),
            executed: "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-99".into(),
        }
    }

    #[test]
    fn a_header_survives_its_record() {
        let bytes = header().encode();
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header()));
        assert_eq!(bytes.len() % crate::limits::FRAME_ALIGNMENT, 0);
    }

    #[test]
    fn names_sort_as_positions_do() {
        let name = |timeline, scn| path(Path::new(""), Position { timeline, scn: Scn(scn) });
        assert_eq!(name(2, 9).to_str(), Some("0000000002-00000000000000000009.seg"));
        assert!(name(1, u64::MAX) < name(2, 9) && name(2, 9) < name(2, 10) && name(9, 1) < name(10, 0));
    }
}
