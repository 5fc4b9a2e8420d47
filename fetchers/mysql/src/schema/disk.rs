//! Versions on disk: `schemas.redb`, one entry a version.
//!
//! Key: server, database, table and the beginning in hexadecimal digits, separated by zero characters. Value: format (u8,
//! 1), from, until (`u64::MAX`: open) and proven (u64 each); the key's ordinals (counted u32); the columns (counted): nullable
//! (u8), bytes, precision, scale, digits and collation (u64 each, `u64::MAX`: none), name, data type, column type. Counts are
//! u32, texts a u32 length and UTF-8, everything little-endian.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, ReadableDatabase, TableDefinition};
use tidemill_event::{Scn, TableName};
use tidemill_fetchers_api::FetchError;

use super::Version;
use super::described::{Described, DescribedColumn};
use crate::wire::{Bytes, Malformed};

const VERSIONS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("versions");
const FORMAT: u8 = 1;
const NONE: u64 = u64::MAX;

/// See the module.
pub(super) struct Disk {
    path: PathBuf,
    /// `None`: there is no file yet. Most sources never need one, since their logs name the columns.
    database: Option<Database>,
}

impl Disk {
    pub(super) fn open(directory: &Path) -> Result<Disk, FetchError> {
        let mut disk = Disk { path: directory.join("schemas.redb"), database: None };
        if disk.path.exists() {
            disk.database()?;
        }
        Ok(disk)
    }

    /// The database, made when it is first needed.
    fn database(&mut self) -> Result<&Database, FetchError> {
        if self.database.is_none() {
            if let Some(directory) = self.path.parent() {
                std::fs::create_dir_all(directory).map_err(|e| self.failed(e))?;
            }
            self.database = Some(Database::create(&self.path).map_err(|e| self.failed(e))?);
        }
        Ok(self.database.as_ref().expect("it was just made"))
    }

    fn failed(&self, error: impl Into<redb::Error>) -> FetchError {
        FetchError::Io { what: self.path.display().to_string(), source: io::Error::other(error.into()) }
    }

    fn damaged(&self, key: &str) -> FetchError {
        FetchError::Damaged {
            place: self.path.display().to_string(),
            what: format!(
                "the entry {key:?} is no definition of a table; remove the file: definitions are asked for anew"
            ),
        }
    }

    /// All versions of a server's log, oldest first.
    pub(super) fn load(&self, server: &str) -> Result<HashMap<TableName, Vec<Version>>, FetchError> {
        let mut versions: HashMap<TableName, Vec<Version>> = HashMap::new();
        let Some(database) = &self.database else { return Ok(versions) };
        let read = database.begin_read().map_err(|e| self.failed(e))?;
        let table = match read.open_table(VERSIONS) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(versions),
            Err(error) => return Err(self.failed(error)),
        };
        let prefix = format!("{server}\0");
        for entry in table.range(prefix.as_str()..).map_err(|e| self.failed(e))? {
            let (key, value) = entry.map_err(|e| self.failed(e))?;
            let Some(rest) = key.value().strip_prefix(&prefix) else { break };
            let mut parts = rest.split('\0');
            let (Some(database), Some(table)) = (parts.next(), parts.next()) else {
                return Err(self.damaged(rest));
            };
            let version = decode(value.value()).map_err(|_| self.damaged(rest))?;
            versions.entry(TableName::new(database, table)).or_default().push(version);
        }
        Ok(versions)
    }

    pub(super) fn keep(
        &mut self,
        server: &str,
        table: &TableName,
        version: &Version,
    ) -> Result<(), FetchError> {
        let key = format!("{server}\0{}\0{}\0{:016x}", table.database, table.table, version.from.0);
        let write = self.database()?.begin_write();
        let write = write.map_err(|e| self.failed(e))?;
        {
            let mut versions = write.open_table(VERSIONS).map_err(|e| self.failed(e))?;
            versions.insert(key.as_str(), encode(version).as_slice()).map_err(|e| self.failed(e))?;
        }
        write.commit().map_err(|e| self.failed(e))
    }
}

fn encode(version: &Version) -> Vec<u8> {
    let mut out = vec![FORMAT];
    for number in [version.from.0, version.until.map_or(NONE, |until| until.0), version.proven.0] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    let count = |out: &mut Vec<u8>, n: usize| out.extend_from_slice(&(n as u32).to_le_bytes());
    count(&mut out, version.table.key.len());
    version.table.key.iter().for_each(|ordinal| out.extend_from_slice(&ordinal.to_le_bytes()));
    count(&mut out, version.table.columns.len());
    for column in &version.table.columns {
        out.push(u8::from(column.nullable));
        for number in [column.bytes, column.precision, column.scale, column.digits, column.collation] {
            out.extend_from_slice(&number.unwrap_or(NONE).to_le_bytes());
        }
        for text in [&column.name, &column.data_type, &column.column_type] {
            count(&mut out, text.len());
            out.extend_from_slice(text.as_bytes());
        }
    }
    out
}

fn decode(bytes: &[u8]) -> Result<Version, Malformed> {
    let mut b = Bytes(bytes);
    if b.u8()? != FORMAT {
        return Err(Malformed("it has a format of another release"));
    }
    let (from, until, proven) = (Scn(b.u64()?), b.u64()?, Scn(b.u64()?));
    let mut table = Described::default();
    for _ in 0..b.u32()? {
        table.key.push(b.u32()?);
    }
    for _ in 0..b.u32()? {
        let nullable = b.u8()? != 0;
        let mut number = || b.u64().map(|n| (n != NONE).then_some(n));
        let (bytes, precision, scale) = (number()?, number()?, number()?);
        let (digits, collation) = (number()?, number()?);
        let mut text = || {
            let length = b.u32()? as usize;
            String::from_utf8(b.take(length)?.to_vec()).map_err(|_| Malformed("a name is not UTF-8"))
        };
        let (name, data_type, column_type) = (text()?, text()?, text()?);
        table.columns.push(DescribedColumn {
            name,
            data_type,
            column_type,
            nullable,
            bytes,
            precision,
            scale,
            digits,
            collation,
        });
    }
    if !b.0.is_empty() {
        return Err(Malformed("bytes are left over"));
    }
    Ok(Version { from, until: (until != NONE).then_some(Scn(until)), proven, table: Arc::new(table) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_version_is_read_as_it_was_written_and_every_truncation_is_an_error() {
        let column = DescribedColumn {
            name: "größe".into(),
            data_type: "decimal".into(),
            column_type: "decimal(10,2) unsigned".into(),
            nullable: true,
            precision: Some(10),
            scale: Some(2),
            ..DescribedColumn::default()
        };
        let table = Arc::new(Described { columns: vec![column.clone(), column], key: vec![1, 0] });
        let version = Version { from: Scn(7), until: Some(Scn(9)), proven: Scn(8), table };
        let bytes = encode(&version);
        assert_eq!(decode(&bytes), Ok(version.clone()));
        assert!((0..bytes.len()).all(|length| decode(&bytes[..length]).is_err()));
        let directory = tempfile::tempdir().unwrap();
        let mut disk = Disk::open(directory.path()).unwrap();
        let name = TableName::new("shop", "größen");
        disk.keep("server", &name, &version).unwrap();
        let open = Version { from: Scn(9), until: None, ..version.clone() };
        disk.keep("server", &name, &open).unwrap();
        disk.keep("another", &name, &open).unwrap();
        assert_eq!(disk.load("server").unwrap()[&name], [version, open]);
    }
}
