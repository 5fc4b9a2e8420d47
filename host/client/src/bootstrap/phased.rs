//! A feed that begins with a snapshot where the consumer has nothing, and goes over deltas where the stream no longer has
//! what follows, as often as that happens. Whether a relay answers is not its business: it waits, as the stream does.
//!
//! ```text
//! reading ──"the stream follows here"──▶ streaming ──"what follows is gone"──▶ reading
//! ```

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use tidemill_event::{Checkpoint, Phase, Remedy, Span, Timeline, Window, chain};
use tracing::{info, warn};

use super::{Bootstrap, Piece, Stream};
use crate::{Backoff, Feed};

/// See the module.
pub struct PhasedFeed<S, B> {
    stream: S,
    /// `None`: the stream is all there is.
    bootstrap: Option<B>,
    turn: Turn,
    /// Everything up to here was given, whole: a window that says nothing but that.
    place: Option<Window>,
    /// Parts of a transaction were given, and its end was not.
    is_open: bool,
    /// The window that was given last stands alone: nothing that follows is merged with it.
    is_alone: bool,
    /// How often snapshot storage was asked in vain since anything new came.
    vain: u32,
    backoff: Backoff,
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// The stream's, which is still to be told where it begins.
    Begin,
    /// The stream's.
    Streaming,
    /// Snapshot storage's.
    Reading,
    /// Snapshot storage's, as soon as the parts of a transaction are rolled back.
    Parted,
}

/// Why a feed of both cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum PhasedError<S: Error + 'static, B: Error + 'static> {
    /// The stream cannot.
    #[error(transparent)]
    Stream(S),
    /// Snapshot storage cannot.
    #[error(transparent)]
    Bootstrap(B),
    /// The stream lost what follows within a transaction of which parts were given.
    #[error(
        "what follows is gone within a transaction; what was given of it is to be rolled back, then deltas follow"
    )]
    Parted,
}

impl<S: Stream, B: Bootstrap> PhasedFeed<S, B> {
    /// A feed behind the checkpoint; `None`: the consumer has nothing, and begins with a snapshot. The stream is told where it
    /// begins when it is its turn.
    pub fn new(stream: S, bootstrap: B, have: Option<Checkpoint>) -> PhasedFeed<S, B> {
        let streams = have.as_ref().is_some_and(|have| have.phase == Phase::Stream);
        let turn = if streams { Turn::Begin } else { Turn::Reading };
        PhasedFeed::at(stream, Some(bootstrap), turn, have.as_ref().map(place))
    }

    /// The stream alone, which stands where it is to begin: a feed of the same type for whoever has no snapshot storage.
    pub fn without_storage(stream: S) -> PhasedFeed<S, B> {
        PhasedFeed::at(stream, None, Turn::Streaming, None)
    }

    fn at(stream: S, bootstrap: Option<B>, turn: Turn, place: Option<Window>) -> PhasedFeed<S, B> {
        let (is_open, is_alone, vain) = (false, false, 0);
        PhasedFeed { stream, bootstrap, turn, place, is_open, is_alone, vain, backoff: Backoff::default() }
    }

    /// With other waits than the usual ones between questions to a storage that has nothing new.
    pub fn with_backoff(self, backoff: Backoff) -> PhasedFeed<S, B> {
        PhasedFeed { backoff, ..self }
    }

    /// The checkpoint of whoever has everything that was given; `None`: nothing was.
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        self.place.as_ref().map(Window::checkpoint)
    }

    /// The stream's side, for what it tells about itself.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// The stream's side, for what it is told: where it ends.
    pub fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Tells the stream where to begin.
    fn begin(&mut self) -> Result<(), S::Error> {
        let have = self.checkpoint().expect("the stream has its turn where something was given");
        self.stream.begin(&have)?;
        self.turn = Turn::Streaming;
        Ok(())
    }

    /// Whether an error means that snapshot storage has its turn.
    fn is_gone(&self, error: &S::Error) -> bool {
        self.bootstrap.is_some() && S::is_gone(error)
    }

    /// The stream no longer has what follows.
    fn fall(&mut self, error: &S::Error) {
        let at = self.place.as_ref().map(Window::position);
        info!(?at, error = %chain(error), "what follows is gone from the stream; deltas since then are read");
        self.turn = if self.is_open { Turn::Parted } else { Turn::Reading };
    }

    /// One step of the stream's turn; `None`: it is somebody else's, or there is nothing yet.
    async fn streamed(&mut self) -> Result<Option<Option<Arc<Window>>>, S::Error> {
        let next = match self.turn {
            Turn::Begin => match self.begin() {
                Ok(()) => self.stream.next().await,
                // A log that has nothing yet; the storage may come from elsewhere.
                Err(error) if S::remedy(&error) == Remedy::Wait => {
                    self.vain += 1;
                    tokio::time::sleep(self.wait()).await;
                    return Ok(None);
                }
                Err(error) => Err(error),
            },
            _ => self.stream.next().await,
        };
        match next {
            Ok(next) => {
                next.iter().for_each(|window| self.gave(window));
                Ok(Some(next))
            }
            Err(error) if self.is_gone(&error) => {
                self.fall(&error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn gave(&mut self, window: &Window) {
        (self.vain, self.is_alone) = (0, false);
        self.is_open = window.transactions.last().is_some_and(|t| !t.part.completes());
        if !self.is_open {
            self.place = Some(end_of(window));
        }
    }

    /// One step of snapshot storage's turn; `None`: it is the stream's, and there is nothing to tell.
    async fn read(&mut self) -> Result<Option<Arc<Window>>, B::Error> {
        if self.vain > 0 {
            // Nothing is held meanwhile: safe to leave.
            tokio::time::sleep(self.wait()).await;
        }
        let have = self.checkpoint();
        let bootstrap = self.bootstrap.as_mut().expect("it has its turn only where it is");
        match bootstrap.next(have.as_ref()).await {
            Ok(Piece::Window(window)) => {
                (self.vain, self.is_alone) = (0, true);
                self.place = Some(end_of(&window));
                Ok(Some(window))
            }
            Ok(Piece::Stream(checkpoint)) => {
                self.turn = Turn::Begin;
                if have.as_ref() == Some(&checkpoint) {
                    // Should the stream not have what follows here either, the storage must get on first.
                    self.vain += 1;
                    return Ok(None);
                }
                info!(at = %checkpoint.position, "everything that is stored was read; the stream follows");
                (self.vain, self.is_alone) = (0, true);
                let place = place(&checkpoint);
                self.place = Some(place.clone());
                Ok(Some(Arc::new(place)))
            }
            Err(error) if B::remedy(&error) == Remedy::Wait => {
                if self.vain == 0 {
                    warn!(error = %chain(&error), "snapshot storage has nothing yet; asked again until it has");
                }
                self.vain += 1;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn wait(&self) -> Duration {
        self.backoff.wait(self.vain - 1, crate::random::number())
    }
}

impl<S: Stream, B: Bootstrap> Feed for PhasedFeed<S, B> {
    type Error = PhasedError<S::Error, B::Error>;

    async fn next(&mut self) -> Result<Option<Arc<Window>>, Self::Error> {
        loop {
            match self.turn {
                Turn::Begin | Turn::Streaming => {
                    if let Some(next) = self.streamed().await.map_err(PhasedError::Stream)? {
                        return Ok(next);
                    }
                }
                Turn::Reading => {
                    if let Some(window) = self.read().await.map_err(PhasedError::Bootstrap)? {
                        return Ok(Some(window));
                    }
                }
                Turn::Parted => return Err(PhasedError::Parted),
            }
        }
    }

    fn try_next(&mut self) -> Result<Option<Arc<Window>>, Self::Error> {
        if self.turn != Turn::Streaming || self.is_alone {
            return Ok(None);
        }
        match self.stream.try_next() {
            Ok(next) => {
                next.iter().for_each(|window| self.gave(window));
                Ok(next)
            }
            // `next` gives it again, and knows what it means.
            Err(error) if self.is_gone(&error) => Ok(None),
            Err(error) => Err(PhasedError::Stream(error)),
        }
    }

    fn rewind(&mut self) -> Result<(), Self::Error> {
        self.is_open = false;
        match self.turn {
            Turn::Parted => {
                self.turn = Turn::Reading;
                Ok(())
            }
            Turn::Streaming => self.stream.rewind().map_err(PhasedError::Stream),
            Turn::Begin | Turn::Reading => Ok(()),
        }
    }

    fn remedy(error: &Self::Error) -> Remedy {
        match error {
            PhasedError::Stream(error) => S::remedy(error),
            PhasedError::Bootstrap(error) => B::remedy(error),
            PhasedError::Parted => Remedy::Retry,
        }
    }
}

/// The place of a checkpoint, as a window that only moves a reader there.
fn place(checkpoint: &Checkpoint) -> Window {
    let timeline =
        Timeline { number: checkpoint.position.timeline, server: checkpoint.server.as_str().into() };
    let span = Span { after: checkpoint.position.scn, upto: checkpoint.position.scn };
    let (source, executed) = (checkpoint.source.as_str().into(), checkpoint.gtid_set.as_str().into());
    Window { phase: checkpoint.phase.clone(), ..Window::empty(source, timeline, span, executed) }
}

/// The place behind a window.
fn end_of(window: &Window) -> Window {
    let span = Span { after: window.span.upto, upto: window.span.upto };
    let (source, executed) = (Arc::clone(&window.source), Arc::clone(&window.executed));
    Window { phase: window.phase.clone(), ..Window::empty(source, window.timeline.clone(), span, executed) }
}
