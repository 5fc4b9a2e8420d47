//! Errors as subscribers see them: a closed set of codes, each with a status, a text that says how to mend it, and
//! machine-readable facts (`application/problem+json`, RFC 9457).

use http::StatusCode;
use serde_json::{Map, Value};

/// What is wrong. The text form is part of the interface: keep it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// No or wrong credentials.
    Unauthenticated,
    /// Known, but not allowed to see or do this.
    NotGranted,
    /// No such source.
    UnknownSource,
    /// No such table in the source.
    UnknownTable,
    /// No such column in the table.
    UnknownColumn,
    /// No such registered guest.
    UnknownGuest,
    /// No such path.
    UnknownPath,
    /// A parameter that does not exist, or a value that cannot be read.
    BadParameter,
    /// The checkpoint is damaged, or of another source.
    BadCheckpoint,
    /// What was asked for is gone: facts `earliest`, `latest`.
    TooOld,
    /// The relay's history and the checkpoint's part ways.
    Diverged,
    /// A guest of the selection failed; the subscription stands where it was.
    GuestFailed,
    /// The log could not be read.
    Storage,
    /// More at once than the relay allows.
    TooMany,
    /// The request is larger than the relay takes.
    TooLarge,
    /// The relay is going down; ask another, or later.
    ShuttingDown,
}

impl Code {
    /// The text form.
    pub fn text(self) -> &'static str {
        match self {
            Code::Unauthenticated => "unauthenticated",
            Code::NotGranted => "not-granted",
            Code::UnknownSource => "unknown-source",
            Code::UnknownTable => "unknown-table",
            Code::UnknownColumn => "unknown-column",
            Code::UnknownGuest => "unknown-guest",
            Code::UnknownPath => "unknown-path",
            Code::BadParameter => "bad-parameter",
            Code::BadCheckpoint => "bad-checkpoint",
            Code::TooOld => "too-old",
            Code::Diverged => "diverged",
            Code::GuestFailed => "guest-failed",
            Code::Storage => "storage",
            Code::TooMany => "too-many",
            Code::TooLarge => "too-large",
            Code::ShuttingDown => "shutting-down",
        }
    }

    /// The HTTP status.
    pub fn status(self) -> StatusCode {
        match self {
            Code::Unauthenticated => StatusCode::UNAUTHORIZED,
            Code::NotGranted => StatusCode::FORBIDDEN,
            Code::UnknownSource | Code::UnknownTable | Code::UnknownPath => StatusCode::NOT_FOUND,
            Code::UnknownColumn | Code::UnknownGuest | Code::BadParameter | Code::BadCheckpoint => {
                StatusCode::BAD_REQUEST
            }
            Code::TooOld => StatusCode::GONE,
            Code::Diverged => StatusCode::CONFLICT,
            Code::GuestFailed | Code::Storage => StatusCode::INTERNAL_SERVER_ERROR,
            Code::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Code::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// One error.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}: {detail}", .code.text())]
pub struct Problem {
    /// What is wrong.
    pub code: Code,
    /// What, where, and how to mend it; never a row value or a secret.
    pub detail: String,
    /// Facts for programs, beside `type`, `status`, `code` and `detail`.
    pub facts: Map<String, Value>,
}

impl Problem {
    /// A problem without facts.
    pub fn new(code: Code, detail: impl Into<String>) -> Problem {
        Problem { code, detail: detail.into(), facts: Map::new() }
    }

    /// With one more fact.
    pub fn with(mut self, fact: &str, value: impl Into<Value>) -> Problem {
        self.facts.insert(fact.to_owned(), value.into());
        self
    }
}
