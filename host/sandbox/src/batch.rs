//! Batches of changes for consumers: updates joined again from their two rows, in commit order over all tables,
//! cut at transaction ends where possible. Pure: nothing here calls a guest.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::{ArrayRef, UInt32Array, new_null_array};
use arrow_buffer::BooleanBuffer;
use tidemill_event::{Change, EventKind, Part, TableChanges, Window};

use crate::abi::{self, Interest};
use crate::convert;
use crate::error::LimitHit;
use crate::limits::Limits;
use crate::table::Input;

/// The numbers of the contract.
const INSERT: u8 = 0;
const UPDATE: u8 = 1;
const DELETE: u8 = 2;
const SNAPSHOT_ROW: u8 = 3;

/// One change or event as a consumer sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    ordinal: u32,
    txn: u32,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Change {
        table: u32,
        op: u8,
        before: Option<u32>,
        after: Option<u32>,
    },
    /// Its index in the window.
    Event(u32),
}

/// Every change that the consumer wants, in commit order, and those events of the window. `interests` has one entry a
/// table of the window.
pub(crate) fn entries(
    window: &Window,
    interests: &[Option<Arc<Interest>>],
    events: &[u32],
    snapshot: bool,
) -> Vec<Entry> {
    let mut entries = Vec::with_capacity(window.row_count() + events.len());
    let mut tables = usize::from(!events.is_empty());
    entries.extend(events.iter().map(|index| {
        let event = &window.events[*index as usize];
        Entry { ordinal: event.ordinal, txn: event.txn, what: What::Event(*index) }
    }));
    for (table, changes) in window.tables.iter().enumerate() {
        if interests[table].is_some() {
            tables += 1;
            table_entries(changes, table as u32, snapshot, &mut entries);
        }
    }
    if tables > 1 {
        // Each table is a sorted run; stable, so that a delete stays before the insert of the same change.
        entries.sort_by_key(|entry| entry.ordinal);
    }
    entries
}

fn table_entries(changes: &TableChanges, table: u32, snapshot: bool, entries: &mut Vec<Entry>) {
    for Change { ordinal, txn, before, after, .. } in changes.changes(table) {
        let entry =
            |op, before, after| Entry { ordinal, txn, what: What::Change { table, op, before, after } };
        match (before, after) {
            (None, after) => {
                entries.push(entry(if snapshot { SNAPSHOT_ROW } else { INSERT }, None, after));
            }
            (before, None) => entries.push(entry(DELETE, before, None)),
            // A changed key is another row: the old one goes, the new one comes.
            (Some(old), Some(new)) if changes.is_key_changed(old as usize, new as usize) => {
                entries.push(entry(DELETE, before, None));
                entries.push(entry(INSERT, None, after));
            }
            (before, after) => entries.push(entry(UPDATE, before, after)),
        }
    }
}

/// A transaction, or a part of one, in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// Its index in the window.
    pub(crate) txn: u32,
    pub(crate) changes: u32,
    pub(crate) part: Part,
}

/// Which changes one call is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) entries: Range<usize>,
    pub(crate) shares: Vec<Share>,
}

impl Cut {
    /// How many of its transactions it brings to their end.
    pub(crate) fn completed(&self) -> usize {
        self.shares.iter().filter(|share| share.part.completes()).count()
    }
}

/// Cuts the changes into batches that fit: whole transactions, as many as fit, or parts of one that is too
/// large by itself.
pub(crate) fn cuts(
    window: &Window,
    entries: &[Entry],
    interests: &[Option<Arc<Interest>>],
    limits: &Limits,
) -> Result<Vec<Cut>, LimitHit> {
    let weigh = Weigh::of(window, interests, limits);
    let (mut cuts, mut open): (Vec<Cut>, Option<(Cut, Load)>) = (vec![], None);
    for run in entries.chunk_by(|a, b| a.txn == b.txn) {
        let start = open
            .as_ref()
            .map_or_else(|| cuts.last().map_or(0, |cut: &Cut| cut.entries.end), |(cut, _)| cut.entries.end);
        let part = window.transactions[run[0].txn as usize].part;
        let load = weigh.load(run);
        let share = Share { txn: run[0].txn, changes: run.len() as u32, part };
        match &mut open {
            Some((cut, sum)) if weigh.fits(*sum, load) => {
                *sum = sum.plus(load);
                cut.entries.end += run.len();
                cut.shares.push(share);
                continue;
            }
            _ => cuts.extend(open.take().map(|(cut, _)| cut)),
        }
        if weigh.fits(Load::default(), load) {
            let entries = start..start + run.len();
            open = Some((Cut { entries, shares: vec![share] }, load));
        } else {
            parts(run, start, part, &weigh, &mut cuts)?;
        }
    }
    cuts.extend(open.map(|(cut, _)| cut));
    Ok(cuts)
}

/// One transaction that does not fit, in parts, each a batch of its own.
fn parts(
    run: &[Entry],
    start: usize,
    part: Part,
    weigh: &Weigh<'_>,
    cuts: &mut Vec<Cut>,
) -> Result<(), LimitHit> {
    let mut from = 0;
    while from < run.len() {
        let (mut to, mut sum) = (from, Load::default());
        while to < run.len() {
            let load = weigh.load(&run[to..to + 1]);
            if !weigh.fits(sum, load) {
                break;
            }
            sum = sum.plus(load);
            to += 1;
        }
        if to == from {
            let bytes = weigh.load(&run[to..to + 1]).bytes;
            return Err(LimitHit::Row { bytes, max: weigh.limits.input_bytes });
        }
        let begins = from == 0 && matches!(part, Part::Whole | Part::First);
        let ends = to == run.len() && part.completes();
        let part = match (begins, ends) {
            (true, true) => Part::Whole,
            (true, false) => Part::First,
            (false, false) => Part::Middle,
            (false, true) => Part::Last,
        };
        let share = Share { txn: run[0].txn, changes: (to - from) as u32, part };
        cuts.push(Cut { entries: start + from..start + to, shares: vec![share] });
        from = to;
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, Default)]
struct Load {
    rows: usize,
    bytes: usize,
}

impl Load {
    fn plus(self, other: Load) -> Load {
        Load { rows: self.rows + other.rows, bytes: self.bytes + other.bytes }
    }
}

/// What changes take in a call.
struct Weigh<'a> {
    window: &'a Window,
    interests: &'a [Option<Arc<Interest>>],
    limits: &'a Limits,
    /// Whether bytes can matter at all: not, when everything together is within the limit.
    bytes_matter: bool,
}

impl<'a> Weigh<'a> {
    fn of(window: &'a Window, interests: &'a [Option<Arc<Interest>>], limits: &'a Limits) -> Weigh<'a> {
        let mut all = Weigh { window, interests, limits, bytes_matter: true };
        let bytes: usize = window
            .tables
            .iter()
            .enumerate()
            .map(|(index, table)| {
                all.rows_bytes(index, 0..table.rows.num_rows(), |i| &i.after)
                    + all.rows_bytes(index, 0..table.rows.num_rows(), |i| &i.before)
            })
            .sum();
        let bytes = bytes + window.events.iter().map(|event| event_bytes(&event.kind)).sum::<usize>();
        all.bytes_matter = bytes > limits.input_bytes;
        all
    }

    fn rows_bytes(&self, table: usize, rows: Range<usize>, of: impl Fn(&Interest) -> &Vec<u32>) -> usize {
        let Some(interest) = &self.interests[table] else { return 0 };
        let batch = &self.window.tables[table].rows;
        of(interest).iter().map(|c| convert::bytes_of(batch.column(*c as usize), rows.clone())).sum()
    }

    fn load(&self, run: &[Entry]) -> Load {
        let rows = run.len();
        if !self.bytes_matter {
            return Load { rows, bytes: 0 };
        }
        let one = |row: Option<u32>| row.map_or(0..0, |row| row as usize..row as usize + 1);
        let bytes = |entry: &Entry| match entry.what {
            What::Event(index) => event_bytes(&self.window.events[index as usize].kind),
            What::Change { table, before, after, .. } => {
                self.rows_bytes(table as usize, one(after), |i| &i.after)
                    + self.rows_bytes(table as usize, one(before), |i| &i.before)
            }
        };
        Load { rows, bytes: run.iter().map(bytes).sum() }
    }

    fn fits(&self, sum: Load, more: Load) -> bool {
        let load = sum.plus(more);
        load.rows <= self.limits.batch_rows.max(1) && load.bytes <= self.limits.input_bytes
    }
}

/// What the texts of an event take; a name is as good as nothing.
fn event_bytes(kind: &EventKind) -> usize {
    match kind {
        EventKind::SchemaChange { statement, .. } => statement.as_ref().map_or(0, String::len),
        EventKind::Invalidate { reason, .. } => reason.len(),
        _ => 0,
    }
}

/// The events of one cut: the place of each in the batch, and its index in the window.
pub(crate) fn events(entries: &[Entry]) -> Vec<(u32, usize)> {
    let event = |(place, entry): (u32, &Entry)| match entry.what {
        What::Event(index) => Some((place, index as usize)),
        What::Change { .. } => None,
    };
    (0..).zip(entries).filter_map(event).collect()
}

/// One table's changes of a batch.
pub(crate) struct TableBatch {
    /// Its index in the window.
    pub(crate) table: usize,
    pub(crate) places: Vec<u32>,
    pub(crate) ops: Vec<u8>,
    pub(crate) after: Input,
    pub(crate) before: Input,
}

/// One change of a table, in its place in the batch.
#[derive(Clone, Copy)]
struct Placed {
    place: u32,
    op: u8,
    before: Option<u32>,
    after: Option<u32>,
}

/// The changes of one cut, by table.
pub(crate) fn table_batches(
    window: &Window,
    entries: &[Entry],
    interests: &[Option<Arc<Interest>>],
) -> Vec<TableBatch> {
    let mut by_table: Vec<Vec<Placed>> = vec![vec![]; window.tables.len()];
    for (place, entry) in (0..).zip(entries) {
        if let What::Change { table, op, before, after } = entry.what {
            by_table[table as usize].push(Placed { place, op, before, after });
        }
    }
    let mut batches = vec![];
    for (table, placed) in by_table.into_iter().enumerate() {
        let Some(interest) = interests[table].as_ref().filter(|_| !placed.is_empty()) else { continue };
        let changes = &window.tables[table];
        let rows = |of: fn(&Placed) -> Option<u32>| Picked::new(placed.iter().map(of).collect());
        batches.push(TableBatch {
            table,
            places: placed.iter().map(|change| change.place).collect(),
            ops: placed.iter().map(|change| change.op).collect(),
            after: rows(|change| change.after).input(changes, &interest.after),
            before: rows(|change| change.before).input(changes, &interest.before),
        });
    }
    batches
}

/// The rows of one image, one a change; `None` where the change has no such image.
struct Picked {
    rows: Vec<Option<u32>>,
    shape: Shape,
}

enum Shape {
    /// These rows, as they lie.
    Run(usize),
    /// No change has the image.
    Nothing,
    Mixed,
}

impl Picked {
    fn new(rows: Vec<Option<u32>>) -> Picked {
        let shape = match rows.first() {
            Some(Some(first)) if rows.iter().zip(*first..).all(|(row, next)| *row == Some(next)) => {
                Shape::Run(*first as usize)
            }
            _ if rows.iter().all(Option::is_none) => Shape::Nothing,
            _ => Shape::Mixed,
        };
        Picked { rows, shape }
    }

    fn input(&self, changes: &TableChanges, columns: &[u32]) -> Input {
        let indices = match self.shape {
            Shape::Mixed => UInt32Array::from(self.rows.clone()),
            _ => UInt32Array::from(Vec::<u32>::new()),
        };
        let arrays = columns.iter().map(|c| self.array(changes.rows.column(*c as usize), &indices)).collect();
        let absent = columns.iter().map(|c| self.absent(changes, *c as usize)).collect();
        Input { arrays, absent, rows: self.rows.len() }
    }

    fn array(&self, array: &ArrayRef, indices: &UInt32Array) -> ArrayRef {
        match self.shape {
            Shape::Run(first) => array.slice(first, self.rows.len()),
            Shape::Nothing => new_null_array(array.data_type(), self.rows.len()),
            Shape::Mixed => {
                arrow_select::take::take(array, indices, None).expect("the rows are in the batch")
            }
        }
    }

    /// What is not there: the value was not logged, or the change has no such image.
    fn absent(&self, changes: &TableChanges, column: usize) -> Option<BooleanBuffer> {
        let bits = changes.absent.get(column).and_then(Option::as_ref);
        let count = self.rows.len();
        match self.shape {
            Shape::Run(first) => bits.map(|bits| bits.slice(first, count)),
            Shape::Nothing => Some(BooleanBuffer::new_set(count)),
            Shape::Mixed => {
                let absent = |row: Option<u32>| match row {
                    None => true,
                    Some(row) => bits.is_some_and(|bits| bits.value(row as usize)),
                };
                Some(BooleanBuffer::collect_bool(count, |place| absent(self.rows[place])))
            }
        }
    }
}

impl From<Part> for abi::Part {
    fn from(part: Part) -> Self {
        match part {
            Part::Whole => abi::Part::Whole,
            Part::First => abi::Part::First,
            Part::Middle => abi::Part::Middle,
            Part::Last => abi::Part::Last,
        }
    }
}
