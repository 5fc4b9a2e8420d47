//! What a subscription delivers to.

use std::error::Error;
use std::future::Future;

use tidemill_event::{Remedy, Window};

/// Takes windows and commits their effects together with the checkpoint. One task owns it.
pub trait Consumer: Send {
    /// Why a delivery failed.
    type Error: Error + Send + Sync + 'static;

    /// Delivers a window. When this returns, everything up to the last transaction that is complete with it is
    /// committed, with [`Window::checkpoint`]; of a transaction in parts, nothing before its last one.
    fn deliver(&mut self, window: &Window) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Forgets what was delivered and not committed. The same windows come again, from the last commit on.
    fn rollback(&mut self);

    /// The last call of an orderly end. What is not committed by now is not to be.
    fn close(self) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// What an error asks for.
    fn remedy(error: &Self::Error) -> Remedy;
}
