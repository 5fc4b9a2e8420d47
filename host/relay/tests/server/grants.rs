//! Who is let in, and to what. B53.

use std::io;

use http::{Method, StatusCode};
use rcgen::{CertificateParams, SanType};
use serde_json::Value;
use tidemill_relay::{Credential, Grant, RelayConfig, RelayError, TlsConfig};

use crate::shop::{Change, Commit, Shop, row, window};
use crate::support::*;

/// Texts that must be in no log, no answer, and no metric.
const SECRETS: [&str; 4] = ["c4nary-reader", "c4nary-operator", "c4nary-wrong", "c4nary-in-the-url"];

/// Orders and parts.
fn shop() -> Shop {
    let mut shop = Shop::of(&[&[10, 20]]);
    shop.append(&window(20, &[Commit(30, vec![(1, Change::Insert(row(3, "bolt")))])]));
    shop
}

fn grants() -> Vec<Grant> {
    let shop = |name: &str, credential| Grant { sources: vec!["shop".into()], ..reader(name, credential) };
    vec![
        shop("reader", Credential::token("c4nary-reader")),
        Grant { admin: true, ..shop("operator", Credential::token("c4nary-operator")) },
        Grant { metrics: true, sources: vec![], ..shop("scraper", Credential::token("scrape")) },
        Grant { tables: patterns(&["shop.orders"]), ..shop("orders only", Credential::token("orders")) },
        Grant { sources: vec!["bank".into()], ..shop("elsewhere", Credential::token("bank")) },
    ]
}

fn guarded() -> RelayConfig {
    RelayConfig { grants: grants(), ..local() }
}

/// With encryption, and grants for two client certificates.
fn encrypted(authority: &Authority) -> RelayConfig {
    let by = |name: &str| reader(name, Credential::Certificate(name.into()));
    let grants = [grants(), vec![by("reports"), by("spiffe://example/reports")]].concat();
    RelayConfig { grants, tls: Some(authority.tls()), ..local() }
}

/// Every path and method of the interface's description, with its variable parts filled in.
async fn every_route(client: &mut Client) -> Vec<(Method, String)> {
    let operator = [("authorization", "Bearer c4nary-operator")];
    let document: Value = json(client.get_with("/v1/openapi.json", &operator).await).await;
    let mut routes = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let path = path.replace("{source}", "shop").replace("{name}", "shop").replace("{action}", "pause");
        let path = path.replace("{id}", "0123456789abcdef");
        let methods = methods.as_object().unwrap().keys();
        routes.extend(methods.map(|method| (method.to_uppercase().parse().unwrap(), path.clone())));
    }
    assert!(routes.len() >= 15, "{routes:?}");
    routes
}

fn is_free(path: &str) -> bool {
    path == "/healthz" || path == "/readyz"
}

#[tokio::test]
async fn b53_no_path_answers_whoever_shows_no_credentials_or_wrong_ones() {
    let shop = shop();
    let serving = serve(&shop, guarded()).await;
    let mut client = Client::http1(serving.address).await;
    let mut routes = every_route(&mut client).await;
    routes.extend(
        ["/", "/v1", "/v1/nothing", "/v1/sources/none/changes"].map(|path| (Method::GET, path.into())),
    );
    for (method, path) in routes {
        for shown in [None, Some("Bearer c4nary-wrong"), Some("Bearer "), Some("Basic cmVhZGVyOmM0bmFyeQ==")]
        {
            let headers: Vec<_> = shown.map(|value| ("authorization", value)).into_iter().collect();
            let mut client = Client::http1(serving.address).await;
            let response = client.ask(method.clone(), &path, &headers, "").await;
            if is_free(&path) {
                let words = ["healthy\n", "ready\n"];
                assert!(words.contains(&&*text(response).await), "{path} says one word");
                continue;
            }
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{method} {path} {shown:?}");
            assert_eq!(response.headers()["www-authenticate"], "Bearer");
            assert_eq!(code(response).await, "unauthenticated");
        }
    }
    assert!(serving.process.told.lock().unwrap().is_empty(), "nothing was done");
}

#[tokio::test]
async fn b53_a_grant_is_for_its_sources_and_its_tables_alone() {
    let shop = shop();
    let serving = serve(&shop, guarded()).await;
    let mut client = Client::http1(serving.address).await;
    let mut ask = async |token: &str, path: &str| {
        let authorization = format!("Bearer {token}");
        client.get_with(path, &[("authorization", &authorization)]).await
    };
    // Another source: it is not told whether it is there.
    for path in
        ["/v1/sources/shop", "/v1/sources/shop/tables", "/v1/sources/shop/changes", "/v1/sources/none"]
    {
        assert_eq!(code(ask("bank", path).await).await, "not-granted", "{path}");
    }
    assert_eq!(json(ask("bank", "/v1/sources").await).await["sources"], serde_json::json!([]));
    // Tables: the others do not exist.
    let seen = text(ask("orders", "/v1/sources/shop/tables").await).await;
    assert!(seen.contains("shop.orders") && !seen.contains("parts"), "{seen}");
    let read = "/v1/sources/shop/changes?follow=false";
    let lines = text(ask("orders", read).await).await;
    assert_eq!(scns(&lines), [10, 20]);
    assert_eq!(scns(&text(ask("orders", &format!("{read}&tables=*.*")).await).await), [10, 20]);
    assert_eq!(scns(&text(ask("c4nary-reader", read).await).await), [10, 20, 30]);
    for table in ["shop.parts", "shop.nothing", "hr.*"] {
        let path = format!("{read}&tables={table}");
        assert_eq!(code(ask("orders", &path).await).await, "not-granted", "{table}");
    }
    // A schema by its id, too.
    let tables = json(ask("c4nary-reader", "/v1/sources/shop/tables").await).await;
    let parts =
        tables["tables"].as_array().unwrap().iter().find(|table| table["name"] == "shop.parts").unwrap();
    let path = format!("/v1/sources/shop/schemas/{}", parts["schema"].as_str().unwrap());
    assert_eq!(ask("c4nary-reader", &path).await.status(), StatusCode::OK);
    assert_eq!(code(ask("orders", &path).await).await, "unknown-schema");
}

#[tokio::test]
async fn b53_operating_and_measuring_are_granted_by_themselves() {
    let shop = shop();
    let serving = serve(&shop, guarded()).await;
    let mut client = Client::http1(serving.address).await;
    for (method, path) in every_route(&mut client).await {
        let (is_admin, is_metrics) = (path.starts_with("/v1/admin"), path == "/metrics");
        for (token, admin, metrics) in
            [("c4nary-reader", false, false), ("scrape", false, true), ("c4nary-operator", true, true)]
        {
            let authorization = format!("Bearer {token}");
            let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
            let mut client = Client::http1(serving.address).await;
            let response = client.ask(method.clone(), &path, &headers, r#"{"follow":false}"#).await;
            let may = (!is_admin || admin) && (!is_metrics || metrics);
            let is_source = path.starts_with("/v1/sources/") && token == "scrape";
            if !may || is_source {
                assert_eq!(code(response).await, "not-granted", "{token} {method} {path}");
            } else {
                assert_ne!(response.status(), StatusCode::FORBIDDEN, "{token} {method} {path}");
                assert_ne!(response.status(), StatusCode::UNAUTHORIZED, "{token} {method} {path}");
            }
        }
    }
}

#[tokio::test]
async fn b53_a_certificate_of_the_authority_is_a_credential_by_its_names() {
    let shop = shop();
    let authority = Authority::new();
    let serving = serve(&shop, encrypted(&authority)).await;
    let uri = |params: &mut CertificateParams| {
        params.subject_alt_names.push(SanType::URI("spiffe://example/reports".try_into().unwrap()));
    };
    let reports = authority.sign("reports", |_| {});
    let by_uri = authority.sign("other", uri);
    let unknown = authority.sign("nobody", |_| {});
    for (shown, status) in [
        (Some(&reports), StatusCode::OK),
        (Some(&by_uri), StatusCode::OK),
        (Some(&unknown), StatusCode::UNAUTHORIZED),
        (None, StatusCode::UNAUTHORIZED),
    ] {
        for protocol in ["http/1.1", "h2"] {
            let stream = authority.connect(serving.address, protocol, shown).await.unwrap();
            let mut client = match protocol {
                "h2" => Client::http2_over(stream).await,
                _ => Client::http1_over(stream).await,
            };
            assert_eq!(client.get("/v1/sources").await.status(), status, "{shown:?}");
        }
    }
    // A token does over TLS as well, and a wrong one is not mended by a certificate.
    let stream = authority.connect(serving.address, "http/1.1", Some(&reports)).await.unwrap();
    let mut client = Client::http1_over(stream).await;
    let answer = client.get_with("/v1/sources", &[("authorization", "Bearer c4nary-wrong")]).await;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    let answer = client.get_with("/v1/sources", &[("authorization", "Bearer c4nary-reader")]).await;
    assert_eq!(answer.status(), StatusCode::OK);
}

/// Whether somebody with that certificate gets any answer. With TLS 1.3 a client learns of a refusal when it reads.
async fn is_heard(
    authority: &Authority,
    serving: &Serving,
    shown: &(std::path::PathBuf, std::path::PathBuf),
) -> bool {
    let attempt = async {
        let stream = authority.connect(serving.address, "http/1.1", Some(shown)).await?;
        let mut client = Client::http1_over(stream).await;
        let request =
            http::Request::get("/healthz").header("host", "localhost").body(Default::default()).unwrap();
        client.send(request).await.map_err(io::Error::other)
    };
    attempt.await.is_ok()
}

#[tokio::test]
async fn b53_a_certificate_of_another_authority_or_past_its_time_is_refused_in_the_handshake() {
    let shop = shop();
    let (authority, other) = (Authority::new(), Authority::new());
    let serving = serve(&shop, encrypted(&authority)).await;
    let expired = |params: &mut CertificateParams| params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let early = |params: &mut CertificateParams| params.not_before = rcgen::date_time_ymd(2400, 1, 1);
    assert!(is_heard(&authority, &serving, &authority.sign("reports", |_| {})).await);
    for shown in
        [other.sign("reports", |_| {}), authority.sign("late", expired), authority.sign("early", early)]
    {
        assert!(!is_heard(&authority, &serving, &shown).await, "{shown:?}");
    }
}

#[tokio::test]
async fn b53_no_secret_is_in_any_log_answer_or_metric() {
    let log = logged();
    let shop = shop();
    let serving = serve(&shop, guarded()).await;
    let mut said = String::new();
    for token in SECRETS {
        let authorization = format!("Bearer {token}");
        let headers = [("authorization", authorization.as_str())];
        for path in [
            "/v1/sources",
            "/v1/sources/shop/changes?follow=false&name=nightly",
            "/v1/nothing",
            "/v1/sources/shop?token=c4nary-in-the-url",
            "/v1/sources/shop/changes?access_token=c4nary-in-the-url",
            "/v1/admin/sources",
            "/v1/admin/subscriptions",
            "/metrics",
        ] {
            for mut client in [Client::http1(serving.address).await, Client::http2(serving.address).await] {
                said.push_str(&text(client.get_with(path, &headers).await).await);
            }
        }
    }
    let logged = String::from_utf8(log.lock().unwrap().clone()).unwrap();
    assert!(
        logged.contains("subscription opened") && logged.contains("reader/nightly"),
        "what is looked through is the log"
    );
    assert!(
        said.contains("bad-parameter") && said.contains("tidemill_relay_requests"),
        "and what was answered"
    );
    for secret in SECRETS {
        assert!(!logged.contains(secret) && !said.contains(secret), "{secret}");
    }
    // No row values either: `open` is what every order of the shop is named, `note 10` what the first says.
    assert!(!logged.contains("note 10"));
}

#[tokio::test]
async fn b53_a_relay_that_others_reach_does_not_start_without_encryption_and_grants() {
    let shop = shop();
    let authority = Authority::new();
    let open = RelayConfig::new("0.0.0.0:0".parse().unwrap());
    for config in [
        open.clone(),
        RelayConfig { grants: grants(), ..open.clone() },
        RelayConfig { tls: Some(authority.tls()), ..open.clone() },
    ] {
        assert!(matches!(config.validate(), Err(RelayError::Open { .. })));
    }
    let both = RelayConfig { grants: grants(), tls: Some(authority.tls()), ..open };
    assert!(both.validate().is_ok());
    drop(shop);
}

#[test]
fn grants_that_cannot_hold_are_refused() {
    let refused = |grants: Vec<Grant>| {
        let error = RelayConfig { grants, ..local() }.validate().unwrap_err();
        error.to_string()
    };
    let token = |name: &str, token: &str| reader(name, Credential::token(token));
    assert!(refused(vec![token("a", "x"), token("a", "y")]).contains("another grant has its name"));
    assert!(refused(vec![token("a", "x"), token("b", "x")]).contains("another grant has its token"));
    assert!(refused(vec![token("a", "")]).contains("its token is empty"));
    let certificate = reader("a", Credential::Certificate("reports".into()));
    assert!(refused(vec![certificate]).contains("client_ca"));
}

#[tokio::test]
async fn files_that_are_no_certificates_are_named_and_never_shown() {
    let authority = Authority::new();
    let whole = authority.tls();
    let shop = shop();
    let broken = |change: fn(&mut TlsConfig, std::path::PathBuf), content: &str| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("c4nary.pem");
        std::fs::write(&path, content).unwrap();
        let mut tls = whole.clone();
        change(&mut tls, path);
        (directory, tls)
    };
    let other_key = authority.sign("other", |_| {}).1;
    let other_key = std::fs::read_to_string(other_key).unwrap();
    for (setting, change, content) in [
        ("certificate", (|tls, path| tls.certificate = path) as fn(&mut TlsConfig, _), "not a certificate"),
        ("key", |tls, path| tls.key = path, "not a key"),
        ("key", |tls, path| tls.key = path, &*other_key),
        ("client_ca", |tls, path| tls.client_ca = Some(path), ""),
    ] {
        let (_directory, tls) = broken(change, content);
        let error = try_serve(&shop, RelayConfig { tls: Some(tls), ..local() }).unwrap_err();
        let said = error.to_string();
        assert!(said.contains(&format!("`{setting}`")) && said.contains("c4nary.pem"), "{said}");
        assert!(content.is_empty() || !said.contains(content), "{said}");
    }
}

#[tokio::test]
async fn b53_a_relay_without_grants_answers_no_page_of_the_web() {
    let shop = shop();
    let serving = serve(&shop, local()).await;
    let mut client = Client::http1(serving.address).await;
    for headers in [
        &[("host", "evil.example")][..],
        &[("host", "evil.example:7878")],
        &[("host", "localhost"), ("origin", "http://evil.example")],
        &[("host", "localhost"), ("origin", "null")],
    ] {
        let response = client.ask(Method::POST, "/v1/admin/shutdown", headers, "").await;
        assert_eq!(code(response).await, "bad-host", "{headers:?}");
        let response = client.get_with("/v1/sources", headers).await;
        assert!(response.headers().get("access-control-allow-origin").is_none());
        assert_eq!(code(response).await, "bad-host", "{headers:?}");
    }
    assert!(serving.process.told.lock().unwrap().is_empty(), "nothing was done");
    assert_eq!(client.get_with("/v1/sources", &[("host", "127.0.0.1:7878")]).await.status(), StatusCode::OK);
}
