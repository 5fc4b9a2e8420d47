//! The source: tables with rows, transactions and definitions, and what it was after each of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::DataType;
use tidemill_event::{
    ColumnSchema, Event, EventKind, Part, Phase, Position, RowKind, Scn, Span, TableChanges, TableName,
    TableSchema, Timeline, Transaction, Window,
};

use super::Dice;

/// A row: its id, and a value for each column behind it.
pub type Values = Vec<Option<String>>;

/// A table of the source. Rows differ by `id`, whether it is a key or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    pub has_key: bool,
    pub columns: Vec<String>,
    pub rows: BTreeMap<i64, Values>,
}

pub type Tables = BTreeMap<TableName, Table>;

#[derive(Clone, Debug)]
pub enum Action {
    Row { schema: Arc<TableSchema>, before: Option<(i64, Values)>, after: Option<(i64, Values)> },
    Event(EventKind),
}

#[derive(Clone, Debug)]
pub struct Txn {
    pub at: Position,
    pub number: u64,
    pub actions: Vec<Action>,
    pub after: Arc<Tables>,
}

#[derive(Clone)]
pub struct Model {
    pub dice: Dice,
    pub history: Vec<Txn>,
    pub before: Arc<Tables>,
    pub now: Tables,
    pub timeline: u32,
    scn: u64,
    made: u64,
}

/// The number of the first transaction: there were some before anybody looked.
pub const FIRST: u64 = 5;
pub const UUID: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

pub fn name(table: &str) -> TableName {
    TableName::new("shop", table)
}

pub fn server(timeline: u32) -> String {
    format!("server-{timeline}")
}

pub fn executed(upto: u64) -> String {
    format!("{UUID}:1-{upto}")
}

impl Table {
    pub fn schema(&self, name: &TableName) -> Arc<TableSchema> {
        let mut columns = vec![ColumnSchema::new("id", DataType::Int64, "bigint", false)];
        let text = |column: &String| ColumnSchema::new(column, DataType::Utf8, "varchar(100)", true);
        columns.extend(self.columns.iter().map(text));
        TableSchema::new(name.clone(), columns, if self.has_key { vec![0] } else { vec![] })
    }
}

/// Rows as the stream holds them.
pub fn batch(schema: &TableSchema, rows: &[&(i64, Values)]) -> RecordBatch {
    let mut columns: Vec<ArrayRef> =
        vec![Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0)))];
    for at in 0..schema.columns().len() - 1 {
        columns.push(Arc::new(rows.iter().map(|row| row.1[at].clone()).collect::<StringArray>()));
    }
    RecordBatch::try_new(Arc::clone(schema.arrow()), columns).unwrap()
}

impl Model {
    /// A source with tables that are older than everybody who looks.
    pub fn new(seed: u64) -> Model {
        let mut now = Tables::new();
        for (at, table) in ["a", "b"].into_iter().enumerate() {
            let row = |id: i64| (id, vec![Some(format!("old-{id}"))]);
            let columns = vec!["note".to_owned()];
            now.insert(name(table), Table { has_key: at == 0, columns, rows: (0..12).map(row).collect() });
        }
        let before = Arc::new(now.clone());
        Model { dice: Dice(seed), history: vec![], before, now, timeline: 1, scn: 100, made: 0 }
    }

    pub fn head(&self) -> Position {
        Position { timeline: self.timeline, scn: Scn(self.scn) }
    }

    /// How many transactions there are up to a position.
    pub fn count_at(&self, position: Position) -> usize {
        self.history.partition_point(|txn| txn.at <= position)
    }

    /// What the source was there.
    pub fn at(&self, position: Position) -> &Tables {
        match self.count_at(position).checked_sub(1) {
            Some(last) => &self.history[last].after,
            None => &self.before,
        }
    }

    /// Another server goes on, and counts from the beginning.
    pub fn fail_over(&mut self) {
        (self.timeline, self.scn) = (self.timeline + 1, 50);
    }

    pub fn commit(&mut self, actions: Vec<Action>) {
        self.scn += 1 + self.dice.below(9);
        let number = self.history.len() as u64 + FIRST;
        let after = Arc::new(self.now.clone());
        self.history.push(Txn { at: self.head(), number, actions, after });
    }

    /// Something happens.
    pub fn step(&mut self) {
        match self.dice.below(40) {
            0 => self.define(),
            1 => self.move_tables(),
            2 => self.silent(),
            // A store counts timelines from the first server that it sees.
            3 if self.dice.one_in(3) && !self.history.is_empty() => self.fail_over(),
            _ => {}
        }
        self.write();
    }

    /// A table, if there is one.
    fn any(&mut self) -> Option<TableName> {
        let at = self.dice.below(self.now.len().max(1) as u64) as usize;
        self.now.keys().nth(at).cloned()
    }

    /// A transaction of a few rows over some tables.
    pub fn write(&mut self) {
        let mut actions = vec![];
        for _ in 0..=self.dice.below(5) {
            let Some(table) = self.any() else { continue };
            actions.extend(self.change(&table));
        }
        self.commit(actions);
    }

    fn change(&mut self, table_name: &TableName) -> Option<Action> {
        let (id, kind, value) = (self.dice.below(30) as i64, self.dice.below(6), self.dice.below(1000));
        let table = self.now.get_mut(table_name).unwrap();
        let schema = table.schema(table_name);
        let values: Values = table
            .columns
            .iter()
            .map(|column| (!value.is_multiple_of(7)).then(|| format!("{column}-{value}")))
            .collect();
        let before = table.rows.get(&id).map(|row| (id, row.clone()));
        let after = match (kind, &before) {
            (0 | 1, Some(_)) => None,
            // Its key changes.
            (2, Some(_)) if !table.rows.contains_key(&(id + 30)) => Some((id + 30, values)),
            _ => Some((id, values)),
        };
        if let Some((id, _)) = &before {
            table.rows.remove(id);
        }
        table.rows.extend(after.clone());
        (before.is_some() || after.is_some()).then_some(Action::Row { schema, before, after })
    }

    fn schema_change(tables: &[&TableName], statement: String) -> Action {
        Action::Event(EventKind::SchemaChange {
            database: "shop".to_owned(),
            tables: tables.iter().map(|table| (*table).clone()).collect(),
            statement: Some(statement),
        })
    }

    /// ALTER TABLE, in ways that can be followed and in ways that cannot.
    pub fn define(&mut self) {
        let Some(table_name) = self.any() else { return };
        let (what, which) = (self.dice.below(7), self.dice.below(9) as usize);
        self.made += 1;
        let (new, text) = (format!("c{}", self.made), &table_name.table);
        let table = self.now.get_mut(&table_name).unwrap();
        let old = table.columns.get(which % table.columns.len().max(1)).cloned();
        let add = |table: &mut Table, column: &str, value: Option<&str>| {
            table.columns.push(column.to_owned());
            table.rows.values_mut().for_each(|row| row.push(value.map(str::to_owned)));
        };
        let drop = |table: &mut Table, column: &str| {
            let at = table.columns.iter().position(|known| known == column).unwrap();
            table.columns.remove(at);
            table.rows.values_mut().for_each(|row| drop(row.remove(at)));
        };
        let statement = match (what, old) {
            (0, _) => {
                add(table, &new, Some("d"));
                format!("ALTER TABLE {text} ADD COLUMN {new} VARCHAR(100) DEFAULT 'd'")
            }
            (1, Some(old)) => {
                drop(table, &old);
                format!("ALTER TABLE {text} DROP COLUMN {old}")
            }
            (2, Some(old)) => {
                table.columns.iter_mut().filter(|column| **column == old).for_each(|c| c.clone_from(&new));
                format!("ALTER TABLE shop.{text} RENAME COLUMN {old} TO `{new}`")
            }
            (3, Some(old)) => {
                drop(table, &old);
                add(table, &old, None);
                format!("ALTER TABLE {text} DROP COLUMN {old}, ADD COLUMN {old} VARCHAR(100)")
            }
            (4, _) => format!("ALTER TABLE {text} ADD INDEX i{new} (id)"),
            _ => {
                add(table, &new, None);
                format!("ALTER TABLE {text} ADD COLUMN {new} VARCHAR(100) NULL DEFAULT NULL")
            }
        };
        self.commit(vec![Model::schema_change(&[&table_name], statement)]);
    }

    /// Tables come, go and move.
    pub fn move_tables(&mut self) {
        let to = name(["a", "b", "c", "d"][self.dice.below(4) as usize]);
        if !self.now.contains_key(&to) {
            match self.any().filter(|_| self.dice.one_in(2)) {
                Some(from) => self.rename(&from, &to),
                None => self.create(&to),
            }
            return;
        }
        let mut actions = vec![];
        if self.dice.one_in(2) {
            self.now.get_mut(&to).unwrap().rows.clear();
            actions.push(Action::Event(EventKind::Truncate { table: to }));
        } else {
            self.now.remove(&to);
            actions.push(Action::Event(EventKind::Drop { table: to.clone() }));
            actions.push(Model::schema_change(&[&to], format!("DROP TABLE {}", to.table)));
        }
        self.commit(actions);
    }

    fn create(&mut self, table: &TableName) {
        let has_key = !self.dice.one_in(4);
        self.now
            .insert(table.clone(), Table { has_key, columns: vec!["note".to_owned()], ..Table::default() });
        self.commit(vec![Model::schema_change(&[table], format!("CREATE TABLE {} (…)", table.table))]);
    }

    pub fn rename(&mut self, from: &TableName, to: &TableName) {
        let table = self.now.remove(from).unwrap();
        self.now.insert(to.clone(), table);
        let reason = "it was renamed".to_owned();
        self.commit(vec![
            Action::Event(EventKind::Rename { from: from.clone(), to: to.clone() }),
            Action::Event(EventKind::Invalidate { table: to.clone(), reason }),
            Model::schema_change(&[from, to], format!("RENAME TABLE {} TO {}", from.table, to.table)),
        ]);
    }

    /// Rows vanish at the end of history, and nothing tells.
    pub fn forget_rows(&mut self, table_name: &TableName) -> Option<Table> {
        let table = self.now.get_mut(table_name)?;
        table.rows.retain(|id, _| id % 4 == 0);
        let table = table.clone();
        self.history.last_mut()?.after = Arc::new(self.now.clone());
        Some(table)
    }

    /// Content changes in a way that no row tells.
    pub fn silent(&mut self) {
        let Some(table_name) = self.any() else { return };
        let table = self.now.get_mut(&table_name).unwrap();
        table.rows.retain(|id, _| id % 3 != 0);
        let reason = "a partition was dropped".to_owned();
        self.commit(vec![Action::Event(EventKind::Invalidate { table: table_name, reason })]);
    }

    /// The window of those transactions, which are neighbours; `after`: where it begins.
    pub fn window(&self, txns: &[Txn], after: Position) -> Window {
        let last = txns.last().unwrap();
        let mut window = Building::new(last.at.timeline, after, last.at.scn, last.number);
        txns.iter().for_each(|txn| window.add(txn, &txn.actions, 0, Part::Whole));
        window.finish()
    }

    /// A transaction in as many parts as it has actions, two at least.
    pub fn parts(&self, txn: &Txn, after: Position) -> Vec<Window> {
        let count = txn.actions.len();
        let after = begins(txn.at.timeline, after);
        let part = |at: usize| {
            let (part, upto, number) = match at {
                0 => (Part::First, after.scn, txn.number - 1),
                at if at + 1 == count => (Part::Last, txn.at.scn, txn.number),
                _ => (Part::Middle, after.scn, txn.number - 1),
            };
            let mut window = Building::new(txn.at.timeline, after, upto, number);
            window.add(txn, &txn.actions[at..=at], at as u64, part);
            window.finish()
        };
        (0..count).map(part).collect()
    }
}

/// Where a window begins: where the last one ended, or at the beginning of its timeline.
fn begins(timeline: u32, after: Position) -> Position {
    if after.timeline == timeline { after } else { Position { timeline, scn: Scn(50) } }
}

/// A window in the making.
struct Building {
    window: Window,
    rows: Vec<Rows>,
    ordinal: u32,
}

struct Rows {
    schema: Arc<TableSchema>,
    rows: Vec<(i64, Values)>,
    kind: Vec<u8>,
    ordinal: Vec<u32>,
    txn: Vec<u32>,
}

impl Building {
    fn new(timeline: u32, after: Position, upto: Scn, number: u64) -> Building {
        let after = begins(timeline, after).scn;
        let timeline = Timeline { number: timeline, server: server(timeline).into() };
        let span = Span { after, upto };
        let mut window = Window::empty("shop".into(), timeline, span, executed(number).into());
        window.phase = Phase::Stream;
        Building { window, rows: vec![], ordinal: 0 }
    }

    fn add(&mut self, txn: &Txn, actions: &[Action], change_offset: u64, part: Part) {
        let index = self.window.transactions.len() as u32;
        self.window.transactions.push(Transaction {
            scn: txn.at.scn,
            gtid: format!("{UUID}:{}", txn.number),
            commit_time_us: 1_700_000_000_000_000 + txn.number as i64,
            first_ordinal: self.ordinal,
            change_count: actions.len() as u32,
            change_offset,
            part,
        });
        for action in actions {
            match action {
                Action::Event(kind) => {
                    self.window.events.push(Event { ordinal: self.ordinal, txn: index, kind: kind.clone() })
                }
                Action::Row { schema, before, after } => {
                    self.row(schema, before.clone(), after.clone(), index)
                }
            }
            self.ordinal += 1;
        }
    }

    fn row(
        &mut self,
        schema: &Arc<TableSchema>,
        before: Option<(i64, Values)>,
        after: Option<(i64, Values)>,
        txn: u32,
    ) {
        let known = self.rows.iter().position(|rows| rows.schema.id() == schema.id());
        let at = known.unwrap_or_else(|| {
            let schema = Arc::clone(schema);
            self.rows.push(Rows { schema, rows: vec![], kind: vec![], ordinal: vec![], txn: vec![] });
            self.rows.len() - 1
        });
        let kinds = match (&before, &after) {
            (Some(_), Some(_)) => [RowKind::UpdateBefore, RowKind::UpdateAfter],
            _ => [RowKind::Delete, RowKind::Insert],
        };
        let into = &mut self.rows[at];
        for (row, this) in [before, after].into_iter().zip(kinds) {
            let Some(row) = row else { continue };
            into.rows.push(row);
            into.kind.push(this as u8);
            into.ordinal.push(self.ordinal);
            into.txn.push(txn);
        }
    }

    fn finish(mut self) -> Window {
        for Rows { schema, rows, kind, ordinal, txn } in self.rows {
            let rows: Vec<&(i64, Values)> = rows.iter().collect();
            let rows = batch(&schema, &rows);
            let (kind, ordinal, txn) = (kind.into(), ordinal.into(), txn.into());
            self.window.tables.push(TableChanges { schema, rows, absent: vec![], kind, ordinal, txn });
        }
        self.window.validate().unwrap();
        self.window
    }
}
