//! Who may see and do what: a closed list, and whoever is not on it is refused. How a request proves who it is, is the
//! server's part; which rows a policy hides from everybody was decided before they were stored.

use std::fmt;

use sha2::{Digest, Sha256};
use tidemill_event::TableName;

use crate::asked::TablePattern;

/// One line of the list.
#[derive(Clone, Debug)]
pub struct Grant {
    /// Its name, for logs and metrics. No two grants share one.
    pub name: String,
    /// What proves that a request comes from whom it was given to.
    pub credential: Credential,
    /// The sources that may be read, by name; `*` is every source.
    pub sources: Vec<String>,
    /// The tables of these sources that may be read. Empty: all of them.
    pub tables: Vec<TablePattern>,
    /// Whether sources and subscriptions may be paused and resumed, and the process stopped.
    pub admin: bool,
    /// Whether the metrics and the details of the health may be read. Whoever may administer may do that too.
    pub metrics: bool,
}

/// What proves who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A bearer token.
    Token(TokenDigest),
    /// A client certificate that the relay's authority signed, by its subject's common name or one of its alternative
    /// names (DNS name, e-mail address, URI), compared exactly.
    Certificate(String),
}

impl Credential {
    /// The credential of a token. Only its digest is kept.
    pub fn token(token: &str) -> Credential {
        Credential::Token(TokenDigest::of(token))
    }
}

/// A token's SHA-256: enough to recognise it, useless to whoever finds it in a core file.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// The digest of a token.
    pub fn of(token: &str) -> TokenDigest {
        TokenDigest(Sha256::digest(token.as_bytes()).into())
    }

    /// Whether two tokens are one. Takes as long for any two.
    pub(crate) fn is(&self, other: &TokenDigest) -> bool {
        let difference = self.0.iter().zip(&other.0).fold(0, |all, (a, b)| all | (a ^ b));
        std::hint::black_box(difference) == 0
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest(…)")
    }
}

impl Grant {
    /// Whether that source may be read.
    pub(crate) fn reads(&self, source: &str) -> bool {
        self.sources.iter().any(|granted| granted == "*" || granted == source)
    }

    /// Whether that table of a granted source may be read.
    pub(crate) fn shows(&self, table: &TableName) -> bool {
        self.tables.is_empty() || self.tables.iter().any(|granted| granted.matches(table))
    }
}
