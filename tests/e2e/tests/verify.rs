//! A subscription's output compared with its source, while both are in use and when nobody uses them.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use serde_json::Value;
use tidemill_e2e::{Folder, Instance, free_port};
use tidemill_servers::workload::{Duplicates, Random, Run};
use tidemill_servers::{Kind, Options, Server};
use tokio::task::block_in_place;

const TABLES: &str = "CREATE DATABASE t;
    CREATE TABLE t.items (id BIGINT PRIMARY KEY, owner VARCHAR(40), amount DECIMAL(12,2), at DATETIME(6), n INT UNSIGNED,
        small TINYINT, real4 FLOAT, day DATE, made TIMESTAMP(6) NULL, took TIME(3), kind ENUM('a', 'b'), raw VARBINARY(9),
        hidden TEXT);
    CREATE TABLE t.words (word VARCHAR(40) COLLATE utf8mb4_unicode_ci PRIMARY KEY, n BIGINT UNSIGNED);
    CREATE TABLE t.log (line VARCHAR(60));";

/// Everything between the source and the output: a policy, a filter, a projection and the consumer.
fn configure(folder: &Folder, server: &Server, port: u16) {
    let source = folder.source("shop", server);
    folder.configure(&format!(
        r#"{source}
[source.shop.policy]
module = "builtin:select"
config.tables = [{{ match = "t.items", columns = {{ hidden = "drop" }} }}, {{ match = "t.*" }}]
[relay]
listen = "127.0.0.1:{port}"
[subscription.copy]
source = "shop"
[[subscription.copy.filter]]
module = "builtin:where"
config = {{ where = "amount >= 0", tables = ["t.items"] }}
[[subscription.copy.projection]]
module = "builtin:mask"
config = {{ rules = [{{ columns = "t.items.owner", action = "hash" }}], key = "a key of this test", key_id = "k" }}
[subscription.copy.consumer]
module = "builtin:mirror"
config.tables = ["t.items", "t.words"]
"#
    ));
}

/// Rows -20 to 999, of which writers touch those from 0 on. Some are out of the filter.
async fn fill(server: &Server) {
    server.sql(TABLES).await.unwrap();
    let items: Vec<String> = (-20..1000_i64)
        .map(|i| {
            format!(
                "({i}, 'owner {i}', {}, '2026-01-01' + INTERVAL {i} SECOND, {}, {}, {i} / 7, '2026-02-03', \
                 '2026-03-04 05:06:07.890123', '-01:02:03.5', 'b', x'00ff{:02x}', 'canary')",
                if i % 5 == 4 { -1 } else { i * i },
                u64::from(u32::MAX) - i.unsigned_abs(),
                i % 100,
                i & 0xff
            )
        })
        .collect();
    server.sql(&format!("INSERT INTO t.items VALUES {}", items.join(", "))).await.unwrap();
    let words: Vec<String> =
        (-20..1000_i64).map(|i| format!("('Wört {i}', {})", u64::MAX - i.unsigned_abs())).collect();
    server.sql(&format!("INSERT INTO t.words VALUES {}", words.join(", "))).await.unwrap();
    server.sql("INSERT INTO t.log VALUES ('a'), ('a')").await.unwrap();
}

/// Ten changes that the log does not tell, and some that make no difference.
const PLANTED: &str = "SET SESSION sql_log_bin = 0;
    INSERT INTO t.items (id, amount) VALUES (-101, 1), (-102, 2), (-103, -1);
    UPDATE t.items SET raw = NULL WHERE id = -2;
    UPDATE t.items SET owner = 'other' WHERE id = -3;
    UPDATE t.items SET hidden = 'other' WHERE id = -4;
    UPDATE t.items SET amount = -5 WHERE id = -5;
    DELETE FROM t.items WHERE id IN (-7, -8);
    INSERT INTO t.words VALUES ('#1', 1);
    UPDATE t.words SET n = 1 WHERE word = 'wört -1';
    DELETE FROM t.words WHERE word = 'wört -2';
    INSERT INTO t.log VALUES ('b')";

fn planted() -> Found {
    let of = |all: &[(&str, &str)]| all.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    BTreeMap::from([
        (
            "t.items".to_owned(),
            of(&[
                ("different", "-2"),
                ("different", "-3"),
                ("extra", "-5"),
                ("extra", "-7"),
                ("extra", "-8"),
                ("missing", "-101"),
                ("missing", "-102"),
            ]),
        ),
        ("t.words".to_owned(), of(&[("different", "Wört -1"), ("extra", "Wört -2"), ("missing", "#1")])),
    ])
}

/// Writes to rows from 0 on. A row may get the key of another one: that is refused, and no change.
fn write(server: &Server) -> Run {
    Run::start(&server.root(), 4, Duplicates::PassOver, |writer| {
        let mut random = Random::new(writer as u64);
        move || statement(random.below(6), random.below(1000), random.below(1000))
    })
}

fn statement(kind: u64, id: u64, n: u64) -> String {
    match kind {
        0 => format!("REPLACE INTO t.items (id, owner, amount, n) VALUES ({id}, 'new {n}', {n}.5, {n})"),
        // In and out of the filter.
        1 => format!("UPDATE t.items SET amount = -amount, n = {n} WHERE id = {id}"),
        2 => format!("DELETE FROM t.items WHERE id = {id}"),
        3 => format!("UPDATE t.items SET id = {} WHERE id = {id}", id + 5_000_000),
        4 => format!("UPDATE t.words SET word = 'Ärger {id}' WHERE word = 'wört {id}'"),
        _ => format!("REPLACE INTO t.words VALUES ('wört {id}', {n})"),
    }
}

/// What `tidemill verify` prints, and whether it says that all is well.
fn reports(folder: &Folder) -> (Vec<Value>, bool) {
    let arguments = ["verify", "--subscription", "copy", "--json"];
    let output = block_in_place(|| folder.run(&arguments));
    let reports = output.lines.iter().map(|line| serde_json::from_str(line).unwrap());
    (reports.collect(), output.status.success())
}

/// Kind and key of each difference, by table.
type Found = BTreeMap<String, Vec<(String, String)>>;

fn verified(folder: &Folder, are_writing: bool) -> (Found, bool) {
    let (reports, is_well) = reports(folder);
    let mut found = BTreeMap::new();
    for report in reports {
        // What a writer changes in every round is said to be so; nothing else is.
        let unjudged = report["unjudged"].as_array().unwrap();
        let is_busy = |key: &Value| key.as_str().is_some_and(|key| !key.contains(['-', '#']));
        assert!(unjudged.is_empty() || are_writing && unjudged.iter().all(is_busy), "{report}");
        assert_eq!(report["left_out"], Value::Array(vec![]), "{report}");
        assert!(report["rows"].as_u64() > Some(100), "{report}");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let differences = report["differences"].as_array().unwrap();
        let mut all: Vec<_> = differences.iter().map(|d| (text(&d["kind"]), text(&d["key"]))).collect();
        all.sort();
        found.insert(text(&report["table"]), all);
    }
    (found, is_well)
}

/// Waits until the subscription has something of both tables.
fn wait_for_rows(folder: &Folder, up: &mut Instance) {
    loop {
        if let Some(ended) = up.ended() {
            panic!("it ended: {}", ended.errors);
        }
        let (reports, _) = reports(folder);
        if reports.len() == 2 && reports.iter().all(|report| report["error"].is_null()) {
            return;
        }
    }
}

async fn ten_differences(kind: Kind) {
    let server = Server::start(kind, Options::default()).await.unwrap();
    fill(&server).await;
    let folder = Folder::new("");
    let port = free_port();
    configure(&folder, &server, port);
    let mut up = block_in_place(|| folder.serve("up", port)).instance;
    wait_for_rows(&folder, &mut up);
    let none: Vec<(String, String)> = vec![];
    let (found, is_well) = verified(&folder, false);
    assert_eq!(found.into_values().collect::<Vec<_>>(), [none.clone(), none]);
    assert!(is_well);
    let writers = write(&server);
    server.sql(PLANTED).await.unwrap();
    let before = writers.committed();
    for _ in 0..2 {
        let (found, is_well) = verified(&folder, true);
        assert_eq!(found, planted());
        assert!(!is_well);
    }
    assert!(writers.committed() > before, "they wrote all the while");
    writers.stop().await.unwrap();
    assert_eq!(verified(&folder, false).0, planted());
    // Nobody runs it any more: the command reads the output itself.
    let ended = block_in_place(|| up.terminate());
    assert!(ended.status.success(), "{}", ended.errors);
    assert_eq!(verified(&folder, false).0, planted());
}

#[tokio::test(flavor = "multi_thread")]
async fn b56_ten_differences_between_mysql_and_an_output_are_found_under_writers_and_no_others() {
    ten_differences(Kind::MySql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b56_ten_differences_between_mariadb_and_an_output_are_found_under_writers_and_no_others() {
    ten_differences(Kind::MariaDb).await;
}
