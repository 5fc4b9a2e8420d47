//! Conditions that the server judges exactly as we do: whole numbers, decimals, dates, bytes, text by its bytes, NULL. What it
//! would judge otherwise is not asked of it, and rows that it lets through are judged by us all the same.

use tidemill_fetchers_api::extract::{Comparison, Condition};

use crate::extract::definition::ReadColumn;
use crate::extract::select::{hex, quoted};
use crate::table::Kind;
use crate::value::declared::Declared;

/// The condition in SQL; `None`: the server is not asked.
pub(super) fn sql(condition: &Condition, columns: &[ReadColumn]) -> Option<String> {
    let column = columns.get(condition.column as usize)?;
    let name = quoted(&column.name);
    match condition.comparison {
        // What is no date is NULL to us alone.
        Comparison::IsNull if column.date_nullable => return None,
        Comparison::IsNull => return Some(format!("{name} IS NULL")),
        Comparison::IsNotNull => return Some(format!("{name} IS NOT NULL")),
        _ => {}
    }
    let literals: Vec<String> =
        condition.literals.iter().map(|text| literal(column, text)).collect::<Option<_>>()?;
    let compared = compared(column, &name);
    let one = |operator: &str| match literals.as_slice() {
        [literal] => Some(format!("{compared} {operator} {literal}")),
        _ => None,
    };
    match condition.comparison {
        Comparison::Eq => one("="),
        Comparison::Ne => one("<>"),
        Comparison::Lt => one("<"),
        Comparison::Le => one("<="),
        Comparison::Gt => one(">"),
        Comparison::Ge => one(">="),
        Comparison::OneOf if literals.is_empty() => None,
        Comparison::OneOf => Some(format!("{compared} IN ({})", literals.join(", "))),
        Comparison::IsNull | Comparison::IsNotNull => None,
    }
}

fn compared(column: &ReadColumn, name: &str) -> String {
    match column.kind {
        // Its bytes, not its collation.
        Kind::Text { .. } => format!("CAST({name} AS BINARY)"),
        _ => name.to_owned(),
    }
}

/// The literal in SQL, if both sides mean the same by it.
fn literal(column: &ReadColumn, text: &str) -> Option<String> {
    match (&column.kind, column.declared) {
        (_, Some(Declared::Shown(_))) => None,
        (
            Kind::I8
            | Kind::U8
            | Kind::I16
            | Kind::U16
            | Kind::I24
            | Kind::U24
            | Kind::I32
            | Kind::U32
            | Kind::I64
            | Kind::U64,
            _,
        ) => whole(text).then(|| text.to_owned()),
        (Kind::Decimal128(_) | Kind::Decimal256(_), _) => decimal(text).then(|| text.to_owned()),
        (Kind::Date, _) => date(text).then(|| format!("DATE'{text}'")),
        (Kind::DateTime(_), _) => datetime(text).then(|| format!("TIMESTAMP'{text}'")),
        (Kind::Text { charset, .. }, _) if charset.is_exact_utf8() => Some(hex(text.as_bytes())),
        (Kind::Bytes { .. } | Kind::Padded { .. }, None) => {
            let is_hex = text.len().is_multiple_of(2) && text.bytes().all(|b| b.is_ascii_hexdigit());
            is_hex.then(|| format!("X'{text}'"))
        }
        _ => None,
    }
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn whole(text: &str) -> bool {
    /// More than any column has, fewer than the server cuts.
    const DIGITS_MAX: usize = 30;
    digits(text.strip_prefix('-').unwrap_or(text)) && text.len() <= DIGITS_MAX
}

fn decimal(text: &str) -> bool {
    /// The server cuts what a decimal cannot hold.
    const WHOLE_MAX: usize = 35;
    const FRACTION_MAX: usize = 30;
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
    digits(whole) && digits(fraction) && whole.len() <= WHOLE_MAX && fraction.len() <= FRACTION_MAX
}

/// Whether the text is a date of the calendar: the server refuses a statement with another.
fn date(text: &str) -> bool {
    const DAYS_OF_EVERY_MONTH: u32 = 28;
    let [year, month, day] = match text.split('-').collect::<Vec<_>>()[..] {
        [year, month, day] => [year, month, day],
        _ => return false,
    };
    let number = |text: &str, length: usize| {
        let number = digits(text).then(|| text.parse::<u32>().ok()).flatten();
        number.filter(|_| text.len() == length)
    };
    match (number(year, 4), number(month, 2), number(day, 2)) {
        // The last days of a month are left to us.
        (Some(1..), Some(1..=12), Some(1..=DAYS_OF_EVERY_MONTH)) => true,
        _ => false,
    }
}

/// `2026-01-31 10:00:00.000000`, the fraction of any length or left out.
fn datetime(text: &str) -> bool {
    const MICROSECONDS: usize = 6;
    let Some((day, time)) = text.split_once(' ') else { return false };
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let parts: Vec<&str> = time.split(':').collect();
    let below = |text: &str, limit: u32| {
        text.len() == 2 && digits(text) && text.parse::<u32>().is_ok_and(|n| n < limit)
    };
    let is_time = matches!(parts[..], [h, m, s] if below(h, 24) && below(m, 60) && below(s, 60));
    date(day) && is_time && digits(fraction) && fraction.len() <= MICROSECONDS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_literals_that_both_sides_read_alike_are_sent() {
        for good in ["0", "-17", "18446744073709551616"] {
            assert!(whole(good), "{good}");
        }
        for bad in ["", "-", "+1", "1.0", "1e3", " 1", "0x10", "1 OR 1=1"] {
            assert!(!whole(bad), "{bad}");
        }
        for good in ["10.50", "-0.000000000000000000000000000001", "7"] {
            assert!(decimal(good), "{good}");
        }
        for bad in [".5", "5.", "1.0000000000000000000000000000001", "1e2", "1.2.3", "--1"] {
            assert!(!decimal(bad), "{bad}");
        }
        for good in ["2026-01-28", "0001-12-01"] {
            assert!(date(good), "{good}");
        }
        for bad in ["0000-00-00", "2026-1-05", "2026-02-30", "2026-01-05 ", "26-01-05", "2026-01-05'"] {
            assert!(!date(bad), "{bad}");
        }
        for good in ["2026-01-28 10:00:00.000000", "2026-01-28 23:59:59"] {
            assert!(datetime(good), "{good}");
        }
        for bad in [
            "2026-01-28",
            "2026-01-28T10:00:00",
            "2026-01-28 24:00:00",
            "2026-01-28 10:00",
            "2026-01-28 10:00:00.0000001",
        ] {
            assert!(!datetime(bad), "{bad}");
        }
    }
}
