//! What a fetcher is. Each source (MySQL, Oracle, another relay) implements this one trait in a crate of its own
//! and passes the one conformance suite; the relay's append side drives it and owns everything after it.

pub mod conformance;
mod error;
pub mod extract;
mod liveness;
pub mod statement;

use std::error::Error;
use std::future::Future;
use std::sync::Arc;

use tidemill_event::{Checkpoint, Frame, Position, TableSchema, Window};

pub use error::{FetchError, Undecodable};
pub use liveness::Liveness;

/// Reads windows from one source, in commit order.
///
/// One task owns a fetcher and calls [`Fetcher::next`] again when the last window is stored. What it promises:
/// - a window's `span.after` is the `span.upto` of the one before, or the position that it was opened at;
/// - transactions come whole and in commit order, or as ordered fragments that stand alone in their windows;
/// - the same transactions have the same SCNs, ids and schemas whenever and by whomever they are read.
pub trait Fetcher: Send {
    /// The next window; waits for one where the source is idle. `None`: the source has ended, as files do.
    ///
    /// A lost connection is mended inside, with back-off, at the last transaction boundary: nothing is lost or
    /// given twice. What comes out as an error does not mend itself, and the next call gives it again.
    ///
    /// Cancel-safe: a future that is dropped before it is ready loses nothing.
    fn next(&mut self) -> impl Future<Output = Result<Option<Window>, FetchError>> + Send;

    /// The caller has everything up to there on disk and will never ask for it again. What a fetcher keeps for such a
    /// repetition may go; one that keeps nothing ignores it.
    fn stored(&mut self, _upto: Position) {}

    /// The frame of the window that [`Fetcher::next`] gave last, where the source had it encoded and nobody changed it
    /// since: whoever stores the window stores these bytes. Given once.
    fn take_frame(&mut self) -> Option<Frame> {
        None
    }

    /// Tells others whether the source answers, while this fetcher is busy waiting for it. One that needs no connection
    /// always answers.
    fn liveness(&self) -> Liveness {
        Liveness::default()
    }
}

/// Where a fetcher begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the oldest transaction that the source still has.
    Earliest,
    /// With what commits from now on.
    Now,
    /// After the last transaction that committed before this time: microseconds since 1970-01-01 UTC.
    Time(i64),
    /// After this checkpoint.
    At(Checkpoint),
}

/// Which tables are decoded at all. Asked once a table schema, before its first row; what is declined costs a
/// scan and is counted. An error stops the source before the table's first row.
pub type Selector = Arc<dyn Fn(&Arc<TableSchema>) -> Result<bool, String> + Send + Sync>;

/// What may be stored of a window: the source policy. A fetcher asks it before it stores or gives out anything, once a
/// window; a failure stops the source, and nothing that was not judged leaves the fetcher.
pub type Judge = Arc<dyn Fn(Window) -> Result<Window, Box<dyn Error + Send + Sync>> + Send + Sync>;
