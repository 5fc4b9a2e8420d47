//! Rows events, and the builder of one table's changes within a window.

mod partial;

use std::sync::Arc;

use arrow_array::RecordBatch;
use tidemill_event::limits::COLUMNS_MAX;
use tidemill_event::{RowKind, TableChanges, TableSchema};

use crate::event::kind;
use crate::table::Layout;
use crate::table::column::Column;
use crate::value::ValueError;
use crate::wire::{Bytes, Malformed};

/// What a rows event does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Write,
    Update,
    Delete,
}

/// A rows event, its rows still packed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowsEvent<'a> {
    pub(crate) verb: Verb,
    columns: usize,
    /// Which columns the first image has, a bit each.
    first: &'a [u8],
    /// Which columns the second image of an update has.
    second: &'a [u8],
    rows: &'a [u8],
    /// Whether documents may be told as differences.
    partial: bool,
}

/// Why rows could not be decoded, and at which column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RowError {
    pub(crate) column: Option<usize>,
    pub(crate) error: ValueError,
}

impl From<Malformed> for RowError {
    fn from(malformed: Malformed) -> Self {
        RowError { column: None, error: malformed.into() }
    }
}

impl<'a> RowsEvent<'a> {
    pub(crate) fn read(event_kind: u8, body: &'a [u8]) -> Result<RowsEvent<'a>, Malformed> {
        let (verb, has_extra) = match event_kind {
            kind::WRITE_ROWS_V1 | kind::WRITE_ROWS_COMPRESSED => (Verb::Write, false),
            kind::UPDATE_ROWS_V1 | kind::UPDATE_ROWS_COMPRESSED => (Verb::Update, false),
            kind::DELETE_ROWS_V1 | kind::DELETE_ROWS_COMPRESSED => (Verb::Delete, false),
            kind::WRITE_ROWS => (Verb::Write, true),
            kind::UPDATE_ROWS | kind::PARTIAL_UPDATE_ROWS => (Verb::Update, true),
            kind::DELETE_ROWS => (Verb::Delete, true),
            _ => return Err(Malformed("this is no rows event")),
        };
        let mut b = Bytes(body);
        b.take(8)?;
        if has_extra {
            let length = usize::from(b.u16()?);
            b.take(length.checked_sub(2).ok_or(Malformed("a rows event has an impossible length"))?)?;
        }
        let columns = usize::try_from(b.length()?).ok().filter(|n| *n <= COLUMNS_MAX);
        let columns = columns.ok_or(Malformed("a rows event has more columns than a server allows"))?;
        let first = b.take(columns.div_ceil(8))?;
        let second = if verb == Verb::Update { b.take(columns.div_ceil(8))? } else { first };
        let partial = event_kind == kind::PARTIAL_UPDATE_ROWS;
        Ok(RowsEvent { verb, columns, first, second, rows: b.0, partial })
    }

    /// The table that an event is about, without looking at its rows.
    pub(crate) fn table_of(body: &[u8]) -> Result<u64, Malformed> {
        Bytes(body).uint(6)
    }
}

/// Which columns an image has.
struct Present<'a> {
    bits: &'a [u8],
    count: usize,
    all: bool,
}

impl<'a> Present<'a> {
    fn new(bits: &'a [u8], columns: usize) -> Present<'a> {
        let count = (0..columns).filter(|i| bit(bits, *i)).count();
        Present { bits, count, all: count == columns }
    }
}

/// At the column in place `i` of a row; the schema does not count the hidden ones.
#[cold]
fn error_at(i: usize, hidden: &[usize], error: ValueError) -> RowError {
    RowError { column: Some(i - hidden.iter().filter(|h| **h < i).count()), error }
}

#[inline]
fn bit(bits: &[u8], i: usize) -> bool {
    bits[i / 8] >> (i % 8) & 1 == 1
}

/// The changes of one table schema in the window that is being made.
#[derive(Debug)]
pub(crate) struct TableBuilder {
    schema: Arc<TableSchema>,
    columns: Vec<Column>,
    /// Places of the columns that are not in the schema.
    hidden: Vec<usize>,
    /// Columns in which what is no date is NULL.
    dates_nullable: Vec<bool>,
    kinds: Vec<u8>,
    ordinals: Vec<u32>,
    txns: Vec<u32>,
    /// Rows of transactions that are complete.
    settled: usize,
    row_bytes: usize,
}

impl TableBuilder {
    pub(crate) fn new(layout: &Layout) -> TableBuilder {
        let columns: Vec<Column> = layout.kinds.iter().cloned().map(Column::new).collect();
        TableBuilder {
            schema: Arc::clone(&layout.schema),
            row_bytes: columns.iter().map(Column::width).sum(),
            columns,
            hidden: layout.hidden.clone(),
            dates_nullable: layout.dates_nullable.clone(),
            kinds: Vec::new(),
            ordinals: Vec::new(),
            txns: Vec::new(),
            settled: 0,
        }
    }

    pub(crate) fn schema(&self) -> &TableSchema {
        &self.schema
    }

    pub(crate) fn rows(&self) -> usize {
        self.kinds.len()
    }

    /// What a row takes at least, whatever its values are.
    pub(crate) fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    /// Appends the changes of an event, numbered from `ordinal`, and says how many they are. After an error the rows
    /// since the last [`TableBuilder::settle`] are good only for [`TableBuilder::discard_from`].
    pub(crate) fn push(&mut self, event: &RowsEvent<'_>, ordinal: u32, txn: u32) -> Result<u32, RowError> {
        if event.columns != self.columns.len() {
            return Err(Malformed("a rows event has another number of columns than its table map").into());
        }
        if self.kinds.is_empty() {
            self.columns.iter_mut().for_each(Column::begin);
        }
        let first = Present::new(event.first, event.columns);
        let second = Present::new(event.second, event.columns);
        let mut b = Bytes(event.rows);
        let mut next = ordinal;
        while !b.0.is_empty() {
            let before = b.0.len();
            match event.verb {
                Verb::Write => self.row(&mut b, &first, RowKind::Insert, next, txn)?,
                Verb::Delete => self.row(&mut b, &first, RowKind::Delete, next, txn)?,
                Verb::Update if event.partial => self.partial_update(&mut b, [&first, &second], next, txn)?,
                Verb::Update => {
                    self.row(&mut b, &first, RowKind::UpdateBefore, next, txn)?;
                    self.row(&mut b, &second, RowKind::UpdateAfter, next, txn)?;
                }
            }
            next = next.checked_add(1).ok_or(Malformed("a transaction has too many changes for a window"))?;
            if b.0.len() == before {
                return Err(Malformed("a row has no bytes").into());
            }
        }
        Ok(next - ordinal)
    }

    #[inline]
    fn row(
        &mut self,
        b: &mut Bytes<'_>,
        present: &Present<'_>,
        kind: RowKind,
        ordinal: u32,
        txn: u32,
    ) -> Result<(), RowError> {
        let nulls = b.take(present.count.div_ceil(8))?;
        let row = self.kinds.len();
        let mut place = 0;
        for (i, column) in self.columns.iter_mut().enumerate() {
            if !present.all && !bit(present.bits, i) {
                column.push_null(row, true);
                continue;
            }
            if bit(nulls, place) {
                column.push_null(row, false);
            } else {
                match column.push(b) {
                    Ok(()) => {}
                    Err(ValueError::NoDate { .. }) if self.dates_nullable[i] => column.push_null(row, false),
                    Err(error) => return Err(error_at(i, &self.hidden, error)),
                }
            }
            place += 1;
        }
        self.end_row(kind, ordinal, txn);
        Ok(())
    }

    fn end_row(&mut self, kind: RowKind, ordinal: u32, txn: u32) {
        self.kinds.push(kind as u8);
        self.ordinals.push(ordinal);
        self.txns.push(txn);
    }

    /// The rows so far belong to complete transactions.
    pub(crate) fn settle(&mut self) {
        self.settled = self.rows();
    }

    /// Forgets the rows of the transaction that is not complete, from that ordinal on.
    pub(crate) fn discard_from(&mut self, ordinal: u32) {
        let kept = self.ordinals.partition_point(|o| *o < ordinal).max(self.settled);
        self.columns.iter_mut().for_each(|column| column.truncate(kept));
        self.kinds.truncate(kept);
        self.ordinals.truncate(kept);
        self.txns.truncate(kept);
    }

    /// Takes the rows of complete transactions. Those that are left are of one transaction, which becomes number zero
    /// of the next window; its ordinals fall by `ordinal_shift`.
    pub(crate) fn take_settled(&mut self, ordinal_shift: u32) -> Option<TableChanges> {
        let rows = std::mem::take(&mut self.settled);
        let taken = (rows > 0).then(|| self.take(rows));
        self.ordinals.iter_mut().for_each(|ordinal| *ordinal -= ordinal_shift);
        self.txns.fill(0);
        taken
    }

    /// Takes all rows.
    pub(crate) fn take_all(&mut self) -> Option<TableChanges> {
        self.settled = 0;
        let rows = self.rows();
        (rows > 0).then(|| self.take(rows))
    }

    fn take(&mut self, rows: usize) -> TableChanges {
        for place in &self.hidden {
            self.columns[*place].truncate(0);
        }
        let hidden = &self.hidden;
        let shown = self.columns.iter_mut().enumerate().filter(|(place, _)| !hidden.contains(place));
        let fields = self.schema.arrow().fields();
        let parts = shown.zip(fields).map(|((_, column), field)| column.take(rows, field.data_type()));
        let (arrays, absent): (Vec<_>, Vec<_>) = parts.unzip();
        let batch = RecordBatch::try_new(Arc::clone(self.schema.arrow()), arrays);
        let tail = |values: &mut Vec<u32>| {
            let rest = values.split_off(rows);
            std::mem::replace(values, rest)
        };
        let rest = self.kinds.split_off(rows);
        TableChanges {
            schema: Arc::clone(&self.schema),
            rows: batch.expect("columns are made for the schema and have a value a row"),
            absent: if absent.iter().all(Option::is_none) { Vec::new() } else { absent },
            kind: std::mem::replace(&mut self.kinds, rest).into(),
            ordinal: tail(&mut self.ordinals).into(),
            txn: tail(&mut self.txns).into(),
        }
    }
}
