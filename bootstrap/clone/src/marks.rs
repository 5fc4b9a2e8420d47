//! Where in the log a chunk was read, as the follower of that log counts. The follower implements it.

use std::future::Future;

use tidemill_event::{Position, Scn, TableName};
use tidemill_fetchers_api::extract::LowMark;

use crate::BoxError;

/// Turns the marks of a source into positions. Called from many tasks at a time. An error ends the clone: the follower is gone,
/// or cannot tell.
pub trait Marks: Send + Sync + 'static {
    /// The low mark's position: every transaction up to there is in the rows that were read, and every change of `table`
    /// after there is, or will be, replayed over them. The newer the better; an older one is right too.
    ///
    /// [`LowMark::Executed`]: the newest position that was passed and whose set of transactions is a subset of that one.
    /// It waits until the follower knows one; `None`: no position that was passed is old enough, or the follower replays
    /// `table` only from a later one, so that the chunk must be read again.
    fn low(
        &self,
        table: &TableName,
        server: &str,
        mark: &LowMark,
    ) -> impl Future<Output = Result<Option<Position>, BoxError>> + Send;

    /// The position of an SCN of that server, passed or not.
    fn high(&self, server: &str, scn: Scn) -> impl Future<Output = Result<Position, BoxError>> + Send;

    /// Whether a transaction after `low`, up to and with `high`, changed the table: it waits until `high` is passed. Asked
    /// for tables without key, whose rows are exact only where none did.
    fn touched(
        &self,
        table: &TableName,
        low: Position,
        high: Position,
    ) -> impl Future<Output = Result<bool, BoxError>> + Send;
}
