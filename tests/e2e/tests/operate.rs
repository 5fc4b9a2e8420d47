//! What operators do: pause, resume, stop, look at health, metrics and checkpoints; and what strangers may not.

#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::Value;
use tidemill_e2e::{Change, Folder, Output, Relay, end, free_port, utc};
use tidemill_servers::{Kind, Options, Server};
use tokio::task::block_in_place;

const PRINT: &str = "consumer = { module = \"builtin:print\", grants = [\"stdout\"] }";

async fn table(kind: Kind) -> Server {
    let server = Server::start(kind, Options::default()).await.unwrap();
    server.sql("CREATE DATABASE t; CREATE TABLE t.n (id INT PRIMARY KEY, note TEXT)").await.unwrap();
    server
}

async fn insert(server: &Server, id: i64) {
    server.sql(&format!("INSERT INTO t.n VALUES ({id}, 'note {id}')")).await.unwrap();
}

fn relay_table(port: u16) -> String {
    format!("[relay]\nlisten = \"127.0.0.1:{port}\"\n")
}

fn ids(changes: &[Change]) -> Vec<i64> {
    changes.iter().map(|change| change.after("id").as_i64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn b54_a_source_and_a_subscription_stand_still_while_paused_and_go_on_where_they_stood() {
    let mut server = table(Kind::MariaDb).await;
    let (folder, port) = (Folder::new(""), free_port());
    let (shop, other) = (folder.source("shop", &server), folder.source("other", &server));
    let printed = format!("[subscription.printed]\nsource = \"shop\"\n{PRINT}\n");
    folder.configure(&format!("{shop}{other}{}{printed}", relay_table(port)));
    let mut relay = block_in_place(|| folder.serve("up", port));
    insert(&server, 1).await;
    assert_eq!(block_in_place(|| relay.instance.change()).unwrap().after("id"), 1);

    assert_eq!(relay.post("v1/admin/subscriptions/printed/pause").status / 100, 2);
    relay.wait_activity("subscriptions", "printed", "paused");
    let stands = relay.scn("subscriptions", "printed");
    insert(&server, 2).await;
    relay.wait_scn("sources", "shop", end(&server).await);
    assert_eq!(relay.scn("subscriptions", "printed"), stands, "its checkpoint stays");
    let health = relay.get("healthz");
    assert_eq!(health.status, 200, "what an operator paused is not ill: {}", health.body);
    assert!(health.body.contains("paused"), "and it is said: {}", health.body);
    relay.post("v1/admin/subscriptions/printed/resume");
    assert_eq!(block_in_place(|| relay.instance.change()).unwrap().after("id"), 2);

    relay.post("v1/admin/sources/shop/pause");
    relay.wait_activity("sources", "shop", "paused");
    let stands = relay.scn("sources", "shop");
    insert(&server, 3).await;
    let end = end(&server).await;
    // The same server's log, by the source that nobody paused.
    relay.wait_scn("sources", "other", end);
    assert_eq!(relay.scn("sources", "shop"), stands);
    relay.post("v1/admin/sources/shop/resume");
    relay.wait_scn("sources", "shop", end);
    assert_eq!(block_in_place(|| relay.instance.change()).unwrap().after("id"), 3);

    assert_eq!(relay.post("v1/admin/sources/nobody/pause").status, 404);
    assert_eq!(relay.post("v1/admin/shutdown").status / 100, 2);
    let output = block_in_place(|| relay.instance.wait());
    assert!(output.status.success(), "an orderly end: {}", output.errors);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn b54_a_source_that_failed_waits_for_an_operator_while_the_others_are_served() {
    let mut server = table(Kind::MariaDb).await;
    insert(&server, 1).await;
    let (folder, port) = (Folder::new(""), free_port());
    let well = folder.source("well", &server);
    let ill = folder.source("ill", &server).replace("file = \"password\"", "file = \"wrong\"");
    folder.write("wrong", b"not the password");
    folder.configure(&format!("{well}{ill}{}", relay_table(port)));
    let mut relay = block_in_place(|| folder.serve_unready("relay", port));
    relay.wait_activity("sources", "ill", "failed");
    relay.wait_scn("sources", "well", end(&server).await);
    assert_eq!((relay.get("healthz").status, relay.get("readyz").status), (503, 503));
    let lines = relay.get("v1/sources/well/changes?follow=false").lines();
    assert!(lines.iter().any(|line| line["op"] == "c"), "the other one is served");
    folder.write("wrong", server.user_password().as_bytes());
    relay.post("v1/admin/sources/ill/resume");
    relay.wait_for("readyz", |answer| answer.status == 200);
    relay.wait_scn("sources", "ill", end(&server).await);
    assert_eq!(relay.get("healthz").status, 200);
    assert!(block_in_place(|| relay.terminate()).status.success());
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn b55_what_is_read_is_delivered_filtered_or_unwanted() {
    let mut server = table(Kind::MariaDb).await;
    let (folder, port) = (Folder::new(""), free_port());
    let source = folder.source("shop", &server);
    let filter =
        "[[subscription.few.filter]]\nmodule = \"builtin:where\"\nconfig = { where = \"id < 40\" }\n";
    folder.configure(&format!(
        "{source}{}[subscription.few]\nsource = \"shop\"\n{PRINT}\n{filter}",
        relay_table(port)
    ));
    let mut relay = block_in_place(|| folder.serve("up", port));
    for id in 0..60 {
        insert(&server, id).await;
    }
    server.sql("UPDATE t.n SET note = 'x'; UPDATE t.n SET id = id + 100 WHERE id >= 30; DELETE FROM t.n WHERE id < 10").await.unwrap();
    let end = end(&server).await;
    relay.wait_scn("subscriptions", "few", end);
    let of = |name: &str| {
        relay.metric(&format!("tidemill_subscription_{name}{{source=\"shop\",subscription=\"few\"}}"))
    };
    let (read, delivered) = (of("changes_read_total"), of("changes_delivered_total"));
    let (filtered, unwanted) = (of("changes_filtered_total"), of("changes_unwanted_total"));
    assert_eq!(read, delivered + filtered + unwanted);
    let changes = 60.0 + 60.0 + 30.0 + 10.0;
    let captured = relay.metric("tidemill_source_changes_total{source=\"shop\"}");
    let statements = 2.0;
    assert_eq!((captured, read), (changes, changes + statements), "what was captured was read");
    // Inserts and updates of 0 to 39, the ten that left for higher keys, and the deletes.
    let seen = 40.0 + 40.0 + 10.0 + 10.0;
    assert!(filtered >= changes - seen, "{filtered}");
    let commits = of("commits_total");
    assert!(commits > 0.0 && of("lag_seconds") >= 0.0);
    let calls =
        "tidemill_subscription_guest_calls_total{source=\"shop\",subscription=\"few\",stage=\"filter 1\"}";
    assert_eq!(relay.metric(calls), commits, "no delivery failed, so each was filtered once");
    assert!(relay.get("metrics").body.ends_with("# EOF\n"));
    let output = block_in_place(|| relay.terminate());
    assert_eq!(output.lines.iter().filter(|line| line.contains("\"op\"")).count() as f64, seen);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn b53_secrets_and_row_values_are_in_no_log_no_metric_and_no_address() {
    const ROW: &str = "canary-row-5d1f";
    const TOKEN: &str = "canary-token-93ab-0123456789abcdef";
    let mut server = table(Kind::MariaDb).await;
    server.sql(&format!("INSERT INTO t.n VALUES (1, '{ROW}')")).await.unwrap();
    let (folder, port) = (Folder::new(""), free_port());
    folder.write("token", TOKEN.as_bytes());
    let grant = "[[relay.grant]]\nname = \"reader\"\ntoken = { file = \"token\" }\nsources = [\"shop\"]\nmetrics = true\n";
    folder.configure(&format!("{}{}{grant}", folder.source("shop", &server), relay_table(port)));
    let mut relay = block_in_place(|| folder.serve("relay", port));
    let bearer = format!("Authorization: Bearer {TOKEN}");
    let known = |relay: &Relay, path: &str| relay.get_with(path, &["-H", &bearer]);
    let path = "v1/sources/shop/changes?follow=false";
    relay.wait_for("readyz", |answer| answer.status == 200);
    while !known(&relay, path).body.contains(ROW) {
        assert_eq!(known(&relay, path).status, 200);
    }
    for path in
        [path, "v1/sources", "v1/sources/shop", "v1/sources/shop/tables", "metrics", "v1/admin/sources"]
    {
        assert_eq!(relay.get(path).status, 401, "{path}");
        let wrong = relay.get_with(path, &["-H", "Authorization: Bearer canary-token-wrong"]);
        assert_eq!(wrong.status, 401, "{path}");
    }
    assert_eq!(known(&relay, "v1/admin/sources").status, 403, "whoever reads does not operate");
    let in_url = relay.get(&format!("{path}&token={TOKEN}"));
    assert!((400..500).contains(&in_url.status) && !in_url.body.contains(TOKEN), "{}", in_url.body);
    let metrics = known(&relay, "metrics");
    assert_eq!(metrics.status, 200);
    let health = known(&relay, "healthz");
    let output = block_in_place(|| relay.terminate());
    for (place, text) in [("metrics", &metrics.body), ("health", &health.body), ("log", &output.errors)] {
        assert!(!text.contains(ROW), "{place}");
        assert!(!text.contains(TOKEN), "{place}");
        assert!(!text.contains(server.user_password()), "{place}");
    }
    assert!(output.errors.contains("relay listens"), "something is logged: {}", output.errors);
    server.stop().await.unwrap();
}

fn lines(output: &Output) -> String {
    assert!(output.status.success(), "{}", output.errors);
    output.lines.join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn b60_a_checkpoint_is_shown_and_moved_and_what_lies_behind_it_comes_again() {
    let mut server = table(Kind::MySql).await;
    for id in 1..=5 {
        insert(&server, id).await;
    }
    let folder = Folder::new("");
    folder.configure(&format!(
        "{}[subscription.printed]\nsource = \"shop\"\n{PRINT}\n",
        folder.source("shop", &server)
    ));
    let run = |arguments: &[&str]| block_in_place(|| folder.start(arguments).wait());
    let once = || run(&["up", "--once"]);
    let all = once().changes();
    assert_eq!(ids(&all), [1, 2, 3, 4, 5]);
    assert!(lines(&run(&["checkpoint", "list"])).contains("printed"));
    let shown: Value = serde_json::from_str(&lines(&run(&["checkpoint", "show", "--json"]))).unwrap();
    let committed = folder.committed().checkpoint("printed").unwrap();
    assert_eq!(shown["position"], committed.position.to_string());
    assert_eq!((shown["source"].as_str(), shown["phase"].as_str()), (Some("shop"), Some("stream")));
    assert_eq!(shown["gtid_set"], committed.gtid_set.as_str());

    let second = format!("position:1/{}", all[1].place().0);
    lines(&run(&["checkpoint", "set", "printed", "--to", &second]));
    assert_eq!(once().changes(), all[2..], "the very same changes");
    lines(&run(&["checkpoint", "set", "--to", "earliest"]));
    assert_eq!(once().changes(), all);
    let time = all[3].0["source"]["ts_us"].as_i64().unwrap();
    let time = utc(&server, time).await;
    lines(&run(&["checkpoint", "set", "--to", "earliest"]));
    lines(&run(&["checkpoint", "set", "--to", &format!("time:{time}")]));
    assert_eq!(once().changes(), all[3..]);
    lines(&run(&["checkpoint", "set", "--to", "now"]));
    assert_eq!(once().changes(), []);

    let ahead = run(&["checkpoint", "set", "--to", "position:1/18446744073709551615"]);
    assert!(!ahead.status.success() && ahead.errors.contains("ahead"), "{}", ahead.errors);
    let before = run(&["checkpoint", "set", "--to", "position:1/5"]);
    assert!(!before.status.success() && before.errors.contains("no longer in the log"), "{}", before.errors);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn b18_what_left_the_disk_is_served_from_history_also_when_the_disk_is_lost() {
    const ROWS: i64 = 120;
    let mut server = table(Kind::MariaDb).await;
    let (folder, port) = (Folder::new(""), free_port());
    let history = tempfile::tempdir().unwrap();
    let url = format!("[source.shop.history]\nurl = \"file://{}\"\n", history.path().display());
    let log = "[source.shop.log]\nmemory = \"32 KiB\"\nsegment = \"32 KiB\"\nkeep_bytes = \"64 KiB\"\n";
    folder.configure(&format!("{}{log}{url}{}", folder.source("shop", &server), relay_table(port)));
    let mut relay = block_in_place(|| folder.serve("relay", port));
    for id in 0..ROWS {
        server.sql(&format!("INSERT INTO t.n VALUES ({id}, REPEAT('x', 5000))")).await.unwrap();
    }
    let end = end(&server).await;
    let all = |relay: &Relay| -> Vec<i64> {
        let lines = relay.get("v1/sources/shop/changes?from=earliest&follow=false").lines();
        let changes = lines.into_iter().filter(|line| line.get("op").is_some());
        changes.map(|change| change["after"]["id"].as_i64().unwrap()).collect()
    };
    block_in_place(|| {
        relay.wait_scn("sources", "shop", end);
        // Retention waits for history, and then lets the disk have what it was given.
        relay.wait_for("metrics", |answer| {
            let disk =
                answer.body.lines().find_map(|l| l.strip_prefix("tidemill_log_disk_bytes{source=\"shop\"} "));
            disk.is_some_and(|disk| disk.parse::<u64>().unwrap() < 200 << 10)
        });
        assert!(relay.metric("tidemill_history_segments{source=\"shop\"}") > 5.0);
        assert_eq!(all(&relay), (0..ROWS).collect::<Vec<_>>());
        assert!(relay.terminate().status.success());
        std::fs::remove_dir_all(folder.data()).unwrap();
        relay = folder.serve("relay", port);
        relay.wait_scn("sources", "shop", end);
        assert_eq!(all(&relay), (0..ROWS).collect::<Vec<_>>());
        relay.terminate();
    });
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_json_lines_where_that_is_asked_for() {
    let mut server = table(Kind::MariaDb).await;
    let folder = Folder::new("");
    folder.configure(&format!(
        "{}[subscription.printed]\nsource = \"shop\"\n{PRINT}\n",
        folder.source("shop", &server)
    ));
    let asked = "export TIDEMILL_LOG_FORMAT=json";
    let output = block_in_place(|| folder.start_in_shell(asked, &["up", "--once"]).wait());
    assert!(output.status.success(), "{}", output.errors);
    let lines: Vec<Value> = output.errors.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().any(|line| line["message"] == "source is open" && line["source"] == "shop"));
    server.stop().await.unwrap();
}

#[test]
fn check_looks_at_relays_certificates_and_stores() {
    let (folder, nobody) = (Folder::new(""), free_port());
    folder.configure(&format!(
        "[source.shop]\nkind = \"relay\"\nrelays = [\"http://127.0.0.1:{nobody}\"]\n\
         [source.shop.history]\nurl = \"file:///proc/no-such-directory\"\n\
         [bootstrap.shop]\nstore = \"/proc/nowhere\"\n\
         [relay]\ntls = {{ certificate = \"missing.pem\", key = \"missing.key\" }}\n"
    ));
    let output = folder.start(&["check"]).wait();
    assert!(!output.status.success());
    let text = output.lines.join("\n");
    for word in [
        "let one of `relays` serve this source",
        "change history cannot be kept",
        "snapshots cannot be kept at file:///proc/nowhere",
        "missing.pem",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
}
