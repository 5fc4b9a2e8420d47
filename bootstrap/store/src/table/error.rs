//! Why rows could not be written, merged or read.

use arrow_schema::ArrowError;
use parquet::errors::ParquetError;
use tidemill_event::{FrameError, Position, Remedy, TableName};

use crate::StoreError;

/// Why rows could not be written, merged or read.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The store did not do what it was asked.
    #[error("reach the rows of a table in the store")]
    Store(#[from] StoreError),
    /// An object is not what the manifest says.
    #[error(
        "{path} cannot be used: {what}; restore it from a copy of the store, or let the table be cloned again"
    )]
    Damaged {
        /// Its path.
        path: String,
        /// What is wrong.
        what: String,
    },
    /// A Parquet file could not be written or read.
    #[error("{path} could not be written or read as Parquet")]
    Parquet {
        /// Its path.
        path: String,
        /// Why.
        source: ParquetError,
    },
    /// Columns could not be computed.
    #[error("compute the columns of a table")]
    Columns(#[from] ArrowError),
    /// A change without all its values.
    #[error(
        "{table} at {position}: the log does not have the value of column `{column}`; set binlog_row_image=FULL at the source, and let the table be cloned again"
    )]
    Absent {
        /// The table.
        table: TableName,
        /// The column.
        column: String,
        /// The transaction.
        position: Position,
    },
    /// Rows of another schema than the one that they are stored with.
    #[error("rows of {table} have other columns than the schema that they would be stored with")]
    Schema {
        /// The table.
        table: String,
    },
    /// Files of a table that do not fit together.
    #[error("{table}: {what}")]
    Files {
        /// The table.
        table: TableName,
        /// What does not fit.
        what: String,
    },
    /// A value of an old schema that the new one has no place for.
    #[error(
        "column `{column}` changed from {from} to {to}, which does not hold every value; let the table be cloned again"
    )]
    Narrowed {
        /// The column.
        column: String,
        /// What it was.
        from: String,
        /// What it is.
        to: String,
    },
    /// More copies of a row were deleted than there were.
    #[error(
        "{table}, which has no key, would have {count} copies of a row; its copy and its log do not fit, let it be cloned again"
    )]
    NegativeCount {
        /// The table.
        table: TableName,
        /// The sum.
        count: i64,
    },
    /// A table without key was asked for what a key is needed for.
    #[error("{table} has no key: there is no newest state of each changed row, read it whole")]
    NoKey {
        /// The table.
        table: TableName,
    },
    /// A window could not be stored, or is not one.
    #[error("{path} holds windows that cannot be encoded or decoded")]
    Frame {
        /// The segment.
        path: String,
        /// Why.
        source: FrameError,
    },
}

impl DataError {
    /// What now.
    pub fn remedy(&self) -> Remedy {
        match self {
            DataError::Store(error) => error.remedy(),
            DataError::Columns(_)
            | DataError::Schema { .. }
            | DataError::Files { .. }
            | DataError::NoKey { .. } => Remedy::Bug,
            _ => Remedy::Fix,
        }
    }
}
