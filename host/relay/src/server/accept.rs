//! Connections: how many, how they are encrypted, which HTTP they speak, and how they end. What they ask for is the
//! router's.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Request, Response, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::limits::Limits;
use super::patience::Patience;
use super::{Server, certificate, turned_true};

/// So many connections beyond the limit are told so; the next ones are closed unheard.
const SURPLUS: usize = 64;

/// After an accept that failed. It fails for want of files or memory, which take a moment to come back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The other end of a connection.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// The names of its verified certificate.
    pub(crate) names: Vec<String>,
    /// It is beyond the limit, and is told so whatever it asks.
    pub(crate) is_surplus: bool,
    /// A request of it has shown credentials.
    pub(crate) is_known: AtomicBool,
}

/// What every connection needs.
#[derive(Clone)]
struct Service {
    server: Arc<Server>,
    router: Router,
    tls: Option<TlsAcceptor>,
    ending: watch::Receiver<bool>,
}

/// Accepts until the server ends, and returns when every connection has: by itself, or cut off after its time.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    server: Arc<Server>,
    router: Router,
) {
    let limits = server.limits.clone();
    let places = Arc::new(Semaphore::new(limits.connections));
    let surplus = Arc::new(Semaphore::new(SURPLUS));
    let mut ending = server.ending.subscribe();
    let service = Service { ending: ending.clone(), server, router, tls };
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            // Connections that wait in the listener's queue are refused with it.
            () = turned_true(&mut ending) => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                let place = Arc::clone(&places).try_acquire_owned().map(|place| (place, false));
                let place =
                    place.or_else(|_| Arc::clone(&surplus).try_acquire_owned().map(|place| (place, true)));
                let Ok((place, is_surplus)) = place else {
                    service.server.metrics.refused("connections");
                    continue;
                };
                service.server.metrics.accepted();
                connections.spawn(service.clone().connection(stream, address, is_surplus, place));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    if timeout(limits.shutdown_time, all).await.is_err() {
        tracing::warn!(connections = connections.len(), "connections that did not end in time are cut off");
        connections.shutdown().await;
    }
}

impl Service {
    async fn connection(
        self,
        stream: TcpStream,
        address: SocketAddr,
        is_surplus: bool,
        place: OwnedSemaphorePermit,
    ) {
        let open = self.server.metrics.connections.clone();
        open.inc();
        let ended = self.speak(stream, address, is_surplus).await;
        open.dec();
        drop(place);
        if let Err(error) = ended {
            tracing::debug!(peer = %address, %error, "a connection broke off");
        }
    }

    async fn speak(&self, stream: TcpStream, address: SocketAddr, is_surplus: bool) -> io::Result<()> {
        // What is written is a whole window, or a sign of life: neither waits for company.
        stream.set_nodelay(true)?;
        let mut peer = Peer {
            address,
            names: Vec::new(),
            is_surplus,
            is_known: AtomicBool::new(self.server.guard.is_open() && !is_surplus),
        };
        let Some(tls) = &self.tls else { return self.http(stream, peer).await };
        let shaken = timeout(self.server.limits.handshake_time, tls.accept(stream)).await;
        let refused = |error| {
            self.server.metrics.refused("handshake");
            tracing::info!(peer = %address, error = %error, "a connection was refused: no TLS handshake");
            error
        };
        let stream = shaken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(refused)?;
        let chain = stream.get_ref().1.peer_certificates();
        peer.names =
            chain.and_then(|chain| chain.first()).map_or_else(Vec::new, |leaf| certificate::names(leaf));
        self.http(stream, peer).await
    }

    async fn http(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: Peer,
    ) -> io::Result<()> {
        let limits = &self.server.limits;
        let (peer, builder) = (Arc::new(peer), builder(limits));
        let router = TowerToHyperService::new(self.router.clone());
        let answer = service_fn(|mut request: Request<Incoming>| {
            request.extensions_mut().insert(Arc::clone(&peer));
            answer(router.clone(), request, peer.is_surplus)
        });
        let stream = Patience::new(stream, limits.header_time, limits.stalled_time);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), answer));
        let mut ending = self.ending.clone();
        // Who has not shown who he is by then has no business here; a health check asks once and goes.
        let mut unknown = pin!(sleep(limits.header_time * 2));
        let (mut is_looked_at, mut is_ending) = (false, false);
        loop {
            tokio::select! {
                biased;
                ended = connection.as_mut() => return ended.map_err(io::Error::other),
                () = turned_true(&mut ending), if !is_ending => {
                    is_ending = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = unknown.as_mut(), if !is_looked_at => {
                    is_looked_at = true;
                    if !peer.is_known.load(Ordering::Relaxed) {
                        connection.as_mut().graceful_shutdown();
                    }
                }
            }
        }
    }
}

async fn answer(
    router: TowerToHyperService<Router>,
    request: Request<Incoming>,
    is_surplus: bool,
) -> Result<Response<Body>, Infallible> {
    let is_http1 = request.version() < http::Version::HTTP_2;
    let mut response = hyper::service::Service::call(&router, request).await?;
    if is_surplus && is_http1 {
        response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    }
    Ok(response)
}

fn builder(limits: &Limits) -> auto::Builder<TokioExecutor> {
    // What is larger than the limit, but not much, is answered by a problem instead of a bare status.
    let header_bytes = limits.header_bytes.saturating_mul(2).max(16 << 10);
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_time)
        .max_buf_size(header_bytes);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_per_connection)
        .max_header_list_size(u32::try_from(header_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(limits.keep_alive)
        .keep_alive_timeout(limits.keep_alive);
    builder
}
