//! Global transaction ids of MySQL and MariaDB and sets of them, in the servers' own text form: what a reader has, what a
//! server has, and what is missing between the two. Their forms in bytes are the fetcher's.

mod mariadb;
mod mysql;

use std::fmt;

pub use mariadb::{MariaDbSet, MariaDbState};
pub use mysql::MySqlSet;

/// A server's UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub [u8; 16]);

/// The tag of a GTID; empty for most.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(Box<str>);

/// One transaction's id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gtid {
    /// `UUID:NUMBER` or `UUID:TAG:NUMBER`.
    MySql {
        /// The server that it was first committed on.
        uuid: Uuid,
        /// Its tag.
        tag: Tag,
        /// Counts from 1.
        number: u64,
    },
    /// `DOMAIN-SERVER-SEQUENCE`.
    MariaDb {
        /// The replication domain.
        domain: u32,
        /// The server that it was first committed on.
        server: u32,
        /// Counts in the domain.
        sequence: u64,
    },
}

/// A text that is not a set of GTIDs.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a set of GTIDs")]
pub struct NotASet(pub String);

/// A set of transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GtidSet {
    /// Of MySQL.
    MySql(MySqlSet),
    /// Of MariaDB.
    MariaDb(MariaDbSet),
}

impl Uuid {
    /// The UUID that a text is, in any case, with its four dashes.
    pub fn parse(text: &str) -> Option<Uuid> {
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
    pub fn new(name: &[u8]) -> Option<Tag> {
        let fits =
            |(i, c): (usize, &u8)| c.is_ascii_alphabetic() || *c == b'_' || (i > 0 && c.is_ascii_digit());
        if name.len() > Self::BYTES_MAX || !name.iter().enumerate().all(fits) {
            return None;
        }
        let name = std::str::from_utf8(name).ok()?;
        Some(Tag(name.to_ascii_lowercase().into()))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Its text, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Gtid {
    /// The id that a text is, of either family.
    pub fn parse(text: &str) -> Option<Gtid> {
        let Some((uuid, rest)) = text.split_once(':') else { return Gtid::parse_mariadb(text) };
        let (tag, number) = rest.split_once(':').unwrap_or(("", rest));
        let number = number.parse().ok().filter(|number| MySqlSet::is_number(*number))?;
        Some(Gtid::MySql { uuid: Uuid::parse(uuid)?, tag: Tag::new(tag.as_bytes())?, number })
    }

    fn parse_mariadb(text: &str) -> Option<Gtid> {
        let mut fields = text.split('-');
        let (domain, server) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let sequence = fields.next()?.parse().ok()?;
        fields.next().is_none().then_some(Gtid::MariaDb { domain, server, sequence })
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
    /// The set that a text is, of the family whose form it has; `None` for an empty one, which both have.
    pub fn parse(text: &str) -> Result<Option<GtidSet>, NotASet> {
        match text {
            text if text.trim().is_empty() => Ok(None),
            text if text.contains(':') => MySqlSet::parse(text).map(GtidSet::MySql).map(Some),
            text => MariaDbSet::parse(text).map(GtidSet::MariaDb).map(Some),
        }
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        match self {
            GtidSet::MySql(set) => set.is_empty(),
            GtidSet::MariaDb(set) => set.is_empty(),
        }
    }

    /// Adds one transaction. One of the other family is not added: the caller has checked the file's family.
    pub fn add(&mut self, gtid: &Gtid) {
        match (self, gtid) {
            (GtidSet::MySql(set), Gtid::MySql { uuid, tag, number }) => set.add(*uuid, tag, *number),
            (GtidSet::MariaDb(set), Gtid::MariaDb { domain, server, sequence }) => {
                set.add(*domain, *server, *sequence);
            }
            _ => debug_assert!(false, "a GTID of the other family"),
        }
    }

    /// Whether the transaction is one of them.
    pub fn contains(&self, gtid: &Gtid) -> bool {
        match (self, gtid) {
            (GtidSet::MySql(set), Gtid::MySql { uuid, tag, number }) => set.contains(*uuid, tag, *number),
            (GtidSet::MariaDb(set), Gtid::MariaDb { domain, sequence, .. }) => {
                set.contains(*domain, *sequence)
            }
            _ => false,
        }
    }

    /// What is in either of them. Of two families: `self`.
    pub fn union(&self, other: &GtidSet) -> GtidSet {
        match (self, other) {
            (GtidSet::MySql(a), GtidSet::MySql(b)) => GtidSet::MySql(a.union(b)),
            (GtidSet::MariaDb(a), GtidSet::MariaDb(b)) => GtidSet::MariaDb(a.union(b)),
            _ => self.clone(),
        }
    }

    /// The set as it was before those transactions, which were added last, oldest first.
    pub fn without_last(&self, last: impl IntoIterator<Item = Gtid>) -> GtidSet {
        let mut left = self.clone();
        // In a domain of MariaDB the first of them says what was there.
        let mut domains = std::collections::BTreeSet::new();
        for gtid in last {
            match (&mut left, gtid) {
                (GtidSet::MySql(set), Gtid::MySql { uuid, tag, number }) => {
                    let mut one = MySqlSet::default();
                    one.add(uuid, &tag, number);
                    *set = set.minus(&one);
                }
                (GtidSet::MariaDb(set), Gtid::MariaDb { domain, server, sequence })
                    if domains.insert(domain) =>
                {
                    set.set_back(domain, server, sequence.saturating_sub(1));
                }
                _ => {}
            }
        }
        left
    }

    /// Whether both have transactions of one server (MySQL) or one domain (MariaDB): whether they may be of one lineage.
    pub fn is_related(&self, other: &GtidSet) -> bool {
        match (self, other) {
            (GtidSet::MySql(a), GtidSet::MySql(b)) => {
                let servers: std::collections::BTreeSet<Uuid> = a.iter().map(|(uuid, ..)| uuid).collect();
                b.iter().any(|(uuid, ..)| servers.contains(&uuid))
            }
            (GtidSet::MariaDb(a), GtidSet::MariaDb(b)) => a.shares_domain(b),
            _ => false,
        }
    }

    /// What of `self` is not in `other`; empty: `self` is a subset. Nothing of one family is in a set of the other.
    pub fn missing_from(&self, other: &GtidSet) -> GtidSet {
        match (self, other) {
            (GtidSet::MySql(a), GtidSet::MySql(b)) => GtidSet::MySql(a.minus(b)),
            (GtidSet::MariaDb(a), GtidSet::MariaDb(b)) => GtidSet::MariaDb(a.minus(b)),
            _ => self.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn an_id_survives_its_text_and_tells_its_family() {
        for text in [
            "3e11fa47-71ca-11e1-9e33-c80aa9429562:7",
            "3e11fa47-71ca-11e1-9e33-c80aa9429562:tag:7",
            "0-1-18446744073709551615",
        ] {
            assert_eq!(Gtid::parse(text).unwrap().to_string(), text);
            let set = GtidSet::parse(text).unwrap().unwrap();
            assert!(set.contains(&Gtid::parse(text).unwrap()), "{text}");
        }
        for wrong in ["", "x", "0-1", "0-1-2-3", "3e11fa47-71ca-11e1-9e33-c80aa9429562:0", "x:1"] {
            assert_eq!(Gtid::parse(wrong), None, "{wrong}");
        }
        assert_eq!(GtidSet::parse(" "), Ok(None));
        let (one, other) = (
            GtidSet::parse("0-1-5").unwrap().unwrap(),
            GtidSet::parse("3e11fa47-71ca-11e1-9e33-c80aa9429562:7"),
        );
        assert_eq!(one.missing_from(&other.unwrap().unwrap()), one);
    }

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
