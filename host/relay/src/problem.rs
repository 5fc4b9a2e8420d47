//! Errors as subscribers see them: a closed set of codes, each with a status, a text that says how to mend it, and
//! machine-readable facts (`application/problem+json`, RFC 9457).

use http::StatusCode;
use serde_json::{Map, Value, json};
use tidemill_event::Remedy;
use tidemill_sandbox::PredicateError;

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
    /// No schema of that id.
    UnknownSchema,
    /// No such subscription in this process.
    UnknownSubscription,
    /// No such registered guest.
    UnknownGuest,
    /// No such path.
    UnknownPath,
    /// The path is there, but not for this method.
    UnknownMethod,
    /// A parameter that does not exist, or a value that cannot be read.
    BadParameter,
    /// The checkpoint is damaged, or of another source.
    BadCheckpoint,
    /// The request is for another host than the one that listens here.
    BadHost,
    /// What was asked for is gone: facts `earliest`, `latest`.
    TooOld,
    /// The relay's history and the checkpoint's part ways.
    Diverged,
    /// The source has nothing yet, so a checkpoint has no place in it; ask again later.
    NothingYet,
    /// A guest of the selection failed; the subscription stands where it was.
    GuestFailed,
    /// The log could not be read.
    Storage,
    /// More at once than the relay allows.
    TooMany,
    /// The request is larger than the relay takes.
    TooLarge,
    /// The request, or its answer, took longer than the relay waits.
    TooSlow,
    /// It cannot be done to this source or subscription now.
    Refused,
    /// The relay is going down; ask another, or later.
    ShuttingDown,
}

impl Code {
    /// All of them.
    pub const ALL: [Code; 23] = [
        Code::Unauthenticated,
        Code::NotGranted,
        Code::UnknownSource,
        Code::UnknownTable,
        Code::UnknownColumn,
        Code::UnknownSchema,
        Code::UnknownSubscription,
        Code::UnknownGuest,
        Code::UnknownPath,
        Code::UnknownMethod,
        Code::BadParameter,
        Code::BadCheckpoint,
        Code::BadHost,
        Code::TooOld,
        Code::Diverged,
        Code::NothingYet,
        Code::GuestFailed,
        Code::Storage,
        Code::TooMany,
        Code::TooLarge,
        Code::TooSlow,
        Code::Refused,
        Code::ShuttingDown,
    ];

    /// The text form.
    pub fn text(self) -> &'static str {
        self.facts().0
    }

    /// The HTTP status.
    pub fn status(self) -> StatusCode {
        self.facts().1
    }

    /// What is wrong, in words that are the same for every problem of the code.
    pub fn title(self) -> &'static str {
        self.facts().2
    }

    fn facts(self) -> (&'static str, StatusCode, &'static str) {
        use StatusCode as S;
        match self {
            Code::Unauthenticated => ("unauthenticated", S::UNAUTHORIZED, "no or wrong credentials"),
            Code::NotGranted => ("not-granted", S::FORBIDDEN, "not granted to whoever asks"),
            Code::UnknownSource => ("unknown-source", S::NOT_FOUND, "no such source"),
            Code::UnknownTable => ("unknown-table", S::NOT_FOUND, "no such table in the source"),
            Code::UnknownColumn => ("unknown-column", S::BAD_REQUEST, "no such column in the table"),
            Code::UnknownSchema => ("unknown-schema", S::NOT_FOUND, "no schema of that id"),
            Code::UnknownSubscription => {
                ("unknown-subscription", S::NOT_FOUND, "no such subscription in this process")
            }
            Code::UnknownGuest => ("unknown-guest", S::BAD_REQUEST, "no such registered guest"),
            Code::UnknownPath => ("unknown-path", S::NOT_FOUND, "no such path"),
            Code::UnknownMethod => ("unknown-method", S::METHOD_NOT_ALLOWED, "not a method of this path"),
            Code::BadParameter => ("bad-parameter", S::BAD_REQUEST, "a parameter that cannot be understood"),
            Code::BadCheckpoint => {
                ("bad-checkpoint", S::BAD_REQUEST, "a checkpoint that cannot be used here")
            }
            Code::BadHost => ("bad-host", S::MISDIRECTED_REQUEST, "meant for another host"),
            Code::TooOld => ("too-old", S::GONE, "no longer kept"),
            Code::Diverged => ("diverged", S::CONFLICT, "the checkpoint's history is not this relay's"),
            Code::NothingYet => ("nothing-yet", S::SERVICE_UNAVAILABLE, "the source has nothing yet"),
            Code::GuestFailed => {
                ("guest-failed", S::INTERNAL_SERVER_ERROR, "a guest of the selection failed")
            }
            Code::Storage => ("storage", S::INTERNAL_SERVER_ERROR, "the log could not be read"),
            Code::TooMany => ("too-many", S::TOO_MANY_REQUESTS, "more at once than is allowed"),
            Code::TooLarge => ("too-large", S::PAYLOAD_TOO_LARGE, "larger than is taken"),
            Code::TooSlow => ("too-slow", S::REQUEST_TIMEOUT, "took longer than is waited"),
            Code::Refused => ("refused", S::CONFLICT, "cannot be done now"),
            Code::ShuttingDown => ("shutting-down", S::SERVICE_UNAVAILABLE, "the relay is going down"),
        }
    }

    /// What whoever asked should do: the same request again, now or elsewhere, or mend something first.
    pub fn remedy(self) -> Remedy {
        match self {
            Code::Storage | Code::TooMany | Code::TooSlow | Code::ShuttingDown => Remedy::Retry,
            Code::Refused | Code::NothingYet => Remedy::Wait,
            _ => Remedy::Fix,
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
    /// Facts for programs, beside `type`, `title`, `status`, `code` and `detail`.
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

    /// What now.
    pub fn remedy(&self) -> Remedy {
        self.code.remedy()
    }

    /// As the body of an answer.
    pub fn json(&self) -> Value {
        let mut all = self.facts.clone();
        all.insert("type".to_owned(), json!(format!("urn:tidemill:{}", self.code.text())));
        all.insert("title".to_owned(), json!(self.code.title()));
        all.insert("status".to_owned(), json!(self.code.status().as_u16()));
        all.insert("code".to_owned(), json!(self.code.text()));
        all.insert("detail".to_owned(), json!(self.detail));
        Value::Object(all)
    }
}

/// A predicate that does not fit: its text says where and how to mend it.
impl From<PredicateError> for Problem {
    fn from(error: PredicateError) -> Problem {
        let code = match error {
            PredicateError::UnknownColumn { .. } => Code::UnknownColumn,
            PredicateError::Literal(_) | PredicateError::NotLogged { .. } => Code::BadParameter,
        };
        Problem::new(code, error.to_string()).with("parameter", "where")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_has_a_text_of_its_own_and_the_status_of_an_error() {
        let texts: BTreeSet<&str> = Code::ALL.iter().map(|code| code.text()).collect();
        assert_eq!(texts.len(), Code::ALL.len());
        let is_error = |code: &Code| code.status().is_client_error() || code.status().is_server_error();
        assert!(Code::ALL.iter().all(is_error));
    }

    #[test]
    fn a_fact_never_hides_what_every_problem_says() {
        let problem = Problem::new(Code::TooOld, "gone").with("status", 200).with("earliest", "1/5");
        let json = problem.json();
        assert_eq!((&json["status"], &json["earliest"]), (&json!(410), &json!("1/5")));
        assert_eq!((&json["code"], &json["type"]), (&json!("too-old"), &json!("urn:tidemill:too-old")));
    }
}
