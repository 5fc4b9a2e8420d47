//! A source's policy, or the tables that are stored, are others after a restart: that costs the tables that it is about, and no
//! others.

#![allow(clippy::unwrap_used, reason = "tests")]

use mysql_async::prelude::Queryable;
use serde_json::Value;
use tidemill_e2e::{Folder, Instance};
use tidemill_servers::{Kind, Options, Server};
use tokio::task::block_in_place;

const CANARY: &str = "canary-mail";

/// The whole configuration, with these entries in the policy and that pace of the storage.
fn config(folder: &Folder, server: &Server, tables: &str, pace: &str) -> String {
    format!(
        "{}start = \"now\"\n[secret.people]\nfile = \"people.key\"\n[source.shop.policy]\n\
         module = \"builtin:select\"\nconfig.tables = [{tables}]\n[bootstrap.shop]\nstore = \"lake\"\n{pace}\n",
        folder.source("shop", server)
    )
}

const FAST: &str = "flush_every = \"200 ms\"\napply_every = \"500 ms\"\npublish_every = \"1 s\"";
/// What is followed stays in the log.
const NEVER: &str = "flush_every = \"1 h\"\napply_every = \"1 h\"\npublish_every = \"1 h\"";

fn holds(bytes: &[u8], word: &str) -> bool {
    bytes.windows(word.len()).any(|window| window == word.as_bytes())
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

async fn start() -> (Server, Folder) {
    assert!(block_in_place(|| Instance::tidemill(&["--version"]).wait()).status.success());
    let server = Server::start(Kind::MySql, Options::default()).await.unwrap();
    let statements = format!(
        "CREATE DATABASE t; CREATE TABLE t.people (id INT PRIMARY KEY, email VARCHAR(60), age INT); \
         CREATE TABLE t.orders (id INT PRIMARY KEY, n INT); CREATE TABLE t.words (id INT PRIMARY KEY, w VARCHAR(20)); \
         CREATE TABLE t.late (id INT PRIMARY KEY, w VARCHAR(20)); \
         INSERT INTO t.people VALUES (1, '{CANARY}-1', 20), (2, '{CANARY}-2', 30), (3, '{CANARY}-3', 40); \
         INSERT INTO t.orders VALUES (1, 1), (2, 2); INSERT INTO t.words VALUES (1, 'one'); \
         INSERT INTO t.late VALUES (1, 'before'), (2, 'it was taken')"
    );
    server.sql(&statements).await.unwrap();
    let folder = Folder::new("");
    folder.write("people.key", b"a key for pseudonyms");
    (server, folder)
}

const BEFORE: &str =
    "{ match = 't.people' }, { match = 't.orders' }, { match = 't.words' }, { match = 't.made' }";
const AFTER: &str = "{ match = 't.people', columns = { email = { pseudonym = 'people' } } }, \
                     { match = 't.orders' }, { match = 't.late' }, { match = 't.made' }";

#[tokio::test(flavor = "multi_thread")]
async fn b30_a_policy_that_changes_costs_the_tables_that_it_decides_otherwise_about() {
    let (mut server, folder) = start().await;
    folder.configure(&config(&folder, &server, BEFORE, FAST));
    let cloned = block_in_place(|| folder.run(&["clone"]));
    assert!(cloned.status.success(), "{}", cloned.errors);
    let mut up = folder.up();
    server
        .sql("CREATE TABLE t.made (id INT PRIMARY KEY, n INT); INSERT INTO t.made VALUES (1, 1)")
        .await
        .unwrap();
    block_in_place(|| {
        wait_until(&mut up, || folder.latest("t.made").exists());
        assert!(up.terminate().status.success());
    });
    // Rows that the old policy lets through are in the log, and nobody has applied them when the new one comes.
    folder.configure(&config(&folder, &server, BEFORE, NEVER));
    let mut up = folder.up();
    let late = format!("INSERT INTO t.people VALUES (4, '{CANARY}-log', 50), (5, '{CANARY}-gone', 60)");
    server.sql(&late).await.unwrap();
    let in_log = |folder: &Folder| {
        let stored = folder.stored();
        stored.iter().any(|(path, bytes)| {
            path.to_string_lossy().contains("/log/shop/") && holds(bytes, &format!("{CANARY}-gone"))
        })
    };
    let is_decided = |table: &Value| table["policy"].as_str().unwrap().contains(':');
    block_in_place(|| {
        wait_until(&mut up, || in_log(&folder) && folder.states().values().all(is_decided));
        up.kill();
    });
    let before = folder.states();
    assert_eq!(before.keys().collect::<Vec<_>>(), ["t.made", "t.orders", "t.people", "t.words"]);
    server
        .sql("DELETE FROM t.people WHERE id = 5; UPDATE t.late SET w = 'and after' WHERE id = 2")
        .await
        .unwrap();

    folder.configure(&config(&folder, &server, AFTER, FAST));
    let mut locked = server.conn().await.unwrap();
    locked.query_drop("LOCK TABLES t.late WRITE").await.unwrap();
    let mut up = folder.up();
    // Nobody can read the table that is new: the others do not wait for it.
    for n in [10, 11] {
        server.sql(&format!("INSERT INTO t.orders VALUES ({n}, {n})")).await.unwrap();
        let has_it = |row: &Vec<Option<String>>| row[0] == Some(n.to_string());
        block_in_place(|| wait_until(&mut up, || folder.by_duckdb("t.orders").1.iter().any(has_it)));
        assert!(!folder.latest("t.late").exists());
    }
    locked.query_drop("UNLOCK TABLES").await.unwrap();
    let is_masked = |row: &Vec<Option<String>>| row[1].as_ref().unwrap().starts_with("people:");
    let masked = || {
        let people = folder.by_duckdb("t.people").1;
        people.len() == 4 && people.iter().all(is_masked)
    };
    block_in_place(|| {
        wait_until(&mut up, || folder.latest("t.late").exists() && masked());
        folder.assert_equal(&["t.late", "t.made", "t.orders", "t.people"]);
    });
    let after = folder.states();
    assert_eq!(after.keys().collect::<Vec<_>>(), ["t.late", "t.made", "t.orders", "t.people"]);
    // Consolidated deltas begin anew with a copy that is made anew.
    for table in ["t.orders", "t.made"] {
        assert_eq!(after[table]["deltas_since"], before[table]["deltas_since"], "{table} was not copied");
    }
    assert_ne!(after["t.people"]["deltas_since"], before["t.people"]["deltas_since"]);
    block_in_place(|| {
        assert!(has_canary(&folder, &before["t.people"]), "the search finds what is there");
        assert!(!has_canary(&folder, &after["t.people"]));
    });
    block_in_place(|| {
        let ended = up.terminate();
        assert!(ended.status.success(), "{}", ended.errors);
    });
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn b30_a_table_that_is_not_named_any_more_goes_and_is_copied_when_it_is_named_again() {
    let (mut server, folder) = start().await;
    folder.configure(&config(&folder, &server, BEFORE, FAST));
    let cloned = block_in_place(|| folder.run(&["clone"]));
    assert!(cloned.status.success(), "{}", cloned.errors);
    // Rows of it are in the log, and nobody has applied them when it is not named any more.
    folder.configure(&config(&folder, &server, BEFORE, NEVER));
    let mut up = folder.up();
    server.sql("INSERT INTO t.words VALUES (2, 'in-the-log')").await.unwrap();
    block_in_place(|| {
        wait_until(&mut up, || folder.stored().iter().any(|(_, bytes)| holds(bytes, "in-the-log")));
        up.kill();
    });
    let some = format!("{FAST}\ntables = [\"t.orders\", \"t.people\"]");
    folder.configure(&config(&folder, &server, BEFORE, &some));
    let mut up = folder.up();
    server.sql("UPDATE t.words SET w = 'meanwhile'; INSERT INTO t.orders VALUES (10, 10)").await.unwrap();
    let has_it = |row: &Vec<Option<String>>| row[0].as_deref() == Some("10");
    block_in_place(|| {
        wait_until(&mut up, || folder.by_duckdb("t.orders").1.iter().any(has_it));
        assert!(up.terminate().status.success());
    });
    assert_eq!(folder.states().keys().collect::<Vec<_>>(), ["t.orders", "t.people"]);

    folder.configure(&config(&folder, &server, BEFORE, FAST));
    let cloned = block_in_place(|| folder.run(&["clone"]));
    assert!(cloned.status.success(), "{}", cloned.errors);
    block_in_place(|| {
        folder.assert_equal(&["t.orders", "t.people", "t.words"]);
        let compared = folder.run(&["verify"]);
        assert!(compared.status.success(), "{}", compared.lines.join("\n"));
    });
    server.stop().await.unwrap();
}

/// Whether a file of what was read of that table then holds a canary, decoded.
fn has_canary(folder: &Folder, table: &Value) -> bool {
    let files = table["base"]["files"].as_array().unwrap().iter().chain(table["runs"].as_array().unwrap());
    let files: Vec<&str> = files.map(|file| file["object"]["path"].as_str().unwrap()).collect();
    assert!(!files.is_empty());
    let script = format!(
        "import duckdb, json\n\
         rows = [duckdb.sql(f\"SELECT * FROM read_parquet('lake/shop/{{at}}')\").fetchall() for at in {files:?}]\n\
         print(json.dumps(str(rows)))"
    );
    folder.python(&script).as_str().unwrap().contains(CANARY)
}
