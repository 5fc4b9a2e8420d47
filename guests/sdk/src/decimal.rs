//! Decimals of any length, compared as text: exact, without arithmetic.

use core::cmp::Ordering;

/// A decimal number, borrowed from its plain text: `-12.50`.
#[derive(Clone, Copy, Debug)]
pub struct Decimal<'a> {
    negative: bool,
    /// without leading zeros
    whole: &'a [u8],
    /// without trailing zeros
    fraction: &'a [u8],
}

impl<'a> Decimal<'a> {
    /// The number 0.
    pub const ZERO: Decimal<'static> = Decimal { negative: false, whole: &[], fraction: &[] };

    /// Reads plain decimal text: a sign, digits, a point and digits; no exponent.
    #[inline]
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        let (signed, digits) = match text {
            [b'-', digits @ ..] => (true, digits),
            [b'+', digits @ ..] => (false, digits),
            digits => (false, digits),
        };
        let point = digits.iter().position(|c| *c == b'.').unwrap_or(digits.len());
        let (whole, fraction) = (&digits[..point], digits.get(point + 1..).unwrap_or_default());
        let is_number = !(whole.is_empty() && fraction.is_empty());
        if !is_number || !whole.iter().chain(fraction).all(u8::is_ascii_digit) {
            return None;
        }
        let start = whole.iter().position(|c| *c != b'0').unwrap_or(whole.len());
        let end = fraction.iter().rposition(|c| *c != b'0').map_or(0, |last| last + 1);
        let (whole, fraction) = (&whole[start..], &fraction[..end]);
        let is_zero = whole.is_empty() && fraction.is_empty();
        Some(Decimal { negative: signed && !is_zero, whole, fraction })
    }

    /// Whether it has no digits after the point but zeros.
    pub fn is_whole(&self) -> bool {
        self.fraction.is_empty()
    }

    /// Whether it is below zero.
    pub fn is_negative(&self) -> bool {
        self.negative
    }

    /// The largest integer that is not above it; `None` when that has more digits than `i128` holds.
    pub fn floor(&self) -> Option<i128> {
        let digits = core::str::from_utf8(self.whole).ok()?;
        let whole: i128 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
        Some(match (self.negative, self.is_whole()) {
            (false, _) => whole,
            (true, true) => -whole,
            (true, false) => -whole - 1,
        })
    }

    /// One spelling for each number: no sign on zero, no zeros in front or at the end.
    pub fn write_canonical(&self, out: &mut Vec<u8>) {
        if self.negative {
            out.push(b'-');
        }
        out.extend_from_slice(if self.whole.is_empty() { b"0" } else { self.whole });
        if !self.fraction.is_empty() {
            out.push(b'.');
            out.extend_from_slice(self.fraction);
        }
    }

    fn cmp_size(&self, other: &Decimal<'_>) -> Ordering {
        let whole = self.whole.len().cmp(&other.whole.len()).then_with(|| self.whole.cmp(other.whole));
        // Fractions have no trailing zeros, so the order of their bytes is the order of their values.
        whole.then_with(|| self.fraction.cmp(other.fraction))
    }
}

impl Ord for Decimal<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.negative, other.negative) {
            (false, false) => self.cmp_size(other),
            (true, true) => other.cmp_size(self),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        }
    }
}

impl PartialOrd for Decimal<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Decimal<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Decimal<'_> {}

#[cfg(test)]
mod tests {
    use super::Decimal;

    fn decimal(text: &str) -> Decimal<'_> {
        Decimal::parse(text.as_bytes()).unwrap_or_else(|| panic!("{text} is a decimal"))
    }

    #[test]
    fn numbers_are_in_order_whatever_their_spelling() {
        let rising = [
            "-100",
            "-99.99",
            "-10",
            "-0.5",
            "-0.49",
            "0",
            "0.01",
            "0.1",
            "1",
            "1.05",
            "9.9",
            "10",
            "100000000000000000000000000000000000000000.1",
        ];
        for (i, a) in rising.iter().enumerate() {
            for (j, b) in rising.iter().enumerate() {
                assert_eq!(decimal(a).cmp(&decimal(b)), i.cmp(&j), "{a} {b}");
            }
        }
        assert_eq!(decimal("-0.00"), decimal("0"));
        assert_eq!(decimal("+001.50"), decimal("1.5"));
        assert_eq!(decimal(".5"), decimal("0.50"));
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in ["", "-", ".", "1e3", "0x1", "1.2.3", " 1", "NaN"] {
            assert!(Decimal::parse(text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn floor_goes_down_on_both_sides_of_zero() {
        assert_eq!(decimal("10.5").floor(), Some(10));
        assert_eq!(decimal("-10.5").floor(), Some(-11));
        assert_eq!(decimal("-10").floor(), Some(-10));
        assert_eq!(decimal(&"9".repeat(60)).floor(), None);
    }

    #[test]
    fn canonical_text_is_one_for_each_number() {
        for (text, expected) in [("-0.0", "0"), ("0012.3400", "12.34"), (".5", "0.5"), ("-7", "-7")] {
            let mut out = Vec::new();
            decimal(text).write_canonical(&mut out);
            assert_eq!(String::from_utf8_lossy(&out), expected);
        }
    }
}
