//! What happens between a server and its reader, on real servers: checksums, packets, heartbeats, encryption at rest,
//! semi-synchronous replication, a reader that stalls, clocks that lie.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::all;
use tidemill_fetchers_api::conformance::{self, Seen};
use tidemill_fetchers_api::{FetchError, Fetcher, Start};
use tidemill_fetchers_mysql::{FileOptions, MySqlFetcher, Origin, Password, ServerOptions};
use tidemill_servers::{CutProxy, Kind, Options, Server};

const TABLE: &str = "CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, v LONGTEXT)";

fn at(server: &Server, port: u16) -> ServerOptions {
    let mut options =
        ServerOptions::new("127.0.0.1", port, Server::USER, Password::new(server.user_password()));
    options.heartbeat = Duration::from_millis(200);
    options
}

async fn open_with(options: ServerOptions) -> MySqlFetcher {
    MySqlFetcher::open("test", Origin::Server(options), Start::Earliest, all()).await.unwrap()
}

async fn open(server: &Server) -> MySqlFetcher {
    open_with(at(server, server.port())).await
}

async fn from_disk(server: &Server) -> Result<Seen, FetchError> {
    let origin = Origin::Files(FileOptions::directory(server.datadir(), "binlog"));
    let mut fetcher = MySqlFetcher::open("test", origin, Start::Earliest, all()).await?;
    conformance::read(&mut fetcher, usize::MAX).await
}

/// Reads until the reader has executed what the server has.
async fn follow(fetcher: &mut MySqlFetcher, seen: &mut Seen, server: &Server) {
    let target = server.gtid_set().await.unwrap();
    while seen.windows.last().is_none_or(|w| *w.executed != *target) {
        seen.push(fetcher.next().await.unwrap().unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l36_checksums_may_come_and_go_while_a_reader_is_connected() {
    for kind in Kind::EVERY {
        let server = Server::start(kind, Options::default()).await.unwrap();
        server.sql(TABLE).await.unwrap();
        let mut fetcher = open(&server).await;
        let mut seen = Seen::default();
        for (id, algorithm) in ["CRC32", "NONE", "CRC32", "NONE"].into_iter().enumerate() {
            let sql = format!("SET GLOBAL binlog_checksum = {algorithm}; INSERT INTO d.t VALUES ({id}, 'x')");
            server.sql(&sql).await.unwrap();
            follow(&mut fetcher, &mut seen, &server).await;
        }
        assert!(seen.transactions == from_disk(&server).await.unwrap().transactions, "{kind}");
        assert_eq!((seen.transactions.len(), fetcher.counters().reconnects), (6, 0), "{kind}");
        // Whoever comes now begins in a file without checksums, or in one with.
        let again = conformance::read(&mut open(&server).await, 6).await.unwrap();
        assert!(again.transactions == seen.transactions, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l36_a_byte_that_changed_on_disk_stops_the_stream_at_its_place() {
    for kind in Kind::ALL {
        let mut server = Server::start(kind, Options::default()).await.unwrap();
        server.sql(TABLE).await.unwrap();
        server.sql("INSERT INTO d.t VALUES (1, 'to be changed')").await.unwrap();
        server.stop().await.unwrap();
        let file = server.binlog_files().unwrap().pop().unwrap();
        let mut bytes = std::fs::read(&file).unwrap();
        let place = bytes.windows(13).position(|bytes| bytes == b"to be changed").unwrap();
        bytes[place] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        let error = from_disk(&server).await.unwrap_err();
        assert!(matches!(error, FetchError::Damaged { .. }), "{kind}: {error:?}");
        assert!(
            error.to_string().contains("checksum") && error.to_string().contains("binlog."),
            "{kind}: {error}"
        );
    }
}

/// Bytes of the last event of rows, as the server lists it.
async fn rows_event_bytes(server: &Server) -> u64 {
    let (file, _) = server.binlog_end().await.unwrap();
    let rows = server.rows(&format!("SHOW BINLOG EVENTS IN '{file}'")).await.unwrap();
    let mut lengths = rows.iter().filter_map(|row| {
        let (from, kind, to): (u64, String, u64) = (row.get(1)?, row.get(2)?, row.get(4)?);
        kind.starts_with("Write_rows").then_some(to - from)
    });
    lengths.next_back().unwrap()
}

/// An event goes out behind one byte. Where both fill packets to the last byte, an empty packet follows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l37_events_that_fill_packets_exactly_come_whole() {
    const PACKET: u64 = 0xff_ffff;
    for kind in Kind::ALL {
        let server = Server::start(kind, Options::default()).await.unwrap();
        server.sql(TABLE).await.unwrap();
        server.sql("INSERT INTO d.t VALUES (0, REPEAT('x', 100000))").await.unwrap();
        let more = rows_event_bytes(&server).await - 100_000;
        let sizes = [PACKET - 2, PACKET - 1, PACKET, 2 * PACKET - 1, 2 * PACKET];
        for (id, size) in sizes.into_iter().enumerate() {
            let sql = format!("INSERT INTO d.t VALUES ({}, REPEAT('x', {}))", id + 1, size - more);
            server.sql(&sql).await.unwrap();
            assert_eq!(rows_event_bytes(&server).await, size, "{kind}");
        }
        let live = conformance::read(&mut open(&server).await, 8).await.unwrap();
        assert!(live.transactions == from_disk(&server).await.unwrap().transactions, "{kind}");
    }
}

/// One transaction of more than 4 GiB, and one behind it: run by hand, it takes minutes and 10 GB of disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "writes a binlog of 4.4 GiB"]
async fn l38_a_file_of_more_than_four_gib_is_read_and_resumed_at() {
    const ROWS: u64 = 120;
    for kind in Kind::ALL {
        let options = Options::for_load()
            .argument("--max-binlog-cache-size=8G")
            .argument("--innodb-redo-log-capacity=4G");
        let options = if kind.is_mysql() { options } else { Options::for_load() };
        let server = Server::start(kind, options).await.unwrap();
        // Kept out of the tables' files: only the log is to be large.
        server
            .sql("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, v LONGTEXT) ENGINE=BLACKHOLE")
            .await
            .unwrap();
        let row = "REPEAT('x', 38000000)";
        let inserts: Vec<String> =
            (0..ROWS).map(|id| format!("INSERT INTO d.t VALUES ({id}, {row})")).collect();
        server
            .sql(&format!("BEGIN; {}; COMMIT; INSERT INTO d.t VALUES (-1, 'behind')", inserts.join(";")))
            .await
            .unwrap();
        let (_, end) = server.binlog_end().await.unwrap();
        assert!(end > 1 << 32, "{kind}: {end}");
        let mut fetcher = open(&server).await;
        let (mut changes, mut checkpoint) = (0, None);
        while changes < ROWS + 1 {
            let window = fetcher.next().await.unwrap().unwrap();
            changes += window.transactions.iter().map(|t| u64::from(t.change_count)).sum::<u64>();
            checkpoint = Some(window.checkpoint());
        }
        let mut checkpoint = checkpoint.unwrap();
        assert_eq!(checkpoint.position.scn.binlog_offset(), end, "{kind}");
        server.sql("INSERT INTO d.t VALUES (-2, 'last')").await.unwrap();
        for by_place in [false, true] {
            if by_place {
                checkpoint.gtid_set.clear();
            }
            let origin = Origin::Server(at(&server, server.port()));
            let start = Start::At(checkpoint.clone());
            let mut resumed = MySqlFetcher::open("test", origin, start, all()).await.unwrap();
            let tail = conformance::read(&mut resumed, 1).await.unwrap();
            assert_eq!(tail.transactions[0].change_count, 1, "{kind}");
            if kind.is_mysql() {
                assert!(
                    resumed.counters().bytes < 10_000,
                    "it begins where it says: {:?}",
                    resumed.counters()
                );
            }
        }
    }
}

/// A server that is held still sends no heartbeats: the connection is given up, and made again when it answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l73_a_connection_that_is_silent_for_three_heartbeats_is_made_again() {
    for kind in Kind::ALL {
        let server = Server::start(kind, Options::default()).await.unwrap();
        server.sql(TABLE).await.unwrap();
        let proxy = CutProxy::start(server.address()).await.unwrap();
        let mut fetcher = open_with(at(&server, proxy.address().port())).await;
        let mut seen = Seen::default();
        follow(&mut fetcher, &mut seen, &server).await;
        let before = proxy.connections().len();
        server.suspend().unwrap();
        {
            let mut reading = std::pin::pin!(fetcher.next());
            tokio::select! {
                window = &mut reading => panic!("{kind}: nothing was written: {window:?}"),
                () = proxy.wait(|connections| connections.len() > before) => {}
            }
            server.resume().unwrap();
            let writing = server.sql("INSERT INTO d.t VALUES (1, 'x')");
            let (window, written) = tokio::join!(reading, writing);
            written.unwrap();
            seen.push(window.unwrap().unwrap());
        }
        follow(&mut fetcher, &mut seen, &server).await;
        assert_eq!(seen.transactions.len(), 3, "{kind}");
        assert!(fetcher.counters().reconnects >= 1, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l79_an_encrypted_log_is_read_from_the_server_and_refused_from_its_files() {
    let directory = tempfile::tempdir().unwrap();
    let keys = directory.path().join("keys");
    std::fs::write(&keys, "1;770A8A65DA156D24EE2A093277530142770A8A65DA156D24EE2A093277530142\n").unwrap();
    let options = Options::default()
        .argument("--plugin-load-add=file_key_management")
        .argument(format!("--file-key-management-filename={}", keys.display()))
        .argument("--encrypt-binlog=ON");
    let server = Server::start(Kind::MariaDb118, options).await.unwrap();
    server.sql(TABLE).await.unwrap();
    server
        .sql("INSERT INTO d.t VALUES (1, 'secret'); FLUSH BINARY LOGS; INSERT INTO d.t VALUES (2, 'secret')")
        .await
        .unwrap();
    let seen = conformance::read(&mut open(&server).await, 4).await.unwrap();
    assert_eq!(seen.transactions.iter().map(|t| t.change_count).sum::<u64>(), 4);
    let error = from_disk(&server).await.unwrap_err();
    assert!(
        error.to_string().contains("encrypted") && error.to_string().contains("from the server"),
        "{error}"
    );
}

/// A commit returns only when a replica has acknowledged it, and there is no other replica.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l37_a_semi_synchronous_server_is_acknowledged_where_that_was_asked_for() {
    for kind in Kind::ALL {
        let options = match kind.is_mysql() {
            true => Options::default()
                .argument("--plugin-load-add=semisync_source.so")
                .argument("--rpl-semi-sync-source-enabled=ON")
                .argument("--rpl-semi-sync-source-timeout=3600000"),
            false => Options::default()
                .argument("--rpl-semi-sync-master-enabled=ON")
                .argument("--rpl-semi-sync-master-timeout=3600000"),
        };
        let server = Server::start(kind, options).await.unwrap();
        let mut options = at(&server, server.port());
        options.semi_sync = true;
        let origin = Origin::Server(options);
        let mut fetcher = MySqlFetcher::open("test", origin, Start::Now, all()).await.unwrap();
        let written = Arc::new(AtomicBool::new(false));
        let writing = async {
            server.sql(TABLE).await.unwrap();
            for id in 0..20 {
                server.sql(&format!("INSERT INTO d.t VALUES ({id}, REPEAT('x', 100000))")).await.unwrap();
            }
            written.store(true, Ordering::SeqCst);
        };
        let reading = async {
            let mut seen = Seen::default();
            while seen.transactions.len() < 22 || !written.load(Ordering::SeqCst) {
                seen.push(fetcher.next().await.unwrap().unwrap());
            }
            seen
        };
        let ((), seen) = tokio::join!(writing, reading);
        assert!(seen.transactions == from_disk(&server).await.unwrap().transactions, "{kind}");
        let (status, of_us) = match kind.is_mysql() {
            true => ("Rpl_semi_sync_source_yes_tx", "Rpl_semi_sync_source_no_tx"),
            false => ("Rpl_semi_sync_master_yes_tx", "Rpl_semi_sync_master_no_tx"),
        };
        for (name, expected) in [(status, "22"), (of_us, "0")] {
            let rows = server.rows(&format!("SHOW STATUS LIKE '{name}'")).await.unwrap();
            assert_eq!(rows[0].get::<String, _>(1).unwrap(), expected, "{kind}: {name}");
        }
    }
}

/// As when a reader stalls for longer than the server waits for it: the server ends the connection within an event.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l84_a_reader_that_stalled_until_the_server_gave_up_loses_nothing() {
    for kind in Kind::EVERY {
        let server = Server::start(kind, Options::default()).await.unwrap();
        server.sql(TABLE).await.unwrap();
        for id in 0..12 {
            server.sql(&format!("INSERT INTO d.t VALUES ({id}, REPEAT('x', 3000000))")).await.unwrap();
        }
        let mut fetcher = open(&server).await;
        // The reader does not read: what the socket cannot hold waits in the server.
        let dumping = "SELECT id FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'";
        let thread = loop {
            if let Some(thread) = server.value::<u64>(dumping).await.unwrap() {
                break thread;
            }
        };
        server.sql(&format!("KILL {thread}")).await.unwrap();
        let gone = format!("SELECT COUNT(*) FROM information_schema.processlist WHERE id = {thread}");
        while server.value::<u64>(&gone).await.unwrap() != Some(0) {}
        let seen = conformance::read(&mut fetcher, 14).await.unwrap();
        assert!(seen.transactions == from_disk(&server).await.unwrap().transactions, "{kind}");
        assert!(fetcher.counters().reconnects >= 1, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l82_transactions_that_are_marked_as_not_for_replicas_are_read() {
    for kind in [Kind::MariaDb, Kind::MariaDb118] {
        let server = Server::start(kind, Options::default()).await.unwrap();
        server.sql(TABLE).await.unwrap();
        server
            .sql("SET skip_replication=1; INSERT INTO d.t VALUES (1, 'x'); CREATE TABLE d.u (id INT)")
            .await
            .unwrap();
        server.sql("INSERT INTO d.t VALUES (2, 'x')").await.unwrap();
        let seen = conformance::read(&mut open(&server).await, 5).await.unwrap();
        assert!(seen.transactions == from_disk(&server).await.unwrap().transactions, "{kind}");
        assert_eq!(seen.transactions.iter().map(|t| t.change_count).sum::<u64>(), 5, "{kind}");
    }
}

/// A session may set its clock to anything. MySQL tells the commit by its own clock, MariaDB by the session's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l86_l88_a_session_s_clock_and_zone_change_no_order_and_on_mysql_no_commit_time() {
    for kind in Kind::EVERY {
        let server = Server::start(kind, Options::default()).await.unwrap();
        server.sql(TABLE).await.unwrap();
        let clock = "SELECT CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS SIGNED)";
        let before: i64 = server.value(clock).await.unwrap().unwrap();
        let times = [2_147_483_647i64, 1, 86_400];
        for (id, time) in times.into_iter().enumerate() {
            let sql =
                format!("SET time_zone='-09:30', timestamp={time}; INSERT INTO d.t VALUES ({id}, NOW())");
            server.sql(&sql).await.unwrap();
        }
        let after: i64 = server.value(clock).await.unwrap().unwrap();
        let seen = conformance::read(&mut open(&server).await, 5).await.unwrap();
        let committed: Vec<i64> = seen.transactions[2..].iter().map(|t| t.commit_time_us).collect();
        match kind.is_mysql() {
            true => {
                assert!(
                    committed.is_sorted() && before <= committed[0] && committed[2] <= after,
                    "{committed:?}"
                );
            }
            false => assert_eq!(committed, times.map(|time| time * 1_000_000), "{kind}"),
        }
        assert!(seen.transactions.is_sorted_by_key(|t| t.scn), "{kind}");
        assert_eq!(*seen.windows.last().unwrap().executed, *server.gtid_set().await.unwrap(), "{kind}");
    }
}
