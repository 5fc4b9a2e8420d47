//! Where a subscription begins: with the oldest, with now, at a position, at a time.

#![allow(clippy::unwrap_used, reason = "tests")]

use tidemill_e2e::{Change, Folder, Instance, utc};
use tidemill_servers::{Kind, Options, Server};
use tokio::task::block_in_place;

fn configure(folder: &Folder, server: &Server, start: &str) {
    let source = folder.source("shop", server);
    folder.configure(&format!(
        "{source}\n[subscription.{name}]\nsource = \"shop\"\nstart = \"{start}\"\n\
         consumer = {{ module = \"builtin:print\", grants = [\"stdout\"] }}",
        name = start.split([':', '/']).next().unwrap(),
    ));
}

fn once(folder: &Folder) -> Vec<Change> {
    let output = folder.start(&["up", "--once"]).wait();
    assert!(output.status.success(), "{}", output.errors);
    output.changes()
}

fn ids(changes: &[Change]) -> Vec<i64> {
    changes.iter().map(|c| c.after("id").as_i64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_starts_at_the_oldest_at_a_position_and_at_a_time() {
    let mut server = Server::start(Kind::MySql, Options::default()).await.unwrap();
    server.sql("CREATE DATABASE t; CREATE TABLE t.n (id INT PRIMARY KEY)").await.unwrap();
    for id in 1..=5 {
        server.sql(&format!("INSERT INTO t.n VALUES ({id})")).await.unwrap();
    }
    let folder = Folder::new("");
    configure(&folder, &server, "earliest");
    let all = block_in_place(|| once(&folder));
    assert_eq!(ids(&all), [1, 2, 3, 4, 5]);

    let position = format!("position:1/{}", all[1].place().0);
    configure(&folder, &server, &position);
    assert_eq!(ids(&block_in_place(|| once(&folder))), [3, 4, 5]);

    let committed = all[3].0["source"]["ts_us"].as_i64().unwrap();
    configure(&folder, &server, &format!("time:{}", utc(&server, committed).await));
    assert_eq!(ids(&block_in_place(|| once(&folder))), [4, 5]);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_starts_now_sees_what_commits_from_then_on_and_resumes_there() {
    let mut server = Server::start(Kind::MariaDb, Options::default()).await.unwrap();
    server
        .sql("CREATE DATABASE t; CREATE TABLE t.n (id INT PRIMARY KEY); INSERT INTO t.n VALUES (1)")
        .await
        .unwrap();
    let folder = Folder::new("");
    let source = folder.source("shop", &server);
    let consumer = "consumer = { module = \"builtin:print\", grants = [\"stdout\"] }";
    folder.configure(&format!(
        "{source}start = \"now\"\n[subscription.fresh]\nsource = \"shop\"\nstart = \"now\"\n{consumer}"
    ));
    let mut instance: Instance = folder.up();
    // Whatever commits before the start is nothing to it; so commit until the first one shows.
    let mut id = 1;
    let (sender, mut shown) = tokio::sync::mpsc::channel(1);
    let reader = std::thread::spawn(move || {
        let first = instance.change().unwrap();
        sender.blocking_send(first.after("id").as_i64().unwrap()).unwrap();
        instance
    });
    let first = loop {
        id += 1;
        server.sql(&format!("INSERT INTO t.n VALUES ({id})")).await.unwrap();
        if let Ok(first) = shown.try_recv() {
            break first;
        }
    };
    assert!(first >= 2, "the row from before the start is not shown");
    let output = block_in_place(|| reader.join().unwrap().terminate());
    let mut seen = vec![first];
    seen.extend(ids(&output.changes()));
    seen.extend(ids(&block_in_place(|| once(&folder))));
    assert_eq!(seen, (first..=id).collect::<Vec<_>>());
    server.stop().await.unwrap();
}
