//! Columns to canonical bytes: what keys are cut by and rows are compared by, whatever the machine.
//! The bytes themselves are told by `tidemill-digest`.

use tidemill_digest::{Row, Value};

use crate::{Column, ColumnDef, Logical, Physical, Values};

/// Which canonical value a column's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canonical {
    /// `Value::Decimal`
    Decimal,
    /// what the physical layout says
    Plain(Physical),
}

impl Canonical {
    /// Which canonical value that column's values are.
    pub fn of(column: &ColumnDef) -> Self {
        match column.meaning() {
            Logical::Decimal { .. } => Canonical::Decimal,
            _ => Canonical::Plain(column.physical),
        }
    }

    /// Adds a row's value, or NULL; false: it is absent, and nothing was added.
    #[inline]
    pub fn push(self, out: &mut Row, column: &Column, row: usize) -> bool {
        if !column.valid_bits().get(row) {
            let present = column.present_bits().get(row);
            if present {
                out.push(Value::Null);
            }
            return present;
        }
        match &column.values {
            Values::Bools(values) => out.push(Value::Bool(values[row] != 0)),
            Values::Ints(values) => out.push(Value::Int(values[row].into())),
            Values::Uints(values) => out.push(Value::Int(values[row].into())),
            Values::Floats(values) => out.push(Value::Float(values[row])),
            Values::Bytes(runs) => out.push(Value::Bytes(runs.runs().get(row))),
            Values::Text(runs) => {
                let text = core::str::from_utf8(runs.runs().get(row)).unwrap_or_default();
                out.push(if self == Canonical::Decimal { Value::Decimal(text) } else { Value::Text(text) });
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::Canonical;
    use crate::{build, testing};
    use tidemill_digest::{Row, Value};

    #[test]
    fn columns_give_the_documented_values() {
        let mut expected = Row::new();
        let mut found = Row::new();
        let columns = [
            ("bool", build::Bools::of(&[true]), Value::Bool(true)),
            ("int64", build::Ints::of(&[-1]), Value::Int(-1)),
            ("uint64", build::Uints::of(&[u64::MAX]), Value::Int(u64::MAX.into())),
            ("date", build::Ints::of(&[20_777]), Value::Int(20_777)),
            ("float64", build::Floats::of(&[0.5]), Value::Float(0.5)),
            ("decimal(4,2)", build::Texts::of(&["1.50"]), Value::Decimal("1.5")),
            ("text", build::Texts::of(&["1.50"]), Value::Text("1.50")),
            ("uuid", build::Bytes::of(&[[7; 16]]), Value::Bytes(&[7; 16])),
        ];
        for (logical, column, value) in columns {
            assert!(Canonical::of(&testing::column("c", logical)).push(&mut found, &column, 0));
            expected.push(value);
        }
        assert_eq!(found, expected);
    }

    #[test]
    fn null_is_a_value_and_absent_is_none() {
        let mut ints = build::Ints::default();
        ints.push_null();
        ints.push_absent();
        let (column, mut row) = (ints.finish(), Row::new());
        let canonical = Canonical::of(&testing::column("c", "int64"));
        assert!(canonical.push(&mut row, &column, 0));
        assert!(!canonical.push(&mut row, &column, 1));
        assert_eq!(row.bytes(), [0]);
    }
}
