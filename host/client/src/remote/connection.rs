//! One request at a time to one relay: connects, encrypts, asks, and tells what kind of answer comes. HTTP/2 where the
//! relay speaks it in an encrypted connection, else HTTP/1.1.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tidemill_event::{Position, Scn};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use super::error::ClientError;
use super::options::{Relay, Token};
use super::tls::Encryption;
use crate::limits::PROBLEM_BYTES_MAX;

/// The type of frames.
pub(crate) const FRAMES: &str = "application/vnd.tidemill.frames";
const JSON: &str = "application/json";
const PROBLEM: &str = "application/problem+json";

/// Who asks, and how long it waits.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) token: Option<Token>,
    pub(crate) encryption: Option<Encryption>,
    pub(crate) patience: Duration,
}

/// What is asked.
pub(crate) struct Question {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) accept: &'static str,
    pub(crate) compressed: bool,
    /// JSON; empty for none.
    pub(crate) body: String,
}

/// An answer that is not a refusal. Dropping it ends its connection.
pub(crate) struct Answered {
    pub(crate) body: Incoming,
    pub(crate) compressed: bool,
    _connection: Driver,
}

/// The task that moves a connection's bytes.
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Caller {
    /// Asks, and gives the answer or its refusal.
    pub(crate) async fn ask(&self, relay: &Relay, question: &Question) -> Result<Answered, ClientError> {
        let asked = tokio::time::timeout(self.patience, self.exchange(relay, question)).await;
        let (response, connection) = asked.map_err(|_| self.silent(relay))??;
        let (head, body) = response.into_parts();
        let kind = media_type(&head.headers);
        if head.status == StatusCode::OK && kind == question.accept {
            let compressed = head.headers.get(CONTENT_ENCODING).is_some_and(|e| e == "zstd");
            return Ok(Answered { body, compressed, _connection: connection });
        }
        let passing = head.status.is_server_error() || head.status == StatusCode::TOO_MANY_REQUESTS;
        let foreign = |relay: &Relay| ClientError::Foreign {
            relay: relay.to_string(),
            what: format!("status {}, type {kind:?}", head.status.as_u16()),
            passing,
        };
        if kind != PROBLEM {
            return Err(foreign(relay));
        }
        let text = self.whole(relay, body, PROBLEM_BYTES_MAX).await?;
        Err(refusal(relay, head.status, &text).unwrap_or_else(|| foreign(relay)))
    }

    /// Asks for a document, and reads all of it.
    pub(crate) async fn document(&self, relay: &Relay, path: String) -> Result<Value, ClientError> {
        let (method, body) = (Method::GET, String::new());
        let question = Question { method, path, accept: JSON, compressed: false, body };
        let answered = self.ask(relay, &question).await?;
        let body = self.whole(relay, answered.body, PROBLEM_BYTES_MAX * 16).await?;
        serde_json::from_slice(&body).map_err(|source| lost(relay, source))
    }

    /// All of a body that may have so many bytes.
    async fn whole(&self, relay: &Relay, body: Incoming, bytes_max: usize) -> Result<Bytes, ClientError> {
        let read = tokio::time::timeout(self.patience, Limited::new(body, bytes_max).collect()).await;
        let read = read.map_err(|_| self.silent(relay))?.map_err(|source| lost(relay, source))?;
        Ok(read.to_bytes())
    }

    fn silent(&self, relay: &Relay) -> ClientError {
        ClientError::Silent { relay: relay.to_string(), time: self.patience }
    }

    async fn exchange(
        &self,
        relay: &Relay,
        question: &Question,
    ) -> Result<(Response<Incoming>, Driver), ClientError> {
        let unreachable = |source| ClientError::Unreachable { relay: relay.to_string(), source };
        let stream = TcpStream::connect((relay.host.as_str(), relay.port)).await;
        let stream = stream.map_err(|e| unreachable(e.into()))?;
        stream.set_nodelay(true).map_err(|e| unreachable(e.into()))?;
        if !relay.encrypted {
            return self.over_http1(relay, question, stream).await;
        }
        let encryption = self.encryption.as_ref().expect("it is there where a relay is reached by https");
        let stream = encryption.connect(relay, stream).await?;
        let (speaks_h2, noted) = (stream.speaks_h2(), stream.refusal());
        let answered = if speaks_h2 {
            self.over_http2(relay, question, stream).await
        } else {
            self.over_http1(relay, question, stream).await
        };
        answered.map_err(|error| noted.take().map_or(error, |refusal| refusal.of(relay)))
    }

    async fn over_http1(
        &self,
        relay: &Relay,
        question: &Question,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Result<(Response<Incoming>, Driver), ClientError> {
        let failed = |error: hyper::Error| lost(relay, error);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        let driver = Driver(tokio::spawn(connection).abort_handle());
        let mut request = self.request(relay, question);
        *request.uri_mut() = question.path.parse().expect("paths are percent-encoded");
        let host = HeaderValue::try_from(relay.authority()).expect("an authority is a header's value");
        request.headers_mut().insert(HOST, host);
        let response = sender.send_request(request).await.map_err(failed)?;
        Ok((response, driver))
    }

    async fn over_http2(
        &self,
        relay: &Relay,
        question: &Question,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Result<(Response<Incoming>, Driver), ClientError> {
        let failed = |error: hyper::Error| lost(relay, error);
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .map_err(failed)?;
        let driver = Driver(tokio::spawn(connection).abort_handle());
        let mut request = self.request(relay, question);
        *request.version_mut() = Version::HTTP_2;
        let response = sender.send_request(request).await.map_err(failed)?;
        Ok((response, driver))
    }

    fn request(&self, relay: &Relay, question: &Question) -> Request<Full<Bytes>> {
        let uri: Uri = format!("{relay}{}", question.path).parse().expect("paths are percent-encoded");
        let mut request = Request::new(Full::new(Bytes::from(question.body.clone())));
        *request.method_mut() = question.method.clone();
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static(question.accept));
        if question.compressed {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("zstd"));
        }
        if !question.body.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
        }
        if let Some(token) = &self.token {
            let value = HeaderValue::try_from(format!("Bearer {}", token.reveal()));
            let mut value = value.expect("a token's characters were checked");
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        request
    }
}

pub(crate) fn lost(
    relay: &Relay,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> ClientError {
    ClientError::Lost { relay: relay.to_string(), source: source.into() }
}

/// The type of a body, without its parameters.
fn media_type(headers: &HeaderMap) -> String {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// What a relay's refusal means; `None` where it is not one.
fn refusal(relay: &Relay, status: StatusCode, body: &[u8]) -> Option<ClientError> {
    let problem: Value = serde_json::from_slice(body).ok()?;
    let text = |fact: &str| problem.get(fact).and_then(Value::as_str).map(str::to_owned);
    if problem.get("status").and_then(Value::as_u64) != Some(u64::from(status.as_u16())) {
        return None;
    }
    let (relay, code) = (relay.to_string(), text("code")?);
    let detail = text("detail").unwrap_or_default();
    Some(match code.as_str() {
        "unauthenticated" => ClientError::Unauthenticated { relay, detail },
        "not-granted" => ClientError::NotGranted { relay, detail },
        "too-old" => {
            let at = |fact| text(fact).as_deref().and_then(position);
            ClientError::TooOld { relay, detail, earliest: at("earliest"), latest: at("latest") }
        }
        "diverged" => ClientError::Diverged { relay, detail },
        known => {
            let passing = matches!(known, "storage" | "too-many" | "shutting-down")
                || (known != "guest-failed" && status.is_server_error());
            ClientError::Refused { relay, code, detail, passing }
        }
    })
}

/// A position from its text, `TIMELINE/SCN`.
pub(crate) fn position(text: &str) -> Option<Position> {
    let (timeline, scn) = text.split_once('/')?;
    Some(Position { timeline: timeline.parse().ok()?, scn: Scn(scn.parse().ok()?) })
}
