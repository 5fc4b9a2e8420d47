//! The tables as the stream is at them: what is built of their changes, and the steps that are not committed yet. After each
//! commit it is made again from the head.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use tidemill_bootstrap_clone::{Plan, Stamp};
use tidemill_bootstrap_store::{
    DataError, Run, RunBuilder, Store, StoredSchema, TableId, TableKey, TableState, table_root,
};
use tidemill_event::{Position, Scn, TableChanges, TableName, TableSchema, Window, chain};
use tidemill_fetchers_api::statement::{ColumnChange, ReadStatement};

use super::change::{copied_since, progress};
use super::{FollowError, Step};
use crate::schema::{Evolution, Stored, after_rows, after_statement};

/// One table.
pub(crate) struct Table {
    pub(crate) id: TableId,
    pub(crate) name: TableName,
    schema: StoredSchema,
    key: TableKey,
    next_field: u32,
    is_judged: bool,
    /// Being copied: nothing before this counts.
    pub(crate) copied_since: Option<Position>,
    /// What is committed of it; `None`: nothing is.
    state: Option<Arc<TableState>>,
    /// The schema of the copy that is being made, where one is.
    copy: Option<StoredSchema>,
    builder: Option<RunBuilder>,
    /// Everything in the builder came after this.
    after: Position,
}

/// All of them.
pub(crate) struct Tables {
    store: Store,
    by_name: HashMap<TableName, Table>,
    /// Columns that statements have added, until rows with them come.
    expected: HashMap<TableId, Vec<String>>,
    /// Tables that a statement defined anew and that went on as they are.
    defined: HashSet<TableName>,
    pub(crate) steps: Vec<(TableId, Step)>,
    /// Tables that the steps take away.
    gone: HashSet<TableId>,
    read: ReadStatement,
    /// The policy that judges what comes.
    policy: String,
}

impl Tables {
    pub(crate) fn new(store: Store, read: ReadStatement, policy: String) -> Tables {
        let (by_name, expected) = (HashMap::new(), HashMap::new());
        let (defined, gone) = (HashSet::new(), HashSet::new());
        Tables { store, by_name, expected, defined, steps: vec![], gone, read, policy }
    }

    /// Begins again from what is committed.
    pub(crate) fn load(&mut self, head: &BTreeMap<TableId, Arc<TableState>>, applied: Position) {
        self.steps.clear();
        self.gone.clear();
        self.by_name.clear();
        self.expected.retain(|id, _| head.contains_key(id));
        head.values().for_each(|state| self.enter(state, applied));
    }

    /// A table that is in the head.
    pub(crate) fn enter(&mut self, state: &Arc<TableState>, after: Position) {
        let table = Table {
            id: state.id,
            name: state.name.clone(),
            schema: state.schema.clone(),
            key: state.key.clone(),
            next_field: state.next_field,
            is_judged: Stamp::of(&state.policy).is_judged(),
            copied_since: copied_since(state),
            state: Some(Arc::clone(state)),
            copy: progress(state).and_then(|copy| Plan::of(copy).ok()).map(|plan| plan.schema),
            builder: None,
            after,
        };
        self.by_name.insert(table.name.clone(), table);
    }

    /// A table that nobody knows yet. `made`: the source made it empty there.
    pub(crate) fn appear(
        &mut self,
        id: TableId,
        rows: &TableSchema,
        made: Option<Position>,
        after: Position,
    ) {
        let schema = StoredSchema::new(rows, 1);
        let key = key_of(&schema);
        let name = rows.name().clone();
        let next_field = schema.columns.len() as u32 + 1;
        let policy = self.policy.clone();
        let step =
            Step::Appear { name: name.clone(), schema: schema.clone(), key: key.clone(), made, policy };
        self.steps.push((id, step));
        let copied_since = made.is_none().then_some(Position::default());
        let table = Table {
            id,
            name: name.clone(),
            schema,
            key,
            next_field,
            is_judged: Stamp::of(&self.policy).is_judged(),
            copied_since,
            state: None,
            copy: None,
            builder: None,
            after,
        };
        self.by_name.insert(name, table);
    }

    pub(crate) fn get(&self, name: &TableName) -> Option<&Table> {
        self.by_name.get(name)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &TableName> {
        self.by_name.keys()
    }

    /// Whether the table is one of these, or was.
    pub(crate) fn knows(&self, id: TableId) -> bool {
        self.gone.contains(&id) || self.by_name.values().any(|table| table.id == id)
    }

    /// Bytes that are held in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.by_name.values().filter_map(|table| table.builder.as_ref()).map(RunBuilder::bytes).sum()
    }

    /// Takes rows of a table that is known.
    pub(crate) async fn rows(
        &mut self,
        window: &Window,
        changes: &TableChanges,
        timeline: u32,
    ) -> Result<(), FollowError> {
        let name = changes.schema.name();
        let first = changes.txn.first().map_or(window.span.upto, |at| window.transactions[*at as usize].scn);
        let at = Position { timeline, scn: first };
        self.fit(name, &changes.schema, at).await?;
        let table = self.by_name.get_mut(name).expect("the caller made it known");
        // Without a primary key, what rows are told apart by is known when the copy is: its changes are read again then.
        if table.copied_since.is_some() && changes.schema.key().is_empty() {
            return Ok(());
        }
        let fresh = || RunBuilder::new(table.schema.clone(), table.key.clone());
        match table.builder.get_or_insert_with(fresh).add(window, changes, timeline) {
            // What the log does not have, a copy from behind it has: whoever asked for one gets it.
            Err(error @ DataError::Absent { .. }) if table.copied_since.is_some() => {
                let last = changes.txn.last().map_or(at, |last| end_of(window, *last, timeline));
                tracing::warn!(table = %name, error = %chain(&error), "it is copied anew from here on");
                self.invalidate(name, last, error.to_string());
                Ok(())
            }
            added => Ok(added?),
        }
    }

    /// Makes the table's schema that of the rows that come, or has it copied anew.
    async fn fit(&mut self, name: &TableName, rows: &TableSchema, at: Position) -> Result<(), FollowError> {
        let table = &self.by_name[name];
        if table.copied_since.is_none() {
            let none = vec![];
            let expected = self.expected.get(&table.id).unwrap_or(&none);
            match after_rows(&table.stored(), rows, expected) {
                Evolution::Same => return Ok(()),
                Evolution::InPlace(schema) => return self.evolve(name, schema, at).await,
                Evolution::CloneAnew(reason) => self.invalidate(name, at, reason),
            }
        }
        let table = &self.by_name[name];
        if table.schema.id == rows.id().to_string() {
            return Ok(());
        }
        let schema = table.copy_schema(rows);
        self.finish(name, at).await?;
        let table = self.by_name.get_mut(name).expect("it is there");
        (table.key, table.schema) = (key_of(&schema), schema);
        Ok(())
    }

    async fn evolve(
        &mut self,
        name: &TableName,
        schema: StoredSchema,
        at: Position,
    ) -> Result<(), FollowError> {
        self.finish(name, at).await?;
        let table = self.by_name.get_mut(name).expect("it is there");
        let next = schema.columns.iter().map(|column| column.field + 1).max().unwrap_or(0);
        table.next_field = table.next_field.max(next);
        table.schema = schema.clone();
        let id = table.id;
        self.came(id, &schema);
        self.steps.push((id, Step::Evolve { schema, at }));
        Ok(())
    }

    /// Columns that are there are not expected any more.
    pub(crate) fn came(&mut self, id: TableId, schema: &StoredSchema) {
        if let Some(expected) = self.expected.get_mut(&id) {
            expected.retain(|name| schema.columns.iter().all(|column| column.name != *name));
        }
    }

    /// Writes what is built of a table, up to and with the transaction that ends there. More of that transaction may come.
    async fn finish(&mut self, name: &TableName, upto: Position) -> Result<(), DataError> {
        let table = self.by_name.get_mut(name).expect("it is there");
        let after = std::mem::replace(&mut table.after, before(upto));
        let Some(builder) = table.builder.take() else { return Ok(()) };
        let run = builder.finish(&self.store, &table_root(name), after, upto).await?;
        self.steps.extend(run.map(|run: Run| (table.id, Step::Run(run))));
        Ok(())
    }

    /// Writes what is built of every table.
    pub(crate) async fn finish_all(&mut self, upto: Position) -> Result<(), DataError> {
        let mut names: Vec<TableName> = Vec::new();
        names.extend(self.by_name.values().filter(|table| table.builder.is_some()).map(|t| t.name.clone()));
        names.sort();
        for name in names {
            self.finish(&name, upto).await?;
        }
        Ok(())
    }

    pub(crate) fn truncate(&mut self, name: &TableName, at: Position) {
        let Some(table) = self.by_name.get_mut(name) else { return };
        table.forget(at);
        if table.copied_since.is_some() {
            (table.copied_since, table.copy) = (Some(at), None);
        }
        self.steps.push((table.id, Step::Truncate(at)));
    }

    pub(crate) fn invalidate(&mut self, name: &TableName, at: Position, reason: String) {
        let Some(table) = self.by_name.get_mut(name) else { return };
        table.forget(at);
        (table.copied_since, table.copy) = (Some(at), None);
        self.expected.remove(&table.id);
        self.steps.push((table.id, Step::Invalidate { at, reason }));
    }

    pub(crate) fn remove(&mut self, name: &TableName, at: Position) {
        let Some(table) = self.by_name.remove(name) else { return };
        self.expected.remove(&table.id);
        self.gone.insert(table.id);
        self.steps.push((table.id, Step::Drop(at)));
    }

    /// Whether the table is known, so that its content is what it was.
    pub(crate) fn rename(&mut self, from: &TableName, to: &TableName, at: Position) -> bool {
        let Some(mut table) = self.by_name.remove(from) else {
            self.remove(to, at);
            return false;
        };
        self.remove(to, at);
        if table.copied_since.is_some() {
            table.forget(at);
            (table.copied_since, table.copy) = (Some(at), None);
        }
        table.name = to.clone();
        self.steps.push((table.id, Step::Rename { to: to.clone(), at }));
        // A policy judges tables by name: what it would do with this one is known from a new copy alone.
        let is_same = !table.is_judged;
        self.by_name.insert(to.clone(), table);
        is_same
    }

    /// A statement changed its definition. `text_name`: the table's name in the statement.
    pub(crate) async fn define(
        &mut self,
        name: &TableName,
        text_name: &TableName,
        statement: Option<&str>,
        at: Position,
    ) -> Result<(), FollowError> {
        let Some(table) = self.by_name.get(name) else { return Ok(()) };
        let changes = match statement {
            Some(statement) => (self.read)(text_name, statement),
            None => vec![ColumnChange::Unknown("by a statement that the policy removed".to_owned())],
        };
        if changes.is_empty() {
            return Ok(());
        }
        let evolution = match table.copied_since {
            Some(_) => Evolution::CloneAnew("its definition changed while it was copied".to_owned()),
            None if table.schema.primary_key.is_empty() => {
                Evolution::CloneAnew("its definition changed, and it has no primary key".to_owned())
            }
            None => {
                let expected = self.expected.entry(table.id).or_default();
                after_statement(&table.stored(), &changes, expected)
            }
        };
        match evolution {
            Evolution::Same => drop(self.defined.insert(name.clone())),
            Evolution::InPlace(schema) => {
                self.defined.insert(name.clone());
                self.evolve(name, schema, at).await?;
            }
            Evolution::CloneAnew(reason) => self.invalidate(name, at, reason),
        }
        Ok(())
    }

    /// The tables that were defined anew since the last time, and that rows may not come of.
    pub(crate) fn take_defined(&mut self) -> HashSet<TableName> {
        std::mem::take(&mut self.defined)
    }

    /// The source shows a table with these columns, now or somewhat later in its log than this: what follows for the table
    /// from the statements that are here, in which columns may have come that no row has yet. `None`: nothing does.
    ///
    /// A later statement that is not here yet does no harm: what does not follow is left alone, and rows that do not fit have
    /// the table copied anew.
    pub(crate) fn follows(&self, seen: &TableSchema) -> Option<(TableId, StoredSchema)> {
        let table = self.by_name.get(seen.name()).filter(|table| table.copied_since.is_none())?;
        let expected = self.expected.get(&table.id).map_or(&[][..], Vec::as_slice);
        match after_rows(&table.stored(), seen, expected) {
            Evolution::InPlace(schema) => Some((table.id, schema)),
            Evolution::Same | Evolution::CloneAnew(_) => None,
        }
    }

    pub(crate) fn creates(&self, name: &TableName, statement: Option<&str>) -> bool {
        statement.is_some_and(|statement| (self.read)(name, statement) == [ColumnChange::Created])
    }
}

impl Table {
    /// The schema of rows that come while it is copied: the copy's, or that of the copy which will be made.
    fn copy_schema(&self, rows: &TableSchema) -> StoredSchema {
        let copy = self.copy.as_ref().filter(|copy| copy.id == rows.id().to_string());
        copy.cloned().unwrap_or_else(|| match &self.state {
            Some(state) => state.copy_schema(rows),
            None => StoredSchema::new(rows, 1),
        })
    }

    fn stored(&self) -> Stored<'_> {
        let (name, schema, key) = (&self.name, &self.schema, &self.key);
        Stored { name, schema, key, next_field: self.next_field, judged: self.is_judged }
    }

    /// What is built does not count any more.
    fn forget(&mut self, at: Position) {
        (self.builder, self.after) = (None, before(at));
    }
}

fn key_of(schema: &StoredSchema) -> TableKey {
    let field = |ordinal: &u32| schema.columns[*ordinal as usize].field;
    match schema.primary_key.is_empty() {
        true => TableKey::WholeRow,
        false => TableKey::Columns { fields: schema.primary_key.iter().map(field).collect() },
    }
}

/// The changes of a table whose ordinals lie in that stretch.
pub(crate) fn between(changes: &TableChanges, ordinals: std::ops::Range<u32>) -> Option<TableChanges> {
    let (first, last) = (changes.ordinal.first()?, changes.ordinal.last()?);
    if ordinals.contains(first) && ordinals.contains(last) {
        return Some(changes.clone());
    }
    changes.keep(&changes.ordinal.iter().map(|ordinal| ordinals.contains(ordinal)).collect())
}

/// A place before everything of the transaction that ends there.
fn before(Position { timeline, scn }: Position) -> Position {
    Position { timeline, scn: Scn(scn.0.saturating_sub(1)) }
}

/// Where a transaction of a window ends.
pub(crate) fn end_of(window: &Window, txn: u32, timeline: u32) -> Position {
    let scn: Scn = window.transactions[txn as usize].scn;
    Position { timeline, scn }
}
