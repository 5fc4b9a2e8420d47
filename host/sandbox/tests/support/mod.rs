//! One sandbox for all tests of a process, guests by name, and windows of a small shop.

#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Int32Type, UInt64Type};
use arrow_array::{ArrayRef, Decimal128Array, Int32Array, RecordBatch, StringArray, UInt64Array};
use arrow_buffer::BooleanBuffer;
use arrow_schema::DataType;
use tidemill_event::{
    ColumnSchema, Part, RowKind, Scn, Span, TableChanges, TableName, TableSchema, Timeline, Transaction,
    Window,
};
use tidemill_sandbox::{FilterStage, GuestConfig, GuestError, Module, Sandbox, SandboxConfig};

/// The sandbox; compiled guests stay in the build's own directory from run to run.
pub fn sandbox() -> &'static Sandbox {
    static SANDBOX: OnceLock<Sandbox> = OnceLock::new();
    SANDBOX.get_or_init(|| {
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest-cache");
        Sandbox::new(SandboxConfig { instances_max: 32, ..SandboxConfig::new(cache) }).expect("it starts")
    })
}

/// A guest of the repository, loaded once a process.
pub fn module(name: &str) -> Module {
    static LOADED: Mutex<BTreeMap<String, Module>> = Mutex::new(BTreeMap::new());
    let mut loaded = LOADED.lock().expect("a guest of the repository loads");
    let load = || sandbox().load(name, tidemill_artifacts::wasm(name)).expect("it loads");
    loaded.entry(name.to_owned()).or_insert_with(load).clone()
}

/// A configuration on the source "shop".
pub fn config(json: &str) -> GuestConfig {
    GuestConfig::new("shop", json)
}

/// The configuration of a filter that behaves, and of one that does not.
pub fn filter(name: &str, json: &str) -> Result<FilterStage, GuestError> {
    FilterStage::open(&module(name), config(json))
}

/// `shop.orders`: id (key), amount, status, quantity, note.
pub fn orders() -> Arc<TableSchema> {
    let column = ColumnSchema::new;
    TableSchema::new(
        TableName::new("shop", "orders"),
        vec![
            column("id", DataType::UInt64, "bigint unsigned", false),
            column("amount", DataType::Decimal128(12, 2), "decimal(12,2)", true),
            column("status", DataType::Utf8, "varchar(20)", true),
            column("quantity", DataType::Int32, "int", true),
            column("note", DataType::Utf8, "text", true),
        ],
        vec![0],
    )
}

/// One order. `None` is NULL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    pub id: u64,
    pub cents: Option<i128>,
    pub status: Option<String>,
    pub quantity: Option<i32>,
    pub note: Option<String>,
}

impl Order {
    pub fn new(id: u64, cents: i128, status: &str) -> Order {
        let note = Some(format!("note {id}"));
        Order { id, cents: Some(cents), status: Some(status.into()), quantity: Some(id as i32), note }
    }
}

/// One row of a window: what it is, its ordinal, its transaction.
pub type Row = (RowKind, u32, u32, Order);

pub fn order_columns(rows: &[Row]) -> Vec<ArrayRef> {
    let amounts: Decimal128Array = rows.iter().map(|r| r.3.cents).collect();
    vec![
        Arc::new(rows.iter().map(|r| Some(r.3.id)).collect::<UInt64Array>()),
        Arc::new(amounts.with_precision_and_scale(12, 2).expect("it fits")),
        Arc::new(rows.iter().map(|r| r.3.status.clone()).collect::<StringArray>()),
        Arc::new(rows.iter().map(|r| r.3.quantity).collect::<Int32Array>()),
        Arc::new(rows.iter().map(|r| r.3.note.clone()).collect::<StringArray>()),
    ]
}

pub fn changes(
    schema: &Arc<TableSchema>,
    columns: Vec<ArrayRef>,
    rows: &[(RowKind, u32, u32)],
) -> TableChanges {
    TableChanges {
        schema: Arc::clone(schema),
        rows: RecordBatch::try_new(Arc::clone(schema.arrow()), columns).expect("the columns fit"),
        absent: vec![],
        kind: rows.iter().map(|r| r.0 as u8).collect::<Vec<_>>().into(),
        ordinal: rows.iter().map(|r| r.1).collect::<Vec<_>>().into(),
        txn: rows.iter().map(|r| r.2).collect::<Vec<_>>().into(),
    }
}

pub fn order_changes(rows: &[Row]) -> TableChanges {
    let places: Vec<_> = rows.iter().map(|r| (r.0, r.1, r.2)).collect();
    changes(&orders(), order_columns(rows), &places)
}

/// A window of those tables; each transaction has so many changes.
pub fn window(tables: Vec<TableChanges>, transactions: &[u32]) -> Window {
    let (mut first_ordinal, mut scn) = (0, 100);
    let transaction = |change_count: &u32| {
        scn += 100;
        first_ordinal += change_count;
        Transaction {
            scn: Scn(scn),
            gtid: format!("3e11fa47-71ca-11e1-9e33-c80aa9429562:{scn}"),
            commit_time_us: 1_700_000_000_000_000 + scn as i64,
            first_ordinal: first_ordinal - change_count,
            change_count: *change_count,
            change_offset: 0,
            part: Part::Whole,
        }
    };
    let transactions: Vec<Transaction> = transactions.iter().map(transaction).collect();
    let upto = transactions.last().map_or(Scn(200), |t| t.scn);
    let window = Window {
        source: "shop".into(),
        timeline: Timeline { number: 1, server: "server".into() },
        span: Span { after: Scn(100), upto },
        executed: "".into(),
        transactions,
        tables,
        events: vec![],
        phase: tidemill_event::Phase::Stream,
    };
    window.validate().expect("the test's window keeps the rules");
    window
}

/// Inserts of these orders, one transaction each.
pub fn inserts(orders: &[Order]) -> Window {
    let row = |(i, order): (usize, &Order)| (RowKind::Insert, i as u32, i as u32, order.clone());
    let rows: Vec<Row> = orders.iter().enumerate().map(row).collect();
    window(vec![order_changes(&rows)], &vec![1; rows.len()])
}

/// The orders of a window, in row order.
pub fn rows_of(changes: &TableChanges) -> Vec<Row> {
    let rows = &changes.rows;
    let (ids, amounts) =
        (rows.column(0).as_primitive::<UInt64Type>(), rows.column(1).as_primitive::<Decimal128Type>());
    let (status, notes) = (rows.column(2).as_string::<i32>(), rows.column(4).as_string::<i32>());
    let quantities = rows.column(3).as_primitive::<Int32Type>();
    let texts: [Vec<Option<String>>; 2] =
        [status, notes].map(|a| a.iter().map(|v| v.map(str::to_owned)).collect());
    let (amounts, quantities): (Vec<_>, Vec<_>) = (amounts.iter().collect(), quantities.iter().collect());
    (0..rows.num_rows())
        .map(|i| {
            let kind = RowKind::from_u8(changes.kind[i]).expect("a kind");
            let [status, note] = [texts[0][i].clone(), texts[1][i].clone()];
            let order = Order { id: ids.value(i), cents: amounts[i], status, quantity: quantities[i], note };
            (kind, changes.ordinal[i], changes.txn[i], order)
        })
        .collect()
}

/// Marks a column of some rows as not logged.
pub fn with_absent(mut changes: TableChanges, column: usize, rows: &[usize]) -> TableChanges {
    let count = changes.rows.num_rows();
    changes.absent.resize(changes.schema.columns().len(), None);
    changes.absent[column] = Some(BooleanBuffer::collect_bool(count, |row| rows.contains(&row)));
    changes
}

/// Numbers from a seed: SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn order(&mut self, id: u64) -> Order {
        let status = ["active", "active 2", "inactive", "sent", "", "ACTIVE", "actiwe"];
        let some = |n: u64| !n.is_multiple_of(6);
        Order {
            id,
            cents: some(self.next()).then(|| i128::from(self.below(12_000)) - 2_000),
            status: some(self.next()).then(|| status[self.below(7) as usize].to_owned()),
            quantity: some(self.next()).then(|| self.below(9) as i32 - 4),
            note: some(self.next()).then(|| "ü".repeat(self.below(20) as usize)),
        }
    }

    /// A window with inserts, updates and deletes in a few transactions.
    pub fn window(&mut self, changes: u32) -> Window {
        let (mut rows, mut transactions, mut ordinal): (Vec<Row>, Vec<u32>, u32) = (vec![], vec![], 0);
        while ordinal < changes {
            let count = (self.below(5) as u32 + 1).min(changes - ordinal);
            for _ in 0..count {
                let txn = transactions.len() as u32;
                let id = self.below(50);
                let mut row = |kind, order| rows.push((kind, ordinal, txn, order));
                match self.below(3) {
                    0 => row(RowKind::Insert, self.order(id)),
                    1 => row(RowKind::Delete, self.order(id)),
                    _ => {
                        row(RowKind::UpdateBefore, self.order(id));
                        row(RowKind::UpdateAfter, self.order(id));
                    }
                }
                ordinal += 1;
            }
            transactions.push(count);
        }
        window(vec![order_changes(&rows)], &transactions)
    }
}

/// Every occurrence replaced by text of the same length.
pub fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = bytes.to_vec();
    let places: Vec<usize> =
        (0..bytes.len() - from.len()).filter(|i| bytes[*i..].starts_with(from)).collect();
    assert!(!places.is_empty());
    for place in places {
        bytes[place..place + to.len()].copy_from_slice(to);
    }
    bytes
}
