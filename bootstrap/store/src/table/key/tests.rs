use std::sync::Arc;

use arrow_array::*;
use arrow_buffer::i256;
use arrow_row::{RowConverter, SortField};
use arrow_schema::{DataType, TimeUnit};
use proptest::prelude::*;

use super::*;

/// Values of a column of the closed set, by the number of its type: the interesting ones are frequent.
fn column(kind: u8, seeds: &[Option<(u8, i128, Vec<u8>)>]) -> ArrayRef {
    fn number(seed: &Option<(u8, i128, Vec<u8>)>, low: i128, high: i128) -> Option<i128> {
        seed.as_ref().map(|(pick, value, _)| match pick % 8 {
            0 => low,
            1 => high,
            2 => 0.clamp(low, high),
            3 => (-1).clamp(low, high),
            4 => 1.clamp(low, high),
            _ => low + value.rem_euclid(high - low),
        })
    }
    macro_rules! ints {
        ($array:ty, $native:ty) => {
            Arc::new(
                seeds
                    .iter()
                    .map(|s| number(s, <$native>::MIN.into(), <$native>::MAX.into()).map(|v| v as $native))
                    .collect::<$array>(),
            )
        };
    }
    let long =
        |seed: &Option<(u8, i128, Vec<u8>)>| number(seed, i64::MIN.into(), i64::MAX.into()).map(|v| v as i64);
    let bytes = |seed: &Option<(u8, i128, Vec<u8>)>| seed.as_ref().map(|s| s.2.clone());
    match kind % 19 {
        0 => Arc::new(seeds.iter().map(|s| s.as_ref().map(|s| s.0 % 2 == 0)).collect::<BooleanArray>()),
        1 => ints!(Int8Array, i8),
        2 => ints!(Int16Array, i16),
        3 => ints!(Int32Array, i32),
        4 => ints!(Int64Array, i64),
        5 => ints!(UInt8Array, u8),
        6 => ints!(UInt16Array, u16),
        7 => ints!(UInt32Array, u32),
        8 => ints!(UInt64Array, u64),
        9 => Arc::new(
            seeds.iter().map(|s| long(s).map(|v| f32::from_bits(v as u32))).collect::<Float32Array>(),
        ),
        10 => Arc::new(
            seeds.iter().map(|s| long(s).map(|v| f64::from_bits(v as u64))).collect::<Float64Array>(),
        ),
        11 => {
            let text = |s: &Option<_>| bytes(s).map(|b| b.iter().map(|b| char::from(*b)).collect::<String>());
            Arc::new(seeds.iter().map(text).collect::<StringArray>())
        }
        12 => Arc::new(seeds.iter().map(bytes).collect::<BinaryArray>()),
        13 => ints!(Date32Array, i32),
        14 => Arc::new(seeds.iter().map(long).collect::<TimestampMicrosecondArray>()),
        15 => Arc::new(seeds.iter().map(long).collect::<TimestampMicrosecondArray>().with_timezone("UTC")),
        16 => Arc::new(seeds.iter().map(long).collect::<DurationMicrosecondArray>()),
        17 => {
            let limit = 10i128.pow(38) - 1;
            let values = seeds.iter().map(|s| number(s, -limit / 2, limit / 2));
            Arc::new(values.collect::<Decimal128Array>().with_precision_and_scale(38, 4).unwrap())
        }
        _ => {
            let value = |s: &Option<_>| {
                number(s, i64::MIN.into(), i64::MAX.into())
                    .map(|v| i256::from_i128(v) * i256::from_i128(10i128.pow(30)))
            };
            let values = seeds.iter().map(value);
            Arc::new(values.collect::<Decimal256Array>().with_precision_and_scale(65, 30).unwrap())
        }
    }
}

fn seed() -> impl Strategy<Value = Option<(u8, i128, Vec<u8>)>> {
    let bytes = prop::collection::vec(prop::sample::select(vec![0u8, 1, 0x61, 0x62, 0x7F, 0xFF]), 0..20);
    prop::option::weighted(0.9, (any::<u8>(), any::<i64>().prop_map(i128::from), bytes))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 400 } else { 4000 }))]
    #[test]
    fn keys_order_as_arrow_does(
        kinds in prop::collection::vec(any::<u8>(), 1..4),
        seeds in prop::collection::vec(prop::collection::vec(seed(), 12), 3),
    ) {
        let columns: Vec<ArrayRef> = kinds.iter().zip(&seeds).map(|(kind, seeds)| column(*kind, seeds)).collect();
        let fields = columns.iter().map(|c| SortField::new(c.data_type().clone())).collect();
        let rows = RowConverter::new(fields).unwrap().convert_columns(&columns).unwrap();
        let keys = Keys::new(&columns, 12);
        for a in 0..12 {
            let (bytes, key) = (keys.bytes(a), keys.get(a));
            for b in 0..12 {
                let order = rows.row(a).cmp(&rows.row(b));
                prop_assert_eq!(key.cmp(&keys.get(b)), order, "rows {} and {} of {:?}", a, b, columns);
                prop_assert_eq!(bytes.cmp(&keys.bytes(b)), order);
                prop_assert_eq!(Key::of(&bytes).cmp(&keys.get(b)), order);
            }
        }
    }

    /// A batch without NULL is encoded in another way than one with it.
    #[test]
    fn a_key_is_the_same_in_every_batch(
        kinds in prop::collection::vec(any::<u8>(), 1..3),
        seeds in prop::collection::vec(prop::collection::vec(seed(), 6), 2),
    ) {
        let columns: Vec<ArrayRef> = kinds.iter().zip(&seeds).map(|(kind, seeds)| column(*kind, seeds)).collect();
        let keys = Keys::new(&columns, 6);
        let alone: Vec<Keys> = (0..6)
            .map(|row| Keys::new(&columns.iter().map(|c| c.slice(row, 1)).collect::<Vec<_>>(), 1))
            .collect();
        let joined = Keys::concat(&alone.iter().collect::<Vec<_>>());
        let turned = joined.select(&[5, 4, 3, 2, 1, 0]);
        for (row, one) in alone.iter().enumerate() {
            for other in [one.get(0), joined.get(row), turned.get(5 - row)] {
                prop_assert_eq!(other.cmp(&keys.get(row)), Ordering::Equal);
            }
            for other in [one.bytes(0), joined.bytes(row), turned.bytes(5 - row)] {
                prop_assert_eq!(other, keys.bytes(row));
            }
        }
    }

    #[test]
    fn seek_finds_the_first_key_that_is_not_below(mut values in prop::collection::vec(-50i64..50, 1..60), key in -60i64..60, from in 0usize..60) {
        values.sort_unstable();
        let keys = Keys::new(&[Arc::new(Int64Array::from(values.clone())) as ArrayRef], values.len());
        let wanted = Keys::new(&[Arc::new(Int64Array::from(vec![key])) as ArrayRef], 1);
        let from = from.min(values.len());
        let first = (from..values.len()).find(|row| values[*row] >= key).unwrap_or(values.len());
        prop_assert_eq!(keys.seek(from, wanted.get(0)), first);
    }
}

#[test]
fn integers_have_one_order_over_all_widths() {
    let narrow = Keys::new(&[Arc::new(Int8Array::from(vec![-1, 7])) as ArrayRef], 2);
    let wide = Keys::new(&[Arc::new(Int64Array::from(vec![-1, 7])) as ArrayRef], 2);
    let unsigned = Keys::new(&[Arc::new(UInt64Array::from(vec![7, u64::MAX])) as ArrayRef], 2);
    assert_eq!((narrow.bytes(0), narrow.bytes(1)), (wide.bytes(0), wide.bytes(1)));
    assert_eq!(narrow.bytes(1), unsigned.bytes(0));
    assert!(wide.get(0) < unsigned.get(1) && wide.get(1) < unsigned.get(1));
}

#[test]
fn the_encoding_is_what_files_have() {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from(vec![Some(-2), None])),
        Arc::new(StringArray::from(vec![Some("a\0b"), Some("")])),
        Arc::new(TimestampMicrosecondArray::from(vec![Some(1), Some(-1)])),
    ];
    assert_eq!(columns[2].data_type(), &DataType::Timestamp(TimeUnit::Microsecond, None));
    let keys = Keys::new(&columns, 2);
    assert_eq!(
        hex(&keys.bytes(0)),
        "01fffffffffffffffe".to_owned() + "016100ff620000" + "018000000000000001"
    );
    assert_eq!(hex(&keys.bytes(1)), "00".to_owned() + "010000" + "017fffffffffffffff");
    assert_eq!(unhex(&hex(&keys.bytes(0))), Some(keys.bytes(0)));
    assert_eq!(unhex("0g"), None);
}
