//! What a relay bounds, and what whoever meets a bound is told.

use std::time::Duration;

use http::{Method, StatusCode};
use tidemill_relay::{Credential, Limits, RelayConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::shop::{Change, Commit, Shop, row, window};
use crate::support::*;

const FOLLOW: &str = "/v1/sources/shop/changes?from=earliest&heartbeat=1";

fn with(change: impl FnOnce(&mut Limits)) -> RelayConfig {
    let mut config = local();
    change(&mut config.limits);
    config
}

/// Reads until the peer closes, or resets.
async fn closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut read = Vec::new();
    let _ = stream.read_to_end(&mut read).await;
    read
}

#[tokio::test]
async fn connections_beyond_the_limit_are_told_so_and_later_ones_are_served_again() {
    let shop = Shop::of(&[&[10]]);
    let serving = serve(&shop, with(|limits| limits.connections = 2)).await;
    let mut first = Client::http1(serving.address).await;
    let mut second = Client::http1(serving.address).await;
    for client in [&mut first, &mut second] {
        assert_eq!(client.get("/v1/sources").await.status(), StatusCode::OK);
    }
    for mut third in [Client::http1(serving.address).await, Client::http2(serving.address).await] {
        let response = third.get("/v1/sources").await;
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()["retry-after"], "1");
        assert_eq!(code(response).await, "too-many");
    }
    drop(first);
    // The place is free when the relay has seen the end of the connection.
    loop {
        let mut again = Client::http1(serving.address).await;
        if again.get("/v1/sources").await.status() == StatusCode::OK {
            break;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn streams_are_bounded_together_and_for_each_grant() {
    let shop = Shop::of(&[&[10]]);
    let mut config = with(|limits| (limits.subscriptions, limits.subscriptions_per_grant) = (3, 2));
    config.grants = vec![reader("a", Credential::token("a")), reader("b", Credential::token("b"))];
    let serving = serve(&shop, config).await;
    let mut client = Client::http2(serving.address).await;
    let mut ask = async |token: &str| {
        let authorization = format!("Bearer {token}");
        client.get_with(FOLLOW, &[("authorization", &authorization)]).await
    };
    let mut open = vec![ask("a").await, ask("a").await];
    assert!(open.iter().all(|response| response.status() == StatusCode::OK));
    let (code, told) = problem(ask("a").await).await;
    assert!(
        code == "too-many" && told["detail"].as_str().unwrap().contains("subscriptions_per_grant"),
        "{told}"
    );
    open.push(ask("b").await);
    assert_eq!(open[2].status(), StatusCode::OK);
    let (code, told) = problem(ask("b").await).await;
    assert!(code == "too-many" && told["detail"].as_str().unwrap().contains("`subscriptions`"), "{told}");
    open.remove(0);
    while ask("b").await.status() != StatusCode::OK {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_body_or_headers_that_are_too_large_are_refused() {
    let shop = Shop::of(&[&[10]]);
    let limits = |limits: &mut Limits| (limits.request_bytes, limits.header_bytes) = (1000, 4000);
    let serving = serve(&shop, with(limits)).await;
    let json = ("content-type", "application/json");
    let path = "/v1/sources/shop/changes";
    for mut client in [Client::http1(serving.address).await, Client::http2(serving.address).await] {
        let body = format!(r#"{{"from":"{}"}}"#, "x".repeat(1000));
        let response = client.ask(Method::POST, path, &[json], &body).await;
        assert_eq!(code(response).await, "too-large");
    }
    // Without a length, too.
    let mut stream = TcpStream::connect(serving.address).await.unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..3 {
        let chunk = format!("200\r\n{}\r\n", " ".repeat(512));
        stream.write_all(chunk.as_bytes()).await.unwrap();
    }
    let answer = String::from_utf8(closed(&mut stream).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("too-large"), "{answer}");
    for mut client in [Client::http1(serving.address).await, Client::http2(serving.address).await] {
        let long = format!("{path}?checkpoint={}", "x".repeat(4000));
        assert_eq!(code(client.get(&long).await).await, "too-large");
    }
}

#[tokio::test]
async fn whoever_asks_nothing_or_never_to_its_end_is_not_waited_for() {
    let shop = Shop::of(&[&[10]]);
    let time = Duration::from_millis(50);
    let serving = serve(&shop, with(|limits| limits.header_time = time)).await;
    for start in ["", "PRI * HTTP/2", "GET /v1/sources HTTP/1.1\r\nhost: localhost\r\nx-a: "] {
        let mut stream = TcpStream::connect(serving.address).await.unwrap();
        // It may have been let go before it said anything.
        let _ = stream.write_all(start.as_bytes()).await;
        let answer = String::from_utf8(closed(&mut stream).await).unwrap();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{start:?}: {answer}");
    }
}

#[tokio::test]
async fn whoever_does_not_finish_the_handshake_is_not_waited_for() {
    let shop = Shop::of(&[&[10]]);
    let authority = Authority::new();
    let mut config = with(|limits| limits.handshake_time = Duration::from_millis(50));
    config.tls = Some(authority.tls());
    let serving = serve(&shop, config).await;
    let mut stream = TcpStream::connect(serving.address).await.unwrap();
    let _ = stream.write_all(&[0x16, 0x03, 0x01]).await;
    closed(&mut stream).await;
}

#[tokio::test]
async fn a_body_that_never_ends_is_answered_too_slow() {
    let shop = Shop::of(&[&[10]]);
    let serving = serve(&shop, with(|limits| limits.request_time = Duration::from_millis(50))).await;
    let mut stream = TcpStream::connect(serving.address).await.unwrap();
    let head = "POST /v1/sources/shop/changes HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\nconnection: close\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = String::from_utf8(closed(&mut stream).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("too-slow"), "{answer}");
}

#[tokio::test]
async fn whoever_never_shows_credentials_is_let_go() {
    let shop = Shop::of(&[&[10]]);
    // Whoever is known shows it sooner, also where the machine is busy.
    let mut config = with(|limits| limits.header_time = Duration::from_millis(1500));
    config.grants = vec![reader("a", Credential::token("a"))];
    let serving = serve(&shop, config).await;
    let mut known = Client::http2(serving.address).await;
    assert_eq!(
        known.get_with("/v1/sources", &[("authorization", "Bearer a")]).await.status(),
        StatusCode::OK
    );
    let mut stranger = Client::http2(serving.address).await;
    // HTTP/2 lets a silent connection be, so a stranger could hold it for ever.
    loop {
        let request = http::Request::get("http://localhost/healthz").body(Default::default()).unwrap();
        match stranger.send(request).await {
            Ok(answer) => assert_eq!(text(answer).await, "healthy\n"),
            Err(_) => break,
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(
        known.get_with("/v1/sources", &[("authorization", "Bearer a")]).await.status(),
        StatusCode::OK
    );
}

/// More than the sockets between two processes hold.
fn large() -> Shop {
    let mut shop = Shop::new();
    for n in 0..40 {
        let order = row(n as i64, &"x".repeat(500_000));
        shop.append(&window(n * 10, &[Commit(n * 10 + 10, vec![(0, Change::Insert(order))])]));
    }
    shop
}

#[tokio::test]
async fn b14_a_reader_that_takes_nothing_is_cut_off_and_the_others_are_not() {
    let shop = large();
    let serving = serve(&shop, with(|limits| limits.stalled_time = Duration::from_secs(3))).await;
    let mut stalled = TcpStream::connect(serving.address).await.unwrap();
    let request = format!("GET {FOLLOW} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stalled.write_all(request.as_bytes()).await.unwrap();
    let mut live = get(serving.address, FOLLOW).await;
    let mut last = String::new();
    while !last.contains("\"1/400\"") {
        last = piece(&mut live).await;
    }
    // The stalled one is no longer among the streams.
    loop {
        let status = json(get(serving.address, "/v1/admin/subscriptions").await).await;
        if status["streams"].as_array().unwrap().len() == 1 {
            break;
        }
        piece(&mut live).await;
    }
    drop(live);
}
