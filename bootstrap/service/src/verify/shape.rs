//! What a source's rows are where they are compared: as the source's policy lets them be stored, and as a subscription's
//! filters and projections let them be delivered. The guests are those of the stream, asked about the same row images.

use std::sync::{Arc, Mutex};

use arrow_array::RecordBatch;
use tidemill_bootstrap_clone::{Policy, TableReads, inserts};
use tidemill_event::{TableSchema, Window};
use tidemill_sandbox::{FilterStage, GuestError, ProjectionStage};

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Shape {
    policy: Policy,
    stages: Arc<Mutex<Stages>>,
    source: Arc<str>,
}

/// A subscription's guests, in the order of its configuration.
#[derive(Default)]
pub struct Stages {
    /// Which rows go on.
    pub filters: Vec<FilterStage>,
    /// What they look like.
    pub projections: Vec<ProjectionStage>,
}

/// One table as it is compared.
pub(super) struct Shown {
    /// What is read of it.
    pub(super) reads: TableReads,
    /// What its rows are in the end.
    pub(super) schema: Arc<TableSchema>,
}

impl Shape {
    /// Rows as they are stored.
    pub fn stored(source: &str, policy: Policy) -> Shape {
        Shape::delivered(source, policy, Stages::default())
    }

    /// Rows as a subscription delivers them.
    pub fn delivered(source: &str, policy: Policy, stages: Stages) -> Shape {
        Shape { policy, stages: Arc::new(Mutex::new(stages)), source: source.into() }
    }

    /// What is compared of a table; `None`: the policy declines it.
    pub(super) fn shows(&self, schema: &Arc<TableSchema>) -> Result<Option<Shown>, GuestError> {
        let Some(reads) = self.policy.reads(schema)? else { return Ok(None) };
        let mut stages = self.stages.lock().expect("no holder panics");
        let mut schema = Arc::clone(&reads.schema);
        for projection in &mut stages.projections {
            schema = projection.shows(&schema)?;
        }
        Ok(Some(Shown { reads, schema }))
    }

    /// Rows that were read of a table, as they are compared.
    pub(super) fn of_read(
        &self,
        schema: &Arc<TableSchema>,
        shown: &Shown,
        rows: RecordBatch,
    ) -> Result<RecordBatch, GuestError> {
        let stored = self.policy.judge(schema, &shown.reads, rows)?;
        let nothing = || RecordBatch::new_empty(Arc::clone(shown.schema.arrow()));
        if stored.num_rows() == 0 {
            return Ok(nothing());
        }
        let window = self.of_stored(inserts(&self.source, &shown.reads.schema, stored))?;
        let left = window.tables.into_iter().next().map(|changes| changes.rows);
        Ok(left.unwrap_or_else(nothing))
    }

    /// Changes as they are stored, as they are compared.
    pub(super) fn of_stored(&self, mut window: Window) -> Result<Window, GuestError> {
        let mut stages = self.stages.lock().expect("no holder panics");
        for filter in &mut stages.filters {
            window = filter.apply(window)?;
        }
        for projection in &mut stages.projections {
            window = projection.apply(window)?;
        }
        Ok(window)
    }
}
