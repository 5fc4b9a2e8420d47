//! What can go wrong with change history.

use std::sync::Arc;

use tidemill_event::Remedy;
use tidemill_world::objects::CallFailed;

use crate::error::{Damaged, StorageError};

/// An object that is not what was put there. It is never read as data and never skipped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "object {object} is damaged: {what}; put it back from a copy or an older version in its store: what it holds cannot \
     be read until then"
)]
pub struct DamagedObject {
    /// Its full name.
    pub object: String,
    /// What does not fit.
    pub what: String,
}

/// The history under that name is another log's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{object} holds {theirs}, this log has {ours}: another log has written this history, or this one was started anew; \
     give every log its own `url`, or stop this one and remove its directory, then it goes on where the history ends"
)]
pub struct OtherHistory {
    /// The object that shows it.
    pub object: String,
    /// What it holds.
    pub theirs: String,
    /// What this log has in its place.
    pub ours: String,
}

/// Why change history could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// An object is not what was put there.
    #[error(transparent)]
    Damaged(#[from] DamagedObject),
    /// A call to the object store failed.
    #[error(transparent)]
    Store(#[from] CallFailed),
    /// The history is another log's.
    #[error(transparent)]
    Other(#[from] OtherHistory),
    /// A segment on this disk is not what was written, so it cannot go to history.
    #[error(transparent)]
    Segment(#[from] Damaged),
    /// A file operation failed: of the cache, or of a segment on its way to history.
    #[error(transparent)]
    File(#[from] StorageError),
}

impl HistoryError {
    /// What now.
    pub fn remedy(&self) -> Remedy {
        match self {
            HistoryError::Damaged(_) | HistoryError::Segment(_) => Remedy::Fix,
            HistoryError::Store(error) if error.mends_itself() => Remedy::Retry,
            HistoryError::Store(_) => Remedy::Fix,
            HistoryError::Other(_) => Remedy::Fenced,
            HistoryError::File(error) => error.remedy(),
        }
    }
}

/// One failure for all who wait for the same object.
pub(crate) type Fetched<T> = Result<T, Arc<HistoryError>>;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(error: impl Into<HistoryError>, remedy: Remedy, expected: &str) {
        let error = error.into();
        assert_eq!((error.to_string().as_str(), error.remedy()), (expected, remedy));
    }

    #[test]
    fn messages_tell_what_where_and_how_to_mend_it() {
        let object = "s3://bucket/history/shop/catalogue/00000000000000000007".to_owned();
        check(
            DamagedObject { object: object.clone(), what: "its checksum does not fit".into() },
            Remedy::Fix,
            "object s3://bucket/history/shop/catalogue/00000000000000000007 is damaged: its checksum does not fit; put it \
             back from a copy or an older version in its store: what it holds cannot be read until then",
        );
        let source = || "why".into();
        let denied = object_store::Error::PermissionDenied { path: String::new(), source: source() };
        check(
            CallFailed { action: "create", object: object.clone(), source: denied },
            Remedy::Fix,
            "create s3://bucket/history/shop/catalogue/00000000000000000007; give these credentials read, write, list and \
             delete access to it",
        );
        let slow = object_store::Error::Generic { store: "S3", source: source() };
        check(
            CallFailed { action: "read", object: object.clone(), source: slow },
            Remedy::Retry,
            "read s3://bucket/history/shop/catalogue/00000000000000000007",
        );
        check(
            OtherHistory {
                object,
                theirs: "segment 7 of epoch 2".into(),
                ours: "segment 7 of epoch 1".into(),
            },
            Remedy::Fenced,
            "s3://bucket/history/shop/catalogue/00000000000000000007 holds segment 7 of epoch 2, this log has segment 7 of \
             epoch 1: another log has written this history, or this one was started anew; give every log its own `url`, or \
             stop this one and remove its directory, then it goes on where the history ends",
        );
    }
}
