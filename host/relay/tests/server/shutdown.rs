//! How a relay ends. B54.

use std::time::Duration;

use http_body_util::BodyExt;
use tidemill_relay::RelayConfig;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::shop::{Change, Commit, Shop, inserts, row, window};
use crate::support::*;

const FOLLOW: &str = "/v1/sources/shop/changes?from=earliest";

/// A relay that cuts nobody off within the life of a test.
fn patient() -> RelayConfig {
    let mut config = local();
    config.limits.shutdown_time = Duration::from_secs(86_400);
    config
}

#[tokio::test]
async fn b54_streams_end_whole_at_a_window_boundary_when_the_relay_stops() {
    let mut shop = Shop::of(&[&[10, 20]]);
    let serving = serve(&shop, patient()).await;
    let mut clients = [Client::http1(serving.address).await, Client::http2(serving.address).await];
    let mut open = Vec::new();
    for client in &mut clients {
        for format in ["json", "frames", "events"] {
            // One stream at a time on a connection of HTTP/1.1.
            let mut other = match client {
                Client::One(_) => Client::http1(serving.address).await,
                Client::Two(_) => Client::http2(serving.address).await,
            };
            open.push((format, other.get(&format!("{FOLLOW}&format={format}")).await, other));
        }
    }
    shop.append(&inserts(20, &[30]));
    serving.stop.send_replace(true);
    for (format, response, _client) in open {
        let body = response.into_body().collect().await.expect("the stream ends whole").to_bytes();
        match format {
            "json" => {
                let lines = String::from_utf8(body.to_vec()).unwrap();
                let last: serde_json::Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
                assert!(last["checkpoint"].is_string(), "it ends with a checkpoint: {lines}");
            }
            "frames" => drop(crate::shop::windows(&body)),
            _ => assert!(body.ends_with(b"\n\n"), "it ends with a whole event"),
        }
    }
    serving.ended.await.unwrap().unwrap();
    assert!(TcpStream::connect(serving.address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn b54_a_connection_that_is_still_open_is_told_that_the_relay_goes_down() {
    let shop = Shop::of(&[&[10]]);
    let serving = serve(&shop, patient()).await;
    let mut idle = Client::http1(serving.address).await;
    text(idle.get("/healthz").await).await;
    serving.stop.send_replace(true);
    // The idle connection is closed, so the relay has nothing to wait for.
    serving.ended.await.unwrap().unwrap();
    let request = http::Request::get(FOLLOW).header("host", "localhost").body(Default::default()).unwrap();
    assert!(idle.send(request).await.is_err());
}

#[tokio::test]
async fn b54_a_reader_that_takes_nothing_does_not_hold_the_relay() {
    let mut shop = Shop::new();
    for n in 0..40 {
        let order = row(n as i64, &"x".repeat(500_000));
        shop.append(&window(n * 10, &[Commit(n * 10 + 10, vec![(0, Change::Insert(order))])]));
    }
    let mut config = local();
    config.limits.shutdown_time = Duration::from_millis(100);
    let serving = serve(&shop, config).await;
    let mut stalled = TcpStream::connect(serving.address).await.unwrap();
    stalled.write_all(format!("GET {FOLLOW} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes()).await.unwrap();
    // It is among the streams before the relay stops.
    while json(get(serving.address, "/v1/admin/subscriptions").await).await["streams"]
        == serde_json::json!([])
    {
        tokio::task::yield_now().await;
    }
    serving.stop.send_replace(true);
    serving.ended.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_relay_whose_owner_is_gone_stops() {
    let shop = Shop::of(&[&[10]]);
    let Serving { stop, ended, .. } = serve(&shop, local()).await;
    drop(stop);
    ended.await.unwrap().unwrap();
}
