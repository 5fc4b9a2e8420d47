//! A window in the form that a subscriber asked for. What is written depends on the window alone, and where a transaction
//! comes in parts on those before it, so that subscribers of one selection share it.
//!
//! The rows of a transaction in parts go out as its parts come; the checkpoint comes with the last one. A reader that is
//! cut in between gets the transaction again from its beginning, with the same position and ordinals.

pub(crate) mod arrow;
mod calendar;
mod cell;
mod event;
mod events;
pub(crate) mod json;

use arrow_schema::ArrowError;
use bytes::Bytes;
use tidemill_event::{Checkpoint, FrameError, Window, encode_window};

use crate::Format;

/// Behind so much text of one window comes a checkpoint, where a transaction ends: a reader that never stays for a whole
/// window gets on nevertheless.
const CHECKPOINT_BYTES: usize = 8 << 10;

/// One window, written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chunk {
    /// All of it; empty for `arrow`.
    pub(crate) bytes: Bytes,
    /// `arrow` only: one message for each version of the table.
    pub(crate) pieces: Vec<arrow::Piece>,
    /// `json` and `events` only: what came of a transaction that goes on in the next window.
    pub(crate) begun: Option<json::Orders>,
}

/// A window that cannot be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FormatError {
    #[error("write the window as a frame")]
    Frame(#[from] FrameError),
    #[error("write the window as Arrow messages")]
    Arrow(#[from] ArrowError),
}

impl Chunk {
    /// What it takes in memory.
    pub(crate) fn size(&self) -> usize {
        let pieces: usize = self.pieces.iter().map(|piece| piece.bytes.len()).sum();
        size_of::<Chunk>() + self.bytes.len() + pieces
    }
}

/// Writes a window. `begun`: what came of the transaction of which it holds a later part.
pub(crate) fn write(
    format: Format,
    window: &Window,
    begun: Option<&json::Orders>,
) -> Result<Chunk, FormatError> {
    let mut chunk = Chunk::default();
    match format {
        Format::Frames => chunk.bytes = frame_bytes(encode_window(window)?),
        Format::Arrow => chunk.pieces = arrow::pieces(window)?,
        Format::Json | Format::Events => {
            let text;
            (text, chunk.begun) = text_of(format, window, begun);
            chunk.bytes = text.into();
        }
    }
    Ok(chunk)
}

/// The lines of a window with checkpoints between and behind them, and what came of a transaction that goes on.
fn text_of(format: Format, window: &Window, begun: Option<&json::Orders>) -> (Vec<u8>, Option<json::Orders>) {
    let (mut lines, mut events) = (Vec::with_capacity(256 + 512 * window.row_count()), Vec::new());
    let (mut from, mut steps) = (0, None);
    let goes_on = json::push_changes(&mut lines, window, begun, |lines, passed| {
        if lines.len() - from < CHECKPOINT_BYTES {
            return;
        }
        let checkpoint = steps.get_or_insert_with(|| window.steps()).after(passed);
        if format == Format::Events {
            events::push_changes(&mut events, lines);
            lines.clear();
            push_checkpoint(&mut events, format, Some(&checkpoint));
        } else {
            push_checkpoint(lines, format, Some(&checkpoint));
        }
        from = lines.len();
    });
    if format == Format::Events {
        events::push_changes(&mut events, &lines);
        lines = events;
    }
    if goes_on.is_none() {
        push_checkpoint(&mut lines, format, Some(&window.checkpoint()));
    }
    (lines, goes_on)
}

/// Where the reader is, in the two formats that say it in the body.
pub(crate) fn push_checkpoint(out: &mut Vec<u8>, format: Format, checkpoint: Option<&Checkpoint>) {
    match format {
        Format::Events => events::push_checkpoint_event(out, checkpoint),
        _ => json::push_checkpoint(out, checkpoint),
    }
}

/// An instant as RFC 3339 has it.
pub(crate) fn instant_text(micros: i64) -> String {
    let mut text = Vec::new();
    calendar::push_datetime(&mut text, micros);
    text.push(b'Z');
    String::from_utf8(text).expect("digits and signs are ASCII")
}

/// The bytes of a frame, where they lie.
pub(crate) fn frame_bytes(frame: tidemill_event::Frame) -> Bytes {
    struct Owner(tidemill_event::Frame);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            self.0.bytes()
        }
    }
    Bytes::from_owner(Owner(frame))
}
