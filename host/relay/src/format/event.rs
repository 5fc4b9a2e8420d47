//! What happened to a table, as a line. A truncated table is the Debezium envelope's `t`; for the rest that envelope has
//! no word, so those lines have `event` and what it says in place of `before`, `after` and `op`.

use tidemill_event::{EventKind, TableName};

use super::cell::push_text;
use super::json::Said;

/// Writes an event and the end of its line. `total`: its number in the transaction, from 1.
pub(crate) fn push(out: &mut Vec<u8>, kind: &EventKind, said: &Said, total: u64) {
    let is_truncate = matches!(kind, EventKind::Truncate { .. });
    if is_truncate {
        out.extend_from_slice(b"{\"before\":null,\"after\":null");
    } else {
        push_fields(out, kind);
    }
    out.extend_from_slice(b",\"source\":{\"connector\":\"tidemill\",\"db\":");
    let (database, table) = about(kind);
    push_text(out, database);
    if let Some(table) = table {
        out.extend_from_slice(b",\"table\":");
        push_text(out, table);
    }
    said.push_source(out, total);
    said.push_order(out, total);
    out.push(b'}');
    if is_truncate {
        out.extend_from_slice(b",\"op\":\"t\"");
    }
    said.push_end(out);
}

/// The table that it is about, or its database alone.
fn about(kind: &EventKind) -> (&str, Option<&str>) {
    match kind {
        EventKind::SchemaChange { database, tables, .. } => match tables.as_slice() {
            [table] => (&table.database, Some(&table.table)),
            _ => (database, None),
        },
        EventKind::Truncate { table }
        | EventKind::Drop { table }
        | EventKind::Invalidate { table, .. }
        | EventKind::Rename { to: table, .. } => (&table.database, Some(&table.table)),
        EventKind::DropDatabase { database } => (database, None),
    }
}

fn push_fields(out: &mut Vec<u8>, kind: &EventKind) {
    let mut separator = b'{';
    let mut field = |name: &str, value: &str| {
        out.push(separator);
        separator = b',';
        push_text(out, name);
        out.push(b':');
        push_text(out, value);
    };
    match kind {
        EventKind::SchemaChange { tables, statement, .. } => {
            field("event", "schema-changed");
            statement.iter().for_each(|statement| field("statement", statement));
            push_names(out, tables);
        }
        EventKind::Truncate { .. } => field("event", "truncated"),
        EventKind::Drop { .. } => field("event", "dropped"),
        EventKind::DropDatabase { .. } => field("event", "schema-dropped"),
        EventKind::Rename { from, to } => {
            field("event", "renamed");
            field("from", &from.to_string());
            field("to", &to.to_string());
        }
        EventKind::Invalidate { reason, .. } => {
            field("event", "invalidated");
            field("reason", reason);
        }
    }
}

fn push_names(out: &mut Vec<u8>, tables: &[TableName]) {
    out.extend_from_slice(b",\"tables\":[");
    for (number, table) in tables.iter().enumerate() {
        if number > 0 {
            out.push(b',');
        }
        push_text(out, &table.to_string());
    }
    out.push(b']');
}
