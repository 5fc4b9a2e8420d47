//! XA transactions: what is prepared is seen at its commit, whole, once, and never before; over restarts of the server,
//! of the reader, and of the connection between them. Lines L-53 and L-55 of the checklist.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use support::{Replica, all, expected, fixture, follow, only, table_of};
use tidemill_event::{Part, TableSchema};
use tidemill_fetchers_api::conformance::{self, Seen, SeenTransaction};
use tidemill_fetchers_api::{FetchError, Fetcher, Judge, Selector, Start};
use tidemill_fetchers_mysql::{FileOptions, MySqlFetcher, Origin, Password, ServerOptions, Settings};
use tidemill_servers::{Cut, CutProxy, Kind, Options, Server};

const ALL: usize = usize::MAX;

fn settings(selector: Selector, directory: &Path) -> Settings {
    Settings { directory: Some(directory.to_owned()), ..Settings::from(selector) }
}

fn origin(server: &Server, port: u16) -> Origin {
    let password = Password::new(server.user_password());
    Origin::Server(ServerOptions::new("127.0.0.1", port, Server::USER, password))
}

async fn open(server: &Server, start: Start, directory: &Path) -> Result<MySqlFetcher, FetchError> {
    MySqlFetcher::open("test", origin(server, server.port()), start, settings(all(), directory)).await
}

async fn run(conn: &mut Conn, statements: &str) {
    for statement in statements.split(';').map(str::trim).filter(|s| !s.is_empty()) {
        conn.query_drop(statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
}

/// A table `d.t (id, v)`, and one line that marks the log's end.
async fn server_with_table(kind: Kind, options: Options) -> Server {
    let server = Server::start(kind, options).await.unwrap();
    server.sql("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, v VARCHAR(300))").await.unwrap();
    server
}

async fn assert_equals_server(seen: &Seen, server: &Server) {
    let truth = table_of(server, "d.t", &["id", "v"]).await;
    let columns = ["id", "v"].map(str::to_owned);
    assert_eq!(Replica::of(seen).table("d.t", &columns, &[]), truth, "{}", server.kind());
}

/// The rows' ids of each transaction that has rows.
fn ids(transactions: &[SeenTransaction]) -> Vec<Vec<String>> {
    let all = transactions.iter().map(support::first_column);
    all.filter(|ids| !ids.is_empty()).collect()
}

#[tokio::test]
async fn l53_recorded_xa_transactions_are_seen_where_they_commit() {
    for name in ["mysql-9.7-xa", "mariadb-10.11-xa"] {
        for window_bytes in [None, Some(1)] {
            let directory = tempfile::tempdir().unwrap();
            let open = async |start| {
                let origin = Origin::Files(FileOptions::directory(fixture(name), "binlog"));
                let settings = settings(all(), directory.path());
                let fetcher = MySqlFetcher::open("test", origin, start, settings).await?;
                Ok(match window_bytes {
                    Some(bytes) => fetcher.with_window_bytes(bytes),
                    None => fetcher,
                })
            };
            let seen = conformance::check(open, ALL).await.unwrap();
            for table in expected(&fixture(name)) {
                let rows =
                    Replica::of(&seen).table(&format!("test_data.{}", table.name), &table.columns, &[]);
                assert_eq!(rows, table.rows, "{name}");
            }
            // Prepared: 2; 3 and 4; committed the other way round, behind 5, then one over two files, one in one phase.
            let expected = [&["1"][..], &["5"], &["3", "4", "3"], &["2"], &["6"], &["1"], &["7"]];
            assert_eq!(ids(&seen.transactions), expected, "{name}");
            // Both recordings end with one that is prepared.
            let mut fetcher = open(Start::Earliest).await.unwrap();
            conformance::read(&mut fetcher, ALL).await.unwrap();
            let oldest = fetcher.oldest_prepared().unwrap().expect("one is open");
            assert_eq!(oldest.scn.binlog_file(), 2, "{name}");
            assert!(oldest.scn >= seen.transactions.last().unwrap().scn, "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l53_l55_two_that_are_interleaved_are_each_whole_over_compressed_and_minimal_logs() {
    for (kind, arguments) in [
        (Kind::MySql, &[][..]),
        (Kind::MySql, &["--binlog-transaction-compression=ON"]),
        (Kind::MySql, &["--binlog-row-image=MINIMAL"]),
        (Kind::MariaDb, &[]),
        (Kind::MariaDb, &["--log-bin-compress=ON", "--log-bin-compress-min-len=10"]),
        (Kind::MariaDb, &["--binlog-row-image=MINIMAL"]),
    ] {
        let options = arguments.iter().fold(Options::default(), |options, a| options.argument(*a));
        let server = server_with_table(kind, options).await;
        server.sql("INSERT INTO d.t VALUES (1, 'a'), (2, 'a')").await.unwrap();
        let (mut a, mut b) = (server.conn().await.unwrap(), server.conn().await.unwrap());
        run(&mut a, "XA START 'a', 'x', 7; INSERT INTO d.t VALUES (10, REPEAT('a', 200)); UPDATE d.t SET v = 'A' WHERE id = 1")
            .await;
        run(&mut b, "XA START 'b'; INSERT INTO d.t VALUES (20, 'b')").await;
        run(&mut a, "XA END 'a', 'x', 7; XA PREPARE 'a', 'x', 7").await;
        run(&mut b, "DELETE FROM d.t WHERE id = 2; XA END 'b'; XA PREPARE 'b'").await;
        server.sql("INSERT INTO d.t VALUES (30, 'c')").await.unwrap();
        run(&mut b, "XA COMMIT 'b'").await;
        run(&mut a, "XA COMMIT 'a', 'x', 7").await;
        // The same id once more, for another transaction.
        run(
            &mut b,
            "XA START 'b'; INSERT INTO d.t VALUES (40, 'd'); XA END 'b'; XA PREPARE 'b'; XA ROLLBACK 'b'",
        )
        .await;
        run(
            &mut b,
            "XA START 'b'; INSERT INTO d.t VALUES (41, 'd'); XA END 'b'; XA PREPARE 'b'; XA COMMIT 'b'",
        )
        .await;

        let directory = tempfile::tempdir().unwrap();
        let mut fetcher = open(&server, Start::Earliest, directory.path()).await.unwrap();
        let mut seen = Seen::default();
        follow(&mut fetcher, &mut seen, &server).await;
        let expected = [&["1", "2"][..], &["30"], &["20", "2"], &["10", "1"], &["41"]];
        assert_eq!(ids(&seen.transactions), expected, "{kind} {arguments:?}");
        assert_equals_server(&seen, &server).await;
        assert_eq!(fetcher.oldest_prepared().unwrap(), None);
        let gtids = seen.transactions.iter().map(|t| &t.gtid).collect::<std::collections::BTreeSet<_>>();
        assert_eq!(gtids.len(), seen.transactions.len(), "each has the id of its commit");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l53_prepared_rows_outlive_the_server_the_reader_and_the_connection() {
    for kind in Kind::ALL {
        let mut server = server_with_table(kind, Options::default()).await;
        let proxy = CutProxy::start(server.address()).await.unwrap();
        let (directory, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let proxied = origin(&server, proxy.address().port());
        let open = async |start, directory: &Path| {
            MySqlFetcher::open("test", proxied.clone(), start, settings(all(), directory)).await.unwrap()
        };
        let mut fetcher = open(Start::Earliest, directory.path()).await;
        let mut conns = Vec::new();
        for name in ["server", "reader", "connection"] {
            let mut conn = server.conn().await.unwrap();
            let id = conns.len();
            run(&mut conn, &format!("XA START '{name}'; INSERT INTO d.t VALUES ({id}, '{name}'); XA END '{name}'; XA PREPARE '{name}'"))
                .await;
            conns.push(conn);
        }
        let mut seen = Seen::default();
        server.sql("INSERT INTO d.t VALUES (10, 'x')").await.unwrap();
        while ids(&seen.transactions).is_empty() {
            seen.push(fetcher.next().await.unwrap().unwrap());
        }
        let oldest = fetcher.oldest_prepared().unwrap().expect("three are prepared");
        assert!(oldest < seen.windows.last().unwrap().position());

        // The reader is killed: its last checkpoint and what its file has at this moment are all that is left.
        std::fs::copy(directory.path().join("prepared.redb"), copy.path().join("prepared.redb")).unwrap();
        drop(fetcher);
        let checkpoint = seen.windows.last().unwrap().checkpoint();
        let mut fetcher = open(Start::At(checkpoint), copy.path()).await;
        assert_eq!(fetcher.oldest_prepared().unwrap(), Some(oldest));
        drop(conns);
        server.restart().await.unwrap();
        let mut conn = server.conn().await.unwrap();
        run(&mut conn, "XA COMMIT 'server'; XA COMMIT 'reader'").await;
        while ids(&seen.transactions).len() < 3 {
            seen.push(fetcher.next().await.unwrap().unwrap());
        }
        proxy.cut_all();
        run(&mut conn, "XA COMMIT 'connection'").await;
        while ids(&seen.transactions).len() < 4 {
            seen.push(fetcher.next().await.unwrap().unwrap());
        }
        assert!(fetcher.counters().reconnects > 1, "{kind}");
        assert_eq!(ids(&seen.transactions), [["10"], ["0"], ["1"], ["2"]], "{kind}");
        assert_equals_server(&seen, &server).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l53_l89_what_is_read_again_after_a_crash_is_the_same_until_the_reader_has_it_on_disk() {
    for kind in Kind::ALL {
        let server = server_with_table(kind, Options::default()).await;
        let mut conn = server.conn().await.unwrap();
        server.sql("INSERT INTO d.t VALUES (1, 'x')").await.unwrap();
        run(&mut conn, "XA START 'a'; INSERT INTO d.t VALUES (2, 'a'), (3, 'a'), (4, 'a'); UPDATE d.t SET v = 'b' WHERE id IN (2, 3, 4); XA END 'a'; XA PREPARE 'a'")
            .await;
        server.sql("INSERT INTO d.t VALUES (5, 'x')").await.unwrap();
        run(&mut conn, "XA COMMIT 'a'").await;
        server.sql("INSERT INTO d.t VALUES (6, 'x')").await.unwrap();

        let directory = tempfile::tempdir().unwrap();
        let open = async |start| open(&server, start, directory.path()).await.map(|f| f.with_window_bytes(1));
        let seen = conformance::read(&mut open(Start::Earliest).await.unwrap(), 6).await.unwrap();
        // From before the prepare, from between, and from behind the commit, again and again.
        for _ in 0..2 {
            for (count, checkpoint) in seen.resume.iter().rev().chain(&seen.resume) {
                let rest = &seen.transactions[*count..];
                // What the reader says that it has is forgotten at its next beginning.
                let is_behind = ids(&seen.transactions[..*count]).len() > 2;
                if rest.is_empty() || is_behind {
                    continue;
                }
                let mut fetcher = open(Start::At(checkpoint.clone())).await.unwrap();
                let again = conformance::read(&mut fetcher, rest.len()).await.unwrap();
                assert!(again.transactions == rest, "{kind}: from {}", checkpoint.position);
            }
        }
        // Once the reader has the commit on disk, its rows are gone, and asking for them again is an error.
        let (_, before) =
            seen.resume.iter().rfind(|(count, _)| ids(&seen.transactions[..*count]).len() == 2).unwrap();
        let mut fetcher = open(Start::At(before.clone())).await.unwrap();
        let last = seen.windows.last().unwrap().position();
        let mut tail = Seen::default();
        while tail.windows.last().is_none_or(|w| w.position() < last) {
            tail.push(fetcher.next().await.unwrap().unwrap());
        }
        fetcher.stored(last);
        drop(fetcher);
        let mut fetcher = open(Start::At(before.clone())).await.unwrap();
        let error = loop {
            match fetcher.next().await {
                Ok(window) => assert_eq!(window.unwrap().row_count(), 0, "{kind}"),
                Err(error) => break error.to_string(),
            }
        };
        assert!(error.contains("X'61',X'',1") && error.contains("not kept"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l53_a_large_one_comes_in_fragments_and_survives_cuts_within_it() {
    for kind in Kind::ALL {
        let server = server_with_table(kind, Options::default()).await;
        let mut conn = server.conn().await.unwrap();
        let rows: Vec<String> = (0..600).map(|id| format!("({id}, REPEAT('x', 150))")).collect();
        let insert = format!("INSERT INTO d.t VALUES {}", rows.join(","));
        for (id, phases) in
            [("two", "XA PREPARE 'two'; XA COMMIT 'two'"), ("one", "XA COMMIT 'one' ONE PHASE")]
        {
            run(&mut conn, &format!("XA START '{id}'; {insert}; UPDATE d.t SET v = id; XA END '{id}'; {phases}; DELETE FROM d.t"))
                .await;
        }
        let directory = tempfile::tempdir().unwrap();
        let mut whole = Seen::default();
        follow(&mut open(&server, Start::Earliest, directory.path()).await.unwrap(), &mut whole, &server)
            .await;
        assert_eq!(ids(&whole.transactions).iter().map(Vec::len).collect::<Vec<_>>(), [1200, 600, 1200, 600]);
        let proxy = CutProxy::start(server.address()).await.unwrap();
        for limit in [30_000, 90_000, 150_000] {
            proxy.cut_every(Cut::Never);
            proxy.cut_next(Cut::AfterDump(limit));
            let origin = origin(&server, proxy.address().port());
            let settings = settings(all(), directory.path());
            let fetcher = MySqlFetcher::open("test", origin, Start::Earliest, settings).await.unwrap();
            let mut fetcher = fetcher.with_window_bytes(10_000);
            let mut seen = Seen::default();
            follow(&mut fetcher, &mut seen, &server).await;
            assert!(seen.transactions == whole.transactions, "{kind}: cut after {limit} bytes");
            assert_eq!(fetcher.counters().reconnects, 1, "{kind}: cut after {limit} bytes");
            let parts = seen.windows.iter().flat_map(|w| &w.transactions).map(|t| t.part);
            assert!(parts.filter(|part| *part == Part::Middle).count() > 20, "{kind}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l53_a_commit_without_the_rows_that_it_commits_stops_the_stream_and_a_rollback_passes() {
    for kind in Kind::ALL {
        let server = server_with_table(kind, Options::default()).await;
        let mut conn = server.conn().await.unwrap();
        run(&mut conn, "XA START 'gone'; INSERT INTO d.t VALUES (1, 'a'); XA END 'gone'; XA PREPARE 'gone'")
            .await;
        let mut other = server.conn().await.unwrap();
        run(&mut other, "XA START 'away'; INSERT INTO d.t VALUES (2, 'a'); XA END 'away'; XA PREPARE 'away'")
            .await;
        let directory = tempfile::tempdir().unwrap();
        let mut fetcher = open(&server, Start::Now, directory.path()).await.unwrap();
        run(&mut other, "XA ROLLBACK 'away'").await;
        server.sql("INSERT INTO d.t VALUES (3, 'b')").await.unwrap();
        run(&mut conn, "XA COMMIT 'gone'").await;
        let mut rows = 0;
        let error = loop {
            match fetcher.next().await {
                Ok(window) => rows += window.unwrap().row_count(),
                Err(error) => break error,
            }
        };
        assert_eq!(rows, 1, "{kind}: what committed before comes whole");
        let text = error.to_string();
        assert!(
            text.contains("X'676f6e65',X'',1") && text.contains("start before it was prepared"),
            "{text}"
        );
        assert_eq!(fetcher.next().await.unwrap_err().to_string(), text, "the error stays");
        drop(fetcher);

        // From before the prepare all is well; without a directory it stops there, before anything is lost.
        let mut seen = Seen::default();
        follow(&mut open(&server, Start::Earliest, directory.path()).await.unwrap(), &mut seen, &server)
            .await;
        assert_equals_server(&seen, &server).await;
        let origin = origin(&server, server.port());
        let mut homeless = MySqlFetcher::open("test", origin, Start::Earliest, all()).await.unwrap();
        let error = loop {
            match homeless.next().await {
                Ok(window) => assert_eq!(window.unwrap().row_count(), 0, "{kind}"),
                Err(error) => break error.to_string(),
            }
        };
        assert!(error.contains("give the fetcher a directory"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l53_empty_and_declined_ones_move_readers_on_and_savepoints_within_one_hold() {
    for kind in Kind::ALL {
        let server = server_with_table(kind, Options::default()).await;
        server.sql("CREATE DATABASE e; CREATE TABLE e.t (id INT PRIMARY KEY)").await.unwrap();
        let mut conn = server.conn().await.unwrap();
        for (id, rows) in [
            ("empty", ""),
            ("undone", "INSERT INTO d.t VALUES (1, 'a'); DELETE FROM d.t WHERE id = 1"),
            ("declined", "INSERT INTO e.t VALUES (1)"),
            (
                "save",
                "INSERT INTO d.t VALUES (2, 'b'); SAVEPOINT s; INSERT INTO d.t VALUES (3, 'c'); ROLLBACK TO s; INSERT INTO d.t VALUES (4, 'd')",
            ),
        ] {
            run(
                &mut conn,
                &format!("XA START '{id}'; {rows}; XA END '{id}'; XA PREPARE '{id}'; XA COMMIT '{id}'"),
            )
            .await;
        }
        let directory = tempfile::tempdir().unwrap();
        let mut options = ServerOptions::new(
            "127.0.0.1",
            server.port(),
            Server::USER,
            Password::new(server.user_password()),
        );
        options.heartbeat = std::time::Duration::from_secs(1);
        let settings = settings(only("d"), directory.path());
        let mut fetcher =
            MySqlFetcher::open("test", Origin::Server(options), Start::Earliest, settings).await.unwrap();
        let mut seen = Seen::default();
        follow(&mut fetcher, &mut seen, &server).await;
        assert_eq!(ids(&seen.transactions), [["1", "1"], ["2", "4"]], "{kind}");
        assert_eq!(fetcher.counters().declined_events, 1, "{kind}");
        assert_eq!(fetcher.oldest_prepared().unwrap(), None, "{kind}");
        assert_equals_server(&seen, &server).await;
    }
}

/// Judges by keeping no row of which the second column is `secret`.
fn judge(asked: &Arc<AtomicUsize>) -> Judge {
    let asked = Arc::clone(asked);
    Arc::new(move |mut window| {
        asked.fetch_add(window.row_count(), Ordering::SeqCst);
        let kept = window.tables.iter().filter_map(|table| {
            let keep = (0..table.rows.num_rows()).map(|row| {
                let source_type = &table.schema.columns()[1].source_type;
                support::text(&table.rows, 1, row, source_type) != "secret-4711"
            });
            table.keep(&keep.collect())
        });
        window.tables = kept.collect();
        Ok(window)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l53_prepared_rows_are_judged_before_they_are_stored_and_not_again() {
    for kind in Kind::ALL {
        let server = server_with_table(kind, Options::default()).await;
        let mut conn = server.conn().await.unwrap();
        run(&mut conn, "XA START 'a'; INSERT INTO d.t VALUES (1, 'open-4711'), (2, 'secret-4711'); XA END 'a'; XA PREPARE 'a'")
            .await;
        server.sql("INSERT INTO d.t VALUES (3, 'secret-4711')").await.unwrap();
        run(&mut conn, "XA COMMIT 'a'").await;
        let directory = tempfile::tempdir().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let mut settings = settings(all(), directory.path());
        settings.judge = Some(judge(&asked));
        let origin = origin(&server, server.port());
        let mut fetcher = MySqlFetcher::open("test", origin, Start::Earliest, settings).await.unwrap();
        let mut seen = Seen::default();
        follow(&mut fetcher, &mut seen, &server).await;
        assert_eq!(ids(&seen.transactions), [["1"]], "{kind}");
        assert_eq!(asked.load(Ordering::SeqCst), 3, "{kind}: each row once");
        let counters = fetcher.counters();
        assert_eq!((counters.rows_judged_away, counters.rows_given, counters.rows_prepared), (2, 1, 1));
        counters.check().unwrap();
        drop(fetcher);
        let stored = std::fs::read(directory.path().join("prepared.redb")).unwrap();
        let holds = |text: &str| stored.windows(text.len()).any(|bytes| bytes == text.as_bytes());
        assert!(holds("open-4711") && !holds("secret-4711"), "{kind}: what is judged away is nowhere");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_judge_that_fails_stops_the_source_and_no_row_leaves_unjudged() {
    let server = server_with_table(Kind::MySql, Options::default()).await;
    server.sql("INSERT INTO d.t VALUES (1, 'a')").await.unwrap();
    let failing: Judge = Arc::new(|window| match window.row_count() {
        0 => Ok(window),
        _ => Err("the guest trapped".into()),
    });
    for prepares in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let every: Selector = Arc::new(|_: &Arc<TableSchema>| Ok(true));
        let mut settings = settings(every, directory.path());
        settings.judge = Some(Arc::clone(&failing));
        let start = if prepares { Start::Now } else { Start::Earliest };
        let origin = origin(&server, server.port());
        let mut fetcher = MySqlFetcher::open("test", origin, start, settings).await.unwrap();
        if prepares {
            let mut conn = server.conn().await.unwrap();
            run(
                &mut conn,
                "XA START 'a'; INSERT INTO d.t VALUES (2, 'a'); XA END 'a'; XA PREPARE 'a'; XA COMMIT 'a'",
            )
            .await;
        }
        let error = loop {
            match fetcher.next().await {
                Ok(window) => assert_eq!(window.unwrap().row_count(), 0),
                Err(error) => break error,
            }
        };
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(matches!(error, FetchError::Judge { .. }) && cause == "the guest trapped", "{error:?}");
        assert_eq!(fetcher.next().await.unwrap_err().to_string(), error.to_string(), "the error stays");
        assert_eq!(fetcher.counters().rows_failed, 1);
    }
}
