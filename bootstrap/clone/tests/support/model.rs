//! A source in memory whose faults are scripted: each table has numbered rows, the log is a count of the changes. What real
//! servers do is tested with real servers; here is tested what a clone makes of it when they do not.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex};

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Schema};
use tidemill_event::{ColumnSchema, Scn, TableName, TableSchema};
use tidemill_fetchers_api::FetchError;
use tidemill_fetchers_api::extract::{
    Bound, ChunkMarks, ChunkRead, Extract, ExtractSession, Load, LowMark, SourceKey, SourceTable,
};
use tokio::sync::Semaphore;

/// The source; clones are the same one.
#[derive(Clone)]
pub struct Model(pub Arc<Shared>);

pub struct Shared {
    pub state: Mutex<State>,
    /// How many reads may begin: each takes one.
    pub reads: Semaphore,
}

#[derive(Default)]
pub struct State {
    pub tables: BTreeMap<TableName, Table>,
    pub scn: u64,
    /// What the next reads do instead.
    pub faults: VecDeque<Fault>,
    pub load: Load,
    pub load_asked: u32,
    pub connections: usize,
    pub connections_most: usize,
    pub opened: u32,
    pub rows_given: u64,
}

#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// The connection is lost in the middle of the rows.
    Lost,
    /// The table got another column before.
    Redefined,
}

pub struct Table {
    pub schema: Arc<TableSchema>,
    pub key: SourceKey,
    pub rows: BTreeMap<i64, String>,
    /// Cannot be copied, and why.
    pub refused: Option<&'static str>,
}

pub struct Session {
    source: Model,
}

pub fn name(table: &str) -> TableName {
    TableName::new("shop", table)
}

pub fn schema(table: &TableName, more: &[&str]) -> Arc<TableSchema> {
    let id = ColumnSchema::new("id", DataType::Int64, "bigint", false);
    let text = |name: &&str| ColumnSchema::new(name, DataType::Utf8, "text", true);
    let columns = [id].into_iter().chain(["word"].iter().chain(more).map(text)).collect();
    TableSchema::new(table.clone(), columns, vec![0])
}

impl Model {
    /// Tables with so many rows each.
    pub fn with(tables: &[(&str, i64)]) -> Model {
        let mut state = State { scn: 100, ..State::default() };
        for (table, rows) in tables {
            let rows = (0..*rows).map(|id| (id, format!("word {id}"))).collect();
            let (table, key) = (name(table), SourceKey::Primary(vec![0]));
            let schema = schema(&table, &[]);
            state.tables.insert(table, Table { schema, key, rows, refused: None });
        }
        Model(Arc::new(Shared { state: Mutex::new(state), reads: Semaphore::new(Semaphore::MAX_PERMITS) }))
    }

    /// Reads stand still until they are let.
    pub fn held(self) -> Model {
        self.0.reads.forget_permits(Semaphore::MAX_PERMITS);
        self
    }

    pub fn let_read(&self, chunks: usize) {
        self.0.reads.add_permits(chunks);
    }

    pub fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.state.lock().unwrap())
    }

    fn connect(&self) {
        self.change(|state| {
            state.opened += 1;
            state.connections += 1;
            state.connections_most = state.connections_most.max(state.connections);
        });
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.source.change(|state| state.connections -= 1);
    }
}

fn lost() -> FetchError {
    let source = io::Error::new(io::ErrorKind::ConnectionReset, "the connection was reset");
    FetchError::Io { what: "rows".into(), source }
}

impl Extract for Model {
    type Session = Session;

    async fn tables(&self) -> Result<Vec<TableName>, FetchError> {
        Ok(self.change(|state| state.tables.keys().cloned().collect()))
    }

    async fn describe(&self, table: &TableName) -> Result<Option<SourceTable>, FetchError> {
        self.change(|state| {
            let Some(table) = state.tables.get(table) else { return Ok(None) };
            if let Some(why) = table.refused {
                return Err(FetchError::Setup { what: why.into(), mend: "do something".into() });
            }
            Ok(Some(SourceTable {
                schema: Arc::clone(&table.schema),
                key: table.key.clone(),
                index: None,
                rows_estimate: table.rows.len() as u64,
                bytes_estimate: 0,
            }))
        })
    }

    async fn load(&self) -> Result<Load, FetchError> {
        Ok(self.change(|state| {
            state.load_asked += 1;
            state.load
        }))
    }

    async fn open(&self) -> Result<Session, FetchError> {
        self.connect();
        Ok(Session { source: self.clone() })
    }
}

impl Session {
    fn rows(&self, chunk: &ChunkRead<'_>) -> Vec<(i64, String)> {
        let number = |bound: Option<&Bound>| bound.map(|bound| bound.0[0].parse::<i64>().unwrap());
        let (after, upto) = (number(chunk.after), number(chunk.upto));
        self.source.change(|state| {
            let rows = &state.tables[chunk.table.schema.name()].rows;
            let within = |id: i64| after.is_none_or(|after| id > after) && upto.is_none_or(|upto| id <= upto);
            rows.iter().filter(|(id, _)| within(**id)).map(|(id, word)| (*id, word.clone())).collect()
        })
    }

    fn batch(chunk: &ChunkRead<'_>, rows: &[(i64, String)]) -> RecordBatch {
        let fields = chunk.columns.iter().map(|column| {
            let arrow = chunk.table.schema.arrow();
            arrow.field(*column as usize).clone()
        });
        let arrays = chunk.columns.iter().map(|column| match column {
            0 => Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0))) as ArrayRef,
            _ => Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.1))) as ArrayRef,
        });
        RecordBatch::try_new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), arrays.collect()).unwrap()
    }
}

impl ExtractSession for Session {
    async fn bound(
        &mut self,
        table: &SourceTable,
        after: Option<&Bound>,
        rows: u64,
    ) -> Result<Option<Bound>, FetchError> {
        let chunk = ChunkRead { table, columns: &[0], conditions: &[], after, upto: None };
        let left = self.rows(&chunk);
        let is_more = left.len() as u64 > rows;
        Ok(is_more.then(|| Bound(vec![left[rows as usize - 1].0.to_string()])))
    }

    async fn read(
        &mut self,
        chunk: &ChunkRead<'_>,
        give: &mut (dyn FnMut(RecordBatch) -> bool + Send),
    ) -> Result<ChunkMarks, FetchError> {
        self.source.0.reads.acquire().await.unwrap().forget();
        let rows = self.rows(chunk);
        let (fault, low) = self.source.change(|state| (state.faults.pop_front(), state.scn));
        if let Some(Fault::Redefined) = fault {
            let table = chunk.table.schema.name().clone();
            let again = schema(&table, &["more"]);
            self.source.change(|state| state.tables.get_mut(&table).unwrap().schema = again);
            return Err(FetchError::Redefined { table });
        }
        for part in rows.chunks(rows.len().div_ceil(2).max(1)) {
            self.source.change(|state| state.rows_given += part.len() as u64);
            if !give(Self::batch(chunk, part)) || fault.is_some() {
                return Err(lost());
            }
        }
        let high = self.source.change(|state| Scn(state.scn));
        Ok(ChunkMarks { low: LowMark::At(Scn(low)), high, server: "model".into(), shared: None })
    }

    async fn read_sorted(
        &mut self,
        chunk: &ChunkRead<'_>,
        give: &mut (dyn FnMut(RecordBatch) -> bool + Send),
    ) -> Result<ChunkMarks, FetchError> {
        self.read(chunk, give).await
    }
}
