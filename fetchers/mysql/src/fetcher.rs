//! The fetcher: drives a transport through the assembler, and makes a lost connection again.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tidemill_event::{Position, Scn, Timeline, Window};
use tidemill_fetchers_api::{FetchError, Fetcher, Liveness, Start};
use tokio::time::{Instant, sleep_until, timeout};

use crate::assemble::{self, Assembler, Counters, Step};
use crate::limits::{CONNECT_TIME_MAX, RETRY_PAUSE_MAX, RETRY_PAUSE_MIN, SILENT_BYTES_MAX};
use crate::options::{Origin, ServerOptions};
use crate::place::Place;
use crate::prepared::PreparedStore;
use crate::random;
use crate::schema::{self, Asker, Schemas};
use crate::settings::Settings;
use crate::start::{self, Plan};
use crate::transport::{
    Connection, FilesTransport, Filled, Item, Payload, Resume, ServerTransport, Transport, TransportError,
    read_facts,
};

/// Reads the transactions of a MySQL or MariaDB server, or of its binlog files.
pub struct MySqlFetcher {
    origin: Origin,
    server_id: u32,
    /// Where it began, until there is a transaction to resume behind.
    begin: Resume,
    transport: Option<Transport>,
    /// The compressed transaction in hand.
    payload: Option<Payload>,
    assembler: Assembler,
    asker: Asker,
    retry: Retry,
    /// What it stopped with; every later call gives it again.
    failed: Option<FetchError>,
    /// The end of the server's log when it was opened.
    end_at_open: Option<Scn>,
    liveness: Liveness,
}

/// When to connect again.
#[derive(Debug, Default)]
struct Retry {
    attempts: u32,
    at: Option<Instant>,
    /// Events that had come when the connection was made.
    events_before: u64,
}

/// What the bytes that are there gave.
enum Taken {
    /// A window is ready.
    Ready,
    /// Everything is used up.
    Drained,
    /// The server is to be asked for a table's definition.
    Ask,
    /// The log is to be read again from the last boundary.
    Again,
}

impl MySqlFetcher {
    /// Connects, or opens the first file; checks that the lineage fits; settles where to begin.
    ///
    /// `source` names the source in every window. An unreachable server is an error here ([`FetchError::Io`]); once
    /// open, a lost connection is made again within [`Fetcher::next`].
    pub async fn open(
        source: &str,
        origin: Origin,
        start: Start,
        settings: impl Into<Settings>,
    ) -> Result<MySqlFetcher, FetchError> {
        let settings = settings.into();
        let resumed = start::resumed(&start);
        let prepared = PreparedStore::open(settings.directory.as_deref(), resumed)?;
        let (server_id, plan, transport, timeline, end_at_open, lower_case_names) = match &origin {
            Origin::Server(options) => {
                let server_id = options.server_id.unwrap_or_else(random::server_id);
                let opened = timeout(CONNECT_TIME_MAX, open_server(options, &start, server_id)).await;
                let opened = opened.unwrap_or_else(|_| Err(too_slow()));
                let (plan, transport, timeline, end, lower_case) =
                    opened.map_err(|e| placed(final_error(e, options), position_of(&start)))?;
                (server_id, plan, Transport::Server(transport.into()), timeline, end, lower_case)
            }
            Origin::Files(options) => {
                let plan = start::in_files(options, &start).await?;
                let place = plan.resume.place.as_ref().expect("files always begin at a place");
                let transport = FilesTransport::open(options, place).await?;
                let timeline = plan.resume.timeline.clone();
                (0, plan, Transport::Files(transport.into()), timeline, None, false)
            }
        };
        let schemas = Schemas::open(settings.directory.as_deref(), Arc::clone(&timeline.server))?;
        let begin = assemble::Origin {
            source: source.into(),
            timeline,
            after: plan.after,
            executed: plan.resume.executed.clone(),
            skip: plan.skip,
            live: matches!(origin, Origin::Server(_)),
            schemas,
            lower_case_names,
        };
        let mut fetcher = MySqlFetcher {
            origin,
            server_id,
            begin: plan.resume,
            transport: Some(transport),
            payload: None,
            assembler: Assembler::new(begin, settings.selector, settings.values, plan.flavour)
                .with(settings.judge, prepared)
                .with_declared_types(settings.declared_types),
            asker: Asker::default(),
            retry: Retry::default(),
            failed: None,
            end_at_open,
            liveness: Liveness::default(),
        };
        fetcher.pass_over_far_offset();
        Ok(fetcher)
    }

    /// Cuts windows at so many bytes of rows, where the default is [`tidemill_event::limits::WINDOW_BYTES_MAX`].
    pub fn with_window_bytes(mut self, bytes: usize) -> MySqlFetcher {
        self.assembler.set_window_bytes(bytes);
        self
    }

    /// The end of the server's log when this fetcher was opened; `None` for files, which end by themselves.
    pub fn end_at_open(&self) -> Option<Scn> {
        self.end_at_open
    }

    /// What went through so far.
    pub fn counters(&self) -> Counters {
        self.assembler.count()
    }

    /// Where the events of the oldest XA transaction begin that is prepared and neither committed nor rolled back. A
    /// reader without this one's directory must begin there or before, whatever its checkpoint says.
    pub fn oldest_prepared(&mut self) -> Result<Option<Position>, FetchError> {
        self.assembler.prepared.oldest()
    }

    /// The dump command cannot name an offset of four GiB and more: the file is read from its beginning.
    fn pass_over_far_offset(&mut self) {
        let resume = self.resume();
        let by_place = resume.executed.as_ref().is_none_or(|set| set.is_empty());
        let far = resume.place.filter(|place| by_place && place.offset > u64::from(u32::MAX));
        if let Some(scn) = far.as_ref().and_then(Place::scn) {
            self.assembler.pass_over_upto(scn);
        }
    }

    fn resume(&self) -> Resume {
        Resume {
            timeline: self.assembler.timeline().clone(),
            executed: self.assembler.executed().or(self.begin.executed.as_ref()).cloned(),
            place: self.assembler.resume_place().or(self.begin.place.as_ref()).cloned(),
        }
    }

    /// Takes in what was read; false at the end of the files.
    async fn advance(&mut self) -> Result<bool, TransportError> {
        if self.transport.is_none() {
            self.reconnect().await?;
        }
        loop {
            // Also after this call was dropped while it waited for the answer.
            self.ask().await?;
            match self.take()? {
                Taken::Ready => return Ok(true),
                Taken::Ask => continue,
                Taken::Again => {
                    self.disconnect()?;
                    return Ok(true);
                }
                Taken::Drained => {}
            }
            let transport = self.transport.as_mut().expect("it was connected above");
            match transport.fill().await? {
                Filled::More => {}
                Filled::Idle => {
                    self.assembler.cut();
                    self.assembler.cut_silence(SILENT_BYTES_MAX);
                    if self.assembler.has_ready() {
                        return Ok(true);
                    }
                    transport.wait().await?;
                }
                Filled::End => {
                    self.end()?;
                    return Ok(self.assembler.has_ready());
                }
            }
        }
    }

    /// Asks the server for the definition that a table map waits for, if one does.
    async fn ask(&mut self) -> Result<(), TransportError> {
        let (Some(wanted), Origin::Server(options)) = (self.assembler.wanted(), &self.origin) else {
            return Ok(());
        };
        let answer = schema::answer(&mut self.asker, options, wanted).await?;
        Ok(self.assembler.answer(answer)?)
    }

    /// Uses up the bytes that are there, until a window is ready.
    fn take(&mut self) -> Result<Taken, TransportError> {
        let transport = self.transport.as_mut().expect("the caller has connected");
        loop {
            if self.assembler.has_ready() {
                return Ok(Taken::Ready);
            }
            let step = if let Some(payload) = &mut self.payload {
                match payload.next().map_err(|m| self.assembler.malformed(m))? {
                    Some(event) => self.assembler.push(event, true)?,
                    None => {
                        self.payload = None;
                        self.assembler.end_payload()?;
                        continue;
                    }
                }
            } else {
                match transport.take()? {
                    None => return Ok(Taken::Drained),
                    Some(Item::Event(event)) => self.assembler.push(event, false)?,
                    Some(Item::File(file, offset)) => {
                        self.assembler.begin_file(file, offset)?;
                        continue;
                    }
                }
            };
            match step {
                Step::Next => {}
                Step::Again => return Ok(Taken::Again),
                Step::Ask => return Ok(Taken::Ask),
                Step::Unpack(body) => {
                    let payload = Payload::new(body).map_err(|m| self.assembler.malformed(m))?;
                    self.payload = Some(payload);
                }
            }
        }
    }

    /// The last file has ended.
    fn end(&mut self) -> Result<(), FetchError> {
        let may_be_torn = matches!(&self.transport, Some(Transport::Files(files)) if files.may_be_torn());
        if self.assembler.is_within_transaction() && !may_be_torn {
            return Err(self.assembler.damaged("the last file ends within a transaction"));
        }
        self.assembler.cut();
        self.assembler.cut_silence(1);
        Ok(())
    }

    /// Gives up the transport and the transaction in hand. What was whole is delivered first.
    fn disconnect(&mut self) -> Result<(), FetchError> {
        self.transport = None;
        self.payload = None;
        self.assembler.rewind(None)?;
        self.assembler.cut();
        Ok(())
    }

    fn lost(&mut self, error: &io::Error) -> Result<(), FetchError> {
        let counters = self.assembler.counters;
        // An artificial rotate and a format description come even from a server that then gives up.
        const GREETING_EVENTS: u64 = 2;
        if counters.events > self.retry.events_before + GREETING_EVENTS {
            self.retry.attempts = 0;
        }
        let pause = pause(self.retry.attempts);
        self.retry.attempts += 1;
        self.retry.at = Some(Instant::now() + pause);
        let at = self.assembler.position();
        self.liveness.lost(format!("the connection is lost: {error}"));
        tracing::warn!(%at, error = %error, pause_ms = pause.as_millis() as u64, "the connection to the source is lost; it is made again");
        self.disconnect()
    }

    /// Cancel-safe: everything is made aside and kept only when it is complete.
    async fn reconnect(&mut self) -> Result<(), TransportError> {
        if let Some(at) = self.retry.at {
            sleep_until(at).await;
        }
        let resume = self.resume();
        let (transport, timeline) = match &self.origin {
            Origin::Files(options) => {
                let place = resume.place.as_ref().expect("files always begin at a place");
                (Transport::Files(FilesTransport::open(options, place).await?.into()), None)
            }
            Origin::Server(options) => {
                let connected = timeout(CONNECT_TIME_MAX, connect(options, &resume, self.server_id)).await;
                let (server, timeline) = connected.unwrap_or_else(|_| Err(too_slow()))?;
                (Transport::Server(server.into()), (timeline != resume.timeline).then_some(timeline))
            }
        };
        self.assembler.rewind(timeline)?;
        self.pass_over_far_offset();
        self.transport = Some(transport);
        self.liveness.answers();
        // Otherwise the log was only to be read again.
        self.assembler.counters.reconnects += u64::from(self.retry.at.take().is_some());
        self.retry.events_before = self.assembler.counters.events;
        Ok(())
    }
}

impl Fetcher for MySqlFetcher {
    async fn next(&mut self) -> Result<Option<Window>, FetchError> {
        loop {
            match self.assembler.ready() {
                Ok(Some(window)) => return Ok(Some(window)),
                Ok(None) => {}
                Err(error) => self.failed = Some(error),
            }
            if let Some(error) = &self.failed {
                return Err(again(error));
            }
            let advanced = match self.advance().await {
                Err(TransportError::Lost(error)) => self.lost(&error).map(|()| true),
                Err(TransportError::Failed(error)) => Err(error),
                Ok(advanced) => Ok(advanced),
            };
            match advanced {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                // What is whole goes out before the error.
                Err(error) => {
                    self.failed = Some(placed(error, self.assembler.position()));
                    let _ = self.disconnect();
                }
            }
        }
    }

    fn stored(&mut self, upto: Position) {
        if let Err(error) = self.assembler.prepared.stored(upto) {
            self.failed.get_or_insert(error);
        }
    }

    /// A connection that was silent for three heartbeats counts as lost.
    fn liveness(&self) -> Liveness {
        self.liveness.clone()
    }
}

/// What a fetcher took in is accounted for at its end, however it ends.
impl Drop for MySqlFetcher {
    fn drop(&mut self) {
        if let Err(unbalanced) = self.counters().check() {
            tracing::error!(%unbalanced, "a fetcher's counters do not agree");
            debug_assert!(std::thread::panicking(), "{unbalanced}: {:#?}", self.counters());
        }
    }
}

async fn open_server(
    options: &ServerOptions,
    start: &Start,
    server_id: u32,
) -> Result<(Plan, ServerTransport, Timeline, Option<Scn>, bool), TransportError> {
    let mut connection = Connection::open(options).await?;
    let mut facts = read_facts(&mut connection).await?;
    let plan = start::on_server(&mut connection, options, &facts, start).await?;
    let lower_case_names = facts.lower_case_names;
    let (transport, timeline) = plan.resume.dump(connection, options, &mut facts, server_id).await?;
    Ok((plan, transport, timeline, facts.end.scn(), lower_case_names))
}

async fn connect(
    options: &ServerOptions,
    resume: &Resume,
    server_id: u32,
) -> Result<(ServerTransport, Timeline), TransportError> {
    let mut connection = Connection::open(options).await?;
    let mut facts = read_facts(&mut connection).await?;
    resume.dump(connection, options, &mut facts, server_id).await
}

fn too_slow() -> TransportError {
    TransportError::lost(format!("connecting took more than {} s", CONNECT_TIME_MAX.as_secs()))
}

fn final_error(error: TransportError, options: &ServerOptions) -> FetchError {
    match error {
        TransportError::Failed(error) => error,
        TransportError::Lost(source) => {
            FetchError::Io { what: format!("the binlog of {}:{}", options.host, options.port), source }
        }
    }
}

fn position_of(start: &Start) -> Position {
    match start {
        Start::At(checkpoint) => checkpoint.position,
        _ => Position::default(),
    }
}

/// A server that refuses to go on does not know where we are.
fn placed(error: FetchError, position: Position) -> FetchError {
    match error {
        FetchError::Lineage { at, what, mend } if at == Position::default() => {
            FetchError::Lineage { at: position, what, mend }
        }
        other => other,
    }
}

/// Doubles from attempt to attempt, then a random half of it, so that many readers do not come at once.
fn pause(attempts: u32) -> Duration {
    let whole = RETRY_PAUSE_MIN.saturating_mul(1 << attempts.min(16)).min(RETRY_PAUSE_MAX);
    let half = whole / 2;
    half + Duration::from_nanos(random::number() % (half.as_nanos() as u64).max(1))
}

/// The same error once more.
fn again(error: &FetchError) -> FetchError {
    match error {
        FetchError::Setup { what, mend } => FetchError::Setup { what: what.clone(), mend: mend.clone() },
        FetchError::Lineage { at, what, mend } => {
            FetchError::Lineage { at: *at, what: what.clone(), mend: mend.clone() }
        }
        FetchError::Undecodable(inner) => {
            FetchError::Undecodable(Box::new(tidemill_fetchers_api::Undecodable {
                table: inner.table.clone(),
                column: inner.column.clone(),
                source_type: inner.source_type.clone(),
                place: inner.place.clone(),
                why: inner.why.clone(),
            }))
        }
        FetchError::Damaged { place, what } => {
            FetchError::Damaged { place: place.clone(), what: what.clone() }
        }
        FetchError::Judge { source } => FetchError::Judge { source: source.clone() },
        FetchError::Store { what, path, source } => {
            FetchError::Store { what, path: path.clone(), source: source.clone() }
        }
        FetchError::Redefined { table } => FetchError::Redefined { table: table.clone() },
        FetchError::Io { what, source } => {
            FetchError::Io { what: what.clone(), source: io::Error::new(source.kind(), source.to_string()) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_are_spread() {
        for attempts in 0..40 {
            let longest = RETRY_PAUSE_MIN.saturating_mul(1 << attempts.min(16)).min(RETRY_PAUSE_MAX);
            let pause = pause(attempts);
            assert!(pause >= longest / 2 && pause <= longest, "attempt {attempts}: {pause:?}");
        }
    }
}
