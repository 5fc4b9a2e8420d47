//! How long what is kept, and the changes of states that follow from it. What nothing points to any more is removed by `gc`.

use std::time::Duration;

use crate::pin::micros;
use crate::{Draft, TableState};

const HOUR: Duration = Duration::from_secs(3600);

/// How long what is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Manifests, and all that they point to, after they were the newest; two hours at least.
    pub keep_manifests: Duration,
    /// Published base versions of a table, the newest included.
    pub keep_versions: usize,
    /// Runs that are merged into the base, for consolidated deltas.
    pub keep_deltas: Duration,
    /// Log segments whose transactions are in runs.
    pub keep_log: Duration,
    /// Objects that nothing points to; one hour at least: somebody may be about to.
    pub grace: Duration,
}

impl Default for Retention {
    /// A reader of a directory has a day, and the version before the newest besides. Every manifest names the log segments
    /// that are kept, so those go as soon as nobody looks for a fault in them.
    fn default() -> Retention {
        Retention {
            keep_manifests: 24 * HOUR,
            keep_versions: 2,
            keep_deltas: 30 * 24 * HOUR,
            keep_log: HOUR,
            grace: 24 * HOUR,
        }
    }
}

/// Lets go, in the states, what is older than it is to be kept: merged runs, so that consolidated deltas begin later; log
/// segments that lie before `applied`; published versions.
pub fn trim(draft: &mut Draft, keep: &Retention, now_us: i64) {
    let applied = draft.manifest.applied.position;
    let oldest_us = now_us.saturating_sub(micros(keep.keep_log));
    let log = &mut draft.manifest.log;
    let old = log.iter().take_while(|segment| segment.upto <= applied && segment.time_us < oldest_us);
    let old = old.count();
    log.drain(..old);
    for table in draft.tables.values_mut() {
        trim_table(table, keep, now_us);
    }
}

fn trim_table(table: &mut TableState, keep: &Retention, now_us: i64) {
    let oldest_us = now_us.saturating_sub(micros(keep.keep_deltas));
    let old = table.merged_runs.iter().take_while(|run| run.time_us < oldest_us).count();
    for run in table.merged_runs.drain(..old) {
        table.deltas_since = table.deltas_since.max(run.upto);
    }
    let older_max = keep.keep_versions.saturating_sub(1);
    let too_many = table.older.len().saturating_sub(older_max);
    table.older.drain(..too_many);
}
