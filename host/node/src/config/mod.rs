//! The configuration file: what it may say, and errors that point at the line. Values only: modules, stores and
//! connections are made from it in `wiring`.

mod error;
mod secret;
mod units;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

pub use error::ConfigError;
pub use secret::SecretRef;
pub use units::{Bytes, Start, Time};

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The directory of everything that Tidemill stores: logs, checkpoints and state, compiled guests.
    /// A relative path starts at the configuration file's directory, here and everywhere.
    pub data: PathBuf,
    /// Secrets by name: for pseudonyms, and for `{ secret = "NAME" }` in a guest's configuration.
    #[serde(default)]
    pub secret: BTreeMap<String, SecretRef>,
    /// The sources by name.
    pub source: BTreeMap<String, Spanned<SourceConfig>>,
    /// The subscriptions by name.
    #[serde(default)]
    pub subscription: BTreeMap<String, Spanned<SubscriptionConfig>>,
}

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
    /// Server: certificates of the authorities that may sign the server's, a PEM file.
    pub tls_ca: Option<PathBuf>,
    /// Server: our own certificate, a PEM file, for accounts that need one; `tls_key` belongs to it.
    pub tls_certificate: Option<PathBuf>,
    /// Server: the key of our own certificate.
    pub tls_key: Option<PathBuf>,
    /// Server: whether the password may be sent as it is, as tokens of IAM are; only to a server that proved itself.
    pub cleartext_password: Option<bool>,
    /// Server: whether what is stored is acknowledged to a server with semi-synchronous replication.
    pub semi_sync: Option<bool>,
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

/// One guest: a Wasm component and its own configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestConfig {
    /// `builtin:NAME` for one of the catalogue, else the path of a component.
    pub module: String,
    /// The guest's own configuration, handed to its `setup` as JSON. `{ secret = "NAME" }` anywhere in it stands
    /// for that secret's value.
    #[serde(default = "empty_table")]
    pub config: toml::Table,
    /// Consumers: what it may do beside consuming: `stdout`, `clocks`, `random`, `env:NAME`.
    #[serde(default)]
    pub grants: Vec<String>,
    /// The most memory it may use; 64 MiB, consumers 256 MiB, unless given.
    pub memory: Option<Bytes>,
    /// The longest that one call may take; 1 second, consumers 30 seconds, unless given.
    pub time: Option<Time>,
}

fn empty_table() -> toml::Table {
    toml::Table::new()
}

/// One subscription.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubscriptionConfig {
    /// The source's name.
    pub source: String,
    /// Where it begins when it has no checkpoint: `earliest` (the default), `now`, `time:…` or
    /// `position:TIMELINE/SCN`.
    #[serde(default)]
    pub start: Start,
    /// How often a delivery that failed is tried again before the subscription pauses.
    #[serde(default = "three")]
    pub retries: u32,
    /// Which rows go on: filters in order, each sees what the one before let through.
    #[serde(default)]
    pub filter: Vec<GuestConfig>,
    /// What a row looks like when it goes on: projections in order, after the filters.
    #[serde(default)]
    pub projection: Vec<GuestConfig>,
    /// What it delivers to.
    pub consumer: GuestConfig,
}

fn three() -> u32 {
    3
}

impl Config {
    /// Reads and validates the file.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        Ok(Config::parse(&text, path)?.based_on(path.parent().unwrap_or(Path::new("."))))
    }

    /// Lets every relative path start at that directory.
    pub fn based_on(mut self, base: &Path) -> Config {
        self.data = base.join(&self.data);
        self.secret.values_mut().for_each(|secret| secret.based_on(base));
        for source in self.source.values_mut().map(Spanned::get_mut) {
            let own = [&mut source.tls_ca, &mut source.tls_certificate, &mut source.tls_key];
            for path in own.into_iter().chain([&mut source.directory]).flatten() {
                *path = base.join(&path);
            }
            source.password.iter_mut().for_each(|password| password.based_on(base));
        }
        self
    }

    /// The directory of compiled guests. Several processes may share one: `TIDEMILL_GUEST_CACHE` names it.
    pub fn guest_cache(&self) -> PathBuf {
        std::env::var_os("TIDEMILL_GUEST_CACHE").map_or_else(|| self.data.join("guests"), PathBuf::from)
    }

    /// Parses and validates; `path` is only named in errors.
    pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
        let config: Config = toml::from_str(text).map_err(|e| error::of_toml(text, path, &e))?;
        let at = |span: std::ops::Range<usize>, what: String| Err(error::at(text, path, span.start, what));
        if config.source.is_empty() {
            return at(0..0, "there is no source; add a [source.NAME] table".into());
        }
        for (name, source) in &config.source {
            if let Err(what) = source.get_ref().validate() {
                return at(source.span(), format!("source `{name}`: {what}"));
            }
        }
        for (name, subscription) in &config.subscription {
            if let Err(what) = subscription.get_ref().validate(&config) {
                return at(subscription.span(), format!("subscription `{name}`: {what}"));
            }
        }
        Ok(config)
    }
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

    fn validate(&self) -> Result<(), String> {
        let files = self.kind == SourceKind::BinlogFiles;
        let given = [
            ("host", self.host.is_some(), false),
            ("port", self.port.is_some(), false),
            ("user", self.user.is_some(), false),
            ("password", self.password.is_some(), false),
            ("server_id", self.server_id.is_some(), false),
            ("heartbeat", self.heartbeat.is_some(), false),
            ("tls", self.tls.is_some(), false),
            ("tls_ca", self.tls_ca.is_some(), false),
            ("tls_certificate", self.tls_certificate.is_some(), false),
            ("tls_key", self.tls_key.is_some(), false),
            ("cleartext_password", self.cleartext_password.is_some(), false),
            ("semi_sync", self.semi_sync.is_some(), false),
            ("directory", self.directory.is_some(), true),
            ("base", self.base.is_some(), true),
            ("follow", self.follow, true),
        ];
        if let Some((key, ..)) = given.iter().find(|(_, given, of_files)| *given && *of_files != files) {
            let (wants, other) =
                if files { ("a server", "mysql or mariadb") } else { ("files", "binlog-files") };
            return Err(format!("`{key}` belongs to {wants}; remove it, or set kind = \"{other}\""));
        }
        let needed = if files {
            vec![("directory", self.directory.is_some())]
        } else {
            vec![("host", self.host.is_some()), ("user", self.user.is_some())]
        };
        if let Some((key, _)) = needed.iter().find(|(_, given)| !given) {
            return Err(format!("`{key}` is missing"));
        }
        self.validate_tls()?;
        match self.start {
            Start::Position(..) => {
                Err("a source starts at earliest, now or a time; a position belongs to a \
                                        subscription"
                    .into())
            }
            _ => Ok(()),
        }
    }
}

impl SubscriptionConfig {
    fn validate(&self, config: &Config) -> Result<(), String> {
        if !config.source.contains_key(&self.source) {
            let known: Vec<_> = config.source.keys().map(String::as_str).collect();
            let near = error::nearest(&self.source, &known).map_or_else(
                || format!("there are: {}", known.join(", ")),
                |n| format!("did you mean `{n}`?"),
            );
            return Err(format!("there is no source `{}`; {near}", self.source));
        }
        let pure = self.filter.iter().chain(&self.projection);
        if let Some(guest) = pure.into_iter().find(|g| !g.grants.is_empty()) {
            return Err(format!(
                "`{}` is not the consumer; only a consumer can be granted anything",
                guest.module
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
