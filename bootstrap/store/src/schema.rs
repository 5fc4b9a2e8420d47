//! A table's schema as it is stored: the source's own columns, each with a field id for ever and the Parquet type that every
//! reader understands.

use std::sync::Arc;

use arrow_schema::{DataType, TimeUnit};
use serde::{Deserialize, Serialize};
use tidemill_event::{ColumnSchema, Sensitivity, TableName, TableSchema};

/// One version of a table's schema.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredSchema {
    /// The fingerprint of the source's schema ([`tidemill_event::SchemaId`]), in hexadecimal digits.
    pub id: String,
    /// The columns, in table order.
    pub columns: Vec<StoredColumn>,
    /// Ordinals of the primary key's columns at the source; empty: none.
    pub primary_key: Vec<u32>,
}

/// One column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredColumn {
    /// Its id for ever: a column that is renamed keeps it, one that is made again has another.
    pub field: u32,
    /// Its name.
    pub name: String,
    /// How the stream holds its values.
    #[serde(rename = "type")]
    pub data_type: ColumnType,
    /// The type as the source spells it.
    pub source_type: String,
    /// Whether the source allows NULL.
    pub nullable: bool,
    /// 0 unmarked, 1 personal data, 2 pseudonym.
    pub sensitivity: u8,
}

/// A type of the stream's closed set, by its text: `int64`, `uint64`, `decimal(10,2)`, `timestamp`, `datetime`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ColumnType(pub DataType);

/// What orders and identifies the rows of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TableKey {
    /// These columns, in key order, by field id: the primary key, or a unique one without NULL.
    Columns {
        /// Their field ids.
        fields: Vec<u32>,
    },
    /// Every column: equal rows are counted. There are no consolidated deltas.
    WholeRow,
}

impl StoredSchema {
    /// The stored form of a source's schema, where every column is new: field ids from `first_field` on.
    pub fn new(schema: &TableSchema, first_field: u32) -> StoredSchema {
        let columns = (first_field..).zip(schema.columns()).map(|(field, c)| StoredColumn {
            field,
            name: c.name.clone(),
            data_type: ColumnType(c.data_type.clone()),
            source_type: c.source_type.clone(),
            nullable: c.nullable,
            sensitivity: c.sensitivity as u8,
        });
        StoredSchema {
            id: schema.id().to_string(),
            columns: columns.collect(),
            primary_key: schema.key().to_vec(),
        }
    }

    /// Names the schema together with its field ids: a column that was dropped and made again gives another one.
    pub fn fingerprint(&self) -> String {
        let fields: Vec<u8> = self.columns.iter().flat_map(|column| column.field.to_le_bytes()).collect();
        format!("{}-{:08x}", self.id, crc32c::crc32c(&fields))
    }

    /// The source's schema of that table.
    pub fn table_schema(&self, name: &TableName) -> Arc<TableSchema> {
        let column = |c: &StoredColumn| ColumnSchema {
            name: c.name.clone(),
            data_type: c.data_type.0.clone(),
            source_type: c.source_type.clone(),
            nullable: c.nullable,
            sensitivity: match c.sensitivity {
                1 => Sensitivity::Personal,
                2 => Sensitivity::Pseudonym,
                _ => Sensitivity::Unmarked,
            },
        };
        TableSchema::new(name.clone(), self.columns.iter().map(column).collect(), self.primary_key.clone())
    }
}

const NAMES: &[(&str, DataType)] = &[
    ("bool", DataType::Boolean),
    ("int8", DataType::Int8),
    ("int16", DataType::Int16),
    ("int32", DataType::Int32),
    ("int64", DataType::Int64),
    ("uint8", DataType::UInt8),
    ("uint16", DataType::UInt16),
    ("uint32", DataType::UInt32),
    ("uint64", DataType::UInt64),
    ("float32", DataType::Float32),
    ("float64", DataType::Float64),
    ("text", DataType::Utf8),
    ("bytes", DataType::Binary),
    ("date", DataType::Date32),
    ("datetime", DataType::Timestamp(TimeUnit::Microsecond, None)),
    ("time", DataType::Duration(TimeUnit::Microsecond)),
];

impl From<ColumnType> for String {
    fn from(ColumnType(data_type): ColumnType) -> String {
        match data_type {
            DataType::Decimal128(p, s) | DataType::Decimal256(p, s) => format!("decimal({p},{s})"),
            DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => "timestamp".to_owned(),
            other => {
                let name = NAMES.iter().find(|(_, data_type)| *data_type == other);
                name.expect("a column's type is in the closed set").0.to_owned()
            }
        }
    }
}

impl TryFrom<String> for ColumnType {
    type Error = String;

    fn try_from(text: String) -> Result<ColumnType, String> {
        if text == "timestamp" {
            return Ok(ColumnType(DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))));
        }
        if let Some((_, data_type)) = NAMES.iter().find(|(name, _)| *name == text) {
            return Ok(ColumnType(data_type.clone()));
        }
        let digits = text.strip_prefix("decimal(").and_then(|rest| rest.strip_suffix(')'));
        let shape = digits.and_then(|digits| digits.split_once(','));
        match shape.and_then(|(p, s)| Some((p.parse::<u8>().ok()?, s.parse::<i8>().ok()?))) {
            Some((p, s)) if (1..=38).contains(&p) && s >= 0 => Ok(ColumnType(DataType::Decimal128(p, s))),
            Some((p, s)) if (39..=76).contains(&p) && s >= 0 => Ok(ColumnType(DataType::Decimal256(p, s))),
            _ => Err(format!("`{text}` is no column type of this release")),
        }
    }
}
