//! A reader: a place in the log and the position that it has reached. It takes windows from memory where they are
//! and from segment files where not, and gives nobody a transaction twice or one that does not follow.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidemill_event::gtid::GtidSet;
use tidemill_event::{
    Decoded, Frame, FrameError, Part, Position, SchemaSet, Scn, TableSchema, Window, chain, decode,
    encode_window,
};
use tokio::sync::watch;

use crate::config::From;
use crate::error::{Asked, Damaged, Diverged, ReadError, storage};
use crate::files::SegmentFile;
use crate::history::Entry;
use crate::index::Index;
use crate::ring::Place;
use crate::scan::{Fetch, Fetched, FrameCursor, Next};
use crate::skip::Skip;
use crate::state::{Look, Piece, Segment, Shared, State};
use crate::trim::without_first;

/// Reads one log from a position on. Cheap; it never makes the writer wait.
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    changed: watch::Receiver<u64>,
    /// Where the next frame lies.
    place: Place,
    /// The log's own position at `place`. `None`: before everything.
    passed: Option<Position>,
    /// What was given goes up to here. May be ahead of `passed`: then what lies between is left out.
    position: Option<Position>,
    /// Leave out transactions until the first that committed at this time or later.
    since_us: Option<i64>,
    /// Leave out transactions that the reader has from elsewhere.
    skip: Option<Skip>,
    /// The segment that is read from disk.
    disk: Option<Disk>,
    /// The segment of history that was fetched again since its copy on this disk was damaged.
    again: Option<u64>,
}

#[derive(Debug)]
struct Disk {
    sequence: u64,
    cursor: FrameCursor,
    schemas: SchemaSet,
    /// Offsets of schema frames that are read before the first window.
    schemas_before: Vec<u64>,
}

/// A window on its way to whoever asked.
struct Given {
    window: Arc<Window>,
    /// The frame that holds just this window, where there is one.
    frame: Option<Frame>,
}

impl Given {
    fn framed(self) -> (Frame, Arc<Window>) {
        let encode = || encode_window(&self.window).expect("a part of a stored window is no larger");
        (self.frame.unwrap_or_else(encode), self.window)
    }
}

enum Step {
    Given(Given),
    Fetch(Fetch),
    /// A segment of history must be fetched first.
    History(Arc<Entry>),
    Nothing,
    Closed,
}

impl Reader {
    pub(crate) fn open(shared: Arc<Shared>, from: From) -> Result<Reader, ReadError> {
        let changed = shared.changed.subscribe();
        let since_us = if let From::Time(time) = &from { Some(*time) } else { None };
        let skip = if let From::Executed { set, after } = &from {
            Some(Skip::new((**set).clone(), after.is_some()))
        } else {
            None
        };
        let (place, passed, position) = begin(&shared.state(), from)?;
        Ok(Reader { shared, changed, place, passed, position, since_us, skip, disk: None, again: None })
    }

    /// The next window; waits for it. An idle source gives empty windows as it moves on. `None`: the writer has
    /// closed the log and everything was read.
    ///
    /// Cancel-safe: what was not given is given by the next call.
    pub async fn next(&mut self) -> Result<Option<Arc<Window>>, ReadError> {
        Ok(self.wait().await?.map(|given| given.window))
    }

    /// As [`Reader::next`], with the frame that holds the window. The schemas that it needs are those of its tables.
    pub async fn next_frame(&mut self) -> Result<Option<(Frame, Arc<Window>)>, ReadError> {
        Ok(self.wait().await?.map(Given::framed))
    }

    /// The next window if it is there already; none also where it must be fetched from history first, which
    /// [`Reader::next`] does. Reads the disk on this thread where it must.
    pub fn try_next(&mut self) -> Result<Option<Arc<Window>>, ReadError> {
        Ok(self.look()?.map(|given| given.window))
    }

    /// As [`Reader::try_next`], with the frame that holds the window.
    pub fn try_next_frame(&mut self) -> Result<Option<(Frame, Arc<Window>)>, ReadError> {
        Ok(self.look()?.map(Given::framed))
    }

    fn look(&mut self) -> Result<Option<Given>, ReadError> {
        loop {
            match self.step()? {
                Step::Given(given) => return Ok(Some(given)),
                Step::Fetch(fetch) => self.accept(fetch.run()?),
                Step::History(_) | Step::Nothing | Step::Closed => return Ok(None),
            }
        }
    }

    /// What was given goes up to here. `None`: nothing was given, and the log was empty.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    async fn wait(&mut self) -> Result<Option<Given>, ReadError> {
        loop {
            self.changed.borrow_and_update();
            match self.step()? {
                Step::Given(given) => return Ok(Some(given)),
                Step::Closed => return Ok(None),
                Step::Fetch(fetch) => {
                    let fetched = tokio::task::spawn_blocking(move || fetch.run()).await;
                    self.accept(fetched.expect("a read does not panic, and the runtime runs")?);
                }
                Step::History(entry) => {
                    let history = self.shared.history.clone().expect("only a log with history says so");
                    let file = history.fetch(&entry).await.map_err(ReadError::History)?;
                    let next = self.shared.state().archived_after(entry.sequence());
                    if let Some(next) = next {
                        history.fetch_ahead(&next);
                    }
                    self.disk = Some(self.open_archived(&entry, file));
                }
                // The sender lives in `shared`, so this ends only with a change.
                Step::Nothing => drop(self.changed.changed().await),
            }
        }
    }

    fn accept(&mut self, fetched: Fetched) {
        if let Some(disk) = &mut self.disk {
            disk.cursor.accept(fetched);
        }
    }

    /// Goes on as far as it can without waiting for anything. After an error it stands where it stood.
    fn step(&mut self) -> Result<Step, ReadError> {
        loop {
            let from = self.place;
            let step = self.find().and_then(|found| match found {
                Found::Window(window, frame) => Ok(self.give(window, frame)?.map(Step::Given)),
                Found::Step(step) => Ok(Some(step)),
                Found::Elsewhere => Ok(None),
            });
            match step {
                Ok(Some(step)) => return Ok(step),
                Ok(None) => {}
                Err(error) => {
                    (self.place, self.disk) = (from, None);
                    return Err(error);
                }
            }
        }
    }

    /// What lies at the reader's place, which moves behind it.
    fn find(&mut self) -> Result<Found, ReadError> {
        let open = self.disk.as_ref().map(|disk| disk.sequence);
        let look = self.shared.state().look(self.place, self.position, open);
        match look {
            Look::Nothing => Ok(Found::Step(Step::Nothing)),
            Look::Closed => Ok(Found::Step(Step::Closed)),
            Look::Idle(window) => {
                let given = self.without_known(Given { window: Arc::new(window), frame: None });
                self.position = Some(given.window.position());
                Ok(Found::Step(Step::Given(given)))
            }
            Look::Moved(place) => {
                (self.place, self.disk) = (place, None);
                Ok(Found::Elsewhere)
            }
            Look::Memory(entry) => {
                (self.place, self.disk) = (entry.end, None);
                Ok(Found::Window(entry.window, entry.frame))
            }
            Look::Disk(segment) => {
                let length = segment.index.length;
                let Some(disk) = self.open_disk(&segment)? else {
                    // It left this disk a moment ago, or somebody took it away.
                    let archived = self.archived(segment.header.sequence).ok_or_else(|| self.too_old())?;
                    return Ok(Found::Step(Step::History(archived)));
                };
                self.disk = Some(disk);
                self.read_frames(length)
            }
            Look::History(entry) => self.read_archived(entry),
            Look::Open(length) => self.read_frames(length),
            Look::Dropped => self.read_dropped(),
        }
    }

    /// `None`: it is not there.
    fn open_disk(&self, segment: &Segment) -> Result<Option<Disk>, ReadError> {
        let file = match self.shared.files.open(&segment.path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(storage("open", &segment.path))?,
        };
        let (header, index) = (&segment.header, &segment.index);
        Ok(Some(self.disk_at(file, segment.path.clone(), header.sequence, segment.first, index)))
    }

    fn archived(&self, sequence: u64) -> Option<Arc<Entry>> {
        self.shared.state().archived(sequence).cloned()
    }

    fn open_archived(&self, entry: &Entry, file: Arc<dyn SegmentFile>) -> Disk {
        let history = self.shared.history.as_ref().expect("only a log with history has archived segments");
        let path = history.cache.path(entry);
        self.disk_at(file, path, entry.sequence(), entry.first(), &entry.index)
    }

    /// A segment that is opened at the reader's place.
    fn disk_at(
        &self,
        file: Arc<dyn SegmentFile>,
        path: PathBuf,
        sequence: u64,
        first: u64,
        index: &Index,
    ) -> Disk {
        let offset = self.place.offset.max(first);
        let schemas_before = index.schemas.iter().copied().filter(|at| *at < offset).collect();
        let cursor = FrameCursor::new(file, path, offset);
        Disk { sequence, cursor, schemas: SchemaSet::default(), schemas_before }
    }

    /// Reads a segment of history from the cache, if it is there.
    fn read_archived(&mut self, entry: Arc<Entry>) -> Result<Found, ReadError> {
        let history = self.shared.history.as_ref().expect("only a log with history has archived segments");
        let Some(file) = history.cache.get(&entry) else { return Ok(Found::Step(Step::History(entry))) };
        let length = entry.bytes();
        self.disk = Some(self.open_archived(&entry, file));
        self.read_frames(length)
    }

    /// The segment was dropped while it was read: the open file still has all of it.
    fn read_dropped(&mut self) -> Result<Found, ReadError> {
        let sequence = self.place.sequence;
        let Some(disk) = self.disk.as_ref().filter(|disk| disk.sequence == sequence) else {
            return Err(self.too_old());
        };
        let length = disk.cursor.file().length().map_err(storage("read", disk.cursor.path()))?;
        self.read_frames(length)
    }

    /// The next window of the open segment. Where the file on this disk is damaged and history has the segment, that one is
    /// fetched, once.
    fn read_frames(&mut self, length: u64) -> Result<Found, ReadError> {
        let found = self.read_open(length);
        let Err(ReadError::Damaged(damaged)) = &found else { return found };
        let sequence = self.disk.as_ref().expect("it was read").sequence;
        let Some(entry) = self.archived(sequence) else { return found };
        if self.again.replace(entry.sequence()) == Some(entry.sequence()) {
            return found;
        }
        tracing::warn!(%damaged, "the segment is fetched from history");
        let history = self.shared.history.as_ref().expect("only a log with history has archived segments");
        history.cache.evict(&entry);
        self.disk = None;
        Ok(Found::Step(Step::History(entry)))
    }

    fn read_open(&mut self, length: u64) -> Result<Found, ReadError> {
        let disk = self.disk.as_mut().expect("the caller opened it");
        disk.read_schemas_before(length)?;
        loop {
            let offset = disk.cursor.offset();
            let frame = match disk.cursor.next(length) {
                Ok(Next::Frame(frame)) => frame,
                Ok(Next::Fetch(fetch)) => return Ok(Found::Step(Step::Fetch(fetch))),
                Ok(Next::End) => {
                    (self.place, self.disk) = (Place { sequence: disk.sequence + 1, offset: 0 }, None);
                    return Ok(Found::Elsewhere);
                }
                Err(error) => return Err(disk_damaged(disk.cursor.path(), offset, &error).into()),
            };
            let decoded = decode(&frame, &disk.schemas);
            match decoded.map_err(|error| disk_damaged(disk.cursor.path(), offset, &error))? {
                Decoded::Schema(schema) => {
                    disk.schemas.insert(schema);
                }
                Decoded::Window(window) => {
                    self.place = Place { sequence: disk.sequence, offset: disk.cursor.offset() };
                    return Ok(Found::Window(Arc::new(window), frame));
                }
            }
        }
    }

    fn too_old(&self) -> ReadError {
        self.shared.state().too_old(self.asked()).into()
    }

    fn asked(&self) -> Asked {
        match (self.position, self.since_us) {
            (None, Some(time)) => Asked::Since(time),
            (position, _) => Asked::After(position.unwrap_or_default()),
        }
    }

    /// What of a stored window this reader is to get: all of it, a part, or nothing.
    fn give(&mut self, window: Arc<Window>, frame: Frame) -> Result<Option<Given>, ReadError> {
        self.check_follows(&window)?;
        if self.skip.as_ref().is_some_and(|skip| !skip.joins(&window)) {
            return Err(self.too_old());
        }
        self.passed = Some(window.position());
        let known =
            self.position.filter(|p| p.timeline == window.timeline.number).map_or(Scn::ZERO, |p| p.scn);
        let is_past = self.position.is_some_and(|p| p.timeline > window.timeline.number);
        let end = window.transactions.last().map_or(window.span.upto, |t| t.scn.max(window.span.upto));
        if is_past || (end <= known && self.position.is_some()) {
            return Ok(None);
        }
        let left_out = window.transactions.partition_point(|t| t.scn <= known);
        let Some(left_out) = self.skip_older(&window, left_out) else {
            self.position = self.position.max(self.passed);
            return Ok(None);
        };
        self.position = self.position.max(self.passed);
        let after = match left_out.checked_sub(1) {
            Some(last) => window.transactions[last].scn.max(known),
            None => window.span.after.max(known),
        };
        let given = if left_out == 0 && after == window.span.after {
            Given { window, frame: Some(frame) }
        } else {
            Given { window: Arc::new(without_first(&window, left_out, after)), frame: None }
        };
        Ok(Some(self.without_known(given)))
    }

    /// Without what the reader has from another server.
    fn without_known(&mut self, given: Given) -> Given {
        let Some(skip) = &mut self.skip else { return given };
        let (rest, is_done) = skip.apply(&given.window);
        if is_done {
            self.skip = None;
        }
        let is_same = rest.transactions.len() == given.window.transactions.len();
        if is_same && rest.executed == given.window.executed {
            return given;
        }
        Given { window: Arc::new(rest), frame: None }
    }

    /// How many transactions stay out when those before a time do; `None`: all of them, and the time is not
    /// reached.
    fn skip_older(&mut self, window: &Window, left_out: usize) -> Option<usize> {
        let Some(since) = self.since_us else { return Some(left_out) };
        let is_begin = |part| matches!(part, Part::Whole | Part::First);
        let first = window.transactions.iter().position(|t| t.commit_time_us >= since && is_begin(t.part))?;
        self.since_us = None;
        Some(first.max(left_out))
    }

    /// Checks that the window follows in the log, and that this reader's history is the log's.
    fn check_follows(&self, window: &Window) -> Result<(), ReadError> {
        let next = Position { timeline: window.timeline.number, scn: window.span.after };
        let follows = self.passed.is_none_or(|p| p == next || p.timeline < next.timeline);
        if let (false, Some(disk)) = (follows, &self.disk) {
            let (path, offset) = (disk.cursor.path().to_owned(), disk.cursor.offset());
            let what = format!("what ends there begins at {next} and does not follow");
            return Err(Damaged { path, offset, what }.into());
        }
        assert!(follows, "what is in memory follows what was read");
        let Some(at) = self.position else { return Ok(()) };
        match self.passed {
            _ if next.timeline == at.timeline && next > at => Err(self.too_old()),
            None if next > at => Err(self.too_old()),
            Some(end) if next.timeline > at.timeline && at > end => Err(Diverged { at, end, next }.into()),
            _ => Ok(()),
        }
    }
}

/// What is at a reader's place.
enum Found {
    Window(Arc<Window>, Frame),
    /// Nothing that is to be looked at further.
    Step(Step),
    /// The place has moved; look there.
    Elsewhere,
}

impl Disk {
    /// Reads the schemas that come before the place where the reader began.
    fn read_schemas_before(&mut self, length: u64) -> Result<(), ReadError> {
        for offset in std::mem::take(&mut self.schemas_before) {
            self.schemas.insert(read_schema(self.cursor.file(), self.cursor.path(), offset, length)?);
        }
        Ok(())
    }
}

/// The schema whose frame lies at that offset of a segment.
pub(crate) fn read_schema(
    file: &Arc<dyn SegmentFile>,
    path: &Path,
    offset: u64,
    length: u64,
) -> Result<Arc<TableSchema>, ReadError> {
    let mut cursor = FrameCursor::new(Arc::clone(file), path.to_owned(), offset);
    let damaged = |error: FrameError| disk_damaged(path, offset, &error);
    let frame = cursor.next_now(length)?.map_err(damaged)?;
    let decoded = frame.map(|frame| decode(&frame, &SchemaSet::default())).transpose().map_err(damaged)?;
    match decoded {
        Some(Decoded::Schema(schema)) => Ok(schema),
        _ => {
            let what = "the index names a schema here".into();
            Err(Damaged { path: path.to_owned(), offset, what }.into())
        }
    }
}

fn disk_damaged(path: &Path, offset: u64, error: &FrameError) -> Damaged {
    Damaged { path: path.to_owned(), offset, what: chain(error) }
}

type Beginning = (Place, Option<Position>, Option<Position>);

/// The place to begin, the log's position there, and the reader's.
fn begin(state: &State, from: From) -> Result<Beginning, ReadError> {
    let end = || (state.stored_place(), state.stored());
    match from {
        From::Earliest => {
            let first = state.first();
            let start = first.map(Piece::start);
            Ok((first.map_or(Place::default(), Piece::begin_place), start, start))
        }
        From::Now => {
            let (place, stored) = end();
            Ok((place, stored, state.head.as_ref().map(|head| head.position())))
        }
        From::After(position) => match state.first() {
            Some(first) if position < first.start() => Err(state.too_old(Asked::After(position)).into()),
            Some(_) if Some(position) < state.stored() => {
                let (place, passed) = seek(state, position);
                Ok((place, Some(passed), Some(position)))
            }
            _ => {
                let (place, stored) = end();
                Ok((place, stored, Some(position)))
            }
        },
        From::Time(time) => begin_at_time(state, time),
        From::Executed { after: Some(after), .. } => begin(state, From::After(after)),
        From::Executed { set, after: None } => begin_at_set(state, &set),
    }
}

/// The last place from which everything after a position is met, and the position there. The log holds it.
fn seek(state: &State, position: Position) -> (Place, Position) {
    if let Some((place, before)) = state.ring.seek(position) {
        return (place, before);
    }
    let piece = state.last_before(position).expect("the first segment begins before");
    let (number, sequence) = (piece.header().timeline.number, piece.header().sequence);
    let scn = if position.timeline > number { Scn::MAX } else { position.scn };
    match piece.index().seek(scn) {
        Some(p) => (Place { sequence, offset: p.offset }, Position { timeline: number, scn: p.before }),
        None => (piece.begin_place(), piece.start()),
    }
}

/// Before the first transaction that committed at that time or later.
fn begin_at_time(state: &State, time: i64) -> Result<Beginning, ReadError> {
    let first = state.pieces().next();
    if !state.is_complete() && first.is_some_and(|piece| piece.index().first_time_us >= time) {
        return Err(state.too_old(Asked::Since(time)).into());
    }
    let Some(piece) = state.pieces().find(|piece| piece.index().time_max_us >= time) else {
        return Ok((state.stored_place(), state.stored(), state.stored()));
    };
    let (timeline, sequence) = (piece.header().timeline.number, piece.header().sequence);
    Ok(match piece.index().seek_time(time) {
        Some(p) => {
            let at = Some(Position { timeline, scn: p.before });
            (Place { sequence, offset: p.offset }, at, at)
        }
        None => (piece.begin_place(), Some(piece.start()), Some(piece.start())),
    })
}

/// At the last segment before which the log executed nothing that is not in the set; at the first one where none says, then
/// its first window does.
fn begin_at_set(state: &State, set: &GtidSet) -> Result<Beginning, ReadError> {
    let executed = |piece: &Piece<'_>| GtidSet::parse(&piece.header().executed).ok().flatten();
    let is_in_set = |piece: &Piece<'_>| executed(piece).is_some_and(|e| e.missing_from(set).is_empty());
    match state.pieces().rev().find(is_in_set) {
        Some(piece) => Ok((piece.begin_place(), Some(piece.start()), Some(piece.start()))),
        None => match state.first().filter(|first| executed(first).is_some()) {
            Some(first) => Err(state.too_old(Asked::After(first.start())).into()),
            None => begin(state, From::Earliest),
        },
    }
}
