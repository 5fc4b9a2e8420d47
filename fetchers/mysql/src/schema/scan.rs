//! Looks ahead in a server's log for definitions of tables: nothing but the text of statements matters.

use std::sync::Arc;

use tidemill_event::{Scn, TableName, Timeline};
use tidemill_fetchers_api::FetchError;

use crate::ddl::{Definition, Meaning, meaning};
use crate::event::{Flavour, Query, RawEvent, Rotate, inflate, kind};
use crate::options::ServerOptions;
use crate::place::{BinlogName, Place};
use crate::random;
use crate::transport::{Connection, Facts, Filled, Payload, Resume, TransportError};
use crate::wire::Malformed;

/// A stretch of a server's log, and the definitions in it.
#[derive(Debug)]
pub(super) struct Scanned {
    server: Arc<str>,
    flavour: Flavour,
    from: Scn,
    upto: Place,
    found: Vec<Found>,
}

/// A statement that defines something, or may.
#[derive(Debug)]
pub(super) struct Found {
    /// Where it ends.
    at: Place,
    /// `None`: nobody knows what it does.
    definition: Option<Definition>,
    statement: String,
}

impl Found {
    fn concerns(&self, table: &TableName) -> bool {
        self.definition.as_ref().is_none_or(|definition| definition.concerns(table))
    }

    /// Where it is, and enough of its text to find it.
    pub(super) fn text(&self) -> (String, String) {
        const CHARACTERS_MAX: usize = 80;
        let mut text: String = self.statement.chars().take(CHARACTERS_MAX).collect();
        if text.len() < self.statement.len() {
            text.push_str(" …");
        }
        (self.at.to_string(), text)
    }
}

impl Scanned {
    /// Reads the log between two places.
    pub(super) async fn over(
        options: &ServerOptions,
        facts: &Facts,
        from: &Place,
        upto: &Place,
    ) -> Result<Scanned, TransportError> {
        let server = Arc::clone(&facts.identity);
        let begun = from.scn().unwrap_or_default();
        let scanned =
            Scanned { server, flavour: facts.flavour, from: begun, upto: from.clone(), found: vec![] };
        scanned.read_to(options, facts, upto).await
    }

    /// The same stretch and what the log has beyond it by now.
    pub(super) async fn on_to(
        self,
        options: &ServerOptions,
        facts: &Facts,
    ) -> Result<Scanned, TransportError> {
        self.read_to(options, facts, &facts.end).await
    }

    /// Whether the stretch, read on, covers everything from that place.
    pub(super) fn covers(&self, server: &Arc<str>, from: &Place) -> bool {
        self.server == *server && from.scn().is_some_and(|from| from >= self.from)
    }

    /// The first definition behind that place that concerns the table.
    pub(super) fn first_of(&self, table: &TableName, from: &Place) -> Option<&Found> {
        self.found.iter().find(|found| found.at.scn() > from.scn() && found.concerns(table))
    }

    pub(super) fn upto(&self) -> Scn {
        self.upto.scn().unwrap_or_default()
    }

    async fn read_to(
        mut self,
        options: &ServerOptions,
        facts: &Facts,
        upto: &Place,
    ) -> Result<Scanned, TransportError> {
        if self.upto.scn() >= upto.scn() {
            return Ok(self);
        }
        let timeline = Timeline { number: 1, server: Arc::clone(&self.server) };
        let resume = Resume { timeline, executed: None, place: Some(self.upto.clone()) };
        let connection = Connection::open(options).await?;
        let (mut transport, _) =
            resume.dump(connection, options, &mut facts.clone(), random::server_id()).await?;
        let (begun, mut at) = (self.upto.clone(), self.upto.clone());
        while at.scn() < upto.scn() {
            while let Some(event) = transport.take()? {
                self.event(event, &mut at, &begun).map_err(|m| damaged(&at, m))?;
                if at.scn() >= upto.scn() {
                    break;
                }
            }
            if at.scn() < upto.scn() && transport.fill()? == Filled::Idle {
                transport.wait().await?;
            }
        }
        self.upto = at;
        Ok(self)
    }

    /// `begun`: an offset that the dump command could not name is read towards, from the beginning of its file.
    fn event(&mut self, event: RawEvent<'_>, at: &mut Place, begun: &Place) -> Result<(), Malformed> {
        let RawEvent { header, body } = event;
        if header.kind == kind::ROTATE {
            let rotate = Rotate::read(body)?;
            let file = BinlogName::parse(rotate.file).ok_or(Malformed("a file has no number"))?;
            *at = Place { file, offset: rotate.offset };
            return Ok(());
        }
        let is_greeting = header.kind == kind::FORMAT_DESCRIPTION && header.log_pos == 0;
        if header.is_artificial()
            || is_greeting
            || matches!(header.kind, kind::HEARTBEAT | kind::HEARTBEAT_V2)
        {
            return Ok(());
        }
        // Some servers do not tell where an event of a transaction ends.
        at.offset = match header.log_pos {
            0 => at.offset + u64::from(header.size),
            told => Place::offset_of(told, at.offset),
        };
        if at.scn() <= begun.scn() {
            return Ok(());
        }
        match header.kind {
            kind::QUERY => self.statement(at, body),
            kind::QUERY_COMPRESSED => self.statement(at, &inflate(body)?),
            kind::TRANSACTION_PAYLOAD => {
                let mut payload = Payload::new(body)?;
                while let Some(event) = payload.next()? {
                    if event.header.kind == kind::QUERY {
                        self.statement(at, event.body)?;
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn statement(&mut self, at: &Place, body: &[u8]) -> Result<(), Malformed> {
        let query = Query::read(body)?;
        if matches!(query.statement, b"BEGIN" | b"COMMIT") {
            return Ok(());
        }
        let (statement, database) = (query.text(self.flavour), String::from_utf8_lossy(query.database));
        let definition = match meaning(&statement, &database, query.ansi_quotes) {
            Meaning::Schema(definition) => Some(definition),
            Meaning::Unknown => None,
            _ => return Ok(()),
        };
        self.found.push(Found { at: at.clone(), definition, statement: statement.into_owned() });
        Ok(())
    }
}

fn damaged(at: &Place, Malformed(what): Malformed) -> TransportError {
    TransportError::Failed(FetchError::Damaged { place: at.to_string(), what: what.to_owned() })
}
