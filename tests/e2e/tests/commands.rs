//! The commands that a newcomer tries first.

#![allow(clippy::unwrap_used, reason = "tests")]

use tidemill_e2e::{Folder, Instance};
use tidemill_servers::{Kind, Options, Server};
use tokio::task::block_in_place;

#[test]
fn the_demo_shows_masked_changes_and_ends_with_a_summary() {
    let output = Instance::tidemill(&["demo", "--lines", "1000000"]).wait();
    assert!(output.status.success(), "{}", output.errors);
    let changes = output.changes();
    assert!(changes.len() > 300, "{} changes", changes.len());
    let customers: Vec<_> =
        changes.iter().filter(|c| c.table() == "shop.customers" && c.op() == "c").collect();
    assert!(!customers.is_empty());
    for customer in customers {
        assert!(customer.after("email").as_str().unwrap().starts_with("demo:"), "{customer:?}");
        assert!(customer.0["after"].get("phone").is_none(), "{customer:?}");
    }
    for order in changes.iter().filter(|c| c.table() == "shop.orders" && c.op() == "c") {
        let amount: f64 = order.after("amount").as_str().unwrap().parse().unwrap();
        assert!(amount >= 50.0, "{order:?}");
    }
    let text = output.lines.join("\n");
    assert!(text.contains("changes captured in") && text.contains("p50") && text.contains("p99"), "{text}");
}

#[test]
fn the_live_demo_follows_a_shop_on_a_server_of_its_own() {
    let output = Instance::tidemill(&["demo", "--live", "--transactions", "200", "--lines", "5"]).wait();
    assert!(output.status.success(), "{}", output.errors);
    assert_eq!(output.changes().len(), 5);
    let text = output.lines.join("\n");
    assert!(text.contains("committed to delivered"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_finds_what_keeps_a_server_from_being_captured_and_says_the_fix() {
    let options = Options::default().argument("--binlog-format=MIXED");
    let mut server = Server::start(Kind::MySql, options).await.unwrap();
    let folder = Folder::new("");
    folder.configure(&folder.source("shop", &server));
    let output = block_in_place(|| folder.start(&["check"]).wait());
    assert!(!output.status.success());
    let text = output.lines.join("\n");
    assert!(text.contains("ERROR") && text.contains("SET GLOBAL binlog_format"), "{text}");
    server.sql("SET GLOBAL binlog_format = 'ROW'").await.unwrap();
    let output = block_in_place(|| folder.start(&["check"]).wait());
    assert!(output.status.success(), "{}", output.lines.join("\n"));
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn tail_prints_the_chosen_tables_rows_that_fulfil_the_predicate() {
    let mut server = Server::start(Kind::MariaDb, Options::default()).await.unwrap();
    server
        .sql(
            "CREATE DATABASE t; CREATE TABLE t.a (id INT PRIMARY KEY); CREATE TABLE t.b (id INT PRIMARY KEY)",
        )
        .await
        .unwrap();
    server.sql("INSERT INTO t.a VALUES (1); INSERT INTO t.b VALUES (2); INSERT INTO t.a VALUES (3); INSERT INTO t.a VALUES (4)").await.unwrap();
    let folder = Folder::new("");
    folder.configure(&folder.source("shop", &server));
    let arguments =
        ["tail", "--start", "earliest", "--table", "*.a", "--where", "id > 1", "--transactions", "2"];
    let output = block_in_place(|| folder.start(&arguments).wait());
    assert!(output.status.success(), "{}", output.errors);
    let shown: Vec<_> =
        output.changes().iter().map(|c| (c.table(), c.after("id").as_i64().unwrap())).collect();
    assert_eq!(shown, [("t.a".to_owned(), 3), ("t.a".to_owned(), 4)]);
    server.stop().await.unwrap();
}

#[test]
fn a_wrong_key_is_refused_with_its_line_and_the_nearest_right_one() {
    let folder = Folder::new("[source.shop]\nkind = \"binlog-files\"\ndirectry = \".\"");
    let output = folder.start(&["up"]).wait();
    assert!(!output.status.success());
    let expected = "tidemill: tidemill.toml:4: unknown key `directry`; did you mean `directory`?";
    assert_eq!(output.errors.trim(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_benchmark_prints_one_json_object_with_its_figures() {
    let arguments = ["bench", "pipeline", "--changes", "2000", "--from", "files", "--rounds", "1", "--json"];
    let output = block_in_place(|| Instance::tidemill(&arguments).wait());
    assert!(output.status.success(), "{}", output.errors);
    let figures: serde_json::Value = serde_json::from_str(&output.lines[0]).unwrap();
    for key in
        ["rows_per_s", "mb_per_s", "cpu_s_per_million_rows", "peak_rss_mib", "p50_ms", "p99_ms", "max_ms"]
    {
        assert!(figures[key].is_number(), "{key} in {figures}");
    }
    assert_eq!(figures["rows"], 2000);
}

#[test]
fn steady_load_is_measured_for_the_fetcher_beside_a_bare_client() {
    for server in ["mysql", "mariadb"] {
        let arguments = [
            "bench",
            "latency",
            "--server",
            server,
            "--rate",
            "200",
            "--seconds",
            "1",
            "--rounds",
            "1",
            "--json",
        ];
        let output = Instance::tidemill(&arguments).wait();
        assert!(output.status.success(), "{}", output.errors);
        let figures: serde_json::Value = serde_json::from_str(&output.lines[0]).unwrap();
        assert_eq!((&figures["transactions"], &figures["rows"]), (&200.into(), &200.into()));
        for key in ["rows_per_s", "cpu_s_per_million_rows", "peak_rss_mib", "p50_ms", "p99_ms", "max_ms"] {
            assert!(figures[key].is_number(), "{key} in {figures}");
        }
        for reader in ["bare", "fetcher"] {
            for since in ["since_commit", "since_intended"] {
                let of = |figure: &str| figures[reader][since][figure].as_f64().unwrap();
                assert!(of("p50_ms") <= of("p99_ms") && of("p99_ms") <= of("max_ms"), "{figures}");
            }
        }
    }
}
