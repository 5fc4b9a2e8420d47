//! Whether a source answers: told by its fetcher, read by whoever reports health. What does not answer is tried again by
//! the fetcher itself; this is how others know.

use std::sync::{Arc, Mutex, PoisonError};

/// A handle on it; clones tell the same.
#[derive(Clone, Debug, Default)]
pub struct Liveness(Arc<Mutex<Option<String>>>);

impl Liveness {
    /// The source answers: with changes, or with heartbeats.
    pub fn answers(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// It does not, and why; never a secret.
    pub fn lost(&self, why: impl Into<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.into());
    }

    /// Why it does not answer; `None`: it does.
    pub fn why(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
