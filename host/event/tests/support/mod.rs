//! A window with every type, every row kind and every event, and windows made at random.

use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, StringBuilder};
use arrow_array::types::{
    Date32Type, Decimal128Type, Decimal256Type, DurationMicrosecondType, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{ArrayRef, ArrowPrimitiveType, BooleanArray, PrimitiveArray, RecordBatch};
use arrow_buffer::{BooleanBuffer, i256};
use arrow_schema::{DataType, TimeUnit};
use tidemill_event::{
    ColumnSchema, Event, EventKind, Part, RowKind, Scn, Span, TableChanges, TableName, TableSchema, Timeline,
    Transaction, Window,
};

/// Every column type that a frame can hold.
pub fn every_type() -> Vec<DataType> {
    vec![
        DataType::Boolean,
        DataType::Int8,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::UInt8,
        DataType::UInt16,
        DataType::UInt32,
        DataType::UInt64,
        DataType::Float32,
        DataType::Float64,
        DataType::Utf8,
        DataType::Binary,
        DataType::Date32,
        DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        DataType::Duration(TimeUnit::Microsecond),
        DataType::Decimal128(20, 4),
        DataType::Decimal256(65, 30),
    ]
}

/// A column of that type; `seeds` gives each row's value, `None` a NULL.
pub fn column(data_type: &DataType, seeds: &[Option<u64>]) -> ArrayRef {
    fn of<T: ArrowPrimitiveType>(t: &DataType, s: &[Option<u64>], f: impl Fn(u64) -> T::Native) -> ArrayRef {
        let values: PrimitiveArray<T> = s.iter().map(|v| v.map(&f)).collect();
        Arc::new(values.with_data_type(t.clone()))
    }
    let t = data_type;
    match t {
        DataType::Boolean => Arc::new(seeds.iter().map(|s| s.map(|v| v % 2 == 1)).collect::<BooleanArray>()),
        DataType::Int8 => of::<Int8Type>(t, seeds, |v| v as i8),
        DataType::Int16 => of::<Int16Type>(t, seeds, |v| v as i16),
        DataType::Int32 => of::<Int32Type>(t, seeds, |v| v as i32),
        DataType::Int64 => of::<Int64Type>(t, seeds, |v| v as i64),
        DataType::UInt8 => of::<UInt8Type>(t, seeds, |v| v as u8),
        DataType::UInt16 => of::<UInt16Type>(t, seeds, |v| v as u16),
        DataType::UInt32 => of::<UInt32Type>(t, seeds, |v| v as u32),
        DataType::UInt64 => of::<UInt64Type>(t, seeds, |v| v),
        DataType::Float32 => of::<Float32Type>(t, seeds, |v| v as f32 / 3.0),
        DataType::Float64 => of::<Float64Type>(t, seeds, |v| v as f64 / 3.0),
        DataType::Date32 => of::<Date32Type>(t, seeds, |v| v as i32),
        DataType::Timestamp(..) => of::<TimestampMicrosecondType>(t, seeds, |v| v as i64),
        DataType::Duration(_) => of::<DurationMicrosecondType>(t, seeds, |v| v as i64),
        DataType::Decimal128(..) => of::<Decimal128Type>(t, seeds, |v| i128::from(v as i64)),
        DataType::Decimal256(..) => of::<Decimal256Type>(t, seeds, |v| i256::from_i128(i128::from(v as i64))),
        DataType::Utf8 => {
            let mut b = StringBuilder::new();
            seeds.iter().for_each(|s| {
                b.append_option(s.map(|v| format!("wert-{}-{}", v, "ü".repeat((v % 9) as usize))))
            });
            Arc::new(b.finish())
        }
        DataType::Binary => {
            let mut b = BinaryBuilder::new();
            seeds
                .iter()
                .for_each(|s| b.append_option(s.map(|v| v.to_be_bytes()[..(v % 9) as usize].to_vec())));
            Arc::new(b.finish())
        }
        other => panic!("{other} is outside the closed set"),
    }
}

/// A schema with one column a type.
pub fn schema(table: &str, types: &[DataType]) -> Arc<TableSchema> {
    let name = |i: usize| format!("c{i}");
    let columns = types.iter().enumerate();
    let columns = columns.map(|(i, t)| ColumnSchema::new(&name(i), t.clone(), "source type", true));
    TableSchema::new(TableName::new("shop", table), columns.collect(), vec![])
}

/// Rows of a table: kinds, ordinals and transactions as given, values from the row number.
pub fn rows(schema: &Arc<TableSchema>, rows: &[(RowKind, u32, u32)], seed: u64) -> TableChanges {
    let seeds: Vec<Option<u64>> = (0..rows.len() as u64)
        .map(|i| (!(i + seed).is_multiple_of(5)).then_some(((i + 1) * 1_000_003) ^ seed))
        .collect();
    let columns: Vec<ArrayRef> = schema.columns().iter().map(|c| column(&c.data_type, &seeds)).collect();
    TableChanges {
        schema: Arc::clone(schema),
        rows: RecordBatch::try_new(Arc::clone(schema.arrow()), columns).expect("columns fit"),
        absent: vec![],
        kind: rows.iter().map(|r| r.0 as u8).collect::<Vec<_>>().into(),
        ordinal: rows.iter().map(|r| r.1).collect::<Vec<_>>().into(),
        txn: rows.iter().map(|r| r.2).collect::<Vec<_>>().into(),
    }
}

pub fn transaction(scn: u64, first_ordinal: u32, change_count: u32) -> Transaction {
    Transaction {
        scn: Scn(scn),
        gtid: format!("3e11fa47-71ca-11e1-9e33-c80aa9429562:{scn}"),
        commit_time_us: 1_700_000_000_000_000 + scn as i64,
        first_ordinal,
        change_count,
        change_offset: 0,
        part: Part::Whole,
    }
}

/// Two tables, three transactions, all row kinds, an absent column, all events.
pub fn example() -> Window {
    use RowKind::{Delete, Insert, UpdateAfter, UpdateBefore};
    let wide = schema("wide", &every_type());
    let small = schema("small", &[DataType::Int64, DataType::Utf8]);
    let mut first =
        rows(&wide, &[(Insert, 0, 0), (UpdateBefore, 2, 0), (UpdateAfter, 2, 0), (Delete, 5, 1)], 7);
    first.absent = vec![None; wide.columns().len()];
    first.absent[3] = Some(BooleanBuffer::from(vec![false, true, false, true]));
    let second = rows(&small, &[(Insert, 1, 0), (Insert, 4, 1)], 9);
    let orders = TableName::new("shop", "orders");
    let event = |ordinal, txn, kind| Event { ordinal, txn, kind };
    let change = |statement: Option<&str>| EventKind::SchemaChange {
        database: "shop".into(),
        tables: vec![TableName::new("shop", "orders"), TableName::new("bank", "a")],
        statement: statement.map(str::to_owned),
    };
    Window {
        source: "shop".into(),
        timeline: Timeline { number: 1, server: "3e11fa47-71ca-11e1-9e33-c80aa9429562".into() },
        span: Span { after: Scn(100), upto: Scn(500) },
        executed: "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-400".into(),
        transactions: vec![transaction(200, 0, 3), transaction(300, 4, 2), transaction(400, 6, 7)],
        tables: vec![first, second],
        events: vec![
            event(6, 2, change(Some("ALTER TABLE orders ADD note TEXT"))),
            event(7, 2, change(None)),
            event(8, 2, EventKind::Truncate { table: orders.clone() }),
            event(
                9,
                2,
                EventKind::Invalidate { table: orders.clone(), reason: "tablespace imported".into() },
            ),
            event(
                10,
                2,
                EventKind::Rename { from: orders.clone(), to: TableName::new("shop", "_orders_del") },
            ),
            event(11, 2, EventKind::Drop { table: orders }),
            event(12, 2, EventKind::DropDatabase { database: "shop".into() }),
        ],
        phase: tidemill_event::Phase::Stream,
    }
}

/// Whether two windows say the same.
pub fn assert_same(a: &Window, b: &Window) {
    assert_eq!((&a.source, &a.timeline, a.span, &a.executed), (&b.source, &b.timeline, b.span, &b.executed));
    assert_eq!(a.transactions, b.transactions);
    assert_eq!(a.events, b.events);
    assert_eq!(a.tables.len(), b.tables.len());
    for (a, b) in a.tables.iter().zip(&b.tables) {
        assert_eq!(a.schema, b.schema);
        assert_eq!(a.rows, b.rows);
        assert_eq!((&a.kind, &a.ordinal, &a.txn), (&b.kind, &b.ordinal, &b.txn));
        for column in 0..a.schema.columns().len() {
            for row in 0..a.rows.num_rows() {
                assert_eq!(a.is_absent(row, column), b.is_absent(row, column), "row {row}, column {column}");
            }
        }
    }
}
