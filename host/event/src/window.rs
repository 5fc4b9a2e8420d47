//! A window: a run of whole transactions, or one ordered fragment of a very large transaction, held as
//! columns. The unit of append and serve.
//!
//! ```text
//! span.after ─┬─ transaction 0 ──┬─ transaction 1 ─┬─ … ─┬─ span.upto
//! ordinals    0  1  2  3         4  5              6      over all tables of the window
//! ```
//!
//! Each table's rows lie in ordinal order. The two rows of an update are neighbours and share their ordinal.
//! Ordinals never change once given: a filter leaves gaps. So `scn` and [`Transaction::change_number`] name
//! a change for ever.

use std::sync::Arc;

use arrow_array::{Array, BooleanArray, RecordBatch};
use arrow_buffer::{BooleanBuffer, ScalarBuffer};
use arrow_select::filter::{FilterBuilder, filter_record_batch};

use crate::gtid::{Gtid, GtidSet};
use crate::{Checkpoint, Phase, Position, RowKind, Scn, Span, Steps, TableName, TableSchema, Timeline};

/// Which part of its transaction a window holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Part {
    /// All of it. On disk: keep the numbers.
    Whole = 0,
    /// Its beginning; more follows in the next window.
    First = 1,
    /// A middle.
    Middle = 2,
    /// Its end: with this window the transaction is visible.
    Last = 3,
}

impl Part {
    /// Whether the transaction is complete with this window.
    pub fn completes(self) -> bool {
        matches!(self, Part::Whole | Part::Last)
    }
}

/// One transaction of a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// The source's clock at its commit.
    pub scn: Scn,
    /// The source's own id of it: a GTID, or empty where the source gives none.
    pub gtid: String,
    /// When it committed, by the source's clock: microseconds since 1970-01-01 UTC.
    pub commit_time_us: i64,
    /// The ordinal of its first change in this window.
    pub first_ordinal: u32,
    /// How many changes and events the source made in this window's part of it, before any filter.
    pub change_count: u32,
    /// How many changes came in earlier fragments of it.
    pub change_offset: u64,
    /// Which part of it this is.
    pub part: Part,
}

impl Transaction {
    /// The number of the change with that ordinal within its transaction, from 0: stable over
    /// redelivery, filters and windows.
    pub fn change_number(&self, ordinal: u32) -> u64 {
        self.change_offset + u64::from(ordinal - self.first_ordinal)
    }
}

/// The changes of one table, as columns.
#[derive(Clone, Debug)]
pub struct TableChanges {
    /// The schema that was in force.
    pub schema: Arc<TableSchema>,
    /// The row images, with the schema's Arrow schema.
    pub rows: RecordBatch,
    /// Per column, a bit a row: set where the source did not log the value. Absent is not NULL. Empty, or
    /// `None` for a column: every value was logged.
    pub absent: Vec<Option<BooleanBuffer>>,
    /// A [`RowKind`] a row.
    pub kind: ScalarBuffer<u8>,
    /// The ordinal of each row's change.
    pub ordinal: ScalarBuffer<u32>,
    /// The index of each row's transaction in [`Window::transactions`].
    pub txn: ScalarBuffer<u32>,
}

/// Something that happened to a table or to the stream, in its place among the changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its ordinal, one of those of its transaction.
    pub ordinal: u32,
    /// The index of its transaction.
    pub txn: u32,
    /// What it is.
    pub kind: EventKind,
}

/// What an event is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A statement changed schemas.
    SchemaChange {
        /// The database that was current.
        database: String,
        /// The tables that the statement defines or changes; empty where it is about a database or a view.
        tables: Vec<TableName>,
        /// The statement, as the source logged it; `None` where the source policy removed it.
        statement: Option<String>,
    },
    /// Every row of the table vanished without a change each.
    Truncate {
        /// The table.
        table: TableName,
    },
    /// The table is gone, and with it every row, without a change each. One of the same name is another table.
    Drop {
        /// The table.
        table: TableName,
    },
    /// A database is gone with every table in it.
    DropDatabase {
        /// The database.
        database: String,
    },
    /// A table has another name. Its rows came as those of the old name and do not come again: unless a later step of
    /// the same statement takes the new name away, an [`EventKind::Invalidate`] of it follows.
    Rename {
        /// The name that it had.
        from: TableName,
        /// The name that it has.
        to: TableName,
    },
    /// The table's content changed in a way that the log does not tell; it must be cloned again.
    Invalidate {
        /// The table.
        table: TableName,
        /// Why.
        reason: String,
    },
}

impl EventKind {
    /// The tables that it names; none where it is about a database or a view.
    pub fn tables(&self) -> Vec<&TableName> {
        match self {
            EventKind::SchemaChange { tables, .. } => tables.iter().collect(),
            EventKind::Truncate { table }
            | EventKind::Drop { table }
            | EventKind::Invalidate { table, .. } => {
                vec![table]
            }
            EventKind::Rename { from, to } => vec![from, to],
            EventKind::DropDatabase { .. } => vec![],
        }
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Window {
    /// The source's name.
    pub source: Arc<str>,
    /// Whose clock the positions are.
    pub timeline: Timeline,
    /// From where to where this window moves a reader. `upto` may lie beyond the last transaction (an idle
    /// source still advances); with an incomplete transaction at the end it does not include that one.
    pub span: Span,
    /// The set of transactions executed at `span.upto`, in the source's own text form; empty where it has none.
    pub executed: Arc<str>,
    /// The transactions, in commit order.
    pub transactions: Vec<Transaction>,
    /// The changes, by table schema.
    pub tables: Vec<TableChanges>,
    /// The events, in ordinal order.
    pub events: Vec<Event>,
    /// What it is a piece of. Only windows of the stream follow each other, are merged and are encoded as frames. One of a
    /// snapshot or of deltas has one transaction that never was, with all its changes at the position that is read; its
    /// span is `after` zero, `upto` the position of its checkpoint, and its phase is that of who has it.
    pub phase: Phase,
}

/// One change, its rows joined: what row images it has in `tables[table].rows`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its ordinal.
    pub ordinal: u32,
    /// The index of its transaction.
    pub txn: u32,
    /// The index in [`Window::tables`].
    pub table: u32,
    /// The row as it was; `None` for an insert.
    pub before: Option<u32>,
    /// The row as it is now; `None` for a delete.
    pub after: Option<u32>,
}

/// A window that breaks the rules of the module's picture.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} ({place})")]
pub struct WindowError {
    /// The rule that is broken.
    pub what: &'static str,
    /// Where.
    pub place: String,
}

fn broken<T>(what: &'static str, place: impl std::fmt::Display) -> Result<T, WindowError> {
    Err(WindowError { what, place: place.to_string() })
}

impl TableChanges {
    /// The joined changes of this table, in ordinal order. `table` is its index in the window.
    pub fn changes(&self, table: u32) -> impl Iterator<Item = Change> + '_ {
        let mut row = 0;
        std::iter::from_fn(move || {
            let kind = RowKind::from_u8(*self.kind.get(row)?).expect("kinds were validated");
            let (ordinal, txn, here) = (self.ordinal[row], self.txn[row], row as u32);
            let mut change = Change { ordinal, txn, table, before: None, after: None };
            row += 1;
            if kind.is_after() {
                change.after = Some(here);
                return Some(change);
            }
            change.before = Some(here);
            if kind == RowKind::UpdateBefore && self.ordinal.get(row) == Some(&ordinal) {
                change.after = Some(here + 1);
                row += 1;
            }
            Some(change)
        })
    }

    /// Whether the value at that row and column was not logged.
    pub fn is_absent(&self, row: usize, column: usize) -> bool {
        self.absent.get(column).and_then(Option::as_ref).is_some_and(|bits| bits.value(row))
    }

    /// The rows whose bit is set, everything else as it was; `None` when no row is left.
    pub fn keep(&self, mask: &BooleanBuffer) -> Option<TableChanges> {
        let mask = BooleanArray::new(mask.clone(), None);
        match mask.true_count() {
            0 => return None,
            all if all == self.rows.num_rows() => return Some(self.clone()),
            _ => {}
        }
        let predicate = FilterBuilder::new(&mask).optimize().build();
        let rows = filter_record_batch(&self.rows, &mask).expect("the mask is as long as the batch");
        let bits = |b: &BooleanBuffer| {
            let kept = predicate.filter(&BooleanArray::new(b.clone(), None)).expect("same length");
            BooleanArray::from(kept.to_data()).values().clone()
        };
        Some(TableChanges {
            schema: Arc::clone(&self.schema),
            rows,
            absent: self.absent.iter().map(|a| a.as_ref().map(bits)).collect(),
            kind: pick(&self.kind, mask.values()),
            ordinal: pick(&self.ordinal, mask.values()),
            txn: pick(&self.txn, mask.values()),
        })
    }

    fn validate(&self, window: &Window, place: &str) -> Result<(), WindowError> {
        let rows = self.rows.num_rows();
        if self.rows.schema_ref().fields() != self.schema.arrow().fields() {
            return broken("the rows have another schema than the table", place);
        }
        if self.kind.len() != rows || self.ordinal.len() != rows || self.txn.len() != rows {
            return broken("kind, ordinal or transaction is not one a row", place);
        }
        let absent_fits = self.absent.is_empty() || self.absent.len() == self.schema.columns().len();
        if !absent_fits || self.absent.iter().flatten().any(|bits| bits.len() != rows) {
            return broken("an absent bitmap does not fit its column", place);
        }
        for row in 0..rows {
            self.validate_row(window, row)
                .or_else(|what| broken(what, format_args!("{place}, row {row}")))?;
        }
        Ok(())
    }

    fn validate_row(&self, window: &Window, row: usize) -> Result<(), &'static str> {
        let kind = RowKind::from_u8(self.kind[row]).ok_or("an unknown row kind")?;
        let ordinal = self.ordinal[row];
        let txn = window.transactions.get(self.txn[row] as usize).ok_or("a row of no transaction")?;
        let place = ordinal.checked_sub(txn.first_ordinal);
        if place.is_none_or(|place| place >= txn.change_count) {
            return Err("an ordinal outside its transaction");
        }
        let Some(last) = row.checked_sub(1) else { return Ok(()) };
        let joined = self.ordinal[last] == ordinal;
        let pair = kind == RowKind::UpdateAfter && self.kind[last] == RowKind::UpdateBefore as u8;
        if self.ordinal[last] > ordinal || (joined && !pair) {
            return Err("ordinals that do not rise");
        }
        Ok(())
    }
}

fn pick<T: arrow_buffer::ArrowNativeType>(values: &ScalarBuffer<T>, mask: &BooleanBuffer) -> ScalarBuffer<T> {
    mask.set_indices().map(|i| values[i]).collect::<Vec<T>>().into()
}

impl Window {
    /// A window that only moves a reader on: an idle source's heartbeat.
    pub fn empty(source: Arc<str>, timeline: Timeline, span: Span, executed: Arc<str>) -> Window {
        Window {
            source,
            timeline,
            span,
            executed,
            transactions: vec![],
            tables: vec![],
            events: vec![],
            phase: Phase::Stream,
        }
    }

    /// Where a reader is after this window.
    pub fn position(&self) -> Position {
        Position { timeline: self.timeline.number, scn: self.span.upto }
    }

    /// The checkpoint of a consumer that has everything up to the end of this window.
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            source: self.source.to_string(),
            server: self.timeline.server.to_string(),
            position: self.position(),
            gtid_set: self.executed.to_string(),
            phase: self.phase.clone(),
        }
    }

    /// The set of transactions executed before the window; `None` where the source has no sets.
    pub fn executed_before(&self) -> Option<GtidSet> {
        let executed = GtidSet::parse(&self.executed).ok().flatten()?;
        let completed = self.transactions.iter().filter(|t| t.part.completes());
        Some(executed.without_last(completed.filter_map(|t| Gtid::parse(&t.gtid))))
    }

    /// The checkpoints of a consumer that has only the window's beginning.
    pub fn steps(&self) -> Steps<'_> {
        Steps::new(self)
    }

    /// How many row images it holds.
    pub fn row_count(&self) -> usize {
        self.tables.iter().map(|t| t.rows.num_rows()).sum()
    }

    /// How many changes the source made in it, before any filter: an update is one, an event none. Events that a
    /// policy removed count, since their ordinals stay.
    pub fn source_change_count(&self) -> u64 {
        let all: u64 = self.transactions.iter().map(|t| u64::from(t.change_count)).sum();
        all - self.events.len() as u64
    }

    /// Every change of every table, in the source's own order.
    pub fn changes_in_order(&self) -> Vec<Change> {
        let mut all: Vec<Change> = Vec::with_capacity(self.row_count());
        for (table, changes) in self.tables.iter().enumerate() {
            all.extend(changes.changes(table as u32));
        }
        // Each table is a sorted run, which the stable sort merges in linear time.
        all.sort_by_key(|change| change.ordinal);
        all
    }

    /// Checks every rule of the module's picture: what came from disk or wire passes here before use.
    pub fn validate(&self) -> Result<(), WindowError> {
        self.validate_transactions()?;
        for (index, table) in self.tables.iter().enumerate() {
            table.validate(self, &format!("table {index}, {}", table.schema.name()))?;
        }
        let mut last = None;
        for event in &self.events {
            let Some(txn) = self.transactions.get(event.txn as usize) else {
                return broken("an event of no transaction", event.ordinal);
            };
            let place = event.ordinal.checked_sub(txn.first_ordinal);
            if place.is_none_or(|place| place >= txn.change_count) || last >= Some(event.ordinal) {
                return broken("an event outside its transaction, or out of order", event.ordinal);
            }
            last = Some(event.ordinal);
        }
        Ok(())
    }

    fn validate_transactions(&self) -> Result<(), WindowError> {
        if self.span.after > self.span.upto {
            return broken("a span that runs backwards", self.span.upto);
        }
        let (mut scn, mut ordinal) = (self.span.after, 0u32);
        for (index, txn) in self.transactions.iter().enumerate() {
            let ends_here = self.phase != Phase::Stream || txn.scn <= self.span.upto;
            if txn.scn <= scn || (txn.part.completes() && !ends_here) {
                return broken("transactions out of commit order or outside the span", txn.scn);
            }
            if txn.part != Part::Whole && self.transactions.len() != 1 {
                return broken("a fragment that does not stand alone", txn.scn);
            }
            if txn.first_ordinal < ordinal {
                return broken("transactions that share ordinals", txn.scn);
            }
            let end = txn.first_ordinal.checked_add(txn.change_count);
            ordinal = end.map_or_else(|| broken("too many changes", index), Ok)?;
            scn = txn.scn;
        }
        Ok(())
    }
}
