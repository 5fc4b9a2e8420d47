//! Builders for the columns that a guest gives back.

use crate::{Column, Values, Varlen};

/// Which rows are NULL or absent. Bits are kept only once there is one.
#[derive(Clone, Debug, Default)]
struct Validity {
    count: usize,
    valid: Vec<u8>,
    present: Vec<u8>,
}

impl Validity {
    fn push(&mut self, valid: bool, present: bool) {
        push_bit(&mut self.valid, self.count, valid);
        push_bit(&mut self.present, self.count, present);
        self.count += 1;
    }
}

/// Appends a bit to a bitmap of which the empty form means that all are 1.
fn push_bit(bitmap: &mut Vec<u8>, count: usize, bit: bool) {
    if bitmap.is_empty() {
        if bit {
            return;
        }
        bitmap.resize(count / 8, 0xff);
        if !count.is_multiple_of(8) {
            bitmap.push((1 << (count % 8)) - 1);
        }
    }
    if count.is_multiple_of(8) {
        bitmap.push(0);
    }
    if bit && let Some(last) = bitmap.last_mut() {
        *last |= 1 << (count % 8);
    }
}

impl Column {
    /// A column in which every row has a value.
    pub fn full(values: Values) -> Self {
        Column { valid: Vec::new(), present: Vec::new(), values }
    }

    /// A column that is NULL in every row.
    pub fn nulls(physical: crate::Physical, count: usize) -> Self {
        let mut values = zeroes(physical, count);
        if let Values::Text(runs) | Values::Bytes(runs) = &mut values {
            runs.offsets = vec![0; count + 1];
        }
        Column { valid: vec![0; count.div_ceil(8)], present: Vec::new(), values }
    }
}

fn zeroes(physical: crate::Physical, count: usize) -> Values {
    let empty = || Varlen { offsets: vec![0], data: Vec::new() };
    match physical {
        crate::Physical::Bools => Values::Bools(vec![0; count]),
        crate::Physical::Ints => Values::Ints(vec![0; count]),
        crate::Physical::Uints => Values::Uints(vec![0; count]),
        crate::Physical::Floats => Values::Floats(vec![0.0; count]),
        crate::Physical::Text => Values::Text(empty()),
        crate::Physical::Bytes => Values::Bytes(empty()),
    }
}

macro_rules! plain_builder {
    ($(#[$doc:meta])* $name:ident, $given:ty, $stored:ty, $case:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default)]
        pub struct $name {
            values: Vec<$stored>,
            validity: Validity,
        }

        impl $name {
            /// Room for that many rows.
            pub fn with_capacity(rows: usize) -> Self {
                $name { values: Vec::with_capacity(rows), validity: Validity::default() }
            }

            /// Adds a row with a value.
            pub fn push(&mut self, value: $given) {
                self.values.push(<$stored>::from(value));
                self.validity.push(true, true);
            }

            /// Adds a row with a value, or with NULL.
            pub fn push_or_null(&mut self, value: Option<$given>) {
                match value {
                    Some(value) => self.push(value),
                    None => self.push_null(),
                }
            }

            /// Adds a row with NULL.
            pub fn push_null(&mut self) {
                self.values.push(<$stored>::default());
                self.validity.push(false, true);
            }

            /// Adds a row that has no value at all.
            pub fn push_absent(&mut self) {
                self.values.push(<$stored>::default());
                self.validity.push(false, false);
            }

            /// The column.
            pub fn finish(self) -> Column {
                Column {
                    valid: self.validity.valid,
                    present: self.validity.present,
                    values: Values::$case(self.values),
                }
            }

            /// A column of these values.
            pub fn of(values: &[$given]) -> Column {
                Column::full(Values::$case(values.iter().map(|value| <$stored>::from(*value)).collect()))
            }
        }
    };
}

plain_builder!(
    /// Builds a column of true and false.
    Bools, bool, u8, Bools
);
plain_builder!(
    /// Builds a column of signed integers.
    Ints, i64, i64, Ints
);
plain_builder!(
    /// Builds a column of unsigned integers.
    Uints, u64, u64, Uints
);
plain_builder!(
    /// Builds a column of floating-point numbers.
    Floats, f64, f64, Floats
);

macro_rules! varlen_builder {
    ($(#[$doc:meta])* $name:ident, $given:ty, $case:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name {
            offsets: Vec<u32>,
            data: Vec<u8>,
            validity: Validity,
        }

        impl Default for $name {
            fn default() -> Self {
                Self::with_capacity(0, 0)
            }
        }

        impl $name {
            /// Room for that many rows and bytes.
            pub fn with_capacity(rows: usize, bytes: usize) -> Self {
                let mut offsets = Vec::with_capacity(rows + 1);
                offsets.push(0);
                $name { offsets, data: Vec::with_capacity(bytes), validity: Validity::default() }
            }

            /// Adds a row with a value.
            pub fn push(&mut self, value: &$given) {
                self.data.extend_from_slice(value.as_ref());
                self.end(true, true);
            }

            /// Adds a row with a value, or with NULL.
            pub fn push_or_null(&mut self, value: Option<&$given>) {
                match value {
                    Some(value) => self.push(value),
                    None => self.push_null(),
                }
            }

            /// Adds a row with NULL.
            pub fn push_null(&mut self) {
                self.end(false, true);
            }

            /// Adds a row that has no value at all.
            pub fn push_absent(&mut self) {
                self.end(false, false);
            }

            fn end(&mut self, valid: bool, present: bool) {
                let end = u32::try_from(self.data.len()).expect("a batch is below 4 GiB");
                self.offsets.push(end);
                self.validity.push(valid, present);
            }

            /// The column.
            pub fn finish(self) -> Column {
                Column {
                    valid: self.validity.valid,
                    present: self.validity.present,
                    values: Values::$case(Varlen { offsets: self.offsets, data: self.data }),
                }
            }

            /// A column of these values.
            pub fn of<T: AsRef<$given>>(values: &[T]) -> Column {
                let mut builder = Self::with_capacity(values.len(), 0);
                values.iter().for_each(|value| builder.push(value.as_ref()));
                builder.finish()
            }
        }
    };
}

varlen_builder!(
    /// Builds a column of text.
    Texts, str, Text
);
varlen_builder!(
    /// Builds a column of bytes.
    Bytes, [u8], Bytes
);

#[cfg(test)]
mod tests {
    use super::{Ints, Texts};
    use crate::{Column, Physical, Values};

    #[test]
    fn bitmaps_appear_with_the_first_null_wherever_it_is() {
        for null_at in [0, 1, 7, 8, 9, 63] {
            let mut ints = Ints::default();
            for row in 0..70 {
                if row == null_at { ints.push_null() } else { ints.push(row) }
            }
            let column = ints.finish();
            assert_eq!(column.valid.len(), 9);
            assert!(column.present.is_empty());
            for row in 0..70 {
                assert_eq!(column.valid_bits().get(row as usize), row != null_at, "{null_at} {row}");
            }
        }
    }

    #[test]
    fn a_full_column_has_no_bitmaps() {
        assert!(Texts::of(&["a", "b"]).is_full());
    }

    #[test]
    fn a_column_of_nulls_has_offsets_for_every_row() {
        let Column { valid, values: Values::Text(runs), .. } = Column::nulls(Physical::Text, 3) else {
            panic!("text was asked for")
        };
        assert_eq!((valid, runs.offsets), (vec![0], vec![0; 4]));
    }
}
