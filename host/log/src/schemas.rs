//! Which tables the log knows. Read from the segments' schema frames when somebody asks, oldest first, each frame once:
//! the last one of a table is its newest version. Tables that only history has are named by its catalogue and read from
//! there.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, MutexGuard, PoisonError};

use tidemill_event::{SchemaId, TableName, TableSchema};

use crate::error::{ReadError, storage};
use crate::history::{Entry, TableAt, blocking};
use crate::reader::read_schema;
use crate::ring::Place;
use crate::state::{Segment, Shared};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct KnownSchemas {
    newest: HashMap<TableName, Arc<TableSchema>>,
    all: HashMap<SchemaId, Arc<TableSchema>>,
    /// Where the last schema frame lies that was read.
    upto: Option<Place>,
}

impl KnownSchemas {
    /// The newest version of each table, by name.
    fn newest(&mut self) -> Vec<Arc<TableSchema>> {
        let mut all: Vec<_> = self.newest.values().cloned().collect();
        all.sort_by(|a, b| a.name().cmp(b.name()));
        all
    }

    fn insert(&mut self, schema: Arc<TableSchema>) {
        self.newest.insert(schema.name().clone(), Arc::clone(&schema));
        self.all.insert(schema.id(), schema);
    }

    /// Reads what a segment has that was not read before.
    fn read(&mut self, shared: &Shared, segment: &Segment) -> Result<(), ReadError> {
        let place = |offset: &u64| Place { sequence: segment.header.sequence, offset: *offset };
        let fresh = segment.index.schemas.iter().filter(|offset| Some(place(offset)) > self.upto);
        let fresh: Vec<u64> = fresh.copied().collect();
        if fresh.is_empty() {
            return Ok(());
        }
        let file = match shared.files.open(&segment.path) {
            // Retention was faster.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            opened => opened.map_err(storage("open", &segment.path))?,
        };
        for offset in fresh {
            self.insert(read_schema(&file, &segment.path, offset, segment.index.length)?);
            self.upto = Some(place(&offset));
        }
        Ok(())
    }
}

impl Shared {
    /// The newest version of each table, by name.
    pub(crate) async fn newest_schemas(self: &Arc<Self>) -> Result<Vec<Arc<TableSchema>>, ReadError> {
        let known = self.ask_schemas(KnownSchemas::newest).await?;
        let mut names: HashSet<TableName> = known.iter().map(|schema| schema.name().clone()).collect();
        let archived = self.archived_tables(|table| names.insert(table.name.clone()));
        for (entry, offset) in archived {
            let schema = self.archived_schema(&entry, offset).await?;
            let insert = move |known: &mut KnownSchemas| {
                known.all.insert(schema.id(), Arc::clone(&schema));
                known.newest.entry(schema.name().clone()).or_insert(schema);
            };
            self.ask_schemas(insert).await?;
        }
        self.ask_schemas(KnownSchemas::newest).await
    }

    /// The schema with that id: any that a segment on this disk has, and those of history that were a table's newest in a
    /// segment.
    pub(crate) async fn schema(
        self: &Arc<Self>,
        id: SchemaId,
    ) -> Result<Option<Arc<TableSchema>>, ReadError> {
        if let Some(schema) = self.ask_schemas(move |known| known.all.get(&id).cloned()).await? {
            return Ok(Some(schema));
        }
        let mut is_first = true;
        let archived = self.archived_tables(|table| table.id == id && std::mem::take(&mut is_first));
        match archived.first() {
            Some((entry, offset)) => self.archived_schema(entry, *offset).await.map(Some),
            None => Ok(None),
        }
    }

    /// Asks what is known when all that lies on this disk was read.
    async fn ask_schemas<T: Send + 'static>(
        self: &Arc<Self>,
        ask: impl FnOnce(&mut KnownSchemas) -> T + Send + 'static,
    ) -> Result<T, ReadError> {
        let shared = Arc::clone(self);
        blocking(move || shared.read_schemas().map(|mut known| ask(&mut known))).await
    }

    fn read_schemas(&self) -> Result<MutexGuard<'_, KnownSchemas>, ReadError> {
        // Each schema is whole, whatever happened after it was read.
        let mut known = self.schemas.lock().unwrap_or_else(PoisonError::into_inner);
        let from = known.upto.map_or(0, |place| place.sequence);
        let visible = |s: &&Segment| s.header.sequence >= from;
        let segments: Vec<Segment> = self.state().segments.iter().filter(visible).cloned().collect();
        for mut segment in segments {
            segment.index = segment.index.without_incomplete();
            known.read(self, &segment)?;
        }
        Ok(known)
    }

    /// The tables of history's catalogue that are wanted, newest first.
    fn archived_tables(&self, mut is_wanted: impl FnMut(&TableAt) -> bool) -> Vec<(Arc<Entry>, u64)> {
        let state = self.state();
        let tables = state.history.iter().rev().flat_map(|e| e.tables.iter().map(move |table| (e, table)));
        let wanted = tables.filter(|(_, table)| is_wanted(table));
        wanted.map(|(entry, table)| (Arc::clone(entry), table.offset)).collect()
    }

    async fn archived_schema(&self, entry: &Arc<Entry>, offset: u64) -> Result<Arc<TableSchema>, ReadError> {
        let history = self.history.as_ref().expect("only a log with history has a catalogue");
        let file = history.fetch(entry).await.map_err(ReadError::History)?;
        let (path, length) = (history.cache.path(entry), entry.bytes());
        blocking(move || read_schema(&file, &path, offset, length)).await
    }
}
