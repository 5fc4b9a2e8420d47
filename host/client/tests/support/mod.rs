//! What the tests of this crate share: a feed of given windows, and a consumer that keeps what is committed and fails
//! where it is told to. The windows themselves are those of the log's tests.

#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../../../log/tests/support/windows.rs"]
pub mod windows;

pub mod stub;

use std::borrow::Borrow;
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tidemill_client::{Consumer, Feed};
use tidemill_event::{Part, Remedy, Window};
use tidemill_log::{Log, Writer};
use windows::{config, long_fragment, window};

/// Whole transactions, one of fifty changes in five parts, and one after it.
pub fn shop() -> Vec<Window> {
    let part = |index: u64| match index {
        0 => Part::First,
        4 => Part::Last,
        _ => Part::Middle,
    };
    let parts = (0..5).map(|index| long_fragment(20, 40, part(index), index * 10, 10));
    [window(0, &[10, 20])].into_iter().chain(parts).chain([window(40, &[50, 60])]).collect()
}

/// A log with these windows, and its writer.
pub fn log_of(windows: impl IntoIterator<Item = impl Borrow<Window>>) -> (TempDir, Log, Writer) {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::open(config(directory.path())).unwrap();
    let mut writer = log.writer().unwrap();
    for window in windows {
        writer.append(window.borrow()).unwrap();
    }
    (directory, log, writer)
}

/// The words of an error, and what it asks for.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Said(pub &'static str, pub Remedy);

/// Gives these windows, then the end.
pub struct Given {
    windows: Vec<Arc<Window>>,
    next: usize,
    /// Errors that come before the window with that number.
    pub errors: VecDeque<(usize, Said)>,
    /// How often it was told to give parts again.
    pub rewound: usize,
}

impl Given {
    pub fn new(windows: Vec<Window>) -> Given {
        let windows = windows.into_iter().map(Arc::new).collect();
        Given { windows, next: 0, errors: VecDeque::new(), rewound: 0 }
    }
}

impl Feed for Given {
    type Error = Said;

    async fn next(&mut self) -> Result<Option<Arc<Window>>, Said> {
        tokio::task::yield_now().await;
        if self.errors.front().is_some_and(|(at, _)| *at == self.next) {
            return Err(self.errors.pop_front().unwrap().1);
        }
        self.try_next()
    }

    fn try_next(&mut self) -> Result<Option<Arc<Window>>, Said> {
        if let Some((_, error)) = self.errors.front().filter(|(at, _)| *at == self.next) {
            return Err(error.clone());
        }
        let window = self.windows.get(self.next).cloned();
        self.next += usize::from(window.is_some());
        Ok(window)
    }

    fn rewind(&mut self) -> Result<(), Said> {
        let part = |at: usize| self.windows[at].transactions.first().map_or(Part::Whole, |t| t.part);
        self.rewound += 1;
        while self.next > 0 && part(self.next - 1) != Part::Whole {
            self.next -= 1;
            if part(self.next) == Part::First {
                break;
            }
        }
        Ok(())
    }

    fn remedy(error: &Said) -> Remedy {
        error.1
    }
}

/// What a consumer has done.
#[derive(Debug, Default)]
pub struct Book {
    /// Committed: SCN and number of each change.
    pub committed: Vec<(u64, u64)>,
    /// Delivered and not committed.
    pub held: Vec<(u64, u64)>,
    /// Calls of `deliver`, `rollback`, `close`.
    pub delivered: usize,
    pub rolled_back: usize,
    pub closed: usize,
    /// The calls of `deliver` that fail, by number from 0.
    pub fails: BTreeSet<usize>,
}

/// A consumer that writes everything into its book.
#[derive(Clone, Default)]
pub struct Keeper(pub Arc<Mutex<Book>>);

impl Keeper {
    pub fn failing(calls: impl IntoIterator<Item = usize>) -> Keeper {
        let keeper = Keeper::default();
        keeper.0.lock().unwrap().fails = calls.into_iter().collect();
        keeper
    }
}

/// SCN and number of each change of a window.
pub fn changes(window: &Window) -> Vec<(u64, u64)> {
    let of = |c: &tidemill_event::Change| {
        let t = &window.transactions[c.txn as usize];
        (t.scn.0, t.change_number(c.ordinal))
    };
    window.changes_in_order().iter().map(of).collect()
}

impl Consumer for Keeper {
    type Error = Said;

    async fn deliver(&mut self, window: &Window) -> Result<(), Said> {
        tokio::task::yield_now().await;
        let mut book = self.0.lock().unwrap();
        window.validate().unwrap();
        book.delivered += 1;
        let call = book.delivered - 1;
        let changes = changes(window);
        if book.fails.contains(&call) {
            // It fails in the middle of its work.
            book.held.extend(&changes[..changes.len() / 2]);
            return Err(Said("the consumer failed", Remedy::Retry));
        }
        book.held.extend(changes);
        if window.transactions.last().is_none_or(|t| t.part.completes()) {
            let held = std::mem::take(&mut book.held);
            book.committed.extend(held);
        }
        Ok(())
    }

    fn rollback(&mut self) {
        let mut book = self.0.lock().unwrap();
        book.held.clear();
        book.rolled_back += 1;
    }

    async fn close(self) -> Result<(), Said> {
        self.0.lock().unwrap().closed += 1;
        Ok(())
    }

    fn remedy(error: &Said) -> Remedy {
        error.1
    }
}
