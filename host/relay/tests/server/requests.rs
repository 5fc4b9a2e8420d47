//! What is answered to whom may ask.

use http::{Method, StatusCode};
use http_body_util::BodyExt;
use serde_json::json;
use tidemill_event::Scn;

use crate::shop::{Change, Commit, Shop, at, inserts, row, window};
use crate::support::*;

const CHANGES: &str = "/v1/sources/shop/changes";

/// A shop that has dropped its first windows: what follows `earliest` is there, up to 1/100.
fn forgetful() -> (Shop, u64) {
    let mut shop = Shop::with(|config| {
        config.segment_bytes = 1;
        config.memory_bytes = 1;
        config.retention_bytes = Some(4096);
    });
    for scn in (10..=100).step_by(10) {
        shop.append(&inserts(scn - 10, &[scn]));
    }
    let earliest = shop.served.log.stats().earliest.unwrap();
    assert!(earliest > at(1, 10) && earliest < at(1, 80), "some was dropped, not all: {earliest}");
    (shop, earliest.scn.0)
}

async fn read(serving: &Serving, query: &str) -> String {
    let response = get(serving.address, &format!("{CHANGES}?follow=false&{query}")).await;
    assert_eq!(response.status(), StatusCode::OK, "{query}");
    text(response).await
}

#[tokio::test]
async fn b12_a_request_older_than_retention_gets_too_old_with_the_range() {
    let (shop, earliest) = forgetful();
    let serving = serve(&shop, local()).await;
    let checkpoint = tidemill_event::Checkpoint {
        position: at(1, earliest - 10),
        ..shop.served.log.checkpoint().unwrap()
    };
    let checkpoint = {
        use base64::Engine;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(checkpoint.encode())
    };
    for asked in [
        "from=position:1/0".into(),
        format!("from=position:1/{}", earliest - 1),
        format!("checkpoint={checkpoint}"),
        "from=time:2000-01-01T00:00:00Z".into(),
    ] {
        for format in ["json", "frames", "events"] {
            let response = get(serving.address, &format!("{CHANGES}?{asked}&format={format}")).await;
            assert_eq!(response.status(), StatusCode::GONE, "{asked}");
            let (code, problem) = problem(response).await;
            assert_eq!(code, "too-old");
            assert_eq!(problem["earliest"], format!("1/{earliest}"), "{asked}");
            assert_eq!(problem["latest"], "1/100");
            assert!(problem["earliest_time"].as_str().unwrap().starts_with("2023-11-14T"), "{problem}");
        }
    }
}

#[tokio::test]
async fn b12_a_request_in_a_gap_or_at_the_earliest_position_gets_what_follows_it() {
    let (shop, earliest) = forgetful();
    let serving = serve(&shop, local()).await;
    let from = |scn: u64| (scn / 10 * 10 + 10..=100).step_by(10).collect::<Vec<u64>>();
    // Equal to the position before the oldest transaction, in the gaps between two of them, at one of them.
    for scn in [earliest, earliest + 1, 85, 89, 90, 99] {
        assert_eq!(scns(&read(&serving, &format!("from=position:1/{scn}")).await), from(scn), "{scn}");
    }
    assert_eq!(scns(&read(&serving, "from=earliest").await), from(earliest));
}

#[tokio::test]
async fn b12_a_request_at_or_above_the_head_waits_and_gets_nothing_older() {
    let (mut shop, _) = forgetful();
    let serving = serve(&shop, local()).await;
    assert_eq!(scns(&read(&serving, "from=position:1/100").await), Vec::<u64>::new());
    let mut at_head = get(serving.address, &format!("{CHANGES}?from=position:1/100")).await;
    let mut above = get(serving.address, &format!("{CHANGES}?from=position:1/115")).await;
    shop.append(&inserts(100, &[110, 120]));
    let mut lines = String::new();
    while !lines.contains("checkpoint") || scns(&lines).is_empty() {
        lines.push_str(&piece(&mut at_head).await);
    }
    assert_eq!(scns(&lines), [110, 120]);
    let mut lines = String::new();
    while scns(&lines).is_empty() {
        lines.push_str(&piece(&mut above).await);
    }
    assert_eq!(scns(&lines), [120], "what lies below the position that was asked for is left out");
}

#[tokio::test]
async fn a_stranger_follows_a_table_and_goes_on_from_the_last_line() {
    let mut shop = Shop::of(&[&[10, 20]]);
    let serving = serve(&shop, local()).await;
    let first = read(&serving, "tables=shop.orders").await;
    assert_eq!(scns(&first), [10, 20]);
    shop.append(&window(20, &[Commit(30, vec![(1, Change::Insert(row(3, "bolt")))])]));
    shop.append(&inserts(30, &[40]));
    let checkpoint = last_checkpoint(&first);
    let second = read(&serving, &format!("tables=shop.orders&checkpoint={checkpoint}")).await;
    assert_eq!(scns(&second), [40]);
    // A transaction of another table alone moves the checkpoint too.
    assert!(second.contains("\"1/30\"") || second.contains("\"1/40\""), "{second}");
}

#[tokio::test]
async fn a_browser_gets_events_and_goes_on_after_the_last_one() {
    let shop = Shop::of(&[&[10], &[20]]);
    let serving = serve(&shop, local()).await;
    let mut client = Client::http1(serving.address).await;
    let accept = ("accept", "text/event-stream");
    let path = format!("{CHANGES}?from=earliest&follow=false");
    let response = client.get_with(&path, &[accept]).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let events = text(response).await;
    let ids: Vec<&str> = events.lines().filter_map(|line| line.strip_prefix("id:")).map(str::trim).collect();
    assert!(events.contains("event: change") && events.contains("event: checkpoint"), "{events}");
    let seen = client.get_with(&path, &[accept, ("last-event-id", ids.last().unwrap())]).await;
    assert!(!text(seen).await.contains("event: change"), "everything was seen");
}

#[tokio::test]
async fn a_post_takes_what_a_get_takes() {
    let shop = Shop::of(&[&[10, 20], &[30]]);
    let serving = serve(&shop, local()).await;
    let mut client = Client::http1(serving.address).await;
    let json = ("content-type", "application/json; charset=utf-8");
    let body =
        json!({"from": "position:1/10", "follow": false, "tables": "shop.*", "heartbeat": 7}).to_string();
    let response = client.ask(Method::POST, CHANGES, &[json], &body).await;
    assert_eq!(scns(&text(response).await), [20, 30]);
    for (headers, body) in [
        (&[json][..], "{}}"),
        (&[json], r#"{"token":"s3cret"}"#),
        (&[json], r#"{"from":"earliest","from":null}"#),
        (&[], r#"{"from":"earliest"}"#),
        (&[("content-type", "text/plain")], r#"{"from":"earliest"}"#),
    ] {
        let response = client.ask(Method::POST, CHANGES, headers, body).await;
        assert_eq!(code(response).await, "bad-parameter", "{body}");
    }
}

#[tokio::test]
async fn what_there_is_to_subscribe_to_is_told() {
    let shop = Shop::of(&[&[10, 20]]);
    let serving = serve(&shop, local()).await;
    let mut client = Client::http1(serving.address).await;
    let all = json(client.get("/v1/sources").await).await;
    let one = json(client.get("/v1/sources/shop").await).await;
    assert_eq!(all["sources"], json!([one]));
    assert_eq!((&one["name"], &one["latest"]), (&json!("shop"), &json!("1/20")));
    assert_eq!(one["timelines"], json!([{"number": 1, "server": "server-1"}]));
    assert_eq!(one["latest_time"], "2023-11-14T22:13:20.020000Z");
    let head = crate::shop::checkpoint(one["checkpoint"].as_str().unwrap());
    assert_eq!(head.position.scn, Scn(20));
    let tables = json(client.get("/v1/sources/shop/tables").await).await;
    let table = &tables["tables"][0];
    assert_eq!((&table["name"], &table["key"]), (&json!("shop.orders"), &json!(["id"])));
    let column = json!({
        "name": "id", "type": "Int64", "source_type": "bigint", "nullable": false, "sensitivity": "unmarked",
    });
    assert_eq!(table["columns"][0], column);
    let path = format!("/v1/sources/shop/schemas/{}", table["schema"].as_str().unwrap());
    assert_eq!(&json(client.get(&path).await).await, table);
    let document = json(client.get("/v1/openapi.json").await).await;
    assert_eq!(document["openapi"], "3.1.0");
}

#[tokio::test]
async fn what_is_not_there_is_told_by_its_own_code() {
    let shop = Shop::of(&[&[10]]);
    let serving = serve(&shop, local()).await;
    let mut client = Client::http1(serving.address).await;
    for (path, expected) in [
        ("/v1/sources/shops", "unknown-source"),
        ("/v1/sources/shops/tables", "unknown-source"),
        ("/v1/sources/shops/changes", "unknown-source"),
        ("/v1/sources/shop/schemas/0123456789abcdef", "unknown-schema"),
        ("/v1/sources/shop/schemas/1", "unknown-schema"),
        ("/v1/sources/shop/changes?tables=shop.order", "unknown-table"),
        ("/v1/sources/shop/changes?columns=shop.orders:ids", "unknown-column"),
        ("/v1/sources/shop/changes?filter=large", "unknown-guest"),
        ("/v1/sources/shop/changes?from=yesterday", "bad-parameter"),
        ("/v1/sources/shop/changes?form=now", "bad-parameter"),
        ("/v1/sources/shop/changes?format=arrow", "bad-parameter"),
        ("/v1/sources/shop/changes?access_token=s3cret", "bad-parameter"),
        ("/v1/sources?token=s3cret", "bad-parameter"),
        ("/healthz?verbose=1", "bad-parameter"),
        ("/v1/sources/shop/changes?checkpoint=abc", "bad-checkpoint"),
        ("/v1/sources/%ff/tables", "unknown-path"),
        ("/v1/sources/", "unknown-path"),
        ("/", "unknown-path"),
        ("/v2/sources", "unknown-path"),
        ("/v1/admin/shutdown", "unknown-method"),
    ] {
        assert_eq!(code(client.get(path).await).await, expected, "{path}");
    }
    let response = client.ask(Method::DELETE, "/v1/sources/shop", &[], "").await;
    assert_eq!(response.headers()["allow"], "GET,HEAD");
    assert_eq!(code(response).await, "unknown-method");
}

#[tokio::test]
async fn a_stream_that_fails_breaks_off_and_whoever_asks_again_learns_why() {
    let mut shop = Shop::of(&[&[10]]);
    let serving = serve(&shop, local()).await;
    let path = format!("{CHANGES}?filter=broken");
    let mut clients = [Client::http1(serving.address).await, Client::http2(serving.address).await];
    let mut open = Vec::new();
    for client in &mut clients {
        let response = client.get(&format!("{path}&from=now")).await;
        assert_eq!(response.status(), StatusCode::OK);
        open.push(response);
    }
    shop.append(&inserts(10, &[20]));
    for response in open {
        assert!(response.into_body().collect().await.is_err(), "it does not look like an orderly end");
    }
    let again = get(serving.address, &format!("{path}&from=position:1/10")).await;
    let (code, told) = problem(again).await;
    assert_eq!((&*code, &told["guest"]), ("guest-failed", &json!("where")), "{told}");
    // Others are not concerned.
    assert_eq!(scns(&read(&serving, "from=position:1/10").await), [20]);
}
