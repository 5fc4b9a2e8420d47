//! DECIMAL: groups of nine digits in four bytes, shorter groups at both ends in as many bytes as they need,
//! big-endian, sign bit inverted, all bits inverted when negative.

use std::fmt::Write;

use arrow_buffer::i256;

use crate::value::ValueError;
use crate::wire::Bytes;

/// Bytes of a group by its digits.
const GROUP_BYTES: [usize; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];
const POWERS: [u32; 10] =
    [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000];
const GROUP_DIGITS: usize = 9;
const PRECISION_MAX: u8 = 65;
const SCALE_MAX: u8 = 30;
/// Nine groups: a document names whole groups where a column names digits.
const DOCUMENT_PRECISION_MAX: u8 = 81;

/// Digits in all and behind the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) precision: u8,
    pub(crate) scale: u8,
}

impl Shape {
    pub(crate) fn new(precision: u8, scale: u8) -> Option<Shape> {
        let fits = (1..=PRECISION_MAX).contains(&precision) && scale <= SCALE_MAX.min(precision);
        fits.then_some(Shape { precision, scale })
    }

    /// Of a number in a JSON document.
    pub(crate) fn of_document(precision: u8, scale: u8) -> Option<Shape> {
        let fits = (1..=DOCUMENT_PRECISION_MAX).contains(&precision) && scale <= precision;
        fits.then_some(Shape { precision, scale })
    }

    fn whole(self) -> usize {
        usize::from(self.precision - self.scale)
    }

    /// Digits of each group, from the highest.
    fn groups(self) -> impl Iterator<Item = usize> {
        let (whole, scale) = (self.whole(), usize::from(self.scale));
        let head = whole % GROUP_DIGITS;
        let full = whole / GROUP_DIGITS + scale / GROUP_DIGITS;
        let tail = scale % GROUP_DIGITS;
        std::iter::once(head).chain(std::iter::repeat_n(GROUP_DIGITS, full)).chain(std::iter::once(tail))
    }

    pub(crate) fn bytes(self) -> usize {
        self.groups().map(|digits| GROUP_BYTES[digits]).sum()
    }
}

/// A number that decimals are gathered in.
pub(crate) trait Gather: Copy {
    const ZERO: Self;
    fn push(self, group: u32, power: u32) -> Self;
    fn negate(self) -> Self;
}

impl Gather for i128 {
    const ZERO: Self = 0;
    #[inline]
    fn push(self, group: u32, power: u32) -> Self {
        self * i128::from(power) + i128::from(group)
    }
    #[inline]
    fn negate(self) -> Self {
        -self
    }
}

impl Gather for i256 {
    const ZERO: Self = i256::ZERO;
    fn push(self, group: u32, power: u32) -> Self {
        let (power, group) = (i256::from_i128(i128::from(power)), i256::from_i128(i128::from(group)));
        self.wrapping_mul(power).wrapping_add(group)
    }
    fn negate(self) -> Self {
        self.wrapping_neg()
    }
}

/// The value without its point: 1.50 of scale 2 is 150. `T` must hold the precision: 38 digits for `i128`.
#[inline]
pub(crate) fn read<T: Gather>(b: &mut Bytes<'_>, shape: Shape) -> Result<T, ValueError> {
    let mut value = T::ZERO;
    let negative = groups(b, shape, |digits, group| value = value.push(group, POWERS[digits]))?;
    Ok(if negative { value.negate() } else { value })
}

/// The value without its point, from its text: what a statement's rows have. Zeros in front are those of ZEROFILL.
#[inline]
pub(crate) fn read_text<T: Gather>(text: &[u8], shape: Shape) -> Result<T, ValueError> {
    const OTHER: ValueError = ValueError::Malformed("a decimal is not as its column says");
    let (negative, digits) = match text.split_first() {
        Some((b'-', digits)) => (true, digits),
        _ => (false, text),
    };
    let scale = usize::from(shape.scale);
    let (whole, fraction) = match scale {
        0 => (digits, &[][..]),
        _ => {
            let point = digits.len().checked_sub(scale + 1).ok_or(OTHER)?;
            if digits[point] != b'.' {
                return Err(OTHER);
            }
            (&digits[..point], &digits[point + 1..])
        }
    };
    // Digits of a precision that is not a whole number of bytes may be more by zeros in front, never by others.
    let surplus = whole.len().saturating_sub(shape.whole());
    if whole.iter().take(surplus).any(|digit| *digit != b'0') || whole.len() + fraction.len() == 0 {
        return Err(OTHER);
    }
    let mut value = T::ZERO;
    for part in [&whole[surplus..], fraction] {
        for group in part.chunks(GROUP_DIGITS) {
            let mut number = 0u32;
            for digit in group {
                let digit = digit.wrapping_sub(b'0');
                if digit > 9 {
                    return Err(OTHER);
                }
                number = number * 10 + u32::from(digit);
            }
            value = value.push(number, POWERS[group.len()]);
        }
    }
    Ok(if negative { value.negate() } else { value })
}

/// Hands out the groups from the highest, with their digits, and says whether the number is negative.
#[inline]
fn groups(b: &mut Bytes<'_>, shape: Shape, mut each: impl FnMut(usize, u32)) -> Result<bool, ValueError> {
    let bytes = b.take(shape.bytes())?;
    let negative = bytes.first().is_some_and(|first| first & 0x80 == 0);
    let flip = if negative { u8::MAX } else { 0 };
    let mut at = 0;
    for digits in shape.groups() {
        let mut group = 0u32;
        for byte in &bytes[at..at + GROUP_BYTES[digits]] {
            let byte = if at == 0 { byte ^ 0x80 ^ flip } else { byte ^ flip };
            group = group << 8 | u32::from(byte);
            at += 1;
        }
        if group >= POWERS[digits] && digits > 0 {
            return Err(ValueError::Malformed("a decimal has a digit over nine"));
        }
        each(digits, group);
    }
    Ok(negative)
}

/// The number as the server prints it.
pub(crate) fn print(b: &mut Bytes<'_>, shape: Shape, out: &mut Vec<u8>) -> Result<(), ValueError> {
    let mut digits = String::with_capacity(usize::from(shape.precision));
    let negative = groups(b, shape, |digits_of_group, group| {
        if digits_of_group > 0 {
            write!(digits, "{group:0>digits_of_group$}").expect("a text takes every write");
        }
    })?;
    let (whole, fraction) = digits.split_at(shape.whole());
    let whole = whole.trim_start_matches('0');
    let is_zero = digits.bytes().all(|digit| digit == b'0');
    out.extend_from_slice(if negative && !is_zero { b"-" } else { b"" });
    out.extend_from_slice(if whole.is_empty() { b"0" } else { whole.as_bytes() });
    if !fraction.is_empty() {
        out.push(b'.');
        out.extend_from_slice(fraction.as_bytes());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    /// The server's form of a number, written from the manual's description.
    fn encode(shape: Shape, negative: bool, digits: &str) -> Vec<u8> {
        let mut out = Vec::new();
        let mut rest = digits;
        for group in shape.groups() {
            let (head, tail) = rest.split_at(group);
            let value: u32 = if group == 0 { 0 } else { head.parse().unwrap() };
            out.extend_from_slice(&value.to_be_bytes()[4 - GROUP_BYTES[group]..]);
            rest = tail;
        }
        out[0] ^= 0x80;
        if negative {
            out.iter_mut().for_each(|b| *b = !*b);
        }
        out
    }

    #[test]
    fn the_manual_s_example_is_read() {
        let bytes = [0x81, 0x0D, 0xFB, 0x38, 0xD2, 0x04, 0xD2];
        let shape = Shape::new(14, 4).unwrap();
        assert_eq!(read::<i128>(&mut Bytes(&bytes), shape), Ok(12_345_678_901_234));
        let negative: Vec<u8> = bytes.iter().map(|b| !b).collect();
        assert_eq!(read::<i128>(&mut Bytes(&negative), shape), Ok(-12_345_678_901_234));
        let mut text = Vec::new();
        print(&mut Bytes(&negative), shape, &mut text).unwrap();
        assert_eq!(text, b"-1234567890.1234");
    }

    #[test]
    fn zero_has_no_sign_and_a_leading_digit() {
        let shape = Shape::new(5, 3).unwrap();
        let mut text = Vec::new();
        print(&mut Bytes(&encode(shape, false, "00000")), shape, &mut text).unwrap();
        assert_eq!(text, b"0.000");
    }

    #[test]
    fn a_digit_over_nine_is_refused() {
        assert!(read::<i128>(&mut Bytes(&[0x80 | 10]), Shape::new(1, 0).unwrap()).is_err());
    }

    #[test]
    fn a_text_of_another_shape_is_refused() {
        let shape = Shape::new(5, 2).unwrap();
        for text in ["1", "1.0", "1.000", "1000.00", "1,00", "1.0x", "", "-", ".", "--1.00", "1e2.00"] {
            assert!(read_text::<i128>(text.as_bytes(), shape).is_err(), "{text}");
        }
        for (text, value) in [("0001.50", 150), ("-0.01", -1), (".25", 25), ("999.99", 99_999)] {
            assert_eq!(read_text::<i128>(text.as_bytes(), shape), Ok(value), "{text}");
        }
        assert!(read_text::<i128>(b"1.", Shape::new(5, 0).unwrap()).is_err());
    }

    fn numbers() -> impl Strategy<Value = (Shape, bool, String)> {
        (1..=65u8).prop_flat_map(|p| (Just(p), 0..=p.min(30))).prop_flat_map(|(p, s)| {
            let digits = prop::collection::vec(prop::char::range('0', '9'), usize::from(p));
            (Just(Shape::new(p, s).unwrap()), any::<bool>(), digits.prop_map(String::from_iter))
        })
    }

    proptest! {
        #[test]
        fn every_precision_and_scale_is_read_exactly((shape, negative, digits) in numbers()) {
            let bytes = encode(shape, negative, &digits);
            let sign = if negative { "-" } else { "" };
            let expected = i256::from_string(&format!("{sign}{digits}")).unwrap();
            prop_assert_eq!(read::<i256>(&mut Bytes(&bytes), shape), Ok(expected));
            if shape.precision <= 38 {
                prop_assert_eq!(read::<i128>(&mut Bytes(&bytes), shape), Ok(expected.to_i128().unwrap()));
            }
            prop_assert!(read::<i256>(&mut Bytes(&bytes[..bytes.len() - 1]), shape).is_err());
            let mut text = Vec::new();
            print(&mut Bytes(&bytes), shape, &mut text).unwrap();
            prop_assert_eq!(read_text::<i256>(&text, shape), Ok(expected));
            if shape.precision <= 38 {
                prop_assert_eq!(read_text::<i128>(&text, shape), Ok(expected.to_i128().unwrap()));
            }
        }
    }
}
