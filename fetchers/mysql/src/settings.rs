//! What a fetcher does with what it reads, wherever it reads it from.

use std::fmt;
use std::path::PathBuf;

use tidemill_fetchers_api::{Judge, Selector};

/// See the module.
#[derive(Clone)]
pub struct Settings {
    /// Which tables are decoded at all.
    pub selector: Selector,
    /// What may be stored of each window. `None`: all of it.
    pub judge: Option<Judge>,
    /// Where the fetcher keeps what has to outlive it: the rows of XA transactions that are prepared. One fetcher at a
    /// time, and none but those of one source. `None`: nowhere; what needs it stops the stream.
    pub directory: Option<PathBuf>,
    /// What becomes of values that have no form of ours.
    pub values: ValuePolicy,
    /// Whether the server is asked for the types that MariaDB's log does not name: UUID, INET4, INET6, VECTOR. Without it
    /// they are bytes where the log names the columns.
    pub declared_types: bool,
}

/// What becomes of values that a server stores and that are no date or no text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ValuePolicy {
    /// See the type.
    pub zero_dates: ZeroDates,
    /// See the type.
    pub bad_text: BadText,
}

/// What becomes of a DATE, DATETIME or TIMESTAMP that is no date: `0000-00-00`, `2020-00-00`, `2021-02-30`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ZeroDates {
    /// It stops the stream.
    #[default]
    Error,
    /// It becomes NULL, and such columns may be NULL in the schema, NOT NULL or not. In a column of the primary key it
    /// stops the stream all the same: two rows would have one key.
    Null,
}

/// What becomes of bytes in a text that are no character of its character set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BadText {
    /// They stop the stream.
    #[default]
    Error,
    /// Each becomes U+FFFD, where the server shows a question mark. In a column of the primary key they stop the stream
    /// all the same: two rows would have one key.
    Replace,
}

impl From<Selector> for Settings {
    fn from(selector: Selector) -> Settings {
        Settings {
            selector,
            judge: None,
            directory: None,
            values: ValuePolicy::default(),
            declared_types: false,
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("directory", &self.directory)
            .field("values", &self.values)
            .field("declared_types", &self.declared_types)
            .finish_non_exhaustive()
    }
}
