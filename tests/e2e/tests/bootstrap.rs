//! Snapshot storage from end to end: tables copied under writers, brought up to date, published and compared with their
//! source, and consumers that begin with a snapshot or fall out of the log.

#![allow(clippy::unwrap_used, reason = "tests")]

use mysql_async::prelude::Queryable;
use serde_json::Value;
use tidemill_e2e::{Folder, Instance};
use tidemill_servers::workload::{Duplicates, Random, Run};
use tidemill_servers::{Kind, Options, Server};
use tokio::task::block_in_place;

const STORAGE: &str = "[bootstrap.shop]\nstore = \"lake\"\nflush_every = \"200 ms\"\napply_every = \"500 ms\"\n\
                       publish_every = \"1 s\"\nclone = { chunk_rows = 500, connections = 3 }\n";

const TABLES: &str = "CREATE DATABASE t;
    CREATE TABLE t.items (id BIGINT PRIMARY KEY, owner VARCHAR(40), amount DECIMAL(12,2), at DATETIME(6), note TEXT);
    CREATE TABLE t.words (word VARCHAR(40) COLLATE utf8mb4_unicode_ci PRIMARY KEY, n INT UNSIGNED);
    CREATE TABLE t.pairs (a INT, b VARBINARY(8), v BIGINT UNSIGNED, PRIMARY KEY (a, b));
    CREATE TABLE t.log (at DATETIME, line VARCHAR(60));";

/// Rows to begin with: as many in `t.items` and `t.words`, some in the others.
async fn fill(server: &Server, rows: u64) {
    server.sql(TABLES).await.unwrap();
    let mut conn = server.conn().await.unwrap();
    let series = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) SELECT i FROM n"
    );
    conn.query_drop(match server.kind() {
        Kind::MySql => "SET SESSION cte_max_recursion_depth = 10000000",
        Kind::MariaDb | Kind::MariaDb118 => "SET SESSION max_recursive_iterations = 10000000",
    })
    .await
    .unwrap();
    for insert in [
        "t.items SELECT i, CONCAT('owner ', i % 97), i / 7, '2026-01-01' + INTERVAL i SECOND, REPEAT('ü', i % 50)",
        "t.words SELECT CONCAT(IF(i % 2, 'Wort ', 'wort '), i), i",
        "t.pairs SELECT i % 10 - 5, CHAR(i DIV 10 % 256, i DIV 2560), 18446744073709551615 - i",
    ] {
        conn.query_drop(format!("INSERT INTO {insert} FROM ({series}) AS numbers")).await.unwrap();
    }
    conn.query_drop("INSERT INTO t.log VALUES ('2026-01-01', 'a'), ('2026-01-01', 'a'), (NULL, NULL)")
        .await
        .unwrap();
}

/// Writes to the tables of [`fill`] until it is stopped. A row may get the key of another one: that is refused, and no change.
fn write(server: &Server, writers: usize, rows: u64) -> Run {
    Run::start(&server.root(), writers, Duplicates::PassOver, |writer| {
        let mut random = Random::new(writer as u64);
        move || statement(random.below(8), random.below(rows * 2), random.below(1000))
    })
}

fn statement(kind: u64, id: u64, n: u64) -> String {
    match kind {
        0 => format!("REPLACE INTO t.items VALUES ({id}, 'new {n}', {n}.5, NOW(6), NULL)"),
        1 => format!("UPDATE t.items SET amount = amount + 1, note = 'changed {n}' WHERE id = {id}"),
        2 => format!("DELETE FROM t.items WHERE id = {id}"),
        3 => format!("UPDATE t.items SET id = {} WHERE id = {id}", id + 5_000_000),
        4 => format!("UPDATE t.words SET n = {n} WHERE word = 'wort {id}'"),
        5 => format!("UPDATE t.words SET word = 'Ärger {id}' WHERE word = 'wort {id}'"),
        6 => format!("DELETE FROM t.pairs WHERE a = {} AND v > {id}", n as i64 % 10 - 5),
        _ => format!("REPLACE INTO t.pairs VALUES ({}, CHAR({}), {n})", n as i64 % 10 - 5, id % 256),
    }
}

const STORED: &[&str] = &["t.items", "t.log", "t.pairs", "t.words"];

/// Rows, the sum of a column and the number of its values, as DuckDB reads the newest version of a table.
fn by_duckdb(folder: &Folder, table: &str, sum: &str) -> (u64, String) {
    let script = format!(
        "import duckdb, json\n\
         at = json.load(open('lake/shop/{table}/LATEST.json'))\n\
         rows = duckdb.sql(\"SELECT count(*), sum({sum})::VARCHAR FROM read_parquet('lake/shop/{table}/\" + at['path'] + \"/*.parquet')\")\n\
         print(json.dumps(rows.fetchall()[0]))"
    );
    let row: (u64, Option<String>) = serde_json::from_value(folder.python(&script)).unwrap();
    (row.0, row.1.unwrap_or_default())
}

async fn copied_under_writers(kind: Kind) {
    // The binary is built before the writers take the machine.
    assert!(block_in_place(|| Instance::tidemill(&["--version"]).wait()).status.success());
    let server = Server::start(kind, Options::default()).await.unwrap();
    fill(&server, 6000).await;
    let folder = Folder::new("");
    folder.configure(&format!("{}start = \"now\"\n{STORAGE}", folder.source("shop", &server)));
    let writers = write(&server, 12, 6000);
    let cloned = block_in_place(|| folder.run(&["clone"]));
    assert!(cloned.status.success(), "{}", cloned.errors);
    // The service goes on where the clone ended, under the same writers.
    let mut up = folder.up();
    let during = writers.committed();
    writers.wait_more(2000).await;
    block_in_place(|| folder.assert_no_difference(STORED));
    assert!(writers.stop().await.unwrap() > during);
    block_in_place(|| folder.assert_equal(STORED));
    let (rows, sum): (u64, String) = server
        .rows("SELECT count(*), CAST(sum(amount) AS CHAR) FROM t.items")
        .await
        .unwrap()
        .pop()
        .map(mysql_async::from_row)
        .unwrap();
    wait_until(|| by_duckdb(&folder, "t.items", "amount") == (rows, sum.clone()), &mut up);
    let ended = block_in_place(|| up.terminate());
    assert!(ended.status.success(), "{}", ended.errors);
}

#[tokio::test(flavor = "multi_thread")]
async fn b22_tables_copied_from_mysql_under_writers_are_the_source_and_readable() {
    copied_under_writers(Kind::MySql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b22_tables_copied_from_mariadb_under_writers_are_the_source_and_readable() {
    copied_under_writers(Kind::MariaDb).await;
}

/// Waits until the process has told that.
fn wait_until(mut condition: impl FnMut() -> bool, instance: &mut Instance) {
    while !condition() {
        if let Some(ended) = instance.ended() {
            panic!("it ended: {}", ended.errors);
        }
        std::thread::yield_now();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn b56_ten_differences_planted_under_writers_are_found_and_no_others() {
    let server = Server::start(Kind::MySql, Options::default()).await.unwrap();
    fill(&server, 3000).await;
    let folder = Folder::new("");
    folder.configure(&format!("{}start = \"now\"\n{STORAGE}", folder.source("shop", &server)));
    assert!(block_in_place(|| folder.run(&["clone"])).status.success());
    let mut up = folder.up();
    let writers = write(&server, 4, 3000);
    // Changes that the log does not tell, on rows that no writer touches.
    let planted = "SET SESSION sql_log_bin = 0;
        INSERT INTO t.items VALUES (-1, 'x', 1, NULL, NULL), (-2, 'x', 1, NULL, NULL), (-3, 'x', 1, NULL, NULL);
        INSERT INTO t.words VALUES ('#1', 1), ('#2', 2), ('#3', 3);
        INSERT INTO t.pairs VALUES (100, 'a', 1), (101, 'b', 1), (102, 'c', 1), (103, 'd', 1);";
    server.sql(planted).await.unwrap();
    wait_until(|| folder.path().join("lake/shop/t.items/LATEST.json").exists(), &mut up);
    let reports = block_in_place(|| folder.verified());
    let found = |table: &str| -> Vec<(String, String)> {
        let differences = reports[table]["differences"].as_array().unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        differences.iter().map(|d| (text(&d["kind"]), text(&d["key"]))).collect()
    };
    let missing = |keys: &[&str]| -> Vec<(String, String)> {
        keys.iter().map(|key| ("missing".to_owned(), (*key).to_owned())).collect()
    };
    assert_eq!(found("t.items"), missing(&["-1", "-2", "-3"]));
    assert_eq!(found("t.words"), missing(&["#1", "#2", "#3"]));
    assert_eq!(found("t.pairs"), missing(&["100, 61", "101, 62", "102, 63", "103, 64"]));
    assert_eq!(found("t.log"), missing(&[]));
    writers.stop().await.unwrap();
    assert!(block_in_place(|| up.terminate()).status.success());
}
