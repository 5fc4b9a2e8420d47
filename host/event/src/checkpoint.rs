//! How far a consumer is. One small, versioned, checksummed record that is portable between relays: one
//! that holds the timeline seeks by SCN, another resolves by the GTID set. A damaged record is an error,
//! never "start over".
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `TMCP` |
//! | 4 | CRC-32C of all that follows |
//! | 1 | version: 1 of the stream, which earlier releases read too; 2 of a snapshot or of deltas |
//! | … | source, server (texts), timeline (u32), scn (u64), gtid set (text), phase tag (u8): 3 stream; 4 snapshot, 5 deltas, each with version (u64), table (text), after (bytes) |

use crate::wire::{Malformed, Reader, Writer};
use crate::{Position, Scn};

/// Where a consumer stands within its one timeline of snapshot, deltas and stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// It had nothing, and reads a snapshot: it will be at the checkpoint's position, or later, when that is done.
    Snapshot(Cursor),
    /// It had everything up to the checkpoint's position, and reads for every key that changed since then its last state.
    Deltas(Cursor),
    /// It reads the live stream.
    #[default]
    Stream,
}

/// How far it is in reading snapshot storage: everything up to the cursor is committed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The manifest that is read.
    pub version: u64,
    /// The table in hand, `database.table`; those before it by name are done. Empty: none is begun.
    pub table: String,
    /// The last key that is done, in the key encoding of snapshot storage; empty: none is.
    pub after: Vec<u8>,
}

/// How far a consumer is: everything up to and with `position` is committed on its side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The source's name.
    pub source: String,
    /// The identity of the server whose clock `position` is.
    pub server: String,
    /// The last committed position.
    pub position: Position,
    /// The set of transactions executed up to there, in the source's own text form; empty where it has none.
    pub gtid_set: String,
    /// The phase.
    pub phase: Phase,
}

/// Why a checkpoint record could not be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The bytes are not those that were written.
    #[error(
        "the checkpoint record is damaged ({0}); restore it from a copy, or remove it and give the subscription an explicit `start`"
    )]
    Damaged(&'static str),
    /// Written by a newer release.
    #[error(
        "the checkpoint record has version {0}, this release reads versions 1 and 2; use the release that wrote it"
    )]
    Version(u8),
}

impl From<Malformed> for CheckpointError {
    fn from(m: Malformed) -> Self {
        CheckpointError::Damaged(m.what)
    }
}

const MAGIC: &[u8; 4] = b"TMCP";
/// Of a checkpoint of the stream. Its other phases had a form that no release wrote.
const STREAM_VERSION: u8 = 1;
const VERSION: u8 = 2;

impl Checkpoint {
    /// The record's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::default();
        w.u8(if self.phase == Phase::Stream { STREAM_VERSION } else { VERSION });
        w.text(&self.source);
        w.text(&self.server);
        w.u32(self.position.timeline);
        w.u64(self.position.scn.0);
        w.text(&self.gtid_set);
        match &self.phase {
            Phase::Snapshot(cursor) => cursor.encode(4, &mut w),
            Phase::Deltas(cursor) => cursor.encode(5, &mut w),
            Phase::Stream => w.u8(3),
        }
        let mut record = MAGIC.to_vec();
        record.extend_from_slice(&crc32c::crc32c(&w.0).to_le_bytes());
        record.extend_from_slice(&w.0);
        record
    }

    /// The checkpoint of a record.
    pub fn decode(record: &[u8]) -> Result<Checkpoint, CheckpointError> {
        let body = checked_body(record)?;
        let mut r = Reader::new(body);
        match r.u8()? {
            STREAM_VERSION | VERSION => {}
            other => return Err(CheckpointError::Version(other)),
        }
        let source = r.text()?.to_owned();
        let server = r.text()?.to_owned();
        let position = Position { timeline: r.u32()?, scn: Scn(r.u64()?) };
        let gtid_set = r.text()?.to_owned();
        let phase = match r.u8()? {
            3 => Phase::Stream,
            4 => Phase::Snapshot(Cursor::decode(&mut r)?),
            5 => Phase::Deltas(Cursor::decode(&mut r)?),
            _ => return Err(CheckpointError::Damaged("an unknown phase")),
        };
        r.end()?;
        Ok(Checkpoint { source, server, position, gtid_set, phase })
    }
}

impl Cursor {
    fn encode(&self, tag: u8, w: &mut Writer) {
        w.u8(tag);
        w.u64(self.version);
        w.text(&self.table);
        w.bytes(&self.after);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Cursor, Malformed> {
        Ok(Cursor { version: r.u64()?, table: r.text()?.to_owned(), after: r.bytes()?.to_vec() })
    }
}

fn checked_body(record: &[u8]) -> Result<&[u8], CheckpointError> {
    if record.len() < 9 {
        return Err(CheckpointError::Damaged("it is too short"));
    }
    if &record[..4] != MAGIC {
        return Err(CheckpointError::Damaged("it does not begin as a checkpoint does"));
    }
    let crc = u32::from_le_bytes(record[4..8].try_into().expect("four bytes"));
    if crc32c::crc32c(&record[8..]) != crc {
        return Err(CheckpointError::Damaged("its checksum does not fit"));
    }
    Ok(&record[8..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples() -> Vec<Checkpoint> {
        let cursor = Cursor { version: 7, table: "shop.orders".into(), after: vec![0, 255, 7] };
        let phases = [Phase::Stream, Phase::Deltas(Cursor::default()), Phase::Snapshot(cursor)];
        let of = |phase| Checkpoint {
            source: "shop".into(),
            server: "3e11fa47-71ca-11e1-9e33-c80aa9429562".into(),
            position: Position { timeline: 2, scn: Scn(1 << 40 | 1234) },
            gtid_set: "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:9".into(),
            phase,
        };
        phases.into_iter().map(of).collect()
    }

    #[test]
    fn a_checkpoint_survives_its_record() {
        for checkpoint in examples() {
            assert_eq!(Checkpoint::decode(&checkpoint.encode()), Ok(checkpoint));
        }
    }

    #[test]
    fn every_truncation_and_every_flipped_bit_is_reported_and_never_read() {
        for checkpoint in examples() {
            let record = checkpoint.encode();
            for len in 0..record.len() {
                assert!(Checkpoint::decode(&record[..len]).is_err(), "{len} bytes");
            }
            for bit in 0..record.len() * 8 {
                let mut flipped = record.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(Checkpoint::decode(&flipped).is_err(), "bit {bit}");
            }
        }
    }
}
