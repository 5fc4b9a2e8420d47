//! What a relay's serving side is told, and what of it cannot be. Files and environment were read before, but for the
//! certificates.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::error::RelayError;
use super::limits::Limits;
use crate::grant::{Credential, Grant, TokenDigest};

/// The settings.
#[derive(Clone, Debug)]
pub struct RelayConfig {
    /// Where it listens. Port 0: any free one, see [`Relay::address`](super::Relay::address).
    pub listen: SocketAddr,
    /// Its certificate. `None`: it speaks plainly, which is allowed on a loopback address only.
    pub tls: Option<TlsConfig>,
    /// Who may see and do what. Empty: on a loopback address everybody may do everything; elsewhere it does not start.
    pub grants: Vec<Grant>,
    /// What is bounded.
    pub limits: Limits,
}

impl RelayConfig {
    /// The defaults: plain, nobody is asked who they are.
    pub fn new(listen: SocketAddr) -> RelayConfig {
        RelayConfig { listen, tls: None, grants: Vec::new(), limits: Limits::default() }
    }

    /// Whether the settings fit together. Names what does not, and how to mend it.
    pub fn validate(&self) -> Result<(), RelayError> {
        let is_local = self.listen.ip().is_loopback();
        if !is_local && (self.tls.is_none() || self.grants.is_empty()) {
            return Err(RelayError::Open { listen: self.listen });
        }
        let (mut names, mut tokens) = (HashSet::new(), Vec::<&TokenDigest>::new());
        for grant in &self.grants {
            let why = if !names.insert(&grant.name) {
                "another grant has its name; give each its own"
            } else {
                match &grant.credential {
                    Credential::Token(token) if tokens.iter().any(|other| other.is(token)) => {
                        "another grant has its token; give each its own, so that one can be withdrawn alone"
                    }
                    Credential::Token(token) if token.is(&TokenDigest::of("")) => {
                        "its token is empty; give it at least 32 random characters"
                    }
                    Credential::Token(token) => {
                        tokens.push(token);
                        continue;
                    }
                    Credential::Certificate(_)
                        if self.tls.as_ref().is_none_or(|tls| tls.client_ca.is_none()) =>
                    {
                        "it is for a client certificate, and no authority is trusted with them; set `client_ca` in `tls`"
                    }
                    Credential::Certificate(_) => continue,
                }
            };
            return Err(RelayError::Grant { name: grant.name.clone(), why });
        }
        Ok(())
    }
}

/// Files in PEM, read when the relay is made. Keys are never logged.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// The relay's certificate, followed by those of the authorities between it and the one that clients trust.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The authority whose client certificates are taken as credentials. A client without a certificate may still show
    /// a token; one whose certificate is not the authority's is refused in the handshake.
    pub client_ca: Option<PathBuf>,
}
