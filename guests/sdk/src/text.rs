//! Values as text, the way people and JSON expect them: one spelling for every logical type.

use core::fmt::Write as _;

use crate::column::Runs;
use crate::{Column, ColumnDef, Logical, Values, calendar};

/// How a column's values are spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// `true`
    Bool,
    /// `-17`
    Integer,
    /// `0.1`, the shortest text that reads back as the same number
    Float,
    /// the text as it is
    Text,
    /// the bytes as they are
    Bytes,
    /// `123e4567-e89b-12d3-a456-426614174000`
    Uuid,
    /// `2026-01-31`
    Date,
    /// `-12:00:00.000001`
    Time,
    /// `2026-01-31T10:00:00`
    Datetime,
    /// `2026-01-31T10:00:00Z`
    Timestamp,
}

impl Spelling {
    /// How that column's values are spelled.
    pub fn of(column: &ColumnDef) -> Self {
        match column.meaning() {
            Logical::Uuid => Spelling::Uuid,
            Logical::Date => Spelling::Date,
            Logical::Time => Spelling::Time,
            Logical::Datetime => Spelling::Datetime,
            Logical::Timestamp => Spelling::Timestamp,
            _ => match column.physical {
                crate::Physical::Bools => Spelling::Bool,
                crate::Physical::Ints | crate::Physical::Uints => Spelling::Integer,
                crate::Physical::Floats => Spelling::Float,
                crate::Physical::Text => Spelling::Text,
                crate::Physical::Bytes => Spelling::Bytes,
            },
        }
    }

    /// Writes the value of a row that has one.
    pub fn push(self, out: &mut Vec<u8>, column: &Column, row: usize) {
        match &column.values {
            Values::Bools(values) => push_display(out, values.get(row).is_some_and(|value| *value != 0)),
            Values::Ints(values) => self.push_int(out, values.get(row).copied().unwrap_or_default()),
            Values::Uints(values) => push_integer(out, values.get(row).copied().unwrap_or_default()),
            Values::Floats(values) => push_display(out, values.get(row).copied().unwrap_or_default()),
            Values::Text(runs) | Values::Bytes(runs) => self.push_run(out, runs.runs(), row),
        }
    }

    fn push_int(self, out: &mut Vec<u8>, value: i64) {
        match self {
            Spelling::Date => calendar::push_date(out, value),
            Spelling::Time => calendar::push_time(out, value),
            Spelling::Datetime => calendar::push_datetime(out, value, b'T'),
            Spelling::Timestamp => {
                calendar::push_datetime(out, value, b'T');
                out.push(b'Z');
            }
            _ => push_integer(out, value),
        }
    }

    fn push_run(self, out: &mut Vec<u8>, runs: Runs<'_>, row: usize) {
        match self {
            Spelling::Uuid => push_uuid(out, runs.get(row)),
            _ => out.extend_from_slice(runs.get(row)),
        }
    }
}

/// Hexadecimal digits, two a byte.
pub fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
}

/// `123e4567-e89b-12d3-a456-426614174000`
pub fn push_uuid(out: &mut Vec<u8>, bytes: &[u8]) {
    for (place, byte) in bytes.iter().enumerate() {
        if matches!(place, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        push_hex(out, core::slice::from_ref(byte));
    }
}

/// Decimal digits.
pub fn push_integer(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn push_display(out: &mut Vec<u8>, value: impl core::fmt::Display) {
    /// Text into bytes; nothing can fail.
    struct Bytes<'a>(&'a mut Vec<u8>);
    impl core::fmt::Write for Bytes<'_> {
        fn write_str(&mut self, text: &str) -> core::fmt::Result {
            self.0.extend_from_slice(text.as_bytes());
            Ok(())
        }
    }
    let written = write!(Bytes(out), "{value}");
    debug_assert!(written.is_ok(), "a vector takes any text");
}

#[cfg(test)]
mod tests {
    use super::Spelling;
    use crate::{Column, build, testing};

    fn check(logical: &str, column: Column, expected: &str) {
        let mut out = Vec::new();
        Spelling::of(&testing::column("c", logical)).push(&mut out, &column, 0);
        assert_eq!(String::from_utf8_lossy(&out), expected, "{logical}");
    }

    #[test]
    fn every_logical_type_has_one_spelling() {
        check("bool", build::Bools::of(&[true]), "true");
        check("int64", build::Ints::of(&[i64::MIN]), "-9223372036854775808");
        check("uint64", build::Uints::of(&[u64::MAX]), "18446744073709551615");
        check("float64", build::Floats::of(&[0.1]), "0.1");
        check("decimal(4,2)", build::Texts::of(&["-1.50"]), "-1.50");
        check("date", build::Ints::of(&[20_777]), "2026-11-20");
        check("time", build::Ints::of(&[-1]), "-00:00:00.000001");
        check("datetime", build::Ints::of(&[0]), "1970-01-01T00:00:00");
        check("timestamp", build::Ints::of(&[1_500_000]), "1970-01-01T00:00:01.500000Z");
        check("uuid", build::Bytes::of(&[[0x1a; 16]]), "1a1a1a1a-1a1a-1a1a-1a1a-1a1a1a1a1a1a");
    }
}
