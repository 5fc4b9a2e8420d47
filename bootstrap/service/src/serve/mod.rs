//! Serves a store: snapshots at one position, and for a consumer that had an older state what changed since then. It keeps
//! nothing of whom it serves; a reader's checkpoint is all of its state, so that any server of the store can go on.
//!
//! ```text
//! nothing ───────▶ snapshot: table after table, by key ─▶ stream
//! a checkpoint ──▶ deltas: what is gone, then of each table what changed, or all of it ─▶ stream
//! ```
//!
//! Which rows and columns of a table are seen, and how they are written, is the relay's.

mod error;
mod part;
mod place;
mod plan;
mod reader;
mod window;

use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use tidemill_bootstrap_store::Store;
use tidemill_client::{Bootstrap, Piece};
use tidemill_event::{Checkpoint, Remedy};
use tidemill_relay::{
    Problem, Selection, SnapshotAsked, SnapshotPath, SnapshotPiece, SnapshotReading, Snapshots, TablePattern,
};

use crate::limits::PIN_TTL;

pub use error::ServeError;
pub use reader::SnapshotReader;

/// How a store is served.
#[derive(Clone, Copy, Debug)]
pub struct ServeLimits {
    /// How long a reader may be away before the version that it reads may go.
    pub pin_ttl: Duration,
    /// The time: microseconds since 1970-01-01 UTC.
    pub now_us: fn() -> i64,
}

impl Default for ServeLimits {
    fn default() -> ServeLimits {
        ServeLimits { pin_ttl: PIN_TTL, now_us }
    }
}

fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_micros().try_into().unwrap_or(i64::MAX)
}

/// A store that is served. Cheap to clone.
#[derive(Clone)]
pub struct SnapshotServer {
    store: Store,
    limits: ServeLimits,
}

impl SnapshotServer {
    /// Serves that store.
    pub fn new(store: Store, limits: ServeLimits) -> SnapshotServer {
        SnapshotServer { store, limits }
    }

    /// A reader of those tables; none: of all. `client` names the reader's pins.
    pub fn reader(&self, tables: Vec<TablePattern>, path: SnapshotPath, client: &str) -> SnapshotReader {
        let selection = Selection { tables, ..Selection::default() };
        SnapshotReader::new(self.clone(), selection, path, client)
    }
}

impl Snapshots for SnapshotServer {
    fn open(&self, asked: SnapshotAsked) -> Box<dyn SnapshotReading> {
        let SnapshotAsked { selection, path, subscriber } = asked;
        Box::new(SnapshotReader::new(self.clone(), selection, path, &subscriber))
    }
}

impl Bootstrap for SnapshotReader {
    type Error = ServeError;

    async fn next(&mut self, have: Option<&Checkpoint>) -> Result<Piece, ServeError> {
        self.piece(have).await
    }

    fn remedy(error: &ServeError) -> Remedy {
        error.remedy()
    }
}

impl SnapshotReading for SnapshotReader {
    fn next<'a>(&'a mut self, have: Option<&'a Checkpoint>) -> BoxFuture<'a, Result<SnapshotPiece, Problem>> {
        Box::pin(async move {
            match self.piece(have).await {
                Ok(Piece::Window(window)) => Ok(SnapshotPiece::Window(window)),
                Ok(Piece::Stream(checkpoint)) => Ok(SnapshotPiece::Stream(checkpoint)),
                Err(error) => Err(error.problem()),
            }
        })
    }
}
