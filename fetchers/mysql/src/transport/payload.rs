//! The events of a compressed transaction, unpacked as a stream: one event in memory at a time.

use std::io::{Cursor, Read};

use crate::event::{HEADER_BYTES, Header, Packing, RawEvent, payload_parts};
use crate::limits::EVENT_BYTES_MAX;
use crate::wire::Malformed;

/// See the module.
pub(crate) struct Payload {
    unpacked: Box<dyn Read + Send>,
    event: Vec<u8>,
}

const CANNOT: Malformed = Malformed("a compressed transaction cannot be unpacked");

impl Payload {
    /// The events of a TRANSACTION_PAYLOAD event's body.
    pub(crate) fn new(body: &[u8]) -> Result<Payload, Malformed> {
        let (packing, content) = payload_parts(body)?;
        let content = Cursor::new(content.to_vec());
        let unpacked: Box<dyn Read + Send> = match packing {
            Packing::None => Box::new(content),
            Packing::Zstd => Box::new(zstd::Decoder::with_buffer(content).map_err(|_| CANNOT)?),
        };
        Ok(Payload { unpacked, event: Vec::new() })
    }

    /// The next event; `None` at a clean end.
    pub(crate) fn next(&mut self) -> Result<Option<RawEvent<'_>>, Malformed> {
        self.event.clear();
        self.read_to(HEADER_BYTES)?;
        if self.event.is_empty() {
            return Ok(None);
        }
        if self.event.len() < HEADER_BYTES {
            return Err(CANNOT);
        }
        let header = Header::read(&self.event)?;
        let size = header.size as usize;
        if size > EVENT_BYTES_MAX {
            return Err(Malformed("an event is larger than any may be"));
        }
        self.read_to(size)?;
        match self.event.len() == size {
            true => Ok(Some(RawEvent { header, body: &self.event[HEADER_BYTES..] })),
            false => Err(CANNOT),
        }
    }

    /// Reads on until the event has so many bytes, or nothing is left.
    fn read_to(&mut self, size: usize) -> Result<(), Malformed> {
        let missing = size - self.event.len();
        let mut limited = (&mut self.unpacked).take(missing as u64);
        limited.read_to_end(&mut self.event).map_err(|_| CANNOT)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn event(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut event = vec![0; HEADER_BYTES];
        event[4] = kind;
        event[9..13].copy_from_slice(&((HEADER_BYTES + body.len()) as u32).to_le_bytes());
        event.extend_from_slice(body);
        event
    }

    fn packed(content: &[u8]) -> Vec<u8> {
        let content = zstd::encode_all(content, 3).unwrap();
        let mut body = vec![1, 3, 252];
        body.extend_from_slice(&(content.len() as u16).to_le_bytes());
        body.extend_from_slice(&[2, 1, 0, 0]);
        body.extend_from_slice(&content);
        body
    }

    fn kinds(payload: &[u8]) -> Result<Vec<u8>, Malformed> {
        let mut payload = Payload::new(payload)?;
        let mut kinds = Vec::new();
        while let Some(event) = payload.next()? {
            kinds.push(event.header.kind);
        }
        Ok(kinds)
    }

    #[test]
    fn events_come_out_one_by_one() {
        let content = [event(2, b"BEGIN"), event(16, &[0; 8]), event(30, &vec![7; 100_000])].concat();
        assert_eq!(kinds(&packed(&content)), Ok(vec![2, 16, 30]));
    }

    #[test]
    fn what_ends_within_an_event_is_an_error_and_not_a_shorter_transaction() {
        let content = [event(2, b"BEGIN"), event(16, &[0; 8])].concat();
        for len in (1..content.len()).filter(|len| *len != HEADER_BYTES + 5) {
            assert_eq!(kinds(&packed(&content[..len])), Err(CANNOT), "{len} bytes");
        }
        let mut damaged = packed(&content);
        let last = damaged.len() - 6;
        damaged[last] ^= 0xff;
        assert!(kinds(&damaged).is_err() || kinds(&damaged) != Ok(vec![2, 16]));
    }
}
