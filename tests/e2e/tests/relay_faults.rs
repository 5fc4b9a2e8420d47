//! Relays that are killed, cut off, short of disk, flooded, or read by someone who stands still: nothing that was
//! acknowledged is lost, nothing comes twice, and nobody else is held up.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::process::Command;

use tidemill_e2e::{Answer, Folder, Follow, Relay, free_port, server_source};
use tidemill_servers::workload::Bank;
use tidemill_servers::{CutProxy, Kind, Options, Server};
use tokio::task::block_in_place;

async fn table(kind: Kind) -> Server {
    let server = Server::start(kind, Options::default()).await.unwrap();
    server.sql("CREATE DATABASE t; CREATE TABLE t.n (id INT PRIMARY KEY, note LONGTEXT)").await.unwrap();
    server
}

fn relay_table(port: u16) -> String {
    format!("[relay]\nlisten = \"127.0.0.1:{port}\"\n")
}

fn source_of_relay(name: &str, port: u16) -> String {
    format!("[source.{name}]\nkind = \"relay\"\nrelays = [\"http://127.0.0.1:{port}\"]\n")
}

/// Inserts rows of that size, one transaction each.
async fn insert(server: &Server, ids: std::ops::Range<i64>, bytes: usize) {
    for id in ids {
        server.sql(&format!("INSERT INTO t.n VALUES ({id}, REPEAT('x', {bytes}))")).await.unwrap();
    }
}

/// The next so many ids that a stream shows.
fn ids(follow: &mut Follow, count: usize) -> Vec<i64> {
    let mut id = || follow.change().expect("the stream goes on")["after"]["id"].as_i64().unwrap();
    (0..count).map(|_| id()).collect()
}

const ALL: &str = "v1/sources/shop/changes?from=earliest&tables=t.*";

#[tokio::test(flavor = "multi_thread")]
async fn b58_a_source_that_is_cut_off_again_and_again_goes_on_by_itself() {
    let mut server = table(Kind::MySql).await;
    let proxy = CutProxy::start(server.address()).await.unwrap();
    let (folder, port) = (Folder::new(""), free_port());
    folder.write("password", server.user_password().as_bytes());
    let source = server_source("shop", server.kind(), proxy.address().port());
    folder.configure(&format!("{source}{}", relay_table(port)));
    let mut relay = block_in_place(|| folder.serve("relay", port));
    let mut follow = relay.follow(ALL, &[]);
    for round in 0..5 {
        insert(&server, round * 10..round * 10 + 5, 100).await;
        proxy.cut_all();
        insert(&server, round * 10 + 5..round * 10 + 10, 100).await;
        let seen = block_in_place(|| ids(&mut follow, 10));
        assert_eq!(seen, (round * 10..round * 10 + 10).collect::<Vec<_>>());
    }
    block_in_place(|| relay.wait_for("healthz", |answer| answer.status == 200));
    block_in_place(|| relay.terminate());
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn b58_a_chained_relay_that_is_cut_off_or_whose_upstream_dies_goes_on_by_itself() {
    let mut server = table(Kind::MariaDb).await;
    let (first, up) = (Folder::new(""), free_port());
    first.configure(&format!("{}{}", first.source("shop", &server), relay_table(up)));
    let mut upstream = Some(block_in_place(|| first.serve("relay", up)));
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], up));
    let proxy = CutProxy::start(address).await.unwrap();
    let (second, down) = (Folder::new(""), free_port());
    second.configure(&format!("{}{}", source_of_relay("shop", proxy.address().port()), relay_table(down)));
    let relay = block_in_place(|| second.serve("relay", down));
    let mut follow = relay.follow(ALL, &[]);
    for round in 0..4 {
        insert(&server, round * 10..round * 10 + 5, 100).await;
        if round % 2 == 0 {
            proxy.cut_all();
        } else {
            block_in_place(|| upstream.take().map(Relay::kill));
            upstream = Some(block_in_place(|| first.serve("relay", up)));
        }
        insert(&server, round * 10 + 5..round * 10 + 10, 100).await;
        let seen = block_in_place(|| ids(&mut follow, 10));
        assert_eq!(seen, (round * 10..round * 10 + 10).collect::<Vec<_>>());
    }
    // What is kept there is what is kept here.
    let lines = |relay: &Relay| relay.get("v1/sources/shop/changes?follow=false").body;
    let upstream = upstream.unwrap();
    assert_eq!(lines(&relay), lines(&upstream));
    block_in_place(|| (relay.terminate(), upstream.terminate()));
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn b58_a_full_disk_stops_the_source_and_space_lets_it_go_on_without_a_hole() {
    let mut server = table(Kind::MariaDb).await;
    let (folder, port) = (Folder::new(""), free_port());
    folder.configure(&format!("{}{}", folder.source("shop", &server), relay_table(port)));
    // No file may have more than 256 KiB, as on a disk that is full; a write beyond fails.
    let limit = "trap '' XFSZ; ulimit -S -f 256";
    let mut relay = block_in_place(|| Relay::of(folder.start_in_shell(limit, &["relay"]), port));
    relay.wait_for("readyz", |answer| answer.status == 200);
    let mut follow = relay.follow(ALL, &[]);
    insert(&server, 0..40, 20_000).await;
    block_in_place(|| {
        relay.wait_for("healthz", |answer| answer.status == 503);
        // It tries again now and then.
        let is_told = |answer: &Answer| answer.body.contains("failed") && answer.body.contains("append");
        relay.wait_for("v1/admin/sources", is_told);
    });
    let freed = ["--fsize=unlimited:", "--pid", &relay.instance.id().to_string()].map(str::to_owned);
    assert!(Command::new("prlimit").args(freed).status().unwrap().success());
    let seen = block_in_place(|| ids(&mut follow, 40));
    assert_eq!(seen, (0..40).collect::<Vec<_>>(), "each once, in order");
    block_in_place(|| relay.wait_for("healthz", |answer| answer.status == 200));
    block_in_place(|| relay.terminate());
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn b58_a_clock_that_jumps_drops_no_segment_and_stops_nobody() {
    const YEAR: i64 = 366 * 86_400;
    let mut server = table(Kind::MariaDb).await;
    let (folder, port) = (Folder::new(""), free_port());
    let kept = "[source.shop.log]\nsegment = \"256 KiB\"\nkeep_time = \"1 day\"\n";
    folder.configure(&format!("{}{kept}{}", folder.source("shop", &server), relay_table(port)));
    folder.write("skew", b"0");
    let set = folder.skewable_clock("skew");
    let mut relay = block_in_place(|| Relay::of(folder.start_in_shell(&set, &["relay"]), port));
    relay.wait_for("readyz", |answer| answer.status == 200);
    let mut follow = relay.follow(ALL, &[]);
    for (round, seconds) in (0..).zip([0, 2 * YEAR, -2 * YEAR]) {
        folder.write("skew", seconds.to_string().as_bytes());
        insert(&server, round * 40..(round + 1) * 40, 20_000).await;
        let seen = block_in_place(|| ids(&mut follow, 40));
        assert_eq!(seen, (round * 40..(round + 1) * 40).collect::<Vec<_>>());
        // The process sees the clock that jumps.
        block_in_place(|| {
            while (relay.metric("tidemill_source_lag_seconds{source=\"shop\"}") > YEAR as f64)
                != (seconds > 0)
            {
                relay.wait_for("healthz", |answer| answer.status != 0);
            }
        });
    }
    let log = std::fs::read_dir(folder.data().join("log/shop")).unwrap();
    let segments =
        log.filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|e| e == "seg")).count();
    assert!(segments > 3, "{segments} segments");
    let all = relay.get(&format!("{ALL}&follow=false")).lines();
    assert_eq!(all.iter().filter(|line| line["after"].is_object()).count(), 120);
    block_in_place(|| relay.wait_for("healthz", |answer| answer.status == 200));
    block_in_place(|| relay.terminate());
    server.stop().await.unwrap();
}

fn signal(process: u32, signal: &str) {
    let status = Command::new("kill").args([signal, &process.to_string()]).status().unwrap();
    assert!(status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn b14_a_reader_that_stands_still_holds_up_neither_the_source_nor_another_reader() {
    const ROWS: i64 = 300;
    let mut server = table(Kind::MariaDb).await;
    let (folder, port) = (Folder::new(""), free_port());
    let log = "[source.shop.log]\nmemory = \"1 MiB\"\nsegment = \"4 MiB\"\n";
    folder.configure(&format!("{}{log}{}", folder.source("shop", &server), relay_table(port)));
    let relay = block_in_place(|| folder.serve("relay", port));
    let (mut still, mut live) = (relay.follow(ALL, &[]), relay.follow(ALL, &[]));
    insert(&server, 0..1, 10).await;
    block_in_place(|| (ids(&mut still, 1), ids(&mut live, 1)));
    signal(still.id(), "-STOP");
    // More than sockets and the ring hold: what the one does not take waits on disk.
    insert(&server, 1..ROWS, 100_000).await;
    let seen = block_in_place(|| ids(&mut live, ROWS as usize - 1));
    assert_eq!(seen, (1..ROWS).collect::<Vec<_>>(), "the other reader has everything");
    let ring = relay.metric("tidemill_log_memory_bytes{source=\"shop\"}");
    assert!(ring <= f64::from(2 << 20), "the ring keeps to its size: {ring}");
    signal(still.id(), "-CONT");
    let seen = block_in_place(|| ids(&mut still, ROWS as usize - 1));
    assert_eq!(seen, (1..ROWS).collect::<Vec<_>>(), "and so has the one that stood still");
    block_in_place(|| relay.terminate());
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn b20_a_flood_in_one_source_leaves_the_others_served_and_keeps_to_its_quota() {
    const QUIET: usize = 12;
    let (mut flooded, mut server) =
        (Server::start(Kind::MariaDb, Options::default()).await.unwrap(), table(Kind::MariaDb).await);
    let bank = Bank::create(flooded.root(), 40).await.unwrap();
    let (folder, port) = (Folder::new(""), free_port());
    folder.write("flooded", flooded.user_password().as_bytes());
    let mut text = server_source("flood", flooded.kind(), flooded.port())
        .replace("file = \"password\"", "file = \"flooded\"");
    text += "[source.flood.log]\nmemory = \"1 MiB\"\n";
    for number in 0..QUIET {
        text += &folder.source(&format!("quiet{number}"), &server);
        text += &format!("[source.quiet{number}.log]\nmemory = \"1 MiB\"\n");
    }
    folder.configure(&format!("{text}{}", relay_table(port)));
    let relay = block_in_place(|| folder.serve("relay", port));
    let path = |number| format!("v1/sources/quiet{number}/changes?from=earliest&tables=t.*");
    let mut follows: Vec<Follow> = (0..QUIET).map(|number| relay.follow(&path(number), &[])).collect();
    let run = bank.start(4);
    for id in 0..20 {
        let before = run.committed();
        insert(&server, id..id + 1, 100).await;
        for follow in &mut follows {
            assert_eq!(block_in_place(|| ids(follow, 1)), [id]);
        }
        run.wait_committed(before + 1).await;
    }
    let ring = relay.metric("tidemill_log_memory_bytes{source=\"flood\"}");
    assert!(ring <= f64::from(2 << 20), "{ring}");
    assert!(relay.metric("tidemill_source_transactions_total{source=\"flood\"}") > 0.0);
    run.stop().await.unwrap();
    block_in_place(|| relay.terminate());
    flooded.stop().await.unwrap();
    server.stop().await.unwrap();
}
