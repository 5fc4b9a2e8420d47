//! What readers are told after a commit. Hints are derived from the head, made again at each start, and never in a commit's
//! way.

use async_trait::async_trait;

use crate::{Manifest, Store, TableState};

/// Why a hint was not given.
pub type HintError = Box<dyn std::error::Error + Send + Sync>;

/// Tells readers of a table that has a new base version, in their own form: `LATEST.json`, a Delta Lake's log.
///
/// Called after the commit, one call at a time, oldest commit first; again with each later commit as long as it fails; and
/// for each table with a published base when a writer starts and when garbage is collected. So it looks what is there
/// before it writes.
#[async_trait]
pub trait Hints: Send + Sync + std::fmt::Debug {
    /// The table's `base`, which has a path, is what readers shall see. `manifest` is the head.
    async fn publish(&self, store: &Store, manifest: &Manifest, table: &TableState) -> Result<(), HintError>;
}
