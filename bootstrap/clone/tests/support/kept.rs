//! A destination that keeps what it is given, and marks that are the log's own numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use tidemill_bootstrap_clone::{
    BoxError, ChunkRows, CopyId, Destination, DestinationError, Marks, NoPlace, Plan, Resumed, TableCopy,
};
use tidemill_bootstrap_store::{StoredSchema, TableKey};
use tidemill_event::{Position, Scn, TableName};
use tidemill_fetchers_api::extract::{ChunkMarks, LowMark, SourceKey};

/// Keeps copies in memory; clones share them, as two processes share a store.
#[derive(Clone, Default)]
pub struct Kept(pub Arc<Mutex<KeptCopies>>);

#[derive(Default)]
pub struct KeptCopies {
    pub copies: BTreeMap<TableName, KeptCopy>,
    /// Counts the copies that were begun.
    pub begun: u32,
    /// Fails that often before it takes the next chunk.
    pub unavailable: u32,
    /// Tables that nobody waits for.
    pub unwanted: BTreeSet<TableName>,
    /// The chunks in the order in which they were taken.
    pub order: Vec<(TableName, u32)>,
}

pub struct KeptCopy {
    pub plan: Plan,
    pub key: SourceKey,
    pub chunks: BTreeMap<u32, ChunkRows>,
    pub is_complete: bool,
}

impl Kept {
    /// The chunks of a table, by number.
    pub fn chunks(&self, table: &TableName) -> BTreeMap<u32, ChunkRows> {
        self.0.lock().unwrap().copies[table].chunks.clone()
    }

    pub fn is_complete(&self, table: &TableName) -> bool {
        self.0.lock().unwrap().copies.get(table).is_some_and(|copy| copy.is_complete)
    }

    /// How many chunks are kept, of all tables.
    pub fn count(&self) -> usize {
        self.0.lock().unwrap().copies.values().map(|copy| copy.chunks.len()).sum()
    }
}

impl Destination for Kept {
    fn waits_for(&self, table: &TableName) -> bool {
        !self.0.lock().unwrap().unwanted.contains(table)
    }

    async fn resume(&self, table: &TableCopy) -> Result<Option<Resumed>, DestinationError> {
        let kept = self.0.lock().unwrap();
        Ok(kept.copies.get(table.source.name()).map(|copy| match copy.is_complete {
            true => Resumed::Complete { policy: copy.plan.policy.clone() },
            false => Resumed::Begun { plan: copy.plan.clone(), done: copy.chunks.keys().copied().collect() },
        }))
    }

    async fn begin(&self, table: &TableCopy) -> Result<Plan, DestinationError> {
        let mut kept = self.0.lock().unwrap();
        kept.begun += 1;
        let schema = StoredSchema::new(&table.stored, 1);
        let key = TableKey::Columns { fields: schema.primary_key.iter().map(|key| key + 1).collect() };
        let plan = Plan {
            format: 1,
            copy: format!("copy {}", kept.begun),
            source_schema: table.source.id().to_string(),
            policy: table.policy.clone(),
            schema,
            key,
            bounds: vec![],
            is_whole: false,
        };
        let chunks = BTreeMap::new();
        let copy = KeptCopy { plan: plan.clone(), key: table.key.clone(), chunks, is_complete: false };
        kept.copies.insert(table.source.name().clone(), copy);
        Ok(plan)
    }

    async fn chunk(&self, plan: &Plan, chunk: ChunkRows) -> Result<(), DestinationError> {
        let mut kept = self.0.lock().unwrap();
        if kept.unavailable > 0 {
            kept.unavailable -= 1;
            return Err(DestinationError::Unavailable { what: "a chunk".into(), source: "full".into() });
        }
        let table = chunk.id.table.clone();
        let Some(copy) = kept.copies.get_mut(&table).filter(|copy| copy.plan.copy == chunk.id.copy) else {
            return Err(DestinationError::GivenUp { table, why: "another one began".into() });
        };
        if plan.chunk_count() > copy.plan.chunk_count() {
            copy.plan = plan.clone();
        }
        let number = chunk.number;
        copy.chunks.insert(number, chunk);
        kept.order.push((table, number));
        Ok(())
    }

    async fn finish(&self, id: &CopyId, plan: &Plan) -> Result<BTreeSet<u32>, DestinationError> {
        let mut kept = self.0.lock().unwrap();
        let Some(copy) = kept.copies.get_mut(&id.table).filter(|copy| copy.plan.copy == id.copy) else {
            let why = "another one began".into();
            return Err(DestinationError::GivenUp { table: id.table.clone(), why });
        };
        copy.plan = plan.clone();
        let missing: BTreeSet<u32> =
            (0..plan.chunk_count()).filter(|number| !copy.chunks.contains_key(number)).collect();
        copy.is_complete = missing.is_empty();
        Ok(missing)
    }
}

/// The log's numbers are the positions. `touched` are the places at which tables without key changed.
#[derive(Clone, Default)]
pub struct Numbers {
    pub touched: Arc<Mutex<BTreeSet<Position>>>,
}

pub fn position(scn: Scn) -> Position {
    Position { timeline: 1, scn }
}

impl Marks for Numbers {
    async fn low(&self, _: &TableName, marks: &ChunkMarks) -> Result<Option<Position>, NoPlace> {
        match &marks.low {
            LowMark::At(scn) => Ok(Some(position(*scn))),
            LowMark::Executed(set) => Err(NoPlace::Never(format!("{set} is no number").into())),
        }
    }

    async fn high(&self, marks: &ChunkMarks) -> Result<Position, NoPlace> {
        Ok(position(marks.high))
    }

    async fn touched(&self, _: &TableName, low: Position, high: Position) -> Result<bool, BoxError> {
        Ok(self.touched.lock().unwrap().iter().any(|at| *at > low && *at <= high))
    }
}
