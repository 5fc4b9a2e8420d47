//! One column's test, bound to its type: what is asked of the values, and the loops that ask it.

use core::cmp::Ordering;

use tidemill_guest::column::Runs;
use tidemill_guest::{Column, Decimal, Mask, Values};

use crate::kernel::{self, Short};
use crate::like::Like;
use crate::parse::Comparison;

/// A test of one column's values. NULL and absent values are seen to elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub enum TypedTest {
    /// every value
    Always,
    /// no value
    Never,
    /// signed integers from the first to the last, or all others
    Ints { first: i64, last: i64, inside: bool },
    /// signed integers, rising
    IntSet(Vec<i64>),
    /// unsigned integers from the first to the last, or all others
    Uints { first: u64, last: u64, inside: bool },
    /// unsigned integers, rising
    UintSet(Vec<u64>),
    /// true, or false
    Bools(bool),
    /// floating-point numbers
    Floats(Check<f64>),
    /// text or bytes, by their bytes
    Runs(Check<Vec<u8>>),
    /// decimals, by their plain text
    Decimals(Check<String>),
    /// text, by a pattern
    Like(Like),
}

/// A test of values that are compared one by one.
#[derive(Clone, Debug, PartialEq)]
pub enum Check<L> {
    /// with one literal
    Compare(Comparison, L),
    /// with some
    OneOf(Vec<L>),
    /// from one to another, both included
    Between(L, L),
}

impl<L> Check<L> {
    /// Whether a value passes that compares with a literal as `order` says.
    #[inline]
    fn passes(&self, order: impl Fn(&L) -> Option<Ordering>) -> bool {
        match self {
            Check::Compare(comparison, literal) => holds(*comparison, order(literal)),
            Check::OneOf(literals) => literals.iter().any(|literal| order(literal) == Some(Ordering::Equal)),
            Check::Between(low, high) => {
                holds(Comparison::GreaterOrEqual, order(low)) && holds(Comparison::LessOrEqual, order(high))
            }
        }
    }
}

/// Whether a comparison holds; `None` is NaN, which is unequal to everything.
#[inline]
fn holds(comparison: Comparison, order: Option<Ordering>) -> bool {
    match comparison {
        Comparison::Equal => order == Some(Ordering::Equal),
        Comparison::NotEqual => order != Some(Ordering::Equal),
        Comparison::Less => order == Some(Ordering::Less),
        Comparison::LessOrEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        Comparison::Greater => order == Some(Ordering::Greater),
        Comparison::GreaterOrEqual => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
    }
}

/// The integers for which `value comparison literal` holds, as the first and the last one, and whether
/// they are inside or outside. A literal with more digits than `i128` is beyond every column.
pub fn integer_bound(comparison: Comparison, literal: &Decimal<'_>) -> (i128, i128, bool) {
    const FAR: i128 = i128::MAX / 4;
    let floor = literal
        .floor()
        .map_or(if literal.is_negative() { -FAR } else { FAR }, |floor| floor.clamp(-FAR, FAR));
    let next = if literal.is_whole() { floor } else { floor + 1 };
    match comparison {
        Comparison::Equal => (next, floor, true),
        Comparison::NotEqual => (next, floor, false),
        Comparison::Less => (-FAR, next - 1, true),
        Comparison::LessOrEqual => (-FAR, floor, true),
        Comparison::Greater => (floor + 1, FAR, true),
        Comparison::GreaterOrEqual => (next, FAR, true),
    }
}

impl TypedTest {
    /// Signed integers within bounds of any size.
    pub fn ints((first, last, inside): (i128, i128, bool)) -> Self {
        match clamped(first, last, i64::MIN.into(), i64::MAX.into()) {
            Some((first, last)) => TypedTest::Ints { first: first as i64, last: last as i64, inside },
            None => Self::nothing(inside),
        }
    }

    /// Unsigned integers within bounds of any size.
    pub fn uints((first, last, inside): (i128, i128, bool)) -> Self {
        match clamped(first, last, 0, u64::MAX.into()) {
            Some((first, last)) => TypedTest::Uints { first: first as u64, last: last as u64, inside },
            None => Self::nothing(inside),
        }
    }

    fn nothing(inside: bool) -> Self {
        if inside { TypedTest::Never } else { TypedTest::Always }
    }

    /// The rows whose values pass; what a row without a value says has no meaning. `None`: the
    /// column has another layout than the one that was planned.
    pub fn passes(&self, column: &Column, count: usize) -> Option<Mask> {
        Some(match (self, &column.values) {
            (TypedTest::Always, _) => Mask::all(count),
            (TypedTest::Never, _) => Mask::none(count),
            (TypedTest::Ints { first, last, inside }, Values::Ints(values)) => {
                only(*inside, kernel::ints(values, *first, *last))
            }
            (TypedTest::IntSet(set), Values::Ints(values)) => {
                Mask::of(values, |value| set.binary_search(&value).is_ok())
            }
            (TypedTest::Uints { first, last, inside }, Values::Uints(values)) => {
                only(*inside, kernel::uints(values, *first, *last))
            }
            (TypedTest::UintSet(set), Values::Uints(values)) => {
                Mask::of(values, |value| set.binary_search(&value).is_ok())
            }
            (TypedTest::Bools(wanted), Values::Bools(values)) => {
                Mask::of(values, |value| (value != 0) == *wanted)
            }
            (TypedTest::Floats(check), Values::Floats(values)) => {
                Mask::of(values, |value| check.passes(|literal| value.partial_cmp(literal)))
            }
            (TypedTest::Runs(check), Values::Text(runs) | Values::Bytes(runs)) => {
                bytes_pass(check, runs.runs())
            }
            (TypedTest::Decimals(check), Values::Text(runs)) => decimals_pass(check, runs.runs()),
            (TypedTest::Like(like), Values::Text(runs)) => like_passes(like, runs.runs()),
            _ => return None,
        })
    }
}

fn clamped(first: i128, last: i128, min: i128, max: i128) -> Option<(i128, i128)> {
    let (first, last) = (first.max(min), last.min(max));
    (first <= last).then_some((first, last))
}

fn bytes_pass(check: &Check<Vec<u8>>, runs: Runs<'_>) -> Mask {
    if let Check::Compare(Comparison::Equal, literal) = check {
        return starts_with(runs, literal, true);
    }
    let data = runs.data();
    runs.mask(|start, end| {
        let value = data.get(start..end).unwrap_or_default();
        check.passes(|literal| Some(value.cmp(literal.as_slice())))
    })
}

fn decimals_pass(check: &Check<String>, runs: Runs<'_>) -> Mask {
    let data = runs.data();
    runs.mask(|start, end| {
        let value = data.get(start..end).and_then(Decimal::parse).unwrap_or(Decimal::ZERO);
        check.passes(|literal| Some(value.cmp(&Decimal::parse(literal.as_bytes())?)))
    })
}

fn like_passes(like: &Like, runs: Runs<'_>) -> Mask {
    match like {
        Like::Exactly(plain) => starts_with(runs, plain, true),
        Like::Prefix(plain) => starts_with(runs, plain, false),
        Like::Pieces(_) => {
            let data = runs.data();
            runs.mask(|start, end| like.matches(data.get(start..end).unwrap_or_default()))
        }
    }
}

/// The rows that begin with `plain`, and have nothing more when `whole`.
fn starts_with(runs: Runs<'_>, plain: &[u8], whole: bool) -> Mask {
    if let Some(short) = Short::new(plain, whole) {
        return kernel::short(runs, short);
    }
    let data = runs.data();
    runs.mask(|start, end| {
        let value = data.get(start..end).unwrap_or_default();
        value.starts_with(plain) && (!whole || value.len() == plain.len())
    })
}

/// The rows inside, or all others.
fn only(inside: bool, mask: Mask) -> Mask {
    if inside { mask } else { mask.not() }
}

#[cfg(test)]
mod tests {
    use super::{Comparison, Decimal, TypedTest, integer_bound};
    use tidemill_guest::build;

    #[test]
    fn bounds_agree_with_comparing_each_value() {
        use Comparison::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
        let values = [i64::MIN, -11, -10, -1, 0, 1, 10, 11, i64::MAX];
        for literal in
            ["-10", "-10.5", "0", "0.5", "10", "10.0", "99999999999999999999", "-9223372036854775808"]
        {
            let number =
                Decimal::parse(literal.as_bytes()).unwrap_or_else(|| panic!("{literal} is a decimal"));
            for comparison in [Equal, NotEqual, Less, LessOrEqual, Greater, GreaterOrEqual] {
                let mask = TypedTest::ints(integer_bound(comparison, &number))
                    .passes(&build::Ints::of(&values), values.len());
                for (row, value) in values.iter().enumerate() {
                    let text = value.to_string();
                    let order = Decimal::parse(text.as_bytes()).map(|value| value.cmp(&number));
                    let expected = super::holds(comparison, order);
                    assert_eq!(
                        mask.as_ref().is_some_and(|mask| mask.get(row)),
                        expected,
                        "{value} {comparison:?} {literal}"
                    );
                }
            }
        }
    }

    #[test]
    fn short_prefixes_are_found_also_at_the_end_of_the_data() {
        let column = build::Texts::of(&["act", "active", "activeness", "", "inactive", "active"]);
        for (plain, whole, expected) in [
            ("active", false, vec![1, 2, 5]),
            ("active", true, vec![1, 5]),
            ("activenes", false, vec![2]),
            ("", false, vec![0, 1, 2, 3, 4, 5]),
            ("", true, vec![3]),
            ("inactive", true, vec![4]),
        ] {
            let tidemill_guest::Values::Text(runs) = &column.values else { panic!("text") };
            let found: Vec<usize> = super::starts_with(runs.runs(), plain.as_bytes(), whole).rows().collect();
            assert_eq!(found, expected, "{plain} {whole}");
        }
    }
}
