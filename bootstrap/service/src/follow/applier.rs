//! Applies windows: what they say goes into builders and a log buffer, and from there, in two kinds of commit, into the store.

use std::collections::{BTreeMap, HashMap, HashSet};

use tidemill_bootstrap_store::{
    DataError, LogBuffer, LogSegment, RunBuilder, TableId, TableKey, TablePhase, Writer, read_segment,
    table_root,
};
use tidemill_event::{EventKind, Position, TableName, TableSchema, Window};
use tidemill_fetchers_api::statement::ReadStatement;

use super::change::{Changes, OTHER_COLUMNS, Rebuilt, copied_since, done_plan, evolve, progress};
use super::intake::{Intake, Taken};
use super::tables::{Tables, between, end_of};
use super::{Change, FollowError, Step};
use crate::marks::MarksWriter;
use crate::{Marks, ServiceOptions, marks};

/// See the module.
pub(crate) struct Applier {
    writer: Writer,
    intake: Intake,
    tables: Tables,
    log: LogBuffer,
    segments: Vec<LogSegment>,
    marks: MarksWriter,
    /// Tables that the source made, of which no row came yet.
    made: HashMap<TableName, Made>,
    /// The names that tables got in the transaction in hand, and those that they had.
    renamed: HashMap<TableName, (Position, TableName)>,
    /// Tables that have content which never came: they are to be copied, anew where they are being copied.
    unknown: HashSet<TableName>,
    /// Tables that were defined, which is committed: what the source has of them now is worth a look.
    defined: HashSet<TableName>,
    anew: Option<String>,
    /// Whether something happened that others wait for: it is committed soon.
    is_urgent: bool,
    flush_bytes: usize,
    apply_bytes: usize,
}

/// A table that the source made, empty.
#[derive(Clone, Copy, Debug)]
struct Made {
    at: Position,
    /// Whether whoever copies tables was told: one without rows has a definition all the same.
    is_told: bool,
}

/// What is held in memory.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Held {
    pub(crate) log: usize,
    pub(crate) rows: usize,
    pub(crate) is_urgent: bool,
    /// Whether a commit can be made: no transaction is open.
    pub(crate) is_whole: bool,
}

impl Applier {
    pub(crate) fn new(writer: Writer, read: ReadStatement, options: &ServiceOptions) -> (Applier, Marks) {
        let (marks, seen) = marks::marks();
        let head = writer.head();
        let mut tables = Tables::new(writer.store().clone(), read, options.policy.clone());
        tables.load(&writer.tables(), head.applied.position);
        let applier = Applier {
            intake: Intake::at(&head, &head.applied),
            tables,
            log: LogBuffer::new(),
            segments: vec![],
            marks,
            made: HashMap::new(),
            renamed: HashMap::new(),
            unknown: HashSet::new(),
            defined: HashSet::new(),
            anew: None,
            is_urgent: false,
            flush_bytes: options.flush_bytes,
            apply_bytes: options.apply_bytes,
            writer,
        };
        (applier, seen)
    }

    pub(crate) fn writer(&self) -> &Writer {
        &self.writer
    }

    pub(crate) fn intake(&self) -> &Intake {
        &self.intake
    }

    pub(crate) fn held(&self) -> Held {
        Held {
            log: self.log.bytes(),
            rows: self.tables.bytes(),
            is_urgent: self.is_urgent,
            is_whole: !self.intake.is_open(),
        }
    }

    /// Tables whose content never came, or of which what came is of no use.
    pub(crate) fn take_unknown(&mut self) -> HashSet<TableName> {
        std::mem::take(&mut self.unknown)
    }

    /// Tables of which rows may not come soon, since when they have a definition that only the source can tell.
    pub(crate) fn take_defined(&mut self) -> HashSet<TableName> {
        std::mem::take(&mut self.defined)
    }

    /// The source was seen to have a table with these columns. No transaction is open.
    pub(crate) async fn see(&mut self, table: &TableSchema) -> Result<(), FollowError> {
        if self.intake.is_fresh() || self.tables.follows(table).is_none() {
            return Ok(());
        }
        // Rows that came before have the columns of before.
        self.apply().await?;
        let Some((id, schema)) = self.tables.follows(table) else { return Ok(()) };
        let at = self.intake.mark().position;
        let commit = self.writer.commit(|draft| {
            let table = draft.tables.get_mut(&id).filter(|table| table.phase == TablePhase::Ready);
            table.into_iter().for_each(|table| evolve(table, schema.clone(), at));
        });
        commit.await?;
        self.tables.load(&self.writer.tables(), at);
        self.tables.came(id, &schema);
        Ok(())
    }

    /// Goes on wherever the next window begins; no table is what the source has.
    pub(crate) fn begin_anew(&mut self, reason: &str) {
        self.intake.begin_anew();
        self.anew = Some(reason.to_owned());
        self.is_urgent = true;
    }

    /// Reads again what was logged and not applied.
    pub(crate) async fn replay(&mut self) -> Result<(), FollowError> {
        let head = self.writer.head();
        if self.intake.is_fresh() {
            return Ok(());
        }
        self.begin_marks(&head.applied.position, &head.applied.executed);
        let applied = head.applied.position;
        let open: Vec<LogSegment> =
            head.log.iter().filter(|segment| segment.upto > applied).cloned().collect();
        if let Some(first) = open.first() {
            self.intake.reread(first.after);
        }
        for segment in &open {
            for window in read_segment(self.writer.store(), segment).await? {
                let taken = self.intake.take(&window)?;
                if taken.last > applied {
                    self.take_rows(&window, taken).await?;
                }
                if self.tables.bytes() >= self.apply_bytes && !self.intake.is_open() {
                    self.apply().await?;
                }
            }
        }
        self.intake.go_on_at(&self.writer.head().logged);
        Ok(())
    }

    fn begin_marks(&self, position: &Position, executed: &str) {
        self.marks.begin(self.intake.timelines(), *position, executed);
        let copied = self.writer.tables();
        let copied = copied.values().filter_map(|table| Some((table, copied_since(table)?)));
        copied.for_each(|(table, since)| self.marks.copied_since(&table.name, since));
    }

    /// Takes the next window of the feed.
    pub(crate) async fn take(&mut self, window: &Window) -> Result<(), FollowError> {
        let was_fresh = self.intake.is_fresh();
        let taken = self.intake.take(window)?;
        if was_fresh {
            let executed = window.executed_before().map(|set| set.to_string()).unwrap_or_default();
            self.begin_marks(&taken.after, &executed);
        }
        if !window.transactions.is_empty() {
            self.log.add(window, taken.after.timeline)?;
        }
        self.take_rows(window, taken).await?;
        if self.intake.is_open() {
            self.spill(taken).await?;
        }
        Ok(())
    }

    /// A transaction that memory does not hold goes to the store in parts, which are committed with its last one.
    async fn spill(&mut self, taken: Taken) -> Result<(), FollowError> {
        if self.log.bytes() >= self.flush_bytes {
            self.write_segment(taken.last).await?;
        }
        if self.tables.bytes() >= self.apply_bytes {
            self.tables.finish_all(taken.last).await?;
        }
        Ok(())
    }

    async fn take_rows(&mut self, window: &Window, taken: Taken) -> Result<(), FollowError> {
        let timeline = taken.after.timeline;
        let mut from = 0;
        for event in &window.events {
            self.take_between(window, from..event.ordinal, taken).await?;
            self.take_event(window, &event.kind, end_of(window, event.txn, timeline)).await?;
            from = event.ordinal + 1;
        }
        self.take_between(window, from..u32::MAX, taken).await?;
        if !self.intake.is_open() {
            let (position, executed) = (self.intake.mark().position, self.intake.executed());
            let has_transactions = !window.transactions.is_empty();
            self.marks.pass(self.intake.timelines(), position, &executed, has_transactions);
        }
        Ok(())
    }

    async fn take_between(
        &mut self,
        window: &Window,
        ordinals: std::ops::Range<u32>,
        taken: Taken,
    ) -> Result<(), FollowError> {
        let timeline = taken.after.timeline;
        let mut tables: Vec<_> =
            window.tables.iter().filter_map(|table| between(table, ordinals.clone())).collect();
        // Two schemas of one table come in their order.
        tables.sort_by_key(|table| table.ordinal.first().copied());
        for changes in &tables {
            let name = changes.schema.name();
            let (first, last) = (changes.txn.first(), changes.txn.last());
            let (Some(first), Some(last)) = (first, last) else { continue };
            self.marks.touch(name, end_of(window, *first, timeline), end_of(window, *last, timeline));
            if self.tables.get(name).is_none() {
                self.meet(changes, taken.after).await?;
            }
            let before = self.tables.get(name).and_then(|table| table.copied_since);
            self.tables.rows(window, changes, timeline).await?;
            self.note_copied(name, before);
        }
        Ok(())
    }

    /// A table that this follower has not seen: somebody has entered it meanwhile, or it is new.
    async fn meet(
        &mut self,
        changes: &tidemill_event::TableChanges,
        after: Position,
    ) -> Result<(), FollowError> {
        let name = changes.schema.name();
        let head = self.writer.tables();
        let there = head.values().find(|table| table.name == *name && !self.tables.knows(table.id));
        match there.filter(|_| !self.made.contains_key(name)) {
            Some(state) => self.tables.enter(state, after),
            None => {
                let id = self.writer.commit(tidemill_bootstrap_store::Draft::next_table_id).await?;
                let made = self.made.remove(name).map(|made| made.at);
                self.tables.appear(id, &changes.schema, made, after);
                self.is_urgent |= made.is_none();
            }
        }
        Ok(())
    }

    /// A table that is to be copied from here on is known to be so, to who copies, before the commit.
    fn note_copied(&mut self, name: &TableName, before: Option<Position>) {
        let since = self.tables.get(name).and_then(|table| table.copied_since);
        if let Some(since) = since.filter(|since| before != Some(*since)) {
            self.marks.copied_since(name, since);
            self.is_urgent = true;
        }
    }

    async fn take_event(
        &mut self,
        window: &Window,
        event: &EventKind,
        at: Position,
    ) -> Result<(), FollowError> {
        for table in event.tables() {
            self.marks.touch(table, at, at);
            self.enter_from_head(table);
        }
        self.renamed.retain(|_, (renamed_at, _)| *renamed_at == at);
        self.tell_unseen(event, at);
        match event {
            EventKind::Truncate { table } => self.tables.truncate(table, at),
            EventKind::Drop { table } => self.drop_table(table, at),
            EventKind::DropDatabase { database } => {
                let head = self.writer.tables();
                let names = self.tables.names().chain(head.values().map(|table| &table.name));
                let mut names: Vec<TableName> =
                    names.filter(|name| name.database == *database).cloned().collect();
                names.sort();
                names.dedup();
                names.iter().for_each(|name| self.drop_table(name, at));
                self.made.retain(|name, _| name.database != *database);
            }
            EventKind::Rename { from, to } => self.rename(from, to, at),
            EventKind::Invalidate { table, reason } => {
                let is_moved = self.renamed.contains_key(table);
                if self.tables.get(table).is_some() && !is_moved {
                    self.tables.invalidate(table, at, reason.clone());
                } else if self.tables.get(table).is_none() && !self.made.contains_key(table) {
                    self.unknown.insert(table.clone());
                }
            }
            EventKind::SchemaChange { tables, statement, .. } => {
                for table in tables {
                    self.define(table, statement.as_deref(), at).await?;
                }
            }
        }
        for table in event.tables() {
            self.note_copied(table, None);
        }
        debug_assert!(window.span.after <= at.scn);
        Ok(())
    }

    /// A copy of a table that nobody knows may be entered until the commit, by who saw it before the event.
    fn tell_unseen(&mut self, event: &EventKind, at: Position) {
        let is_gone = match event {
            EventKind::Truncate { .. } | EventKind::Invalidate { .. } | EventKind::SchemaChange { .. } => {
                false
            }
            EventKind::Drop { .. } | EventKind::Rename { .. } => true,
            EventKind::DropDatabase { database } => {
                let database = database.clone();
                self.tables.steps.push((TableId::default(), Step::UnseenDatabase { database, at }));
                return;
            }
        };
        let is_made = |table: &TableName| match event {
            EventKind::SchemaChange { statement, .. } => self.tables.creates(table, statement.as_deref()),
            _ => false,
        };
        let tables = event.tables().into_iter();
        let unseen = tables.filter(|table| self.tables.get(table).is_none() && !is_made(table));
        let step = |name: &TableName| (TableId::default(), Step::Unseen { name: name.clone(), at, is_gone });
        let steps: Vec<_> = unseen.map(step).collect();
        self.tables.steps.extend(steps);
    }

    fn drop_table(&mut self, name: &TableName, at: Position) {
        self.enter_from_head(name);
        self.tables.remove(name, at);
        self.made.remove(name);
        self.unknown.remove(name);
        self.is_urgent = true;
    }

    /// A table that somebody has entered since the last commit.
    fn enter_from_head(&mut self, name: &TableName) {
        if self.tables.get(name).is_some() {
            return;
        }
        let head = self.writer.tables();
        let there = head.values().find(|table| table.name == *name && !self.tables.knows(table.id));
        if let Some(state) = there {
            self.tables.enter(state, self.intake.mark().position);
        }
    }

    fn rename(&mut self, from: &TableName, to: &TableName, at: Position) {
        if let Some(made) = self.made.remove(from) {
            self.made.insert(to.clone(), Made { is_told: false, ..made });
        }
        self.is_urgent = true;
        if self.tables.rename(from, to, at) {
            let first = self.renamed.remove(from).map_or_else(|| from.clone(), |(_, first)| first);
            self.renamed.insert(to.clone(), (at, first));
        }
    }

    async fn define(
        &mut self,
        name: &TableName,
        statement: Option<&str>,
        at: Position,
    ) -> Result<(), FollowError> {
        if self.tables.get(name).is_none() {
            if self.tables.creates(name, statement) {
                self.made.insert(name.clone(), Made { at, is_told: false });
            }
            return Ok(());
        }
        let text_name = self.renamed.get(name).map_or(name, |(_, first)| first).clone();
        self.tables.define(name, &text_name, statement, at).await
    }

    async fn write_segment(&mut self, upto: Position) -> Result<(), FollowError> {
        if self.log.windows() == 0 {
            return Ok(());
        }
        let log = std::mem::replace(&mut self.log, LogBuffer::new());
        let mut segment = log.finish(self.writer.store()).await?;
        // A part of a transaction moves no position: it belongs to what ends with it.
        segment.upto = segment.upto.max(upto);
        self.segments.push(segment);
        Ok(())
    }

    /// Makes everything that was taken durable. No transaction is open.
    pub(crate) async fn flush(&mut self) -> Result<(), FollowError> {
        self.write_segment(self.intake.mark().position).await?;
        let change = self.change();
        self.commit(change).await
    }

    /// Makes it part of the tables as well.
    pub(crate) async fn apply(&mut self) -> Result<(), FollowError> {
        let mark = self.intake.mark().clone();
        self.write_segment(mark.position).await?;
        self.tables.finish_all(mark.position).await?;
        // It reads the segments that the change takes away.
        let rebuilt = self.rebuild(mark.position).await?;
        let mut change = self.change();
        change.rebuilt = rebuilt;
        change.anew = self.anew.take().map(|reason| (mark.position, reason));
        change.steps = std::mem::take(&mut self.tables.steps);
        change.applied = Some(mark.clone());
        self.commit(change).await?;
        self.is_urgent = false;
        self.defined.extend(self.tables.take_defined());
        self.defined.extend(self.made.iter().filter(|(_, made)| !made.is_told).map(|(name, _)| name.clone()));
        self.made.values_mut().for_each(|made| made.is_told = true);
        self.tables.load(&self.writer.tables(), mark.position);
        // One that is copied since has come into sight by that.
        self.made.retain(|name, _| self.tables.get(name).is_none());
        Ok(())
    }

    /// What follows was lost: everything that came is applied, and after that no table is what the source has.
    pub(crate) async fn lose(&mut self, missing: &str) -> Result<(), FollowError> {
        // A transaction of which only parts came never happened.
        if !self.intake.is_fresh() && !self.intake.is_open() {
            self.apply().await?;
        }
        let (at, reason) = (self.intake.mark().position, format!("a stretch of the log is gone: {missing}"));
        self.writer.commit(|draft| super::change::lose(draft, at, &reason)).await?;
        self.tables.load(&self.writer.tables(), at);
        Ok(())
    }

    fn change(&mut self) -> Change {
        Change {
            segments: std::mem::take(&mut self.segments),
            timelines: self.intake.timelines().to_vec(),
            logged: self.intake.mark().clone(),
            ..Change::default()
        }
    }

    async fn commit(&mut self, change: Change) -> Result<(), FollowError> {
        self.unknown.extend(self.writer.commit(|draft| change.make(draft)).await??);
        Ok(())
    }

    /// What changed after the copies of tables without primary key that are done, read from the log again: only now it is
    /// known what tells their rows apart, and from where on their changes count.
    async fn rebuild(&self, applied: Position) -> Result<BTreeMap<TableId, Rebuilt>, FollowError> {
        let mut rebuilt = BTreeMap::new();
        for table in self.writer.tables().values() {
            let Some(plan) = done_plan(table, applied)? else { continue };
            if !plan.schema.primary_key.is_empty() {
                continue;
            }
            let lows = progress(table).into_iter().flat_map(|copy| &copy.chunks).map(|chunk| chunk.low);
            let low = lows.min().unwrap_or(applied);
            let mut builder = RunBuilder::new(plan.schema.clone(), plan.key.clone());
            if plan.key == TableKey::WholeRow {
                builder.skip_upto(low);
            }
            let changes = match self.read_again(&table.name, &mut builder, low..applied).await {
                Ok(()) => {
                    let root = table_root(&table.name);
                    let run = builder.finish(self.writer.store(), &root, low, applied).await?;
                    run.map_or(Changes::Nothing, |run| Changes::Run(Box::new(run)))
                }
                // An event that is not committed yet may say so, or nobody does.
                Err(FollowError::Data(DataError::Schema { .. })) => {
                    Changes::Unusable(OTHER_COLUMNS.to_owned())
                }
                Err(FollowError::Data(error @ DataError::Absent { .. })) => {
                    Changes::Unusable(error.to_string())
                }
                Err(error) => return Err(error),
            };
            rebuilt.insert(table.id, Rebuilt { copy: plan.copy, changes });
        }
        Ok(rebuilt)
    }

    /// Adds what a table's changes were after the first position, up to and with the second.
    async fn read_again(
        &self,
        name: &TableName,
        builder: &mut RunBuilder,
        span: std::ops::Range<Position>,
    ) -> Result<(), FollowError> {
        let head = self.writer.head();
        let segments = head.log.iter().chain(&self.segments).filter(|segment| segment.upto > span.start);
        let segments: Vec<&LogSegment> = segments.collect();
        let mut intake = self.intake.clone();
        if let Some(first) = segments.first() {
            intake.reread(first.after);
        }
        for segment in segments {
            for window in read_segment(self.writer.store(), segment).await? {
                let taken = intake.take(&window)?;
                if taken.last <= span.start || taken.last > span.end {
                    continue;
                }
                for changes in window.tables.iter().filter(|table| table.schema.name() == name) {
                    // What came before may have had other columns.
                    let timeline = taken.after.timeline;
                    let is_after = |txn: &u32| end_of(&window, *txn, timeline) > span.start;
                    let Some(changes) = changes.keep(&changes.txn.iter().map(is_after).collect()) else {
                        continue;
                    };
                    builder.add(&window, &changes, timeline)?;
                }
            }
        }
        Ok(())
    }
}
