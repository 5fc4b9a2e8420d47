//! Names with `*`: which tables and columns a configuration speaks of.

use serde::Deserialize;

/// A dotted name in which `*` stands for any run of characters within one part:
/// `shop.orders`, `shop.*`, `*.*.e*mail`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Pattern(String);

impl Pattern {
    /// The pattern of that spelling.
    pub fn new(text: &str) -> Self {
        Pattern(text.to_owned())
    }

    /// As it was configured.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it names one thing only.
    pub fn is_exact(&self) -> bool {
        !self.0.contains('*')
    }

    /// How many parts it has: `shop.orders` has two.
    pub fn part_count(&self) -> usize {
        self.0.split('.').count()
    }

    /// How many characters are not `*`: of two patterns that match, the one with more says more.
    pub fn weight(&self) -> usize {
        self.0.chars().filter(|c| *c != '*').count()
    }

    /// Whether `parts` match, each its own part. Parts past those of the pattern's last dot belong
    /// together, so that a name may itself have dots.
    pub fn matches(&self, parts: &[&str]) -> bool {
        let mut patterns = self.0.splitn(parts.len(), '.');
        parts.iter().all(|part| {
            patterns.next().is_some_and(|pattern| part_matches(pattern.as_bytes(), part.as_bytes()))
        })
    }
}

/// Greedy with one step back: each `*` takes as little as it can, and the last one takes more when
/// what follows does not fit.
fn part_matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p + 1, t));
                p += 1;
            }
            Some(c) if *c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match retry {
                Some((after, from)) => {
                    retry = Some((after, from + 1));
                    p = after;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    fn check(pattern: &str, parts: &[&str], expected: bool) {
        assert_eq!(Pattern::new(pattern).matches(parts), expected, "{pattern} {parts:?}");
    }

    #[test]
    fn parts_match_each_their_own() {
        check("shop.orders", &["shop", "orders"], true);
        check("shop.*", &["shop", "orders"], true);
        check("*.orders", &["shop", "orders"], true);
        check("shop.orders", &["shop", "order"], false);
        check("*", &["shop", "orders"], false);
        check("shop.*.email", &["shop", "orders", "email"], true);
        check("shop.*.email", &["shop", "orders", "emails"], false);
    }

    #[test]
    fn stars_stand_for_any_run_within_a_part() {
        check("c*d", &["card"], true);
        check("c*r*d*", &["card"], true);
        check("*aab", &["aaaab"], true);
        check("c*x*d", &["card"], false);
        check("**", &[""], true);
    }
}
