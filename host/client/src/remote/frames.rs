//! Frames out of a stream of bytes that is cut anywhere. Every frame is copied once, into an aligned buffer in which its
//! arrays stay.

use arrow_buffer::MutableBuffer;
use tidemill_event::{Frame, FrameError, FrameHeader};

use crate::limits::FRAME_BYTES_EAGER;

/// Takes bytes, gives frames.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    head: Vec<u8>,
    body: Option<(FrameHeader, MutableBuffer)>,
}

/// What the bytes were enough for.
#[derive(Debug)]
pub(crate) enum Progress {
    /// All of them are taken.
    More,
    /// A frame begins: its header. Nothing of its body is taken yet.
    Begun(FrameHeader),
    /// A frame is whole; its checksum fits.
    Whole(Frame),
}

impl Frames {
    /// Whether the bytes so far are whole frames.
    pub(crate) fn is_between(&self) -> bool {
        self.head.is_empty() && self.body.is_none()
    }

    /// Takes bytes from the front of the slice until something is to be told.
    pub(crate) fn take(&mut self, bytes: &mut &[u8]) -> Result<Progress, FrameError> {
        match &mut self.body {
            None => {
                let taken = bytes.split_off(..bytes.len().min(FrameHeader::BYTES - self.head.len()));
                self.head.extend_from_slice(taken.expect("no longer than the slice"));
                if self.head.len() < FrameHeader::BYTES {
                    return Ok(Progress::More);
                }
                let header = FrameHeader::read(&self.head)?;
                let mut buffer = MutableBuffer::with_capacity(header.length.min(FRAME_BYTES_EAGER));
                buffer.extend_from_slice(&self.head);
                self.head.clear();
                self.body = Some((header, buffer));
                Ok(Progress::Begun(header))
            }
            Some((header, buffer)) => {
                let taken = bytes.split_off(..bytes.len().min(header.length - buffer.len()));
                buffer.extend_from_slice(taken.expect("no longer than the slice"));
                if buffer.len() < header.length {
                    return Ok(Progress::More);
                }
                let (_, buffer) = self.body.take().expect("it is the one in hand");
                Ok(Progress::Whole(Frame::from_buffer(buffer.into())?))
            }
        }
    }
}
