//! The event that opens a transaction, in its three forms: MySQL's fixed one, MySQL's tagged one, MariaDB's.

use crate::event::{Flavour, Header, kind};
use crate::gtid::{Gtid, Tag, Uuid, mysql_number};
use crate::wire::{Bytes, Malformed};

/// What a transaction says of itself before it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GtidEvent {
    /// `None`: the source gives it no identity.
    pub(crate) gtid: Option<Gtid>,
    /// Microseconds since 1970-01-01 UTC.
    pub(crate) commit_time_us: i64,
    /// Bytes from the beginning of this event to the end of the transaction, where the source tells.
    pub(crate) length: Option<u64>,
    pub(crate) shape: Shape,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// MySQL: the next event decides.
    Open,
    /// MariaDB: rows up to a commit; no BEGIN follows.
    Rows,
    /// MariaDB: one statement, which commits by itself.
    Statement,
    /// MariaDB: rows up to XA PREPARE; they count only at a later XA COMMIT.
    XaPrepare,
    /// MariaDB: XA COMMIT or XA ROLLBACK of what was prepared earlier.
    XaComplete,
}

impl GtidEvent {
    pub(crate) fn read(header: &Header, body: &[u8]) -> Result<GtidEvent, Malformed> {
        match header.kind {
            kind::MARIADB_GTID => mariadb(header, body),
            kind::GTID_TAGGED => tagged(header, body),
            _ => fixed(header, body),
        }
    }

    pub(crate) fn flavour(&self) -> Flavour {
        if self.shape == Shape::Open { Flavour::MySql } else { Flavour::MariaDb }
    }
}

fn seconds(header: &Header) -> i64 {
    i64::from(header.timestamp) * 1_000_000
}

fn fixed(header: &Header, body: &[u8]) -> Result<GtidEvent, Malformed> {
    const LOGICAL_TIMESTAMPS: u8 = 2;
    const HAS_ORIGINAL: u64 = 1 << 55;
    let mut b = Bytes(body);
    b.u8()?;
    let uuid = Uuid(b.array()?);
    let number = b.u64()?;
    // An anonymous transaction has the number zero.
    let gtid = match header.kind {
        kind::GTID => Some(Gtid::MySql { uuid, tag: Tag::default(), number: mysql_number(number)? }),
        _ => None,
    };
    let mut event = GtidEvent { gtid, commit_time_us: seconds(header), length: None, shape: Shape::Open };
    // Each release since 5.7 added fields at the end.
    if b.u8() != Ok(LOGICAL_TIMESTAMPS) || b.take(16).is_err() || b.0.is_empty() {
        return Ok(event);
    }
    let committed = b.uint(7)?;
    if committed & HAS_ORIGINAL != 0 {
        b.take(7)?;
    }
    event.commit_time_us = (committed & !HAS_ORIGINAL) as i64;
    event.length = if b.0.is_empty() { None } else { Some(b.length()?) };
    Ok(event)
}

/// MySQL 8.3 and newer: numbered fields of variable length.
fn tagged(header: &Header, body: &[u8]) -> Result<GtidEvent, Malformed> {
    const VERSION: u8 = 2;
    let mut b = Bytes(body);
    if b.u8()? != VERSION {
        return Err(Malformed("a tagged GTID is serialized in a way that we do not know"));
    }
    let size = usize::try_from(b.varlen()?).unwrap_or(usize::MAX);
    let needed = b.varlen()?;
    let head = body.len() - b.0.len();
    let mut b = Bytes(b.take(size.checked_sub(head).ok_or(Malformed("a tagged GTID is too short"))?)?);
    let (mut uuid, mut tag, mut number) = (Uuid([0; 16]), Tag::default(), None);
    let mut event =
        GtidEvent { gtid: None, commit_time_us: seconds(header), length: None, shape: Shape::Open };
    while !b.0.is_empty() {
        match b.varlen()? {
            0 | 9 | 10 | 11 | 7 => drop(b.varlen()?),
            1 => {
                for byte in &mut uuid.0 {
                    *byte = u8::try_from(b.varlen()?).map_err(|_| Malformed("a UUID has a byte over 255"))?;
                }
            }
            2 => number = Some(mysql_number(signed(b.varlen()?)?)?),
            3 => tag = read_tag(&mut b)?,
            4 | 5 => drop(signed(b.varlen()?)?),
            6 => event.commit_time_us = b.varlen()? as i64,
            8 => event.length = Some(b.varlen()?),
            unknown if unknown > needed => break,
            _ => return Err(Malformed("a tagged GTID has a field that we do not know and may not skip")),
        }
    }
    let number = number.ok_or(Malformed("a tagged GTID has no number"))?;
    event.gtid = Some(Gtid::MySql { uuid, tag, number });
    Ok(event)
}

/// Signed fields are serialized with their sign in the lowest bit; none of ours may be negative.
fn signed(value: u64) -> Result<u64, Malformed> {
    match value & 1 {
        0 => Ok(value >> 1),
        _ => Err(Malformed("a tagged GTID has a negative number")),
    }
}

fn read_tag(b: &mut Bytes<'_>) -> Result<Tag, Malformed> {
    let length = usize::try_from(b.varlen()?).unwrap_or(usize::MAX);
    Tag::new(b.take(length)?).ok_or(Malformed("a GTID has an impossible tag"))
}

fn mariadb(header: &Header, body: &[u8]) -> Result<GtidEvent, Malformed> {
    const STANDALONE: u8 = 0x01;
    const PREPARED_XA: u8 = 0x40;
    const COMPLETED_XA: u8 = 0x80;
    let mut b = Bytes(body);
    let sequence = b.u64()?;
    let domain = b.u32()?;
    let flags = b.u8()?;
    let shape = match flags {
        f if f & PREPARED_XA != 0 => Shape::XaPrepare,
        f if f & COMPLETED_XA != 0 => Shape::XaComplete,
        f if f & STANDALONE != 0 => Shape::Statement,
        _ => Shape::Rows,
    };
    let gtid = Some(Gtid::MariaDb { domain, server: header.server_id, sequence });
    Ok(GtidEvent { gtid, commit_time_us: seconds(header), length: None, shape })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn header(kind: u8) -> Header {
        Header { timestamp: 9, kind, server_id: 5, size: 0, log_pos: 0, flags: 0 }
    }

    fn fixed_body() -> Vec<u8> {
        let mut body = vec![0];
        body.extend_from_slice(&[0xab; 16]);
        body.extend_from_slice(&77u64.to_le_bytes());
        body.push(2);
        body.extend_from_slice(&[0; 16]);
        body.extend_from_slice(&1_700_000_000_123_456u64.to_le_bytes()[..7]);
        body.extend_from_slice(&[252, 0x34, 0x12]);
        body.extend_from_slice(&[0; 4]);
        body
    }

    #[test]
    fn the_fixed_form_tells_identity_time_and_length() {
        let event = GtidEvent::read(&header(kind::GTID), &fixed_body()).unwrap();
        assert_eq!(event.gtid.unwrap().to_string(), "abababab-abab-abab-abab-abababababab:77");
        assert_eq!((event.commit_time_us, event.length), (1_700_000_000_123_456, Some(0x1234)));
        let mut anonymous = fixed_body();
        anonymous[1..25].fill(0);
        let event = GtidEvent::read(&header(kind::ANONYMOUS_GTID), &anonymous).unwrap();
        assert_eq!(event.gtid, None);
        assert!(GtidEvent::read(&header(kind::GTID), &anonymous).is_err(), "zero is no GTID");
    }

    #[test]
    fn a_release_without_commit_times_gives_the_header_s_seconds() {
        let event = GtidEvent::read(&header(kind::GTID), &fixed_body()[..25]).unwrap();
        assert_eq!((event.commit_time_us, event.length), (9_000_000, None));
    }

    #[test]
    fn the_original_commit_time_of_a_replica_is_passed_over() {
        let mut body = fixed_body();
        body[48] |= 0x80;
        body.splice(49..49, [1; 7]);
        let event = GtidEvent::read(&header(kind::GTID), &body).unwrap();
        assert_eq!((event.commit_time_us, event.length), (1_700_000_000_123_456, Some(0x1234)));
    }

    #[test]
    fn mariadb_s_flags_tell_what_follows() {
        for (flags, shape) in [
            (0x0c, Shape::Rows),
            (0x29, Shape::Statement),
            (0x40, Shape::XaPrepare),
            (0x81, Shape::XaComplete),
        ] {
            let mut body = 300u64.to_le_bytes().to_vec();
            body.extend_from_slice(&2u32.to_le_bytes());
            body.push(flags);
            let event = GtidEvent::read(&header(kind::MARIADB_GTID), &body).unwrap();
            assert_eq!((event.shape, event.gtid.unwrap().to_string()), (shape, "2-5-300".to_owned()));
        }
    }
}
