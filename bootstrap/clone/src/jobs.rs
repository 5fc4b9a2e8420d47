//! The work of a clone, one job at a time: a table is begun, bounded, read and finished. Each runs beside the loop that starts
//! it, tries again what may succeed, and can be dropped at any moment: what the destination took stays, the rest comes again.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use tidemill_event::{TableName, TableSchema, chain};
use tidemill_fetchers_api::FetchError;
use tidemill_fetchers_api::extract::{
    Bound, ChunkMarks, ChunkRead, Extract, ExtractSession, Load, SourceKey, SourceTable,
};
use tidemill_sandbox::GuestError;
use tokio::sync::watch;

use crate::budget::Budget;
use crate::sessions::{Lease, Sessions};
use crate::table::Work;
use crate::trouble::{Patience, Trouble};
use crate::{
    ChunkRows, CloneControl, CloneOptions, CopyId, Destination, Marks, Plan, Policy, Resumed, Stamp,
    TableCopy, TableReads,
};

/// How long what was read waits for its place in the log before somebody is told.
const PLACE_TIME: Duration = Duration::from_secs(30);

/// What is said of a table that the source does not show.
const NO_TABLE: &str =
    "the source shows no such table: grant the user SELECT on it, or let the source's policy leave it out";

/// What every job needs.
pub(crate) struct Site<E: Extract, D, M> {
    pub(crate) sessions: Sessions<E>,
    pub(crate) budget: Budget,
    pub(crate) policy: Policy,
    pub(crate) destination: D,
    pub(crate) marks: M,
    pub(crate) options: CloneOptions,
    pub(crate) control: CloneControl,
    /// Whether something new may be read.
    pub(crate) open: watch::Receiver<bool>,
}

/// What a table is, before its first chunk.
pub(crate) enum Begun {
    /// The policy takes nothing of it.
    Declined,
    /// The source has no such table, and nobody waits for it.
    Gone,
    /// Nothing is left to do.
    Complete,
    /// Its chunks are to be read, but for those that are done.
    Chunks(Box<Chunks>),
}

/// The chunks of a table.
pub(crate) struct Chunks {
    pub(crate) work: Work,
    pub(crate) plan: Plan,
    pub(crate) done: BTreeSet<u32>,
}

/// What a chunk was.
pub(crate) struct Counted {
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
}

impl<E: Extract, D: Destination, M: Marks> Site<E, D, M> {
    fn patience<'a>(&'a self, table: &'a TableName) -> Patience<'a> {
        Patience::new(&self.control, table, self.options.retry_after)
    }

    /// Finds out what the table is and how far its copy is. `anew`: it begins again, whatever was done.
    pub(crate) async fn begin(&self, table: &TableName, anew: bool) -> Result<Begun, Trouble> {
        let mut patience = self.patience(table);
        loop {
            match self.try_begin(table, anew).await {
                Ok(begun) => return Ok(begun),
                Err(trouble) => patience.after(trouble).await?,
            }
        }
    }

    async fn try_begin(&self, table: &TableName, anew: bool) -> Result<Begun, Trouble> {
        let Some(mut source) = self.described(table).await? else {
            return match self.destination.waits_for(table) {
                true => Err(Trouble::Table(NO_TABLE.to_owned())),
                false => Ok(Begun::Gone),
            };
        };
        let reads = self.policy.reads(&source.schema).map_err(|error| Trouble::of_policy(table, error))?;
        let stamp = self.policy.stamp(&source.schema).map_err(|error| Trouble::of_policy(table, error))?;
        let (Some(reads), Some(policy)) = (reads, stamp) else { return Ok(Begun::Declined) };
        let key = stored_key(&source, &reads);
        if key == SourceKey::Nothing {
            (source.key, source.index) = (SourceKey::Nothing, None);
        }
        let (schema, stored) = (Arc::clone(&source.schema), Arc::clone(&reads.schema));
        let copy = TableCopy { source: schema, stored, key, policy: policy.clone() };
        let is_same = |before: &str| Stamp::of(before).stores_as(Stamp::of(&policy));
        let resumed = if anew { None } else { self.destination.resume(&copy).await? };
        let (plan, done) = match resumed {
            Some(Resumed::Complete { policy: before }) if is_same(&before) => return Ok(Begun::Complete),
            Some(Resumed::Begun { plan, done })
                if plan.source_schema == source.schema.id().to_string() && is_same(&plan.policy) =>
            {
                (plan, done)
            }
            _ => (self.destination.begin(&copy).await?, BTreeSet::new()),
        };
        let id = CopyId { table: table.clone(), copy: plan.copy.clone() };
        let rows = chunk_rows(&source, &self.options);
        let work = Work { id, table: source, reads, rows };
        Ok(Begun::Chunks(Box::new(Chunks { work, plan, done })))
    }

    async fn described(&self, table: &TableName) -> Result<Option<SourceTable>, Trouble> {
        self.opened().await;
        let (extract, _connection) = self.sessions.extract().await;
        Ok(extract.describe(table).await?)
    }

    /// Where the chunk behind `after` ends; `None`: nowhere.
    pub(crate) async fn bound(&self, work: &Work, after: Option<&Bound>) -> Result<Option<Bound>, Trouble> {
        if work.table.key == SourceKey::Nothing {
            return Ok(None);
        }
        let mut patience = self.patience(&work.id.table);
        loop {
            let mut lease = match self.lease().await {
                Ok(lease) => lease,
                Err(error) => {
                    patience.after(error.into()).await?;
                    continue;
                }
            };
            match lease.session.bound(&work.table, after, work.rows).await {
                Ok(bound) => {
                    self.sessions.give_back(lease);
                    return Ok(bound);
                }
                Err(error) => patience.after(error.into()).await?,
            }
        }
    }

    /// Reads a chunk and gives it to the destination.
    pub(crate) async fn chunk(&self, work: &Work, plan: &Plan, number: u32) -> Result<Counted, Trouble> {
        let mut patience = self.patience(&work.id.table);
        let chunk = loop {
            match self.read(work, plan, number).await {
                Ok(chunk) => break chunk,
                Err(trouble) => patience.after(trouble).await?,
            }
        };
        let rows = chunk.batches.iter().map(|batch| batch.num_rows() as u64).sum();
        let bytes = chunk.batches.iter().map(|batch| batch.get_array_memory_size() as u64).sum();
        let mut patience = self.patience(&work.id.table);
        while let Err(error) = self.destination.chunk(plan, chunk.clone()).await {
            patience.after(error.into()).await?;
        }
        Ok(Counted { rows, bytes })
    }

    async fn read(&self, work: &Work, plan: &Plan, number: u32) -> Result<ChunkRows, Trouble> {
        self.budget.grant(work.rows).await;
        let mut lease = self.lease().await.inspect_err(|_| self.budget.refund(work.rows))?;
        let (after, upto) = plan.range(number);
        let chunk = ChunkRead {
            table: &work.table,
            columns: &work.reads.columns,
            conditions: &work.reads.conditions,
            after: after.as_ref(),
            upto: upto.as_ref(),
        };
        let mut taken = Taken { batches: vec![], rows: 0, failed: None };
        let marks = {
            let mut give = |rows| taken.take(&self.policy, &work.table.schema, &work.reads, rows);
            lease.session.read(&chunk, &mut give).await
        };
        self.control.update(|status| status.rows_read += taken.rows);
        self.budget.refund(work.rows.saturating_sub(taken.rows));
        if let Some(error) = taken.failed {
            return Err(Trouble::of_policy(&work.id.table, error));
        }
        let marks = marks?;
        self.sessions.give_back(lease);
        let (low, high) = self.positions(work, &marks).await?;
        Ok(ChunkRows { id: work.id.clone(), number, batches: taken.batches, low, high })
    }

    async fn positions(&self, work: &Work, marks: &ChunkMarks) -> Result<Stretch, Trouble> {
        let table = &work.id.table;
        let failed = |error| Trouble::of_marks(table, error);
        let no_place = |error| Trouble::of_place(table, error);
        let high = self.watched(work, marks, self.marks.high(marks)).await.map_err(no_place)?;
        let has_key = work.table.key != SourceKey::Nothing;
        if !has_key {
            // Waits until the follower has passed it, so that the low mark is as near as can be.
            self.marks.touched(table, high, high).await.map_err(failed)?;
        }
        let low = self.watched(work, marks, self.marks.low(table, marks)).await.map_err(no_place)?;
        let again = |why: &str| Err(Trouble::Again(why.to_owned()));
        let Some(low) = low else {
            return again("it was read before the log that is replayed over it begins");
        };
        if !has_key && self.marks.touched(table, low, high).await.map_err(failed)? {
            return again(
                "it has no key and was changed while it was read; give it a primary key, or keep it still for a moment",
            );
        }
        Ok((low, high))
    }

    /// Waits for a place in the log, and tells what for where that takes long: nothing else shows that the log is another's.
    async fn watched<T>(&self, work: &Work, marks: &ChunkMarks, place: impl Future<Output = T>) -> T {
        let mut place = std::pin::pin!(place);
        if let Ok(place) = tokio::time::timeout(PLACE_TIME, &mut place).await {
            return place;
        }
        let why = format!(
            "table {}: what was read at server {} waits for the log that is followed, which has not come to it; if that log is \
             of another server, copy from that one or from a replica of it whose user may SELECT mysql.gtid_slave_pos (MariaDB) \
             and to which nobody else writes",
            work.id.table, marks.server
        );
        tracing::warn!(table = %work.id.table, server = %marks.server, "what was copied waits for the log");
        self.control.update(|status| status.last_error = Some(why));
        place.await
    }

    /// Tells the destination that every chunk is there; those that it lacks.
    pub(crate) async fn finish(&self, work: &Work, plan: &Plan) -> Result<BTreeSet<u32>, Trouble> {
        let mut patience = self.patience(&work.id.table);
        loop {
            match self.try_finish(work, plan).await {
                Ok(missing) => return Ok(missing),
                Err(trouble) => patience.after(trouble).await?,
            }
        }
    }

    async fn try_finish(&self, work: &Work, plan: &Plan) -> Result<BTreeSet<u32>, Trouble> {
        // What was defined anew since the last chunk is seen here; what is defined anew from now on, in the log.
        let now = self.described(&work.id.table).await?;
        if now.is_none_or(|now| now.schema.id() != work.table.schema.id()) {
            return Err(Trouble::Redefined);
        }
        Ok(self.destination.finish(&work.id, plan).await?)
    }

    /// What the source is under.
    pub(crate) async fn load(&self) -> Result<Load, FetchError> {
        let (extract, _connection) = self.sessions.extract().await;
        extract.load().await
    }

    /// A connection, once something new may be read.
    async fn lease(&self) -> Result<Lease<E>, FetchError> {
        loop {
            self.opened().await;
            let lease = self.sessions.lease().await?;
            if *self.open.borrow() {
                return Ok(lease);
            }
            self.sessions.give_back(lease);
        }
    }

    async fn opened(&self) {
        let mut open = self.open.clone();
        // Its sender ends with the loop, and with it every job.
        let _ = open.wait_for(|open| *open).await;
    }
}

type Stretch = (tidemill_event::Position, tidemill_event::Position);

/// What was read of a chunk, judged as it came: unjudged rows are kept nowhere.
struct Taken {
    batches: Vec<RecordBatch>,
    rows: u64,
    failed: Option<GuestError>,
}

impl Taken {
    fn take(
        &mut self,
        policy: &Policy,
        schema: &Arc<TableSchema>,
        reads: &TableReads,
        rows: RecordBatch,
    ) -> bool {
        self.rows += rows.num_rows() as u64;
        match policy.judge(schema, reads, rows) {
            Ok(judged) if judged.num_rows() == 0 => true,
            Ok(judged) => {
                self.batches.push(judged);
                true
            }
            Err(error) => {
                self.failed = Some(error);
                false
            }
        }
    }
}

/// What identifies the rows as they are stored: a key whose values the policy does not keep is none.
pub(crate) fn stored_key(source: &SourceTable, reads: &TableReads) -> SourceKey {
    let stored = |ordinal: &u32| {
        let column = &source.schema.columns()[*ordinal as usize];
        let stored = reads.schema.column(&column.name)?;
        // A blank is the only treatment that makes a column nullable.
        let is_blank = reads.schema.columns()[stored].nullable && !column.nullable;
        (!is_blank).then_some(stored as u32)
    };
    match &source.key {
        SourceKey::Primary(key) => key.iter().map(stored).collect::<Option<_>>().map(SourceKey::Primary),
        SourceKey::Unique(key) => key.iter().map(stored).collect::<Option<_>>().map(SourceKey::Unique),
        SourceKey::Nothing => None,
    }
    .unwrap_or(SourceKey::Nothing)
}

/// How many rows a chunk has: no more than the limits say, and no more than the budget of a second.
fn chunk_rows(source: &SourceTable, options: &CloneOptions) -> u64 {
    let row_bytes = source.bytes_estimate.checked_div(source.rows_estimate).unwrap_or(0);
    let by_bytes = options.chunk_bytes.checked_div(row_bytes).unwrap_or(u64::MAX);
    let by_rate = options.rows_per_second.unwrap_or(u64::MAX);
    options.chunk_rows.min(by_bytes).min(by_rate).max(1)
}

/// The error of a question about the source's load, and whether asking again may help.
pub(crate) fn load_trouble(error: &FetchError) -> (String, bool) {
    (chain(error), error.remedy() == tidemill_event::Remedy::Retry)
}
