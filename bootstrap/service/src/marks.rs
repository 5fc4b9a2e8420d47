//! What the follower has passed, for whoever copies tables beside it: turns the marks that a source gives into positions of
//! the store, and tells which tables were touched when. It remembers a bounded stretch; what is older counts as touched.
//!
//! A position that the follower passed and whose transactions are all in the source's set is a right low mark, and so is
//! every older one. All of them are behind the runs that the store has, so that a copy's rows are brought up to date by those.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidemill_bootstrap_clone::BoxError;
use tidemill_event::gtid::{GtidSet, NotASet};
use tidemill_event::{Position, Scn, TableName};
use tidemill_fetchers_api::extract::LowMark;
use tokio::sync::watch;

use crate::limits::{MARKS_MAX, TOUCHES_MAX};

/// Why a mark is no position.
#[derive(Debug, thiserror::Error)]
pub enum MarkError {
    /// The source's set cannot be read.
    #[error("the source's set of executed transactions `{0}` is none; this release does not know its form")]
    Set(String, #[source] NotASet),
    /// The stream says nothing about sets.
    #[error(
        "the source marks copies by sets of executed transactions, and its stream has none; turn GTIDs on at the source"
    )]
    NoSets,
    /// The follower is gone.
    #[error("the follower of the source has ended; tables are copied only beside it")]
    Ended,
}

/// What was passed. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Marks {
    passed: Arc<Mutex<Passed>>,
    moved: watch::Receiver<Position>,
}

/// The follower's side.
#[derive(Debug)]
pub(crate) struct MarksWriter {
    passed: Arc<Mutex<Passed>>,
    moved: watch::Sender<Position>,
}

#[derive(Debug, Default)]
struct Passed {
    /// The servers of the timelines, from the first.
    timelines: Vec<String>,
    /// Where transactions ended, oldest first.
    marks: VecDeque<(Position, Arc<str>)>,
    touches: HashMap<TableName, Touches>,
    /// From where on changes are replayed over the copy of a table.
    copied_since: HashMap<TableName, Position>,
    /// Nothing is known about what came before.
    since: Position,
}

/// Stretches in which a table changed: the first and the last transaction of each.
#[derive(Debug)]
struct Touches {
    stretches: VecDeque<(Position, Position)>,
    /// Up to here it may have changed at any place.
    unknown: Position,
}

pub(crate) fn marks() -> (MarksWriter, Marks) {
    let passed = Arc::new(Mutex::new(Passed::default()));
    let (moved, seen) = watch::channel(Position::default());
    (MarksWriter { passed: Arc::clone(&passed), moved }, Marks { passed, moved: seen })
}

fn lock(passed: &Mutex<Passed>) -> MutexGuard<'_, Passed> {
    // It is whole between any two of its statements.
    passed.lock().unwrap_or_else(PoisonError::into_inner)
}

impl tidemill_bootstrap_clone::Marks for Marks {
    async fn low(
        &self,
        table: &TableName,
        server: &str,
        mark: &LowMark,
    ) -> Result<Option<Position>, BoxError> {
        Ok(self.low(table, server, mark).await?)
    }

    async fn high(&self, server: &str, scn: Scn) -> Result<Position, BoxError> {
        Ok(self.at(server, scn).await?)
    }

    async fn touched(&self, table: &TableName, low: Position, high: Position) -> Result<bool, BoxError> {
        Ok(self.touched(table, low, high).await?)
    }
}

impl Marks {
    /// The position of a low mark that `server` gave, for a copy of that table; waits until the follower knows one. `None`: it
    /// is before everything that is replayed over the table.
    pub async fn low(
        &self,
        table: &TableName,
        server: &str,
        mark: &LowMark,
    ) -> Result<Option<Position>, MarkError> {
        let low = match mark {
            LowMark::At(scn) => Some(self.at(server, *scn).await?),
            LowMark::Executed(text) => {
                let set = GtidSet::parse(text).map_err(|source| MarkError::Set(text.clone(), source))?;
                let set = set.ok_or(MarkError::NoSets)?;
                self.until(|passed| passed.newest_within(&set)).await??
            }
        };
        let passed = lock(&self.passed);
        let since = passed.copied_since.get(table).copied().unwrap_or_default().max(passed.since);
        Ok(low.filter(|low| *low >= since))
    }

    /// The position of a place in the log of `server`; waits until the follower reads from it.
    pub async fn at(&self, server: &str, scn: Scn) -> Result<Position, MarkError> {
        self.until(|passed| {
            let index = passed.timelines.iter().rposition(|known| known == server)?;
            Some(Position { timeline: index as u32 + 1, scn })
        })
        .await
    }

    /// Whether a transaction or an event after `low`, up to and with `high`, was about the table; waits until the follower
    /// has passed `high`. Where it does not remember, it says that there was.
    pub async fn touched(&self, table: &TableName, low: Position, high: Position) -> Result<bool, MarkError> {
        let position = self.until(|passed| passed.position().filter(|position| *position >= high)).await?;
        debug_assert!(position >= high);
        Ok(lock(&self.passed).touched(table, low, high))
    }

    /// How far the follower has come.
    pub fn position(&self) -> Position {
        *self.moved.borrow()
    }

    /// Waits until the follower has passed that position.
    pub async fn passed(&self, position: Position) -> Result<(), MarkError> {
        self.until(|passed| passed.position().filter(|here| *here >= position)).await.map(drop)
    }

    async fn until<T>(&self, mut answer: impl FnMut(&Passed) -> Option<T>) -> Result<T, MarkError> {
        let mut moved = self.moved.clone();
        loop {
            moved.borrow_and_update();
            if let Some(answer) = answer(&lock(&self.passed)) {
                return Ok(answer);
            }
            moved.changed().await.map_err(|_| MarkError::Ended)?;
        }
    }
}

impl Passed {
    fn position(&self) -> Option<Position> {
        self.marks.back().map(|(position, _)| *position)
    }

    /// Sets grow with positions, so what is within is a beginning of them. Nothing, as long as nothing was passed.
    fn newest_within(&self, set: &GtidSet) -> Option<Result<Option<Position>, MarkError>> {
        if self.marks.back()?.1.is_empty() {
            return Some(Err(MarkError::NoSets));
        }
        let within = |executed: &str| match GtidSet::parse(executed) {
            Ok(Some(executed)) => executed.missing_from(set).is_empty(),
            Ok(None) => true,
            Err(_) => false,
        };
        let count = self.marks.partition_point(|(_, executed)| within(executed));
        let newest = count.checked_sub(1).and_then(|at| self.marks.get(at));
        Some(Ok(newest.map(|(position, _)| *position)))
    }

    fn touched(&self, table: &TableName, low: Position, high: Position) -> bool {
        if low < self.since {
            return true;
        }
        let Some(touches) = self.touches.get(table) else { return false };
        low < touches.unknown || touches.stretches.iter().any(|(first, last)| *first <= high && *last > low)
    }
}

impl MarksWriter {
    /// The follower begins there, and remembers nothing from before.
    pub(crate) fn begin(&self, timelines: &[String], position: Position, executed: &str) {
        let mut passed = lock(&self.passed);
        *passed = Passed { timelines: timelines.to_vec(), since: position, ..Passed::default() };
        passed.marks.push_back((position, executed.into()));
        drop(passed);
        self.moved.send_replace(position);
    }

    /// A copy of that table needs a low mark of there or later.
    pub(crate) fn copied_since(&self, table: &TableName, since: Position) {
        lock(&self.passed).copied_since.insert(table.clone(), since);
    }

    /// A table changed between those two, both included.
    pub(crate) fn touch(&self, table: &TableName, first: Position, last: Position) {
        let mut passed = lock(&self.passed);
        let unknown = passed.since;
        let fresh = || Touches { stretches: VecDeque::new(), unknown };
        let touches = passed.touches.entry(table.clone()).or_insert_with(fresh);
        match touches.stretches.back_mut() {
            // The parts of one transaction, or its rows and an event.
            Some(newest) if newest.1 >= first => newest.1 = newest.1.max(last),
            _ => touches.stretches.push_back((first, last)),
        }
        if touches.stretches.len() > TOUCHES_MAX {
            let oldest = touches.stretches.pop_front();
            touches.unknown = oldest.map_or(touches.unknown, |(_, last)| last);
        }
    }

    /// The follower has everything up to there.
    pub(crate) fn pass(&self, timelines: &[String], position: Position, executed: &Arc<str>) {
        let mut passed = lock(&self.passed);
        if passed.timelines.len() != timelines.len() {
            passed.timelines = timelines.to_vec();
        }
        if passed.marks.len() == MARKS_MAX {
            // Every second one of the older half: an older mark is right as well, it only makes the replay longer.
            let mut count = 0;
            passed.marks.retain(|_| {
                count += 1;
                count > MARKS_MAX / 2 || count % 2 == 0
            });
        }
        passed.marks.push_back((position, Arc::clone(executed)));
        drop(passed);
        self.moved.send_replace(position);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const SERVER: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn at(scn: u64) -> Position {
        Position { timeline: 1, scn: Scn(scn) }
    }

    fn set(upto: u64) -> String {
        format!("{SERVER}:1-{upto}")
    }

    fn orders() -> TableName {
        TableName::new("shop", "orders")
    }

    fn passed(scns: impl IntoIterator<Item = u64>) -> (MarksWriter, Marks) {
        let (writer, marks) = marks();
        let servers = [SERVER.to_owned()];
        writer.begin(&servers, at(1), &set(1));
        scns.into_iter().for_each(|scn| writer.pass(&servers, at(scn), &set(scn).into()));
        (writer, marks)
    }

    #[tokio::test]
    async fn a_low_mark_is_the_newest_position_whose_transactions_are_all_in_the_set() {
        let (_writer, marks) = passed([2, 3, 5, 8]);
        for (executed, position) in [(1, 1), (2, 2), (4, 3), (7, 5), (8, 8), (900, 8)] {
            let low = marks.low(&orders(), SERVER, &LowMark::Executed(set(executed))).await.unwrap();
            assert_eq!(low, Some(at(position)), "{executed}");
        }
        assert_eq!(marks.low(&orders(), SERVER, &LowMark::At(Scn(77))).await.unwrap(), Some(at(77)));
    }

    #[tokio::test]
    async fn a_low_mark_before_everything_that_is_known_is_waited_for() {
        let (writer, marks) = passed([2]);
        let other = "4e11fa47-71ca-11e1-9e33-c80aa9429562";
        let (table, mark) = (orders(), LowMark::At(Scn(4)));
        let low = marks.low(&table, other, &mark);
        tokio::pin!(low);
        assert!(futures_util::poll!(&mut low).is_pending());
        let next = Position { timeline: 2, scn: Scn(1) };
        writer.pass(&[SERVER.to_owned(), other.to_owned()], next, &set(3).into());
        assert_eq!(low.await.unwrap(), Some(Position { timeline: 2, scn: Scn(4) }));
        drop(writer);
        let nobody = marks.low(&table, "nobody", &mark).await;
        assert!(matches!(nobody, Err(MarkError::Ended)), "{nobody:?}");
    }

    #[tokio::test]
    async fn a_low_mark_before_what_is_replayed_over_the_table_is_none() {
        let (writer, marks) = passed([2, 3, 5, 8]);
        writer.copied_since(&orders(), at(4));
        let low =
            async |executed| marks.low(&orders(), SERVER, &LowMark::Executed(set(executed))).await.unwrap();
        assert_eq!((low(4).await, low(5).await), (None, Some(at(5))));
        assert_eq!(marks.low(&orders(), SERVER, &LowMark::At(Scn(3))).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_stream_without_sets_makes_no_low_mark_of_one() {
        let (writer, marks) = marks();
        writer.begin(&[SERVER.to_owned()], at(1), "");
        let low = marks.low(&orders(), SERVER, &LowMark::Executed(set(9))).await;
        assert!(matches!(low, Err(MarkError::NoSets)), "{low:?}");
    }

    #[tokio::test]
    async fn old_marks_become_sparse_and_what_they_give_stays_right() {
        let (_writer, marks) = passed(2..5 * MARKS_MAX as u64);
        assert!(lock(&marks.passed).marks.len() <= MARKS_MAX);
        for executed in (1..5 * MARKS_MAX as u64).step_by(97) {
            let mark = LowMark::Executed(set(executed));
            match marks.low(&orders(), SERVER, &mark).await.unwrap() {
                Some(low) => assert!(low <= at(executed)),
                None => assert!(executed < lock(&marks.passed).marks[0].0.scn.0),
            }
        }
    }

    #[tokio::test]
    async fn a_table_is_touched_where_it_was_and_where_nobody_remembers() {
        let (writer, marks) = passed([10]);
        let (orders, other) = (orders(), TableName::new("shop", "other"));
        writer.touch(&orders, at(11), at(13));
        writer.pass(&[SERVER.to_owned()], at(20), &set(20).into());
        for (low, high, touched) in
            [(1, 10, false), (1, 11, true), (12, 12, true), (13, 20, false), (0, 5, true)]
        {
            assert_eq!(marks.touched(&orders, at(low), at(high)).await.unwrap(), touched, "{low}..{high}");
        }
        assert!(!marks.touched(&other, at(5), at(20)).await.unwrap());
        for scn in 0..TOUCHES_MAX as u64 {
            writer.touch(&orders, at(30 + 2 * scn), at(30 + 2 * scn));
        }
        assert!(marks.touched(&orders, at(12), at(12)).await.unwrap());
        let late = marks.touched(&orders, at(20), at(21));
        assert!(futures_util::FutureExt::now_or_never(late).is_none());
    }
}
