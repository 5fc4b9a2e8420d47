//! Copies of the model's tables, a step at a time: what a clone of a live source reads, with its marks as fuzzy as they may be.

use std::collections::BTreeSet;
use std::sync::Arc;

use tidemill_bootstrap_clone::{
    ChunkRows, CopyId, Destination, Plan, Resumed, SnapshotDestination, TableCopy,
};
use tidemill_bootstrap_service::Marks;
use tidemill_bootstrap_store::{TablePhase, Writer};
use tidemill_event::{Position, TableName};
use tidemill_fetchers_api::extract::{ChunkMarks, LowMark, SourceKey};

use super::Dice;
use super::model::{FIRST, Model, Table, Values, batch, executed, name, server};

/// Who copies.
#[derive(Clone)]
pub struct Copier {
    pub model: Arc<Model>,
    pub writer: Writer,
    pub destination: Arc<SnapshotDestination>,
    pub marks: Marks,
}

const BOUNDS: [i64; 2] = [9, 40];

impl Copier {
    pub fn new(model: &Arc<Model>, writer: &Writer, marks: Marks) -> Copier {
        let destination = Arc::new(SnapshotDestination::new(writer.clone()));
        Copier { model: Arc::clone(model), writer: writer.clone(), destination, marks }
    }

    /// The tables that somebody has to copy: those that are known to be, and those that are older than everybody.
    fn open(&self) -> Vec<TableName> {
        let tables = self.writer.tables();
        let mut open: Vec<TableName> = tables
            .values()
            .filter(|table| table.phase != TablePhase::Ready)
            .map(|table| table.name.clone())
            .collect();
        for old in ["a", "b"].map(name) {
            if self.model.before.contains_key(&old) && !tables.values().any(|table| table.name == old) {
                open.push(old);
            }
        }
        open
    }

    pub fn copy_of(name: &TableName, table: &Table) -> TableCopy {
        let schema = table.schema(name);
        let key = if table.has_key { SourceKey::Primary(vec![0]) } else { SourceKey::Nothing };
        TableCopy { source: Arc::clone(&schema), stored: schema, key, policy: String::new() }
    }

    /// Begins a copy, reads a chunk, or finds that there is nothing to do. What fails is tried again by a later step.
    pub async fn step(self, mut dice: Dice) {
        let open = self.open();
        if open.is_empty() {
            return;
        }
        let table_name = open[dice.below(open.len() as u64) as usize].clone();
        // The source is at most as far as its history, and at least where the follower is.
        let passed = self.model.count_at(self.marks.position());
        let view = passed + dice.below((self.model.history.len() - passed) as u64 + 1) as usize;
        let Some((at, table)) = self.view(view, &table_name) else { return };
        let copy = Copier::copy_of(&table_name, &table);
        let begun = match self.destination.resume(&copy).await {
            Ok(Some(Resumed::Complete { .. })) | Err(_) => return,
            Ok(Some(Resumed::Begun { plan, done })) => Some((plan, done)),
            Ok(None) => None,
        };
        let same = |plan: &Plan| plan.source_schema == copy.source.id().to_string();
        let Some((mut plan, mut done)) = begun.filter(|(plan, _)| same(plan)) else {
            // It may fail, as every call does.
            let _ = self.destination.begin(&copy).await;
            return;
        };
        if table.has_key {
            plan.bounds = BOUNDS.map(|bound| vec![bound.to_string()]).to_vec();
        }
        plan.is_whole = true;
        self.chunk(&plan, &mut done, (view, at, &table), &table_name, &mut dice).await;
    }

    fn view(&self, count: usize, table: &TableName) -> Option<(Position, Table)> {
        let last = count.checked_sub(1).map(|last| &self.model.history[last]);
        let at = last.map_or(super::feed::begin(), |txn| txn.at);
        let tables = last.map_or(&self.model.before, |txn| &txn.after);
        Some((at, tables.get(table)?.clone()))
    }

    async fn chunk(
        &self,
        plan: &Plan,
        done: &mut BTreeSet<u32>,
        (view, at, table): (usize, Position, &Table),
        table_name: &TableName,
        dice: &mut Dice,
    ) {
        let id = CopyId { table: table_name.clone(), copy: plan.copy.clone() };
        let open: Vec<u32> = (0..plan.chunk_count()).filter(|number| !done.contains(number)).collect();
        if !open.is_empty() {
            let number = open[dice.below(open.len() as u64) as usize];
            let Some((low, high)) = self.marks(view, at, table, table_name, dice).await else { return };
            let first = (number as usize).checked_sub(1).map_or(i64::MIN, |at| BOUNDS[at] + 1);
            let last = if table.has_key { BOUNDS.get(number as usize).copied() } else { None };
            let rows: Vec<(i64, Values)> = table
                .rows
                .range(first..=last.unwrap_or(i64::MAX))
                .map(|(id, row)| (*id, row.clone()))
                .collect();
            let batches = vec![batch(&table.schema(table_name), &rows.iter().collect::<Vec<_>>())];
            let chunk = ChunkRows { id: id.clone(), number, batches, low, high };
            if self.destination.chunk(plan, chunk).await.is_err() {
                return;
            }
            done.insert(number);
        }
        if done.len() as u32 == plan.chunk_count() {
            let _ = self.destination.finish(&id, plan).await;
        }
    }

    /// Between which positions the chunk was read: the view lies somewhere between them.
    async fn marks(
        &self,
        view: usize,
        at: Position,
        table: &Table,
        table_name: &TableName,
        dice: &mut Dice,
    ) -> Option<(Position, Position)> {
        if at.timeline != self.marks.position().timeline {
            return None;
        }
        if !table.has_key {
            let low = self.marks.low(table_name, &marks(at, LowMark::At(at.scn))).await;
            return low.ok().flatten().map(|low| (low, at));
        }
        let seen = (view as u64 + FIRST - 1).saturating_sub(dice.below(3)).max(1);
        let low = self.marks.low(table_name, &marks(at, LowMark::Executed(executed(seen)))).await;
        let low = low.ok().flatten()?;
        let later = view + dice.below((self.model.history.len() - view) as u64 + 1) as usize;
        let high = later.checked_sub(1).map(|last| self.model.history[last].at);
        let high = high.filter(|high| high.timeline == at.timeline).unwrap_or(at);
        Some((low, high.max(at)))
    }
}

fn marks(at: Position, low: LowMark) -> ChunkMarks {
    ChunkMarks { low, high: at.scn, server: server(at.timeline).into(), shared: None }
}
