//! A consumer that begins with a snapshot, stands still until the log has dropped what it has not had, and comes back by
//! itself: what its lines make of its tables is the source, and nothing of the stream comes twice.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use mysql_async::prelude::Queryable;
use tidemill_e2e::{Built, Folder, Instance, Keyed, Rows, end};
use tidemill_servers::workload::{Duplicates, Run};
use tidemill_servers::{Kind, Options, Server};
use tokio::task::block_in_place;

/// While the consumer is away, the log keeps little, but more than is written between two looks at storage.
const LOG: &str = "[source.shop.log]\nsegment = \"256 KiB\"\n";
const LITTLE: &str = "keep_bytes = \"4 MiB\"\n";

const STORAGE: &str = "[bootstrap.shop]\nstore = \"lake\"\nflush_every = \"200 ms\"\napply_every = \"500 ms\"\n\
                       publish_every = \"1 s\"\nclone = { chunk_rows = 500 }\n";

const SUBSCRIPTION: &str = "[subscription.printed]\nsource = \"shop\"\nstart = \"snapshot\"\n\
                            consumer = { module = \"builtin:print\", grants = [\"stdout\"] }\n";

const TABLES: &str = "CREATE DATABASE t;
    CREATE TABLE t.events (at INT, line VARCHAR(20));
    CREATE TABLE t.items (id BIGINT PRIMARY KEY, owner VARCHAR(40), amount DECIMAL(12,2));
    CREATE TABLE t.pairs (a INT, b VARCHAR(10), v BIGINT UNSIGNED, PRIMARY KEY (a, b));
    CREATE TABLE t.short (id INT PRIMARY KEY, v INT);
    INSERT INTO t.events VALUES (1, 'twice'), (1, 'twice'), (NULL, NULL);
    INSERT INTO t.short VALUES (1, 1), (2, 2), (3, 3);";

const KEYS: &[Keyed] = &[
    Keyed { table: "t.events", key: &["at", "line"], counted: true },
    Keyed { table: "t.items", key: &["id"], counted: false },
    Keyed { table: "t.pairs", key: &["a", "b"], counted: false },
    Keyed { table: "t.short", key: &["id"], counted: false },
];

async fn fill(server: &Server, rows: u64) {
    server.sql(TABLES).await.unwrap();
    let mut conn = server.conn().await.unwrap();
    for i in 0..rows / 100 {
        let values = |row: &dyn Fn(u64) -> String| -> String {
            (i * 100..(i + 1) * 100).map(row).collect::<Vec<_>>().join(", ")
        };
        let items = values(&|id| format!("({id}, 'owner {}', {}.25)", id % 97, id % 1000));
        let pairs = values(&|id| format!("({}, 'b {}', {})", id % 10, id / 10, u64::MAX - id));
        conn.query_drop(format!("INSERT INTO t.items VALUES {items}")).await.unwrap();
        conn.query_drop(format!("INSERT INTO t.pairs VALUES {pairs}")).await.unwrap();
    }
}

fn statement(n: u64, rows: u64) -> String {
    let id = n.wrapping_mul(6_364_136_223_846_793_005) >> 33;
    let (id, a) = (id % (rows * 2), id % 10);
    match n % 9 {
        0 => format!("REPLACE INTO t.items VALUES ({id}, 'new {n}', {a}.5)"),
        1 | 2 => format!("UPDATE t.items SET amount = amount + 1, owner = 'changed {n}' WHERE id = {id}"),
        3 => format!("DELETE FROM t.items WHERE id = {id}"),
        4 => format!("UPDATE t.items SET id = {} WHERE id = {id}", 1_000_000 + n),
        5 => format!("UPDATE t.pairs SET v = {n} WHERE a = {a} AND b < 'b 20'"),
        6 => format!("REPLACE INTO t.pairs VALUES ({a}, 'n {}', {n})", id % 50),
        7 => format!("INSERT INTO t.events VALUES ({a}, 'line')"),
        _ => format!("DELETE FROM t.events WHERE at = {} LIMIT 1", (a + 5) % 10),
    }
}

/// Makes the statements of the numbers from `first` on, until it is stopped.
fn write(server: &Server, first: u64, rows: u64) -> Run {
    Run::start(&server.root(), 1, Duplicates::Fail, move |_| {
        let mut numbers = first..;
        move || statement(numbers.next().unwrap(), rows)
    })
}

/// The source's tables as the consumer's lines would have them.
async fn at_source(server: &Server) -> BTreeMap<String, Rows> {
    let mut tables = BTreeMap::new();
    for table in KEYS {
        tables.insert(table.table.to_owned(), table.at_source(server, "true", &[]).await);
    }
    tables
}

/// Takes lines until the source's end was given as part of the stream.
async fn take_until_the_end(server: &Server, up: &mut Instance, built: &mut Built, marker: &mut i64) {
    loop {
        *marker -= 1;
        server.sql(&format!("INSERT INTO t.items VALUES ({marker}, 'marker', 0)")).await.unwrap();
        loop {
            let change = block_in_place(|| up.change()).expect("it runs");
            built.take(&change);
            if change.table() == "t.items" && *change.after("id") == *marker {
                if change.0["source"]["snapshot"] == "false" {
                    return;
                }
                break;
            }
        }
    }
}

async fn falls_out_and_comes_back(kind: Kind) {
    const ROWS: u64 = 3000;
    assert!(block_in_place(|| Instance::tidemill(&["--version"]).wait()).status.success());
    let mut server = Server::start(kind, Options::default()).await.unwrap();
    fill(&server, ROWS).await;
    let folder = Folder::new("");
    let source = format!("{}start = \"now\"\n{LOG}", folder.source("shop", &server));
    let subscribed = format!("{source}{STORAGE}{SUBSCRIPTION}");
    folder.configure(&subscribed);
    let cloned = block_in_place(|| folder.run(&["clone"]));
    assert!(cloned.status.success(), "{}", cloned.errors);

    let (mut built, mut marker) = (Built::new(KEYS), 0);
    let writer = write(&server, 0, ROWS);
    let mut up = folder.up();
    while built.streamed < 500 {
        let change = block_in_place(|| up.change()).expect("it runs");
        built.take(&change);
    }
    let mut done = writer.stop().await.unwrap();
    take_until_the_end(&server, &mut up, &mut built, &mut marker).await;
    assert_eq!(built.rows, at_source(&server).await, "after the snapshot and the first of the stream");
    assert!(built.others["r t.items"] >= 1000 && built.others["r t.events"] >= 3, "{:?}", built.others);
    let ended = block_in_place(|| up.terminate());
    assert!(ended.status.success(), "{}", ended.errors);
    ended.changes().iter().for_each(|change| built.take(change));
    let stood = folder.committed().checkpoint("printed").unwrap();
    assert_eq!(stood.phase, tidemill_event::Phase::Stream);

    // Only storage runs, until the log no longer has what follows its place.
    folder.configure(&format!("{source}{LITTLE}{STORAGE}"));
    let mut storing = folder.up();
    server.sql("TRUNCATE t.short; INSERT INTO t.short VALUES (3, 33), (4, 44)").await.unwrap();
    while folder.log_begins() <= stood.position.scn.0 {
        let writer = write(&server, done, ROWS);
        writer.wait_more(200).await;
        done += writer.stop().await.unwrap();
        let end = end(&server).await;
        while folder.stored_scn() < end {
            assert!(storing.ended().is_none(), "it goes on");
            tokio::task::yield_now().await;
        }
    }
    block_in_place(|| folder.assert_equal(&["t.events", "t.items", "t.pairs", "t.short"]));
    let ended = block_in_place(|| storing.terminate());
    assert!(ended.status.success(), "{}", ended.errors);

    // It comes back while others write.
    folder.configure(&subscribed);
    let (streamed, snapshot) = (built.streamed, std::mem::take(&mut built.others));
    let writer = write(&server, done, ROWS);
    let mut up = folder.up();
    while built.streamed < streamed + 200 {
        let change = block_in_place(|| up.change()).expect("it runs");
        built.take(&change);
    }
    writer.stop().await.unwrap();
    take_until_the_end(&server, &mut up, &mut built, &mut marker).await;
    assert_eq!(built.rows, at_source(&server).await, "after the deltas and the stream");
    println!("snapshot {snapshot:?}, deltas {:?}, of the stream {}", built.others, built.streamed);
    assert!(!built.others.is_empty(), "what the log dropped came from snapshot storage");
    let ended = block_in_place(|| up.terminate());
    assert!(ended.status.success(), "{}", ended.errors);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn b21_a_consumer_of_mysql_that_fell_out_of_the_log_comes_back_through_deltas() {
    falls_out_and_comes_back(Kind::MySql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b21_a_consumer_of_mariadb_that_fell_out_of_the_log_comes_back_through_deltas() {
    falls_out_and_comes_back(Kind::MariaDb).await;
}
