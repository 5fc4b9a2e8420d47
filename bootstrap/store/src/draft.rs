//! What a commit is to say: the head, to be changed; and whether that can be.

use std::collections::{BTreeMap, BTreeSet};

use tidemill_event::{Position, TableName};

use crate::{Dropped, Manifest, StoreError, TableId, TableState};

/// The head of a store, for a change. What was changed is found by comparing.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// The newest manifest. `number`, `commit_id`, `epoch`, `writer`, `time_us` and `tables` are the commit's business.
    pub manifest: Manifest,
    /// The tables' states.
    pub tables: BTreeMap<TableId, TableState>,
}

impl Draft {
    /// A number for a table that is made: no other table had it or will have it.
    pub fn next_table_id(&mut self) -> TableId {
        let id = self.manifest.next_table;
        self.manifest.next_table += 1;
        id
    }

    /// Takes a table away, as of that position.
    pub fn drop_table(&mut self, id: TableId, at: Position) {
        if let Some(table) = self.tables.remove(&id) {
            self.tell_dropped(table.name, at);
        }
    }

    /// Notes that there is no table of that name since then. The newest time is enough: who has less has less than every
    /// older one, or none of it.
    pub fn tell_dropped(&mut self, table: TableName, at: Position) {
        let dropped = &mut self.manifest.dropped;
        dropped.retain(|other| other.table != table);
        dropped.push(Dropped { table, at });
    }

    /// Refuses a change that contradicts itself or goes back behind `head`.
    pub(crate) fn check(&self, head: &Manifest) -> Result<(), StoreError> {
        let contradiction = self.contradiction(head);
        contradiction.map_or(Ok(()), |what| Err(StoreError::Draft(what)))
    }

    fn contradiction(&self, head: &Manifest) -> Option<String> {
        let new = &self.manifest;
        let (applied, logged) = (new.applied.position, new.logged.position);
        if (new.format, &new.source) != (head.format, &head.source) {
            return Some("it has another format or source".to_owned());
        }
        if applied < head.applied.position || logged < head.logged.position {
            return Some(format!("it goes back from {} to {applied}", head.applied.position));
        }
        if logged < applied {
            return Some(format!("{applied} is applied, but only {logged} is logged"));
        }
        if !new.timelines.starts_with(&head.timelines) {
            return Some("it forgets a timeline".to_owned());
        }
        if new.next_table < head.next_table {
            return Some("it gives numbers of tables a second time".to_owned());
        }
        let ends = new.log.windows(2).all(|pair| pair[0].upto <= pair[1].after);
        if !ends || new.log.iter().any(|segment| segment.after > segment.upto || segment.upto > logged) {
            return Some("its log segments are not in order".to_owned());
        }
        self.table_contradiction()
    }

    fn table_contradiction(&self) -> Option<String> {
        let mut names = BTreeSet::new();
        for (id, table) in &self.tables {
            if table.id != *id || *id >= self.manifest.next_table {
                return Some(format!(
                    "{} has number {} at {id}, which was not given to it",
                    table.name, table.id
                ));
            }
            if !names.insert(&table.name) {
                return Some(format!("two tables are {}", table.name));
            }
        }
        None
    }
}
