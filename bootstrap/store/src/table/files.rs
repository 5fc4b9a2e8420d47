//! Base files that follow each other in key order, each closed when it is large enough.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use arrow_buffer::ScalarBuffer;
use tidemill_event::Position;

use super::write::{FileShape, FileWriter};
use crate::{BaseFile, DataError, Store};

/// See the module.
pub(crate) struct BaseFiles {
    pub(crate) store: Store,
    pub(crate) shape: Arc<FileShape>,
    /// What a file's path begins with and ends with; its number stands between.
    pub(crate) path: (String, String),
    pub(crate) at: Position,
    pub(crate) file_bytes: u64,
    pub(crate) open: Option<FileWriter>,
    /// The files, in key order.
    pub(crate) files: Vec<BaseFile>,
}

impl BaseFiles {
    /// The path of the next file.
    pub(crate) fn next_path(&self) -> String {
        format!("{}{:05}{}", self.path.0, self.files.len(), self.path.1)
    }

    /// Adds rows: columns as they are stored, keys after all that came before.
    pub(crate) async fn write(
        &mut self,
        mut columns: Vec<ArrayRef>,
        scn: ScalarBuffer<i64>,
        keys: (&[u8], &[u8]),
    ) -> Result<(), DataError> {
        columns.push(Arc::new(Int64Array::new(scn, None)));
        let rows = RecordBatch::try_new(Arc::clone(&self.shape.arrow), columns)?;
        match &mut self.open {
            Some(file) => file.write(&rows, keys.1).await?,
            None => {
                let path = self.next_path();
                self.open = Some(FileWriter::open(&self.store, path, &self.shape, &rows, keys).await?);
            }
        }
        if self.open.as_ref().is_some_and(|file| file.bytes() >= self.file_bytes) {
            self.close().await?;
        }
        Ok(())
    }

    /// Completes the file in hand.
    pub(crate) async fn close(&mut self) -> Result<(), DataError> {
        let Some(file) = self.open.take() else { return Ok(()) };
        let written = file.finish().await?;
        self.files.push(BaseFile {
            object: written.object,
            rows: written.rows,
            first_key: written.first_key,
            last_key: written.last_key,
            schema: self.shape.schema.fingerprint(),
            at: self.at,
        });
        Ok(())
    }
}
