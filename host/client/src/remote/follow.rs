//! The task behind a feed: asks one relay after the other, reads frames as they come, and hands on the windows that
//! follow. It holds no more bytes than its permits allow; each window carries its own until it is done with.
//!
//! ```text
//! relay ─▶ bytes ─▶ frames ─▶ checksum, schemas ─▶ window ─▶ does it follow? ─▶ queue
//!   ▲                 │ room for it is waited for before its bytes are taken: the connection waits
//!   └── lost, silent, damaged, refused: the next relay; a round over all of them: a wait
//! ```

use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt;
use tidemill_event::{Decoded, Frame, FrameError, SchemaSet, Window, decode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tracing::{debug, info, warn};

use super::ask;
use super::connection::{Caller, lost};
use super::error::ClientError;
use super::frames::{Frames, Progress};
use super::options::{Relay, RelayOptions};
use super::place::{Answer, Place, Start, Wrong};
use super::source::SourceInfo;
use super::unpack::Unpack;
use crate::limits::{GONE_ROUNDS_MAX, HEARTBEATS_SILENT, WINDOW_BYTES_LEAST};
use tidemill_event::chain;

/// What a feed and its task share.
pub(crate) struct Shared {
    pub(crate) options: RelayOptions,
    pub(crate) relays: Vec<Relay>,
    pub(crate) caller: Caller,
    pub(crate) permits: Arc<Semaphore>,
    pub(crate) link: Mutex<Link>,
    pub(crate) listener: OnceLock<Listener>,
}

/// Is told that a relay answers, or why it does not.
pub(crate) type Listener = Box<dyn Fn(Option<&str>) + Send + Sync>;

/// How a feed is connected.
#[derive(Clone, Debug, Default)]
pub struct Link {
    /// The relay that it reads from now.
    pub relay: Option<String>,
    /// When anything came from a relay, be it a heartbeat.
    pub heard: Option<Instant>,
    /// How often it had to connect again.
    pub reconnects: u64,
    /// Why it did so last.
    pub last_error: Option<String>,
}

/// A window on its way.
pub(crate) struct Item {
    pub(crate) window: Window,
    /// The frame that it came in, where nothing was changed.
    pub(crate) frame: Option<Frame>,
    pub(crate) permit: OwnedSemaphorePermit,
}

pub(crate) type Items = mpsc::Sender<Result<Item, ClientError>>;

/// Why one relay is left.
enum Left {
    /// It ended its answer in good order.
    Orderly,
    /// It failed or refused.
    Failed(ClientError),
    /// Nobody takes windows any more.
    Unwanted,
}

impl From<ClientError> for Left {
    fn from(error: ClientError) -> Left {
        Left::Failed(error)
    }
}

/// See the module.
pub(crate) struct Follower {
    pub(crate) shared: Arc<Shared>,
    pub(crate) place: Place,
    pub(crate) items: Items,
}

impl Follower {
    /// Runs until nobody takes windows any more, or until every relay has refused: then the error is its last word. So it is
    /// when what follows is gone from a relay that answers, and the others have given nothing for some rounds.
    pub(crate) async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let count = shared.relays.len();
        let (mut refusals, mut at, mut failures) = (vec![false; count], 0, 0u32);
        loop {
            let before = self.place.position();
            let left = self.follow(&shared.relays[at]).await;
            if self.place.position() != before {
                (refusals, failures) = (vec![false; count], 0);
            }
            let error = match left {
                Left::Unwanted => return,
                Left::Orderly => None,
                Left::Failed(error) => Some(error),
            };
            self.note(&shared.relays[at], error.as_ref());
            refusals[at] = error.as_ref().is_some_and(ClientError::is_final);
            let is_gone = matches!(error, Some(ClientError::TooOld { .. }));
            let is_last = is_gone && failures as usize >= GONE_ROUNDS_MAX * count;
            if let Some(error) = error.filter(|_| is_last || refusals.iter().all(|refused| *refused)) {
                // A closed channel says that nobody wants to know.
                let _ = self.items.send(Err(error)).await;
                return;
            }
            (at, failures) = ((at + 1) % count, failures.saturating_add(1));
            if (failures as usize).is_multiple_of(count) {
                let round = failures / count as u32 - 1;
                tokio::time::sleep(shared.options.backoff.wait(round, crate::random::number())).await;
            }
        }
    }

    /// Says once what ended with a relay.
    fn note(&self, relay: &Relay, error: Option<&ClientError>) {
        let (source, at) = (&self.shared.options.source, self.place.at());
        let text = error.map(|error| chain(error));
        match &text {
            Some(error) => warn!(%source, %relay, %at, %error, "a relay gives nothing more"),
            None => info!(%source, %relay, %at, "a relay has ended its answer"),
        }
        if let Some(listener) = self.shared.listener.get() {
            listener(Some(text.as_deref().unwrap_or("the relay has ended its answer")));
        }
        let mut link = self.shared.link.lock().expect("no holder panics");
        link.relay = None;
        link.reconnects += 1;
        link.last_error = text.or(link.last_error.take());
    }

    async fn follow(&mut self, relay: &Relay) -> Left {
        match self.read(relay).await {
            Ok(()) => Left::Orderly,
            Err(left) => left,
        }
    }

    async fn read(&mut self, relay: &Relay) -> Result<(), Left> {
        let shared = Arc::clone(&self.shared);
        if self.place.ask() == Start::Now {
            self.settle_now(relay).await?;
        }
        let question = ask::changes(&shared.options, &self.place.ask());
        let mut answered = shared.caller.ask(relay, &question).await?;
        debug!(source = %shared.options.source, %relay, at = %self.place.at(), "a relay answers");
        self.heard(Some(relay));
        let mut reading = Reading {
            relay,
            frames: Frames::default(),
            schemas: SchemaSet::default(),
            answer: Answer::default(),
            permit: None,
        };
        let mut unpack = Unpack::new(answered.compressed).map_err(|source| lost(relay, source))?;
        let time = self.silence();
        loop {
            let next = tokio::time::timeout(time, answered.body.frame()).await;
            let next = next.map_err(|_| ClientError::Silent { relay: relay.to_string(), time })?;
            let Some(next) = next else { break };
            let next = next.map_err(|source| lost(relay, source))?;
            self.heard(None);
            let Ok(data) = next.into_data() else { continue };
            self.unpack(&mut reading, &mut unpack, &data).await?;
        }
        match reading.frames.is_between() {
            true => Ok(()),
            false => Err(lost(relay, "the answer ends within a frame").into()),
        }
    }

    async fn unpack(
        &mut self,
        reading: &mut Reading<'_>,
        unpack: &mut Unpack,
        data: &Bytes,
    ) -> Result<(), Left> {
        let mut packed = &data[..];
        while let Some(piece) = unpack.next(&mut packed).map_err(|source| lost(reading.relay, source))? {
            self.take(reading, piece).await?;
        }
        Ok(())
    }

    /// Takes bytes of frames.
    async fn take(&mut self, reading: &mut Reading<'_>, mut bytes: &[u8]) -> Result<(), Left> {
        while !bytes.is_empty() {
            match reading.frames.take(&mut bytes).map_err(|source| reading.damaged(source))? {
                Progress::More => {}
                Progress::Begun(header) => {
                    if header.is_window {
                        reading.permit = Some(self.room(header.length).await);
                    }
                }
                Progress::Whole(frame) => match decode(&frame, &reading.schemas) {
                    Ok(Decoded::Schema(schema)) => drop(reading.schemas.insert(schema)),
                    Ok(Decoded::Window(window)) => self.hand_on(reading, window, frame).await?,
                    Err(source) => return Err(reading.damaged(source).into()),
                },
            }
        }
        Ok(())
    }

    /// Waits until there is room for a window. One that is larger than all of it waits until there is no other.
    async fn room(&self, length: usize) -> OwnedSemaphorePermit {
        let bytes = length.max(WINDOW_BYTES_LEAST).min(self.shared.options.in_flight_bytes);
        let permits = Arc::clone(&self.shared.permits);
        let permit = permits.acquire_many_owned(bytes as u32).await;
        permit.expect("nobody closes the semaphore")
    }

    async fn hand_on(&mut self, reading: &mut Reading<'_>, window: Window, frame: Frame) -> Result<(), Left> {
        let permit = reading.permit.take().expect("a window's frame began with it");
        let taken =
            self.place.take(&mut reading.answer, window).map_err(|wrong| self.wrong(reading, wrong))?;
        let Some((window, changed)) = taken else { return Ok(()) };
        self.place.gave(&window);
        let frame = (!changed).then_some(frame);
        self.items.send(Ok(Item { window, frame, permit })).await.map_err(|_| Left::Unwanted)
    }

    fn wrong(&self, reading: &Reading<'_>, wrong: Wrong) -> ClientError {
        let (relay, at) = (reading.relay.to_string(), self.place.at());
        match wrong {
            Wrong::Misplaced(what) => ClientError::Misplaced { relay, at, what },
            Wrong::Parted(what) => ClientError::Parted { relay, at, what },
        }
    }

    /// Makes a checkpoint of "now", so that a connection which is lost before the first window loses nothing with it.
    async fn settle_now(&mut self, relay: &Relay) -> Result<(), ClientError> {
        let info = SourceInfo::ask(&self.shared.caller, relay, &self.shared.options.source).await?;
        // Where nothing is there yet, all that comes is what commits from now on.
        self.place.begin(info.checkpoint.map_or(Start::Earliest, Start::At));
        Ok(())
    }

    fn heard(&self, relay: Option<&Relay>) {
        let mut link = self.shared.link.lock().expect("no holder panics");
        link.heard = Some(Instant::now());
        if let Some(relay) = relay {
            link.relay = Some(relay.to_string());
        }
        if let Some(listener) = self.shared.listener.get() {
            listener(None);
        }
    }

    fn silence(&self) -> Duration {
        self.shared.options.heartbeat.max(Duration::from_secs(1)) * HEARTBEATS_SILENT
    }
}

/// What is read of one answer.
struct Reading<'a> {
    relay: &'a Relay,
    frames: Frames,
    schemas: SchemaSet,
    answer: Answer,
    /// Room for the window whose frame has begun.
    permit: Option<OwnedSemaphorePermit>,
}

impl Reading<'_> {
    fn damaged(&self, source: FrameError) -> ClientError {
        ClientError::Damaged { relay: self.relay.to_string(), source }
    }
}
