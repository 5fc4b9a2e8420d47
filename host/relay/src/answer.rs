//! From what is asked to the bytes of the body: reads the log, evaluates the selection, writes the format, compresses.
//! Who may ask what, and how the bytes reach the network, is the server's.
//!
//! An answer is polled: it reads on when its connection takes more, so a slow subscriber makes nobody wait but itself,
//! and holds one batch. What subscribers of one selection have in common is done once, see `view`.

mod meter;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use tokio::sync::watch;

use crate::{Asked, Code, Format, Guests, Problem, Served};

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
    _guests: Arc<dyn Guests>,
    _config: AnswerConfig,
}

impl Answers {
    /// Guests are opened by name through `guests`.
    pub fn new(guests: Arc<dyn Guests>, config: AnswerConfig) -> Answers {
        Answers { _guests: guests, _config: config }
    }

    /// The answer to a request. Whatever can be refused is refused here, so that the status is right: what comes later
    /// aborts the body, and the subscriber learns it when it asks again from its checkpoint. The first windows are read
    /// and evaluated already when this returns, if they are there.
    ///
    /// When `stop` turns true the body ends in an orderly way, at the end of a window.
    pub async fn open(
        &self,
        _source: &Served,
        _asked: Asked,
        _encoding: Encoding,
        _meter: Meter,
        _stop: watch::Receiver<bool>,
    ) -> Result<Answer, Problem> {
        Err(Problem::new(Code::ShuttingDown, "this relay does not answer yet"))
    }

    /// What was done so far.
    pub fn stats(&self) -> AnswersStats {
        AnswersStats::default()
    }
}

/// One answer, as the body of a response.
pub struct Answer {
    format: Format,
    encoding: Encoding,
}

impl Answer {
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
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Problem;

    fn poll_frame(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Problem>>> {
        Poll::Ready(None)
    }
}
