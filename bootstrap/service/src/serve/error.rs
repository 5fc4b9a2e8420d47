//! Why a reader of a store gets nothing, and how a relay says so.

use tidemill_bootstrap_store::{DataError, StoreError};
use tidemill_event::{Remedy, TableName, chain};
use tidemill_relay::{Code, Problem};
use tidemill_sandbox::PredicateError;
use tidemill_world::objects::CallFailed;

/// Why a reader gets nothing.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The store is empty, or behind the reader, or a table that is asked for cannot be read yet.
    #[error("snapshot storage of {source_name} {what}; ask again later")]
    NotYet {
        /// The source's name.
        source_name: String,
        /// What is missing.
        what: String,
    },
    /// The checkpoint is of another source.
    #[error(
        "the checkpoint is of source \"{theirs}\", and \"{ours}\" was asked; ask for the checkpoint's source"
    )]
    OtherSource {
        /// The checkpoint's.
        theirs: String,
        /// What is stored.
        ours: String,
    },
    /// The checkpoint's place is not one of the stored history.
    #[error(
        "the checkpoint is of another history than the one that is stored: {what}; begin anew without a checkpoint"
    )]
    OtherHistory {
        /// What does not fit.
        what: String,
    },
    /// A predicate is of a table that is not stored.
    #[error(
        "snapshot storage of {source_name} has no table {table}, of which `where` wants some rows; name one that is stored, \
         or ask again when it is copied"
    )]
    UnknownTable {
        /// The source's name.
        source_name: String,
        /// The table.
        table: TableName,
    },
    /// A predicate does not fit its table.
    #[error(transparent)]
    Predicate(#[from] PredicateError),
    /// The store could not be read.
    #[error("read snapshot storage")]
    Store(#[source] Box<StoreError>),
    /// The rows of a table could not be read.
    #[error("read {table} from snapshot storage")]
    Rows {
        /// The table.
        table: TableName,
        /// Why not.
        source: Box<DataError>,
    },
}

impl From<StoreError> for ServeError {
    fn from(error: StoreError) -> ServeError {
        ServeError::Store(Box::new(error))
    }
}

impl ServeError {
    /// What now.
    pub fn remedy(&self) -> Remedy {
        match self {
            ServeError::NotYet { .. } => Remedy::Wait,
            ServeError::OtherSource { .. }
            | ServeError::OtherHistory { .. }
            | ServeError::UnknownTable { .. }
            | ServeError::Predicate(_) => Remedy::Fix,
            ServeError::Store(error) => error.remedy(),
            ServeError::Rows { source, .. } => source.remedy(),
        }
    }

    /// Whether what is not there may have been there before: a version that nobody keeps any more.
    pub(crate) fn is_loss(&self) -> bool {
        let gone = |error: &StoreError| match error {
            StoreError::Gone(_) => true,
            StoreError::Call(CallFailed { source, .. }) => {
                matches!(source, object_store::Error::NotFound { .. })
            }
            _ => false,
        };
        match self {
            ServeError::Store(error) => gone(error),
            ServeError::Rows { source, .. } => matches!(&**source, DataError::Store(error) if gone(error)),
            _ => false,
        }
    }

    /// As whoever asked over HTTP is told.
    pub(crate) fn problem(&self) -> Problem {
        match self {
            ServeError::NotYet { .. } => Problem::new(Code::NothingYet, self.to_string()),
            ServeError::OtherSource { .. } => Problem::new(Code::BadCheckpoint, self.to_string()),
            ServeError::OtherHistory { .. } => Problem::new(Code::Diverged, self.to_string()),
            ServeError::UnknownTable { table, .. } => {
                Problem::new(Code::UnknownTable, self.to_string()).with("table", table.to_string())
            }
            ServeError::Predicate(error) => error.clone().into(),
            // The names of its objects are nobody else's business.
            ServeError::Store(_) | ServeError::Rows { .. } => {
                tracing::error!(error = %chain(self), "snapshot storage cannot be read");
                let detail = "snapshot storage cannot be read there; the relay's own log says why: ask another relay, or \
                              again later";
                Problem::new(Code::Storage, detail)
            }
        }
    }
}
