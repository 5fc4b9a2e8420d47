//! The relay's table: where it listens, who may see what, how much at once, and the guests that subscribers may name.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tidemill_relay::TablePattern;
use toml::Spanned;

use super::units::{Bytes, Time};
use super::{Config, GuestConfig, SecretRef};

/// How the sources are served.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelayConfig {
    /// Where it listens; port 0 takes any free one, which the log names.
    #[serde(default = "loopback")]
    pub listen: SocketAddr,
    /// Its certificate; without one it listens on loopback only, unencrypted.
    pub tls: Option<RelayTlsConfig>,
    /// How much at once.
    #[serde(default)]
    pub limits: LimitsConfig,
    /// Who may see what. None: everybody on this machine may do everything, and nobody else anything.
    #[serde(default)]
    pub grant: Vec<Spanned<GrantConfig>>,
    /// Filters that subscribers may name.
    #[serde(default)]
    pub filter: BTreeMap<String, GuestConfig>,
    /// Projections that subscribers may name.
    #[serde(default)]
    pub projection: BTreeMap<String, GuestConfig>,
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7878))
}

/// The relay's own certificate, and whose clients it believes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelayTlsConfig {
    /// The certificate with its chain, a PEM file.
    pub certificate: PathBuf,
    /// Its key, a PEM file.
    pub key: PathBuf,
    /// The authorities that sign clients' certificates, a PEM file; needed where a grant names a certificate.
    pub client_ca: Option<PathBuf>,
}

/// How much at once; what is not given has the default of [`tidemill_relay::Limits`], which says what each one is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Connections.
    pub connections: Option<usize>,
    /// Streaming answers.
    pub subscriptions: Option<usize>,
    /// Streaming answers of one grant.
    pub subscriptions_per_grant: Option<usize>,
    /// Requests on one HTTP/2 connection.
    pub streams_per_connection: Option<u32>,
    /// The headers of a request.
    pub headers: Option<Bytes>,
    /// The body of a request.
    pub request: Option<Bytes>,
    /// For the TLS handshake.
    pub handshake_time: Option<Time>,
    /// For the headers.
    pub header_time: Option<Time>,
    /// For the answer's first byte.
    pub request_time: Option<Time>,
    /// For a reader that takes nothing.
    pub stalled_time: Option<Time>,
    /// Between signs of life of a silent connection.
    pub keep_alive: Option<Time>,
    /// For streams to end when the relay stops.
    pub shutdown_time: Option<Time>,
}

/// Who may see what.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantConfig {
    /// Its name, in logs and metrics.
    pub name: String,
    /// Whoever has this token, `{ env = "NAME" }` or `{ file = "PATH" }`.
    pub token: Option<SecretRef>,
    /// Whoever has a certificate with this common name or DNS name, signed by `tls.client_ca`.
    pub certificate: Option<String>,
    /// The sources, by name; `*` for all.
    pub sources: Vec<String>,
    /// The tables, as `database.table` or `database.*`; all of them unless given.
    #[serde(default)]
    pub tables: Vec<String>,
    /// Whether it may pause, resume and stop.
    #[serde(default)]
    pub admin: bool,
    /// Whether it may read `/metrics` and what `/healthz` says in full.
    #[serde(default)]
    pub metrics: bool,
}

/// What is wrong, and where if it is not the whole table.
type Wrong = (Option<Range<usize>>, String);

impl RelayConfig {
    /// Lets every relative path start at that directory.
    pub(super) fn based_on(&mut self, base: &Path) {
        if let Some(tls) = &mut self.tls {
            let own = [&mut tls.certificate, &mut tls.key];
            own.into_iter().chain(&mut tls.client_ca).for_each(|path| *path = base.join(&*path));
        }
        for grant in &mut self.grant {
            grant.get_mut().token.iter_mut().for_each(|token| token.based_on(base));
        }
    }

    pub(super) fn validate(&self, config: &Config) -> Result<(), Wrong> {
        let whole = |what: &str| Err((None, format!("relay: {what}")));
        let off_loopback = !self.listen.ip().is_loopback();
        if off_loopback && self.tls.is_none() {
            return whole("it listens off loopback and needs `tls = { certificate, key }`");
        }
        if off_loopback && self.grant.is_empty() {
            return whole(
                "it listens off loopback and needs at least one [[relay.grant]]: nobody is let in without",
            );
        }
        let guests = self.filter.iter().chain(&self.projection);
        for (name, guest) in guests {
            if let Err(what) = super::check_name(name) {
                return whole(&format!("guest `{name}`: {what}"));
            }
            if !guest.grants.is_empty() {
                return whole(&format!("guest `{name}`: only a consumer can be granted anything"));
            }
        }
        for (number, grant) in self.grant.iter().enumerate() {
            let given = grant.get_ref();
            let twice = self.grant[..number].iter().any(|other| other.get_ref().name == given.name);
            let checked = if twice { Err("there is another of that name".into()) } else { Ok(()) };
            if let Err(what) = checked.and_then(|()| given.validate(self, config)) {
                return Err((Some(grant.span()), format!("grant `{}`: {what}", given.name)));
            }
        }
        Ok(())
    }
}

impl GrantConfig {
    fn validate(&self, relay: &RelayConfig, config: &Config) -> Result<(), String> {
        super::check_name(&self.name)?;
        match (&self.token, &self.certificate) {
            (None, None) => {
                return Err("it needs a `token` or a `certificate`: by what else is anybody known?".into());
            }
            (Some(_), Some(_)) => {
                return Err("it has a `token` and a `certificate`; give each a grant of its own".into());
            }
            _ => {}
        }
        let client_ca = relay.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        if self.certificate.is_some() && !client_ca {
            return Err(
                "`certificate` needs `tls.client_ca`, the authorities that sign such certificates".into()
            );
        }
        let mut known: Vec<_> = config.source.keys().map(String::as_str).collect();
        known.push("*");
        if let Some(source) = self.sources.iter().find(|s| !known.contains(&s.as_str())) {
            return Err(super::unknown("source", source, &known));
        }
        match self.tables.iter().find(|t| TablePattern::parse(t).is_none()) {
            Some(table) => Err(format!("`{table}` is no table; write database.table or database.*")),
            None => Ok(()),
        }
    }
}
