//! Several captures of one source, and what a capture of some tables does with the others: nothing.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::path::Path;
use std::sync::Arc;

use support::{all, fixture, only, read_all_of};
use tidemill_event::TableSchema;
use tidemill_fetchers_api::conformance::{self, Seen, SeenTransaction};
use tidemill_fetchers_api::{FetchError, Selector, Start};
use tidemill_fetchers_mysql::{FileOptions, MySqlFetcher, Origin, Password, ServerOptions};
use tidemill_servers::{Kind, Options, Server, workload::Bank};

const ALL: usize = usize::MAX;
const HEADER_BYTES: usize = 19;
const CHECKSUM_BYTES: usize = 4;

fn live(server: &Server) -> Origin {
    let password = Password::new(server.user_password());
    Origin::Server(ServerOptions::new("127.0.0.1", server.port(), Server::USER, password))
}

async fn open(origin: Origin, selector: Selector) -> MySqlFetcher {
    MySqlFetcher::open("test", origin, Start::Earliest, selector).await.unwrap()
}

/// One number for everything that was seen, in order: positions, ids, times, rows.
fn digest(transactions: &[SeenTransaction]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for transaction in transactions {
        hasher.update(format!("{transaction:?}").as_bytes());
    }
    hasher.finalize()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_captures_of_a_busy_server_and_one_of_its_files_have_equal_digests() {
    for kind in Kind::ALL {
        let server = Server::start(kind, Options::default()).await.unwrap();
        let bank = Bank::create(server.root(), 20).await.unwrap();
        let early = open(live(&server), all()).await;
        let run = bank.start(3);
        run.wait_committed(200).await;
        // This one begins amid the load, and its windows are cut otherwise.
        let late = open(live(&server), all()).await.with_window_bytes(700);
        run.wait_committed(600).await;
        run.stop().await.unwrap();
        let (mut early, mut late) = (early, late);
        let (early, late) =
            (read_all_of(&mut early, &server).await.unwrap(), read_all_of(&mut late, &server).await.unwrap());
        let files = Origin::Files(FileOptions::directory(server.datadir(), "binlog"));
        let files = conformance::read(&mut open(files, all()).await, ALL).await.unwrap();
        assert!(early.transactions.len() > 600, "{kind}");
        let digests = [&early, &late, &files].map(|seen| digest(&seen.transactions));
        assert_eq!(digests, [digests[0]; 3], "{kind}");
        assert_ne!(digests[0], digest(&early.transactions[1..]), "the digest is one of all of them");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_rows_in_a_table_that_nobody_watches_is_not_decoded_and_moves_readers_on() {
    for kind in Kind::ALL {
        let server = Server::start(kind, Options::default()).await.unwrap();
        server
            .sql(
                "CREATE DATABASE watched; CREATE TABLE watched.t (id INT PRIMARY KEY); CREATE DATABASE other; \
                 CREATE TABLE other.t (id INT PRIMARY KEY AUTO_INCREMENT, body VARCHAR(200), at DATETIME(6) NULL); \
                 INSERT INTO other.t (body) VALUES (REPEAT('x', 150)), (REPEAT('y', 150)), ('z'), (NULL); \
                 INSERT INTO watched.t VALUES (1); FLUSH BINARY LOGS",
            )
            .await
            .unwrap();
        for _ in 0..12 {
            server.sql("INSERT INTO other.t (body) SELECT body FROM other.t").await.unwrap();
        }
        // Both in one transaction, then nothing that is watched for a while.
        server
            .sql("BEGIN; INSERT INTO watched.t VALUES (2); UPDATE other.t SET at = NOW(6); INSERT INTO watched.t VALUES (3); COMMIT; \
                  DELETE FROM other.t")
            .await
            .unwrap();
        server.settle().await.unwrap();
        let mut fetcher = open(live(&server), only("watched")).await;
        let seen = read_all_of(&mut fetcher, &server).await.unwrap();
        let counters = fetcher.counters();
        let rows: usize = seen.windows.iter().map(|window| window.row_count()).sum();
        assert_eq!((counters.changes, counters.rows_read, rows), (3, 3, 3), "{kind}");
        assert!(counters.declined_events > 100, "{kind}: {counters:?}");
        counters.check().unwrap();
        let (file, offset) = server.binlog_end().await.unwrap();
        let number: u32 = file.rsplit('.').next().unwrap().parse().unwrap();
        let upto = seen.windows.last().unwrap().span.upto;
        assert_eq!((upto.binlog_file(), upto.binlog_offset()), (number, offset), "{kind}");
    }
}

/// Every table but this one.
fn without(table: &'static str) -> Selector {
    Arc::new(move |schema: &Arc<TableSchema>| Ok(schema.name().table != table))
}

/// A recording in which the rows of one table are noise behind their table's number; how many events that were.
fn damage(from: &Path, to: &Path, table: &str) -> usize {
    const TABLE_MAP: u8 = 19;
    const ROWS: [u8; 6] = [23, 24, 25, 30, 31, 32];
    let mut damaged = 0;
    for number in 1..=2 {
        let name = format!("binlog.{number:06}");
        let mut bytes = std::fs::read(from.join(&name)).unwrap();
        let (mut at, mut ids) = (4, Vec::new());
        while at < bytes.len() {
            let size = u32::from_le_bytes(bytes[at + 9..at + 13].try_into().unwrap()) as usize;
            let event = &mut bytes[at..at + size];
            let (kind, body) = (event[4], HEADER_BYTES);
            let id = event.get(body..body + 6).map(<[u8]>::to_vec);
            let name_at = body + 8 + 1 + usize::from(event.get(body + 8).copied().unwrap_or_default()) + 2;
            if kind == TABLE_MAP && event[name_at..].starts_with(table.as_bytes()) {
                ids.extend(id);
            } else if ROWS.contains(&kind) && id.is_some_and(|id| ids.contains(&id)) {
                let end = size - CHECKSUM_BYTES;
                event[body + 8..end].fill(0xee);
                let checksum = crc32fast::hash(&event[..end]).to_le_bytes();
                event[end..].copy_from_slice(&checksum);
                damaged += 1;
            }
            at += size;
        }
        std::fs::write(to.join(&name), bytes).unwrap();
    }
    damaged
}

async fn read(directory: &Path, selector: Selector) -> Result<Seen, FetchError> {
    let origin = Origin::Files(FileOptions::directory(directory, "binlog"));
    conformance::read(&mut open(origin, selector).await, ALL).await
}

#[tokio::test]
async fn damaged_rows_of_a_table_that_nobody_watches_harm_nobody_and_of_one_that_is_watched_stop_the_stream()
{
    for name in ["mysql-9.7-full", "mariadb-10.11-full"] {
        let folder = tempfile::tempdir().unwrap();
        let damaged = damage(&fixture(name), folder.path(), "bookings");
        assert!(damaged > 2, "{name}: {damaged}");
        let whole = read(&fixture(name), without("bookings")).await.unwrap();
        let around = read(folder.path(), without("bookings")).await.unwrap();
        assert!(whole.transactions.len() > 5 && whole.transactions == around.transactions, "{name}");
        assert_eq!(whole.windows.last().map(|w| w.span), around.windows.last().map(|w| w.span), "{name}");
        let stopped = read(folder.path(), all()).await.err().map(|error| error.to_string());
        let stopped = stopped.unwrap_or_else(|| panic!("{name}: noise was read as rows"));
        assert!(stopped.contains("binlog.00000"), "{name}: {stopped}");
    }
}

#[tokio::test]
async fn rows_that_cannot_be_decoded_stop_only_those_who_watch_their_table() {
    // Without names of columns nothing of this recording can be decoded.
    let recording = fixture("mysql-9.7-metadata-minimal");
    let none: Selector = Arc::new(|_: &Arc<TableSchema>| Ok(false));
    let seen = read(&recording, none).await.unwrap();
    let end = seen.windows.last().unwrap().span.upto;
    let last = std::fs::metadata(recording.join("binlog.000002")).unwrap().len();
    assert_eq!((end.binlog_file(), end.binlog_offset()), (2, last));
    assert!(matches!(read(&recording, all()).await, Err(FetchError::Undecodable(_))));
}
