//! Changes become a run: of each key the newest version, sorted.

use tidemill_event::{Position, TableChanges, Window};

use crate::{DataError, Run, Store, StoredSchema, TableKey};

/// Collects the changes of one table.
pub struct RunBuilder {}

impl RunBuilder {
    /// A run of rows of that schema, nothing in it.
    pub fn new(schema: StoredSchema, key: TableKey) -> RunBuilder {
        let _ = (schema, key);
        todo!()
    }

    /// Leaves out changes up to there: for a table without key, whose copy has them already.
    pub fn skip_upto(&mut self, position: Position) {
        let _ = position;
        todo!()
    }

    /// Adds the changes of one of the window's tables. `timeline` is the store's number of the window's timeline.
    pub fn add(&mut self, window: &Window, changes: &TableChanges, timeline: u32) -> Result<(), DataError> {
        let _ = (window, changes, timeline);
        todo!()
    }

    /// Rows that are held.
    pub fn rows(&self) -> u64 {
        todo!()
    }

    /// Bytes of memory that are held.
    pub fn bytes(&self) -> usize {
        todo!()
    }

    /// Writes the run of everything in `(after, upto]`; `None`: nothing changed.
    pub async fn finish(
        self,
        store: &Store,
        table_root: &str,
        after: Position,
        upto: Position,
    ) -> Result<Option<Run>, DataError> {
        let _ = (store, table_root, after, upto);
        todo!()
    }
}
