//! A subscription's table: its source, its guests, and what a relay does for it.

use std::collections::BTreeMap;

use serde::Deserialize;
use tidemill_relay::{TablePattern, parse_predicate};

use super::units::Start;
use super::{CloneConfig, Config, GuestConfig, SourceKind};

/// One subscription.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubscriptionConfig {
    /// The source's name.
    pub source: String,
    /// Where it begins when it has no checkpoint: `earliest` (the default), `now`, `time:…`,
    /// `position:TIMELINE/SCN`, `snapshot`, which reads the source's snapshot storage, and again when it is too far behind,
    /// or `copy`, which reads the source's tables from its server.
    #[serde(default)]
    pub start: Start,
    /// How tables are copied, where it begins with a copy.
    pub copy: Option<CloneConfig>,
    /// How often a delivery that failed is tried again before the subscription pauses.
    #[serde(default = "three")]
    pub retries: u32,
    /// Which rows go on: filters in order, each sees what the one before let through.
    #[serde(default)]
    pub filter: Vec<GuestConfig>,
    /// What a row looks like when it goes on: projections in order, after the filters.
    #[serde(default)]
    pub projection: Vec<GuestConfig>,
    /// `tidemill consume`: what the relay is asked to leave out or to do, before anything is sent.
    pub at_relay: Option<AtRelay>,
    /// What it delivers to.
    pub consumer: GuestConfig,
}

/// What a relay does for a subscription.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AtRelay {
    /// These tables only, as `database.table` or `database.*`; all that we may see unless given.
    pub tables: Vec<String>,
    /// These columns only, by table; key columns always stay.
    pub columns: BTreeMap<String, Vec<String>>,
    /// These rows only, by table: `total >= 100 and state in ('paid', 'sent')`, conditions on columns joined by `and`.
    #[serde(rename = "where")]
    pub predicates: BTreeMap<String, String>,
    /// One part of the keys: `hash:TAKE/OF`, `mod:TAKE/OF:COLUMN` or `range:TAKE:B1+B2+…:COLUMN`.
    pub partition: Option<String>,
    /// Filters that are registered there, in order.
    pub filters: Vec<String>,
    /// Projections that are registered there, in order, after the filters.
    pub projections: Vec<String>,
}

impl AtRelay {
    fn validate(&self) -> Result<(), String> {
        if let Some(table) = self.tables.iter().find(|t| TablePattern::parse(t).is_none()) {
            return Err(format!("`{table}` is no table; write database.table or database.*"));
        }
        let whole = |table: &str| table.split_once('.').is_some_and(|(d, t)| !d.is_empty() && !t.is_empty());
        if let Some(table) = self.columns.keys().find(|t| !whole(t)) {
            return Err(format!(
                "`{table}` in `columns` is no table; write \"database.table\" = [\"column\"]"
            ));
        }
        for (table, predicate) in &self.predicates {
            parse_predicate(table, predicate).map_err(|what| format!("`where` of `{table}`: {what}"))?;
        }
        match &self.partition {
            Some(p) if !["hash:", "mod:", "range:"].iter().any(|kind| p.starts_with(kind)) => Err(format!(
                "`{p}` is no partition; write hash:TAKE/OF, mod:TAKE/OF:COLUMN or range:TAKE:B1+B2:COLUMN"
            )),
            _ => Ok(()),
        }
    }
}

fn three() -> u32 {
    3
}

impl SubscriptionConfig {
    pub(super) fn validate(&self, config: &Config) -> Result<(), String> {
        let Some(source) = config.source.get(&self.source) else {
            let known: Vec<_> = config.source.keys().map(String::as_str).collect();
            return Err(super::unknown("source", &self.source, &known));
        };
        let stored = config.bootstrap.contains_key(&self.source);
        if self.start == Start::Snapshot && !stored && source.get_ref().kind != SourceKind::Relay {
            let source = &self.source;
            return Err(format!(
                "`start` is a snapshot, and source `{source}` has no snapshot storage; add a [bootstrap.{source}] table"
            ));
        }
        self.validate_copy(source.get_ref().kind)?;
        if let Some(at_relay) = &self.at_relay {
            if source.get_ref().kind != SourceKind::Relay {
                let kind = "its source is no relay; remove it, or set kind = \"relay\" there";
                return Err(format!("`at_relay` is what a relay does for `tidemill consume`; {kind}"));
            }
            at_relay.validate()?;
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

    fn validate_copy(&self, kind: SourceKind) -> Result<(), String> {
        if let Some(copy) = &self.copy {
            if self.start != Start::Copy {
                return Err(
                    "`copy` says how a copy is made, and `start` is none; set start = \"copy\"".into()
                );
            }
            copy.validate("copy")?;
        }
        let server = self.copy.as_ref().and_then(|copy| copy.server.as_ref());
        match kind {
            _ if self.start != Start::Copy => Ok(()),
            SourceKind::BinlogFiles => Err(format!(
                "`start` is a copy, and source `{}` is files, which have no tables to copy; start it at earliest, now, a \
                 time or a position",
                self.source
            )),
            SourceKind::Relay if server.is_none() => Err(format!(
                "`start` is a copy, and source `{}` is a relay, which has no tables to copy; name the server that it \
                 follows in a [subscription.NAME.copy.server] table, or set start = \"snapshot\" where the relay has \
                 snapshot storage",
                self.source
            )),
            SourceKind::Mysql | SourceKind::Mariadb | SourceKind::Relay => Ok(()),
        }
    }
}
