//! What happened to a table, as a line. A truncated table is the Debezium envelope's `t`; for the rest that envelope has
//! no word, so those lines have `event` in place of `before`, `after` and `op`.

use tidemill_guest::consumer::{Happening, TableName};

use crate::Config;
use crate::cell::push_text;

/// What a line says of an event beside the transaction: which tables it names, and its own fields.
#[derive(Clone, Copy, Debug)]
pub struct Said<'a>(&'a Happening);

impl<'a> Said<'a> {
    /// The event, if one of the tables that it names is wanted. One that names none is wanted as well.
    pub fn of(what: &'a Happening, config: &Config) -> Option<Self> {
        let tables = &config.tables;
        let is_wanted = match what {
            Happening::SchemaChanged(_) if !config.schema_changes => false,
            Happening::SchemaChanged(change) => {
                change.tables.is_empty() || change.tables.iter().any(|table| tables.name(table))
            }
            Happening::Truncated(table) | Happening::Dropped(table) => tables.name(table),
            Happening::SchemaDropped(_) => true,
            Happening::Renamed(renaming) => tables.name(&renaming.from) || tables.name(&renaming.to),
            Happening::Invalidated(invalidation) => tables.name(&invalidation.table),
        };
        is_wanted.then_some(Said(what))
    }

    /// Whether the envelope has a word for it.
    pub fn is_truncate(self) -> bool {
        matches!(self.0, Happening::Truncated(_))
    }

    /// `"db":…,"table":…` of the table that it is about, or of its database alone.
    pub fn push_source(self, out: &mut Vec<u8>) {
        let (schema, table) = match self.0 {
            Happening::SchemaChanged(change) => match change.tables.as_slice() {
                [table] => (&table.schema, Some(&table.name)),
                _ => (&change.schema, None),
            },
            Happening::Truncated(table) | Happening::Dropped(table) => (&table.schema, Some(&table.name)),
            Happening::SchemaDropped(schema) => (schema, None),
            Happening::Renamed(renaming) => (&renaming.to.schema, Some(&renaming.to.name)),
            Happening::Invalidated(invalidation) => {
                (&invalidation.table.schema, Some(&invalidation.table.name))
            }
        };
        out.extend_from_slice(b"\"db\":");
        push_text(out, schema);
        if let Some(table) = table {
            out.extend_from_slice(b",\"table\":");
            push_text(out, table);
        }
    }

    /// `"event":…` and what it says.
    pub fn push_fields(self, out: &mut Vec<u8>) {
        let mut field = |name: &str, value: &str| {
            if out.last() != Some(&b'{') {
                out.push(b',');
            }
            push_text(out, name);
            out.push(b':');
            push_text(out, value);
        };
        match self.0 {
            Happening::SchemaChanged(change) => {
                field("event", "schema-changed");
                change.statement.iter().for_each(|statement| field("statement", statement));
                push_names(out, &change.tables);
            }
            Happening::Truncated(_) => field("event", "truncated"),
            Happening::Dropped(_) => field("event", "dropped"),
            Happening::SchemaDropped(_) => field("event", "schema-dropped"),
            Happening::Renamed(renaming) => {
                field("event", "renamed");
                field("from", &renaming.from.path());
                field("to", &renaming.to.path());
            }
            Happening::Invalidated(invalidation) => {
                field("event", "invalidated");
                field("reason", &invalidation.reason);
            }
        }
    }
}

fn push_names(out: &mut Vec<u8>, tables: &[TableName]) {
    out.extend_from_slice(b",\"tables\":[");
    for (number, table) in tables.iter().enumerate() {
        if number > 0 {
            out.push(b',');
        }
        push_text(out, &table.path());
    }
    out.push(b']');
}
