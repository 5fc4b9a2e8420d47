//! One value as JSON, from where it lies in its column: the same text as the guest `print` writes.

use std::io::Write;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Decimal256Type, DurationMicrosecondType, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, BinaryArray, BooleanArray, StringArray};
use arrow_buffer::i256;
use arrow_schema::DataType;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tidemill_event::ColumnSchema;

use super::calendar::{push_date, push_datetime, push_time};

/// A column's values, with how they stand in JSON.
pub(crate) enum Cells<'a> {
    Bool(&'a BooleanArray),
    Int8(&'a [i8]),
    Int16(&'a [i16]),
    Int32(&'a [i32]),
    Int64(&'a [i64]),
    UInt8(&'a [u8]),
    UInt16(&'a [u16]),
    UInt32(&'a [u32]),
    UInt64(&'a [u64]),
    Float32(&'a [f32]),
    Float64(&'a [f64]),
    Decimal128(&'a [i128], usize),
    Decimal256(&'a [i256], usize),
    Text(&'a StringArray),
    Base64(&'a BinaryArray),
    Uuid(&'a BinaryArray),
    Date(&'a [i32]),
    Time(&'a [i64]),
    /// Whether the values are instants, and not what a clock on a wall shows.
    Datetime(&'a [i64], bool),
}

impl<'a> Cells<'a> {
    pub(crate) fn of(array: &'a dyn Array, column: &ColumnSchema) -> Cells<'a> {
        match array.data_type() {
            DataType::Boolean => Cells::Bool(array.as_boolean()),
            DataType::Int8 => Cells::Int8(array.as_primitive::<Int8Type>().values()),
            DataType::Int16 => Cells::Int16(array.as_primitive::<Int16Type>().values()),
            DataType::Int32 => Cells::Int32(array.as_primitive::<Int32Type>().values()),
            DataType::Int64 => Cells::Int64(array.as_primitive::<Int64Type>().values()),
            DataType::UInt8 => Cells::UInt8(array.as_primitive::<UInt8Type>().values()),
            DataType::UInt16 => Cells::UInt16(array.as_primitive::<UInt16Type>().values()),
            DataType::UInt32 => Cells::UInt32(array.as_primitive::<UInt32Type>().values()),
            DataType::UInt64 => Cells::UInt64(array.as_primitive::<UInt64Type>().values()),
            DataType::Float32 => Cells::Float32(array.as_primitive::<Float32Type>().values()),
            DataType::Float64 => Cells::Float64(array.as_primitive::<Float64Type>().values()),
            DataType::Decimal128(_, scale) => {
                Cells::Decimal128(array.as_primitive::<Decimal128Type>().values(), *scale as usize)
            }
            DataType::Decimal256(_, scale) => {
                Cells::Decimal256(array.as_primitive::<Decimal256Type>().values(), *scale as usize)
            }
            DataType::Utf8 => Cells::Text(array.as_string()),
            DataType::Binary if column.source_type.eq_ignore_ascii_case("uuid") => {
                Cells::Uuid(array.as_binary())
            }
            DataType::Binary => Cells::Base64(array.as_binary()),
            DataType::Date32 => Cells::Date(array.as_primitive::<Date32Type>().values()),
            DataType::Duration(_) => Cells::Time(array.as_primitive::<DurationMicrosecondType>().values()),
            DataType::Timestamp(_, zone) => {
                Cells::Datetime(array.as_primitive::<TimestampMicrosecondType>().values(), zone.is_some())
            }
            other => unreachable!("{other} is outside the closed set of column types"),
        }
    }

    /// Writes the value of a row that has one.
    pub(crate) fn push(&self, out: &mut Vec<u8>, row: usize) {
        match self {
            Cells::Bool(values) => {
                out.extend_from_slice(if values.value(row) { b"true".as_slice() } else { b"false" });
            }
            Cells::Int8(values) => push_integer(out, values[row]),
            Cells::Int16(values) => push_integer(out, values[row]),
            Cells::Int32(values) => push_integer(out, values[row]),
            Cells::Int64(values) => push_integer(out, values[row]),
            Cells::UInt8(values) => push_integer(out, values[row]),
            Cells::UInt16(values) => push_integer(out, values[row]),
            Cells::UInt32(values) => push_integer(out, values[row]),
            Cells::UInt64(values) => push_integer(out, values[row]),
            Cells::Float32(values) => push_float(out, f64::from(values[row])),
            Cells::Float64(values) => push_float(out, values[row]),
            Cells::Text(values) => push_text(out, values.value(row)),
            quoted => {
                out.push(b'"');
                quoted.push_quoted(out, row);
                out.push(b'"');
            }
        }
    }

    fn push_quoted(&self, out: &mut Vec<u8>, row: usize) {
        match self {
            Cells::Decimal128(values, scale) => push_decimal(out, values[row], *scale),
            Cells::Decimal256(values, scale) => push_decimal(out, values[row], *scale),
            Cells::Base64(values) => push_base64(out, values.value(row)),
            Cells::Uuid(values) => push_uuid(out, values.value(row)),
            Cells::Date(values) => push_date(out, values[row].into()),
            Cells::Time(values) => push_time(out, values[row]),
            Cells::Datetime(values, is_instant) => {
                push_datetime(out, values[row]);
                if *is_instant {
                    out.push(b'Z');
                }
            }
            _ => unreachable!("the rest stands without quotes, or brings its own"),
        }
    }
}

/// Decimal digits.
pub(crate) fn push_integer(out: &mut Vec<u8>, value: impl serde::Serialize) {
    serde_json::to_writer(out, &value).expect("a vector takes any number");
}

/// Text in quotes, with escapes where JSON wants them.
pub(crate) fn push_text(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a vector takes any text");
}

/// The shortest text that reads back as the same number; quoted where JSON has no number for it.
fn push_float(out: &mut Vec<u8>, value: f64) {
    let written = if value.is_finite() { write!(out, "{value}") } else { write!(out, "\"{value}\"") };
    written.expect("a vector takes any number");
}

/// The standard alphabet, with padding.
fn push_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    STANDARD.encode_slice(bytes, &mut out[start..]).expect("the room is what it takes");
}

/// `123e4567-e89b-12d3-a456-426614174000`
fn push_uuid(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (place, byte) in bytes.iter().enumerate() {
        if matches!(place, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        out.extend([DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
}

/// A number with `scale` digits behind the point, from all its digits.
fn push_decimal(out: &mut Vec<u8>, unscaled: impl std::fmt::Display, scale: usize) {
    let start = out.len();
    write!(out, "{unscaled}").expect("a vector takes any number");
    if scale == 0 {
        return;
    }
    let digits = start + usize::from(out[start] == b'-');
    // One digit at least stands before the point.
    let missing = (scale + 1).saturating_sub(out.len() - digits);
    out.splice(digits..digits, std::iter::repeat_n(b'0', missing));
    out.insert(out.len() - scale, b'.');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(push: impl Fn(&mut Vec<u8>), expected: &str) {
        let mut out = b"x".to_vec();
        push(&mut out);
        assert_eq!(String::from_utf8_lossy(&out), format!("x{expected}"));
    }

    #[test]
    fn decimals_have_all_their_digits() {
        for (unscaled, scale, expected) in
            [(0, 2, "0.00"), (-5, 2, "-0.05"), (1_050, 2, "10.50"), (-100, 2, "-1.00"), (42, 0, "42")]
        {
            check(|out| push_decimal(out, unscaled, scale), expected);
        }
        check(|out| push_decimal(out, i256::MIN, 76), &{
            let digits = i256::MIN.to_string();
            format!("{}.{}", &digits[..2], &digits[2..])
        });
    }

    #[test]
    fn numbers_that_json_does_not_have_are_texts() {
        check(|out| push_float(out, f64::NAN), "\"NaN\"");
        check(|out| push_float(out, f64::NEG_INFINITY), "\"-inf\"");
        check(|out| push_float(out, -0.25), "-0.25");
        check(|out| push_float(out, 1.0), "1");
    }

    #[test]
    fn bytes_and_texts_are_quoted() {
        check(|out| push_base64(out, b"foob"), "Zm9vYg==");
        check(|out| push_uuid(out, &[0x1a; 16]), "1a1a1a1a-1a1a-1a1a-1a1a-1a1a1a1a1a1a");
        check(|out| push_text(out, "a\"\\\n\u{1}ä"), "\"a\\\"\\\\\\n\\u0001ä\"");
    }
}
