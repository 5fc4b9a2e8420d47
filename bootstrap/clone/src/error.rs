//! Why a clone stops, and why a destination refuses. What concerns one table alone is in its status, not here.

use std::error::Error;

use tidemill_event::{Remedy, TableName};
use tidemill_sandbox::GuestError;

/// An error of whichever kind.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Why a clone stopped.
#[derive(Debug, thiserror::Error)]
pub enum CloneError {
    /// The policy failed: no row goes on unjudged.
    #[error("the policy failed on table {table}; nothing of it was stored; mend the policy and start again")]
    Policy {
        /// The table in hand.
        table: TableName,
        /// Why.
        source: Box<GuestError>,
    },
    /// A table cannot be copied, and the destination takes the others only behind it.
    #[error("table {table} is not copied, nor are those behind it")]
    Table {
        /// The table.
        table: TableName,
        /// Why, and how to mend it.
        source: BoxError,
    },
    /// What was read has no place in the log.
    #[error("the place in the log of what was read of table {table}")]
    Marks {
        /// The table in hand.
        table: TableName,
        /// Why.
        source: BoxError,
    },
    /// The destination takes nothing more, of any table.
    #[error("the copy's destination")]
    Destination {
        /// Why.
        source: Box<DestinationError>,
    },
}

impl CloneError {
    /// What now.
    pub fn remedy(&self) -> Remedy {
        match self {
            CloneError::Policy { .. } | CloneError::Marks { .. } => Remedy::Fix,
            // A table that was dropped meanwhile is not asked for by the next try.
            CloneError::Table { .. } => Remedy::Retry,
            CloneError::Destination { source } => source.remedy(),
        }
    }
}

/// Why a destination did not take something.
#[derive(Debug, thiserror::Error)]
pub enum DestinationError {
    /// The copy of this table was given up by its owner: the table is gone, or it is copied anew.
    #[error("the copy of table {table} was given up: {why}")]
    GivenUp {
        /// The table.
        table: TableName,
        /// Why.
        why: String,
    },
    /// This table cannot be taken; others can.
    #[error("table {table} cannot be copied here: {why}")]
    Refused {
        /// The table.
        table: TableName,
        /// Why, and how to mend it.
        why: String,
    },
    /// It could not be written now; it may be later.
    #[error("write {what}")]
    Unavailable {
        /// What.
        what: String,
        /// Why.
        source: BoxError,
    },
    /// It could not be written, and will not be by trying again.
    #[error("write {what}")]
    Broken {
        /// What.
        what: String,
        /// Why.
        source: BoxError,
    },
    /// A newer writer took over.
    #[error("a newer writer took over")]
    Fenced {
        /// Who.
        source: BoxError,
    },
    /// Nobody takes the rows any more.
    #[error("the consumer of the copy is gone")]
    Closed,
}

impl DestinationError {
    /// What now.
    pub fn remedy(&self) -> Remedy {
        match self {
            DestinationError::GivenUp { .. }
            | DestinationError::Refused { .. }
            | DestinationError::Broken { .. } => Remedy::Fix,
            DestinationError::Unavailable { .. } => Remedy::Retry,
            DestinationError::Fenced { .. } | DestinationError::Closed => Remedy::Fenced,
        }
    }
}
