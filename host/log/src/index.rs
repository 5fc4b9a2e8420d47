//! A segment's sparse index: from positions and commit times to byte offsets. Kept in memory, written beside the
//! segment when it is sealed, and made again from the segment whenever it is missing or damaged.
//!
//! `SEGMENT.idx`: a record (see `codec`) with magic `TMIX` and the fields segment length (u64), end SCN (u64),
//! first and greatest commit time (i64, i64); then counted: offsets of schema frames (u64), and points
//! (SCN before, offset, greatest commit time before: u64, u64, i64).

use tidemill_event::{Part, Scn, Window};

use crate::codec::{Builder, Fields, RecordError};
use crate::limits::INDEX_STRIDE_BYTES;

const MAGIC: [u8; 4] = *b"TMIX";

/// A place where a reader may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    /// Everything up to here came before.
    pub(crate) before: Scn,
    /// The offset of the window's frame.
    pub(crate) offset: u64,
    /// The greatest commit time of what came before in the segment.
    pub(crate) time_before_us: i64,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Index {
    /// Where the segment ends, for readers: after the last window that completes its transaction.
    pub(crate) length: u64,
    /// The position there.
    pub(crate) end: Scn,
    /// The commit time of its first transaction; the greatest time where it has none.
    pub(crate) first_time_us: i64,
    /// The greatest commit time; the least where it has no transaction.
    pub(crate) time_max_us: i64,
    /// Offsets of the frames that hold schemas.
    pub(crate) schemas: Vec<u64>,
    /// Places to begin, in order.
    pub(crate) points: Vec<Point>,
}

impl Index {
    /// The index of a segment that has a header of that length and nothing else.
    pub(crate) fn new(after: Scn, header_length: u64) -> Index {
        Index {
            length: header_length,
            end: after,
            first_time_us: i64::MAX,
            time_max_us: i64::MIN,
            schemas: Vec::new(),
            points: Vec::new(),
        }
    }

    /// Notes a window whose frame lies from `offset` to `end`.
    pub(crate) fn note(&mut self, window: &Window, offset: u64, end: u64) {
        let part = window.transactions.first().map_or(Part::Whole, |t| t.part);
        let begins = matches!(part, Part::Whole | Part::First);
        let far = self.points.last().is_none_or(|p| offset - p.offset >= INDEX_STRIDE_BYTES);
        if begins && far {
            let point = Point { before: window.span.after, offset, time_before_us: self.time_max_us };
            self.points.push(point);
        }
        for transaction in &window.transactions {
            self.first_time_us =
                if self.first_time_us == i64::MAX { transaction.commit_time_us } else { self.first_time_us };
            self.time_max_us = self.time_max_us.max(transaction.commit_time_us);
        }
        if part.completes() {
            (self.length, self.end) = (end, window.span.upto);
        }
    }

    /// As it is for readers: what comes after the last complete transaction is not part of the log.
    pub(crate) fn without_incomplete(&self) -> Index {
        let mut index = self.clone();
        index.schemas.retain(|offset| *offset < self.length);
        index.points.retain(|point| point.offset < self.length);
        index
    }

    /// Whether the segment has nothing for readers yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.points.first().is_none_or(|point| point.offset >= self.length)
    }

    /// The last place from which everything after `scn` is met.
    pub(crate) fn seek(&self, scn: Scn) -> Option<Point> {
        let after = self.points.partition_point(|p| p.before <= scn);
        after.checked_sub(1).map(|i| self.points[i])
    }

    /// The last place before which nothing committed at that time or later.
    pub(crate) fn seek_time(&self, time_us: i64) -> Option<Point> {
        let after = self.points.partition_point(|p| p.time_before_us < time_us);
        after.checked_sub(1).map(|i| self.points[i])
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut b = Builder::new(MAGIC)
            .u64(self.length)
            .u64(self.end.0)
            .i64(self.first_time_us)
            .i64(self.time_max_us)
            .u32(self.schemas.len() as u32);
        for offset in &self.schemas {
            b = b.u64(*offset);
        }
        b = b.u32(self.points.len() as u32);
        for point in &self.points {
            b = b.u64(point.before.0).u64(point.offset).i64(point.time_before_us);
        }
        b.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Index, RecordError> {
        let mut f = Fields::open(MAGIC, bytes)?;
        let (length, end) = (f.u64()?, Scn(f.u64()?));
        let (first_time_us, time_max_us) = (f.i64()?, f.i64()?);
        let count = f.count(8)?;
        let schemas = (0..count).map(|_| f.u64()).collect::<Result<_, _>>()?;
        let count = f.count(24)?;
        let point = |f: &mut Fields<'_>| {
            Ok(Point { before: Scn(f.u64()?), offset: f.u64()?, time_before_us: f.i64()? })
        };
        let points = (0..count).map(|_| point(&mut f)).collect::<Result<_, RecordError>>()?;
        Ok(Index { length, end, first_time_us, time_max_us, schemas, points })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> Index {
        let point = |before, offset, time_before_us| Point { before: Scn(before), offset, time_before_us };
        Index {
            length: 9_000_000,
            end: Scn(900),
            first_time_us: 1_000,
            time_max_us: 9_000,
            schemas: vec![96, 4096],
            points: vec![point(100, 192, i64::MIN), point(300, 2 << 20, 3_000), point(600, 4 << 20, 6_000)],
        }
    }

    #[test]
    fn an_index_survives_its_record() {
        assert_eq!(Index::decode(&index().encode()), Ok(index()));
    }

    #[test]
    fn a_lookup_never_passes_what_was_asked_for() {
        let at = |scn| index().seek(Scn(scn)).map(|p| p.offset);
        assert_eq!((at(99), at(100), at(299), at(300)), (None, Some(192), Some(192), Some(2 << 20)));
        let at = |time| index().seek_time(time).map(|p| p.offset);
        assert_eq!(
            (at(0), at(3_000), at(3_001), at(7_000)),
            (Some(192), Some(192), Some(2 << 20), Some(4 << 20))
        );
    }
}
