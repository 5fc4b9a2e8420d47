//! Real servers, both families: the suite, the same transactions as from the files on disk, and every way to lose a
//! connection.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use support::{Replica, all, fixture, follow, only};
use tidemill_event::EventKind;
use tidemill_fetchers_api::conformance::{self, Seen, SeenChange};
use tidemill_fetchers_api::{FetchError, Fetcher, Start};
use tidemill_fetchers_mysql::{FileOptions, MySqlFetcher, Origin, Password, ServerOptions};
use tidemill_servers::{Cut, CutProxy, Kind, Options, Server, workload::Bank};

const ALL: usize = usize::MAX;

fn user_at(server: &Server, port: u16) -> ServerOptions {
    ServerOptions::new("127.0.0.1", port, Server::USER, Password::new(server.user_password()))
}

fn user(server: &Server) -> ServerOptions {
    user_at(server, server.port())
}

async fn open(server: &Server, start: Start) -> Result<MySqlFetcher, FetchError> {
    MySqlFetcher::open("test", Origin::Server(user(server)), start, all()).await
}

/// What the server's own files say, up to their end.
async fn from_disk(server: &Server) -> Seen {
    let origin = Origin::Files(FileOptions::directory(server.datadir(), "binlog"));
    let mut fetcher = MySqlFetcher::open("test", origin, Start::Earliest, all()).await.unwrap();
    conformance::read(&mut fetcher, ALL).await.unwrap()
}

/// Runs the statements that the recordings are made of.
async fn run_recording(server: &Server) {
    let sql = std::fs::read_to_string(fixture("mariadb-10.11-full").join("make.sql")).unwrap();
    server.sql(&sql).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_passes_the_suite_and_says_what_its_files_say() {
    for kind in Kind::ALL {
        let server = Server::start(kind, Options::default()).await.unwrap();
        run_recording(&server).await;
        let disk = from_disk(&server).await;
        assert!(disk.transactions.len() > 15, "{kind}");
        for window_bytes in [None, Some(1)] {
            let open = async |start| {
                let fetcher = open(&server, start).await?;
                Ok(match window_bytes {
                    Some(bytes) => fetcher.with_window_bytes(bytes),
                    None => fetcher,
                })
            };
            let live = conformance::check(open, disk.transactions.len()).await.unwrap();
            assert!(live.transactions == disk.transactions, "{kind}: the wire says what the disk says");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn now_time_and_earliest_begin_where_they_say() {
    for kind in Kind::ALL {
        let server = Server::start(kind, Options::default()).await.unwrap();
        server
            .sql("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY); INSERT INTO d.t VALUES (1)")
            .await
            .unwrap();
        let mut now = open(&server, Start::Now).await.unwrap();
        server
            .sql("INSERT INTO d.t VALUES (2); FLUSH BINARY LOGS; INSERT INTO d.t VALUES (3)")
            .await
            .unwrap();
        let seen = conformance::read(&mut now, 2).await.unwrap();
        assert_eq!(seen.transactions[0].change_count, 1, "{kind}");
        let all = conformance::read(&mut open(&server, Start::Earliest).await.unwrap(), 5).await.unwrap();
        assert_eq!(all.transactions[3..], seen.transactions, "{kind}: now is the tail of all");
        for (index, transaction) in all.transactions.iter().enumerate() {
            let start = Start::Time(transaction.commit_time_us);
            let first =
                all.transactions.iter().position(|t| t.commit_time_us >= transaction.commit_time_us).unwrap();
            let tail = conformance::read(&mut open(&server, start).await.unwrap(), 5 - first).await.unwrap();
            assert!(
                tail.transactions == all.transactions[first..],
                "{kind}: the time of transaction {index}"
            );
        }
    }
}

fn inserted(seen: &Seen) -> usize {
    seen.transactions.iter().map(|t| t.change_count as usize).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l73_l87_an_idle_server_moves_readers_on_and_a_transaction_comes_at_once() {
    for kind in Kind::ALL {
        let server = Server::start(kind, Options::default()).await.unwrap();
        server
            .sql("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY); CREATE DATABASE e")
            .await
            .unwrap();
        let mut options = user(&server);
        options.heartbeat = std::time::Duration::from_secs(1);
        let origin = Origin::Server(options);
        let mut fetcher = MySqlFetcher::open("test", origin, Start::Now, only("none")).await.unwrap();
        server.sql("INSERT INTO d.t VALUES (1); INSERT INTO d.t VALUES (2)").await.unwrap();
        // Nothing of these tables is carried: heartbeats alone tell that the reader has them.
        let mut seen = Seen::default();
        follow(&mut fetcher, &mut seen, &server).await;
        assert_eq!(inserted(&seen), 0, "{kind}");
        assert_eq!(fetcher.counters().transactions, 2, "{kind}");
    }
}

/// Money in both tables, after each transaction from the first transfer on.
fn assert_total_is_constant(seen: &Seen, total: i64, kind: Kind) {
    let mut replica = Replica::default();
    seen.windows.iter().for_each(|window| replica.learn(window));
    let mut transfers = 0;
    for transaction in &seen.transactions {
        transaction.changes.iter().for_each(|change| replica.apply(change));
        if transaction.changes.iter().any(|change| matches!(change, SeenChange::Row { .. })) {
            let tables = ["bank.a", "bank.b"]
                .iter()
                .filter_map(|table| replica.tables.get(*table))
                .flat_map(|rows| rows.values());
            let sum: i64 = tables.map(|row| row["balance"].parse::<i64>().unwrap()).sum();
            assert_eq!(sum, total, "{kind}: after {}", transaction.gtid);
            transfers += 1;
        }
    }
    assert!(transfers > 0);
}

async fn assert_equals_server(seen: &Seen, server: &Server) {
    let replica = Replica::of(seen);
    for table in ["a", "b"] {
        let rows = server
            .rows(&format!("SELECT CAST(id AS CHAR), CAST(balance AS CHAR), note FROM bank.{table}"))
            .await;
        let rows = rows.unwrap().into_iter().map(|row| {
            let (id, balance, note): (String, String, Option<String>) = mysql_async::from_row(row);
            vec![id, balance, note.unwrap_or_else(|| "NULL".to_owned())]
        });
        let mut truth: Vec<Vec<String>> = rows.collect();
        truth.sort();
        let columns = ["id", "balance", "note"].map(str::to_owned);
        assert_eq!(
            replica.table(&format!("bank.{table}"), &columns, &[]),
            truth,
            "{}: {table}",
            server.kind()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_and_kills_of_the_server_lose_and_repeat_nothing() {
    for kind in Kind::ALL {
        let mut server = Server::start(kind, Options::default()).await.unwrap();
        let bank = Bank::create(server.root(), 20).await.unwrap();
        let mut fetcher = open(&server, Start::Earliest).await.unwrap();
        let mut seen = Seen::default();
        for round in 0..3u64 {
            let run = bank.start(3);
            let target = fetcher.counters().changes + 600;
            // What the last server had sent may be much: only the next connection counts for the next loss.
            while fetcher.counters().changes < target || fetcher.counters().reconnects < round {
                seen.push(fetcher.next().await.unwrap().unwrap());
            }
            match round {
                0 => server.restart().await.unwrap(),
                _ => {
                    server.kill();
                    server.restart().await.unwrap();
                }
            }
            run.stop().await.unwrap();
        }
        // Only a new connection has this one.
        server.sql("UPDATE bank.a SET note = 'last'").await.unwrap();
        follow(&mut fetcher, &mut seen, &server).await;
        assert!(fetcher.counters().reconnects >= 3, "{kind}");
        assert_total_is_constant(&seen, bank.total(), kind);
        assert_equals_server(&seen, &server).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_cut_at_any_byte_loses_and_repeats_nothing() {
    for kind in Kind::EVERY {
        let server = Server::start(kind, Options::default()).await.unwrap();
        let bank = Bank::create(server.root(), 4).await.unwrap();
        let run = bank.start(1);
        run.wait_committed(40).await;
        run.stop().await.unwrap();
        let whole = from_disk(&server).await;
        let proxy = CutProxy::start(server.address()).await.unwrap();
        // Each is more than the largest transaction with what precedes it, so that every connection gets on.
        for limit in [2600, 2801, 3003, 3307] {
            proxy.cut_every(Cut::AfterDump(limit));
            let origin = Origin::Server(user_at(&server, proxy.address().port()));
            let mut fetcher = MySqlFetcher::open("test", origin, Start::Earliest, all()).await.unwrap();
            let seen = conformance::read(&mut fetcher, whole.transactions.len()).await.unwrap();
            assert!(seen.transactions == whole.transactions, "{kind}: cut after {limit} bytes");
            assert!(fetcher.counters().reconnects > 3, "{kind}: cut after {limit} bytes");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_in_fragments_survives_cuts_within_it() {
    for kind in Kind::ALL {
        let server = Server::start(kind, Options::default()).await.unwrap();
        server.sql("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, v CHAR(200))").await.unwrap();
        let rows: Vec<String> = (0..600).map(|id| format!("({id}, REPEAT('x', 150))")).collect();
        let sql = format!(
            "BEGIN; INSERT INTO d.t VALUES {0}; UPDATE d.t SET v = id; COMMIT; INSERT INTO d.t VALUES (-1, '')",
            rows.join(",")
        );
        server.sql(&sql).await.unwrap();
        let whole = from_disk(&server).await;
        let proxy = CutProxy::start(server.address()).await.unwrap();
        for limit in [30_000, 90_000, 150_000] {
            proxy.cut_every(Cut::Never);
            proxy.cut_next(Cut::AfterDump(limit));
            let origin = Origin::Server(user_at(&server, proxy.address().port()));
            let fetcher = MySqlFetcher::open("test", origin, Start::Earliest, all()).await.unwrap();
            let mut fetcher = fetcher.with_window_bytes(10_000);
            let seen = conformance::read(&mut fetcher, whole.transactions.len()).await.unwrap();
            assert!(seen.windows.len() > 10, "{kind}");
            assert!(seen.transactions == whole.transactions, "{kind}: cut after {limit} bytes");
            assert_eq!(fetcher.counters().reconnects, 1, "{kind}: cut after {limit} bytes");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l75_l77_a_lineage_that_does_not_fit_is_refused_with_what_is_missing() {
    for kind in Kind::ALL {
        let server = Server::start(kind, Options::default()).await.unwrap();
        let other = Server::start(kind, Options::default().server_id(2)).await.unwrap();
        let sql = "CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY); INSERT INTO d.t VALUES (1)";
        server.sql(sql).await.unwrap();
        let seen = conformance::read(&mut open(&server, Start::Earliest).await.unwrap(), 3).await.unwrap();
        let checkpoint = seen.windows.last().unwrap().checkpoint();

        let refused = open(&other, Start::At(checkpoint.clone())).await.err().unwrap();
        assert!(matches!(refused, FetchError::Lineage { .. }), "{kind}: {refused}");
        assert!(refused.to_string().contains(&checkpoint.gtid_set), "{kind}: {refused}");

        let mut by_place = checkpoint.clone();
        by_place.gtid_set.clear();
        let refused = open(&other, Start::At(by_place)).await.err().unwrap();
        assert!(refused.to_string().contains(&checkpoint.server), "{kind}: {refused}");

        // What the reader has not read yet is purged.
        server.sql("INSERT INTO d.t VALUES (2)").await.unwrap();
        // The server keeps a file as long as it believes that a reader has it; it notices one that left when it sends.
        loop {
            server.sql("FLUSH BINARY LOGS").await.unwrap();
            let (last, _) = server.binlog_end().await.unwrap();
            server.sql(&format!("PURGE BINARY LOGS TO '{last}'")).await.unwrap();
            if server.binlog_files().unwrap().len() == 1 {
                break;
            }
        }
        let error = match open(&server, Start::At(checkpoint)).await {
            Err(error) => error,
            Ok(mut fetcher) => fetcher.next().await.unwrap_err(),
        };
        assert!(matches!(error, FetchError::Lineage { .. }), "{kind}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l77_a_replica_of_the_same_lineage_continues_as_a_new_timeline() {
    let options = || Options::default().argument("--skip-replica-start").argument("--log-replica-updates=ON");
    let server = Server::start(Kind::MySql, options()).await.unwrap();
    let replica = Server::start(Kind::MySql, options().server_id(2)).await.unwrap();
    server
        .sql("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY); INSERT INTO d.t VALUES (1)")
        .await
        .unwrap();
    let seen = conformance::read(&mut open(&server, Start::Earliest).await.unwrap(), 3).await.unwrap();
    let checkpoint = seen.windows.last().unwrap().checkpoint();
    server.sql("INSERT INTO d.t VALUES (2)").await.unwrap();
    replica.follow(&server).await.unwrap();
    replica.catch_up(&server).await.unwrap();

    let password = Password::new(replica.root_password());
    let origin = Origin::Server(ServerOptions::new("127.0.0.1", replica.port(), "root", password));
    let mut fetcher = MySqlFetcher::open("test", origin, Start::At(checkpoint.clone()), all()).await.unwrap();
    let tail = conformance::read(&mut fetcher, 1).await.unwrap();
    assert_eq!(tail.transactions[0].change_count, 1);
    let timeline = &tail.windows[0].timeline;
    assert_eq!(timeline.number, checkpoint.position.timeline + 1);
    assert_ne!(timeline.server.as_ref(), checkpoint.server);
    assert_eq!(*tail.windows.last().unwrap().executed, *server.gtid_set().await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l60_definitions_and_truncates_come_in_their_place() {
    for kind in Kind::ALL {
        let server = Server::start(kind, Options::default()).await.unwrap();
        server
            .sql(
                "CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY); INSERT INTO d.t VALUES (1); TRUNCATE TABLE d.t; \
                 ALTER TABLE d.t ADD COLUMN v INT; INSERT INTO d.t VALUES (1, 2); CREATE TABLE d.u AS SELECT * FROM d.t; \
                 CREATE USER x IDENTIFIED BY 'secret'; DROP TABLE d.t",
            )
            .await
            .unwrap();
        let seen = conformance::read(&mut open(&server, Start::Earliest).await.unwrap(), 8).await.unwrap();
        let words: Vec<String> = seen
            .transactions
            .iter()
            .flat_map(|t| &t.changes)
            .map(|change| match change {
                SeenChange::Row { table, .. } => format!("row {table}"),
                SeenChange::Event { kind: EventKind::SchemaChange { statement, .. }, .. } => {
                    let statement = statement.as_ref().unwrap();
                    assert!(!statement.contains("secret"));
                    statement.split_whitespace().next().unwrap().to_owned()
                }
                SeenChange::Event { kind: EventKind::Truncate { table }, .. } => format!("truncate {table}"),
                SeenChange::Event { kind: EventKind::Drop { table }, .. } => format!("drop {table}"),
                SeenChange::Event { kind, .. } => panic!("{kind:?}"),
            })
            .collect();
        let expected = [
            "CREATE",
            "CREATE",
            "row d.t",
            "truncate d.t",
            "ALTER",
            "row d.t",
            "CREATE",
            "row d.u",
            "drop d.t",
            "DROP",
        ];
        assert_eq!(words, expected, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l37_a_row_larger_than_a_packet_comes_whole() {
    for kind in Kind::ALL {
        let server = Server::start(kind, Options::default()).await.unwrap();
        server.sql("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, v LONGTEXT)").await.unwrap();
        server
            .sql("INSERT INTO d.t VALUES (1, REPEAT('a', 20000000)), (2, 'b'); UPDATE d.t SET v = 'c'")
            .await
            .unwrap();
        let disk = from_disk(&server).await;
        let live = conformance::read(&mut open(&server, Start::Earliest).await.unwrap(), 4).await.unwrap();
        assert!(live.transactions == disk.transactions, "{kind}");
        assert_eq!(live.transactions[3].change_count, 2, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l74_tagged_gtids_are_read_kept_and_resumed_at() {
    let server = Server::start(Kind::MySql, Options::default()).await.unwrap();
    server
        .sql(
            "CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY); INSERT INTO d.t VALUES (1); \
             SET gtid_next = 'AUTOMATIC:billing'; INSERT INTO d.t VALUES (2); INSERT INTO d.t VALUES (3); \
             SET gtid_next = 'AUTOMATIC:a_1'; INSERT INTO d.t VALUES (4); SET gtid_next = 'AUTOMATIC'; INSERT INTO d.t VALUES (5)",
        )
        .await
        .unwrap();
    let open = async |start| Ok(open(&server, start).await?.with_window_bytes(1));
    let seen = conformance::check(open, 7).await.unwrap();
    let tags =
        seen.transactions.iter().filter(|t| t.gtid.contains(":billing:") || t.gtid.contains(":a_1:")).count();
    assert_eq!(tags, 3);
    assert_eq!(*seen.windows.last().unwrap().executed, *server.gtid_set().await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_followed_while_a_server_writes_them_through_rotation_and_crash() {
    for kind in Kind::ALL {
        let mut server = Server::start(kind, Options::default()).await.unwrap();
        let bank = Bank::create(server.root(), 10).await.unwrap();
        let mut options = FileOptions::directory(server.datadir(), "binlog");
        options.follow = true;
        let mut fetcher =
            MySqlFetcher::open("test", Origin::Files(options), Start::Earliest, all()).await.unwrap();
        let mut seen = Seen::default();
        for round in 1..=3 {
            // They write only while somebody reads, so that a slow reader is not left far behind.
            let run = bank.start(2);
            let target = inserted(&seen) + 300;
            while inserted(&seen) < target {
                seen.push(fetcher.next().await.unwrap().unwrap());
            }
            match round {
                1 => server.sql("FLUSH BINARY LOGS").await.unwrap(),
                2 => {
                    server.kill();
                    server.restart().await.unwrap();
                }
                _ => {}
            }
            run.stop().await.unwrap();
        }
        follow(&mut fetcher, &mut seen, &server).await;
        assert_total_is_constant(&seen, bank.total(), kind);
        assert_equals_server(&seen, &server).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_of_the_server_is_found_in_files_by_its_gtids() {
    for kind in Kind::ALL {
        let server = Server::start(kind, Options::default()).await.unwrap();
        run_recording(&server).await;
        let open = open(&server, Start::Earliest).await.unwrap().with_window_bytes(1);
        let live = conformance::read(&mut { open }, 10).await.unwrap();
        let (count, checkpoint) = live.resume.last().unwrap().clone();
        let disk = from_disk(&server).await;
        let origin = Origin::Files(FileOptions::directory(server.datadir(), "binlog"));
        let mut fetcher =
            MySqlFetcher::open("test", origin, Start::At(checkpoint.clone()), all()).await.unwrap();
        let tail = conformance::read(&mut fetcher, ALL).await.unwrap();
        assert!(tail.transactions == disk.transactions[count..], "{kind}");
        assert_eq!(tail.windows[0].timeline.number, checkpoint.position.timeline + 1, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_gtids_is_followed_by_file_and_offset() {
    let options = Options::default().argument("--gtid-mode=OFF").argument("--enforce-gtid-consistency=OFF");
    let mut server = Server::start(Kind::MySql, options).await.unwrap();
    run_recording(&server).await;
    let disk = from_disk(&server).await;
    let open = async |start| Ok(open(&server, start).await?.with_window_bytes(1));
    let seen = conformance::check(open, disk.transactions.len()).await.unwrap();
    assert!(seen.transactions == disk.transactions);
    assert!(seen.transactions.iter().all(|t| t.gtid.is_empty()));
    let checkpoint = seen.windows.last().unwrap().checkpoint();
    let mut fetcher = self::open(&server, Start::At(checkpoint)).await.unwrap();
    server.sql("INSERT INTO test_data.journal VALUES (NOW(6), 'before')").await.unwrap();
    let mut tail = Seen::default();
    tail.push(fetcher.next().await.unwrap().unwrap());
    server.restart().await.unwrap();
    server.sql("INSERT INTO test_data.journal VALUES (NOW(6), 'after')").await.unwrap();
    while inserted(&tail) < 2 {
        tail.push(fetcher.next().await.unwrap().unwrap());
    }
    assert_eq!((inserted(&tail), fetcher.counters().reconnects), (2, 1));
}
