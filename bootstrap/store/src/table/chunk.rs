//! A chunk of a copy becomes base files: sorted by our key order, whatever order the source has.

use arrow_array::RecordBatch;
use tidemill_event::Position;

use crate::{BaseFile, DataError, Store, StoredSchema, TableKey};

/// Collects the rows of one chunk.
pub struct ChunkWriter {}

impl ChunkWriter {
    /// A chunk of rows of that schema, nothing in it.
    pub fn new(store: &Store, table_root: &str, schema: StoredSchema, key: TableKey) -> ChunkWriter {
        let _ = (store, table_root, schema, key);
        todo!()
    }

    /// Adds rows in the stream's types, one column per column of the schema.
    pub fn add(&mut self, batch: RecordBatch) {
        let _ = batch;
        todo!()
    }

    /// Bytes of memory that are held.
    pub fn bytes(&self) -> usize {
        todo!()
    }

    /// Sorts and writes them. `number` is the chunk's, `at` its low mark. No rows: no files.
    pub async fn finish(self, number: u32, at: Position) -> Result<Vec<BaseFile>, DataError> {
        let _ = (number, at);
        todo!()
    }
}
