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

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use tidemill_event::{
    Checkpoint, ColumnSchema, Decoded, Frame, Phase, Position, SchemaSet, TableName, TableSchema, decode,
    encode_schema,
};

use crate::effects::{Effects, Op, OutputRows};
use crate::error::{Rejected, StoreError, StoreFailed};
use crate::rows::{RowKey, Rows};
use crate::value::{is_storable, value_at};
use crate::view::View;

pub(crate) const CHECKPOINT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("checkpoint");
const STATE: TableDefinition<'_, (&str, &[u8]), &[u8]> = TableDefinition::new("state");
pub(crate) const TABLE: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("table");
pub(crate) const OUTPUT: TableDefinition<'_, RowKey, &[u8]> = TableDefinition::new("output");

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
        let database = Database::create(path).map_err(failing.when("open"))?;
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
        let commit = Commit { write: &write, failing: &self.failing, subscription };
        commit.checkpoint(checkpoint)?;
        commit.state(&effects.state)?;
        let (place, mut unkeyed) = (place_of(checkpoint), 0);
        for rows in &effects.output {
            commit.output(rows, &place, &mut unkeyed)?;
        }
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

/// One write transaction of one subscription.
struct Commit<'a> {
    write: &'a WriteTransaction,
    failing: &'a Failing,
    subscription: &'a str,
}

impl Commit<'_> {
    fn checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        let mut table = self.write.open_table(CHECKPOINT).map_err(self.failing.when("write to"))?;
        let record = checkpoint.encode();
        table.insert(self.subscription, &record[..]).map_err(self.failing.when("write to"))?;
        Ok(())
    }

    fn state(&self, writes: &[(Vec<u8>, Option<Vec<u8>>)]) -> Result<(), StoreError> {
        let mut table = self.write.open_table(STATE).map_err(self.failing.when("write to"))?;
        for (key, value) in writes {
            let key = (self.subscription, &key[..]);
            let done = match value {
                Some(value) => table.insert(key, &value[..]).map(drop),
                None => table.remove(key).map(drop),
            };
            done.map_err(self.failing.when("write to"))?;
        }
        Ok(())
    }

    fn output(&self, rows: &OutputRows, place: &[u8], unkeyed: &mut u64) -> Result<(), StoreError> {
        let schema = self.schema_of(rows)?;
        self.define(&rows.table, &schema)?;
        if rows.ops.len() != rows.columns.num_rows() {
            return self.reject(&rows.table, "it has not one op a row".into());
        }
        let mut table = self.write.open_table(OUTPUT).map_err(self.failing.when("write to"))?;
        let (mut key, mut row) = (Vec::new(), Vec::new());
        for (i, op) in rows.ops.iter().enumerate() {
            let Some(op) = Op::from_u8(*op) else {
                return self.reject(&rows.table, format!("there is no op {op}"));
            };
            if op == Op::Delete && rows.key.is_empty() {
                return self.reject(
                    &rows.table,
                    "it has no key, so nothing in it can be deleted; give it one".into(),
                );
            }
            key_of(rows, i, place, unkeyed, &mut key);
            let named = (self.subscription, &*rows.table, &key[..]);
            let done = if op == Op::Delete {
                table.remove(named).map(drop)
            } else {
                row.clear();
                rows.columns.columns().iter().for_each(|c| value_at(c, i).encode(&mut row));
                table.insert(named, &row[..]).map(drop)
            };
            done.map_err(self.failing.when("write to"))?;
        }
        Ok(())
    }

    /// The columns and key of an output table, if every one of them can be stored.
    fn schema_of(&self, rows: &OutputRows) -> Result<Arc<TableSchema>, StoreError> {
        let fields = rows.columns.schema_ref().fields();
        if let Some(field) = fields.iter().find(|f| !is_storable(f.data_type())) {
            let what =
                format!("column \"{}\" has type {}, which cannot be stored", field.name(), field.data_type());
            return self.reject(&rows.table, what);
        }
        if let Some(ordinal) = rows.key.iter().find(|k| **k as usize >= fields.len()) {
            return self
                .reject(&rows.table, format!("its key names column {ordinal}, it has {}", fields.len()));
        }
        let column =
            |f: &Arc<arrow_schema::Field>| ColumnSchema::new(f.name(), f.data_type().clone(), "", true);
        let name = TableName::new("", &*rows.table);
        Ok(TableSchema::new(name, fields.iter().map(column).collect(), rows.key.clone()))
    }

    /// A table has the columns with which it was first written.
    fn define(&self, name: &str, schema: &TableSchema) -> Result<(), StoreError> {
        let mut table = self.write.open_table(TABLE).map_err(self.failing.when("write to"))?;
        let key = (self.subscription, name);
        let known =
            table.get(key).map_err(self.failing.when("read"))?.map(|d| self.failing.schema(d.value()));
        match known.transpose()? {
            Some(known) if known.id() == schema.id() => Ok(()),
            Some(_) => {
                let what = "it is there with other columns or another key; give the new one another name";
                self.reject(name, what.into())
            }
            None => {
                let frame = encode_schema(schema);
                table.insert(key, frame.bytes()).map_err(self.failing.when("write to"))?;
                Ok(())
            }
        }
    }

    fn reject<T>(&self, table: &str, what: String) -> Result<T, StoreError> {
        let (subscription, table) = (self.subscription.to_owned(), table.to_owned());
        Err(Rejected { subscription, table, what }.into())
    }
}

/// What no other commit's place has: its position, and within a snapshot or deltas, where all positions are one, its cursor.
fn place_of(checkpoint: &Checkpoint) -> Vec<u8> {
    let Position { timeline, scn } = checkpoint.position;
    let mut place = timeline.to_be_bytes().to_vec();
    place.extend_from_slice(&scn.0.to_be_bytes());
    if let Phase::Snapshot(cursor) | Phase::Deltas(cursor) = &checkpoint.phase {
        place.extend_from_slice(&cursor.version.to_be_bytes());
        for bytes in [cursor.table.as_bytes(), &cursor.after] {
            place.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
            place.extend_from_slice(bytes);
        }
    }
    place
}

/// The key columns' bytes; for a table without key, a number that no other row has.
fn key_of(rows: &OutputRows, row: usize, place: &[u8], unkeyed: &mut u64, key: &mut Vec<u8>) {
    key.clear();
    for ordinal in &rows.key {
        value_at(rows.columns.column(*ordinal as usize), row).encode(key);
    }
    if rows.key.is_empty() {
        key.extend_from_slice(place);
        key.extend_from_slice(&unkeyed.to_be_bytes());
        *unkeyed += 1;
    }
}
