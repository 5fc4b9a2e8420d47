//! What the follower commits: steps of tables, in the order in which the source took them, and the marks that they lead to.
//! Each commit gives them to the head as it is then; copies and merges have changed it meanwhile.

use std::collections::BTreeMap;

use tidemill_bootstrap_clone::{Plan, Stamp};
use tidemill_bootstrap_store::{
    BaseVersion, CloneProgress, Draft, LogSegment, Mark, Run, StoredColumn, StoredSchema, TableId, TableKey,
    TablePhase, TableState,
};
use tidemill_event::{Position, TableName};

/// Something that happened to a table.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// It came into sight, with rows that this policy judged. `made`: the source made it empty at that position; else it is to
    /// be copied.
    Appear { name: TableName, schema: StoredSchema, key: TableKey, made: Option<Position>, policy: String },
    /// Rows changed.
    Run(Run),
    /// Every row vanished.
    Truncate(Position),
    /// Its content is not known any more, since there; a copy is made, and what was published stays.
    Invalidate { at: Position, reason: String },
    /// It goes on with this schema since there.
    Evolve { schema: StoredSchema, at: Position },
    /// It has another name since there.
    Rename { to: TableName, at: Position },
    /// It is gone.
    Drop(Position),
    /// A table of that name was unknown when it changed or went away; whoever has entered it since saw it before. The number
    /// with this step is nobody's.
    Unseen { name: TableName, at: Position, is_gone: bool },
    /// Likewise: every table of a database went away.
    UnseenDatabase { database: String, at: Position },
}

/// Everything between two marks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Change {
    /// Where the stream was begun anew: every table there is must be copied.
    pub(crate) anew: Option<(Position, String)>,
    pub(crate) steps: Vec<(TableId, Step)>,
    pub(crate) segments: Vec<LogSegment>,
    pub(crate) timelines: Vec<String>,
    /// What changed after the copies of tables without primary key, by what their copies tell rows apart: instead of what
    /// they have.
    pub(crate) rebuilt: BTreeMap<TableId, Rebuilt>,
    /// Steps are the tables up to here; `None`: only segments are committed.
    pub(crate) applied: Option<Mark>,
    pub(crate) logged: Mark,
}

/// What changed after a copy of a table without primary key.
#[derive(Clone, Debug)]
pub(crate) struct Rebuilt {
    /// Of which copy: see [`Plan::copy`].
    pub(crate) copy: String,
    pub(crate) changes: Changes,
}

/// See [`Rebuilt`].
#[derive(Clone, Debug)]
pub(crate) enum Changes {
    /// Nothing did.
    Nothing,
    /// These rows.
    Run(Box<Run>),
    /// They are no use: rows came with other columns than the copy has, or without values.
    Unusable(String),
}

impl Change {
    /// Makes it part of the head. What was committed already, with its answer lost, is not made twice. Gives the tables whose
    /// copies were given up, and which may be there again: see [`Step::Unseen`].
    pub(crate) fn make(self, draft: &mut Draft) -> Result<Vec<TableName>, serde_json::Error> {
        let mut given_up = Vec::new();
        let manifest = &mut draft.manifest;
        if self.timelines.len() > manifest.timelines.len() {
            manifest.timelines = self.timelines;
        }
        if self.logged.position > manifest.logged.position {
            manifest.log.extend(self.segments);
            manifest.logged = self.logged;
        }
        let Some(applied) = self.applied else { return Ok(given_up) };
        if let Some((at, reason)) = self.anew {
            lose(draft, at, &reason);
        }
        if applied.position > draft.manifest.applied.position {
            let mut known_as = Vec::new();
            for (id, step) in self.steps {
                let id = known_as.iter().find(|(from, _)| *from == id).map_or(id, |(_, to)| *to);
                if let Some(other) = take_step(draft, id, step, &mut given_up) {
                    known_as.push((id, other));
                }
            }
            draft.manifest.applied = applied;
        }
        finish_copies(draft, &self.rebuilt)?;
        // One that was made meanwhile is whole without a copy.
        let is_whole =
            |name: &TableName| draft.tables.values().any(|t| t.name == *name && t.phase == TablePhase::Ready);
        given_up.retain(|name| !is_whole(name));
        Ok(given_up)
    }
}

/// Takes a step; the id that the table has, where somebody else entered it first.
fn take_step(draft: &mut Draft, id: TableId, step: Step, given_up: &mut Vec<TableName>) -> Option<TableId> {
    match step {
        Step::Appear { name, schema, key, made, policy } => {
            let table = TableState { policy, ..TableState::new(id, name, schema, key) };
            return appear(draft, table, made);
        }
        Step::Rename { to, at } => rename(draft, id, to, at),
        Step::Drop(at) => draft.drop_table(id, at),
        Step::Unseen { name, at, is_gone } => {
            given_up.extend(unseen(draft, |table| *table == name, at, is_gone));
        }
        Step::UnseenDatabase { database, at } => {
            given_up.extend(unseen(draft, |table| table.database == database, at, true));
        }
        Step::Run(run) => draft.tables.get_mut(&id)?.runs.push(run),
        Step::Truncate(at) => truncate(draft.tables.get_mut(&id)?, at),
        Step::Invalidate { at, reason } => draft.tables.get_mut(&id)?.invalidate(at, &reason),
        Step::Evolve { schema, at } => evolve(draft.tables.get_mut(&id)?, schema, at),
    }
    None
}

fn rename(draft: &mut Draft, id: TableId, to: TableName, at: Position) {
    // Whatever had the name is gone: the source would not have given it away.
    let other = draft.tables.values().find(|table| table.name == to && table.id != id).map(|table| table.id);
    other.into_iter().for_each(|other| draft.drop_table(other, at));
    let Some(table) = draft.tables.get_mut(&id) else { return };
    let from = std::mem::replace(&mut table.name, to);
    table.deltas_since = at;
    if !matches!(table.phase, TablePhase::Ready) {
        table.invalidate(at, "it was renamed while it was copied");
    }
    draft.tell_dropped(from, at);
}

/// Tables that were entered after their source took them away or changed them: what was read of them is of no use.
fn unseen(
    draft: &mut Draft,
    is_it: impl Fn(&TableName) -> bool,
    at: Position,
    is_gone: bool,
) -> Vec<TableName> {
    let found = draft.tables.values().filter(|table| is_it(&table.name));
    let found: Vec<(TableId, TableName)> = found.map(|table| (table.id, table.name.clone())).collect();
    for (id, _) in &found {
        match draft.tables.get_mut(id) {
            Some(table) if !is_gone => table.invalidate(at, "it changed while its copy began"),
            _ => draft.drop_table(*id, at),
        }
    }
    found.into_iter().map(|(_, name)| name).collect()
}

/// It goes on with this schema since there.
pub(crate) fn evolve(table: &mut TableState, schema: StoredSchema, at: Position) {
    let same = |old: &StoredColumn, new: &StoredColumn| {
        (old.field, &old.name, &old.data_type) == (new.field, &new.name, &new.data_type)
    };
    // A column that is gone may come again with other values, in rows that nothing else changed; and who keeps rows in
    // columns has none for one that was added, and another for one that became wider.
    let (old, new) = (&table.schema.columns, &schema.columns);
    if old.len() != new.len() || !old.iter().zip(new).all(|(old, new)| same(old, new)) {
        table.deltas_since = table.deltas_since.max(at);
    }
    let next = schema.columns.iter().map(|column| column.field + 1).max().unwrap_or(0);
    table.next_field = table.next_field.max(next);
    table.schema = schema;
    // What the policy decided was about other columns.
    table.policy = Stamp::of(&table.policy).policy().to_owned();
}

fn appear(draft: &mut Draft, mut table: TableState, made: Option<Position>) -> Option<TableId> {
    if let Some(there) = draft.tables.values().find(|there| there.name == table.name) {
        return Some(there.id);
    }
    if let Some(at) = made {
        table.phase = TablePhase::Ready;
        table.base = Some(BaseVersion { path: None, at, files: vec![] });
        table.deltas_since = at;
    }
    draft.tables.insert(table.id, table);
    None
}

fn truncate(table: &mut TableState, at: Position) {
    match table.phase {
        TablePhase::Ready => {
            table.base = Some(BaseVersion { path: None, at, files: vec![] });
            table.runs.clear();
            table.merged_runs.clear();
            table.deltas_since = at;
        }
        _ => table.invalidate(at, "it was truncated while it was copied"),
    }
}

/// No table is what the source has any more.
pub(crate) fn lose(draft: &mut Draft, at: Position, reason: &str) {
    draft.tables.values_mut().for_each(|table| table.invalidate(at, reason));
}

/// Nothing before this counts for a table that is copied; `None`: it is ready.
pub(crate) fn copied_since(table: &TableState) -> Option<Position> {
    match &table.phase {
        TablePhase::Ready => None,
        TablePhase::Cloning(_) => Some(table.deltas_since),
        TablePhase::Stale { since, .. } => Some(*since),
    }
}

pub(crate) fn progress(table: &TableState) -> Option<&CloneProgress> {
    match &table.phase {
        TablePhase::Ready => None,
        TablePhase::Cloning(progress) => Some(progress),
        TablePhase::Stale { clone, .. } => clone.as_ref(),
    }
}

/// Whether every chunk is there and the log is applied over all of them.
pub(crate) fn is_copied(table: &TableState, applied: Position) -> bool {
    progress(table).is_some_and(|copy| copy.complete && copy.chunks.iter().all(|chunk| chunk.high <= applied))
}

/// The log after there is read again, when copies of tables without primary key are done; `None`: there are none.
pub(crate) fn needed_log(tables: &BTreeMap<TableId, TableState>) -> Option<Position> {
    let no_key = |table: &&TableState| {
        let plan = progress(table).and_then(|copy| Plan::of(copy).ok());
        plan.map_or(table.schema.primary_key.is_empty(), |plan| plan.schema.primary_key.is_empty())
    };
    tables.values().filter(no_key).filter_map(copied_since).min()
}

/// The plan of a copy that is done.
pub(crate) fn done_plan(table: &TableState, applied: Position) -> Result<Option<Plan>, serde_json::Error> {
    match progress(table).filter(|_| is_copied(table, applied)) {
        Some(copy) => Plan::of(copy).map(Some),
        None => Ok(None),
    }
}

pub(crate) const OTHER_COLUMNS: &str = "its columns changed while it was copied";

/// Copies over which the log is applied become their tables' content.
fn finish_copies(draft: &mut Draft, rebuilt: &BTreeMap<TableId, Rebuilt>) -> Result<(), serde_json::Error> {
    let applied = draft.manifest.applied.position;
    for table in draft.tables.values_mut() {
        let Some(plan) = done_plan(table, applied)? else { continue };
        if plan.schema.primary_key.is_empty() {
            // Else it was completed a moment ago: the next commit has its changes.
            let rebuilt = rebuilt.get(&table.id).filter(|rebuilt| rebuilt.copy == plan.copy);
            table.runs = match rebuilt.map(|rebuilt| &rebuilt.changes) {
                None => continue,
                Some(Changes::Nothing) => vec![],
                Some(Changes::Run(run)) => vec![Run::clone(run)],
                Some(Changes::Unusable(reason)) => {
                    table.invalidate(applied, reason);
                    continue;
                }
            };
        }
        if table.runs.iter().any(|run| run.schema != plan.schema) {
            // Rows came with other columns than the copy has, and no event said so.
            table.invalidate(applied, OTHER_COLUMNS);
            continue;
        }
        finish_copy(table, plan, applied);
    }
    Ok(())
}

fn finish_copy(table: &mut TableState, plan: Plan, applied: Position) {
    let chunks = progress(table).map_or(&[][..], |copy| &copy.chunks);
    let files = chunks.iter().flat_map(|chunk| chunk.files.iter().cloned()).collect();
    table.base = Some(BaseVersion { path: None, at: applied, files });
    let next = plan.schema.columns.iter().map(|column| column.field + 1).max().unwrap_or(0);
    table.next_field = table.next_field.max(next);
    (table.schema, table.key, table.policy) = (plan.schema, plan.key, plan.policy);
    (table.phase, table.deltas_since) = (TablePhase::Ready, applied);
}
