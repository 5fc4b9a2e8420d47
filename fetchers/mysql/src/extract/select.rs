//! The statements that read chunks: what is selected, from where to where in the key's order, and under which conditions.
//!
//! ```text
//! key > (a, b)   is   (k1 = a AND k2 > b) OR (k1 > a)      which the server reads as ranges of the index
//! ```

use tidemill_event::TableName;
use tidemill_fetchers_api::extract::{Bound, ChunkRead, SourceKey, SourceTable};

use crate::extract::condition;
use crate::extract::definition::{Definition, ReadColumn};
use crate::table::Kind;
use crate::transport::Row;
use crate::value::declared::{Declared, Shown};

/// A name, whatever is in it.
pub(crate) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// Bytes, whatever is in them.
pub(super) fn hex(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("X'{digits}'")
}

/// The statement that reads a chunk.
pub(super) fn chunk(chunk: &ChunkRead<'_>, definition: &Definition, sorted: bool) -> String {
    let columns = chunk.columns.iter().map(|o| value(&definition.columns[*o as usize]));
    let mut list: Vec<String> = columns.collect();
    if list.is_empty() {
        list.push("1".to_owned());
    }
    let key = Key::of(chunk.table, definition);
    let mut all: Vec<String> =
        chunk.conditions.iter().filter_map(|c| condition::sql(c, &definition.columns)).collect();
    let mut by_key = String::new();
    if let Some(key) = &key {
        all.extend(chunk.after.map(|bound| key.beyond(bound, ">", false)));
        all.extend(chunk.upto.map(|bound| key.beyond(bound, "<", true)));
        if sorted {
            by_key = format!(" ORDER BY {}", key.names().join(", "));
        }
    }
    let index = key.filter(|_| sorted || chunk.after.is_some() || chunk.upto.is_some());
    let index = index.map(|key| key.index).unwrap_or_default();
    let only = if all.is_empty() { String::new() } else { format!(" WHERE {}", all.join(" AND ")) };
    format!("SELECT {} FROM {}{index}{only}{by_key}", list.join(", "), full(chunk.table.schema.name()))
}

/// No row of the table, of all its columns: asks for the right to read it.
pub(super) fn nothing(table: &TableName) -> String {
    format!("SELECT * FROM {} LIMIT 0", full(table))
}

fn full(table: &TableName) -> String {
    format!("{}.{}", quoted(&table.database), quoted(&table.table))
}

/// What is selected for a column, so that its value comes as our decoder expects it.
fn value(column: &ReadColumn) -> String {
    let name = quoted(&column.name);
    match (&column.kind, column.declared) {
        // The log's bytes are wanted, not the text.
        (Kind::Padded { width, .. }, Some(Declared::Shown(_))) => format!("CAST({name} AS BINARY({width}))"),
        _ => name,
    }
}

/// The key of a table, in the server's order.
pub(super) struct Key<'a> {
    table: &'a SourceTable,
    columns: Vec<&'a ReadColumn>,
    /// ` FORCE INDEX (…)`: another index may be shorter, and has another order.
    index: String,
}

/// How a value of a key column becomes a literal of the same value.
enum Form {
    /// Digits.
    Number,
    /// A text that the server reads as the column's type.
    Quoted,
    /// Bytes, of this character set where they are a text.
    Hex(Option<&'static str>),
}

impl<'a> Key<'a> {
    /// `None`: the table has none.
    pub(super) fn of(table: &'a SourceTable, definition: &'a Definition) -> Option<Key<'a>> {
        let ordinals = match &table.key {
            SourceKey::Primary(ordinals) | SourceKey::Unique(ordinals) => ordinals,
            SourceKey::Nothing => return None,
        };
        let columns = ordinals.iter().map(|o| definition.columns.get(*o as usize)).collect::<Option<_>>()?;
        let index = table.index.as_deref().map(|index| format!(" FORCE INDEX ({})", quoted(index)));
        Some(Key { table, columns, index: index.unwrap_or_default() })
    }

    fn names(&self) -> Vec<String> {
        self.columns.iter().map(|column| quoted(&column.name)).collect()
    }

    /// The statement that finds the last row of a chunk of that size, and the one behind it.
    pub(super) fn bound(&self, after: Option<&Bound>, rows: u64) -> String {
        let literals: Vec<String> = self.columns.iter().map(|column| shown(column)).collect();
        let only = after.map(|bound| format!(" WHERE {}", self.beyond(bound, ">", false)));
        format!(
            "SELECT {} FROM {}{}{} ORDER BY {} LIMIT 2 OFFSET {}",
            literals.join(", "),
            full(self.table.schema.name()),
            self.index,
            only.unwrap_or_default(),
            self.names().join(", "),
            rows.saturating_sub(1)
        )
    }

    /// The bound at a row of that statement.
    pub(super) fn literals(&self, row: &Row) -> Bound {
        let literal = |(at, column): (usize, &&ReadColumn)| {
            let text = row.at(at).unwrap_or_default();
            match form(column) {
                Form::Number => text.to_owned(),
                Form::Quoted => format!("'{text}'"),
                Form::Hex(charset) => {
                    format!("{}X'{text}'", charset.map(|name| format!("_{name} ")).unwrap_or_default())
                }
            }
        };
        Bound(self.columns.iter().enumerate().map(literal).collect())
    }

    /// Rows on that side of the bound; with the row at it, or without.
    fn beyond(&self, Bound(literals): &Bound, side: &str, with: bool) -> String {
        let names: Vec<String> = self.columns.iter().map(|column| compared(column)).collect();
        let last = names.len().saturating_sub(1);
        let mut ways = Vec::new();
        for at in (0..names.len()).rev() {
            let mut parts: Vec<String> = names
                .iter()
                .zip(literals)
                .take(at)
                .map(|(name, literal)| format!("{name} = {literal}"))
                .collect();
            let or_equal = if with && at == last { "=" } else { "" };
            let literal = literals.get(at).map_or("NULL", String::as_str);
            parts.push(format!("{} {side}{or_equal} {literal}", names[at]));
            ways.push(format!("({})", parts.join(" AND ")));
        }
        format!("({})", ways.join(" OR "))
    }
}

fn form(column: &ReadColumn) -> Form {
    match (&column.kind, column.declared) {
        (_, Some(Declared::Shown(Shown::Uuid | Shown::Inet4 | Shown::Inet6))) => Form::Quoted,
        (Kind::Text { charset, .. } | Kind::Compressed { charset, .. }, _) if !charset.is_binary() => {
            Form::Hex(Some(charset.name()))
        }
        (Kind::Json { .. }, _) => Form::Hex(Some("utf8mb4")),
        (Kind::Bytes { .. } | Kind::Padded { .. } | Kind::Compressed { .. }, _) => Form::Hex(None),
        (Kind::Date | Kind::DateTime(_) | Kind::Timestamp(_) | Kind::Time(_), _) => Form::Quoted,
        _ => Form::Number,
    }
}

/// What shows a key column's value in the digits of its literal.
fn shown(column: &ReadColumn) -> String {
    let name = quoted(&column.name);
    match (form(column), &column.kind) {
        (Form::Hex(_), _) => format!("HEX({name})"),
        (Form::Quoted, _) => format!("CAST({name} AS CHAR)"),
        // A FLOAT shows six digits of itself, and all of them as a double.
        (_, Kind::F32 | Kind::F64) => format!("{name} + 0e0"),
        (_, Kind::Enum { .. } | Kind::Set { .. } | Kind::Bits { .. } | Kind::Year) => {
            format!("CAST({name} AS UNSIGNED)")
        }
        _ => name,
    }
}

/// What is compared with a literal. A number below a hundred would be some year of this time to a YEAR.
fn compared(column: &ReadColumn) -> String {
    let name = quoted(&column.name);
    match column.kind {
        Kind::Year => format!("CAST({name} AS UNSIGNED)"),
        _ => name,
    }
}
