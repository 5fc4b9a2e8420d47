//! Where windows come from: a log in this process, or a relay elsewhere.

use std::error::Error;
use std::future::Future;
use std::sync::Arc;

use tidemill_event::{Remedy, Window};

/// Gives windows in commit order, each once. One task owns it.
pub trait Feed: Send {
    /// Why it cannot go on.
    type Error: Error + Send + Sync + 'static;

    /// The next window; waits for it. `None`: the source has ended and everything was given. After an error it stands
    /// where it stood: the next call tries again. Cancel-safe.
    ///
    /// The call says as well that what was given before is done with: what bounds the memory of a feed counts it no more.
    fn next(&mut self) -> impl Future<Output = Result<Option<Arc<Window>>, Self::Error>> + Send;

    /// The next window if it is there already. An error is given by [`Feed::next`] again.
    fn try_next(&mut self) -> Result<Option<Arc<Window>>, Self::Error>;

    /// Where the last window that was given is a part of a transaction, gives that transaction again, from its first
    /// part on. Else it does nothing.
    fn rewind(&mut self) -> Result<(), Self::Error>;

    /// What an error asks for.
    fn remedy(error: &Self::Error) -> Remedy;
}
