//! Copies straight to a consumer, without snapshot storage: tables one after another, each as windows of a snapshot, then the
//! place from which the consumer reads the stream. The consumer's checkpoint is all that is kept.
//!
//! ```text
//! start ── tables are read, in windows that the consumer commits ── stream from start ──▶
//!   └────────── changes since start come again, as the stream has them ──────────┘ exact from the last high mark on
//! ```
//!
//! A row that changed meanwhile comes twice, as it was read and as it changed: a consumer keeps rows by their key.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};

use arrow_select::concat::concat_batches;
use serde::{Deserialize, Serialize};
use tidemill_bootstrap_store::{StoredSchema, TableKey, random_id};
use tidemill_event::gtid::GtidSet;
use tidemill_event::{
    Checkpoint, Cursor, Event, EventKind, Part, Phase, Position, Scn, Span, TableName, Timeline, Transaction,
    Window,
};
use tidemill_fetchers_api::FetchError;
use tidemill_fetchers_api::extract::{ChunkMarks, Extract, LowMark, SourceKey};
use tokio::sync::{mpsc, watch};

use crate::jobs::stored_key;
use crate::policy::inserted;
use crate::{
    BoxError, ChunkRows, CloneControl, CloneError, CloneOptions, Cloner, CopyId, Destination,
    DestinationError, Marks, NoPlace, Plan, Policy, Resumed, TableCopy,
};

/// What a consumer is given.
#[derive(Clone, Debug)]
pub enum Fed {
    /// Rows, or that a table begins anew: its checkpoint is committed with it.
    Window(Box<Window>),
    /// Every table was read.
    Stream {
        /// Where the stream is read from.
        checkpoint: Checkpoint,
        /// What the consumer has is the source from here on.
        exact_from: Position,
    },
}

/// A copy that is given to a consumer, window by window.
pub struct InitialCopy {
    windows: mpsc::Receiver<Window>,
    copying: Option<Copying>,
    end: Option<Result<Fed, CloneError>>,
}

type Copying = Pin<Box<dyn Future<Output = Result<Fed, CloneError>> + Send>>;

impl InitialCopy {
    /// Copies these tables. `start` is a checkpoint of the source's stream that was taken before, or the one that the
    /// consumer committed with a window of this copy: it goes on behind it.
    pub fn new<E: Extract>(
        extract: E,
        policy: Policy,
        tables: &[TableName],
        start: Checkpoint,
        control: CloneControl,
        options: CloneOptions,
    ) -> InitialCopy {
        let (give, windows) = mpsc::channel(1);
        let mut tables = tables.to_vec();
        tables.sort();
        tables.iter().for_each(|table| control.add_table(table.clone()));
        let consumer = Arc::new(Consumer::new(start, tables, give));
        let marks = From(consumer.start.clone());
        let cloner = Cloner::new(extract, policy, Arc::clone(&consumer), marks, control);
        let run = cloner.with_options(options).run_to_end();
        let copying: Copying = Box::pin(async move {
            run.await?;
            let scn = consumer.given().high;
            let exact_from = Position { scn, ..consumer.start.position };
            Ok(Fed::Stream { checkpoint: consumer.start.clone(), exact_from })
        });
        InitialCopy { windows, copying: Some(copying), end: None }
    }

    /// Those of the tables that cannot be copied like this, since what the policy takes of them has no key. Better asked
    /// before anything is read than found out when it is their turn.
    pub async fn without_key<E: Extract>(
        extract: &E,
        policy: &Policy,
        tables: &[TableName],
    ) -> Result<Vec<TableName>, CloneError> {
        let mut without = vec![];
        for name in tables {
            let failed =
                |source: FetchError| CloneError::Table { table: name.clone(), source: source.into() };
            // One that was dropped meanwhile is in nobody's way.
            let Some(table) = extract.describe(name).await.map_err(failed)? else { continue };
            let failed = |source| CloneError::Policy { table: name.clone(), source: Box::new(source) };
            let reads = policy.reads(&table.schema).map_err(failed)?;
            if reads.is_some_and(|reads| stored_key(&table, &reads) == SourceKey::Nothing) {
                without.push(name.clone());
            }
        }
        Ok(without)
    }

    /// The next window, then where the stream begins, then nothing. Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<Fed>, CloneError> {
        loop {
            // The end comes behind every window that was given.
            if let Ok(window) = self.windows.try_recv() {
                return Ok(Some(Fed::Window(Box::new(window))));
            }
            if let Some(end) = self.end.take() {
                return end.map(Some);
            }
            let Some(copying) = &mut self.copying else { return Ok(None) };
            tokio::select! {
                biased;
                Some(window) = self.windows.recv() => return Ok(Some(Fed::Window(Box::new(window)))),
                end = copying => (self.end, self.copying) = (Some(end), None),
            }
        }
    }
}

/// A consumer as a destination.
struct Consumer {
    /// Where its stream will begin.
    start: Checkpoint,
    tables: Vec<TableName>,
    /// The table that it had the beginning of when this began.
    had: Option<(String, Option<Done>)>,
    give: mpsc::Sender<Window>,
    /// Whose turn it is: the copy and its chunk.
    turn: watch::Sender<(String, u32)>,
    given: Mutex<Given>,
}

#[derive(Default)]
struct Given {
    high: Scn,
    /// Tables of which the consumer has rows.
    tables: BTreeSet<TableName>,
}

/// How far a table is: what stands in a cursor's key.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Done {
    /// The schema at the source.
    schema: String,
    policy: String,
    rows: Rows,
    /// No transaction after here is in anything that was given.
    high: u64,
}

/// Which rows of a table a consumer has.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Rows {
    /// Not one.
    None,
    /// Those up to and with this place.
    Upto(Vec<String>),
    /// All of them.
    All,
}

impl Consumer {
    fn new(start: Checkpoint, tables: Vec<TableName>, give: mpsc::Sender<Window>) -> Consumer {
        let had = match &start.phase {
            Phase::Snapshot(cursor) if cursor.version == 0 && !cursor.table.is_empty() => {
                Some((cursor.table.clone(), serde_json::from_slice::<Done>(&cursor.after).ok()))
            }
            _ => None,
        };
        let done = had.as_ref().and_then(|(_, done)| done.as_ref());
        let high = done.map_or(start.position.scn, |done| Scn(done.high));
        let of_had = |table: &&TableName| had.as_ref().is_some_and(|(had, _)| table.to_string() == *had);
        let given = Given { high, tables: tables.iter().filter(of_had).cloned().collect() };
        Consumer {
            start: Checkpoint { phase: Phase::Stream, ..start },
            tables,
            had,
            give,
            turn: watch::Sender::default(),
            given: Mutex::new(given),
        }
    }

    fn plan(table: &TableCopy) -> Plan {
        let schema = StoredSchema::new(&table.stored, 1);
        let key = match &table.key {
            SourceKey::Primary(key) | SourceKey::Unique(key) => TableKey::Columns {
                fields: key.iter().map(|ordinal| schema.columns[*ordinal as usize].field).collect(),
            },
            SourceKey::Nothing => TableKey::WholeRow,
        };
        Plan {
            format: 1,
            copy: random_id(),
            source_schema: table.source.id().to_string(),
            policy: table.policy.clone(),
            schema,
            key,
            bounds: vec![],
            is_whole: false,
        }
    }

    /// A window of one transaction that never was.
    fn window(&self, table: &TableName, after: Vec<u8>, changes: u32) -> Window {
        let scn = self.start.position.scn.max(Scn(1));
        let transaction = Transaction {
            scn,
            gtid: String::new(),
            commit_time_us: 0,
            first_ordinal: 0,
            change_count: changes,
            change_offset: 0,
            part: Part::Whole,
        };
        Window {
            source: self.start.source.as_str().into(),
            timeline: Timeline {
                number: self.start.position.timeline,
                server: self.start.server.as_str().into(),
            },
            span: Span { after: Scn::ZERO, upto: self.start.position.scn },
            executed: self.start.gtid_set.as_str().into(),
            transactions: vec![transaction],
            tables: vec![],
            events: vec![],
            phase: Phase::Snapshot(Cursor { version: 0, table: table.to_string(), after }),
        }
    }

    async fn give(&self, window: Window) -> Result<(), DestinationError> {
        self.give.send(window).await.map_err(|_| DestinationError::Closed)
    }

    /// Whether all of that table was given before the one that the consumer had the beginning of.
    fn is_before(&self, table: &TableName) -> bool {
        let Some((had, _)) = &self.had else { return false };
        match self.tables.iter().find(|known| known.to_string() == *had) {
            Some(had) => table < had,
            None => table.to_string() < *had,
        }
    }

    fn cursor_key(&self, plan: &Plan, rows: Rows, high: Scn) -> Vec<u8> {
        let (schema, policy) = (plan.source_schema.clone(), plan.policy.clone());
        let done = Done { schema, policy, rows, high: high.0 };
        serde_json::to_vec(&done).expect("texts and numbers are JSON")
    }

    fn given(&self) -> MutexGuard<'_, Given> {
        self.given.lock().expect("no holder panics")
    }
}

impl Destination for Arc<Consumer> {
    fn in_order(&self) -> bool {
        true
    }

    async fn resume(&self, table: &TableCopy) -> Result<Option<Resumed>, DestinationError> {
        let name = table.source.name();
        if self.is_before(name) {
            return Ok(Some(Resumed::Complete { policy: table.policy.clone() }));
        }
        let had = self.had.as_ref().filter(|(had, _)| *had == name.to_string());
        let Some((_, Some(done))) = had else { return Ok(None) };
        let mut plan = Consumer::plan(table);
        (plan.source_schema, plan.policy) = (done.schema.clone(), done.policy.clone());
        match &done.rows {
            Rows::None => {}
            Rows::Upto(bound) => plan.bounds.push(bound.clone()),
            Rows::All => plan.is_whole = true,
        }
        // All that was given is its first chunk.
        let done: BTreeSet<u32> = (0..plan.chunk_count()).collect();
        self.turn.send_replace((plan.copy.clone(), plan.chunk_count()));
        Ok(Some(Resumed::Begun { plan, done }))
    }

    async fn begin(&self, table: &TableCopy) -> Result<Plan, DestinationError> {
        let name = table.source.name();
        if table.key == SourceKey::Nothing {
            return Err(DestinationError::Refused {
                table: name.clone(),
                why: "it has no key, and what changes while it is read could not be told from what was read; give it a \
                      primary key, or read it from snapshot storage"
                    .to_owned(),
            });
        }
        let plan = Consumer::plan(table);
        let (is_anew, high) = {
            let mut given = self.given();
            (given.tables.remove(name), given.high)
        };
        if is_anew {
            let mut window = self.window(name, self.cursor_key(&plan, Rows::None, high), 1);
            let kind = EventKind::Truncate { table: name.clone() };
            window.events.push(Event { ordinal: 0, txn: 0, kind });
            self.give(window).await?;
        }
        self.turn.send_replace((plan.copy.clone(), 0));
        Ok(plan)
    }

    async fn chunk(&self, plan: &Plan, chunk: ChunkRows) -> Result<(), DestinationError> {
        let name = &chunk.id.table;
        let mut turn = self.turn.subscribe();
        let is_ours = |(copy, next): &(String, u32)| (copy, *next) == (&chunk.id.copy, chunk.number);
        turn.wait_for(is_ours).await.map_err(|_| DestinationError::Closed)?;
        let high = self.given().high.max(chunk.high.scn);
        let rows = plan.range(chunk.number).1.map_or(Rows::All, |bound| Rows::Upto(bound.0));
        let after = self.cursor_key(plan, rows, high);
        let schema = plan.schema.table_schema(name);
        let rows =
            concat_batches(schema.arrow(), &chunk.batches).expect("they have the schema that is stored");
        if rows.num_rows() > 0 {
            let mut window = self.window(name, after, rows.num_rows() as u32);
            window.tables.push(inserted(&schema, rows));
            self.give(window).await?;
        }
        // Nothing below waits: the next chunk's turn comes with the window that was given.
        {
            let mut given = self.given();
            given.high = high;
            given.tables.insert(name.clone());
        }
        self.turn.send_replace((chunk.id.copy, chunk.number + 1));
        Ok(())
    }

    async fn finish(&self, _: &CopyId, _: &Plan) -> Result<BTreeSet<u32>, DestinationError> {
        Ok(BTreeSet::new())
    }
}

/// The place from which the stream will be read, as the low mark of everything that was read behind it.
struct From(Checkpoint);

impl From {
    fn is_behind(&self, marks: &ChunkMarks) -> Result<bool, BoxError> {
        Ok(match &marks.low {
            LowMark::At(_) if *marks.server != *self.0.server => return Err(self.foreign(&marks.server)),
            LowMark::At(scn) => *scn >= self.0.position.scn,
            LowMark::Executed(set) => match (GtidSet::parse(&self.0.gtid_set)?, GtidSet::parse(set)?) {
                (Some(ours), Some(seen)) => ours.missing_from(&seen).is_empty(),
                (None, _) => self.0.position.scn == Scn::ZERO,
                (Some(_), None) => false,
            },
        })
    }

    fn foreign(&self, server: &str) -> BoxError {
        let known = &self.0.server;
        format!("{server} was read, and the stream is that of {known}; read the tables of that server").into()
    }
}

impl Marks for From {
    async fn low(&self, _: &TableName, marks: &ChunkMarks) -> Result<Option<Position>, NoPlace> {
        let is_behind = self.is_behind(marks).map_err(NoPlace::Never)?;
        Ok(is_behind.then_some(self.0.position))
    }

    async fn high(&self, marks: &ChunkMarks) -> Result<Position, NoPlace> {
        match *marks.server == *self.0.server {
            true => Ok(Position { scn: marks.high, ..self.0.position }),
            false => Err(NoPlace::Never(self.foreign(&marks.server))),
        }
    }

    async fn touched(&self, _: &TableName, _: Position, _: Position) -> Result<bool, BoxError> {
        Ok(true)
    }
}
