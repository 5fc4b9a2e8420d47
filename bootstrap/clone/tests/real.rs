//! Copies of real tables of real servers of both families into snapshot storage.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeMap;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use mysql_async::prelude::Queryable;
use support::follow::{Follower, extract};
use support::stored::{progress, rows, state, store, writer};
use support::watched::Watched;
use tidemill_bootstrap_clone::{
    CloneControl, CloneOptions, CloneStatus, Cloner, Gate, Policy, SnapshotDestination, TableStage,
};
use tidemill_bootstrap_store::{TableKey, Writer};
use tidemill_event::TableName;
use tidemill_fetchers_api::Start;
use tidemill_fetchers_mysql::MySqlExtract;
use tidemill_servers::{Kind, Options, Server};

const ROWS: i64 = 3_000;

/// `d.t` with a key of two columns, a text in the server's collation and a number.
async fn server(kind: Kind) -> Server {
    let server = Server::start(kind, Options::default()).await.unwrap();
    fill(&server).await;
    server
}

async fn fill(server: &Server) {
    let name = |id: i64| match id % 3 {
        0 => format!("Name {}", id / 7),
        1 => format!("name {}", id / 7),
        _ => format!("ńame {}", id / 7),
    };
    let values: Vec<String> = (0..ROWS).map(|id| format!("('{}', {id}, {})", name(id), 3 * id)).collect();
    let values = values.join(",");
    let table = "CREATE DATABASE d; CREATE TABLE d.t (name VARCHAR(40) CHARACTER SET utf8mb4 NOT NULL, \
                 id BIGINT NOT NULL, v BIGINT NOT NULL, PRIMARY KEY (name, id))";
    server.sql(&format!("{table}; INSERT INTO d.t VALUES {values}")).await.unwrap();
}

fn table() -> TableName {
    TableName::new("d", "t")
}

fn control() -> CloneControl {
    let control = CloneControl::default();
    control.add_table(table());
    control
}

type Real = Cloner<Watched<MySqlExtract>, SnapshotDestination, Follower>;

fn cloner(
    source: &Watched<MySqlExtract>,
    writer: &Writer,
    follower: &Follower,
    control: &CloneControl,
) -> Real {
    let destination = SnapshotDestination::new(writer.clone());
    let (source, follower, control) = (source.clone(), follower.clone(), control.clone());
    Cloner::new(source, Policy::none(), destination, follower, control)
}

fn options() -> CloneOptions {
    CloneOptions { chunk_rows: 100, ..CloneOptions::default() }
}

async fn until(control: &CloneControl, is: impl FnMut(&CloneStatus) -> bool) -> CloneStatus {
    control.status().wait_for(is).await.unwrap().clone()
}

/// What is in the table, as its own client says.
async fn there(server: &Server) -> BTreeMap<(String, i64), i64> {
    let rows = server.rows("SELECT name, id, v FROM d.t").await.unwrap();
    rows.into_iter().map(mysql_async::from_row::<(String, i64, i64)>).map(|(n, id, v)| ((n, id), v)).collect()
}

fn copied(batches: &[RecordBatch]) -> BTreeMap<(String, i64), i64> {
    let number = |batch: &RecordBatch, column: usize, row: usize| {
        batch.column(column).as_primitive::<Int64Type>().value(row)
    };
    let row = |batch: &RecordBatch, row: usize| {
        let name = batch.column(0).as_string::<i32>().value(row).to_owned();
        ((name, number(batch, 1, row)), number(batch, 2, row))
    };
    batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |at| row(batch, at))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b28_any_degree_copies_the_same_rows_of_a_real_table() {
    for kind in Kind::ALL {
        let server = server(kind).await;
        let follower = Follower::start(&server, Start::Now, None).await;
        let there = there(&server).await;
        let mut serial: Option<(Vec<RecordBatch>, usize)> = None;
        for degree in [1, 2, 8, 32] {
            let (source, store) = (Watched::new(extract(&server)), store());
            let writer = writer(&store).await;
            let options = CloneOptions { max_connections: degree, chunks_in_flight: 2 * degree, ..options() };
            let status = cloner(&source, &writer, &follower, &control())
                .with_options(options)
                .run_to_end()
                .await
                .unwrap();
            assert_eq!(status.tables[&table()].stage, TableStage::Done, "{kind} {degree}: {status:?}");
            let (rows, chunks) = (rows(&writer, &table()).await, progress(&writer, &table()).chunks.len());
            assert_eq!(copied(&rows), there, "{kind} {degree}");
            assert_eq!(source.seen.rows(), ROWS as u64);
            // The same rows in the same order, however they were read.
            let (serial, serial_chunks) = serial.get_or_insert_with(|| (rows.clone(), chunks));
            assert!(
                (&*serial, *serial_chunks) == (&rows, chunks) && chunks == 30,
                "{kind} {degree}: {chunks}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b23_a_kill_at_every_nth_chunk_costs_no_more_than_the_chunks_in_flight_and_the_newer_writer_goes_on()
{
    let server = server(Kind::MySql).await;
    let follower = Follower::start(&server, Start::Now, None).await;
    for (every, in_flight) in [(3, 1), (7, 4)] {
        let (source, store) = (Watched::new(extract(&server)), store());
        let mut crashes = 0;
        let writer = loop {
            let writer = writer(&store).await;
            let done = |writer: &Writer| match state(writer, &table()) {
                Some(_) => progress(writer, &table()).chunks.len(),
                None => 0,
            };
            let (before, control) = (done(&writer), control());
            let options = CloneOptions { chunks_in_flight: in_flight, ..options() };
            let run = tokio::spawn(cloner(&source, &writer, &follower, &control).with_options(options).run());
            let status = until(&control, |status| {
                done(&writer) >= before + every || status.tables[&table()].stage.is_end()
            });
            let is_done = status.await.is_idle();
            run.abort();
            assert!(run.await.is_err());
            if is_done {
                break writer;
            }
            crashes += 1;
        };
        assert_eq!(copied(&rows(&writer, &table()).await), there(&server).await);
        assert!(crashes >= 30 / (every + 2 * in_flight), "{crashes}");
        let read = source.seen.rows();
        assert!(read <= ROWS as u64 + (crashes * in_flight * 100) as u64, "{read} rows, {crashes} crashes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn b27_nobody_waits_for_a_copy_and_no_transaction_is_longer_than_a_chunk() {
    for kind in Kind::ALL {
        let server = server(kind).await;
        let follower = Follower::start(&server, Start::Now, None).await;
        let (source, store, control) = (Watched::new(extract(&server)), store(), control());
        let writer = writer(&store).await;
        let count = async |name: &str| {
            let rows = server.rows(&format!("SHOW GLOBAL STATUS LIKE '{name}'")).await.unwrap();
            mysql_async::from_row::<(String, u64)>(rows.into_iter().next().unwrap()).1
        };
        let names = ["Com_lock_tables", "Com_flush", "Com_begin", "Com_commit", "Com_rollback"];
        let mut before = vec![];
        for name in names {
            before.push(count(name).await);
        }
        source.seen.hold();
        let options = CloneOptions { max_connections: 2, chunks_in_flight: 2, ..options() };
        let run = tokio::spawn(cloner(&source, &writer, &follower, &control).with_options(options).run());
        // Both connections stand in the middle of a chunk: everybody else writes to the same rows.
        source.seen.held.subscribe().wait_for(|held| *held == 2).await.unwrap();
        let mut conn = server.conn().await.unwrap();
        conn.query_drop("SET SESSION innodb_lock_wait_timeout = 1, lock_wait_timeout = 1").await.unwrap();
        conn.query_drop("UPDATE d.t SET v = v + 1").await.unwrap();
        conn.query_drop("DELETE FROM d.t WHERE id = 7").await.unwrap();
        conn.query_drop("INSERT INTO d.t VALUES ('late', 7, 7)").await.unwrap();
        // The server has transactions of its own now and then.
        let query = format!(
            "SELECT COUNT(*), CAST(COALESCE(SUM(trx_tables_locked + trx_rows_locked), 0) AS UNSIGNED) \
             FROM information_schema.innodb_trx JOIN information_schema.processlist ON id = trx_mysql_thread_id \
             WHERE user = '{}'",
            Server::USER
        );
        let open: Vec<(u64, u64)> = conn.query(&query).await.unwrap();
        assert_eq!(open, [(2, 0)], "{kind}: a transaction a connection, and not one lock");
        source.seen.release();
        until(&control, CloneStatus::is_idle).await;
        // Nothing is left open, and every chunk was a transaction of its own. The server looks at its transactions again
        // only when nobody has asked for a tenth of a second; until then it says what it saw last.
        let mut open: Vec<(u64, u64)> = conn.query(&query).await.unwrap();
        for _ in 0..100 {
            if open == [(0, 0)] {
                break;
            }
            conn.query_drop("DO SLEEP(0.2)").await.unwrap();
            open = conn.query(&query).await.unwrap();
        }
        assert_eq!(open, [(0, 0)], "{kind}");
        let mut grown = vec![];
        for (name, before) in names.into_iter().zip(before) {
            grown.push(count(name).await - before);
        }
        let chunks = source.seen.chunks();
        // MariaDB: one more of each connection, which finds its first low mark.
        let transactions = if kind.is_mysql() { chunks } else { chunks + 2 };
        assert_eq!(grown, [0, 0, transactions, transactions, 0], "{kind}: {names:?}");
        assert_eq!(chunks as usize, progress(&writer, &table()).chunks.len(), "{kind}");
        assert!(chunks >= 30);
        run.abort();
        conn.disconnect().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_server_is_left_alone_until_it_is_not() {
    let server = server(Kind::MySql).await;
    let follower = Follower::start(&server, Start::Now, None).await;
    let (source, store, control) = (Watched::new(extract(&server)), store(), control());
    let writer = writer(&store).await;
    let mut sleepers = vec![];
    for _ in 0..8 {
        let mut conn = server.conn().await.unwrap();
        sleepers.push((conn.id(), tokio::spawn(async move { conn.query_drop("DO SLEEP(1000)").await })));
    }
    let options = CloneOptions {
        max_threads_running: Some(7),
        load_every: std::time::Duration::from_millis(10),
        ..options()
    };
    let run = tokio::spawn(cloner(&source, &writer, &follower, &control).with_options(options).run());
    let busy = |status: &CloneStatus| matches!(&status.gate, Gate::Busy { why } if why.contains("statements run at the source, the limit is 7"));
    until(&control, busy).await;
    assert_eq!((source.seen.rows(), state(&writer, &table())), (0, None));
    for (id, _) in &sleepers[..6] {
        server.sql(&format!("KILL QUERY {id}")).await.unwrap();
    }
    until(&control, CloneStatus::is_idle).await;
    assert_eq!(copied(&rows(&writer, &table()).await), there(&server).await);
    run.abort();
    for (id, task) in sleepers {
        let _ = server.sql(&format!("KILL {id}")).await;
        let _ = task.await;
    }
}

/// A replica of it, under the same passwords.
async fn replica_of(source: &Server) -> Server {
    let replica =
        Server::start(source.kind(), Options::default().server_id(2).password("the same")).await.unwrap();
    replica.follow(source).await.unwrap();
    replica
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_stands_still_is_left_alone_until_it_follows() {
    for kind in Kind::ALL {
        let source = Server::start(kind, Options::default().server_id(1).password("the same")).await.unwrap();
        fill(&source).await;
        let replica = replica_of(&source).await;
        let follower = Follower::start(&source, Start::Now, None).await;
        let (copied_from, store, control) = (Watched::new(extract(&replica)), store(), control());
        let writer = writer(&store).await;
        let has_table = "SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = 'follower'";
        while replica.value::<i64>(has_table).await.unwrap() != Some(1) {
            tokio::task::yield_now().await;
        }
        let word = if kind.is_mysql() { "REPLICA" } else { "SLAVE" };
        replica.sql(&format!("STOP {word} SQL_THREAD")).await.unwrap();
        source.sql("UPDATE d.t SET v = v + 1").await.unwrap();
        let options = CloneOptions {
            max_replica_lag: Some(std::time::Duration::from_secs(1000)),
            load_every: std::time::Duration::from_millis(10),
            retry_after: std::time::Duration::from_millis(10),
            ..options()
        };
        let cloner = cloner(&copied_from, &writer, &follower, &control).with_options(options);
        let run = tokio::spawn(cloner.run());
        let stands = |status: &CloneStatus| matches!(&status.gate, Gate::Busy { why } if why.contains("does not follow its own source"));
        until(&control, stands).await;
        assert_eq!((copied_from.seen.rows(), state(&writer, &table()).is_none()), (0, true), "{kind}");
        replica.sql(&format!("START {word} SQL_THREAD")).await.unwrap();
        until(&control, CloneStatus::is_idle).await;
        // A copy is as old as the replica was: what it lacks is in the log that is replayed over it.
        let copy = copied(&rows(&writer, &table()).await);
        let there = there(&source).await;
        assert!(copy.keys().eq(there.keys()), "{kind}");
        run.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_without_key_is_copied_whole_at_a_place_where_nobody_changed_it() {
    for kind in Kind::ALL {
        let server = server(kind).await;
        server
            .sql("CREATE TABLE d.k (v BIGINT NOT NULL); INSERT INTO d.k SELECT id % 100 FROM d.t")
            .await
            .unwrap();
        let follower = Follower::start(&server, Start::Now, None).await;
        let (source, store, keyless) = (Watched::new(extract(&server)), store(), TableName::new("d", "k"));
        let (writer, control) = (writer(&store).await, CloneControl::default());
        control.add_table(keyless.clone());
        source.seen.hold();
        let options = CloneOptions { retry_after: std::time::Duration::from_millis(1), ..options() };
        let run = tokio::spawn(cloner(&source, &writer, &follower, &control).with_options(options).run());
        source.seen.held.subscribe().wait_for(|held| *held == 1).await.unwrap();
        // Behind its snapshot: no row of it is read, all of it is in the log.
        server.sql("INSERT INTO d.k VALUES (500), (500); DELETE FROM d.k WHERE v = 3 LIMIT 1").await.unwrap();
        source.seen.release();
        until(&control, CloneStatus::is_idle).await;
        run.abort();
        let progress = progress(&writer, &keyless);
        assert_eq!(state(&writer, &keyless).unwrap().key, TableKey::WholeRow);
        assert_eq!(progress.chunks.len(), 1, "{kind}");
        let counts = |values: &mut dyn Iterator<Item = i64>| {
            let mut counts: BTreeMap<i64, i64> = BTreeMap::new();
            values.for_each(|v| *counts.entry(v).or_default() += 1);
            counts
        };
        let batches = rows(&writer, &keyless).await;
        let read = batches.iter().flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec());
        let mut read = counts(&mut read.into_iter());
        let windows = follower.to_end(&server).await;
        support::follow::changes(&windows, &keyless, |at, changes, change| {
            let value = |row: u32| changes.rows.column(0).as_primitive::<Int64Type>().value(row as usize);
            if at > progress.chunks[0].low {
                change.before.into_iter().for_each(|row| *read.entry(value(row)).or_default() -= 1);
                change.after.into_iter().for_each(|row| *read.entry(value(row)).or_default() += 1);
            }
        });
        let there = server.rows("SELECT v FROM d.k").await.unwrap();
        assert_eq!(read, counts(&mut there.into_iter().map(mysql_async::from_row::<i64>)), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_in_the_middle_is_waited_for() {
    let mut server = server(Kind::MySql).await;
    let follower = Follower::start(&server, Start::Now, None).await;
    let (source, store, control) = (Watched::new(extract(&server)), store(), control());
    let writer = writer(&store).await;
    source.seen.hold();
    let options = CloneOptions { retry_after: std::time::Duration::from_millis(20), ..options() };
    let run = tokio::spawn(cloner(&source, &writer, &follower, &control).with_options(options).run());
    source.seen.held.subscribe().wait_for(|held| *held > 0).await.unwrap();
    server.kill();
    source.seen.release();
    until(&control, |status| status.last_error.is_some()).await;
    server.restart().await.unwrap();
    until(&control, CloneStatus::is_idle).await;
    assert_eq!(copied(&rows(&writer, &table()).await), there(&server).await);
    run.abort();
}
