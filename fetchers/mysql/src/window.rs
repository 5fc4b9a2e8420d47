//! The window that is being made: changes by table, events and transactions, and the cut between whole transactions
//! and the one that is still open.

use std::collections::HashMap;

use tidemill_event::{Event, EventKind, Part, SchemaId, Scn, TableChanges, TableSchema, Transaction};

use crate::table::{Layout, RowError, RowsEvent, TableBuilder};

/// What a window holds.
#[derive(Debug, Default)]
pub(crate) struct Content {
    pub(crate) transactions: Vec<Transaction>,
    pub(crate) tables: Vec<TableChanges>,
    pub(crate) events: Vec<Event>,
}

/// What a transaction is when it commits.
#[derive(Clone, Debug)]
pub(crate) struct Committed {
    pub(crate) scn: Scn,
    pub(crate) gtid: String,
    pub(crate) commit_time_us: i64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct WindowMaker {
    tables: Vec<TableBuilder>,
    /// By schema, the layout that its rows had last: in another character set they have another one.
    slots: HashMap<SchemaId, (Layout, usize)>,
    /// Tables with rows, in the order of their first row.
    touched: Vec<usize>,
    transactions: Vec<Transaction>,
    events: Vec<Event>,
    /// Events of whole transactions.
    settled_events: usize,
    next_ordinal: u32,
    /// Ordinals below are of whole transactions.
    settled_ordinal: u32,
    bytes: usize,
    /// Bytes of whole transactions.
    settled_bytes: usize,
    /// Row images that were decoded, and that were forgotten again.
    pub(crate) rows_read: u64,
    pub(crate) rows_discarded: u64,
}

impl WindowMaker {
    /// The place of a table layout; the same for the same layout.
    pub(crate) fn slot(&mut self, layout: &Layout) -> usize {
        match self.slots.get(&layout.schema.id()) {
            Some((known, slot)) if known.decodes_as(layout) => *slot,
            _ => {
                self.tables.push(TableBuilder::new(layout));
                let slot = self.tables.len() - 1;
                self.slots.insert(layout.schema.id(), (layout.clone(), slot));
                slot
            }
        }
    }

    pub(crate) fn schema(&self, slot: usize) -> &TableSchema {
        self.tables[slot].schema()
    }

    /// Appends a rows event to the open transaction and says how many changes it had.
    pub(crate) fn rows(&mut self, slot: usize, event: &RowsEvent<'_>, bytes: usize) -> Result<u32, RowError> {
        let table = &mut self.tables[slot];
        if table.rows() == 0 {
            self.touched.push(slot);
        }
        let before = table.rows();
        let pushed = table.push(event, self.next_ordinal, self.transactions.len() as u32);
        let rows = table.rows() - before;
        self.rows_read += rows as u64;
        let changes = pushed?;
        self.next_ordinal += changes;
        // A value that is NULL or absent has a bit in the log, or nothing, and its whole width here.
        self.bytes += bytes.max(rows * table.row_bytes());
        Ok(changes)
    }

    /// Appends an event to the open transaction.
    pub(crate) fn event(&mut self, kind: EventKind) {
        let (ordinal, txn) = (self.next_ordinal, self.transactions.len() as u32);
        self.bytes += std::mem::size_of::<Event>();
        if let EventKind::SchemaChange { statement: Some(statement), .. } = &kind {
            self.bytes += statement.len();
        }
        self.events.push(Event { ordinal, txn, kind });
        self.next_ordinal += 1;
    }

    /// Changes and events of the open transaction.
    pub(crate) fn open_changes(&self) -> u32 {
        self.next_ordinal - self.settled_ordinal
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn open_bytes(&self) -> usize {
        self.bytes - self.settled_bytes
    }

    pub(crate) fn has_transactions(&self) -> bool {
        !self.transactions.is_empty()
    }

    /// The open transaction is complete; without a change it leaves no trace.
    pub(crate) fn commit(&mut self, committed: Committed) {
        if self.open_changes() > 0 {
            let transaction = self.transaction(committed, Part::Whole, 0);
            self.transactions.push(transaction);
        }
        self.settled_ordinal = self.next_ordinal;
        self.settled_events = self.events.len();
        self.settled_bytes = self.bytes;
        self.touched.iter().for_each(|slot| self.tables[*slot].settle());
    }

    fn transaction(&self, committed: Committed, part: Part, change_offset: u64) -> Transaction {
        let Committed { scn, gtid, commit_time_us } = committed;
        let (first_ordinal, change_count) = (self.settled_ordinal, self.open_changes());
        Transaction { scn, gtid, commit_time_us, first_ordinal, change_count, change_offset, part }
    }

    /// Forgets what the open transaction did so far.
    pub(crate) fn discard(&mut self) {
        self.discard_from(0, 0);
    }

    /// Forgets what the open transaction did after so many changes and events, which had so many bytes.
    pub(crate) fn discard_from(&mut self, changes: u32, bytes: usize) {
        let ordinal = self.settled_ordinal + changes;
        let before = self.rows_pending();
        self.touched.iter().for_each(|slot| self.tables[*slot].discard_from(ordinal));
        self.rows_discarded += before - self.rows_pending();
        self.touched.retain(|slot| self.tables[*slot].rows() > 0);
        self.events.retain(|event| event.ordinal < ordinal);
        self.next_ordinal = ordinal;
        self.bytes = self.settled_bytes + bytes;
    }

    /// Row images that are here.
    pub(crate) fn rows_pending(&self) -> u64 {
        self.touched.iter().map(|slot| self.tables[*slot].rows() as u64).sum()
    }

    /// Takes the whole transactions; the open one becomes the first of the next window.
    pub(crate) fn take_whole(&mut self) -> Content {
        let shift = std::mem::take(&mut self.settled_ordinal);
        let tables = self.touched.iter().filter_map(|slot| self.tables[*slot].take_settled(shift)).collect();
        self.touched.retain(|slot| self.tables[*slot].rows() > 0);
        let rest = self.events.split_off(std::mem::take(&mut self.settled_events));
        let events = std::mem::replace(&mut self.events, rest);
        for event in &mut self.events {
            event.ordinal -= shift;
            event.txn = 0;
        }
        self.next_ordinal -= shift;
        self.bytes -= std::mem::take(&mut self.settled_bytes);
        Content { transactions: std::mem::take(&mut self.transactions), tables, events }
    }

    /// Takes what there is of the open transaction. The whole ones were taken before.
    pub(crate) fn take_part(&mut self, committed: Committed, part: Part, change_offset: u64) -> Content {
        assert!(self.transactions.is_empty() && self.settled_ordinal == 0, "a fragment stands alone");
        let transaction = self.transaction(committed, part, change_offset);
        let tables = self.touched.drain(..).filter_map(|slot| self.tables[slot].take_all()).collect();
        self.next_ordinal = 0;
        self.settled_events = 0;
        (self.bytes, self.settled_bytes) = (0, 0);
        Content { transactions: vec![transaction], tables, events: std::mem::take(&mut self.events) }
    }
}
