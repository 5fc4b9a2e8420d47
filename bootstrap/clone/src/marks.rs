//! Where in the log a chunk was read, as the follower of that log counts. The follower implements it.

use std::future::Future;

use tidemill_event::{Position, TableName};
use tidemill_fetchers_api::extract::ChunkMarks;

use crate::BoxError;

/// Why what was read has no place in the log.
#[derive(Debug, thiserror::Error)]
pub enum NoPlace {
    /// It may have one when it is read again.
    #[error("{why}")]
    Again {
        /// Why it has none, and how to mend what keeps it from that.
        why: String,
    },
    /// Nothing that is read will have one: the follower is gone, or cannot tell.
    #[error("nothing more has a place in the log")]
    Never(#[source] BoxError),
}

/// Turns the marks of a source into positions. Called from many tasks at a time.
pub trait Marks: Send + Sync + 'static {
    /// The low mark's position: every transaction up to there is in the rows that were read, and every change of `table`
    /// after there is, or will be, replayed over them. The newer the better; an older one is right too.
    ///
    /// Of a set of transactions: the newest position that was passed and whose own set is a subset of that one. It waits
    /// until the follower knows one; `None`: no position that was passed is old enough, or the follower replays `table` only
    /// from a later one, so that the chunk must be read again.
    fn low(
        &self,
        table: &TableName,
        marks: &ChunkMarks,
    ) -> impl Future<Output = Result<Option<Position>, NoPlace>> + Send;

    /// The high mark's position: nothing after it is in the rows. A place in the log that the follower reads is one, passed or
    /// not; that of another server's log is waited for until the follower has passed everything that was there.
    fn high(&self, marks: &ChunkMarks) -> impl Future<Output = Result<Position, NoPlace>> + Send;

    /// Whether a transaction after `low`, up to and with `high`, changed the table: it waits until `high` is passed. Asked
    /// for tables without key, whose rows are exact only where none did.
    fn touched(
        &self,
        table: &TableName,
        low: Position,
        high: Position,
    ) -> impl Future<Output = Result<bool, BoxError>> + Send;
}
