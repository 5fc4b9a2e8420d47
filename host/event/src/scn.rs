//! Positions. Each has its own type, so that a byte offset can never be passed where a commit is meant.

use std::fmt;
use std::sync::Arc;

/// System change number: the source's own clock, one value per committed transaction.
///
/// MySQL and MariaDB: binlog file number (24 bits) and the end offset of the transaction in that file
/// (40 bits). Oracle: the commit SCN. Zero is before everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scn(pub u64);

const OFFSET_BITS: u32 = 40;

impl Scn {
    /// Before every transaction.
    pub const ZERO: Scn = Scn(0);
    /// After every transaction.
    pub const MAX: Scn = Scn(u64::MAX);

    /// The SCN of a binlog position; `None` where the file number or the offset does not fit.
    pub fn from_binlog(file: u32, offset: u64) -> Option<Scn> {
        (file < 1 << 24 && offset < 1 << OFFSET_BITS).then_some(Scn(u64::from(file) << OFFSET_BITS | offset))
    }

    /// The binlog file number of this SCN.
    pub fn binlog_file(self) -> u32 {
        (self.0 >> OFFSET_BITS) as u32
    }

    /// The offset within the binlog file.
    pub fn binlog_offset(self) -> u64 {
        self.0 & ((1 << OFFSET_BITS) - 1)
    }
}

impl fmt::Display for Scn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One server's unbroken numbering. A fail-over to another server or a reset log opens the next one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Timeline {
    /// Counts the timelines of this log store, from 1.
    pub number: u32,
    /// Who numbers: `server_uuid`, or `server_id` where the server has none.
    pub server: Arc<str>,
}

/// Where something stands within a log store: positions of different timelines order by timeline first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The number of the timeline.
    pub timeline: u32,
    /// The clock value within it.
    pub scn: Scn,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.timeline, self.scn)
    }
}

/// A stretch of the clock, open below and closed above, since an SCN names the *end* of its transaction:
/// it holds what committed after `after`, up to and with `upto`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Everything up to here came before.
    pub after: Scn,
    /// Everything up to here is included.
    pub upto: Scn,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binlog_position_survives_the_round_trip_and_keeps_its_order() {
        let last = Scn::from_binlog(41, (1 << 40) - 1).expect("fits");
        let next = Scn::from_binlog(42, 4).expect("fits");
        assert!(last < next);
        assert_eq!((next.binlog_file(), next.binlog_offset()), (42, 4));
    }

    #[test]
    fn a_file_number_or_offset_that_does_not_fit_is_refused() {
        assert_eq!(Scn::from_binlog(1 << 24, 4), None);
        assert_eq!(Scn::from_binlog(1, 1 << 40), None);
    }
}
