//! A relay and its strangers: the commands of `examples/relay/README.md` as they stand there, and what an operator may do.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::process::Command;

use serde_json::Value;
use tidemill_e2e::{Folder, Follow, examples, free_port, python};
use tidemill_servers::{Kind, Options, Server};
use tokio::task::block_in_place;

/// The page's commands in that language, on that port.
fn commands(language: &str, port: u16) -> Vec<String> {
    let page = std::fs::read_to_string(examples().join("relay/README.md")).unwrap();
    let page = page.replace("7878", &port.to_string());
    let blocks = page.split("```").skip(1).step_by(2);
    blocks.filter_map(|b| b.strip_prefix(language)?.strip_prefix('\n')).map(str::to_owned).collect()
}

fn is_change(line: &Value) -> bool {
    line.get("op").is_some()
}

#[test]
fn the_pages_curl_lines_show_sources_tables_and_changes() {
    let (_folder, relay, port) = Folder::serve_example();
    let lines: Vec<String> = commands("sh", port).iter().flat_map(|b| b.lines().map(str::to_owned)).collect();
    let curls: Vec<&String> = lines.iter().filter(|line| line.starts_with("curl")).collect();
    assert_eq!(curls.len(), 5, "{curls:?}");
    for line in curls {
        // Those that follow never end by themselves.
        let limited = line.replacen("curl", "curl --max-time 60", 1);
        let first = Command::new("bash").args(["-c", &format!("{limited} | head -n 20")]).output().unwrap();
        let text = String::from_utf8(first.stdout).unwrap();
        let expected = match line {
            l if l.contains("/changes") => "\"op\":\"c\"",
            l if l.contains("/tables") => "orders",
            _ => "\"name\":\"shop\"",
        };
        assert!(text.contains(expected), "{line}: {text}");
        assert!(!text.contains("phone\":\"+"), "{text}");
    }
    let large = relay.get("v1/sources/shop/changes?follow=false&tables=shop.orders&filter=large").lines();
    let amounts = large.iter().filter(|l| is_change(l)).filter(|l| !l["after"].is_null());
    let amounts: Vec<f64> =
        amounts.map(|l| l["after"]["amount"].as_str().unwrap().parse().unwrap()).collect();
    assert!(amounts.len() > 100 && amounts.iter().all(|a| *a >= 50.0), "{}", amounts.len());
    assert!(relay.terminate().status.success());
}

#[test]
fn the_pages_three_lines_of_python_read_a_table() {
    let (_folder, relay, port) = Folder::serve_example();
    let page = commands("python", port);
    assert_eq!(page.len(), 1);
    assert_eq!(page[0].trim().lines().count(), 3, "three lines are promised");
    let output = Command::new(python()).args(["-c", &page[0]]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for word in ["email", "birthday", "_op", "_scn", "_commit_time"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert!(!text.contains("phone"), "{text}");
    let count = page[0].replace("print(", "print(len(").replace("read_all())", "read_all()))");
    let output = Command::new(python()).args(["-c", &count]).output().unwrap();
    let rows: usize = String::from_utf8_lossy(&output.stdout).trim().parse().unwrap();
    let lines = relay.get("v1/sources/shop/changes?follow=false&tables=shop.customers").lines();
    let images =
        |line: &Value| usize::from(!line["before"].is_null()) + usize::from(!line["after"].is_null());
    assert_eq!(rows, lines.iter().filter(|l| is_change(l)).map(images).sum::<usize>());
}

#[tokio::test(flavor = "multi_thread")]
async fn server_sent_events_resume_behind_the_last_event_id() {
    let mut server = Server::start(Kind::MariaDb, Options::default()).await.unwrap();
    server.sql("CREATE DATABASE t; CREATE TABLE t.n (id INT PRIMARY KEY)").await.unwrap();
    let (folder, port) = (Folder::new(""), free_port());
    folder.configure(&format!("{}[relay]\nlisten = \"127.0.0.1:{port}\"\n", folder.source("shop", &server)));
    let relay = block_in_place(|| folder.serve("relay", port));
    let mut last: Option<String> = None;
    for id in 1..=5 {
        // Each connection sees one transaction, and breaks.
        let resume = last.as_ref().map(|id| format!("Last-Event-ID: {id}"));
        let mut arguments = vec!["-H", "Accept: text/event-stream"];
        arguments.extend(resume.iter().flat_map(|id| ["-H", id.as_str()]));
        let from = if last.is_none() { "&from=earliest" } else { "" };
        let mut follow = relay.follow(&format!("v1/sources/shop/changes?tables=t.*{from}"), &arguments);
        server.sql(&format!("INSERT INTO t.n VALUES ({id})")).await.unwrap();
        let (checkpoint, changes) = block_in_place(|| until_behind_a_change(&mut follow));
        let ids: Vec<_> = changes.iter().map(|change| change["after"]["id"].as_i64().unwrap()).collect();
        assert_eq!(ids, [id], "nothing is left out, nothing comes again");
        last = Some(checkpoint);
    }
    assert!(block_in_place(|| relay.terminate()).status.success());
    server.stop().await.unwrap();
}

/// The changes of the next events, and the id of the last event, as soon as it has one that is behind a change.
fn until_behind_a_change(follow: &mut Follow) -> (String, Vec<Value>) {
    let (mut changes, mut kind) = (vec![], String::new());
    loop {
        let line = follow.line().expect("the stream goes on");
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.trim_start();
        match field {
            "event" => kind = value.to_owned(),
            "id" if !changes.is_empty() => return (value.to_owned(), changes),
            "data" if kind == "change" => {
                let value: Value = serde_json::from_str(value).unwrap();
                changes.extend(Some(value).filter(is_change));
            }
            _ => {}
        }
    }
}
