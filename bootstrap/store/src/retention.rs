//! How long what is kept, and the changes of states that follow from it. What nothing points to any more is removed by `gc`.

use std::time::Duration;

use crate::Draft;

/// How long what is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Manifests, and all that they point to, after they were the newest.
    pub keep_manifests: Duration,
    /// Published base versions of a table, the newest included.
    pub keep_versions: usize,
    /// Runs that are merged into the base, for consolidated deltas.
    pub keep_deltas: Duration,
    /// Log segments whose transactions are in runs.
    pub keep_log: Duration,
    /// Objects that nothing points to: somebody may be about to.
    pub grace: Duration,
}

impl Default for Retention {
    fn default() -> Retention {
        todo!()
    }
}

/// Lets go, in the states, what is older than it is to be kept: merged runs, so that consolidated deltas begin later; log
/// segments that lie before `applied`; published versions.
pub fn trim(draft: &mut Draft, keep: &Retention, now_us: i64) {
    todo!("{draft:?} {keep:?} {now_us}")
}
