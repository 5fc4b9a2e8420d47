//! Why a fetcher stops. Every error says what now; what heals by itself never leaves the fetcher.

use std::error::Error;
use std::sync::Arc;

use tidemill_event::{Position, Remedy, TableName};

/// A fetcher's error.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The settings, or the server's, do not allow capture.
    #[error("{what}; {mend}")]
    Setup {
        /// What is wrong.
        what: String,
        /// How to mend it.
        mend: String,
    },
    /// The source no longer has, or never had, what follows the checkpoint.
    #[error("the source cannot continue after {at}: {what}; {mend}")]
    Lineage {
        /// The position that was asked for.
        at: Position,
        /// What is missing: GTIDs, files, the server's identity.
        what: String,
        /// How to mend it.
        mend: String,
    },
    /// An event or a value that we cannot decode. The stream stops before its transaction.
    #[error(transparent)]
    Undecodable(Box<Undecodable>),
    /// Bytes that break the source's own format or grammar: damage, or a release that we do not know.
    #[error("at {place}: {what}")]
    Damaged {
        /// File and offset, or position.
        place: String,
        /// What does not fit.
        what: String,
    },
    /// The source policy failed: nothing that it did not judge leaves the fetcher.
    #[error("the source's policy failed")]
    Judge {
        /// Why.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// A table has another definition than the one that it was to be read with.
    #[error(
        "table {table} was defined anew since it was described; describe it again, then read its rows again"
    )]
    Redefined {
        /// The table.
        table: TableName,
    },
    /// What the fetcher keeps on disk could not be read or written.
    #[error("{what} {path}")]
    Store {
        /// What was tried.
        what: &'static str,
        /// The store's file.
        path: String,
        /// Why it failed.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// Reading a file failed.
    #[error("read {what}")]
    Io {
        /// What was read.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
}

/// What could not be decoded, and where.
#[derive(Debug, thiserror::Error)]
#[error("cannot decode {}{} at {place}: {why}", .table.as_ref().map_or_else(|| "an event".to_owned(), |t| format!("table {t}")), column_text(.column, .source_type))]
pub struct Undecodable {
    /// The table, where there is one.
    pub table: Option<TableName>,
    /// The column, where there is one.
    pub column: Option<String>,
    /// The column's type, as the source spells it.
    pub source_type: Option<String>,
    /// File and offset.
    pub place: String,
    /// Why, and how to mend it.
    pub why: String,
}

fn column_text(column: &Option<String>, source_type: &Option<String>) -> String {
    match (column, source_type) {
        (Some(column), Some(t)) => format!(", column `{column}` ({t}),"),
        (Some(column), None) => format!(", column `{column}`,"),
        _ => String::new(),
    }
}

impl FetchError {
    /// What now.
    pub fn remedy(&self) -> Remedy {
        match self {
            FetchError::Io { .. } | FetchError::Store { .. } | FetchError::Redefined { .. } => Remedy::Retry,
            FetchError::Setup { .. }
            | FetchError::Judge { .. }
            | FetchError::Lineage { .. }
            | FetchError::Undecodable(_)
            | FetchError::Damaged { .. } => Remedy::Fix,
        }
    }
}
