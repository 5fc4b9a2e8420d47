//! What the writer tells the readers: which segments there are, what is in memory, how far it goes. Held under
//! one lock for moments only; no file is touched under it.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use tidemill_event::{Position, Scn, Span, Timeline, Window};
use tokio::sync::watch;

use crate::config::LogConfig;
use crate::error::{Asked, TooOld};
use crate::files::Files;
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
    pub(crate) segments: VecDeque<Segment>,
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
    /// The last segment that has something for readers; one that was just begun has not.
    fn last(&self) -> Option<&Segment> {
        self.segments.iter().rev().find(|s| !s.index.is_empty())
    }

    /// The end of what readers can see on disk.
    pub(crate) fn stored(&self) -> Option<Position> {
        self.last().map(Segment::end)
    }

    pub(crate) fn stored_place(&self) -> Place {
        self.last().map_or(Place::default(), Segment::end_place)
    }

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
        match self.segment(place.sequence) {
            Some(segment) if place.offset < segment.index.length => match open {
                Some(open) if open == place.sequence => Look::Open(segment.index.length),
                _ => Look::Disk(Box::new(segment.clone())),
            },
            Some(_) => Look::Moved(Place { sequence: place.sequence + 1, offset: 0 }),
            None if place == Place::default() && self.is_complete() => {
                Look::Moved(Place { sequence: 1, offset: 0 })
            }
            None if self.dropped_end == Some(place) => {
                Look::Moved(Place { sequence: place.sequence + 1, offset: 0 })
            }
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
        self.segments.front().is_none_or(|s| s.header.sequence == 1)
    }

    /// When the first transaction committed.
    pub(crate) fn earliest_time_us(&self) -> Option<i64> {
        let mut times = self.segments.iter().map(|s| s.index.first_time_us);
        times.find(|time| *time != i64::MAX)
    }

    /// The greatest commit time.
    pub(crate) fn latest_time_us(&self) -> Option<i64> {
        self.segments.iter().map(|s| s.index.time_max_us).max().filter(|time| *time != i64::MIN)
    }

    pub(crate) fn too_old(&self, asked: Asked) -> TooOld {
        let earliest = self.segments.front().map_or(Position::default(), |s| s.header.start());
        let latest = self.head.as_ref().map_or(earliest, Head::position);
        TooOld { asked, earliest, latest }
    }
}
