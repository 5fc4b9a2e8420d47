//! Giving windows out: judged, counted, and those of prepared transactions fetched from disk one at a time.

use std::sync::Arc;

use tidemill_event::{Part, Position, Span, Timeline, Window};
use tidemill_fetchers_api::FetchError;

use crate::assemble::{Assembler, Counters};
use crate::prepared::Held;
use crate::window::Committed;

/// What is ready to be given out.
#[derive(Debug)]
pub(super) enum Ready {
    Window(Window),
    Prepared(Box<Release>),
}

/// A transaction that was prepared and has committed: its fragments go out one after the other.
#[derive(Debug)]
pub(super) struct Release {
    /// Where its events begin.
    pub(super) begin: Position,
    pub(super) held: Held,
    pub(super) committed: Committed,
    pub(super) timeline: Timeline,
    pub(super) span: Span,
    /// What was executed before it, and with it.
    pub(super) executed: [Arc<str>; 2],
    /// The next fragment.
    pub(super) next: u32,
    /// Row images that went out.
    pub(super) rows: u64,
}

impl Assembler {
    /// The next window that is ready. After an error nothing more comes.
    pub(crate) fn ready(&mut self) -> Result<Option<Window>, FetchError> {
        let Some(ready) = self.ready.pop_front() else { return Ok(None) };
        // A window may move its reader past what was prepared before it.
        let synced = self.prepared.sync();
        let given = match (synced, ready) {
            (Err(error), Ready::Window(window)) => self.keep_back(&window, error),
            (Err(error), Ready::Prepared(_)) => Err(error),
            (Ok(()), Ready::Window(window)) => self.judge(window),
            (Ok(()), Ready::Prepared(release)) => self.release(*release),
        };
        match given {
            Ok(window) => {
                self.counters.rows_given += window.row_count() as u64;
                Ok(Some(window))
            }
            Err(error) => {
                self.counters.rows_failed += self.rows_ready();
                self.ready.clear();
                Err(error)
            }
        }
    }

    /// The window as it may be stored.
    pub(super) fn judge(&mut self, window: Window) -> Result<Window, FetchError> {
        let Some(judge) = &self.judge else { return Ok(window) };
        let rows = window.row_count() as u64;
        match judge(window) {
            Ok(judged) => {
                self.counters.rows_judged_away += rows as i64 - judged.row_count() as i64;
                Ok(judged)
            }
            Err(source) => {
                self.counters.rows_failed += rows;
                Err(FetchError::Judge { source: source.into() })
            }
        }
    }

    fn keep_back(&mut self, window: &Window, error: FetchError) -> Result<Window, FetchError> {
        self.counters.rows_failed += window.row_count() as u64;
        Err(error)
    }

    /// The next fragment of a prepared transaction, as part of the one that committed.
    fn release(&mut self, mut release: Release) -> Result<Window, FetchError> {
        let mut window = self.prepared.fragment(release.begin, release.next)?;
        let rows = window.row_count() as u64;
        (release.next, release.rows) = (release.next + 1, release.rows + rows);
        let is_last = release.next == release.held.fragments;
        if is_last && release.rows != release.held.rows {
            return Err(self.damaged(&format!(
                "of a prepared XA transaction {} row images were kept and {} came back",
                release.held.rows, release.rows
            )));
        }
        let [transaction] = window.transactions.as_mut_slice() else {
            return Err(self.damaged("what was kept of a prepared XA transaction is not one transaction"));
        };
        let Committed { scn, gtid, commit_time_us } = release.committed.clone();
        (transaction.scn, transaction.gtid, transaction.commit_time_us) = (scn, gtid, commit_time_us);
        transaction.part = match (release.next, is_last) {
            (1, true) => Part::Whole,
            (1, false) => Part::First,
            (_, false) => Part::Middle,
            (_, true) => Part::Last,
        };
        let Span { after, upto } = release.span;
        window.source = Arc::clone(&self.source);
        window.timeline = release.timeline.clone();
        window.span = if is_last { Span { after, upto } } else { Span { after, upto: after } };
        window.executed = Arc::clone(&release.executed[usize::from(is_last)]);
        self.counters.rows_released += rows;
        if !is_last {
            self.ready.push_front(Ready::Prepared(Box::new(release)));
        }
        Ok(window)
    }

    fn rows_ready(&self) -> u64 {
        let windows = self.ready.iter().map(|ready| match ready {
            Ready::Window(window) => window.row_count() as u64,
            Ready::Prepared(_) => 0,
        });
        windows.sum()
    }

    /// What went through, with what is here.
    pub(crate) fn count(&self) -> Counters {
        Counters {
            rows_read: self.window.rows_read,
            rows_discarded: self.window.rows_discarded,
            rows_pending: self.window.rows_pending() + self.rows_ready(),
            ..self.counters
        }
    }
}
