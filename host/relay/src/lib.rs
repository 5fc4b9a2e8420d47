//! The relay's serving side: logs over HTTP to any number of subscribers, of whom it keeps nothing. It reads logs and
//! never writes one; who fetches and appends is elsewhere.
//!
//! ```text
//! request ─▶ who is it, what may it see ─▶ Asked ─▶ log reader ─▶ view (shared) ─▶ format (shared) ─▶ body
//!             grant                                              tables, rows,       frames, arrow,
//!                                                                guests, columns     json, events
//! ```

mod answer;
mod asked;
mod format;
mod grant;
mod nobody;
mod predicate;
mod problem;
mod served;
mod server;
mod snapshots;
mod view;

pub use answer::{
    Answer, AnswerConfig, Answers, AnswersStats, CHECKPOINT_TRAILER, Encoding, Meter, Metered, SnapshotWanted,
};
pub use asked::{Asked, Begin, Format, Part, Selection, TablePattern};
pub use grant::{Credential, Grant, TokenDigest};
pub use nobody::Nobody;
pub use predicate::parse_predicate;
pub use problem::{Code, Problem};
pub use served::{Guests, Served};
pub use server::{
    Activity, ComparisonAsked, Health, Limits, OperateError, OperatedPart, Operator, Relay, RelayConfig,
    RelayError, RelayParts, ServingMetrics, SourceStatus, SubscriptionStatus, TlsConfig,
};
pub use snapshots::{
    SnapshotAsked, SnapshotPath, SnapshotPiece, SnapshotReading, Snapshots, SnapshotsServed,
};
