//! From what is asked to the bytes of the body: reads the log, evaluates the selection, writes the format, compresses.
//! Who may ask what, and how the bytes reach the network, is the server's.
//!
//! An answer is polled: it reads on when its connection takes more, so a slow subscriber makes nobody wait but itself,
//! and holds one batch. What subscribers of one selection have in common is done once, see `view`.

mod begin;
mod compress;
mod feed;
mod meter;
mod pieces;
mod windows;

use std::collections::{HashSet, VecDeque};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use tidemill_event::Checkpoint;
use tokio::sync::watch;

use crate::format::json::checkpoint_text;
use crate::view::{Views, chosen};
use crate::{
    Asked, Begin, Code, Format, Guests, Problem, Selection, Served, SnapshotAsked, SnapshotPath,
    SnapshotsServed, TablePattern,
};
use compress::Compressor;
use feed::{Batch, Feed, Silence, Told};
use pieces::Pieces;
use windows::Windows;

pub use meter::{Meter, Metered};

/// The trailer that tells where the subscriber is after the body: base64url of `Checkpoint::encode()`, without padding.
/// In all formats but frames, whose last window says it.
pub const CHECKPOINT_TRAILER: HeaderName = HeaderName::from_static("tidemill-checkpoint");

/// Settings of [`Answers`].
#[derive(Clone, Copy, Debug)]
pub struct AnswerConfig {
    /// Evaluated and encoded windows that are kept for other subscribers, all selections together.
    pub shared_bytes: usize,
    /// What one answer gathers before it hands it to its connection. It holds so much, and one window more.
    pub batch_bytes: usize,
}

impl Default for AnswerConfig {
    /// 64 MiB for what is shared; batches of 256 KiB, which is what a socket takes at once.
    fn default() -> AnswerConfig {
        AnswerConfig { shared_bytes: 64 << 20, batch_bytes: 256 << 10 }
    }
}

/// How the body is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// Not at all.
    #[default]
    Identity,
    /// `gzip`
    Gzip,
    /// `zstd`
    Zstd,
}

/// What the answers of a relay have done so far, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnswersStats {
    /// Selections in use.
    pub views: usize,
    /// Windows that a selection was evaluated on: once for all of its subscribers.
    pub evaluations: u64,
    /// Windows that were written in a format: once for all subscribers of a selection.
    pub encodings: u64,
    /// Time in evaluations, guests included, in microseconds.
    pub evaluation_us: u64,
    /// Bytes of what is kept for other subscribers.
    pub shared_bytes: usize,
}

/// Answers requests. One a relay process; cheap to clone.
#[derive(Clone)]
pub struct Answers {
    views: Arc<Views>,
    config: AnswerConfig,
}

impl Answers {
    /// Guests are opened by name through `guests`.
    pub fn new(guests: Arc<dyn Guests>, config: AnswerConfig) -> Answers {
        Answers { views: Views::new(guests, config.shared_bytes), config }
    }

    /// The answer to a request. Whatever can be refused is refused here, so that the status is right: what comes later
    /// aborts the body, and the subscriber learns it when it asks again from its checkpoint. The first windows are read
    /// and evaluated already when this returns, if they are there.
    ///
    /// When `stop` turns true, or its sender is gone, the body ends in an orderly way, at the end of a window.
    ///
    /// A sign of life in `frames` is a window without changes that ends where the subscriber is; with timeline 0, before
    /// every other, where that is not known yet.
    pub async fn open(
        &self,
        source: &Served,
        asked: Asked,
        encoding: Encoding,
        meter: Meter,
        stop: watch::Receiver<bool>,
    ) -> Result<Answer, Problem> {
        let Asked { begin, selection, format, follow, bytes_max, heartbeat, subscriber: _ } = asked;
        let selection = selection.normal();
        check(source, &selection, format, &begin).await?;
        let view = self.views.view(&source.name, selection).await?;
        let (from, place) = begin::begin(source, &begin)?;
        let until = (!follow).then(|| source.log.stats().latest.unwrap_or_default());
        let reader = source.log.reader(from);
        let reader = reader.map_err(|error| begin::problem(&source.log, &source.name, &error))?;
        let mut feed = Feed {
            source: source.name.clone(),
            log: source.log.clone(),
            view,
            windows: Windows::new(reader),
            format,
            until,
            bytes_left: bytes_max,
            batch_bytes: self.config.batch_bytes,
            silence: Silence::new(heartbeat),
            stop,
            meter: meter.clone(),
            place,
            told: Told::default(),
            failed: None,
        };
        let first = feed.first(!follow || !matches!(begin, Begin::Time(_))).await?;
        Answer::begin(format, encoding, meter, Giver::Log(Box::new(feed)), first)
    }

    /// The answer to a request for a snapshot or deltas: what comes after `have`, up to where the stream follows. Otherwise
    /// as [`Answers::open`].
    pub async fn open_snapshot(
        &self,
        served: &SnapshotsServed,
        wanted: SnapshotWanted,
        encoding: Encoding,
        meter: Meter,
        stop: watch::Receiver<bool>,
    ) -> Result<Answer, Problem> {
        let SnapshotWanted { have, selection, path, format, bytes_max, subscriber } = wanted;
        let selection = selection.normal();
        check_arrow(&selection, format)?;
        let view = self.views.view(&served.source, selection.clone()).await?;
        let mut pieces = Pieces {
            source: served.source.clone(),
            reading: served.snapshots.open(SnapshotAsked { selection, path, subscriber }),
            view,
            format,
            bytes_left: bytes_max,
            stop,
            meter: meter.clone(),
            have,
            schemas: HashSet::new(),
            columns: None,
        };
        let first = pieces.next().await?;
        Answer::begin(format, encoding, meter, Giver::Storage(Box::new(pieces)), first)
    }

    /// What was done so far.
    pub fn stats(&self) -> AnswersStats {
        let done = &self.views.done;
        AnswersStats {
            views: self.views.count(),
            evaluations: done.evaluations.load(Ordering::Relaxed),
            encodings: done.encodings.load(Ordering::Relaxed),
            evaluation_us: done.evaluation_us.load(Ordering::Relaxed),
            shared_bytes: self.views.shared_bytes(),
        }
    }
}

/// What a reader of snapshot storage wants.
#[derive(Clone, Debug)]
pub struct SnapshotWanted {
    /// Where it is; `None`: it has nothing.
    pub have: Option<Checkpoint>,
    /// What it sees.
    pub selection: Selection,
    /// How a table comes of which it has an older state.
    pub path: SnapshotPath,
    /// How the answer is written: not as events.
    pub format: Format,
    /// It ends with the window that reaches so many bytes, if given.
    pub bytes_max: Option<u64>,
    /// Who asks: the grant's name and the name that the reader gives itself.
    pub subscriber: String,
}

fn exact(pattern: &TablePattern) -> bool {
    pattern.database.is_some() && pattern.table.is_some()
}

fn check_arrow(selection: &Selection, format: Format) -> Result<(), Problem> {
    let is_one = selection.tables.len() == 1 && selection.tables.iter().all(exact);
    if format == Format::Arrow && !is_one {
        let detail = "an Arrow stream has one table; name it with `tables=database.table`, without `*`";
        return Err(Problem::new(Code::BadParameter, detail).with("parameter", "tables"));
    }
    Ok(())
}

/// What can be said of a selection before anything is read.
async fn check(source: &Served, selection: &Selection, format: Format, begin: &Begin) -> Result<(), Problem> {
    check_arrow(selection, format)?;
    let Selection { tables, columns, predicates, .. } = selection;
    if !tables.iter().any(exact) && columns.is_empty() && predicates.is_empty() {
        return Ok(());
    }
    let known = source.log.schemas().await;
    let known = known.map_err(|error| begin::problem(&source.log, &source.name, &error))?;
    // Whoever goes on where it was has seen its tables, and retention may have dropped what the log knew of them.
    let goes_on = matches!(begin, Begin::At(_) | Begin::After(_));
    for pattern in tables.iter().filter(|pattern| exact(pattern)) {
        if !goes_on && !known.iter().any(|schema| pattern.matches(schema.name())) {
            return Err(unknown_table(source, &pattern.to_string()));
        }
    }
    for (table, wanted) in columns {
        match known.iter().find(|schema| schema.name() == table) {
            None if goes_on => {}
            None => return Err(unknown_table(source, &table.to_string())),
            // A projection gives columns that the log does not know.
            Some(_) if !selection.projections.is_empty() => {}
            Some(schema) => drop(chosen(schema, wanted)?),
        }
    }
    for predicate in predicates {
        match known.iter().find(|schema| *schema.name() == predicate.table) {
            None if goes_on => {}
            None => return Err(unknown_table(source, &predicate.table.to_string())),
            Some(schema) => predicate.check(schema)?,
        }
    }
    Ok(())
}

fn unknown_table(source: &Served, table: &str) -> Problem {
    let detail = format!(
        "source {:?} has no table {table} of which a change was seen; `/v1/sources/{}/tables` shows those that it has, \
         and a pattern with `*` takes tables that are still to come",
        source.name, source.name
    );
    Problem::new(Code::UnknownTable, detail).with("table", table)
}

fn uncompressed(error: &io::Error) -> Problem {
    tracing::error!(%error, "an answer cannot be compressed");
    Problem::new(Code::Storage, "the answer cannot be compressed; ask for it without compression")
}

/// One answer, as the body of a response. Dropping it ends the subscription.
pub struct Answer {
    format: Format,
    encoding: Encoding,
    meter: Meter,
    compressor: Compressor,
    /// The batch in hand.
    ready: VecDeque<Bytes>,
    turn: Turn,
}

/// What an answer is made from.
enum Giver {
    /// A log.
    Log(Box<Feed>),
    /// Snapshot storage.
    Storage(Box<Pieces>),
}

impl Giver {
    async fn next(&mut self) -> Result<Batch, Problem> {
        match self {
            Giver::Log(feed) => feed.next().await,
            Giver::Storage(pieces) => pieces.next().await,
        }
    }

    /// Where the subscriber is, if anybody knows.
    fn checkpoint(&self) -> Option<Checkpoint> {
        match self {
            Giver::Log(feed) => feed.checkpoint(),
            Giver::Storage(pieces) => pieces.checkpoint(),
        }
    }
}

type Next = Pin<Box<dyn Future<Output = (Giver, Result<Batch, Problem>)> + Send>>;

/// What comes after the batch in hand.
enum Turn {
    /// It is worked on.
    Next(Next),
    /// The trailers.
    End(HeaderMap),
    /// Nothing.
    Over,
}

impl Answer {
    fn begin(
        format: Format,
        encoding: Encoding,
        meter: Meter,
        giver: Giver,
        first: Batch,
    ) -> Result<Answer, Problem> {
        let compressor = Compressor::new(encoding).map_err(|error| uncompressed(&error))?;
        let mut answer =
            Answer { format, encoding, meter, compressor, ready: VecDeque::new(), turn: Turn::Over };
        answer.take(giver, first)?;
        Ok(answer)
    }

    /// The type of what comes.
    pub fn content_type(&self) -> &'static str {
        self.format.content_type()
    }

    /// The headers of the response: type, encoding, the trailer that comes, and that nobody is to keep or buffer it.
    pub fn headers(&self) -> HeaderMap {
        let value = HeaderValue::from_static;
        let mut headers = HeaderMap::from_iter([
            (header::CONTENT_TYPE, value(self.content_type())),
            (header::CACHE_CONTROL, value("no-store")),
            (header::VARY, value("accept, accept-encoding")),
            (HeaderName::from_static("x-accel-buffering"), value("no")),
        ]);
        match self.encoding {
            Encoding::Identity => {}
            Encoding::Gzip => drop(headers.insert(header::CONTENT_ENCODING, value("gzip"))),
            Encoding::Zstd => drop(headers.insert(header::CONTENT_ENCODING, value("zstd"))),
        }
        if self.format != Format::Frames {
            headers.insert(header::TRAILER, value("tidemill-checkpoint"));
        }
        headers
    }

    /// Takes a batch in hand, and has the next one worked on when it is needed.
    fn take(&mut self, mut giver: Giver, batch: Batch) -> Result<(), Problem> {
        let parts =
            self.compressor.compress(batch.parts, batch.ends).map_err(|error| uncompressed(&error))?;
        self.ready.extend(parts);
        self.turn = if batch.ends {
            Turn::End(self.trailers(&giver))
        } else {
            Turn::Next(Box::pin(async move {
                let batch = giver.next().await;
                (giver, batch)
            }))
        };
        Ok(())
    }

    fn trailers(&self, giver: &Giver) -> HeaderMap {
        let checkpoint = giver.checkpoint().filter(|_| self.format != Format::Frames);
        let value = |checkpoint| {
            HeaderValue::from_str(&checkpoint_text(&checkpoint)).expect("base64 is a header's value")
        };
        checkpoint.map(|checkpoint| (CHECKPOINT_TRAILER, value(checkpoint))).into_iter().collect()
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Problem;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Problem>>> {
        let answer = self.get_mut();
        loop {
            if let Some(bytes) = answer.ready.pop_front() {
                answer.meter.bytes(bytes.len());
                return Poll::Ready(Some(Ok(http_body::Frame::data(bytes))));
            }
            let (giver, batch) = match std::mem::replace(&mut answer.turn, Turn::Over) {
                Turn::Over => return Poll::Ready(None),
                Turn::End(trailers) if trailers.is_empty() => return Poll::Ready(None),
                Turn::End(trailers) => return Poll::Ready(Some(Ok(http_body::Frame::trailers(trailers)))),
                Turn::Next(mut next) => match next.poll_unpin(context) {
                    Poll::Ready(done) => done,
                    Poll::Pending => {
                        answer.turn = Turn::Next(next);
                        return Poll::Pending;
                    }
                },
            };
            if let Err(failed) = batch.and_then(|batch| answer.take(giver, batch)) {
                return Poll::Ready(Some(Err(failed)));
            }
        }
    }
}
