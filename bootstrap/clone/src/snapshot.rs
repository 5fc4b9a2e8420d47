//! Copies into snapshot storage: each chunk is written as base files, and recorded in its table's state through the one
//! writer. What becomes of a table whose copy is complete is for the follower, which applies the log over it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use tidemill_bootstrap_store::{
    ChunkDone, ChunkWriter, CloneProgress, CommitError, DataError, Draft, StoredSchema, TableKey, TablePhase,
    TableState, Writer, random_id, table_root,
};
use tidemill_event::{Remedy, TableName, TableSchema};
use tidemill_fetchers_api::extract::SourceKey;
use tokio::sync::mpsc::UnboundedSender;

use crate::{BoxError, ChunkRows, CopyId, Destination, DestinationError, Plan, Resumed, Stamp, TableCopy};

/// For so many chunks that are recorded, one that is done may wait to be: each commit writes the table's state anew, and that
/// of a large copy is large. A crash loses what waits, a 64th of the copy at most.
const RECORDED_PER_WAITING: usize = 64;

/// Snapshot storage as the destination of copies.
pub struct SnapshotDestination {
    writer: Writer,
    waiting: Mutex<BTreeMap<String, Waiting>>,
    /// Held by who commits: others find their chunks committed.
    committing: tokio::sync::Mutex<()>,
    /// Who is told of tables that have another schema at the source than here.
    seen: Option<UnboundedSender<Arc<TableSchema>>>,
}

/// Chunks of one copy that are written and not recorded.
#[derive(Clone)]
struct Waiting {
    id: CopyId,
    plan: Plan,
    chunks: BTreeMap<u32, ChunkDone>,
    recorded: usize,
}

/// What a commit found of a copy.
struct Found {
    recorded: usize,
    missing: BTreeSet<u32>,
}

impl SnapshotDestination {
    /// Copies of tables into what that writer writes.
    pub fn new(writer: Writer) -> SnapshotDestination {
        let (waiting, committing) = (Mutex::default(), tokio::sync::Mutex::default());
        SnapshotDestination { writer, waiting, committing, seen: None }
    }

    /// Tells the schemas, as the policy leaves them, of tables that are whole and have another one at the source.
    pub fn telling(mut self, seen: UnboundedSender<Arc<TableSchema>>) -> SnapshotDestination {
        self.seen = Some(seen);
        self
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<String, Waiting>> {
        self.waiting.lock().expect("no holder panics")
    }

    fn is_waiting(&self, chunk: &ChunkRows) -> bool {
        let waiting = self.waiting();
        let done = waiting.get(&chunk.id.copy).and_then(|copy| copy.chunks.get(&chunk.number));
        done.is_some_and(|done| (done.low, done.high) == (chunk.low, chunk.high))
    }

    /// Whether enough wait to be worth a commit.
    fn enter(&self, plan: &Plan, id: &CopyId, done: ChunkDone) -> bool {
        let mut waiting = self.waiting();
        let copy = waiting.entry(id.copy.clone()).or_insert_with(|| Waiting {
            id: id.clone(),
            plan: plan.clone(),
            chunks: BTreeMap::new(),
            recorded: 0,
        });
        if plan.chunk_count() > copy.plan.chunk_count() {
            copy.plan = plan.clone();
        }
        copy.chunks.insert(done.number, done);
        copy.chunks.len() * RECORDED_PER_WAITING >= copy.recorded
    }

    /// Records what waits, of all tables in one commit. `finished`: its copy is complete if nothing is missing.
    async fn record(&self, id: &CopyId, finished: Option<&Plan>) -> Result<BTreeSet<u32>, DestinationError> {
        let _turn = self.committing.lock().await;
        let mut waiting = self.waiting().clone();
        if let Some(plan) = finished {
            let nothing =
                || Waiting { id: id.clone(), plan: plan.clone(), chunks: BTreeMap::new(), recorded: 0 };
            waiting.entry(id.copy.clone()).or_insert_with(nothing).plan = plan.clone();
        }
        let finishes = |copy: &Waiting| finished.is_some() && copy.id == *id;
        let commit = self.writer.commit(|draft| {
            let found = waiting.iter().map(|(name, copy)| (name.clone(), enter(draft, copy, finishes(copy))));
            found.collect::<BTreeMap<String, Option<Found>>>()
        });
        let found = commit.await.map_err(|error| failed(format!("the copy of table {}", id.table), error))?;
        let mut left = self.waiting();
        for (name, copy) in &waiting {
            let Some(left) = left.get_mut(name) else { continue };
            left.chunks.retain(|number, done| copy.chunks.get(number) != Some(done));
            left.recorded = found[name].as_ref().map_or(0, |found| found.recorded);
        }
        left.retain(|name, _| found.get(name).is_none_or(Option::is_some));
        match found.into_iter().find(|(name, _)| *name == id.copy) {
            // Nothing of it waited: somebody else's commit had it.
            None => Ok(BTreeSet::new()),
            Some((_, Some(found))) => Ok(found.missing),
            Some((_, None)) => Err(DestinationError::GivenUp {
                table: id.table.clone(),
                why: "it is not the copy that snapshot storage waits for".to_owned(),
            }),
        }
    }
}

impl Destination for SnapshotDestination {
    fn waits_for(&self, table: &TableName) -> bool {
        self.writer.tables().values().any(|state| state.name == *table)
    }

    async fn resume(&self, table: &TableCopy) -> Result<Option<Resumed>, DestinationError> {
        let (tables, name) = (self.writer.tables(), table.source.name());
        let Some(state) = tables.values().find(|state| state.name == *name) else { return Ok(None) };
        if state.phase == TablePhase::Ready {
            if let Some(seen) =
                self.seen.as_ref().filter(|_| state.schema.id != table.stored.id().to_string())
            {
                // Whoever was told may be gone.
                let _ = seen.send(Arc::clone(&table.stored));
            }
            return Ok(Some(Resumed::Complete { policy: state.policy.clone() }));
        }
        let progress = progress(&state.phase);
        // A table that was entered by others has no plan yet; one of another release is made anew.
        let plan = progress.and_then(|progress| Plan::of(progress).ok()).filter(|plan| plan.format == 1);
        Ok(progress.zip(plan).map(|(progress, plan)| {
            let done = progress.chunks.iter().map(|chunk| chunk.number).collect();
            Resumed::Begun { plan, done }
        }))
    }

    async fn begin(&self, table: &TableCopy) -> Result<Plan, DestinationError> {
        let what = || format!("that the copy of table {} begins", table.source.name());
        let commit = self.writer.commit(|draft| begin(draft, table));
        commit.await.map_err(|error| failed(what(), error))
    }

    async fn chunk(&self, plan: &Plan, chunk: ChunkRows) -> Result<(), DestinationError> {
        let mut is_due = true;
        if !self.is_waiting(&chunk) {
            let root = table_root(&chunk.id.table);
            let store = self.writer.store();
            let mut file = ChunkWriter::new(store, &root, plan.schema.clone(), plan.key.clone());
            chunk.batches.into_iter().for_each(|batch| file.add(batch));
            let (number, low, high) = (chunk.number, chunk.low, chunk.high);
            let files = file.finish(number, low).await.map_err(|error| unwritten(&chunk.id.table, error))?;
            is_due = self.enter(plan, &chunk.id, ChunkDone { number, low, high, files });
        }
        if is_due {
            self.record(&chunk.id, None).await?;
        }
        Ok(())
    }

    async fn finish(&self, id: &CopyId, plan: &Plan) -> Result<BTreeSet<u32>, DestinationError> {
        let missing = self.record(id, Some(plan)).await?;
        if missing.is_empty() {
            self.waiting().remove(&id.copy);
        }
        Ok(missing)
    }
}

fn progress(phase: &TablePhase) -> Option<&CloneProgress> {
    match phase {
        TablePhase::Ready => None,
        TablePhase::Cloning(progress) => Some(progress),
        TablePhase::Stale { clone, .. } => clone.as_ref(),
    }
}

/// Makes a copy of a table its only one.
fn begin(draft: &mut Draft, copy: &TableCopy) -> Plan {
    let (name, applied) = (copy.source.name(), draft.manifest.applied.position);
    let known = draft.tables.values().find(|table| table.name == *name).map(|table| table.id);
    let id = known.unwrap_or_else(|| draft.next_table_id());
    let table = draft.tables.entry(id).or_insert_with(|| {
        let schema = StoredSchema::new(&copy.stored, 1);
        let key = stored_key(&schema, &copy.key);
        TableState { deltas_since: applied, ..TableState::new(id, name.clone(), schema, key) }
    });
    if table.phase == TablePhase::Ready {
        table.invalidate(applied, "it is copied anew");
    }
    // What another policy let through, this one may not: nothing of it counts.
    let judged = progress(&table.phase).and_then(|copy| Plan::of(copy).ok()).map(|plan| plan.policy);
    let judged = judged.unwrap_or_else(|| table.policy.clone());
    if !table.runs.is_empty() && !Stamp::of(&judged).stores_as(Stamp::of(&copy.policy)) {
        table.invalidate(applied, "its policy is another one now");
    }
    let schema = table.copy_schema(&copy.stored);
    let plan = Plan {
        format: 1,
        copy: random_id(),
        source_schema: copy.source.id().to_string(),
        policy: copy.policy.clone(),
        key: stored_key(&schema, &copy.key),
        schema,
        bounds: vec![],
        is_whole: false,
    };
    let progress = CloneProgress { plan: json(&plan), ..CloneProgress::default() };
    match &mut table.phase {
        // What was published stays as it was.
        TablePhase::Stale { clone, .. } => *clone = Some(progress),
        _ => {
            if (&table.schema, &table.key) != (&plan.schema, &plan.key) {
                // All of them are before the copy that begins.
                (table.runs, table.merged_runs) = (vec![], vec![]);
                table.deltas_since = applied;
            }
            (table.schema, table.key, table.policy) =
                (plan.schema.clone(), plan.key.clone(), plan.policy.clone());
            (table.base, table.phase) = (None, TablePhase::Cloning(progress));
        }
    }
    plan
}

/// Records the chunks of a copy; `None`: it is not the table's copy any more.
fn enter(draft: &mut Draft, copy: &Waiting, finishes: bool) -> Option<Found> {
    let table = draft.tables.values_mut().find(|table| table.name == copy.id.table)?;
    let since = match &table.phase {
        TablePhase::Stale { since, .. } => *since,
        _ => table.deltas_since,
    };
    let progress = match &mut table.phase {
        TablePhase::Ready => return None,
        TablePhase::Cloning(progress) => progress,
        TablePhase::Stale { clone, .. } => clone.as_mut()?,
    };
    let mut plan = Plan::of(progress).ok().filter(|plan| plan.copy == copy.id.copy)?;
    if copy.plan.chunk_count() > plan.chunk_count() {
        plan = copy.plan.clone();
        progress.plan = json(&plan);
    }
    // The log is not replayed over what was read before: such a chunk stays missing, and is read again.
    let counts = |done: &&ChunkDone| done.low >= since;
    let mut chunks: BTreeMap<u32, ChunkDone> =
        std::mem::take(&mut progress.chunks).into_iter().map(|done| (done.number, done)).collect();
    chunks.extend(copy.chunks.values().filter(counts).map(|done| (done.number, done.clone())));
    let missing: BTreeSet<u32> =
        (0..plan.chunk_count()).filter(|number| !chunks.contains_key(number)).collect();
    progress.chunks = chunks.into_values().collect();
    progress.complete |= finishes && plan.is_whole && missing.is_empty();
    Some(Found { recorded: progress.chunks.len(), missing: if finishes { missing } else { BTreeSet::new() } })
}

fn stored_key(schema: &StoredSchema, key: &SourceKey) -> TableKey {
    match key {
        SourceKey::Primary(key) | SourceKey::Unique(key) => TableKey::Columns {
            fields: key.iter().map(|ordinal| schema.columns[*ordinal as usize].field).collect(),
        },
        SourceKey::Nothing => TableKey::WholeRow,
    }
}

fn json(plan: &Plan) -> serde_json::Value {
    serde_json::to_value(plan).expect("texts and numbers are JSON")
}

fn failed(what: String, error: CommitError) -> DestinationError {
    match error.remedy() {
        Remedy::Fenced => DestinationError::Fenced { source: error.into() },
        remedy => unavailable(what, remedy, error.into()),
    }
}

fn unwritten(table: &TableName, error: DataError) -> DestinationError {
    unavailable(format!("a chunk of table {table}"), error.remedy(), error.into())
}

fn unavailable(what: String, remedy: Remedy, source: BoxError) -> DestinationError {
    match remedy {
        Remedy::Retry | Remedy::Wait => DestinationError::Unavailable { what, source },
        _ => DestinationError::Broken { what, source },
    }
}
