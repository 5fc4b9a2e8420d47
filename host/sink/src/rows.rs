//! Output rows as they are read back: for people, tests and `tidemill state`.

use std::sync::Arc;

use arrow_array::RecordBatch;
use redb::OwnedRange;
use tidemill_event::TableSchema;

use crate::batch::batch;
use crate::error::StoreError;
use crate::store::Failing;
use crate::value::{Value, write_text};

pub(crate) type RowKey = (&'static str, &'static str, &'static [u8]);

/// An output table: its columns and its rows.
pub(crate) type Table = (Arc<TableSchema>, OwnedRange<RowKey, &'static [u8]>);

/// One row of an output table.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredRow {
    /// The table's columns and key.
    pub schema: Arc<TableSchema>,
    /// A value a column.
    pub values: Vec<Value>,
}

impl StoredRow {
    /// The value of the column of that name.
    pub fn get(&self, column: &str) -> Option<&Value> {
        self.values.get(self.schema.column(column)?)
    }

    /// The row as one JSON object, in column order. Decimals are texts, bytes hexadecimal texts, dates days and
    /// times microseconds since 1970-01-01.
    pub fn to_json(&self) -> String {
        let mut out = String::from("{");
        for (i, (column, value)) in self.schema.columns().iter().zip(&self.values).enumerate() {
            if i > 0 {
                out.push(',');
            }
            write_text(&column.name, &mut out);
            out.push(':');
            value.write_json(&mut out);
        }
        out.push('}');
        out
    }
}

/// The rows of an output table, in the order of their keys, as they were when the iterator was made.
pub struct Rows {
    pub(crate) failing: Failing,
    pub(crate) subscription: String,
    pub(crate) table: String,
    /// `None`: there is no such table.
    pub(crate) rows: Option<Table>,
}

impl Rows {
    /// The next rows, so many at most, as columns of the table's types; `None` at the end.
    pub fn next_batch(&mut self, rows_max: usize) -> Result<Option<RecordBatch>, StoreError> {
        let mut rows = Vec::with_capacity(rows_max.min(1024));
        while rows.len() < rows_max
            && let Some(row) = self.next_values()
        {
            rows.push(row?);
        }
        let Some((schema, _)) = self.rows.as_ref().filter(|_| !rows.is_empty()) else { return Ok(None) };
        Ok(Some(batch(schema, &rows)))
    }

    fn next_values(&mut self) -> Option<Result<Vec<Value>, StoreError>> {
        let (schema, range) = self.rows.as_mut()?;
        let (key, row) = match range.next()? {
            Ok(entry) => entry,
            Err(error) => return Some(Err(self.failing.of("read", error))),
        };
        let (subscription, table, _) = key.value();
        if (subscription, table) != (&*self.subscription, &*self.table) {
            return None;
        }
        let damaged =
            || self.failing.of("read", redb::StorageError::Corrupted("a row is not of its table".into()));
        Some(decode(schema, row.value()).ok_or_else(damaged))
    }
}

impl Iterator for Rows {
    type Item = Result<StoredRow, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let values = self.next_values()?;
        let (schema, _) = self.rows.as_ref().expect("it has a row");
        Some(values.map(|values| StoredRow { schema: Arc::clone(schema), values }))
    }
}

fn decode(schema: &TableSchema, mut bytes: &[u8]) -> Option<Vec<Value>> {
    let columns = schema.columns().iter();
    let values = columns.map(|c| Value::decode(&c.data_type, &mut bytes)).collect::<Option<Vec<_>>>()?;
    bytes.is_empty().then_some(values)
}
