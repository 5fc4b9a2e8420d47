//! Rows of a store as a window: one transaction that never was, with all its changes at the position that is read.
//!
//! | from | kind of a row |
//! |---|---|
//! | a snapshot, or a table that comes whole | insert |
//! | deltas | the later half of an update; where the row is gone: delete, with the key alone |

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch, make_array, new_null_array};
use arrow_buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};
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
    changes(schema, rows, vec![], kind.into(), first)
}

/// The last states of rows; those of `deleted` are gone.
pub(crate) fn deltas(
    schema: &Arc<TableSchema>,
    rows: RecordBatch,
    deleted: Option<&BooleanBuffer>,
) -> TableChanges {
    let Some(deleted) = deleted.filter(|deleted| deleted.count_set_bits() > 0) else {
        let kind = vec![RowKind::UpdateAfter as u8; rows.num_rows()];
        return changes(schema, rows, vec![], kind.into(), 0);
    };
    let kind: ScalarBuffer<u8> =
        deleted.iter().map(|gone| if gone { RowKind::Delete } else { RowKind::UpdateAfter } as u8).collect();
    // Which of its last values are known is not; the key is.
    let is_key = |column: usize| schema.key().contains(&(column as u32));
    let column = |(at, array): (usize, &ArrayRef)| match is_key(at) {
        true => Arc::clone(array),
        false => without(array, deleted),
    };
    let arrays = rows.columns().iter().enumerate().map(column).collect();
    let absent = (0..rows.num_columns()).map(|at| (!is_key(at)).then(|| deleted.clone())).collect();
    let rows = RecordBatch::try_new(rows.schema(), arrays).expect("columns of the same types and length");
    changes(schema, rows, absent, kind, 0)
}

/// The column without those values.
fn without(array: &ArrayRef, gone: &BooleanBuffer) -> ArrayRef {
    if gone.count_set_bits() == gone.len() {
        return new_null_array(array.data_type(), array.len());
    }
    let nulls = NullBuffer::union(array.nulls(), Some(&NullBuffer::new(!gone)));
    let data = array.to_data().into_builder().nulls(nulls).build();
    make_array(data.expect("more nulls do not make an array invalid"))
}

fn changes(
    schema: &Arc<TableSchema>,
    rows: RecordBatch,
    absent: Vec<Option<BooleanBuffer>>,
    kind: ScalarBuffer<u8>,
    first: u32,
) -> TableChanges {
    let count = rows.num_rows() as u32;
    TableChanges {
        schema: Arc::clone(schema),
        rows,
        absent,
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
