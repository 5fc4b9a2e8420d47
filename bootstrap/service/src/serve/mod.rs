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

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tidemill_bootstrap_store::Manifest;
use tidemill_client::{Bootstrap, Piece};
use tidemill_event::{Checkpoint, Remedy};
use tidemill_relay::{
    Problem, SnapshotAsked, SnapshotPath, SnapshotPiece, SnapshotReading, Snapshots, TablePattern,
};

pub use error::ServeError;

/// How much a reader is given at a time, and for how long its version is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServeLimits {
    /// Rows of a window.
    pub rows: usize,
}

impl Default for ServeLimits {
    /// 8,192 rows a window.
    fn default() -> ServeLimits {
        ServeLimits { rows: 8192 }
    }
}

/// A store that is served. Cheap to clone. `new(store: Store, limits: ServeLimits)` makes it.
#[derive(Clone)]
pub struct SnapshotServer {
    limits: ServeLimits,
    newest: Option<Arc<Manifest>>,
}

impl SnapshotServer {
    /// A reader of those tables; none: of all. `client` names the reader's pins.
    pub fn reader(&self, tables: Vec<TablePattern>, path: SnapshotPath, client: &str) -> SnapshotReader {
        let _ = (tables, path, client, self.limits, &self.newest);
        todo!()
    }
}

impl Snapshots for SnapshotServer {
    fn open(&self, asked: SnapshotAsked) -> Box<dyn SnapshotReading> {
        Box::new(self.reader(asked.selection.tables, asked.path, &asked.subscriber))
    }
}

/// Reads a store for one consumer.
pub struct SnapshotReader {
    server: SnapshotServer,
}

impl Bootstrap for SnapshotReader {
    type Error = ServeError;

    async fn next(&mut self, have: Option<&Checkpoint>) -> Result<Piece, ServeError> {
        let _ = (&self.server, have);
        todo!()
    }

    fn remedy(error: &ServeError) -> Remedy {
        error.remedy()
    }
}

impl SnapshotReading for SnapshotReader {
    fn next<'a>(&'a mut self, have: Option<&'a Checkpoint>) -> BoxFuture<'a, Result<SnapshotPiece, Problem>> {
        Box::pin(async move {
            let piece = Bootstrap::next(self, have).await;
            match piece {
                Ok(Piece::Window(window)) => Ok(SnapshotPiece::Window(window)),
                Ok(Piece::Stream(checkpoint)) => Ok(SnapshotPiece::Stream(checkpoint)),
                Err(error) => Err(error.problem()),
            }
        })
    }
}
