//! Where an event ends: the file, by its number, and the offset in it, counted by us in 64 bits.

use std::fmt;

use tidemill_event::Scn;

/// The name of a binlog file: a base that all files of a server share, and a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BinlogName {
    text: String,
    base: usize,
    pub(crate) number: u32,
}

impl BinlogName {
    pub(crate) fn parse(text: &str) -> Option<BinlogName> {
        let (base, digits) = text.rsplit_once('.')?;
        let number = digits.parse().ok().filter(|_| digits.bytes().all(|c| c.is_ascii_digit()))?;
        (!base.is_empty()).then(|| BinlogName { text: text.to_owned(), base: base.len(), number })
    }

    pub(crate) fn base(&self) -> &str {
        &self.text[..self.base]
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }
}

/// A place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) file: BinlogName,
    pub(crate) offset: u64,
}

impl Place {
    /// Behind the four bytes that every file begins with.
    pub(crate) const FIRST_OFFSET: u64 = 4;

    /// The clock value of a transaction that ends here; none where the file number or the offset is out of range.
    pub(crate) fn scn(&self) -> Option<Scn> {
        Scn::from_binlog(self.file.number, self.offset)
    }

    /// The first offset from `at_least` on whose lower half is `log_pos`, as headers tell it modulo 2^32.
    pub(crate) fn offset_of(log_pos: u32, at_least: u64) -> u64 {
        const LOWER: u64 = u32::MAX as u64;
        let candidate = (at_least & !LOWER) | u64::from(log_pos);
        if candidate >= at_least { candidate } else { candidate.saturating_add(LOWER + 1) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.text, self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l71_a_file_name_is_a_base_and_a_number() {
        let name = BinlogName::parse("db.host-bin.1000000").map(|n| (n.base().to_owned(), n.number));
        assert_eq!(name, Some(("db.host-bin".to_owned(), 1_000_000)));
        for wrong in ["binlog", ".000001", "binlog.index", "binlog.", "binlog.+1"] {
            assert_eq!(BinlogName::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn l38_a_wrapped_position_is_the_next_offset_with_that_lower_half() {
        let wrap = 1u64 << 32;
        assert_eq!(Place::offset_of(500, 4), 500);
        assert_eq!(Place::offset_of(6509, 4_261_419_329), wrap + 6509);
        assert_eq!(Place::offset_of(6509, wrap + 6509), wrap + 6509);
    }
}
