//! Why a reader of a store gets nothing, and how a relay says so.

use tidemill_event::Remedy;
use tidemill_relay::{Code, Problem};

/// Why a reader gets nothing.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The store is empty, or behind the reader, or a table that is asked for is not copied yet.
    #[error("{what}; ask again later")]
    NotYet {
        /// What is missing.
        what: String,
    },
    /// The checkpoint is of another source, or of none that this store knows.
    #[error("{what}; begin anew without a checkpoint")]
    OtherHistory {
        /// What does not fit.
        what: String,
    },
}

impl ServeError {
    /// What now.
    pub fn remedy(&self) -> Remedy {
        match self {
            ServeError::NotYet { .. } => Remedy::Wait,
            ServeError::OtherHistory { .. } => Remedy::Fix,
        }
    }

    /// As whoever asked over HTTP is told.
    pub(crate) fn problem(&self) -> Problem {
        let code = match self {
            ServeError::NotYet { .. } => Code::NothingYet,
            ServeError::OtherHistory { .. } => Code::Diverged,
        };
        Problem::new(code, self.to_string())
    }
}
