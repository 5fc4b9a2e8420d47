//! Several small windows as one, so that work on them is done by column and committed once.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_buffer::{BooleanBuffer, BooleanBufferBuilder, ScalarBuffer};
use arrow_select::concat::concat_batches;

use crate::{Event, Part, Phase, SchemaId, Span, TableChanges, Transaction, Window};

/// Whether the window may be merged with its neighbours: fragments of a transaction, and pieces of a snapshot or of deltas,
/// stand alone.
pub fn can_merge(window: &Window) -> bool {
    window.phase == Phase::Stream && window.transactions.iter().all(|t| t.part == Part::Whole)
}

/// One window that says what these say one after the other. Ordinals are renumbered;
/// [`Transaction::change_number`] stays. `None` when there is nothing to merge, or when the windows are not
/// neighbours of one timeline, or one of them is a fragment.
pub fn merge(windows: &[Arc<Window>]) -> Option<Window> {
    let (first, last) = (windows.first()?, windows.last()?);
    let neighbours = windows.windows(2).all(|pair| {
        pair[0].span.upto == pair[1].span.after
            && pair[0].timeline == pair[1].timeline
            && pair[0].source == pair[1].source
    });
    if !neighbours || !windows.iter().all(|w| can_merge(w)) {
        return None;
    }
    let shifts = shifts(windows)?;
    let mut merged = Window {
        source: Arc::clone(&first.source),
        timeline: first.timeline.clone(),
        span: Span { after: first.span.after, upto: last.span.upto },
        executed: Arc::clone(&last.executed),
        transactions: Vec::new(),
        tables: merge_tables(windows, &shifts),
        events: Vec::new(),
        phase: Phase::Stream,
    };
    for (window, shift) in windows.iter().zip(&shifts) {
        let moved =
            |t: &Transaction| Transaction { first_ordinal: t.first_ordinal + shift.ordinal, ..t.clone() };
        merged.transactions.extend(window.transactions.iter().map(moved));
        let moved = |e: &Event| Event {
            ordinal: e.ordinal + shift.ordinal,
            txn: e.txn + shift.txn,
            kind: e.kind.clone(),
        };
        merged.events.extend(window.events.iter().map(moved));
    }
    Some(merged)
}

/// By how much a window's ordinals and transaction indexes rise.
struct Shift {
    ordinal: u32,
    txn: u32,
}

fn shifts(windows: &[Arc<Window>]) -> Option<Vec<Shift>> {
    let (mut ordinal, mut txn) = (0u32, 0u32);
    let mut shifts = Vec::with_capacity(windows.len());
    for window in windows {
        shifts.push(Shift { ordinal, txn });
        let end = window.transactions.last().map_or(0, |t| t.first_ordinal + t.change_count);
        ordinal = ordinal.checked_add(end)?;
        txn = txn.checked_add(window.transactions.len() as u32)?;
    }
    Some(shifts)
}

fn merge_tables(windows: &[Arc<Window>], shifts: &[Shift]) -> Vec<TableChanges> {
    let mut order: Vec<Vec<(&TableChanges, &Shift)>> = Vec::new();
    let mut place: HashMap<SchemaId, usize> = HashMap::new();
    for (window, shift) in windows.iter().zip(shifts) {
        for table in &window.tables {
            let at = *place.entry(table.schema.id()).or_insert(order.len());
            if at == order.len() {
                order.push(Vec::new());
            }
            order[at].push((table, shift));
        }
    }
    order.iter().map(|parts| concat(parts)).collect()
}

fn concat(parts: &[(&TableChanges, &Shift)]) -> TableChanges {
    let schema = Arc::clone(&parts[0].0.schema);
    let batches: Vec<&RecordBatch> = parts.iter().map(|(t, _)| &t.rows).collect();
    let rows = concat_batches(schema.arrow(), batches).expect("one schema, and a merge is bounded in bytes");
    let numbers = |of: &dyn Fn(&TableChanges, &Shift) -> Vec<u32>| -> ScalarBuffer<u32> {
        parts.iter().flat_map(|(t, shift)| of(t, shift)).collect::<Vec<u32>>().into()
    };
    TableChanges {
        rows,
        absent: absent(parts, schema.columns().len()),
        kind: parts.iter().flat_map(|(t, _)| t.kind.iter().copied()).collect::<Vec<u8>>().into(),
        ordinal: numbers(&|t, shift| t.ordinal.iter().map(|o| o + shift.ordinal).collect()),
        txn: numbers(&|t, shift| t.txn.iter().map(|n| n + shift.txn).collect()),
        schema,
    }
}

fn absent(parts: &[(&TableChanges, &Shift)], width: usize) -> Vec<Option<BooleanBuffer>> {
    let column = |c: usize| {
        let bitmap = |t: &TableChanges| t.absent.get(c).cloned().flatten();
        if parts.iter().all(|(t, _)| bitmap(t).is_none()) {
            return None;
        }
        let mut bits = BooleanBufferBuilder::new(0);
        for (table, _) in parts {
            match bitmap(table) {
                Some(some) => bits.append_buffer(&some),
                None => bits.append_n(table.rows.num_rows(), false),
            }
        }
        Some(bits.finish())
    };
    let all: Vec<_> = (0..width).map(column).collect();
    if all.iter().all(Option::is_none) { Vec::new() } else { all }
}
