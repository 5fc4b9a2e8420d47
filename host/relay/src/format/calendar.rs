//! Days and microseconds as ISO 8601, as the guests' own text form has them: a fraction only where there is one.

use tidemill_event::calendar::date_of;

/// Microseconds of a day.
const DAY_US: i64 = 86_400_000_000;

/// `2026-01-31`
pub(crate) fn push_date(out: &mut Vec<u8>, days: i64) {
    let (year, month, day) = date_of(days);
    if year < 0 {
        out.push(b'-');
    }
    push_digits(out, year.unsigned_abs(), 4);
    out.push(b'-');
    push_digits(out, u64::from(month), 2);
    out.push(b'-');
    push_digits(out, u64::from(day), 2);
}

/// `2026-01-31T10:00:00.123456`
pub(crate) fn push_datetime(out: &mut Vec<u8>, micros: i64) {
    push_date(out, micros.div_euclid(DAY_US));
    out.push(b'T');
    push_clock(out, micros.rem_euclid(DAY_US) as u64);
}

/// `-838:59:59.000001`
pub(crate) fn push_time(out: &mut Vec<u8>, micros: i64) {
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

#[cfg(test)]
mod tests {
    use super::{push_date, push_datetime, push_time};

    fn check(push: impl Fn(&mut Vec<u8>), expected: &str) {
        let mut out = Vec::new();
        push(&mut out);
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }

    #[test]
    fn days_and_times_of_both_sides_of_1970_are_spelled() {
        check(|out| push_date(out, 0), "1970-01-01");
        check(|out| push_date(out, -719_162), "0001-01-01");
        check(|out| push_date(out, 2_932_896), "9999-12-31");
        check(|out| push_date(out, 19_782), "2024-02-29");
        check(|out| push_datetime(out, -1), "1969-12-31T23:59:59.999999");
        check(|out| push_datetime(out, 1_500_000), "1970-01-01T00:00:01.500000");
        check(|out| push_time(out, -3_020_399_000_001), "-838:59:59.000001");
    }
}
