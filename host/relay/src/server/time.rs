//! Times as people and programs write them in requests: RFC 3339, to the microsecond. How answers write them is the
//! formats' matter.

use tidemill_event::calendar::days_of;

const DAY_US: i64 = 86_400_000_000;

/// Microseconds since 1970-01-01 UTC of `2026-11-20T08:00:00Z`, with up to six digits of a second and with `Z` or an
/// offset such as `+01:00`. `None`: it is not such a time, or outside the years 0 to 9999.
pub(crate) fn parse(text: &str) -> Option<i64> {
    let (date, rest) = text.split_once(['T', 't', ' '])?;
    let [year, month, day] = fixed(date, '-', [4, 2, 2])?;
    let zone_at = rest.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = rest.split_at(zone_at);
    let (clock, fraction) = clock.split_once('.').map_or((clock, None), |(c, f)| (c, Some(f)));
    let [hour, minute, second] = fixed(clock, ':', [2, 2, 2])?;
    let days = days_of(year, u32::try_from(month).ok()?, u32::try_from(day).ok()?)?;
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = (hour * 60 + minute) * 60 + second - offset_seconds(zone)?;
    let fraction = fraction.map_or(Some(0), microseconds)?;
    Some(days * DAY_US + seconds * 1_000_000 + fraction)
}

/// Numbers of so many digits each.
fn fixed(text: &str, separator: char, digits: [usize; 3]) -> Option<[i64; 3]> {
    let mut parts = text.split(separator);
    let mut numbers = [0; 3];
    for (number, digits) in numbers.iter_mut().zip(digits) {
        *number = digits_of(parts.next().filter(|part| part.len() == digits)?)?;
    }
    parts.next().is_none().then_some(numbers)
}

fn digits_of(text: &str) -> Option<i64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

fn microseconds(fraction: &str) -> Option<i64> {
    let digits = fraction.len();
    let scale = 10_i64.pow(6_u32.checked_sub(u32::try_from(digits).ok()?)?);
    (digits > 0).then(|| digits_of(fraction))?.map(|number| number * scale)
}

fn offset_seconds(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let (hour, minute) = zone[1..].split_once(':')?;
    let two = |part: &str| (part.len() == 2).then(|| digits_of(part))?;
    let (hour, minute) = (two(hour)?, two(minute)?);
    (hour < 24 && minute < 60).then_some(sign * (hour * 60 + minute) * 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_to_the_microsecond_and_in_their_zone() {
        assert_eq!(parse("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(parse("2026-11-20T08:00:00Z"), Some(1_795_161_600_000_000));
        assert_eq!(parse("2026-11-20T09:00:00.25+01:00"), Some(1_795_161_600_250_000));
        assert_eq!(parse("1969-12-31T23:59:59.999999Z"), Some(-1));
        assert_eq!(parse("2024-02-29T00:00:00-00:30"), parse("2024-02-29T00:30:00Z"));
    }

    #[test]
    fn what_is_not_a_time_is_refused() {
        for text in [
            "",
            "now",
            "2026-11-20",
            "2026-11-20T08:00:00",
            "2026-13-01T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "2026-11-20T24:00:00Z",
            "2026-11-20T08:00:00.Z",
            "2026-11-20T08:00:00.1234567Z",
            "2026-11-20T08:00:00+0100",
            "2026-11-20T08:00:00ZZ",
            "+026-11-20T08:00:00Z",
            "2026-11-20T08:00:00+é1:00",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn every_day_of_four_centuries_is_written_as_it_is_read() {
        for day in (-200 * 366)..(200 * 366) {
            let time = day * DAY_US + day.rem_euclid(86_400) * 1_000_000 + day.rem_euclid(3);
            let text = crate::format::instant_text(time);
            assert_eq!(parse(&text), Some(time), "{text}");
        }
    }
}
