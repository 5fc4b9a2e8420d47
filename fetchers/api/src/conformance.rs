//! The one suite that every fetcher passes. It opens the fetcher through a closure, again and again, and panics with
//! what it found where a promise of [`crate::Fetcher`] is broken.
//!
//! A test gives the closure, and how many transactions there are for certain: a live source never says that it ends.

use std::collections::HashSet;

use arrow_array::RecordBatch;
use tidemill_event::{
    Change, Checkpoint, EventKind, Part, SchemaId, Scn, TableName, Transaction, Window, encode_window,
};

use crate::{FetchError, Fetcher, Start};

/// A transaction as a reader sees it, whatever windows it came in.
#[derive(Clone, Debug, PartialEq)]
pub struct SeenTransaction {
    /// The source's clock at its commit.
    pub scn: Scn,
    /// The source's own id of it.
    pub gtid: String,
    /// When it committed.
    pub commit_time_us: i64,
    /// Its changes and events, in order.
    pub changes: Vec<SeenChange>,
    /// How many changes and events it had at the source.
    pub change_count: u64,
}

/// One change or event, with its number in the transaction.
#[derive(Clone, Debug, PartialEq)]
pub enum SeenChange {
    /// Rows changed.
    Row {
        /// The number of the change in its transaction.
        number: u64,
        /// The table.
        table: TableName,
        /// The schema that was in force.
        schema: SchemaId,
        /// The row as it was, with the columns that were not logged.
        before: Option<(RecordBatch, Vec<usize>)>,
        /// The row as it is now, likewise.
        after: Option<(RecordBatch, Vec<usize>)>,
    },
    /// Something else happened.
    Event {
        /// The number of the event in its transaction.
        number: u64,
        /// What it is.
        kind: EventKind,
    },
}

impl SeenChange {
    fn number(&self) -> u64 {
        match self {
            SeenChange::Row { number, .. } | SeenChange::Event { number, .. } => *number,
        }
    }
}

/// All that was read, and where a reader may resume.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The windows, as they came.
    pub windows: Vec<Window>,
    /// What they say.
    pub transactions: Vec<SeenTransaction>,
    /// For each window that ends between two transactions: how many transactions came up to its end, and its checkpoint.
    pub resume: Vec<(usize, Checkpoint)>,
}

/// Reads up to the end, or up to so many transactions. Checks every window, and each against the one before.
///
/// # Panics
/// When a promise is broken.
pub async fn read(fetcher: &mut impl Fetcher, transactions: usize) -> Result<Seen, FetchError> {
    let mut seen = Seen::default();
    while seen.transactions.len() < transactions || is_open(&seen) {
        let Some(window) = fetcher.next().await? else { break };
        seen.push(window);
    }
    assert!(!is_open(&seen), "the last transaction never ended");
    Ok(seen)
}

impl Seen {
    /// Takes the next window in, and checks it against those before.
    ///
    /// # Panics
    /// When a promise is broken.
    pub fn push(&mut self, window: Window) {
        take_in(self, window);
    }
}

fn is_open(seen: &Seen) -> bool {
    seen.windows.last().and_then(|w| w.transactions.last()).is_some_and(|t| !t.part.completes())
}

fn take_in(seen: &mut Seen, window: Window) {
    if let Err(error) = window.validate() {
        panic!("a window breaks its rules: {error}");
    }
    if let Some(last) = seen.windows.last() {
        assert_eq!(window.source, last.source, "the source has one name");
        match window.timeline == last.timeline {
            true => assert_eq!(window.span.after, last.span.upto, "spans join without a gap or an overlap"),
            false => assert!(window.timeline.number > last.timeline.number, "timelines rise"),
        }
    }
    let was_open =
        seen.windows.last().and_then(|w| w.transactions.last()).filter(|t| !t.part.completes()).cloned();
    if let Some(open) = &was_open {
        let next = window.transactions.first();
        assert!(
            next.is_some_and(|t| continues(open, t)),
            "a fragment is followed by the next: {open:?}, {next:?}"
        );
    }
    for (index, transaction) in window.transactions.iter().enumerate() {
        let changes = changes_of(&window, index as u32);
        match transaction.part {
            Part::Whole | Part::First => {
                assert_eq!(transaction.change_offset, 0, "a transaction's first changes are numbered from 0");
                seen.transactions.push(SeenTransaction {
                    scn: transaction.scn,
                    gtid: transaction.gtid.clone(),
                    commit_time_us: transaction.commit_time_us,
                    changes,
                    change_count: u64::from(transaction.change_count),
                });
            }
            Part::Middle | Part::Last => {
                assert!(was_open.is_some(), "a fragment continues one");
                let begun = seen.transactions.last_mut().expect("its first fragment came");
                begun.changes.extend(changes);
                begun.change_count += u64::from(transaction.change_count);
            }
        }
        if !transaction.part.completes() {
            assert!(
                window.span.upto < transaction.scn,
                "a fragment does not move readers past its transaction"
            );
        }
    }
    seen.windows.push(window);
    if !is_open(seen) {
        let checkpoint = seen.windows.last().expect("just pushed").checkpoint();
        seen.resume.push((seen.transactions.len(), checkpoint));
    }
}

fn continues(open: &Transaction, next: &Transaction) -> bool {
    matches!(next.part, Part::Middle | Part::Last)
        && (next.scn, &next.gtid, next.commit_time_us) == (open.scn, &open.gtid, open.commit_time_us)
        && next.change_offset == open.change_offset + u64::from(open.change_count)
}

fn changes_of(window: &Window, txn: u32) -> Vec<SeenChange> {
    let transaction = &window.transactions[txn as usize];
    let image = |change: &Change, row: Option<u32>| {
        let table = &window.tables[change.table as usize];
        let row = row? as usize;
        let absent = (0..table.schema.columns().len()).filter(|c| table.is_absent(row, *c)).collect();
        Some((table.rows.slice(row, 1), absent))
    };
    let rows = window.changes_in_order().into_iter().filter(|c| c.txn == txn).map(|change| {
        let schema = &window.tables[change.table as usize].schema;
        SeenChange::Row {
            number: transaction.change_number(change.ordinal),
            table: schema.name().clone(),
            schema: schema.id(),
            before: image(&change, change.before),
            after: image(&change, change.after),
        }
    });
    let events = window.events.iter().filter(|e| e.txn == txn).map(|event| SeenChange::Event {
        number: transaction.change_number(event.ordinal),
        kind: event.kind.clone(),
    });
    let mut all: Vec<SeenChange> = rows.chain(events).collect();
    all.sort_by_key(SeenChange::number);
    all
}

/// The frame of each transaction that came whole, as if it were a window of its own.
fn frames(seen: &Seen) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for window in &seen.windows {
        for (index, transaction) in window.transactions.iter().enumerate() {
            if transaction.part == Part::Whole {
                let alone = alone(window, index);
                let frame = encode_window(&alone).expect("a transaction of a window is a window");
                frames.push(frame.bytes().to_vec());
            }
        }
    }
    frames
}

/// A window of one of its transactions.
fn alone(window: &Window, index: usize) -> Window {
    let mut transaction = window.transactions[index].clone();
    let first = std::mem::take(&mut transaction.first_ordinal);
    let txn = index as u32;
    let mut tables = Vec::new();
    for table in &window.tables {
        let mask = table.txn.iter().map(|t| *t == txn).collect();
        if let Some(mut kept) = table.keep(&mask) {
            kept.ordinal = kept.ordinal.iter().map(|o| o - first).collect::<Vec<u32>>().into();
            kept.txn = vec![0; kept.txn.len()].into();
            tables.push(kept);
        }
    }
    // The order of tables within a window is that of their first row, which other transactions may have had.
    tables.sort_by_key(|t| t.ordinal.first().copied());
    let events = window.events.iter().filter(|e| e.txn == txn).cloned();
    let events = events.map(|mut e| {
        (e.ordinal, e.txn) = (e.ordinal - first, 0);
        e
    });
    let span = tidemill_event::Span { after: Scn::ZERO, upto: transaction.scn };
    Window {
        source: window.source.clone(),
        timeline: window.timeline.clone(),
        span,
        executed: "".into(),
        transactions: vec![transaction],
        events: events.collect(),
        tables,
        phase: tidemill_event::Phase::Stream,
    }
}

/// Runs the suite over the first `transactions` of a source, or all where it ends before. The closure opens a fetcher.
/// What was read comes back, for checks that know the source's content.
///
/// # Panics
/// When a promise is broken.
pub async fn check<F: Fetcher>(
    open: impl AsyncFn(Start) -> Result<F, FetchError>,
    transactions: usize,
) -> Result<Seen, FetchError> {
    let whole = read(&mut open(Start::Earliest).await?, transactions).await?;
    check_clock(&whole);
    let again = read(&mut open(Start::Earliest).await?, transactions).await?;
    assert_same(&whole.transactions, &again.transactions, "a second reader");
    assert!(frames_agree(&whole, &again), "two readers give the same bytes for the same transaction");
    for (count, checkpoint) in &whole.resume {
        let rest = &whole.transactions[*count..];
        if rest.is_empty() {
            continue;
        }
        let mut fetcher = open(Start::At(checkpoint.clone())).await?;
        let resumed = read(&mut fetcher, rest.len()).await?;
        let first = resumed.windows.first().expect("something is left to read");
        assert_eq!(first.span.after, checkpoint.position.scn, "a reader goes on where it was");
        assert_eq!(
            first.timeline.number, checkpoint.position.timeline,
            "the same server is the same timeline"
        );
        assert_same(
            rest,
            &resumed.transactions,
            &format!("a reader that resumed at {}", checkpoint.position),
        );
    }
    Ok(whole)
}

/// Clock values and ids are each transaction's own; every change has its number.
fn check_clock(seen: &Seen) {
    let mut ids = HashSet::new();
    for pair in seen.transactions.windows(2) {
        assert!(pair[0].scn < pair[1].scn, "clock values rise: {} then {}", pair[0].scn, pair[1].scn);
    }
    for transaction in &seen.transactions {
        let is_new = transaction.gtid.is_empty() || ids.insert(&transaction.gtid);
        assert!(is_new, "{} comes twice", transaction.gtid);
        let numbers: Vec<u64> = transaction.changes.iter().map(SeenChange::number).collect();
        let expected: Vec<u64> = (0..transaction.change_count).collect();
        assert_eq!(numbers, expected, "{} counts its changes", transaction.gtid);
    }
}

/// The same transactions with equal rows, whichever windows they came in. The shorter of two readers decides how many
/// are compared, since a live source may give more than was asked for.
fn assert_same(one: &[SeenTransaction], other: &[SeenTransaction], who: &str) {
    let count = one.len().min(other.len());
    assert!(count > 0 || one.is_empty(), "{who} sees nothing");
    for (a, b) in one.iter().zip(other) {
        assert_eq!((a.scn, &a.gtid), (b.scn, &b.gtid), "{who} sees another transaction");
        assert!(a == b, "{who} sees transaction {} ({}) with other rows:\n{a:#?}\n{b:#?}", a.scn, a.gtid);
    }
    assert!(other.len() >= one.len(), "{who} sees {} transactions of {}", other.len(), one.len());
}

fn frames_agree(one: &Seen, other: &Seen) -> bool {
    let (a, b) = (frames(one), frames(other));
    a.iter().zip(&b).all(|(a, b)| a == b)
}
