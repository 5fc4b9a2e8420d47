//! A chunk of a copy becomes base files: sorted by our key order, whatever order the source has.

use arrow_array::{Array, RecordBatch};
use tidemill_event::Position;

use super::files::BaseFiles;
use super::key::Keys;
use super::layout::{Layout, key_places, pick, stored_columns};
use super::sorted::{Piece, batch_end, gather, key_order};
use super::write::FileShape;
use crate::{BaseFile, DataError, Store, StoredSchema, TableKey, limits, random_id};

/// Collects the rows of one chunk.
pub struct ChunkWriter {
    store: Store,
    table_root: String,
    schema: StoredSchema,
    key: TableKey,
    batches: Vec<RecordBatch>,
    bytes: usize,
}

impl ChunkWriter {
    /// A chunk of rows of that schema, nothing in it.
    pub fn new(store: &Store, table_root: &str, schema: StoredSchema, key: TableKey) -> ChunkWriter {
        let (store, table_root) = (store.clone(), table_root.to_owned());
        ChunkWriter { store, table_root, schema, key, batches: vec![], bytes: 0 }
    }

    /// Adds rows in the stream's types, one column per column of the schema.
    pub fn add(&mut self, batch: RecordBatch) {
        self.bytes += batch.get_array_memory_size();
        self.batches.push(batch);
    }

    /// Bytes of memory that are held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Sorts and writes them. `number` is the chunk's, `at` its low mark. No rows: no files.
    pub async fn finish(self, number: u32, at: Position) -> Result<Vec<BaseFile>, DataError> {
        let types = self.schema.columns.iter().map(|column| &column.data_type.0);
        let fits = |batch: &RecordBatch| batch.columns().iter().map(|c| c.data_type()).eq(types.clone());
        if !self.batches.iter().all(fits) {
            return Err(DataError::Schema { table: self.table_root });
        }
        let places = key_places(&self.schema, &self.key);
        let piece = |batch: RecordBatch| Piece {
            keys: Keys::new(&pick(batch.columns(), &places), batch.num_rows()),
            columns: stored_columns(&batch),
        };
        let pieces: Vec<Piece> = self.batches.into_iter().map(piece).collect();
        let order = key_order(&pieces);
        let shape = FileShape::new(Layout::Base, &self.schema, &self.key, limits::ROW_GROUP_ROWS);
        let mut files = BaseFiles {
            store: self.store,
            shape,
            path: (
                format!("{}/clone/{}/chunk-{number:05}-", self.table_root, random_id()),
                ".parquet".to_owned(),
            ),
            at,
            file_bytes: limits::FILE_BYTES,
            open: None,
            files: vec![],
        };
        let mut from = 0;
        while from < order.len() {
            let to = batch_end(&pieces, &order, from);
            let rows = &order[from..to];
            let key = |(piece, row): (usize, usize)| pieces[piece].keys.bytes(row);
            let keys = (key(rows[0]), key(rows[rows.len() - 1]));
            let scn = vec![at.scn.0 as i64; rows.len()].into();
            files.write(gather(&pieces, rows)?, scn, (&keys.0, &keys.1)).await?;
            from = to;
        }
        files.close().await?;
        Ok(files.files)
    }
}
