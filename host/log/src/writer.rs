//! The append side: one window in, one write out. Decides when a segment is sealed, what is visible, and when
//! the log takes nothing more.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tidemill_event::{
    Frame, FrameError, Position, SchemaId, Scn, Span, TableName, Window, chain, encode_schema, encode_shared,
};

use crate::config::Fsync;
use crate::error::{
    AppendError, Discontinuous, Fenced, OpenError, Poisoned, StorageError, span_text, storage,
};
use crate::files::SegmentFile;
use crate::index::Index;
use crate::recover::{read_epoch, remove_segment, settle, write_epoch, write_index};
use crate::retain::drop_old;
use crate::ring::{Entry, Place};
use crate::scan::follow;
use crate::segment::{self, SegmentHeader};
use crate::state::{Head, Segment, Shared, State};
use crate::sync::{Unsynced, read_durable, write_durable};

/// How safe an appended window is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// Written: it survives the end of this process, not a loss of power.
    Accepted(Position),
    /// On disk.
    Durable(Position),
}

/// The log's one writer. Its calls block: they encode and write.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    epoch: u64,
    sync_thread: Option<JoinHandle<()>>,
}

/// What appending needs to remember.
#[derive(Debug)]
pub(crate) struct Appender {
    active: Option<Active>,
    /// The transaction whose last fragment is still to come, and the span's end after the fragments so far.
    open: Option<(Scn, Scn)>,
    /// The set of transactions executed at the end of what is stored.
    stored_executed: Arc<str>,
    /// Since when the source is known to be further than what is stored.
    idle_since: Option<Instant>,
    poisoned: Option<String>,
}

/// The segment that is appended to.
#[derive(Debug)]
struct Active {
    file: Arc<dyn SegmentFile>,
    path: PathBuf,
    sequence: u64,
    timeline: u32,
    /// When it was begun.
    since: Instant,
    /// Where the next frame goes.
    length: u64,
    /// The version of each table that readers of this segment were told last.
    schemas: HashMap<TableName, SchemaId>,
    /// Nothing of this segment was synced, and nobody could go on without it.
    must_sync: bool,
}

/// A frame that was written.
struct Written {
    offset: u64,
    end: u64,
    frame: Frame,
    window: Option<Window>,
}

impl Appender {
    pub(crate) fn new(stored_executed: Arc<str>) -> Appender {
        Appender { active: None, open: None, stored_executed, idle_since: None, poisoned: None }
    }

    /// Whether the window follows what is stored.
    fn check_follows(&self, state: &State, window: &Window) -> Result<Option<Scn>, Discontinuous> {
        let number = window.timeline.number;
        let end = state.head.as_ref();
        let refuse = |what| {
            let window_text = span_text(number, window.span.after, window.span.upto);
            let end = end.map_or(Position::default(), Head::position);
            let scn = self.open.map_or(end.scn, |(_, upto)| upto);
            let end = Position { scn, ..end };
            Err(Discontinuous { source_name: window.source.to_string(), window: window_text, end, what })
        };
        if let Some(end) = end {
            let after = self.open.map_or(end.scn, |(_, upto)| upto);
            if window.source != end.source {
                return refuse("it is of another source");
            }
            if number < end.timeline.number {
                return refuse("its timeline is older");
            }
            if number == end.timeline.number && window.timeline.server != end.timeline.server {
                return refuse("its timeline has another server");
            }
            if number == end.timeline.number && window.span.after != after {
                return refuse("it begins elsewhere");
            }
            if number > end.timeline.number && self.open.is_some() {
                return refuse("the transaction before it is not complete");
            }
        }
        follow(self.open.map(|(scn, _)| scn), window).or_else(refuse)
    }
}

impl Writer {
    pub(crate) fn open(shared: Arc<Shared>) -> Result<Writer, OpenError> {
        let (files, directory) = (&*shared.files, &shared.config.directory);
        let mut appender = shared.appender.lock().unwrap_or_else(PoisonError::into_inner);
        let epoch = shared.epoch.load(Ordering::SeqCst).max(read_epoch(files, directory)?) + 1;
        write_epoch(files, directory, epoch)?;
        shared.syncer.stop(epoch - 1);
        shared.epoch.store(epoch, Ordering::SeqCst);
        if appender.active.is_some() || appender.poisoned.is_some() {
            take_over(&shared)?;
        }
        *appender = Appender::new(Arc::clone(&appender.stored_executed));
        shared.appender.clear_poison();
        shared.syncer.reset();
        {
            let mut state = shared.state();
            (state.closed, state.active) = (false, None);
        }
        drop(appender);
        let sync_thread = match shared.config.fsync {
            Fsync::Always => None,
            Fsync::Interval(interval) => Some(start_sync_thread(&shared, interval, epoch)?),
        };
        Ok(Writer { shared, epoch, sync_thread })
    }

    /// Stores a window. It must begin where the log ends; the first one of a log, or of a higher timeline, may
    /// begin anywhere. Readers see it when this returns, a transaction in fragments when its last one is stored.
    ///
    /// A window without transactions moves the readers on and is written only now and then.
    pub fn append(&mut self, window: &Window) -> Result<Ack, AppendError> {
        self.append_encoded(window, || encode_shared(window))
    }

    /// As [`Writer::append`], of a window that came as that frame, whose bytes are stored as they are. Give the window
    /// that was decoded from it: then its arrays lie in the frame's bytes and both cost the memory of one.
    pub fn append_frame(&mut self, frame: &Frame, window: &Window) -> Result<Ack, AppendError> {
        self.append_encoded(window, || match frame.window_span()? {
            Some(has) if has == (window.position(), window.span) => Ok((frame.clone(), window.clone())),
            _ => Err(FrameError::Damaged("it is of another window")),
        })
    }

    fn append_encoded(
        &mut self,
        window: &Window,
        encode: impl FnOnce() -> Result<(Frame, Window), FrameError>,
    ) -> Result<Ack, AppendError> {
        let mut appender = self.appender()?;
        window.validate()?;
        let shared = &*self.shared;
        let open = appender.check_follows(&shared.state(), window)?;
        if window.transactions.is_empty() && !begins_history(&shared.state(), window) {
            return self.or_poison(&mut appender, |a| idle(shared, a, self.epoch, window));
        }
        // Of a new log it says where the log begins, which is known from then on.
        let is_first = shared.state().head.is_none();
        if window.span.after == window.span.upto && window.transactions.is_empty() && !is_first {
            return Ok(Ack::Accepted(window.position()));
        }
        let encoded = encode().map_err(AppendError::Encode)?;
        self.or_poison(&mut appender, |a| {
            let durable = store(shared, a, self.epoch, encoded)?;
            a.open = open.map(|scn| (scn, window.span.upto));
            let position = window.position();
            Ok(if durable { Ack::Durable(position) } else { Ack::Accepted(position) })
        })
    }

    /// Returns when everything appended so far is on disk, with the position up to which that is.
    pub fn sync(&mut self) -> Result<Option<Position>, AppendError> {
        let mut appender = self.appender()?;
        self.or_poison(&mut appender, |_| Ok(self.shared.sync()?))?;
        Ok(self.shared.state().durable)
    }

    /// Up to where everything is on disk already.
    pub fn durable(&self) -> Option<Position> {
        self.shared.state().durable
    }

    /// Writes what is pending, makes everything durable and lets the readers know that nothing follows.
    pub fn close(self) -> Result<(), AppendError> {
        let mut appender = self.appender()?;
        let shared = &*self.shared;
        self.or_poison(&mut appender, |a| {
            if a.open.is_none() {
                flush_idle(shared, a, self.epoch)?;
            }
            seal(shared, a)?;
            Ok(shared.sync()?)
        })?;
        shared.state().closed = true;
        shared.announce();
        Ok(())
    }

    /// The append side, if this writer still has it and it is sound.
    fn appender(&self) -> Result<MutexGuard<'_, Appender>, AppendError> {
        let panicked = |_| Poisoned { cause: "an append panicked".into() };
        let appender = self.shared.appender.lock().map_err(panicked)?;
        self.check_fence()?;
        match appender.poisoned.clone().or_else(|| self.shared.syncer.failed()) {
            Some(cause) => Err(Poisoned { cause }.into()),
            None => Ok(appender),
        }
    }

    fn check_fence(&self) -> Result<(), Fenced> {
        let newer = self.shared.epoch.load(Ordering::SeqCst);
        if newer == self.epoch {
            return Ok(());
        }
        Err(Fenced { directory: self.shared.config.directory.clone(), mine: self.epoch, newer })
    }

    /// After a failure nobody knows what is in the file: the log takes nothing more.
    fn or_poison<T>(
        &self,
        appender: &mut Appender,
        run: impl FnOnce(&mut Appender) -> Result<T, AppendError>,
    ) -> Result<T, AppendError> {
        let result = run(appender);
        if let Err(error) = &result {
            appender.poisoned = Some(format!("\"{}\" failed", chain(error)));
        }
        result
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.syncer.stop(self.epoch);
        if let Some(thread) = self.sync_thread.take() {
            // It panicked: then it has said so, and what it did not sync is not acknowledged as durable.
            let _ = thread.join();
        }
    }
}

fn start_sync_thread(
    shared: &Arc<Shared>,
    interval: Duration,
    epoch: u64,
) -> Result<JoinHandle<()>, StorageError> {
    let shared = Arc::clone(shared);
    let directory = shared.config.directory.clone();
    let run = move || {
        while shared.syncer.wait(interval, epoch) {
            if let Err(error) = shared.sync() {
                let directory = shared.config.directory.display();
                tracing::error!(log = %directory, error = %chain(&error), "sync failed: the log takes nothing more");
                return;
            }
        }
    };
    let thread = std::thread::Builder::new().name("log-sync".into()).spawn(run);
    thread.map_err(storage("start the sync thread of", directory))
}

/// Whether nothing that is stored leads up to the window.
fn begins_history(state: &State, window: &Window) -> bool {
    state.head.as_ref().is_none_or(|head| head.timeline != window.timeline)
}

/// A source that commits nothing moves on in memory; its position is written now and then.
fn idle(shared: &Shared, appender: &mut Appender, epoch: u64, window: &Window) -> Result<Ack, AppendError> {
    shared.state().head = Some(head_after(window));
    shared.announce();
    let since = *appender.idle_since.get_or_insert_with(Instant::now);
    if since.elapsed() >= shared.config.idle_interval {
        flush_idle(shared, appender, epoch)?;
    }
    drop_old(shared);
    Ok(Ack::Accepted(window.position()))
}

/// Writes down how far an idle source is.
fn flush_idle(shared: &Shared, appender: &mut Appender, epoch: u64) -> Result<(), AppendError> {
    let Some(idle) = pending(&shared.state()) else { return Ok(()) };
    let encoded = encode_shared(&idle).map_err(AppendError::Encode)?;
    store(shared, appender, epoch, encoded)?;
    Ok(())
}

/// The window that says what is known of the source and not stored.
fn pending(state: &State) -> Option<Window> {
    let (stored, head) = (state.stored()?, state.head.as_ref()?);
    let ahead = head.timeline.number == stored.timeline && head.scn > stored.scn;
    let span = Span { after: stored.scn, upto: head.scn };
    ahead.then(|| {
        Window::empty(Arc::clone(&head.source), head.timeline.clone(), span, Arc::clone(&head.executed))
    })
}

fn head_after(window: &Window) -> Head {
    Head {
        source: Arc::clone(&window.source),
        timeline: window.timeline.clone(),
        scn: window.span.upto,
        executed: Arc::clone(&window.executed),
    }
}

/// Writes a window, with what must come before it, and shows it to the readers. Says whether it is durable.
fn store(
    shared: &Shared,
    appender: &mut Appender,
    epoch: u64,
    (frame, window): (Frame, Window),
) -> Result<bool, AppendError> {
    if begins_history(&shared.state(), &window) {
        // The old timeline ends where readers have seen it end.
        flush_idle(shared, appender, epoch)?;
    }
    // Windows that follow an idle time are preceded by one that says so, unless they are that one.
    let before = pending(&shared.state())
        .filter(|idle| idle.span.upto == window.span.after && idle.timeline == window.timeline);
    let before = before.map(|idle| encode_shared(&idle)).transpose().map_err(AppendError::Encode)?;
    let more = frame.bytes().len() as u64;
    if must_roll(shared, appender, &window, more) {
        roll(shared, appender, epoch, &window)?;
    }
    let active = appender.active.as_mut().expect("rolling made one");
    let mut written = Vec::new();
    if let Some((frame, idle)) = before {
        written.push(write(active, frame, Some(idle))?);
    }
    for table in &window.tables {
        // One that was told, and then another version of its table, is told again: the last one is the newest.
        if active.schemas.get(table.schema.name()) != Some(&table.schema.id()) {
            active.schemas.insert(table.schema.name().clone(), table.schema.id());
            written.push(write(active, encode_schema(&table.schema), None)?);
        }
    }
    let executed = Arc::clone(&window.executed);
    let completes = window.transactions.last().is_none_or(|t| t.part.completes());
    written.push(write(active, frame, Some(window))?);
    let durable = sync_after(shared, active, &written)?;
    publish(shared, active.sequence, written);
    if completes {
        appender.stored_executed = executed;
        appender.idle_since = None;
    }
    Ok(durable)
}

fn write(active: &mut Active, frame: Frame, window: Option<Window>) -> Result<Written, StorageError> {
    let offset = active.length;
    active.file.write_all_at(frame.bytes(), offset).map_err(storage("append to", &active.path))?;
    active.length += frame.bytes().len() as u64;
    Ok(Written { offset, end: active.length, frame, window })
}

/// Hands what was written to the sync thread, or syncs it now.
fn sync_after(shared: &Shared, active: &mut Active, written: &[Written]) -> Result<bool, StorageError> {
    let stored = shared.state().segment(active.sequence).map(|s| (s.end(), s.index.length));
    let (mut position, mut offset) = stored.expect("the active segment is there");
    for (window, end) in written.iter().filter_map(|w| Some((w.window.as_ref()?, w.end))) {
        if window.transactions.last().is_none_or(|t| t.part.completes()) {
            (position, offset) = (window.position(), end);
        }
    }
    let (file, path) = (Arc::clone(&active.file), active.path.clone());
    let end = Place { sequence: active.sequence, offset };
    shared.syncer.note(Unsynced { file, path, end, position, is_new: false, is_dirty: true });
    let now = shared.config.fsync == Fsync::Always || active.must_sync;
    if now {
        shared.sync()?;
        active.must_sync = false;
    }
    Ok(now)
}

/// Shows the readers what was written.
fn publish(shared: &Shared, sequence: u64, written: Vec<Written>) {
    let mut state = shared.state();
    let at = |offset| Place { sequence, offset };
    for Written { offset, end, frame, window } in written {
        let segment = state.segments.back_mut().expect("the active segment is the last");
        let Some(window) = window else {
            segment.index.schemas.push(offset);
            continue;
        };
        segment.index.note(&window, offset, end);
        if segment.index.length == end {
            state.head = Some(head_after(&window));
        }
        state.ring.push(Entry { place: at(offset), end: at(end), frame, window: Arc::new(window) });
    }
    state.segments.back_mut().expect("the active segment is the last").written = shared.clock.now();
    drop(state);
    shared.announce();
}

fn must_roll(shared: &Shared, appender: &Appender, window: &Window, more: u64) -> bool {
    let Some(active) = &appender.active else { return true };
    if active.timeline != window.timeline.number {
        return true;
    }
    // All fragments of a transaction lie in one segment, so only the last one can have an incomplete end.
    let full = active.length + more > shared.config.segment_bytes;
    let empty = shared.state().segment(active.sequence).is_none_or(|s| s.index.is_empty());
    full && appender.open.is_none() && !empty
}

/// Seals the active segment and begins the next, for that window.
fn roll(shared: &Shared, appender: &mut Appender, epoch: u64, window: &Window) -> Result<(), AppendError> {
    seal(shared, appender)?;
    shared.look_for_newer_epoch()?;
    let newer = shared.epoch.load(Ordering::SeqCst);
    if newer > epoch {
        return Err(Fenced { directory: shared.config.directory.clone(), mine: epoch, newer }.into());
    }
    let must_sync = shared.state().stored().is_none_or(|s| s.timeline != window.timeline.number);
    let header = next_header(&shared.state(), &appender.stored_executed, epoch, window);
    // One that only says where the log begins has no length: the next begins there too.
    let last = shared.state().segments.back().map(|last| last.path.clone());
    let path = segment::path(&shared.config.directory, header.start());
    let path = if last.as_ref() == Some(&path) { segment::beside(&path, header.sequence) } else { path };
    let bytes = header.encode();
    let file = begin_file(shared, &path, &bytes)?;
    let first = bytes.len() as u64;
    let (end, position) = (Place { sequence: header.sequence, offset: first }, header.start());
    let (kept, named) = (Arc::clone(&file), path.clone());
    shared.syncer.note(Unsynced { file: kept, path: named, end, position, is_new: true, is_dirty: true });
    let (sequence, timeline) = (header.sequence, header.timeline.number);
    let index = Index::new(header.after, first);
    let segment =
        Segment { path: path.clone(), header: Arc::new(header), first, index, written: shared.clock.now() };
    {
        let mut state = shared.state();
        state.segments.push_back(segment);
        state.active = Some(sequence);
    }
    let (since, schemas) = (Instant::now(), HashMap::new());
    appender.active =
        Some(Active { file, path, sequence, timeline, since, length: first, schemas, must_sync });
    drop_old(shared);
    Ok(())
}

/// Begins where what is stored ends; with a new timeline, where the window begins. Then the set of executed
/// transactions is not known and empty.
fn next_header(state: &State, executed: &Arc<str>, epoch: u64, window: &Window) -> SegmentHeader {
    let stored = state.stored().filter(|stored| stored.timeline == window.timeline.number);
    SegmentHeader {
        sequence: state.last_sequence() + 1,
        epoch,
        timeline: window.timeline.clone(),
        after: stored.map_or(window.span.after, |stored| stored.scn),
        source: Arc::clone(&window.source),
        executed: if stored.is_some() { Arc::clone(executed) } else { "".into() },
    }
}

/// A segment gets its name when its header is written, so a name that is there has a header.
fn begin_file(
    shared: &Shared,
    path: &std::path::Path,
    header: &[u8],
) -> Result<Arc<dyn SegmentFile>, StorageError> {
    let fresh = path.with_extension("new");
    let file = shared.files.create(&fresh).map_err(storage("create", &fresh))?;
    file.write_all_at(header, 0).map_err(storage("append to", &fresh))?;
    shared.files.rename(&fresh, path).map_err(storage("create", path))?;
    Ok(file)
}

/// Ends the active segment: its index is written beside it.
fn seal(shared: &Shared, appender: &mut Appender) -> Result<(), StorageError> {
    let Some(active) = appender.active.take() else { return Ok(()) };
    let index = shared.state().segment(active.sequence).map(|s| s.index.clone());
    let index = index.expect("the active segment is never dropped");
    let written = write_index(&*shared.files, &active.path, &index);
    shared.state().active = None;
    if let Some(history) = &shared.history {
        history.sealed.notify_one();
    }
    written
}

/// Seals the active segment if it was begun so long ago, and makes it durable.
pub(crate) fn seal_old(shared: &Shared, age: Duration) -> Result<(), StorageError> {
    // A writer that panicked leaves what the next one will cut.
    let Ok(mut appender) = shared.appender.lock() else { return Ok(()) };
    let is_old = appender.active.as_ref().is_some_and(|active| active.since.elapsed() >= age);
    if !is_old || appender.open.is_some() || appender.poisoned.is_some() {
        return Ok(());
    }
    let done = seal(shared, &mut appender).and_then(|()| shared.sync());
    if let Err(error) = &done {
        appender.poisoned = Some(format!("\"{}\" failed", chain(error)));
    }
    done
}

/// Cuts what an older writer left unfinished or in doubt, and makes the rest durable.
fn take_over(shared: &Shared) -> Result<(), OpenError> {
    let (files, directory) = (&*shared.files, &shared.config.directory);
    let durable = read_durable(files, directory)?.unwrap_or_default();
    let in_doubt = |s: &&Segment| s.header.sequence >= durable.sequence;
    let segments: Vec<Segment> = shared.state().segments.iter().filter(in_doubt).cloned().collect();
    for segment in &segments {
        let index = segment.index.without_incomplete();
        if index.is_empty() {
            remove_segment(files, &segment.path)?;
            shared.state().segments.retain(|s| s.header.sequence != segment.header.sequence);
            continue;
        }
        let file = files.open(&segment.path).map_err(storage("open", &segment.path))?;
        let known = if durable.sequence == segment.header.sequence { durable.offset } else { 0 };
        settle(&*file, &segment.path, known, index.length)?;
        write_index(files, &segment.path, &index)?;
        let mut state = shared.state();
        let same = state.segments.iter_mut().find(|s| s.header.sequence == segment.header.sequence);
        same.expect("only the writer drops segments").index = index;
    }
    files.sync_directory(directory).map_err(storage("sync", directory))?;
    let mut state = shared.state();
    let end = state.stored_place();
    state.ring.cut(end);
    state.durable = state.stored();
    drop(state);
    Ok(write_durable(files, directory, end)?)
}
