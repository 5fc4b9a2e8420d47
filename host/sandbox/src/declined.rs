//! What becomes of the rows that a filter or a predicate declines.
//!
//! In the stream and in a snapshot they are left out: a lone `−U` of what was an update is a delete, a lone `+U` an insert. In
//! deltas whoever reads may have an older state of a row that is declined now: it becomes a delete that says the key alone,
//! unless the key alone decides. Of deletes, which say no more than the key, is asked only then.

use arrow_buffer::BooleanBuffer;
use tidemill_event::{RowKind, TableChanges, TableSchema};

/// Whether the key alone decides, where those columns do: then a row that is declined was so in every older state.
pub(crate) fn is_of_key(schema: &TableSchema, columns: &[u32]) -> bool {
    !schema.key().is_empty() && columns.iter().all(|column| schema.key().contains(column))
}

/// The changes that go on. `judge` says of rows which are kept; `None`: all of them.
pub(crate) fn keep<E>(
    changes: TableChanges,
    is_deltas: bool,
    by_key: bool,
    mut judge: impl FnMut(&TableChanges) -> Result<Option<BooleanBuffer>, E>,
) -> Result<Option<TableChanges>, E> {
    if !is_deltas || by_key {
        return Ok(match judge(&changes)? {
            None => Some(changes),
            Some(kept) => changes.keep(&kept),
        });
    }
    let asked: BooleanBuffer = changes.kind.iter().map(|kind| *kind != RowKind::Delete as u8).collect();
    let Some(rows) = changes.keep(&asked) else { return Ok(Some(changes)) };
    let Some(kept) = judge(&rows)? else { return Ok(Some(changes)) };
    Ok(without_declined(changes, &asked, &kept))
}

/// Changes of deltas where some rows were asked about and some of those are kept. An insert follows a table that was
/// emptied: nobody has an older state of it.
fn without_declined(
    changes: TableChanges,
    asked: &BooleanBuffer,
    kept: &BooleanBuffer,
) -> Option<TableChanges> {
    let mut answers = kept.iter();
    let declined = asked.iter().map(|asked| asked && !answers.next().expect("one answer a row"));
    let declined: Vec<bool> = declined.collect();
    let is_new = |row: usize| changes.kind[row] == RowKind::Insert as u8;
    let gone: BooleanBuffer = (0..declined.len()).map(|row| declined[row] && !is_new(row)).collect();
    let stays: BooleanBuffer = (0..declined.len()).map(|row| !declined[row] || !is_new(row)).collect();
    changes.with_gone(&gone).keep(&stays)
}
