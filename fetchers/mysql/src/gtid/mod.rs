//! Global transaction ids and sets of them: what a reader has, what a server has, and what is missing between the two.

mod mariadb;
mod mysql;

use std::fmt;

pub(crate) use mariadb::{MariaDbSet, MariaDbState};
pub(crate) use mysql::MySqlSet;

use crate::event::Flavour;
use crate::wire::{Bytes, Malformed};

/// A server's UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Uuid(pub(crate) [u8; 16]);

/// The tag of a GTID; empty for most.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Tag(Box<str>);

/// One transaction's id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Gtid {
    MySql { uuid: Uuid, tag: Tag, number: u64 },
    MariaDb { domain: u32, server: u32, sequence: u64 },
}

/// A text that is not a set of GTIDs.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a set of GTIDs")]
pub(crate) struct NotASet(pub(crate) String);

/// A set of transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GtidSet {
    MySql(MySqlSet),
    MariaDb(MariaDbSet),
}

impl Uuid {
    /// The UUID that a text is, in any case, with its four dashes.
    pub(crate) fn parse(text: &str) -> Option<Uuid> {
        const DASHES: [usize; 4] = [8, 13, 18, 23];
        let text = text.as_bytes();
        if text.len() != 36 || DASHES.iter().any(|at| text[*at] != b'-') {
            return None;
        }
        let digits: Vec<u8> = text.iter().copied().filter(|c| *c != b'-').collect();
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |c: u8| char::from(c).to_digit(16);
            *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
        }
        (digits.len() == 32).then_some(Uuid(bytes))
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [b'-'; 36];
        let mut at = 0;
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                at += 1;
            }
            text[at] = DIGITS[usize::from(byte >> 4)];
            text[at + 1] = DIGITS[usize::from(byte & 15)];
            at += 2;
        }
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl Tag {
    const BYTES_MAX: usize = 32;

    /// The tag of that name: a letter or underscore, then letters, digits and underscores; kept in lower case.
    pub(crate) fn new(name: &[u8]) -> Option<Tag> {
        let fits =
            |(i, c): (usize, &u8)| c.is_ascii_alphabetic() || *c == b'_' || (i > 0 && c.is_ascii_digit());
        if name.len() > Self::BYTES_MAX || !name.iter().enumerate().all(fits) {
            return None;
        }
        let name = std::str::from_utf8(name).ok()?;
        Some(Tag(name.to_ascii_lowercase().into()))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Gtid::MySql { uuid, tag, number } if tag.is_empty() => write!(f, "{uuid}:{number}"),
            Gtid::MySql { uuid, tag, number } => write!(f, "{uuid}:{}:{number}", tag.as_str()),
            Gtid::MariaDb { domain, server, sequence } => write!(f, "{domain}-{server}-{sequence}"),
        }
    }
}

impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GtidSet::MySql(set) => set.fmt(f),
            GtidSet::MariaDb(set) => set.fmt(f),
        }
    }
}

impl GtidSet {
    /// The set that a text of that family is.
    pub(crate) fn parse(flavour: Flavour, text: &str) -> Result<GtidSet, NotASet> {
        match flavour {
            Flavour::MySql => MySqlSet::parse(text).map(GtidSet::MySql),
            Flavour::MariaDb => MariaDbSet::parse(text).map(GtidSet::MariaDb),
        }
    }

    /// The set that stands at the beginning of a file: PREVIOUS_GTIDS or GTID_LIST.
    pub(crate) fn read(flavour: Flavour, body: &[u8]) -> Result<GtidSet, Malformed> {
        match flavour {
            Flavour::MySql => MySqlSet::read(body).map(GtidSet::MySql),
            Flavour::MariaDb => MariaDbSet::read(Bytes(body)).map(GtidSet::MariaDb),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        match self {
            GtidSet::MySql(set) => set.is_empty(),
            GtidSet::MariaDb(set) => set.is_empty(),
        }
    }

    /// Adds one transaction. One of the other family is not added: the caller has checked the file's family.
    pub(crate) fn add(&mut self, gtid: &Gtid) {
        match (self, gtid) {
            (GtidSet::MySql(set), Gtid::MySql { uuid, tag, number }) => set.add(*uuid, tag, *number),
            (GtidSet::MariaDb(set), Gtid::MariaDb { domain, server, sequence }) => {
                set.add(*domain, *server, *sequence);
            }
            _ => debug_assert!(false, "a GTID of the other family"),
        }
    }

    pub(crate) fn contains(&self, gtid: &Gtid) -> bool {
        match (self, gtid) {
            (GtidSet::MySql(set), Gtid::MySql { uuid, tag, number }) => set.contains(*uuid, tag, *number),
            (GtidSet::MariaDb(set), Gtid::MariaDb { domain, sequence, .. }) => {
                set.contains(*domain, *sequence)
            }
            _ => false,
        }
    }

    /// What of `self` is not in `other`; empty: `self` is a subset.
    pub(crate) fn missing_from(&self, other: &GtidSet) -> GtidSet {
        match (self, other) {
            (GtidSet::MySql(a), GtidSet::MySql(b)) => GtidSet::MySql(a.minus(b)),
            (GtidSet::MariaDb(a), GtidSet::MariaDb(b)) => GtidSet::MariaDb(a.minus(b)),
            _ => self.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l74_a_uuid_survives_its_text_and_nothing_else_is_one() {
        let text = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        assert_eq!(Uuid::parse(text).map(|u| u.to_string()).as_deref(), Some(text));
        assert_eq!(Uuid::parse(&text.to_uppercase()), Uuid::parse(text));
        for wrong in
            ["", "3e11fa47", "3e11fa47-71ca-11e1-9e33-c80aa942956g", "3e11fa4-771ca-11e1-9e33-c80aa9429562"]
        {
            assert_eq!(Uuid::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn l74_a_tag_is_a_lower_case_name() {
        assert_eq!(Tag::new(b"Foo_1").map(|t| t.as_str().to_owned()).as_deref(), Some("foo_1"));
        for wrong in [&b"1a"[..], b"a-b", &[b'a'; 33]] {
            assert_eq!(Tag::new(wrong), None);
        }
    }
}
