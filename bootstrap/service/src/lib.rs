//! The bootstrap service: an ordinary subscriber of a relay that applies what it follows to snapshot storage, has tables copied,
//! and serves snapshots and consolidated deltas.

mod serve;

pub use serve::{ServeError, ServeLimits, SnapshotReader, SnapshotServer};
