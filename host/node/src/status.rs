//! What each subscription has done so far, and how late: counted where it happens, read by commands and metrics.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tidemill_event::{Phase, Position, Window};
use tokio::sync::watch;

use crate::lag::Lag;

/// Windows that were appended but not yet committed by some subscription are remembered up to this number; older
/// ones count in no read-to-commit lag.
const FETCHED_MAX: usize = 1 << 16;

/// What was read from a source, and when; cheap to clone.
#[derive(Clone, Default)]
pub struct Fetched(Arc<Mutex<Read>>);

#[derive(Default)]
struct Read {
    windows: VecDeque<(Position, Instant)>,
    figures: FetchFigures,
}

/// A source's figures since the process began.
#[derive(Clone, Debug, Default)]
pub struct FetchFigures {
    /// Up to where it was read.
    pub position: Position,
    /// Windows that were read.
    pub windows: u64,
    /// Transactions that are whole.
    pub transactions: u64,
    /// Changes that were read.
    pub changes: u64,
    /// Row images that are stored, an update being two.
    pub rows: u64,
    /// When the newest transaction committed that is stored: microseconds since 1970-01-01 UTC.
    pub commit_time_us: Option<i64>,
    /// From the source's commit to the log.
    pub lag: Lag,
    /// The last of these.
    pub lag_last: Option<Duration>,
}

impl Fetched {
    /// A window was read now.
    pub fn add(&self, window: &Window) {
        let mut read = self.0.lock().expect("no holder panics");
        if read.windows.len() == FETCHED_MAX {
            read.windows.pop_front();
        }
        read.windows.push_back((window.position(), Instant::now()));
        let figures = &mut read.figures;
        figures.position = window.position();
        figures.windows += 1;
        figures.changes += window.source_change_count();
    }

    /// That window is stored now.
    pub fn stored(&self, window: &Window) {
        let figures = &mut self.0.lock().expect("no holder panics").figures;
        figures.rows += window.row_count() as u64;
        for transaction in window.transactions.iter().filter(|t| t.part.completes()) {
            let lag = since(transaction.commit_time_us);
            figures.transactions += 1;
            figures.commit_time_us = Some(transaction.commit_time_us);
            figures.lag.add(lag);
            figures.lag_last = Some(lag);
        }
    }

    /// Up to where the source was read.
    pub fn position(&self) -> Position {
        self.0.lock().expect("no holder panics").figures.position
    }

    /// How many changes were read.
    pub fn changes(&self) -> u64 {
        self.0.lock().expect("no holder panics").figures.changes
    }

    /// All figures.
    pub fn figures(&self) -> FetchFigures {
        self.0.lock().expect("no holder panics").figures.clone()
    }

    /// When the window that holds that position was read.
    fn at(&self, position: Position) -> Option<Instant> {
        let read = self.0.lock().expect("no holder panics");
        let at = read.windows.partition_point(|(upto, _)| *upto < position);
        read.windows.get(at).map(|(_, when)| *when)
    }
}

/// The time since a moment in microseconds since 1970-01-01 UTC; none where the clocks disagree about which came first.
fn since(time_us: i64) -> Duration {
    let now_us = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as i64;
    Duration::from_micros(u64::try_from(now_us - time_us).unwrap_or(0))
}

/// A subscription's figures.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// What is committed.
    pub position: Position,
    /// Transactions of the source that were passed, with or without a change for the consumer.
    pub transactions_passed: u64,
    /// Transactions that the consumer saw.
    pub transactions: u64,
    /// Changes and events that were read.
    pub changes_read: u64,
    /// Those of them that filters and projections left out.
    pub changes_filtered: u64,
    /// Those that the consumer saw. What is neither filtered nor seen, it did not want.
    pub changes: u64,
    /// Commits.
    pub commits: u64,
    /// Deliveries that were rolled back.
    pub rollbacks: u64,
    /// From the source's commit to our commit.
    pub lag_commit: Lag,
    /// The last of these.
    pub lag_last: Option<Duration>,
    /// From reading the source to our commit.
    pub lag_read: Lag,
    /// The guests' own counters.
    pub counters: BTreeMap<String, u64>,
    /// Whether it has ended or pauses.
    pub ended: bool,
}

/// What a stage of guests has cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// How often it was asked.
    pub calls: u64,
    /// How long that took.
    pub time: Duration,
}

/// What was done since the last commit: it counts when it is committed.
#[derive(Clone, Copy, Debug, Default)]
struct InHand {
    read: u64,
    filtered: u64,
    changes: u64,
    transactions: u64,
}

/// A subscription's handle on its figures; cheap to clone.
#[derive(Clone)]
pub struct Meter {
    figures: Arc<watch::Sender<Figures>>,
    fetched: Fetched,
    in_hand: Arc<Mutex<InHand>>,
    costs: Costs,
}

/// What guests have cost, by stage: `policy`, `filter 1`, `consumer`; cheap to clone.
#[derive(Clone, Default)]
pub struct Costs(Arc<Mutex<BTreeMap<String, Cost>>>);

impl Costs {
    /// A stage was asked once, since then.
    pub fn add(&self, stage: &str, since: Instant) {
        let mut costs = self.0.lock().expect("no holder panics");
        if !costs.contains_key(stage) {
            costs.insert(stage.to_owned(), Cost::default());
        }
        let cost = costs.get_mut(stage).expect("it is there now");
        cost.calls += 1;
        cost.time += since.elapsed();
    }

    /// All stages.
    pub fn all(&self) -> BTreeMap<String, Cost> {
        self.0.lock().expect("no holder panics").clone()
    }
}

/// The changes and events of a window: what its readers are told of, one by one.
pub fn told(window: &Window) -> u64 {
    let changes: usize = window.tables.iter().map(|table| table.changes(0).count()).sum();
    (changes + window.events.len()) as u64
}

impl Meter {
    /// A meter of a subscription that stands at `position`.
    pub fn new(position: Position, fetched: Fetched) -> Meter {
        let figures = Figures { position, ..Figures::default() };
        let (in_hand, costs) = (Arc::default(), Costs::default());
        Meter { figures: Arc::new(watch::Sender::new(figures)), fetched, in_hand, costs }
    }

    /// What is committed.
    pub fn position(&self) -> Position {
        self.figures.borrow().position
    }

    /// The figures now.
    pub fn figures(&self) -> Figures {
        self.figures.borrow().clone()
    }

    /// What its guests have cost.
    pub fn costs(&self) -> &Costs {
        &self.costs
    }

    /// Waits until the figures fulfil the condition, or the subscription has ended.
    pub async fn wait(&self, condition: impl Fn(&Figures) -> bool) {
        let mut figures = self.figures.subscribe();
        // The sender lives as long as this meter: the wait ends with the condition.
        let _ = figures.wait_for(|f| f.ended || condition(f)).await;
    }

    /// Adds to a guest's counter.
    pub fn count(&self, counter: &str, by: u64) {
        self.figures.send_modify(|figures| *figures.counters.entry(counter.to_owned()).or_default() += by);
    }

    /// The subscription has ended.
    pub fn end(&self) {
        self.figures.send_modify(|figures| figures.ended = true);
    }

    /// A window has gone through filters and projections.
    pub fn staged(&self, read: &Window, left: &Window) {
        let (read, left) = (told(read), told(left));
        let mut hand = self.in_hand.lock().expect("no holder panics");
        hand.read += read;
        hand.filtered += read - left;
    }

    /// The consumer has seen so many.
    pub fn delivered(&self, transactions: u64, changes: u64) {
        let mut hand = self.in_hand.lock().expect("no holder panics");
        hand.transactions += transactions;
        hand.changes += changes;
    }

    /// What was done since the last commit is done again.
    pub fn rolled_back(&self) {
        *self.in_hand.lock().expect("no holder panics") = InHand::default();
        self.figures.send_modify(|figures| figures.rollbacks += 1);
    }

    /// Counts a commit of that window, and of what came since the last one.
    pub fn committed(&self, window: &Window) {
        let hand = std::mem::take(&mut *self.in_hand.lock().expect("no holder panics"));
        self.figures.send_modify(|figures| {
            figures.position = window.position();
            figures.transactions += hand.transactions;
            figures.changes_read += hand.read;
            figures.changes_filtered += hand.filtered;
            figures.changes += hand.changes;
            figures.commits += 1;
            if window.phase != Phase::Stream {
                // One transaction that never was: nobody committed or read it at a time.
                return;
            }
            for transaction in window.transactions.iter().filter(|t| t.part.completes()) {
                figures.transactions_passed += 1;
                let lag = since(transaction.commit_time_us);
                figures.lag_commit.add(lag);
                figures.lag_last = Some(lag);
            }
            let read = self.fetched.at(figures.position);
            let passed = window.transactions.len() as u64;
            read.iter().for_each(|read| figures.lag_read.add_many(read.elapsed(), passed));
        });
    }
}
