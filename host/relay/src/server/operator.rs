//! What the process around the relay shows and lets be done over HTTP. The relay asks; it runs none of it.

use std::collections::BTreeMap;
use std::fmt;

use futures_util::future::BoxFuture;
use serde::Deserialize;
use tidemill_event::Position;
use tokio::sync::mpsc;

/// The process, as its operators see it. Every call is cheap but [`Operator::set_paused`], and none waits for a source.
pub trait Operator: Send + Sync {
    /// The sources, in the order of the configuration.
    fn sources(&self) -> Vec<SourceStatus>;

    /// The subscriptions that this process runs itself, in the order of the configuration. Remote subscribers are known
    /// to the relay.
    fn subscriptions(&self) -> Vec<SubscriptionStatus>;

    /// Pauses or resumes one of them; idempotent. Resuming one that an error stopped tries again. Returns when it is
    /// decided, before the part stands still; the status says when it does.
    fn set_paused(
        &self,
        part: OperatedPart,
        name: &str,
        paused: bool,
    ) -> BoxFuture<'static, Result<(), OperateError>>;

    /// Compares what a subscription of this process has written with its source: a JSON object a table, each when it was
    /// compared. It begins at once, runs beside everything else, and ends when nobody takes its answers.
    fn compare(
        &self,
        subscription: &str,
        _: ComparisonAsked,
    ) -> Result<mpsc::Receiver<String>, OperateError> {
        Err(OperateError::NotFound { part: OperatedPart::Subscription, name: subscription.to_owned() })
    }

    /// Begins the orderly end of the process, and returns at once. The relay goes on until its own `stop` says so.
    fn shutdown(&self);

    /// Whether each part makes progress: for `/healthz`. A part that an operator paused is healthy and says so in `why`.
    fn health(&self) -> Vec<Health>;

    /// Whether each part has once been able to do its work: for `/readyz`.
    fn ready(&self) -> Vec<Health>;

    /// Everything that is measured, as OpenMetrics text with its `# EOF`. The relay's own numbers are in it where its
    /// [`ServingMetrics`](super::ServingMetrics) were registered.
    fn metrics(&self) -> String;
}

/// What can be paused and resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperatedPart {
    /// A source: it is not read on.
    Source,
    /// A subscription of this process: nothing is delivered.
    Subscription,
    /// The copying of a source's tables into its snapshot storage: nothing new is read. What was copied is brought up to
    /// date all the same.
    Clone,
}

impl fmt::Display for OperatedPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OperatedPart::Source => "source",
            OperatedPart::Subscription => "subscription",
            OperatedPart::Clone => "clone",
        })
    }
}

/// Which tables are compared, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ComparisonAsked {
    /// These, as `database.table`; empty: all that the subscription writes.
    pub tables: Vec<String>,
    /// Output tables by the table of the source that each is a copy of, where the names do not say it.
    pub map: BTreeMap<String, String>,
    /// How long the subscription may take to reach what the source was read at.
    pub patience_seconds: Option<u64>,
}

/// Why something was not paused, resumed or compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperateError {
    /// There is none of that name.
    #[error("no {part} is named \"{name}\"")]
    NotFound {
        /// What was looked for.
        part: OperatedPart,
        /// Its name.
        name: String,
    },
    /// It is there, and it cannot be done now.
    #[error("{0}")]
    Refused(String),
}

/// What a source or subscription is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// It works, or waits for work.
    Running,
    /// An operator paused it.
    Paused,
    /// An error stopped it until somebody mends the cause and resumes it.
    Failed,
    /// It has come to its end.
    Ended,
}

impl Activity {
    /// The text form in answers.
    pub fn text(self) -> &'static str {
        match self {
            Activity::Running => "running",
            Activity::Paused => "paused",
            Activity::Failed => "failed",
            Activity::Ended => "ended",
        }
    }
}

/// One source.
#[derive(Clone, Debug)]
pub struct SourceStatus {
    /// Its name.
    pub name: String,
    /// What it is doing.
    pub activity: Activity,
    /// Why, where it is not obvious: the error and its causes.
    pub why: Option<String>,
    /// How far it was read and stored.
    pub position: Option<Position>,
    /// How much later than its commit the newest transaction was stored, in microseconds.
    pub lag_us: Option<i64>,
}

/// One subscription of this process.
#[derive(Clone, Debug)]
pub struct SubscriptionStatus {
    /// Its name.
    pub name: String,
    /// The source that it reads.
    pub source: String,
    /// What it is doing.
    pub activity: Activity,
    /// Why, where it is not obvious: the error and its causes.
    pub why: Option<String>,
    /// Its checkpoint's position.
    pub position: Option<Position>,
    /// How much later than its commit the newest transaction was delivered, in microseconds.
    pub lag_us: Option<i64>,
}

/// How one part is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The part: `source shop`.
    pub name: String,
    /// Whether it is well.
    pub healthy: bool,
    /// Why not, or what is to know.
    pub why: Option<String>,
}
