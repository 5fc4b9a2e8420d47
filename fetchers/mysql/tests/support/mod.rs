//! For the tests of this crate: values as the servers' clients print them, and tables rebuilt from changes.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "tests")]

pub mod differential;
pub mod extracted;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use tidemill_event::{Checkpoint, EventKind, TableSchema, Window};
use tidemill_fetchers_api::conformance::{Seen, SeenChange, SeenTransaction};
use tidemill_fetchers_api::{FetchError, Fetcher, Selector, Start};
use tidemill_fetchers_mysql::{FileOptions, MySqlFetcher, Origin};
use tidemill_servers::Server;

/// Every table.
pub fn all() -> Selector {
    Arc::new(|_: &Arc<TableSchema>| Ok(true))
}

/// The tables of one database.
pub fn only(database: &'static str) -> Selector {
    Arc::new(move |schema: &Arc<TableSchema>| Ok(schema.name().database == database))
}

/// Reads until the reader has executed the set of that text.
pub async fn follow_to(fetcher: &mut MySqlFetcher, seen: &mut Seen, target: &str) -> Result<(), FetchError> {
    while seen.windows.last().is_none_or(|w| *w.executed != *target) {
        seen.push(fetcher.next().await?.expect("a server's log has no end"));
    }
    Ok(())
}

/// Reads on until the reader has executed what the server has.
pub async fn follow(fetcher: &mut MySqlFetcher, seen: &mut Seen, server: &Server) {
    follow_to(fetcher, seen, &server.gtid_set().await.unwrap()).await.unwrap();
}

/// Reads all up to what the server has executed.
pub async fn read_all_of(fetcher: &mut MySqlFetcher, server: &Server) -> Result<Seen, FetchError> {
    let mut seen = Seen::default();
    follow_to(fetcher, &mut seen, &server.gtid_set().await.unwrap()).await?;
    Ok(seen)
}

/// The error that the stream stops with.
pub async fn stop(fetcher: &mut MySqlFetcher) -> String {
    loop {
        match fetcher.next().await {
            Ok(window) => assert!(window.is_some(), "the error comes first"),
            Err(error) => return error.to_string(),
        }
    }
}

/// Where a reader of all that was seen goes on.
pub fn checkpoint(seen: &Seen) -> Checkpoint {
    seen.resume.last().unwrap().1.clone()
}

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

pub fn quickstart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/quickstart")
}

/// A fetcher on recorded files; of windows of at most so many bytes, where that is said.
pub async fn open_files(
    directory: &Path,
    start: Start,
    window_bytes: Option<usize>,
) -> Result<MySqlFetcher, FetchError> {
    let origin = Origin::Files(FileOptions::directory(directory, "binlog"));
    let fetcher = MySqlFetcher::open("test", origin, start, all()).await?;
    Ok(match window_bytes {
        Some(bytes) => fetcher.with_window_bytes(bytes),
        None => fetcher,
    })
}

/// One value as the client prints it: NULL, numbers in digits, dates in ISO form, escapes for control characters.
pub fn text(rows: &RecordBatch, column: usize, row: usize, source_type: &str) -> String {
    let array = rows.column(column);
    if array.is_null(row) {
        return "NULL".to_owned();
    }
    match array.data_type() {
        DataType::Int8 => array.as_primitive::<Int8Type>().value(row).to_string(),
        DataType::Int16 if source_type == "year" => {
            format!("{:04}", array.as_primitive::<Int16Type>().value(row))
        }
        DataType::Int16 => array.as_primitive::<Int16Type>().value(row).to_string(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).to_string(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::UInt8 => array.as_primitive::<UInt8Type>().value(row).to_string(),
        DataType::UInt16 => array.as_primitive::<UInt16Type>().value(row).to_string(),
        DataType::UInt32 => array.as_primitive::<UInt32Type>().value(row).to_string(),
        DataType::UInt64 => array.as_primitive::<UInt64Type>().value(row).to_string(),
        DataType::Float32 => array.as_primitive::<Float32Type>().value(row).to_string(),
        DataType::Float64 => double(array.as_primitive::<Float64Type>().value(row)),
        DataType::Decimal128(..) => array.as_primitive::<Decimal128Type>().value_as_string(row),
        DataType::Decimal256(..) => array.as_primitive::<Decimal256Type>().value_as_string(row),
        DataType::Utf8 => escape(array.as_string::<i32>().value(row)),
        DataType::Binary => array.as_binary::<i32>().value(row).iter().map(|b| format!("{b:02X}")).collect(),
        DataType::Date32 => date(i64::from(array.as_primitive::<Date32Type>().value(row))),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            datetime(array.as_primitive::<TimestampMicrosecondType>().value(row), digits(source_type))
        }
        DataType::Duration(_) => {
            time(array.as_primitive::<DurationMicrosecondType>().value(row), digits(source_type))
        }
        other => panic!("no text for {other}"),
    }
}

fn digits(source_type: &str) -> usize {
    source_type.split_once('(').map_or(0, |(_, rest)| rest.trim_end_matches(')').parse().unwrap())
}

/// As the server prints a double in a column: its shortest digits, an exponent outside 1e-15 … 1e15.
fn double(value: f64) -> String {
    let scientific = format!("{value:e}");
    let exponent: i32 = scientific.split_once('e').unwrap().1.parse().unwrap();
    if value == 0.0 || (-15..15).contains(&exponent) { value.to_string() } else { scientific }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n").replace('\t', "\\t").replace('\0', "\\0")
}

/// The Gregorian calendar, by counting: slow, and nothing that the decoder shares.
pub fn date(mut days: i64) -> String {
    let leap = |y: i64| (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
    let mut year = 1970;
    while days < 0 {
        year -= 1;
        days += 365 + i64::from(leap(year));
    }
    while days >= 365 + i64::from(leap(year)) {
        days -= 365 + i64::from(leap(year));
        year += 1;
    }
    let months = [31, 28 + i64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= months[month] {
        days -= months[month];
        month += 1;
    }
    format!("{year:04}-{:02}-{:02}", month + 1, days + 1)
}

fn fraction(us: i64, digits: usize) -> String {
    if digits == 0 { String::new() } else { format!(".{}", &format!("{us:06}")[..digits]) }
}

fn datetime(us: i64, digits: usize) -> String {
    let (days, rest) = (us.div_euclid(86_400_000_000), us.rem_euclid(86_400_000_000));
    let seconds = rest / 1_000_000;
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{} {h:02}:{m:02}:{s:02}{}", date(days), fraction(rest % 1_000_000, digits))
}

fn time(us: i64, digits: usize) -> String {
    let sign = if us < 0 { "-" } else { "" };
    let us = us.unsigned_abs() as i64;
    let seconds = us / 1_000_000;
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{sign}{h:02}:{m:02}:{s:02}{}", fraction(us % 1_000_000, digits))
}

/// A row as texts by column name.
pub type Row = BTreeMap<String, String>;

/// Tables rebuilt by applying every change in order. A change that does not fit what is there is a panic: an insert of
/// a row whose key is there, an update or delete of a row that is not.
#[derive(Default)]
pub struct Replica {
    /// By key, so that a long run costs no more a row; by number where there is no key.
    pub tables: BTreeMap<String, BTreeMap<Vec<String>, Row>>,
    schemas: BTreeMap<u64, Arc<TableSchema>>,
}

impl Replica {
    pub fn of(seen: &Seen) -> Replica {
        let mut replica = Replica::default();
        for window in &seen.windows {
            replica.learn(window);
        }
        for transaction in &seen.transactions {
            for change in &transaction.changes {
                replica.apply(change);
            }
        }
        replica
    }

    pub fn learn(&mut self, window: &Window) {
        for table in &window.tables {
            self.schemas.insert(table.schema.id().0, Arc::clone(&table.schema));
        }
    }

    pub fn apply(&mut self, change: &SeenChange) {
        match change {
            SeenChange::Row { table, schema, before, after, .. } => {
                let schema = Arc::clone(&self.schemas[&schema.0]);
                let rows = self.tables.entry(table.to_string()).or_default();
                let before = before.as_ref().map(|(row, absent)| image(row, absent, &schema));
                let after = after.as_ref().map(|(row, absent)| image(row, absent, &schema));
                apply(rows, &schema, before, after);
            }
            SeenChange::Event { kind: EventKind::Truncate { table }, .. } => {
                self.tables.insert(table.to_string(), BTreeMap::new());
            }
            SeenChange::Event { .. } => {}
        }
    }

    /// The rows of a table with these columns in this order, sorted. Rows that are older than a column have its default.
    pub fn table(&self, name: &str, columns: &[String], defaults: &[(&str, &str)]) -> Vec<Vec<String>> {
        let rows = self.tables.get(name).into_iter().flat_map(BTreeMap::values);
        let default =
            |column: &str| defaults.iter().find(|(c, _)| *c == column).map_or("NULL", |(_, d)| d).to_owned();
        let value = |row: &Row, column: &String| row.get(column).cloned().unwrap_or_else(|| default(column));
        let mut rows: Vec<Vec<String>> =
            rows.map(|row| columns.iter().map(|column| value(row, column)).collect()).collect();
        rows.sort();
        rows
    }
}

/// The columns that were logged.
fn image(row: &RecordBatch, absent: &[usize], schema: &TableSchema) -> Row {
    let columns = schema.columns().iter().enumerate().filter(|(c, _)| !absent.contains(c));
    columns.map(|(c, column)| (column.name.clone(), text(row, c, 0, &column.source_type))).collect()
}

fn apply(
    rows: &mut BTreeMap<Vec<String>, Row>,
    schema: &TableSchema,
    before: Option<Row>,
    after: Option<Row>,
) {
    let key = |row: &Row| -> Vec<String> {
        schema.key().iter().map(|k| row[&schema.columns()[*k as usize].name].clone()).collect()
    };
    // A row that is older than a column of its table has some default there.
    let fits = |row: &Row, image: &Row| image.iter().all(|(c, v)| row.get(c).is_none_or(|known| known == v));
    let mut row = Row::new();
    if let Some(before) = &before {
        let place = match schema.key().is_empty() {
            false => Some(key(before)).filter(|key| rows.get(key).is_some_and(|row| fits(row, before))),
            true => rows.iter().find(|(_, row)| fits(row, before)).map(|(place, _)| place.clone()),
        };
        let place = place.unwrap_or_else(|| panic!("{}: no row {before:?}", schema.name()));
        row = rows.remove(&place).unwrap();
    }
    if let Some(after) = after {
        row.extend(after);
        let place = match schema.key().is_empty() {
            false => key(&row),
            true => vec![rows.last_key_value().map_or(0, |(last, _)| last[0].parse::<u64>().unwrap() + 1)]
                .into_iter()
                .map(|number| format!("{number:020}"))
                .collect(),
        };
        let twin = rows.insert(place, row);
        assert!(twin.is_none(), "{}: {twin:?} was there already", schema.name());
    }
}

/// What each row has in its first column, change by change: the row as it is now, or as it was where that is not there.
pub fn first_column(transaction: &SeenTransaction) -> Vec<String> {
    let rows = transaction.changes.iter().filter_map(|change| match change {
        SeenChange::Row { before, after, .. } => {
            let after = after.as_ref().filter(|(_, absent)| !absent.contains(&0));
            after.or(before.as_ref()).map(|(row, _)| row)
        }
        SeenChange::Event { .. } => None,
    });
    rows.map(|row| text(row, 0, 0, "int")).collect()
}

/// A server's table as texts, sorted.
pub async fn table_of(server: &Server, table: &str, columns: &[&str]) -> Vec<Vec<String>> {
    let texts: Vec<String> = columns.iter().map(|c| format!("COALESCE(CAST({c} AS CHAR), 'NULL')")).collect();
    let rows = server.rows(&format!("SELECT {} FROM {table}", texts.join(", "))).await.unwrap();
    let text = |row: &mysql_async::Row, at: usize| row.get::<String, _>(at).unwrap();
    let mut rows: Vec<Vec<String>> =
        rows.iter().map(|row| (0..columns.len()).map(|at| text(row, at)).collect()).collect();
    rows.sort();
    rows
}

/// A table of an `expected.txt`.
pub struct Expected {
    pub name: String,
    pub columns: Vec<String>,
    /// Sorted.
    pub rows: Vec<Vec<String>>,
}

/// The tables of an `expected.txt`: `== name`, a line of column names, then rows.
pub fn expected(directory: &Path) -> Vec<Expected> {
    let text = std::fs::read_to_string(directory.join("expected.txt")).unwrap();
    let split = |line: &str| -> Vec<String> { line.split('\t').map(str::to_owned).collect() };
    let table = |part: &str| {
        let mut lines = part.lines();
        let name = lines.next().unwrap().to_owned();
        let columns = lines.next().map(split).unwrap_or_default();
        let mut rows: Vec<Vec<String>> = lines.map(split).collect();
        rows.sort();
        Expected { name, columns, rows }
    };
    text.split("== ").skip(1).map(table).collect()
}
