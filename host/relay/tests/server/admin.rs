//! Operating over HTTP. B54, B55.

use http::{Method, StatusCode};
use serde_json::json;
use tidemill_relay::{Credential, Health, RelayConfig};

use crate::shop::{Shop, inserts};
use crate::support::*;

#[tokio::test]
async fn b54_sources_and_subscriptions_are_shown_paused_and_resumed() {
    let shop = Shop::of(&[&[10]]);
    let serving = serve(&shop, local()).await;
    let mut client = Client::http1(serving.address).await;
    let sources = crate::support::json(client.get("/v1/admin/sources").await).await;
    assert_eq!(
        sources["sources"],
        json!([{"name": "shop", "activity": "failed", "why": "the server is gone", "position": "1/40", "lag_seconds": 1.5}])
    );
    let subscriptions = crate::support::json(client.get("/v1/admin/subscriptions").await).await;
    assert_eq!(subscriptions["subscriptions"][0]["activity"], "paused");
    for path in
        ["sources/shop/pause", "sources/shop/resume", "subscriptions/lake/pause", "subscriptions/lake/resume"]
    {
        let response = client.ask(Method::POST, &format!("/v1/admin/{path}"), &[], "").await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert_eq!(crate::support::json(response).await["paused"], path.ends_with("pause"));
    }
    let response = client.ask(Method::POST, "/v1/admin/shutdown", &[], "").await;
    assert_eq!(response.status(), StatusCode::ACCEPTED);
    text(response).await;
    assert_eq!(
        *serving.process.told.lock().unwrap(),
        [
            "source shop pause",
            "source shop resume",
            "subscription lake pause",
            "subscription lake resume",
            "shutdown"
        ]
    );
    for (path, expected) in [
        ("sources/lake/pause", "unknown-source"),
        ("subscriptions/shop/resume", "unknown-subscription"),
        ("sources/busy/pause", "refused"),
        ("sources/shop/stop", "unknown-path"),
    ] {
        let response = client.ask(Method::POST, &format!("/v1/admin/{path}"), &[], "").await;
        assert_eq!(code(response).await, expected, "{path}");
    }
}

#[tokio::test]
async fn a_comparison_is_answered_table_by_table_and_ends_when_nobody_listens() {
    let shop = Shop::of(&[&[10]]);
    let serving = serve(&shop, local()).await;
    let mut client = Client::http1(serving.address).await;
    let headers = [("content-type", "application/json")];
    let path = "/v1/admin/subscriptions/lake/verify";
    let response = client.ask(Method::POST, path, &headers, r#"{"tables":["t.a","t.b"]}"#).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "application/x-ndjson");
    assert_eq!(text(response).await, "{\"table\":\"t.a\"}\n{\"table\":\"t.b\"}\n");
    for (path, body, expected) in [
        (path, r#"{"table":["t.a"]}"#, "bad-parameter"),
        (path, "", "bad-parameter"),
        ("/v1/admin/subscriptions/other/verify", "{}", "unknown-subscription"),
    ] {
        let response = client.ask(Method::POST, path, &headers, body).await;
        assert_eq!(code(response).await, expected, "{path} {body}");
    }
    let response = client.ask(Method::POST, path, &headers, r#"{"map":{"for.ever":"x"}}"#).await;
    assert_eq!(response.status(), StatusCode::OK);
    let mut left = serving.process.left.subscribe();
    drop((response, client));
    left.wait_for(|left| *left).await.unwrap();
}

#[tokio::test]
async fn b54_health_is_one_word_for_strangers_and_every_part_for_operators() {
    let shop = Shop::of(&[&[10]]);
    let config = RelayConfig {
        grants: vec![
            tidemill_relay::Grant { metrics: true, ..reader("a", Credential::token("a")) },
            reader("b", Credential::token("b")),
        ],
        ..local()
    };
    let serving = serve(&shop, config).await;
    let mut client = Client::http1(serving.address).await;
    assert_eq!(text(client.get("/healthz").await).await, "healthy\n");
    assert_eq!(text(client.get("/readyz").await).await, "ready\n");
    let part =
        Health { name: "source shop".into(), healthy: false, why: Some("no word for a minute".into()) };
    serving.process.health.lock().unwrap().push(part);
    for (path, word) in [("/healthz", "unhealthy"), ("/readyz", "not ready")] {
        for headers in [&[][..], &[("authorization", "Bearer b")]] {
            let response = client.get_with(path, headers).await;
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(text(response).await, format!("{word}\n"));
        }
        let response = client.get_with(path, &[("authorization", "Bearer a")]).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(
            crate::support::json(response).await,
            json!({"status": word, "parts": [{"name": "source shop", "healthy": false, "why": "no word for a minute"}]})
        );
    }
}

/// The value of a line of metrics.
fn value(metrics: &str, line: &str) -> Option<f64> {
    let found = metrics.lines().find_map(|text| text.strip_prefix(line));
    found.map(|rest| rest.trim().parse().unwrap())
}

#[tokio::test]
async fn b55_metrics_tell_what_each_subscriber_was_given_and_how_far_behind_it_is() {
    let mut shop = Shop::of(&[&[10, 20]]);
    let config = RelayConfig {
        grants: vec![tidemill_relay::Grant { metrics: true, ..reader("reports", Credential::token("a")) }],
        ..local()
    };
    let serving = serve(&shop, config).await;
    let token = ("authorization", "Bearer a");
    let path = "/v1/sources/shop/changes?name=nightly&filter=big";
    let mut client = Client::http2(serving.address).await;
    let body = text(client.get_with(&format!("{path}&follow=false"), &[token]).await).await;
    let labels = "{source=\"shop\",subscriber=\"reports/nightly\"}";
    let metrics = text(client.get_with("/metrics", &[token]).await).await;
    assert!(metrics.ends_with("# EOF\n"));
    let of = |metrics: &str, name: &str| value(metrics, &format!("tidemill_relay_{name}{labels}"));
    assert_eq!(of(&metrics, "subscriber_bytes_total"), Some(body.len() as f64));
    assert_eq!(of(&metrics, "subscriber_transactions_total"), Some(2.0));
    // Counts reconcile: what was read is what was given and what was filtered.
    assert_eq!(of(&metrics, "subscriber_rows_read_total"), Some(2.0));
    assert_eq!(of(&metrics, "subscriber_rows_given_total"), Some(0.0));
    assert_eq!(of(&metrics, "subscriber_rows_filtered_total"), Some(2.0));
    assert_eq!((of(&metrics, "subscribers"), of(&metrics, "subscriber_lag_seconds")), (Some(0.0), None));
    let mut open = client.get_with(&format!("{path}&from=now"), &[token]).await;
    shop.append(&inserts(20, &[30]));
    let mut lines = piece(&mut open).await;
    while !lines.contains("1/30") {
        lines.push_str(&piece(&mut open).await);
    }
    let metrics = text(client.get_with("/metrics", &[token]).await).await;
    assert_eq!(
        (of(&metrics, "subscribers"), of(&metrics, "subscriber_streams_total")),
        (Some(1.0), Some(2.0))
    );
    assert_eq!(
        (of(&metrics, "subscriber_lag_seconds"), of(&metrics, "subscriber_lag_positions")),
        (Some(0.0), Some(0.0))
    );
    let requests = "tidemill_relay_requests_total{route=\"/v1/sources/{source}/changes\",code=\"200\"}";
    assert_eq!(value(&metrics, requests), Some(2.0));
    assert_eq!(value(&metrics, "tidemill_relay_connections"), Some(1.0));
    let streams = crate::support::json(client.get_with("/v1/sources", &[token]).await).await;
    assert_eq!(streams["sources"][0]["latest"], "1/30");
}

#[tokio::test]
async fn b54_the_streams_of_remote_subscribers_are_shown() {
    let shop = Shop::of(&[&[10, 20]]);
    let serving = serve(&shop, local()).await;
    let mut client = Client::http2(serving.address).await;
    let mut open = client.get("/v1/sources/shop/changes?from=earliest&name=nightly&format=events").await;
    let mut events = String::new();
    while !events.contains("1/20") {
        events.push_str(&piece(&mut open).await);
    }
    let shown = crate::support::json(client.get("/v1/admin/subscriptions").await).await;
    let stream = &shown["streams"][0];
    assert_eq!((&stream["grant"], &stream["name"]), (&json!("local"), &json!("nightly")));
    assert_eq!((&stream["position"], &stream["transactions"]), (&json!("1/20"), &json!(2)));
    assert_eq!(stream["format"], "text/event-stream");
    assert_eq!(stream["bytes"], events.len());
}
