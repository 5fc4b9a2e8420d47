//! What happens between a server and its reader, on real servers: checksums, packets, heartbeats, encryption at rest,
//! semi-synchronous replication, a reader that stalls, clocks that lie.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::{all, follow};
use tidemill_fetchers_api::conformance::{self, Seen};
use tidemill_fetchers_api::{FetchError, Fetcher, Start};
use tidemill_fetchers_mysql::{FileOptions, MySqlFetcher, Origin, Password, ServerOptions};
use tidemill_servers::{CutProxy, Kind, Options, Server};

const TABLE: &str = "CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, v LONGTEXT)";

fn at(server: &Server, port: u16) -> ServerOptions {
    let mut options =
        ServerOptions::new("127.0.0.1", port, Server::USER, Password::new(server.user_password()));
    // Three of them is what a busy machine may take before it answers.
    options.heartbeat = Duration::from_secs(2);
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

/// Puts events that everybody may pass over before the last transaction of a file, until that lies beyond 4 GiB. The file
/// has holes and no checksums. Answers with its length.
fn grow(file: &Path) -> u64 {
    const PAD: u64 = 16 << 20;
    let bytes = std::fs::read(file).unwrap();
    let size = |at: usize| u32::from_le_bytes(bytes[at + 9..at + 13].try_into().unwrap()) as usize;
    let mut events = vec![4];
    while let Some(next) = events.last().map(|at| at + size(*at)).filter(|next| *next < bytes.len()) {
        events.push(next);
    }
    let is_gtid = |at: &&usize| matches!(bytes[**at + 4], 33 | 162);
    let cut = *events.iter().rev().find(is_gtid).unwrap();
    let out = std::fs::OpenOptions::new().write(true).open(file).unwrap();
    // What stood there was the last transaction: now it is a hole.
    out.set_len(cut as u64).unwrap();
    let mut end = cut as u64;
    while end <= 1 << 32 {
        let mut head = bytes[cut..cut + 19].to_vec();
        (head[4], head[17], head[18]) = (28, 0x80, 0);
        head[9..13].copy_from_slice(&(PAD as u32).to_le_bytes());
        head[13..17].copy_from_slice(&((end + PAD) as u32).to_le_bytes());
        out.write_all_at(&head, end).unwrap();
        end += PAD;
    }
    out.set_len(end).unwrap();
    for at in events.into_iter().filter(|at| *at >= cut) {
        let mut event = bytes[at..at + size(at)].to_vec();
        let end_at = end + event.len() as u64;
        event[13..17].copy_from_slice(&(end_at as u32).to_le_bytes());
        out.write_all_at(&event, end).unwrap();
        end = end_at;
    }
    end
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "reads more than 4 GiB six times on each server"]
async fn l38_a_file_of_more_than_four_gib_is_read_and_resumed_at() {
    for kind in Kind::ALL {
        let options = Options::default().argument("--binlog-checksum=NONE");
        let mut server = Server::start(kind, options).await.unwrap();
        server.sql(TABLE).await.unwrap();
        server.sql("INSERT INTO d.t VALUES (1, 'near')").await.unwrap();
        server.sql("INSERT INTO d.t VALUES (2, 'far')").await.unwrap();
        server.stop().await.unwrap();
        let end = grow(&server.binlog_files().unwrap().pop().unwrap());
        server.restart().await.unwrap();
        server.sql("INSERT INTO d.t VALUES (3, 'behind')").await.unwrap();
        let mut fetcher = open(&server).await.with_window_bytes(1);
        let seen = conformance::read(&mut fetcher, 5).await.unwrap();
        let ends: Vec<(u32, bool)> = seen.transactions[2..]
            .iter()
            .map(|t| (t.scn.binlog_file(), t.scn.binlog_offset() > 1 << 32))
            .collect();
        assert_eq!(ends, [(1, false), (1, true), (2, false)], "{kind}");
        let far = &seen.transactions[3];
        assert!(far.scn.binlog_offset() < end && seen.transactions[4].gtid != far.gtid, "{kind}");
        assert!(seen.transactions == from_disk(&server).await.unwrap().transactions, "{kind}");
        let (_, behind_far) = seen.resume.iter().find(|(count, _)| *count == 4).unwrap();
        for by_place in [false, true] {
            let mut checkpoint = behind_far.clone();
            if by_place {
                checkpoint.gtid_set.clear();
            }
            let origin = Origin::Server(at(&server, server.port()));
            let mut resumed = MySqlFetcher::open("test", origin, Start::At(checkpoint), all()).await.unwrap();
            let tail = conformance::read(&mut resumed, 1).await.unwrap();
            assert!(tail.transactions == seen.transactions[4..], "{kind}");
            if kind.is_mysql() && by_place {
                assert!(
                    resumed.counters().bytes < 10_000,
                    "the server begins there: {:?}",
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
        let mut options = at(&server, proxy.address().port());
        options.heartbeat = Duration::from_millis(200);
        let mut fetcher = open_with(options).await;
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
    const ROWS: usize = 40;
    for kind in Kind::EVERY {
        let server = Server::start(kind, Options::default()).await.unwrap();
        server.sql(TABLE).await.unwrap();
        // More than the largest buffers of a socket.
        for id in 0..ROWS {
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
        let seen = conformance::read(&mut fetcher, ROWS + 2).await.unwrap();
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

/// What asks the server who it is also reads its log: behind a balancer two connections may be to two servers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l85_questions_and_log_take_one_connection_to_one_server() {
    for kind in Kind::ALL {
        let server = Server::start(kind, Options::default()).await.unwrap();
        server.sql(TABLE).await.unwrap();
        let proxy = CutProxy::start(server.address()).await.unwrap();
        let mut fetcher = open_with(at(&server, proxy.address().port())).await;
        let seen = conformance::read(&mut fetcher, 2).await.unwrap();
        assert_eq!(proxy.connections().len(), 1, "{kind}: opened at the earliest");
        let checkpoint = seen.windows.last().unwrap().checkpoint();
        proxy.cut_all();
        server.sql("INSERT INTO d.t VALUES (1, 'x')").await.unwrap();
        conformance::read(&mut fetcher, 1).await.unwrap();
        assert_eq!(proxy.connections().len(), 2, "{kind}: made again");
        let origin = Origin::Server(at(&server, proxy.address().port()));
        let mut fetcher = MySqlFetcher::open("test", origin, Start::At(checkpoint), all()).await.unwrap();
        conformance::read(&mut fetcher, 1).await.unwrap();
        assert_eq!(proxy.connections().len(), 3, "{kind}: opened at a checkpoint");
    }
}

/// Rows and statements that MariaDB compresses one by one, on the wire and from files.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l79_what_mariadb_compresses_says_what_it_says_uncompressed() {
    let table =
        format!("CREATE TABLE d.wide (id INT PRIMARY KEY, v VARCHAR(300) DEFAULT '{}')", "d".repeat(200));
    for kind in [Kind::MariaDb, Kind::MariaDb118] {
        let mut said = Vec::new();
        for compress in ["ON", "OFF"] {
            let options = Options::default()
                .argument(format!("--log-bin-compress={compress}"))
                .argument("--log-bin-compress-min-len=10");
            let server = Server::start(kind, options).await.unwrap();
            server.sql(TABLE).await.unwrap();
            server.sql(&table).await.unwrap();
            server
                .sql(
                    "USE d; INSERT INTO d.t SELECT seq, REPEAT('x', seq * 10) FROM seq_1_to_50; \
                     UPDATE d.t SET v = CONCAT(v, 'y') WHERE id % 2 = 0; DELETE FROM d.t WHERE id > 40; \
                     INSERT INTO d.wide (id) VALUES (1), (2)",
                )
                .await
                .unwrap();
            let live = conformance::read(&mut open(&server).await, 7).await.unwrap();
            assert!(live.transactions == from_disk(&server).await.unwrap().transactions, "{kind}");
            let (file, _) = server.binlog_end().await.unwrap();
            let events = server.rows(&format!("SHOW BINLOG EVENTS IN '{file}'")).await.unwrap();
            let packed =
                events.iter().filter(|row| row.get::<String, _>(2).unwrap().contains("ompressed")).count();
            assert_eq!(packed > 4, compress == "ON", "{kind}: {packed}");
            said.push(live.transactions.into_iter().map(|t| t.changes).collect::<Vec<_>>());
        }
        assert!(said[0] == said[1], "{kind}");
    }
}
