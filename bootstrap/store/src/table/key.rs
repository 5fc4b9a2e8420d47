//! Key encoding 1: the bytes that order and identify rows in files, cursors and manifests. They compare as the values do,
//! column by column, NULL first; no key is the beginning of another one of the same columns.
//!
//! | value | bytes |
//! |---|---|
//! | NULL | 0 |
//! | integer | 1 where it is negative, else 2; 8 bytes of two's complement: one order over all widths, with sign or without |
//! | decimal | 1; 16 bytes up to 38 digits, else 32; sign bit flipped |
//! | date, timestamps, time | 1; 4 or 8 bytes; sign bit flipped |
//! | float | 1; 4 or 8 bytes of the IEEE total order |
//! | bool | 1; 1 byte |
//! | text, bytes | 1; the bytes, each 0 followed by 255; 0 0 |
//!
//! All integers big-endian. In memory the first 16 bytes of a key are one integer, which is all of most keys.

use std::cmp::Ordering;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Decimal256Type, DurationMicrosecondType, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType};
use arrow_schema::DataType;

/// Names the encoding in files.
pub(crate) const KEY_ENCODING: &str = "1";

const HEAD_BYTES: usize = 16;

/// The keys of the rows of a batch.
#[derive(Debug)]
pub(crate) struct Keys {
    /// The first 16 bytes of each, followed by zeros where it is shorter.
    heads: Vec<u128>,
    rest: Rest,
}

#[derive(Debug)]
enum Rest {
    /// Each key has so many bytes, and all of them are in its head.
    InHead(usize),
    /// All bytes of all keys, and where each ends.
    Whole(Vec<u8>, Vec<usize>),
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key<'a> {
    head: u128,
    /// All its bytes; empty where its head has them.
    whole: &'a [u8],
}

impl Keys {
    /// The keys of rows with those key columns, which have the stream's types.
    pub(crate) fn new(columns: &[ArrayRef], rows: usize) -> Keys {
        let widths: Option<usize> = columns.iter().map(fixed_width).sum();
        match widths {
            Some(width) if width <= HEAD_BYTES && !columns.is_empty() => Keys::in_head(columns, rows, width),
            _ => Keys::whole(columns, rows),
        }
    }

    fn in_head(columns: &[ArrayRef], rows: usize, width: usize) -> Keys {
        let mut heads = vec![0; rows];
        let mut used = 0;
        for column in columns {
            let bytes = fixed_width(column).expect("every column is of a fixed width");
            add_fixed(column, &mut heads, 8 * (HEAD_BYTES - used - bytes) as u32);
            used += bytes;
        }
        Keys { heads, rest: Rest::InHead(width) }
    }

    fn whole(columns: &[ArrayRef], rows: usize) -> Keys {
        let writers: Vec<Cells<'_>> = columns.iter().map(Cells::new).collect();
        let mut bytes = Vec::with_capacity(rows * 24);
        let (mut ends, mut heads) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        let mut start = 0;
        for row in 0..rows {
            for cells in &writers {
                cells.write(row, &mut bytes);
            }
            heads.push(head_of(&bytes[start..]));
            start = bytes.len();
            ends.push(start);
        }
        Keys { heads, rest: Rest::Whole(bytes, ends) }
    }

    pub(crate) fn len(&self) -> usize {
        self.heads.len()
    }

    pub(crate) fn get(&self, row: usize) -> Key<'_> {
        let whole = match &self.rest {
            Rest::InHead(_) => &[],
            Rest::Whole(bytes, ends) => &bytes[start_of(ends, row)..ends[row]],
        };
        Key { head: self.heads[row], whole }
    }

    /// The encoded key of a row.
    pub(crate) fn bytes(&self, row: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.append(row, &mut bytes);
        bytes
    }

    /// The keys of some rows.
    pub(crate) fn select(&self, rows: &[u32]) -> Keys {
        let heads = rows.iter().map(|row| self.heads[*row as usize]).collect();
        let rest = match &self.rest {
            Rest::InHead(width) => Rest::InHead(*width),
            Rest::Whole(all, ends) => {
                let (mut bytes, mut kept) = (Vec::new(), Vec::with_capacity(rows.len()));
                for row in rows {
                    bytes.extend_from_slice(&all[start_of(ends, *row as usize)..ends[*row as usize]]);
                    kept.push(bytes.len());
                }
                Rest::Whole(bytes, kept)
            }
        };
        Keys { heads, rest }
    }

    /// The keys of several batches, one after the other.
    pub(crate) fn concat(parts: &[&Keys]) -> Keys {
        let heads = parts.iter().flat_map(|keys| keys.heads.iter().copied()).collect();
        let width = parts.first().map_or(0, |keys| match keys.rest {
            Rest::InHead(width) => width,
            Rest::Whole(..) => 0,
        });
        if parts.iter().all(|keys| matches!(keys.rest, Rest::InHead(_))) {
            return Keys { heads, rest: Rest::InHead(width) };
        }
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for keys in parts {
            for row in 0..keys.len() {
                keys.append(row, &mut bytes);
                ends.push(bytes.len());
            }
        }
        Keys { heads, rest: Rest::Whole(bytes, ends) }
    }

    fn append(&self, row: usize, to: &mut Vec<u8>) {
        match &self.rest {
            Rest::InHead(width) => to.extend_from_slice(&self.heads[row].to_be_bytes()[..*width]),
            Rest::Whole(bytes, ends) => to.extend_from_slice(&bytes[start_of(ends, row)..ends[row]]),
        }
    }

    /// Bytes of memory, about.
    pub(crate) fn memory(&self) -> usize {
        let rest = match &self.rest {
            Rest::InHead(_) => 0,
            Rest::Whole(bytes, ends) => bytes.capacity() + size_of_val(&ends[..]),
        };
        size_of_val(&self.heads[..]) + rest
    }

    /// The first row from `from` on whose key is not below `key`; the number of rows where there is none.
    pub(crate) fn seek(&self, from: usize, key: Key<'_>) -> usize {
        let mut low = from;
        let mut step = 1;
        // Gallop: the row is most often near.
        while low + step <= self.len() && self.get(low + step - 1) < key {
            low += step;
            step *= 2;
        }
        let mut high = (low + step).min(self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.get(middle) < key {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
    }
}

impl Keys {
    /// The first row from `from` on whose key is above `key`.
    pub(crate) fn seek_after(&self, from: usize, key: Key<'_>) -> usize {
        let mut row = self.seek(from, key);
        while row < self.len() && self.get(row) == key {
            row += 1;
        }
        row
    }
}

impl<'a> Key<'a> {
    /// Its first 16 bytes: keys of different heads have their order.
    pub(crate) fn head(self) -> u128 {
        self.head
    }

    /// The key of those bytes.
    pub(crate) fn of(bytes: &'a [u8]) -> Key<'a> {
        Key { head: head_of(bytes), whole: bytes }
    }
}

impl Ord for Key<'_> {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        let heads = self.head.cmp(&other.head);
        // Where one is all head, equal heads are equal keys: no key is the beginning of another.
        if heads != Ordering::Equal || self.whole.is_empty() || other.whole.is_empty() {
            return heads;
        }
        self.whole.cmp(other.whole)
    }
}

impl PartialOrd for Key<'_> {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Key<'_> {}

/// An encoded key as hexadecimal digits.
pub(crate) fn hex(key: &[u8]) -> String {
    use std::fmt::Write;
    key.iter().fold(String::with_capacity(2 * key.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("text takes text");
        text
    })
}

/// The encoded key of hexadecimal digits; `None`: they are none.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

fn start_of(ends: &[usize], row: usize) -> usize {
    row.checked_sub(1).map_or(0, |before| ends[before])
}

fn head_of(bytes: &[u8]) -> u128 {
    let mut head = [0; HEAD_BYTES];
    let length = bytes.len().min(HEAD_BYTES);
    head[..length].copy_from_slice(&bytes[..length]);
    u128::from_be_bytes(head)
}

/// How many bytes each value takes, where that is the same for all.
fn fixed_width(column: &ArrayRef) -> Option<usize> {
    if column.null_count() > 0 {
        return None;
    }
    Some(match column.data_type() {
        DataType::Boolean => 2,
        DataType::Date32 | DataType::Float32 => 5,
        t if t.is_integer() => 9,
        DataType::Timestamp(..) | DataType::Duration(_) | DataType::Float64 => 9,
        DataType::Decimal128(..) => 17,
        DataType::Decimal256(..) => 33,
        _ => return None,
    })
}

fn signed(value: i64) -> u128 {
    u128::from(2 - u8::from(value < 0)) << 64 | u128::from(value as u64)
}

fn unsigned(value: u64) -> u128 {
    2 << 64 | u128::from(value)
}

fn flipped32(value: i32) -> u128 {
    1 << 32 | u128::from(value as u32 ^ 1 << 31)
}

fn flipped64(value: i64) -> u128 {
    1 << 64 | u128::from(value as u64 ^ 1 << 63)
}

fn total32(value: f32) -> u128 {
    let bits = value.to_bits() as i32;
    flipped32(bits ^ ((bits >> 31) as u32 >> 1) as i32)
}

fn total64(value: f64) -> u128 {
    let bits = value.to_bits() as i64;
    flipped64(bits ^ ((bits >> 63) as u64 >> 1) as i64)
}

/// Adds a column without NULL to the heads, its last byte at that bit.
fn add_fixed(column: &ArrayRef, heads: &mut [u128], shift: u32) {
    fn add<T: ArrowPrimitiveType>(
        column: &ArrayRef,
        heads: &mut [u128],
        shift: u32,
        encode: impl Fn(T::Native) -> u128,
    ) {
        for (head, value) in heads.iter_mut().zip(column.as_primitive::<T>().values()) {
            *head |= encode(*value) << shift;
        }
    }
    match column.data_type() {
        DataType::Boolean => {
            let values = column.as_boolean().values();
            let encode = |value: bool| 1 << 8 | u128::from(value);
            heads.iter_mut().zip(values).for_each(|(head, value)| *head |= encode(value) << shift);
        }
        DataType::Int8 => add::<Int8Type>(column, heads, shift, |v| signed(v.into())),
        DataType::Int16 => add::<Int16Type>(column, heads, shift, |v| signed(v.into())),
        DataType::Int32 => add::<Int32Type>(column, heads, shift, |v| signed(v.into())),
        DataType::Int64 => add::<Int64Type>(column, heads, shift, signed),
        DataType::UInt8 => add::<UInt8Type>(column, heads, shift, |v| unsigned(v.into())),
        DataType::UInt16 => add::<UInt16Type>(column, heads, shift, |v| unsigned(v.into())),
        DataType::UInt32 => add::<UInt32Type>(column, heads, shift, |v| unsigned(v.into())),
        DataType::UInt64 => add::<UInt64Type>(column, heads, shift, unsigned),
        DataType::Float32 => add::<Float32Type>(column, heads, shift, total32),
        DataType::Float64 => add::<Float64Type>(column, heads, shift, total64),
        DataType::Date32 => add::<Date32Type>(column, heads, shift, flipped32),
        DataType::Timestamp(..) => add::<TimestampMicrosecondType>(column, heads, shift, flipped64),
        DataType::Duration(_) => add::<DurationMicrosecondType>(column, heads, shift, flipped64),
        other => unreachable!("{other} does not fit a head"),
    }
}

/// One column, value by value.
enum Cells<'a> {
    /// What is at most 9 bytes: encoded before, with its width; NULL by the array.
    Small(&'a ArrayRef, Vec<u128>, usize),
    Decimal128(&'a ArrayRef),
    Decimal256(&'a ArrayRef),
    Text(&'a ArrayRef),
    Bytes(&'a ArrayRef),
}

impl<'a> Cells<'a> {
    fn new(column: &'a ArrayRef) -> Cells<'a> {
        match column.data_type() {
            DataType::Decimal128(..) => Cells::Decimal128(column),
            DataType::Decimal256(..) => Cells::Decimal256(column),
            DataType::Utf8 => Cells::Text(column),
            DataType::Binary => Cells::Bytes(column),
            other => {
                let mut values = vec![0; column.len()];
                add_fixed(column, &mut values, 0);
                let width = match other {
                    DataType::Boolean => 2,
                    DataType::Date32 | DataType::Float32 => 5,
                    _ => 9,
                };
                Cells::Small(column, values, width)
            }
        }
    }

    fn write(&self, row: usize, to: &mut Vec<u8>) {
        let (Cells::Small(array, ..)
        | Cells::Decimal128(array)
        | Cells::Decimal256(array)
        | Cells::Text(array)
        | Cells::Bytes(array)) = self;
        if array.is_null(row) {
            return to.push(0);
        }
        match self {
            Cells::Small(_, values, width) => {
                to.extend_from_slice(&values[row].to_be_bytes()[HEAD_BYTES - width..]);
            }
            Cells::Decimal128(array) => {
                let value = array.as_primitive::<Decimal128Type>().value(row);
                to.push(1);
                to.extend_from_slice(&(value ^ i128::MIN).to_be_bytes());
            }
            Cells::Decimal256(array) => {
                let mut bytes = array.as_primitive::<Decimal256Type>().value(row).to_be_bytes();
                bytes[0] ^= 0x80;
                to.push(1);
                to.extend_from_slice(&bytes);
            }
            Cells::Text(array) => escape(array.as_string::<i32>().value(row).as_bytes(), to),
            Cells::Bytes(array) => escape(array.as_binary::<i32>().value(row), to),
        }
    }
}

fn escape(value: &[u8], to: &mut Vec<u8>) {
    to.push(1);
    if value.contains(&0) {
        for piece in value.split_inclusive(|byte| *byte == 0) {
            to.extend_from_slice(piece);
            if piece.ends_with(&[0]) {
                to.push(0xFF);
            }
        }
    } else {
        to.extend_from_slice(value);
    }
    to.extend_from_slice(&[0, 0]);
}

#[cfg(test)]
mod tests;
