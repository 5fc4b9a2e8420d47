//! Snapshot storage as a place where a consumer begins, or comes back to when a relay no longer has what follows, and the
//! feed that goes from one to the other by itself. What is in the storage is elsewhere.
//!
//! ```text
//! nothing ─▶ snapshot ─▶ stream ◀─▶ deltas, when the stream no longer has what follows
//! ```

mod phased;
mod remote;

use std::error::Error;
use std::future::Future;
use std::sync::Arc;

use tidemill_event::{Checkpoint, Remedy, Window};

use crate::Feed;

pub use phased::{PhasedError, PhasedFeed};
pub use remote::RelayBootstrap;

/// Gives snapshots, and what changed since a checkpoint, piece by piece. It remembers nothing that counts: whoever has a
/// checkpoint goes on with it at any other one of the same source.
pub trait Bootstrap: Send {
    /// Why it cannot go on.
    type Error: Error + Send + Sync + 'static;

    /// What comes after the checkpoint. `None`: the consumer has nothing, and a snapshot begins. A checkpoint of the stream:
    /// deltas since then begin. One of a snapshot or of deltas: they go on.
    ///
    /// After an error the same call tries again. Cancel-safe.
    fn next(&mut self, have: Option<&Checkpoint>) -> impl Future<Output = Result<Piece, Self::Error>> + Send;

    /// What an error asks for. `Wait`: there is nothing yet, or not everything that was asked for.
    fn remedy(error: &Self::Error) -> Remedy;
}

/// What a consumer gets from snapshot storage.
#[derive(Clone, Debug)]
pub enum Piece {
    /// A window of a snapshot or of deltas: whoever has it is at its checkpoint.
    Window(Arc<Window>),
    /// Everything was given: the stream follows this checkpoint.
    Stream(Checkpoint),
}

/// A live stream that can be taken up anywhere.
pub trait Stream: Feed {
    /// Gives what follows the checkpoint, which is one of the stream, from now on.
    fn begin(&mut self, after: &Checkpoint) -> Result<(), Self::Error>;

    /// Whether the error says that what follows is gone: it can only be had from snapshot storage.
    fn is_gone(error: &Self::Error) -> bool;
}
