//! The differential rule: a table that is rebuilt from the log is, value for value, what `SELECT` shows.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow_schema::DataType;
use tidemill_event::{ColumnSchema, TableSchema};
use tidemill_fetchers_api::conformance::{self, Seen};
use tidemill_fetchers_api::{FetchError, Start};
use tidemill_fetchers_mysql::{FileOptions, MySqlFetcher, Origin, Settings, ValuePolicy};
use tidemill_servers::{Kind, Options, Server};

use super::extracted::same_as_log;
use super::{Replica, all, escape};

/// A server that takes every value, with a database `d`.
pub async fn start(kind: Kind, arguments: &[&str]) -> Server {
    let options = Options::default().argument("--sql-mode=").argument("--max-allowed-packet=256M");
    let options = arguments.iter().fold(options, |options, argument| options.argument(*argument));
    let server = Server::start(kind, options).await.unwrap();
    server.sql("CREATE DATABASE d CHARACTER SET utf8mb4").await.unwrap();
    server
}

/// The whole log of a server, read from its files.
pub async fn read_all(server: &Server, values: ValuePolicy) -> Result<Seen, FetchError> {
    let origin = Origin::Files(FileOptions::directory(server.datadir(), "binlog"));
    let mut settings = Settings::from(all());
    settings.values = values;
    let mut fetcher = MySqlFetcher::open("test", origin, Start::Earliest, settings).await?;
    conformance::read(&mut fetcher, usize::MAX).await
}

/// Compares every table of database `d` in the log, in a clone and by SELECT, and says how many rows that were.
pub async fn same(server: &Server) -> usize {
    let seen = read_all(server, ValuePolicy::default()).await.unwrap();
    same_as_log(server, &seen).await;
    same_as(server, &seen, |_, shown| shown).await
}

/// Compares every table of database `d` with what was read; `shown` may put what SELECT shows into our words.
pub async fn same_as(server: &Server, seen: &Seen, shown: impl Fn(&ColumnSchema, String) -> String) -> usize {
    let replica = Replica::of(seen);
    let schemas = schemas(seen);
    let mut compared = 0;
    let tables = "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'd'";
    for row in server.rows(tables).await.unwrap() {
        let name = format!("d.{}", mysql_async::from_row::<String>(row));
        let schema = schemas.get(&name).unwrap_or_else(|| panic!("{name} is in the log"));
        let columns: Vec<String> = schema.columns().iter().map(|c| c.name.clone()).collect();
        let ours = replica.table(&name, &columns, &[]);
        let theirs = select(server, &name, schema, &shown).await;
        assert_eq!(ours.len(), theirs.len(), "{} {name}: the number of rows", server.kind());
        for (ours, theirs) in ours.iter().zip(&theirs) {
            let key = ours.first().cloned().unwrap_or_default();
            for ((ours, theirs), column) in ours.iter().zip(theirs).zip(schema.columns()) {
                let place = format!(
                    "{} {name}.{} {} of {}",
                    server.kind(),
                    column.name,
                    column.source_type,
                    brief(&key)
                );
                let [our_part, their_part] = differing(ours, theirs);
                assert!(ours == theirs, "{place}: ours …{our_part} theirs …{their_part}");
            }
        }
        compared += ours.len();
    }
    compared
}

fn brief(text: &str) -> String {
    text.chars().take(300).collect()
}

/// A little before the first difference, and what follows.
fn differing<'a>(one: &'a str, other: &'a str) -> [String; 2] {
    let same = one.chars().zip(other.chars()).take_while(|(a, b)| a == b).count().saturating_sub(40);
    [one, other].map(|text| brief(&text.chars().skip(same).collect::<String>()))
}

/// The last schema of each table.
pub fn schemas(seen: &Seen) -> BTreeMap<String, Arc<TableSchema>> {
    let tables = seen.windows.iter().flat_map(|w| &w.tables);
    tables.map(|t| (t.schema.name().to_string(), Arc::clone(&t.schema))).collect()
}

async fn select(
    server: &Server,
    name: &str,
    schema: &TableSchema,
    shown: &impl Fn(&ColumnSchema, String) -> String,
) -> Vec<Vec<String>> {
    let expressions: Vec<String> = schema.columns().iter().map(expression).collect();
    let query = format!("SELECT {} FROM {name}", expressions.join(", "));
    let mut rows = Vec::new();
    for row in server.rows(&query).await.unwrap() {
        let values = row.unwrap().into_iter().zip(schema.columns()).map(|(value, column)| {
            let value: Option<String> = mysql_async::from_value(value);
            value.map_or_else(|| "NULL".to_owned(), |value| shown(column, normal(column, value)))
        });
        rows.push(values.collect());
    }
    rows.sort();
    rows
}

/// How a column is selected, so that the server's text is ours but for [`normal`].
fn expression(column: &ColumnSchema) -> String {
    let name = format!("`{}`", column.name);
    match column.data_type {
        DataType::Binary => match column.source_type.strip_prefix("bit(") {
            Some(bits) => {
                let bits: usize = bits.trim_end_matches(')').parse().unwrap();
                format!("LPAD(HEX({name} + 0), {}, '0')", bits.div_ceil(8) * 2)
            }
            None => format!("HEX({name})"),
        },
        DataType::Float32 | DataType::Float64 => format!("CAST({name} AS DOUBLE)"),
        _ => format!("CAST({name} AS CHAR)"),
    }
}

/// Numbers without the zeros of ZEROFILL, binary ones by their value; texts with the escapes of the other side.
fn normal(column: &ColumnSchema, value: String) -> String {
    match column.data_type {
        DataType::Utf8 => escape(&value),
        // Both are the shortest digits of the same binary number.
        DataType::Float32 => (value.parse::<f64>().unwrap() as f32).to_string(),
        DataType::Float64 => super::double(value.parse().unwrap()),
        DataType::Int16 if column.source_type == "year" => value,
        DataType::Decimal128(..) | DataType::Decimal256(..) => {
            let (sign, digits) = value.strip_prefix('-').map_or(("", &value[..]), |digits| ("-", digits));
            let digits = digits.trim_start_matches('0');
            let zero = if digits.is_empty() || digits.starts_with('.') { "0" } else { "" };
            format!("{sign}{zero}{digits}")
        }
        ref number if number.is_integer() => value.parse::<i128>().unwrap().to_string(),
        _ => value,
    }
}

/// How often each event type is in the log's files.
pub fn event_kinds(server: &Server) -> BTreeMap<u8, usize> {
    let mut kinds = BTreeMap::new();
    for file in server.binlog_files().unwrap() {
        count_kinds(&file, &mut kinds);
    }
    kinds
}

fn count_kinds(file: &Path, kinds: &mut BTreeMap<u8, usize>) {
    let bytes = std::fs::read(file).unwrap();
    let mut at = 4;
    while let Some(header) = bytes.get(at..at + 19) {
        *kinds.entry(header[4]).or_default() += 1;
        at += u32::from_le_bytes(header[9..13].try_into().unwrap()) as usize;
    }
}

/// A type and values of it, as SQL.
pub type Case<'a> = (&'a str, &'a [&'a str]);

/// Creates a table for each case, with a row for each value and one of NULL, and compares.
pub async fn matrix(kinds: &[Kind], cases: &[Case<'_>]) {
    for kind in kinds {
        let server = start(*kind, &[]).await;
        let mut rows = 0;
        for (n, (sql_type, values)) in cases.iter().enumerate() {
            let null = values.len();
            let mut values: Vec<String> =
                values.iter().enumerate().map(|(i, v)| format!("({i}, {v})")).collect();
            values.push(format!("({null}, NULL)"));
            rows += values.len();
            let make = format!(
                "CREATE TABLE d.t{n} (id INT PRIMARY KEY, v {sql_type}); INSERT INTO d.t{n} VALUES {}",
                values.join(", ")
            );
            server.sql(&make).await.unwrap_or_else(|e| panic!("{kind} {sql_type}: {e:?}"));
        }
        assert_eq!(same(&server).await, rows, "{kind}");
    }
}
