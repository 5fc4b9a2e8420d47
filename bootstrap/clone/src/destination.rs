//! Where the rows of a copy go. Two implementations: snapshot storage, and a consumer that is fed directly.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;

use arrow_array::RecordBatch;
use tidemill_event::{Position, TableName, TableSchema};
use tidemill_fetchers_api::extract::SourceKey;

use crate::{DestinationError, Plan};

/// Takes the chunks of tables. Called from many tasks at a time: chunks of one table come in any order unless
/// [`Destination::in_order`] says otherwise. After a crash, what it has not taken for good comes again.
pub trait Destination: Send + Sync + 'static {
    /// Whether tables come one after another by name, and their chunks from the first: a chunk is then taken when those
    /// before it are, and a table that cannot be copied ends the copy.
    fn in_order(&self) -> bool {
        false
    }

    /// Whether it has that table, or is to have it. Where it has not and the source neither, nobody waits for it.
    fn waits_for(&self, table: &TableName) -> bool {
        let _ = table;
        true
    }

    /// How far the copy of that table is; `None`: it is not begun, or must begin anew. Where the schema at the source or the
    /// policy is another one than the table has now, the caller begins it anew.
    fn resume(
        &self,
        table: &TableCopy,
    ) -> impl Future<Output = Result<Option<Resumed>, DestinationError>> + Send;

    /// Begins a table, instead of every copy of it that is not complete; what is given is stored before the first chunk is
    /// read.
    fn begin(&self, table: &TableCopy) -> impl Future<Output = Result<Plan, DestinationError>> + Send;

    /// Takes a chunk. It is taken for good when this is done, or at the latest when [`Destination::finish`] is. `plan` has at
    /// least the bounds of the chunk.
    fn chunk(
        &self,
        plan: &Plan,
        chunk: ChunkRows,
    ) -> impl Future<Output = Result<(), DestinationError>> + Send;

    /// Every chunk of the plan was given. Those that it does not have, because their owner removed them, come again; with
    /// none the copy is complete.
    fn finish(
        &self,
        id: &CopyId,
        plan: &Plan,
    ) -> impl Future<Output = Result<BTreeSet<u32>, DestinationError>> + Send;
}

/// Names one copy of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyId {
    /// The table.
    pub table: TableName,
    /// [`Plan::copy`].
    pub copy: String,
}

/// How far a copy is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resumed {
    /// Nothing is left to do.
    Complete {
        /// The [`crate::Stamp`] of the policy that judged it.
        policy: String,
    },
    /// Some chunks are done.
    Begun {
        /// Its plan.
        plan: Plan,
        /// The chunks that are done.
        done: BTreeSet<u32>,
    },
}

/// A table whose copy begins.
#[derive(Clone, Debug)]
pub struct TableCopy {
    /// The schema at the source.
    pub source: Arc<TableSchema>,
    /// The schema of the rows, as the policy leaves it.
    pub stored: Arc<TableSchema>,
    /// What identifies the rows: ordinals in `stored`.
    pub key: SourceKey,
    /// The [`crate::Stamp`] of the policy.
    pub policy: String,
}

/// The rows of one chunk, judged.
#[derive(Clone, Debug)]
pub struct ChunkRows {
    /// Of which copy.
    pub id: CopyId,
    /// Its number in the plan.
    pub number: u32,
    /// Its rows, in the stream's Arrow types.
    pub batches: Vec<RecordBatch>,
    /// They contain every transaction up to here …
    pub low: Position,
    /// … and none after here.
    pub high: Position,
}
