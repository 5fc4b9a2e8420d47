//! Why a relay does not serve. What goes wrong with one request is a [`Problem`](crate::Problem).

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use tidemill_event::Remedy;

/// Why a relay could not be made, or stopped serving.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// Others than this machine could reach it without proving who they are, or could listen.
    #[error(
        "the relay would listen on {listen}, which other machines reach, without both `tls` and at least one `grant`; \
         give it both, or let it listen on a loopback address such as 127.0.0.1"
    )]
    Open {
        /// Where it would listen.
        listen: SocketAddr,
    },
    /// A grant cannot hold.
    #[error("grant \"{name}\": {why}")]
    Grant {
        /// Which one.
        name: String,
        /// What is wrong and how to mend it.
        why: &'static str,
    },
    /// A PEM file cannot be used.
    #[error("`{setting}` {}: {why}; give a readable PEM file", .path.display())]
    Tls {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it; never its content.
        why: String,
    },
    /// The address cannot be listened on.
    #[error("listen on {listen}; free the address, or give another one as `listen`")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// Why not.
        source: io::Error,
    },
}

impl RelayError {
    /// What now.
    pub fn remedy(&self) -> Remedy {
        Remedy::Fix
    }
}
