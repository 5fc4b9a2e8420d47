//! The lines of a Delta commit, as the Delta transaction log protocol writes them. What they say is decided elsewhere.

use std::collections::BTreeMap;

use arrow_schema::{DataType, TimeUnit};
use serde::{Deserialize, Serialize};

use crate::StoredSchema;

/// A writer feature that nobody else knows: readers read, other writers refuse. Our files are ours to replace.
pub const MANAGED: &str = "tidemillManaged";

/// The tag of a file that holds the CRC-32C of its bytes, as hexadecimal digits.
pub const CHECKSUM: &str = "tidemill.crc32c";

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    CommitInfo(CommitInfo),
    Protocol(Protocol),
    MetaData(MetaData),
    Txn(Txn),
    Remove(Remove),
    Add(Add),
}

/// Who made a commit, and of what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommitInfo {
    pub timestamp: i64,
    pub operation: String,
    pub operation_parameters: BTreeMap<String, String>,
    pub engine_info: String,
    pub tidemill: Base,
}

/// Which base a commit is, in our own words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Base {
    /// The manifest that it was read from: rises with every commit.
    pub manifest: u64,
    pub scn: u64,
    pub timeline: u32,
    pub server: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub executed: Option<String>,
    /// Its directory, from the source's root.
    pub path: String,
}

/// What a program must know to read, and to write.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Protocol {
    pub min_reader_version: u32,
    pub min_writer_version: u32,
    pub reader_features: Vec<String>,
    pub writer_features: Vec<String>,
}

/// The table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetaData {
    pub id: String,
    pub name: String,
    pub format: Format,
    pub schema_string: String,
    pub partition_columns: Vec<String>,
    pub created_time: i64,
    pub configuration: BTreeMap<String, String>,
}

/// How its files are encoded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Format {
    pub provider: String,
    pub options: BTreeMap<String, String>,
}

impl Default for Format {
    fn default() -> Format {
        Format { provider: "parquet".to_owned(), options: BTreeMap::new() }
    }
}

/// How far an application is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Txn {
    pub app_id: String,
    pub version: i64,
    pub last_updated: i64,
}

/// A file that is no longer part of the table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Remove {
    pub path: String,
    pub deletion_timestamp: i64,
    pub data_change: bool,
    pub extended_file_metadata: bool,
    pub partition_values: BTreeMap<String, String>,
    pub size: u64,
}

/// A file of the table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Add {
    pub path: String,
    pub partition_values: BTreeMap<String, String>,
    pub size: u64,
    pub modification_time: i64,
    pub data_change: bool,
    pub stats: String,
    pub tags: BTreeMap<String, String>,
}

impl Protocol {
    /// What a table of that schema asks for.
    pub fn of(schema: &StoredSchema) -> Protocol {
        let has_datetime =
            schema.columns.iter().any(|c| c.data_type.0 == DataType::Timestamp(TimeUnit::Microsecond, None));
        let reader: Vec<String> = has_datetime.then(|| "timestampNtz".to_owned()).into_iter().collect();
        let mut writer = reader.clone();
        writer.push(MANAGED.to_owned());
        Protocol {
            min_reader_version: 3,
            min_writer_version: 7,
            reader_features: reader,
            writer_features: writer,
        }
    }
}

/// A path as a URL has it.
pub fn escape(path: &str) -> String {
    let mut escaped = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                escaped.push(byte as char)
            }
            byte => escaped += &format!("%{byte:02X}"),
        }
    }
    escaped
}
