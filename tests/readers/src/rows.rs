//! Tables whose rows follow from a row's number and a seed, and the rows that one has now. A change of a row is another seed.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::types::*;
use arrow_array::{
    Array, ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, PrimitiveArray, RecordBatch, StringArray,
    make_array,
};
use arrow_buffer::{ScalarBuffer, i256};
use arrow_schema::{DataType, TimeUnit};
use tidemill_event::{
    ColumnSchema, Part, Phase, RowKind, Scn, Span, TableChanges, TableName, TableSchema, Timeline,
    Transaction, Window,
};

/// A table's schema, and what its rows are.
#[derive(Clone, Debug)]
pub struct Table {
    /// Its schema at the source.
    pub schema: Arc<TableSchema>,
}

/// The rows that a table has: the seed of each by its number.
pub type Rows = BTreeMap<i64, u64>;

const DATETIME: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);
/// 0001-01-01 and 9999-12-31 23:59:59.999999 in microseconds.
const DATETIMES: [i64; 2] = [-62_135_596_800_000_000, 253_402_300_799_999_999];
/// The same as dates, in days.
const DATES: [i32; 2] = [-719_162, 2_932_896];
/// What MySQL's TIMESTAMP reaches to.
const TIMESTAMPS: [i64; 2] = [1_000_000, 2_147_483_647_999_999];
/// What MySQL's TIME reaches to: 838:59:59 in either direction.
const TIME_US: i64 = 3_020_399_000_000;
/// The largest number of 65 digits, and of 38.
const DIGITS_65: &str = "99999999999999999999999999999999999999999999999999999999999999999";
const DIGITS_38: i128 = 10i128.pow(38) - 1;

fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn column(name: &str, data_type: DataType, source_type: &str) -> ColumnSchema {
    ColumnSchema::new(name, data_type, source_type, true)
}

impl Table {
    /// Every type that a column may have.
    pub fn matrix() -> Table {
        let columns = vec![
            ColumnSchema::new("id", DataType::Int64, "bigint", false),
            column("a_bool", DataType::Boolean, "bit(1)"),
            column("an_int8", DataType::Int8, "tinyint"),
            column("an_int16", DataType::Int16, "smallint"),
            column("an_int32", DataType::Int32, "int"),
            column("an_int64", DataType::Int64, "bigint"),
            column("a_uint8", DataType::UInt8, "tinyint unsigned"),
            column("a_uint16", DataType::UInt16, "smallint unsigned"),
            column("a_uint32", DataType::UInt32, "int unsigned"),
            column("a_uint64", DataType::UInt64, "bigint unsigned"),
            column("a_float32", DataType::Float32, "float"),
            column("a_float64", DataType::Float64, "double"),
            column("a_decimal", DataType::Decimal128(10, 2), "decimal(10,2)"),
            column("a_wide_decimal", DataType::Decimal128(38, 10), "decimal(38,10)"),
            column("a_widest_decimal", DataType::Decimal256(65, 30), "decimal(65,30)"),
            column("a_text", DataType::Utf8, "varchar(200)"),
            column("a_json", DataType::Utf8, "json"),
            column("some_bytes", DataType::Binary, "varbinary(200)"),
            column("a_date", DataType::Date32, "date"),
            column("a_datetime", DATETIME, "datetime(6)"),
            column("a_timestamp", timestamp(), "timestamp(6)"),
            column("a_time", DataType::Duration(TimeUnit::Microsecond), "time(6)"),
        ];
        Table { schema: TableSchema::new(TableName::new("shop", "matrix"), columns, vec![0]) }
    }

    /// A shop's orders, whose keys do not all fit a signed integer.
    pub fn orders() -> Table {
        let columns = vec![
            ColumnSchema::new("id", DataType::UInt64, "bigint unsigned", false),
            ColumnSchema::new("customer_id", DataType::Int32, "int", false),
            ColumnSchema::new("status", DataType::Utf8, "enum('new','paid','shipped')", false),
            ColumnSchema::new("amount", DataType::Decimal128(10, 2), "decimal(10,2)", false),
            ColumnSchema::new("placed", DATETIME, "datetime(6)", false),
            column("note", DataType::Utf8, "text"),
            ColumnSchema::new("changed", timestamp(), "timestamp(6)", false),
        ];
        Table { schema: TableSchema::new(TableName::new("shop", "orders"), columns, vec![0]) }
    }

    /// A key of a text and a number, in another order than the columns'; the table's own name needs an escape.
    pub fn words() -> Table {
        let columns = vec![
            ColumnSchema::new("number", DataType::Int32, "int", false),
            ColumnSchema::new("word", DataType::Utf8, "varchar(20)", false),
            column("meaning", DataType::Utf8, "text"),
        ];
        Table { schema: TableSchema::new(TableName::new("shop", "wörter.de"), columns, vec![1, 0]) }
    }

    /// That many rows.
    pub fn fill(count: i64) -> Rows {
        (0..count).map(|id| (id, mix(id as u64))).collect()
    }

    /// Rows in the stream's types.
    pub fn batch<'a>(&self, rows: impl IntoIterator<Item = (&'a i64, &'a u64)>) -> RecordBatch {
        let rows: Vec<(i64, u64)> = rows.into_iter().map(|(id, seed)| (*id, *seed)).collect();
        let columns = self.schema.columns().iter().enumerate().map(|(number, column)| {
            let cells: Vec<Cell> = rows
                .iter()
                .map(|(id, seed)| Cell {
                    number: *id,
                    random: mix(seed ^ mix(number as u64)),
                    key: self.schema.key().contains(&(number as u32)),
                    nullable: column.nullable,
                })
                .collect();
            // Precision, scale and zone are the column's.
            let array = array(&column.data_type, &cells);
            let data = array.to_data().into_builder().data_type(column.data_type.clone()).build();
            make_array(data.expect("types differ in no buffer"))
        });
        RecordBatch::try_new(Arc::clone(self.schema.arrow()), columns.collect())
            .expect("the columns are the schema's")
    }

    /// One transaction that turns some rows into others. `None` is no row.
    pub fn window(&self, changes: &[(i64, Option<u64>, Option<u64>)], after: u64, scn: u64) -> Window {
        let (mut images, mut kinds, mut ordinals) = (vec![], vec![], vec![]);
        for (ordinal, (id, before, after)) in (0u32..).zip(changes) {
            let (was, is) = match (before, after) {
                (Some(_), Some(_)) => (RowKind::UpdateBefore, RowKind::UpdateAfter),
                _ => (RowKind::Delete, RowKind::Insert),
            };
            for (seed, kind) in [(before, was), (after, is)] {
                if let Some(seed) = seed {
                    images.push((*id, *seed));
                    kinds.push(kind as u8);
                    ordinals.push(ordinal);
                }
            }
        }
        let rows = self.batch(images.iter().map(|(id, seed)| (id, seed)));
        let txn: ScalarBuffer<u32> = vec![0; images.len()].into();
        let schema = Arc::clone(&self.schema);
        let (kind, ordinal) = (kinds.into(), ordinals.into());
        Window {
            source: "shop".into(),
            timeline: Timeline { number: 1, server: "the-server".into() },
            span: Span { after: Scn(after), upto: Scn(scn) },
            executed: format!("u:1-{scn}").into(),
            transactions: vec![Transaction {
                scn: Scn(scn),
                gtid: format!("u:{scn}"),
                commit_time_us: scn as i64,
                first_ordinal: 0,
                change_count: changes.len() as u32,
                change_offset: 0,
                part: Part::Whole,
            }],
            tables: vec![TableChanges { schema, rows, absent: vec![], kind, ordinal, txn }],
            events: vec![],
            phase: Phase::Stream,
        }
    }
}

/// What one value is made of.
struct Cell {
    number: i64,
    random: u64,
    key: bool,
    nullable: bool,
}

/// The finaliser of splitmix64: neighbours become strangers.
pub fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Cell {
    fn is_null(&self) -> bool {
        self.nullable && self.random.is_multiple_of(8)
    }

    /// The lowest, the highest, or something between.
    fn pick<T>(&self, low: T, high: T, between: impl Fn(u64) -> T) -> T {
        match (self.random >> 3) % 8 {
            0 => low,
            1 => high,
            _ => between(mix(self.random)),
        }
    }

    fn text(&self) -> String {
        const WORDS: [&str; 6] =
            ["", "zażółć gęślą jaźń", "🦀 crab", "it's \"quoted\"\n\\", "Größe", "plain"];
        if self.key {
            // Some are longer than what a statistic keeps of a text.
            let tail = if self.number % 5 == 0 { "-long".repeat(30) } else { String::new() };
            return format!("{}{:x}{tail}", ["", "ä", "z"][self.number as usize % 3], self.number / 2);
        }
        let word = WORDS[(self.random >> 8) as usize % WORDS.len()];
        self.pick(String::new(), "x".repeat(200), |random| format!("{word} {random:x}"))
    }
}

fn array(data_type: &DataType, cells: &[Cell]) -> ArrayRef {
    match data_type {
        DataType::Boolean => {
            Arc::new(BooleanArray::from_iter(values(cells, |cell| (cell.random >> 8) & 1 == 1)))
        }
        DataType::Int8 => numbers::<Int8Type>(cells, |c| c.pick(i8::MIN, i8::MAX, |r| r as i8)),
        DataType::Int16 => numbers::<Int16Type>(cells, |c| c.pick(i16::MIN, i16::MAX, |r| r as i16)),
        DataType::Int32 if cells.first().is_some_and(|c| c.key) => {
            numbers::<Int32Type>(cells, |c| (c.number % 2) as i32 - 1)
        }
        DataType::Int32 => numbers::<Int32Type>(cells, |c| c.pick(i32::MIN, i32::MAX, |r| r as i32)),
        DataType::Int64 if cells.first().is_some_and(|c| c.key) => {
            numbers::<Int64Type>(cells, |c| if c.number % 100 == 99 { -c.number } else { c.number })
        }
        DataType::Int64 => numbers::<Int64Type>(cells, |c| c.pick(i64::MIN, i64::MAX, |r| r as i64)),
        DataType::UInt8 => numbers::<UInt8Type>(cells, |c| c.pick(0, u8::MAX, |r| r as u8)),
        DataType::UInt16 => numbers::<UInt16Type>(cells, |c| c.pick(0, u16::MAX, |r| r as u16)),
        DataType::UInt32 => numbers::<UInt32Type>(cells, |c| c.pick(0, u32::MAX, |r| r as u32)),
        DataType::UInt64 if cells.first().is_some_and(|c| c.key) => numbers::<UInt64Type>(cells, |c| {
            let number = c.number as u64;
            if number % 100 == 99 { u64::MAX - number } else { number }
        }),
        DataType::UInt64 => numbers::<UInt64Type>(cells, |c| c.pick(0, u64::MAX, |r| r)),
        DataType::Float32 => {
            numbers::<Float32Type>(cells, |c| c.pick(f32::MIN, f32::MAX, |r| r as f32 / 3e9))
        }
        DataType::Float64 => numbers::<Float64Type>(cells, |c| c.pick(f64::MIN, -0.0, |r| r as f64 / 3e9)),
        DataType::Utf8 => Arc::new(StringArray::from_iter(values(cells, Cell::text))),
        DataType::Binary => Arc::new(BinaryArray::from_iter(values(cells, |c| {
            c.pick(vec![], vec![0xFF; 200], |r| r.to_le_bytes().to_vec())
        }))),
        _ => array_of_scaled(data_type, cells),
    }
}

/// Numbers with a scale: decimals and times.
fn array_of_scaled(data_type: &DataType, cells: &[Cell]) -> ArrayRef {
    let within = |range: [i64; 2]| {
        move |c: &Cell| c.pick(range[0], range[1], |r| range[0] + (r % (range[1].abs_diff(range[0]))) as i64)
    };
    match data_type {
        DataType::Decimal128(10, _) => numbers::<Decimal128Type>(cells, |c| {
            c.pick(-9_999_999_999, 9_999_999_999, |r| i128::from(r % 1_000_000))
        }),
        DataType::Decimal128(..) => numbers::<Decimal128Type>(cells, |c| {
            c.pick(-DIGITS_38, DIGITS_38, |r| i128::from(r as i64) * 1_000_000_007)
        }),
        DataType::Decimal256(..) => numbers::<Decimal256Type>(cells, |c| {
            let most = i256::from_string(DIGITS_65).expect("76 digits fit");
            c.pick(-most, most, |r| i256::from_i128(i128::from(r as i64) * 1_000_000_000_000_000_007))
        }),
        DataType::Date32 => {
            numbers::<Date32Type>(cells, |c| c.pick(DATES[0], DATES[1], |r| (r % 40_000) as i32))
        }
        DataType::Timestamp(_, None) => numbers::<TimestampMicrosecondType>(cells, within(DATETIMES)),
        DataType::Timestamp(..) => numbers::<TimestampMicrosecondType>(cells, within(TIMESTAMPS)),
        DataType::Duration(_) => numbers::<DurationMicrosecondType>(cells, within([-TIME_US, TIME_US])),
        other => panic!("{other} is not in the stream's closed set"),
    }
}

fn numbers<T: ArrowPrimitiveType>(cells: &[Cell], value: impl Fn(&Cell) -> T::Native) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::from_iter(values(cells, value)))
}

fn values<'a, T: 'a>(
    cells: &'a [Cell],
    value: impl Fn(&Cell) -> T + 'a,
) -> impl Iterator<Item = Option<T>> + 'a {
    cells.iter().map(move |cell| (!cell.is_null()).then(|| value(cell)))
}
