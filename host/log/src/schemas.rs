//! Which tables the log knows. Read from the segments' schema frames when somebody asks, oldest first, each frame once:
//! the last one of a table is its newest version.

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard, PoisonError};

use tidemill_event::{SchemaId, TableName, TableSchema};

use crate::error::{ReadError, storage};
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
    pub(crate) fn newest(&self) -> Vec<Arc<TableSchema>> {
        let mut all: Vec<_> = self.newest.values().cloned().collect();
        all.sort_by(|a, b| a.name().cmp(b.name()));
        all
    }

    pub(crate) fn get(&self, id: SchemaId) -> Option<Arc<TableSchema>> {
        self.all.get(&id).cloned()
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
    /// What is known by now. Reads files.
    pub(crate) fn schemas(&self) -> Result<MutexGuard<'_, KnownSchemas>, ReadError> {
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
}
