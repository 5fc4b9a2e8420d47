//! Where a reader goes on, on real servers that replicate to each other: fail-over, purged and foreign histories, GTIDs of
//! both families, server ids, file numbers. What was read is compared with the tables of the server at the end.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::HashSet;
use std::time::Duration;

use support::{Replica, all, follow_to};
use tidemill_event::Checkpoint;
use tidemill_fetchers_api::conformance::{self, Seen};
use tidemill_fetchers_api::{FetchError, Fetcher, Start};
use tidemill_fetchers_mysql::{FileOptions, MySqlFetcher, Origin, Password, ServerOptions};
use tidemill_servers::{CutProxy, Kind, Options, Server, workload::Bank};

const TABLE: &str = "CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY)";

fn at(port: u16, server: &Server) -> ServerOptions {
    let password = Password::new(server.root_password());
    let mut options = ServerOptions::new("127.0.0.1", port, "root", password);
    options.heartbeat = Duration::from_millis(300);
    options
}

async fn open(server: &Server, start: Start) -> Result<MySqlFetcher, FetchError> {
    MySqlFetcher::open("test", Origin::Server(at(server.port(), server)), start, all()).await
}

async fn read(server: &Server, start: Start, transactions: usize) -> Seen {
    conformance::read(&mut open(server, start).await.unwrap(), transactions).await.unwrap()
}

/// The error with which a reader at that checkpoint ends.
async fn refusal(server: &Server, checkpoint: &Checkpoint) -> FetchError {
    match open(server, Start::At(checkpoint.clone())).await {
        Err(error) => error,
        Ok(mut fetcher) => loop {
            match fetcher.next().await {
                Err(error) => break error,
                Ok(window) => assert!(window.unwrap().transactions.is_empty(), "it goes on"),
            }
        },
    }
}

fn assert_lineage(error: &FetchError, names: &[&str]) {
    assert!(matches!(error, FetchError::Lineage { .. }), "{error:?}");
    let said = error.to_string();
    assert!(names.iter().all(|name| said.contains(name)), "{names:?} are not in: {said}");
}

fn checkpoint(seen: &Seen) -> Checkpoint {
    seen.windows.last().unwrap().checkpoint()
}

fn changes(seen: &Seen) -> u64 {
    seen.transactions.iter().map(|t| t.change_count).sum()
}

/// A source and a server that will be its replica and logs what it applies; both may be promoted.
async fn pair(kind: Kind) -> (Server, Server) {
    let options = |id| {
        let options = Options::default().server_id(id).password("the same");
        match kind.is_mysql() {
            true => options.argument("--skip-replica-start"),
            false => options.argument("--log-slave-updates=ON").argument("--gtid-strict-mode=ON"),
        }
    };
    (Server::start(kind, options(1)).await.unwrap(), Server::start(kind, options(2)).await.unwrap())
}

async fn stop_replication(replica: &Server) {
    let stop = if replica.kind().is_mysql() { "STOP REPLICA" } else { "STOP SLAVE" };
    replica.sql(stop).await.unwrap();
}

/// Every row of the bank's tables, as the server has them.
async fn assert_equals(seen: &Seen, server: &Server) {
    let replica = Replica::of(seen);
    for (table, columns) in [
        ("a", &["id", "balance"][..]),
        ("b", &["id", "balance"]),
        ("journal", &["seq", "origin", "from_id", "to_id", "amount"]),
    ] {
        let list: Vec<String> = columns.iter().map(|column| format!("CAST({column} AS CHAR)")).collect();
        let rows = server.rows(&format!("SELECT {} FROM bank.{table}", list.join(","))).await.unwrap();
        let mut truth: Vec<Vec<String>> =
            rows.iter().map(|row| (0..columns.len()).map(|c| row.get(c).unwrap()).collect()).collect();
        truth.sort();
        let columns: Vec<String> = columns.iter().map(ToString::to_string).collect();
        assert!(
            replica.table(&format!("bank.{table}"), &columns, &[]) == truth,
            "{}: {table}",
            server.kind()
        );
    }
}

/// One address, behind which another server is promoted while transfers go on and the reader lags behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l75_l77_a_promoted_replica_goes_on_as_a_new_timeline_with_nothing_lost_or_twice() {
    for kind in Kind::ALL {
        promoted(kind, "FULL").await;
    }
}

/// Definitions are asked for while transfers go on, and what is in force goes along to the other server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l32_l75_a_promoted_replica_goes_on_also_where_the_log_names_no_columns() {
    for kind in Kind::ALL {
        promoted(kind, if kind.is_mysql() { "MINIMAL" } else { "NO_LOG" }).await;
    }
}

async fn promoted(kind: Kind, metadata: &str) {
    let (mut source, replica) = pair(kind).await;
    for server in [&source, &replica] {
        server.sql(&format!("SET GLOBAL binlog_row_metadata = {metadata}")).await.unwrap();
    }
    replica.follow(&source).await.unwrap();
    let bank = Bank::create(source.root(), 20).await.unwrap();
    let address = CutProxy::start(source.address()).await.unwrap();
    let origin = Origin::Server(at(address.address().port(), &source));
    let mut fetcher = MySqlFetcher::open("test", origin, Start::Earliest, all()).await.unwrap();
    let mut seen = Seen::default();

    let run = bank.start(3);
    run.wait_committed(200).await;
    while changes(&seen) < 100 {
        seen.push(fetcher.next().await.unwrap().unwrap());
    }
    run.wait_committed(600).await;
    run.stop().await.unwrap();
    replica.catch_up(&source).await.unwrap();
    stop_replication(&replica).await;
    let before: HashSet<String> = seen.transactions.iter().map(|t| t.gtid.clone()).collect();
    source.kill();
    address.retarget(replica.address());
    let run = bank.on(replica.root()).start(3);
    run.wait_committed(300).await;
    run.stop().await.unwrap();

    let target = replica.gtid_set().await.unwrap();
    follow_to(&mut fetcher, &mut seen, &target).await.unwrap();
    assert_equals(&seen, &replica).await;
    let ids: HashSet<&String> = seen.transactions.iter().map(|t| &t.gtid).collect();
    assert_eq!(ids.len(), seen.transactions.len(), "{kind}: nothing comes twice");
    let numbers: Vec<u32> = seen.windows.iter().map(|w| w.timeline.number).collect();
    assert_eq!((numbers[0], *numbers.last().unwrap()), (1, 2), "{kind}");
    assert!(before.len() < seen.transactions.len(), "{kind}: the reader lagged");
    assert!(fetcher.counters().reconnects >= 1, "{kind}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l75_a_replica_that_lacks_what_was_read_is_refused_by_name_until_it_has_it() {
    for kind in Kind::ALL {
        let (source, replica) = pair(kind).await;
        replica.follow(&source).await.unwrap();
        source.sql(TABLE).await.unwrap();
        source.sql("INSERT INTO d.t VALUES (1)").await.unwrap();
        replica.catch_up(&source).await.unwrap();
        stop_replication(&replica).await;
        source.sql("INSERT INTO d.t VALUES (2), (3)").await.unwrap();
        let seen = read(&source, Start::Earliest, 4).await;
        let checkpoint = checkpoint(&seen);
        let missing = &seen.transactions[3].gtid;
        let error = refusal(&replica, &checkpoint).await;
        assert_lineage(&error, &["has not executed", missing]);
        replica.sql(if kind.is_mysql() { "START REPLICA" } else { "START SLAVE" }).await.unwrap();
        replica.catch_up(&source).await.unwrap();
        source.sql("INSERT INTO d.t VALUES (4)").await.unwrap();
        let tail = read(&replica, Start::At(checkpoint), 1).await;
        assert_eq!(changes(&tail), 1, "{kind}");
    }
}

/// The replica's own transactions are in nobody's set but its own: who moves to it gets them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l75_a_transaction_that_only_the_replica_has_is_delivered_by_the_replica() {
    let (source, replica) = pair(Kind::MySql).await;
    replica.follow(&source).await.unwrap();
    source.sql(TABLE).await.unwrap();
    source.sql("INSERT INTO d.t VALUES (1)").await.unwrap();
    replica.catch_up(&source).await.unwrap();
    replica.sql("INSERT INTO d.t VALUES (100)").await.unwrap();
    source.sql("INSERT INTO d.t VALUES (2)").await.unwrap();
    let seen = read(&source, Start::Earliest, 4).await;
    source.sql("INSERT INTO d.t VALUES (3)").await.unwrap();
    replica.catch_up(&source).await.unwrap();
    let tail = read(&replica, Start::At(checkpoint(&seen)), 2).await;
    let own: String = replica.value("SELECT @@server_uuid").await.unwrap().unwrap();
    let of_own: Vec<bool> = tail.transactions.iter().map(|t| t.gtid.starts_with(&own)).collect();
    assert_eq!(of_own, [true, false]);
    assert_eq!(*tail.windows.last().unwrap().executed, *replica.gtid_set().await.unwrap());
}

/// Leaves one file, which is new. The server keeps files that it believes to be read; it notices a reader that left when
/// it sends.
async fn purge(server: &Server) {
    while {
        server.sql("FLUSH BINARY LOGS").await.unwrap();
        let (last, _) = server.binlog_end().await.unwrap();
        server.sql(&format!("PURGE BINARY LOGS TO '{last}'")).await.unwrap();
        server.binlog_files().unwrap().len() > 1
    } {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l75_what_was_purged_before_it_was_read_is_named() {
    for kind in Kind::EVERY {
        let server = Server::start(kind, Options::default()).await.unwrap();
        server.sql(TABLE).await.unwrap();
        let checkpoint = checkpoint(&read(&server, Start::Earliest, 2).await);
        server.sql("INSERT INTO d.t VALUES (1)").await.unwrap();
        let missing = read(&server, Start::At(checkpoint.clone()), 1).await.transactions[0].gtid.clone();
        purge(&server).await;
        server.sql("INSERT INTO d.t VALUES (2)").await.unwrap();
        let error = refusal(&server, &checkpoint).await;
        let missing = missing.rsplit_once([':', '-']).unwrap().0.to_owned();
        assert_lineage(&error, &["has purged", &missing, "clone"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l71_l75_a_reset_server_is_another_history_for_whoever_reads_and_whoever_comes_back() {
    for kind in Kind::ALL {
        let server = Server::start(kind, Options::default()).await.unwrap();
        server.sql(TABLE).await.unwrap();
        server.sql("INSERT INTO d.t VALUES (1)").await.unwrap();
        let seen = read(&server, Start::Earliest, 3).await;
        let checkpoint = checkpoint(&seen);
        let reset = if kind.is_mysql() { "RESET BINARY LOGS AND GTIDS" } else { "RESET MASTER" };
        server.sql(reset).await.unwrap();
        let error = refusal(&server, &checkpoint).await;
        assert_lineage(&error, &["has not executed", &checkpoint.gtid_set]);
        // The numbers come again; the identity of the server does not tell.
        server.sql("INSERT INTO d.t VALUES (2)").await.unwrap();
        let error = refusal(&server, &checkpoint).await;
        assert_lineage(&error, &["has not executed"]);
    }
}

/// Two histories of one domain count on from the same transaction: a higher number is not a later one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l78_a_mariadb_history_that_parted_is_refused_although_its_numbers_are_higher() {
    let (source, replica) = pair(Kind::MariaDb).await;
    replica.follow(&source).await.unwrap();
    source.sql(TABLE).await.unwrap();
    replica.catch_up(&source).await.unwrap();
    stop_replication(&replica).await;
    source.sql("INSERT INTO d.t VALUES (1)").await.unwrap();
    replica.sql("INSERT INTO d.t VALUES (2); INSERT INTO d.t VALUES (3)").await.unwrap();
    let seen = read(&source, Start::Earliest, 3).await;
    let error = refusal(&replica, &checkpoint(&seen)).await;
    assert_lineage(&error, &["has not executed", "0-1-3"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l78_domains_servers_and_numbers_that_go_back_are_read_and_resumed_at() {
    for kind in [Kind::MariaDb, Kind::MariaDb118] {
        let server = Server::start(kind, Options::default()).await.unwrap();
        server
            .sql(
                "CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY); INSERT INTO d.t VALUES (1); \
                 SET SESSION gtid_domain_id=7; INSERT INTO d.t VALUES (2); SET SESSION server_id=9; \
                 INSERT INTO d.t VALUES (3); SET SESSION gtid_domain_id=0; INSERT INTO d.t VALUES (4); \
                 SET SESSION gtid_seq_no=100; INSERT INTO d.t VALUES (5); \
                 SET SESSION server_id=1; SET SESSION gtid_seq_no=50; INSERT INTO d.t VALUES (6)",
            )
            .await
            .unwrap();
        let open = async |start| Ok(open(&server, start).await?.with_window_bytes(1));
        let seen = conformance::check(open, 8).await.unwrap();
        let ids: Vec<&str> = seen.transactions.iter().map(|t| t.gtid.as_str()).collect();
        assert_eq!(
            ids,
            ["0-1-1", "0-1-2", "0-1-3", "7-1-1", "7-9-2", "0-9-4", "0-9-100", "0-1-50"],
            "{kind}"
        );
        assert_eq!(*seen.windows.last().unwrap().executed, *server.gtid_set().await.unwrap(), "{kind}");
    }
}

/// As an applier with many threads leaves them: a set with gaps, never a highest number.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l76_gtids_out_of_order_are_a_set_with_gaps_that_is_resumed_at() {
    let server = Server::start(Kind::MySql, Options::default()).await.unwrap();
    server.sql(TABLE).await.unwrap();
    let foreign = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    for number in [5, 2, 9, 1, 3] {
        let sql = format!("SET gtid_next='{foreign}:{number}'; INSERT INTO d.t VALUES ({number})");
        server.sql(&sql).await.unwrap();
    }
    let open = async |start| Ok(open(&server, start).await?.with_window_bytes(1));
    let seen = conformance::check(open, 7).await.unwrap();
    let own: String = server.value("SELECT @@server_uuid").await.unwrap().unwrap();
    let sets: Vec<String> = seen.resume.iter().map(|(_, checkpoint)| checkpoint.gtid_set.clone()).collect();
    assert!(
        sets.contains(&format!("{foreign}:2:5,{own}:1-2"))
            || sets.contains(&format!("{own}:1-2,{foreign}:2:5"))
    );
    let last = seen.windows.last().unwrap();
    assert_eq!(*last.executed, *server.gtid_set().await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l77_file_and_offset_are_refused_on_another_server() {
    let options =
        || Options::default().argument("--gtid-mode=OFF").argument("--enforce-gtid-consistency=OFF");
    let server = Server::start(Kind::MySql, options()).await.unwrap();
    let other = Server::start(Kind::MySql, options().server_id(2)).await.unwrap();
    for one in [&server, &other] {
        one.sql(TABLE).await.unwrap();
    }
    let checkpoint = checkpoint(&read(&server, Start::Earliest, 2).await);
    let own: String = server.value("SELECT @@server_uuid").await.unwrap().unwrap();
    assert_lineage(&refusal(&other, &checkpoint).await, &["without GTIDs", &own]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l77_two_readers_with_one_server_id_both_read_on_mysql_and_the_first_is_told_on_mariadb() {
    for kind in Kind::ALL {
        let server = Server::start(kind, Options::default()).await.unwrap();
        server.sql(TABLE).await.unwrap();
        let mut options = at(server.port(), &server);
        options.server_id = Some(4711);
        let reader = || MySqlFetcher::open("test", Origin::Server(options.clone()), Start::Earliest, all());
        let mut first = reader().await.unwrap();
        conformance::read(&mut first, 2).await.unwrap();
        let mut second = reader().await.unwrap();
        conformance::read(&mut second, 2).await.unwrap();
        server.sql("INSERT INTO d.t VALUES (1)").await.unwrap();
        conformance::read(&mut second, 1).await.unwrap();
        match conformance::read(&mut first, 1).await {
            Ok(_) => assert!(kind.is_mysql(), "{kind}"),
            Err(error) => {
                assert!(!kind.is_mysql() && error.to_string().contains("`server_id`"), "{kind}: {error}");
            }
        }
    }
}

/// The files of a server that has written a million: their names have a digit more from then on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l71_file_numbers_go_on_past_six_digits() {
    for kind in Kind::ALL {
        let mut server = Server::start(kind, Options::default()).await.unwrap();
        server.stop().await.unwrap();
        let last = server.binlog_files().unwrap().pop().unwrap();
        std::fs::rename(&last, last.with_file_name("binlog.999998")).unwrap();
        std::fs::write(server.datadir().join("binlog.index"), "./binlog.999998\n").unwrap();
        server.restart().await.unwrap();
        server.sql(TABLE).await.unwrap();
        for id in 0..3 {
            server.sql(&format!("FLUSH BINARY LOGS; INSERT INTO d.t VALUES ({id})")).await.unwrap();
        }
        assert!(server.binlog_end().await.unwrap().0.ends_with(".1000002"), "{kind}");
        let open = async |start| Ok(open(&server, start).await?.with_window_bytes(1));
        let seen = conformance::check(open, 5).await.unwrap();
        let files: Vec<u32> = seen.transactions.iter().map(|t| t.scn.binlog_file()).collect();
        assert_eq!(files, [999_999, 999_999, 1_000_000, 1_000_001, 1_000_002], "{kind}");
        let origin = Origin::Files(FileOptions::directory(server.datadir(), "binlog"));
        let mut fetcher = MySqlFetcher::open("test", origin, Start::Earliest, all()).await.unwrap();
        let disk = conformance::read(&mut fetcher, usize::MAX).await.unwrap();
        assert!(disk.transactions == seen.transactions, "{kind}");
    }
}

/// A stop, a crash, and files that end by FLUSH: artificial rotates and format descriptions repeat what was there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l70_what_a_server_repeats_at_a_new_file_or_connection_counts_once() {
    for kind in Kind::EVERY {
        let mut server = Server::start(kind, Options::default()).await.unwrap();
        server.sql(TABLE).await.unwrap();
        server.sql("FLUSH BINARY LOGS; FLUSH BINARY LOGS; INSERT INTO d.t VALUES (1)").await.unwrap();
        server.restart().await.unwrap();
        server.sql("INSERT INTO d.t VALUES (2)").await.unwrap();
        server.kill();
        server.restart().await.unwrap();
        server.sql("INSERT INTO d.t VALUES (3); INSERT INTO d.t VALUES (4)").await.unwrap();
        let open = async |start| Ok(open(&server, start).await?.with_window_bytes(1));
        let live = conformance::check(open, 6).await.unwrap();
        let origin = Origin::Files(FileOptions::directory(server.datadir(), "binlog"));
        let mut fetcher = MySqlFetcher::open("test", origin, Start::Earliest, all()).await.unwrap();
        let disk = conformance::read(&mut fetcher, usize::MAX).await.unwrap();
        assert!(live.transactions == disk.transactions, "{kind}");
    }
}

/// The server dies while it writes a transaction: whoever reads its files has seen a part of what never happened.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l70_a_transaction_that_a_crash_cut_short_never_happened() {
    for kind in Kind::ALL {
        let mut server = Server::start(kind, Options::default()).await.unwrap();
        server.sql("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, v LONGTEXT)").await.unwrap();
        let file = server.binlog_files().unwrap().pop().unwrap();
        let before = std::fs::metadata(&file).unwrap().len();
        let mut live = open(&server, Start::Earliest).await.unwrap();
        let mut options = FileOptions::directory(server.datadir(), "binlog");
        options.follow = true;
        let mut files =
            MySqlFetcher::open("test", Origin::Files(options), Start::Earliest, all()).await.unwrap();
        let pool = server.pool();
        let insert = async {
            use mysql_async::prelude::Queryable;
            let mut conn = pool.get_conn().await.unwrap();
            let rows: Vec<String> = (0..40).map(|id| format!("({id}, REPEAT('x', 1500000))")).collect();
            // It may be answered before the kill: then it did happen.
            let _ = conn.query_drop(format!("INSERT INTO d.t VALUES {}", rows.join(","))).await;
        };
        let kill = async {
            while std::fs::metadata(&file).unwrap().len() < before + 1_000_000 {
                tokio::task::yield_now().await;
            }
            server.kill();
        };
        tokio::join!(insert, kill);
        server.restart().await.unwrap();
        server.sql("INSERT INTO d.t VALUES (1000, 'after')").await.unwrap();
        let truth: Option<u64> = server.value("SELECT COUNT(*) FROM d.t").await.unwrap();
        let target = server.gtid_set().await.unwrap();
        for fetcher in [&mut live, &mut files] {
            let mut seen = Seen::default();
            follow_to(fetcher, &mut seen, &target).await.unwrap();
            assert_eq!(Some(changes(&seen) - 2), truth, "{kind}");
        }
    }
}
