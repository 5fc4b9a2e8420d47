//! Semi-synchronous replication: a server that waits for its replicas marks its packets, and we say how far we are.

use crate::event::{RawEvent, Rotate, kind};
use crate::place::Place;

const MARK: u8 = 0xef;

/// Takes the mark off that a server puts before events for semi-synchronous replicas: whether it waits for our word, if
/// there is a mark. An event's own size tells one from a time that begins with the same byte.
#[inline]
pub(super) fn split_mark(bytes: &[u8]) -> (Option<bool>, &[u8]) {
    match bytes {
        [MARK, wanted @ (0 | 1), event @ ..] if !is_whole(bytes) && is_whole(event) => {
            (Some(*wanted == 1), event)
        }
        _ => (None, bytes),
    }
}

fn is_whole(event: &[u8]) -> bool {
    const SIZE_AT: usize = 9;
    let size = event.get(SIZE_AT..).and_then(<[u8]>::first_chunk::<4>);
    size.is_some_and(|size| u32::from_le_bytes(*size) as usize == event.len())
}

/// Where the server's log is, and up to where it waits for our word.
#[derive(Debug, Default)]
pub(super) struct Acknowledger {
    file: Vec<u8>,
    offset: u64,
    is_wanted: bool,
    /// The last event had the server wait: it may count its packets anew.
    may_restart: bool,
}

impl Acknowledger {
    pub(super) fn note(&mut self, event: &RawEvent<'_>, wanted: bool) {
        if event.header.kind == kind::ROTATE {
            if let Ok(rotate) = Rotate::read(event.body) {
                (self.file, self.offset) = (rotate.file.as_bytes().to_vec(), rotate.offset);
            }
        } else if event.header.log_pos != 0 {
            self.offset = Place::offset_of(event.header.log_pos, self.offset);
        }
        self.is_wanted |= wanted;
        self.may_restart = wanted;
    }

    /// Whether a packet may have that number although it is not the next one.
    pub(super) fn restarts_at(&self, sequence: u8) -> bool {
        self.may_restart && sequence <= 1
    }

    /// What says that everything so far is here; none where nobody waits.
    pub(super) fn packet(&mut self) -> Option<Vec<u8>> {
        if !std::mem::take(&mut self.is_wanted) {
            return None;
        }
        let payload = [&[MARK], &self.offset.to_le_bytes()[..], &self.file].concat();
        // A conversation of its own: it begins with packet zero.
        let mut packet = (payload.len() as u32).to_le_bytes().to_vec();
        packet.extend_from_slice(&payload);
        Some(packet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{HEADER_BYTES, Header};

    fn event(timestamp: u32, kind: u8, log_pos: u32, body: &[u8]) -> Vec<u8> {
        let mut event = timestamp.to_le_bytes().to_vec();
        event.push(kind);
        event.extend_from_slice(&1u32.to_le_bytes());
        event.extend_from_slice(&((HEADER_BYTES + body.len()) as u32).to_le_bytes());
        event.extend_from_slice(&log_pos.to_le_bytes());
        event.extend_from_slice(&[0, 0]);
        event.extend_from_slice(body);
        event
    }

    #[test]
    fn l37_a_mark_is_taken_off_and_a_time_that_looks_like_one_is_not() {
        for timestamp in [0, 0xef, 0x1_ef, 0xffff_00ef, 0xffff_01ef] {
            let event = event(timestamp, kind::XID, 0, &[7; 8]);
            assert_eq!(split_mark(&event), (None, &event[..]), "{timestamp:x}");
            for wanted in [false, true] {
                let marked = [&[MARK, u8::from(wanted)], &event[..]].concat();
                assert_eq!(split_mark(&marked), (Some(wanted), &event[..]), "{timestamp:x}");
            }
        }
        assert_eq!(split_mark(&[MARK, 1]), (None, &[MARK, 1][..]));
    }

    #[test]
    fn l37_the_last_place_is_acknowledged_once_in_64_bits_where_the_server_waits() {
        let mut acknowledger = Acknowledger::default();
        let mut note = |bytes: &[u8], wanted| {
            let header = Header::read(bytes).expect("a whole header");
            acknowledger.note(&RawEvent { header, body: &bytes[HEADER_BYTES..] }, wanted);
            acknowledger.packet()
        };
        assert_eq!(note(&event(0, kind::ROTATE, 0, b"\x04\0\0\0\0\0\0\0binlog.000009"), false), None);
        assert_eq!(note(&event(1, kind::XID, u32::MAX - 1, &[0; 8]), false), None);
        let packet = note(&event(1, kind::XID, 17, &[0; 8]), true).expect("it is wanted");
        assert_eq!(packet[..5], [22, 0, 0, 0, MARK]);
        assert_eq!(packet[5..13], ((1u64 << 32) + 17).to_le_bytes());
        assert_eq!(&packet[13..], b"binlog.000009");
        assert_eq!(note(&event(1, kind::XID, 99, &[0; 8]), false), None);
    }
}
