//! What a read promises about the log: everything up to its low mark is in its rows, nothing after its high mark is, and the
//! rows are those of one moment and of one definition.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use support::all;
use support::extracted::{Part, WHOLE, describe, extract, read, texts};
use tidemill_event::gtid::MySqlSet;
use tidemill_event::{Remedy, Scn};
use tidemill_fetchers_api::conformance::{Seen, SeenChange};
use tidemill_fetchers_api::extract::{
    Bound, ChunkMarks, ChunkRead, Extract, ExtractSession, LowMark, SharedMarks, SourceTable,
};
use tidemill_fetchers_api::{FetchError, Start};
use tidemill_fetchers_mysql::{MySqlFetcher, MySqlSession, Origin, Password, ServerOptions, Settings};
use tidemill_servers::workload::{Duplicates, Random, Run};
use tidemill_servers::{Kind, Options, Server};

const TABLE: &str = "CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, v INT NOT NULL)";

fn settings() -> Settings {
    Settings::from(all())
}

async fn read_whole(session: &mut MySqlSession, table: &SourceTable) -> (BTreeMap<i64, i64>, ChunkMarks) {
    let (batches, marks) = read(session, table, &WHOLE).await.unwrap();
    let number = |text: &String| text.parse::<i64>().unwrap();
    (texts(&batches, table).iter().map(|row| (number(&row[0]), number(&row[1]))).collect(), marks)
}

/// The log up to there.
async fn log(server: &Server) -> Seen {
    let password = Password::new(server.user_password());
    let origin = Origin::Server(ServerOptions::new("127.0.0.1", server.port(), Server::USER, password));
    let mut fetcher = MySqlFetcher::open("test", origin, Start::Earliest, all()).await.unwrap();
    support::read_all_of(&mut fetcher, server).await.unwrap()
}

async fn end(server: &Server) -> Scn {
    let (file, offset) = server.binlog_end().await.unwrap();
    Scn::from_binlog(file.rsplit_once('.').unwrap().1.parse().unwrap(), offset).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_quiet_server_both_marks_are_the_end_of_the_log() {
    for kind in Kind::EVERY {
        let server = Server::start(kind, Options::default()).await.unwrap();
        server
            .sql(&format!(
                "{TABLE}; INSERT INTO d.t VALUES (1, 10); FLUSH BINARY LOGS; INSERT INTO d.t VALUES (2, 20)"
            ))
            .await
            .unwrap();
        server.settle().await.unwrap();
        let extract = extract(&server, &settings());
        let table = describe(&extract, "t").await;
        let (rows, marks) = read_whole(&mut extract.open().await.unwrap(), &table).await;
        assert_eq!(rows, BTreeMap::from([(1, 10), (2, 20)]), "{kind}");
        let end = end(&server).await;
        let seen = log(&server).await;
        let last = seen.transactions.last().unwrap().scn;
        let low = match kind.is_mysql() {
            true => {
                LowMark::Executed(MySqlSet::parse(&server.gtid_set().await.unwrap()).unwrap().to_string())
            }
            // What MariaDB notes of its files may lie behind the last transaction.
            false => LowMark::At(if marks.low == LowMark::At(last) { last } else { end }),
        };
        // What means the same on a replica; a server of MariaDB has such marks only as one.
        let executed = match &low {
            LowMark::Executed(set) => Some(set.clone()),
            LowMark::At(_) => None,
        };
        let shared = executed.map(|set| SharedMarks { low: set.clone(), high: set });
        let server = Arc::clone(&seen.windows[0].timeline.server);
        let expected = ChunkMarks { low, high: end, server, shared };
        assert_eq!(marks, expected, "{kind}");
        // Positions of both sides are comparable.
        assert!(last <= end && (last == end || !kind.is_mysql()), "{kind}");
    }
}

/// A commit that is in the log and cannot be seen yet: its server waits for a replica that never comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_is_logged_and_not_visible_is_not_below_the_low_mark() {
    for kind in Kind::EVERY {
        let (options, words) = match kind.is_mysql() {
            true => (Options::default().argument("--plugin-load-add=semisync_source.so"), "source"),
            false => (Options::default(), "master"),
        };
        let server = Server::start(kind, options).await.unwrap();
        server.sql(&format!("{TABLE}; INSERT INTO d.t VALUES (1, 10)")).await.unwrap();
        server
            .sql(&format!(
                "SET GLOBAL rpl_semi_sync_{words}_timeout = 3600000; SET GLOBAL rpl_semi_sync_{words}_wait_point = 'AFTER_SYNC'; \
                 SET GLOBAL rpl_semi_sync_{words}_enabled = ON"
            ))
            .await
            .unwrap();
        let before = end(&server).await;
        let extract = extract(&server, &settings());
        let table = describe(&extract, "t").await;
        let wrong = extract.clone().with_low_mark_at_log_end();
        let committing = server.sql("INSERT INTO d.t VALUES (2, 20)");
        let reading = async {
            let waiting = format!("SHOW STATUS LIKE 'Rpl_semi_sync_{words}_wait_sessions'");
            while server.rows(&waiting).await.unwrap()[0].get::<String, _>(1).unwrap() != "1" {
                tokio::task::yield_now().await;
            }
            let read = read_whole(&mut extract.open().await.unwrap(), &table).await;
            let lost = read_whole(&mut wrong.open().await.unwrap(), &table).await;
            server.sql(&format!("SET GLOBAL rpl_semi_sync_{words}_enabled = OFF")).await.unwrap();
            (read, lost)
        };
        let (committed, ((rows, marks), (lost_rows, lost_marks))) = tokio::join!(committing, reading);
        committed.unwrap();
        let commit = end(&server).await;
        assert!(before < commit);
        assert_eq!(rows, BTreeMap::from([(1, 10)]), "{kind}: the row is not visible");
        match &marks.low {
            // What is replayed are the transactions that are not in the set.
            LowMark::Executed(set) => {
                let seen = log(&server).await;
                let hidden = seen.transactions.last().unwrap();
                assert_eq!(hidden.scn, commit);
                let (source, number) = hidden.gtid.split_once(':').unwrap();
                let (first, last) = set.strip_prefix(source).unwrap()[1..].split_once('-').unwrap();
                let range = first.parse::<u64>().unwrap()..=last.parse::<u64>().unwrap();
                assert_eq!(number.parse::<u64>().unwrap(), range.end() + 1, "{kind}: {set}");
                assert!(marks.high >= commit, "{kind}");
            }
            LowMark::At(low) => assert!(*low < commit && marks.high >= commit, "{kind}: {marks:?}"),
        }
        // The end of the log as the low mark would say that the row is there.
        assert_eq!(lost_rows, BTreeMap::from([(1, 10)]), "{kind}");
        assert_eq!(lost_marks.low, LowMark::At(commit), "{kind}: a low mark that loses the row");
    }
}

/// Moves amounts between the rows of `d.t`, and inserts and deletes, until it is stopped.
fn write(server: &Server) -> Run {
    Run::start(&server.root(), 2, Duplicates::Fail, |writer| {
        let mut random = Random::new(writer as u64);
        move || {
            let mut own = || 10_000 + writer as u64 * 1000 + random.below(50);
            let (put, gone) = (own(), own());
            match random.below(3) {
                0 => format!("DELETE FROM d.t WHERE id = {gone}"),
                _ => format!(
                    "BEGIN; UPDATE d.t SET v = v - 1 WHERE id = {}; UPDATE d.t SET v = v + 1 WHERE id = {}; \
                     REPLACE INTO d.t VALUES ({put}, 0); COMMIT",
                    random.below(1000),
                    random.below(1000)
                ),
            }
        }
    })
}

/// Whether that transaction is in the rows of a read for sure.
fn is_below(low: &LowMark, scn: Scn, gtid: &str) -> bool {
    match low {
        LowMark::At(low) => scn <= *low,
        LowMark::Executed(set) => {
            let (source, number) = gtid.split_once(':').unwrap();
            let number: u64 = number.parse().unwrap();
            let intervals = set.strip_prefix(source).unwrap()[1..].split(':');
            intervals.into_iter().any(|interval| {
                let (first, last) = interval.split_once('-').unwrap_or((interval, interval));
                (first.parse().unwrap()..=last.parse().unwrap()).contains(&number)
            })
        }
    }
}

/// The rows of a chunk, then every change that is not below its low mark up to there.
fn replayed(
    rows: &BTreeMap<i64, i64>,
    low: &LowMark,
    seen: &Seen,
    inside: &dyn Fn(i64) -> bool,
) -> BTreeMap<i64, i64> {
    let mut rows = rows.clone();
    for transaction in seen.transactions.iter().filter(|t| !is_below(low, t.scn, &t.gtid)) {
        for change in &transaction.changes {
            let SeenChange::Row { before, after, .. } = change else { continue };
            let number = |image: &arrow_array::RecordBatch, column| {
                support::text(image, column, 0, "int").parse::<i64>().unwrap()
            };
            if let Some((image, _)) = before {
                rows.remove(&number(image, 0));
            }
            if let Some((image, _)) = after.as_ref().filter(|(image, _)| inside(number(image, 0))) {
                rows.insert(number(image, 0), number(image, 1));
            }
        }
    }
    rows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b22_chunks_read_under_writers_are_the_table_once_the_log_is_replayed_over_them() {
    for kind in Kind::EVERY {
        let server = Server::start(kind, Options::default()).await.unwrap();
        let rows: Vec<String> = (0..1000).map(|id| format!("({id}, 0)")).collect();
        server.sql(&format!("{TABLE}; INSERT INTO d.t VALUES {}", rows.join(", "))).await.unwrap();
        let extract = extract(&server, &settings());
        let table = describe(&extract, "t").await;
        let writers = write(&server);
        writers.wait_committed(2).await;
        let mut session = extract.open().await.unwrap();
        let mut chunks = Vec::new();
        let mut after: Option<Bound> = None;
        for _ in 0..20 {
            // Each read is of one moment, however long it takes: amounts only move.
            let (all, _) = read_whole(&mut session, &table).await;
            assert_eq!(all.values().sum::<i64>(), 0, "{kind}");
        }
        loop {
            let upto = session.bound(&table, after.as_ref(), 100).await.unwrap();
            let part = Part { after: after.as_ref(), upto: upto.as_ref(), ..WHOLE };
            let (batches, marks) = read(&mut session, &table, &part).await.unwrap();
            let number = |text: &String| text.parse::<i64>().unwrap();
            let rows: BTreeMap<i64, i64> =
                texts(&batches, &table).iter().map(|row| (number(&row[0]), number(&row[1]))).collect();
            let edge = |bound: &Option<Bound>| bound.as_ref().map(|bound| bound.0[0].parse::<i64>().unwrap());
            chunks.push((edge(&after), edge(&upto), rows, marks));
            if upto.is_none() {
                break;
            }
            after = upto;
        }
        writers.stop().await.unwrap();
        let seen = log(&server).await;
        let mut whole = BTreeMap::new();
        for (after, upto, rows, marks) in &chunks {
            let inside = |id: i64| after.is_none_or(|after| id > after) && upto.is_none_or(|upto| id <= upto);
            assert!(rows.keys().all(|id| inside(*id)), "{kind}");
            let low_is_before_high = seen
                .transactions
                .iter()
                .all(|t| !is_below(&marks.low, t.scn, &t.gtid) || t.scn <= marks.high);
            assert!(low_is_before_high, "{kind}: {marks:?}");
            whole.extend(replayed(rows, &marks.low, &seen, &inside));
        }
        let now: BTreeMap<i64, i64> = server
            .rows("SELECT id, v FROM d.t")
            .await
            .unwrap()
            .into_iter()
            .map(mysql_async::from_row)
            .collect();
        assert!(whole == now, "{kind}: {} chunks", chunks.len());
        assert!(chunks.len() >= 10, "{kind}");
    }
}

/// What the writer is told, and tells.
#[derive(Default)]
struct Told {
    /// The table without key is to be left alone …
    quiet: AtomicBool,
    /// … and is from now on.
    is_quiet: AtomicBool,
}

/// Writes to a table without key now and then, as long as it may, and to another one in between.
fn write_without_key(server: &Server, told: &Arc<Told>) -> Run {
    Run::start(&server.root(), 1, Duplicates::Fail, |_| {
        let (told, mut sent) = (Arc::clone(told), 0_u64..);
        move || {
            let at = sent.next().unwrap();
            let (n, id) = (at / 32, at % 32);
            if id >= 2 {
                return format!("REPLACE INTO d.t VALUES ({id}, {n})");
            }
            if told.quiet.load(Ordering::SeqCst) {
                told.is_quiet.store(true, Ordering::SeqCst);
                return format!("REPLACE INTO d.t VALUES ({id}, {n})");
            }
            match id {
                0 => format!("INSERT INTO d.k VALUES ({0}), ({0})", n % 9),
                _ => format!("DELETE FROM d.k WHERE v = {} LIMIT 1", n % 7),
            }
        }
    })
}

/// How often each value is in `d.k` after every transaction up to there, by the log.
fn counted(seen: &Seen, upto: Scn) -> BTreeMap<String, i64> {
    let mut counts = BTreeMap::new();
    for change in seen.transactions.iter().filter(|t| t.scn <= upto).flat_map(|t| &t.changes) {
        let SeenChange::Row { table, before, after, .. } = change else { continue };
        let images =
            [(before, -1), (after, 1)].into_iter().filter_map(|(image, by)| Some((image.as_ref()?, by)));
        for ((image, _), by) in images.filter(|_| table.table == "k") {
            *counts.entry(support::text(image, 0, 0, "int")).or_insert(0) += by;
        }
    }
    counts.retain(|_, count| *count != 0);
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b22_a_table_without_key_is_as_of_the_high_mark_unless_it_changed_between_the_marks() {
    const READS: usize = 40;
    for kind in Kind::EVERY {
        let server = Server::start(kind, Options::default()).await.unwrap();
        server
            .sql(&format!("{TABLE}; CREATE TABLE d.k (v INT); INSERT INTO d.k VALUES (1), (1), (2)"))
            .await
            .unwrap();
        let extract = extract(&server, &settings());
        let table = describe(&extract, "k").await;
        let told = Arc::new(Told::default());
        let writer = write_without_key(&server, &told);
        let reads = {
            let mut session = extract.open().await.unwrap();
            let mut reads = Vec::new();
            let mut last_write = None;
            loop {
                let (batches, marks) = read(&mut session, &table, &WHOLE).await.unwrap();
                let mut counts = BTreeMap::new();
                for row in texts(&batches, &table) {
                    *counts.entry(row[0].clone()).or_insert(0) += 1;
                }
                // A low mark is older than the read: the last one lies behind every write.
                let is_last = match (&marks.low, last_write) {
                    (LowMark::At(low), Some(write)) => *low >= write,
                    (LowMark::Executed(_), write) => write.is_some(),
                    (LowMark::At(_), None) => false,
                };
                reads.push((counts, marks));
                if is_last {
                    break;
                }
                if reads.len() == READS {
                    told.quiet.store(true, Ordering::SeqCst);
                    while !told.is_quiet.load(Ordering::SeqCst) {
                        tokio::task::yield_now().await;
                    }
                    let (file, offset) = server.binlog_end().await.unwrap();
                    let number = file.rsplit_once('.').unwrap().1.parse().unwrap();
                    last_write = Scn::from_binlog(number, offset);
                }
            }
            reads
        };
        writer.stop().await.unwrap();
        let seen = log(&server).await;
        let concerns = |changes: &[SeenChange]| {
            changes.iter().any(|c| matches!(c, SeenChange::Row { table, .. } if table.table == "k"))
        };
        let mut exact = 0;
        for (counts, marks) in &reads {
            let mut between = seen
                .transactions
                .iter()
                .filter(|t| t.scn <= marks.high && !is_below(&marks.low, t.scn, &t.gtid));
            if !between.any(|t| concerns(&t.changes)) {
                assert_eq!(*counts, counted(&seen, marks.high), "{kind}: {marks:?}");
                exact += 1;
            }
        }
        assert!(exact > 0, "{kind}: none of {} reads was exact", reads.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_read_is_as_it_was_described_or_not_read() {
    let changes = [
        "ALTER TABLE d.t ADD COLUMN w INT, ALGORITHM=INSTANT",
        "ALTER TABLE d.t MODIFY v BIGINT NOT NULL",
        "ALTER TABLE d.t MODIFY v INT UNSIGNED NOT NULL",
        "ALTER TABLE d.t RENAME COLUMN v TO u",
        "ALTER TABLE d.t DROP PRIMARY KEY, ADD PRIMARY KEY (v)",
        "ALTER TABLE d.t MODIFY name VARCHAR(20) CHARACTER SET utf16",
        "RENAME TABLE d.t TO d.other",
        "DROP TABLE d.t",
        "DROP DATABASE d",
    ];
    for kind in Kind::EVERY {
        let server = Server::start(kind, Options::default()).await.unwrap();
        let extract = extract(&server, &settings());
        for change in changes {
            server
                .sql("DROP DATABASE IF EXISTS d; CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, v INT NOT NULL, \
                      name VARCHAR(10) CHARACTER SET utf8mb4); INSERT INTO d.t VALUES (1, 1, 'é')")
                .await
                .unwrap();
            let table = describe(&extract, "t").await;
            // One session has read it before, the other has not.
            let mut used = extract.open().await.unwrap();
            read(&mut used, &table, &WHOLE).await.unwrap();
            server.sql(change).await.unwrap();
            for session in [&mut used, &mut extract.open().await.unwrap()] {
                let error = read(session, &table, &WHOLE).await.unwrap_err();
                let is_it = matches!(&error, FetchError::Redefined { table } if table.to_string() == "d.t");
                assert!(is_it, "{kind} {change}: {error}");
                assert_eq!(error.remedy(), Remedy::Retry);
            }
            if let Some(again) = extract.describe(table.schema.name()).await.unwrap() {
                assert_ne!(again.schema.id(), table.schema.id(), "{kind} {change}");
                read(&mut extract.open().await.unwrap(), &again, &WHOLE).await.unwrap();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_takes_no_more_rows_ends_the_read_with_an_error() {
    let server = Server::start(Kind::MySql, Options::default()).await.unwrap();
    server.sql(&format!("{TABLE}; INSERT INTO d.t VALUES (1, 1)")).await.unwrap();
    let extract = extract(&server, &settings());
    let table = describe(&extract, "t").await;
    let chunk = ChunkRead { table: &table, columns: &[0], conditions: &[], after: None, upto: None };
    let error = extract.open().await.unwrap().read(&chunk, &mut |_| false).await.unwrap_err();
    assert!(matches!(error, FetchError::Io { .. }), "{error}");
}

/// Nothing is locked and nothing waits: other sessions write and define while rows are on their way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b27_a_read_leaves_no_transaction_and_no_lock_behind() {
    for kind in Kind::EVERY {
        let server = Server::start(kind, Options::default()).await.unwrap();
        server.sql(&format!("{TABLE}; INSERT INTO d.t VALUES (1, 1)")).await.unwrap();
        let extract = extract(&server, &settings());
        let table = describe(&extract, "t").await;
        let mut session = extract.open().await.unwrap();
        session.bound(&table, None, 1).await.unwrap();
        read(&mut session, &table, &WHOLE).await.unwrap();
        // The server has transactions of its own now and then.
        let open = format!(
            "SELECT COUNT(*) FROM information_schema.innodb_trx JOIN information_schema.processlist \
             ON id = trx_mysql_thread_id WHERE user = '{}'",
            Server::USER
        );
        assert_eq!(server.value::<u64>(&open).await.unwrap(), Some(0), "{kind}");
        server
            .sql("SET SESSION lock_wait_timeout = 1; ALTER TABLE d.t ADD COLUMN w INT; DROP TABLE d.t")
            .await
            .unwrap();
    }
}
