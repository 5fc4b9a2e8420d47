//! What rows are, in a few numbers: the same as `readers.py` makes of what a reader sees. It is made of the source's rows
//! in the stream's types; the expected kinds are those that the store maps them to.

use std::collections::BTreeMap;

use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use sha2::{Digest as _, Sha256};

/// Rows in a few numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// How many.
    pub rows: u64,
    /// The sum of their hashes.
    pub hash: u64,
    /// Of each column what it holds, how many values, and the sum of their hashes.
    pub columns: BTreeMap<String, (String, u64, u64)>,
}

/// The digest of rows in the stream's types, `_scn` left out.
pub fn digest(rows: &RecordBatch) -> Digest {
    let mut whole = vec![String::new(); rows.num_rows()];
    let mut columns = BTreeMap::new();
    let by_name: BTreeMap<&str, &ArrayRef> =
        rows.schema_ref().fields().iter().map(|f| f.name().as_str()).zip(rows.columns()).collect();
    for (name, column) in by_name {
        let (kind, values) = (kind(column.data_type()), texts(column));
        for (row, value) in whole.iter_mut().zip(&values) {
            *row += &value.as_ref().map_or_else(|| "-\n".to_owned(), |value| format!("+{value}\n"));
        }
        let present = values.iter().flatten();
        columns.insert(name.to_owned(), (kind, present.clone().count() as u64, total(present)));
    }
    Digest { rows: rows.num_rows() as u64, hash: total(whole.iter()), columns }
}

fn total<'a>(values: impl Iterator<Item = &'a String>) -> u64 {
    let hash = |value: &String| {
        let digest = Sha256::digest(value.as_bytes());
        u64::from_be_bytes(digest[..8].try_into().expect("a SHA-256 has 32 bytes"))
    };
    values.map(hash).fold(0, u64::wrapping_add)
}

/// What a reader is to see of a column of that type.
fn kind(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "bool",
        DataType::UInt64 => "decimal(20,0)",
        DataType::Decimal128(precision, scale) => return format!("decimal({precision},{scale})"),
        DataType::Float32 => "float",
        DataType::Float64 => "double",
        DataType::Utf8 | DataType::Decimal256(..) => "text",
        DataType::Binary => "bytes",
        DataType::Date32 => "date",
        DataType::Timestamp(_, None) => "datetime",
        DataType::Timestamp(_, Some(_)) => "timestamp",
        _ => "int",
    }
    .to_owned()
}

fn texts(column: &ArrayRef) -> Vec<Option<String>> {
    let text = |row: usize| match column.data_type() {
        DataType::Boolean => column.as_boolean().value(row).to_string(),
        DataType::Int8 => number::<Int8Type>(column, row),
        DataType::Int16 => number::<Int16Type>(column, row),
        DataType::Int32 => number::<Int32Type>(column, row),
        DataType::Int64 => number::<Int64Type>(column, row),
        DataType::UInt8 => number::<UInt8Type>(column, row),
        DataType::UInt16 => number::<UInt16Type>(column, row),
        DataType::UInt32 => number::<UInt32Type>(column, row),
        DataType::UInt64 => number::<UInt64Type>(column, row),
        DataType::Float32 => float(f64::from(column.as_primitive::<Float32Type>().value(row))),
        DataType::Float64 => float(column.as_primitive::<Float64Type>().value(row)),
        DataType::Decimal128(..) => column.as_primitive::<Decimal128Type>().value_as_string(row),
        DataType::Decimal256(..) => column.as_primitive::<Decimal256Type>().value_as_string(row),
        DataType::Utf8 => column.as_string::<i32>().value(row).to_owned(),
        DataType::Binary => {
            column.as_binary::<i32>().value(row).iter().map(|byte| format!("{byte:02x}")).collect()
        }
        DataType::Date32 => number::<Date32Type>(column, row),
        DataType::Timestamp(TimeUnit::Microsecond, _) => number::<TimestampMicrosecondType>(column, row),
        DataType::Duration(TimeUnit::Microsecond) => number::<DurationMicrosecondType>(column, row),
        other => panic!("{other} is not in the stream's closed set"),
    };
    (0..column.len()).map(|row| column.is_valid(row).then(|| text(row))).collect()
}

fn number<T: ArrowPrimitiveType<Native: ToString>>(column: &ArrayRef, row: usize) -> String {
    column.as_primitive::<T>().value(row).to_string()
}

fn float(value: f64) -> String {
    if value.is_nan() { "nan".to_owned() } else { format!("{:016x}", value.to_bits()) }
}
