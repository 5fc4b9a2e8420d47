//! A source's table: what it is, how it is reached, how its transactions are kept.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::units::{Bytes, Start, Time};
use super::{GuestConfig, SecretRef};

/// Where a source's transactions come from.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum SourceKind {
    /// A MySQL server; its binlog.
    Mysql,
    /// A MariaDB server; its binlog.
    Mariadb,
    /// Binlog files on disk.
    BinlogFiles,
    /// A source of the same name that another relay serves.
    Relay,
}

impl SourceKind {
    /// The family that shares its keys: what they belong to, and the kinds that have them.
    fn family(self) -> Family {
        match self {
            SourceKind::Mysql | SourceKind::Mariadb => Family::Server,
            SourceKind::BinlogFiles => Family::Files,
            SourceKind::Relay => Family::Relay,
        }
    }
}

/// Kinds with the same keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Server,
    Files,
    Relay,
}

impl Family {
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Family::Server => ("a server", "\"mysql\" or \"mariadb\""),
            Family::Files => ("files", "\"binlog-files\""),
            Family::Relay => ("a relay", "\"relay\""),
        }
    }
}

/// What becomes of a date that is none.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum ZeroDates {
    /// It stops the source.
    #[default]
    Error,
    /// It becomes NULL.
    Null,
}

/// What becomes of bytes that are no text.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum BadText {
    /// They stop the source.
    #[default]
    Error,
    /// Each becomes U+FFFD.
    Replace,
}

/// How much of a server's connections is encrypted, and what the server must prove.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Tls {
    /// Nothing is encrypted.
    Off,
    /// Encrypted where the server can.
    Prefer,
    /// Encrypted or not at all.
    Require,
    /// As above, and the server's certificate is one of `tls_ca`.
    VerifyCa,
    /// As above, and the certificate is one for `host`.
    VerifyIdentity,
}

impl Tls {
    fn verifies(self) -> bool {
        matches!(self, Tls::VerifyCa | Tls::VerifyIdentity)
    }
}

/// One source.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// What it is.
    pub kind: SourceKind,
    /// Server: its host.
    pub host: Option<String>,
    /// Server: its port, 3306 unless given.
    pub port: Option<u16>,
    /// Server: the user, who needs REPLICATION SLAVE and REPLICATION CLIENT.
    pub user: Option<String>,
    /// Server: the user's password, `{ env = "NAME" }` or `{ file = "PATH" }`.
    pub password: Option<SecretRef>,
    /// Server: our id among its replicas; random unless given.
    pub server_id: Option<u32>,
    /// Server: how often it tells that it is alive when nothing commits; 10 seconds unless given.
    pub heartbeat: Option<Time>,
    /// Server: encryption; `prefer` unless given, `off` for a loopback address.
    pub tls: Option<Tls>,
    /// Server, relay: certificates of the authorities that may sign the other side's, a PEM file.
    pub tls_ca: Option<PathBuf>,
    /// Server, relay: our own certificate, a PEM file, where the other side asks for one; `tls_key` belongs to it.
    pub tls_certificate: Option<PathBuf>,
    /// Server, relay: the key of our own certificate.
    pub tls_key: Option<PathBuf>,
    /// Server: whether the password may be sent as it is, as tokens of IAM are; only to a server that proved itself.
    pub cleartext_password: Option<bool>,
    /// Server: whether what is stored is acknowledged to a server with semi-synchronous replication.
    pub semi_sync: Option<bool>,
    /// Relay: the addresses of relays that serve this source, as `https://HOST:PORT`; the next is tried when one fails.
    #[serde(default)]
    pub relays: Vec<String>,
    /// Relay: the token that it knows us by, `{ env = "NAME" }` or `{ file = "PATH" }`.
    pub token: Option<SecretRef>,
    /// Files: their directory.
    pub directory: Option<PathBuf>,
    /// Files: their base name, `binlog` for `binlog.000001`; found in the directory unless given.
    pub base: Option<String>,
    /// Files: wait for more at the end of the last file instead of ending there.
    #[serde(default)]
    pub follow: bool,
    /// What becomes of a date that is none, such as `0000-00-00`: `error` (the default) stops the source, `null`
    /// makes it NULL.
    #[serde(default)]
    pub zero_dates: ZeroDates,
    /// What becomes of bytes in a text that are no character of its set: `error` (the default) stops the source,
    /// `replace` makes each U+FFFD.
    #[serde(default)]
    pub bad_text: BadText,
    /// MariaDB: whether the server is asked for the types that its log does not name (UUID, INET4, INET6, VECTOR), which are
    /// bytes without it.
    #[serde(default)]
    pub declared_types: bool,
    /// Where a new log begins: `earliest` (the default), `now`, or `time:2026-11-20T08:00:00Z`.
    #[serde(default)]
    pub start: Start,
    /// What may be stored at all. Judged before the first byte is stored.
    pub policy: Option<GuestConfig>,
    /// How the source's transactions are kept.
    #[serde(default)]
    pub log: LogConfig,
    /// Where they are kept when the log's own disk is through with them, if anywhere.
    pub history: Option<HistoryConfig>,
}

/// How a source's transactions are kept.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// The memory ring: what subscribers near the head are served from.
    pub memory: Bytes,
    /// The size at which a segment file is sealed and the next begun.
    pub segment: Bytes,
    /// Oldest segments go when the log is larger than this.
    pub keep_bytes: Option<Bytes>,
    /// Segments go when all of them is older than this.
    pub keep_time: Option<Time>,
    /// How long an appended window may wait for its fsync; `0s` syncs each one.
    pub sync: Time,
}

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig {
            memory: Bytes(64 << 20),
            segment: Bytes(64 << 20),
            keep_bytes: None,
            keep_time: None,
            sync: Time(std::time::Duration::from_secs(1)),
        }
    }
}

/// Where sealed segments go.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryConfig {
    /// The object store, as `s3://BUCKET/PREFIX`, `gs://…`, `az://…` or `file:///DIRECTORY`. Its credentials come from
    /// the environment, as that store's own tools read them.
    pub url: String,
    /// Segments go for good when all of them is older than this; kept for ever unless given.
    pub keep_time: Option<Time>,
    /// A segment is sealed and uploaded when something in it is older than this.
    #[serde(default = "ten_minutes")]
    pub upload_after: Time,
    /// How much of the history is kept on disk while readers are in it.
    #[serde(default = "one_gib")]
    pub cache: Bytes,
}

fn ten_minutes() -> Time {
    Time(std::time::Duration::from_secs(600))
}

fn one_gib() -> Bytes {
    Bytes(1 << 30)
}

impl HistoryConfig {
    fn validate(&self) -> Result<(), String> {
        let scheme = self.url.split_once("://").map(|(scheme, _)| scheme);
        if !matches!(scheme, Some("s3" | "gs" | "az" | "file")) {
            return Err(format!(
                "`{}` is no history's url; write s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX or \
                 file:///DIRECTORY",
                shown(&self.url)
            ));
        }
        no_secrets("url", &self.url)
    }
}

/// An address is printed and logged, so it has room for no secret.
pub(super) fn no_secrets(key: &str, url: &str) -> Result<(), String> {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest).split('/').next().unwrap_or_default();
    if authority.contains('@') || url.contains(['?', '#']) {
        return Err(format!(
            "`{key}` has a user, a query or a fragment, where secrets end up in logs; write the address alone"
        ));
    }
    Ok(())
}

/// What of an address may be repeated: nothing behind a sign that could introduce a secret.
pub(super) fn shown(url: &str) -> &str {
    if url.contains(['@', '?', '#']) { "…" } else { url }
}

impl SourceConfig {
    fn validate_tls(&self) -> Result<(), String> {
        let verifies = self.tls.is_some_and(Tls::verifies);
        match () {
            () if verifies && self.tls_ca.is_none() => {
                Err("`tls` verifies the server's certificate and needs `tls_ca`, a PEM file".into())
            }
            () if !verifies && self.tls_ca.is_some() => {
                Err("`tls_ca` counts with `tls = \"verify-ca\"` or \"verify-identity\" only".into())
            }
            () if self.tls_certificate.is_some() != self.tls_key.is_some() => {
                Err("`tls_certificate` and `tls_key` belong together".into())
            }
            () if self.tls == Some(Tls::Off) && self.tls_certificate.is_some() => {
                Err("`tls_certificate` needs an encrypted connection; set `tls`".into())
            }
            () if self.cleartext_password == Some(true) && !verifies => {
                Err("`cleartext_password` needs `tls = \"verify-identity\"` (or \"verify-ca\") and `tls_ca`"
                    .into())
            }
            () => Ok(()),
        }
    }

    pub(super) fn validate(&self) -> Result<(), String> {
        use Family::{Files, Relay, Server};
        let family = self.kind.family();
        let given: [(&str, bool, &[Family]); 17] = [
            ("host", self.host.is_some(), &[Server]),
            ("port", self.port.is_some(), &[Server]),
            ("user", self.user.is_some(), &[Server]),
            ("password", self.password.is_some(), &[Server]),
            ("server_id", self.server_id.is_some(), &[Server]),
            ("heartbeat", self.heartbeat.is_some(), &[Server]),
            ("tls", self.tls.is_some(), &[Server]),
            ("tls_ca", self.tls_ca.is_some(), &[Server, Relay]),
            ("tls_certificate", self.tls_certificate.is_some(), &[Server, Relay]),
            ("tls_key", self.tls_key.is_some(), &[Server, Relay]),
            ("cleartext_password", self.cleartext_password.is_some(), &[Server]),
            ("semi_sync", self.semi_sync.is_some(), &[Server]),
            ("directory", self.directory.is_some(), &[Files]),
            ("base", self.base.is_some(), &[Files]),
            ("follow", self.follow, &[Files]),
            ("relays", !self.relays.is_empty(), &[Relay]),
            ("token", self.token.is_some(), &[Relay]),
        ];
        if let Some((key, _, of)) = given.iter().find(|(_, given, of)| *given && !of.contains(&family)) {
            let (wants, other) = of[0].words();
            return Err(format!("`{key}` belongs to {wants}; remove it, or set kind = {other}"));
        }
        let needed: &[&str] = match family {
            Server => &["host", "user"],
            Files => &["directory"],
            Relay => &["relays"],
        };
        if let Some((key, ..)) = given.iter().find(|(key, given, _)| needed.contains(key) && !given) {
            return Err(format!("`{key}` is missing"));
        }
        if family == Relay {
            self.validate_relays()?;
        } else {
            self.validate_tls()?;
        }
        if let Some(history) = &self.history {
            history.validate()?;
        }
        match self.start {
            Start::Position(..) | Start::Snapshot | Start::Copy => {
                let what = "a position, a snapshot or a copy belongs to a subscription";
                Err(format!("a source starts at earliest, now or a time; {what}"))
            }
            _ => Ok(()),
        }
    }

    fn validate_relays(&self) -> Result<(), String> {
        for url in &self.relays {
            no_secrets("relays", url)?;
            let plain = url.strip_prefix("http://");
            let Some(authority) = plain.or_else(|| url.strip_prefix("https://")) else {
                let example = "write https://HOST:PORT, or http://127.0.0.1:PORT";
                return Err(format!("`{}` is no relay's address; {example}", shown(url)));
            };
            if plain.is_some() && !is_loopback(authority) && self.token.is_some() {
                return Err(format!("a token is never sent unencrypted; write https:// in place of `{url}`"));
            }
        }
        let encrypted = self.relays.iter().all(|url| url.starts_with("https://"));
        match () {
            () if self.tls_ca.is_none() && self.relays.iter().any(|url| url.starts_with("https://")) => {
                Err("https:// in `relays` needs `tls_ca`, the authorities that sign their certificates"
                    .into())
            }
            () if self.tls_certificate.is_some() != self.tls_key.is_some() => {
                Err("`tls_certificate` and `tls_key` belong together".into())
            }
            () if self.tls_certificate.is_some() && !encrypted => {
                Err("`tls_certificate` needs encrypted connections; write https:// in `relays`".into())
            }
            () => Ok(()),
        }
    }

    /// Lets every relative path start at that directory.
    pub(super) fn based_on(&mut self, base: &Path) {
        let own = [&mut self.tls_ca, &mut self.tls_certificate, &mut self.tls_key];
        for path in own.into_iter().chain([&mut self.directory]).flatten() {
            *path = base.join(&path);
        }
        self.password.iter_mut().chain(&mut self.token).for_each(|secret| secret.based_on(base));
    }
}

/// Whether `HOST:PORT` is this machine.
fn is_loopback(authority: &str) -> bool {
    let host = authority.split('/').next().unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host).trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}
