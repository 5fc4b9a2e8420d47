//! The configuration file: what it may say, and errors that point at the line. Values only: modules, stores and
//! connections are made from it in `wiring`.

mod bootstrap;
mod error;
mod relay;
mod secret;
mod source;
mod subscription;
mod units;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

pub use bootstrap::{BootstrapConfig, CloneConfig, OnGap};
pub use error::ConfigError;
pub use relay::{GrantConfig, LimitsConfig, RelayConfig};
pub use secret::SecretRef;
pub use source::{BadText, HistoryConfig, SourceConfig, SourceKind, Tls, ZeroDates};
pub use subscription::SubscriptionConfig;
pub use units::{Bytes, Start, Time};

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
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
    /// Snapshot storage of sources, by the source's name.
    #[serde(default)]
    pub bootstrap: BTreeMap<String, Spanned<BootstrapConfig>>,
    /// How the sources are served to others, if they are.
    pub relay: Option<Spanned<RelayConfig>>,
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

impl GuestConfig {
    /// A guest of the catalogue, with the limits that are usual.
    pub fn builtin(name: &str, config: toml::Table) -> GuestConfig {
        GuestConfig { module: format!("builtin:{name}"), config, grants: vec![], memory: None, time: None }
    }
}

fn empty_table() -> toml::Table {
    toml::Table::new()
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
        self.source.values_mut().for_each(|source| source.get_mut().based_on(base));
        self.bootstrap.values_mut().for_each(|bootstrap| bootstrap.get_mut().based_on(base));
        let copies =
            self.subscription.values_mut().filter_map(|subscription| subscription.get_mut().copy.as_mut());
        copies.for_each(|copy| copy.based_on(base));
        self.relay.iter_mut().for_each(|relay| relay.get_mut().based_on(base));
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
            if let Err(what) = check_name(name).and_then(|()| source.get_ref().validate()) {
                return at(source.span(), format!("source `{name}`: {what}"));
            }
        }
        for (name, subscription) in &config.subscription {
            if let Err(what) = subscription.get_ref().validate(&config) {
                return at(subscription.span(), format!("subscription `{name}`: {what}"));
            }
        }
        for (name, bootstrap) in &config.bootstrap {
            if let Err(what) = bootstrap.get_ref().validate(name, &config) {
                return at(bootstrap.span(), format!("bootstrap `{name}`: {what}"));
            }
        }
        if let Some(relay) = &config.relay
            && let Err((span, what)) = relay.get_ref().validate(&config)
        {
            return at(span.unwrap_or(relay.span()), what);
        }
        Ok(config)
    }
}

/// Names become folders, parts of addresses and labels of metrics.
fn check_name(name: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if !name.is_empty() && name.len() <= 64 && name.chars().all(plain) && !name.starts_with('.') {
        return Ok(());
    }
    Err("a name has up to 64 letters, digits, `_`, `-` and `.`, and does not begin with `.`".into())
}

/// What is not among the known names, with the nearest of them.
fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    let near = error::nearest(name, known)
        .map_or_else(|| format!("there are: {}", known.join(", ")), |n| format!("did you mean `{n}`?"));
    format!("there is no {what} `{name}`; {near}")
}

#[cfg(test)]
mod tests;
