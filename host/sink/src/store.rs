//! The embedded store: one file with the checkpoint, the state and the output rows of every subscription. A commit is
//! one write transaction, durable when it returns.
//!
//! | table | key | value |
//! |---|---|---|
//! | `checkpoint` | subscription | the checkpoint's record (`tidemill_event::Checkpoint`) |
//! | `state` | subscription, key | value |
//! | `table` | subscription, output table | its columns and key, as a schema frame |
//! | `output` | subscription, output table, key columns | all columns (see `value`) |
//!
//! Rows of an output table without key have the commit's place and their number in it for a key.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use tidemill_event::{Checkpoint, Decoded, Frame, SchemaSet, TableSchema, decode};

use crate::commit::Commit;
use crate::effects::Effects;
use crate::error::{StoreError, StoreFailed};
use crate::rows::{RowKey, Rows};
use crate::view::View;

pub(crate) const CHECKPOINT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("checkpoint");
pub(crate) const STATE: TableDefinition<'_, (&str, &[u8]), &[u8]> = TableDefinition::new("state");
pub(crate) const TABLE: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("table");
pub(crate) const OUTPUT: TableDefinition<'_, RowKey, &[u8]> = TableDefinition::new("output");

/// Pages that are kept in memory; a table that is read, truncated or renamed may be many times larger.
const CACHE_BYTES: usize = 128 << 20;

/// A key of a subscription's state, and its value.
pub type StateEntry = (Vec<u8>, Vec<u8>);

/// A store of checkpoints, state and output rows in one file. Cheap to clone. Calls block.
#[derive(Clone)]
pub struct EmbeddedStore {
    database: Arc<Database>,
    failing: Failing,
}

/// Names the store in errors.
#[derive(Clone)]
pub(crate) struct Failing(Arc<PathBuf>);

impl Failing {
    pub(crate) fn of(&self, action: &'static str, source: impl Into<redb::Error>) -> StoreError {
        StoreFailed { action, path: self.0.to_path_buf(), source: Box::new(source.into()) }.into()
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.to_path_buf()
    }

    pub(crate) fn when<E: Into<redb::Error>>(&self, action: &'static str) -> impl Fn(E) -> StoreError + '_ {
        move |source| self.of(action, source)
    }
}

impl std::fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedStore").field("path", &self.failing.0).finish_non_exhaustive()
    }
}

impl EmbeddedStore {
    /// Opens or makes the store of that file. After a crash it is as the last commit left it.
    pub fn open(path: &Path) -> Result<EmbeddedStore, StoreError> {
        let failing = Failing(Arc::new(path.to_owned()));
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(failing.when("create"))?;
        }
        let database = Database::builder().set_cache_size(CACHE_BYTES).create(path);
        let database = database.map_err(failing.when("open"))?;
        let write = database.begin_write().map_err(failing.when("open"))?;
        write.open_table(CHECKPOINT).map_err(failing.when("open"))?;
        write.open_table(STATE).map_err(failing.when("open"))?;
        write.open_table(TABLE).map_err(failing.when("open"))?;
        write.open_table(OUTPUT).map_err(failing.when("open"))?;
        write.commit().map_err(failing.when("open"))?;
        Ok(EmbeddedStore { database: Arc::new(database), failing })
    }

    /// How far a subscription is; `None`: it has never committed. A damaged record is an error.
    pub fn checkpoint(&self, subscription: &str) -> Result<Option<Checkpoint>, StoreError> {
        self.view(subscription)?.checkpoint()
    }

    /// The subscription as it is now, to be read as long as the view is kept.
    pub fn view(&self, subscription: &str) -> Result<View, StoreError> {
        let read = self.database.begin_read().map_err(self.failing.when("read"))?;
        Ok(View { read, failing: self.failing.clone(), subscription: subscription.to_owned() })
    }

    /// Commits what a delivery did together with the checkpoint after it, in one durable transaction: after a crash
    /// both are there, or neither.
    pub fn commit(
        &self,
        subscription: &str,
        checkpoint: &Checkpoint,
        effects: &Effects,
    ) -> Result<(), StoreError> {
        let write = self.database.begin_write().map_err(self.failing.when("write to"))?;
        Commit { write: &write, failing: &self.failing, subscription }.all(checkpoint, effects)?;
        write.commit().map_err(self.failing.when("commit to"))
    }

    /// The value of a key of a subscription's state.
    pub fn state_get(&self, subscription: &str, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let table = self.read(STATE)?;
        let value = table.get((subscription, key)).map_err(self.failing.when("read"))?;
        Ok(value.map(|value| value.value().to_vec()))
    }

    /// The keys of a subscription's state that begin so, with their values, in order.
    pub fn state_scan(&self, subscription: &str, prefix: &[u8]) -> Result<Vec<StateEntry>, StoreError> {
        let table = self.read(STATE)?;
        let mut found = Vec::new();
        for entry in table.range((subscription, prefix)..).map_err(self.failing.when("read"))? {
            let (key, value) = entry.map_err(self.failing.when("read"))?;
            let (of, key) = key.value();
            if of != subscription || !key.starts_with(prefix) {
                break;
            }
            found.push((key.to_vec(), value.value().to_vec()));
        }
        Ok(found)
    }

    /// The rows of an output table, in key order; none where there is no such table.
    pub fn rows(&self, subscription: &str, table: &str) -> Result<Rows, StoreError> {
        self.view(subscription)?.rows(table)
    }

    /// The names of a subscription's output tables, in order.
    pub fn tables(&self, subscription: &str) -> Result<Vec<String>, StoreError> {
        self.view(subscription)?.tables()
    }

    /// The subscriptions that have a checkpoint, in order.
    pub fn subscriptions(&self) -> Result<Vec<String>, StoreError> {
        let table = self.read(CHECKPOINT)?;
        let entries = table.iter().map_err(self.failing.when("read"))?;
        let name = |entry: Result<(redb::AccessGuard<'_, &str>, _), _>| Ok(entry?.0.value().to_owned());
        entries.map(name).collect::<Result<_, redb::StorageError>>().map_err(self.failing.when("read"))
    }

    fn read<K: redb::Key, V: redb::Value>(
        &self,
        definition: TableDefinition<'_, K, V>,
    ) -> Result<redb::ReadOnlyTable<K, V>, StoreError> {
        let read = self.database.begin_read().map_err(self.failing.when("read"))?;
        read.open_table(definition).map_err(self.failing.when("read"))
    }
}

impl Failing {
    pub(crate) fn schema(&self, definition: &[u8]) -> Result<Arc<TableSchema>, StoreError> {
        let decoded = Frame::read(definition).and_then(|frame| decode(&frame, &SchemaSet::default()));
        match decoded {
            Ok(Decoded::Schema(schema)) => Ok(schema),
            _ => {
                let what = "the columns of an output table".to_owned();
                Err(self.of("read", redb::StorageError::Corrupted(what)))
            }
        }
    }
}
