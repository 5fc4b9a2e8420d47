//! One subscription on its way through the log: windows in, batches of bytes out, and where the subscriber is after them.

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tidemill_event::{
    Checkpoint, Frame, Position, SchemaId, TableSchema, Window, encode_schema, encode_window,
};
use tidemill_log::Log;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until};

use super::Meter;
use super::begin::{end_of, nowhere, problem};
use super::windows::{Given, Windows};
use crate::format::{self, arrow, json};
use crate::view::View;
use crate::{Code, Format, Problem};

/// Pieces below this are copied together: a write of its own costs more than the copy.
const PIECE_BYTES_MIN: usize = 8 << 10;

/// See the module.
pub(crate) struct Feed {
    pub(crate) source: String,
    pub(crate) log: Log,
    pub(crate) view: Arc<View>,
    pub(crate) windows: Windows,
    pub(crate) format: Format,
    /// The end of an answer that does not follow, before everything where the log has nothing; `None`: it follows.
    pub(crate) until: Option<Position>,
    pub(crate) bytes_left: Option<u64>,
    pub(crate) batch_bytes: usize,
    pub(crate) silence: Silence,
    pub(crate) stop: watch::Receiver<bool>,
    pub(crate) meter: Meter,
    /// Where the subscriber is, as far as anybody knows.
    pub(crate) place: Option<Window>,
    pub(crate) told: Told,
    /// What stands in the way of the window after the last batch.
    pub(crate) failed: Option<Problem>,
}

/// What the subscriber was told before, on which what follows depends.
#[derive(Default)]
pub(crate) struct Told {
    /// `frames`: schemas.
    schemas: HashSet<SchemaId>,
    /// `json`, `events`: what came of the transaction that is not at its end.
    begun: Option<json::Orders>,
    /// `arrow`: what the stream's columns are.
    pub(crate) columns: Option<Arc<TableSchema>>,
    /// Whether a transaction was begun and is not at its end.
    is_within: bool,
}

/// A batch on its way out.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) parts: Vec<Bytes>,
    pub(crate) bytes: usize,
    /// Nothing follows.
    pub(crate) ends: bool,
}

impl Batch {
    pub(crate) fn push(&mut self, bytes: Bytes) {
        self.bytes += bytes.len();
        if !bytes.is_empty() {
            self.parts.push(bytes);
        }
    }

    /// Small neighbours become one.
    pub(crate) fn joined(mut self) -> Batch {
        let mut joined: Vec<Bytes> = Vec::with_capacity(self.parts.len());
        for run in self.parts.chunk_by(|a, b| a.len() < PIECE_BYTES_MIN && b.len() < PIECE_BYTES_MIN) {
            if let [one] = run {
                joined.push(one.clone());
                continue;
            }
            let mut together = BytesMut::with_capacity(run.iter().map(Bytes::len).sum());
            run.iter().for_each(|piece| together.extend_from_slice(piece));
            joined.push(together.freeze());
        }
        self.parts = joined;
        self
    }
}

/// What a wait ended with.
enum Turn {
    Stopped,
    Window(Given),
    Silent,
}

impl Feed {
    /// The next batch: everything that is there, up to a limit; waits for it.
    pub(crate) async fn next(&mut self) -> Result<Batch, Problem> {
        if let Some(problem) = self.failed.take() {
            return Err(problem);
        }
        match self.turn().await {
            Turn::Stopped => self.ended(Batch::default()).await,
            Turn::Silent => self.heartbeat(),
            Turn::Window(given) => self.gather(Some(given)).await,
        }
    }

    /// What is there now, without waiting for the source. Where the log has more for a reader at this place, that is
    /// read, so that what cannot be answered shows. `at_once`: what it has is for this reader, and not only what commits
    /// at a time that is still to come.
    pub(crate) async fn first(&mut self, at_once: bool) -> Result<Batch, Problem> {
        if self.is_at_end() {
            return self.ended(Batch::default()).await;
        }
        let is_behind = self.windows.position() < self.log.stats().latest;
        let given = if is_behind && at_once { Some(self.windows.next().await) } else { self.windows.ready() };
        self.gather(given).await
    }

    async fn gather(&mut self, mut given: Option<Given>) -> Result<Batch, Problem> {
        let mut batch = Batch::default();
        while let Some(window) = given {
            let whole = batch.parts.len();
            if let Err(failed) = self.take(window, &mut batch).await {
                // The windows before it are given first, and nothing of this one.
                if whole == 0 {
                    return Err(failed);
                }
                batch.parts.truncate(whole);
                self.failed = Some(failed);
                break;
            }
            if batch.ends || self.is_at_end() || *self.stop.borrow() {
                return self.ended(batch).await;
            }
            given = if batch.bytes < self.batch_bytes { self.windows.ready() } else { None };
        }
        Ok(batch.joined())
    }

    async fn turn(&mut self) -> Turn {
        if *self.stop.borrow() {
            return Turn::Stopped;
        }
        // Most turns end here, without a timer.
        if let Some(given) = self.windows.ready() {
            return Turn::Window(given);
        }
        tokio::select! {
            biased;
            // An error means that nobody is left who could say it: that is the same.
            _ = self.stop.wait_for(|stop| *stop) => Turn::Stopped,
            given = self.windows.next() => Turn::Window(given),
            () = self.silence.ends() => Turn::Silent,
        }
    }

    fn is_at_end(&self) -> bool {
        // Only between transactions, so that whoever asks again gets on.
        let at_rest = !self.told.is_within;
        let position = || self.place.as_ref().map(Window::position).max(self.windows.position());
        let is_reached = |until| until == Position::default() || position() >= Some(until);
        at_rest && (self.bytes_left == Some(0) || self.until.is_some_and(is_reached))
    }

    /// Writes a window.
    async fn take(&mut self, given: Given, batch: &mut Batch) -> Result<(), Problem> {
        let given = given.map_err(|error| problem(&self.log, &self.source, &error))?;
        let Some((frame, window)) = given else {
            batch.ends = true;
            return Ok(());
        };
        self.silence.broken();
        let before = batch.bytes;
        let rows_given = match self.format {
            Format::Frames => self.take_frame(frame, &window, batch).await?,
            Format::Arrow => self.take_arrow(&window, batch).await?,
            Format::Json | Format::Events => {
                let begun = self.told.begun.take();
                let (seen, chunk) = self.view.written(self.format, &window, begun.as_ref()).await?;
                self.told.begun = chunk.begun.clone();
                batch.push(chunk.bytes.clone());
                seen.row_count()
            }
        };
        if batch.ends {
            return Ok(());
        }
        self.told.is_within = window.transactions.last().is_some_and(|t| !t.part.completes());
        if !self.told.is_within {
            self.place = Some(end_of(&window));
        }
        self.meter.window(&window, rows_given);
        if let Some(left) = &mut self.bytes_left {
            *left = left.saturating_sub((batch.bytes - before) as u64);
        }
        Ok(())
    }

    async fn take_frame(
        &mut self,
        frame: Frame,
        window: &Arc<Window>,
        batch: &mut Batch,
    ) -> Result<usize, Problem> {
        let (seen, bytes) = match self.view.is_all() {
            true => (Arc::clone(window), format::frame_bytes(frame)),
            false => {
                let (seen, chunk) = self.view.written(Format::Frames, window, None).await?;
                (seen, chunk.bytes.clone())
            }
        };
        for table in &seen.tables {
            if self.told.schemas.insert(table.schema.id()) {
                batch.push(format::frame_bytes(encode_schema(&table.schema)));
            }
        }
        batch.push(bytes);
        Ok(seen.row_count())
    }

    /// The stream has one set of columns: with another version of the table it ends, between two transactions.
    async fn take_arrow(&mut self, window: &Arc<Window>, batch: &mut Batch) -> Result<usize, Problem> {
        let (seen, chunk) = self.view.written(Format::Arrow, window, None).await?;
        let mut whole = None;
        for piece in &chunk.pieces {
            match &self.told.columns {
                None => self.begin_arrow(&piece.schema, batch)?,
                Some(columns) if columns.id() == piece.schema.id() => {}
                Some(_) => {
                    self.end_before(window, piece.first_txn, whole)?;
                    batch.ends = true;
                    return Ok(0);
                }
            }
            batch.push(piece.bytes.clone());
            whole = Some(piece.last_txn);
        }
        Ok(seen.row_count())
    }

    fn begin_arrow(&mut self, columns: &Arc<TableSchema>, batch: &mut Batch) -> Result<(), Problem> {
        batch.push(arrow::schema_message(columns.arrow()).map_err(|error| unwritten(&self.source, &error))?);
        self.told.columns = Some(Arc::clone(columns));
        Ok(())
    }

    /// The subscriber has everything before that transaction of the window. `given`: the last one of which it has rows.
    fn end_before(&mut self, window: &Window, txn: u32, given: Option<u32>) -> Result<(), Problem> {
        if self.told.is_within || given.is_some_and(|given| given >= txn) {
            let scn = window.transactions[txn as usize].scn;
            let detail = format!(
                "the table has two versions within the transaction at {scn}, which one Arrow stream cannot hold; \
                 ask for it as json or frames"
            );
            return Err(Problem::new(Code::BadParameter, detail));
        }
        let Some(last) = txn.checked_sub(1) else { return Ok(()) };
        let mut place = end_of(window);
        let scn = window.transactions[last as usize].scn;
        place.span = tidemill_event::Span { after: scn, upto: scn };
        // What is executed in the middle of a window is not known; what was before it is too little, and safe.
        place.executed = self.place.as_ref().map_or_else(|| "".into(), |before| Arc::clone(&before.executed));
        self.place = Some(place);
        Ok(())
    }

    /// Whatever the format has at its end.
    async fn ended(&mut self, mut batch: Batch) -> Result<Batch, Problem> {
        batch.ends = true;
        if self.format == Format::Arrow {
            if self.told.columns.is_none() {
                let columns = self.known_columns().await?;
                batch.push(arrow::schema_message(&columns).map_err(|error| unwritten(&self.source, &error))?);
            }
            batch.push(Bytes::from_static(&arrow::END));
        }
        Ok(batch.joined())
    }

    /// The columns of a stream without rows, as far as they are known.
    async fn known_columns(&mut self) -> Result<arrow_schema::SchemaRef, Problem> {
        let selection = self.view.selection();
        let schemas = self.log.schemas().await.map_err(|error| problem(&self.log, &self.source, &error))?;
        let table = schemas.iter().find(|schema| selection.tables.iter().any(|p| p.matches(schema.name())));
        let Some(table) = table.filter(|_| selection.projections.is_empty()) else {
            return Ok(Arc::new(arrow_schema::Schema::empty()));
        };
        let wanted = selection.columns.iter().find(|(name, _)| name == table.name());
        match wanted {
            Some((_, wanted)) => Ok(Arc::clone(crate::view::chosen(table, wanted)?.arrow())),
            None => Ok(Arc::clone(table.arrow())),
        }
    }

    /// A sign of life, with where the subscriber is.
    fn heartbeat(&mut self) -> Result<Batch, Problem> {
        let mut batch = Batch::default();
        self.silence.broken();
        self.meter.heartbeat();
        match self.format {
            // The parts of a transaction follow one another.
            Format::Frames if self.told.is_within => {}
            Format::Frames => {
                let place = self.place.clone().unwrap_or_else(|| nowhere(&self.source));
                let frame = encode_window(&place).expect("a window without changes is small");
                batch.push(format::frame_bytes(frame));
            }
            Format::Arrow => {
                let Some(columns) = &self.told.columns else { return Ok(batch) };
                let message = arrow::empty_message(columns.arrow());
                batch.push(message.map_err(|error| unwritten(&self.source, &error))?);
            }
            Format::Json | Format::Events => {
                let mut line = Vec::new();
                format::push_checkpoint(&mut line, self.format, self.checkpoint().as_ref());
                batch.push(line.into());
            }
        }
        Ok(batch)
    }

    /// Where the subscriber is, if anybody knows.
    pub(crate) fn checkpoint(&self) -> Option<Checkpoint> {
        self.place.as_ref().map(Window::checkpoint)
    }
}

pub(crate) fn unwritten(source: &str, error: &arrow_schema::ArrowError) -> Problem {
    let error: &dyn std::error::Error = error;
    tracing::error!(source, error, "an Arrow message cannot be written");
    Problem::new(Code::Storage, "the table cannot be written as Arrow; the relay's own log says why")
}

/// How long an answer has been silent. Its timer is set anew only when it rings.
pub(crate) struct Silence {
    max: Duration,
    since: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Silence {
    pub(crate) fn new(max: Duration) -> Silence {
        let since = Instant::now();
        Silence { max, since, timer: Box::pin(sleep_until(since + max)) }
    }

    fn broken(&mut self) {
        self.since = Instant::now();
    }

    /// Ends when it has been silent for long enough. Cancel-safe.
    async fn ends(&mut self) {
        loop {
            self.timer.as_mut().await;
            let due = self.since + self.max;
            if due <= Instant::now() {
                return;
            }
            self.timer.as_mut().reset(due);
        }
    }
}
