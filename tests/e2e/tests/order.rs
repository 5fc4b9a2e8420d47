//! What a consumer sees: every transaction as one unit with its own id, every change in statement order, and nothing
//! but an advancing checkpoint where nothing is for it.

#![allow(clippy::unwrap_used, reason = "tests")]

use mysql_async::prelude::Queryable;
use serde_json::json;
use tidemill_e2e::{Change, Folder, end};
use tidemill_servers::{Kind, Options, Server};
use tokio::task::block_in_place;

/// The print consumer behind a filter; the filter may be left out.
fn printing(folder: &Folder, server: &Server, filter: &str) {
    let source = folder.source("shop", server);
    folder.configure(&format!(
        "{source}\n[subscription.printed]\nsource = \"shop\"\nconsumer = {{ module = \"builtin:print\", grants = [\"stdout\"] }}\n{filter}"
    ));
}

async fn changes_of(kind: Kind, filter: &str, statements: &str) -> Vec<Change> {
    let mut server = Server::start(kind, Options::default()).await.unwrap();
    server.sql(statements).await.unwrap();
    let folder = Folder::new("");
    printing(&folder, &server, filter);
    let output = block_in_place(|| folder.start(&["up", "--once"]).wait());
    assert!(output.status.success(), "{}", output.errors);
    server.stop().await.unwrap();
    output.changes()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_tiny_transactions_stay_ten_thousand_with_the_ids_of_their_source() {
    let mut server = Server::start(Kind::MySql, Options::default()).await.unwrap();
    server.sql("CREATE DATABASE t; CREATE TABLE t.n (id INT PRIMARY KEY)").await.unwrap();
    let uuid: String = server.value("SELECT @@server_uuid").await.unwrap().unwrap();
    let before: String = server.gtid_set().await.unwrap();
    let first = before.rsplit(['-', ':']).next().unwrap().trim().parse::<u64>().unwrap() + 1;
    let mut conn = server.conn().await.unwrap();
    for thousand in 0..10 {
        let inserts: Vec<String> =
            (0..1000).map(|i| format!("INSERT INTO t.n VALUES ({})", thousand * 1000 + i)).collect();
        conn.query_drop(inserts.join(";")).await.unwrap();
    }
    conn.disconnect().await.unwrap();
    let folder = Folder::new("");
    printing(&folder, &server, "");
    let output = block_in_place(|| folder.start(&["up", "--once"]).wait());
    assert!(output.status.success(), "{}", output.errors);
    let ids: Vec<String> =
        output.changes().iter().map(|c| c.0["transaction"]["id"].as_str().unwrap().to_owned()).collect();
    let expected: Vec<String> = (0..10_000).map(|i| format!("{uuid}:{}", first + i)).collect();
    assert_eq!(ids, expected);
    server.stop().await.unwrap();
}

const SEQUENCE: &str = "CREATE DATABASE t; CREATE TABLE t.n (id INT PRIMARY KEY, v VARCHAR(9));
    BEGIN; INSERT INTO t.n VALUES (1, 'a'); UPDATE t.n SET v = 'b'; UPDATE t.n SET v = 'c'; UPDATE t.n SET v = NULL;
    UPDATE t.n SET v = 'd'; UPDATE t.n SET v = 'e'; DELETE FROM t.n; COMMIT;
    INSERT INTO t.n VALUES (2, 'x'); UPDATE t.n SET id = 3; DELETE FROM t.n WHERE id = 3";

/// Operation, row before and row after.
fn shown(changes: &[Change]) -> Vec<(String, serde_json::Value, serde_json::Value)> {
    changes.iter().map(|c| (c.op().to_owned(), c.0["before"].clone(), c.0["after"].clone())).collect()
}

async fn statement_order(kind: Kind) {
    let row = |id: i32, v: Option<&str>| json!({"id": id, "v": v});
    let null = || json!(null);
    let of = |op: &str, before, after| (op.to_owned(), before, after);
    let values = [Some("a"), Some("b"), Some("c"), None, Some("d"), Some("e")];
    let mut expected = vec![of("c", null(), row(1, values[0]))];
    expected.extend(values.windows(2).map(|pair| of("u", row(1, pair[0]), row(1, pair[1]))));
    expected.push(of("d", row(1, Some("e")), null()));
    expected.push(of("c", null(), row(2, Some("x"))));
    // A changed key is the old row's end and a new row's beginning.
    expected.push(of("d", row(2, Some("x")), null()));
    expected.push(of("c", null(), row(3, Some("x"))));
    expected.push(of("d", row(3, Some("x")), null()));
    assert_eq!(shown(&changes_of(kind, "", SEQUENCE).await), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_of_a_key_comes_in_statement_order_from_mysql() {
    statement_order(Kind::MySql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_of_a_key_comes_in_statement_order_from_mariadb() {
    statement_order(Kind::MariaDb).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_leaves_the_filter_is_deleted_and_one_that_enters_it_is_inserted() {
    let filter =
        "[[subscription.printed.filter]]\nmodule = \"builtin:where\"\nconfig = { where = \"amount >= 50\" }";
    let statements = "CREATE DATABASE t; CREATE TABLE t.n (id INT PRIMARY KEY, amount INT);
        INSERT INTO t.n VALUES (1, 40), (2, 60); UPDATE t.n SET amount = amount + 15 WHERE id = 1;
        UPDATE t.n SET amount = 10 WHERE id = 2; UPDATE t.n SET amount = 5 WHERE id = 2; DELETE FROM t.n WHERE id = 1";
    let row = |id: i32, amount: i32| json!({"id": id, "amount": amount});
    let of = |op: &str, before, after| (op.to_owned(), before, after);
    let expected = [
        of("c", json!(null), row(2, 60)),
        of("c", json!(null), row(1, 55)),
        of("d", row(2, 60), json!(null)),
        of("d", row(1, 55), json!(null)),
    ];
    assert_eq!(shown(&changes_of(Kind::MariaDb, filter, statements).await), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_with_no_row_for_a_subscriber_advance_its_checkpoint_and_call_nobody() {
    let mut server = Server::start(Kind::MySql, Options::default()).await.unwrap();
    server.sql("CREATE DATABASE t; CREATE TABLE t.n (id INT PRIMARY KEY)").await.unwrap();
    server
        .sql("INSERT INTO t.n VALUES (1); INSERT INTO t.n VALUES (2); DELETE FROM t.n WHERE id = 1")
        .await
        .unwrap();
    let end = end(&server).await;
    let folder = Folder::new("");
    printing(
        &folder,
        &server,
        "[[subscription.printed.filter]]\nmodule = \"builtin:where\"\nconfig = { where = \"id > 100\" }",
    );
    let output = block_in_place(|| folder.start(&["up", "--once"]).wait());
    assert!(output.status.success(), "{}", output.errors);
    assert_eq!(output.lines, Vec::<String>::new());
    assert_eq!(folder.committed().position("printed").scn.0, end);
    server.stop().await.unwrap();
}
