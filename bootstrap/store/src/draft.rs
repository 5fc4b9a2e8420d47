//! What a commit is to say: the head, to be changed.

use std::collections::BTreeMap;

use crate::{Manifest, TableId, TableState};

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
}
