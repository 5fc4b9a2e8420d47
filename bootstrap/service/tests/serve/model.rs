//! What a consumer has: it takes windows as any consumer does, and notes what a consumer could be confused by.

use std::collections::BTreeMap;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Int32Type, Int64Type};
use tidemill_client::{Bootstrap, Piece};
use tidemill_event::{Checkpoint, EventKind, Phase, RowKind, TableChanges, Window};

/// A row of any of the shop's tables.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    pub id: i64,
    pub part: Option<i32>,
    /// decimal(12,2)
    pub cents: Option<i64>,
    pub note: Option<String>,
}

/// A table's rows: by key where it has one, else each with its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rows {
    Keyed(BTreeMap<i64, Row>),
    Counted(BTreeMap<Row, u64>),
}

impl Rows {
    pub fn new(has_key: bool) -> Rows {
        if has_key { Rows::Keyed(BTreeMap::new()) } else { Rows::Counted(BTreeMap::new()) }
    }

    pub fn len(&self) -> usize {
        match self {
            Rows::Keyed(rows) => rows.len(),
            Rows::Counted(rows) => rows.values().sum::<u64>() as usize,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn add(&mut self, row: Row) {
        match self {
            Rows::Keyed(rows) => drop(rows.insert(row.id, row)),
            Rows::Counted(rows) => *rows.entry(row).or_default() += 1,
        }
    }

    pub fn remove(&mut self, row: &Row) {
        match self {
            Rows::Keyed(rows) => drop(rows.remove(&row.id)),
            Rows::Counted(rows) => {
                let count = rows.get_mut(row).expect("what is removed was there");
                *count -= 1;
                if *count == 0 {
                    rows.remove(row);
                }
            }
        }
    }
}

/// Tables by `database.table`; one without rows is as good as none.
pub type Content = BTreeMap<String, Rows>;

/// Without tables that have no rows.
pub fn shown(content: &Content) -> Content {
    content
        .iter()
        .filter(|(_, rows)| !rows.is_empty())
        .map(|(name, rows)| (name.clone(), rows.clone()))
        .collect()
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Mirror {
    pub content: Content,
    pub have: Option<Checkpoint>,
    /// Row images that came.
    pub rows: usize,
    /// Windows that came.
    pub windows: usize,
    /// Of windows of a snapshot or of deltas, per table, whether it was emptied.
    pub emptied: Vec<String>,
    pub dropped: Vec<String>,
}

impl Mirror {
    pub fn take(&mut self, window: &Window) {
        window.validate().unwrap();
        let (before, after) = (self.have.as_ref().map(|have| have.position), window.position());
        assert!(before.is_none_or(|before| before <= after), "positions never fall: {before:?} {after:?}");
        self.windows += 1;
        for event in &window.events {
            match &event.kind {
                EventKind::Truncate { table } => {
                    self.emptied.push(table.to_string());
                    self.content.remove(&table.to_string());
                }
                EventKind::Drop { table } => {
                    self.dropped.push(table.to_string());
                    self.content.remove(&table.to_string());
                }
                other => panic!("the shop has no {other:?}"),
            }
        }
        for change in window.changes_in_order() {
            self.rows += 1;
            let changes = &window.tables[change.table as usize];
            let has_key = !changes.schema.key().is_empty();
            let rows =
                self.content.entry(changes.schema.name().to_string()).or_insert_with(|| Rows::new(has_key));
            if let Some(before) = change.before {
                rows.remove(&row_of(changes, before as usize));
            }
            if let Some(after) = change.after {
                let row = row_of(changes, after as usize);
                let kind = changes.kind[after as usize];
                assert!(
                    !matches!(window.phase, Phase::Snapshot(_)) || kind == RowKind::Insert as u8,
                    "a snapshot is made of inserts"
                );
                rows.add(row);
            }
        }
        self.have = Some(window.checkpoint());
    }

    /// Reads until the stream follows.
    pub async fn read<B: Bootstrap>(&mut self, from: &mut B) {
        while self.step(from).await {}
    }

    /// Reads one piece; `false`: the stream follows.
    pub async fn step<B: Bootstrap>(&mut self, from: &mut B) -> bool {
        match from.next(self.have.as_ref()).await.unwrap() {
            Piece::Window(window) => {
                assert_ne!(window.phase, Phase::Stream);
                self.take(&window);
                true
            }
            Piece::Stream(checkpoint) => {
                assert_eq!(checkpoint.phase, Phase::Stream);
                self.have = Some(checkpoint);
                false
            }
        }
    }
}

fn row_of(changes: &TableChanges, row: usize) -> Row {
    let column = |name: &str| changes.schema.column(name).map(|at| changes.rows.column(at));
    let id = column("id").unwrap().as_primitive::<Int64Type>();
    assert!(!id.is_null(row), "the key is always there");
    let part = column("part").map(|c| c.as_primitive::<Int32Type>()).filter(|c| !c.is_null(row));
    let note = column("note").map(|c| c.as_string::<i32>()).filter(|c| !c.is_null(row));
    let cents = column("cents").map(|c| c.as_primitive::<Decimal128Type>()).filter(|c| !c.is_null(row));
    Row {
        id: id.value(row),
        part: part.map(|c| c.value(row)),
        cents: cents.map(|c| c.value(row) as i64),
        note: note.map(|c| c.value(row).to_owned()),
    }
}
