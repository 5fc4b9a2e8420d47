//! Values as text and back, in the forms that the contract names for literals: plain decimals, ISO dates,
//! hexadecimal bytes. Pseudonyms are made of the same text, so they stay the same for ever.

use std::fmt::Write;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Decimal256Type, DurationMicrosecondType, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_buffer::i256;
use arrow_schema::DataType;
use tidemill_event::calendar;

const DAY_US: i64 = 86_400_000_000;

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    push_hex(&mut text, bytes);
    text
}

pub(crate) fn push_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

/// Bytes from hexadecimal digits.
pub(crate) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |b: u8| char::from(b).to_digit(16).map(|d| d as u8);
    digits.chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

/// Writes a number with `scale` digits behind the point, from all its digits.
pub(crate) fn push_decimal(text: &mut String, unscaled: &str, scale: usize) {
    let digits = unscaled.strip_prefix('-').unwrap_or(unscaled);
    if unscaled.len() != digits.len() {
        text.push('-');
    }
    if scale == 0 {
        text.push_str(digits);
    } else if digits.len() > scale {
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        text.push_str(whole);
        text.push('.');
        text.push_str(fraction);
    } else {
        text.push_str("0.");
        text.extend(std::iter::repeat_n('0', scale - digits.len()));
        text.push_str(digits);
    }
}

/// A decimal number, as its floor at that scale and whether that is all of it. `None`: not a number, or larger
/// than anything that can be held.
pub(crate) fn decimal_floor(text: &str, scale: usize) -> Option<(i256, bool)> {
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = rest.split_once('.').unwrap_or((rest, ""));
    let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let kept = &fraction[..fraction.len().min(scale)];
    let lost = fraction[kept.len()..].bytes().any(|b| b != b'0');
    let mut value = i256::ZERO;
    let zeros = std::iter::repeat_n(b'0', scale - kept.len());
    for digit in whole.bytes().chain(kept.bytes()).chain(zeros) {
        value = value.checked_mul(i256::from_i128(10))?;
        value = value.checked_add(i256::from_i128(i128::from(digit - b'0')))?;
    }
    if negative {
        value = value.checked_neg()?;
        if lost {
            value = value.checked_sub(i256::ONE)?;
        }
    }
    Some((value, !lost))
}

fn push_date(text: &mut String, days: i64) {
    let (year, month, day) = calendar::date_of(days);
    // Writing to a string does not fail.
    let _ = write!(text, "{year:04}-{month:02}-{day:02}");
}

fn push_clock(text: &mut String, us: u64) {
    let (seconds, fraction) = (us / 1_000_000, us % 1_000_000);
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let _ = write!(text, "{hours:02}:{minutes:02}:{:02}.{fraction:06}", seconds % 60);
}

fn parse_digits(text: &str, len: usize) -> Option<u32> {
    (text.len() == len && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

/// The day number of `2026-01-31`.
pub(crate) fn parse_date(text: &str) -> Option<i64> {
    let mut parts = text.splitn(3, '-');
    let year = parse_digits(parts.next()?, 4)?;
    let (month, day) = (parse_digits(parts.next()?, 2)?, parse_digits(parts.next()?, 2)?);
    calendar::days_of(i64::from(year), month, day)
}

/// Microseconds of `10:00:00` or `10:00:00.5`; the hours have at least two digits.
fn parse_clock(text: &str, hours_max: i64) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = whole.splitn(3, ':');
    let hours = parts.next().filter(|h| h.len() >= 2 && h.bytes().all(|b| b.is_ascii_digit()))?;
    let hours: i64 = hours.parse().ok().filter(|h| *h <= hours_max)?;
    let (minutes, seconds) = (parse_digits(parts.next()?, 2)?, parse_digits(parts.next()?, 2)?);
    if minutes > 59
        || seconds > 59
        || fraction.len() > 6
        || (fraction.is_empty() && whole.len() != text.len())
    {
        return None;
    }
    let fraction = parse_digits(&format!("{fraction:0<6}"), 6)?;
    let seconds = hours * 3600 + i64::from(minutes * 60 + seconds);
    Some(seconds * 1_000_000 + i64::from(fraction))
}

/// Microseconds since 1970 of `2026-01-31 10:00:00[.ffffff]`, or of a date alone.
pub(crate) fn parse_datetime(text: &str) -> Option<i64> {
    let (date, clock) = text.split_once([' ', 'T']).unwrap_or((text, "00:00:00"));
    parse_date(date)?.checked_mul(DAY_US)?.checked_add(parse_clock(clock, 23)?)
}

/// Microseconds of a signed duration `-838:59:59[.ffffff]`.
pub(crate) fn parse_duration(text: &str) -> Option<i64> {
    match text.strip_prefix('-') {
        Some(rest) => Some(-parse_clock(rest, 838)?),
        None => parse_clock(text, 838),
    }
}

/// Appends the value at that row, which is neither NULL nor absent, in the contract's literal form.
pub(crate) fn push_value(text: &mut String, array: &dyn Array, row: usize) {
    macro_rules! number {
        ($($variant:ident => $ty:ty),+) => {
            match array.data_type() {
                $(DataType::$variant => {
                    let _ = write!(text, "{}", array.as_primitive::<$ty>().value(row));
                })+
                other => push_other(text, array, row, other),
            }
        };
    }
    number!(
        Int8 => Int8Type, Int16 => Int16Type, Int32 => Int32Type, Int64 => Int64Type,
        UInt8 => UInt8Type, UInt16 => UInt16Type, UInt32 => UInt32Type, UInt64 => UInt64Type,
        Float32 => Float32Type, Float64 => Float64Type
    );
}

fn push_other(text: &mut String, array: &dyn Array, row: usize, data_type: &DataType) {
    match data_type {
        DataType::Boolean => text.push_str(if array.as_boolean().value(row) { "true" } else { "false" }),
        DataType::Utf8 => text.push_str(array.as_string::<i32>().value(row)),
        DataType::Binary => push_hex(text, array.as_binary::<i32>().value(row)),
        DataType::Date32 => push_date(text, i64::from(array.as_primitive::<Date32Type>().value(row))),
        DataType::Timestamp(..) => {
            let us = array.as_primitive::<TimestampMicrosecondType>().value(row);
            push_date(text, us.div_euclid(DAY_US));
            text.push(' ');
            push_clock(text, us.rem_euclid(DAY_US) as u64);
        }
        DataType::Duration(_) => {
            let us = array.as_primitive::<DurationMicrosecondType>().value(row);
            if us < 0 {
                text.push('-');
            }
            push_clock(text, us.unsigned_abs());
        }
        DataType::Decimal128(_, scale) => {
            let value = array.as_primitive::<Decimal128Type>().value(row).to_string();
            push_decimal(text, &value, *scale as usize);
        }
        DataType::Decimal256(_, scale) => {
            let value = array.as_primitive::<Decimal256Type>().value(row).to_string();
            push_decimal(text, &value, *scale as usize);
        }
        other => unreachable!("{other} is outside the closed set of column types"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn dates_survive_their_text_from_year_one_to_9999() {
        let first = parse_date("0001-01-01").unwrap();
        let last = parse_date("9999-12-31").unwrap();
        assert_eq!((first, last, parse_date("1970-01-01")), (-719_162, 2_932_896, Some(0)));
        for days in (first..=last).step_by(97) {
            let mut text = String::new();
            push_date(&mut text, days);
            assert_eq!(parse_date(&text), Some(days), "{text}");
        }
        for wrong in ["2026-02-29", "2026-13-01", "2026-1-1", "26-01-01", "2026-01-00", ""] {
            assert_eq!(parse_date(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn clocks_take_fractions_and_signs() {
        assert_eq!(parse_datetime("1970-01-02 00:00:01.5"), Some(DAY_US + 1_500_000));
        assert_eq!(parse_datetime("1970-01-02"), Some(DAY_US));
        assert_eq!(parse_datetime("1970-01-02 24:00:00"), None);
        assert_eq!(parse_duration("-838:59:59.000001"), Some(-3_020_399_000_001));
        assert_eq!(parse_duration("1:00:00"), None);
    }

    #[test]
    fn decimals_are_exact_and_know_what_was_cut() {
        let floor = |text, scale| decimal_floor(text, scale).map(|(v, exact)| (v.to_string(), exact));
        assert_eq!(floor("10.50", 2), Some(("1050".into(), true)));
        assert_eq!(floor("10.505", 2), Some(("1050".into(), false)));
        assert_eq!(floor("-10.505", 2), Some(("-1051".into(), false)));
        assert_eq!(floor("-10.500", 1), Some(("-105".into(), true)));
        assert_eq!(floor("ten", 2), None);
        let mut text = String::new();
        push_decimal(&mut text, "-5", 2);
        assert_eq!(text, "-0.05");
    }

    #[test]
    fn bytes_survive_their_hexadecimal() {
        assert_eq!(from_hex(&hex(b"\x00\xffA")).unwrap(), b"\x00\xffA");
        assert_eq!(from_hex("0g"), None);
        assert_eq!(from_hex("000"), None);
    }
}
