//! The source's side of a clone: reads tables as they are now, chunk by chunk, beside the log.
//!
//! ```text
//! low ── read the chunk, one consistent read ── high        transactions up to `low` are in the rows,
//!  └──────────── the log is replayed from here ──────▶      none after `high` is
//! ```
//!
//! Where chunks begin and end is computed by the database, in its own collation. What a clone reads when, and where its rows
//! go, is the caller's business; so is the policy, which judges the rows that are given: conditions in a read only spare the
//! source rows that would be declined.

use std::future::Future;
use std::sync::Arc;

use arrow_array::RecordBatch;
use tidemill_event::{Scn, TableName, TableSchema};

use crate::FetchError;

/// Reads tables of one source. Cheap to clone; any number of sessions at a time.
pub trait Extract: Clone + Send + Sync + 'static {
    /// A connection of it.
    type Session: ExtractSession;

    /// The tables that this user may read, the source's own excepted, by name.
    fn tables(&self) -> impl Future<Output = Result<Vec<TableName>, FetchError>> + Send;

    /// What a table is now; `None`: there is none of that name. Its schema is, to the id, that of its rows in the stream.
    /// A table that cannot be copied (a view, an engine without transactions) is an error that says why.
    fn describe(
        &self,
        table: &TableName,
    ) -> impl Future<Output = Result<Option<SourceTable>, FetchError>> + Send;

    /// What the source is under now.
    fn load(&self) -> impl Future<Output = Result<Load, FetchError>> + Send;

    /// A connection more.
    fn open(&self) -> impl Future<Output = Result<Self::Session, FetchError>> + Send;
}

/// One connection. After an error it is dropped.
pub trait ExtractSession: Send {
    /// Where the chunk ends that begins after `after` (`None`: at the beginning of the table) and has about `rows` rows, by
    /// the key's order at the source; `None`: the rest has no more than that.
    fn bound(
        &mut self,
        table: &SourceTable,
        after: Option<&Bound>,
        rows: u64,
    ) -> impl Future<Output = Result<Option<Bound>, FetchError>> + Send;

    /// Reads one chunk in one consistent read and gives its rows in batches, in no order that anybody may rely on. What `give`
    /// answers with `false` ends the read with an error. Rows that were given count only if the read succeeds.
    /// [`FetchError::Redefined`]: the table is not the one that was described.
    ///
    /// A table without key is one chunk whose rows cannot be put in the place of those that changed meanwhile. Its read is
    /// exact if no transaction that is not in `low` and ends up to `high` has changes of that table, which the caller sees in
    /// the log; where one has, the table is read again. Exact means: its rows are the table as of `high`.
    fn read(
        &mut self,
        chunk: &ChunkRead<'_>,
        give: &mut (dyn FnMut(RecordBatch) -> bool + Send),
    ) -> impl Future<Output = Result<ChunkMarks, FetchError>> + Send;

    /// As `read`, with the rows in the key's order at the source, for comparing tables. Whether a row lies after a bound is
    /// known to the source alone.
    fn read_sorted(
        &mut self,
        chunk: &ChunkRead<'_>,
        give: &mut (dyn FnMut(RecordBatch) -> bool + Send),
    ) -> impl Future<Output = Result<ChunkMarks, FetchError>> + Send;
}

/// A table of a source, as it is now.
#[derive(Clone, Debug)]
pub struct SourceTable {
    /// Its schema, the one of the stream.
    pub schema: Arc<TableSchema>,
    /// What identifies its rows.
    pub key: SourceKey,
    /// How the source calls the index of that key; `None`: there is no key.
    pub index: Option<String>,
    /// About how many rows it has, by the source's statistics.
    pub rows_estimate: u64,
    /// About how many bytes they have there.
    pub bytes_estimate: u64,
}

/// What identifies the rows of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceKey {
    /// The primary key; ordinals in key order.
    Primary(Vec<u32>),
    /// A unique key without NULL; ordinals in key order.
    Unique(Vec<u32>),
    /// Nothing: the table is one chunk, read in one transaction.
    Nothing,
}

/// A place between two rows, in the source's own form: one literal a key column. It means something to the source that gave
/// it, and to a replica of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bound(pub Vec<String>);

/// What is read.
#[derive(Clone, Debug)]
pub struct ChunkRead<'a> {
    /// Of which table.
    pub table: &'a SourceTable,
    /// Which columns, by ordinal, rising: the batches have these alone.
    pub columns: &'a [u32],
    /// Rows that do not fulfil all of them need not be given. What the source would judge otherwise than we do is ignored.
    pub conditions: &'a [Condition],
    /// Rows after this one …
    pub after: Option<&'a Bound>,
    /// … up to and with this one.
    pub upto: Option<&'a Bound>,
}

/// A condition on one column; its meaning is that of `condition` in `wit/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The column's ordinal.
    pub column: u32,
    /// How it is compared.
    pub comparison: Comparison,
    /// With what, as text in the form of the column's logical type.
    pub literals: Vec<String>,
}

/// How a condition compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// Equal.
    Eq,
    /// Not equal, and not NULL.
    Ne,
    /// Less.
    Lt,
    /// Less or equal.
    Le,
    /// Greater.
    Gt,
    /// Greater or equal.
    Ge,
    /// Equal to one of several.
    OneOf,
    /// NULL.
    IsNull,
    /// Not NULL.
    IsNotNull,
}

/// Between which places of the log a chunk was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkMarks {
    /// Every transaction up to here is in its rows.
    pub low: LowMark,
    /// No transaction after here is; of the timeline of `server`.
    pub high: Scn,
    /// Who was read: the identity that timelines are known by.
    pub server: Arc<str>,
    /// The same for whoever follows the log of another server of that history, as with a copy from a replica. `None`: the
    /// server does not tell.
    pub shared: Option<SharedMarks>,
}

/// Marks that mean the same on every server of a history: sets of transactions, in the source's own text form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedMarks {
    /// All of these are in the rows.
    pub low: String,
    /// No others are.
    pub high: String,
}

/// A low mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LowMark {
    /// These transactions were visible before the read began, in the source's own text form. The end of the log is no low
    /// mark there: a transaction stands in the log before its rows can be seen.
    Executed(String),
    /// The transactions up to here were visible; some behind it may have been.
    At(Scn),
}

/// What a source is under.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Statements that run right now, ours included.
    pub threads_running: u64,
    /// How far the source is behind its own source, by the slowest of its channels; `None`: it is no replica, or does not
    /// tell this user.
    pub replica_lag: Option<ReplicaLag>,
}

/// How far a replica is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReplicaLag {
    /// So many seconds.
    Seconds(u64),
    /// It does not apply what its source sends, or does not receive it: how far it is behind is not known, and grows.
    Stopped,
}
