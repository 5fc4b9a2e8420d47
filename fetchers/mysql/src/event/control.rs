//! Bodies of the events that say where and how: format description, rotate, heartbeat, compressed payload.

use std::io::Read;

use crate::event::Flavour;
use crate::limits::EVENT_BYTES_MAX;
use crate::wire::{Bytes, Malformed};

/// How the events of a file are laid out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FormatDescription {
    pub(crate) flavour: Flavour,
    pub(crate) server_version: String,
    /// Seconds since 1970-01-01 UTC where the server started with this file; zero otherwise.
    pub(crate) created: u32,
}

impl FormatDescription {
    pub(crate) fn read(body: &[u8]) -> Result<FormatDescription, Malformed> {
        const ROW_EVENT_HEADER: u8 = 8;
        const TABLE_MAP_AT: usize = 18;
        let mut b = Bytes(body);
        if b.u16()? != 4 {
            return Err(Malformed("the binlog has another version than 4"));
        }
        let version = b.take(50)?;
        let version = version.split(|c| *c == 0).next().unwrap_or_default();
        let server_version = String::from_utf8_lossy(version).into_owned();
        let created = b.u32()?;
        let header = b.u8()?;
        let table_map = b.0.get(TABLE_MAP_AT).copied();
        if header != 19 || table_map != Some(ROW_EVENT_HEADER) {
            return Err(Malformed(
                "the events have the layout of a release before MySQL 5.6 or MariaDB 10.0",
            ));
        }
        let flavour = if server_version.contains("MariaDB") { Flavour::MariaDb } else { Flavour::MySql };
        Ok(FormatDescription { flavour, server_version, created })
    }
}

/// Which file comes next, and where in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rotate<'a> {
    pub(crate) offset: u64,
    pub(crate) file: &'a str,
}

impl<'a> Rotate<'a> {
    pub(crate) fn read(body: &'a [u8]) -> Result<Rotate<'a>, Malformed> {
        let mut b = Bytes(body);
        let offset = b.u64()?;
        Ok(Rotate { offset, file: text(b.0)? })
    }
}

/// The server is there and has nothing new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heartbeat<'a> {
    /// Where the server stands.
    pub(crate) file: &'a str,
    /// In the second form; in the first it stands in the header, modulo 2^32.
    pub(crate) offset: Option<u64>,
}

impl<'a> Heartbeat<'a> {
    /// The first form: the body is the name.
    pub(crate) fn read(body: &'a [u8]) -> Result<Heartbeat<'a>, Malformed> {
        Ok(Heartbeat { file: text(body)?, offset: None })
    }

    /// The second form, of MySQL: numbered fields, of which later releases may have more.
    pub(crate) fn read_v2(body: &'a [u8]) -> Result<Heartbeat<'a>, Malformed> {
        const END: u64 = 0;
        const FILE: u64 = 1;
        const OFFSET: u64 = 2;
        let mut b = Bytes(body);
        let mut heartbeat = Heartbeat { file: "", offset: None };
        loop {
            let field = b.length()?;
            if field == END {
                return Ok(heartbeat);
            }
            let mut value = Bytes(b.counted()?);
            match field {
                FILE => heartbeat.file = text(value.0)?,
                OFFSET => heartbeat.offset = Some(value.length()?),
                _ => {}
            }
        }
    }
}

/// How the payload of a compressed transaction is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    Zstd,
    None,
}

/// Packing and content of a TRANSACTION_PAYLOAD event.
pub(crate) fn payload_parts(body: &[u8]) -> Result<(Packing, &[u8]), Malformed> {
    const END: u64 = 0;
    const SIZE: u64 = 1;
    const COMPRESSION: u64 = 2;
    let mut b = Bytes(body);
    let (mut packing, mut size) = (Packing::None, None);
    loop {
        let field = b.length()?;
        if field == END {
            break;
        }
        let mut value = Bytes(b.counted()?);
        match field {
            SIZE => size = Some(value.length()?),
            COMPRESSION => {
                packing = match value.length()? {
                    0 => Packing::Zstd,
                    255 => Packing::None,
                    _ => return Err(Malformed("a transaction is compressed in a way that we do not know")),
                }
            }
            _ => {}
        }
    }
    match size {
        Some(size) if size != b.0.len() as u64 => Err(Malformed("a compressed transaction has another size")),
        _ => Ok((packing, b.0)),
    }
}

/// A QUERY event's body of a QUERY_COMPRESSED event's one.
pub(crate) fn inflate(body: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut b = Bytes(body);
    b.take(8)?;
    let database = usize::from(b.u8()?);
    b.take(2)?;
    let status = usize::from(b.u16()?);
    inflate_from(body, 13 + status + database + 1)
}

/// A rows event's body of a compressed rows event's one: what follows the column bitmaps is packed.
pub(crate) fn inflate_rows(body: &[u8], is_update: bool) -> Result<Vec<u8>, Malformed> {
    let mut b = Bytes(body);
    b.take(8)?;
    let columns = b.length()?;
    let bitmap = usize::try_from(columns.div_ceil(8)).map_err(|_| Malformed("too many columns"))?;
    b.take(if is_update { bitmap.saturating_mul(2) } else { bitmap })?;
    inflate_from(body, body.len() - b.0.len())
}

fn inflate_from(body: &[u8], at: usize) -> Result<Vec<u8>, Malformed> {
    const MARK: u8 = 0x80;
    let mut b = Bytes(body);
    let mut whole = b.take(at)?.to_vec();
    let head = b.u8()?;
    let width = usize::from(head & 0x07);
    if head & MARK == 0 || (head >> 4) & 0x07 != 0 || !(1..=4).contains(&width) {
        return Err(Malformed("an event is compressed in a way that we do not know"));
    }
    let length = b.uint_be(width)?;
    if length > EVENT_BYTES_MAX as u64 {
        return Err(Malformed("a compressed event is too large"));
    }
    let mut inflater = flate2::read::ZlibDecoder::new(b.0).take(length + 1);
    let before = whole.len();
    inflater.read_to_end(&mut whole).map_err(|_| Malformed("a compressed event cannot be unpacked"))?;
    match (whole.len() - before) as u64 == length {
        true => Ok(whole),
        false => Err(Malformed("a compressed event has another length than it says")),
    }
}

fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed("a file name is not UTF-8"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::io::Write;

    fn zlib(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_compressed_rows_event_becomes_the_plain_one() {
        let head = [1, 0, 0, 0, 0, 0, 1, 0, 2, 0xff, 0xff];
        let rows = b"the rows".repeat(40);
        let mut packed = head.to_vec();
        packed.push(0x80 | 2);
        packed.extend_from_slice(&(rows.len() as u16).to_be_bytes());
        packed.extend_from_slice(&zlib(&rows));
        assert_eq!(inflate_rows(&packed, true).unwrap(), [&head[..], &rows].concat());
        for len in 0..packed.len() {
            assert!(inflate_rows(&packed[..len], true).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn a_compressed_query_becomes_the_plain_one() {
        let mut plain = vec![0; 8];
        plain.push(2);
        plain.extend_from_slice(&[0, 0, 0, 0]);
        plain.extend_from_slice(b"db\0");
        let mut packed = plain.clone();
        packed.push(0x80 | 1);
        packed.push(18);
        packed.extend_from_slice(&zlib(b"CREATE TABLE t (i)"));
        plain.extend_from_slice(b"CREATE TABLE t (i)");
        assert_eq!(inflate(&packed).unwrap(), plain);
        let query = crate::event::Query::read(&plain).unwrap();
        assert_eq!((query.database, query.statement), (&b"db"[..], &b"CREATE TABLE t (i)"[..]));
    }

    #[test]
    fn a_payload_that_is_cut_is_refused() {
        let body = [1, 1, 3, 2, 1, 0, 0, b'a', b'b', b'c'];
        assert_eq!(payload_parts(&body), Ok((Packing::Zstd, &b"abc"[..])));
        assert!(payload_parts(&body[..9]).is_err());
    }

    #[test]
    fn l73_a_heartbeat_of_the_second_form_tells_its_offset_in_64_bits_and_later_fields_are_passed_over() {
        let offset = (5u64 << 32) + 7;
        let mut body = vec![1, 13];
        body.extend_from_slice(b"binlog.000042");
        body.extend_from_slice(&[9, 2, 0, 0, 2, 9, 254]);
        body.extend_from_slice(&offset.to_le_bytes());
        body.push(0);
        assert_eq!(Heartbeat::read_v2(&body), Ok(Heartbeat { file: "binlog.000042", offset: Some(offset) }));
        for len in 0..body.len() {
            assert!(Heartbeat::read_v2(&body[..len]).is_err(), "{len} bytes");
        }
        assert_eq!(Heartbeat::read(b"binlog.000042").unwrap().offset, None);
    }
}
