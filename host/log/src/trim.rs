//! A window without the transactions that a reader already has.

use arrow_buffer::ScalarBuffer;
use tidemill_event::{Event, Scn, Span, TableChanges, Window};

/// The window without its first `count` transactions; it begins after `after`.
pub(crate) fn without_first(window: &Window, count: usize, after: Scn) -> Window {
    let gone = count as u32;
    let tables = match count {
        0 => window.tables.clone(),
        _ => window.tables.iter().filter_map(|t| rows_without(t, gone)).collect(),
    };
    Window {
        source: window.source.clone(),
        timeline: window.timeline.clone(),
        span: Span { after, upto: window.span.upto.max(after) },
        executed: window.executed.clone(),
        transactions: window.transactions[count..].to_vec(),
        tables,
        events: window.events.iter().filter(|e| e.txn >= gone).map(|e| moved(e, gone)).collect(),
        phase: tidemill_event::Phase::Stream,
    }
}

fn moved(event: &Event, gone: u32) -> Event {
    Event { ordinal: event.ordinal, txn: event.txn - gone, kind: event.kind.clone() }
}

/// Rows lie in commit order, so those that stay are the last ones. `None` when there are none.
fn rows_without(table: &TableChanges, gone: u32) -> Option<TableChanges> {
    let from = table.txn.partition_point(|txn| *txn < gone);
    let count = table.txn.len() - from;
    if count == 0 {
        return None;
    }
    let txn: ScalarBuffer<u32> = table.txn[from..].iter().map(|txn| txn - gone).collect();
    Some(TableChanges {
        schema: table.schema.clone(),
        rows: table.rows.slice(from, count),
        absent: table.absent.iter().map(|bits| bits.as_ref().map(|b| b.slice(from, count))).collect(),
        kind: table.kind.slice(from, count),
        ordinal: table.ordinal.slice(from, count),
        txn,
    })
}
