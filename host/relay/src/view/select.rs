//! The part of a selection that needs no guest: which tables, which columns, and what an event may say to somebody who
//! sees only some tables.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions};
use tidemill_event::{Event, EventKind, SchemaId, TableChanges, TableName, TableSchema, Window};

use crate::{Code, Problem, TablePattern};

/// The window with the changes and events of those tables; none: of all. Transactions stay, and so do ordinals.
pub(crate) fn tables(window: &Window, patterns: &[TablePattern]) -> Window {
    let is_wanted = |name: &TableName| patterns.is_empty() || patterns.iter().any(|p| p.matches(name));
    let event = |event: &Event| {
        let kind = if patterns.is_empty() { Some(event.kind.clone()) } else { said(&event.kind, patterns) };
        kind.map(|kind| Event { kind, ..*event })
    };
    Window {
        source: Arc::clone(&window.source),
        timeline: window.timeline.clone(),
        span: window.span,
        executed: Arc::clone(&window.executed),
        transactions: window.transactions.clone(),
        tables: window.tables.iter().filter(|t| is_wanted(t.schema.name())).cloned().collect(),
        events: window.events.iter().filter_map(event).collect(),
        phase: window.phase.clone(),
    }
}

/// What is said in place of the reason to somebody who sees only some tables.
const CONTENT_CHANGED: &str = "its content changed in a way that the log does not tell";

/// What an event says to somebody who sees those tables; nothing, where it is about others.
fn said(kind: &EventKind, patterns: &[TablePattern]) -> Option<EventKind> {
    let sees = |name: &TableName| patterns.iter().any(|p| p.matches(name));
    let sees_in = |database: &str| {
        patterns.iter().any(|p| p.database.as_deref().is_none_or(|pattern| pattern == database))
    };
    let is_seen = match kind {
        EventKind::SchemaChange { database, tables, statement } => {
            let seen: Vec<TableName> = tables.iter().filter(|table| sees(table)).cloned().collect();
            // One that names no table may name others in its text: a view does.
            let sees_all = !tables.is_empty() && seen.len() == tables.len();
            let statement = statement.clone().filter(|_| sees_all);
            let is_seen = if tables.is_empty() { sees_in(database) } else { !seen.is_empty() };
            // The database that was current may be one of which nothing is seen.
            let database = match seen.first() {
                Some(table) if !sees_in(database) => table.database.clone(),
                _ => database.clone(),
            };
            let told = EventKind::SchemaChange { database, tables: seen, statement };
            return is_seen.then_some(told);
        }
        EventKind::Rename { from, to } => match (sees(from), sees(to)) {
            // To whoever does not see the new name, the table is gone with all its rows.
            (true, false) => return Some(EventKind::Drop { table: from.clone() }),
            // The table comes into sight; that its content must be cloned is an event of its own.
            (from, to) => from && to,
        },
        // Why may name the table that it was before.
        EventKind::Invalidate { table, .. } => {
            let told = EventKind::Invalidate { table: table.clone(), reason: CONTENT_CHANGED.to_owned() };
            return sees(table).then_some(told);
        }
        EventKind::Truncate { table } | EventKind::Drop { table } => sees(table),
        EventKind::DropDatabase { database } => sees_in(database),
    };
    is_seen.then(|| kind.clone())
}

/// The columns that are wanted of some tables. Schemas are made once a version.
#[derive(Debug, Default)]
pub(crate) struct Columns {
    wanted: HashMap<TableName, Vec<String>>,
    shapes: HashMap<SchemaId, Shape>,
}

/// What is left of a table's version.
#[derive(Clone, Debug)]
struct Shape {
    columns: Vec<usize>,
    schema: Arc<TableSchema>,
}

impl Columns {
    pub(crate) fn new(wanted: &[(TableName, Vec<String>)]) -> Columns {
        Columns { wanted: wanted.iter().cloned().collect(), shapes: HashMap::new() }
    }

    /// Leaves the wanted columns, and those of the key.
    pub(crate) fn apply(&mut self, window: &mut Window) -> Result<(), Problem> {
        for changes in &mut window.tables {
            let Some(wanted) = self.wanted.get(changes.schema.name()) else { continue };
            let id = changes.schema.id();
            let shape = match self.shapes.get(&id) {
                Some(shape) => shape.clone(),
                None => {
                    let shape = shape(&changes.schema, wanted)?;
                    self.shapes.insert(id, shape.clone());
                    shape
                }
            };
            *changes = reshaped(changes, &shape);
        }
        Ok(())
    }
}

/// A table's schema with the wanted columns and those of its key, in table order.
pub(crate) fn chosen(schema: &TableSchema, wanted: &[String]) -> Result<Arc<TableSchema>, Problem> {
    shape(schema, wanted).map(|shape| shape.schema)
}

fn shape(schema: &TableSchema, wanted: &[String]) -> Result<Shape, Problem> {
    if let Some(unknown) = wanted.iter().find(|name| schema.column(name).is_none()) {
        let (table, version) = (schema.name(), schema.id());
        let detail = format!(
            "table {table} has no column {unknown:?} in its version {version}; ask for the columns that \
             `/tables` shows, from a position at which the table had them"
        );
        return Err(Problem::new(Code::UnknownColumn, detail).with("table", table.to_string()));
    }
    let is_kept = |ordinal: &usize| {
        schema.key().contains(&(*ordinal as u32)) || wanted.contains(&schema.columns()[*ordinal].name)
    };
    let columns: Vec<usize> = (0..schema.columns().len()).filter(is_kept).collect();
    let place = |ordinal: &u32| {
        let place = columns.iter().position(|kept| *kept == *ordinal as usize);
        place.expect("columns of the key are kept") as u32
    };
    let key = schema.key().iter().map(place).collect();
    let defs = columns.iter().map(|ordinal| schema.columns()[*ordinal].clone()).collect();
    let schema = TableSchema::new(schema.name().clone(), defs, key);
    Ok(Shape { columns, schema })
}

fn reshaped(changes: &TableChanges, shape: &Shape) -> TableChanges {
    let arrays = shape.columns.iter().map(|column| Arc::clone(changes.rows.column(*column))).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(changes.rows.num_rows()));
    let rows = RecordBatch::try_new_with_options(Arc::clone(shape.schema.arrow()), arrays, &options);
    let absent: Vec<_> = match changes.absent.is_empty() {
        true => vec![],
        false => shape.columns.iter().map(|column| changes.absent[*column].clone()).collect(),
    };
    TableChanges {
        schema: Arc::clone(&shape.schema),
        rows: rows.expect("the columns are those of the schema"),
        absent: if absent.iter().all(Option::is_none) { vec![] } else { absent },
        kind: changes.kind.clone(),
        ordinal: changes.ordinal.clone(),
        txn: changes.txn.clone(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn name(text: &str) -> TableName {
        let (database, table) = text.split_once('.').unwrap();
        TableName::new(database, table)
    }

    fn changed(tables: &[&str]) -> EventKind {
        let tables = tables.iter().map(|text| name(text)).collect();
        EventKind::SchemaChange { database: "shop".into(), tables, statement: Some("ALTER".into()) }
    }

    fn silent(tables: &[&str]) -> EventKind {
        let tables = tables.iter().map(|text| name(text)).collect();
        EventKind::SchemaChange { database: "shop".into(), tables, statement: None }
    }

    fn check(patterns: &[&str], kind: EventKind, expected: Option<EventKind>) {
        let patterns: Vec<TablePattern> =
            patterns.iter().map(|text| TablePattern::parse(text).unwrap()).collect();
        assert_eq!(said(&kind, &patterns), expected);
    }

    #[test]
    fn a_statement_that_names_another_table_loses_its_text_and_the_name() {
        check(&["shop.a"], changed(&["shop.a"]), Some(changed(&["shop.a"])));
        check(&["shop.a"], changed(&["shop.a", "shop.b"]), Some(silent(&["shop.a"])));
        check(&["shop.a"], changed(&["shop.b"]), None);
        check(&["shop.a"], changed(&[]), Some(silent(&[])));
        check(&["bank.a"], changed(&[]), None);
        check(&["*.a"], changed(&[]), Some(silent(&[])));
        let mut elsewhere = changed(&["shop.a"]);
        let EventKind::SchemaChange { database, .. } = &mut elsewhere else { unreachable!() };
        *database = "bank".into();
        check(&["shop.*"], elsewhere, Some(changed(&["shop.a"])));
    }

    #[test]
    fn a_renaming_out_of_sight_is_a_drop_and_one_into_sight_is_left_to_the_event_that_follows() {
        let rename = || EventKind::Rename { from: name("shop.a"), to: name("shop.b") };
        check(&["shop.*"], rename(), Some(rename()));
        check(&["shop.a"], rename(), Some(EventKind::Drop { table: name("shop.a") }));
        check(&["shop.b"], rename(), None);
    }

    #[test]
    fn what_happened_to_other_tables_is_not_told() {
        for of in [
            |table| EventKind::Truncate { table },
            |table| EventKind::Drop { table },
            |table| EventKind::Invalidate { table, reason: CONTENT_CHANGED.into() },
        ] {
            check(&["shop.a"], of(name("shop.a")), Some(of(name("shop.a"))));
            check(&["shop.a"], of(name("shop.b")), None);
        }
        let renamed = EventKind::Invalidate { table: name("shop.a"), reason: "it was bank.secret".into() };
        let told = EventKind::Invalidate { table: name("shop.a"), reason: CONTENT_CHANGED.into() };
        check(&["shop.a"], renamed, Some(told));
        let gone = |database: &str| EventKind::DropDatabase { database: database.into() };
        check(&["shop.a"], gone("shop"), Some(gone("shop")));
        check(&["shop.a"], gone("bank"), None);
    }
}
