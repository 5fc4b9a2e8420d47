//! Subscriptions that begin with a copy of their source's tables: what the consumer is given makes its tables the source's,
//! while others write, when it is killed, and under the source's policy.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use mysql_async::prelude::Queryable;
use serde_json::Value;
use tidemill_e2e::{Built, Change, Folder, Instance, Keyed, Relay, end, free_port};
use tidemill_servers::workload::{Duplicates, Run};
use tidemill_servers::{Kind, Options, Server};
use tokio::task::block_in_place;

const SUBSCRIPTION: &str = "[subscription.replica]\nsource = \"shop\"\nstart = \"copy\"\n\
                            copy = { chunk_rows = 250, connections = 3 }\n\
                            consumer = { module = \"builtin:print\", grants = [\"stdout\"] }\n";

/// The consumer of that.
const PRINT: &str = "{ module = \"builtin:print\", grants = [\"stdout\"] }";

/// What the consumer is not given all of.
const FILTER: &str = "[[subscription.replica.filter]]\nmodule = \"builtin:where\"\n\
                      config = { tables = [\"t.pairs\"], where = \"a >= 0\" }\n";

const POLICY: &str = r#"
[secret.people]
file = "people.key"
[source.shop.policy]
module = "builtin:select"
config.tables = [
    { match = "t.people", columns = { email = { pseudonym = "people" }, phone = "drop" }, rows = "country = 'de'" },
    { match = "t.*" },
]
"#;

const DEFINED: &str = "CREATE DATABASE t;
    CREATE TABLE t.items (id BIGINT PRIMARY KEY, owner VARCHAR(40), amount DECIMAL(12,2));
    CREATE TABLE t.nothing (id INT PRIMARY KEY);
    CREATE TABLE t.pairs (a INT, b VARCHAR(20) COLLATE utf8mb4_unicode_ci, v BIGINT UNSIGNED, PRIMARY KEY (a, b));
    CREATE TABLE t.people (id INT PRIMARY KEY, email VARCHAR(60), phone VARCHAR(60), country CHAR(2), name VARCHAR(40));";

const TABLES: &[Keyed] = &[
    Keyed { table: "t.items", key: &["id"], counted: false },
    Keyed { table: "t.nothing", key: &["id"], counted: false },
    Keyed { table: "t.pairs", key: &["a", "b"], counted: false },
    Keyed { table: "t.people", key: &["id"], counted: false },
];

/// Rows of each table but `t.nothing`, in many small statements.
async fn fill(server: &Server, rows: u64) {
    server.sql(DEFINED).await.unwrap();
    let mut conn = server.conn().await.unwrap();
    for i in 0..rows / 250 {
        let values = |row: &dyn Fn(u64) -> String| -> String {
            (i * 250..(i + 1) * 250).map(row).collect::<Vec<_>>().join(", ")
        };
        let items = values(&|id| format!("({id}, 'owner {}', {}.25)", id % 97, id % 1000));
        let pairs = values(&|id| format!("({}, 'Ä {}', {})", id as i64 % 10 - 5, id / 10, u64::MAX - id));
        let people = values(&|id| {
            let country = if id % 3 == 0 { "fr" } else { "de" };
            format!("({id}, 'canary-mail-{}', 'canary-phone-{id}', '{country}', 'name {id}')", id % 50)
        });
        for (table, values) in [("items", items), ("pairs", pairs), ("people", people)] {
            conn.query_drop(format!("INSERT INTO t.{table} VALUES {values}")).await.unwrap();
        }
    }
}

fn statement(n: u64, rows: u64) -> String {
    let id = (n.wrapping_mul(6_364_136_223_846_793_005) >> 33) % (rows * 2);
    let a = id as i64 % 10 - 5;
    match n % 10 {
        0 => format!("REPLACE INTO t.items VALUES ({id}, 'new {n}', {}.5)", n % 1000),
        1 | 2 => format!("UPDATE t.items SET amount = amount + 1, owner = 'changed {n}' WHERE id = {id}"),
        3 => format!("DELETE FROM t.items WHERE id = {id}"),
        4 => format!("UPDATE t.items SET id = {} WHERE id = {id}", 1_000_000 + n),
        5 => format!("UPDATE t.pairs SET v = {n} WHERE a = {a} AND b = 'ä {}'", id / 10),
        6 => format!("UPDATE t.pairs SET a = {} WHERE a = {a} AND b = 'ä {}'", -a, id / 10),
        7 => format!("REPLACE INTO t.pairs VALUES ({a}, 'n {}', {n})", id % 50),
        8 => {
            format!("UPDATE t.people SET name = 'name {n}', email = 'canary-mail-{}' WHERE id = {id}", n % 50)
        }
        _ => format!("UPDATE t.people SET country = IF(country = 'de', 'fr', 'de') WHERE id = {id}"),
    }
}

/// Makes statements until it is stopped. A row may get the key of another one: that is refused, and no change.
fn write(server: &Server, rows: u64) -> Run {
    Run::start(&server.root(), 1, Duplicates::PassOver, move |_| {
        let mut numbers = 0..;
        move || statement(numbers.next().unwrap(), rows)
    })
}

/// How many tables were copied, as metrics say.
fn copied(up: &Relay) -> f64 {
    let copied = |table: &Keyed| {
        let labels = format!("source=\"shop\",subscription=\"replica\",table=\"{}\"", table.table);
        up.metric(&format!("tidemill_subscription_copy_done{{{labels}}}"))
    };
    TABLES.iter().map(copied).sum()
}

/// Makes a change, and takes lines until it was given as part of the stream.
async fn take_until_now(server: &Server, up: &mut Instance, built: &mut Built, marker: i64) {
    server.sql(&format!("INSERT INTO t.items VALUES ({marker}, 'marker', 0)")).await.unwrap();
    loop {
        let change = block_in_place(|| up.change()).expect("it runs");
        built.take(&change);
        let is_streamed = change.0["source"]["snapshot"] == "false";
        if is_streamed && change.table() == "t.items" && *change.after("id") == marker {
            return;
        }
    }
}

/// What was built is the source, as the policy and the filter let it be seen.
async fn assert_equal(built: &Built, server: &Server) {
    let seen = ["email", "phone"];
    for table in TABLES {
        let condition = match table.table {
            "t.pairs" => "a >= 0",
            "t.people" => "country = 'de'",
            _ => "true",
        };
        let expected = table.at_source(server, condition, &seen).await;
        let built = built.without(table.table, &seen);
        let differ: Vec<_> =
            expected.iter().filter(|(key, row)| built.get(*key) != Some(row)).take(3).collect();
        assert!(differ.is_empty(), "{}: {differ:?} of {}", table.table, expected.len());
        assert_eq!(built.len(), expected.len(), "{}", table.table);
    }
}

async fn copied_while_others_write(kind: Kind) {
    const ROWS: u64 = 5000;
    assert!(block_in_place(|| Instance::tidemill(&["--version"]).wait()).status.success());
    let mut server = Server::start(kind, Options::default()).await.unwrap();
    fill(&server, ROWS).await;
    let (folder, port) = (Folder::new(""), free_port());
    folder.write("people.key", b"a key for pseudonyms");
    let source = format!("{}start = \"now\"\n", folder.source("shop", &server));
    let relay = format!("[relay]\nlisten = \"127.0.0.1:{port}\"\n");
    folder.configure(&format!("{source}{POLICY}{relay}{SUBSCRIPTION}{FILTER}"));
    let writer = write(&server, ROWS);
    let mut up = block_in_place(|| folder.serve("up", port));
    let mut built = Built::new(TABLES);
    while built.streamed < 300 {
        let change = block_in_place(|| up.instance.change()).expect("it runs");
        assert!(!change.0.to_string().contains("canary"), "{}", change.0);
        built.take(&change);
    }
    writer.stop().await.unwrap();
    take_until_now(&server, &mut up.instance, &mut built, -1).await;
    assert_equal(&built, &server).await;
    assert!(built.others["r t.items"] >= ROWS * 9 / 10, "{:?}", built.others);

    // One address has one pseudonym, whether its row was read or changed.
    let people = &built.rows["t.people"];
    let emails: BTreeSet<_> = people.values().map(|(row, _)| row["email"].to_string()).collect();
    assert!(emails.len() <= 50 && emails.iter().all(|email| email.starts_with("\"people:")), "{emails:?}");
    assert!(people.values().all(|(row, _)| row.get("phone").is_none()));
    assert_eq!(block_in_place(|| copied(&up)), 4.0, "each table is done, as metrics say");
    let ended = block_in_place(|| up.terminate());
    assert!(ended.status.success() && !ended.errors.contains("canary"), "{}", ended.errors);
    assert_eq!(folder.committed().checkpoint("replica").unwrap().phase, tidemill_event::Phase::Stream);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn b22_a_consumer_given_a_copy_of_mysql_under_writers_has_the_source() {
    copied_while_others_write(Kind::MySql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b22_a_consumer_given_a_copy_of_mariadb_under_writers_has_the_source() {
    copied_while_others_write(Kind::MariaDb).await;
}

async fn killed_again_and_again(kind: Kind) {
    const ROWS: u64 = 5000;
    const CHUNK: u64 = 250;
    assert!(block_in_place(|| Instance::tidemill(&["--version"]).wait()).status.success());
    let mut server = Server::start(kind, Options::default()).await.unwrap();
    fill(&server, ROWS).await;
    let folder = Folder::new("");
    folder.write("people.key", b"a key for pseudonyms");
    let source = format!("{}start = \"now\"\n", folder.source("shop", &server));
    folder.configure(&format!("{source}{POLICY}{SUBSCRIPTION}{FILTER}"));
    let writer = write(&server, ROWS);
    let (mut built, mut kills) = (Built::new(TABLES), 0);
    let (mut given, mut again) = (BTreeSet::new(), 0);
    let mut take = |built: &mut Built, change: &Change| {
        if change.op() == "r" && change.table() == "t.items" {
            again += u64::from(!given.insert(change.after("id").to_string()));
        }
        built.take(change);
    };
    while kills < 4 {
        let mut up = folder.up();
        // Into the next chunk but one, whatever was printed of the one in hand before.
        for _ in 0..CHUNK * 2 + 100 {
            take(&mut built, &block_in_place(|| up.change()).expect("it runs"));
        }
        let killed = block_in_place(|| up.kill());
        killed.changes().iter().for_each(|change| take(&mut built, change));
        assert_eq!(built.streamed, 0, "it was killed under way");
        kills += 1;
    }
    let mut up = folder.up();
    while built.streamed < 100 {
        take(&mut built, &block_in_place(|| up.change()).expect("it runs"));
    }
    writer.stop().await.unwrap();
    take_until_now(&server, &mut up, &mut built, -1).await;
    assert_equal(&built, &server).await;
    println!("{} rows were given, {again} of them again after {kills} kills", given.len());
    assert!(given.len() as u64 >= ROWS * 9 / 10, "{} rows were given", given.len());
    assert!(
        again <= kills * CHUNK,
        "{again} rows: a chunk that was printed and not committed comes again, no other"
    );
    let ended = block_in_place(|| up.terminate());
    assert!(ended.status.success(), "{}", ended.errors);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn b23_a_consumer_killed_within_its_copy_of_mysql_goes_on_at_the_chunk() {
    killed_again_and_again(Kind::MySql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b23_a_consumer_killed_within_its_copy_of_mariadb_goes_on_at_the_chunk() {
    killed_again_and_again(Kind::MariaDb).await;
}

/// A consumer whose rows are committed with its checkpoint.
/// What `builtin:mirror` keeps is the source, row by row.
async fn assert_mirrored(folder: &Folder, server: &Server) {
    let committed = folder.committed();
    for table in TABLES {
        let mut expected: Vec<Value> =
            table.at_source(server, "true", &[]).await.into_values().map(|(row, _)| row).collect();
        let mut rows = committed.rows("replica", table.table);
        for rows in [&mut expected, &mut rows] {
            rows.sort_by_key(ToString::to_string);
        }
        assert_eq!(rows, expected, "{}", table.table);
    }
}

async fn mirrored(kind: Kind) {
    const ROWS: u64 = 3000;
    assert!(block_in_place(|| Instance::tidemill(&["--version"]).wait()).status.success());
    let mut server = Server::start(kind, Options::default()).await.unwrap();
    fill(&server, ROWS).await;
    let (folder, port) = (Folder::new(""), free_port());
    let source = format!("{}start = \"now\"\n", folder.source("shop", &server));
    let relay = format!("[relay]\nlisten = \"127.0.0.1:{port}\"\n");
    let subscription = SUBSCRIPTION.replace(PRINT, "{ module = \"builtin:mirror\" }");
    // The first one takes longer than the test takes to look at it.
    let slow = subscription.replace("chunk_rows = 250", "chunk_rows = 250, rows_per_second = 1000");
    folder.configure(&format!("{source}{relay}{slow}"));
    let writer = write(&server, ROWS);
    let mut killed = block_in_place(|| folder.serve("up", port));
    block_in_place(|| {
        killed.wait_for("metrics", |answer| answer.body.contains("table=\"t.pairs\"} 0"));
        killed.kill();
    });
    let within = folder.committed().checkpoint("replica");
    assert!(within.is_none_or(|at| at.phase != tidemill_event::Phase::Stream), "it was killed under way");
    folder.configure(&format!("{source}{relay}{subscription}"));
    let mut up = block_in_place(|| folder.serve("up", port));
    block_in_place(|| {
        while copied(&up) < 4.0 {
            up.wait_for("healthz", |answer| answer.status == 200);
        }
    });
    writer.stop().await.unwrap();
    let end = end(&server).await;
    block_in_place(|| up.wait_scn("subscriptions", "replica", end));
    let ended = block_in_place(|| up.terminate());
    assert!(ended.status.success(), "{}", ended.errors);
    assert_mirrored(&folder, &server).await;
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn b22_a_mirror_that_begins_with_a_copy_of_mysql_is_the_source_row_by_row() {
    mirrored(Kind::MySql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b22_a_mirror_that_begins_with_a_copy_of_mariadb_is_the_source_row_by_row() {
    mirrored(Kind::MariaDb).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_pauses_with_its_subscription_and_who_falls_out_of_the_log_later_is_told_how_to_go_on() {
    const ROWS: u64 = 5000;
    assert!(block_in_place(|| Instance::tidemill(&["--version"]).wait()).status.success());
    let mut server = Server::start(Kind::MySql, Options::default()).await.unwrap();
    fill(&server, ROWS).await;
    let (folder, port) = (Folder::new(""), free_port());
    let source = format!("{}start = \"now\"\n", folder.source("shop", &server));
    let log = "[source.shop.log]\nmemory = \"32 KiB\"\nsegment = \"32 KiB\"\nkeep_bytes = \"64 KiB\"\n";
    let relay = format!("[relay]\nlisten = \"127.0.0.1:{port}\"\n");
    let slow = SUBSCRIPTION.replace("chunk_rows = 250", "chunk_rows = 250, rows_per_second = 1000");
    // Nobody reads what it prints.
    let silent = slow.replace("grants", "config = { tables = [\"t.nothing\"] }, grants");
    folder.configure(&format!("{source}{log}{relay}{silent}"));
    let mut up = block_in_place(|| folder.serve("up", port));
    block_in_place(|| {
        let health = up.wait_for("healthz", |answer| answer.body.contains("its tables are copied"));
        assert_eq!(health.status, 200, "{}", health.body);
        assert_eq!(up.post("v1/admin/subscriptions/replica/pause").status / 100, 2);
        up.wait_activity("subscriptions", "replica", "paused");
    });
    assert!(block_in_place(|| copied(&up)) < 4.0, "it stands still with its subscription");
    server.sql("INSERT INTO t.items VALUES (-1, 'marker', 0)").await.unwrap();
    let end = end(&server).await;
    block_in_place(|| {
        assert_eq!(up.post("v1/admin/subscriptions/replica/resume").status / 100, 2);
        up.wait_scn("subscriptions", "replica", end);
        assert_eq!(copied(&up), 4.0);
        assert_eq!(up.post("v1/admin/subscriptions/replica/pause").status / 100, 2);
        up.wait_activity("subscriptions", "replica", "paused");
    });
    let had = up.scn("subscriptions", "replica") as f64;
    let gone = |up: &Relay| up.metric("tidemill_log_earliest_scn{source=\"shop\"}") > had;
    while !block_in_place(|| gone(&up)) {
        server.sql("UPDATE t.items SET owner = CONCAT('o', owner) WHERE id < 1000").await.unwrap();
    }
    let why = block_in_place(|| {
        assert_eq!(up.post("v1/admin/subscriptions/replica/resume").status / 100, 2);
        up.wait_activity("subscriptions", "replica", "failed");
        up.status("subscriptions", "replica")["why"].to_string()
    });
    for words in ["keep_bytes", "subscription of another name", "snapshot storage"] {
        assert!(why.contains(words), "{words}: {why}");
    }
    block_in_place(|| up.terminate());
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_of_a_relay_is_given_a_copy_of_the_server_that_the_relay_follows() {
    const ROWS: u64 = 1000;
    assert!(block_in_place(|| Instance::tidemill(&["--version"]).wait()).status.success());
    let mut server = Server::start(Kind::MariaDb, Options::default()).await.unwrap();
    fill(&server, ROWS).await;
    let (upstream, port) = (Folder::new(""), free_port());
    let source = upstream.source("shop", &server);
    upstream.configure(&format!("{source}start = \"now\"\n[relay]\nlisten = \"127.0.0.1:{port}\"\n"));
    let relay = block_in_place(|| upstream.serve("relay", port));
    let folder = Folder::new("");
    let server_table =
        folder.source("shop", &server).replace("[source.shop]", "[subscription.replica.copy.server]");
    let followed =
        format!("[source.shop]\nkind = \"relay\"\nrelays = [\"http://127.0.0.1:{port}\"]\nstart = \"now\"\n");
    let subscription = SUBSCRIPTION.replace("copy = { chunk_rows = 250, connections = 3 }\n", "");
    let elsewhere =
        server_table.replace(&format!("port = {}", server.port()), &format!("port = {}", free_port()));
    for (table, is_well) in [(&elsewhere, false), (&server_table, true)] {
        folder.configure(&format!("{followed}{subscription}{table}"));
        let checked = block_in_place(|| folder.run(&["check"]));
        assert_eq!(checked.status.success(), is_well, "{}", checked.lines.join("\n"));
    }
    let writer = write(&server, ROWS);
    let (mut up, mut built) = (folder.up(), Built::new(TABLES));
    while built.streamed < 100 {
        built.take(&block_in_place(|| up.change()).expect("it runs"));
    }
    writer.stop().await.unwrap();
    take_until_now(&server, &mut up, &mut built, -1).await;
    for table in TABLES {
        let expected = table.at_source(&server, "true", &[]).await;
        assert_eq!(built.without(table.table, &[]), expected, "{}", table.table);
    }
    assert!(block_in_place(|| up.terminate()).status.success());
    block_in_place(|| relay.terminate());
    server.stop().await.unwrap();
}

/// While `t.items` is copied, its user may read nothing else any more.
#[tokio::test(flavor = "multi_thread")]
async fn b23_a_copy_waits_for_tables_behind_the_one_in_hand_that_it_may_not_read_any_more() {
    const ROWS: u64 = 1000;
    assert!(block_in_place(|| Instance::tidemill(&["--version"]).wait()).status.success());
    let mut server = Server::start(Kind::MySql, Options::default()).await.unwrap();
    fill(&server, ROWS).await;
    let (folder, port) = (Folder::new(""), free_port());
    let source = format!("{}start = \"now\"\n", folder.source("shop", &server));
    let relay = format!("[relay]\nlisten = \"127.0.0.1:{port}\"\n");
    let slow = SUBSCRIPTION.replace("chunk_rows = 250", "chunk_rows = 50, rows_per_second = 200");
    let slow = slow.replace(PRINT, "{ module = \"builtin:mirror\" }");
    folder.configure(&format!("{source}{relay}{slow}"));
    let mut up = block_in_place(|| folder.serve("up", port));
    block_in_place(|| up.wait_for("healthz", |answer| answer.body.contains("of t.items 1 of about")));
    let user = Server::USER;
    let only = format!("REVOKE SELECT ON *.* FROM '{user}'; GRANT SELECT ON t.items TO '{user}'");
    server.sql(&only).await.unwrap();
    // What a session may do, it may until its end.
    let sessions = format!("SELECT id FROM information_schema.processlist WHERE user = '{user}'");
    for session in server.rows(&sessions).await.unwrap() {
        // It may have ended by itself.
        let _ = server.sql(&format!("KILL {}", mysql_async::from_row::<u64>(session))).await;
    }
    server.sql("INSERT INTO t.items VALUES (-1, 'marker', 0)").await.unwrap();
    let behind = end(&server).await;
    block_in_place(|| {
        while !up.get("healthz").body.contains("does not show table t.nothing") {
            assert!(up.scn("subscriptions", "replica") < behind, "the stream does not follow");
        }
    });
    // One that was dropped is not waited for.
    server.sql(&format!("DROP TABLE t.nothing; GRANT SELECT ON *.* TO '{user}'")).await.unwrap();
    let end = end(&server).await;
    block_in_place(|| up.wait_scn("subscriptions", "replica", end));
    let ended = block_in_place(|| up.terminate());
    assert!(ended.status.success(), "{}", ended.errors);
    server.sql("CREATE TABLE t.nothing (id INT PRIMARY KEY)").await.unwrap();
    assert_mirrored(&folder, &server).await;
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_key_is_told_before_anything_is_read_and_once_ends_behind_the_copy() {
    const ROWS: u64 = 500;
    let mut server = Server::start(Kind::MariaDb, Options::default()).await.unwrap();
    fill(&server, ROWS).await;
    server.sql("CREATE TABLE t.unkeyed (a INT)").await.unwrap();
    let folder = Folder::new("");
    folder.configure(&format!("{}start = \"now\"\n{SUBSCRIPTION}", folder.source("shop", &server)));
    let refused = block_in_place(|| folder.run(&["up", "--once"]));
    assert!(!refused.status.success() && refused.lines.is_empty(), "{:?}", refused.lines);
    for words in ["t.unkeyed", "give each a primary key"] {
        assert!(refused.errors.contains(words), "{words}: {}", refused.errors);
    }
    server
        .sql("ALTER TABLE t.unkeyed ADD PRIMARY KEY (a); DELETE FROM t.people WHERE id < 10")
        .await
        .unwrap();
    let done = block_in_place(|| folder.run(&["up", "--once"]));
    assert!(done.status.success(), "{}", done.errors);
    let mut built = Built::new(TABLES);
    done.changes().iter().for_each(|change| built.take(change));
    for table in TABLES {
        assert_eq!(
            built.without(table.table, &[]),
            table.at_source(&server, "true", &[]).await,
            "{}",
            table.table
        );
    }
    assert_eq!(built.others["r t.people"], ROWS - 10);
    server.stop().await.unwrap();
}
