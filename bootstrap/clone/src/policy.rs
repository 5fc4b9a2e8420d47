//! The stream's own policy, asked about the rows of a copy: what it declines, masks or drops there is nowhere here.

use std::sync::{Arc, Mutex};

use arrow_array::RecordBatch;
use tidemill_event::TableSchema;
use tidemill_fetchers_api::extract::Condition;
use tidemill_sandbox::{GuestError, PolicyStage};

/// The policy of a source, or none. Cheap to clone.
#[derive(Clone, Default)]
pub struct Policy(Option<Arc<Mutex<PolicyStage>>>);

/// What is read of a table, and as what it is stored.
#[derive(Clone, Debug)]
pub struct TableReads {
    /// The columns that must be read, by ordinal, rising.
    pub columns: Vec<u32>,
    /// Rows that do not fulfil all of them are declined.
    pub conditions: Vec<Condition>,
    /// The schema of what is stored.
    pub schema: Arc<TableSchema>,
}

impl Policy {
    /// Everything is stored as it is.
    pub fn none() -> Policy {
        Policy(None)
    }

    /// That of the source's stream.
    pub fn shared(stage: Arc<Mutex<PolicyStage>>) -> Policy {
        Policy(Some(stage))
    }

    /// What it is, in hexadecimal digits; empty: none.
    pub fn fingerprint(&self) -> String {
        todo!()
    }

    /// What is read of a table; `None`: nothing of it is stored.
    pub fn reads(&self, _schema: &Arc<TableSchema>) -> Result<Option<TableReads>, GuestError> {
        todo!()
    }

    /// The rows as they may be stored; `rows` has `reads.columns` of `schema` alone.
    pub fn judge(
        &self,
        _schema: &Arc<TableSchema>,
        _reads: &TableReads,
        _rows: RecordBatch,
    ) -> Result<RecordBatch, GuestError> {
        todo!()
    }
}
