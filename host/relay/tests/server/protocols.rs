//! The versions of HTTP, with and without encryption.

use http::StatusCode;
use http_body_util::BodyExt;

use crate::shop::Shop;
use crate::support::*;

const READ: &str = "/v1/sources/shop/changes?follow=false";

#[tokio::test]
async fn one_connection_of_http_1_answers_request_after_request() {
    let shop = Shop::of(&[&[10, 20]]);
    let serving = serve(&shop, local()).await;
    let mut client = Client::http1(serving.address).await;
    for _ in 0..3 {
        assert_eq!(scns(&text(client.get(READ).await).await), [10, 20]);
    }
}

#[tokio::test]
async fn one_connection_of_http_2_has_many_streams_at_once() {
    let mut shop = Shop::of(&[&[10, 20]]);
    let serving = serve(&shop, local()).await;
    let mut client = Client::http2(serving.address).await;
    let mut open = Vec::new();
    for _ in 0..20 {
        let mut response = client.get("/v1/sources/shop/changes?from=earliest").await;
        assert_eq!((response.status(), response.version()), (StatusCode::OK, http::Version::HTTP_2));
        let mut lines = piece(&mut response).await;
        while scns(&lines) != [10, 20] {
            lines.push_str(&piece(&mut response).await);
        }
        open.push(response);
    }
    shop.append(&crate::shop::inserts(20, &[30]));
    for mut response in open {
        let mut lines = String::new();
        while scns(&lines) != [30] {
            lines.push_str(&piece(&mut response).await);
        }
    }
}

#[tokio::test]
async fn both_versions_are_spoken_over_tls() {
    let shop = Shop::of(&[&[10]]);
    let authority = Authority::new();
    let serving = serve(&shop, tidemill_relay::RelayConfig { tls: Some(authority.tls()), ..local() }).await;
    let one = authority.connect(serving.address, "http/1.1", None).await.unwrap();
    let two = authority.connect(serving.address, "h2", None).await.unwrap();
    for mut client in [Client::http1_over(one).await, Client::http2_over(two).await] {
        assert_eq!(scns(&text(client.get(READ).await).await), [10]);
    }
}

#[tokio::test]
async fn what_speaks_plainly_to_an_encrypted_relay_gets_nothing() {
    let shop = Shop::of(&[&[10]]);
    let authority = Authority::new();
    let serving = serve(&shop, tidemill_relay::RelayConfig { tls: Some(authority.tls()), ..local() }).await;
    let mut client = Client::http1(serving.address).await;
    let request = http::Request::get(READ).header("host", "localhost").body(Default::default()).unwrap();
    assert!(client.send(request).await.is_err());
}

#[tokio::test]
async fn whoever_takes_trailers_learns_where_it_is_after_the_body() {
    let shop = Shop::of(&[&[10, 20]]);
    let serving = serve(&shop, local()).await;
    let te = [("te", "trailers")];
    let mut clients = [Client::http1(serving.address).await, Client::http2(serving.address).await];
    for client in &mut clients {
        let response = client.get_with(READ, &te).await;
        assert_eq!(response.headers()["trailer"], "tidemill-checkpoint");
        let body = response.into_body().collect().await.unwrap();
        let trailers = body.trailers().cloned().unwrap_or_default();
        let checkpoint = crate::shop::checkpoint(trailers["tidemill-checkpoint"].to_str().unwrap());
        assert_eq!(checkpoint.position, crate::shop::at(1, 20));
    }
}

#[tokio::test]
async fn a_body_is_packed_for_whoever_can_unpack_it() {
    use std::io::Read;
    let shop = Shop::of(&[&[10, 20]]);
    let serving = serve(&shop, local()).await;
    let mut client = Client::http1(serving.address).await;
    let plain = text(client.get(READ).await).await;
    let response = client.get_with(READ, &[("accept-encoding", "gzip")]).await;
    assert_eq!(response.headers()["content-encoding"], "gzip");
    let packed = response.into_body().collect().await.unwrap().to_bytes();
    let mut unpacked = String::new();
    flate2::read::GzDecoder::new(&*packed).read_to_string(&mut unpacked).unwrap();
    assert_eq!(unpacked, plain);
    let response = client.get_with(READ, &[("accept-encoding", "gzip, zstd")]).await;
    assert_eq!(response.headers()["content-encoding"], "zstd");
    let packed = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(zstd::decode_all(&*packed).unwrap(), plain.as_bytes());
}
