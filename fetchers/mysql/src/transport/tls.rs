//! Which encryption is asked for, what a server must prove, and how a refusal reads. The bytes are the stream's.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, IpAddr, Ipv4Addr, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::options::{ServerOptions, Tls, TlsMode};
use crate::transport::TransportError;

/// What a connection is encrypted with.
pub(crate) struct Encryption {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) name: ServerName<'static>,
}

impl Encryption {
    /// Reads the files that the settings name. Asked only where the mode is not off.
    pub(crate) fn new(options: &ServerOptions) -> Result<Encryption, TransportError> {
        let tls = &options.tls;
        let provider = Arc::new(ring::default_provider());
        let verifier = verifier(tls, &provider)?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has suites for both versions")
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &tls.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let chain = certificates(&identity.certificate, "tls_certificate")?;
                let key = PrivateKeyDer::from_pem_file(&identity.key)
                    .map_err(|e| unreadable(&identity.key, "tls_key", e))?;
                builder.with_client_auth_cert(chain, key).map_err(|e| {
                    TransportError::setup(
                        format!("the key {} does not fit our certificate: {e}", identity.key.display()),
                        "give the key that the certificate was made for as `tls_key`",
                    )
                })?
            }
        };
        // Every connection proves itself anew: sessions are few and long.
        config.resumption = rustls::client::Resumption::disabled();
        let name = match ServerName::try_from(options.host.clone()) {
            Ok(name) => name,
            Err(_) if tls.mode == TlsMode::VerifyIdentity => {
                return Err(TransportError::setup(
                    format!("`{}` is no name that a certificate can be for", options.host),
                    "give a host name or an address as `host`",
                ));
            }
            Err(_) => {
                config.enable_sni = false;
                ServerName::IpAddress(IpAddr::V4(Ipv4Addr::from([0, 0, 0, 0])))
            }
        };
        Ok(Encryption { config: Arc::new(config), name })
    }
}

fn verifier(tls: &Tls, provider: &Arc<CryptoProvider>) -> Result<Arc<Verifier>, TransportError> {
    let algorithms = provider.signature_verification_algorithms;
    if !tls.mode.verifies() {
        return Ok(Arc::new(Verifier { algorithms, roots: None, checks_name: false }));
    }
    let Some(ca) = &tls.ca else {
        return Err(TransportError::setup(
            "the server's certificate is to be verified, and no authority is trusted".to_owned(),
            "give the certificates of the authority that signed it as `tls_ca`, a PEM file",
        ));
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca, "tls_ca")? {
        roots.add(certificate).map_err(|e| unreadable(ca, "tls_ca", e))?;
    }
    let checks_name = tls.mode == TlsMode::VerifyIdentity;
    Ok(Arc::new(Verifier { algorithms, roots: Some(roots), checks_name }))
}

fn certificates(path: &Path, setting: &str) -> Result<Vec<CertificateDer<'static>>, TransportError> {
    let certificates: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|e| unreadable(path, setting, e))?.collect();
    let certificates = certificates.map_err(|e| unreadable(path, setting, e))?;
    match certificates.is_empty() {
        true => Err(unreadable(path, setting, "it holds no certificate")),
        false => Ok(certificates),
    }
}

fn unreadable(path: &Path, setting: &str, why: impl std::fmt::Display) -> TransportError {
    TransportError::setup(
        format!("{} cannot be used: {why}", path.display()),
        format!("give a readable PEM file as `{setting}`"),
    )
}

/// What a server must prove. That it holds the key of the certificate which it shows, it proves in every mode.
#[derive(Debug)]
struct Verifier {
    algorithms: WebPkiSupportedAlgorithms,
    /// `None`: any certificate will do.
    roots: Option<RootCertStore>,
    checks_name: bool,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(roots) = &self.roots {
            let parsed = ParsedCertificate::try_from(certificate)?;
            rustls::client::verify_server_cert_signed_by_trust_anchor(
                &parsed,
                roots,
                chain,
                now,
                self.algorithms.all,
            )?;
            if self.checks_name {
                rustls::client::verify_server_name(&parsed, name)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// What a failed read or write means: a certificate that is refused does not mend itself, anything else may.
pub(crate) fn failure(error: io::Error, options: &ServerOptions) -> TransportError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let server = format!("{}:{}", options.host, options.port);
    match inner {
        Some(rustls::Error::InvalidCertificate(why)) => refused_certificate(why, &server, &options.tls),
        Some(rustls::Error::AlertReceived(alert)) => TransportError::setup(
            format!("the server {server} refuses the encrypted connection: it says {alert:?}"),
            "check `tls_certificate` and `tls_key` against what the server trusts (ssl_ca), and its tls_version",
        ),
        Some(rustls::Error::PeerIncompatible(why)) => TransportError::setup(
            format!("the server {server} knows no encryption that we know: {why:?}"),
            "let the server speak TLS 1.2 or 1.3 (tls_version)",
        ),
        _ => TransportError::Lost(error),
    }
}

fn refused_certificate(why: &CertificateError, server: &str, tls: &Tls) -> TransportError {
    let ca = tls.ca.as_ref().map_or_else(String::new, |ca| ca.display().to_string());
    match why {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            TransportError::setup(
                format!("the certificate of {server} is for another host: {why}"),
                "give a host that the certificate is for as `host`, or ask for less with `tls = \"verify-ca\"`",
            )
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => TransportError::setup(
            format!("the certificate of {server} is signed by nobody whom {ca} names: {why}"),
            "give the certificates of the authority that signed it as `tls_ca`",
        ),
        why => TransportError::setup(
            format!("the certificate of {server} is refused: {why}"),
            "give the server a certificate of version 3 that is valid today and is no authority's own",
        ),
    }
}
