//! What is kept with a table's rows of the policy that judged them. Another policy costs only the tables that it decides
//! otherwise about.
//!
//! ```text
//! POLICY            where nobody asked what it decides about the table, and in stores of earlier releases
//! POLICY:DECISION   as it was asked about the table's columns of then
//! ```
//!
//! Both are fingerprints in hexadecimal digits; no policy is an empty one.

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp<'a> {
    policy: &'a str,
    decision: Option<&'a str>,
}

impl<'a> Stamp<'a> {
    /// Stands for a policy of which nobody knows which it was.
    pub const UNSURE: &'static str = "?";

    /// Reads what is kept with a table.
    pub fn of(text: &'a str) -> Stamp<'a> {
        match text.split_once(':') {
            Some((policy, decision)) => Stamp { policy, decision: Some(decision) },
            None => Stamp { policy: text, decision: None },
        }
    }

    /// The form that is kept.
    pub fn write(policy: &str, decision: Option<&str>) -> String {
        decision.map_or_else(|| policy.to_owned(), |decision| format!("{policy}:{decision}"))
    }

    /// The policy.
    pub fn policy(&self) -> &'a str {
        self.policy
    }

    /// What it decided about the table, where that was asked.
    pub fn decision(&self) -> Option<&'a str> {
        self.decision
    }

    /// Whether any policy judged, so that names of tables and columns mean something to it.
    pub fn is_judged(&self) -> bool {
        !self.policy.is_empty()
    }

    /// Whether one policy judged both. It was the same one for columns that came later, too.
    pub fn is_policy(&self, policy: &str) -> bool {
        self.policy == policy && policy != Stamp::UNSURE
    }

    /// Whether rows under one stamp are what they would be under the other.
    pub fn stores_as(&self, other: Stamp<'_>) -> bool {
        self.is_policy(other.policy) || self.decision.is_some() && self.decision == other.decision
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(a: &str, b: &str) -> bool {
        let same = Stamp::of(a).stores_as(Stamp::of(b));
        assert_eq!(same, Stamp::of(b).stores_as(Stamp::of(a)), "{a} {b}");
        same
    }

    #[test]
    fn rows_are_the_same_under_one_policy_or_one_decision_and_nobody_guesses() {
        assert!(same("aa:11", "aa:11") && same("aa:11", "bb:11") && same(":11", "bb:11"));
        // A column came since: the policy was the same.
        assert!(same("aa:11", "aa:22") && same("aa", "aa:11") && same("", ":11") && same("", ""));
        assert!(!same("aa:11", "bb:22") && !same("aa", "bb:11") && !same("", "bb:11") && !same("aa", "bb"));
        assert!(!same("?", "?") && !same("?", "aa:11") && same("?:11", "aa:11"));
    }

    #[test]
    fn a_stamp_is_read_as_it_was_written() {
        for (policy, decision) in [("aa", Some("11")), ("", Some("11")), ("aa", None), ("", None)] {
            let text = Stamp::write(policy, decision);
            assert_eq!(Stamp::of(&text), Stamp { policy, decision });
            assert_eq!(Stamp::of(&text).is_judged(), !policy.is_empty());
        }
    }
}
