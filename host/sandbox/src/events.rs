//! What happened to tables, for consumers: which of it one is told, and its form in the contract. Pure: nothing here
//! calls a guest.

use tidemill_event::{EventKind, TableName, Window};

use crate::abi;

/// What an event is to a consumer that wants some tables.
pub(crate) enum Told {
    /// It is about tables that are not wanted.
    Nothing,
    /// Rows stay as they were.
    SchemaChanged,
    /// Rows are no longer what the changes say: how.
    ContentGone(String),
}

/// What the event is to a consumer. A table that was never planned counts as wanted: the consumer may hold rows of it
/// from before.
pub(crate) fn told(kind: &EventKind, wanted: impl Fn(&TableName) -> bool) -> Told {
    let (is_wanted, what) = match kind {
        EventKind::SchemaChange { tables, .. } => {
            let is_wanted = tables.is_empty() || tables.iter().any(wanted);
            return if is_wanted { Told::SchemaChanged } else { Told::Nothing };
        }
        EventKind::Truncate { table } => (wanted(table), format!("table {table} was truncated")),
        EventKind::Drop { table } => (wanted(table), format!("table {table} was dropped")),
        EventKind::DropDatabase { database } => (true, format!("database {database} was dropped")),
        EventKind::Rename { from, to } => {
            (wanted(from) || wanted(to), format!("table {from} was renamed to {to}"))
        }
        EventKind::Invalidate { table, reason } => {
            (wanted(table), format!("table {table} must be cloned again: {reason}"))
        }
    };
    if is_wanted { Told::ContentGone(what) } else { Told::Nothing }
}

/// Events of a window in the contract's form, which borrows from here.
pub(crate) struct Lowered<'a> {
    /// The place of each in the batch, what it is, and the tables that it names.
    events: Vec<(u32, &'a EventKind, Vec<abi::TableName<'a>>)>,
}

impl<'a> Lowered<'a> {
    /// `placed`: places in the batch and indexes in the window.
    pub(crate) fn of(window: &'a Window, placed: &[(u32, usize)]) -> Lowered<'a> {
        let event = |(place, index): &(u32, usize)| {
            let kind = &window.events[*index].kind;
            let tables = match kind {
                EventKind::SchemaChange { tables, .. } => tables.iter().map(name).collect(),
                _ => vec![],
            };
            (*place, kind, tables)
        };
        Lowered { events: placed.iter().map(event).collect() }
    }

    pub(crate) fn events(&self) -> Vec<abi::Event<'_>> {
        self.events
            .iter()
            .map(|(place, kind, tables)| abi::Event { place: *place, what: happening(kind, tables) })
            .collect()
    }
}

fn happening<'a>(kind: &'a EventKind, tables: &'a [abi::TableName<'a>]) -> abi::Happening<'a> {
    use abi::Happening;
    match kind {
        EventKind::SchemaChange { database, statement, .. } => {
            let statement = statement.as_deref();
            Happening::SchemaChanged(abi::SchemaChange { schema: database, tables, statement })
        }
        EventKind::Truncate { table } => Happening::Truncated(name(table)),
        EventKind::Drop { table } => Happening::Dropped(name(table)),
        EventKind::DropDatabase { database } => Happening::SchemaDropped(database),
        EventKind::Rename { from, to } => {
            Happening::Renamed(abi::Renaming { from: name(from), to: name(to) })
        }
        EventKind::Invalidate { table, reason } => {
            Happening::Invalidated(abi::Invalidation { table: name(table), reason })
        }
    }
}

fn name(table: &TableName) -> abi::TableName<'_> {
    abi::TableName { schema: &table.database, name: &table.table }
}
