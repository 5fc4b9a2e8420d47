//! The stream's types as Parquet types that every reader understands, and back. What comes back is what was given.
//!
//! | stream | file |
//! |---|---|
//! | uint8, uint16, uint32 | int16, int32, int64 |
//! | uint64 | decimal(20,0) |
//! | decimal of more than 38 digits | text |
//! | time | int64, microseconds |
//! | all others | the same |

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Decimal128Type, Decimal256Type, DurationMicrosecondType, Int16Type, Int32Type, Int64Type, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType, PrimitiveArray, StringArray};
use arrow_cast::parse::parse_decimal;
use arrow_schema::{ArrowError, DataType, TimeUnit};

/// How a column of that type is stored.
pub(crate) fn stored_type(stream: &DataType) -> DataType {
    match stream {
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 | DataType::Duration(TimeUnit::Microsecond) => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Decimal256(..) => DataType::Utf8,
        other => other.clone(),
    }
}

/// A column of the stream as it is stored.
pub(crate) fn to_stored(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::UInt8 => map::<UInt8Type, Int16Type>(column, i16::from),
        DataType::UInt16 => map::<UInt16Type, Int32Type>(column, i32::from),
        DataType::UInt32 => map::<UInt32Type, Int64Type>(column, i64::from),
        DataType::Duration(TimeUnit::Microsecond) => same::<DurationMicrosecondType, Int64Type>(column),
        DataType::UInt64 => {
            let values = column.as_primitive::<UInt64Type>().unary::<_, Decimal128Type>(i128::from);
            Arc::new(values.with_data_type(DataType::Decimal128(20, 0)))
        }
        DataType::Decimal256(..) => {
            let values = column.as_primitive::<Decimal256Type>();
            let text = |row| values.is_valid(row).then(|| values.value_as_string(row));
            Arc::new((0..values.len()).map(text).collect::<StringArray>())
        }
        _ => Arc::clone(column),
    }
}

/// A stored column as one of the stream. Fails on a value that `to_stored` never gives.
pub(crate) fn from_stored(column: &ArrayRef, stream: &DataType) -> Result<ArrayRef, ArrowError> {
    Ok(match stream {
        // The file has the narrow values alone: it was written from them, and its checksum holds.
        DataType::UInt8 => map::<Int16Type, UInt8Type>(column, |v| v as u8),
        DataType::UInt16 => map::<Int32Type, UInt16Type>(column, |v| v as u16),
        DataType::UInt32 => map::<Int64Type, UInt32Type>(column, |v| v as u32),
        DataType::Duration(TimeUnit::Microsecond) => same::<Int64Type, DurationMicrosecondType>(column),
        DataType::UInt64 => {
            Arc::new(column.as_primitive::<Decimal128Type>().unary::<_, UInt64Type>(|v| v as u64))
        }
        DataType::Decimal256(p, s) => {
            let parsed = column.as_string::<i32>().iter();
            let parsed =
                parsed.map(|text| text.map(|t| parse_decimal::<Decimal256Type>(t, *p, *s)).transpose());
            let values: PrimitiveArray<Decimal256Type> = parsed.collect::<Result<_, _>>()?;
            Arc::new(values.with_data_type(stream.clone()))
        }
        _ => Arc::clone(column),
    })
}

fn map<A, B>(column: &ArrayRef, convert: impl Fn(A::Native) -> B::Native) -> ArrayRef
where
    A: ArrowPrimitiveType,
    B: ArrowPrimitiveType,
{
    Arc::new(column.as_primitive::<A>().unary::<_, B>(convert))
}

fn same<A, B>(column: &ArrayRef) -> ArrayRef
where
    A: ArrowPrimitiveType<Native = i64>,
    B: ArrowPrimitiveType<Native = i64>,
{
    let column = column.as_primitive::<A>();
    Arc::new(PrimitiveArray::<B>::new(column.values().clone(), column.nulls().cloned()))
}
