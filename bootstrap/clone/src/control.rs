//! What others ask of a running clone. Requests are kept until the clone takes them; the same one twice is one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use tidemill_event::TableName;
use tokio::sync::{Notify, watch};

use crate::{CloneStatus, TableStage};

/// A handle on a clone, cheap to clone. It can be made before the clone is.
#[derive(Clone, Debug, Default)]
pub struct CloneControl(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    requests: Mutex<Requests>,
    arrived: Notify,
    status: watch::Sender<CloneStatus>,
}

/// What was asked and not taken yet.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    pub(crate) tables: BTreeMap<TableName, TableRequest>,
    pub(crate) pause: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TableRequest {
    /// Go on where the destination says; a table that is being copied already is left alone.
    Copy,
    /// Begin again.
    Restart,
    /// Read these chunks again.
    Redo(BTreeSet<u32>),
    /// Give it up.
    Forget,
    /// Look at it; copy it where the destination has it not.
    Look,
}

impl CloneControl {
    /// Copies this table too, while the others go on; it goes on where the destination says that it stood. A table whose copy
    /// failed is tried again.
    pub fn add_table(&self, table: TableName) {
        self.request(table, TableRequest::Copy);
    }

    /// Copies this table from its beginning: its schema changed while it was being copied, or its content in a way that the
    /// log does not tell.
    pub fn restart_table(&self, table: TableName) {
        self.request(table, TableRequest::Restart);
    }

    /// Looks at a table's definition at the source, which the destination is told; one that it does not have is copied.
    pub fn look_at_table(&self, table: TableName) {
        self.change(|requests| requests.add(table, TableRequest::Look));
    }

    /// Reads one chunk again: something happened to the table between its marks. Its owner has removed it from
    /// `CloneProgress::chunks` before.
    pub fn redo_chunk(&self, table: TableName, chunk: u32) {
        self.request(table, TableRequest::Redo(BTreeSet::from([chunk])));
    }

    /// Copies this table no more: it is gone, or has another name.
    pub fn forget_table(&self, table: TableName) {
        self.request(table, TableRequest::Forget);
    }

    /// Reads nothing new until [`CloneControl::resume`]; chunks in flight end.
    pub fn pause(&self) {
        self.change(|requests| requests.pause = Some(true));
    }

    /// Goes on; what could not be copied is tried again.
    pub fn resume(&self) {
        self.change(|requests| requests.pause = Some(false));
    }

    /// Tells, as part of its status, why it is not begun, or begun again; `None`: it is.
    pub fn waits_for(&self, why: Option<String>) {
        self.update(|status| status.waits_for = why);
    }

    /// How the clone is getting on.
    pub fn status(&self) -> watch::Receiver<CloneStatus> {
        self.0.status.subscribe()
    }

    fn request(&self, table: TableName, request: TableRequest) {
        if request != TableRequest::Forget {
            self.update(|status| {
                let progress = status.tables.entry(table.clone()).or_default();
                if progress.stage.is_end() {
                    progress.stage = TableStage::Waiting;
                }
            });
        }
        self.change(|requests| requests.add(table, request));
    }

    fn change(&self, change: impl FnOnce(&mut Requests)) {
        change(&mut self.0.requests.lock().expect("no holder panics"));
        self.0.arrived.notify_one();
    }

    /// Waits until something was asked. Cancel-safe: what arrived while nobody waited is told to the next who does.
    pub(crate) async fn arrived(&self) {
        self.0.arrived.notified().await;
    }

    pub(crate) fn take(&self) -> Requests {
        std::mem::take(&mut self.0.requests.lock().expect("no holder panics"))
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut CloneStatus)) {
        self.0.status.send_modify(change);
    }
}

impl Requests {
    /// The newer request replaces the older where it asks for more.
    fn add(&mut self, table: TableName, request: TableRequest) {
        let Some(before) = self.tables.get_mut(&table) else {
            self.tables.insert(table, request);
            return;
        };
        match (before, request) {
            (TableRequest::Restart, TableRequest::Copy | TableRequest::Redo(_)) => {}
            (TableRequest::Redo(chunks), TableRequest::Redo(more)) => chunks.extend(more),
            (TableRequest::Redo(_), TableRequest::Copy) => {}
            (TableRequest::Forget, TableRequest::Redo(_)) => {}
            (before @ TableRequest::Forget, TableRequest::Copy | TableRequest::Look) => {
                *before = TableRequest::Restart;
            }
            (_, TableRequest::Look) => {}
            (before, request) => *before = request,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(requests: &[TableRequest]) -> TableRequest {
        let (mut all, table) = (Requests::default(), TableName::new("shop", "orders"));
        for request in requests {
            all.add(table.clone(), request.clone());
        }
        all.tables.remove(&table).expect("it was asked for")
    }

    #[test]
    fn of_two_requests_for_a_table_the_one_that_asks_for_more_is_left() {
        use TableRequest::{Copy, Forget, Look, Redo, Restart};
        let redo = |chunks: &[u32]| Redo(chunks.iter().copied().collect());
        assert_eq!(after(&[Restart, Copy, redo(&[1])]), Restart);
        assert_eq!(after(&[redo(&[1]), Copy, redo(&[3])]), redo(&[1, 3]));
        assert_eq!(after(&[redo(&[1]), Restart]), Restart);
        assert_eq!(after(&[Restart, Forget]), Forget);
        assert_eq!(after(&[Forget, redo(&[1])]), Forget);
        assert_eq!(after(&[Forget, Copy]), Restart);
        assert_eq!(after(&[Copy, Look]), Copy);
        assert_eq!(after(&[Look, Restart]), Restart);
        assert_eq!(after(&[Forget, Look]), Restart);
    }
}
