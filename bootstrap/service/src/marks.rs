//! What the follower has passed, for whoever copies tables beside it: turns the marks that a source gives into positions of
//! the store, and tells which tables were touched when. It remembers a bounded stretch; what is older counts as touched.
//!
//! A position that the follower passed and whose transactions are all in the source's set is a right low mark, and so is
//! every older one. All of them are behind the runs that the store has, so that a copy's rows are brought up to date by those.
//!
//! What was read at another server than the one whose log is followed, a replica of it, has a place by transactions alone:
//!
//! ```text
//! the log that is followed   ──── t1 ──── t2 ──── t3 ──── t4 ──▶
//! read at the replica             low: {t1, t2}   high: {t1 .. t3}
//! ```
//!
//! Its own log has other places, and those say nothing here.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidemill_bootstrap_clone::{BoxError, NoPlace};
use tidemill_event::gtid::{GtidSet, MySqlSet, NotASet, Uuid};
use tidemill_event::{Position, Scn, TableName};
use tidemill_fetchers_api::extract::{ChunkMarks, LowMark};
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
    /// What was read is not the source.
    #[error(
        "server {server} has transactions of its own, {transactions}, that the log which is followed has not: it is no true \
         replica of the source; copy from the source or from another replica, or make this one anew and let nobody write to it"
    )]
    Foreign {
        /// Who was read.
        server: String,
        /// What it has more.
        transactions: String,
    },
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
    /// Whether transactions were passed since then.
    has_transactions: bool,
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

/// What that server committed first. MariaDB's sets do not tell.
fn of_server(set: &GtidSet, server: &str) -> MySqlSet {
    let mut own = MySqlSet::default();
    if let (GtidSet::MySql(set), Some(server)) = (set, Uuid::parse(server)) {
        for (_, tag, ranges) in set.iter().filter(|(uuid, ..)| *uuid == server) {
            ranges.iter().for_each(|range| own.add_range(server, tag, *range));
        }
    }
    own
}

/// Nothing is a set of either family.
fn parse(text: &str) -> Result<GtidSet, MarkError> {
    let set = GtidSet::parse(text).map_err(|source| MarkError::Set(text.to_owned(), source))?;
    Ok(set.unwrap_or(GtidSet::MySql(MySqlSet::default())))
}

impl From<MarkError> for NoPlace {
    fn from(error: MarkError) -> NoPlace {
        match error {
            MarkError::Foreign { .. } | MarkError::NoSets => NoPlace::Again { why: error.to_string() },
            MarkError::Set(..) | MarkError::Ended => NoPlace::Never(error.into()),
        }
    }
}

fn lock(passed: &Mutex<Passed>) -> MutexGuard<'_, Passed> {
    // It is whole between any two of its statements.
    passed.lock().unwrap_or_else(PoisonError::into_inner)
}

impl tidemill_bootstrap_clone::Marks for Marks {
    async fn low(&self, table: &TableName, marks: &ChunkMarks) -> Result<Option<Position>, NoPlace> {
        Ok(self.low(table, marks).await?)
    }

    async fn high(&self, marks: &ChunkMarks) -> Result<Position, NoPlace> {
        Ok(self.high(marks).await?)
    }

    async fn touched(&self, table: &TableName, low: Position, high: Position) -> Result<bool, BoxError> {
        Ok(self.touched(table, low, high).await?)
    }
}

impl Marks {
    /// The position of a low mark, for a copy of that table; waits until the follower knows one. `None`: it is before
    /// everything that is replayed over the table.
    pub async fn low(&self, table: &TableName, marks: &ChunkMarks) -> Result<Option<Position>, MarkError> {
        let (place, set) = match (&marks.low, &marks.shared) {
            (LowMark::Executed(set), _) => (None, Some(parse(set)?)),
            (LowMark::At(scn), None) => (Some(*scn), None),
            (LowMark::At(scn), Some(shared)) => (Some(*scn), Some(parse(&shared.low)?)),
        };
        let found = self.until(|passed| match place.and_then(|scn| passed.place(&marks.server, scn)) {
            Some(place) => Some(Ok(Some(place))),
            None => passed.newest_within(set.as_ref()?),
        });
        let low = found.await??;
        let passed = lock(&self.passed);
        let since = passed.copied_since.get(table).copied().unwrap_or_default().max(passed.since);
        Ok(low.filter(|low| *low >= since))
    }

    /// The position of a high mark; waits until the follower reads the log of the server that was read, or has passed every
    /// transaction that may be in the rows.
    pub async fn high(&self, marks: &ChunkMarks) -> Result<Position, MarkError> {
        let seen = marks.shared.as_ref().map(|shared| parse(&shared.high)).transpose()?;
        self.until(|passed| {
            let place = passed.place(&marks.server, marks.high);
            let is_read = passed.timelines.last().is_some_and(|read| **read == *marks.server);
            match &seen {
                Some(seen) if !is_read => passed.first_with(seen, &marks.server).transpose(),
                _ => place.map(Ok),
            }
        })
        .await?
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

    /// A place in the log of a server that is or was followed.
    fn place(&self, server: &str, scn: Scn) -> Option<Position> {
        let index = self.timelines.iter().rposition(|known| known == server)?;
        Some(Position { timeline: index as u32 + 1, scn })
    }

    /// The first position that has all of these, which were seen at a server whose log is not the one that is followed.
    fn first_with(&self, seen: &GtidSet, server: &str) -> Result<Option<Position>, MarkError> {
        let left = |executed: &str| match GtidSet::parse(executed) {
            Ok(Some(executed)) => seen.missing_from(&executed),
            _ => seen.clone(),
        };
        let Some((_, newest)) = self.marks.back() else { return Ok(None) };
        if newest.is_empty() && !seen.is_empty() {
            return if self.has_transactions { Err(MarkError::NoSets) } else { Ok(None) };
        }
        let missing = left(newest);
        if !missing.is_empty() {
            // Others' come by the log that is followed; who reads a replica's log has its own, too.
            let own = of_server(&missing, server);
            return if own.is_empty() {
                Ok(None)
            } else {
                Err(MarkError::Foreign { server: server.to_owned(), transactions: own.to_string() })
            };
        }
        let first = self.marks.partition_point(|(_, executed)| !left(executed).is_empty());
        Ok(self.marks.get(first).map(|(position, _)| *position))
    }

    /// Sets grow with positions, so what is within is a beginning of them. Nothing, as long as nothing was passed.
    fn newest_within(&self, set: &GtidSet) -> Option<Result<Option<Position>, MarkError>> {
        match (self.marks.back()?.1.is_empty(), self.has_transactions) {
            (true, true) => return Some(Err(MarkError::NoSets)),
            // At the beginning of a server's log no set is known: its first transaction brings one.
            (true, false) if !set.is_empty() => return None,
            _ => {}
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

    /// The follower has everything up to there. `transactions`: some came since the last call; a stream that knows no set
    /// then has none.
    pub(crate) fn pass(
        &self,
        timelines: &[String],
        position: Position,
        executed: &Arc<str>,
        transactions: bool,
    ) {
        let mut passed = lock(&self.passed);
        passed.has_transactions |= transactions;
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
    use tidemill_fetchers_api::extract::SharedMarks;

    const SERVER: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn at(scn: u64) -> Position {
        Position { timeline: 1, scn: Scn(scn) }
    }

    fn set(upto: u64) -> String {
        format!("{SERVER}:1-{upto}")
    }

    fn read(server: &str, low: LowMark) -> ChunkMarks {
        ChunkMarks { low, high: Scn(0), server: server.into(), shared: None }
    }

    /// At another server, between those transactions.
    fn read_elsewhere(server: &str, low: &str, high: &str) -> ChunkMarks {
        let shared = Some(SharedMarks { low: low.to_owned(), high: high.to_owned() });
        ChunkMarks { high: Scn(4711), shared, ..read(server, LowMark::At(Scn(4711))) }
    }

    fn orders() -> TableName {
        TableName::new("shop", "orders")
    }

    fn passed(scns: impl IntoIterator<Item = u64>) -> (MarksWriter, Marks) {
        let (writer, marks) = marks();
        let servers = [SERVER.to_owned()];
        writer.begin(&servers, at(1), &set(1));
        scns.into_iter().for_each(|scn| writer.pass(&servers, at(scn), &set(scn).into(), true));
        (writer, marks)
    }

    #[tokio::test]
    async fn a_low_mark_is_the_newest_position_whose_transactions_are_all_in_the_set() {
        let (_writer, marks) = passed([2, 3, 5, 8]);
        for (executed, position) in [(1, 1), (2, 2), (4, 3), (7, 5), (8, 8), (900, 8)] {
            let low = marks.low(&orders(), &read(SERVER, LowMark::Executed(set(executed)))).await.unwrap();
            assert_eq!(low, Some(at(position)), "{executed}");
        }
        assert_eq!(marks.low(&orders(), &read(SERVER, LowMark::At(Scn(77)))).await.unwrap(), Some(at(77)));
    }

    const REPLICA: &str = "4e11fa47-71ca-11e1-9e33-c80aa9429562";

    #[tokio::test]
    async fn what_was_read_at_a_replica_has_its_place_by_transactions_and_not_by_its_own_log() {
        let (writer, marks) = passed([2, 3, 5, 8]);
        let mark = read_elsewhere(REPLICA, &set(4), &set(6));
        assert_eq!(marks.low(&orders(), &mark).await.unwrap(), Some(at(3)));
        assert_eq!(marks.high(&mark).await.unwrap(), at(8), "the first that has them all");
        // What the replica had and the follower has not passed is waited for.
        let mark = read_elsewhere(REPLICA, &set(8), &set(9));
        let high = marks.high(&mark);
        tokio::pin!(high);
        assert!(futures_util::poll!(&mut high).is_pending());
        writer.pass(&[SERVER.to_owned()], at(11), &set(9).into(), true);
        assert_eq!(high.await.unwrap(), at(11));
        // The server whose log is followed is believed its places.
        assert_eq!(marks.high(&read_elsewhere(SERVER, &set(8), &set(99))).await.unwrap(), at(4711));
    }

    #[tokio::test]
    async fn a_replica_that_wrote_itself_is_no_copy_of_the_source() {
        let (_writer, marks) = passed([2, 3]);
        let high = format!("{},{REPLICA}:1-2", set(3));
        let refused = marks.high(&read_elsewhere(REPLICA, &set(3), &high)).await;
        let Err(MarkError::Foreign { transactions, .. }) = &refused else { panic!("{refused:?}") };
        assert_eq!(*transactions, format!("{REPLICA}:1-2"));
        assert!(matches!(NoPlace::from(refused.unwrap_err()), NoPlace::Again { .. }));
    }

    #[tokio::test]
    async fn a_replica_of_mariadb_has_its_place_by_the_last_transaction_of_each_domain() {
        let (writer, marks) = marks();
        let servers = ["mariadb-1".to_owned()];
        writer.begin(&servers, at(1), "0-1-1");
        for scn in 2..9 {
            writer.pass(&servers, at(scn), &format!("0-1-{scn},1-7-3").into(), true);
        }
        let mark = read_elsewhere("mariadb-2", "0-1-4,1-7-3", "0-1-6,1-7-3");
        assert_eq!(marks.low(&orders(), &mark).await.unwrap(), Some(at(4)));
        assert_eq!(marks.high(&mark).await.unwrap(), at(6));
    }

    #[tokio::test]
    async fn a_low_mark_before_everything_that_is_known_is_waited_for() {
        let (writer, marks) = passed([2]);
        let other = REPLICA;
        let (table, mark) = (orders(), read(other, LowMark::At(Scn(4))));
        let low = marks.low(&table, &mark);
        tokio::pin!(low);
        assert!(futures_util::poll!(&mut low).is_pending());
        let next = Position { timeline: 2, scn: Scn(1) };
        writer.pass(&[SERVER.to_owned(), other.to_owned()], next, &set(3).into(), true);
        assert_eq!(low.await.unwrap(), Some(Position { timeline: 2, scn: Scn(4) }));
        drop(writer);
        let nobody = marks.low(&table, &read("nobody", LowMark::At(Scn(4)))).await;
        assert!(matches!(nobody, Err(MarkError::Ended)), "{nobody:?}");
    }

    #[tokio::test]
    async fn a_low_mark_before_what_is_replayed_over_the_table_is_none() {
        let (writer, marks) = passed([2, 3, 5, 8]);
        writer.copied_since(&orders(), at(4));
        let low = async |executed| {
            marks.low(&orders(), &read(SERVER, LowMark::Executed(set(executed)))).await.unwrap()
        };
        assert_eq!((low(4).await, low(5).await), (None, Some(at(5))));
        assert_eq!(marks.low(&orders(), &read(SERVER, LowMark::At(Scn(3)))).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_stream_without_sets_makes_no_low_mark_of_one() {
        let (writer, marks) = marks();
        let servers = [SERVER.to_owned()];
        writer.begin(&servers, at(1), "");
        writer.pass(&servers, at(2), &"".into(), true);
        let low = marks.low(&orders(), &read(SERVER, LowMark::Executed(set(9)))).await;
        assert!(matches!(low, Err(MarkError::NoSets)), "{low:?}");
        let high = marks.high(&read_elsewhere(REPLICA, &set(8), &set(9))).await;
        assert!(matches!(high, Err(MarkError::NoSets)), "{high:?}");
        // The next transaction may have one.
        assert!(matches!(NoPlace::from(MarkError::NoSets), NoPlace::Again { .. }));
    }

    #[tokio::test]
    async fn the_beginning_of_a_log_waits_for_its_first_transaction_unless_the_source_has_none() {
        let (writer, marks) = marks();
        let servers = [SERVER.to_owned()];
        writer.begin(&servers, at(1), "");
        let (table, mark) = (orders(), read(SERVER, LowMark::Executed(set(9))));
        let low = marks.low(&table, &mark);
        tokio::pin!(low);
        assert!(futures_util::poll!(&mut low).is_pending());
        // The log begins with the names of files, say.
        writer.pass(&servers, at(4), &"".into(), false);
        assert!(futures_util::poll!(&mut low).is_pending());
        let nothing = read(SERVER, LowMark::Executed(String::new()));
        assert_eq!(marks.low(&table, &nothing).await.unwrap(), Some(at(4)));
        let elsewhere = read_elsewhere(REPLICA, &set(8), &set(9));
        let high = marks.high(&elsewhere);
        tokio::pin!(high);
        assert!(futures_util::poll!(&mut high).is_pending());
        writer.pass(&servers, at(9), &set(9).into(), true);
        assert_eq!((low.await.unwrap(), high.await.unwrap()), (Some(at(9)), at(9)));
    }

    #[tokio::test]
    async fn old_marks_become_sparse_and_what_they_give_stays_right() {
        let (_writer, marks) = passed(2..5 * MARKS_MAX as u64);
        assert!(lock(&marks.passed).marks.len() <= MARKS_MAX);
        for executed in (1..5 * MARKS_MAX as u64).step_by(97) {
            let mark = read(SERVER, LowMark::Executed(set(executed)));
            match marks.low(&orders(), &mark).await.unwrap() {
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
        writer.pass(&[SERVER.to_owned()], at(20), &set(20).into(), true);
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
