//! A selection as ranges of values: rows outside of them need not be read. Who gets which row is the word of the predicate
//! or the partition; this only spares what they would decline for sure.

use std::sync::Arc;

use arrow_array::types::{
    ArrowPrimitiveType, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use arrow_array::{ArrayRef, PrimitiveArray};
use arrow_schema::DataType;
use serde::Deserialize;
use serde_json::Value;
use tidemill_bootstrap_store::ColumnRange;
use tidemill_event::TableSchema;
use tidemill_relay::{Part, Selection};
use tidemill_sandbox::Bounds;

/// The configuration of a partition by ranges.
#[derive(Deserialize)]
struct ByRange {
    by: String,
    bounds: Vec<Value>,
    take: Vec<u64>,
    column: String,
}

/// Ranges each of which holds every row that the selection shows of the table.
pub(crate) fn ranges(selection: &Selection, schema: &TableSchema) -> Vec<ColumnRange> {
    let of_part = selection.part.as_ref().and_then(|part| range(part, schema));
    let predicates = selection.predicates.iter().filter(|predicate| predicate.table == *schema.name());
    let bounds = predicates.flat_map(|predicate| predicate.bounds(schema));
    let of_predicate = bounds.map(|Bounds { column, low, high }| ColumnRange { column, low, high });
    of_part.into_iter().chain(of_predicate).collect()
}

fn range(part: &Part, schema: &TableSchema) -> Option<ColumnRange> {
    let by: ByRange = serde_json::from_str(&part.config).ok()?;
    let column = schema.columns().iter().find(|column| column.name == by.column)?;
    let (least, most) = (*by.take.iter().min()?, *by.take.iter().max()?);
    // NULL is in the first part, and outside of every range.
    if by.by != "range" || (least == 0 && column.nullable) {
        return None;
    }
    let bound = |at: u64| integer(&column.data_type, by.bounds.get(usize::try_from(at).ok()?)?.as_i64()?);
    let low = least.checked_sub(1).and_then(bound);
    let high = bound(most);
    (low.is_some() || high.is_some()).then(|| ColumnRange { column: by.column.clone(), low, high })
}

/// The number as a value of that type, where it is one of integers and holds it.
fn integer(of: &DataType, number: i64) -> Option<ArrayRef> {
    fn one<T: ArrowPrimitiveType>(number: i64) -> Option<ArrayRef>
    where
        T::Native: TryFrom<i64>,
    {
        let value = T::Native::try_from(number).ok()?;
        Some(Arc::new(PrimitiveArray::<T>::from_iter_values([value])))
    }
    match of {
        DataType::Int8 => one::<Int8Type>(number),
        DataType::Int16 => one::<Int16Type>(number),
        DataType::Int32 => one::<Int32Type>(number),
        DataType::Int64 => one::<Int64Type>(number),
        DataType::UInt8 => one::<UInt8Type>(number),
        DataType::UInt16 => one::<UInt16Type>(number),
        DataType::UInt32 => one::<UInt32Type>(number),
        DataType::UInt64 => one::<UInt64Type>(number),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use arrow_array::cast::AsArray;
    use tidemill_event::{ColumnSchema, TableName};

    fn check(config: &str, nullable: bool, expected: Option<(Option<i32>, Option<i32>)>) {
        let column = ColumnSchema::new("n", DataType::Int32, "int", nullable);
        let schema = TableSchema::new(TableName::new("shop", "a"), vec![column], vec![0]);
        let selection = Selection { part: Some(Part { config: config.to_owned() }), ..Selection::default() };
        let value = |array: &Option<ArrayRef>| array.as_ref().map(|a| a.as_primitive::<Int32Type>().value(0));
        let found = ranges(&selection, &schema);
        assert_eq!(found.first().map(|range| (value(&range.low), value(&range.high))), expected, "{config}");
    }

    #[test]
    fn a_part_by_ranges_is_read_between_its_outer_bounds() {
        let config =
            |take: &str| format!(r#"{{"by":"range","bounds":[10,20,30],"take":{take},"column":"n"}}"#);
        check(&config("[1]"), true, Some((Some(10), Some(20))));
        check(&config("[1,2]"), true, Some((Some(10), Some(30))));
        check(&config("[3]"), true, Some((Some(30), None)));
        check(&config("[0]"), false, Some((None, Some(10))));
        check(&config("[0]"), true, None);
        check(&config("[0,3]"), false, None);
    }

    #[test]
    fn what_is_no_range_of_integers_is_read_whole() {
        check(r#"{"by":"hash","of":4,"take":[1]}"#, false, None);
        check(r#"{"by":"range","bounds":[99999999999],"take":[1],"column":"n"}"#, false, None);
        check(r#"{"by":"range","bounds":["5"],"take":[1],"column":"n"}"#, false, None);
        check(r#"{"by":"range","bounds":[5],"take":[1],"column":"m"}"#, false, None);
    }
}
