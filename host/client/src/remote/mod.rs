//! A feed from relays elsewhere, over HTTP. It asks one relay and reads as long as that goes well; whatever happens, it
//! goes on at another one, or at the same a little later, exactly behind the last window that it gave.

mod ask;
mod connection;
mod cut;
mod error;
mod follow;
mod frames;
mod options;
mod place;
mod reports;
mod source;
mod tls;
mod unpack;

use std::sync::{Arc, Mutex, OnceLock};

use http::HeaderValue;
use tidemill_event::{Checkpoint, Frame, Position, Remedy, Window};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::AbortHandle;

pub use error::ClientError;
pub use follow::Link;
pub use options::{Backoff, ClientTls, RelayOptions, Selection, Token};
pub use place::Start;
pub use reports::Reports;
pub use source::SourceInfo;

pub(crate) use ask::snapshot as ask_snapshot;
pub(crate) use connection::{Answered, Caller, lost};
pub(crate) use frames::{Frames, Progress};
pub(crate) use options::Relay;
pub(crate) use unpack::Unpack;

use crate::{Feed, Stream};
use follow::{Follower, Item, Shared};
use place::Place;
use tls::Encryption;

/// Windows on their way are bounded by their bytes; this only sizes the queue.
const QUEUE_WINDOWS: usize = 1024;

/// See the module.
pub struct RelayFeed {
    shared: Arc<Shared>,
    /// Behind what was given; the task may be ahead.
    place: Place,
    task: Option<Task>,
    /// Room of the windows that were given and are not done with.
    held: Vec<OwnedSemaphorePermit>,
    end: Option<Checkpoint>,
    is_over: bool,
}

struct Task {
    items: mpsc::Receiver<Result<Item, ClientError>>,
    handle: AbortHandle,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

impl RelayFeed {
    /// Reads the settings and the files that they name; connects when it is first asked.
    pub fn new(options: RelayOptions, start: Start) -> Result<RelayFeed, ClientError> {
        let relays = relays_of(&options)?;
        let caller = caller_of(&options, &relays)?;
        let permits = Arc::new(Semaphore::new(options.in_flight_bytes));
        let (link, listener) = (Mutex::new(Link::default()), OnceLock::new());
        let place = Place::new(&options.source, start);
        let shared = Arc::new(Shared { options, relays, caller, permits, link, listener });
        Ok(RelayFeed { shared, place, task: None, held: Vec::new(), end: None, is_over: false })
    }

    /// What the relays have: the first that answers says it.
    pub async fn source(&self) -> Result<SourceInfo, ClientError> {
        let mut failed = None;
        for relay in &self.shared.relays {
            match SourceInfo::ask(&self.shared.caller, relay, &self.shared.options.source).await {
                Ok(info) => return Ok(info),
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.expect("there is a relay"))
    }

    /// Ends the feed when everything up to there was given.
    pub fn end_at(&mut self, end: Checkpoint) {
        self.end = Some(end);
    }

    /// Ends the feed now: there is nothing to give.
    pub fn end_now(&mut self) {
        self.is_over = true;
    }

    /// Everything up to here was given, whole.
    pub fn position(&self) -> Option<Position> {
        self.place.position()
    }

    /// The checkpoint of whoever has everything that was given.
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        self.place.checkpoint()
    }

    /// How it is connected.
    pub fn link(&self) -> Link {
        self.shared.link.lock().expect("no holder panics").clone()
    }

    /// Tells whether a relay answers, each time that anything comes from one (`None`) and when one gives nothing more (why;
    /// never a secret). Called by the feed's own task: it must not wait.
    pub fn tells(&self, listener: impl Fn(Option<&str>) + Send + Sync + 'static) {
        // The first listener stays: there is one owner, who says it once.
        let _ = self.shared.listener.set(Box::new(listener));
    }

    /// Bytes of windows that are decoded and not done with.
    pub fn in_flight_bytes(&self) -> usize {
        self.shared.options.in_flight_bytes - self.shared.permits.available_permits()
    }

    /// As [`Feed::next`], with the frame that the window came in, where it is given as it came.
    pub async fn next_framed(&mut self) -> Result<Option<(Window, Option<Frame>)>, ClientError> {
        self.held.clear();
        loop {
            if self.is_at_end() {
                return Ok(None);
            }
            let shared = &self.shared;
            let task = self.task.get_or_insert_with(|| start(shared, &self.place));
            match task.items.recv().await {
                Some(item) => return self.give(item).map(Some),
                // The runtime took the task away; another one goes on.
                None => self.task = None,
            }
        }
    }

    fn try_next_framed(&mut self) -> Result<Option<(Window, Option<Frame>)>, ClientError> {
        let is_at_end = self.is_at_end();
        match self.task.as_mut().filter(|_| !is_at_end).map(|task| task.items.try_recv()) {
            Some(Ok(item)) => self.give(item).map(Some),
            Some(Err(_)) | None => Ok(None),
        }
    }

    fn is_at_end(&self) -> bool {
        self.is_over || self.end.as_ref().is_some_and(|end| self.place.has_reached(end))
    }

    fn give(&mut self, item: Result<Item, ClientError>) -> Result<(Window, Option<Frame>), ClientError> {
        match item {
            Ok(Item { window, frame, permit }) => {
                self.place.gave(&window);
                self.held.push(permit);
                Ok((window, frame))
            }
            Err(error) => {
                // The next call asks all relays again.
                self.task = None;
                Err(error)
            }
        }
    }
}

fn start(shared: &Arc<Shared>, place: &Place) -> Task {
    let (sender, items) = mpsc::channel(QUEUE_WINDOWS);
    let follower = Follower { shared: Arc::clone(shared), place: place.clone(), items: sender };
    Task { items, handle: tokio::spawn(follower.run()).abort_handle() }
}

/// What cannot be, whatever the relays say.
/// The relays of the settings, which must be sound.
pub(crate) fn relays_of(options: &RelayOptions) -> Result<Vec<Relay>, ClientError> {
    let relays = options.relays.iter().map(|text| Relay::parse(text)).collect::<Result<Vec<_>, _>>()?;
    check(options, &relays)?;
    Ok(relays)
}

/// Who asks them, with the files that the settings name.
pub(crate) fn caller_of(options: &RelayOptions, relays: &[Relay]) -> Result<Caller, ClientError> {
    let encrypted = relays.iter().any(|relay| relay.encrypted);
    let encryption = encrypted.then(|| Encryption::new(&options.tls)).transpose()?;
    Ok(Caller { token: options.token.clone(), encryption, patience: options.patience })
}

fn check(options: &RelayOptions, relays: &[Relay]) -> Result<(), ClientError> {
    let wrong = |what: String, mend: &str| Err(ClientError::Setup { what, mend: mend.to_owned() });
    if relays.is_empty() {
        return wrong("there is no relay".into(), "give at least one address in `relays`");
    }
    let Some(token) = &options.token else { return Ok(()) };
    if token.reveal().is_empty() || HeaderValue::try_from(token.reveal()).is_err() {
        return wrong(
            "the token is empty, or has a character that no header may have".into(),
            "check its file or variable",
        );
    }
    match relays.iter().find(|relay| !relay.encrypted && !relay.is_local()) {
        Some(relay) => wrong(
            format!("the token would be sent to {relay} where everybody on the way reads it"),
            "reach the relay by https://",
        ),
        None => Ok(()),
    }
}

impl Feed for RelayFeed {
    type Error = ClientError;

    async fn next(&mut self) -> Result<Option<Arc<Window>>, ClientError> {
        Ok(self.next_framed().await?.map(|(window, _)| Arc::new(window)))
    }

    fn try_next(&mut self) -> Result<Option<Arc<Window>>, ClientError> {
        Ok(self.try_next_framed()?.map(|(window, _)| Arc::new(window)))
    }

    fn rewind(&mut self) -> Result<(), ClientError> {
        self.task = None;
        self.held.clear();
        self.place.rewind();
        Ok(())
    }

    fn remedy(error: &ClientError) -> Remedy {
        error.remedy()
    }
}

impl Stream for RelayFeed {
    fn begin(&mut self, after: &Checkpoint) -> Result<(), ClientError> {
        (self.task, self.place) = (None, Place::new(&self.shared.options.source, Start::At(after.clone())));
        self.held.clear();
        Ok(())
    }

    fn is_gone(error: &ClientError) -> bool {
        matches!(error, ClientError::TooOld { .. })
    }
}
