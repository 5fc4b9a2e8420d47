//! Output rows as they are read back: for people, tests and `tidemill state`.

use std::sync::Arc;

use redb::OwnedRange;
use tidemill_event::TableSchema;

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

impl Iterator for Rows {
    type Item = Result<StoredRow, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (schema, range) = self.rows.as_mut()?;
        let (key, row) = match range.next()? {
            Ok(entry) => entry,
            Err(error) => return Some(Err(self.failing.of("read", error))),
        };
        let (subscription, table, _) = key.value();
        if (subscription, table) != (&*self.subscription, &*self.table) {
            return None;
        }
        let values = decode(schema, row.value());
        let damaged =
            || self.failing.of("read", redb::StorageError::Corrupted("a row is not of its table".into()));
        Some(values.map(|values| StoredRow { schema: Arc::clone(schema), values }).ok_or_else(damaged))
    }
}

fn decode(schema: &TableSchema, mut bytes: &[u8]) -> Option<Vec<Value>> {
    let columns = schema.columns().iter();
    let values = columns.map(|c| Value::decode(&c.data_type, &mut bytes)).collect::<Option<Vec<_>>>()?;
    bytes.is_empty().then_some(values)
}
