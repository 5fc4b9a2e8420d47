//! What can go wrong around a private server. Every message carries what the operator needs to mend it.

use std::{io, path::PathBuf};

use crate::Kind;

/// Why a private server could not be provided or used.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The script that obtains the server failed; the message is its own sentence.
    #[error("no {kind} server can be had: {message}")]
    Tools {
        /// Which server.
        kind: Kind,
        /// The sentence of the script, or why it could not run.
        message: String,
    },
    /// A file or process operation failed.
    #[error("cannot {what} {path}", path = path.display())]
    Io {
        /// What was tried, as a verb phrase.
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The server process ended or never answered.
    #[error("{kind} did not start: {reason}; the end of its log:\n{log}")]
    Start {
        /// Which server.
        kind: Kind,
        /// What was seen.
        reason: String,
        /// The last lines of the server's own log.
        log: String,
    },
    /// The server did not come as far as it should.
    #[error("{kind} has not reached {what} in {seconds} s; the end of its log:\n{log}")]
    Behind {
        /// Which server.
        kind: Kind,
        /// Where it should be.
        what: String,
        /// How long that was waited for.
        seconds: u64,
        /// The last lines of the server's own log.
        log: String,
    },
    /// The server refused a connection or a statement.
    #[error("{kind} refused `{statement}`; the end of its log:\n{log}")]
    Query {
        /// Which server.
        kind: Kind,
        /// The statement, shortened.
        statement: String,
        /// The last lines of the server's own log.
        log: String,
        /// The cause.
        source: mysql_async::Error,
    },
}

impl ServerError {
    pub(crate) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }
}
