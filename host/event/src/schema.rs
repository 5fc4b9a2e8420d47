//! One version of one table's schema. Its id is a fingerprint of its content, so two relays on one
//! server, or one relay after a restart, give the same schema the same id without any counter.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use sha2::{Digest, Sha256};

use crate::wire::{Malformed, Reader, Writer};

/// The name of a table within its source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName {
    /// The database (MySQL) or schema (Oracle).
    pub database: String,
    /// The table.
    pub table: String,
}

impl TableName {
    /// A name from its two parts.
    pub fn new(database: impl Into<String>, table: impl Into<String>) -> Self {
        TableName { database: database.into(), table: table.into() }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.database, self.table)
    }
}

/// Fingerprint of a schema's content: the first 8 bytes of the SHA-256 of its encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SchemaId(pub u64);

impl fmt::Display for SchemaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What a column's values are to the people they speak of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Sensitivity {
    /// Nothing is said. On disk: keep the numbers.
    #[default]
    Unmarked = 0,
    /// Personal data.
    Personal = 1,
    /// Replaced by a keyed pseudonym before it was stored.
    Pseudonym = 2,
}

/// One column.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ColumnSchema {
    /// Its name, as the source spells it.
    pub name: String,
    /// How its values are held.
    pub data_type: DataType,
    /// The type as the source spells it: `bigint(20) unsigned`, `json`, `enum('a','b')`.
    pub source_type: String,
    /// Whether it may hold NULL.
    pub nullable: bool,
    /// What its values are to people.
    pub sensitivity: Sensitivity,
}

impl ColumnSchema {
    /// A column without a sensitivity mark.
    pub fn new(name: &str, data_type: DataType, source_type: &str, nullable: bool) -> Self {
        ColumnSchema {
            name: name.to_owned(),
            data_type,
            source_type: source_type.to_owned(),
            nullable,
            sensitivity: Sensitivity::Unmarked,
        }
    }
}

/// One version of one table's schema, immutable.
#[derive(Debug, PartialEq, Eq)]
pub struct TableSchema {
    id: SchemaId,
    name: TableName,
    columns: Vec<ColumnSchema>,
    key: Vec<u32>,
    arrow: SchemaRef,
}

impl TableSchema {
    /// A schema from its parts. `key` holds the ordinals of the primary key's columns in key order; it is
    /// empty for a table without key.
    ///
    /// # Panics
    /// When `key` names a column that is not there, or a data type is outside the closed set of the frame codec.
    pub fn new(name: TableName, columns: Vec<ColumnSchema>, key: Vec<u32>) -> Arc<TableSchema> {
        assert!(key.iter().all(|k| (*k as usize) < columns.len()), "a key column exists");
        let encoded = encode_parts(&name, &columns, &key);
        let digest = Sha256::digest(&encoded);
        let id = u64::from_be_bytes(digest[..8].try_into().expect("a SHA-256 has 32 bytes"));
        let fields: Vec<Field> = columns.iter().map(arrow_field).collect();
        let arrow = Arc::new(Schema::new(fields));
        Arc::new(TableSchema { id: SchemaId(id), name, columns, key, arrow })
    }

    /// The fingerprint.
    pub fn id(&self) -> SchemaId {
        self.id
    }
    /// The table's name.
    pub fn name(&self) -> &TableName {
        &self.name
    }
    /// The columns, in table order.
    pub fn columns(&self) -> &[ColumnSchema] {
        &self.columns
    }
    /// Ordinals of the primary key's columns, in key order; empty: no key.
    pub fn key(&self) -> &[u32] {
        &self.key
    }
    /// The Arrow schema of its rows. Every field is nullable, since a column may be absent from an image;
    /// the source's own nullability is in [`ColumnSchema::nullable`].
    pub fn arrow(&self) -> &SchemaRef {
        &self.arrow
    }
    /// The ordinal of the column of that name.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|c| c.name == name)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        encode_parts(&self.name, &self.columns, &self.key)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Arc<TableSchema>, Malformed> {
        let mut r = Reader::new(bytes);
        let name = TableName::new(r.text()?, r.text()?);
        let count = r.count(11)?;
        let mut columns = Vec::with_capacity(count);
        for _ in 0..count {
            columns.push(decode_column(&mut r)?);
        }
        let key_count = r.count(4)?;
        let mut key = Vec::with_capacity(key_count);
        for _ in 0..key_count {
            let ordinal = r.u32()?;
            if ordinal as usize >= columns.len() {
                return Err(r.malformed("a key names a column that is not there"));
            }
            key.push(ordinal);
        }
        r.end()?;
        Ok(TableSchema::new(name, columns, key))
    }
}

fn arrow_field(column: &ColumnSchema) -> Field {
    Field::new(&column.name, column.data_type.clone(), true).with_metadata(HashMap::from([
        ("tidemill.source_type".to_owned(), column.source_type.clone()),
        ("tidemill.nullable".to_owned(), column.nullable.to_string()),
    ]))
}

fn encode_parts(name: &TableName, columns: &[ColumnSchema], key: &[u32]) -> Vec<u8> {
    let mut w = Writer::default();
    w.text(&name.database);
    w.text(&name.table);
    w.u32(columns.len() as u32);
    for column in columns {
        w.text(&column.name);
        w.text(&column.source_type);
        let (tag, p, s) = type_tag(&column.data_type).expect("the type is in the closed set");
        w.u8(tag);
        w.u8(p);
        w.u8(s as u8);
        w.u8(u8::from(column.nullable));
        w.u8(column.sensitivity as u8);
    }
    w.u32(key.len() as u32);
    for ordinal in key {
        w.u32(*ordinal);
    }
    w.0
}

fn decode_column(r: &mut Reader<'_>) -> Result<ColumnSchema, Malformed> {
    let name = r.text()?.to_owned();
    let source_type = r.text()?.to_owned();
    let (tag, p, s) = (r.u8()?, r.u8()?, r.u8()? as i8);
    let data_type = type_of(tag, p, s).ok_or_else(|| r.malformed("an unknown column type"))?;
    let nullable = match r.u8()? {
        0 => false,
        1 => true,
        _ => return Err(r.malformed("nullable is neither 0 nor 1")),
    };
    let sensitivity = match r.u8()? {
        0 => Sensitivity::Unmarked,
        1 => Sensitivity::Personal,
        2 => Sensitivity::Pseudonym,
        _ => return Err(r.malformed("an unknown sensitivity")),
    };
    Ok(ColumnSchema { name, data_type, source_type, nullable, sensitivity })
}

/// The closed set of column types. On disk: keep the numbers.
fn type_tag(t: &DataType) -> Option<(u8, u8, i8)> {
    Some(match t {
        DataType::Boolean => (1, 0, 0),
        DataType::Int8 => (2, 0, 0),
        DataType::Int16 => (3, 0, 0),
        DataType::Int32 => (4, 0, 0),
        DataType::Int64 => (5, 0, 0),
        DataType::UInt8 => (6, 0, 0),
        DataType::UInt16 => (7, 0, 0),
        DataType::UInt32 => (8, 0, 0),
        DataType::UInt64 => (9, 0, 0),
        DataType::Float32 => (10, 0, 0),
        DataType::Float64 => (11, 0, 0),
        DataType::Utf8 => (12, 0, 0),
        DataType::Binary => (13, 0, 0),
        DataType::Date32 => (14, 0, 0),
        DataType::Timestamp(TimeUnit::Microsecond, None) => (15, 0, 0),
        DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) if &**zone == "UTC" => (16, 0, 0),
        DataType::Duration(TimeUnit::Microsecond) => (17, 0, 0),
        DataType::Decimal128(p, s) => (18, *p, *s),
        DataType::Decimal256(p, s) => (19, *p, *s),
        _ => return None,
    })
}

fn type_of(tag: u8, p: u8, s: i8) -> Option<DataType> {
    let decimal_fits = |max: u8| p >= 1 && p <= max && s >= 0 && s as u8 <= p;
    Some(match tag {
        1 => DataType::Boolean,
        2 => DataType::Int8,
        3 => DataType::Int16,
        4 => DataType::Int32,
        5 => DataType::Int64,
        6 => DataType::UInt8,
        7 => DataType::UInt16,
        8 => DataType::UInt32,
        9 => DataType::UInt64,
        10 => DataType::Float32,
        11 => DataType::Float64,
        12 => DataType::Utf8,
        13 => DataType::Binary,
        14 => DataType::Date32,
        15 => DataType::Timestamp(TimeUnit::Microsecond, None),
        16 => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        17 => DataType::Duration(TimeUnit::Microsecond),
        18 if decimal_fits(38) => DataType::Decimal128(p, s),
        19 if decimal_fits(76) => DataType::Decimal256(p, s),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders() -> Arc<TableSchema> {
        TableSchema::new(
            TableName::new("shop", "orders"),
            vec![
                ColumnSchema::new("id", DataType::UInt64, "bigint unsigned", false),
                ColumnSchema::new("amount", DataType::Decimal128(12, 2), "decimal(12,2)", true),
            ],
            vec![0],
        )
    }

    #[test]
    fn a_schema_survives_its_encoding_with_the_same_id() {
        let schema = orders();
        let back = TableSchema::decode(&schema.encode()).expect("decodes");
        assert_eq!(back, schema);
        assert_eq!(back.id(), schema.id());
    }

    #[test]
    fn the_id_is_a_fingerprint_that_stays_over_releases() {
        assert_eq!(orders().id().to_string(), "097b7d514a249437");
    }

    #[test]
    fn every_type_of_the_closed_set_survives_its_tag() {
        for tag in 0..=u8::MAX {
            if let Some(t) = type_of(tag, 20, 4) {
                assert_eq!(type_tag(&t).map(|(tag, ..)| tag), Some(tag), "{t}");
            }
        }
    }

    #[test]
    fn every_truncation_is_refused() {
        let bytes = orders().encode();
        for len in 0..bytes.len() {
            assert!(TableSchema::decode(&bytes[..len]).is_err(), "{len} bytes");
        }
    }
}
