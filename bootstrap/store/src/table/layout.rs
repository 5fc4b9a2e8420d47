//! The columns of a file: the table's own by field id, and ours behind them; and what its footer says for us.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

use super::mapping::{stored_type, to_stored};
use crate::{StoredSchema, TableKey};

/// Footer key: the table's schema at the time of writing.
pub(crate) const META_SCHEMA: &str = "tidemill.schema";
/// Footer key: the name of the key encoding.
pub(crate) const META_KEY_ENCODING: &str = "tidemill.key_encoding";
/// Footer key: the last key of each row group, in hexadecimal digits, separated by spaces.
pub(crate) const META_LAST_KEYS: &str = "tidemill.last_keys";

/// Our columns have ids far above those of any table.
const OWN_FIELDS: u32 = 2_000_000_000;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Live rows: `_scn`.
    Base,
    /// Newest versions: `__op`, `__timeline`, `__scn`.
    Run,
    /// Changes of how many copies there are of a row: `__count`, `__timeline`, `__scn`.
    CountedRun,
}

/// `__op` of a row that is there.
pub(crate) const OP_UPSERT: i8 = 0;
/// `__op` of a row that is gone.
pub(crate) const OP_DELETE: i8 = 1;

impl Layout {
    /// That of a table's runs.
    pub(crate) fn of_runs(key: &TableKey) -> Layout {
        match key {
            TableKey::Columns { .. } => Layout::Run,
            TableKey::WholeRow => Layout::CountedRun,
        }
    }

    /// Our columns: name, type, number.
    fn own(self) -> &'static [(&'static str, DataType, u32)] {
        match self {
            Layout::Base => &[("_scn", DataType::Int64, 1)],
            Layout::Run => &[
                ("__op", DataType::Int8, 2),
                ("__timeline", DataType::Int32, 3),
                ("__scn", DataType::Int64, 4),
            ],
            Layout::CountedRun => &[
                ("__count", DataType::Int64, 5),
                ("__timeline", DataType::Int32, 3),
                ("__scn", DataType::Int64, 4),
            ],
        }
    }

    /// The Arrow schema of a file's rows.
    pub(crate) fn schema(self, schema: &StoredSchema, key: &TableKey) -> SchemaRef {
        let columns = schema.columns.iter().map(|column| {
            let is_key = matches!(key, TableKey::Columns { fields } if fields.contains(&column.field));
            field(&column.name, stored_type(&column.data_type.0), !is_key, column.field)
        });
        let own = self.own().iter();
        let own = own.map(|(name, data_type, number)| {
            field(&own_name(schema, name), data_type.clone(), false, OWN_FIELDS + number)
        });
        Arc::new(Schema::new(columns.chain(own).collect::<Vec<_>>()))
    }
}

/// The name of a column of ours: with more underscores where the table has one of that name. Readers of Delta Lake tables take
/// names that differ in case alone for the same.
pub(crate) fn own_name(schema: &StoredSchema, name: &str) -> String {
    let mut name = name.to_owned();
    while schema.columns.iter().any(|column| column.name.eq_ignore_ascii_case(&name)) {
        name.insert(0, '_');
    }
    name
}

fn field(name: &str, data_type: DataType, nullable: bool, id: u32) -> Field {
    let metadata = HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())]);
    Field::new(name, data_type, nullable).with_metadata(metadata)
}

/// Places of the key's columns in the schema, in key order.
pub(crate) fn key_places(schema: &StoredSchema, key: &TableKey) -> Vec<usize> {
    match key {
        TableKey::Columns { fields } => {
            let place = |field| schema.columns.iter().position(|column| column.field == field);
            fields.iter().filter_map(|field| place(*field)).collect()
        }
        TableKey::WholeRow => (0..schema.columns.len()).collect(),
    }
}

/// The rows of a batch as they are stored, without our columns.
pub(crate) fn stored_columns(batch: &RecordBatch) -> Vec<ArrayRef> {
    batch.columns().iter().map(to_stored).collect()
}

/// The columns of the key.
pub(crate) fn pick(columns: &[ArrayRef], places: &[usize]) -> Vec<ArrayRef> {
    places.iter().map(|place| Arc::clone(&columns[*place])).collect()
}
