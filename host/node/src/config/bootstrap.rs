//! A source's snapshot storage: where it lies, how often it is brought up to date, how its tables are copied into it.

use std::path::Path;

use serde::Deserialize;
use tidemill_relay::TablePattern;
use tidemill_world::objects::directory_url;

use super::source::{SourceConfig, no_secrets, shown};
use super::units::{Bytes, Time};
use super::{Config, SourceKind};

/// More connections read no faster, and each has memory for its chunks and guests of its own.
const CONNECTIONS_MAX: u32 = 256;

/// Snapshot storage of the source of the same name.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootstrapConfig {
    /// The object store, as `s3://BUCKET/PREFIX`, `gs://…`, `az://…` or `file:///DIRECTORY`, or the path of a directory; the
    /// source's folder is made in it. Credentials come from the environment, as that store's own tools read them.
    pub store: String,
    /// These tables only, as `database.table` or `database.*`; all that the source's policy takes unless given.
    #[serde(default)]
    pub tables: Vec<String>,
    /// What is followed is durable there after this time at the latest; 10 seconds unless given.
    #[serde(default = "ten_seconds")]
    pub flush_every: Time,
    /// Or when there is this much of it; 64 MiB unless given.
    #[serde(default = "flush_bytes")]
    pub flush: Bytes,
    /// Sorted runs are built from it after this time at the latest; 1 minute unless given.
    #[serde(default = "one_minute")]
    pub apply_every: Time,
    /// Or when there is this much of it; 16 MiB unless given.
    #[serde(default = "apply_bytes")]
    pub apply: Bytes,
    /// A new version for Spark and DuckDB is published after this time at the latest, where something changed; 15 minutes
    /// unless given.
    #[serde(default = "a_quarter")]
    pub publish_every: Time,
    /// How many published versions are kept for time travel; 2 unless given.
    #[serde(default = "two")]
    pub keep_versions: u32,
    /// How long consolidated deltas can be given; 30 days unless given.
    #[serde(default = "a_month")]
    pub keep_deltas: Time,
    /// How long raw transactions are kept after they were applied; 7 days unless given.
    #[serde(default = "a_week")]
    pub keep_log: Time,
    /// What becomes of it when a stretch of the source's log is gone: `stop` (the default) leaves everything as it was
    /// published and says so in health, `clone` has every table copied anew.
    #[serde(default)]
    pub on_gap: OnGap,
    /// How tables are copied.
    #[serde(default)]
    pub clone: CloneConfig,
}

/// What becomes of snapshot storage when a stretch of the source's log is gone.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum OnGap {
    /// It stands still.
    #[default]
    Stop,
    /// Every table is copied anew.
    Clone,
}

/// How tables are copied.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CloneConfig {
    /// Connections at the same time.
    pub connections: u32,
    /// About how many rows are read in one go, and again after an interruption.
    pub chunk_rows: u64,
    /// At most this many rows a second; no limit unless given.
    pub rows_per_second: Option<u64>,
    /// It stands still while the server runs more statements than this at once; no limit unless given.
    pub threads_running: Option<u64>,
    /// The server to copy from, where the source is a relay or a replica of the source is to be read: as a source's table, with
    /// `kind`, `host`, `user` and what else belongs to a server.
    pub server: Option<Box<SourceConfig>>,
    /// It stands still while the server is a replica that is further behind than this, or does not follow; no limit unless
    /// given.
    pub replica_lag: Option<Time>,
}

impl Default for CloneConfig {
    fn default() -> Self {
        CloneConfig {
            connections: 4,
            chunk_rows: 50_000,
            rows_per_second: None,
            threads_running: None,
            server: None,
            replica_lag: None,
        }
    }
}

fn seconds(n: u64) -> Time {
    Time(std::time::Duration::from_secs(n))
}
fn ten_seconds() -> Time {
    seconds(10)
}
fn one_minute() -> Time {
    seconds(60)
}
fn a_quarter() -> Time {
    seconds(15 * 60)
}
fn a_week() -> Time {
    seconds(7 * 86_400)
}
fn a_month() -> Time {
    seconds(30 * 86_400)
}
fn flush_bytes() -> Bytes {
    Bytes(64 << 20)
}
fn apply_bytes() -> Bytes {
    Bytes(16 << 20)
}
fn two() -> u32 {
    2
}

impl BootstrapConfig {
    pub(super) fn based_on(&mut self, base: &Path) {
        self.clone.based_on(base);
        // Where there is no current directory, the path is left to the error of whoever opens the store.
        if !self.store.contains("://")
            && let Ok(url) = directory_url(&base.join(&self.store))
        {
            self.store = url;
        }
    }

    pub(super) fn validate(&self, name: &str, config: &Config) -> Result<(), String> {
        let Some(source) = config.source.get(name) else {
            let known: Vec<_> = config.source.keys().map(String::as_str).collect();
            return Err(super::unknown("source", name, &known));
        };
        if source.get_ref().kind == SourceKind::BinlogFiles {
            return Err("files cannot be copied from; snapshot storage needs a server or a relay".into());
        }
        self.clone.validate("clone")?;
        if self.store.is_empty() {
            return Err("`store` is empty; write s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX, or a directory".into());
        }
        let scheme = self.store.split_once("://").map(|(scheme, _)| scheme);
        if !matches!(scheme, None | Some("s3" | "gs" | "az" | "file")) {
            return Err(format!(
                "`{}` is no store; write s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX, or a \
                 directory",
                shown(&self.store)
            ));
        }
        no_secrets("store", &self.store)?;
        if let Some(table) = self.tables.iter().find(|t| TablePattern::parse(t).is_none()) {
            return Err(format!("`{table}` is no table; write database.table or database.*"));
        }
        let positive = [
            ("keep_versions", u64::from(self.keep_versions)),
            ("flush", self.flush.0),
            ("apply", self.apply.0),
        ];
        match positive.iter().find(|(_, value)| *value == 0) {
            Some((key, _)) => Err(format!("`{key}` is 0; write at least 1")),
            None => Ok(()),
        }
    }
}

impl CloneConfig {
    pub(super) fn based_on(&mut self, base: &Path) {
        self.server.iter_mut().for_each(|server| server.based_on(base));
    }

    /// `key`: the table that this is.
    pub(super) fn validate(&self, key: &str) -> Result<(), String> {
        if let Some(server) = &self.server {
            server.validate().map_err(|what| format!("{key}.server: {what}"))?;
            if !matches!(server.kind, SourceKind::Mysql | SourceKind::Mariadb) {
                return Err(format!("`{key}.server` is no server; set kind = \"mysql\" or \"mariadb\""));
            }
        }
        let positive = [
            ("connections", u64::from(self.connections)),
            ("chunk_rows", self.chunk_rows),
            ("rows_per_second", self.rows_per_second.unwrap_or(1)),
            // The one that asks is running.
            ("threads_running", self.threads_running.unwrap_or(1)),
        ];
        if let Some((of, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(format!("`{key}.{of}` is 0; write at least 1"));
        }
        if self.connections > CONNECTIONS_MAX {
            return Err(format!(
                "`{key}.connections` is {}; write at most {CONNECTIONS_MAX}",
                self.connections
            ));
        }
        Ok(())
    }
}
