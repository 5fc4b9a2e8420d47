//! Encryption: the files that the settings name, read once, and what a refusal means.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::error::ClientError;
use super::options::{ClientTls, Relay};

/// The protocols that are offered, best first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Encrypts connections.
#[derive(Clone)]
pub(crate) struct Encryption(TlsConnector);

impl Encryption {
    /// Reads the files.
    pub(crate) fn new(tls: &ClientTls) -> Result<Encryption, ClientError> {
        let Some(ca) = &tls.ca else {
            return Err(ClientError::Setup {
                what: "a relay is reached by https, and no authority is trusted with its certificate".into(),
                mend: "give the certificates of the authority that signed it as `tls_ca`, a PEM file".into(),
            });
        };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(ca, "tls_ca")? {
            roots.add(certificate).map_err(|e| unusable(ca, "tls_ca", e))?;
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has suites for both versions")
            .with_root_certificates(roots);
        let mut config = match &tls.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates(certificate, "tls_certificate")?;
                let secret = PrivateKeyDer::from_pem_file(key).map_err(|e| unusable(key, "tls_key", e))?;
                builder.with_client_auth_cert(chain, secret).map_err(|e| unusable(key, "tls_key", e))?
            }
        };
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        Ok(Encryption(TlsConnector::from(Arc::new(config))))
    }

    /// Encrypts a connection; says whether it speaks HTTP/2.
    pub(crate) async fn connect(
        &self,
        relay: &Relay,
        stream: TcpStream,
    ) -> Result<(TlsStream<TcpStream>, bool), ClientError> {
        let name = ServerName::try_from(relay.host.clone()).map_err(|_| ClientError::Encryption {
            relay: relay.to_string(),
            why: "its host is no name that a certificate can be for".into(),
            mend: "give a host name or an address",
        })?;
        let stream = self.0.connect(name, stream).await.map_err(|error| failed(relay, error))?;
        let speaks_h2 = stream.get_ref().1.alpn_protocol() == Some(PROTOCOLS[0]);
        Ok((stream, speaks_h2))
    }
}

fn certificates(path: &Path, setting: &str) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let all = read.map_err(|e| unusable(path, setting, e))?;
    match all.is_empty() {
        true => Err(unusable(path, setting, "it holds no certificate")),
        false => Ok(all),
    }
}

fn unusable(path: &Path, setting: &str, why: impl std::fmt::Display) -> ClientError {
    ClientError::Setup {
        what: format!("`{setting}` {} cannot be used: {why}", path.display()),
        mend: "give a readable PEM file".into(),
    }
}

/// A certificate that is refused does not mend itself, anything else may.
pub(crate) fn failed(relay: &Relay, error: io::Error) -> ClientError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let refused = |why: String, mend| ClientError::Encryption { relay: relay.to_string(), why, mend };
    match inner {
        Some(rustls::Error::InvalidCertificate(why)) => refused(
            format!("its certificate is refused: {why}"),
            match why {
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    "give an address that the certificate is for"
                }
                CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                    "give the certificates of the authority that signed it as `tls_ca`"
                }
                _ => "give the relay a certificate that is valid today",
            },
        ),
        Some(rustls::Error::AlertReceived(alert)) => refused(
            format!("it says {alert:?}"),
            "check `tls_certificate` and `tls_key` against the relay's `client_ca`",
        ),
        Some(rustls::Error::PeerIncompatible(why)) => {
            refused(format!("it knows no encryption that we know: {why:?}"), "let it speak TLS 1.2 or 1.3")
        }
        Some(rustls::Error::InvalidMessage(_)) => {
            refused("it does not speak TLS".into(), "write http:// if that is meant")
        }
        _ => ClientError::Unreachable { relay: relay.to_string(), source: error.into() },
    }
}
