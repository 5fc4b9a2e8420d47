//! Tables and batches for the native tests of guests. Nothing of this is in a component that does
//! not call it.

#[cfg(not(target_arch = "wasm32"))]
pub(crate) mod sink;

use crate::bindings::consumer::exports::tidemill::guest::change_consumer::{
    Batch as RawBatch, ChangeSet, Event, Happening, Part, Phase, TableName, Transaction,
};
use crate::{Column, ColumnDef, Logical, Physical, Rows, TableDef};

#[cfg(not(target_arch = "wasm32"))]
pub use sink::{Written, written};

/// A table `schema.name` of columns (name, logical type) with that key.
///
/// # Panics
/// When the path has no schema, or a key column is not there.
pub fn table(path: &str, columns: &[(&str, &str)], key: &[&str]) -> TableDef {
    let (schema, name) = path.split_once('.').expect("a path schema.table");
    let mut table = TableDef {
        id: 1,
        source: "test".to_owned(),
        schema: schema.to_owned(),
        name: name.to_owned(),
        columns: columns.iter().map(|(name, logical)| column(name, logical)).collect(),
        key: Vec::new(),
    };
    table.key = key.iter().map(|name| table.ordinal(name).expect("a key column that is there")).collect();
    table
}

/// The name `schema.name`.
///
/// # Panics
/// When the path has no schema.
pub fn name(path: &str) -> TableName {
    let (schema, name) = path.split_once('.').expect("a path schema.table");
    TableName { schema: schema.to_owned(), name: name.to_owned() }
}

/// A nullable column of that name and logical type.
pub fn column(name: &str, logical: &str) -> ColumnDef {
    ColumnDef {
        name: name.to_owned(),
        logical: logical.to_owned(),
        physical: physical(Logical::parse(logical)),
        source_type: logical.to_owned(),
        nullable: true,
    }
}

/// The physical layout in which the host sends that logical type.
pub fn physical(logical: Logical) -> Physical {
    match logical {
        Logical::Bool => Physical::Bools,
        Logical::Int64 | Logical::Date | Logical::Time | Logical::Datetime | Logical::Timestamp => {
            Physical::Ints
        }
        Logical::Uint64 => Physical::Uints,
        Logical::Float64 => Physical::Floats,
        Logical::Decimal { .. } | Logical::Text | Logical::Json => Physical::Text,
        Logical::Bytes | Logical::Uuid | Logical::Other => Physical::Bytes,
    }
}

/// A batch of that table; all columns have to be of one length.
///
/// # Panics
/// When they are not.
pub fn rows(table: &TableDef, columns: Vec<Column>) -> Rows {
    let count = columns.first().map_or(0, Column::len);
    assert!(columns.iter().all(|column| column.len() == count), "columns of one length");
    Rows { table: table.id, count: u32::try_from(count).expect("a test's batch"), columns }
}

/// Batches for consumers, transaction by transaction.
#[derive(Debug)]
pub struct Deliveries {
    phase: Phase,
    transactions: Vec<Transaction>,
    sets: Vec<ChangeSet>,
    events: Vec<Event>,
    places: u32,
}

impl Deliveries {
    /// An empty batch of that phase.
    pub fn new(phase: Phase) -> Self {
        Deliveries { phase, transactions: Vec::new(), sets: Vec::new(), events: Vec::new(), places: 0 }
    }

    /// Begins a transaction of that name; its SCN is its number in the batch, from 1.
    pub fn begin(&mut self, id: &str, part: Part) -> &mut Self {
        let scn = self.transactions.len() as u64 + 1;
        self.transactions.push(Transaction {
            id: id.to_owned(),
            scn,
            committed: 1_500_000,
            changes: 0,
            part,
        });
        self
    }

    /// Adds a run of changes of a table to the transaction. Each call makes a change-set of its own,
    /// where the host makes one a table; guests see no difference.
    ///
    /// # Panics
    /// Before any transaction.
    pub fn changes(
        &mut self,
        table: &TableDef,
        ops: &[u8],
        after: Vec<Column>,
        before: Vec<Column>,
    ) -> &mut Self {
        let count = u32::try_from(ops.len()).expect("a test's batch");
        self.transactions.last_mut().expect("a transaction has begun").changes += count;
        let places = (self.places..self.places + count).collect();
        self.places += count;
        self.sets.push(ChangeSet { table: table.id, count, places, ops: ops.to_vec(), after, before });
        self
    }

    /// Adds something that happened to the transaction.
    ///
    /// # Panics
    /// Before any transaction.
    pub fn event(&mut self, what: Happening) -> &mut Self {
        self.transactions.last_mut().expect("a transaction has begun").changes += 1;
        self.events.push(Event { place: self.places, what });
        self.places += 1;
        self
    }

    /// The batch.
    pub fn batch(&mut self) -> RawBatch {
        RawBatch {
            phase: self.phase,
            transactions: std::mem::take(&mut self.transactions),
            changes: std::mem::take(&mut self.sets),
            events: std::mem::take(&mut self.events),
        }
    }
}
