//! Changes as JSON, one object a line, in the Debezium envelope: the same lines as the guest `print` writes, without a
//! guest, and after each window a line that says where the reader is.
//!
//! What is the same for every change of a table, and of a transaction, is written once and copied.

use std::collections::BTreeMap;

use arrow_buffer::{BooleanBuffer, NullBuffer};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tidemill_event::{Change, Checkpoint, Part, Phase, TableChanges, Transaction, Window};

use super::cell::{Cells, push_integer, push_text};
use super::event;

/// How many changes of a transaction came so far: it may come in parts, and its numbers go on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Orders {
    total: u64,
    /// By `database.table`.
    tables: BTreeMap<String, u64>,
}

/// Writes the changes and events of a window, in commit order. `begun`: what came of the transaction of which the window
/// holds a later part. Gives the same for the next part, if one follows. `between` is called between the lines of two
/// transactions, with the lines so far and how many transactions they are of.
pub(crate) fn push_changes(
    out: &mut Vec<u8>,
    window: &Window,
    begun: Option<&Orders>,
    mut between: impl FnMut(&mut Vec<u8>, usize),
) -> Option<Orders> {
    let tables: Vec<Table<'_>> = window.tables.iter().map(|changes| Table::of(window, changes)).collect();
    let mut entries = entries(window);
    let mut orders = begun.cloned().unwrap_or_default();
    let mut passed = None;
    for run in entries.chunk_by_mut(|a, b| a.txn == b.txn) {
        passed.into_iter().for_each(|count| between(out, count));
        let transaction = &window.transactions[run[0].txn as usize];
        if matches!(transaction.part, Part::Whole | Part::First) {
            orders = Orders::default();
        }
        push_transaction(out, window, transaction, &tables, run, &mut orders);
        passed = Some(run[0].txn as usize + 1);
    }
    let goes_on = window.transactions.last().is_some_and(|t| !t.part.completes());
    goes_on.then_some(orders)
}

/// Where the reader is, as a line; with nothing known, both members are `null`.
pub(crate) fn push_checkpoint(out: &mut Vec<u8>, checkpoint: Option<&Checkpoint>) {
    let Some(checkpoint) = checkpoint else {
        return out.extend_from_slice(b"{\"checkpoint\":null,\"position\":null}\n");
    };
    out.extend_from_slice(b"{\"checkpoint\":\"");
    out.extend_from_slice(checkpoint_text(checkpoint).as_bytes());
    out.extend_from_slice(b"\",\"position\":");
    push_text(out, &checkpoint.position.to_string());
    out.extend_from_slice(b"}\n");
}

/// The checkpoint's record in base64url without padding, as requests take it.
pub(crate) fn checkpoint_text(checkpoint: &Checkpoint) -> String {
    URL_SAFE_NO_PAD.encode(checkpoint.encode())
}

/// A change, or half of one whose key changed, or an event.
struct Entry {
    ordinal: u32,
    txn: u32,
    what: What,
}

enum What {
    Change { table: usize, op: u8, before: Option<usize>, after: Option<usize> },
    Event(usize),
}

/// All of them, in commit order.
fn entries(window: &Window) -> Vec<Entry> {
    let new = op_of_new(window);
    let mut entries = Vec::with_capacity(window.row_count() + window.events.len());
    entries.extend(window.events.iter().enumerate().map(|(index, event)| Entry {
        ordinal: event.ordinal,
        txn: event.txn,
        what: What::Event(index),
    }));
    for (table, changes) in window.tables.iter().enumerate() {
        for change in changes.changes(table as u32) {
            push_entries(&mut entries, changes, change, new);
        }
    }
    if window.tables.len() + usize::from(!window.events.is_empty()) > 1 {
        // Each table is a sorted run; stable, so that a delete stays before the insert of the same change.
        entries.sort_by_key(|entry| entry.ordinal);
    }
    entries
}

/// What a row that appears is called: one of a snapshot was there before.
fn op_of_new(window: &Window) -> u8 {
    if matches!(window.phase, Phase::Snapshot(_)) { b'r' } else { b'c' }
}

fn push_entries(entries: &mut Vec<Entry>, changes: &TableChanges, change: Change, new: u8) {
    let Change { ordinal, txn, table, before, after } = change;
    let (table, before, after) = (table as usize, before.map(|r| r as usize), after.map(|r| r as usize));
    let mut push = |op, before, after| {
        entries.push(Entry { ordinal, txn, what: What::Change { table, op, before, after } });
    };
    match (before, after) {
        (None, after) => push(new, None, after),
        (before, None) => push(b'd', before, None),
        // A changed key is another row: the old one goes, the new one comes.
        (Some(old), Some(new)) if changes.is_key_changed(old, new) => {
            push(b'd', before, None);
            push(b'c', None, after);
        }
        (before, after) => push(b'u', before, after),
    }
}

fn push_transaction(
    out: &mut Vec<u8>,
    window: &Window,
    transaction: &Transaction,
    tables: &[Table<'_>],
    entries: &[Entry],
    orders: &mut Orders,
) {
    let said = Said::of(window, transaction);
    let so_far = |table: &Table<'_>| orders.tables.get(&table.path).copied().unwrap_or_default();
    let mut in_table: Vec<u64> = tables.iter().map(so_far).collect();
    for entry in entries {
        orders.total += 1;
        match &entry.what {
            What::Event(index) => event::push(out, &window.events[*index].kind, &said, orders.total),
            What::Change { table, op, before, after } => {
                in_table[*table] += 1;
                let order = (orders.total, in_table[*table]);
                push_change(out, &tables[*table], &said, (*before, *after), order, *op);
            }
        }
    }
    let counted = tables.iter().zip(in_table).filter(|(_, count)| *count > 0);
    orders.tables.extend(counted.map(|(table, count)| (table.path.clone(), count)));
}

fn push_change(
    out: &mut Vec<u8>,
    table: &Table<'_>,
    said: &Said,
    (before, after): (Option<usize>, Option<usize>),
    (total, in_table): (u64, u64),
    op: u8,
) {
    out.extend_from_slice(b"{\"before\":");
    table.push_row(out, before);
    out.extend_from_slice(b",\"after\":");
    table.push_row(out, after);
    out.extend_from_slice(&table.source);
    said.push_source(out, total);
    said.push_order(out, total);
    out.extend_from_slice(b",\"data_collection_order\":");
    push_integer(out, in_table);
    out.extend_from_slice(b"},\"op\":\"");
    out.push(op);
    out.push(b'"');
    said.push_end(out);
}

/// A table's rows, with what is the same in each line.
struct Table<'a> {
    path: String,
    fields: Vec<Field<'a>>,
    /// From the end of the images to the table's name.
    source: Vec<u8>,
}

struct Field<'a> {
    /// `"name":`
    label: Vec<u8>,
    cells: Cells<'a>,
    nulls: Option<&'a NullBuffer>,
    absent: Option<&'a BooleanBuffer>,
}

impl<'a> Table<'a> {
    fn of(window: &Window, changes: &'a TableChanges) -> Table<'a> {
        let name = changes.schema.name();
        let mut source = b",\"source\":{\"connector\":\"tidemill\",\"name\":".to_vec();
        push_text(&mut source, &window.source);
        source.extend_from_slice(b",\"db\":");
        push_text(&mut source, &name.database);
        source.extend_from_slice(b",\"table\":");
        push_text(&mut source, &name.table);
        let field = |(ordinal, column): (usize, &tidemill_event::ColumnSchema)| {
            let array = changes.rows.column(ordinal);
            let mut label = Vec::new();
            push_text(&mut label, &column.name);
            label.push(b':');
            Field {
                label,
                cells: Cells::of(array, column),
                nulls: array.nulls(),
                absent: changes.absent.get(ordinal).and_then(Option::as_ref),
            }
        };
        let fields = changes.schema.columns().iter().enumerate().map(field).collect();
        Table { path: name.to_string(), fields, source }
    }

    /// The columns of a row that have a value or NULL; what the source did not log is left out.
    fn push_row(&self, out: &mut Vec<u8>, row: Option<usize>) {
        let Some(row) = row else { return out.extend_from_slice(b"null") };
        let mut separator = b'{';
        for field in &self.fields {
            if field.absent.is_some_and(|absent| absent.value(row)) {
                continue;
            }
            out.push(separator);
            separator = b',';
            out.extend_from_slice(&field.label);
            match field.nulls.is_some_and(|nulls| nulls.is_null(row)) {
                true => out.extend_from_slice(b"null"),
                false => field.cells.push(out, row),
            }
        }
        if separator == b'{' {
            out.push(b'{');
        }
        out.push(b'}');
    }
}

/// What is the same in every line of a transaction.
pub(crate) struct Said {
    /// From the table to the ordinal.
    source: Vec<u8>,
    /// From there to the order.
    transaction: Vec<u8>,
    /// From the operation to the end of the line.
    end: Vec<u8>,
}

impl Said {
    fn of(window: &Window, transaction: &Transaction) -> Said {
        // A source without ids of its own has its positions.
        let position = || format!("{}/{}", window.timeline.number, transaction.scn);
        let id = if transaction.gtid.is_empty() { position() } else { transaction.gtid.clone() };
        // What is not of the stream has no place of its own: windows of one snapshot, or of the same deltas, begin alike.
        let snapshot = match window.phase {
            Phase::Snapshot(_) => "true",
            Phase::Deltas(_) => "incremental",
            Phase::Stream => "false",
        };
        let mut source = format!(",\"snapshot\":\"{snapshot}\",\"scn\":").into_bytes();
        push_integer(&mut source, transaction.scn.0);
        source.extend_from_slice(b",\"gtid\":");
        push_text(&mut source, &id);
        source.extend_from_slice(b",\"ts_us\":");
        push_integer(&mut source, transaction.commit_time_us);
        source.extend_from_slice(b",\"ordinal\":");
        let mut texts = b"},\"transaction\":{\"id\":".to_vec();
        push_text(&mut texts, &id);
        texts.extend_from_slice(b",\"total_order\":");
        let mut end = b",\"ts_ms\":".to_vec();
        push_integer(&mut end, transaction.commit_time_us.div_euclid(1000));
        end.extend_from_slice(b"}\n");
        Said { source, transaction: texts, end }
    }

    /// From the table to the end of the source. `total`: the change's number in its transaction, from 1.
    pub(crate) fn push_source(&self, out: &mut Vec<u8>, total: u64) {
        out.extend_from_slice(&self.source);
        push_integer(out, total - 1);
    }

    /// The transaction, up to the order.
    pub(crate) fn push_order(&self, out: &mut Vec<u8>, total: u64) {
        out.extend_from_slice(&self.transaction);
        push_integer(out, total);
    }

    pub(crate) fn push_end(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.end);
    }
}
