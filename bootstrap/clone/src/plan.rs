//! What the copying side keeps in `CloneProgress::plan`: enough to go on after a crash, and for the owner of the table to
//! make what was copied its content.

use serde::{Deserialize, Serialize};
use tidemill_bootstrap_store::{CloneProgress, StoredSchema, TableKey};
use tidemill_fetchers_api::extract::Bound;

/// The plan of one table's copy. Chunk `n` are the rows after bound `n - 1` up to and with bound `n`, where there are such.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The format: 1.
    pub format: u32,
    /// Random: a copy that is made anew is another one.
    pub copy: String,
    /// The schema at the source, by its fingerprint in hexadecimal digits.
    pub source_schema: String,
    /// The [`crate::Stamp`] of the policy.
    pub policy: String,
    /// The schema of the rows that are stored: the table's, once the copy is complete.
    pub schema: StoredSchema,
    /// What identifies these rows: the table's, once the copy is complete.
    pub key: TableKey,
    /// The bounds that are known, rising, in the source's own form.
    pub bounds: Vec<Vec<String>>,
    /// The last chunk has no end: every bound is known.
    pub is_whole: bool,
}

impl Plan {
    /// The plan of a copy that was begun by this crate.
    pub fn of(progress: &CloneProgress) -> Result<Plan, serde_json::Error> {
        Plan::deserialize(&progress.plan)
    }

    /// How many chunks are known.
    pub fn chunk_count(&self) -> u32 {
        self.bounds.len() as u32 + u32::from(self.is_whole)
    }

    /// Between which bounds the rows of a chunk lie.
    pub fn range(&self, chunk: u32) -> (Option<Bound>, Option<Bound>) {
        let bound = |at: usize| self.bounds.get(at).cloned().map(Bound);
        ((chunk as usize).checked_sub(1).and_then(bound), bound(chunk as usize))
    }
}
