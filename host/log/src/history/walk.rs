//! Checks a segment that comes in pieces, from disk or from an object store: its header, every frame's checksum, and one
//! checksum over everything.

use tidemill_event::{Frame, FrameError, FrameHeader};

use crate::codec::{self, RecordError};
use crate::segment;
use tidemill_event::chain;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    crc: u32,
    length: u64,
    has_header: bool,
    /// Bytes of the header or frame that is not complete.
    open: Vec<u8>,
}

impl Walk {
    /// Takes the next piece. An error says at which byte of the segment what does not fit.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Result<(), (u64, String)> {
        self.crc = crc32c::crc32c_append(self.crc, piece);
        self.length += piece.len() as u64;
        self.open.extend_from_slice(piece);
        let mut at = 0;
        while let Some(length) = self.next(&self.open[at..]).map_err(|what| (self.offset(at), what))? {
            self.has_header = true;
            at += length;
        }
        self.open.drain(..at);
        Ok(())
    }

    /// The length and checksum of everything; an error where it ends within a frame.
    pub(crate) fn finish(self) -> Result<(u64, u32), (u64, String)> {
        match self.has_header && self.open.is_empty() {
            true => Ok((self.length, self.crc)),
            false => Err((self.offset(0), "it ends within a frame".into())),
        }
    }

    fn offset(&self, at: usize) -> u64 {
        self.length - (self.open.len() - at) as u64
    }

    /// The length of the header or frame that those bytes begin with, checked; `None` where it is not complete.
    fn next(&self, bytes: &[u8]) -> Result<Option<usize>, String> {
        if !self.has_header {
            return header(bytes);
        }
        if bytes.len() < FrameHeader::BYTES {
            return Ok(None);
        }
        let length = FrameHeader::read(bytes).map_err(|e| chain(&e))?.length;
        match Frame::check(bytes) {
            Ok(()) => Ok(Some(length)),
            Err(FrameError::Truncated { .. }) => Ok(None),
            Err(error) => Err(chain(&error)),
        }
    }
}

fn header(bytes: &[u8]) -> Result<Option<usize>, String> {
    if bytes.len() < codec::PREFIX {
        return Ok(None);
    }
    let length = segment::header_length(bytes).map_err(|e| e.to_string())?;
    match segment::SegmentHeader::decode(bytes) {
        Ok(_) => Ok(Some(length)),
        Err(RecordError::Truncated) => Ok(None),
        Err(error) => Err(format!("its header: {error}")),
    }
}
