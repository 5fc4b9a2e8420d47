//! Dates and times of the contract, to and from text. The calendar is the Gregorian one, continued
//! in both directions, as the databases have it.

/// Microseconds of a day.
pub const DAY_US: i64 = 86_400_000_000;

/// Days of 400 years, after which the calendar repeats.
const ERA_DAYS: i64 = 146_097;

/// The days from 0000-03-01 to 1970-01-01. Years are counted from March, so that the day that
/// is sometimes missing is the last of its year.
const EPOCH_DAYS: i64 = 719_468;

/// Year, month and day of a day number since 1970-01-01.
pub fn date_of(days: i64) -> (i64, u32, u32) {
    let days = days + EPOCH_DAYS;
    let (era, day_of_era) = (days.div_euclid(ERA_DAYS), days.rem_euclid(ERA_DAYS));
    let leap_days_out = day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096;
    let year_of_era = leap_days_out / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months from March repeat 31, 30, 31, 30, 31: 153 days in five.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month as u32, day as u32)
}

/// The day number of a date, if there is such a date.
pub fn days_of(year: i64, month: u32, day: u32) -> Option<i64> {
    let year_from_march = year - i64::from(month <= 2);
    let (era, year_of_era) = (year_from_march.div_euclid(400), year_from_march.rem_euclid(400));
    let month_from_march = (i64::from(month) + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + i64::from(day) - 1;
    let day_of_era = 365 * year_of_era + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * ERA_DAYS + day_of_era - EPOCH_DAYS;
    let exists = (1..=12).contains(&month) && date_of(days) == (year, month, day);
    exists.then_some(days)
}

/// `2026-01-31`
pub fn push_date(out: &mut Vec<u8>, days: i64) {
    let (year, month, day) = date_of(days);
    if year < 0 {
        out.push(b'-');
    }
    push_digits(out, year.unsigned_abs(), 4);
    out.push(b'-');
    push_digits(out, month.into(), 2);
    out.push(b'-');
    push_digits(out, day.into(), 2);
}

/// `2026-01-31T10:00:00.123456`, with `between` in place of the `T` and no fraction when it is zero.
pub fn push_datetime(out: &mut Vec<u8>, micros: i64, between: u8) {
    push_date(out, micros.div_euclid(DAY_US));
    out.push(between);
    push_clock(out, micros.rem_euclid(DAY_US) as u64);
}

/// `-838:59:59.000001`, no fraction when it is zero.
pub fn push_time(out: &mut Vec<u8>, micros: i64) {
    if micros < 0 {
        out.push(b'-');
    }
    push_clock(out, micros.unsigned_abs());
}

fn push_clock(out: &mut Vec<u8>, micros: u64) {
    let seconds = micros / 1_000_000;
    push_digits(out, seconds / 3_600, 2);
    out.push(b':');
    push_digits(out, seconds / 60 % 60, 2);
    out.push(b':');
    push_digits(out, seconds % 60, 2);
    if !micros.is_multiple_of(1_000_000) {
        out.push(b'.');
        push_digits(out, micros % 1_000_000, 6);
    }
}

/// At least that many digits.
fn push_digits(out: &mut Vec<u8>, number: u64, digits: usize) {
    let mut text = [b'0'; 20];
    let (mut left, mut at) = (number, text.len());
    while left > 0 {
        at -= 1;
        text[at] = b'0' + (left % 10) as u8;
        left /= 10;
    }
    out.extend_from_slice(&text[at.min(text.len() - digits)..]);
}

/// `2026-01-31` as a day number.
pub fn parse_date(text: &str) -> Option<i64> {
    let mut parts = text.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let shaped = parts.next().is_none() && year.len() == 4 && month.len() <= 2 && day.len() <= 2;
    if !shaped {
        return None;
    }
    days_of(number(year)?, u32::try_from(number(month)?).ok()?, u32::try_from(number(day)?).ok()?)
}

/// `2026-01-31`, `2026-01-31 10:00:00` or `2026-01-31T10:00:00.123456` as microseconds.
pub fn parse_datetime(text: &str) -> Option<i64> {
    let (date, clock) = text.split_once([' ', 'T']).unwrap_or((text, "00:00:00"));
    let micros = parse_clock(clock)?;
    (micros < DAY_US).then_some(parse_date(date)? * DAY_US + micros)
}

/// `-838:59:59.000001` as microseconds.
pub fn parse_time(text: &str) -> Option<i64> {
    match text.strip_prefix('-') {
        Some(clock) => Some(-parse_clock(clock)?),
        None => parse_clock(text),
    }
}

fn parse_clock(text: &str) -> Option<i64> {
    let (clock, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let mut parts = clock.split(':');
    let (hours, minutes) = (number(parts.next()?)?, number(parts.next()?)?);
    let seconds = parts.next().map_or(Some(0), number)?;
    let shaped =
        parts.next().is_none() && minutes < 60 && seconds < 60 && hours < 10_000 && fraction.len() <= 6;
    if !shaped {
        return None;
    }
    let micros = number(fraction)? * 10i64.pow(6 - fraction.len() as u32);
    Some(((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + micros)
}

/// Digits only: no sign, no spaces.
fn number(text: &str) -> Option<i64> {
    let digits = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(push: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        push(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn every_day_of_two_eras_is_its_own_date() {
        let mut previous = date_of(-ERA_DAYS - 1);
        for days in -ERA_DAYS..ERA_DAYS {
            let (year, month, day) = date_of(days);
            assert_eq!(days_of(year, month, day), Some(days));
            assert!((year, month, day) > previous, "{days}");
            previous = (year, month, day);
        }
    }

    #[test]
    fn known_days_have_their_numbers() {
        assert_eq!(days_of(1970, 1, 1), Some(0));
        assert_eq!(days_of(2000, 2, 29), Some(11_016));
        assert_eq!(days_of(2026, 11, 20), Some(20_777));
        assert_eq!(days_of(1900, 2, 29), None);
        assert_eq!(days_of(2026, 13, 1), None);
        assert_eq!(days_of(2026, 0, 1), None);
    }

    #[test]
    fn text_is_read_as_it_is_written() {
        for sample in ["1000-01-01 00:00:00", "1969-12-31 23:59:59.999999", "9999-12-31 23:59:59"] {
            let micros = parse_datetime(sample).unwrap_or_else(|| panic!("{sample}"));
            assert_eq!(text(|out| push_datetime(out, micros, b' ')), sample);
        }
        for sample in ["-838:59:59", "838:59:59.000001", "00:00:00"] {
            let micros = parse_time(sample).unwrap_or_else(|| panic!("{sample}"));
            assert_eq!(text(|out| push_time(out, micros)), sample);
        }
        assert_eq!(parse_datetime("2026-01-31"), parse_datetime("2026-01-31T00:00:00.0"));
        assert_eq!(text(|out| push_date(out, -719_529)), "-0001-12-31");
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for sample in [
            "2026-02-30",
            "26-01-01",
            "2026-01-01 24:00:00",
            "2026-01-01 10:60:00",
            "2026-01-01 1:2:3.1234567",
            "tomorrow",
            "",
        ] {
            assert_eq!(parse_datetime(sample), None, "{sample}");
        }
        assert_eq!(parse_time("1:-2:3"), None);
    }
}
