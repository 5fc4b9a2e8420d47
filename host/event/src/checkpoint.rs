//! How far a consumer is. One small, versioned, checksummed record that is portable between relays: one
//! that holds the timeline seeks by SCN, another resolves by the GTID set. A damaged record is an error,
//! never "start over".
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `TMCP` |
//! | 4 | CRC-32C of all that follows |
//! | 1 | version, 1 |
//! | … | source, server (texts), timeline (u32), scn (u64), gtid set (text), phase tag (u8) and its fields |

use crate::wire::{Malformed, Reader, Writer};
use crate::{Position, Scn};

/// Where a consumer stands within its one timeline of snapshot, deltas and stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Reading snapshot storage.
    Snapshot {
        /// The manifest that is read.
        version: u64,
        /// The table in hand, `database.table`.
        table: String,
        /// The file within the table.
        file: u32,
        /// The row group within the file.
        row_group: u32,
    },
    /// Reading consolidated deltas.
    Deltas {
        /// What the consumer had when it started.
        since: Scn,
        /// What it will have at the end.
        upto: Scn,
    },
    /// Reading the live stream.
    Stream,
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
        "the checkpoint record has version {0}, this release reads version 1; use the release that wrote it"
    )]
    Version(u8),
}

impl From<Malformed> for CheckpointError {
    fn from(m: Malformed) -> Self {
        CheckpointError::Damaged(m.what)
    }
}

const MAGIC: &[u8; 4] = b"TMCP";
const VERSION: u8 = 1;

impl Checkpoint {
    /// The record's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::default();
        w.u8(VERSION);
        w.text(&self.source);
        w.text(&self.server);
        w.u32(self.position.timeline);
        w.u64(self.position.scn.0);
        w.text(&self.gtid_set);
        match &self.phase {
            Phase::Snapshot { version, table, file, row_group } => {
                w.u8(1);
                w.u64(*version);
                w.text(table);
                w.u32(*file);
                w.u32(*row_group);
            }
            Phase::Deltas { since, upto } => {
                w.u8(2);
                w.u64(since.0);
                w.u64(upto.0);
            }
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
            VERSION => {}
            other => return Err(CheckpointError::Version(other)),
        }
        let source = r.text()?.to_owned();
        let server = r.text()?.to_owned();
        let position = Position { timeline: r.u32()?, scn: Scn(r.u64()?) };
        let gtid_set = r.text()?.to_owned();
        let phase = match r.u8()? {
            1 => Phase::Snapshot {
                version: r.u64()?,
                table: r.text()?.to_owned(),
                file: r.u32()?,
                row_group: r.u32()?,
            },
            2 => Phase::Deltas { since: Scn(r.u64()?), upto: Scn(r.u64()?) },
            3 => Phase::Stream,
            _ => return Err(CheckpointError::Damaged("an unknown phase")),
        };
        r.end()?;
        Ok(Checkpoint { source, server, position, gtid_set, phase })
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
        let phases = [
            Phase::Stream,
            Phase::Deltas { since: Scn(3), upto: Scn(9) },
            Phase::Snapshot { version: 7, table: "shop.orders".into(), file: 2, row_group: 1 },
        ];
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
