//! Google: a stub in this process of those requests of its XML interface that an object store's client makes, with pages of
//! three names, so that lists have many. What others offer as a stand-in does not answer that client. It checks that a token
//! is there, not which.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::http::response::Builder;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use url::{Url, form_urlencoded};

use crate::StandInError;

const NAME: &str = "the stand-in for Google";
const BUCKET: &str = "tidemill";
const PAGE: usize = 3;
const GENERATION: &str = "x-goog-generation";
const IF_GENERATION: &str = "x-goog-if-generation-match";

/// A running store with one bucket.
#[derive(Debug)]
pub struct Gcs {
    address: SocketAddr,
    /// Its fall ends the server's thread.
    _running: oneshot::Sender<()>,
}

impl Gcs {
    /// Starts one.
    pub fn start() -> Result<Gcs, StandInError> {
        let io = |what| StandInError::io(NAME, what);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(io("listen"))?;
        let address = listener.local_addr().map_err(io("listen"))?;
        listener.set_nonblocking(true).map_err(io("listen"))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(io("run"))?;
        let (running, mut ended) = oneshot::channel();
        std::thread::spawn(move || {
            runtime.block_on(async {
                let listener =
                    TcpListener::from_std(listener).expect("it does not block, and the runtime has io");
                tokio::select! {
                    _ = &mut ended => {}
                    () = accept(listener) => {}
                }
            });
        });
        Ok(Gcs { address, _running: running })
    }

    /// The URL of a prefix in its bucket.
    pub fn url(&self, prefix: &str) -> String {
        format!("gs://{BUCKET}/{prefix}")
    }

    /// The environment that leads there.
    pub fn settings(&self) -> Vec<(String, String)> {
        let endpoint = format!("http://{}", self.address);
        [
            ("GOOGLE_BASE_URL", endpoint.as_str()),
            ("GOOGLE_ALLOW_HTTP", "true"),
            ("GOOGLE_BEARER_TOKEN", "stand-in-token"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }
}

async fn accept(listener: TcpListener) {
    let bucket = Arc::new(Mutex::new(Bucket::default()));
    while let Ok((connection, _)) = listener.accept().await {
        let bucket = Arc::clone(&bucket);
        let answer = service_fn(move |request| {
            let bucket = Arc::clone(&bucket);
            async move { Ok::<_, Infallible>(answer(&bucket, request).await) }
        });
        // A client that goes away in the middle is no concern of the stub.
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(connection), answer));
    }
}

type Answer = Response<Full<Bytes>>;

async fn answer(bucket: &Mutex<Bucket>, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await.map(|body| body.to_bytes()) else {
        return status(StatusCode::BAD_REQUEST);
    };
    if !head.headers.contains_key("authorization") {
        return status(StatusCode::UNAUTHORIZED);
    }
    let Ok(url) = Url::parse(&format!("http://stub{}", head.uri)) else {
        return status(StatusCode::BAD_REQUEST);
    };
    let Some((BUCKET, key)) = url.path()[1..].split_once('/').or(Some((&url.path()[1..], ""))) else {
        return status(StatusCode::NOT_FOUND);
    };
    // A name is one key without a value there: its "=", "&" and "+" are encoded.
    let key = form_urlencoded::parse(key.as_bytes()).next().map(|(key, _)| key.into_owned());
    let query: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
    let mut bucket = bucket.lock().expect("no request panics");
    match key {
        Some(key) => bucket.object(&head.method, &key, &query, &head.headers, body),
        None => bucket.list(&query),
    }
}

#[derive(Default)]
struct Bucket {
    objects: BTreeMap<String, (u64, Bytes)>,
    uploads: BTreeMap<String, BTreeMap<u32, Bytes>>,
    generation: u64,
    /// When each generation was stored.
    changed: BTreeMap<u64, SystemTime>,
}

impl Bucket {
    fn object(
        &mut self,
        method: &Method,
        key: &str,
        query: &BTreeMap<String, String>,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Answer {
        match (method.as_str(), query.get("uploadId")) {
            ("GET" | "HEAD", _) => self.get(method, key, headers),
            ("PUT", None) => self.put(key, headers, body),
            ("PUT", Some(upload)) => self.put_part(upload, query, body),
            ("POST", None) => self.begin(),
            ("POST", Some(upload)) => self.complete(key, upload),
            ("DELETE", Some(upload)) => {
                self.uploads.remove(upload);
                status(StatusCode::NO_CONTENT)
            }
            ("DELETE", None) => match self.objects.remove(key) {
                Some(_) => status(StatusCode::NO_CONTENT),
                None => status(StatusCode::NOT_FOUND),
            },
            _ => status(StatusCode::METHOD_NOT_ALLOWED),
        }
    }

    fn store(&mut self, key: &str, body: Bytes) -> Builder {
        self.generation += 1;
        self.changed.insert(self.generation, SystemTime::now());
        self.objects.insert(key.to_owned(), (self.generation, body));
        described(self.generation)
    }

    fn put(&mut self, key: &str, headers: &HeaderMap, body: Bytes) -> Answer {
        let is = self.objects.get(key).map_or(0, |(generation, _)| *generation);
        let asked = headers.get(IF_GENERATION).map(|asked| asked.to_str().ok()?.parse::<u64>().ok());
        match asked {
            Some(asked) if asked != Some(is) => status(StatusCode::PRECONDITION_FAILED),
            _ => whole(self.store(key, body), Bytes::new()),
        }
    }

    fn get(&self, method: &Method, key: &str, headers: &HeaderMap) -> Answer {
        let Some((generation, object)) = self.objects.get(key) else { return status(StatusCode::NOT_FOUND) };
        let head = described(*generation);
        if method == Method::HEAD {
            return whole(head.header("content-length", object.len()), Bytes::new());
        }
        let length = object.len();
        let asked = headers.get("range").and_then(|range| span(range.to_str().ok()?, length));
        let Some((from, upto)) = asked else { return whole(head, object.clone()) };
        if from >= length {
            return status(StatusCode::RANGE_NOT_SATISFIABLE);
        }
        let range = format!("bytes {from}-{}/{length}", upto - 1);
        let head = head.status(StatusCode::PARTIAL_CONTENT).header("content-range", range);
        whole(head, object.slice(from..upto))
    }

    fn begin(&mut self) -> Answer {
        self.generation += 1;
        let upload = self.generation.to_string();
        let text = format!("<Initiated><UploadId>{upload}</UploadId></Initiated>");
        self.uploads.insert(upload, BTreeMap::new());
        whole(Response::builder(), text.into())
    }

    fn put_part(&mut self, upload: &str, query: &BTreeMap<String, String>, body: Bytes) -> Answer {
        let number = query.get("partNumber").and_then(|number| number.parse().ok());
        match (self.uploads.get_mut(upload), number) {
            (Some(parts), Some(number)) => {
                parts.insert(number, body);
                whole(described(u64::from(number)), Bytes::new())
            }
            _ => status(StatusCode::NOT_FOUND),
        }
    }

    fn complete(&mut self, key: &str, upload: &str) -> Answer {
        let Some(parts) = self.uploads.remove(upload) else { return status(StatusCode::NOT_FOUND) };
        let body: Vec<u8> = parts.into_values().flatten().collect();
        let head = self.store(key, body.into());
        let text = format!("<Completed><ETag>\"{}\"</ETag></Completed>", self.generation);
        whole(head, text.into())
    }

    /// One page of names. A name holds nothing that XML would have to escape: no test's does.
    fn list(&self, query: &BTreeMap<String, String>) -> Answer {
        let text = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
        let (prefix, after) = (text("prefix"), text("continuation-token").max(text("start-after")));
        let all = self.objects.iter().filter(|(key, _)| key.starts_with(prefix) && key.as_str() > after);
        let page: Vec<_> = all.take(PAGE).collect();
        let mut answer = String::from("<ListBucketResult>");
        for (key, (generation, object)) in &page {
            let (size, changed) = (object.len(), date(self.changed[generation]));
            let _ = write!(
                answer,
                "<Contents><Key>{key}</Key><Size>{size}</Size><LastModified>{changed}</LastModified>\
                 <ETag>\"{generation}\"</ETag></Contents>"
            );
        }
        if let (PAGE, Some((last, _))) = (page.len(), page.last()) {
            let _ = write!(answer, "<NextContinuationToken>{last}</NextContinuationToken>");
        }
        whole(Response::builder(), (answer + "</ListBucketResult>").into())
    }
}

/// A time as lists give it: days since 1970-01-01 as a date of the Gregorian calendar, whose years begin in March here.
fn date(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z", era * 400 + year + carry)
}

/// The half-open span of `bytes=FROM-LAST` or `bytes=FROM-`.
fn span(range: &str, length: usize) -> Option<(usize, usize)> {
    let (from, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let upto = last.parse().map_or(length, |last: usize| (last + 1).min(length));
    Some((from.parse().ok()?, upto))
}

fn described(generation: u64) -> Builder {
    Response::builder()
        .header("etag", format!("\"{generation}\""))
        .header(GENERATION, generation)
        .header("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT")
}

fn whole(head: Builder, body: Bytes) -> Answer {
    head.body(Full::new(body)).expect("its headers are ours")
}

fn status(status: StatusCode) -> Answer {
    whole(Response::builder().status(status), Bytes::new())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(date(UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        }
    }
}
