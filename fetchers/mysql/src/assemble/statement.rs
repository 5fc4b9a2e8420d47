//! Statements within a transaction: its brackets, definitions, and what must not be there.

use tidemill_event::{EventKind, TableName};
use tidemill_fetchers_api::{FetchError, Undecodable};

use crate::assemble::{Assembler, OpenState, Step};
use crate::ddl::{self, Meaning};
use crate::event::{Header, Query, Shape, inflate, kind};

impl Assembler {
    pub(super) fn query<'a>(&mut self, header: &Header, body: &[u8]) -> Result<Step<'a>, FetchError> {
        let inflated;
        let body = match header.kind {
            kind::QUERY_COMPRESSED => {
                inflated = inflate(body).map_err(|m| self.malformed(m))?;
                &inflated
            }
            _ => body,
        };
        let query = Query::read(body).map_err(|m| self.malformed(m))?;
        // By far the most statements are these two: no text is looked at.
        match query.statement {
            b"BEGIN" => return self.begin_rows(),
            b"COMMIT" => return self.commit_rows(),
            _ => {}
        }
        let statement = query.text(self.flavour);
        let database = String::from_utf8_lossy(query.database);
        let meaning = ddl::meaning(&statement, &database, query.ansi_quotes);
        match if self.lower_case_names { meaning.in_lower_case() } else { meaning } {
            Meaning::Begin => self.begin_rows(),
            Meaning::Commit => self.commit_rows(),
            Meaning::Rollback => self.rollback(),
            Meaning::Savepoint => self.savepoint(&statement),
            Meaning::RollbackTo => self.rollback_to(&statement),
            Meaning::Xa(step) => self.xa(step, &statement),
            Meaning::Rows(table) => Err(self.logged_as_text(table, &statement)),
            Meaning::Unknown => Err(self.undecodable(&format!(
                "a statement that this release does not know ({} …); start after this place if it changed no table",
                first_word(&statement)
            ))),
            meaning => self.definition(meaning, &statement, &database, query.error_code),
        }
    }

    fn begin_rows<'a>(&mut self) -> Result<Step<'a>, FetchError> {
        match self.open.as_ref().map(|open| (open.state, open.event.shape)) {
            // MariaDB says BEGIN by the GTID itself, and once more to readers that it takes for old.
            Some((OpenState::Announced | OpenState::Packed, _)) | Some((OpenState::Rows, Shape::Rows)) => {
                self.set_state(OpenState::Rows);
                Ok(Step::Next)
            }
            _ => Err(self.damaged("BEGIN comes out of turn")),
        }
    }

    /// A definition is its own transaction, unless rows follow it in one (CREATE TABLE … SELECT).
    fn definition<'a>(
        &mut self,
        meaning: Meaning,
        statement: &str,
        database: &str,
        error_code: u16,
    ) -> Result<Step<'a>, FetchError> {
        let (state, skipped) =
            self.open.as_ref().map_or((OpenState::Rows, true), |open| (open.state, open.skipped));
        if state == OpenState::XaRows {
            return Err(self.damaged("a definition stands within an XA transaction"));
        }
        // A statement that failed is logged where it may have had an effect in part.
        if error_code != 0 && meaning != Meaning::Nothing {
            tracing::warn!(source = %self.source, at = %self.place_text(), error_code, "a definition failed on the source");
        }
        if !skipped && !self.measuring {
            let before = self.window.open_changes();
            self.carry(meaning, statement, database)?;
            self.pass_over_repeated(self.window.open_changes() - before)?;
        }
        match state {
            OpenState::Announced => self.commit(),
            _ => Ok(Step::Next),
        }
    }

    fn carry(&mut self, meaning: Meaning, statement: &str, database: &str) -> Result<(), FetchError> {
        match meaning {
            Meaning::Schema(definition) => {
                self.close_schemas(&definition)?;
                definition.events(database, statement).for_each(|kind| self.window.event(kind));
            }
            Meaning::Truncate(table) => self.window.event(EventKind::Truncate { table }),
            _ => {}
        }
        Ok(())
    }

    /// Rows whose values only the statement's text has, which means something on the source alone.
    pub(super) fn logged_as_text(&self, table: Option<TableName>, statement: &str) -> FetchError {
        FetchError::Undecodable(Box::new(Undecodable {
            table,
            column: None,
            source_type: None,
            place: self.place_text(),
            why: format!(
                "rows were changed by a statement that is logged as text ({} …); run SET GLOBAL binlog_format = 'ROW' (for \
                 every session, also those that are open), then clone the tables again and start after that",
                first_word(statement)
            ),
        }))
    }

    /// LOAD DATA of a session that logs statements: the file's lines came in events before.
    pub(super) fn load_query(&self, body: &[u8]) -> FetchError {
        let query = match Query::read_load(body) {
            Ok(query) => query,
            Err(malformed) => return self.malformed(malformed),
        };
        let (statement, database) = (query.text(self.flavour), String::from_utf8_lossy(query.database));
        let table = match ddl::meaning(&statement, &database, query.ansi_quotes) {
            Meaning::Rows(table) => table,
            _ => None,
        };
        self.logged_as_text(table, &statement)
    }
}

/// Enough to find the statement, and none of its values.
fn first_word(statement: &str) -> &str {
    statement.split_whitespace().next().unwrap_or_default()
}
