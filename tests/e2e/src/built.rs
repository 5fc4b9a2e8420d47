//! What a consumer's lines make of its tables, and the same tables as their source has them.

use std::collections::BTreeMap;

use serde_json::Value;
use tidemill_servers::Server;

use crate::Change;

/// A table's rows by key, as JSON text; those of a table without key with how often they are there.
pub type Rows = BTreeMap<String, (Value, i64)>;

/// A table and its key; of one without key, all columns.
#[derive(Clone, Copy, Debug)]
pub struct Keyed {
    /// `database.table`.
    pub table: &'static str,
    /// The columns of the key.
    pub key: &'static [&'static str],
    /// Whether equal rows are counted.
    pub counted: bool,
}

impl Keyed {
    fn key_of(&self, row: &Value) -> String {
        self.key.iter().map(|column| row[*column].to_string()).collect::<Vec<_>>().join(",")
    }

    /// Its rows at the source that fulfil a condition, without some of its columns.
    pub async fn at_source(&self, server: &Server, condition: &str, without: &[&str]) -> Rows {
        let (database, name) = self.table.split_once('.').expect("it is a table's name");
        let columns = format!(
            "SELECT CAST(column_name AS CHAR), CAST(data_type AS CHAR) FROM information_schema.columns \
             WHERE table_schema = '{database}' AND table_name = '{name}'"
        );
        let columns: Vec<(String, String)> =
            server.rows(&columns).await.expect("it answers").into_iter().map(mysql_async::from_row).collect();
        let columns = columns.into_iter().filter(|(column, _)| !without.contains(&column.as_str()));
        let json: Vec<String> = columns
            .map(|(column, kind)| match kind.as_str() {
                "decimal" => format!("'{column}', CAST(`{column}` AS CHAR)"),
                _ => format!("'{column}', `{column}`"),
            })
            .collect();
        let query = format!(
            "SELECT CAST(JSON_OBJECT({}) AS CHAR) FROM {} WHERE {condition}",
            json.join(", "),
            self.table
        );
        let mut rows = Rows::new();
        for row in server.rows(&query).await.expect("it answers") {
            let row: Value = serde_json::from_str(&mysql_async::from_row::<String>(row)).expect("it is JSON");
            rows.entry(self.key_of(&row)).or_insert((row, 0)).1 += 1;
        }
        rows
    }
}

/// What the lines of `builtin:print` make.
pub struct Built {
    tables: &'static [Keyed],
    /// The rows of each table that had a line.
    pub rows: BTreeMap<String, Rows>,
    /// The place of the last line of the stream.
    pub last: Option<(u64, u64)>,
    /// Lines of the stream.
    pub streamed: u64,
    /// Lines that are not of the stream, by `op` and table.
    pub others: BTreeMap<String, u64>,
}

impl Built {
    /// Nothing yet.
    pub fn new(tables: &'static [Keyed]) -> Built {
        Built { tables, rows: BTreeMap::new(), last: None, streamed: 0, others: BTreeMap::new() }
    }

    /// Takes a line. Fails where the stream steps back.
    pub fn take(&mut self, change: &Change) {
        let table = change.table();
        if change.0["source"]["snapshot"] == "false" {
            let place = change.place();
            assert!(self.last < Some(place), "{:?} and then {place:?}: {}", self.last, change.0);
            self.last = Some(place);
            self.streamed += 1;
        } else {
            *self.others.entry(format!("{} {table}", change.op())).or_default() += 1;
        }
        let known = self.tables.iter().find(|known| known.table == table);
        let known = known.unwrap_or_else(|| panic!("{table} is none of the tables"));
        let rows = self.rows.entry(table).or_default();
        let (before, after) = (&change.0["before"], &change.0["after"]);
        match change.op() {
            "t" => rows.clear(),
            "r" | "c" | "u" | "d" if known.counted => {
                for (row, n) in [(before, -1), (after, 1)] {
                    if !row.is_null() {
                        rows.entry(known.key_of(row)).or_insert((row.clone(), 0)).1 += n;
                    }
                }
                rows.retain(|_, (_, count)| *count != 0);
            }
            "r" | "c" | "u" | "d" => {
                if !before.is_null() {
                    rows.remove(&known.key_of(before));
                }
                if !after.is_null() {
                    rows.insert(known.key_of(after), (after.clone(), 1));
                }
            }
            other => panic!("{other}: {}", change.0),
        }
    }

    /// The rows of a table without some of its columns.
    pub fn without(&self, table: &str, columns: &[&str]) -> Rows {
        let mut rows = self.rows.get(table).cloned().unwrap_or_default();
        for (row, _) in rows.values_mut() {
            let row = row.as_object_mut().expect("a row is an object");
            row.retain(|column, _| !columns.contains(&column.as_str()));
        }
        rows
    }
}
