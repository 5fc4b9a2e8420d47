//! What can go wrong in a store, and what to do about it.

use std::path::PathBuf;

use tidemill_event::{CheckpointError, Remedy};

/// A store operation failed.
#[derive(Debug, thiserror::Error)]
#[error("{action} the store {}{}", .path.display(), hint(.source))]
pub struct StoreFailed {
    /// What was tried.
    pub action: &'static str,
    /// The store's file.
    pub path: PathBuf,
    /// Why it failed.
    pub source: Box<redb::Error>,
}

fn hint(source: &redb::Error) -> &'static str {
    match source {
        redb::Error::DatabaseAlreadyOpen => {
            "; another process has it: stop that one, or give this one another `data` directory"
        }
        redb::Error::Corrupted(_) => "; restore the file from a copy",
        redb::Error::UpgradeRequired(_) => "; use the release that wrote it",
        redb::Error::Io(e) if e.kind() == std::io::ErrorKind::StorageFull => {
            "; free space on its file system"
        }
        redb::Error::Io(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
            "; give this user read and write access to it"
        }
        _ => "",
    }
}

/// A checkpoint that is not the one that was written. It is never taken for "there is none".
#[derive(Debug, thiserror::Error)]
#[error("the checkpoint of subscription \"{subscription}\" in {} cannot be read", .path.display())]
pub struct DamagedCheckpoint {
    /// Whose it is.
    pub subscription: String,
    /// The store's file.
    pub path: PathBuf,
    /// What does not fit.
    pub source: CheckpointError,
}

/// Output that the store cannot take. Nothing of its delivery was committed.
#[derive(Debug, thiserror::Error)]
#[error("output table \"{table}\" of subscription \"{subscription}\": {what}")]
pub struct Rejected {
    /// Whose output it is.
    pub subscription: String,
    /// The output's table.
    pub table: String,
    /// What does not fit, and how to mend it.
    pub what: String,
}

/// Why a store operation had no effect.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store itself failed.
    #[error(transparent)]
    Failed(#[from] StoreFailed),
    /// The checkpoint is damaged.
    #[error(transparent)]
    Checkpoint(#[from] DamagedCheckpoint),
    /// The output does not fit.
    #[error(transparent)]
    Rejected(#[from] Rejected),
}

impl StoreError {
    /// Whether another process has the store.
    pub fn is_in_use(&self) -> bool {
        let is_open = |source: &redb::Error| matches!(source, redb::Error::DatabaseAlreadyOpen);
        matches!(self, StoreError::Failed(failed) if is_open(&failed.source))
    }

    /// What now.
    pub fn remedy(&self) -> Remedy {
        match self {
            StoreError::Failed(failed) if hint(&failed.source).is_empty() => Remedy::Retry,
            StoreError::Failed(_) | StoreError::Checkpoint(_) | StoreError::Rejected(_) => Remedy::Fix,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_tell_what_where_and_how_to_mend_it() {
        let failed =
            |source| StoreFailed { action: "open", path: "data/store.redb".into(), source: Box::new(source) };
        let rejected =
            Rejected { subscription: "audit".into(), table: "totals".into(), what: "it has no key".into() };
        let damaged = DamagedCheckpoint {
            subscription: "audit".into(),
            path: "data/store.redb".into(),
            source: CheckpointError::Damaged("the checksum does not fit"),
        };
        let messages = [
            failed(redb::Error::DatabaseAlreadyOpen).to_string(),
            failed(redb::Error::Io(std::io::ErrorKind::StorageFull.into())).to_string(),
            rejected.to_string(),
            damaged.to_string(),
        ];
        assert_eq!(
            messages,
            [
                "open the store data/store.redb; another process has it: stop that one, or give this one another \
                 `data` directory",
                "open the store data/store.redb; free space on its file system",
                "output table \"totals\" of subscription \"audit\": it has no key",
                "the checkpoint of subscription \"audit\" in data/store.redb cannot be read",
            ]
        );
        assert_eq!(StoreError::from(failed(redb::Error::DatabaseAlreadyOpen)).remedy(), Remedy::Fix);
        assert_eq!(StoreError::from(failed(redb::Error::PreviousIo)).remedy(), Remedy::Retry);
    }
}
