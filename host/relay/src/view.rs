//! Views: what one selection shows of one source. A view lives while it has subscribers and does its work once for all of
//! them: a window is evaluated once, and written once in each format. Where a subscriber stands is the answer's.
//!
//! Tables first, then predicates, the partition, filters and projections (guests, in that order), columns last: so a filter
//! sees columns that its subscribers do not. Each table has the row images that pass; transactions, their positions and
//! ordinals stay, so that whoever sees nothing of a window still moves on.

mod cache;
mod select;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tidemill_event::Window;
use tidemill_sandbox::{FilterStage, GuestError, PredicateStage, ProjectionStage};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::format::{self, Chunk, json};
use crate::{Code, Format, Guests, Problem, Selection};
use cache::{Cache, Entry, Key};

pub(crate) use select::chosen;

/// A window of fewer rows is worked on where it is met: handing it to another thread would take longer.
const ROWS_IN_PLACE: usize = 64;

/// All views of a process.
pub(crate) struct Views {
    guests: Arc<dyn Guests>,
    cache: Cache,
    open: Mutex<HashMap<(String, Selection), Weak<View>>>,
    numbers: AtomicU64,
    pub(crate) done: Done,
}

/// What was done.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) evaluations: AtomicU64,
    pub(crate) encodings: AtomicU64,
    pub(crate) evaluation_us: AtomicU64,
}

/// One selection of one source.
pub(crate) struct View {
    views: Arc<Views>,
    number: u64,
    source: String,
    selection: Selection,
    /// Opened by the first subscriber. Windows pass one after the other.
    stages: OnceCell<Arc<tokio::sync::Mutex<Stages>>>,
}

impl Views {
    pub(crate) fn new(guests: Arc<dyn Guests>, shared_bytes: usize) -> Arc<Views> {
        let cache = Cache::new(shared_bytes);
        let (open, numbers) = (Mutex::default(), AtomicU64::new(0));
        Arc::new(Views { guests, cache, open, numbers, done: Done::default() })
    }

    fn open(&self) -> MutexGuard<'_, HashMap<(String, Selection), Weak<View>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn count(&self) -> usize {
        self.open().len()
    }

    pub(crate) fn shared_bytes(&self) -> usize {
        self.cache.bytes()
    }

    /// The view of a selection, its guests opened.
    pub(crate) async fn view(
        self: &Arc<Self>,
        source: &str,
        selection: Selection,
    ) -> Result<Arc<View>, Problem> {
        let view = self.find(source, selection);
        view.stages().await?;
        Ok(view)
    }

    fn find(self: &Arc<Self>, source: &str, selection: Selection) -> Arc<View> {
        let mut open = self.open();
        let key = (source.to_owned(), selection);
        if let Some(view) = open.get(&key).and_then(Weak::upgrade) {
            return view;
        }
        let view = Arc::new(View {
            views: Arc::clone(self),
            number: self.numbers.fetch_add(1, Ordering::Relaxed),
            source: key.0.clone(),
            selection: key.1.clone(),
            stages: OnceCell::new(),
        });
        open.insert(key, Arc::downgrade(&view));
        view
    }
}

impl Drop for View {
    fn drop(&mut self) {
        let mut open = self.views.open();
        let key = (std::mem::take(&mut self.source), std::mem::take(&mut self.selection));
        // Another of the same selection may have come already.
        if open.get(&key).is_some_and(|view| view.strong_count() == 0) {
            open.remove(&key);
        }
        drop(open);
        self.views.cache.forget_view(self.number);
    }
}

impl View {
    /// Whether the log's own windows are what is seen.
    pub(crate) fn is_all(&self) -> bool {
        self.selection.is_all()
    }

    pub(crate) fn selection(&self) -> &Selection {
        &self.selection
    }

    /// A window of the log as the selection shows it, and written. `begun`: what came of the transaction of which it
    /// holds a later part.
    pub(crate) async fn written(
        &self,
        format: Format,
        window: &Arc<Window>,
        begun: Option<&json::Orders>,
    ) -> Result<(Arc<Window>, Arc<Chunk>), Problem> {
        let key = Key::of(self.number, window);
        let entry = self.views.cache.entry(key);
        let seen = match self.is_all() || says_nothing(window) {
            true => Arc::clone(window),
            false => self.seen(key, &entry, window).await?,
        };
        let write = async {
            let chunk = self.write(format, &seen, begun).await;
            match &chunk {
                Ok(chunk) => self.views.cache.grew(key, &entry, chunk.size()),
                Err(_) => self.views.cache.forget(key, &entry),
            }
            chunk
        };
        let chunk = entry.chunk(format).get_or_init(|| write).await.clone()?;
        Ok((seen, chunk))
    }

    /// A piece of a snapshot or of deltas as the selection shows it, and written: for one reader.
    pub(crate) async fn piece(
        &self,
        format: Format,
        window: &Arc<Window>,
    ) -> Result<(Arc<Window>, Arc<Chunk>), Problem> {
        let seen = match self.is_all() || says_nothing(window) {
            true => Arc::clone(window),
            false => self.evaluate(window).await?,
        };
        let chunk = self.write(format, &seen, None).await?;
        Ok((seen, chunk))
    }

    async fn seen(&self, key: Key, entry: &Arc<Entry>, window: &Arc<Window>) -> Result<Arc<Window>, Problem> {
        let evaluate = async {
            let evaluated = self.evaluate(window).await;
            match &evaluated {
                Ok(window) => self.views.cache.grew(key, entry, size(window)),
                // Those who wait share the failure; who comes later tries again.
                Err(_) => self.views.cache.forget(key, entry),
            }
            evaluated
        };
        entry.evaluated.get_or_init(|| evaluate).await.clone()
    }

    async fn evaluate(&self, window: &Arc<Window>) -> Result<Arc<Window>, Problem> {
        let done = &self.views.done;
        done.evaluations.fetch_add(1, Ordering::Relaxed);
        let chosen = select::tables(window, &self.selection.tables);
        let stages = Arc::clone(self.stages().await?);
        let mut stages = stages.lock_owned().await;
        let in_place = !stages.has_guests() && chosen.row_count() <= ROWS_IN_PLACE;
        let (seen, took) = apart(in_place, move || {
            let start = Instant::now();
            (stages.apply(chosen), start.elapsed())
        })
        .await;
        done.evaluation_us.fetch_add(took.as_micros() as u64, Ordering::Relaxed);
        let seen = seen?;
        debug_assert_eq!(seen.validate(), Ok(()));
        Ok(Arc::new(seen))
    }

    async fn write(
        &self,
        format: Format,
        window: &Arc<Window>,
        begun: Option<&json::Orders>,
    ) -> Result<Arc<Chunk>, Problem> {
        self.views.done.encodings.fetch_add(1, Ordering::Relaxed);
        let in_place = window.row_count() <= ROWS_IN_PLACE;
        let (window, begun) = (Arc::clone(window), begun.cloned());
        let chunk = apart(in_place, move || format::write(format, &window, begun.as_ref())).await;
        chunk.map(Arc::new).map_err(|error| {
            let error: &dyn std::error::Error = &error;
            tracing::error!(source = %self.source, error, "a window cannot be written");
            Problem::new(
                Code::Storage,
                "a window cannot be written in this format; the relay's own log says why",
            )
        })
    }

    async fn stages(&self) -> Result<&Arc<tokio::sync::Mutex<Stages>>, Problem> {
        let open = || async {
            let guests = Arc::clone(&self.views.guests);
            let (selection, source) = (self.selection.clone(), self.source.clone());
            let guestless =
                Selection { part: None, filters: vec![], projections: vec![], ..selection.clone() };
            let in_place = guestless == selection;
            let stages = apart(in_place, move || Stages::open(&*guests, &selection, &source)).await?;
            Ok(Arc::new(tokio::sync::Mutex::new(stages)))
        };
        self.stages.get_or_try_init(open).await
    }
}

/// Runs work that takes its time on a thread that may.
async fn apart<T: Send + 'static>(in_place: bool, work: impl FnOnce() -> T + Send + 'static) -> T {
    match in_place {
        true => work(),
        false => {
            tokio::task::spawn_blocking(work).await.expect("the work does not panic, and the runtime runs")
        }
    }
}

fn says_nothing(window: &Window) -> bool {
    window.tables.is_empty() && window.events.is_empty()
}

fn size(window: &Window) -> usize {
    let rows: usize = window.tables.iter().map(|table| table.rows.get_array_memory_size()).sum();
    size_of::<Window>() + 64 * window.transactions.len() + rows
}

/// What a selection does with rows, and the columns that it leaves.
struct Stages {
    predicates: PredicateStage,
    filters: Vec<FilterStage>,
    projections: Vec<ProjectionStage>,
    columns: select::Columns,
}

impl Stages {
    fn open(guests: &dyn Guests, selection: &Selection, source: &str) -> Result<Stages, Problem> {
        let unopened = |name: &str, error: Box<dyn std::error::Error + Send + Sync>| {
            let error: &dyn std::error::Error = &*error;
            tracing::warn!(source, guest = name, error, "a subscription's guest does not open");
            let detail = format!("guest {name:?} does not open: {error}");
            Problem::new(Code::GuestFailed, detail).with("guest", name)
        };
        let mut filters = vec![];
        if let Some(part) = &selection.part {
            let partition = guests.partition(&part.config, source);
            filters.push(partition.map_err(|error| {
                let detail = format!("the partition cannot be read: {error}");
                Problem::new(Code::BadParameter, detail).with("parameter", "partition")
            })?);
        }
        for name in &selection.filters {
            known(name, &guests.filters(), "filter")?;
            filters.push(guests.filter(name, source).map_err(|error| unopened(name, error))?);
        }
        let mut projections = vec![];
        for name in &selection.projections {
            known(name, &guests.projections(), "projection")?;
            projections.push(guests.projection(name, source).map_err(|error| unopened(name, error))?);
        }
        let predicates = PredicateStage::new(&selection.predicates);
        Ok(Stages { predicates, filters, projections, columns: select::Columns::new(&selection.columns) })
    }

    fn has_guests(&self) -> bool {
        !self.filters.is_empty() || !self.projections.is_empty()
    }

    fn apply(&mut self, window: Window) -> Result<Window, Problem> {
        let position = window.position();
        let failed = |error: GuestError| {
            let cause: &dyn std::error::Error = &error;
            tracing::warn!(guest = %error.guest, at = %position, error = cause, "a subscription's guest failed");
            // What it says of a table's columns is no secret; what it says of rows may be.
            let why = if error.function == "plan" {
                error.to_string()
            } else {
                "the relay's own log says why".into()
            };
            let detail = format!(
                "guest {:?} failed in the window that ends at {position}; the subscription stands before it: {why}",
                error.guest
            );
            Problem::new(Code::GuestFailed, detail)
                .with("guest", &*error.guest)
                .with("at", position.to_string())
        };
        let mut window = self.predicates.apply(window)?;
        for filter in &mut self.filters {
            window = filter.apply(window).map_err(failed)?;
        }
        for projection in &mut self.projections {
            window = projection.apply(window).map_err(failed)?;
        }
        self.columns.apply(&mut window)?;
        Ok(window)
    }
}

fn known(name: &str, registered: &[String], what: &str) -> Result<(), Problem> {
    if registered.iter().any(|known| known == name) {
        return Ok(());
    }
    let detail = match registered {
        [] => format!("there is no {what} {name:?}; this relay has registered none"),
        _ => format!("there is no {what} {name:?}; registered are {}", registered.join(", ")),
    };
    Err(Problem::new(Code::UnknownGuest, detail).with("guest", name))
}
