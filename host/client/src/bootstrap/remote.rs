//! Snapshot storage behind relays elsewhere, over HTTP. It asks one of them and reads as long as that goes well; whatever
//! happens, it goes on at another one, or at the same a little later, behind the last piece that it gave.

use std::collections::VecDeque;

use http_body_util::BodyExt;
use tidemill_event::{
    Checkpoint, Decoded, Frame, Phase, Remedy, SchemaSet, Window, chain, decode_checkpoint, decode_piece,
};
use tracing::{debug, warn};

use super::{Bootstrap, Piece};
use crate::remote::{
    Answered, Caller, Frames, Progress, Relay, Unpack, ask_snapshot, caller_of, lost, relays_of,
};
use crate::{ClientError, RelayOptions};

/// See the module.
pub struct RelayBootstrap {
    options: RelayOptions,
    relays: Vec<Relay>,
    caller: Caller,
    /// The relay that is asked next, or read from.
    at: usize,
    /// Which relays have refused for good since the last piece came.
    refusals: Vec<bool>,
    /// How many questions failed since then.
    failures: u32,
    reading: Option<Reading>,
}

/// What is read of one answer.
struct Reading {
    relay: Relay,
    answered: Answered,
    unpack: Unpack,
    frames: Frames,
    schemas: SchemaSet,
    /// The checkpoint behind the window that comes next.
    ahead: Option<Checkpoint>,
    ready: VecDeque<Piece>,
    /// Whoever has everything that was given of it has this.
    given: Option<Checkpoint>,
}

impl RelayBootstrap {
    /// Reads the settings and the files that they name; connects when it is first asked. With the settings of the feed that
    /// follows, it shows what that one does.
    pub fn new(options: RelayOptions) -> Result<RelayBootstrap, ClientError> {
        let relays = relays_of(&options)?;
        let caller = caller_of(&options, &relays)?;
        let refusals = vec![false; relays.len()];
        Ok(RelayBootstrap { options, relays, caller, at: 0, refusals, failures: 0, reading: None })
    }

    /// The next piece that the relay in hand gives; `None`: it has ended its answer before the end.
    async fn given(&mut self, have: Option<&Checkpoint>) -> Result<Option<Piece>, ClientError> {
        if self.reading.as_ref().is_none_or(|reading| reading.given.as_ref() != have) {
            self.reading = None;
            let relay = self.relays[self.at].clone();
            let question = ask_snapshot(&self.options, have);
            let answered = self.caller.ask(&relay, &question).await?;
            debug!(source = %self.options.source, %relay, "a relay answers from snapshot storage");
            self.reading = Some(Reading::new(relay, answered, have.cloned())?);
        }
        let reading = self.reading.as_mut().expect("it was opened above");
        reading.next(&self.options).await
    }

    /// Goes on to the next relay, after a round over all of them a little later; `Some`: every one has refused.
    async fn failed(&mut self, error: Option<ClientError>) -> Option<ClientError> {
        let relay = self.relays[self.at].to_string();
        let text = error.as_ref().map(|error| chain(error));
        warn!(source = %self.options.source, %relay, error = text, "a relay gives nothing more of a snapshot");
        self.reading = None;
        self.refusals[self.at] = error.as_ref().is_some_and(|error| error.is_final() && !is_early(error));
        if self.refusals.iter().all(|refused| *refused) {
            self.refusals.fill(false);
            return error;
        }
        self.at = (self.at + 1) % self.relays.len();
        self.failures = self.failures.saturating_add(1);
        let count = self.relays.len() as u32;
        if self.failures.is_multiple_of(count) {
            let round = self.failures / count - 1;
            tokio::time::sleep(self.options.backoff.wait(round, crate::random::number())).await;
        }
        None
    }
}

/// Whether it may answer otherwise later, without anybody's doing.
fn is_early(error: &ClientError) -> bool {
    matches!(error, ClientError::Refused { code, .. } if code == "nothing-yet")
}

impl Bootstrap for RelayBootstrap {
    type Error = ClientError;

    async fn next(&mut self, have: Option<&Checkpoint>) -> Result<Piece, ClientError> {
        loop {
            let failed = match self.given(have).await {
                Ok(Some(piece)) => {
                    self.refusals.fill(false);
                    self.failures = 0;
                    return Ok(piece);
                }
                Ok(None) => self.failed(None).await,
                Err(error) => self.failed(Some(error)).await,
            };
            if let Some(error) = failed {
                return Err(error);
            }
        }
    }

    fn remedy(error: &ClientError) -> Remedy {
        error.remedy()
    }
}

impl Reading {
    fn new(relay: Relay, answered: Answered, have: Option<Checkpoint>) -> Result<Reading, ClientError> {
        let unpack = Unpack::new(answered.compressed).map_err(|source| lost(&relay, source))?;
        Ok(Reading {
            relay,
            answered,
            unpack,
            frames: Frames::default(),
            schemas: SchemaSet::default(),
            ahead: None,
            ready: VecDeque::new(),
            given: have,
        })
    }

    /// The next piece; `None`: the answer has ended. Cancel-safe: bytes are taken whole.
    async fn next(&mut self, options: &RelayOptions) -> Result<Option<Piece>, ClientError> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                self.given = Some(match &piece {
                    Piece::Window(window) => window.checkpoint(),
                    Piece::Stream(checkpoint) => checkpoint.clone(),
                });
                return Ok(Some(piece));
            }
            let time = options.patience;
            let next = tokio::time::timeout(time, self.answered.body.frame()).await;
            let next = next.map_err(|_| ClientError::Silent { relay: self.relay.to_string(), time })?;
            let Some(next) = next else { return Ok(None) };
            let next = next.map_err(|source| lost(&self.relay, source))?;
            let Ok(data) = next.into_data() else { continue };
            self.unpack(&data, &options.source)?;
        }
    }

    fn unpack(&mut self, data: &[u8], source: &str) -> Result<(), ClientError> {
        let mut packed = data;
        let mut frames = Vec::new();
        let damaged = |relay: &Relay, source| ClientError::Damaged { relay: relay.to_string(), source };
        loop {
            let piece = self.unpack.next(&mut packed).map_err(|source| lost(&self.relay, source))?;
            let Some(mut bytes) = piece else { break };
            while !bytes.is_empty() {
                let taken = self.frames.take(&mut bytes).map_err(|source| damaged(&self.relay, source))?;
                if let Progress::Whole(frame) = taken {
                    frames.push(frame);
                }
            }
        }
        frames.iter().try_for_each(|frame| self.take(frame, source))
    }

    fn take(&mut self, frame: &Frame, source: &str) -> Result<(), ClientError> {
        let damaged = |source| ClientError::Damaged { relay: self.relay.to_string(), source };
        if let Some(checkpoint) = decode_checkpoint(frame).map_err(damaged)? {
            if checkpoint.source != source {
                return Err(self.foreign("a checkpoint of another source"));
            }
            match checkpoint.phase {
                Phase::Stream => self.ready.push_back(Piece::Stream(checkpoint)),
                _ => self.ahead = Some(checkpoint),
            }
            return Ok(());
        }
        let phase = self.ahead.as_ref().map(|checkpoint| checkpoint.phase.clone()).unwrap_or_default();
        match decode_piece(frame, &self.schemas, phase).map_err(damaged)? {
            Decoded::Schema(schema) => drop(self.schemas.insert(schema)),
            Decoded::Window(window) => {
                let window = self.checked(window)?;
                self.ready.push_back(Piece::Window(window.into()));
            }
        }
        Ok(())
    }

    /// The window, if it is the one that its checkpoint told of.
    fn checked(&mut self, window: Window) -> Result<Window, ClientError> {
        match self.ahead.take() {
            Some(checkpoint) if checkpoint == window.checkpoint() => Ok(window),
            _ => Err(self.foreign("a window without its checkpoint")),
        }
    }

    fn foreign(&self, what: &str) -> ClientError {
        ClientError::Foreign { relay: self.relay.to_string(), what: what.to_owned(), passing: false }
    }
}
