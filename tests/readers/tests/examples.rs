//! The commands of `examples/duckdb`, `examples/spark` and `examples/pinterest` as they stand on their pages, on a real server.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tidemill_e2e::{Folder, Instance, examples};
use tidemill_readers_tests::Readers;
use tidemill_servers::workload::Shop;
use tidemill_servers::{Kind, Options, Server};
use tokio::task::block_in_place;

/// The blocks in that language of an example's page, with its folder replaced.
fn blocks(example: &str, language: &str, folder: &Path) -> Vec<String> {
    let page = std::fs::read_to_string(examples().join(example).join("README.md")).unwrap();
    let here = folder.display().to_string();
    let page = page.replace(&format!("examples/{example}/"), &format!("{here}/"));
    let page = page.replace("examples/duckdb/", &format!("{here}/"));
    let blocks = page.split("```").skip(1).step_by(2);
    blocks.filter_map(|b| b.strip_prefix(language)?.strip_prefix('\n')).map(str::to_owned).collect()
}

/// The arguments of the page's calls of the program.
fn calls(example: &str, folder: &Path) -> Vec<Vec<String>> {
    let blocks = blocks(example, "sh", folder);
    let lines = blocks.iter().flat_map(|block| block.lines());
    let calls = lines.filter_map(|line| line.strip_prefix("cargo run --release -- "));
    calls.map(|call| call.split(' ').map(str::to_owned).collect()).collect()
}

fn tidemill(arguments: &[String]) -> Instance {
    Instance::tidemill(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

/// A server with a shop that has traded for a while, and the example's configuration for it in a folder of its own.
async fn shop(example: &str) -> (Server, Shop, Folder) {
    let server = Server::start(Kind::MySql, Options::default()).await.unwrap();
    let mut shop = Shop::create(server.root(), 7).await.unwrap();
    for _ in 0..300 {
        shop.next_transaction().await.unwrap();
    }
    let folder = Folder::new("");
    folder.write("password", server.user_password().as_bytes());
    folder.write("people.key", b"a key for pseudonyms");
    let config = std::fs::read_to_string(examples().join(example).join("tidemill.toml")).unwrap();
    let here = [
        ("port = 3306", format!("port = {}", server.port())),
        ("user = \"tidemill\"", format!("user = \"{}\"", Server::USER)),
        ("env = \"TIDEMILL_PASSWORD\"", "file = \"password\"".to_owned()),
        ("env = \"PEOPLE_KEY\"", "file = \"people.key\"".to_owned()),
        // A test has no quarter of an hour.
        ("publish_every = \"1 min\"", FAST.to_owned()),
        ("publish_every = \"15 min\"", FAST.to_owned()),
    ];
    let config = here.iter().fold(config, |config, (from, to)| config.replace(from, to));
    folder.write("tidemill.toml", config.as_bytes());
    (server, shop, folder)
}

const FAST: &str = "publish_every = \"1 s\"\nflush_every = \"200 ms\"\napply_every = \"200 ms\"";
/// Orders that the shop itself would not make.
const LAST: &str = "INSERT INTO shop.orders (id, customer_id, status, amount, created) VALUES \
    (18446744073709551000, 1, 'new', 4.50, '2026-11-21 18:00:00')";

/// Waits until the newest version of that table has as many rows that fulfil the condition.
fn wait_rows(readers: &mut Readers, running: &mut Instance, table: &Path, condition: &str, rows: u64) {
    let table = format!("file://{}", table.display());
    let request = json!({ "reader": "duckdb", "table": table, "where": condition });
    let alive = || {
        if let Some(output) = running.ended() {
            panic!("it has ended: {}", output.errors);
        }
    };
    readers.wait_for(&request, alive, |answer| answer["rows"] == rows);
}

/// What the server says of the orders of each status.
async fn orders(server: &Server) -> Value {
    let query = "SELECT JSON_ARRAYAGG(JSON_ARRAY(status, CAST(n AS CHAR), CAST(amount AS CHAR))) FROM \
        (SELECT status, COUNT(*) n, SUM(amount) amount FROM shop.orders GROUP BY status ORDER BY status) t";
    let text: String = server.value(query).await.unwrap().unwrap();
    serde_json::from_str(&text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn duckdb_and_spark_read_what_the_pages_say() {
    let (mut server, mut shop, folder) = shop("duckdb").await;
    let mut calls = calls("duckdb", folder.path()).into_iter();
    let check = block_in_place(|| tidemill(&calls.next().unwrap()).wait());
    assert!(check.status.success(), "{}{}", check.lines.join("\n"), check.errors);
    let (mut readers, mut running) = block_in_place(|| (Readers::start(), tidemill(&calls.next().unwrap())));
    let table = folder.path().join("lake/shop/shop.orders");
    block_in_place(|| wait_rows(&mut readers, &mut running, &table, "id = 0", 0));
    for _ in 0..100 {
        shop.next_transaction().await.unwrap();
    }
    server.sql(LAST).await.unwrap();
    block_in_place(|| wait_rows(&mut readers, &mut running, &table, "id > 18446744073709550000", 1));
    let listed = block_in_place(|| tidemill(&calls.next().unwrap()).wait());
    assert!(listed.lines.iter().any(|line| line.starts_with("shop.orders ") && line.contains("ready")));
    assert_eq!(calls.next(), None);
    let expected = orders(&server).await;
    let pages = blocks("duckdb", "sql", folder.path());
    assert_eq!(pages.len(), 2);
    let result = |script: &String| json!({ "reader": "sql", "script": script });
    assert_eq!(readers.ask(&result(&pages[0]))["results"], json!([expected]));
    let delta = readers.ask(&result(&pages[1]));
    assert_eq!(delta["results"][0], expected);
    let first: u64 = delta["results"][1][0][0].as_str().unwrap().parse().unwrap();
    let now: u64 = server.value("SELECT COUNT(*) FROM shop.orders").await.unwrap().unwrap();
    assert!(first > 0 && first < now, "{first} orders at first, {now} now");
    let customers = format!("file://{}", folder.path().join("lake/shop/shop.customers").display());
    let customers = readers.ask(&json!({ "reader": "duckdb", "table": customers }));
    assert!(customers["columns"]["phone"].is_null() && customers["columns"]["birthday"]["values"] == 0);
    spark(&folder, &expected, now);
    assert!(block_in_place(|| running.terminate()).status.success());
    server.stop().await.unwrap();
}

fn spark(folder: &Folder, expected: &Value, count: u64) {
    let script = std::fs::read_to_string(examples().join("spark/README.md")).unwrap();
    let line = script.lines().find(|line| line.starts_with("spark-submit ")).unwrap();
    let [_, script, table] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let output = Command::new(tidemill_stand_ins::python("spark").unwrap())
        .arg(examples().join("..").join(script))
        .arg(table.replace("examples/duckdb", &folder.path().display().to_string()))
        .env("JAVA_HOME", tidemill_stand_ins::java().unwrap())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for status in expected.as_array().unwrap() {
        let cells: Vec<&str> = status.as_array().unwrap().iter().map(|cell| cell.as_str().unwrap()).collect();
        let first = |line: &&str| line.split('|').nth(1).is_some_and(|cell| cell.trim() == cells[0]);
        let line = text.lines().find(first).unwrap_or_else(|| panic!("no {}: {text}", cells[0]));
        assert!(cells.iter().all(|cell| line.contains(cell)), "{cells:?}: {line}");
    }
    assert!(text.contains(&format!("{count} orders as of SCN ")), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lake_and_a_consumer_get_one_copy_then_increments_and_no_personal_data() {
    let (mut server, mut shop, folder) = shop("pinterest").await;
    let customers: u64 = server.value("SELECT COUNT(*) FROM shop.customers").await.unwrap().unwrap();
    let calls = calls("pinterest", folder.path());
    assert_eq!(calls.len(), 1);
    let (mut readers, mut running) = block_in_place(|| (Readers::start(), tidemill(&calls[0])));
    let table = folder.path().join("lake/shop/shop.customers");
    block_in_place(|| wait_rows(&mut readers, &mut running, &table, "id > 0", customers));
    // The consumer has them too before anything changes.
    let (mut seen, mut given) = (vec![], 0);
    while given < customers {
        let change = block_in_place(|| running.change()).expect("it runs");
        given += u64::from(change.table() == "shop.customers" && change.op() == "r");
        seen.push(change);
    }
    shop.next_transaction().await.unwrap();
    // In place, and gone.
    server.sql("UPDATE shop.customers SET tier = 'gold' WHERE id = 1").await.unwrap();
    server.sql("DELETE FROM shop.customers WHERE id = 2").await.unwrap();
    loop {
        let change = block_in_place(|| running.change()).expect("it runs");
        let is_last = change.table() == "shop.customers" && change.op() == "d";
        seen.push(change);
        if is_last {
            break;
        }
    }
    let copied = seen.iter().filter(|change| change.table() == "shop.customers" && change.op() != "d");
    let copied: Vec<_> = copied.collect();
    assert!(copied.len() as u64 > customers, "each once, and one that changed: {}", copied.len());
    for customer in copied {
        for column in ["email", "name"] {
            let value = customer.after(column).as_str().unwrap();
            assert!(value.starts_with("people:"), "{column}: {value}");
        }
        assert!(customer.0["after"].get("phone").is_none() && customer.after("birthday").is_null());
    }
    block_in_place(|| wait_rows(&mut readers, &mut running, &table, "id = 2", 0));
    block_in_place(|| wait_rows(&mut readers, &mut running, &table, "id = 1 AND tier = 'gold'", 1));
    block_in_place(|| wait_rows(&mut readers, &mut running, &table, "email NOT LIKE 'people:%'", 0));
    let pages = blocks("pinterest", "sql", folder.path());
    let result = readers.ask(&json!({ "reader": "sql", "script": pages[0] }));
    let tiers = result["results"][0].as_array().unwrap();
    let count: u64 = tiers.iter().map(|tier| tier[1].as_str().unwrap().parse::<u64>().unwrap()).sum();
    let now: u64 = server.value("SELECT COUNT(*) FROM shop.customers").await.unwrap().unwrap();
    assert_eq!(count, now);
    assert!(tiers.iter().all(|tier| tier[2] == "0" && tier[3].as_str().unwrap().starts_with("people:")));
    assert!(block_in_place(|| running.terminate()).status.success());
    server.stop().await.unwrap();
}
