//! `builtin:mirror` through what happens to a table without a change of each row: truncated, dropped, renamed, made anew
//! with other columns; in the stream, and while the consumer was away so long that tables come to it whole.

#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::Value;
use tidemill_e2e::{Folder, Instance, end, free_port};
use tidemill_event::Phase;
use tidemill_servers::workload::{Duplicates, Run};
use tidemill_servers::{Kind, Options, Server};
use tokio::task::block_in_place;

const MIRROR: &str = "[subscription.copy]\nsource = \"shop\"\n\
                      consumer = { module = \"builtin:mirror\", config.tables = [\"t.*\", \"u.*\"] }\n";

const TABLES: &str = "CREATE DATABASE t; CREATE DATABASE u;
    CREATE TABLE t.items (id BIGINT PRIMARY KEY, owner VARCHAR(40), amount DECIMAL(12,2));
    CREATE TABLE t.again (id INT PRIMARY KEY, v INT);
    CREATE TABLE t.swap (id INT PRIMARY KEY, v INT);
    CREATE TABLE t.swap_new (id INT PRIMARY KEY, v INT, more VARCHAR(20));
    CREATE TABLE t.still (id INT PRIMARY KEY, v INT);
    CREATE TABLE t.wider (id INT PRIMARY KEY, note VARCHAR(20) NOT NULL);
    CREATE TABLE u.a (id INT PRIMARY KEY, v INT);
    INSERT INTO t.again VALUES (1, 1), (2, 2), (3, 3);
    INSERT INTO t.swap VALUES (1, 1), (2, 2), (3, 3);
    INSERT INTO t.swap_new VALUES (1, 1, 'a'), (2, 2, 'b');
    INSERT INTO t.still VALUES (1, 1), (2, 2), (3, 3);
    INSERT INTO t.wider VALUES (1, 'short');
    INSERT INTO u.a VALUES (1, 1), (2, 2);";

/// What is done beside the writers, who have `t.items` for themselves.
const HAPPENS: &str = "DROP TABLE t.again; CREATE TABLE t.again (name VARCHAR(20) PRIMARY KEY, v INT, w INT);
    INSERT INTO t.again VALUES ('one', 1, 11), ('two', 2, 22);
    RENAME TABLE t.swap TO t.swap_old, t.swap_new TO t.swap;
    INSERT INTO t.swap VALUES (9, 9, 'behind'); UPDATE t.swap_old SET v = v + 1 WHERE id = 2;
    DROP DATABASE u;
    TRUNCATE TABLE t.still;";

/// Statements on `t.items`, shared out among so many writers.
fn write(server: &Server, writers: usize) -> Run {
    Run::start(&server.root(), writers, Duplicates::PassOver, move |writer| {
        let mut next = (writer as u64..).step_by(writers);
        move || next.next().map(statement).unwrap()
    })
}

fn statement(n: u64) -> String {
    let id = (n.wrapping_mul(6_364_136_223_846_793_005) >> 33) % 500;
    match n % 5 {
        0 | 1 => {
            format!("REPLACE INTO t.items VALUES ({id}, 'owner {n}', {id}.25), ({}, 'too', 1)", id + 500)
        }
        2 => format!("UPDATE t.items SET amount = amount + 1 WHERE id BETWEEN {id} AND {id} + 20"),
        3 => format!("DELETE FROM t.items WHERE id = {id}"),
        _ => format!("UPDATE IGNORE t.items SET id = {} WHERE id = {id}", 1000 + n),
    }
}

/// What `tidemill verify` says of each table of the subscription's output: as `TABLE` where it is the source's, and
/// otherwise all that it says.
fn verified(folder: &Folder) -> Vec<String> {
    let arguments = ["verify", "--subscription", "copy", "--json"];
    let output = block_in_place(|| folder.run(&arguments));
    let said = |line: &String| {
        let report: Value = serde_json::from_str(line).unwrap();
        let nothing = Value::Array(vec![]);
        let is_equal = report["error"].is_null()
            && [&report["differences"], &report["unjudged"]].into_iter().all(|list| *list == nothing);
        if is_equal { report["table"].as_str().unwrap().to_owned() } else { report.to_string() }
    };
    let mut said: Vec<String> = output.lines.iter().map(said).collect();
    said.sort();
    said
}

/// Waits until the output of a process that runs is what the source has, in these tables.
fn wait_for(folder: &Folder, tables: &[&str], up: &mut Instance) {
    loop {
        if let Some(ended) = up.ended() {
            panic!("it ended: {}", ended.errors);
        }
        if verified(folder) == tables {
            return;
        }
    }
}

fn stop(up: Instance) -> String {
    let ended = block_in_place(|| up.terminate());
    assert!(ended.status.success(), "{}", ended.errors);
    ended.errors
}

async fn follows_the_stream(kind: Kind) {
    let mut server = Server::start(kind, Options::default()).await.unwrap();
    server.sql(TABLES).await.unwrap();
    let folder = Folder::new("");
    folder.configure(&format!("{}{MIRROR}", folder.source("shop", &server)));
    let up = block_in_place(|| folder.up());
    let writers = write(&server, 4);
    for _ in 0..5 {
        writers.wait_more(200).await;
        server.sql("TRUNCATE TABLE t.items").await.unwrap();
    }
    server.sql(HAPPENS).await.unwrap();
    let wider = "ALTER TABLE t.wider MODIFY note VARCHAR(200), MODIFY id BIGINT; INSERT INTO t.wider VALUES (2, NULL)";
    server.sql(wider).await.unwrap();
    writers.wait_more(200).await;
    writers.stop().await.unwrap();
    stop(up);
    let rest = block_in_place(|| folder.start(&["up", "--once"]).wait());
    assert!(rest.status.success(), "{}", rest.errors);
    assert_eq!(
        verified(&folder),
        ["t.again", "t.items", "t.still", "t.swap", "t.swap_old", "t.wider"],
        "{}",
        rest.errors
    );
    let rows = |table: &str| folder.committed().rows("copy", table).len();
    assert_eq!([rows("t.still"), rows("t.swap"), rows("t.swap_old"), rows("t.swap_new")], [0, 3, 3, 0]);
    assert_eq!((rows("u.a"), rows("t.again"), rows("t.wider")), (0, 2, 2));
    assert!(rows("t.items") > 0);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn l60_a_mirror_of_mysql_goes_on_through_tables_that_are_emptied_while_others_write() {
    follows_the_stream(Kind::MySql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn l60_a_mirror_of_mariadb_goes_on_through_tables_that_are_emptied_while_others_write() {
    follows_the_stream(Kind::MariaDb).await;
}

const LOG: &str = "[source.shop.log]\nsegment = \"256 KiB\"\n";
const LITTLE: &str = "keep_bytes = \"2 MiB\"\n";
const STORAGE: &str = "[bootstrap.shop]\nstore = \"lake\"\nflush_every = \"200 ms\"\napply_every = \"500 ms\"\n\
                       publish_every = \"1 s\"\nclone = { chunk_rows = 500 }\n";

/// Writes until the log no longer has what follows that place, never more than storage has taken.
async fn until_the_log_begins_behind(scn: u64, server: &Server, folder: &Folder, storing: &mut Instance) {
    let mut round = 0;
    while folder.log_begins() <= scn {
        let line = |i: u64| format!("({}, '{}', {round})", 2000 + i, "x".repeat(40));
        let rows: Vec<String> = (0..2000).map(line).collect();
        server.sql(&format!("REPLACE INTO t.items VALUES {}", rows.join(", "))).await.unwrap();
        round += 1;
        let end = end(server).await;
        while folder.stored_scn() < end {
            assert!(storing.ended().is_none(), "it goes on");
            tokio::task::yield_now().await;
        }
    }
}

async fn comes_back_over_whole_tables(kind: Kind) {
    let mut server = Server::start(kind, Options::default()).await.unwrap();
    server.sql(TABLES).await.unwrap();
    let folder = Folder::new("");
    let port = free_port();
    let relay = format!("[relay]\nlisten = \"127.0.0.1:{port}\"\n");
    let source = format!("{}start = \"now\"\n{LOG}", folder.source("shop", &server));
    let mirror = MIRROR.replace("\nconsumer", "\nstart = \"snapshot\"\nconsumer");
    let subscribed = format!("{source}{STORAGE}{relay}{mirror}");
    folder.configure(&subscribed);
    let cloned = block_in_place(|| folder.run(&["clone"]));
    assert!(cloned.status.success(), "{}", cloned.errors);
    let mut up = block_in_place(|| folder.serve("up", port)).instance;
    let tables = ["t.again", "t.items", "t.still", "t.swap", "t.swap_new", "t.wider", "u.a"];
    server.sql("INSERT INTO t.items VALUES (1, 'first', 1), (2, 'gone meanwhile', 2)").await.unwrap();
    wait_for(&folder, &tables, &mut up);
    stop(up);
    let stood = folder.committed().checkpoint("copy").unwrap();
    assert_eq!(stood.phase, Phase::Stream);

    // Only storage runs, until the log no longer has what follows the consumer's place.
    folder.configure(&format!("{source}{LITTLE}{STORAGE}"));
    let mut storing = folder.up();
    server.sql(HAPPENS).await.unwrap();
    let other_columns =
        "ALTER TABLE t.wider ADD COLUMN more INT; INSERT INTO t.wider VALUES (2, 'behind', 2)";
    server.sql(other_columns).await.unwrap();
    server
        .sql("DELETE FROM t.items WHERE id = 2; INSERT INTO t.still VALUES (3, 33), (4, 44)")
        .await
        .unwrap();
    until_the_log_begins_behind(stood.position.scn.0, &server, &folder, &mut storing).await;
    stop(storing);

    // It comes back while others write.
    folder.configure(&subscribed);
    let writers = write(&server, 2);
    let mut up = block_in_place(|| folder.serve("up", port)).instance;
    writers.wait_more(300).await;
    writers.stop().await.unwrap();
    let tables = ["t.again", "t.items", "t.still", "t.swap", "t.swap_old", "t.wider"];
    wait_for(&folder, &tables, &mut up);
    let errors = stop(up);
    assert!(errors.contains("what follows is gone from the stream"), "{errors}");
    let rows = |table: &str| folder.committed().rows("copy", table).len();
    assert_eq!([rows("t.still"), rows("t.swap"), rows("t.swap_old"), rows("t.swap_new")], [2, 3, 3, 0]);
    assert_eq!((rows("u.a"), rows("t.again"), rows("t.wider")), (0, 2, 2));
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn b21_a_mirror_of_mysql_that_fell_out_of_the_log_comes_back_over_tables_that_come_whole() {
    comes_back_over_whole_tables(Kind::MySql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b21_a_mirror_of_mariadb_that_fell_out_of_the_log_comes_back_over_tables_that_come_whole() {
    comes_back_over_whole_tables(Kind::MariaDb).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_changed_unseen_stops_the_mirror_and_comes_anew_from_storage_when_an_operator_says_so() {
    let mut server = Server::start(Kind::MySql, Options::default()).await.unwrap();
    server.sql(TABLES).await.unwrap();
    let parted = "CREATE TABLE t.parted (id INT PRIMARY KEY, v INT)
        PARTITION BY RANGE (id) (PARTITION few VALUES LESS THAN (100), PARTITION rest VALUES LESS THAN MAXVALUE);
        INSERT INTO t.parted VALUES (1, 1), (2, 2), (100, 3)";
    server.sql(parted).await.unwrap();
    let folder = Folder::new("");
    let port = free_port();
    let relay = format!("[relay]\nlisten = \"127.0.0.1:{port}\"\n");
    let source = format!("{}start = \"now\"\n", folder.source("shop", &server));
    let mirror = MIRROR.replace("\nconsumer", "\nstart = \"snapshot\"\nretries = 1\nconsumer");
    let to_storage = ["checkpoint", "set", "copy", "--to", "deltas"];
    folder.configure(&format!("{source}{MIRROR}"));
    let without = block_in_place(|| folder.run(&to_storage));
    assert!(without.errors.contains("a [bootstrap.shop] table makes some"), "{}", without.errors);
    folder.configure(&format!("{source}{STORAGE}{relay}{mirror}"));
    let early = block_in_place(|| folder.run(&to_storage));
    assert!(
        early.errors.contains("has nothing yet; let it begin with `start = \"snapshot\"`"),
        "{}",
        early.errors
    );
    let cloned = block_in_place(|| folder.run(&["clone"]));
    assert!(cloned.status.success(), "{}", cloned.errors);
    let mut up = block_in_place(|| folder.serve("up", port));
    let tables = ["t.again", "t.items", "t.parted", "t.still", "t.swap", "t.swap_new", "t.wider", "u.a"];
    server.sql("INSERT INTO t.items VALUES (1, 'first', 1)").await.unwrap();
    wait_for(&folder, &tables, &mut up.instance);

    server
        .sql("ALTER TABLE t.parted DROP PARTITION few; INSERT INTO t.items VALUES (2, 'behind', 2)")
        .await
        .unwrap();
    block_in_place(|| up.wait_activity("subscriptions", "copy", "failed"));
    let ended = block_in_place(|| up.instance.terminate());
    let said = "table t.parted is no longer what its changes say";
    assert!(
        ended.errors.contains(said) && ended.errors.contains("a partition was dropped"),
        "{}",
        ended.errors
    );

    let moved = block_in_place(|| folder.run(&to_storage));
    assert!(moved.status.success(), "{}", moved.errors);
    let again = block_in_place(|| folder.run(&to_storage));
    assert!(again.errors.contains("subscription `copy` is in deltas"), "{}", again.errors);
    let mut up = block_in_place(|| folder.serve("up", port)).instance;
    wait_for(&folder, &tables, &mut up);
    stop(up);
    assert_eq!(folder.committed().rows("copy", "t.parted").len(), 1);
    server.stop().await.unwrap();
}
