//! Leaves out the transactions that a reader has from another server of the same lineage, where they have other positions
//! and may lie in another order.

use arrow_buffer::BooleanBuffer;
use tidemill_event::gtid::{Gtid, GtidSet};
use tidemill_event::{Event, TableChanges, Window};

/// What a reader has, until the log has all of it.
#[derive(Clone, Debug)]
pub(crate) struct Skip {
    set: GtidSet,
    /// Nothing is missing between the set and the first window.
    is_joined: bool,
}

impl Skip {
    /// Who stands at a position of this log is joined: what was executed before it, and is in no window, left nothing in the
    /// log.
    pub(crate) fn new(set: GtidSet, is_joined: bool) -> Skip {
        Skip { set, is_joined }
    }

    /// Whether the reader has everything that the log executed before the window. Asked of the first one.
    pub(crate) fn joins(&self, window: &Window) -> bool {
        self.is_joined || window.executed_before().is_none_or(|set| set.missing_from(&self.set).is_empty())
    }

    /// What of the window the reader does not have, and whether the log has by then all that the reader had.
    pub(crate) fn apply(&mut self, window: &Window) -> (Window, bool) {
        self.is_joined = true;
        let executed = GtidSet::parse(&window.executed).ok().flatten();
        let has = |gtid: &str| Gtid::parse(gtid).is_some_and(|gtid| self.set.contains(&gtid));
        let keep: Vec<bool> = window.transactions.iter().map(|t| !has(&t.gtid)).collect();
        let mut rest = only(window, &keep);
        let is_done = executed.as_ref().is_some_and(|executed| self.set.missing_from(executed).is_empty());
        if let (false, Some(executed)) = (is_done, &executed) {
            rest.executed = self.set.union(executed).to_string().into();
        }
        (rest, is_done)
    }
}

/// The window with only those transactions.
fn only(window: &Window, keep: &[bool]) -> Window {
    if keep.iter().all(|keep| *keep) {
        return window.clone();
    }
    let kept_before: Vec<u32> = keep
        .iter()
        .scan(0, |count, keep| Some(std::mem::replace(count, *count + u32::from(*keep))))
        .collect();
    let kept = |txn: u32| keep[txn as usize];
    let transactions = window.transactions.iter().zip(keep).filter(|(_, keep)| **keep);
    Window {
        transactions: transactions.map(|(t, _)| t.clone()).collect(),
        tables: window.tables.iter().filter_map(|table| rows_of(table, keep, &kept_before)).collect(),
        events: window.events.iter().filter(|e| kept(e.txn)).map(|e| moved(e, &kept_before)).collect(),
        ..window.clone()
    }
}

fn rows_of(table: &TableChanges, keep: &[bool], kept_before: &[u32]) -> Option<TableChanges> {
    let mask: BooleanBuffer = table.txn.iter().map(|txn| keep[*txn as usize]).collect();
    let mut rows = table.keep(&mask)?;
    rows.txn = rows.txn.iter().map(|txn| kept_before[*txn as usize]).collect();
    Some(rows)
}

fn moved(event: &Event, kept_before: &[u32]) -> Event {
    Event { txn: kept_before[event.txn as usize], ..event.clone() }
}
