//! Why a follower ends.

use tidemill_bootstrap_store::{CommitError, DataError, Fenced, StoreError};
use tidemill_event::Remedy;

use super::OutOfStep;

/// Why a follower ends. What is durable stays; the next one goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The stream cannot go on.
    #[error("follow the stream of the source")]
    Feed {
        /// What now.
        remedy: Remedy,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A stretch of the source's log is gone.
    #[error(
        "a stretch of the source's log is gone, so that no table is what the source has any more: {missing}; what was \
         published stays as it was; copy the tables anew with `on_gap = \"clone\"`"
    )]
    Gap {
        /// What is missing.
        missing: String,
    },
    /// The stream does not go on where it ended.
    #[error(transparent)]
    OutOfStep(#[from] OutOfStep),
    /// A newer writer took the store over.
    #[error(transparent)]
    Fenced(#[from] Fenced),
    /// The store failed.
    #[error("write snapshot storage")]
    Store(#[source] StoreError),
    /// Rows could not be written, merged or read.
    #[error("write rows to snapshot storage")]
    Data(#[from] DataError),
    /// What a copy keeps about itself cannot be read.
    #[error(
        "the plan of a table's copy is no plan of this release; use the release that began it, or copy the table anew"
    )]
    Plan(#[from] serde_json::Error),
}

impl From<CommitError> for FollowError {
    fn from(error: CommitError) -> FollowError {
        match error {
            CommitError::Fenced(fenced) => FollowError::Fenced(fenced),
            CommitError::Store(error) => FollowError::Store(error),
        }
    }
}

impl FollowError {
    /// What now.
    pub fn remedy(&self) -> Remedy {
        match self {
            FollowError::Feed { remedy, .. } => *remedy,
            FollowError::Gap { .. }
            | FollowError::Plan(_)
            | FollowError::OutOfStep(OutOfStep::Hole { .. }) => Remedy::Fix,
            FollowError::OutOfStep(OutOfStep::Torn { .. }) => Remedy::Bug,
            FollowError::Fenced(_) => Remedy::Fenced,
            FollowError::Store(error) => error.remedy(),
            FollowError::Data(error) => error.remedy(),
        }
    }
}
