//! The source's side of a clone: tables of a server as they are now, with the columns and the values that the log has.

use arrow_array::RecordBatch;
use tidemill_event::TableName;
use tidemill_fetchers_api::FetchError;
use tidemill_fetchers_api::extract::{
    Bound, ChunkMarks, ChunkRead, Extract, ExtractSession, Load, SourceTable,
};

use crate::options::ServerOptions;
use crate::settings::{Settings, ValuePolicy};

/// See the module.
#[derive(Clone)]
pub struct MySqlExtract {
    options: ServerOptions,
    values: ValuePolicy,
    declared_types: bool,
    low_mark_at_log_end: bool,
}

/// A connection that reads chunks.
pub struct MySqlSession {
    extract: MySqlExtract,
}

impl MySqlExtract {
    /// Reads tables of that server; `settings` are those of the fetcher, whose schemas and values they are to have.
    pub fn new(options: ServerOptions, settings: &Settings) -> MySqlExtract {
        MySqlExtract {
            options,
            values: settings.values,
            declared_types: settings.declared_types,
            low_mark_at_log_end: false,
        }
    }

    /// Takes the end of the log for the low mark, which loses rows: shows that a test finds it.
    #[doc(hidden)]
    pub fn with_low_mark_at_log_end(mut self) -> MySqlExtract {
        self.low_mark_at_log_end = true;
        self
    }
}

impl Extract for MySqlExtract {
    type Session = MySqlSession;

    async fn tables(&self) -> Result<Vec<TableName>, FetchError> {
        let _ = (&self.options, self.values, self.declared_types, self.low_mark_at_log_end);
        todo!()
    }

    async fn describe(&self, _table: &TableName) -> Result<Option<SourceTable>, FetchError> {
        todo!()
    }

    async fn load(&self) -> Result<Load, FetchError> {
        todo!()
    }

    async fn open(&self) -> Result<MySqlSession, FetchError> {
        Ok(MySqlSession { extract: self.clone() })
    }
}

impl ExtractSession for MySqlSession {
    async fn bound(
        &mut self,
        _table: &SourceTable,
        _after: Option<&Bound>,
        _rows: u64,
    ) -> Result<Option<Bound>, FetchError> {
        let _ = &self.extract;
        todo!()
    }

    async fn read(
        &mut self,
        _chunk: &ChunkRead<'_>,
        _give: &mut (dyn FnMut(RecordBatch) -> bool + Send),
    ) -> Result<ChunkMarks, FetchError> {
        todo!()
    }

    async fn read_sorted(
        &mut self,
        _chunk: &ChunkRead<'_>,
        _give: &mut (dyn FnMut(RecordBatch) -> bool + Send),
    ) -> Result<ChunkMarks, FetchError> {
        todo!()
    }
}
