//! Copies of tables from a replica, while the stream comes from its source and clients write there.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tidemill_e2e::{Folder, Instance};
use tidemill_servers::{Kind, Options, Server};
use tokio::task::{JoinSet, block_in_place};

const WRITERS: u64 = 12;
const ROWS: u64 = 10_000;
/// Each time everything is copied anew.
const COPIES: usize = 3;

/// A source and its replica. Only MySQL's log what they apply unless they are told to.
async fn pair(kind: Kind) -> (Server, Server) {
    let options = |id| Options::default().server_id(id).password("the same");
    let (source, replica) =
        (Server::start(kind, options(1)).await.unwrap(), Server::start(kind, options(2)).await.unwrap());
    let (port, password) = (source.port(), source.root_password());
    let change = match kind.is_mysql() {
        true => format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={port}, SOURCE_USER='root', \
             SOURCE_PASSWORD='{password}', SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1; START REPLICA"
        ),
        false => format!(
            "CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={port}, MASTER_USER='root', MASTER_PASSWORD='{password}', \
             MASTER_SSL=0, MASTER_SSL_VERIFY_SERVER_CERT=0, MASTER_USE_GTID=slave_pos; START SLAVE; \
             GRANT SLAVE MONITOR ON *.* TO '{}'@'%'",
            Server::USER
        ),
    };
    let change = match kind.is_mysql() {
        true => change,
        // A grant of its own would be a transaction of its own.
        false => format!("SET sql_log_bin = 0; {change}"),
    };
    replica.sql(&change).await.unwrap();
    (source, replica)
}

/// Waits until the replica has all that the source has executed.
async fn catch_up(source: &Server, replica: &Server) {
    let set = source.gtid_set().await.unwrap();
    let wait = match source.kind().is_mysql() {
        true => format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{set}', 300)"),
        false => format!("SELECT MASTER_GTID_WAIT('{set}', 300)"),
    };
    assert_eq!(replica.value::<i64>(&wait).await.unwrap(), Some(0), "the replica has it");
}

async fn fill(server: &Server) {
    server
        .sql("CREATE DATABASE d; CREATE TABLE d.t (id BIGINT PRIMARY KEY, v BIGINT NOT NULL)")
        .await
        .unwrap();
    let values: Vec<String> = (0..ROWS).map(|id| format!("({}, 0)", 2 * id)).collect();
    server.sql(&format!("INSERT INTO d.t VALUES {}", values.join(","))).await.unwrap();
}

/// Writers that insert, update, delete and change keys until they are told to stop.
struct Writers {
    stop: Arc<AtomicBool>,
    committed: Arc<AtomicU64>,
    tasks: JoinSet<()>,
}

impl Writers {
    async fn start(server: &Server) -> Writers {
        let (stop, committed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut tasks = JoinSet::new();
        for number in 0..WRITERS {
            let (conn, stop) = (server.conn().await.unwrap(), Arc::clone(&stop));
            tasks.spawn(write(conn, number, stop, Arc::clone(&committed)));
        }
        Writers { stop, committed, tasks }
    }

    async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.tasks.join_all().await;
        self.committed.load(Ordering::Relaxed)
    }
}

async fn write(mut conn: Conn, number: u64, stopped: Arc<AtomicBool>, committed: Arc<AtomicU64>) {
    let mut random = 0x9E37_79B9_7F4A_7C15u64.wrapping_mul(number + 1);
    let mut next = move |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let mut value = 0;
    while !stopped.load(Ordering::Relaxed) {
        value += 1;
        let (id, other) = (next(2 * ROWS), next(2 * ROWS));
        let statement = match next(4) {
            0 => format!("INSERT IGNORE INTO d.t VALUES ({id}, {value})"),
            1 => format!("DELETE FROM d.t WHERE id = {id}"),
            2 => format!("UPDATE IGNORE d.t SET id = {other}, v = {value} WHERE id = {id}"),
            _ => format!("UPDATE d.t SET v = {value} WHERE id = {id}"),
        };
        match conn.query_drop(statement).await {
            Ok(()) => {
                committed.fetch_add(1, Ordering::Relaxed);
            }
            // Two of them wanted each other's rows.
            Err(mysql_async::Error::Server(error)) if [1205, 1213].contains(&error.code) => {}
            Err(error) => panic!("{error}"),
        }
    }
    conn.disconnect().await.unwrap();
}

type Rows = Vec<Vec<Option<String>>>;

async fn at_source(server: &Server) -> Rows {
    let rows = server.rows("SELECT CAST(id AS CHAR), CAST(v AS CHAR) FROM d.t").await.unwrap();
    let text = |value| mysql_async::from_value::<Option<String>>(value);
    sorted(rows.into_iter().map(|row| row.unwrap().into_iter().map(text).collect()).collect())
}

fn sorted(mut rows: Rows) -> Rows {
    rows.sort();
    rows
}

/// `source` is followed, `copied` is read.
fn configure(folder: &Folder, source: &Server, copied: &Server) {
    let clone = folder.source("copied", copied);
    let clone = clone
        .replace("[source.copied]", "[bootstrap.shop.clone.server]")
        .replace("\"password\"", "\"copied\"");
    folder.write("copied", copied.user_password().as_bytes());
    folder.configure(&format!(
        "{}start = \"now\"\n[bootstrap.shop]\nstore = \"lake\"\nflush_every = \"200 ms\"\napply_every = \"500 ms\"\n\
         publish_every = \"1 s\"\n[bootstrap.shop.clone]\nchunk_rows = 500\nreplica_lag = \"600 s\"\n{clone}",
        folder.source("shop", source)
    ));
}

async fn exact(kind: Kind) {
    assert!(block_in_place(|| Instance::tidemill(&["--version"]).wait()).status.success());
    let (mut source, mut replica) = pair(kind).await;
    fill(&source).await;
    catch_up(&source, &replica).await;
    for copy in 0..COPIES {
        let folder = Folder::new("");
        configure(&folder, &source, &replica);
        let writers = Writers::start(&source).await;
        let cloned = block_in_place(|| folder.run(&["clone"]));
        assert!(cloned.status.success(), "{kind}: {}", cloned.errors);
        assert!(writers.stop().await > 0);
        let expected = at_source(&source).await;
        let mut up = folder.up();
        block_in_place(|| {
            while sorted(folder.by_duckdb("d.t").1) != expected {
                if let Some(ended) = up.ended() {
                    panic!("{kind}: it ended: {}", ended.errors);
                }
            }
            folder.assert_equal(&["d.t"]);
            assert!(up.terminate().status.success());
        });
        println!("{kind}, copy {copy}: {} rows", expected.len());
        catch_up(&source, &replica).await;
    }
    replica.stop().await.unwrap();
    source.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn b22_a_copy_from_a_replica_of_mysql_is_exact_while_its_source_is_written_to() {
    exact(Kind::MySql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b22_a_copy_from_a_replica_of_mariadb_is_exact_while_its_source_is_written_to() {
    exact(Kind::MariaDb).await;
}
