//! Encryption: the files that the settings name, read once, and what a refusal means.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
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

    /// Encrypts a connection.
    pub(crate) async fn connect(&self, relay: &Relay, stream: TcpStream) -> Result<Encrypted, ClientError> {
        let name = ServerName::try_from(relay.host.clone()).map_err(|_| ClientError::Encryption {
            relay: relay.to_string(),
            why: "its host is no name that a certificate can be for".into(),
            mend: "give a host name or an address",
        })?;
        let stream = self.0.connect(name, stream).await.map_err(|error| failed(relay, error))?;
        Ok(Encrypted { stream, noted: Noted::default() })
    }
}

/// An encrypted connection. A relay may refuse our certificate after we think that all is well: what it says then is
/// noted here, since HTTP does not pass it on.
pub(crate) struct Encrypted {
    stream: TlsStream<TcpStream>,
    noted: Noted,
}

/// What a relay said of an encrypted connection after its beginning.
#[derive(Clone, Default)]
pub(crate) struct Noted(Arc<Mutex<Option<Refusal>>>);

impl Noted {
    pub(crate) fn take(&self) -> Option<Refusal> {
        self.0.lock().expect("no holder panics").take()
    }
}

impl Encrypted {
    pub(crate) fn speaks_h2(&self) -> bool {
        self.stream.get_ref().1.alpn_protocol() == Some(PROTOCOLS[0])
    }

    pub(crate) fn refusal(&self) -> Noted {
        self.noted.clone()
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Poll::Ready(Err(error)) = &polled {
            *self.noted.0.lock().expect("no holder panics") = refusal(error);
        }
        polled
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
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

/// What of a failure does not mend itself.
pub(crate) struct Refusal {
    why: String,
    mend: &'static str,
}

impl Refusal {
    pub(crate) fn of(self, relay: &Relay) -> ClientError {
        ClientError::Encryption { relay: relay.to_string(), why: self.why, mend: self.mend }
    }
}

fn failed(relay: &Relay, error: io::Error) -> ClientError {
    match refusal(&error) {
        Some(refusal) => refusal.of(relay),
        None => ClientError::Unreachable { relay: relay.to_string(), source: error.into() },
    }
}

/// Whether an error is one about certificates, or between two who do not understand one another: those do not mend
/// themselves, anything else may.
fn refusal(error: &io::Error) -> Option<Refusal> {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>())?;
    let refused = |why: String, mend| Some(Refusal { why, mend });
    match inner {
        rustls::Error::InvalidCertificate(why) => {
            let mend = match why {
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    "give an address that the certificate is for"
                }
                CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                    "give the certificates of the authority that signed it as `tls_ca`"
                }
                _ => "give the relay a certificate that is valid today",
            };
            refused(format!("its certificate is refused: {why}"), mend)
        }
        rustls::Error::AlertReceived(alert) if *alert != AlertDescription::InternalError => refused(
            format!("it says {alert:?}"),
            "check `tls_certificate` and `tls_key` against the relay's `client_ca`",
        ),
        rustls::Error::PeerIncompatible(why) => {
            refused(format!("it knows no encryption that we know: {why:?}"), "let it speak TLS 1.2 or 1.3")
        }
        rustls::Error::InvalidMessage(_) => {
            refused("it does not speak TLS".into(), "write http:// if that is meant")
        }
        _ => None,
    }
}
