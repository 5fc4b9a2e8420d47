//! What subscriptions have committed, read from the embedded store when no process holds it.

use std::path::Path;

use serde_json::Value;
use tidemill_event::{Checkpoint, Position};
use tidemill_sink::EmbeddedStore;

/// The store of a process that is gone.
pub struct Committed(EmbeddedStore);

impl Committed {
    pub(crate) fn open(path: &Path) -> Committed {
        Committed(EmbeddedStore::open(path).expect("the store opens"))
    }

    /// The checkpoint of a subscription, if it has one.
    pub fn checkpoint(&self, subscription: &str) -> Option<Checkpoint> {
        self.0.checkpoint(subscription).expect("the checkpoint is whole")
    }

    /// Where a subscription stands; zero without a checkpoint.
    pub fn position(&self, subscription: &str) -> Position {
        self.checkpoint(subscription).map(|c| c.position).unwrap_or_default()
    }

    /// The rows of an output table, as JSON.
    pub fn rows(&self, subscription: &str, table: &str) -> Vec<Value> {
        let rows = self.0.rows(subscription, table).expect("the store is readable");
        let json = |row: tidemill_sink::StoredRow| serde_json::from_str(&row.to_json()).expect("it is JSON");
        rows.map(|row| json(row.expect("the store is readable"))).collect()
    }

    /// A value of a consumer's state, as JSON.
    pub fn state(&self, subscription: &str, key: &str) -> Option<Value> {
        let value = self.0.state_get(subscription, key.as_bytes()).expect("the store is readable")?;
        Some(serde_json::from_slice(&value).expect("the state is JSON"))
    }
}
