//! Rows of a store as a window: one transaction that never was, with all its changes at the position that is read.
//!
//! | from | kind of a row |
//! |---|---|
//! | a snapshot, or a table that comes whole | insert |
//! | deltas | the later half of an update; where the row is gone: delete, with the key alone |

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_buffer::{BooleanBuffer, ScalarBuffer};
use tidemill_bootstrap_store::Manifest;
use tidemill_event::{
    Checkpoint, Event, EventKind, Part, RowKind, Scn, Span, TableChanges, TableSchema, Timeline, Transaction,
    Window,
};

/// What a window is made of.
pub(crate) struct Content {
    pub(crate) events: Vec<EventKind>,
    pub(crate) rows: Option<TableChanges>,
}

/// Rows that are new to their reader. `first`: the ordinal of the first.
pub(crate) fn inserts(schema: &Arc<TableSchema>, rows: RecordBatch, first: u32) -> TableChanges {
    let kind = vec![RowKind::Insert as u8; rows.num_rows()];
    changes(schema, rows, kind.into(), first)
}

/// The last states of rows; those of `deleted` are gone.
pub(crate) fn deltas(
    schema: &Arc<TableSchema>,
    rows: RecordBatch,
    deleted: Option<&BooleanBuffer>,
) -> TableChanges {
    let kind = vec![RowKind::UpdateAfter as u8; rows.num_rows()];
    let changes = changes(schema, rows, kind.into(), 0);
    match deleted {
        // Which of their last values are known is not; the key is.
        Some(deleted) => changes.with_gone(deleted),
        None => changes,
    }
}

fn changes(schema: &Arc<TableSchema>, rows: RecordBatch, kind: ScalarBuffer<u8>, first: u32) -> TableChanges {
    let count = rows.num_rows() as u32;
    TableChanges {
        schema: Arc::clone(schema),
        rows,
        absent: vec![],
        kind,
        ordinal: (first..first + count).collect::<Vec<_>>().into(),
        txn: vec![0; count as usize].into(),
    }
}

/// The window of whoever is at `checkpoint` when it has it, read from `manifest`.
pub(crate) fn window(checkpoint: &Checkpoint, manifest: &Manifest, content: Content) -> Window {
    let Content { events, rows } = content;
    let number = checkpoint.position.timeline;
    let timeline = Timeline { number, server: checkpoint.server.as_str().into() };
    let span = Span { after: Scn::ZERO, upto: checkpoint.position.scn };
    let events: Vec<Event> =
        (0..).zip(events).map(|(ordinal, kind)| Event { ordinal, txn: 0, kind }).collect();
    let count = events.len() + rows.as_ref().map_or(0, |rows| rows.rows.num_rows());
    let transaction = Transaction {
        // What was read from an empty log is at no transaction; the first number there is says so.
        scn: manifest.applied.position.scn.max(Scn(1)),
        gtid: String::new(),
        commit_time_us: manifest.applied.time_us,
        first_ordinal: 0,
        change_count: count as u32,
        change_offset: 0,
        part: Part::Whole,
    };
    let empty =
        Window::empty(checkpoint.source.as_str().into(), timeline, span, checkpoint.gtid_set.as_str().into());
    let (transactions, tables) = (vec![transaction], rows.into_iter().collect());
    Window { transactions, tables, events, phase: checkpoint.phase.clone(), ..empty }
}
