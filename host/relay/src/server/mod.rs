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

mod config;
mod error;
mod limits;
mod metrics;
mod operator;
mod subscribers;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;

pub use config::{RelayConfig, TlsConfig};
pub use error::RelayError;
pub use limits::Limits;
pub use metrics::ServingMetrics;
pub use operator::{
    Activity, Health, OperateError, OperatedPart, Operator, SourceStatus, SubscriptionStatus,
};

use crate::served::{Guests, Served};

/// What a relay serves, and for whom.
pub struct RelayParts {
    /// The sources, each with its log.
    pub served: Vec<Served>,
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
}

impl Relay {
    /// Reads the certificates and begins to listen: connections wait from now on and are served by [`Relay::run`]. Needs
    /// a tokio runtime.
    pub fn new(config: RelayConfig, parts: RelayParts) -> Result<Relay, RelayError> {
        config.validate()?;
        let _ = (parts.served, parts.guests, parts.operator, parts.metrics);
        let failed = |source| RelayError::Listen { listen: config.listen, source };
        let listener = listen(config.listen).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Relay { listener, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is true, then ends in an orderly way (see the module).
    pub async fn run(self, mut stop: watch::Receiver<bool>) -> Result<(), RelayError> {
        // An operator that is gone has stopped.
        let _ = stop.wait_for(|stop| *stop).await;
        drop(self.listener);
        Ok(())
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").field("address", &self.address).finish_non_exhaustive()
    }
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
