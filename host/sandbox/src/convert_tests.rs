//! Every type crosses and comes back the same, from any slice; what is NULL or absent has no value on the way.

#![allow(clippy::unwrap_used, reason = "tests")]

use arrow_array::builder::{BinaryBuilder, StringBuilder};
use proptest::prelude::*;

use super::*;

fn every_type() -> Vec<DataType> {
    use DataType::*;
    let us = TimeUnit::Microsecond;
    vec![
        Boolean,
        Int8,
        Int16,
        Int32,
        Int64,
        UInt8,
        UInt16,
        UInt32,
        UInt64,
        Float32,
        Float64,
        Utf8,
        Binary,
        Date32,
        Timestamp(us, None),
        Timestamp(us, Some("UTC".into())),
        Duration(us),
        Decimal128(20, 4),
        Decimal256(65, 30),
    ]
}

/// A column of that type with values made of `seeds`.
fn array(data_type: &DataType, seeds: &[Option<i64>]) -> ArrayRef {
    fn of<T: ArrowPrimitiveType>(t: &DataType, s: &[Option<i64>], f: impl Fn(i64) -> T::Native) -> ArrayRef {
        let values: PrimitiveArray<T> = s.iter().map(|v| v.map(&f)).collect();
        Arc::new(values.with_data_type(t.clone()))
    }
    let (t, s) = (data_type, seeds);
    match t {
        DataType::Boolean => Arc::new(s.iter().map(|v| v.map(|v| v % 2 == 0)).collect::<BooleanArray>()),
        DataType::Int8 => of::<Int8Type>(t, s, |v| v as i8),
        DataType::Int16 => of::<Int16Type>(t, s, |v| v as i16),
        DataType::Int32 => of::<Int32Type>(t, s, |v| v as i32),
        DataType::Int64 => of::<Int64Type>(t, s, |v| v),
        DataType::UInt8 => of::<UInt8Type>(t, s, |v| v as u8),
        DataType::UInt16 => of::<UInt16Type>(t, s, |v| v as u16),
        DataType::UInt32 => of::<UInt32Type>(t, s, |v| v as u32),
        DataType::UInt64 => of::<UInt64Type>(t, s, |v| v as u64),
        DataType::Float32 => of::<Float32Type>(t, s, |v| v as f32),
        DataType::Float64 => of::<Float64Type>(t, s, |v| v as f64),
        DataType::Date32 => of::<Date32Type>(t, s, |v| v as i32),
        DataType::Timestamp(..) => of::<TimestampMicrosecondType>(t, s, |v| v),
        DataType::Duration(_) => of::<DurationMicrosecondType>(t, s, |v| v),
        DataType::Decimal128(..) => of::<Decimal128Type>(t, s, i128::from),
        DataType::Decimal256(..) => of::<Decimal256Type>(t, s, |v| i256::from_i128(v.into())),
        DataType::Utf8 => {
            let mut column = StringBuilder::new();
            s.iter().for_each(|v| column.append_option(v.map(|v| format!("{v}ä").repeat(v as usize % 4))));
            Arc::new(column.finish())
        }
        DataType::Binary => {
            let mut column = BinaryBuilder::new();
            s.iter()
                .for_each(|v| column.append_option(v.map(|v| v.to_be_bytes()[..v as usize % 8].to_vec())));
            Arc::new(column.finish())
        }
        other => panic!("{other} is outside the closed set"),
    }
}

/// What a guest would hand back if it handed back what it was given.
fn echoed(lowered: &Lowered<'_>) -> OwnedColumn {
    let Column { valid, present, values } = lowered.column();
    let runs = |v: Varlen<'_>| OwnedVarlen { offsets: v.offsets.to_vec(), data: v.data.to_vec() };
    let values = match values {
        Values::Bools(v) => OwnedValues::Bools(v.to_vec()),
        Values::Ints(v) => OwnedValues::Ints(v.to_vec()),
        Values::Uints(v) => OwnedValues::Uints(v.to_vec()),
        Values::Floats(v) => OwnedValues::Floats(v.to_vec()),
        Values::Text(v) => OwnedValues::Text(runs(v)),
        Values::Bytes(v) => OwnedValues::Bytes(runs(v)),
    };
    OwnedColumn { valid: valid.to_vec(), present: present.to_vec(), values }
}

proptest! {
    #[test]
    fn every_column_survives_the_way_there_and_back(
        seeds in proptest::collection::vec(proptest::option::weighted(0.8, any::<i64>()), 1..70),
        absent in proptest::collection::vec(any::<bool>(), 70),
        cut in (0..70usize, 0..70usize),
    ) {
        let offset = cut.0 % seeds.len();
        let count = 1 + cut.1 % (seeds.len() - offset);
        let bits = BooleanBuffer::from(absent).slice(offset, count);
        for data_type in every_type() {
            let array = array(&data_type, &seeds).slice(offset, count);
            for absent in [None, Some(&bits)] {
                let back = lift(echoed(&lower(&array, absent)), &data_type, count).unwrap();
                prop_assert_eq!(back.array.data_type(), &data_type);
                for row in 0..count {
                    let gone = absent.is_some_and(|bits| bits.value(row));
                    prop_assert_eq!(back.absent.as_ref().is_some_and(|bits| bits.value(row)), gone);
                    prop_assert_eq!(back.array.is_null(row), gone || array.is_null(row));
                    if back.array.is_valid(row) {
                        prop_assert!(back.array.slice(row, 1) == array.slice(row, 1), "{} row {}", data_type, row);
                    }
                }
            }
        }
    }

    #[test]
    fn random_answers_are_refused_or_valid_but_never_believed(
        offsets in proptest::collection::vec(0..12u32, 0..8),
        data in proptest::collection::vec(any::<u8>(), 0..12),
        valid in proptest::collection::vec(any::<u8>(), 0..3),
        rows in 0..7usize,
    ) {
        let values = OwnedVarlen { offsets, data };
        let column = |values| OwnedColumn { valid: valid.clone(), present: vec![], values };
        for (data_type, values) in [
            (DataType::Utf8, OwnedValues::Text(values.clone())),
            (DataType::Binary, OwnedValues::Bytes(values.clone())),
            (DataType::Decimal128(9, 2), OwnedValues::Text(values.clone())),
        ] {
            if let Ok(lifted) = lift(column(values), &data_type, rows) {
                prop_assert_eq!(lifted.array.len(), rows);
                lifted.array.to_data().validate_full().unwrap();
            }
        }
    }
}

#[test]
fn numbers_and_text_are_lowered_from_where_they_lie() {
    let (ints, texts) =
        (array(&DataType::Int64, &[Some(1), Some(2)]), array(&DataType::Utf8, &[Some(1), Some(2)]));
    let Held::Ints(Cow::Borrowed(values)) = lower(&ints, None).values else { panic!("borrowed") };
    assert_eq!(values.as_ptr(), ints.as_primitive::<Int64Type>().values().as_ptr());
    let Held::Text(Cow::Borrowed(_), Cow::Borrowed(data)) = lower(&texts, None).values else {
        panic!("borrowed")
    };
    assert_eq!(data.as_ptr(), texts.as_string::<i32>().value_data().as_ptr());
}

#[test]
fn what_lies_under_a_null_or_absent_value_does_not_cross() {
    let nulls = Some(NullBuffer::from(vec![true, false, true]));
    let ints = PrimitiveArray::<Int64Type>::new(vec![1, 4711, 3].into(), nulls.clone());
    let absent = BooleanBuffer::from(vec![false, false, true]);
    let OwnedColumn { valid, present, values } = echoed(&lower(&ints, Some(&absent)));
    assert_eq!((valid, present), (vec![0b001], vec![0b011]));
    assert!(matches!(values, OwnedValues::Ints(values) if values == [1, 0, 0]));
    let texts = StringArray::new(OffsetBuffer::from_lengths([1, 6, 1]), "ahiddenb".as_bytes().into(), nulls);
    let OwnedValues::Text(runs) = echoed(&lower(&texts, None)).values else { panic!("text") };
    assert_eq!((runs.offsets, runs.data), (vec![0, 1, 1, 2], b"ab".to_vec()));
}

#[test]
fn values_outside_their_type_are_refused_by_row() {
    let refused = |values, data_type: DataType| {
        let column = OwnedColumn { valid: vec![], present: vec![], values };
        lift(column, &data_type, 2).map(|lifted| lifted.array).unwrap_err()
    };
    let ints = |values: [i64; 2]| OwnedValues::Ints(values.to_vec());
    assert_eq!(refused(ints([1, 300]), DataType::Int8), "row 1: a value outside the range of Int8");
    assert_eq!(
        refused(OwnedValues::Bools(vec![1, 2]), DataType::Boolean),
        "row 1: a bool that is neither 0 nor 1"
    );
    let text = |text: &str| {
        OwnedValues::Text(OwnedVarlen {
            offsets: vec![0, text.len() as u32, text.len() as u32],
            data: text.into(),
        })
    };
    assert_eq!(refused(text("12x"), DataType::Decimal128(5, 2)), "row 0: not a decimal number");
    assert_eq!(
        refused(text("1234.5"), DataType::Decimal128(5, 2)),
        "row 0: a number that decimal(5,2) does not hold"
    );
    assert_eq!(lift_bitmap(vec![0b1000], 3).unwrap_err(), "a bitmap with bits set past its 3 rows");
}

#[test]
fn types_of_the_contract_and_of_arrow_name_each_other() {
    for data_type in every_type() {
        let column = ColumnSchema::new("c", data_type.clone(), "anything", true);
        let def = column_def(&column);
        let wide = arrow_type(&def).unwrap();
        let again = column_def(&ColumnSchema::new("c", wide, "anything", true));
        assert_eq!(def, again, "{data_type}");
    }
    let json = column_def(&ColumnSchema::new("c", DataType::Utf8, "json", true));
    assert_eq!((json.logical.as_str(), json.physical), ("json", Physical::Text));
    let wrong = ColumnDef { logical: "money".into(), ..json };
    assert_eq!(arrow_type(&wrong).unwrap_err(), "column \"c\" has the unknown type \"money\"");
}
