//! The source's side of a clone: tables of a server as they are now, with the schemas and the values that the log has.
//!
//! ```text
//! describe ─▶ information schema ─▶ the map that a log would have ─▶ layout ─▶ schema
//! read     ─▶ low mark ─▶ snapshot ─▶ high mark ─▶ is the definition still that one? ─▶ rows, straight into columns
//! ```
//!
//! What is read when, and what becomes of it, is the caller's.

mod batch;
mod condition;
mod definition;
mod error;
mod load;
mod marks;
mod select;
mod session;

use tidemill_event::TableName;
use tidemill_fetchers_api::FetchError;
use tidemill_fetchers_api::extract::{Extract, Load, SourceTable};

pub(crate) use select::quoted;
pub use session::MySqlSession;

use crate::options::ServerOptions;
use crate::settings::{Settings, ValuePolicy};

/// See the module. The account needs SELECT on the tables, and what reading the log needs.
#[derive(Clone, Debug)]
pub struct MySqlExtract {
    options: ServerOptions,
    values: ValuePolicy,
    declared_types: bool,
    low_mark_at_log_end: bool,
}

impl MySqlExtract {
    /// Reads tables of that server; `settings` are those of the fetcher, whose schemas and values they are to have.
    pub fn new(options: ServerOptions, settings: &Settings) -> MySqlExtract {
        // This is no replica whose receipt a commit may wait for.
        let options = ServerOptions { semi_sync: false, ..options };
        MySqlExtract {
            options,
            values: settings.values,
            declared_types: settings.declared_types,
            low_mark_at_log_end: false,
        }
    }

    /// Takes the end of the log for the low mark, which loses rows: shows that a test finds it.
    #[doc(hidden)]
    pub fn with_low_mark_at_log_end(mut self) -> MySqlExtract {
        self.low_mark_at_log_end = true;
        self
    }
}

impl MySqlExtract {
    /// Whether a table that is not among those that the source shows may be there all the same: only a server that lets its
    /// user read there says that it is not.
    pub async fn may_hide(&self, table: &TableName) -> Result<bool, FetchError> {
        self.open().await?.may_hide(table).await
    }
}

impl Extract for MySqlExtract {
    type Session = MySqlSession;

    async fn tables(&self) -> Result<Vec<TableName>, FetchError> {
        self.open().await?.tables().await
    }

    async fn describe(&self, table: &TableName) -> Result<Option<SourceTable>, FetchError> {
        self.open().await?.describe(table).await
    }

    async fn load(&self) -> Result<Load, FetchError> {
        self.open().await?.load().await
    }

    async fn open(&self) -> Result<MySqlSession, FetchError> {
        MySqlSession::open(self).await
    }
}
