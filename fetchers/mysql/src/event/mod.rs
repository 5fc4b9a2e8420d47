//! Events as the log holds them: header, checksum, and the bodies of those that do not carry rows.

mod control;
mod gtid;
mod query;

pub(crate) use control::{
    FormatDescription, Heartbeat, Packing, Rotate, inflate, inflate_rows, payload_parts,
};
pub(crate) use gtid::{GtidEvent, Shape};
pub(crate) use query::Query;

use crate::wire::{Bytes, Malformed};

/// Which family wrote the log: they share most events and differ in the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    MySql,
    MariaDb,
}

/// Bytes of an event's header.
pub(crate) const HEADER_BYTES: usize = 19;
/// Bytes of an event's checksum.
pub(crate) const CHECKSUM_BYTES: usize = 4;

/// Numbers of the event types, as both families assign them.
pub(crate) mod kind {
    pub(crate) const QUERY: u8 = 2;
    pub(crate) const STOP: u8 = 3;
    pub(crate) const ROTATE: u8 = 4;
    pub(crate) const INTVAR: u8 = 5;
    pub(crate) const APPEND_BLOCK: u8 = 9;
    pub(crate) const DELETE_FILE: u8 = 11;
    pub(crate) const RAND: u8 = 13;
    pub(crate) const USER_VAR: u8 = 14;
    pub(crate) const FORMAT_DESCRIPTION: u8 = 15;
    pub(crate) const XID: u8 = 16;
    pub(crate) const BEGIN_LOAD_QUERY: u8 = 17;
    pub(crate) const EXECUTE_LOAD_QUERY: u8 = 18;
    pub(crate) const TABLE_MAP: u8 = 19;
    pub(crate) const WRITE_ROWS_V1: u8 = 23;
    pub(crate) const UPDATE_ROWS_V1: u8 = 24;
    pub(crate) const DELETE_ROWS_V1: u8 = 25;
    pub(crate) const INCIDENT: u8 = 26;
    pub(crate) const HEARTBEAT: u8 = 27;
    pub(crate) const IGNORABLE: u8 = 28;
    pub(crate) const ROWS_QUERY: u8 = 29;
    pub(crate) const WRITE_ROWS: u8 = 30;
    pub(crate) const UPDATE_ROWS: u8 = 31;
    pub(crate) const DELETE_ROWS: u8 = 32;
    pub(crate) const GTID: u8 = 33;
    pub(crate) const ANONYMOUS_GTID: u8 = 34;
    pub(crate) const PREVIOUS_GTIDS: u8 = 35;
    pub(crate) const TRANSACTION_CONTEXT: u8 = 36;
    pub(crate) const VIEW_CHANGE: u8 = 37;
    pub(crate) const XA_PREPARE: u8 = 38;
    pub(crate) const PARTIAL_UPDATE_ROWS: u8 = 39;
    pub(crate) const TRANSACTION_PAYLOAD: u8 = 40;
    pub(crate) const HEARTBEAT_V2: u8 = 41;
    pub(crate) const GTID_TAGGED: u8 = 42;
    pub(crate) const ANNOTATE_ROWS: u8 = 160;
    pub(crate) const BINLOG_CHECKPOINT: u8 = 161;
    pub(crate) const MARIADB_GTID: u8 = 162;
    pub(crate) const GTID_LIST: u8 = 163;
    pub(crate) const START_ENCRYPTION: u8 = 164;
    pub(crate) const QUERY_COMPRESSED: u8 = 165;
    pub(crate) const WRITE_ROWS_COMPRESSED: u8 = 166;
    pub(crate) const UPDATE_ROWS_COMPRESSED: u8 = 167;
    pub(crate) const DELETE_ROWS_COMPRESSED: u8 = 168;

    /// Whether it makes up transactions, so that it never stands outside one.
    pub(crate) fn is_of_transactions(kind: u8) -> bool {
        is_rows(kind)
            || matches!(kind, QUERY | QUERY_COMPRESSED | XID | TABLE_MAP | TRANSACTION_PAYLOAD | XA_PREPARE)
    }

    /// Whether events of that type carry rows.
    pub(crate) fn is_rows(kind: u8) -> bool {
        matches!(
            kind,
            WRITE_ROWS_V1..=DELETE_ROWS_V1
                | WRITE_ROWS..=DELETE_ROWS
                | PARTIAL_UPDATE_ROWS
                | WRITE_ROWS_COMPRESSED..=DELETE_ROWS_COMPRESSED
        )
    }
}

/// Made up by the server for this reader; it is in no file.
const FLAG_ARTIFICIAL: u16 = 0x20;
/// A reader that does not know the type may skip it.
const FLAG_IGNORABLE: u16 = 0x80;
/// The file of this format description was not closed in an orderly way.
pub(crate) const FLAG_IN_USE: u16 = 0x1;

/// An event's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Seconds since 1970-01-01 UTC.
    pub(crate) timestamp: u32,
    pub(crate) kind: u8,
    pub(crate) server_id: u32,
    /// Of the whole event: header, body and checksum.
    pub(crate) size: u32,
    /// Where the event ends in its file, modulo 2^32; zero where it is in no file.
    pub(crate) log_pos: u32,
    pub(crate) flags: u16,
}

impl Header {
    pub(crate) fn read(bytes: &[u8]) -> Result<Header, Malformed> {
        let mut b = Bytes(bytes);
        let header = Header {
            timestamp: b.u32()?,
            kind: b.u8()?,
            server_id: b.u32()?,
            size: b.u32()?,
            log_pos: b.u32()?,
            flags: b.u16()?,
        };
        match (header.size as usize) < HEADER_BYTES {
            true => Err(Malformed("an event is shorter than its header")),
            false => Ok(header),
        }
    }

    pub(crate) fn is_artificial(&self) -> bool {
        self.flags & FLAG_ARTIFICIAL != 0
    }

    pub(crate) fn is_ignorable(&self) -> bool {
        self.flags & FLAG_IGNORABLE != 0
    }
}

/// An event whose checksum, where it has one, was verified and taken off.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawEvent<'a> {
    pub(crate) header: Header,
    pub(crate) body: &'a [u8],
}

/// Whether events end with a checksum. Each file's format description says it; before the first one there is none.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Checksums {
    used: bool,
}

impl Checksums {
    /// The event that these bytes are, header first and exactly as long as the header says.
    pub(crate) fn open<'a>(&mut self, event: &'a [u8]) -> Result<RawEvent<'a>, Malformed> {
        let header = Header::read(event)?;
        if event.len() != header.size as usize {
            return Err(Malformed("an event's length is not what its header says"));
        }
        let body = &event[HEADER_BYTES..];
        if header.kind == kind::FORMAT_DESCRIPTION {
            return self.open_format_description(header, event);
        }
        if self.used {
            verify(event, 0)?;
            return Ok(RawEvent { header, body: &body[..body.len() - CHECKSUM_BYTES] });
        }
        if header.is_artificial() && header.log_pos == 0 && verify(event, 0).is_ok() {
            // The first, artificial rotate of some releases has one although nothing has announced it yet.
            return Ok(RawEvent { header, body: &body[..body.len() - CHECKSUM_BYTES] });
        }
        Ok(RawEvent { header, body })
    }

    /// A format description always has room for a checksum, and says before it which algorithm is used from here on.
    fn open_format_description<'a>(
        &mut self,
        header: Header,
        event: &'a [u8],
    ) -> Result<RawEvent<'a>, Malformed> {
        let body = &event[HEADER_BYTES..];
        let rest = body
            .len()
            .checked_sub(CHECKSUM_BYTES + 1)
            .ok_or(Malformed("a format description is too short"))?;
        self.used = match body[rest] {
            0 => false,
            1 => true,
            _ => return Err(Malformed("the checksum algorithm is unknown")),
        };
        if self.used {
            // Computed before the file was marked as in use.
            verify(event, FLAG_IN_USE)?;
        }
        Ok(RawEvent { header, body: &body[..=rest] })
    }
}

/// Compares the checksum at the end of the event with that of its bytes, taking `cleared` flags as not set.
fn verify(event: &[u8], cleared: u16) -> Result<(), Malformed> {
    const FLAGS_AT: usize = 17;
    let split = event.len().checked_sub(CHECKSUM_BYTES).filter(|n| *n >= HEADER_BYTES);
    let (bytes, checksum) = event.split_at(split.ok_or(Malformed("an event is too short for its checksum"))?);
    let mut hasher = crc32fast::Hasher::new();
    let flags = u16::from_le_bytes([bytes[FLAGS_AT], bytes[FLAGS_AT + 1]]);
    if flags & cleared == 0 {
        // Nearly all events: in one piece, since most are so short that each piece costs more than its bytes.
        hasher.update(bytes);
    } else {
        hasher.update(&bytes[..FLAGS_AT]);
        hasher.update(&(flags & !cleared).to_le_bytes());
        hasher.update(&bytes[HEADER_BYTES..]);
    }
    match hasher.finalize().to_le_bytes() == checksum {
        true => Ok(()),
        false => Err(Malformed("an event's checksum does not fit its bytes")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn event(kind: u8, flags: u16, body: &[u8], checksum: bool) -> Vec<u8> {
        let size = HEADER_BYTES + body.len() + if checksum { CHECKSUM_BYTES } else { 0 };
        let mut event = 7u32.to_le_bytes().to_vec();
        event.push(kind);
        event.extend_from_slice(&1u32.to_le_bytes());
        event.extend_from_slice(&(size as u32).to_le_bytes());
        event.extend_from_slice(&0u32.to_le_bytes());
        event.extend_from_slice(&flags.to_le_bytes());
        event.extend_from_slice(body);
        if checksum {
            let crc = crc32fast::hash(&event);
            event.extend_from_slice(&crc.to_le_bytes());
        }
        event
    }

    fn announced() -> Checksums {
        let mut checksums = Checksums::default();
        checksums.open(&event(kind::FORMAT_DESCRIPTION, 0, &[0, 0, 1], true)).unwrap();
        checksums
    }

    #[test]
    fn l36_a_checksum_is_taken_off_once_it_is_announced() {
        let xid = event(kind::XID, 0, &[1, 2, 3, 4, 5, 6, 7, 8], true);
        assert_eq!(Checksums::default().open(&xid).unwrap().body.len(), 12);
        assert_eq!(announced().open(&xid).unwrap().body, [1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn l36_every_flipped_bit_of_an_event_is_found() {
        let whole = event(kind::XID, 0, &[1, 2, 3, 4, 5, 6, 7, 8], true);
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(announced().open(&flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn l36_l70_the_first_artificial_rotate_may_have_a_checksum_or_none() {
        for checksum in [false, true] {
            let rotate = event(kind::ROTATE, FLAG_ARTIFICIAL, b"\x04\0\0\0\0\0\0\0binlog.000001", checksum);
            assert_eq!(&Checksums::default().open(&rotate).unwrap().body[8..], b"binlog.000001");
        }
    }

    #[test]
    fn l70_a_format_description_that_is_in_use_keeps_its_checksum() {
        let mut description = event(kind::FORMAT_DESCRIPTION, 0, &[0, 0, 1], true);
        description[17] |= FLAG_IN_USE as u8;
        assert!(Checksums::default().open(&description).is_ok());
    }
}
