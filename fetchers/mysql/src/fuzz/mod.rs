//! What a fuzzer drives: for each parser of outside bytes a function that takes any bytes and checks what must hold of
//! the result. `cargo fuzz` reaches them through the feature `fuzzing` (`fuzz/README.md`); the tests run each over its
//! corpus and seeded mutations of it. A release holds none of this.

mod stream;
#[cfg(test)]
mod tests;
mod values;

use std::io::Read;

use tidemill_event::TableName;

use crate::ddl;
use crate::event::{
    CHECKSUM_BYTES, Checksums, Flavour, FormatDescription, GtidEvent, HEADER_BYTES, Header, Heartbeat,
    Packing, Query, Rotate, inflate, inflate_rows, kind, payload_parts,
};
use crate::gtid::{MariaDbSet, MySqlSet, encode_mysql, parse_set, read_mariadb, read_mysql};
use crate::settings::{BadText, ValuePolicy, ZeroDates};
use crate::transport::Payload;
use crate::value::compressed as column;
use crate::wire::Bytes;
use crate::xa::Xid;

pub use values::{charset, decimal, json, json_difference, rows, table_map, temporal};

/// A function over any bytes; it panics where something does not hold.
pub type Target = fn(&[u8]);

/// Every target, by the name of its file and of its corpus.
pub const TARGETS: [(&str, Target); 14] = [
    ("event", event),
    ("control", control),
    ("gtid_set", gtid_set),
    ("payload", payload),
    ("compressed", compressed),
    ("ddl", definition),
    ("table_map", table_map),
    ("rows", rows),
    ("json", json),
    ("json_difference", json_difference),
    ("decimal", decimal),
    ("temporal", temporal),
    ("charset", charset),
    ("stream", stream),
];

/// What a compressed transaction may unpack to here. Beyond it only the protocol's own limit holds, a GiB an event.
const UNPACKED_BYTES_MAX: u64 = 4 << 20;

fn flavour(mode: u8) -> Flavour {
    if mode & 1 == 0 { Flavour::MySql } else { Flavour::MariaDb }
}

fn policy(mode: u8) -> ValuePolicy {
    ValuePolicy {
        zero_dates: if mode & 0x40 == 0 { ZeroDates::Error } else { ZeroDates::Null },
        bad_text: if mode & 0x80 == 0 { BadText::Error } else { BadText::Replace },
    }
}

fn header(kind: u8, body: &[u8]) -> Header {
    let size = (HEADER_BYTES + body.len()) as u32;
    Header { timestamp: 1, kind, server_id: 1, size, log_pos: 0, flags: 0 }
}

/// An event with its size and its checksum put right.
fn sealed(event: &[u8]) -> Vec<u8> {
    let mut sealed = event.to_vec();
    sealed[9..13].copy_from_slice(&((event.len() + CHECKSUM_BYTES) as u32).to_le_bytes());
    let checksum = crc32fast::hash(&sealed);
    sealed.extend_from_slice(&checksum.to_le_bytes());
    sealed
}

/// Header and checksum of one event, then its body. The first byte: whether checksums were announced, and whether the
/// event gets a right one.
pub fn event(data: &[u8]) {
    let Some((mode, data)) = data.split_first() else { return };
    let mut checksums = Checksums::default();
    if mode & 1 != 0 {
        let mut announcement = vec![0; HEADER_BYTES + 2];
        announcement[4] = kind::FORMAT_DESCRIPTION;
        announcement.push(1);
        checksums.open(&sealed(&announcement)).expect("an announcement of checksums with a right one");
    }
    let mut bytes = data.to_vec();
    if mode & 2 != 0 && data.len() >= HEADER_BYTES {
        bytes = sealed(data);
    }
    let Ok(event) = checksums.open(&bytes) else { return };
    let taken_off = bytes.len() - HEADER_BYTES - event.body.len();
    assert!(taken_off == 0 || taken_off == CHECKSUM_BYTES, "a body is what header and checksum leave");
    body(&event.header, event.body);
}

/// The body of an event that carries no rows. The first byte is its type.
pub fn control(data: &[u8]) {
    if let Some((kind, data)) = data.split_first() {
        body(&header(*kind, data), data);
    }
}

fn body(header: &Header, body: &[u8]) {
    match header.kind {
        kind::FORMAT_DESCRIPTION => drop(FormatDescription::read(body)),
        kind::ROTATE => drop(Rotate::read(body)),
        kind::HEARTBEAT => drop(Heartbeat::read(body)),
        kind::QUERY => query(body),
        kind::QUERY_COMPRESSED => drop(inflate(body).map(|body| query(&body))),
        kind::GTID | kind::ANONYMOUS_GTID | kind::GTID_TAGGED | kind::MARIADB_GTID => gtid(header, body),
        kind::PREVIOUS_GTIDS => mysql_set(read_mysql(body).ok()),
        kind::GTID_LIST => mariadb_set(read_mariadb(Bytes(body)).ok()),
        kind::TRANSACTION_PAYLOAD => payload(body),
        kind::XA_PREPARE => {
            let Ok((_, xid)) = Xid::read(body) else { return };
            assert_eq!(Xid::parse(&format!("XA COMMIT {xid}")), Some(xid), "an id survives its text");
        }
        _ => {}
    }
}

fn query(body: &[u8]) {
    let Ok(query) = Query::read(body) else { return };
    let text = String::from_utf8_lossy;
    ddl::meaning(&text(query.statement), &text(query.database), query.ansi_quotes);
}

fn gtid(header: &Header, body: &[u8]) {
    let Ok(event) = GtidEvent::read(header, body) else { return };
    let Some(gtid) = &event.gtid else { return };
    let mut set = parse_set(event.flavour(), "").expect("nothing is the empty set");
    set.add(gtid);
    assert!(set.contains(gtid), "a set has what was added");
    let again = parse_set(event.flavour(), &set.to_string());
    assert_eq!(again.as_ref(), Ok(&set), "a set survives its text");
}

/// Sets of GTIDs. The first byte: the family, and whether it is a text or bytes.
pub fn gtid_set(data: &[u8]) {
    let Some((mode, data)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(data);
    match (flavour(*mode), mode & 2 == 0) {
        (Flavour::MySql, true) => mysql_set(MySqlSet::parse(&text).ok()),
        (Flavour::MySql, false) => mysql_set(read_mysql(data).ok()),
        (Flavour::MariaDb, true) => mariadb_set(MariaDbSet::parse(&text).ok()),
        (Flavour::MariaDb, false) => mariadb_set(read_mariadb(Bytes(data)).ok()),
    }
}

fn mysql_set(set: Option<MySqlSet>) {
    let Some(set) = set else { return };
    assert_eq!(MySqlSet::parse(&set.to_string()).as_ref(), Ok(&set), "a set survives its text");
    assert_eq!(read_mysql(&encode_mysql(&set)).as_ref(), Ok(&set), "a set survives its bytes");
    assert!(set.minus(&set).is_empty(), "nothing is left of a set without itself");
    assert_eq!(set.minus(&MySqlSet::default()), set, "a set without nothing is itself");
}

fn mariadb_set(set: Option<MariaDbSet>) {
    let Some(set) = set else { return };
    assert_eq!(MariaDbSet::parse(&set.to_string()).as_ref(), Ok(&set), "a set survives its text");
    assert!(set.minus(&set).is_empty(), "nothing is left of a set without itself");
    assert_eq!(set.minus(&MariaDbSet::default()), set, "a set without nothing is itself");
}

/// Whether a compressed transaction unpacks to what may be held here.
fn unpacks_to_little(body: &[u8]) -> bool {
    match payload_parts(body) {
        Ok((Packing::Zstd, content)) => {
            let unpacked = zstd::Decoder::new(content).map(|d| d.take(UNPACKED_BYTES_MAX + 1));
            let length = unpacked.and_then(|mut unpacked| std::io::copy(&mut unpacked, &mut std::io::sink()));
            // What ends in an error gives no more than it gave so far.
            length.map_or(content.len() < 4096, |length| length <= UNPACKED_BYTES_MAX)
        }
        _ => true,
    }
}

/// The body of a TRANSACTION_PAYLOAD event, and the events within.
pub fn payload(data: &[u8]) {
    if !unpacks_to_little(data) {
        return;
    }
    let Ok(mut payload) = Payload::new(data) else { return };
    while let Ok(Some(event)) = payload.next() {
        assert_eq!(event.header.size as usize, HEADER_BYTES + event.body.len(), "an event is whole");
        if event.header.kind != kind::TRANSACTION_PAYLOAD {
            body(&event.header, event.body);
        }
    }
}

/// What MariaDB compresses. The first byte: a query, rows, rows with two images, or a column's value.
pub fn compressed(data: &[u8]) {
    let Some((mode, data)) = data.split_first() else { return };
    let plain = match mode % 4 {
        3 => return drop(column::inflate(data)),
        0 => inflate(data),
        is_update => inflate_rows(data, is_update == 2),
    };
    if let Ok(plain) = plain {
        let head = plain.iter().zip(data).take_while(|(a, b)| a == b).count();
        assert!(head >= 9, "what stands before the packed part stays");
    }
}

/// The text of a statement. Before the first zero byte: the current database; its first byte says what `"` encloses.
pub fn definition(data: &[u8]) {
    let Some((mode, data)) = data.split_first() else { return };
    let split = data.iter().position(|byte| *byte == 0).unwrap_or(0);
    let (database, statement) = data.split_at(split);
    let text = String::from_utf8_lossy;
    ddl::meaning(&text(statement), &text(database), mode & 1 != 0);
    ddl::read_statement(&TableName::new(text(database), "t"), &text(statement));
    Xid::parse(&text(statement));
}

/// A whole log: see [`stream`](mod@stream).
pub fn stream(data: &[u8]) {
    stream::run(data);
}
