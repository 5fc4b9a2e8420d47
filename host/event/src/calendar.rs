//! The proleptic Gregorian calendar: days since 1970-01-01 and the dates that they are. How dates are spelled is the
//! business of whoever spells them.

/// Days of an era of 400 years, after which the calendar repeats itself.
const ERA_DAYS: i64 = 146_097;

/// Days from 0000-03-01 to 1970-01-01: years are counted from March, so that a leap day is the last of its year.
const EPOCH_DAYS: i64 = 719_468;

/// Year, month and day of a day since 1970-01-01.
pub fn date_of(days: i64) -> (i64, u32, u32) {
    let shifted = days + EPOCH_DAYS;
    let (era, day_of_era) = (shifted.div_euclid(ERA_DAYS), shifted.rem_euclid(ERA_DAYS));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months from March repeat 31, 30, 31, 30, 31: 153 days in five.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    (era * 400 + year_of_era + i64::from(month <= 2), month as u32, day as u32)
}

/// The day since 1970-01-01 of a date; `None` where there is no such date.
pub fn days_of(year: i64, month: u32, day: u32) -> Option<i64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let shifted = year - i64::from(month <= 2);
    let (era, year_of_era) = (shifted.div_euclid(400), shifted.rem_euclid(400));
    let month_from_march = i64::from((month + 9) % 12);
    let day_of_year = (153 * month_from_march + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * ERA_DAYS + day_of_era - EPOCH_DAYS;
    (date_of(days) == (year, month, day)).then_some(days)
}

#[cfg(test)]
mod tests {
    use super::{date_of, days_of};

    #[test]
    fn days_of_both_sides_of_1970_have_their_dates() {
        for (days, date) in [
            (0, (1970, 1, 1)),
            (-1, (1969, 12, 31)),
            (-719_162, (1, 1, 1)),
            (2_932_896, (9999, 12, 31)),
            (19_782, (2024, 2, 29)),
        ] {
            assert_eq!((date_of(days), days_of(date.0, date.1, date.2)), (date, Some(days)));
        }
    }

    #[test]
    fn every_day_of_an_era_is_its_own_date_and_follows_the_one_before() {
        let mut last = date_of(-1);
        for days in 0..=super::ERA_DAYS {
            let date = date_of(days);
            assert!(date > last, "{date:?} after {last:?}");
            assert_eq!(days_of(date.0, date.1, date.2), Some(days));
            last = date;
        }
    }

    #[test]
    fn a_date_that_is_none_has_no_day() {
        for (year, month, day) in
            [(2023, 2, 29), (1900, 2, 29), (2024, 13, 1), (2024, 0, 1), (2024, 4, 31), (2024, 1, 0)]
        {
            assert_eq!(days_of(year, month, day), None, "{year}-{month}-{day}");
        }
    }
}
