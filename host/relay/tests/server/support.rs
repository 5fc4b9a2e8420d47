//! A relay that listens on a free port, the process around it, certificates, and a client that sees every byte of what it
//! is told.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;
use tempfile::TempDir;
use tidemill_event::{Position, Scn};
use tidemill_relay::{
    Activity, ComparisonAsked, Credential, Grant, Health, OperateError, OperatedPart, Operator, Relay,
    RelayConfig, RelayError, RelayParts, ServingMetrics, SourceStatus, SubscriptionStatus, TablePattern,
    TlsConfig,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::shop::{Registered, Shop};

/// The process around the relay: what it was told, and what it says.
#[derive(Debug)]
pub struct Process {
    pub told: Mutex<Vec<String>>,
    pub health: Mutex<Vec<Health>>,
    /// Whether a comparison was left by whoever asked for it.
    pub left: Arc<watch::Sender<bool>>,
    registry: prometheus_client::registry::Registry,
}

impl Operator for Process {
    fn sources(&self) -> Vec<SourceStatus> {
        vec![SourceStatus {
            name: "shop".into(),
            activity: Activity::Failed,
            why: Some("the server is gone".into()),
            position: Some(Position { timeline: 1, scn: Scn(40) }),
            lag_us: Some(1_500_000),
        }]
    }

    fn subscriptions(&self) -> Vec<SubscriptionStatus> {
        vec![SubscriptionStatus {
            name: "lake".into(),
            source: "shop".into(),
            activity: Activity::Paused,
            why: None,
            position: None,
            lag_us: None,
        }]
    }

    fn set_paused(
        &self,
        part: OperatedPart,
        name: &str,
        paused: bool,
    ) -> BoxFuture<'static, Result<(), OperateError>> {
        let done = match (part, name) {
            (OperatedPart::Source, "shop") | (OperatedPart::Subscription, "lake") => Ok(()),
            (_, "busy") => Err(OperateError::Refused("it is being copied".into())),
            _ => Err(OperateError::NotFound { part, name: name.into() }),
        };
        if done.is_ok() {
            self.told
                .lock()
                .unwrap()
                .push(format!("{part} {name} {}", if paused { "pause" } else { "resume" }));
        }
        Box::pin(std::future::ready(done))
    }

    fn compare(
        &self,
        subscription: &str,
        asked: ComparisonAsked,
    ) -> Result<mpsc::Receiver<String>, OperateError> {
        let (part, name) = (OperatedPart::Subscription, subscription.to_owned());
        if subscription != "lake" {
            return Err(OperateError::NotFound { part, name });
        }
        self.told.lock().unwrap().push(format!("compare {asked:?}"));
        let (reports, given) = mpsc::channel(1);
        let told = Arc::clone(&self.left);
        tokio::spawn(async move {
            for table in asked.tables {
                let _ = reports.send(serde_json::json!({ "table": table }).to_string()).await;
            }
            if asked.map.contains_key("for.ever") {
                reports.closed().await;
                told.send_replace(true);
            }
        });
        Ok(given)
    }

    fn shutdown(&self) {
        self.told.lock().unwrap().push("shutdown".into());
    }

    fn health(&self) -> Vec<Health> {
        self.health.lock().unwrap().clone()
    }

    fn ready(&self) -> Vec<Health> {
        self.health.lock().unwrap().clone()
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }
}

/// A relay that serves.
#[derive(Debug)]
pub struct Serving {
    pub address: SocketAddr,
    pub process: Arc<Process>,
    pub stop: watch::Sender<bool>,
    pub ended: JoinHandle<Result<(), RelayError>>,
}

pub fn local() -> RelayConfig {
    RelayConfig::new("127.0.0.1:0".parse().unwrap())
}

/// A relay of the shop, with those settings.
pub async fn serve(shop: &Shop, config: RelayConfig) -> Serving {
    try_serve(shop, config).unwrap()
}

pub fn try_serve(shop: &Shop, config: RelayConfig) -> Result<Serving, RelayError> {
    let mut registry = prometheus_client::registry::Registry::default();
    let metrics = ServingMetrics::register(&mut registry);
    let process = Arc::new(Process {
        told: Mutex::default(),
        health: Mutex::default(),
        left: Arc::default(),
        registry,
    });
    let operator = Arc::clone(&process) as Arc<dyn Operator>;
    let parts = RelayParts {
        served: vec![shop.served.clone()],
        snapshots: vec![],
        guests: Arc::new(Registered),
        operator,
        metrics,
    };
    let relay = Relay::new(config, parts)?;
    let (address, stop) = (relay.address(), watch::Sender::new(false));
    let ended = tokio::spawn(relay.run(stop.subscribe()));
    Ok(Serving { address, process, stop, ended })
}

/// A grant of everything but the right to operate.
pub fn reader(name: &str, credential: Credential) -> Grant {
    Grant {
        name: name.into(),
        credential,
        sources: vec!["*".into()],
        tables: vec![],
        admin: false,
        metrics: false,
    }
}

pub fn patterns(texts: &[&str]) -> Vec<TablePattern> {
    texts.iter().map(|text| TablePattern::parse(text).unwrap()).collect()
}

/// Who sends requests on one connection.
pub enum Client {
    One(hyper::client::conn::http1::SendRequest<Full<Bytes>>),
    Two(hyper::client::conn::http2::SendRequest<Full<Bytes>>),
}

impl Client {
    pub async fn http1(address: SocketAddr) -> Client {
        Client::http1_over(TcpStream::connect(address).await.unwrap()).await
    }

    pub async fn http1_over(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Client {
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await.unwrap();
        tokio::spawn(connection);
        Client::One(sender)
    }

    pub async fn http2(address: SocketAddr) -> Client {
        Client::http2_over(TcpStream::connect(address).await.unwrap()).await
    }

    pub async fn http2_over(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Client {
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(io));
        let (sender, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        Client::Two(sender)
    }

    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        match self {
            Client::One(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Client::Two(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }

    pub async fn get(&mut self, path: &str) -> Response<Incoming> {
        self.get_with(path, &[]).await
    }

    pub async fn get_with(&mut self, path: &str, headers: &[(&str, &str)]) -> Response<Incoming> {
        self.ask(Method::GET, path, headers, "").await
    }

    pub async fn ask(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Response<Incoming> {
        // HTTP/1.1 wants the path and a `Host`, HTTP/2 the whole address.
        let uri = match self {
            Client::One(_) => path.to_owned(),
            Client::Two(_) => format!("http://localhost{path}"),
        };
        let mut request = Request::builder().method(method).uri(uri);
        if matches!(self, Client::One(_)) && !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", "localhost");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Full::from(body.to_owned())).unwrap()).await.unwrap()
    }
}

/// One request on a connection of its own.
pub async fn get(address: SocketAddr, path: &str) -> Response<Incoming> {
    Client::http1(address).await.get(path).await
}

/// The whole body.
pub async fn text(response: Response<Incoming>) -> String {
    let body = response.into_body().collect().await.expect("the body ends in an orderly way");
    String::from_utf8(body.to_bytes().to_vec()).unwrap()
}

pub async fn json(response: Response<Incoming>) -> Value {
    serde_json::from_str(&text(response).await).unwrap()
}

/// A problem's code, after a look at its form.
#[track_caller]
pub fn check_problem(status: StatusCode, problem: &Value) -> String {
    assert_eq!(problem["status"], status.as_u16());
    assert!(
        !problem["detail"].as_str().unwrap().is_empty() && !problem["title"].as_str().unwrap().is_empty()
    );
    let code = problem["code"].as_str().unwrap().to_owned();
    assert_eq!(problem["type"], format!("urn:tidemill:{code}"));
    code
}

/// The problem that answers.
pub async fn problem(response: Response<Incoming>) -> (String, Value) {
    let status = response.status();
    assert_eq!(response.headers()["content-type"], "application/problem+json", "{status}");
    let problem = json(response).await;
    (check_problem(status, &problem), problem)
}

pub async fn code(response: Response<Incoming>) -> String {
    problem(response).await.0
}

/// The next piece of a body that goes on.
pub async fn piece(response: &mut Response<Incoming>) -> String {
    let frame = response.body_mut().frame().await.expect("the body goes on").expect("without an error");
    String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()
}

/// SCNs of the changes of JSON lines.
pub fn scns(lines: &str) -> Vec<u64> {
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter_map(|line| line["source"]["scn"].as_u64()).collect()
}

/// The last checkpoint of JSON lines.
pub fn last_checkpoint(lines: &str) -> String {
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.rev().find_map(|line| line["checkpoint"].as_str().map(str::to_owned)).unwrap()
}

/// An authority, and certificates that it signed, as files.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    directory: TempDir,
}

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority of the test");
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.pem"), certificate.pem()).unwrap();
        Authority { certificate: certificate.der().clone(), issuer: Issuer::new(params, key), directory }
    }

    /// Signs a certificate for that common name and for `localhost`, and returns the files of it and its key.
    pub fn sign(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::new(vec!["localhost".into()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        let file = |end: &str| self.directory.path().join(format!("{name}.{end}"));
        std::fs::write(file("pem"), signed.pem()).unwrap();
        std::fs::write(file("key"), key.serialize_pem()).unwrap();
        (file("pem"), file("key"))
    }

    /// Settings with a certificate of this authority, whose client certificates are taken too.
    pub fn tls(&self) -> TlsConfig {
        let (certificate, key) = self.sign("relay", |_| {});
        TlsConfig { certificate, key, client_ca: Some(self.directory.path().join("ca.pem")) }
    }

    /// Connects as somebody who trusts this authority, speaks that protocol, and shows that certificate.
    pub async fn connect(
        &self,
        address: SocketAddr,
        protocol: &str,
        shown: Option<&(PathBuf, PathBuf)>,
    ) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match shown {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = vec![CertificateDer::from_pem_file(certificate).unwrap()];
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key).unwrap()).unwrap()
            }
        };
        config.alpn_protocols = vec![protocol.into()];
        let tcp = TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await
    }
}

/// Everything that is logged by this process, at every level.
pub fn logged() -> Arc<Mutex<Vec<u8>>> {
    static LOGGED: OnceLock<Arc<Mutex<Vec<u8>>>> = OnceLock::new();
    let logged = LOGGED.get_or_init(|| {
        let logged = Arc::new(Mutex::new(Vec::new()));
        let writer = Arc::clone(&logged);
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_writer(move || Written(Arc::clone(&writer)))
            .init();
        logged
    });
    Arc::clone(logged)
}

struct Written(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
