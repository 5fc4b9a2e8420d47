//! The relay's certificate, and whose client certificates are taken. What a client's name allows is the grants' matter.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use super::config::TlsConfig;
use super::error::RelayError;

/// Reads the files, and makes of them what accepts connections.
pub(crate) fn acceptor(config: &TlsConfig) -> Result<TlsAcceptor, RelayError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for both versions");
    let builder = match &config.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path, "client_ca")? {
                roots.add(certificate).map_err(|e| unusable("client_ca", path, e))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                // Who shows none may still have a token.
                .allow_unauthenticated()
                .build()
                .map_err(|e| unusable("client_ca", path, e))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let chain = certificates(&config.certificate, "certificate")?;
    let key = PrivateKeyDer::from_pem_file(&config.key).map_err(|e| unusable("key", &config.key, e))?;
    let mut server = builder
        .with_single_cert(chain, key)
        .map_err(|e| unusable("key", &config.key, format!("it does not fit the certificate: {e}")))?;
    // Every connection proves itself anew: they are few and long, and a certificate that has run out must not live on in
    // a session.
    server.send_tls13_tickets = 0;
    server.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(server)))
}

fn certificates(path: &Path, setting: &'static str) -> Result<Vec<CertificateDer<'static>>, RelayError> {
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|e| unusable(setting, path, e))?.collect();
    let found = found.map_err(|e| unusable(setting, path, e))?;
    match found.is_empty() {
        true => Err(unusable(setting, path, "it holds no certificate")),
        false => Ok(found),
    }
}

fn unusable(setting: &'static str, path: &Path, why: impl std::fmt::Display) -> RelayError {
    RelayError::Tls { setting, path: path.to_owned(), why: why.to_string() }
}
