//! The conditions of a policy or a predicate, judged by the host: literals are parsed once, by the column's type; comparisons
//! follow SQL, where NULL fulfils `is-null` and nothing else. Text is compared by its bytes, decimals exactly.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Decimal256Type, DurationMicrosecondType, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{
    Array, ArrayRef, ArrowPrimitiveType, BinaryArray, Float32Array, Float64Array, PrimitiveArray, StringArray,
};
use arrow_buffer::{BooleanBuffer, i256};
use arrow_schema::DataType;
use tidemill_event::{TableChanges, TableSchema};

use crate::abi::{Comparison, Condition};
use crate::text;

/// One condition with its literals parsed.
#[derive(Debug)]
pub(crate) struct Judge {
    column: usize,
    comparison: Comparison,
    literals: Vec<Literal>,
}

#[derive(Clone, Debug, PartialEq)]
enum Literal {
    Bool(bool),
    /// All integers, dates and times.
    Int(i128),
    Float(f64),
    /// Text and bytes.
    Bytes(Vec<u8>),
    /// The number's floor at the column's scale, and whether that is all of it.
    Decimal(i256, bool),
}

impl Literal {
    /// The order of two of one column; `None`: they have none.
    fn order(&self, other: &Literal) -> Option<Ordering> {
        match (self, other) {
            (Literal::Int(a), Literal::Int(b)) => Some(a.cmp(b)),
            (Literal::Float(a), Literal::Float(b)) => a.partial_cmp(b),
            (Literal::Bytes(a), Literal::Bytes(b)) => Some(a.cmp(b)),
            (Literal::Decimal(a, _), Literal::Decimal(b, _)) => Some(a.cmp(b)),
            // Of two values that a column of bools has, no bound spares anything.
            _ => None,
        }
    }

    /// The value in that type; of a decimal the floor, since no value lies between the two.
    fn array(&self, of: &DataType, is_high: bool) -> Option<ArrayRef> {
        fn one<T: ArrowPrimitiveType>(value: T::Native, of: &DataType) -> Option<ArrayRef> {
            let array = PrimitiveArray::<T>::from_iter_values([value]);
            Some(Arc::new(array.with_data_type(of.clone())))
        }
        fn int<T: ArrowPrimitiveType>(value: i128, of: &DataType) -> Option<ArrayRef>
        where
            T::Native: TryFrom<i128>,
        {
            one::<T>(T::Native::try_from(value).ok()?, of)
        }
        match (self, of) {
            (Literal::Int(v), DataType::Int8) => int::<Int8Type>(*v, of),
            (Literal::Int(v), DataType::Int16) => int::<Int16Type>(*v, of),
            (Literal::Int(v), DataType::Int32) => int::<Int32Type>(*v, of),
            (Literal::Int(v), DataType::Int64) => int::<Int64Type>(*v, of),
            (Literal::Int(v), DataType::UInt8) => int::<UInt8Type>(*v, of),
            (Literal::Int(v), DataType::UInt16) => int::<UInt16Type>(*v, of),
            (Literal::Int(v), DataType::UInt32) => int::<UInt32Type>(*v, of),
            (Literal::Int(v), DataType::UInt64) => int::<UInt64Type>(*v, of),
            (Literal::Int(v), DataType::Date32) => int::<Date32Type>(*v, of),
            (Literal::Int(v), DataType::Timestamp(..)) => int::<TimestampMicrosecondType>(*v, of),
            (Literal::Int(v), DataType::Duration(_)) => int::<DurationMicrosecondType>(*v, of),
            // The two zeros are equal, and have an order where bounds are compared.
            (Literal::Float(0.0), _) => float(if is_high { 0.0 } else { -0.0 }, of),
            (Literal::Float(v), _) => float(*v, of),
            (Literal::Decimal(floor, _), DataType::Decimal128(..)) => {
                one::<Decimal128Type>(floor.to_i128()?, of)
            }
            (Literal::Bytes(v), DataType::Utf8) => {
                Some(Arc::new(StringArray::from_iter_values([std::str::from_utf8(v).ok()?])))
            }
            (Literal::Bytes(v), DataType::Binary) => Some(Arc::new(BinaryArray::from_iter_values([v]))),
            _ => None,
        }
    }
}

impl Judge {
    /// The condition, or what is wrong with it.
    pub(crate) fn parse(condition: &Condition, schema: &TableSchema) -> Result<Judge, String> {
        let column = condition.column as usize;
        let Some(of) = schema.columns().get(column) else {
            return Err(format!(
                "a condition names column {column}; table {} has {}",
                schema.name(),
                schema.columns().len()
            ));
        };
        let place = || format!("table {}, column {:?} ({})", schema.name(), of.name, of.source_type);
        let count = condition.literals.len();
        let wanted = match condition.comparison {
            Comparison::IsNull | Comparison::IsNotNull => (count == 0, "no literal"),
            Comparison::OneOf => (count > 0, "at least one literal"),
            _ => (count == 1, "one literal"),
        };
        if !wanted.0 {
            return Err(format!(
                "{}: a condition with {count} literals, where {} belongs",
                place(),
                wanted.1
            ));
        }
        let literal = |text: &String| {
            parse_literal(&of.data_type, text)
                .map_err(|form| format!("{}: {text:?} is no literal of it; write {form}", place()))
        };
        let literals = condition.literals.iter().map(literal).collect::<Result<_, String>>()?;
        Ok(Judge { column, comparison: condition.comparison, literals })
    }

    /// The column's ordinal.
    pub(crate) fn column(&self) -> usize {
        self.column
    }

    /// The least and the greatest value that can fulfil it, as arrays of one; `None`: there is no such bound, or none that
    /// its type can hold.
    pub(crate) fn bounds(&self, of: &DataType) -> (Option<ArrayRef>, Option<ArrayRef>) {
        let ordered = || self.literals.iter().filter(|literal| literal.order(literal).is_some());
        let by_value =
            |a: &&Literal, b: &&Literal| a.order(b).expect("literals of one column have one order");
        let low = || ordered().min_by(by_value).and_then(|literal| literal.array(of, false));
        let high = || ordered().max_by(by_value).and_then(|literal| literal.array(of, true));
        match self.comparison {
            Comparison::Eq | Comparison::OneOf => (low(), high()),
            Comparison::Gt | Comparison::Ge => (low(), None),
            Comparison::Lt | Comparison::Le => (None, high()),
            Comparison::Ne | Comparison::IsNull | Comparison::IsNotNull => (None, None),
        }
    }

    /// The rows for which the condition is true.
    fn holds(&self, array: &dyn Array) -> BooleanBuffer {
        let count = array.len();
        match (self.comparison, array.nulls()) {
            (Comparison::IsNull, None) => BooleanBuffer::new_unset(count),
            (Comparison::IsNull, Some(nulls)) => !nulls.inner(),
            (Comparison::IsNotNull, None) => BooleanBuffer::new_set(count),
            (Comparison::IsNotNull, Some(nulls)) => nulls.inner().clone(),
            (_, None) => self.compare(array),
            (_, Some(nulls)) => &self.compare(array) & nulls.inner(),
        }
    }

    fn compare(&self, array: &dyn Array) -> BooleanBuffer {
        match array.data_type() {
            DataType::Int8 => self.ints::<Int8Type>(array),
            DataType::Int16 => self.ints::<Int16Type>(array),
            DataType::Int32 => self.ints::<Int32Type>(array),
            DataType::Int64 => self.ints::<Int64Type>(array),
            DataType::UInt8 => self.ints::<UInt8Type>(array),
            DataType::UInt16 => self.ints::<UInt16Type>(array),
            DataType::UInt32 => self.ints::<UInt32Type>(array),
            DataType::UInt64 => self.ints::<UInt64Type>(array),
            DataType::Date32 => self.ints::<Date32Type>(array),
            DataType::Timestamp(..) => self.ints::<TimestampMicrosecondType>(array),
            DataType::Duration(_) => self.ints::<DurationMicrosecondType>(array),
            DataType::Float32 => self.floats::<Float32Type>(array),
            DataType::Float64 => self.floats::<Float64Type>(array),
            DataType::Decimal128(..) => {
                let values = array.as_primitive::<Decimal128Type>().values();
                self.rows(array.len(), |row, literal| decimal(i256::from_i128(values[row]), literal))
            }
            DataType::Decimal256(..) => {
                let values = array.as_primitive::<Decimal256Type>().values();
                self.rows(array.len(), |row, literal| decimal(values[row], literal))
            }
            DataType::Boolean => {
                let values = array.as_boolean().values();
                self.rows(array.len(), |row, literal| match literal {
                    Literal::Bool(b) => Some(values.value(row).cmp(b)),
                    _ => None,
                })
            }
            DataType::Utf8 => {
                let values = array.as_string::<i32>();
                self.rows(array.len(), |row, literal| bytes(values.value(row).as_bytes(), literal))
            }
            DataType::Binary => {
                let values = array.as_binary::<i32>();
                self.rows(array.len(), |row, literal| bytes(values.value(row), literal))
            }
            other => unreachable!("{other} is outside the closed set of column types"),
        }
    }

    fn ints<T: ArrowPrimitiveType>(&self, array: &dyn Array) -> BooleanBuffer
    where
        i128: From<T::Native>,
    {
        let values = array.as_primitive::<T>().values();
        self.rows(values.len(), |row, literal| match literal {
            Literal::Int(int) => Some(i128::from(values[row]).cmp(int)),
            _ => None,
        })
    }

    fn floats<T: ArrowPrimitiveType>(&self, array: &dyn Array) -> BooleanBuffer
    where
        f64: From<T::Native>,
    {
        let values = array.as_primitive::<T>().values();
        self.rows(values.len(), |row, literal| match literal {
            Literal::Float(float) => f64::from(values[row]).partial_cmp(float),
            _ => None,
        })
    }

    /// `order` compares a row's value with a literal; without an order the condition is not true.
    fn rows(&self, count: usize, order: impl Fn(usize, &Literal) -> Option<Ordering>) -> BooleanBuffer {
        BooleanBuffer::collect_bool(count, |row| {
            let mut orders = self.literals.iter().map(|literal| order(row, literal));
            match self.comparison {
                Comparison::OneOf => orders.any(|order| order == Some(Ordering::Equal)),
                comparison => orders.next().flatten().is_some_and(|order| fits(comparison, order)),
            }
        })
    }
}

/// The nearest value of that type: no other one lies between it and the number.
fn float(value: f64, of: &DataType) -> Option<ArrayRef> {
    match of {
        DataType::Float32 => Some(Arc::new(Float32Array::from_iter_values([value as f32]))),
        DataType::Float64 => Some(Arc::new(Float64Array::from_iter_values([value]))),
        _ => None,
    }
}

fn fits(comparison: Comparison, order: Ordering) -> bool {
    match comparison {
        Comparison::Eq | Comparison::OneOf => order.is_eq(),
        Comparison::Ne => order.is_ne(),
        Comparison::Lt => order.is_lt(),
        Comparison::Le => order.is_le(),
        Comparison::Gt => order.is_gt(),
        Comparison::Ge => order.is_ge(),
        Comparison::IsNull | Comparison::IsNotNull => false,
    }
}

/// A value equal to the floor of a literal that has more behind it is less than the literal.
fn decimal(value: i256, literal: &Literal) -> Option<Ordering> {
    let Literal::Decimal(floor, exact) = literal else { return None };
    Some(value.cmp(floor).then(if *exact { Ordering::Equal } else { Ordering::Less }))
}

fn bytes(value: &[u8], literal: &Literal) -> Option<Ordering> {
    let Literal::Bytes(literal) = literal else { return None };
    Some(value.cmp(literal.as_slice()))
}

/// The literal, or the form that it should have had.
fn parse_literal(data_type: &DataType, literal: &str) -> Result<Literal, &'static str> {
    let int = |value: Option<i64>| value.map(|v| Literal::Int(i128::from(v)));
    let (parsed, form) = match data_type {
        DataType::Boolean => {
            let parsed = match literal {
                "true" => Some(Literal::Bool(true)),
                "false" => Some(Literal::Bool(false)),
                _ => None,
            };
            (parsed, "true or false")
        }
        DataType::Float32 | DataType::Float64 => {
            let number = literal.parse::<f64>().ok().filter(|f| f.is_finite());
            (number.map(Literal::Float), "a number, as -1.5 or 1e9")
        }
        DataType::Decimal128(_, s) | DataType::Decimal256(_, s) => {
            let number = text::decimal_floor(literal, *s as usize);
            (number.map(|(floor, exact)| Literal::Decimal(floor, exact)), "a plain decimal number, as -10.50")
        }
        DataType::Utf8 => (Some(Literal::Bytes(literal.as_bytes().to_vec())), "any text"),
        DataType::Binary => {
            // A uuid is written with hyphens.
            let digits: String = literal.chars().filter(|c| *c != '-').collect();
            (text::from_hex(&digits).map(Literal::Bytes), "hexadecimal digits")
        }
        DataType::Date32 => (int(text::parse_date(literal)), "a date, as 2026-01-31"),
        DataType::Timestamp(..) => {
            (int(text::parse_datetime(literal)), "a date and time, as 2026-01-31 10:00:00.000000")
        }
        DataType::Duration(_) => (int(text::parse_duration(literal)), "a duration, as -838:59:59.000000"),
        _ => (literal.parse().ok().map(Literal::Int), "an integer, as -17"),
    };
    parsed.ok_or(form)
}

/// What conditions say of rows.
pub(crate) struct Judged {
    /// The rows that fulfil all of them, as far as is known; `None`: all rows do.
    pub(crate) kept: Option<BooleanBuffer>,
    /// Columns of conditions, each with the rows whose answer hangs on its value, which the source did not log.
    pub(crate) unknown: Vec<(usize, BooleanBuffer)>,
}

/// The rows that fulfil all conditions. Where a value is not known, another condition may still decide.
pub(crate) fn judge(judges: &[Judge], changes: &TableChanges) -> Judged {
    let mut kept: Option<BooleanBuffer> = None;
    let absent = |judge: &Judge| {
        let bits = changes.absent.get(judge.column).and_then(Option::as_ref);
        bits.filter(|bits| bits.count_set_bits() > 0)
    };
    for judge in judges {
        let mut holds = judge.holds(changes.rows.column(judge.column));
        if let Some(absent) = absent(judge) {
            holds = &holds | absent;
        }
        kept = Some(kept.map_or(holds.clone(), |kept| &kept & &holds));
    }
    let unknown = judges.iter().filter_map(|judge| {
        let rows = kept.as_ref()? & absent(judge)?;
        (rows.count_set_bits() > 0).then_some((judge.column, rows))
    });
    let unknown = unknown.collect();
    Judged { kept: kept.filter(|kept| kept.count_set_bits() < kept.len()), unknown }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use arrow_array::{BooleanArray, Decimal128Array, Int8Array, TimestampMicrosecondArray, UInt64Array};
    use tidemill_event::{ColumnSchema, TableName};

    use super::*;

    fn check(array: &dyn Array, comparison: Comparison, literals: &[&str], expected: &[bool]) {
        let column = ColumnSchema::new("c", array.data_type().clone(), "type", true);
        let schema = TableSchema::new(TableName::new("shop", "t"), vec![column], vec![]);
        let literals = literals.iter().map(|l| (*l).to_owned()).collect();
        let judge = Judge::parse(&Condition { column: 0, comparison, literals }, &schema).unwrap();
        let holds: Vec<bool> = judge.holds(array).iter().collect();
        assert_eq!(holds, expected, "{comparison:?}");
    }

    #[test]
    fn null_fulfils_is_null_and_nothing_else() {
        let array = Int8Array::from(vec![Some(1), None, Some(-3)]);
        check(&array, Comparison::Eq, &["1"], &[true, false, false]);
        check(&array, Comparison::Ne, &["1"], &[false, false, true]);
        check(&array, Comparison::Lt, &["300"], &[true, false, true]);
        check(&array, Comparison::OneOf, &["7", "-3"], &[false, false, true]);
        check(&array, Comparison::IsNull, &[], &[false, true, false]);
        check(&array, Comparison::IsNotNull, &[], &[true, false, true]);
    }

    #[test]
    fn decimals_compare_exactly_with_literals_of_another_scale() {
        let array = Decimal128Array::from(vec![1050, 1051]).with_precision_and_scale(12, 2).unwrap();
        check(&array, Comparison::Lt, &["10.505"], &[true, false]);
        check(&array, Comparison::Eq, &["10.5"], &[true, false]);
        check(&array, Comparison::Eq, &["10.505"], &[false, false]);
        check(&array, Comparison::Gt, &["10.505"], &[false, true]);
    }

    #[test]
    fn every_other_type_compares_in_its_own_order() {
        check(&StringArray::from(vec!["a", "Z", "é"]), Comparison::Ge, &["a"], &[true, false, true]);
        check(
            &UInt64Array::from(vec![u64::MAX, 0]),
            Comparison::Gt,
            &["9223372036854775807"],
            &[true, false],
        );
        check(&BooleanArray::from(vec![true, false]), Comparison::Eq, &["false"], &[false, true]);
        check(&Float64Array::from(vec![f64::NAN, 1.0]), Comparison::Ne, &["2"], &[false, true]);
    }

    #[test]
    fn a_wrong_literal_names_table_column_and_form() {
        let column = ColumnSchema::new("amount", DataType::Decimal128(12, 2), "decimal(12,2)", true);
        let schema = TableSchema::new(TableName::new("shop", "orders"), vec![column], vec![]);
        let condition = Condition { column: 0, comparison: Comparison::Gt, literals: vec!["ten".into()] };
        assert_eq!(
            Judge::parse(&condition, &schema).unwrap_err(),
            "table shop.orders, column \"amount\" (decimal(12,2)): \"ten\" is no literal of it; write a plain \
             decimal number, as -10.50"
        );
    }

    fn check_bounds(
        of: &dyn Array,
        comparison: Comparison,
        literals: &[&str],
        rows: (Option<usize>, Option<usize>),
    ) {
        let column = ColumnSchema::new("c", of.data_type().clone(), "type", true);
        let schema = TableSchema::new(TableName::new("shop", "t"), vec![column], vec![]);
        let literals: Vec<String> = literals.iter().map(|l| (*l).to_owned()).collect();
        let judge = Judge::parse(&Condition { column: 0, comparison, literals }, &schema).unwrap();
        let (low, high) = judge.bounds(of.data_type());
        for (bound, row) in [(low, rows.0), (high, rows.1)] {
            let expected = row.map(|row| of.slice(row, 1));
            assert_eq!(bound.map(|b| b.to_data()), expected.map(|e| e.to_data()), "{judge:?}");
        }
    }

    #[test]
    fn bounds_hold_every_value_that_can_fulfil_a_condition() {
        let ints = Int8Array::from(vec![-3, 5, 7]);
        check_bounds(&ints, Comparison::Eq, &["-3"], (Some(0), Some(0)));
        check_bounds(&ints, Comparison::OneOf, &["7", "-3", "5"], (Some(0), Some(2)));
        check_bounds(&ints, Comparison::Gt, &["5"], (Some(1), None));
        check_bounds(&ints, Comparison::Le, &["5"], (None, Some(1)));
        check_bounds(&ints, Comparison::Ne, &["5"], (None, None));
        check_bounds(&ints, Comparison::IsNull, &[], (None, None));
        // No value of the type is as high.
        check_bounds(&ints, Comparison::Lt, &["300"], (None, None));
        let floors = Decimal128Array::from(vec![-101]).with_precision_and_scale(12, 2).unwrap();
        check_bounds(&floors, Comparison::Lt, &["-1.005"], (None, Some(0)));
        check_bounds(&floors, Comparison::Ge, &["-1.005"], (Some(0), None));
        let zeros = Float64Array::from(vec![-0.0, 0.0]);
        check_bounds(&zeros, Comparison::Eq, &["0"], (Some(0), Some(1)));
        check_bounds(&StringArray::from(vec!["a", "b"]), Comparison::OneOf, &["b", "a"], (Some(0), Some(1)));
        let zoned = TimestampMicrosecondArray::from(vec![0]).with_timezone("UTC");
        check_bounds(&zoned, Comparison::Ge, &["1970-01-01 00:00:00"], (Some(0), None));
    }
}
