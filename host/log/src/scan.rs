//! The frames of one segment file, in order: fetched in large reads, checked, and used where they lie. Also the
//! scan of a whole segment, which finds where its good part ends.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_buffer::{Buffer, MutableBuffer};
use tidemill_event::{Decoded, Frame, FrameError, FrameHeader, Part, SchemaSet, Scn, Window, chain, decode};

use crate::error::{Damaged, StorageError, storage};
use crate::files::SegmentFile;
use crate::index::Index;
use crate::limits::READ_BYTES;
use crate::segment::SegmentHeader;

/// Reads a segment's frames from an offset on.
#[derive(Debug)]
pub(crate) struct FrameCursor {
    file: Arc<dyn SegmentFile>,
    path: PathBuf,
    offset: u64,
    chunk: Buffer,
    chunk_offset: u64,
}

/// What a cursor has next.
pub(crate) enum Next {
    /// A frame, its checksum verified.
    Frame(Frame),
    /// Nothing before these bytes are fetched and handed to [`FrameCursor::accept`].
    Fetch(Fetch),
    /// The limit is reached.
    End,
}

/// A read that is to be made, on any thread.
#[derive(Debug)]
pub(crate) struct Fetch {
    file: Arc<dyn SegmentFile>,
    path: PathBuf,
    offset: u64,
    length: u64,
}

/// Bytes that were fetched.
#[derive(Debug)]
pub(crate) struct Fetched {
    offset: u64,
    bytes: Buffer,
}

impl Fetch {
    pub(crate) fn run(self) -> Result<Fetched, StorageError> {
        let mut bytes = MutableBuffer::from_len_zeroed(self.length as usize);
        self.file.read_exact_at(bytes.as_slice_mut(), self.offset).map_err(storage("read", self.path))?;
        Ok(Fetched { offset: self.offset, bytes: bytes.into() })
    }
}

impl FrameCursor {
    pub(crate) fn new(file: Arc<dyn SegmentFile>, path: PathBuf, offset: u64) -> FrameCursor {
        let chunk = MutableBuffer::new(0).into();
        FrameCursor { file, path, offset, chunk, chunk_offset: offset }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self) -> &Arc<dyn SegmentFile> {
        &self.file
    }

    /// Where the next frame begins.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) fn accept(&mut self, fetched: Fetched) {
        (self.chunk_offset, self.chunk) = (fetched.offset, fetched.bytes);
    }

    /// The next frame that ends at or before `limit`. One that is refused stays where it is.
    pub(crate) fn next(&mut self, limit: u64) -> Result<Next, FrameError> {
        let rest = limit.saturating_sub(self.offset);
        if rest == 0 {
            return Ok(Next::End);
        }
        let have = (rest as usize).min(FrameHeader::BYTES);
        let Some(prefix) = self.bytes(have) else { return Ok(self.fetch(rest, READ_BYTES)) };
        let length = match FrameHeader::read(&prefix) {
            Ok(head) => head.length,
            Err(FrameError::Version(_)) => word(&prefix, 0).max(FrameHeader::BYTES as u32) as usize,
            Err(error) => return Err(error),
        };
        if length as u64 > rest {
            return Err(FrameError::Truncated { have: rest as usize, want: length });
        }
        let Some(bytes) = self.bytes(length) else {
            return Ok(self.fetch(rest, READ_BYTES.max(length as u64)));
        };
        believe_version(&bytes)?;
        let frame = Frame::from_buffer(bytes)?;
        self.offset += frame.bytes().len() as u64;
        Ok(Next::Frame(frame))
    }

    /// As [`FrameCursor::next`], fetching on this thread.
    pub(crate) fn next_now(&mut self, limit: u64) -> Result<Result<Option<Frame>, FrameError>, StorageError> {
        loop {
            match self.next(limit) {
                Ok(Next::Frame(frame)) => return Ok(Ok(Some(frame))),
                Ok(Next::End) => return Ok(Ok(None)),
                Ok(Next::Fetch(fetch)) => {
                    let fetched = fetch.run()?;
                    self.accept(fetched);
                }
                Err(error) => return Ok(Err(error)),
            }
        }
    }

    /// Bytes at the offset, if they were fetched.
    fn bytes(&self, length: usize) -> Option<Buffer> {
        let from = usize::try_from(self.offset.checked_sub(self.chunk_offset)?).ok()?;
        let there = from.checked_add(length).is_some_and(|end| end <= self.chunk.len());
        there.then(|| self.chunk.slice_with_length(from, length))
    }

    fn fetch(&self, rest: u64, length: u64) -> Next {
        let (file, path) = (Arc::clone(&self.file), self.path.clone());
        Next::Fetch(Fetch { file, path, offset: self.offset, length: length.min(rest) })
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// A version that we do not know is only believed when the checksum says that it was written so.
fn believe_version(bytes: &[u8]) -> Result<(), FrameError> {
    let Err(FrameError::Version(version)) = FrameHeader::read(bytes) else { return Ok(()) };
    let sealed = crc32c::crc32c_append(crc32c::crc32c(&bytes[..4]), &bytes[8..]) == word(bytes, 4);
    Err(if sealed { FrameError::Version(version) } else { FrameError::Damaged("its version is unknown") })
}

/// What a whole segment holds.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) index: Index,
    /// The set of transactions executed at its end.
    pub(crate) executed: Arc<str>,
    /// Why the scan ended before the file did.
    pub(crate) cut: Option<FrameError>,
}

/// Why a segment could not be scanned.
#[derive(Debug)]
pub(crate) enum ScanError {
    Damaged(Damaged),
    Storage(StorageError),
}

/// Reads a segment from its first frame to the end of the file, checking everything. Up to `durable` every byte
/// must be as it was written. A frame after that which is not whole ends the scan: it is the torn tail of a
/// crash. Frames that are whole but wrong are damage anywhere.
pub(crate) fn scan(
    file: &Arc<dyn SegmentFile>,
    path: &Path,
    header: &SegmentHeader,
    first: u64,
    durable: u64,
) -> Result<Scan, ScanError> {
    let total = file.length().map_err(|e| ScanError::Storage(storage("read", path)(e)))?;
    let damaged = |offset, what: String| ScanError::Damaged(Damaged { path: path.to_owned(), offset, what });
    let mut cursor = FrameCursor::new(Arc::clone(file), path.to_owned(), first);
    let mut order = Order { header, upto: header.after, open: None };
    let mut schemas = SchemaSet::default();
    let mut scan =
        Scan { index: Index::new(header.after, first), executed: Arc::clone(&header.executed), cut: None };
    loop {
        let offset = cursor.offset();
        let frame = match cursor.next_now(total).map_err(ScanError::Storage)? {
            Ok(Some(frame)) => frame,
            Ok(None) => break,
            Err(error) if offset >= durable && is_torn(&error) => {
                scan.cut = Some(error);
                break;
            }
            Err(error) => return Err(damaged(offset, chain(&error))),
        };
        match decode(&frame, &schemas).map_err(|e| damaged(offset, chain(&e)))? {
            Decoded::Schema(schema) => {
                schemas.insert(schema);
                scan.index.schemas.push(offset);
            }
            Decoded::Window(window) => {
                order.next(&window).map_err(|what| damaged(offset, what.into()))?;
                scan.index.note(&window, offset, cursor.offset());
                if scan.index.length == cursor.offset() {
                    scan.executed = window.executed;
                }
            }
        }
    }
    if scan.index.length < durable {
        return Err(damaged(scan.index.length, format!("it ends before byte {durable}, which was durable")));
    }
    scan.index = scan.index.without_incomplete();
    Ok(scan)
}

/// Whether a crash in the middle of a write can leave this: bytes that are missing, or not all that were written.
fn is_torn(error: &FrameError) -> bool {
    matches!(error, FrameError::Truncated { .. } | FrameError::Damaged(_))
}

/// Checks that each window follows the one before.
struct Order<'a> {
    header: &'a SegmentHeader,
    upto: Scn,
    open: Option<Scn>,
}

impl Order<'_> {
    fn next(&mut self, window: &Window) -> Result<(), &'static str> {
        if window.source != self.header.source || window.timeline != self.header.timeline {
            return Err("a window of another source or timeline");
        }
        if window.span.after != self.upto {
            return Err("a window that does not follow the one before");
        }
        self.open = follow(self.open, window)?;
        self.upto = window.span.upto;
        Ok(())
    }
}

/// The transaction that is open after the window, given the one that was open before.
pub(crate) fn follow(open: Option<Scn>, window: &Window) -> Result<Option<Scn>, &'static str> {
    let fragment = window.transactions.first().map(|t| (t.part, t.scn));
    match (open, fragment) {
        (None, Some((Part::First, scn))) => Ok(Some(scn)),
        (Some(open), Some((Part::Middle, scn))) if open == scn => Ok(Some(scn)),
        (Some(open), Some((Part::Last, scn))) if open == scn => Ok(None),
        (None, None | Some((Part::Whole, _))) => Ok(None),
        (Some(_), _) => Err("the transaction before it is not complete"),
        (None, _) => Err("a fragment whose beginning is missing"),
    }
}
