//! Exact sums: integers of 10^-12.

use core::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use tidemill_guest::{Column, ColumnDef, Decimal, Logical, Values};

/// Digits after the point.
pub const PLACES: u16 = 12;

const ONE: i128 = 10i128.pow(PLACES as u32);

/// An exact amount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount(i128);

impl Amount {
    /// Whether the values of that column are amounts.
    pub fn can_sum(column: &ColumnDef) -> bool {
        match column.meaning() {
            Logical::Int64 | Logical::Uint64 => true,
            Logical::Decimal { precision, scale } => scale <= PLACES && precision <= 24,
            _ => false,
        }
    }

    /// Reads plain decimal text of at most [`PLACES`] places.
    pub fn parse(text: &str) -> Option<Self> {
        Decimal::parse(text.as_bytes())?;
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text.trim_start_matches('+')),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > usize::from(PLACES) {
            return None;
        }
        let padded = format!("{whole}{fraction:0<width$}", width = usize::from(PLACES));
        let size: i128 = padded.parse().ok()?;
        Some(Amount(if negative { -size } else { size }))
    }

    /// The amount of a row that has one; NULL is none.
    pub fn of(column: &Column, row: usize) -> Option<Self> {
        if !column.valid_bits().get(row) {
            return None;
        }
        match &column.values {
            Values::Ints(values) => Some(Amount(i128::from(values[row]) * ONE)),
            Values::Uints(values) => Some(Amount(i128::from(values[row]) * ONE)),
            Values::Text(runs) => Amount::parse(core::str::from_utf8(runs.runs().get(row)).ok()?),
            _ => None,
        }
    }

    /// More by that.
    pub fn add(&mut self, other: Amount) {
        self.0 += other.0;
    }

    /// Less by that.
    pub fn subtract(&mut self, other: Amount) {
        self.0 -= other.0;
    }
}

/// Plain decimal text without needless zeros.
impl fmt::Display for Amount {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) =
            (self.0.unsigned_abs() / ONE.unsigned_abs(), self.0.unsigned_abs() % ONE.unsigned_abs());
        let sign = if self.0 < 0 { "-" } else { "" };
        let digits = format!("{fraction:0width$}", width = usize::from(PLACES));
        match digits.trim_end_matches('0') {
            "" => write!(out, "{sign}{whole}"),
            digits => write!(out, "{sign}{whole}.{digits}"),
        }
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Amount {
    /// From a JSON number or text.
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(input)?;
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Amount::parse(&text)
            .ok_or_else(|| serde::de::Error::custom(format!("{text} is no amount; write 10000 or \"99.50\"")))
    }
}

#[cfg(test)]
mod tests {
    use super::Amount;

    #[test]
    fn amounts_are_exact() {
        for text in ["0", "10000", "-0.5", "99.5", "-123456789012.000000000001"] {
            assert_eq!(Amount::parse(text).map(|amount| amount.to_string()).as_deref(), Some(text));
        }
        assert_eq!(Amount::parse("1.50"), Amount::parse("1.5"));
        assert_eq!(Amount::parse("0.0000000000001"), None);
        assert_eq!(Amount::parse("ten"), None);
    }
}
