//! What a fetcher is opened with. Plain values: the node's config is parsed elsewhere.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A password. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// A password of that text.
    pub fn new(text: impl Into<String>) -> Password {
        Password(text.into())
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// Where the binlog is read from.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A server sends it.
    Server(ServerOptions),
    /// Files hold it.
    Files(FileOptions),
}

/// How much of a connection is encrypted, and what the server must prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// Nothing is encrypted.
    Off,
    /// Encrypted where the server can; who the server is stays open.
    Prefer,
    /// Encrypted or not at all; who the server is stays open.
    Require,
    /// As above, and the server's certificate is one of an authority that is trusted.
    VerifyCa,
    /// As above, and the certificate is one for the host that was asked for.
    VerifyIdentity,
}

impl TlsMode {
    /// What holds where nothing is said: nothing leaves a loopback address, so only other hosts need encryption.
    pub fn for_host(host: &str) -> TlsMode {
        let is_loopback = host.parse::<IpAddr>().map_or(host == "localhost", |address| address.is_loopback());
        if is_loopback { TlsMode::Off } else { TlsMode::Prefer }
    }

    /// Whether the server's certificate is looked at.
    pub fn verifies(self) -> bool {
        matches!(self, TlsMode::VerifyCa | TlsMode::VerifyIdentity)
    }
}

/// Encryption of the connections to a server. The files are read at every connection, so that renewed ones count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// How much of it.
    pub mode: TlsMode,
    /// Certificates of the trusted authorities, in PEM form; the modes that verify need it.
    pub ca: Option<PathBuf>,
    /// Our own certificate and its key, in PEM form, where the server asks for one.
    pub identity: Option<TlsIdentity>,
}

/// Who we are to a server that asks for a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsIdentity {
    /// The certificate and those between it and its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// A server, and how to be its replica.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The account. It needs REPLICATION SLAVE and REPLICATION CLIENT (MariaDB: BINLOG MONITOR).
    pub user: String,
    /// Its password.
    pub password: Password,
    /// Under which number we are a replica. `None`: a random one, above those that people choose.
    pub server_id: Option<u32>,
    /// How often an idle server says that it is there. A connection silent for three of them is given up.
    pub heartbeat: Duration,
    /// Encryption.
    pub tls: Tls,
    /// Whether the password may go to the server as it is, which token services such as IAM ask for. Only to a server
    /// whose certificate was verified.
    pub cleartext_password: bool,
    /// Whether we acknowledge transactions, so that a server with semi-synchronous replication counts us. A server
    /// then lets its clients wait for us.
    pub semi_sync: bool,
}

impl ServerOptions {
    /// The default between two heartbeats: a lost connection is noticed within half a minute.
    pub const HEARTBEAT: Duration = Duration::from_secs(10);

    /// A server with the defaults for everything else.
    pub fn new(
        host: impl Into<String>,
        port: u16,
        user: impl Into<String>,
        password: Password,
    ) -> ServerOptions {
        let host = host.into();
        let mode = TlsMode::for_host(&host);
        ServerOptions {
            host,
            port,
            user: user.into(),
            password,
            server_id: None,
            heartbeat: ServerOptions::HEARTBEAT,
            tls: Tls { mode, ca: None, identity: None },
            cleartext_password: false,
            semi_sync: false,
        }
    }
}

/// Which files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileSet {
    /// Every `BASE.NUMBER` in the directory.
    Directory {
        /// The directory.
        directory: PathBuf,
        /// What stands before the number: `binlog`.
        base: String,
    },
    /// These.
    List(Vec<PathBuf>),
}

impl fmt::Display for FileSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileSet::Directory { directory, base } => write!(f, "{}/{base}.*", directory.display()),
            FileSet::List(paths) => write!(f, "the list of {} files", paths.len()),
        }
    }
}

/// Binlog files on disk.
#[derive(Clone, Debug)]
pub struct FileOptions {
    /// Which.
    pub files: FileSet,
    /// Whether to wait for more at the end of the last file.
    pub follow: bool,
    /// Who wrote them, as the timeline names it. `None`: `mysql-` or `mariadb-` and the server id in the first file.
    pub server: Option<String>,
}

impl FileOptions {
    /// All files of that base name in a directory, up to the end of the last.
    pub fn directory(directory: impl Into<PathBuf>, base: impl Into<String>) -> FileOptions {
        let files = FileSet::Directory { directory: directory.into(), base: base.into() };
        FileOptions { files, follow: false, server: None }
    }

    /// These files, up to the end of the last.
    pub fn list(paths: impl IntoIterator<Item = PathBuf>) -> FileOptions {
        FileOptions { files: FileSet::List(paths.into_iter().collect()), follow: false, server: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leaves_the_machine_is_encrypted_where_nothing_is_said() {
        for (host, mode) in [
            ("localhost", TlsMode::Off),
            ("127.0.0.1", TlsMode::Off),
            ("::1", TlsMode::Off),
            ("db.example.com", TlsMode::Prefer),
            ("10.0.0.7", TlsMode::Prefer),
        ] {
            assert_eq!(TlsMode::for_host(host), mode, "{host}");
        }
    }

    #[test]
    fn a_password_is_never_printed() {
        let options = ServerOptions::new("localhost", 3306, "tidemill", Password::new("s3cret"));
        assert!(!format!("{options:?} {:?}", Origin::Server(options.clone())).contains("s3cret"));
    }
}
