//! What the writer tells the readers: which segments there are and in which tier, what is in memory, how far it goes. Held
//! under one lock for moments only; no file is touched under it.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use tidemill_event::{Position, Scn, Span, Timeline, Window};
use tokio::sync::watch;

use crate::clock::Clock;
use crate::config::LogConfig;
use crate::error::{Asked, TooOld};
use crate::files::Files;
use crate::history::{Entry as Archived, History};
use crate::index::Index;
use crate::ring::{Entry, Place, Ring};
use crate::schemas::KnownSchemas;
use crate::segment::SegmentHeader;
use crate::sync::Syncer;
use crate::writer::Appender;

/// Everything that the handles of one log share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: LogConfig,
    pub(crate) files: Arc<dyn Files>,
    pub(crate) state: Mutex<State>,
    /// The append side. Locked before `state`, never after.
    pub(crate) appender: Mutex<Appender>,
    pub(crate) syncer: Syncer,
    pub(crate) clock: Clock,
    /// The tier behind the disk, if there is one.
    pub(crate) history: Option<Arc<History>>,
    /// Locked while files are read, so never by the append side.
    pub(crate) schemas: Mutex<KnownSchemas>,
    /// The epoch of the newest writer of this process.
    pub(crate) epoch: AtomicU64,
    /// Counts changes of `state`, for readers that wait.
    pub(crate) changed: watch::Sender<u64>,
    /// Held while any handle lives: the operating system's lock of the directory.
    pub(crate) _lock: std::fs::File,
}

impl Shared {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the state")
    }

    /// Wakes the readers that wait.
    pub(crate) fn announce(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }
}

/// One segment, as readers need it.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    pub(crate) header: Arc<SegmentHeader>,
    /// Where its first frame begins.
    pub(crate) first: u64,
    pub(crate) index: Index,
    /// When it was last appended to; the active one is younger.
    pub(crate) written: SystemTime,
}

impl Segment {
    pub(crate) fn end(&self) -> Position {
        Position { timeline: self.header.timeline.number, scn: self.index.end }
    }

    pub(crate) fn end_place(&self) -> Place {
        Place { sequence: self.header.sequence, offset: self.index.length }
    }
}

/// One segment, wherever it lies.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Piece<'a> {
    /// On this disk.
    Local(&'a Segment),
    /// Only in history.
    Archived(&'a Arc<Archived>),
}

impl<'a> Piece<'a> {
    pub(crate) fn header(self) -> &'a SegmentHeader {
        match self {
            Piece::Local(segment) => &segment.header,
            Piece::Archived(entry) => &entry.header,
        }
    }

    pub(crate) fn index(self) -> &'a Index {
        match self {
            Piece::Local(segment) => &segment.index,
            Piece::Archived(entry) => &entry.index,
        }
    }

    pub(crate) fn start(self) -> Position {
        self.header().start()
    }

    pub(crate) fn end(self) -> Position {
        Position { timeline: self.header().timeline.number, scn: self.index().end }
    }

    pub(crate) fn end_place(self) -> Place {
        Place { sequence: self.header().sequence, offset: self.index().length }
    }

    /// Where a reader of all of it begins.
    pub(crate) fn begin_place(self) -> Place {
        Place { sequence: self.header().sequence, offset: 0 }
    }
}

/// How far the source is known to be. Beyond what is stored where the source is idle.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) source: Arc<str>,
    pub(crate) timeline: Timeline,
    pub(crate) scn: Scn,
    pub(crate) executed: Arc<str>,
}

impl Head {
    pub(crate) fn position(&self) -> Position {
        Position { timeline: self.timeline.number, scn: self.scn }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct State {
    /// The segments on this disk, oldest first, without a gap.
    pub(crate) segments: VecDeque<Segment>,
    /// The segments in history, likewise; most of those on this disk are there too, and between both is no gap.
    pub(crate) history: VecDeque<Arc<Archived>>,
    /// The segment that is appended to.
    pub(crate) active: Option<u64>,
    pub(crate) ring: Ring,
    pub(crate) head: Option<Head>,
    pub(crate) durable: Option<Position>,
    /// The writer has closed the log; nothing follows until another opens it.
    pub(crate) closed: bool,
    /// Where the last dropped segment ended, so that a reader who is exactly there can go on.
    pub(crate) dropped_end: Option<Place>,
}

/// What a reader finds at its place.
pub(crate) enum Look {
    /// In memory.
    Memory(Entry),
    /// In that segment, which is readable up to its index's length.
    Disk(Box<Segment>),
    /// In that segment of history.
    History(Arc<Archived>),
    /// In the segment that the reader has open, which is readable up to that offset.
    Open(u64),
    /// In a segment that was dropped, if the reader still has it open.
    Dropped,
    /// The place is the end of a segment; reading goes on there.
    Moved(Place),
    /// All that is stored was read, and the source is known to be further.
    Idle(Window),
    /// Nothing is there yet.
    Nothing,
    /// Nothing is there, and the writer has closed the log.
    Closed,
}

impl State {
    /// Every segment, oldest first.
    pub(crate) fn pieces(&self) -> impl DoubleEndedIterator<Item = Piece<'_>> {
        let archived = self.history.range(..self.only_archived()).map(Piece::Archived);
        archived.chain(self.segments.iter().map(Piece::Local))
    }

    /// How many segments of history are not on this disk.
    fn only_archived(&self) -> usize {
        match self.segments.front() {
            Some(first) => self.history.partition_point(|entry| entry.sequence() < first.header.sequence),
            None => self.history.len(),
        }
    }

    /// The segment with that sequence number.
    pub(crate) fn piece(&self, sequence: u64) -> Option<Piece<'_>> {
        self.segment(sequence).map(Piece::Local).or_else(|| self.archived(sequence).map(Piece::Archived))
    }

    /// The segment with that sequence number, if it is in history.
    pub(crate) fn archived(&self, sequence: u64) -> Option<&Arc<Archived>> {
        let first = self.history.front()?.sequence();
        self.history.get(usize::try_from(sequence.checked_sub(first)?).ok()?)
    }

    /// The segment that follows, if it is only in history.
    pub(crate) fn archived_after(&self, sequence: u64) -> Option<Arc<Archived>> {
        match self.piece(sequence + 1)? {
            Piece::Archived(entry) => Some(Arc::clone(entry)),
            Piece::Local(_) => None,
        }
    }

    /// The last segment that begins at or before the position.
    pub(crate) fn last_before(&self, position: Position) -> Option<Piece<'_>> {
        let local = self.segments.partition_point(|s| s.header.start() <= position);
        if let Some(last) = local.checked_sub(1) {
            return Some(Piece::Local(&self.segments[last]));
        }
        let archived = self.history.partition_point(|entry| entry.header.start() <= position);
        let last = archived.min(self.only_archived()).checked_sub(1)?;
        Some(Piece::Archived(&self.history[last]))
    }

    /// The first segment that has something for readers.
    pub(crate) fn first(&self) -> Option<Piece<'_>> {
        self.pieces().next().filter(|piece| !piece.index().is_empty())
    }

    /// The last segment that has something for readers; one that was just begun has not.
    fn last(&self) -> Option<Piece<'_>> {
        self.pieces().rev().find(|piece| !piece.index().is_empty())
    }

    /// The number of the last segment, 0 where there is none.
    pub(crate) fn last_sequence(&self) -> u64 {
        self.pieces().next_back().map_or(0, |piece| piece.header().sequence)
    }

    /// The end of what readers can see in segments.
    pub(crate) fn stored(&self) -> Option<Position> {
        self.last().map(Piece::end)
    }

    pub(crate) fn stored_place(&self) -> Place {
        self.last().map_or(Place::default(), Piece::end_place)
    }

    /// The segment with that sequence number, if it is on this disk.
    pub(crate) fn segment(&self, sequence: u64) -> Option<&Segment> {
        let first = self.segments.front()?.header.sequence;
        self.segments.get(usize::try_from(sequence.checked_sub(first)?).ok()?)
    }

    /// What is at a place, for a reader that stands at `position` and has the segment `open`.
    pub(crate) fn look(&self, place: Place, position: Option<Position>, open: Option<u64>) -> Look {
        if place >= self.stored_place() {
            return self.look_beyond(position);
        }
        if self.ring.covers(place) {
            let entry = self.ring.at(place).expect("the ring holds what is stored after its start");
            return Look::Memory(entry.clone());
        }
        let next = Look::Moved(Place { sequence: place.sequence + 1, offset: 0 });
        match self.piece(place.sequence) {
            Some(piece) if place.offset >= piece.index().length => next,
            Some(piece) if open == Some(place.sequence) => Look::Open(piece.index().length),
            Some(Piece::Local(segment)) => Look::Disk(Box::new(segment.clone())),
            Some(Piece::Archived(entry)) => Look::History(Arc::clone(entry)),
            None if place == Place::default() && self.is_complete() => next,
            None if self.dropped_end == Some(place) => next,
            None => Look::Dropped,
        }
    }

    fn look_beyond(&self, position: Option<Position>) -> Look {
        let idle = self.head.as_ref().filter(|head| Some(head.position()) > position.max(self.stored()));
        match (idle, self.closed) {
            (Some(head), _) => Look::Idle(self.idle(head, position)),
            (None, true) => Look::Closed,
            (None, false) => Look::Nothing,
        }
    }

    fn idle(&self, head: &Head, position: Option<Position>) -> Window {
        let from = position.max(self.stored()).map_or(head.scn, |p| p.scn);
        let span = Span { after: from, upto: head.scn };
        Window::empty(Arc::clone(&head.source), head.timeline.clone(), span, Arc::clone(&head.executed))
    }

    /// Whether nothing was ever dropped.
    pub(crate) fn is_complete(&self) -> bool {
        self.pieces().next().is_none_or(|piece| piece.header().sequence == 1)
    }

    /// When the first transaction committed.
    pub(crate) fn earliest_time_us(&self) -> Option<i64> {
        let mut times = self.pieces().map(|piece| piece.index().first_time_us);
        times.find(|time| *time != i64::MAX)
    }

    /// The greatest commit time.
    pub(crate) fn latest_time_us(&self) -> Option<i64> {
        self.pieces().map(|piece| piece.index().time_max_us).max().filter(|time| *time != i64::MIN)
    }

    /// It can be read after this position.
    pub(crate) fn earliest(&self) -> Option<Position> {
        self.pieces().next().map(Piece::start)
    }

    pub(crate) fn too_old(&self, asked: Asked) -> TooOld {
        let earliest = self.earliest().unwrap_or_default();
        let latest = self.head.as_ref().map_or(earliest, Head::position);
        TooOld { asked, earliest, latest }
    }
}
