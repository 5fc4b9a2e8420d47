//! Sets of MySQL GTIDs: intervals for every server UUID and tag. Text is what the server prints, in one line.

use std::collections::BTreeMap;
use std::fmt;

use crate::gtid::{NotASet, Tag, Uuid};

/// Sorted, disjoint, non-adjacent half-open ranges.
type Ranges = Vec<(u64, u64)>;

/// See the module. No entry is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MySqlSet(BTreeMap<(Uuid, Tag), Ranges>);

const NUMBER_MAX: u64 = i64::MAX as u64;

impl MySqlSet {
    /// Whether a transaction can have that number.
    pub fn is_number(number: u64) -> bool {
        (1..NUMBER_MAX).contains(&number)
    }

    /// Whether transactions can have the numbers from the one up to, without, the other.
    pub fn is_range((from, to): (u64, u64)) -> bool {
        0 < from && from < to && to <= NUMBER_MAX
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds one transaction.
    pub fn add(&mut self, uuid: Uuid, tag: &Tag, number: u64) {
        if let Some(ranges) = self.0.get_mut(&(uuid, tag.clone())) {
            // By far the most transactions follow the last one.
            if let Some(last) = ranges.last_mut().filter(|last| last.1 == number) {
                last.1 += 1;
                return;
            }
        }
        self.add_range(uuid, tag, (number, number + 1));
    }

    /// Adds the transactions from the one number up to, without, the other.
    ///
    /// # Panics
    /// When a transaction cannot have those numbers, see [`MySqlSet::is_range`].
    pub fn add_range(&mut self, uuid: Uuid, tag: &Tag, (mut from, mut to): (u64, u64)) {
        assert!(MySqlSet::is_range((from, to)), "the caller has checked them");
        let ranges = self.0.entry((uuid, tag.clone())).or_default();
        let first = ranges.partition_point(|r| r.1 < from);
        let mut end = first;
        while end < ranges.len() && ranges[end].0 <= to {
            from = from.min(ranges[end].0);
            to = to.max(ranges[end].1);
            end += 1;
        }
        ranges.splice(first..end, [(from, to)]);
    }

    /// Whether the transaction is one of them.
    pub fn contains(&self, uuid: Uuid, tag: &Tag, number: u64) -> bool {
        let Some(ranges) = self.0.get(&(uuid, tag.clone())) else { return false };
        let at = ranges.partition_point(|r| r.1 <= number);
        ranges.get(at).is_some_and(|r| r.0 <= number)
    }

    /// What of `self` is not in `other`.
    pub fn minus(&self, other: &MySqlSet) -> MySqlSet {
        let mut left = MySqlSet::default();
        for (key, ranges) in &self.0 {
            let taken = other.0.get(key).map_or(&[][..], Vec::as_slice);
            let rest = minus(ranges, taken);
            if !rest.is_empty() {
                left.0.insert(key.clone(), rest);
            }
        }
        left
    }

    /// What is in either of them.
    pub fn union(&self, other: &MySqlSet) -> MySqlSet {
        let mut all = self.clone();
        for ((uuid, tag), ranges) in &other.0 {
            ranges.iter().for_each(|range| all.add_range(*uuid, tag, *range));
        }
        all
    }

    /// The set that a text is.
    pub fn parse(text: &str) -> Result<MySqlSet, NotASet> {
        let wrong = || NotASet(text.to_owned());
        let mut set = MySqlSet::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let mut fields = part.split(':').map(str::trim);
            let uuid = fields.next().and_then(Uuid::parse).ok_or_else(wrong)?;
            let mut tag = Tag::default();
            for field in fields {
                if field.starts_with(|c: char| c.is_ascii_digit()) {
                    set.add_range(uuid, &tag, parse_range(field).ok_or_else(wrong)?);
                } else {
                    tag = Tag::new(field.as_bytes()).filter(|t| !t.is_empty()).ok_or_else(wrong)?;
                }
            }
        }
        Ok(set)
    }

    /// Its servers and tags, in order, each with its ranges.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Uuid, &Tag, &[(u64, u64)])> {
        self.0.iter().map(|((uuid, tag), ranges)| (*uuid, tag, &ranges[..]))
    }
}

fn parse_range(field: &str) -> Option<(u64, u64)> {
    let (from, to) = field.split_once('-').unwrap_or((field, field));
    let number = |text: &str| text.trim().parse::<u64>().ok().filter(|n| MySqlSet::is_number(*n));
    let (from, to) = (number(from)?, number(to)?);
    (from <= to).then_some((from, to + 1))
}

fn minus(ranges: &[(u64, u64)], taken: &[(u64, u64)]) -> Ranges {
    let mut left = Vec::new();
    for &(mut from, to) in ranges {
        for &(t_from, t_to) in taken {
            if t_to <= from || t_from >= to {
                continue;
            }
            if t_from > from {
                left.push((from, t_from));
            }
            from = from.max(t_to);
        }
        if from < to {
            left.push((from, to));
        }
    }
    left
}

impl fmt::Display for MySqlSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = None;
        for ((uuid, tag), ranges) in &self.0 {
            if last != Some(uuid) {
                let comma = if last.is_some() { "," } else { "" };
                write!(f, "{comma}{uuid}")?;
            }
            last = Some(uuid);
            if !tag.is_empty() {
                write!(f, ":{}", tag.as_str())?;
            }
            for (from, to) in ranges {
                match to - from {
                    1 => write!(f, ":{from}")?,
                    _ => write!(f, ":{from}-{}", to - 1)?,
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    const B: &str = "4e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn set(text: &str) -> MySqlSet {
        MySqlSet::parse(text).unwrap()
    }

    #[test]
    fn l74_text_of_the_server_is_read_and_printed_in_one_line() {
        for (text, printed) in [
            (format!("{A}:1-5:7"), format!("{A}:1-5:7")),
            (format!("{},\n{A}:3-4:1-2", format_args!("{B}:1")), format!("{A}:1-4,{B}:1")),
            (format!("{A}:1-64:bar:1:foo:1-2"), format!("{A}:1-64:bar:1:foo:1-2")),
            (String::new(), String::new()),
        ] {
            assert_eq!(set(&text).to_string(), printed);
        }
    }

    #[test]
    fn l74_what_is_not_a_set_is_refused() {
        for wrong in
            ["x", "0-1-5", &format!("{A}:0"), &format!("{A}:5-4"), &format!("{A}:1-"), &format!("{A}:-tag:1")]
        {
            assert!(MySqlSet::parse(wrong).is_err(), "{wrong}");
        }
    }

    /// Two servers, two tags, small numbers: a model that is obviously right.
    type Model = BTreeSet<(bool, bool, u64)>;

    fn of(model: &Model) -> MySqlSet {
        let mut set = MySqlSet::default();
        for (server, tagged, number) in model {
            let (uuid, tag) = key(*server, *tagged);
            set.add(uuid, &tag, *number);
        }
        set
    }

    fn key(server: bool, tagged: bool) -> (Uuid, Tag) {
        let uuid = Uuid::parse(if server { B } else { A }).unwrap();
        (uuid, if tagged { Tag::new(b"tag").unwrap() } else { Tag::default() })
    }

    fn models() -> impl Strategy<Value = Model> {
        prop::collection::btree_set((any::<bool>(), any::<bool>(), 1..24u64), 0..40)
    }

    proptest! {
        #[test]
        fn sets_behave_as_sets_of_numbers_do(a in models(), b in models()) {
            let (x, y) = (of(&a), of(&b));
            prop_assert_eq!(x.minus(&y), of(&a.difference(&b).copied().collect()));
            prop_assert_eq!(x.minus(&y).is_empty(), a.is_subset(&b));
            prop_assert_eq!(x.union(&y), of(&a.union(&b).copied().collect()));
            for server in [false, true] {
                for number in 1..24 {
                    let (uuid, tag) = key(server, true);
                    prop_assert_eq!(x.contains(uuid, &tag, number), a.contains(&(server, true, number)));
                }
            }
        }

        #[test]
        fn l74_a_set_survives_its_text(a in models()) {
            let x = of(&a);
            prop_assert_eq!(&set(&x.to_string()), &x);
        }

        #[test]
        fn the_order_of_adding_does_not_matter(a in models().prop_shuffle_into_vec()) {
            let mut shuffled = MySqlSet::default();
            for (server, tagged, number) in &a {
                let (uuid, tag) = key(*server, *tagged);
                shuffled.add(uuid, &tag, *number);
            }
            prop_assert_eq!(shuffled, of(&a.into_iter().collect()));
        }
    }

    trait IntoShuffled {
        fn prop_shuffle_into_vec(self) -> BoxedStrategy<Vec<(bool, bool, u64)>>;
    }

    impl<S: Strategy<Value = Model> + 'static> IntoShuffled for S {
        fn prop_shuffle_into_vec(self) -> BoxedStrategy<Vec<(bool, bool, u64)>> {
            self.prop_map(|m| m.into_iter().collect::<Vec<_>>()).prop_shuffle().boxed()
        }
    }
}
