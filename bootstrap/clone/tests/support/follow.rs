//! A follower of a real server's log: keeps every window, and turns marks into positions as the one of snapshot storage does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arrow_array::RecordBatch;
use tidemill_bootstrap_clone::{BoxError, ChunkRows, Marks, NoPlace};
use tidemill_event::gtid::GtidSet;
use tidemill_event::{Change, Position, TableChanges, TableName, Window};
use tidemill_fetchers_api::extract::{ChunkMarks, LowMark};
use tidemill_fetchers_api::{Fetcher, Judge, Selector, Start};
use tidemill_fetchers_mysql::{MySqlExtract, MySqlFetcher, Origin, Password, ServerOptions, Settings};
use tidemill_servers::Server;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub fn all() -> Selector {
    Arc::new(|_| Ok(true))
}

fn user(server: &Server) -> ServerOptions {
    ServerOptions::new("127.0.0.1", server.port(), Server::USER, Password::new(server.user_password()))
}

/// With the account that a pipeline has.
pub fn extract(server: &Server) -> MySqlExtract {
    MySqlExtract::new(user(server), &Settings::from(all()))
}

/// The log of a server, read in the background.
#[derive(Clone)]
pub struct Follower(Arc<Followed>);

struct Followed {
    windows: Mutex<Vec<Window>>,
    marks: Mutex<Vec<(Position, GtidSet)>>,
    passed: watch::Receiver<Position>,
    reader: Mutex<Option<JoinHandle<()>>>,
}

impl Follower {
    /// Reads from now on, or from the beginning.
    pub async fn start(server: &Server, start: Start, judge: Option<Judge>) -> Follower {
        let mut settings = Settings::from(all());
        settings.judge = judge;
        let origin = Origin::Server(user(server));
        let mut fetcher = MySqlFetcher::open("test", origin, start, settings).await.unwrap();
        let (pass, mut passed) = watch::channel(Position::default());
        let followed = Followed {
            windows: Mutex::default(),
            marks: Mutex::default(),
            passed: passed.clone(),
            reader: Mutex::default(),
        };
        let follower = Follower(Arc::new(followed));
        let follows = follower.clone();
        let reader = tokio::spawn(async move {
            loop {
                let window = fetcher.next().await.unwrap().expect("a server's log has no end");
                follows.pass(window, &pass);
            }
        });
        *follower.0.reader.lock().unwrap() = Some(reader);
        // Its first window tells where it began.
        server.sql("CREATE DATABASE follower").await.unwrap();
        passed.changed().await.unwrap();
        follower
    }

    fn pass(&self, window: Window, pass: &watch::Sender<Position>) {
        let position = window.position();
        {
            let mut marks = self.0.marks.lock().unwrap();
            if marks.is_empty() {
                let before = Position { scn: window.span.after, ..position };
                marks.extend(window.executed_before().map(|executed| (before, executed)));
            }
            marks.extend(GtidSet::parse(&window.executed).unwrap().map(|executed| (position, executed)));
        }
        self.0.windows.lock().unwrap().push(window);
        pass.send_replace(position);
    }

    /// Waits until all that the server has executed has come, and ends.
    pub async fn to_end(&self, server: &Server) -> Vec<Window> {
        let target = GtidSet::parse(&server.gtid_set().await.unwrap()).unwrap().unwrap();
        let is_there = |_: &Position| {
            let marks = self.0.marks.lock().unwrap();
            marks.last().is_some_and(|(_, executed)| target.missing_from(executed).is_empty())
        };
        self.0.passed.clone().wait_for(is_there).await.unwrap();
        if let Some(reader) = self.0.reader.lock().unwrap().take() {
            reader.abort();
        }
        self.0.windows.lock().unwrap().clone()
    }
}

impl Marks for Follower {
    async fn low(&self, _: &TableName, marks: &ChunkMarks) -> Result<Option<Position>, NoPlace> {
        let set = match &marks.low {
            LowMark::At(scn) => return Ok(Some(Position { timeline: 1, scn: *scn })),
            LowMark::Executed(set) => GtidSet::parse(set).unwrap().unwrap(),
        };
        let marks = self.0.marks.lock().unwrap();
        let passed = marks.iter().rev().find(|(_, executed)| executed.missing_from(&set).is_empty());
        Ok(passed.map(|(position, _)| *position))
    }

    async fn high(&self, marks: &ChunkMarks) -> Result<Position, NoPlace> {
        Ok(Position { timeline: 1, scn: marks.high })
    }

    async fn touched(&self, table: &TableName, low: Position, high: Position) -> Result<bool, BoxError> {
        self.0.passed.clone().wait_for(|passed| *passed >= high).await?;
        let windows = self.0.windows.lock().unwrap();
        let (mut is_touched, within) = (false, |position| position > low && position <= high);
        changes(&windows, table, |position, _, _| is_touched |= within(position));
        Ok(is_touched)
    }
}

/// Every change of a table, in the order of the log.
pub fn changes(windows: &[Window], table: &TableName, mut each: impl FnMut(Position, &TableChanges, Change)) {
    for window in windows {
        for change in window.changes_in_order() {
            let changes = &window.tables[change.table as usize];
            if changes.schema.name() == table {
                let scn = window.transactions[change.txn as usize].scn;
                each(Position { timeline: window.timeline.number, scn }, changes, change);
            }
        }
    }
}

/// What chunks and the log behind them make of a table with a key, as snapshot storage does: a change wins over a row that was
/// read iff it is after the row's low mark.
pub fn replayed<K: Ord, V>(
    chunks: impl IntoIterator<Item = ChunkRows>,
    windows: &[Window],
    table: &TableName,
    row: impl Fn(&RecordBatch, usize) -> (K, V),
) -> BTreeMap<K, V> {
    let mut rows: BTreeMap<K, Version<V>> = BTreeMap::new();
    for chunk in chunks {
        for batch in &chunk.batches {
            for at in 0..batch.num_rows() {
                let (key, value) = row(batch, at);
                let version = Version { at: chunk.low, was_read: true, value: Some(value) };
                assert!(rows.insert(key, version).is_none(), "chunks share no key");
            }
        }
    }
    changes(windows, table, |at, changes, change| {
        let sides = [(change.before, false), (change.after, true)];
        for (image, is_there) in sides.into_iter().filter_map(|(image, is_there)| Some((image?, is_there))) {
            let (key, value) = row(&changes.rows, image as usize);
            let wins = |known: &Version<V>| if known.was_read { at > known.at } else { at >= known.at };
            if rows.get(&key).is_none_or(wins) {
                rows.insert(key, Version { at, was_read: false, value: is_there.then_some(value) });
            }
        }
    });
    rows.into_iter().filter_map(|(key, version)| Some((key, version.value?))).collect()
}

struct Version<V> {
    at: Position,
    was_read: bool,
    value: Option<V>,
}
