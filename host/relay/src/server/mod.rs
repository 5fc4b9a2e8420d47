//! The HTTP server: who is let in, what they may see, which answer they get. What an answer to `changes` holds is made
//! elsewhere; so is everything that an operator looks at.
//!
//! ```text
//! accept ─▶ TLS ─▶ HTTP/1.1 or 2 ─▶ guard ─────────────────▶ route ─▶ answer
//! limits    names of the             host, credentials,      sources, changes, admin,
//!           certificate              limits, time            metrics, health
//! ```
//!
//! The order of an orderly end, each step for the sake of the next:
//! 1. Nobody new is let in, so that the number of streams only falls.
//! 2. Streams are told to end; each ends at the next window boundary, so that no client discards what it has.
//! 3. Connections without a request are closed, the others after their answer.
//! 4. What is left after `shutdown_time` is cut off: a client that takes nothing must not hold the process.

mod accept;
mod admin;
mod ask;
mod caller;
mod catalogue;
mod certificate;
mod changes;
mod config;
mod error;
mod lag;
mod limits;
mod metrics;
mod operator;
mod patience;
mod respond;
mod routes;
mod subscribers;
mod time;
mod tls;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

pub use config::{RelayConfig, TlsConfig};
pub use error::RelayError;
pub use limits::Limits;
pub use metrics::ServingMetrics;
pub use operator::{
    Activity, ComparisonAsked, Health, OperateError, OperatedPart, Operator, SourceStatus, SubscriptionStatus,
};

use self::ask::shown;
use self::caller::{Caller, Guard};
use crate::answer::{AnswerConfig, Answers};
use crate::problem::{Code, Problem};
use crate::served::{Guests, Served};
use crate::snapshots::SnapshotsServed;

/// What a relay serves, and for whom.
pub struct RelayParts {
    /// The sources, each with its log.
    pub served: Vec<Served>,
    /// Snapshot storage, of these or other sources.
    pub snapshots: Vec<SnapshotsServed>,
    /// The guests that subscriptions may name.
    pub guests: Arc<dyn Guests>,
    /// The process.
    pub operator: Arc<dyn Operator>,
    /// Where serving is counted; registered in the operator's registry, or `ServingMetrics::default()`.
    pub metrics: ServingMetrics,
}

/// A relay that listens, and serves while it runs.
pub struct Relay {
    listener: tokio::net::TcpListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    server: Arc<Server>,
}

/// What every request may need.
pub(crate) struct Server {
    served: Vec<Served>,
    snapshots: Vec<SnapshotsServed>,
    guests: Arc<dyn Guests>,
    operator: Arc<dyn Operator>,
    answers: Answers,
    guard: Guard,
    limits: Limits,
    metrics: ServingMetrics,
    /// Turns true when the relay ends.
    ending: watch::Sender<bool>,
}

impl Relay {
    /// Reads the certificates and begins to listen: connections wait from now on and are served by [`Relay::run`]. Needs
    /// a tokio runtime.
    pub fn new(config: RelayConfig, parts: RelayParts) -> Result<Relay, RelayError> {
        config.validate()?;
        let tls = config.tls.as_ref().map(tls::acceptor).transpose()?;
        let failed = |source| RelayError::Listen { listen: config.listen, source };
        let listener = listen(config.listen).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let RelayParts { served, snapshots, guests, operator, metrics } = parts;
        let answers = Answers::new(Arc::clone(&guests), AnswerConfig::default());
        metrics.serve(&served, &answers);
        let server = Server {
            served,
            snapshots,
            guests,
            operator,
            answers,
            guard: Guard::new(config.grants),
            limits: config.limits,
            metrics,
            ending: watch::Sender::new(false),
        };
        Ok(Relay { listener, address, tls, server: Arc::new(server) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is true, or its sender is gone; then ends in an orderly way (see the module).
    pub async fn run(self, mut stop: watch::Receiver<bool>) -> Result<(), RelayError> {
        let Relay { listener, address, tls, server } = self;
        tracing::info!(%address, encrypted = tls.is_some(), "the relay serves");
        let router = routes::router(Arc::clone(&server));
        let mut serving = std::pin::pin!(accept::serve(listener, tls, Arc::clone(&server), router));
        tokio::select! {
            () = serving.as_mut() => {}
            () = turned_true(&mut stop) => {
                server.ending.send_replace(true);
                serving.await;
            }
        }
        tracing::info!(%address, "the relay has ended");
        Ok(())
    }
}

impl Server {
    /// A source that the caller may read. Whoever may not read it does not learn whether it is there.
    fn source(&self, caller: &Caller, name: &str) -> Result<&Served, Problem> {
        granted(caller, name)?;
        self.served.iter().find(|served| served.name == name).ok_or_else(|| {
            let detail =
                format!("no source is named \"{}\"; GET /v1/sources for those that there are", shown(name));
            Problem::new(Code::UnknownSource, detail)
        })
    }

    /// The snapshot storage of a source that the caller may read.
    fn snapshots(&self, caller: &Caller, name: &str) -> Result<&SnapshotsServed, Problem> {
        granted(caller, name)?;
        self.snapshots.iter().find(|served| served.source == name).ok_or_else(|| {
            let detail = format!(
                "there is no snapshot storage of a source named \"{}\" here; ask a relay that has it, or set `store` of \
                 `[source.bootstrap]`",
                shown(name)
            );
            Problem::new(Code::UnknownSource, detail)
        })
    }

    fn check_going_on(&self) -> Result<(), Problem> {
        match *self.ending.borrow() {
            false => Ok(()),
            true => {
                Err(Problem::new(Code::ShuttingDown, "this relay is going down; ask another relay, or later"))
            }
        }
    }
}

fn granted(caller: &Caller, source: &str) -> Result<(), Problem> {
    if caller.reads(source) {
        return Ok(());
    }
    let detail = format!(
        "the source \"{}\" is not granted; ask for another, or have the grant widened",
        shown(source)
    );
    Err(Problem::new(Code::NotGranted, detail))
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Returns when it is true. One whose sender is gone is.
async fn turned_true(signal: &mut watch::Receiver<bool>) {
    let _ = signal.wait_for(|is_true| *is_true).await;
}

/// As many as subscribers that all come back at once, after a restart.
const BACKLOG: u32 = 1024;

fn listen(address: SocketAddr) -> std::io::Result<tokio::net::TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
        SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
    };
    // A restart need not wait for the connections of the process before it.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests;
