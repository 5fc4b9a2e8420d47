//! Where windows come from: a log in this process, or a relay elsewhere.

use std::error::Error;
use std::future::Future;
use std::sync::Arc;

use tidemill_event::{Remedy, Window};

/// Gives windows in commit order, each once.
pub trait Feed: Send {
    /// Why it cannot go on.
    type Error: Error + Send + Sync + 'static;

    /// The next window; waits for it. `None`: the source has ended and everything was given. Cancel-safe.
    fn next(&mut self) -> impl Future<Output = Result<Option<Arc<Window>>, Self::Error>> + Send;

    /// The next window if it is there already.
    fn try_next(&mut self) -> Result<Option<Arc<Window>>, Self::Error>;

    /// What an error asks for.
    fn remedy(error: &Self::Error) -> Remedy;
}
