//! A relay in fifty lines: serves a log's frames over HTTP/1.1, and fails as a connection can fail, at an exact byte.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tidemill_event::{Checkpoint, Position, SchemaSet, Scn, encode_schema};
use tidemill_log::{From, Log};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// What goes wrong with one answer. Bytes are those of the response, headers included.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The connection ends after so many bytes.
    Cut(usize),
    /// One bit of the byte with that number is another one.
    Flip(usize, u8),
    /// The answer ends in good order after so many windows.
    EndAfter(usize),
    /// The connection ends after so many windows.
    CutAfter(usize),
    /// Nothing comes any more after so many windows.
    SilentAfter(usize),
    /// It refuses: status, code and facts.
    Refuse(u16, &'static str, Value),
    /// Something that is no relay answers.
    Foreign(&'static str),
}

/// A relay of one log, on a port of its own.
pub struct Stub {
    pub url: String,
    inner: Arc<Inner>,
    task: AbortHandle,
}

struct Inner {
    log: Log,
    faults: Mutex<VecDeque<Fault>>,
    /// Every answer goes wrong in this way, when no other way is said.
    always: Mutex<Option<Fault>>,
    /// Heads and bodies of the requests.
    asked: Mutex<Vec<String>>,
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Stub {
    pub async fn new(log: &Log) -> Stub {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (faults, always, asked) = (Mutex::default(), Mutex::default(), Mutex::default());
        let inner = Arc::new(Inner { log: log.clone(), faults, always, asked });
        let serve = Arc::clone(&inner);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let serve = Arc::clone(&serve);
                // A connection that breaks is what these tests are about.
                tokio::spawn(async move { drop(serve.answer(stream).await) });
            }
        });
        Stub { url, inner, task: task.abort_handle() }
    }

    /// The next answers fail so, one each.
    pub fn fails(&self, faults: impl IntoIterator<Item = Fault>) {
        self.inner.faults.lock().unwrap().extend(faults);
    }

    /// No more answers fail.
    pub fn forget(&self) {
        self.inner.faults.lock().unwrap().clear();
        self.inner.asked.lock().unwrap().clear();
    }

    /// All answers fail so.
    pub fn always(&self, fault: Option<Fault>) {
        *self.inner.always.lock().unwrap() = fault;
    }

    /// The requests so far.
    pub fn asked(&self) -> Vec<String> {
        self.inner.asked.lock().unwrap().clone()
    }
}

struct Wire {
    stream: TcpStream,
    fault: Option<Fault>,
    sent: usize,
}

impl Wire {
    async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let mut bytes = bytes.to_vec();
        match self.fault {
            Some(Fault::Cut(at)) if at < self.sent + bytes.len() => {
                self.stream.write_all(&bytes[..at - self.sent]).await?;
                self.stream.shutdown().await?;
                return Err(std::io::ErrorKind::ConnectionAborted.into());
            }
            Some(Fault::Flip(at, bit)) if (self.sent..self.sent + bytes.len()).contains(&at) => {
                bytes[at - self.sent] ^= 1 << bit;
            }
            _ => {}
        }
        self.sent += bytes.len();
        self.stream.write_all(&bytes).await
    }

    async fn chunk(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let head = format!("{:x}\r\n", bytes.len());
        self.send(&[head.as_bytes(), bytes, b"\r\n"].concat()).await
    }

    async fn whole(&mut self, status: u16, kind: &str, body: &str) -> std::io::Result<()> {
        let length = body.len();
        let head = format!("HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n");
        self.send(format!("{head}{body}").as_bytes()).await
    }
}

impl Inner {
    async fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let request = read_request(&mut stream).await?;
        let body = request.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned();
        let is_info = request.starts_with("GET ");
        self.asked.lock().unwrap().push(request);
        if is_info {
            let mut wire = Wire { stream, fault: None, sent: 0 };
            return wire.whole(200, "application/json", &self.info().to_string()).await;
        }
        let fault = self.faults.lock().unwrap().pop_front().or_else(|| self.always.lock().unwrap().clone());
        let mut wire = Wire { stream, fault: fault.clone(), sent: 0 };
        let problem = "application/problem+json";
        match fault {
            Some(Fault::Foreign(body)) => wire.whole(200, "text/html", body).await,
            Some(Fault::Refuse(status, code, facts)) => {
                let mut all = json!({"status": status, "code": code, "detail": "as told"});
                all.as_object_mut().unwrap().extend(facts.as_object().unwrap().clone());
                wire.whole(status, problem, &all.to_string()).await
            }
            _ => match self.begin(&body) {
                Ok(from) => self.stream(wire, from).await,
                Err(text) => {
                    let all = json!({"status": 410, "code": "too-old", "detail": text}).to_string();
                    wire.whole(410, problem, &all).await
                }
            },
        }
    }

    fn info(&self) -> Value {
        let latest = self.log.stats().latest.map(|at| at.to_string());
        let checkpoint = self.log.checkpoint().map(|c| URL_SAFE_NO_PAD.encode(c.encode()));
        json!({"name": "shop", "latest": latest, "earliest": "1/0", "checkpoint": checkpoint})
    }

    fn begin(&self, body: &str) -> Result<From, String> {
        let asked: Value = serde_json::from_str(body).unwrap();
        if let Some(text) = asked.get("checkpoint").and_then(Value::as_str) {
            let record = URL_SAFE_NO_PAD.decode(text).unwrap();
            return self.log.locate(&Checkpoint::decode(&record).unwrap()).map_err(|e| e.to_string());
        }
        let from = asked["from"].as_str().unwrap();
        Ok(match from.split_once(':') {
            Some(("position", at)) => {
                let (timeline, scn) = at.split_once('/').unwrap();
                From::After(Position { timeline: timeline.parse().unwrap(), scn: Scn(scn.parse().unwrap()) })
            }
            Some(("time", "2023-11-14T22:13:20.030000Z")) => From::Time(1_700_000_000_030_000),
            _ if from == "earliest" => From::Earliest,
            _ => From::Now,
        })
    }

    async fn stream(&self, mut wire: Wire, from: From) -> std::io::Result<()> {
        let mut reader = self.log.reader(from).unwrap();
        let kind = "content-type: application/vnd.tidemill.frames\r\ntransfer-encoding: chunked\r\n\r\n";
        wire.send(format!("HTTP/1.1 200 OK\r\n{kind}").as_bytes()).await?;
        let mut schemas = SchemaSet::default();
        for windows in 0.. {
            match wire.fault {
                Some(Fault::EndAfter(end)) if end == windows => break,
                Some(Fault::CutAfter(end)) if end == windows => return wire.stream.shutdown().await,
                Some(Fault::SilentAfter(end)) if end == windows => std::future::pending().await,
                _ => {}
            }
            let next = tokio::select! {
                next = reader.next_frame() => next.unwrap(),
                // The subscriber has gone.
                _ = wire.stream.read_u8() => return Ok(()),
            };
            let Some((frame, window)) = next else { break };
            for table in &window.tables {
                if schemas.insert(Arc::clone(&table.schema)) {
                    wire.chunk(encode_schema(&table.schema).bytes()).await?;
                }
            }
            wire.chunk(frame.bytes()).await?;
        }
        wire.send(b"0\r\n\r\n").await
    }
}

async fn read_request(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
            return Ok(text.into_owned());
        }
    }
}
