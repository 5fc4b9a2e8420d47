//! What cannot be decoded stops its source at its position and says why; nothing after it is stored or delivered.

#![allow(clippy::unwrap_used, reason = "tests")]

use tidemill_e2e::Folder;
use tidemill_servers::{Kind, Options, Server};
use tokio::task::block_in_place;

fn configure(folder: &Folder, server: &Server) {
    let source = folder.source("shop", server);
    folder.configure(&format!(
        "{source}\n[subscription.printed]\nsource = \"shop\"\nconsumer = {{ module = \"builtin:print\", grants = [\"stdout\"] }}"
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_cannot_be_converted_stops_the_stream_before_its_transaction() {
    let mut server = Server::start(Kind::MySql, Options::default()).await.unwrap();
    server
        .sql(
            "CREATE DATABASE t; CREATE TABLE t.n (id INT PRIMARY KEY, day DATE);
             INSERT INTO t.n VALUES (1, '2026-11-20');
             SET sql_mode = ''; BEGIN; INSERT INTO t.n VALUES (2, '2026-11-21'); INSERT INTO t.n VALUES (3, '0000-00-00'); COMMIT;
             INSERT INTO t.n VALUES (4, '2026-11-22')",
        )
        .await
        .unwrap();
    let folder = Folder::new("");
    configure(&folder, &server);
    for attempt in 0..2 {
        let output = block_in_place(|| folder.start(&["up", "--once"]).wait());
        assert!(!output.status.success(), "the process says that it did not go well");
        let ids: Vec<_> = output.changes().iter().map(|c| c.after("id").as_i64().unwrap()).collect();
        assert_eq!(
            ids,
            if attempt == 0 { vec![1] } else { vec![] },
            "the transaction of 2 and 3 is held back whole"
        );
        for word in ["source `shop` stops after", "t.n", "`day`", "date", "binlog.0"] {
            assert!(output.errors.contains(word), "{word:?} is not in: {}", output.errors);
        }
    }
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_hides_its_rows_stops_the_stream() {
    let mut server = Server::start(Kind::MariaDb, Options::default()).await.unwrap();
    server
        .sql("CREATE DATABASE t; CREATE TABLE t.n (id INT PRIMARY KEY); INSERT INTO t.n VALUES (1)")
        .await
        .unwrap();
    server.sql("SET SESSION binlog_format = STATEMENT; INSERT INTO t.n VALUES (2)").await.unwrap();
    let folder = Folder::new("");
    configure(&folder, &server);
    let output = block_in_place(|| folder.start(&["up", "--once"]).wait());
    assert!(!output.status.success());
    assert_eq!(output.changes().len(), 1);
    assert!(output.errors.contains("binlog_format"), "{}", output.errors);
    server.stop().await.unwrap();
}
