//! Sets of MariaDB GTIDs: per replication domain the last transaction, since a domain is one ordered stream. And what a
//! server has in its log: the last transaction of every server in every domain.

use std::collections::BTreeMap;
use std::fmt;

use crate::gtid::NotASet;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MariaDbSet(BTreeMap<u32, Last>);

/// The last transaction of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Last {
    server: u32,
    sequence: u64,
}

impl MariaDbSet {
    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What comes next in the log replaces whatever the domain had, also that of another server. Its number may be the
    /// lower one: outside of the strict mode nothing keeps servers from counting apart.
    pub fn add(&mut self, domain: u32, server: u32, sequence: u64) {
        self.0.insert(domain, Last { server, sequence });
    }

    /// Whether the domain is that far.
    pub fn contains(&self, domain: u32, sequence: u64) -> bool {
        self.0.get(&domain).is_some_and(|last| sequence <= last.sequence)
    }

    /// The transactions that are not in that server's log. Another server's with the same or a higher number do not
    /// count: two histories that parted have those too.
    pub fn missing_from_state(&self, state: &MariaDbState) -> MariaDbSet {
        let missing = |(domain, last): &(&u32, &Last)| {
            state.0.get(&(**domain, last.server)).is_none_or(|sequence| *sequence < last.sequence)
        };
        MariaDbSet(self.0.iter().filter(missing).map(|(domain, last)| (*domain, *last)).collect())
    }

    /// The domains in which `self` is further than `other`.
    pub fn minus(&self, other: &MariaDbSet) -> MariaDbSet {
        let ahead = |(domain, last): &(&u32, &Last)| !other.contains(**domain, last.sequence);
        MariaDbSet(self.0.iter().filter(ahead).map(|(domain, last)| (*domain, *last)).collect())
    }

    /// Per domain the one that is further.
    pub(super) fn union(&self, other: &MariaDbSet) -> MariaDbSet {
        let mut all = self.clone();
        for (domain, last) in other.0.iter().filter(|(domain, last)| !self.contains(**domain, last.sequence))
        {
            all.0.insert(*domain, *last);
        }
        all
    }

    /// Puts a domain back to that transaction; to nothing for number 0.
    pub(super) fn set_back(&mut self, domain: u32, server: u32, sequence: u64) {
        self.0.remove(&domain);
        if sequence > 0 {
            self.add(domain, server, sequence);
        }
    }

    pub(super) fn shares_domain(&self, other: &MariaDbSet) -> bool {
        self.0.keys().any(|domain| other.0.contains_key(domain))
    }

    /// The set that a text is: `gtid_binlog_pos`, `gtid_slave_pos`.
    pub fn parse(text: &str) -> Result<MariaDbSet, NotASet> {
        let mut set = MariaDbSet::default();
        for (domain, server, sequence) in parse(text)? {
            set.add(domain, server, sequence);
        }
        Ok(set)
    }
}

/// What a server has in its log or had there before it was purged: `gtid_binlog_state`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MariaDbState(BTreeMap<(u32, u32), u64>);

impl MariaDbState {
    /// What the text of `gtid_binlog_state` is.
    pub fn parse(text: &str) -> Result<MariaDbState, NotASet> {
        let entries = parse(text)?.into_iter();
        Ok(MariaDbState(entries.map(|(domain, server, sequence)| ((domain, server), sequence)).collect()))
    }
}

fn parse(text: &str) -> Result<Vec<(u32, u32, u64)>, NotASet> {
    let entry = |part: &str| {
        let mut fields = part.split('-');
        let domain = fields.next()?.parse().ok()?;
        let server = fields.next()?.parse().ok()?;
        let sequence = fields.next()?.parse().ok()?;
        fields.next().is_none().then_some((domain, server, sequence))
    };
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| entry(part).ok_or_else(|| NotASet(text.to_owned()))).collect()
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
    fn l78_a_domain_has_one_last_transaction_whichever_server_wrote_it() {
        let mut list = set("0-1-5,2-7-9");
        list.add(0, 3, 6);
        assert_eq!(list.to_string(), "0-3-6,2-7-9");
        list.add(0, 1, 4);
        assert_eq!(list.to_string(), "0-1-4,2-7-9", "servers that count apart");
    }

    #[test]
    fn l78_a_history_that_parted_lacks_what_was_read_although_its_numbers_are_higher() {
        let state = MariaDbState::parse("0-1-9,0-2-12,1-1-3").unwrap();
        assert!(set("0-1-9,1-1-2").missing_from_state(&state).is_empty());
        assert!(set("0-2-11").missing_from_state(&state).is_empty());
        assert_eq!(set("0-1-10,1-1-3").missing_from_state(&state).to_string(), "0-1-10");
        assert_eq!(set("0-3-1,2-1-1").missing_from_state(&state).to_string(), "0-3-1,2-1-1");
    }

    #[test]
    fn what_is_missing_is_named_by_domain() {
        assert_eq!(set("0-1-5,1-1-3").minus(&set("0-2-5,1-1-2")).to_string(), "1-1-3");
        assert!(set("").minus(&set("0-1-1")).is_empty());
    }

    #[test]
    fn a_union_is_as_far_as_either_in_each_domain() {
        assert_eq!(set("0-1-5,2-1-9").union(&set("0-2-6,1-1-3,2-2-8")).to_string(), "0-2-6,1-1-3,2-1-9");
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
    }
}
