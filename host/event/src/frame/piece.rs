//! Pieces of snapshots and deltas on the wire: ahead of each window comes a frame with the checkpoint of who has it, which
//! tells its phase; a checkpoint of the stream ends them. No log has such frames. How a window is laid out is the codec's.

use super::{Decoded, Frame, FrameError, FrameHeader, KIND_CHECKPOINT, PREFIX, SchemaSet, decode_as, seal};
use crate::{Checkpoint, Phase};

/// Encodes a checkpoint, to travel ahead of the window that leads to it.
pub fn encode_checkpoint(checkpoint: &Checkpoint) -> Result<Frame, FrameError> {
    seal(KIND_CHECKPOINT, &checkpoint.encode(), &[])
}

/// The checkpoint of a frame that holds one; `None`: it holds something else.
pub fn decode_checkpoint(frame: &Frame) -> Result<Option<Checkpoint>, FrameError> {
    let head = FrameHeader::read(&frame.0)?;
    if !head.is_checkpoint {
        return Ok(None);
    }
    let record = &frame.0[PREFIX..PREFIX + head.header];
    Checkpoint::decode(record).map(Some).map_err(|_| FrameError::Damaged("its checkpoint cannot be read"))
}

/// Decodes a frame of the stream. Its checksum was verified when it was made; here every value and every rule of a window is
/// checked. Arrays point into the frame's own bytes.
pub fn decode(frame: &Frame, schemas: &SchemaSet) -> Result<Decoded, FrameError> {
    decode_as(frame, schemas, Phase::Stream)
}

/// As [`decode`], of a window of a snapshot or of deltas: `phase` is that of the checkpoint that came ahead of it.
pub fn decode_piece(frame: &Frame, schemas: &SchemaSet, phase: Phase) -> Result<Decoded, FrameError> {
    decode_as(frame, schemas, phase)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::{Cursor, Part, Scn, Span, Timeline, Transaction, Window, encode_window};

    fn piece() -> Window {
        let timeline = Timeline { number: 2, server: "s".into() };
        let span = Span { after: Scn(0), upto: Scn(5) };
        let mut window = Window::empty("shop".into(), timeline, span, "".into());
        window.phase = Phase::Deltas(Cursor { version: 3, table: "shop.a".into(), after: vec![1, 0] });
        // What is read lies behind what its reader had.
        window.transactions = vec![Transaction {
            scn: Scn(9),
            gtid: String::new(),
            commit_time_us: 0,
            first_ordinal: 0,
            change_count: 0,
            change_offset: 0,
            part: Part::Whole,
        }];
        window
    }

    #[test]
    fn a_piece_survives_the_wire_with_its_checkpoint() {
        let window = piece();
        let ahead = encode_checkpoint(&window.checkpoint()).unwrap();
        let checkpoint = decode_checkpoint(&Frame::read(ahead.bytes()).unwrap()).unwrap().unwrap();
        assert_eq!(checkpoint, window.checkpoint());
        let frame = encode_window(&window).unwrap();
        let decoded = decode_piece(&frame, &SchemaSet::default(), checkpoint.phase).unwrap();
        let Decoded::Window(again) = decoded else { panic!("a window was encoded") };
        assert_eq!((again.checkpoint(), again.transactions), (window.checkpoint(), window.transactions));
    }

    #[test]
    fn a_log_takes_neither_a_checkpoint_nor_a_piece() {
        let ahead = encode_checkpoint(&piece().checkpoint()).unwrap();
        assert!(matches!(decode(&ahead, &SchemaSet::default()), Err(FrameError::Damaged(_))));
        let frame = encode_window(&piece()).unwrap();
        assert!(matches!(decode(&frame, &SchemaSet::default()), Err(FrameError::Rules(_))));
        assert_eq!(decode_checkpoint(&frame).unwrap(), None);
    }
}
