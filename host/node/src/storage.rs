//! The snapshot storage of a configuration's sources, for those who read it. Who writes it is elsewhere.

use tidemill_bootstrap_service::{ServeLimits, SnapshotServer};
use tidemill_bootstrap_store::Store;
use tidemill_event::{Checkpoint, Phase};
use tidemill_world::objects;

use crate::Failure;
use crate::config::{Config, Start};

/// The snapshot storage of a source; `None`: it has none.
pub fn server(config: &Config, source: &str) -> Result<Option<SnapshotServer>, Failure> {
    let Some(bootstrap) = config.bootstrap.get(source) else { return Ok(None) };
    let url = &bootstrap.get_ref().store;
    let store = Store::new(objects::open(url)?, source).with_url(url);
    Ok(Some(SnapshotServer::new(store, ServeLimits::default())))
}

/// Whether a subscription reads snapshot storage: it begins there, or stands within it.
pub fn is_read(start: Start, checkpoint: Option<&Checkpoint>) -> bool {
    start == Start::Snapshot || checkpoint.is_some_and(|checkpoint| checkpoint.phase != Phase::Stream)
}
