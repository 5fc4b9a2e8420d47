//! Signing in on real servers, and on a stand-in for what a server cannot be made to ask for here: every plugin, every
//! degree of encryption, and every refusal with what mends it.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use support::all;
use tidemill_fetchers_api::conformance::{self, Seen};
use tidemill_fetchers_api::{FetchError, Start};
use tidemill_fetchers_mysql::{
    FileOptions, MySqlFetcher, Origin, Password, ServerOptions, TlsIdentity, TlsMode,
};
use tidemill_servers::{Kind, Options, Server};

/// An authority, what it has signed, and where the files are.
struct Authority {
    directory: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new(directory: &Path, name: &str) -> Authority {
        let directory = directory.join(name);
        std::fs::create_dir(&directory).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(directory.join("ca.pem"), issuer.pem()).unwrap();
        Authority { directory, issuer }
    }

    fn ca(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    /// A certificate for a host, or for a client.
    fn sign(&self, name: &str) -> TlsIdentity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let files = TlsIdentity {
            certificate: self.directory.join(format!("{name}.pem")),
            key: self.directory.join(format!("{name}.key")),
        };
        std::fs::write(&files.certificate, certificate.pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }
}

fn with_certificate(authority: &Authority, identity: &TlsIdentity) -> Options {
    Options::default()
        .argument(format!("--ssl-ca={}", authority.ca().display()))
        .argument(format!("--ssl-cert={}", identity.certificate.display()))
        .argument(format!("--ssl-key={}", identity.key.display()))
}

fn user(server: &Server, mode: TlsMode) -> ServerOptions {
    account(server, Server::USER, server.user_password(), mode)
}

fn account(server: &Server, name: &str, password: &str, mode: TlsMode) -> ServerOptions {
    let mut options = ServerOptions::new("localhost", server.port(), name, Password::new(password));
    options.tls.mode = mode;
    options
}

async fn read(options: ServerOptions, transactions: usize) -> Result<Seen, FetchError> {
    let mut fetcher = MySqlFetcher::open("test", Origin::Server(options), Start::Earliest, all()).await?;
    conformance::read(&mut fetcher, transactions).await
}

async fn refusal(options: ServerOptions) -> String {
    match read(options, 1).await {
        Err(error @ FetchError::Setup { .. }) => error.to_string(),
        Err(error) => panic!("{error:?}"),
        Ok(_) => panic!("it was let in"),
    }
}

const SQL: &str = "CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, v LONGTEXT); \
     INSERT INTO d.t VALUES (1, REPEAT('x', 17000000)); ALTER USER tidemill REQUIRE SSL";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l85_every_degree_of_encryption_reads_the_same_and_a_wrong_authority_or_host_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path(), "good");
    let other = Authority::new(directory.path(), "other");
    let certificate = authority.sign("localhost");
    for kind in Kind::EVERY {
        let server = Server::start(kind, with_certificate(&authority, &certificate)).await.unwrap();
        server.sql(SQL).await.unwrap();
        let files = Origin::Files(FileOptions::directory(server.datadir(), "binlog"));
        let mut files = MySqlFetcher::open("test", files, Start::Earliest, all()).await.unwrap();
        let disk = conformance::read(&mut files, usize::MAX).await.unwrap();
        for mode in [TlsMode::Prefer, TlsMode::Require, TlsMode::VerifyCa, TlsMode::VerifyIdentity] {
            let mut options = user(&server, mode);
            options.tls.ca = Some(authority.ca());
            let seen = read(options, disk.transactions.len()).await.unwrap();
            assert!(seen.transactions == disk.transactions, "{kind}: {mode:?}");
        }
        // The account wants encryption: whoever got in above had it.
        assert!(refusal(user(&server, TlsMode::Off)).await.contains("Access denied"), "{kind}");

        let mut wrong = user(&server, TlsMode::VerifyCa);
        wrong.tls.ca = Some(other.ca());
        let said = refusal(wrong).await;
        assert!(said.contains("signed by nobody") && said.contains("tls_ca"), "{kind}: {said}");

        let mut wrong = user(&server, TlsMode::VerifyIdentity);
        wrong.host = "127.0.0.1".to_owned();
        wrong.tls.ca = Some(authority.ca());
        let said = refusal(wrong.clone()).await;
        assert!(said.contains("for another host") && said.contains("verify-ca"), "{kind}: {said}");
        wrong.tls.mode = TlsMode::VerifyCa;
        assert!(read(wrong, 1).await.is_ok(), "{kind}: the authority alone is asked for");

        let said = refusal(user(&server, TlsMode::VerifyCa)).await;
        assert!(said.contains("`tls_ca`"), "{kind}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l85_an_account_that_needs_a_certificate_is_let_in_with_one_of_the_server_s_authority() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path(), "good");
    let other = Authority::new(directory.path(), "other");
    let certificate = authority.sign("localhost");
    let (own, foreign) = (authority.sign("reader"), other.sign("reader"));
    for kind in Kind::ALL {
        let server = Server::start(kind, with_certificate(&authority, &certificate)).await.unwrap();
        server.sql("ALTER USER tidemill REQUIRE X509; CREATE DATABASE d").await.unwrap();
        let mut options = user(&server, TlsMode::VerifyIdentity);
        options.tls.ca = Some(authority.ca());
        assert!(refusal(options.clone()).await.contains("Access denied"), "{kind}");
        options.tls.identity = Some(own.clone());
        assert!(read(options.clone(), 1).await.is_ok(), "{kind}");
        options.tls.identity = Some(foreign.clone());
        let said = match read(options.clone(), 1).await {
            Err(error) => error.to_string(),
            Ok(_) => panic!("{kind}: it was let in"),
        };
        assert!(said.contains("tls_certificate") || said.contains("Access denied"), "{kind}: {said}");
        options.tls.identity = Some(TlsIdentity { key: "nowhere.key".into(), ..own.clone() });
        let said = refusal(options).await;
        assert!(said.contains("nowhere.key") && said.contains("tls_key"), "{kind}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l85_a_server_without_encryption_is_refused_where_it_is_required_and_one_that_requires_it_says_so() {
    for kind in Kind::ALL {
        let off = if kind.is_mysql() { "--tls-version=" } else { "--skip-ssl" };
        let server = Server::start(kind, Options::default().argument(off)).await.unwrap();
        server.sql("CREATE DATABASE d").await.unwrap();
        let said = refusal(user(&server, TlsMode::Require)).await;
        assert!(said.contains("offers no encryption"), "{kind}: {said}");
        assert!(read(user(&server, TlsMode::Prefer), 1).await.is_ok(), "{kind}");
    }
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path(), "good");
    let certificate = authority.sign("localhost");
    for kind in Kind::ALL {
        let server = Server::start(kind, with_certificate(&authority, &certificate)).await.unwrap();
        server.sql("CREATE DATABASE d; SET GLOBAL require_secure_transport = ON").await.unwrap();
        let said = refusal(user(&server, TlsMode::Off)).await;
        assert!(said.contains("tls = \"require\""), "{kind}: {said}");
        assert!(read(user(&server, TlsMode::Require), 1).await.is_ok(), "{kind}");
    }
}

/// A server keeps the password's hash after the first sign-in: the second is the short one, until it forgets.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l85_caching_sha2_signs_in_the_long_and_the_short_way_with_and_without_encryption() {
    let server = Server::start(Kind::MySql, Options::default()).await.unwrap();
    server
        .sql("CREATE DATABASE d; CREATE USER reader IDENTIFIED WITH caching_sha2_password BY 'with ''é'; GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO reader")
        .await
        .unwrap();
    for mode in [TlsMode::Off, TlsMode::Require] {
        server.sql("FLUSH PRIVILEGES").await.unwrap();
        for round in 1..=2 {
            let seen = read(account(&server, "reader", "with 'é", mode), 1).await;
            assert!(seen.is_ok(), "{mode:?}, {round}: {:?}", seen.err());
        }
        server.sql("FLUSH PRIVILEGES").await.unwrap();
        assert!(refusal(account(&server, "reader", "wrong", mode)).await.contains("Access denied"));
    }
    // The certificate that the server made for itself names no host.
    let mut own = user(&server, TlsMode::VerifyCa);
    own.tls.ca = Some(server.datadir().join("ca.pem"));
    assert!(read(own.clone(), 1).await.is_ok());
    own.tls.mode = TlsMode::VerifyIdentity;
    assert!(refusal(own).await.contains("for another host"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l85_ed25519_and_parsec_sign_in_after_a_switch() {
    let options = Options::default()
        .argument("--plugin-load-add=auth_ed25519")
        .argument("--plugin-load-add=auth_parsec");
    let server = Server::start(Kind::MariaDb118, options).await.unwrap();
    server
        .sql(
            "CREATE DATABASE d; CREATE USER e IDENTIFIED VIA ed25519 USING PASSWORD('se''cret'), p IDENTIFIED VIA parsec USING PASSWORD('se''cret'), \
             n IDENTIFIED VIA mysql_native_password USING PASSWORD('se''cret'); \
             GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO e, p, n",
        )
        .await
        .unwrap();
    for name in ["e", "p", "n"] {
        for mode in [TlsMode::Off, TlsMode::Require] {
            let seen = read(account(&server, name, "se'cret", mode), 1).await;
            assert!(seen.is_ok(), "{name}, {mode:?}: {:?}", seen.err());
            assert!(refusal(account(&server, name, "wrong", mode)).await.contains("Access denied"), "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l85_a_replica_is_listed_by_name_while_it_reads() {
    for kind in Kind::EVERY {
        let server = Server::start(kind, Options::default()).await.unwrap();
        server.sql("CREATE DATABASE d").await.unwrap();
        let mut options = user(&server, TlsMode::Off);
        options.server_id = Some(77);
        let origin = Origin::Server(options);
        let mut fetcher = MySqlFetcher::open("test", origin, Start::Earliest, all()).await.unwrap();
        conformance::read(&mut fetcher, 1).await.unwrap();
        let query = if kind.is_mysql() { "SHOW REPLICAS" } else { "SHOW SLAVE HOSTS" };
        let rows = server.rows(query).await.unwrap();
        let listed: Vec<(u32, String)> =
            rows.iter().map(|row| (row.get(0).unwrap(), row.get(1).unwrap())).collect();
        assert_eq!(listed, [(77, "tidemill".to_owned())], "{kind}");
    }
}

/// A server that greets, asks for a plugin, and notes what it is given. Everything else it does not know.
struct StandIn {
    port: u16,
    given: std::thread::JoinHandle<Vec<u8>>,
}

trait Wire: Read + Write {}
impl<T: Read + Write> Wire for T {}

fn send(stream: &mut dyn Wire, sequence: u8, payload: &[u8]) {
    let mut packet = (payload.len() as u32).to_le_bytes();
    packet[3] = sequence;
    stream.write_all(&[&packet, payload].concat()).unwrap();
    stream.flush().unwrap();
}

/// Nothing where the client went away.
fn receive(stream: &mut dyn Wire) -> Vec<u8> {
    let mut head = [0; 4];
    if stream.read_exact(&mut head).is_err() {
        return Vec::new();
    }
    let mut payload = vec![0; u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize];
    stream.read_exact(&mut payload).unwrap();
    payload
}

impl StandIn {
    fn start(plugin: &'static str, certificate: Option<TlsIdentity>) -> StandIn {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let given = std::thread::spawn(move || {
            let (mut tcp, _) = listener.accept().unwrap();
            let low = 0x8200u16 | if certificate.is_some() { 1 << 11 } else { 0 };
            let high = (1u32 << 19 >> 16) as u16;
            let mut greeting = vec![10];
            greeting.extend_from_slice(b"8.0.99\0\x01\0\0\0AAAAAAAA\0");
            greeting.extend_from_slice(&low.to_le_bytes());
            greeting.extend_from_slice(&[45, 2, 0]);
            greeting.extend_from_slice(&high.to_le_bytes());
            greeting.extend_from_slice(&[21, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            greeting.extend_from_slice(b"AAAAAAAAAAAA\0mysql_native_password\0");
            send(&mut tcp, 0, &greeting);
            receive(&mut tcp);
            match certificate {
                None => talk(&mut tcp, 2, plugin),
                Some(identity) => {
                    let mut stream = encrypted(tcp, &identity);
                    receive(&mut stream);
                    talk(&mut stream, 3, plugin)
                }
            }
        });
        StandIn { port, given }
    }

    fn options(&self, mode: TlsMode) -> ServerOptions {
        let mut options = ServerOptions::new("localhost", self.port, "token", Password::new("a token"));
        options.tls.mode = mode;
        options
    }
}

fn encrypted(tcp: TcpStream, identity: &TlsIdentity) -> impl Wire {
    let chain = CertificateDer::pem_file_iter(&identity.certificate).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(&identity.key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    rustls::StreamOwned::new(rustls::ServerConnection::new(Arc::new(config)).unwrap(), tcp)
}

/// Asks for the plugin, and lets nobody in.
fn talk(stream: &mut dyn Wire, sequence: u8, plugin: &str) -> Vec<u8> {
    send(stream, sequence, &[&[0xfe], plugin.as_bytes(), &[0]].concat());
    let given = receive(stream);
    if !given.is_empty() {
        send(stream, sequence + 2, b"\xff\x15\x04#28000Access denied for all");
    }
    given
}

/// By hand: no server here can be made to ask for a token.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l85_a_password_goes_out_as_it_is_only_where_that_was_asked_for_and_the_server_proved_itself() {
    const PLUGIN: &str = "mysql_clear_password";
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path(), "good");
    let certificate = authority.sign("localhost");
    for (mode, asked, encrypts, says) in [
        (TlsMode::Off, false, false, "cleartext_password = true"),
        (TlsMode::Off, true, false, "verify-identity"),
        (TlsMode::Prefer, true, true, "verify-identity"),
        (TlsMode::VerifyIdentity, false, true, "cleartext_password = true"),
        (TlsMode::VerifyIdentity, true, true, "Access denied for all"),
    ] {
        let server = StandIn::start(PLUGIN, encrypts.then(|| certificate.clone()));
        let mut options = server.options(mode);
        options.tls.ca = Some(authority.ca());
        options.cleartext_password = asked;
        let said = refusal(options).await;
        assert!(said.contains(says), "{mode:?}: {said}");
        let given = server.given.join().unwrap();
        let expected: &[u8] = if says.starts_with("Access") { b"a token\0" } else { b"" };
        assert_eq!(given, expected, "{mode:?}");
    }
}

/// By hand: the plugins of the servers here are all known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l85_an_unknown_plugin_is_named_with_what_to_use_instead() {
    let server = StandIn::start("authentication_kerberos_client", None);
    let said = refusal(server.options(TlsMode::Off)).await;
    for part in ["`token`", "authentication_kerberos_client", "caching_sha2_password"] {
        assert!(said.contains(part), "{said}");
    }
}
