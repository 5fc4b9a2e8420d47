//! One value of an output row, and its bytes: they sort as the values do, so that they serve for keys as for rows.
//!
//! | value | bytes |
//! |---|---|
//! | NULL | `00`; everything else begins with `01` |
//! | boolean | one byte |
//! | integer, date, time | 8 bytes big-endian, signed ones with the sign bit flipped |
//! | float | 8 bytes big-endian; negative ones with all bits flipped, others with the sign bit |
//! | decimal | 32 bytes big-endian, the sign bit flipped |
//! | text, bytes | each `00` as `00 ff`, ended by `00 00` |

use std::fmt::Write;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Decimal256Type, DurationMicrosecondType, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef};
use arrow_buffer::i256;
use arrow_schema::{DataType, TimeUnit};

/// A value of an output row.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// There is none.
    Null,
    /// True or false.
    Bool(bool),
    /// A signed integer; a date as days, a time as microseconds, since 1970-01-01; a duration as microseconds.
    Int(i64),
    /// An unsigned integer.
    UInt(u64),
    /// A floating-point number.
    Float(f64),
    /// A decimal number: its digits, to be divided by ten to the power of its scale.
    Decimal(i256, i8),
    /// A text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// Whether values of that type can be stored.
pub(crate) fn is_storable(data_type: &DataType) -> bool {
    use DataType::*;
    match data_type {
        Boolean | Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | UInt64 => true,
        Float32 | Float64 | Utf8 | Binary | Date32 => true,
        Decimal128(p, s) | Decimal256(p, s) => *s >= 0 && *s as u8 <= *p,
        Timestamp(TimeUnit::Microsecond, zone) => zone.as_ref().is_none_or(|zone| &**zone == "UTC"),
        Duration(TimeUnit::Microsecond) => true,
        _ => false,
    }
}

/// The value of a row; the column's type is storable.
pub(crate) fn value_at(column: &ArrayRef, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    macro_rules! of {
        ($t:ty) => {
            column.as_primitive::<$t>().value(row)
        };
    }
    match column.data_type() {
        DataType::Boolean => Value::Bool(column.as_boolean().value(row)),
        DataType::Int8 => Value::Int(of!(Int8Type).into()),
        DataType::Int16 => Value::Int(of!(Int16Type).into()),
        DataType::Int32 => Value::Int(of!(Int32Type).into()),
        DataType::Int64 => Value::Int(of!(Int64Type)),
        DataType::UInt8 => Value::UInt(of!(UInt8Type).into()),
        DataType::UInt16 => Value::UInt(of!(UInt16Type).into()),
        DataType::UInt32 => Value::UInt(of!(UInt32Type).into()),
        DataType::UInt64 => Value::UInt(of!(UInt64Type)),
        DataType::Float32 => Value::Float(of!(Float32Type).into()),
        DataType::Float64 => Value::Float(of!(Float64Type)),
        DataType::Utf8 => Value::Text(column.as_string::<i32>().value(row).to_owned()),
        DataType::Binary => Value::Bytes(column.as_binary::<i32>().value(row).to_vec()),
        DataType::Date32 => Value::Int(of!(Date32Type).into()),
        DataType::Timestamp(..) => Value::Int(of!(TimestampMicrosecondType)),
        DataType::Duration(_) => Value::Int(of!(DurationMicrosecondType)),
        DataType::Decimal128(_, scale) => Value::Decimal(i256::from_i128(of!(Decimal128Type)), *scale),
        DataType::Decimal256(_, scale) => Value::Decimal(of!(Decimal256Type), *scale),
        other => unreachable!("{other} is not storable, which was checked"),
    }
}

const SIGN: u64 = 1 << 63;

impl Value {
    /// Appends the value's bytes.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self != Value::Null));
        match self {
            Value::Null => {}
            Value::Bool(v) => out.push(u8::from(*v)),
            Value::Int(v) => out.extend_from_slice(&(*v as u64 ^ SIGN).to_be_bytes()),
            Value::UInt(v) => out.extend_from_slice(&v.to_be_bytes()),
            Value::Float(v) => {
                let bits = v.to_bits();
                let sorted = if bits & SIGN == 0 { bits ^ SIGN } else { !bits };
                out.extend_from_slice(&sorted.to_be_bytes());
            }
            Value::Decimal(digits, _) => {
                let mut bytes = digits.to_be_bytes();
                bytes[0] ^= 0x80;
                out.extend_from_slice(&bytes);
            }
            Value::Text(v) => encode_bytes(v.as_bytes(), out),
            Value::Bytes(v) => encode_bytes(v, out),
        }
    }

    /// Takes a value of that type from the front of the bytes; `None`: they are not one.
    pub(crate) fn decode(data_type: &DataType, bytes: &mut &[u8]) -> Option<Value> {
        match take::<1>(bytes)? {
            [0] => return Some(Value::Null),
            [1] => {}
            _ => return None,
        }
        Some(match data_type {
            DataType::Boolean => Value::Bool(take::<1>(bytes)? == [1]),
            DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => {
                Value::UInt(u64::from_be_bytes(take(bytes)?))
            }
            DataType::Float32 | DataType::Float64 => {
                let sorted = u64::from_be_bytes(take(bytes)?);
                Value::Float(f64::from_bits(if sorted & SIGN == 0 { !sorted } else { sorted ^ SIGN }))
            }
            DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale) => {
                let mut digits = take::<32>(bytes)?;
                digits[0] ^= 0x80;
                Value::Decimal(i256::from_be_bytes(digits), *scale)
            }
            DataType::Utf8 => Value::Text(String::from_utf8(decode_bytes(bytes)?).ok()?),
            DataType::Binary => Value::Bytes(decode_bytes(bytes)?),
            _ => Value::Int((u64::from_be_bytes(take(bytes)?) ^ SIGN) as i64),
        })
    }

    /// Appends the value as JSON: decimals as texts that keep every digit, bytes as hexadecimal text.
    pub(crate) fn write_json(&self, out: &mut String) {
        match self {
            Value::Float(v) if v.is_finite() => push(out, format_args!("{v:?}")),
            Value::Null | Value::Float(_) => out.push_str("null"),
            Value::Bool(v) => push(out, format_args!("{v}")),
            Value::Int(v) => push(out, format_args!("{v}")),
            Value::UInt(v) => push(out, format_args!("{v}")),
            Value::Decimal(digits, scale) => push(out, format_args!("\"{}\"", decimal_text(*digits, *scale))),
            Value::Text(v) => write_text(v, out),
            Value::Bytes(v) => {
                out.push('"');
                v.iter().for_each(|byte| push(out, format_args!("{byte:02x}")));
                out.push('"');
            }
        }
    }
}

fn push(out: &mut String, args: std::fmt::Arguments<'_>) {
    out.write_fmt(args).expect("a String takes everything");
}

fn decimal_text(digits: i256, scale: i8) -> String {
    let text = digits.to_string();
    let (sign, number) = text.strip_prefix('-').map_or(("", &*text), |number| ("-", number));
    let scale = usize::try_from(scale).unwrap_or(0);
    if scale == 0 {
        return text;
    }
    let number = format!("{number:0>width$}", width = scale + 1);
    let (whole, part) = number.split_at(number.len() - scale);
    format!("{sign}{whole}.{part}")
}

/// A JSON text.
pub(crate) fn write_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c < ' ' => push(out, format_args!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
}

fn encode_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        out.push(*byte);
        if *byte == 0 {
            out.push(0xff);
        }
    }
    out.extend_from_slice(&[0, 0]);
}

fn decode_bytes(bytes: &mut &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::new();
    loop {
        match take::<1>(bytes)? {
            [0] => match take::<1>(bytes)? {
                [0] => return Some(decoded),
                [0xff] => decoded.push(0),
                _ => return None,
            },
            [byte] => decoded.push(byte),
        }
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(data_type: DataType, value: &Value) -> Vec<u8> {
        let mut bytes = vec![];
        value.encode(&mut bytes);
        let mut rest = &bytes[..];
        assert_eq!(Value::decode(&data_type, &mut rest).as_ref(), Some(value));
        assert_eq!(rest, [0u8; 0]);
        bytes
    }

    proptest! {
        #[test]
        fn bytes_come_back_and_sort_as_their_values(
            a in any::<(i64, u64, f64, i128, String, Vec<u8>)>(),
            b in any::<(i64, u64, f64, i128, String, Vec<u8>)>(),
        ) {
            let of = |data_type: &DataType, a: Value, b: Value| {
                check(data_type.clone(), &a).cmp(&check(data_type.clone(), &b))
            };
            prop_assert_eq!(of(&DataType::Int64, Value::Int(a.0), Value::Int(b.0)), a.0.cmp(&b.0));
            prop_assert_eq!(of(&DataType::UInt64, Value::UInt(a.1), Value::UInt(b.1)), a.1.cmp(&b.1));
            prop_assert_eq!(of(&DataType::Float64, Value::Float(a.2), Value::Float(b.2)), a.2.total_cmp(&b.2));
            let digits = |v| Value::Decimal(i256::from_i128(v), 2);
            prop_assert_eq!(of(&DataType::Decimal128(38, 2), digits(a.3), digits(b.3)), a.3.cmp(&b.3));
            let text = |v: &String| Value::Text(v.clone());
            prop_assert_eq!(of(&DataType::Utf8, text(&a.4), text(&b.4)), a.4.as_bytes().cmp(b.4.as_bytes()));
            let bytes = |v: &Vec<u8>| Value::Bytes(v.clone());
            prop_assert_eq!(of(&DataType::Binary, bytes(&a.5), bytes(&b.5)), a.5.cmp(&b.5));
        }

        #[test]
        fn any_bytes_are_a_value_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            for data_type in [DataType::Utf8, DataType::Int8, DataType::Decimal256(40, 3), DataType::Boolean] {
                let _ = Value::decode(&data_type, &mut &bytes[..]);
            }
        }
    }

    #[test]
    fn null_sorts_first_and_a_prefix_before_what_it_begins() {
        let text = |t: &str| check(DataType::Utf8, &Value::Text(t.into()));
        let sorted =
            [check(DataType::Utf8, &Value::Null), text(""), text("\0"), text("a"), text("a\0"), text("ab")];
        assert!(sorted.is_sorted());
    }

    #[test]
    fn decimals_keep_their_digits() {
        let text = |digits, scale| decimal_text(i256::from_i128(digits), scale);
        assert_eq!([text(-5, 2), text(12345, 2), text(7, 0)], ["-0.05", "123.45", "7"]);
    }
}
