//! Where a subscriber stands, in numbers of its own, and which of the windows that come follow it: nothing twice, nothing
//! left out, whichever relay sends them.
//!
//! Positions are numbered as the first relay numbered them. A relay that counts its timelines otherwise is understood by
//! the servers' identities: a window that goes on at our SCN of our server is on our timeline, whatever its number there;
//! another server opens the next timeline here. So a subscriber's positions rise, and a log that is chained behind several
//! relays never gets one timeline under two numbers.

use std::sync::Arc;

use tidemill_event::{Checkpoint, Part, Phase, Position, Scn, Timeline, Transaction, Window};

use super::cut::without_first;

/// Where a subscriber begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the oldest transaction that the relay has.
    Earliest,
    /// With what commits from now on; the moment is that of the first answer.
    Now,
    /// With the first transaction that committed at this time or later: microseconds since 1970-01-01 UTC.
    Time(i64),
    /// After this position, in the numbers of the relays; they must agree on them until the first window has come.
    After(Position),
    /// After this checkpoint.
    At(Checkpoint),
}

/// Everything up to here was given, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Boundary {
    source: Arc<str>,
    server: Arc<str>,
    position: Position,
    executed: Arc<str>,
    phase: Phase,
}

impl Boundary {
    fn behind(window: &Window) -> Boundary {
        Boundary {
            source: Arc::clone(&window.source),
            server: Arc::clone(&window.timeline.server),
            position: window.position(),
            executed: Arc::clone(&window.executed),
            phase: Phase::Stream,
        }
    }

    fn of(checkpoint: Checkpoint) -> Boundary {
        Boundary {
            source: checkpoint.source.into(),
            server: checkpoint.server.into(),
            position: checkpoint.position,
            executed: checkpoint.gtid_set.into(),
            phase: checkpoint.phase,
        }
    }

    fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            source: self.source.to_string(),
            server: self.server.to_string(),
            position: self.position,
            gtid_set: self.executed.to_string(),
            phase: self.phase.clone(),
        }
    }
}

/// The transaction of which parts were given and the last one was not.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Parts {
    scn: Scn,
    gtid: String,
    commit_time_us: i64,
    /// The number of its next change.
    next: u64,
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    source: Arc<str>,
    start: Start,
    boundary: Option<Boundary>,
    /// Up to here windows were given; differs from the boundary only within a transaction in parts.
    scn: Scn,
    parts: Option<Parts>,
    /// Before the transaction of which the last window is a part.
    before: Option<Boundary>,
    /// Something was given already: an empty window that does not move says nothing more.
    begun: bool,
}

/// What does not follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// The window is not what was asked for.
    Misplaced(&'static str),
    /// The rest of a transaction in parts cannot be told from what was given.
    Parted(&'static str),
}

/// One answer of one relay: what it has sent so far, in its own numbers.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// The end of the last window.
    passed: Option<(Timeline, Scn)>,
    /// Its timeline's number here.
    number: u32,
}

impl Place {
    /// At the start. A checkpoint is where something was given already.
    pub(crate) fn new(source: &str, start: Start) -> Place {
        let boundary = match &start {
            Start::At(checkpoint) => Some(Boundary::of(checkpoint.clone())),
            _ => None,
        };
        let (begun, scn) = (boundary.is_some(), boundary.as_ref().map_or(Scn::ZERO, |b| b.position.scn));
        Place { source: source.into(), start, boundary, scn, parts: None, before: None, begun }
    }

    /// What is asked for next.
    pub(crate) fn ask(&self) -> Start {
        self.boundary.as_ref().map_or_else(|| self.start.clone(), |b| Start::At(b.checkpoint()))
    }

    /// Begins elsewhere, as long as nothing was given.
    pub(crate) fn begin(&mut self, start: Start) {
        *self = Place { begun: self.begun, ..Place::new(&self.source, start) };
    }

    /// Everything up to here was given, whole.
    pub(crate) fn position(&self) -> Option<Position> {
        self.boundary.as_ref().filter(|_| self.begun).map(|b| b.position)
    }

    /// Whether everything up to there was given, whoever numbers it.
    pub(crate) fn has_reached(&self, end: &Checkpoint) -> bool {
        let given = self.boundary.as_ref().filter(|_| self.begun);
        given.is_some_and(|given| match *given.server == *end.server {
            true => given.position.scn >= end.position.scn,
            false => given.position >= end.position,
        })
    }

    /// The checkpoint of whoever has everything that was given.
    pub(crate) fn checkpoint(&self) -> Option<Checkpoint> {
        self.boundary.as_ref().filter(|_| self.begun).map(Boundary::checkpoint)
    }

    /// Within a transaction, for errors.
    pub(crate) fn at(&self) -> Position {
        let at = self.boundary.as_ref().map(|b| b.position).unwrap_or_default();
        self.parts.as_ref().map_or(at, |parts| Position { scn: parts.scn, ..at })
    }

    /// That window was given: one of [`Place::take`], or of another place's that stood here.
    pub(crate) fn gave(&mut self, window: &Window) {
        self.begun = true;
        self.scn = window.span.upto;
        match window.transactions.first().filter(|t| t.part != Part::Whole) {
            Some(t) => self.gave_part(window, t),
            None => {
                (self.parts, self.before) = (None, None);
                self.boundary = Some(Boundary::behind(window));
            }
        }
    }

    fn gave_part(&mut self, window: &Window, t: &Transaction) {
        if t.part == Part::First {
            // What is executed here is what was before the transaction.
            let position = Position { timeline: window.timeline.number, scn: window.span.after };
            self.boundary = Some(Boundary { position, ..Boundary::behind(window) });
            self.before = self.boundary.clone();
        }
        self.parts = (t.part != Part::Last).then(|| {
            let next = t.change_offset + u64::from(t.change_count);
            Parts { scn: t.scn, gtid: t.gtid.clone(), commit_time_us: t.commit_time_us, next }
        });
        if t.part == Part::Last {
            self.boundary = Some(Boundary::behind(window));
        }
    }

    /// Goes back before the transaction of which the last window is a part.
    pub(crate) fn rewind(&mut self) {
        if let Some(before) = self.before.take() {
            self.scn = before.position.scn;
            (self.boundary, self.parts) = (Some(before), None);
        }
    }

    /// What of a window is to be given, with whether it was changed.
    pub(crate) fn take(&self, answer: &mut Answer, window: Window) -> Result<Option<(Window, bool)>, Wrong> {
        if self.source != window.source {
            return Err(Wrong::Misplaced("it is of another source"));
        }
        if self.is_sign_of_life(answer, &window) {
            return Ok(None);
        }
        let number = self.number(answer, &window)?;
        answer.number = number;
        answer.passed = Some((window.timeline.clone(), window.span.upto));
        let renumbered = number != window.timeline.number;
        let mut window = window;
        window.timeline.number = number;
        let taken = match &self.parts {
            Some(parts) => self.rest(parts, window)?,
            None => self.next(window)?,
        };
        Ok(taken.map(|(window, changed)| (window, changed || renumbered)))
    }

    /// Whether a window says nothing that we do not know: a relay repeats where it thinks that we are. Where it does not
    /// know either, it says timeline 0. The first place that it knows, though, is worth telling.
    fn is_sign_of_life(&self, answer: &Answer, window: &Window) -> bool {
        let (timeline, span) = (&window.timeline, window.span);
        if span.after != span.upto || !window.transactions.is_empty() {
            return false;
        }
        match (&answer.passed, &self.boundary) {
            _ if timeline.number == 0 => true,
            (Some((passed, _)), _) => passed == timeline,
            (None, Some(boundary)) => self.begun && boundary.server == timeline.server,
            (None, None) => false,
        }
    }

    /// The number here of a window's timeline, if it follows what came before it in this answer, or where we stand.
    fn number(&self, answer: &Answer, window: &Window) -> Result<u32, Wrong> {
        let (theirs, after) = (&window.timeline, window.span.after);
        if let Some((passed, upto)) = &answer.passed {
            return match passed == theirs {
                true if *upto == after => Ok(answer.number),
                true => Err(Wrong::Misplaced("it does not begin where the one before ended")),
                false if theirs.number > passed.number => Ok(theirs.number.max(answer.number + 1)),
                false => Err(Wrong::Misplaced("its timeline is older than that of the one before")),
            };
        }
        let Some(boundary) = &self.boundary else { return Ok(theirs.number) };
        let ours = boundary.position;
        match boundary.server == theirs.server {
            true if after == ours.scn => Ok(ours.timeline),
            // A server that began to count anew: it counts from the beginning.
            true if theirs.number > ours.timeline && after < ours.scn => Ok(theirs.number),
            true => Err(Wrong::Misplaced("it does not begin where it was asked to")),
            false => Ok(theirs.number.max(ours.timeline + 1)),
        }
    }

    /// A window where no transaction is open.
    fn next(&self, window: Window) -> Result<Option<(Window, bool)>, Wrong> {
        let Some(first) = window.transactions.first() else { return Ok(Some((window, false))) };
        match first.part {
            Part::Whole | Part::First if first.change_offset == 0 => Ok(Some((window, false))),
            _ => Err(Wrong::Misplaced("it begins within a transaction")),
        }
    }

    /// A window where a transaction is open: the rest of it. A relay that was asked anew begins with the whole of it.
    fn rest(&self, parts: &Parts, window: Window) -> Result<Option<(Window, bool)>, Wrong> {
        let Some(first) = window.transactions.first() else { return Ok(None) };
        let ours = self.boundary.as_ref().expect("parts were given after it").position.timeline;
        if ours != window.timeline.number || !is_of(parts, first) {
            return Err(Wrong::Parted("its next transaction is another one"));
        }
        if window.transactions.len() > 1 {
            return Err(Wrong::Parted("it has the transaction together with others"));
        }
        let end = first.change_offset + u64::from(first.change_count);
        match first.change_offset {
            offset if offset > parts.next => Err(Wrong::Parted("changes are missing")),
            _ if end <= parts.next && !first.part.completes() => Ok(None),
            offset if offset == parts.next && offset > 0 && window.span.after == self.scn => {
                Ok(Some((window, false)))
            }
            _ if end < parts.next => Err(Wrong::Parted("it is shorter there")),
            offset => {
                let given = u32::try_from(parts.next - offset);
                let given = given.map_err(|_| Wrong::Parted("it is larger than a window"))?;
                Ok(Some((without_first(window, given, self.scn), true)))
            }
        }
    }
}

fn is_of(parts: &Parts, t: &Transaction) -> bool {
    (parts.scn, &parts.gtid, parts.commit_time_us) == (t.scn, &t.gtid, t.commit_time_us)
}
