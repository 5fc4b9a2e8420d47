//! Output rows as Arrow columns, for programs that compare or export them.

use std::sync::Arc;

use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Decimal256Type, DurationMicrosecondType, Float32Type,
    Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow_array::{ArrayRef, BinaryArray, BooleanArray, PrimitiveArray, RecordBatch, StringArray};
use arrow_schema::DataType;
use tidemill_event::TableSchema;

use crate::value::Value;

/// Rows of one table as columns of its types.
pub(crate) fn batch(schema: &TableSchema, rows: &[Vec<Value>]) -> RecordBatch {
    let column = |ordinal: usize| {
        column(&schema.columns()[ordinal].data_type, rows.iter().map(move |row| &row[ordinal]))
    };
    let columns = (0..schema.columns().len()).map(column).collect();
    RecordBatch::try_new(Arc::clone(schema.arrow()), columns).expect("a table has a column and nullable ones")
}

fn column<'a>(data_type: &DataType, values: impl Iterator<Item = &'a Value>) -> ArrayRef {
    macro_rules! of {
        ($t:ty, $case:ident) => {
            primitive::<$t>(
                data_type,
                values.map(|value| match value {
                    Value::$case(v) => Some((*v).try_into().expect("it was stored as one")),
                    _ => None,
                }),
            )
        };
    }
    match data_type {
        DataType::Boolean => {
            let bits = values.map(|value| if let Value::Bool(v) = value { Some(*v) } else { None });
            Arc::new(bits.collect::<BooleanArray>())
        }
        DataType::Int8 => of!(Int8Type, Int),
        DataType::Int16 => of!(Int16Type, Int),
        DataType::Int32 => of!(Int32Type, Int),
        DataType::Int64 => of!(Int64Type, Int),
        DataType::UInt8 => of!(UInt8Type, UInt),
        DataType::UInt16 => of!(UInt16Type, UInt),
        DataType::UInt32 => of!(UInt32Type, UInt),
        DataType::UInt64 => of!(UInt64Type, UInt),
        DataType::Date32 => of!(Date32Type, Int),
        DataType::Timestamp(..) => of!(TimestampMicrosecondType, Int),
        DataType::Duration(_) => of!(DurationMicrosecondType, Int),
        DataType::Float32 => {
            let float = |value: &Value| if let Value::Float(v) = value { Some(*v as f32) } else { None };
            primitive::<Float32Type>(data_type, values.map(float))
        }
        DataType::Float64 => of!(Float64Type, Float),
        DataType::Decimal128(..) => {
            let digits = |value: &Value| match value {
                Value::Decimal(digits, _) => Some(digits.to_i128().expect("it was stored as one")),
                _ => None,
            };
            primitive::<Decimal128Type>(data_type, values.map(digits))
        }
        DataType::Decimal256(..) => {
            let digits =
                |value: &Value| if let Value::Decimal(digits, _) = value { Some(*digits) } else { None };
            primitive::<Decimal256Type>(data_type, values.map(digits))
        }
        DataType::Utf8 => {
            let texts = values.map(|value| if let Value::Text(v) = value { Some(v.as_str()) } else { None });
            Arc::new(texts.collect::<StringArray>())
        }
        DataType::Binary => {
            let bytes =
                values.map(|value| if let Value::Bytes(v) = value { Some(v.as_slice()) } else { None });
            Arc::new(bytes.collect::<BinaryArray>())
        }
        other => unreachable!("{other} is not storable, which was checked"),
    }
}

fn primitive<T: ArrowPrimitiveType>(
    data_type: &DataType,
    values: impl Iterator<Item = Option<T::Native>>,
) -> ArrayRef {
    let array: PrimitiveArray<T> = values.collect();
    Arc::new(array.with_data_type(data_type.clone()))
}
