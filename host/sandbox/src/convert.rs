//! Windows to WIT and back: the one place where Arrow arrays become columns of the contract, and where what a
//! guest answers becomes Arrow arrays, after every length, offset, bit and string of it was checked.
//!
//! Numbers of 64 bits, text and bytes are lowered from where they lie. The source's narrower types are widened,
//! decimals become text; only the columns that the guest asked for come here at all.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Decimal256Type, DurationMicrosecondType, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{
    Array, ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, PrimitiveArray, StringArray,
};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer, i256};
use arrow_schema::{DataType, TimeUnit};
use tidemill_event::{ColumnSchema, TableSchema};

use crate::abi::{Column, ColumnDef, OwnedColumn, OwnedValues, OwnedVarlen, Physical, Values, Varlen};
use crate::error::LimitHit;
use crate::limits::Limits;
use crate::text;

/// The columns of a table as `plan` is told of them.
pub(crate) fn column_defs(schema: &TableSchema) -> Vec<ColumnDef> {
    schema.columns().iter().map(column_def).collect()
}

fn column_def(column: &ColumnSchema) -> ColumnDef {
    let (logical, physical) = logical_type(column);
    ColumnDef {
        name: column.name.clone(),
        logical,
        physical,
        source_type: column.source_type.clone(),
        nullable: column.nullable,
    }
}

/// What a column's values mean, and how they cross.
pub(crate) fn logical_type(column: &ColumnSchema) -> (String, Physical) {
    let is = |source_type: &str| column.source_type.eq_ignore_ascii_case(source_type);
    let (logical, physical) = match &column.data_type {
        DataType::Boolean => ("bool", Physical::Bools),
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => ("int64", Physical::Ints),
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => {
            ("uint64", Physical::Uints)
        }
        DataType::Float32 | DataType::Float64 => ("float64", Physical::Floats),
        DataType::Decimal128(p, s) | DataType::Decimal256(p, s) => {
            return (format!("decimal({p},{s})"), Physical::Text);
        }
        DataType::Utf8 if is("json") => ("json", Physical::Text),
        DataType::Utf8 => ("text", Physical::Text),
        DataType::Binary if is("uuid") => ("uuid", Physical::Bytes),
        DataType::Binary => ("bytes", Physical::Bytes),
        DataType::Date32 => ("date", Physical::Ints),
        DataType::Duration(_) => ("time", Physical::Ints),
        DataType::Timestamp(_, None) => ("datetime", Physical::Ints),
        DataType::Timestamp(_, Some(_)) => ("timestamp", Physical::Ints),
        other => unreachable!("{other} is outside the closed set of column types"),
    };
    (logical.to_owned(), physical)
}

/// The Arrow type that holds a column which a guest defined.
pub(crate) fn arrow_type(def: &ColumnDef) -> Result<DataType, String> {
    let (data_type, physical) = match def.logical.as_str() {
        "bool" => (DataType::Boolean, Physical::Bools),
        "int64" => (DataType::Int64, Physical::Ints),
        "uint64" => (DataType::UInt64, Physical::Uints),
        "float64" => (DataType::Float64, Physical::Floats),
        "text" | "json" => (DataType::Utf8, Physical::Text),
        "bytes" | "uuid" => (DataType::Binary, Physical::Bytes),
        "date" => (DataType::Date32, Physical::Ints),
        "time" => (DataType::Duration(TimeUnit::Microsecond), Physical::Ints),
        "datetime" => (DataType::Timestamp(TimeUnit::Microsecond, None), Physical::Ints),
        "timestamp" => (DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), Physical::Ints),
        other => match decimal_type(other) {
            Some(data_type) => (data_type, Physical::Text),
            None => return Err(format!("column {:?} has the unknown type {other:?}", def.name)),
        },
    };
    if physical == def.physical {
        return Ok(data_type);
    }
    let (name, logical) = (&def.name, &def.logical);
    Err(format!("column {name:?} of type {logical:?} is laid out as {physical:?}, not as {:?}", def.physical))
}

fn decimal_type(logical: &str) -> Option<DataType> {
    let (p, s) = logical.strip_prefix("decimal(")?.strip_suffix(')')?.split_once(',')?;
    let (p, s): (u8, i8) = (p.trim().parse().ok()?, s.trim().parse().ok()?);
    match p {
        _ if s < 0 || s as u8 > p => None,
        1..=38 => Some(DataType::Decimal128(p, s)),
        39..=76 => Some(DataType::Decimal256(p, s)),
        _ => None,
    }
}

// ---------------------------------------------------------------------------------------------- lowering

/// A column on its way in: borrowed from the array where its layout is that of the contract.
pub(crate) struct Lowered<'a> {
    valid: Vec<u8>,
    present: Vec<u8>,
    values: Held<'a>,
}

enum Held<'a> {
    Bools(Vec<u8>),
    Ints(Cow<'a, [i64]>),
    Uints(Cow<'a, [u64]>),
    Floats(Cow<'a, [f64]>),
    Text(Cow<'a, [u32]>, Cow<'a, [u8]>),
    Bytes(Cow<'a, [u32]>, Cow<'a, [u8]>),
}

impl Lowered<'_> {
    /// The column as the contract has it.
    pub(crate) fn column(&self) -> Column<'_> {
        let values = match &self.values {
            Held::Bools(values) => Values::Bools(values),
            Held::Ints(values) => Values::Ints(values),
            Held::Uints(values) => Values::Uints(values),
            Held::Floats(values) => Values::Floats(values),
            Held::Text(offsets, data) => Values::Text(Varlen { offsets, data }),
            Held::Bytes(offsets, data) => Values::Bytes(Varlen { offsets, data }),
        };
        Column { valid: &self.valid, present: &self.present, values }
    }
}

/// One column of some rows; `absent` marks the values that the source did not log. What has no value is 0 or
/// empty, whatever lies in the buffer there.
pub(crate) fn lower<'a>(array: &'a dyn Array, absent: Option<&BooleanBuffer>) -> Lowered<'a> {
    let absent = absent.filter(|bits| bits.count_set_bits() > 0);
    let nulls = array.nulls().filter(|nulls| nulls.null_count() > 0).map(NullBuffer::inner);
    let valid = match (nulls, absent) {
        (None, None) => None,
        (Some(nulls), None) => Some(nulls.clone()),
        (None, Some(absent)) => Some(!absent),
        (Some(nulls), Some(absent)) => Some(nulls & &!absent),
    };
    Lowered {
        values: lower_values(array, valid.as_ref()),
        valid: valid.as_ref().map(packed).unwrap_or_default(),
        present: absent.map(|bits| packed(&!bits)).unwrap_or_default(),
    }
}

/// The bits from the first byte on, with zeros behind the last.
fn packed(bits: &BooleanBuffer) -> Vec<u8> {
    let mut bytes = bits.sliced().as_slice()[..bits.len().div_ceil(8)].to_vec();
    if let (Some(last), rest @ 1..) = (bytes.last_mut(), bits.len() % 8) {
        *last &= (1 << rest) - 1;
    }
    bytes
}

fn lower_values<'a>(array: &'a dyn Array, valid: Option<&BooleanBuffer>) -> Held<'a> {
    match array.data_type() {
        DataType::Int64 => Held::Ints(in_place::<Int64Type>(array, valid)),
        DataType::Timestamp(..) => Held::Ints(in_place::<TimestampMicrosecondType>(array, valid)),
        DataType::Duration(_) => Held::Ints(in_place::<DurationMicrosecondType>(array, valid)),
        DataType::UInt64 => Held::Uints(in_place::<UInt64Type>(array, valid)),
        DataType::Float64 => Held::Floats(in_place::<Float64Type>(array, valid)),
        DataType::Int8 => Held::Ints(widened::<Int8Type, _>(array, valid).into()),
        DataType::Int16 => Held::Ints(widened::<Int16Type, _>(array, valid).into()),
        DataType::Int32 => Held::Ints(widened::<Int32Type, _>(array, valid).into()),
        DataType::Date32 => Held::Ints(widened::<Date32Type, _>(array, valid).into()),
        DataType::UInt8 => Held::Uints(widened::<UInt8Type, _>(array, valid).into()),
        DataType::UInt16 => Held::Uints(widened::<UInt16Type, _>(array, valid).into()),
        DataType::UInt32 => Held::Uints(widened::<UInt32Type, _>(array, valid).into()),
        DataType::Float32 => Held::Floats(widened::<Float32Type, _>(array, valid).into()),
        DataType::Boolean => {
            let bits = array.as_boolean().values();
            let bits = valid.map_or_else(|| bits.clone(), |valid| bits & valid);
            Held::Bools(bits.iter().map(u8::from).collect())
        }
        DataType::Utf8 => {
            let array = array.as_string::<i32>();
            let (offsets, data) = varlen(array.offsets(), array.values(), valid);
            Held::Text(offsets, data)
        }
        DataType::Binary => {
            let array = array.as_binary::<i32>();
            let (offsets, data) = varlen(array.offsets(), array.values(), valid);
            Held::Bytes(offsets, data)
        }
        DataType::Decimal128(_, scale) => {
            let values = array.as_primitive::<Decimal128Type>().values();
            decimals(values.iter(), *scale, valid)
        }
        DataType::Decimal256(_, scale) => {
            let values = array.as_primitive::<Decimal256Type>().values();
            decimals(values.iter(), *scale, valid)
        }
        other => unreachable!("{other} is outside the closed set of column types"),
    }
}

fn in_place<'a, T: ArrowPrimitiveType>(
    array: &'a dyn Array,
    valid: Option<&BooleanBuffer>,
) -> Cow<'a, [T::Native]> {
    let values: &[T::Native] = array.as_primitive::<T>().values();
    let hidden =
        |valid: &BooleanBuffer| (!valid).set_indices().any(|row| values[row] != T::Native::default());
    match valid {
        Some(valid) if hidden(valid) => {
            let value = |row| if valid.value(row) { values[row] } else { T::Native::default() };
            Cow::Owned((0..values.len()).map(value).collect())
        }
        _ => Cow::Borrowed(values),
    }
}

fn widened<T, W>(array: &dyn Array, valid: Option<&BooleanBuffer>) -> Vec<W>
where
    T: ArrowPrimitiveType,
    W: From<T::Native> + Default,
{
    let mut wide: Vec<W> = array.as_primitive::<T>().values().iter().map(|v| W::from(*v)).collect();
    if let Some(valid) = valid {
        (!valid).set_indices().for_each(|row| wide[row] = W::default());
    }
    wide
}

fn varlen<'a>(
    offsets: &'a OffsetBuffer<i32>,
    data: &'a Buffer,
    valid: Option<&BooleanBuffer>,
) -> (Cow<'a, [u32]>, Cow<'a, [u8]>) {
    // Offsets of Arrow are never negative, so that the same bits are the contract's.
    let raw: &[u32] = offsets.inner().inner().typed_data();
    let raw = &raw[..offsets.len()];
    let (first, last) = (raw[0], raw[raw.len() - 1]);
    let hidden = |valid: &BooleanBuffer| (!valid).set_indices().any(|row| raw[row] != raw[row + 1]);
    if let Some(valid) = valid.filter(|valid| hidden(valid)) {
        let (mut kept, mut bytes) =
            (Vec::with_capacity(raw.len()), Vec::with_capacity((last - first) as usize));
        kept.push(0);
        for row in 0..raw.len() - 1 {
            if valid.value(row) {
                bytes.extend_from_slice(&data[raw[row] as usize..raw[row + 1] as usize]);
            }
            kept.push(bytes.len() as u32);
        }
        return (kept.into(), bytes.into());
    }
    let data = Cow::Borrowed(&data[first as usize..last as usize]);
    match first {
        0 => (Cow::Borrowed(raw), data),
        _ => (raw.iter().map(|offset| offset - first).collect(), data),
    }
}

fn decimals<'a, T: ToString + 'a>(
    values: impl ExactSizeIterator<Item = &'a T>,
    scale: i8,
    valid: Option<&BooleanBuffer>,
) -> Held<'a> {
    let (mut offsets, mut data) = (Vec::with_capacity(values.len() + 1), String::new());
    offsets.push(0);
    for (row, value) in values.enumerate() {
        if valid.is_none_or(|valid| valid.value(row)) {
            text::push_decimal(&mut data, &value.to_string(), scale as usize);
        }
        offsets.push(data.len() as u32);
    }
    Held::Text(offsets.into(), data.into_bytes().into())
}

/// Ranges of rows that one call may be given: so many rows, and so many bytes of the columns asked for.
pub(crate) fn cut(
    columns: &[&ArrayRef],
    rows: usize,
    limits: &Limits,
) -> Result<Vec<Range<usize>>, LimitHit> {
    let mut ranges = vec![];
    let mut start = 0;
    while start < rows {
        let mut end = rows.min(start + limits.batch_rows.max(1));
        loop {
            let bytes: usize = columns.iter().map(|column| bytes_of(column, start..end)).sum();
            if bytes <= limits.input_bytes {
                break;
            }
            if end - start == 1 {
                return Err(LimitHit::Row { bytes, max: limits.input_bytes });
            }
            end = start + (end - start) / 2;
        }
        ranges.push(start..end);
        start = end;
    }
    Ok(ranges)
}

/// What those rows of a column take when they cross.
pub(crate) fn bytes_of(array: &dyn Array, rows: Range<usize>) -> usize {
    let count = rows.len();
    let between =
        |offsets: &OffsetBuffer<i32>| (offsets[rows.end] - offsets[rows.start]) as usize + 4 * count;
    match array.data_type() {
        DataType::Boolean => count,
        DataType::Utf8 => between(array.as_string::<i32>().offsets()),
        DataType::Binary => between(array.as_binary::<i32>().offsets()),
        DataType::Decimal128(p, _) | DataType::Decimal256(p, _) => (usize::from(*p) + 7) * count,
        _ => 8 * count,
    }
}

// ----------------------------------------------------------------------------------------------- lifting

/// A column on its way out, checked.
pub(crate) struct Lifted {
    pub(crate) array: ArrayRef,
    pub(crate) absent: Option<BooleanBuffer>,
}

/// What a column that a guest handed over takes.
pub(crate) fn owned_bytes(column: &OwnedColumn) -> usize {
    let varlen = |v: &OwnedVarlen| 4 * v.offsets.len() + v.data.len();
    column.valid.len()
        + column.present.len()
        + match &column.values {
            OwnedValues::Bools(values) => values.len(),
            OwnedValues::Ints(values) => 8 * values.len(),
            OwnedValues::Uints(values) => 8 * values.len(),
            OwnedValues::Floats(values) => 8 * values.len(),
            OwnedValues::Text(values) | OwnedValues::Bytes(values) => varlen(values),
        }
}

/// A bitmap of that many rows; `None` when every bit is 1.
pub(crate) fn lift_bitmap(bitmap: Vec<u8>, rows: usize) -> Result<Option<BooleanBuffer>, String> {
    if bitmap.is_empty() {
        return Ok(None);
    }
    if bitmap.len() != rows.div_ceil(8) {
        return Err(format!("a bitmap of {} bytes for {rows} rows", bitmap.len()));
    }
    if let (Some(last), rest @ 1..) = (bitmap.last(), rows % 8)
        && last >> rest != 0
    {
        return Err(format!("a bitmap with bits set past its {rows} rows"));
    }
    Ok(Some(BooleanBuffer::new(Buffer::from_vec(bitmap), 0, rows)))
}

/// The column as an array of that type, with that many rows, or what is wrong with it.
pub(crate) fn lift(column: OwnedColumn, to: &DataType, rows: usize) -> Result<Lifted, String> {
    let valid = lift_bitmap(column.valid, rows)?;
    let present = lift_bitmap(column.present, rows)?;
    let has_value = match (valid, &present) {
        (Some(valid), Some(present)) => Some(&valid & present),
        (valid, present) => valid.or_else(|| present.clone()),
    };
    let nulls = has_value.map(NullBuffer::new).filter(|nulls| nulls.null_count() > 0);
    let array = lift_values(column.values, to, rows, nulls)?;
    let absent = present.map(|bits| !&bits).filter(|bits| bits.count_set_bits() > 0);
    Ok(Lifted { array, absent })
}

fn lift_values(
    values: OwnedValues,
    to: &DataType,
    rows: usize,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef, String> {
    match (to, values) {
        (DataType::Boolean, OwnedValues::Bools(values)) => {
            check_len(values.len(), rows)?;
            if let Some(row) = values.iter().position(|byte| *byte > 1) {
                return Err(format!("row {row}: a bool that is neither 0 nor 1"));
            }
            let bits = values.iter().map(|byte| *byte == 1).collect();
            Ok(Arc::new(BooleanArray::new(bits, nulls)))
        }
        (DataType::Utf8, OwnedValues::Text(values)) => {
            let (offsets, data) = check_varlen(values, rows)?;
            let array = StringArray::try_new(offsets, data, nulls);
            Ok(Arc::new(
                array.map_err(|_| "text that is not UTF-8, or is cut within a character".to_owned())?,
            ))
        }
        (DataType::Binary, OwnedValues::Bytes(values)) => {
            let (offsets, data) = check_varlen(values, rows)?;
            Ok(Arc::new(BinaryArray::try_new(offsets, data, nulls).map_err(|e| e.to_string())?))
        }
        (DataType::Decimal128(p, s), OwnedValues::Text(values)) => {
            let numbers = lift_decimals(values, rows, nulls.as_ref(), *p, *s)?;
            let narrow = |v: i256| v.to_i128().expect("at most 38 digits");
            let array =
                PrimitiveArray::<Decimal128Type>::new(numbers.into_iter().map(narrow).collect(), nulls);
            Ok(Arc::new(array.with_data_type(to.clone())))
        }
        (DataType::Decimal256(p, s), OwnedValues::Text(values)) => {
            let numbers = lift_decimals(values, rows, nulls.as_ref(), *p, *s)?;
            let array = PrimitiveArray::<Decimal256Type>::new(numbers.into(), nulls);
            Ok(Arc::new(array.with_data_type(to.clone())))
        }
        (to, OwnedValues::Ints(values)) => lift_ints(values, to, rows, nulls),
        (to, OwnedValues::Uints(values)) => match to {
            DataType::UInt64 => same::<UInt64Type>(values, to, rows, nulls),
            DataType::UInt32 => narrowed::<UInt32Type, _>(values, to, rows, nulls),
            DataType::UInt16 => narrowed::<UInt16Type, _>(values, to, rows, nulls),
            DataType::UInt8 => narrowed::<UInt8Type, _>(values, to, rows, nulls),
            _ => Err(format!("unsigned integers where {to} belongs")),
        },
        (DataType::Float64, OwnedValues::Floats(values)) => same::<Float64Type>(values, to, rows, nulls),
        (DataType::Float32, OwnedValues::Floats(values)) => {
            let narrow = values.into_iter().map(|value| value as f32).collect();
            same::<Float32Type>(narrow, to, rows, nulls)
        }
        (to, _) => Err(format!("values of another layout than {to} has")),
    }
}

fn lift_ints(
    values: Vec<i64>,
    to: &DataType,
    rows: usize,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef, String> {
    match to {
        DataType::Int64 => same::<Int64Type>(values, to, rows, nulls),
        DataType::Timestamp(..) => same::<TimestampMicrosecondType>(values, to, rows, nulls),
        DataType::Duration(_) => same::<DurationMicrosecondType>(values, to, rows, nulls),
        DataType::Int32 => narrowed::<Int32Type, _>(values, to, rows, nulls),
        DataType::Int16 => narrowed::<Int16Type, _>(values, to, rows, nulls),
        DataType::Int8 => narrowed::<Int8Type, _>(values, to, rows, nulls),
        DataType::Date32 => narrowed::<Date32Type, _>(values, to, rows, nulls),
        _ => Err(format!("integers where {to} belongs")),
    }
}

fn check_len(len: usize, rows: usize) -> Result<(), String> {
    if len == rows { Ok(()) } else { Err(format!("{len} values for {rows} rows")) }
}

fn same<T: ArrowPrimitiveType>(
    values: Vec<T::Native>,
    to: &DataType,
    rows: usize,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef, String> {
    check_len(values.len(), rows)?;
    let array = PrimitiveArray::<T>::new(ScalarBuffer::from(values), nulls);
    Ok(Arc::new(array.with_data_type(to.clone())))
}

fn narrowed<T, W>(
    values: Vec<W>,
    to: &DataType,
    rows: usize,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef, String>
where
    T: ArrowPrimitiveType,
    T::Native: TryFrom<W>,
{
    let mut narrow: Vec<T::Native> = Vec::with_capacity(values.len());
    for (row, value) in values.into_iter().enumerate() {
        match T::Native::try_from(value) {
            Ok(value) => narrow.push(value),
            Err(_) if nulls.as_ref().is_some_and(|nulls| row < nulls.len() && nulls.is_null(row)) => {
                narrow.push(T::Native::default());
            }
            Err(_) => return Err(format!("row {row}: a value outside the range of {to}")),
        }
    }
    same::<T>(narrow, to, rows, nulls)
}

/// Offsets that start at 0, never fall, and end where the data ends.
fn check_varlen(values: OwnedVarlen, rows: usize) -> Result<(OffsetBuffer<i32>, Buffer), String> {
    let OwnedVarlen { offsets, data } = values;
    if offsets.len() != rows + 1 {
        return Err(format!("{} offsets for {rows} rows, where {} belong", offsets.len(), rows + 1));
    }
    if offsets[0] != 0 {
        return Err("offsets that do not start at 0".to_owned());
    }
    if let Some(row) = offsets.windows(2).position(|pair| pair[1] < pair[0]) {
        return Err(format!("offsets that fall at row {row}"));
    }
    let last = offsets[rows] as usize;
    if last != data.len() || i32::try_from(last).is_err() {
        return Err(format!("offsets that end at {last}, with {} bytes of data", data.len()));
    }
    // Within i32 by now, so that the same bits are Arrow's.
    let offsets = ScalarBuffer::<i32>::new(Buffer::from_vec(offsets), 0, rows + 1);
    Ok((OffsetBuffer::new(offsets), Buffer::from_vec(data)))
}

fn lift_decimals(
    values: OwnedVarlen,
    rows: usize,
    nulls: Option<&NullBuffer>,
    precision: u8,
    scale: i8,
) -> Result<Vec<i256>, String> {
    let (offsets, data) = check_varlen(values, rows)?;
    let bound = i256::from_i128(10).checked_pow(u32::from(precision)).unwrap_or(i256::MAX);
    let number = |row: usize| {
        if nulls.is_some_and(|nulls| nulls.is_null(row)) {
            return Ok(i256::ZERO);
        }
        let bytes = &data[offsets[row] as usize..offsets[row + 1] as usize];
        let number = std::str::from_utf8(bytes).ok().and_then(|t| text::decimal_floor(t, scale as usize));
        match number {
            Some((value, true)) if value.wrapping_abs() < bound => Ok(value),
            Some(_) => Err(format!("row {row}: a number that decimal({precision},{scale}) does not hold")),
            None => Err(format!("row {row}: not a decimal number")),
        }
    };
    (0..rows).map(number).collect()
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
