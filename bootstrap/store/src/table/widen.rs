//! Which changes of a column's type lose nothing, and the values after them.

use arrow_array::ArrayRef;
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{ArrowError, DataType};

/// Whether every value of `from` is one of `to`: then a column may go from the one to the other without being copied again.
pub fn can_widen(from: &DataType, to: &DataType) -> bool {
    use DataType::{Float32, Float64};
    if from == to {
        return true;
    }
    match (integer(from), integer(to), decimal(from), decimal(to)) {
        (Some(from), Some(to), ..) => to.0 <= from.0 && from.1 <= to.1,
        (Some(from), _, _, Some(to)) => from.2 <= to.0,
        (_, _, Some(from), Some(to)) => from.0 <= to.0 && from.1 <= to.1,
        _ => match (from, to) {
            (Float32, Float64) => true,
            (from, Float64) => integer(from).is_some_and(|(.., digits)| digits <= 10),
            (from, Float32) => integer(from).is_some_and(|(.., digits)| digits <= 5),
            _ => false,
        },
    }
}

/// Whether a column of the key may: the order and the bytes of keys must stay as well.
pub fn can_widen_key(from: &DataType, to: &DataType) -> bool {
    let (integers, same) = (integer(from).is_some() && integer(to).is_some(), from == to);
    let decimals = match (from, to) {
        (DataType::Decimal128(_, a), DataType::Decimal128(_, b))
        | (DataType::Decimal256(_, a), DataType::Decimal256(_, b)) => a == b,
        _ => false,
    };
    can_widen(from, to) && (integers || same || decimals)
}

/// The values in a type that holds all of them.
pub(crate) fn widen(column: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    cast_with_options(column, to, &CastOptions { safe: false, ..CastOptions::default() })
}

/// Lowest value, highest value, decimal digits.
fn integer(t: &DataType) -> Option<(i128, i128, u8)> {
    Some(match t {
        DataType::Int8 => (i8::MIN.into(), i8::MAX.into(), 3),
        DataType::Int16 => (i16::MIN.into(), i16::MAX.into(), 5),
        DataType::Int32 => (i32::MIN.into(), i32::MAX.into(), 10),
        DataType::Int64 => (i64::MIN.into(), i64::MAX.into(), 19),
        DataType::UInt8 => (0, u8::MAX.into(), 3),
        DataType::UInt16 => (0, u16::MAX.into(), 5),
        DataType::UInt32 => (0, u32::MAX.into(), 10),
        DataType::UInt64 => (0, u64::MAX.into(), 20),
        _ => return None,
    })
}

/// Digits before and after the point.
fn decimal(t: &DataType) -> Option<(u8, u8)> {
    match t {
        DataType::Decimal128(p, s) | DataType::Decimal256(p, s) => Some((p - *s as u8, *s as u8)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Array, Decimal128Array, Int16Array, UInt32Array, UInt64Array};

    use super::*;

    #[test]
    fn only_what_loses_nothing_is_a_widening() {
        use DataType::*;
        let wider = [
            (Int8, Int16),
            (UInt8, Int16),
            (UInt32, Int64),
            (UInt32, UInt64),
            (Int64, Decimal128(19, 0)),
            (Int32, Decimal128(12, 2)),
            (Decimal128(10, 2), Decimal128(12, 2)),
            (Decimal128(10, 2), Decimal256(65, 30)),
            (Float32, Float64),
            (Int32, Float64),
            (Utf8, Utf8),
        ];
        let not = [
            (Int16, Int8),
            (Int8, UInt16),
            (UInt64, Int64),
            (UInt64, Decimal128(19, 0)),
            (Decimal128(10, 2), Decimal128(10, 3)),
            (Decimal128(10, 2), Decimal128(11, 1)),
            (Float64, Float32),
            (Int64, Float64),
            (Int32, Float32),
            (Utf8, Binary),
            (Int32, Utf8),
        ];
        assert!(wider.iter().all(|(from, to)| can_widen(from, to)));
        for (from, to) in not {
            assert!(!can_widen(&from, &to), "{from} to {to}");
        }
    }

    #[test]
    fn a_key_keeps_its_bytes_when_it_is_widened() {
        use super::super::key::Keys;
        let pairs: Vec<(ArrayRef, DataType)> = vec![
            (Arc::new(Int16Array::from(vec![i16::MIN, -1, 0, i16::MAX])), DataType::Int64),
            (Arc::new(UInt32Array::from(vec![0, 1, u32::MAX, 7])), DataType::Int64),
            (
                Arc::new(
                    Decimal128Array::from(vec![-5, 0, 5, 999]).with_precision_and_scale(10, 2).expect("fits"),
                ),
                DataType::Decimal128(20, 2),
            ),
        ];
        for (column, to) in pairs {
            assert!(can_widen_key(column.data_type(), &to));
            let wide = widen(&column, &to).expect("casts");
            let (before, after) = (Keys::new(&[column], 4), Keys::new(&[wide], 4));
            assert!((0..4).all(|row| before.bytes(row) == after.bytes(row)));
        }
        assert!(!can_widen_key(&DataType::Decimal128(10, 2), &DataType::Decimal128(12, 3)));
        assert!(!can_widen_key(&DataType::Float32, &DataType::Float64));
    }

    #[test]
    fn the_highest_value_survives() {
        let column: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX]));
        let wide = widen(&column, &DataType::Decimal128(20, 0)).expect("casts");
        assert_eq!(
            wide.as_any().downcast_ref::<Decimal128Array>().expect("decimal").value(0),
            u64::MAX.into()
        );
    }
}
