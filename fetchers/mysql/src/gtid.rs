//! Sets of transactions as the servers write them in bytes: at the beginning of a file, and in the dump command. What a
//! set is, and its text, is `tidemill_event::gtid`'s.

pub(crate) use tidemill_event::gtid::{
    Gtid, GtidSet, MariaDbSet, MariaDbState, MySqlSet, NotASet, Tag, Uuid,
};

use crate::event::Flavour;
use crate::wire::{Bytes, Malformed};

/// The set that a text of that family is.
pub(crate) fn parse_set(flavour: Flavour, text: &str) -> Result<GtidSet, NotASet> {
    match flavour {
        Flavour::MySql => MySqlSet::parse(text).map(GtidSet::MySql),
        Flavour::MariaDb => MariaDbSet::parse(text).map(GtidSet::MariaDb),
    }
}

/// The set that stands at the beginning of a file: PREVIOUS_GTIDS or GTID_LIST.
pub(crate) fn read_set(flavour: Flavour, body: &[u8]) -> Result<GtidSet, Malformed> {
    match flavour {
        Flavour::MySql => read_mysql(body).map(GtidSet::MySql),
        Flavour::MariaDb => read_mariadb(Bytes(body)).map(GtidSet::MariaDb),
    }
}

/// The number of a transaction, where it is one.
pub(crate) fn mysql_number(number: u64) -> Result<u64, Malformed> {
    match MySqlSet::is_number(number) {
        true => Ok(number),
        false => Err(Malformed("a GTID has an impossible number")),
    }
}

/// The body of PREVIOUS_GTIDS; the form of [`encode_mysql`].
pub(crate) fn read_mysql(body: &[u8]) -> Result<MySqlSet, Malformed> {
    let mut b = Bytes(body);
    let count = b.u64()?;
    let has_tags = count >> 56 != 0;
    let count = if has_tags { (count << 8) >> 16 } else { count };
    let mut set = MySqlSet::default();
    for _ in 0..count {
        let uuid = Uuid(b.array()?);
        let mut tag = Tag::default();
        if has_tags {
            let length = usize::try_from(b.varlen()?).unwrap_or(usize::MAX);
            tag = Tag::new(b.take(length)?).ok_or(Malformed("a GTID has an impossible tag"))?;
        }
        for _ in 0..b.u64()? {
            let range = (b.u64()?, b.u64()?);
            if !MySqlSet::is_range(range) {
                return Err(Malformed("a GTID interval is impossible"));
            }
            set.add_range(uuid, &tag, range);
        }
    }
    Ok(set)
}

/// What the dump command carries: the tagged form where there is a tag, else the form that every release knows.
pub(crate) fn encode_mysql(set: &MySqlSet) -> Vec<u8> {
    const TAGGED: u64 = 1;
    let has_tags = set.iter().any(|(_, tag, _)| !tag.is_empty());
    let count = set.iter().len() as u64;
    let head = if has_tags { TAGGED << 56 | count << 8 | TAGGED } else { count };
    let mut out = head.to_le_bytes().to_vec();
    for (uuid, tag, ranges) in set.iter() {
        out.extend_from_slice(&uuid.0);
        if has_tags {
            // A length below 128 takes one byte, shifted by one.
            out.push((tag.as_str().len() as u8) << 1);
            out.extend_from_slice(tag.as_str().as_bytes());
        }
        out.extend_from_slice(&(ranges.len() as u64).to_le_bytes());
        for (from, to) in ranges {
            out.extend_from_slice(&from.to_le_bytes());
            out.extend_from_slice(&to.to_le_bytes());
        }
    }
    out
}

/// The body of GTID_LIST: the last of a domain stands behind the other servers' of that domain.
pub(crate) fn read_mariadb(mut b: Bytes<'_>) -> Result<MariaDbSet, Malformed> {
    const COUNT_BITS: u32 = 28;
    let count = b.u32()? & ((1 << COUNT_BITS) - 1);
    let mut set = MariaDbSet::default();
    for _ in 0..count {
        let (domain, server, sequence) = (b.u32()?, b.u32()?, b.u64()?);
        set.add(domain, server, sequence);
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    fn sets() -> impl Strategy<Value = MySqlSet> {
        let members = prop::collection::btree_set((any::<bool>(), any::<bool>(), 1..24u64), 0..40);
        members.prop_map(|members| {
            let mut set = MySqlSet::default();
            for (server, tagged, number) in members {
                let tag = if tagged { Tag::new(b"tag").unwrap() } else { Tag::default() };
                set.add(Uuid([u8::from(server); 16]), &tag, number);
            }
            set
        })
    }

    proptest! {
        #[test]
        fn l74_a_set_survives_its_bytes(set in sets()) {
            prop_assert_eq!(&read_mysql(&encode_mysql(&set)).unwrap(), &set);
        }

        #[test]
        fn damaged_bytes_are_an_error_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = read_mysql(&bytes);
            let _ = read_mariadb(Bytes(&bytes));
        }
    }
}
