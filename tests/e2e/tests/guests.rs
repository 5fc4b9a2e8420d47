//! A guest that misbehaves pauses its own subscription at a known position; the others and the source go on.

#![allow(clippy::unwrap_used, reason = "tests")]

use tidemill_e2e::Folder;
use tidemill_servers::{Kind, Options, Server};
use tokio::task::block_in_place;

/// A healthy subscription beside one whose filter is `evil-filter` with that configuration.
fn configure(folder: &Folder, server: &Server, evil: &str) {
    folder.write("evil.wasm", tidemill_artifacts::wasm("evil-filter"));
    let source = folder.source("shop", server);
    folder.configure(&format!(
        r#"{source}
[subscription.healthy]
source = "shop"
consumer = {{ module = "builtin:print", grants = ["stdout"] }}
[subscription.evil]
source = "shop"
retries = 1
consumer = {{ module = "builtin:replica-check" }}
[[subscription.evil.filter]]
module = "evil.wasm"
time = "500 ms"
config = {evil}
"#
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_loops_eats_memory_or_traps_pauses_only_its_own_subscription() {
    let mut server = Server::start(Kind::MariaDb, Options::default()).await.unwrap();
    server.sql("CREATE DATABASE t; CREATE TABLE t.n (id INT PRIMARY KEY)").await.unwrap();
    server
        .sql("INSERT INTO t.n VALUES (1); INSERT INTO t.n VALUES (2); INSERT INTO t.n VALUES (3)")
        .await
        .unwrap();
    for deed in ["spin", "memory", "panic", "huge-output", "long-bitmap"] {
        let folder = Folder::new("");
        configure(&folder, &server, &format!("{{ do = \"{deed}\" }}"));
        let output = block_in_place(|| folder.start(&["up", "--once"]).wait());
        assert!(!output.status.success(), "{deed}: the process says that a subscription pauses");
        assert_eq!(output.changes().len(), 3, "{deed}: the healthy subscription has everything");
        for word in ["subscription `evil` pauses after", "evil.wasm", "keep"] {
            assert!(output.errors.contains(word), "{deed}: {word:?} is not in: {}", output.errors);
        }
        let committed = folder.committed();
        assert!(committed.position("evil") < committed.position("healthy"), "{deed}");
    }
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_subscription_goes_on_where_it_stood_when_its_guest_is_mended() {
    let mut server = Server::start(Kind::MySql, Options::default()).await.unwrap();
    server.sql("CREATE DATABASE t; CREATE TABLE t.n (id INT PRIMARY KEY)").await.unwrap();
    server.sql("INSERT INTO t.n VALUES (1); INSERT INTO t.n VALUES (2)").await.unwrap();
    let folder = Folder::new("");
    configure(&folder, &server, "{ do = \"panic\" }");
    assert!(!block_in_place(|| folder.start(&["up", "--once"]).wait()).status.success());
    let source = folder.source("shop", &server);
    folder.configure(&format!(
        "{source}[subscription.evil]\nsource = \"shop\"\nconsumer = {{ module = \"builtin:replica-check\" }}"
    ));
    let output = block_in_place(|| folder.start(&["up", "--once"]).wait());
    assert!(output.status.success(), "{}", output.errors);
    let state = folder.committed().state("evil", "table/t.n").unwrap();
    assert_eq!(state["inserts"], 2, "{state}");
    server.stop().await.unwrap();
}
