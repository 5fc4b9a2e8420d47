//! One commit: the checkpoint, the state and what becomes of output tables, in the order in which the delivery did it.
//! The write transaction around it is the store's.

use std::ops::{Bound, Range};
use std::sync::Arc;

use redb::{ReadableTable, WriteTransaction};
use tidemill_event::{Checkpoint, ColumnSchema, Phase, Position, TableName, TableSchema, encode_schema};

use crate::effects::{Effects, Op, OutputChange, OutputRows};
use crate::error::{Rejected, StoreError};
use crate::store::{CHECKPOINT, Failing, OUTPUT, STATE, TABLE};
use crate::value::{is_storable, value_at};

/// Rows of a table that is renamed are in memory up to here.
const RENAMED_BYTES: usize = 1 << 20;

/// A row as it is stored, behind its key.
type KeyAndRow = (Vec<u8>, Vec<u8>);

/// One write transaction of one subscription. What fails leaves the transaction to be dropped.
pub(crate) struct Commit<'a> {
    pub(crate) write: &'a WriteTransaction,
    pub(crate) failing: &'a Failing,
    pub(crate) subscription: &'a str,
}

impl Commit<'_> {
    pub(crate) fn all(&self, checkpoint: &Checkpoint, effects: &Effects) -> Result<(), StoreError> {
        self.checkpoint(checkpoint)?;
        self.state(&effects.state)?;
        let (place, mut unkeyed) = (place_of(checkpoint), 0);
        for change in &effects.output {
            match change {
                OutputChange::Rows(rows) => self.rows(rows, &place, &mut unkeyed)?,
                OutputChange::Truncate { table } => self.truncate(table)?,
                OutputChange::Rename { table, to } => self.rename(table, to)?,
            }
        }
        Ok(())
    }

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

    fn rows(&self, rows: &OutputRows, place: &[u8], unkeyed: &mut u64) -> Result<(), StoreError> {
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

    /// A table has the columns with which its first row was written, until it has none.
    fn define(&self, name: &str, schema: &TableSchema) -> Result<(), StoreError> {
        let mut table = self.write.open_table(TABLE).map_err(self.failing.when("write to"))?;
        let key = (self.subscription, name);
        let known =
            table.get(key).map_err(self.failing.when("read"))?.map(|d| self.failing.schema(d.value()));
        match known.transpose()? {
            Some(known) if known.id() == schema.id() => return Ok(()),
            Some(_) if !self.is_empty(name)? => {
                let what = "it is there with other columns or another key; give the new one another name";
                return self.reject(name, what.into());
            }
            _ => {}
        }
        let frame = encode_schema(schema);
        table.insert(key, frame.bytes()).map_err(self.failing.when("write to"))?;
        Ok(())
    }

    fn is_empty(&self, name: &str) -> Result<bool, StoreError> {
        let rows = self.write.open_table(OUTPUT).map_err(self.failing.when("read"))?;
        let behind = behind(name);
        let mut found = rows.range(self.all_of(name, &behind)).map_err(self.failing.when("read"))?;
        Ok(found.next().transpose().map_err(self.failing.when("read"))?.is_none())
    }

    /// The keys of all rows of a table, which `behind` comes next to.
    fn all_of<'k>(&'k self, name: &'k str, behind: &'k str) -> Range<(&'k str, &'k str, &'k [u8])> {
        (self.subscription, name, &[])..(self.subscription, behind, &[])
    }

    /// Takes every row away. What is in the table is not read into memory.
    fn truncate(&self, name: &str) -> Result<(), StoreError> {
        let mut rows = self.write.open_table(OUTPUT).map_err(self.failing.when("write to"))?;
        rows.retain_in(self.all_of(name, &behind(name)), |_, _| false).map_err(self.failing.when("write to"))
    }

    /// Gives all rows to another table, some at a time.
    fn rename(&self, name: &str, to: &str) -> Result<(), StoreError> {
        if name == to {
            return Ok(());
        }
        self.truncate(to)?;
        self.rename_definition(name, to)?;
        let mut after = None;
        while let Some(some) = self.some_rows(name, after.as_deref())? {
            let mut rows = self.write.open_table(OUTPUT).map_err(self.failing.when("write to"))?;
            for (key, row) in &some {
                rows.insert((self.subscription, to, &key[..]), &row[..])
                    .map_err(self.failing.when("write to"))?;
            }
            after = some.into_iter().next_back().map(|(key, _)| key);
        }
        self.truncate(name)
    }

    fn rename_definition(&self, name: &str, to: &str) -> Result<(), StoreError> {
        let mut table = self.write.open_table(TABLE).map_err(self.failing.when("write to"))?;
        let known = table
            .remove((self.subscription, name))
            .map_err(self.failing.when("write to"))?
            .map(|d| self.failing.schema(d.value()));
        let done = match known.transpose()? {
            None => table.remove((self.subscription, to)).map(drop),
            Some(known) => {
                let schema =
                    TableSchema::new(TableName::new("", to), known.columns().to_vec(), known.key().to_vec());
                table.insert((self.subscription, to), encode_schema(&schema).bytes()).map(drop)
            }
        };
        done.map_err(self.failing.when("write to"))
    }

    /// The next rows of a table behind that key, with their keys; `None`: there are none.
    fn some_rows(&self, name: &str, after: Option<&[u8]>) -> Result<Option<Vec<KeyAndRow>>, StoreError> {
        let rows = self.write.open_table(OUTPUT).map_err(self.failing.when("read"))?;
        let behind = behind(name);
        let Range { start, end } = self.all_of(name, &behind);
        let start =
            after.map_or(Bound::Included(start), |key| Bound::Excluded((self.subscription, name, key)));
        let (mut some, mut bytes) = (vec![], 0);
        for entry in rows.range((start, Bound::Excluded(end))).map_err(self.failing.when("read"))? {
            let (key, row) = entry.map_err(self.failing.when("read"))?;
            let (key, row) = (key.value().2.to_vec(), row.value().to_vec());
            bytes += key.len() + row.len();
            some.push((key, row));
            if bytes >= RENAMED_BYTES {
                break;
            }
        }
        Ok(Some(some).filter(|some| !some.is_empty()))
    }

    fn reject<T>(&self, table: &str, what: String) -> Result<T, StoreError> {
        let (subscription, table) = (self.subscription.to_owned(), table.to_owned());
        Err(Rejected { subscription, table, what }.into())
    }
}

/// The name that comes next in order: no other lies between the two.
fn behind(name: &str) -> String {
    format!("{name}\0")
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
