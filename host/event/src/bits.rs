//! Bits beyond the end of a bitmap. A filter that keeps neighbouring rows shares their bytes, and with them the bits of rows
//! that it removed; a frame must not hold those, and equal rows must be equal bytes.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BooleanArray, make_array};
use arrow_buffer::{BooleanBuffer, NullBuffer};
use arrow_schema::DataType;

/// The same values, with zeros beyond the ends of the bitmaps.
pub(crate) fn without_stray_bits(array: &ArrayRef) -> ArrayRef {
    let nulls = array.nulls().map(NullBuffer::inner);
    if *array.data_type() == DataType::Boolean {
        let values = array.as_boolean().values();
        if !has_stray(values) && !nulls.is_some_and(has_stray) {
            return Arc::clone(array);
        }
        return Arc::new(BooleanArray::new(copy(values), nulls.map(|bits| NullBuffer::new(copy(bits)))));
    }
    match nulls.filter(|bits| has_stray(bits)) {
        None => Arc::clone(array),
        Some(bits) => {
            let nulls = Some(NullBuffer::new(copy(bits)));
            let data = array.to_data().into_builder().nulls(nulls).build();
            make_array(data.expect("the same values under the same bits are as valid as before"))
        }
    }
}

fn has_stray(bits: &BooleanBuffer) -> bool {
    let end = bits.offset() + bits.len();
    !end.is_multiple_of(8) && bits.values()[end / 8] >> (end % 8) != 0
}

fn copy(bits: &BooleanBuffer) -> BooleanBuffer {
    BooleanBuffer::collect_bool(bits.len(), |i| bits.value(i))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::Int32Array;

    fn last_byte(bits: &BooleanBuffer) -> u8 {
        bits.values()[(bits.offset() + bits.len()) / 8]
    }

    #[test]
    fn bits_of_rows_that_were_removed_are_gone_and_the_values_are_the_same() {
        let whole: ArrayRef = Arc::new(BooleanArray::from(vec![Some(true), Some(false), None, Some(true)]));
        let numbers: ArrayRef = Arc::new(Int32Array::from(vec![Some(7), None, Some(8), Some(9)]));
        for array in [whole, numbers] {
            for (from, len) in [(0, 1), (0, 2), (0, 3), (1, 2), (0, 4)] {
                let kept = array.slice(from, len);
                let clean = without_stray_bits(&kept);
                assert_eq!(&clean, &kept);
                if let Some(nulls) = clean.nulls().map(NullBuffer::inner) {
                    assert!(!has_stray(nulls), "{from}, {len}: {:b}", last_byte(nulls));
                }
                if let Some(values) = clean.as_boolean_opt().map(BooleanArray::values) {
                    assert!(!has_stray(values), "{from}, {len}: {:b}", last_byte(values));
                }
            }
        }
        let dirty = Int32Array::from(vec![None, Some(1)]).slice(0, 1);
        assert!(dirty.nulls().is_some_and(|nulls| has_stray(nulls.inner())), "a slice shares its bytes");
        let untouched: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 3]));
        assert!(Arc::ptr_eq(&without_stray_bits(&untouched), &untouched));
    }
}
