//! The relay itself, in this process, and certificates for it.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tidemill_log::Log;
use tidemill_relay::{Nobody, Relay, RelayConfig, RelayError, RelayParts, Served, ServingMetrics, TlsConfig};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A relay that serves one log as source `shop`.
pub struct Real {
    pub url: String,
    pub stop: watch::Sender<bool>,
    pub ended: JoinHandle<Result<(), RelayError>>,
}

/// Without grants, on this machine only.
pub fn local() -> RelayConfig {
    RelayConfig::new("127.0.0.1:0".parse().unwrap())
}

impl Real {
    pub fn new(log: &Log, config: RelayConfig) -> Real {
        let scheme = if config.tls.is_some() { "https" } else { "http" };
        let parts = RelayParts {
            served: vec![Served { name: "shop".into(), log: log.clone() }],
            snapshots: vec![],
            guests: Arc::new(Nobody),
            operator: Arc::new(Nobody),
            metrics: ServingMetrics::default(),
        };
        let relay = Relay::new(config, parts).unwrap();
        let (url, stop) = (format!("{scheme}://{}", relay.address()), watch::Sender::new(false));
        let ended = tokio::spawn(relay.run(stop.subscribe()));
        Real { url, stop, ended }
    }

    /// Ends it in good order.
    pub async fn end(self) {
        self.stop.send_replace(true);
        self.ended.await.unwrap().unwrap();
    }
}

/// An authority and what it signs, as PEM files.
pub struct Authority {
    directory: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Authority {
        let directory = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(directory.path().join("ca.pem"), certificate.pem()).unwrap();
        Authority { directory, issuer: Issuer::new(params, key) }
    }

    pub fn ca(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// Certificate and key for a host, or of a client.
    pub fn sign(&self, name: &str) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let write = |end: &str, text: String| {
            let path = Path::new(self.directory.path()).join(format!("{}.{end}.pem", name.replace(':', "_")));
            std::fs::write(&path, text).unwrap();
            path
        };
        (write("certificate", certificate.pem()), write("key", key.serialize_pem()))
    }

    /// A relay's settings on this machine's address.
    pub fn relay(&self) -> RelayConfig {
        let (certificate, key) = self.sign("127.0.0.1");
        let mut config = local();
        config.tls = Some(TlsConfig { certificate, key, client_ca: Some(self.ca()) });
        config
    }
}
