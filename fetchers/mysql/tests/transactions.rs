//! What a transaction is, on real servers: its boundaries, its order, what of it is rolled back, and what of it the log
//! tells. Lines L-34, L-35, L-50 to L-52, L-54, L-56 to L-58 and L-89 of the checklist.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeSet;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use support::{Replica, all, first_column, only, table_of};
use tidemill_event::{EventKind, RowKind, TableName};
use tidemill_fetchers_api::conformance::{self, Seen, SeenChange, SeenTransaction};
use tidemill_fetchers_api::{FetchError, Fetcher, Selector, Start};
use tidemill_fetchers_mysql::{FileOptions, MySqlFetcher, Origin, Password, ServerOptions};
use tidemill_servers::{Kind, Options, Server};

async fn open_as(server: &Server, start: Start, selector: Selector) -> Result<MySqlFetcher, FetchError> {
    let password = Password::new(server.user_password());
    let mut options = ServerOptions::new("127.0.0.1", server.port(), Server::USER, password);
    options.heartbeat = std::time::Duration::from_millis(200);
    MySqlFetcher::open("test", Origin::Server(options), start, selector).await
}

async fn open(server: &Server, start: Start) -> Result<MySqlFetcher, FetchError> {
    open_as(server, start, all()).await
}

/// Everything that the server has executed, checked against its own files.
async fn read(server: &Server) -> Seen {
    read_in(server, None).await
}

async fn read_in(server: &Server, window_bytes: Option<usize>) -> Seen {
    let mut fetcher = open(server, Start::Earliest).await.unwrap();
    if let Some(bytes) = window_bytes {
        fetcher = fetcher.with_window_bytes(bytes);
    }
    let target = server.gtid_set().await.unwrap();
    let mut seen = Seen::default();
    while seen.windows.last().is_none_or(|w| *w.executed != *target) {
        seen.push(fetcher.next().await.unwrap().unwrap());
    }
    fetcher.counters().check().unwrap();
    let origin = Origin::Files(FileOptions::directory(server.datadir(), "binlog"));
    let mut disk = MySqlFetcher::open("test", origin, Start::Earliest, all()).await.unwrap();
    let disk = conformance::read(&mut disk, usize::MAX).await.unwrap();
    assert!(seen.transactions == disk.transactions, "the wire says what the disk says");
    seen
}

async fn run(conn: &mut Conn, statements: &str) {
    for statement in statements.split(';').map(str::trim).filter(|s| !s.is_empty()) {
        conn.query_drop(statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
}

/// Each change in a word: the kind of an event, or a row's table and what happened to its first column.
fn words(transaction: &SeenTransaction) -> Vec<String> {
    let value = |image: &(arrow_array::RecordBatch, Vec<usize>)| support::text(&image.0, 0, 0, "int");
    let word = |change: &SeenChange| match change {
        SeenChange::Row { table, before, after, .. } => match (before, after) {
            (None, Some(after)) => format!("+{table} {}", value(after)),
            (Some(before), None) => format!("-{table} {}", value(before)),
            (Some(before), Some(after)) => format!("{table} {}>{}", value(before), value(after)),
            (None, None) => unreachable!("a change has an image"),
        },
        SeenChange::Event { kind: EventKind::SchemaChange { statement, .. }, .. } => {
            statement.as_ref().unwrap().split_whitespace().take(2).collect::<Vec<_>>().join(" ")
        }
        SeenChange::Event { kind, .. } => format!("{kind:?}"),
    };
    transaction.changes.iter().map(word).collect()
}

fn all_words(seen: &Seen) -> Vec<Vec<String>> {
    seen.transactions.iter().map(words).collect()
}

/// The rows of the tables as the changes leave them, against what the server shows.
async fn assert_equals_server(seen: &Seen, server: &Server, tables: &[&str], columns: &[&str]) {
    let replica = Replica::of(seen);
    let names: Vec<String> = columns.iter().map(|c| (*c).to_owned()).collect();
    for table in tables {
        let truth = table_of(server, table, columns).await;
        assert_eq!(replica.table(table, &names, &[]), truth, "{}: {table}", server.kind());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l34_statements_over_many_tables_and_triggers_are_one_transaction_in_order() {
    for kind in Kind::ALL {
        let server = Server::start(kind, Options::default()).await.unwrap();
        server
            .sql(
                "CREATE DATABASE d; CREATE TABLE d.a (id INT PRIMARY KEY, v INT); CREATE TABLE d.b (id INT PRIMARY KEY, v INT); \
                 CREATE TABLE d.log (id INT PRIMARY KEY, v INT); \
                 CREATE TRIGGER d.t AFTER INSERT ON d.a FOR EACH ROW INSERT INTO d.log VALUES (NEW.id + 100, NEW.v)",
            )
            .await
            .unwrap();
        server
            .sql(
                "INSERT INTO d.a VALUES (1, 1), (2, 2); INSERT INTO d.b SELECT * FROM d.a; \
                 UPDATE d.a, d.b SET d.a.v = 10, d.b.v = 20 WHERE d.a.id = d.b.id AND d.a.id = 1; \
                 DELETE d.a, d.b FROM d.a JOIN d.b USING (id) WHERE id = 2",
            )
            .await
            .unwrap();
        let seen = read(&server).await;
        let rows: Vec<BTreeSet<String>> =
            all_words(&seen).into_iter().skip(4).map(|words| words.into_iter().collect()).collect();
        let sets = [
            &["+d.a 1", "+d.a 2", "+d.log 101", "+d.log 102"][..],
            &["+d.b 1", "+d.b 2"],
            &["d.a 1>1", "d.b 1>1"],
            &["-d.a 2", "-d.b 2"],
        ];
        let expected = sets.map(|set| set.iter().map(|word| (*word).to_owned()).collect());
        assert_eq!(rows, expected, "{kind}");
        assert_equals_server(&seen, &server, &["d.a", "d.b", "d.log"], &["id", "v"]).await;
    }
}

/// MySQL logs what a foreign key cascades since 9.6. MariaDB does not: its reader cannot know, and the README says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l34_cascades_of_foreign_keys_are_seen_where_the_server_logs_them() {
    for kind in Kind::ALL {
        let server = Server::start(kind, Options::default()).await.unwrap();
        server
            .sql(
                "CREATE DATABASE d; CREATE TABLE d.p (id INT PRIMARY KEY); \
                 CREATE TABLE d.c (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES d.p (id) ON DELETE CASCADE ON UPDATE CASCADE); \
                 INSERT INTO d.p VALUES (1), (2); INSERT INTO d.c VALUES (10, 1), (20, 2); \
                 DELETE FROM d.p WHERE id = 1; UPDATE d.p SET id = 3 WHERE id = 2",
            )
            .await
            .unwrap();
        let seen = read(&server).await;
        let last: Vec<BTreeSet<String>> =
            all_words(&seen).into_iter().skip(5).map(|words| words.into_iter().collect()).collect();
        let sets = match kind {
            Kind::MySql => [&["-d.p 1", "-d.c 10"][..], &["d.p 2>3", "d.c 20>20"]],
            Kind::MariaDb | Kind::MariaDb118 => [&["-d.p 1"][..], &["d.p 2>3"]],
        };
        assert_eq!(last, sets.map(|set| set.iter().map(|word| (*word).to_owned()).collect()), "{kind}");
        if kind == Kind::MySql {
            assert_equals_server(&seen, &server, &["d.c"], &["id", "p"]).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l35_rows_of_partitions_and_of_statements_in_many_events_are_complete() {
    for kind in Kind::ALL {
        let options = Options::default().argument("--binlog-row-event-max-size=256");
        let server = Server::start(kind, options).await.unwrap();
        server
            .sql(
                "CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, v VARCHAR(60)) \
                 PARTITION BY RANGE (id) (PARTITION a VALUES LESS THAN (50), PARTITION b VALUES LESS THAN MAXVALUE)",
            )
            .await
            .unwrap();
        let rows: Vec<String> = (0..100).map(|id| format!("({id}, REPEAT('x', {}))", id % 60)).collect();
        let sql = format!(
            "INSERT INTO d.t VALUES {}; UPDATE d.t SET id = id + 1000 WHERE id < 10; UPDATE d.t SET v = id; \
             DELETE FROM d.t WHERE id > 90 AND id < 1005",
            rows.join(",")
        );
        server.sql(&sql).await.unwrap();
        // A statement that finds nothing logs nothing, or rows events without rows.
        server
            .sql("BEGIN; DELETE FROM d.t WHERE id = 77777; UPDATE d.t SET v = 'y' WHERE id = 1004; COMMIT")
            .await
            .unwrap();
        for window_bytes in [None, Some(1)] {
            let seen = read_in(&server, window_bytes).await;
            assert_equals_server(&seen, &server, &["d.t"], &["id", "v"]).await;
            let moved = words(&seen.transactions[3]);
            assert!(
                moved.contains(&"d.t 3>1003".to_owned()),
                "{kind}: from one partition to the other: {moved:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l50_every_kind_of_transaction_has_its_boundaries() {
    for kind in Kind::ALL {
        let server = Server::start(kind, Options::default()).await.unwrap();
        let mut conn = server.conn().await.unwrap();
        run(
            &mut conn,
            "CREATE DATABASE d; USE d; CREATE TABLE i (id INT PRIMARY KEY) ENGINE=InnoDB; CREATE TABLE m (id INT PRIMARY KEY) ENGINE=MyISAM; \
             BEGIN; INSERT INTO i VALUES (1); INSERT INTO i VALUES (2); COMMIT; \
             INSERT INTO m VALUES (1), (2); \
             BEGIN; COMMIT; BEGIN; INSERT INTO i VALUES (3); ROLLBACK; \
             CREATE TABLE s AS SELECT * FROM i; \
             CREATE TABLE e AS SELECT * FROM i WHERE id > 100; \
             CREATE TEMPORARY TABLE tmp (id INT); INSERT INTO tmp VALUES (5); \
             BEGIN; INSERT INTO i SELECT * FROM tmp; DROP TEMPORARY TABLE tmp; INSERT INTO i VALUES (6); COMMIT; \
             ANALYZE TABLE i; \
             CREATE PROCEDURE p() INSERT INTO i VALUES (7); CALL p(); \
             DROP TABLE m, s",
        )
        .await;
        let seen = read(&server).await;
        let expected = [
            &["CREATE DATABASE"][..],
            &["CREATE TABLE"],
            &["CREATE TABLE"],
            &["+d.i 1", "+d.i 2"],
            &["+d.m 1", "+d.m 2"],
            &["CREATE TABLE", "+d.s 1", "+d.s 2"],
            &["CREATE TABLE"],
            &["+d.i 5", "+d.i 6"],
            &["+d.i 7"],
        ];
        let words = all_words(&seen);
        assert_eq!(words[..expected.len()], expected, "{kind}");
        // MySQL drops one engine's tables in a transaction of their own.
        let drops = &words[expected.len()..];
        assert!(drops.iter().all(|w| w.last().is_some_and(|w| w == "DROP TABLE")), "{kind}: {words:?}");
        let dropped = |table: &str| {
            let event = EventKind::Drop { table: TableName::new("d", table) };
            drops.iter().flatten().filter(|w| **w == format!("{event:?}")).count()
        };
        assert_eq!((dropped("m"), dropped("s")), (1, 1), "{kind}: {words:?}");
        assert_eq!(*seen.windows.last().unwrap().executed, *server.gtid_set().await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l50_a_transaction_of_declined_tables_moves_readers_on_and_counts() {
    for kind in Kind::ALL {
        let server = Server::start(kind, Options::default()).await.unwrap();
        server
            .sql(
                "CREATE DATABASE d; CREATE DATABASE e; CREATE TABLE d.t (id INT PRIMARY KEY); CREATE TABLE e.t (id INT PRIMARY KEY); \
                 INSERT INTO e.t VALUES (1); BEGIN; INSERT INTO e.t VALUES (2); INSERT INTO d.t VALUES (2); COMMIT; DELETE FROM e.t",
            )
            .await
            .unwrap();
        let mut fetcher = open_as(&server, Start::Earliest, only("d")).await.unwrap();
        let target = server.gtid_set().await.unwrap();
        let mut seen = Seen::default();
        while seen.windows.last().is_none_or(|w| *w.executed != *target) {
            seen.push(fetcher.next().await.unwrap().unwrap());
        }
        assert_eq!(seen.transactions.last().map(words), Some(vec!["+d.t 2".to_owned()]), "{kind}");
        let counters = fetcher.counters();
        assert_eq!(
            (counters.declined_events, counters.carried_events, counters.rows_given),
            (3, 1, 1),
            "{kind}"
        );
        counters.check().unwrap();
    }
}

/// MySQL with GTIDs refuses to mix engines, so it runs without; rows are what both families log.
fn mixing(kind: Kind) -> Options {
    let options = Options::default();
    match kind {
        Kind::MySql => options.argument("--gtid-mode=OFF").argument("--enforce-gtid-consistency=OFF"),
        Kind::MariaDb | Kind::MariaDb118 => options,
    }
}

/// Reads up to a last row, since without GTIDs a server does not say what it has executed.
async fn read_to_marker(server: &Server, window_bytes: usize) -> (Seen, MySqlFetcher) {
    server.sql("INSERT INTO d.i VALUES (99999, 0)").await.unwrap();
    let mut fetcher = open(server, Start::Earliest).await.unwrap().with_window_bytes(window_bytes);
    let mut seen = Seen::default();
    let is_marker = |t: &SeenTransaction| first_column(t).contains(&"99999".to_owned());
    while !seen.transactions.last().is_some_and(is_marker) {
        seen.push(fetcher.next().await.unwrap().unwrap());
    }
    server.sql("DELETE FROM d.i WHERE id = 99999").await.unwrap();
    seen.transactions.pop();
    (seen, fetcher)
}

const MIXED_TABLES: &str = "CREATE DATABASE d; CREATE TABLE d.i (id INT PRIMARY KEY, v INT) ENGINE=InnoDB; \
     CREATE TABLE d.m (id INT PRIMARY KEY, v INT) ENGINE=MyISAM; CREATE TABLE d.h (id INT PRIMARY KEY, v INT) ENGINE=MEMORY; \
     INSERT INTO d.i VALUES (1, 0), (2, 0); INSERT INTO d.m VALUES (1, 0), (2, 0)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l51_a_rollback_to_a_savepoint_keeps_what_cannot_roll_back_and_only_that() {
    for kind in Kind::ALL {
        let server = Server::start(kind, mixing(kind)).await.unwrap();
        server.sql(MIXED_TABLES).await.unwrap();
        if kind != Kind::MySql {
            server.sql("CREATE TABLE d.a (id INT PRIMARY KEY, v INT) ENGINE=Aria").await.unwrap();
        }
        let mut conn = server.conn().await.unwrap();
        run(&mut conn, "USE d; BEGIN; INSERT INTO i VALUES (10, 0); SAVEPOINT a; INSERT INTO m VALUES (10, 0); INSERT INTO h VALUES (10, 0); \
             INSERT INTO i VALUES (11, 0); ROLLBACK TO a; INSERT INTO i VALUES (12, 0); COMMIT").await;
        // A temporary table keeps the rows before it in the log although they are rolled back.
        run(&mut conn, "BEGIN; INSERT INTO i VALUES (20, 0); SAVEPOINT `a``b`; CREATE TEMPORARY TABLE t1 (id INT); INSERT INTO i VALUES (21, 0); \
             SAVEPOINT inside; UPDATE i, m SET i.v = 1, m.v = 1 WHERE i.id = 1 AND m.id = 1; INSERT INTO i VALUES (22, 0); ROLLBACK TO inside; \
             INSERT INTO i VALUES (23, 0); ROLLBACK TO `a``b`; INSERT INTO i VALUES (24, 0); RELEASE SAVEPOINT `a``b`; COMMIT").await;
        if kind != Kind::MySql {
            run(&mut conn, "BEGIN; SAVEPOINT s; INSERT INTO a VALUES (1, 0); INSERT INTO i VALUES (30, 0); ROLLBACK TO s; COMMIT").await;
        }
        drop(conn);
        for window_bytes in [1 << 20, 1] {
            let (seen, fetcher) = read_to_marker(&server, window_bytes).await;
            let tables: &[&str] =
                if kind != Kind::MySql { &["d.i", "d.m", "d.h", "d.a"] } else { &["d.i", "d.m", "d.h"] };
            assert_equals_server(&seen, &server, tables, &["id", "v"]).await;
            let ids: Vec<String> = seen.transactions.iter().flat_map(first_column).collect();
            for gone in ["11", "21", "22", "23", "30"] {
                assert!(!ids.contains(&gone.to_owned()), "{kind}: {gone} was rolled back");
            }
            if kind != Kind::MySql && window_bytes > 1 {
                assert!(fetcher.counters().rows_discarded > 0, "{kind}: such rows are in the log");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l52_a_rolled_back_transaction_leaves_what_cannot_roll_back_and_only_that() {
    for kind in Kind::ALL {
        let server = Server::start(kind, mixing(kind)).await.unwrap();
        server.sql(MIXED_TABLES).await.unwrap();
        let mut conn = server.conn().await.unwrap();
        run(&mut conn, "USE d; BEGIN; INSERT INTO i VALUES (10, 0); INSERT INTO m VALUES (10, 0); INSERT INTO h VALUES (10, 0); ROLLBACK; \
             BEGIN; INSERT INTO m VALUES (11, 0); INSERT INTO i VALUES (11, 0); ROLLBACK; \
             BEGIN; CREATE TEMPORARY TABLE t1 (id INT); INSERT INTO i VALUES (20, 0); UPDATE i, m SET i.v = 2, m.v = 2 WHERE i.id = 1 AND m.id = 1; ROLLBACK; \
             CREATE TRIGGER tr AFTER INSERT ON i FOR EACH ROW INSERT INTO m VALUES (NEW.id + 1000, 0); \
             BEGIN; CREATE TEMPORARY TABLE t2 (id INT); INSERT INTO i VALUES (30, 0); ROLLBACK; \
             BEGIN; INSERT INTO i VALUES (31, 0); COMMIT; DROP TRIGGER tr").await;
        // A statement that fails on its way.
        let failed = conn.query_drop("INSERT INTO m VALUES (40, 0), (41, 0), (40, 0)").await;
        assert!(failed.is_err());
        drop(conn);
        for window_bytes in [1 << 20, 1] {
            let (seen, fetcher) = read_to_marker(&server, window_bytes).await;
            assert_equals_server(&seen, &server, &["d.i", "d.m", "d.h"], &["id", "v"]).await;
            if kind != Kind::MySql && window_bytes > 1 {
                assert!(fetcher.counters().rows_discarded > 0, "such rows are in the log");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l54_compressed_transactions_say_what_plain_ones_say() {
    let options = Options::default().argument("--binlog-row-event-max-size=1024");
    let server = Server::start(Kind::MySql, options).await.unwrap();
    server.sql("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, v LONGTEXT)").await.unwrap();
    for (round, settings) in ["ON", "OFF"].into_iter().enumerate() {
        let base = round * 10_000;
        let rows: Vec<String> =
            (base..base + 500).map(|id| format!("({id}, REPEAT('v', {}))", id % 700)).collect();
        // The session decides.
        let sql = format!(
            "SET SESSION binlog_transaction_compression = {settings}; INSERT INTO d.t VALUES {}; \
             BEGIN; UPDATE d.t SET v = id WHERE id >= {base}; DELETE FROM d.t WHERE id = {base}; COMMIT; \
             INSERT INTO d.t VALUES ({base} + 5000, REPEAT('w', 20000000))",
            rows.join(",")
        );
        server.sql(&sql).await.unwrap();
    }
    for window_bytes in [None, Some(10_000)] {
        let seen = read_in(&server, window_bytes).await;
        let counts: Vec<u64> = seen.transactions.iter().skip(2).map(|t| t.change_count).collect();
        assert_eq!(counts, [500, 501, 1, 500, 501, 1]);
        let truth = table_of(&server, "d.t", &["id", "LENGTH(v)"]).await;
        let replica = Replica::of(&seen);
        let lengths = replica.table("d.t", &["id", "v"].map(str::to_owned), &[]);
        let mut lengths: Vec<Vec<String>> =
            lengths.into_iter().map(|row| vec![row[0].clone(), row[1].len().to_string()]).collect();
        lengths.sort();
        assert_eq!(lengths, truth);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l56_transactions_that_commit_together_come_in_commit_order() {
    for kind in Kind::ALL {
        let options = match kind {
            Kind::MySql => Options::default()
                .argument("--binlog-group-commit-sync-delay=2000")
                .argument("--binlog-group-commit-sync-no-delay-count=8"),
            Kind::MariaDb | Kind::MariaDb118 => Options::default()
                .argument("--binlog-commit-wait-count=8")
                .argument("--binlog-commit-wait-usec=20000"),
        };
        let server = Server::start(kind, options).await.unwrap();
        server
            .sql("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, v INT); INSERT INTO d.t VALUES (1, 0)")
            .await
            .unwrap();
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..8 {
            let mut conn = server.conn().await.unwrap();
            writers.spawn(async move {
                for round in 0..30 {
                    let id = 10 + writer * 100 + round;
                    conn.query_drop(format!("INSERT INTO d.t VALUES ({id}, {writer})")).await.unwrap();
                    conn.query_drop("UPDATE d.t SET v = v + 1 WHERE id = 1").await.unwrap();
                }
            });
        }
        while let Some(writer) = writers.join_next().await {
            writer.unwrap();
        }
        let seen = read(&server).await;
        // The replica panics where an update does not find the row as the one before left it.
        assert_equals_server(&seen, &server, &["d.t"], &["id", "v"]).await;
        assert_eq!(seen.transactions.len(), 3 + 8 * 30 * 2, "{kind}");
        let times: Vec<i64> = seen.transactions.iter().map(|t| t.commit_time_us).collect();
        assert!(times.is_sorted(), "{kind}: commit times do not fall");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l57_a_changed_key_tells_both_keys_also_as_the_last_change_and_in_a_swap() {
    for kind in Kind::ALL {
        let server = Server::start(kind, Options::default()).await.unwrap();
        server
            .sql(
                "CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, v INT); INSERT INTO d.t VALUES (1, 10), (2, 20); \
                 BEGIN; UPDATE d.t SET v = 11 WHERE id = 1; UPDATE d.t SET id = 3 WHERE id = 1; COMMIT; \
                 BEGIN; UPDATE d.t SET id = -1 WHERE id = 2; UPDATE d.t SET id = 2 WHERE id = 3; UPDATE d.t SET id = 3 WHERE id = -1; COMMIT; \
                 UPDATE d.t SET id = id + 1 ORDER BY id DESC",
            )
            .await
            .unwrap();
        for window_bytes in [None, Some(1)] {
            let seen = read_in(&server, window_bytes).await;
            let expected =
                [&["d.t 1>1", "d.t 1>3"][..], &["d.t 2>-1", "d.t 3>2", "d.t -1>3"], &["d.t 3>4", "d.t 2>3"]];
            assert_eq!(all_words(&seen)[3..], expected, "{kind}");
            assert_equals_server(&seen, &server, &["d.t"], &["id", "v"]).await;
            for window in &seen.windows {
                let kinds: Vec<u8> = window.tables.iter().flat_map(|t| t.kind.iter().copied()).collect();
                let updates = kinds.chunks(2).filter(|pair| pair[0] == RowKind::UpdateBefore as u8);
                assert!(updates.into_iter().all(|pair| pair.get(1) == Some(&(RowKind::UpdateAfter as u8))));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l58_tables_without_a_key_have_whole_images_and_keep_their_duplicates() {
    for kind in Kind::ALL {
        let server = Server::start(kind, Options::default()).await.unwrap();
        // Of no key at all every column is logged also where images are minimal.
        server
            .sql(
                "CREATE DATABASE d; CREATE TABLE d.t (id INT, v INT); CREATE TABLE d.u (id INT NOT NULL, v INT, UNIQUE KEY (id)); \
                 INSERT INTO d.t VALUES (1, 1), (1, 1), (NULL, NULL), (2, 2); SET SESSION binlog_row_image = MINIMAL; \
                 UPDATE d.t SET v = 5 WHERE id = 1 LIMIT 1; DELETE FROM d.t WHERE id = 2; \
                 SET SESSION binlog_row_image = FULL; INSERT INTO d.u VALUES (1, 1); UPDATE d.u SET v = 2",
            )
            .await
            .unwrap();
        let seen = read(&server).await;
        let keys: Vec<(String, usize)> = seen
            .windows
            .iter()
            .flat_map(|w| &w.tables)
            .map(|t| (t.schema.name().table.clone(), t.schema.key().len()))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        assert!(keys.contains(&("t".to_owned(), 0)), "{kind}: {keys:?}");
        assert_equals_server(&seen, &server, &["d.t", "d.u"], &["id", "v"]).await;
        let before: Vec<usize> = seen
            .transactions
            .iter()
            .flat_map(|t| &t.changes)
            .filter_map(|change| match change {
                SeenChange::Row { table, before: Some((_, absent)), .. } if table.table == "t" => {
                    Some(absent.len())
                }
                _ => None,
            })
            .collect();
        assert_eq!(before, [0, 0], "{kind}: images before are whole where there is no key");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l89_positions_are_boundaries_of_transactions_and_resuming_gives_each_change_once() {
    for (kind, argument) in [
        (Kind::MySql, "--binlog-transaction-compression=ON"),
        (Kind::MySql, "--binlog-transaction-compression=OFF"),
        (Kind::MariaDb, "--log-bin-compress=ON"),
    ] {
        let server = Server::start(kind, Options::default().argument(argument)).await.unwrap();
        server.sql("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, v CHAR(100))").await.unwrap();
        for round in 0..5 {
            let rows: Vec<String> =
                (0..20).map(|row| format!("({}, REPEAT('x', 90))", round * 100 + row)).collect();
            server.sql(&format!("INSERT INTO d.t VALUES {}", rows.join(","))).await.unwrap();
        }
        let open = async |start| Ok(open(&server, start).await?.with_window_bytes(500));
        let seen = conformance::check(open, 7).await.unwrap();
        for (count, checkpoint) in &seen.resume {
            let at = checkpoint.position.scn;
            let ends = seen.transactions[..*count].iter().map(|t| t.scn);
            let next = seen.transactions.get(*count).map(|t| t.scn);
            assert!(ends.max().is_none_or(|end| end <= at) && next.is_none_or(|next| at < next), "{kind}");
        }
        let numbers: BTreeSet<(u64, u64)> = seen
            .transactions
            .iter()
            .flat_map(|t| (0..t.changes.len() as u64).map(|number| (t.scn.0, number)))
            .collect();
        assert_eq!(numbers.len(), 102, "{kind}: each change has a name of its own");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn single_events_of_forty_and_seventy_mib_come_whole() {
    for kind in Kind::ALL {
        let server =
            Server::start(kind, Options::default().argument("--max-allowed-packet=1G")).await.unwrap();
        server
            .sql(
                "CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, v LONGTEXT); \
                 INSERT INTO d.t VALUES (1, REPEAT('a', 40 << 20)), (2, 'x'); UPDATE d.t SET v = REPEAT('b', 32 << 20) WHERE id = 1; \
                 DELETE FROM d.t; INSERT INTO d.t VALUES (3, 'c')",
            )
            .await
            .unwrap();
        let mut fetcher = open(&server, Start::Earliest).await.unwrap();
        let mut images = Vec::new();
        while images.last() != Some(&(3, 1, 'c')) {
            let window = fetcher.next().await.unwrap().unwrap();
            for table in &window.tables {
                use arrow_array::cast::AsArray;
                let ids = table.rows.column(0).as_primitive::<arrow_array::types::Int32Type>();
                let texts = table.rows.column(1).as_string::<i32>();
                for (id, text) in ids.values().iter().zip(texts.iter().flatten()) {
                    let first = text.chars().next().unwrap();
                    assert!(text.bytes().all(|byte| byte == first as u8));
                    images.push((*id, text.len(), first));
                }
            }
        }
        let (forty, thirty_two) = (40 << 20, 32 << 20);
        let expected = [
            (1, forty, 'a'),
            (2, 1, 'x'),
            (1, forty, 'a'),
            (1, thirty_two, 'b'),
            (1, thirty_two, 'b'),
            (2, 1, 'x'),
            (3, 1, 'c'),
        ];
        assert_eq!(images, expected, "{kind}");
    }
}
