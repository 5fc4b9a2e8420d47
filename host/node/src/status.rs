//! What each subscription has done so far, and how late: counted where it happens, read by commands and metrics.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tidemill_event::{Position, Window};
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
    position: Position,
    changes: u64,
}

impl Fetched {
    /// A window was read now.
    pub fn add(&self, window: &Window) {
        let mut read = self.0.lock().expect("no holder panics");
        if read.windows.len() == FETCHED_MAX {
            read.windows.pop_front();
        }
        read.position = window.position();
        read.windows.push_back((window.position(), Instant::now()));
        read.changes += window.source_change_count();
    }

    /// Up to where the source was read.
    pub fn position(&self) -> Position {
        self.0.lock().expect("no holder panics").position
    }

    /// How many changes were read.
    pub fn changes(&self) -> u64 {
        self.0.lock().expect("no holder panics").changes
    }

    /// When the window that holds that position was read.
    fn at(&self, position: Position) -> Option<Instant> {
        let read = self.0.lock().expect("no holder panics");
        let at = read.windows.partition_point(|(upto, _)| *upto < position);
        read.windows.get(at).map(|(_, when)| *when)
    }
}

/// A commit, for the figures.
pub struct Reported {
    /// What is committed now.
    pub position: Position,
    /// Transactions that the consumer saw.
    pub transactions: u64,
    /// Changes that it saw.
    pub changes: u64,
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
    /// Changes that it saw.
    pub changes: u64,
    /// Commits.
    pub commits: u64,
    /// From the source's commit to our commit.
    pub lag_commit: Lag,
    /// From reading the source to our commit.
    pub lag_read: Lag,
    /// The guests' own counters.
    pub counters: BTreeMap<String, u64>,
    /// Whether it has ended or pauses.
    pub ended: bool,
}

/// A subscription's handle on its figures; cheap to clone.
#[derive(Clone)]
pub struct Meter {
    figures: Arc<watch::Sender<Figures>>,
    fetched: Fetched,
}

impl Meter {
    /// A meter of a subscription that stands at `position`.
    pub fn new(position: Position, fetched: Fetched) -> Meter {
        let figures = Figures { position, ..Figures::default() };
        Meter { figures: Arc::new(watch::Sender::new(figures)), fetched }
    }

    /// What is committed.
    pub fn position(&self) -> Position {
        self.figures.borrow().position
    }

    /// The figures now.
    pub fn figures(&self) -> Figures {
        self.figures.borrow().clone()
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

    /// Counts a commit of that window.
    pub fn committed(&self, commit: &Reported, window: &Window) {
        let now_us = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as i64;
        self.figures.send_modify(|figures| {
            figures.position = commit.position;
            figures.transactions += commit.transactions;
            figures.changes += commit.changes;
            figures.commits += 1;
            for transaction in window.transactions.iter().filter(|t| t.part.completes()) {
                figures.transactions_passed += 1;
                let lag = u64::try_from(now_us - transaction.commit_time_us).unwrap_or(0);
                figures.lag_commit.add(Duration::from_micros(lag));
            }
            let read = self.fetched.at(commit.position);
            let passed = window.transactions.len() as u64;
            read.iter().for_each(|read| figures.lag_read.add_many(read.elapsed(), passed));
        });
    }
}
