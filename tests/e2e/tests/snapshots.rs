//! Snapshot storage while its surroundings change: tables come, tables get other columns, copies are killed.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use mysql_async::prelude::Queryable;
use tidemill_e2e::{Folder, Instance};
use tidemill_servers::workload::{Duplicates, Run};
use tidemill_servers::{Kind, Options, Server};
use tokio::task::block_in_place;

/// `[bootstrap.shop]`; a test adds keys.
const STORAGE: &str = "[bootstrap.shop]\nstore = \"lake\"\nflush_every = \"200 ms\"\napply_every = \"500 ms\"\n\
                       publish_every = \"1 s\"\n";

/// The binary is built before the writers take the machine.
fn build() {
    assert!(block_in_place(|| Instance::tidemill(&["--version"]).wait()).status.success());
}

fn clone(folder: &Folder) {
    let cloned = block_in_place(|| folder.run(&["clone"]));
    assert!(cloned.status.success(), "{}", cloned.errors);
}

/// Rows of a table `(id, …)`: `select` makes the other columns of the number `i`.
async fn fill(server: &Server, table: &str, rows: u64, select: &str) {
    let mut conn = server.conn().await.unwrap();
    let depth = match server.kind() {
        Kind::MySql => "cte_max_recursion_depth",
        Kind::MariaDb | Kind::MariaDb118 => "max_recursive_iterations",
    };
    conn.query_drop(format!("SET SESSION {depth} = 10000000")).await.unwrap();
    let numbers = format!("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})");
    conn.query_drop(format!("INSERT INTO {table} {numbers} SELECT {select} FROM n")).await.unwrap();
}

/// Makes one statement after the other, of their numbers, until it is stopped.
fn write(server: &Server, statement: impl Fn(u64) -> String + Copy + Send + 'static) -> Run {
    Run::start(&server.root(), 1, Duplicates::Fail, move |_| {
        let mut numbers = 0..;
        move || statement(numbers.next().unwrap())
    })
}

/// Waits until the condition holds; fails if the process ends before.
fn wait_until(instance: &mut Instance, mut condition: impl FnMut() -> bool) {
    while !condition() {
        if let Some(ended) = instance.ended() {
            panic!("it ended: {}", ended.errors);
        }
        std::thread::yield_now();
    }
}

fn terminate(instance: Instance) {
    let ended = block_in_place(|| instance.terminate());
    assert!(ended.status.success(), "{}", ended.errors);
}

/// The columns of a table, and its rows by the first of them, each value as text.
async fn at_source(server: &Server, table: &str) -> (Vec<String>, Vec<Vec<Option<String>>>) {
    let (database, name) = table.split_once('.').unwrap();
    let columns: Vec<String> = server
        .rows(&format!(
            "SELECT CAST(column_name AS CHAR) FROM information_schema.columns \
             WHERE table_schema = '{database}' AND table_name = '{name}' ORDER BY ordinal_position"
        ))
        .await
        .unwrap()
        .into_iter()
        .map(mysql_async::from_row)
        .collect();
    let texts: Vec<String> = columns.iter().map(|column| format!("CAST(`{column}` AS CHAR)")).collect();
    let rows = server.rows(&format!("SELECT {} FROM {table} ORDER BY 1", texts.join(", "))).await.unwrap();
    let text = |value: mysql_async::Value| mysql_async::from_value::<Option<String>>(value);
    (columns, rows.into_iter().map(|row| row.unwrap().into_iter().map(text).collect()).collect())
}

async fn altered(kind: Kind) {
    build();
    let mut server = Server::start(kind, Options::default()).await.unwrap();
    server
        .sql("CREATE DATABASE t; CREATE TABLE t.items (id BIGINT PRIMARY KEY, a INT, b VARCHAR(20), n INT NOT NULL)")
        .await
        .unwrap();
    fill(&server, "t.items", 2000, "i, i * 2, CONCAT('b ', i), i").await;
    let folder = Folder::new("");
    folder.configure(&format!("{}start = \"now\"\n{STORAGE}", folder.source("shop", &server)));
    clone(&folder);
    let mut up = folder.up();
    for (number, change) in [
        "ADD COLUMN d INT NULL",
        "ADD COLUMN first VARCHAR(8) NULL AFTER id",
        "DROP COLUMN a",
        "MODIFY n BIGINT NOT NULL",
        "MODIFY b VARCHAR(60)",
        "RENAME COLUMN b TO name",
        "CHANGE name label VARCHAR(80)",
        "ADD COLUMN e VARCHAR(10) NOT NULL DEFAULT 'none'",
        "ADD COLUMN a VARCHAR(10) NULL, DROP COLUMN d",
    ]
    .into_iter()
    .enumerate()
    {
        let first = number as u64 * 1_000_000;
        let writer = write(&server, move |n| match n % 4 {
            0 => format!("REPLACE INTO t.items (id, n) VALUES ({}, {n})", first + 10_000 + n),
            1 => format!("UPDATE t.items SET n = n + 1 WHERE id = {}", n * 7 % 2000),
            2 => format!("DELETE FROM t.items WHERE id = {}", n * 13 % 2000),
            _ => format!("UPDATE t.items SET id = {} WHERE id = {}", first + 50_000 + n, n * 3 % 2000),
        });
        writer.wait_more(40).await;
        server.sql(&format!("ALTER TABLE t.items {change}")).await.unwrap();
        writer.wait_more(40).await;
        writer.stop().await.unwrap();
        let expected = at_source(&server, "t.items").await;
        block_in_place(|| {
            wait_until(&mut up, || sorted(folder.by_duckdb("t.items")) == sorted(expected.clone()))
        });
        block_in_place(|| folder.assert_equal(&["t.items"]));
        println!("{change}: {} rows", expected.1.len());
    }
    terminate(up);
    server.stop().await.unwrap();
}

/// Columns and rows, by the rows as text: the two sides order numbers otherwise.
fn sorted(mut table: (Vec<String>, Vec<Vec<Option<String>>>)) -> (Vec<String>, Vec<Vec<Option<String>>>) {
    table.1.sort();
    table
}

#[tokio::test(flavor = "multi_thread")]
async fn b51_a_table_altered_under_a_writer_in_mysql_is_published_with_its_new_columns() {
    altered(Kind::MySql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b51_a_table_altered_under_a_writer_in_mariadb_is_published_with_its_new_columns() {
    altered(Kind::MariaDb).await;
}

/// After each statement no row is written.
async fn defined_without_rows(kind: Kind) {
    build();
    let mut server = Server::start(kind, Options::default()).await.unwrap();
    server
        .sql(
            "CREATE DATABASE t; \
             CREATE TABLE t.items (id BIGINT PRIMARY KEY, x INT, y INT, v DECIMAL(10,2), w VARCHAR(20)); \
             CREATE TABLE t.again (id BIGINT PRIMARY KEY, n INT); \
             INSERT INTO t.items VALUES (1, 1, 10, 1.25, 'a'), (2, 2, 20, 2.75, NULL), (3, 3, NULL, 3.00, 'c'); \
             INSERT INTO t.again VALUES (1, 1), (2, 2)",
        )
        .await
        .unwrap();
    let folder = Folder::new("");
    folder.configure(&format!("{}start = \"now\"\n{STORAGE}", folder.source("shop", &server)));
    clone(&folder);
    let mut up = folder.up();
    for (table, statement) in [
        ("t.items", "ALTER TABLE t.items RENAME COLUMN x TO y, RENAME COLUMN y TO x"),
        ("t.items", "ALTER TABLE t.items ADD COLUMN more VARCHAR(8) NULL AFTER id"),
        ("t.items", "ALTER TABLE t.items MODIFY v DECIMAL(12,1)"),
        ("t.items", "ALTER TABLE t.items MODIFY w VARCHAR(40) FIRST, ADD COLUMN last INT NULL"),
        ("t.items", "ALTER TABLE t.items DROP COLUMN Y"),
        ("t.again", "DROP TABLE t.again; CREATE TABLE t.again (name VARCHAR(20) PRIMARY KEY, v INT)"),
        ("t.fresh", "CREATE TABLE t.fresh (id INT PRIMARY KEY, at DATETIME(6))"),
        ("t.later", "CREATE TABLE t.soon (id INT PRIMARY KEY); RENAME TABLE t.soon TO t.later"),
    ] {
        server.sql(statement).await.unwrap();
        let expected = sorted(at_source(&server, table).await);
        block_in_place(|| {
            let is_there = || folder.latest(table).exists();
            wait_until(&mut up, || is_there() && sorted(folder.by_duckdb(table)) == expected);
        });
        println!("{statement}");
    }
    let found = block_in_place(|| folder.verified());
    assert_eq!(found.keys().collect::<Vec<_>>(), ["t.again", "t.fresh", "t.items", "t.later"]);
    for (table, report) in found {
        assert_eq!(report["differences"].as_array(), Some(&Vec::new()), "{table}: {report}");
    }
    terminate(up);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn b51_what_a_statement_makes_of_a_table_in_mysql_is_published_before_any_row_comes() {
    defined_without_rows(Kind::MySql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b51_what_a_statement_makes_of_a_table_in_mariadb_is_published_before_any_row_comes() {
    defined_without_rows(Kind::MariaDb).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b30_a_table_that_is_added_is_back_filled_while_another_stays_published_and_goes_on() {
    build();
    let mut server = Server::start(Kind::MySql, Options::default()).await.unwrap();
    server
        .sql(
            "CREATE DATABASE t; CREATE TABLE t.items (id BIGINT PRIMARY KEY, n INT); \
              CREATE TABLE t.words (id BIGINT PRIMARY KEY, word VARCHAR(40)); \
              CREATE TABLE t.others (id BIGINT PRIMARY KEY); INSERT INTO t.others VALUES (1)",
        )
        .await
        .unwrap();
    fill(&server, "t.items", 2000, "i, i").await;
    fill(&server, "t.words", 3000, "i, CONCAT('word ', i)").await;
    let folder = Folder::new("");
    let source = format!("{}start = \"now\"\n{STORAGE}", folder.source("shop", &server));
    folder.configure(&format!("{source}tables = [\"t.items\"]\n"));
    clone(&folder);
    server.sql("UPDATE t.words SET word = 'before it was added' WHERE id % 100 = 0").await.unwrap();
    let writer = write(&server, |n| match n % 3 {
        0 => format!("REPLACE INTO t.items VALUES ({}, {n})", 10_000 + n),
        1 => format!("UPDATE t.items SET n = n + 1 WHERE id = {}", n * 7 % 2000),
        _ => format!("DELETE FROM t.items WHERE id = {}", n * 13 % 2000),
    });
    let mut up = folder.up();
    writer.wait_more(300).await;
    terminate(up);

    folder.configure(&format!("{source}tables = [\"t.items\", \"t.words\"]\n"));
    let mut locked = server.conn().await.unwrap();
    locked.query_drop("LOCK TABLES t.words WRITE").await.unwrap();
    up = folder.up();
    // Nobody can read the new table yet: the other one goes on.
    for id in [-1, -2] {
        server.sql(&format!("INSERT INTO t.items VALUES ({id}, 0)")).await.unwrap();
        let is_it = |row: &Vec<Option<String>>| row[0] == Some(id.to_string());
        block_in_place(|| wait_until(&mut up, || folder.by_duckdb("t.items").1.iter().any(is_it)));
        assert!(!folder.latest("t.words").exists());
    }
    locked.query_drop("UNLOCK TABLES").await.unwrap();
    server.sql("UPDATE t.words SET word = 'while it is copied' WHERE id % 7 = 0").await.unwrap();
    block_in_place(|| {
        wait_until(&mut up, || {
            assert!(folder.latest("t.items").exists());
            folder.latest("t.words").exists()
        });
        folder.assert_no_difference(&["t.items", "t.words"]);
    });
    writer.stop().await.unwrap();
    for table in ["t.items", "t.words"] {
        let expected = sorted(at_source(&server, table).await);
        block_in_place(|| wait_until(&mut up, || sorted(folder.by_duckdb(table)) == expected));
    }
    terminate(up);
    server.stop().await.unwrap();
}

/// The files of the chunks that copies under way have recorded, and the tables that are whole.
fn recorded(folder: &Folder) -> (BTreeSet<String>, usize) {
    let (mut files, mut whole) = (BTreeSet::new(), 0);
    for state in folder.states().values() {
        whole += usize::from(state["phase"] == "ready");
        for chunk in state["chunks"].as_array().into_iter().flatten() {
            let paths = chunk["files"].as_array().unwrap().iter().map(|file| &file["object"]["path"]);
            files.extend(paths.map(|path| path.as_str().unwrap().to_owned()));
        }
    }
    (files, whole)
}

#[tokio::test(flavor = "multi_thread")]
async fn b23_a_copy_that_is_killed_again_and_again_reads_no_recorded_chunk_twice() {
    const ROWS: u64 = 20_000;
    const CHUNK: u64 = 250;
    // One connection, and as much again that waits to be written.
    const IN_FLIGHT: u64 = 2;
    build();
    let options = Options::default().argument("--performance-schema=ON");
    let mut server = Server::start(Kind::MySql, options).await.unwrap();
    server
        .sql("CREATE DATABASE t; CREATE TABLE t.items (id BIGINT PRIMARY KEY, n INT, note VARCHAR(60))")
        .await
        .unwrap();
    fill(&server, "t.items", ROWS, "i, i, REPEAT('x', i % 60)").await;
    let folder = Folder::new("");
    // A copy takes longer than the test takes to look at it.
    let pace = "rows_per_second = 2000";
    let storage = format!("{STORAGE}clone = {{ chunk_rows = {CHUNK}, connections = 1, {pace} }}\n");
    folder.configure(&format!("{}start = \"now\"\n{storage}", folder.source("shop", &server)));
    let writer = write(&server, |n| format!("UPDATE t.items SET n = n + 1 WHERE id = {}", n * 7 % ROWS));
    let (mut kills, mut before) = (0, BTreeSet::new());
    while kills < 5 {
        let mut cloning = folder.start(&["clone"]);
        let mut whole = 0;
        block_in_place(|| {
            wait_until(&mut cloning, || {
                let (now, ready) = recorded(&folder);
                whole = ready;
                ready > 0 || now.len() >= before.len() + 3
            });
            cloning.kill();
        });
        assert_eq!(whole, 0, "it was killed under way");
        let (now, _) = recorded(&folder);
        assert!(now.is_superset(&before), "what was recorded stays");
        before = now;
        kills += 1;
    }
    assert!(before.len() < (ROWS / CHUNK) as usize, "there is something left to read: {}", before.len());
    clone(&folder);
    writer.stop().await.unwrap();
    // Chunks are read by prepared statements; nothing else that a copy asks is one.
    let sent = "SELECT CAST(SUM(sum_rows_sent) AS UNSIGNED) FROM performance_schema.events_statements_summary_by_digest \
                WHERE digest_text LIKE 'EXECUTE %'";
    let sent: u64 = server.value(sent).await.unwrap().unwrap();
    println!("{kills} kills, {sent} rows were read of {ROWS}");
    assert!(sent >= ROWS, "{sent}: every row was read");
    assert!(sent <= ROWS + kills * IN_FLIGHT * CHUNK, "{sent} rows were read");
    let mut up = folder.up();
    block_in_place(|| folder.assert_equal(&["t.items"]));
    let expected = sorted(at_source(&server, "t.items").await);
    block_in_place(|| wait_until(&mut up, || sorted(folder.by_duckdb("t.items")) == expected));
    terminate(up);
    server.stop().await.unwrap();
}
