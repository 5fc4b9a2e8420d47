//! Transactions larger than any memory that we would give them: whole, in order, unseen until complete, in little
//! memory, also when the connection is cut in their middle. The tests share a process and its memory, so that they take
//! turns, and nothing else is tested here.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::path::Path;
use std::time::Instant;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use mysql_async::prelude::Queryable;
use support::all;
use tidemill_event::{Part, Window};
use tidemill_fetchers_api::{Fetcher, Start};
use tidemill_fetchers_mysql::{MySqlFetcher, Origin, Password, ServerOptions, Settings};
use tidemill_servers::{Cut, CutProxy, Kind, Options, Server};

/// The binary's own, which gives memory back and does not shrink and grow its heap for each large buffer.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// One at a time: memory is the process's.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

const MIB: u64 = 1 << 20;
/// Of a row's text.
const ROW_BYTES: u64 = 4000;

/// A field of the kernel's account of this process, in bytes.
fn memory(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    let kib: u64 = line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap();
    kib * 1024
}

/// The peak begins anew at what is used now.
fn reset_peak() {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
}

/// How the rows of the large transaction come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Plain,
    Compressed,
    Xa,
}

/// One transaction of at least so many bytes, between two small ones; says how many rows it has.
async fn large_transaction(server: &Server, bytes: u64, how: How) -> u64 {
    let rows = bytes.div_ceil(ROW_BYTES).next_multiple_of(1000);
    server
        .sql("CREATE DATABASE d; CREATE TABLE d.n (id BIGINT PRIMARY KEY); CREATE TABLE d.t (id BIGINT PRIMARY KEY, v LONGTEXT)")
        .await
        .unwrap();
    let numbers: Vec<String> = (0..1000).map(|n| format!("({n})")).collect();
    server.sql(&format!("INSERT INTO d.n VALUES {}", numbers.join(","))).await.unwrap();
    let insert = |from: u64, to: u64| {
        format!(
            "INSERT INTO d.t SELECT a.id * 1000 + b.id, REPEAT(CHAR(65 + (a.id + b.id) % 26), {ROW_BYTES}) FROM d.n a JOIN d.n b \
             WHERE a.id >= {from} AND a.id < {to}"
        )
    };
    let mut conn = server.conn().await.unwrap();
    let (begin, end) = match how {
        How::Plain => ("BEGIN", "COMMIT"),
        How::Compressed => ("SET SESSION binlog_transaction_compression = ON; BEGIN", "COMMIT"),
        How::Xa => ("XA START 'large'", "XA END 'large'; XA PREPARE 'large'; XA COMMIT 'large'"),
    };
    conn.query_drop(begin).await.unwrap();
    let chunks = rows / 1000;
    let step = 50;
    for from in (0..chunks).step_by(step) {
        conn.query_drop(insert(from, (from + step as u64).min(chunks))).await.unwrap();
    }
    conn.query_drop(end).await.unwrap();
    server.sql("INSERT INTO d.t VALUES (-1, 'after')").await.unwrap();
    rows
}

/// What the windows of the large transaction say, without keeping them.
#[derive(Debug, Default)]
struct Tally {
    rows: u64,
    bytes: u64,
    id_sum: i64,
    fragments: u64,
    changes: u64,
    is_complete: bool,
    is_after: bool,
}

impl Tally {
    fn add(&mut self, window: &Window) {
        for transaction in &window.transactions {
            if transaction.part == Part::Whole {
                continue;
            }
            assert!(!self.is_complete, "fragments end with the last");
            assert_eq!(transaction.change_offset, self.changes, "changes are numbered on");
            assert_eq!(transaction.part == Part::First, self.fragments == 0);
            self.changes += u64::from(transaction.change_count);
            self.fragments += 1;
            self.is_complete = transaction.part.completes();
            assert_eq!(window.span.upto >= transaction.scn, self.is_complete, "unseen until complete");
        }
        for table in window.tables.iter().filter(|table| table.schema.name().table == "t") {
            let ids = table.rows.column(0).as_primitive::<Int64Type>();
            let texts = table.rows.column(1).as_string::<i32>();
            self.is_after |= ids.values().contains(&-1);
            if self.is_after {
                assert!(self.is_complete, "commit order");
                continue;
            }
            self.rows += ids.len() as u64;
            self.id_sum += ids.values().iter().sum::<i64>();
            self.bytes += texts.iter().map(|text| text.unwrap().len() as u64).sum::<u64>();
        }
    }
}

/// Reads it through a proxy that cuts the connection in its middle; says the peak of this process's memory.
async fn read_large(server: &Server, rows: u64, cut_at: u64, directory: &Path) -> u64 {
    let proxy = CutProxy::start(server.address()).await.unwrap();
    // A transaction whose end is not known in advance is read twice: both times it is cut once.
    for cut in [Cut::AfterDump(cut_at), Cut::Never, Cut::AfterDump(cut_at)] {
        proxy.cut_next(cut);
    }
    let password = Password::new(server.user_password());
    let options = ServerOptions::new("127.0.0.1", proxy.address().port(), Server::USER, password);
    let settings = Settings { directory: Some(directory.to_owned()), ..Settings::from(all()) };
    reset_peak();
    let mut fetcher =
        MySqlFetcher::open("test", Origin::Server(options), Start::Earliest, settings).await.unwrap();
    let mut tally = Tally::default();
    while !tally.is_after {
        tally.add(&fetcher.next().await.unwrap().unwrap());
    }
    let peak = memory("VmHWM");
    assert_eq!((tally.rows, tally.changes, tally.bytes), (rows, rows, rows * ROW_BYTES), "{tally:?}");
    assert_eq!(tally.id_sum, (0..rows as i64).sum::<i64>());
    assert!(tally.is_complete && tally.fragments > 10, "{tally:?}");
    let counters = fetcher.counters();
    assert!(counters.reconnects >= 1, "{counters:?}");
    counters.check().unwrap();
    peak
}

async fn check_large(kind: Kind, bytes: u64, budget: u64, how: How) {
    let options = Options::for_load().argument("--max-binlog-size=1G");
    let server = Server::start(kind, options).await.unwrap();
    let written = Instant::now();
    let rows = large_transaction(&server, bytes, how).await;
    let read = Instant::now();
    let directory = tempfile::tempdir().unwrap();
    let cut_at = if how == How::Compressed { 10_000 } else { bytes / 2 };
    let peak = read_large(&server, rows, cut_at, directory.path()).await;
    println!(
        "{kind} {how:?}: {rows} rows, {} MiB, written in {:.1} s, read in {:.1} s, peak RSS {} MiB",
        rows * ROW_BYTES / MIB,
        (read - written).as_secs_f64(),
        read.elapsed().as_secs_f64(),
        peak / MIB
    );
    assert!(peak < budget, "{kind} {how:?}: {} MiB", peak / MIB);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_larger_than_its_memory_comes_whole_through_a_cut_in_its_middle() {
    let _turn = TURN.lock().await;
    for (kind, how, bytes) in [
        (Kind::MySql, How::Plain, 320 * MIB),
        (Kind::MySql, How::Compressed, 320 * MIB),
        (Kind::MariaDb, How::Plain, 320 * MIB),
        // What is prepared is written to disk and read again.
        (Kind::MySql, How::Xa, 160 * MIB),
        (Kind::MariaDb, How::Xa, 160 * MIB),
    ] {
        check_large(kind, bytes, 128 * MIB, how).await;
    }
}

/// Eight times its memory: `cargo test -p tidemill-fetchers-mysql --test large -- --ignored --nocapture two_gib`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "writes some 10 GiB and takes minutes"]
async fn two_gib_in_one_transaction_are_captured_whole_within_256_mib() {
    let _turn = TURN.lock().await;
    for kind in Kind::ALL {
        check_large(kind, 2048 * MIB, 256 * MIB, How::Plain).await;
    }
}

/// Likewise: `cargo test -p tidemill-fetchers-mysql --test large -- --ignored --nocapture two_gib_prepared`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "writes some 20 GiB and takes minutes"]
async fn two_gib_prepared_in_one_transaction_are_captured_whole_within_256_mib() {
    let _turn = TURN.lock().await;
    for kind in Kind::ALL {
        check_large(kind, 2048 * MIB, 256 * MIB, How::Xa).await;
    }
}
