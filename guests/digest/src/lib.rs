//! The canonical bytes of rows and keys, their hash, and digests of whole tables.
//!
//! The guests `partition` and `replica-check` use this, and so do tests on the host, which compute the
//! same from rows that they read with SQL. It depends on nothing and runs anywhere.
//!
//! # Canonical bytes
//!
//! A row is its values in column order, each a tag and its bytes, so that no two rows share their bytes:
//!
//! | value | bytes |
//! |---|---|
//! | NULL | `00` |
//! | boolean | `01`, then `00` or `01` |
//! | integer (signed or unsigned; days and microseconds of dates and times too) | `02`, then 16 bytes, two's complement, little endian |
//! | floating point | `03`, then the 8 bytes of its IEEE 754 form, little endian; `-0` as `0`, every NaN as `7ff8000000000000` |
//! | decimal | `04`, the length as 4 bytes little endian, then its text without needless zeros: `-12.5` |
//! | text, JSON text | `05`, the length as 4 bytes little endian, then UTF-8 |
//! | bytes, uuid | `06`, the length as 4 bytes little endian, then the bytes |
//!
//! # Hash and digest
//!
//! The hash of bytes is XXH64. A row's 128-bit hash has XXH64 with seed 0 below and with seed 1 above.
//! A table's [`Digest`] is the sum of its rows' hashes modulo 2^128: whatever their order, and a row
//! that goes is subtracted. It finds mistakes, not forgeries.

mod xxh64;

pub use xxh64::xxh64;

use core::fmt;

/// One value of a row, for [`Row::push`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// NULL
    Null,
    /// true or false
    Bool(bool),
    /// signed or unsigned; also the days of a date and the microseconds of a time
    Int(i128),
    /// floating point
    Float(f64),
    /// plain decimal text
    Decimal(&'a str),
    /// text, JSON text
    Text(&'a str),
    /// bytes, uuid
    Bytes(&'a [u8]),
}

/// The canonical bytes of one row or key. Cleared and used again, it does not allocate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    bytes: Vec<u8>,
}

impl Row {
    /// A row without values.
    pub fn new() -> Self {
        Row::default()
    }

    /// Begins again.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Adds the next value.
    pub fn push(&mut self, value: Value<'_>) {
        match value {
            Value::Null => self.bytes.push(0),
            Value::Bool(value) => self.bytes.extend_from_slice(&[1, u8::from(value)]),
            Value::Int(value) => {
                self.bytes.push(2);
                self.bytes.extend_from_slice(&value.to_le_bytes());
            }
            Value::Float(value) => {
                self.bytes.push(3);
                self.bytes.extend_from_slice(&canonical_bits(value).to_le_bytes());
            }
            Value::Decimal(text) => self.push_decimal(text),
            Value::Text(text) => self.push_run(5, text.as_bytes()),
            Value::Bytes(bytes) => self.push_run(6, bytes),
        }
    }

    /// The canonical bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The 64-bit hash: what partitions are cut by.
    pub fn hash64(&self) -> u64 {
        xxh64(&self.bytes, 0)
    }

    /// The 128-bit hash: what digests sum.
    pub fn hash128(&self) -> u128 {
        u128::from(xxh64(&self.bytes, 1)) << 64 | u128::from(xxh64(&self.bytes, 0))
    }

    fn push_run(&mut self, tag: u8, bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).expect("a value is below 4 GiB");
        self.bytes.push(tag);
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(bytes);
    }

    fn push_decimal(&mut self, text: &str) {
        let (sign, digits) = match text.strip_prefix('-') {
            Some(digits) => ("-", digits),
            None => ("", text.strip_prefix('+').unwrap_or(text)),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
        let parts = match (whole, fraction) {
            ("", "") => ["", "0", "", ""],
            ("", fraction) => [sign, "0", ".", fraction],
            (whole, "") => [sign, whole, "", ""],
            (whole, fraction) => [sign, whole, ".", fraction],
        };
        let length = parts.iter().map(|part| part.len()).sum::<usize>();
        self.bytes.push(4);
        self.bytes.extend_from_slice(&u32::try_from(length).expect("a decimal is short").to_le_bytes());
        parts.iter().for_each(|part| self.bytes.extend_from_slice(part.as_bytes()));
    }
}

fn canonical_bits(value: f64) -> u64 {
    match value {
        value if value.is_nan() => 0x7ff8_0000_0000_0000,
        0.0 => 0,
        value => value.to_bits(),
    }
}

/// The digest of a set of rows, in any order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest(pub u128);

impl Digest {
    /// A row more.
    pub fn add(&mut self, row: &Row) {
        self.0 = self.0.wrapping_add(row.hash128());
    }

    /// A row less.
    pub fn remove(&mut self, row: &Row) {
        self.0 = self.0.wrapping_sub(row.hash128());
    }

    /// Reads 32 hexadecimal digits.
    pub fn parse(digits: &str) -> Option<Self> {
        let shaped = digits.len() == 32 && digits.bytes().all(|c| c.is_ascii_hexdigit());
        if shaped { u128::from_str_radix(digits, 16).ok().map(Digest) } else { None }
    }
}

/// 32 hexadecimal digits.
impl fmt::Display for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:032x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{Digest, Row, Value};

    fn row(values: &[Value<'_>]) -> Row {
        let mut row = Row::new();
        values.iter().for_each(|value| row.push(*value));
        row
    }

    #[test]
    fn canonical_bytes_are_as_documented() {
        let check = |value, expected: &[u8]| assert_eq!(row(&[value]).bytes(), expected, "{value:?}");
        check(Value::Null, &[0]);
        check(Value::Bool(true), &[1, 1]);
        check(
            Value::Int(-2),
            &[2, 254, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255],
        );
        check(Value::Float(-0.0), &[3, 0, 0, 0, 0, 0, 0, 0, 0]);
        check(Value::Float(-f64::NAN), &[3, 0, 0, 0, 0, 0, 0, 0xf8, 0x7f]);
        check(Value::Decimal("-012.50"), &[4, 5, 0, 0, 0, b'-', b'1', b'2', b'.', b'5']);
        check(Value::Decimal("-0.00"), &[4, 1, 0, 0, 0, b'0']);
        check(Value::Decimal(".5"), &[4, 3, 0, 0, 0, b'0', b'.', b'5']);
        check(Value::Text("ä"), &[5, 2, 0, 0, 0, 0xc3, 0xa4]);
        check(Value::Bytes(&[]), &[6, 0, 0, 0, 0]);
    }

    #[test]
    fn rows_that_differ_have_different_bytes() {
        let (a, b) = (row(&[Value::Text("a"), Value::Text("")]), row(&[Value::Text(""), Value::Text("a")]));
        assert_ne!(a.bytes(), b.bytes());
        assert_ne!(row(&[Value::Text("1")]).hash128(), row(&[Value::Int(1)]).hash128());
        assert_ne!(row(&[Value::Null]).hash64(), row(&[Value::Text("")]).hash64());
    }

    #[test]
    fn a_digest_forgets_order_and_what_went() {
        let rows: Vec<Row> = (0..100).map(|n| row(&[Value::Int(n), Value::Null])).collect();
        let (mut there, mut back) = (Digest::default(), Digest::default());
        rows.iter().for_each(|row| there.add(row));
        rows.iter().rev().for_each(|row| back.add(row));
        assert_eq!(there, back);
        rows.iter().skip(1).for_each(|row| there.remove(row));
        let mut first = Digest::default();
        first.add(&rows[0]);
        assert_eq!(there, first);
        there.remove(&rows[0]);
        assert_eq!(there, Digest::default());
    }

    #[test]
    fn a_digest_is_read_as_it_is_written() {
        let digest = Digest(0x0123_4567_89ab_cdef);
        assert_eq!(digest.to_string(), "00000000000000000123456789abcdef");
        assert_eq!(Digest::parse(&digest.to_string()), Some(digest));
        assert_eq!(Digest::parse("+0000000000000000123456789abcdef"), None);
    }
}
