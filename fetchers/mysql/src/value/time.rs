//! Dates and times in the packed forms that servers write since MySQL 5.6 and MariaDB 10.1.

use crate::value::ValueError;
use crate::wire::Bytes;

const DAY_US: i64 = 86_400_000_000;
const SECOND_US: i64 = 1_000_000;

/// Bytes of a fraction of a second with that many digits.
pub(crate) fn fraction_bytes(digits: u8) -> usize {
    usize::from(digits).div_ceil(2)
}

/// Microseconds of a fraction.
#[inline]
fn fraction(b: &mut Bytes<'_>, digits: u8) -> Result<i64, ValueError> {
    let bytes = fraction_bytes(digits);
    let unit = [1_000_000, 10_000, 100, 1][bytes.min(3)];
    let value = b.uint_be(bytes)? as i64 * unit;
    match value < SECOND_US {
        true => Ok(value),
        false => Err(ValueError::Malformed("a fraction is a second or more")),
    }
}

/// DATE: days since 1970-01-01.
#[inline]
pub(crate) fn date(b: &mut Bytes<'_>) -> Result<i32, ValueError> {
    let bits = b.uint(3)? as u32;
    days(bits >> 9, bits >> 5 & 15, bits & 31)
}

/// DATETIME: microseconds since 1970-01-01 00:00:00 of no time zone.
#[inline]
pub(crate) fn datetime(b: &mut Bytes<'_>, digits: u8) -> Result<i64, ValueError> {
    const SIGN: u64 = 1 << 39;
    let bits = b.uint_be(5)?.wrapping_sub(SIGN) & ((1 << 40) - 1);
    let fraction = fraction(b, digits)?;
    if bits >> 39 != 0 {
        return Err(ValueError::Malformed("a datetime is negative"));
    }
    datetime_of(bits, fraction)
}

/// From year × 13 + month, day, hour, minute, second as they are packed.
fn datetime_of(bits: u64, fraction: i64) -> Result<i64, ValueError> {
    let months = (bits >> 22) as u32;
    let days = days(months / 13, months % 13, (bits >> 17) as u32 & 31)?;
    let (hour, minute, second) = (bits >> 12 & 31, bits >> 6 & 63, bits & 63);
    if hour > 23 || minute > 59 || second > 59 {
        return Err(ValueError::Malformed("a time of day is out of range"));
    }
    let seconds = (hour * 3600 + minute * 60 + second) as i64;
    Ok(i64::from(days) * DAY_US + seconds * SECOND_US + fraction)
}

/// TIMESTAMP: microseconds since 1970-01-01 00:00:00 UTC. Seconds are unsigned: MariaDB 11.5 goes up to 2106.
#[inline]
pub(crate) fn timestamp(b: &mut Bytes<'_>, digits: u8) -> Result<i64, ValueError> {
    let seconds = b.uint_be(4)? as i64;
    let fraction = fraction(b, digits)?;
    match seconds {
        0 => Err(ValueError::NoDate { year: 0, month: 0, day: 0 }),
        _ => Ok(seconds * SECOND_US + fraction),
    }
}

/// TIME: a signed duration in microseconds, up to 838:59:59.
#[inline]
pub(crate) fn time(b: &mut Bytes<'_>, digits: u8) -> Result<i64, ValueError> {
    let bytes = fraction_bytes(digits);
    // Offset binary over whole and fraction together, so a negative one borrows by itself.
    let all = 3 + bytes;
    let packed = b.uint_be(all)? as i64 - (1i64 << (8 * all - 1));
    let unit = [1_000_000, 10_000, 100, 1][bytes.min(3)];
    let (negative, packed) = (packed < 0, packed.unsigned_abs());
    let fraction = (packed & ((1 << (8 * bytes)) - 1)) as i64 * unit;
    let whole = packed >> (8 * bytes);
    duration_of(whole, fraction, negative)
}

/// From hour, minute, second as they are packed.
fn duration_of(bits: u64, fraction: i64, negative: bool) -> Result<i64, ValueError> {
    let (hour, minute, second) = (bits >> 12 & 1023, bits >> 6 & 63, bits & 63);
    if hour > 838 || minute > 59 || second > 59 || fraction >= SECOND_US {
        return Err(ValueError::Malformed("a time is out of range"));
    }
    let us = (hour * 3600 + minute * 60 + second) as i64 * SECOND_US + fraction;
    Ok(if negative { -us } else { us })
}

/// A date as a statement's rows have it: its length, then what is not zero at the end.
#[inline]
pub(crate) fn sent_date(b: &mut Bytes<'_>) -> Result<i32, ValueError> {
    let (days, us) = sent(b)?;
    match us {
        0 => Ok(days),
        _ => Err(ValueError::Malformed("a date has a time of day")),
    }
}

/// A datetime as a statement's rows have it, and a timestamp in a session whose time zone is UTC.
#[inline]
pub(crate) fn sent_datetime(b: &mut Bytes<'_>) -> Result<i64, ValueError> {
    let (days, us) = sent(b)?;
    Ok(i64::from(days) * DAY_US + us)
}

/// Days and microseconds of the day.
#[inline]
fn sent(b: &mut Bytes<'_>) -> Result<(i32, i64), ValueError> {
    let length = b.u8()?;
    let mut b = Bytes(b.take(usize::from(length))?);
    if !matches!(length, 0 | 4 | 7 | 11) {
        return Err(ValueError::Malformed("a date has an impossible length"));
    }
    let (year, month, day) =
        if length == 0 { (0, 0, 0) } else { (u32::from(b.u16()?), u32::from(b.u8()?), u32::from(b.u8()?)) };
    let days = days(year, month, day)?;
    let us = if length > 4 { time_of_day(&mut b, length > 7)? } else { 0 };
    Ok((days, us))
}

/// Hour, minute and second, a byte each, and microseconds where there are any.
#[inline]
fn time_of_day(b: &mut Bytes<'_>, has_fraction: bool) -> Result<i64, ValueError> {
    let [hour, minute, second] = b.array::<3>()?.map(i64::from);
    let fraction = if has_fraction { i64::from(b.u32()?) } else { 0 };
    if hour > 23 || minute > 59 || second > 59 || fraction >= SECOND_US {
        return Err(ValueError::Malformed("a time of day is out of range"));
    }
    Ok((hour * 3600 + minute * 60 + second) * SECOND_US + fraction)
}

/// A TIME as a statement's rows have it: a sign and days come before hours.
#[inline]
pub(crate) fn sent_time(b: &mut Bytes<'_>) -> Result<i64, ValueError> {
    const DAYS_MAX: u32 = 34;
    const TIME_MAX_US: i64 = 839 * 3600 * SECOND_US;
    let length = b.u8()?;
    let mut b = Bytes(b.take(usize::from(length))?);
    if length == 0 {
        return Ok(0);
    }
    if !matches!(length, 8 | 12) {
        return Err(ValueError::Malformed("a time has an impossible length"));
    }
    let negative = b.u8()? != 0;
    let days = b.u32()?;
    if days > DAYS_MAX {
        return Err(ValueError::Malformed("a time is out of range"));
    }
    let us = i64::from(days) * DAY_US + time_of_day(&mut b, length == 12)?;
    match us < TIME_MAX_US {
        true => Ok(if negative { -us } else { us }),
        false => Err(ValueError::Malformed("a time is out of range")),
    }
}

/// YEAR: zero stays the year 0.
#[inline]
pub(crate) fn year(b: &mut Bytes<'_>) -> Result<i16, ValueError> {
    Ok(match b.u8()? {
        0 => 0,
        after_1900 => 1900 + i16::from(after_1900),
    })
}

/// The kinds of a temporal value within JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packed {
    Date,
    DateTime,
    Time,
}

/// A temporal value within JSON, printed as the server does, with six digits. All its bits are kept: a zero date too.
pub(crate) fn print_packed(packed: i64, kind: Packed, out: &mut Vec<u8>) {
    use std::io::Write;
    let (sign, bits) = (if packed < 0 { "-" } else { "" }, packed.unsigned_abs());
    let (fraction, bits) = (bits & 0xff_ffff, bits >> 24);
    let (minute, second) = (bits >> 6 & 63, bits & 63);
    let day = bits >> 17;
    let (year, month, day, hour) = ((day >> 5) / 13, (day >> 5) % 13, day & 31, bits >> 12 & 31);
    let written = match kind {
        Packed::Date => write!(out, "{sign}{year:04}-{month:02}-{day:02}"),
        Packed::DateTime => {
            write!(out, "{sign}{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{fraction:06}")
        }
        Packed::Time => {
            let hour = bits >> 12 & 1023;
            write!(out, "{sign}{hour:02}:{minute:02}:{second:02}.{fraction:06}")
        }
    };
    written.expect("a vector takes every write");
}

/// Days since 1970-01-01 of a date of the Gregorian calendar; years 0 to 9999 as the servers count them.
#[inline]
fn days(year: u32, month: u32, day: u32) -> Result<i32, ValueError> {
    if year > 9999 || month > 12 {
        return Err(ValueError::Malformed("a date has a year or a month that no server stores"));
    }
    if month == 0 || day == 0 || day > days_of_month(year, month) {
        return Err(ValueError::NoDate { year: year as u16, month: month as u8, day: day as u8 });
    }
    // Years begin in March here, so that the leap day is the last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year.wrapping_sub(1), month + 9) };
    let year = year as i32;
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * month as i32 + 2) / 5 + day as i32 - 1;
    let days = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    Ok(era * 146_097 + days - 719_468)
}

fn days_of_month(year: u32, month: u32) -> u32 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    fn pack_date(year: u32, month: u32, day: u32) -> [u8; 3] {
        let bytes = ((year << 9) | (month << 5) | day).to_le_bytes();
        [bytes[0], bytes[1], bytes[2]]
    }

    fn pack_datetime(year: u64, month: u64, day: u64, seconds: u64) -> Vec<u8> {
        let time = ((seconds / 3600) << 12) | ((seconds / 60 % 60) << 6) | (seconds % 60);
        let bits = (1 << 39) + (((year * 13 + month) << 22) | (day << 17) | time);
        bits.to_be_bytes()[3..].to_vec()
    }

    #[test]
    fn dates_at_the_edges_are_counted_from_1970() {
        for (y, m, d, days) in [
            (1970, 1, 1, 0),
            (1969, 12, 31, -1),
            (2000, 2, 29, 11_016),
            (1000, 1, 1, -354_285),
            (9999, 12, 31, 2_932_896),
            (0, 1, 1, -719_528),
        ] {
            assert_eq!(date(&mut Bytes(&pack_date(y, m, d))), Ok(days), "{y}-{m}-{d}");
        }
    }

    #[test]
    fn zero_partial_and_impossible_dates_are_no_dates() {
        for (y, m, d) in [(0, 0, 0), (2020, 0, 0), (2020, 1, 0), (2021, 2, 29), (2020, 4, 31), (1900, 2, 29)]
        {
            let refused = date(&mut Bytes(&pack_date(y, m, d)));
            let expected = ValueError::NoDate { year: y as u16, month: m as u8, day: d as u8 };
            assert_eq!(refused, Err(expected), "{y}-{m}-{d}");
        }
        assert!(timestamp(&mut Bytes(&[0; 4]), 0).is_err());
    }

    #[test]
    fn datetimes_keep_their_fraction() {
        let mut bytes = pack_datetime(2026, 1, 5, 20 * 3600 + 31 * 60);
        bytes.extend_from_slice(&7919u32.to_be_bytes()[1..]);
        assert_eq!(datetime(&mut Bytes(&bytes), 6), Ok(1_767_645_060_007_919));
        let mut bytes = pack_datetime(1970, 1, 1, 1);
        bytes.push(50);
        assert_eq!(datetime(&mut Bytes(&bytes), 1), Ok(1_500_000));
        assert!(datetime(&mut Bytes(&[0x7f, 0, 0, 0, 0]), 0).is_err());
    }

    #[test]
    fn timestamps_are_unsigned_seconds() {
        assert_eq!(timestamp(&mut Bytes(&[0xff; 4]), 0), Ok(4_294_967_295_000_000));
        assert_eq!(
            timestamp(&mut Bytes(&[0x7f, 0xff, 0xff, 0xff, 0x03, 0xe8]), 3),
            Ok(2_147_483_647_100_000)
        );
    }

    /// The server's own steps: whole seconds and fraction as one number of 24-bit fraction, then offset.
    fn pack_time(us: i64, digits: u8) -> Vec<u8> {
        let abs = us.unsigned_abs();
        let seconds = abs / 1_000_000;
        let bits = ((seconds / 3600) << 12) | ((seconds / 60 % 60) << 6) | (seconds % 60);
        let bytes = fraction_bytes(digits);
        let unit = [1_000_000, 10_000, 100, 1][bytes];
        let packed = ((bits << (8 * bytes)) | ((abs % 1_000_000) / unit)) as i64;
        let packed = if us < 0 { -packed } else { packed };
        ((packed + (1 << (8 * (3 + bytes) - 1))) as u64).to_be_bytes()[8 - 3 - bytes..].to_vec()
    }

    #[test]
    fn a_negative_time_with_a_fraction_is_exact() {
        // As MySQL's documentation of the form shows them.
        assert_eq!(time(&mut Bytes(&[0x7f, 0xff, 0xff, 0xff]), 2), Ok(-10_000));
        assert_eq!(time(&mut Bytes(&[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff]), 6), Ok(-1));
        assert_eq!(time(&mut Bytes(&[0x80, 0, 0]), 0), Ok(0));
    }

    proptest! {
        #[test]
        fn every_time_survives_its_form(us in -3_020_399_999_999i64..=3_020_399_999_999, digits in 0..=6u8) {
            let unit = 10i64.pow(6 - u32::from(digits.next_multiple_of(2)));
            let us = us / unit * unit;
            prop_assert_eq!(time(&mut Bytes(&pack_time(us, digits)), digits), Ok(us));
        }

        #[test]
        fn days_rise_by_one_from_day_to_day(year in 0..9999u32, month in 1..=12u32, day in 1..=31u32) {
            prop_assume!(day <= days_of_month(year, month));
            let next = if day < days_of_month(year, month) { (year, month, day + 1) }
                else if month < 12 { (year, month + 1, 1) } else { (year + 1, 1, 1) };
            prop_assert_eq!(days(year, month, day).unwrap() + 1, days(next.0, next.1, next.2).unwrap());
        }
    }

    #[test]
    fn times_of_statements_are_read_in_every_length() {
        let date = [4, 0xea, 7, 1, 31];
        let datetime = [7, 0xea, 7, 1, 5, 20, 31, 0];
        let fraction = [11, 0xea, 7, 1, 5, 20, 31, 0, 0xef, 0x1e, 0, 0];
        assert_eq!(sent_date(&mut Bytes(&date)), Ok(20_484));
        assert_eq!(sent_datetime(&mut Bytes(&date)), Ok(20_484 * DAY_US));
        assert_eq!(sent_datetime(&mut Bytes(&datetime)), Ok(1_767_645_060_000_000));
        assert_eq!(sent_datetime(&mut Bytes(&fraction)), Ok(1_767_645_060_007_919));
        assert!(sent_date(&mut Bytes(&datetime)).is_err());
        let negative = [12, 1, 34, 0, 0, 0, 22, 59, 58, 0x3f, 0x42, 0x0f, 0];
        assert_eq!(sent_time(&mut Bytes(&negative)), Ok(-3_020_398_999_999));
        assert_eq!(sent_time(&mut Bytes(&[8, 0, 0, 0, 0, 0, 1, 2, 3])), Ok(3_723_000_000));
        assert_eq!(sent_time(&mut Bytes(&[0])), Ok(0));
        for whole in [&date[..], &datetime, &fraction] {
            for len in 0..whole.len() {
                assert!(sent_datetime(&mut Bytes(&whole[..len])).is_err());
            }
        }
        assert!(sent_time(&mut Bytes(&[8, 0, 34, 0, 0, 0, 23, 0, 0])).is_err());
    }

    #[test]
    fn zero_and_impossible_dates_of_statements_are_no_dates() {
        let zero = ValueError::NoDate { year: 0, month: 0, day: 0 };
        assert_eq!(sent_date(&mut Bytes(&[0])), Err(zero.clone()));
        assert_eq!(sent_datetime(&mut Bytes(&[0])), Err(zero));
        let partial = ValueError::NoDate { year: 2026, month: 0, day: 1 };
        assert_eq!(sent_datetime(&mut Bytes(&[7, 0xea, 7, 0, 1, 10, 11, 12])), Err(partial));
    }

    #[test]
    fn year_zero_stays_zero() {
        assert_eq!(year(&mut Bytes(&[0])), Ok(0));
        assert_eq!(year(&mut Bytes(&[1])), Ok(1901));
        assert_eq!(year(&mut Bytes(&[255])), Ok(2155));
    }
}
