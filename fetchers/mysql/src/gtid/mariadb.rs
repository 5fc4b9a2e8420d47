//! Sets of MariaDB GTIDs: per replication domain the last transaction, since a domain is one ordered stream.

use std::collections::BTreeMap;
use std::fmt;

use crate::gtid::NotASet;
use crate::wire::{Bytes, Malformed};

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MariaDbSet(BTreeMap<u32, Last>);

/// The last transaction of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Last {
    server: u32,
    sequence: u64,
}

impl MariaDbSet {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The newest replaces whatever the domain had, also that of another server.
    pub(crate) fn add(&mut self, domain: u32, server: u32, sequence: u64) {
        let new = Last { server, sequence };
        let last = self.0.entry(domain).or_insert(new);
        if sequence >= last.sequence {
            *last = new;
        }
    }

    pub(crate) fn contains(&self, domain: u32, sequence: u64) -> bool {
        self.0.get(&domain).is_some_and(|last| sequence <= last.sequence)
    }

    /// The domains in which `self` is further than `other`.
    pub(crate) fn minus(&self, other: &MariaDbSet) -> MariaDbSet {
        let ahead = |(domain, last): &(&u32, &Last)| !other.contains(**domain, last.sequence);
        MariaDbSet(self.0.iter().filter(ahead).map(|(domain, last)| (*domain, *last)).collect())
    }

    /// Whatever is newest where a server lists several transactions for a domain, as `gtid_binlog_state` does.
    pub(crate) fn parse(text: &str) -> Result<MariaDbSet, NotASet> {
        let wrong = || NotASet(text.to_owned());
        let mut set = MariaDbSet::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let mut fields = part.split('-');
            let mut number = || fields.next().and_then(|f| f.parse::<u64>().ok());
            let (domain, server, sequence) =
                number().zip(number()).zip(number()).map(|((d, s), n)| (d, s, n)).ok_or_else(wrong)?;
            let narrow = u32::try_from(domain).ok().zip(u32::try_from(server).ok());
            let (domain, server) = narrow.filter(|_| fields.next().is_none()).ok_or_else(wrong)?;
            set.add(domain, server, sequence);
        }
        Ok(set)
    }

    /// The body of GTID_LIST.
    pub(crate) fn read(mut b: Bytes<'_>) -> Result<MariaDbSet, Malformed> {
        const COUNT_BITS: u32 = 28;
        let count = b.u32()? & ((1 << COUNT_BITS) - 1);
        let mut set = MariaDbSet::default();
        for _ in 0..count {
            let (domain, server, sequence) = (b.u32()?, b.u32()?, b.u64()?);
            set.add(domain, server, sequence);
        }
        Ok(set)
    }
}

impl fmt::Display for MariaDbSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (domain, last)) in self.0.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            write!(f, "{comma}{domain}-{}-{}", last.server, last.sequence)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    fn set(text: &str) -> MariaDbSet {
        MariaDbSet::parse(text).unwrap()
    }

    #[test]
    fn a_domain_has_one_last_transaction_whichever_server_wrote_it() {
        let mut list = set("0-1-5,2-7-9");
        list.add(0, 3, 6);
        assert_eq!(list.to_string(), "0-3-6,2-7-9");
        assert_eq!(set("0-1-5,0-3-6, 0-2-4").to_string(), "0-3-6");
    }

    #[test]
    fn what_is_missing_is_named_by_domain() {
        assert_eq!(set("0-1-5,1-1-3").minus(&set("0-2-5,1-1-2")).to_string(), "1-1-3");
        assert!(set("").minus(&set("0-1-1")).is_empty());
    }

    #[test]
    fn what_is_not_a_set_is_refused() {
        for wrong in ["x", "0-1", "0-1-2-3", "4294967296-1-1", "0--1"] {
            assert!(MariaDbSet::parse(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_set_survives_its_text(entries in prop::collection::btree_map(any::<u32>(), (any::<u32>(), any::<u64>()), 0..9)) {
            let mut list = MariaDbSet::default();
            for (domain, (server, sequence)) in &entries {
                list.add(*domain, *server, *sequence);
            }
            prop_assert_eq!(set(&list.to_string()), list.clone());
            prop_assert!(list.minus(&list).is_empty());
        }

        #[test]
        fn damaged_bytes_are_an_error_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = MariaDbSet::read(Bytes(&bytes));
        }
    }
}
