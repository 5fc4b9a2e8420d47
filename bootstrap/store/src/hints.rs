//! What readers are told after a commit. Hints are derived from the head, made again at each start, and never in a commit's
//! way.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use async_trait::async_trait;
use tidemill_event::chain;

use crate::head::Head;
use crate::latest::publish_latest;
use crate::limits::MARKS_MAX;
use crate::{BaseVersion, Manifest, Mark, Store, TableId, TableState};

/// Why a hint was not given.
pub type HintError = Box<dyn std::error::Error + Send + Sync>;

/// Tells readers of a table that has a new base version, in their own form, as a Delta Lake's log. `LATEST.json` is always
/// written.
///
/// Called after the commit, one call at a time, oldest commit first; again with each later commit as long as it fails; and
/// for each table with a published base when a writer starts and when garbage is collected. So it looks what is there
/// before it writes.
#[async_trait]
pub trait Hints: Send + Sync + std::fmt::Debug {
    /// The table's `base`, which has a path, is what readers shall see. `manifest` is the head.
    async fn publish(&self, store: &Store, manifest: &Manifest, table: &TableState) -> Result<(), HintError>;
}

/// What is still to be told.
#[derive(Debug)]
pub(crate) struct Told {
    /// Tables whose readers do not know of the newest version.
    due: BTreeSet<TableId>,
    /// `HINT` does not say the newest manifest.
    is_hint_due: bool,
    /// What is known of positions that were applied, oldest first.
    marks: VecDeque<Mark>,
}

fn published(table: &TableState) -> Option<&BaseVersion> {
    table.base.as_ref().filter(|base| base.path.is_some())
}

impl Told {
    /// When a writer starts nobody knows what was told.
    pub(crate) fn new(head: &Head) -> Told {
        let mut told = Told { due: BTreeSet::new(), is_hint_due: true, marks: VecDeque::new() };
        told.all(head);
        told.mark(&head.manifest);
        told
    }

    /// Everything is to be told again.
    pub(crate) fn all(&mut self, head: &Head) {
        let tables = head.tables.values().filter(|table| published(table).is_some());
        self.due.extend(tables.map(|table| table.id));
        self.is_hint_due = true;
    }

    fn mark(&mut self, manifest: &Manifest) {
        if self.marks.back() != Some(&manifest.applied) {
            self.marks.push_back(manifest.applied.clone());
        }
        while self.marks.len() > MARKS_MAX {
            self.marks.pop_front();
        }
    }

    /// What a commit made due.
    pub(crate) fn committed(&mut self, before: &Head, after: &Head) {
        self.mark(&after.manifest);
        self.is_hint_due = true;
        for (id, table) in &after.tables {
            let path = |table: &TableState| published(table).and_then(|base| base.path.clone());
            let replaced = before.tables.get(id).and_then(|before| path(before));
            if let Some(new) = path(table)
                && replaced != Some(new)
            {
                self.due.insert(*id);
            }
        }
        self.due.retain(|id| after.tables.contains_key(id));
    }

    /// Gives the hints that are due.
    pub(crate) async fn tell(&mut self, store: &Store, head: &Head, hints: &[Arc<dyn Hints>]) {
        let number = head.manifest.number;
        if self.is_hint_due {
            match store.hint(number).await {
                Ok(()) => self.is_hint_due = false,
                Err(error) => {
                    tracing::warn!(number, error = %chain(&error), "readers find the head more slowly")
                }
            }
        }
        for id in self.due.clone() {
            let Some(table) = head.tables.get(&id) else { continue };
            match self.tell_of(store, head, table, hints).await {
                Ok(()) => {
                    self.due.remove(&id);
                }
                Err(error) => {
                    let error = chain(&*error);
                    tracing::warn!(table = %table.name, %error, "readers are told of the new version later");
                }
            }
        }
    }

    async fn tell_of(
        &self,
        store: &Store,
        head: &Head,
        table: &TableState,
        hints: &[Arc<dyn Hints>],
    ) -> Result<(), HintError> {
        let Some(base) = published(table) else { return Ok(()) };
        let mark = self.marks.iter().find(|mark| mark.position == base.at);
        publish_latest(store, head.manifest.number, table, mark).await?;
        for hint in hints {
            hint.publish(store, &head.manifest, table).await?;
        }
        Ok(())
    }
}
