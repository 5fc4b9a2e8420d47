//! What a subscriber asks for, after parsing and before reading. Parsing and grants are the server's, the rest is the
//! answer's.

use std::fmt;

use tidemill_event::{Checkpoint, Position, TableName};
use tidemill_sandbox::Predicate;

/// A table by name, or every table of a database: `shop.orders`, `shop.*`, `*.*`. A `*` stands for a whole part only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TablePattern {
    /// `None`: any database.
    pub database: Option<String>,
    /// `None`: any table.
    pub table: Option<String>,
}

impl TablePattern {
    /// A pattern from its text.
    pub fn parse(text: &str) -> Option<TablePattern> {
        let (database, table) = text.split_once('.')?;
        let part = |part: &str| (part != "*").then(|| part.to_owned());
        let sound = !database.is_empty() && !table.is_empty();
        sound.then(|| TablePattern { database: part(database), table: part(table) })
    }

    /// Whether the table is one of them.
    pub fn matches(&self, name: &TableName) -> bool {
        let part = |pattern: &Option<String>, part: &str| pattern.as_deref().is_none_or(|p| p == part);
        part(&self.database, &name.database) && part(&self.table, &name.table)
    }
}

impl fmt::Display for TablePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |part: &Option<String>| part.clone().unwrap_or_else(|| "*".to_owned());
        write!(f, "{}.{}", part(&self.database), part(&self.table))
    }
}

/// One part of the keys: what the catalogue's `partition` filter is told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Part {
    /// The filter's configuration, as JSON text in canonical form.
    pub config: String,
}

/// What a subscription sees of a source. Two subscriptions with equal selections share their work.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selection {
    /// Tables; empty: all of them. Already narrowed to what the asker may see.
    pub tables: Vec<TablePattern>,
    /// Columns by table; a table that is not named has all of its columns. Key columns always stay.
    pub columns: Vec<(TableName, Vec<String>)>,
    /// Which rows of some tables, of each table one predicate at most; a table that is not named has all of its rows.
    pub predicates: Vec<Predicate>,
    /// One part of the keys.
    pub part: Option<Part>,
    /// Registered filters, in order.
    pub filters: Vec<String>,
    /// Registered projections, in order, after the filters.
    pub projections: Vec<String>,
}

impl Selection {
    /// Whether everything is seen as it lies in the log, so that the log's own bytes are the answer.
    pub fn is_all(&self) -> bool {
        *self == Selection::default()
    }

    /// The same in the one form that all equal selections have, so that they share their work.
    pub fn normal(mut self) -> Selection {
        let is_every = |pattern: &TablePattern| pattern.database.is_none() && pattern.table.is_none();
        if self.tables.iter().any(is_every) {
            self.tables.clear();
        }
        self.tables.sort();
        self.tables.dedup();
        self.columns.iter_mut().for_each(|(_, columns)| {
            columns.sort();
            columns.dedup();
        });
        self.columns.sort();
        self.predicates.iter_mut().for_each(|predicate| {
            predicate.conditions.sort();
            predicate.conditions.dedup();
        });
        self.predicates.sort();
        self
    }
}

/// Where a subscription begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begin {
    /// With the oldest transaction that the relay has, history included.
    Earliest,
    /// With what is appended from now on.
    Now,
    /// With the first transaction that committed at this time or later: microseconds since 1970-01-01 UTC.
    Time(i64),
    /// After this position of the relay's own numbering.
    After(Position),
    /// After this checkpoint, whichever relay it comes from.
    At(Box<Checkpoint>),
}

/// How the answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// Frames: the log's own form. `application/vnd.tidemill.frames`
    Frames,
    /// One table as an Arrow IPC stream. `application/vnd.apache.arrow.stream`
    Arrow,
    /// One JSON object a line, in the Debezium envelope. `application/x-ndjson`
    Json,
    /// The same objects as Server-Sent Events. `text/event-stream`
    Events,
}

impl Format {
    /// Its media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Frames => "application/vnd.tidemill.frames",
            Format::Arrow => "application/vnd.apache.arrow.stream",
            Format::Json => "application/x-ndjson",
            Format::Events => "text/event-stream",
        }
    }
}

/// One request for changes.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Where it begins.
    pub begin: Begin,
    /// What it sees.
    pub selection: Selection,
    /// How it is written.
    pub format: Format,
    /// Whether it goes on for ever, or ends with what is there now.
    pub follow: bool,
    /// It ends with the window that reaches so many bytes, if given.
    pub bytes_max: Option<u64>,
    /// How long it may be silent: then it gets a sign of life.
    pub heartbeat: std::time::Duration,
    /// Who asks, for metrics: the grant's name and the name that the subscriber gives itself.
    pub subscriber: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(tables: &[&str], columns: &[(&str, &[&str])]) -> Selection {
        let named = |(table, columns): &(&str, &[&str])| {
            (TableName::new("shop", *table), columns.iter().map(|c| (*c).to_owned()).collect())
        };
        Selection {
            tables: tables.iter().map(|text| TablePattern::parse(text).expect("it is one")).collect(),
            columns: columns.iter().map(named).collect(),
            ..Selection::default()
        }
    }

    #[test]
    fn selections_that_show_the_same_are_the_same() {
        let one = selection(&["shop.b", "shop.a", "shop.b"], &[("b", &["y", "x"]), ("a", &["x", "x"])]);
        let other = selection(&["shop.a", "shop.b"], &[("a", &["x"]), ("b", &["x", "y"])]);
        assert_eq!(one.normal(), other.clone().normal());
        assert_eq!(other.clone(), other.normal());
        assert!(selection(&["shop.a", "*.*"], &[]).normal().is_all());
        assert!(!selection(&["*.a"], &[]).normal().is_all());
    }
}
