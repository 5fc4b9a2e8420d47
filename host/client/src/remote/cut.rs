//! Cuts from a part of a transaction what was given already.

use tidemill_event::{Part, Scn, Window};

/// The window of one transaction, or of a part of it, without its first `count` changes, as what follows `after`. The
/// changes that stay keep their numbers.
pub(crate) fn without_first(mut window: Window, count: u32, after: Scn) -> Window {
    let t = &mut window.transactions[0];
    let from = t.first_ordinal + count;
    t.first_ordinal = from;
    t.change_count -= count;
    t.change_offset += u64::from(count);
    t.part = if t.part.completes() { Part::Last } else { Part::Middle };
    let rest = window.tables.iter().filter_map(|table| {
        let mask = table.ordinal.iter().map(|ordinal| *ordinal >= from).collect();
        table.keep(&mask)
    });
    window.tables = rest.collect();
    window.events.retain(|event| event.ordinal >= from);
    window.span.after = after;
    window.span.upto = window.span.upto.max(after);
    window
}
