//! One entry of the catalogue: a segment that lies in history. Its creation, which happens once for each sequence number,
//! is what puts the segment into history; the object that it names was verified before.
//!
//! A record (see `codec`) with magic `TMHE` and the fields header, index (records of their own, see `segment` and
//! `index`), object (text), checksum of the whole object (CRC-32C, u32), executed at its end (text), time of its last
//! append (i64, µs since 1970-01-01 UTC); then counted: tables (database, table: texts; schema id, offset of the frame of
//! its newest version: u64, u64). The object has as many bytes as the index says the segment has.

use std::sync::Arc;

use tidemill_event::{Position, SchemaId, TableName};

use crate::codec::{Builder, Fields, RecordError};
use crate::index::Index;
use crate::ring::Place;
use crate::segment::SegmentHeader;

const MAGIC: [u8; 4] = *b"TMHE";

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) header: Arc<SegmentHeader>,
    pub(crate) index: Index,
    /// The object's name below the source's prefix.
    pub(crate) object: String,
    pub(crate) crc: u32,
    /// The set of transactions executed at the segment's end.
    pub(crate) executed: Arc<str>,
    pub(crate) written_us: i64,
    pub(crate) tables: Vec<TableAt>,
}

/// The newest version of a table in a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableAt {
    pub(crate) name: TableName,
    pub(crate) id: SchemaId,
    pub(crate) offset: u64,
}

impl Entry {
    pub(crate) fn sequence(&self) -> u64 {
        self.header.sequence
    }

    /// Where its first frame begins: after the header, whose record is the same wherever it is made.
    pub(crate) fn first(&self) -> u64 {
        self.header.encode().len() as u64
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.index.length
    }

    pub(crate) fn end(&self) -> Position {
        Position { timeline: self.header.timeline.number, scn: self.index.end }
    }

    pub(crate) fn end_place(&self) -> Place {
        Place { sequence: self.sequence(), offset: self.index.length }
    }

    /// Whether both are of one segment. When it was written is told otherwise after a restart.
    pub(crate) fn is_same(&self, other: &Entry) -> bool {
        self.header == other.header && self.index == other.index && self.crc == other.crc
    }

    /// What it is, for messages.
    pub(crate) fn text(&self) -> String {
        segment_text(&self.header, self.end(), Some(self.crc))
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut b = Builder::new(MAGIC)
            .bytes(&self.header.encode())
            .bytes(&self.index.encode())
            .text(&self.object)
            .u32(self.crc)
            .text(&self.executed)
            .i64(self.written_us)
            .u32(self.tables.len() as u32);
        for table in &self.tables {
            b = b.text(&table.name.database).text(&table.name.table).u64(table.id.0).u64(table.offset);
        }
        b.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Entry, RecordError> {
        let mut f = Fields::open_whole(MAGIC, bytes)?;
        let header = Arc::new(SegmentHeader::decode(f.bytes()?)?);
        let index = Index::decode(f.bytes()?)?;
        let object = f.text()?.to_owned();
        let crc = f.u32()?;
        let executed = f.text()?.into();
        let written_us = f.i64()?;
        let count = f.count(24)?;
        let table = |f: &mut Fields<'_>| {
            let name = TableName::new(f.text()?, f.text()?);
            Ok(TableAt { name, id: SchemaId(f.u64()?), offset: f.u64()? })
        };
        let tables = (0..count).map(|_| table(&mut f)).collect::<Result<_, RecordError>>()?;
        Ok(Entry { header, index, object, crc, executed, written_us, tables })
    }
}

/// What a segment is, for messages.
pub(crate) fn segment_text(header: &SegmentHeader, end: Position, crc: Option<u32>) -> String {
    let crc = crc.map_or(String::new(), |crc| format!(", checksum {crc:08x}"));
    let (sequence, epoch, server) = (header.sequence, header.epoch, &header.timeline.server);
    format!("segment {sequence} of epoch {epoch}, {}..{end} of server {server}{crc}", header.start())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_event::{Scn, Timeline};

    fn entry() -> Entry {
        let timeline = Timeline { number: 2, server: "3e11fa47-71ca-11e1-9e33-c80aa9429562".into() };
        let header = SegmentHeader {
            sequence: 7,
            epoch: 3,
            timeline,
            after: Scn(154),
            source: "shop".into(),
            executed: "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-99".into(),
        };
        let name = TableName::new("shop", "orders");
        Entry {
            header: Arc::new(header),
            index: Index::new(Scn(154), 160),
            object: "segments/7.seg".into(),
            crc: 0xdead_beef,
            executed: "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-120".into(),
            written_us: 1_700_000_000_000_000,
            tables: vec![TableAt { name, id: SchemaId(9), offset: 160 }],
        }
    }

    #[test]
    fn an_entry_survives_its_record_and_every_truncation_and_flip_is_refused() {
        let record = entry().encode();
        assert_eq!(Entry::decode(&record), Ok(entry()));
        for len in 0..record.len() {
            assert!(Entry::decode(&record[..len]).is_err(), "{len} bytes");
        }
        for bit in 0..record.len() * 8 {
            let mut flipped = record.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Entry::decode(&flipped).is_err(), "bit {bit}");
        }
        assert!(Entry::decode(&[record, vec![0; 16]].concat()).is_err(), "bytes are left over");
    }

    #[test]
    fn a_segment_is_itself_whenever_it_was_written() {
        let later = Entry { written_us: 5, ..entry() };
        assert!(later.is_same(&entry()));
        assert!(!Entry { crc: 5, ..entry() }.is_same(&entry()));
    }
}
