//! A connection that reads tables: what it sets up, and the order of the steps of a read.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::RecordBatch;
use tidemill_event::{TableName, TableSchema};
use tidemill_fetchers_api::FetchError;
use tidemill_fetchers_api::extract::{Bound, ChunkMarks, ChunkRead, ExtractSession, Load, SourceTable};
use tokio::time::timeout;

use crate::event::Flavour;
use crate::extract::batch::BatchMaker;
use crate::extract::definition::{self, Definition};
use crate::extract::error::{self, Sides};
use crate::extract::select::{self, Key};
use crate::extract::{MySqlExtract, load, marks};
use crate::limits::{ANSWER_TIME_MAX, CONNECT_TIME_MAX};
use crate::schema::{Charsets, charsets};
use crate::table::fault;
use crate::transport::{Connection, Row, Rows, ServerRefusal, Taken, TransportError, read_facts};

/// What a server says of a table that is not there, or whose database is not, to who may read there.
const NOT_THERE: [u16; 2] = [1049, 1146];

/// A connection of [`MySqlExtract`].
pub struct MySqlSession {
    pub(super) connection: Connection,
    pub(super) server: Server,
    extract: MySqlExtract,
    earlier: marks::Earlier,
    /// What was read so far, as it was defined then.
    known: HashMap<TableName, Arc<Definition>>,
}

/// Who is asked.
pub(super) struct Server {
    pub(super) flavour: Flavour,
    pub(super) identity: Arc<str>,
    /// Whether columns have the types that MariaDB's log does not name: where it names no columns, they are asked for.
    pub(super) declared: bool,
    pub(super) charsets: Charsets,
    /// Whether it is a replica that leaves out some of what its source sends.
    pub(super) is_filtered: bool,
    /// For what an error says.
    pub(super) sides: Sides,
}

/// What a read does not see otherwise: text as it is stored, times in UTC, no limit but ours, nothing that is written.
const SESSION: &str = "SET SESSION character_set_results = NULL, time_zone = '+00:00', sql_mode = 'ALLOW_INVALID_DATES', autocommit = 1, \
     sql_select_limit = DEFAULT, sql_big_selects = 1, net_write_timeout = 3600, wait_timeout = 28800, lock_wait_timeout = 60";
const SNAPSHOTS: &str = "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY";
/// What not every release has: statistics as they are now, columns that the server added, no limit of time.
const MYSQL: [&str; 3] = [
    "SET SESSION information_schema_stats_expiry = 0",
    "SET SESSION show_gipk_in_create_table_and_information_schema = ON",
    "SET SESSION max_execution_time = 0",
];
const MARIADB: [&str; 1] = ["SET SESSION max_statement_time = 0"];

impl MySqlSession {
    pub(super) async fn open(extract: &MySqlExtract) -> Result<MySqlSession, FetchError> {
        let sides = Sides::of(&extract.options);
        let opened = timeout(CONNECT_TIME_MAX, MySqlSession::connect(extract)).await;
        opened
            .unwrap_or_else(|_| Err(TransportError::lost("it does not answer")))
            .map_err(|e| sides.failed(e))
    }

    async fn connect(extract: &MySqlExtract) -> Result<MySqlSession, TransportError> {
        let mut connection = Connection::open(&extract.options).await?;
        let facts = read_facts(&mut connection).await?;
        connection.run(SESSION).await?;
        connection.run(SNAPSHOTS).await?;
        let family: &[&str] = if facts.flavour == Flavour::MySql { &MYSQL } else { &MARIADB };
        for statement in family {
            // A release that does not know the variable has nothing to switch off.
            drop(connection.try_query(statement).await?);
        }
        if !facts.has_gtids {
            return Err(marks::no_gtids());
        }
        let metadata = connection.query("SHOW GLOBAL VARIABLES LIKE 'binlog_row_metadata'").await?;
        let names_columns = metadata.first().and_then(|row| row.at(1)) == Some("FULL");
        let server = Server {
            flavour: facts.flavour,
            identity: facts.identity,
            declared: extract.declared_types || !names_columns,
            charsets: charsets(&mut connection).await?,
            is_filtered: load::is_filtered(&mut connection, facts.flavour).await?,
            sides: Sides::of(&extract.options),
        };
        Ok(MySqlSession {
            connection,
            server,
            extract: extract.clone(),
            earlier: marks::Earlier::new(),
            known: HashMap::new(),
        })
    }

    pub(super) async fn tables(&mut self) -> Result<Vec<TableName>, FetchError> {
        let rows =
            self.connection.query(definition::TABLES).await.map_err(|e| self.server.sides.failed(e))?;
        let name = |row: &Row| Some(TableName::new(row.at(0)?, row.at(1)?));
        let mut tables: Vec<TableName> = rows.iter().filter_map(name).collect();
        tables.sort();
        Ok(tables)
    }

    pub(super) async fn may_hide(&mut self, table: &TableName) -> Result<bool, FetchError> {
        Ok(self.refusal(table).await?.is_none_or(|refusal| !NOT_THERE.contains(&refusal.code)))
    }

    pub(super) async fn describe(&mut self, table: &TableName) -> Result<Option<SourceTable>, FetchError> {
        let Some(definition) = self.definition(table).await? else { return Ok(None) };
        // Who may not read a column is not shown it either.
        self.touch(table).await?;
        let described = definition::source_table(&mut self.connection, &self.server, &definition).await?;
        self.known.insert(table.clone(), Arc::new(definition));
        Ok(Some(described))
    }

    pub(super) async fn load(&mut self) -> Result<Load, FetchError> {
        let load = load::load(&mut self.connection, self.server.flavour).await;
        load.map_err(|e| self.server.sides.failed(e))
    }

    async fn definition(&mut self, table: &TableName) -> Result<Option<Definition>, FetchError> {
        definition::of(&mut self.connection, &self.server, table, self.extract.values).await
    }

    /// How the table's rows are decoded, which is as the caller's schema says or not at all.
    async fn known(&mut self, schema: &TableSchema) -> Result<Arc<Definition>, FetchError> {
        let table = schema.name();
        if let Some(known) = self.known.get(table).filter(|known| known.layout.schema.id() == schema.id()) {
            return Ok(Arc::clone(known));
        }
        let now = self.definition(table).await?.filter(|now| now.layout.schema.id() == schema.id());
        let now = Arc::new(now.ok_or_else(|| error::redefined(table))?);
        self.known.insert(table.clone(), Arc::clone(&now));
        Ok(now)
    }

    /// Whether all of the table may be read. Within a transaction nobody can define it anew from here on.
    async fn touch(&mut self, table: &TableName) -> Result<(), FetchError> {
        match self.refusal(table).await? {
            None => Ok(()),
            Some(refusal) => Err(self.server.sides.refused(table, &refusal)),
        }
    }

    /// What the server says to who reads nothing of that table; `None`: it lets it.
    async fn refusal(&mut self, table: &TableName) -> Result<Option<ServerRefusal>, FetchError> {
        let read = self.connection.try_query(&select::nothing(table)).await;
        Ok(read.map_err(|e| self.server.sides.failed(e))?.err())
    }

    /// Before its rows are read, and in their transaction.
    async fn prove(&mut self, known: &Definition) -> Result<(), FetchError> {
        let table = known.layout.schema.name();
        self.touch(table).await?;
        match self.definition(table).await? {
            Some(now) if now.layout.decodes_as(&known.layout) => Ok(()),
            _ => {
                self.known.remove(table);
                Err(error::redefined(table))
            }
        }
    }

    async fn run(&mut self, statement: &str) -> Result<(), FetchError> {
        self.connection.run(statement).await.map_err(|e| self.server.sides.failed(e))
    }

    async fn chunk(
        &mut self,
        chunk: &ChunkRead<'_>,
        sorted: bool,
        give: &mut (dyn FnMut(RecordBatch) -> bool + Send),
    ) -> Result<ChunkMarks, FetchError> {
        let silent = self.server.sides.silent();
        let begun = timeout(ANSWER_TIME_MAX, self.begin(&chunk.table.schema)).await;
        let (known, marks) = begun.unwrap_or(Err(silent))?;
        let statement = select::chunk(chunk, &known, sorted);
        self.rows(&statement, &known, chunk.columns, give).await?;
        self.run("COMMIT").await?;
        Ok(marks)
    }

    /// A snapshot, where it lies in the log, and what it has of the table.
    async fn begin(&mut self, schema: &TableSchema) -> Result<(Arc<Definition>, ChunkMarks), FetchError> {
        let known = self.known(schema).await?;
        let (connection, earlier) = (&mut self.connection, &mut self.earlier);
        let marks = marks::before(connection, &self.server, earlier, self.extract.low_mark_at_log_end).await;
        let marks = marks.map_err(|e| self.server.sides.failed(e))?;
        self.run("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY").await?;
        let marks = marks.within(&mut self.connection, &self.server, &mut self.earlier).await;
        let marks = marks.map_err(|e| self.server.sides.failed(e))?;
        self.prove(&known).await?;
        Ok((known, marks))
    }

    async fn rows(
        &mut self,
        statement: &str,
        known: &Definition,
        columns: &[u32],
        give: &mut (dyn FnMut(RecordBatch) -> bool + Send),
    ) -> Result<(), FetchError> {
        let (sides, schema) = (&self.server.sides, &known.layout.schema);
        let refused = |refusal| sides.refused(schema.name(), &refusal);
        let rows = Rows::of(&mut self.connection, statement).await.map_err(|e| sides.failed(e))?;
        let mut rows = rows.map_err(refused)?;
        let mut batch = BatchMaker::new(known, columns);
        if !batch.fits(rows.types()) {
            return Err(error::redefined(schema.name()));
        }
        let mut more = true;
        while more {
            match rows.take().map_err(|e| sides.failed(e))? {
                Taken::Row(row) => {
                    let pushed = batch.push(row);
                    pushed.map_err(|error| fault::of_row(schema, error, "one of its rows".to_owned()))?;
                }
                Taken::Wait => {
                    let filled = timeout(ANSWER_TIME_MAX, rows.fill()).await;
                    let filled = filled.unwrap_or_else(|_| Err(TransportError::lost("it does not answer")));
                    filled.map_err(|e| sides.failed(e))?;
                }
                Taken::End => more = false,
                Taken::Refused(refusal) => return Err(refused(refusal)),
            }
            if batch.is_full() || (!more && batch.rows() > 0) {
                if !give(batch.take()) {
                    return Err(sides.given_up());
                }
                // A server that is faster than we are would leave no turn to anybody else.
                tokio::task::yield_now().await;
            }
        }
        rows.close().await.map_err(|e| sides.failed(e))
    }
}

impl MySqlSession {
    async fn find_bound(
        &mut self,
        table: &SourceTable,
        after: Option<&Bound>,
        rows: u64,
    ) -> Result<Option<Bound>, FetchError> {
        let known = self.known(&table.schema).await?;
        let Some(key) = Key::of(table, &known) else { return Ok(None) };
        let answer = self.connection.try_query(&key.bound(after, rows)).await;
        let answer = answer.map_err(|e| self.server.sides.failed(e))?;
        let found = answer.map_err(|refusal| self.server.sides.refused(table.schema.name(), &refusal))?;
        // Without a row behind it, it would be the end of the table.
        Ok(if found.len() > 1 { Some(key.literals(&found[0])) } else { None })
    }
}

impl ExtractSession for MySqlSession {
    async fn bound(
        &mut self,
        table: &SourceTable,
        after: Option<&Bound>,
        rows: u64,
    ) -> Result<Option<Bound>, FetchError> {
        let silent = self.server.sides.silent();
        timeout(ANSWER_TIME_MAX, self.find_bound(table, after, rows)).await.unwrap_or(Err(silent))
    }

    async fn read(
        &mut self,
        chunk: &ChunkRead<'_>,
        give: &mut (dyn FnMut(RecordBatch) -> bool + Send),
    ) -> Result<ChunkMarks, FetchError> {
        self.chunk(chunk, false, give).await
    }

    async fn read_sorted(
        &mut self,
        chunk: &ChunkRead<'_>,
        give: &mut (dyn FnMut(RecordBatch) -> bool + Send),
    ) -> Result<ChunkMarks, FetchError> {
        self.chunk(chunk, true, give).await
    }
}
