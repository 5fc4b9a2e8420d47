//! Snapshot storage as the relay serves it beside its logs: who keeps it, and how it is read, is elsewhere. What is asked for
//! is parsed, and what is given is filtered and written, as it is for the stream.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tidemill_event::{Checkpoint, Window};

use crate::{Problem, Selection};

/// The snapshot storage of one source.
#[derive(Clone)]
pub struct SnapshotsServed {
    /// The source's name.
    pub source: String,
    /// Its storage.
    pub snapshots: Arc<dyn Snapshots>,
}

/// Snapshot storage of one source, for any number of readers.
pub trait Snapshots: Send + Sync {
    /// A reader of it. Nothing is read yet.
    fn open(&self, asked: SnapshotAsked) -> Box<dyn SnapshotReading>;
}

/// One reader. What it remembers only saves work: the checkpoint is its whole state.
pub trait SnapshotReading: Send {
    /// What comes after the checkpoint. `None`: a snapshot begins. A checkpoint of the stream: deltas since then begin.
    ///
    /// Of the selection it takes the tables, whole; it may leave out rows of parts that are not asked for.
    fn next<'a>(&'a mut self, have: Option<&'a Checkpoint>) -> BoxFuture<'a, Result<SnapshotPiece, Problem>>;
}

/// What a reader gives.
#[derive(Clone, Debug)]
pub enum SnapshotPiece {
    /// A window of a snapshot or of deltas: whoever has it is at its checkpoint.
    Window(Arc<Window>),
    /// Everything was given: the stream follows this checkpoint.
    Stream(Checkpoint),
}

/// What is asked of snapshot storage.
#[derive(Clone, Debug, Default)]
pub struct SnapshotAsked {
    /// What is seen of the source.
    pub selection: Selection,
    /// How a table comes to whoever had an older one.
    pub path: SnapshotPath,
    /// Who asks: the grant's name and the name that the reader gives itself.
    pub subscriber: String,
}

/// How a table comes to whoever had an older state of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SnapshotPath {
    /// As costs less: what changed, or all of it.
    #[default]
    Auto,
    /// All of it.
    Whole,
    /// What changed, as long as that is known.
    Deltas,
}
