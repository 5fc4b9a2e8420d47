//! From the relay's table to a relay that serves the pipeline's sources. What it serves and how is `tidemill-relay`'s.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prometheus_client::registry::Registry;
use tidemill_relay::{
    Credential, Grant, Limits, Relay, RelayConfig, RelayParts, Served, ServingMetrics, SnapshotsServed,
    TablePattern, TlsConfig,
};
use tidemill_sandbox::{FilterStage, ProjectionStage, Sandbox};
use tokio::sync::watch;
use tracing::info;

use crate::Failure;
use crate::bootstrap::BootstrapHandle;
use crate::comparison::Comparisons;
use crate::config::{self, Bytes, Config, GrantConfig, GuestConfig, LimitsConfig, Time};
use crate::guests::Guests;
use crate::metrics;
use crate::operator::Process;
use crate::wiring::Pipeline;

type GuestFailure = Box<dyn Error + Send + Sync>;

/// Makes the relay of a configuration, which listens from now on. `stop`: what an operator's word turns true.
pub fn open(
    config: &config::RelayConfig,
    registered: Registered,
    pipeline: &Pipeline,
    stop: watch::Sender<bool>,
) -> Result<Relay, Failure> {
    let mut registry = Registry::default();
    metrics::register(&mut registry, &pipeline.handles, &pipeline.switches, &pipeline.storages);
    let metrics = ServingMetrics::register(&mut registry);
    let served = |handle: &crate::handle::SourceHandle| Served {
        name: handle.name.to_string(),
        log: handle.log.clone(),
    };
    let stored = |storage: &BootstrapHandle| SnapshotsServed {
        source: storage.source.to_string(),
        snapshots: Arc::new(storage.server()),
    };
    let registered = Arc::new(registered);
    let comparisons = Comparisons { registered: Arc::clone(&registered), store: pipeline.store.clone() };
    let parts = RelayParts {
        served: pipeline.handles.iter().map(served).collect(),
        snapshots: pipeline.storages.iter().map(stored).collect(),
        guests: registered,
        operator: Arc::new(Process {
            sources: pipeline.handles.clone(),
            subscriptions: pipeline.switches.clone(),
            storages: pipeline.storages.clone(),
            comparisons: Some(comparisons),
            registry,
            stop,
        }),
        metrics,
    };
    let relay = Relay::new(settings(config)?, parts)?;
    let (sources, grants) = (pipeline.handles.len(), config.grant.len());
    info!(address = %relay.address(), tls = config.tls.is_some(), sources, grants, "relay listens");
    Ok(relay)
}

/// Looks whether a relay could be made: secrets, certificates, and guests.
pub fn check(config: &config::RelayConfig, registered: Registered) -> Result<(), Failure> {
    registered.check()?;
    let listen = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let settings = settings(config)?;
    settings.validate()?;
    let operator = Process {
        sources: vec![],
        subscriptions: vec![],
        storages: vec![],
        comparisons: None,
        registry: Registry::default(),
        stop: watch::Sender::new(false),
    };
    let parts = RelayParts {
        served: vec![],
        snapshots: vec![],
        guests: Arc::new(registered),
        operator: Arc::new(operator),
        metrics: ServingMetrics::default(),
    };
    Relay::new(RelayConfig { listen, ..settings }, parts)?;
    Ok(())
}

/// The relay's settings, with the secrets fetched.
pub fn settings(config: &config::RelayConfig) -> Result<RelayConfig, Failure> {
    let tls = config.tls.clone();
    let tls =
        tls.map(|tls| TlsConfig { certificate: tls.certificate, key: tls.key, client_ca: tls.client_ca });
    let grants = config.grant.iter().map(|g| grant(g.get_ref())).collect::<Result<_, _>>()?;
    Ok(RelayConfig { listen: config.listen, tls, grants, limits: limits(&config.limits) })
}

fn grant(config: &GrantConfig) -> Result<Grant, Failure> {
    let credential = match (&config.token, &config.certificate) {
        (Some(token), _) => {
            let token = token.fetch().map_err(|what| format!("grant `{}`: {what}", config.name))?;
            Credential::token(token.reveal())
        }
        (None, Some(name)) => Credential::Certificate(name.clone()),
        (None, None) => unreachable!("validation asks for one of them"),
    };
    let pattern = |text: &String| TablePattern::parse(text).expect("validated");
    Ok(Grant {
        name: config.name.clone(),
        credential,
        sources: config.sources.clone(),
        tables: config.tables.iter().map(pattern).collect(),
        admin: config.admin,
        metrics: config.metrics,
    })
}

fn limits(config: &LimitsConfig) -> Limits {
    let unless_given = Limits::default();
    let size = |given: Option<Bytes>, unless: usize| {
        given.map_or(unless, |bytes| usize::try_from(bytes.0).unwrap_or(usize::MAX))
    };
    let time = |given: Option<Time>, unless| given.map_or(unless, |time| time.0);
    Limits {
        connections: config.connections.unwrap_or(unless_given.connections),
        subscriptions: config.subscriptions.unwrap_or(unless_given.subscriptions),
        subscriptions_per_grant: config
            .subscriptions_per_grant
            .unwrap_or(unless_given.subscriptions_per_grant),
        streams_per_connection: config.streams_per_connection.unwrap_or(unless_given.streams_per_connection),
        header_bytes: size(config.headers, unless_given.header_bytes),
        request_bytes: size(config.request, unless_given.request_bytes),
        handshake_time: time(config.handshake_time, unless_given.handshake_time),
        header_time: time(config.header_time, unless_given.header_time),
        request_time: time(config.request_time, unless_given.request_time),
        stalled_time: time(config.stalled_time, unless_given.stalled_time),
        keep_alive: time(config.keep_alive, unless_given.keep_alive),
        shutdown_time: time(config.shutdown_time, unless_given.shutdown_time),
    }
}

/// The guests that subscribers may name.
pub struct Registered {
    /// The engine.
    pub sandbox: Sandbox,
    /// The configuration that registers them.
    pub config: Arc<Config>,
    /// The configuration file's directory.
    pub base: PathBuf,
}

impl Registered {
    /// Those of a configuration; `base` is its file's directory.
    pub fn new(sandbox: Sandbox, config: Arc<Config>, base: &Path) -> Registered {
        Registered { sandbox, config, base: base.to_owned() }
    }

    /// Opens each of them once, so that a wrong one is found at the start and not by a subscriber. What they are set up
    /// with may depend on the source; the first one stands for all.
    pub fn check(&self) -> Result<(), GuestFailure> {
        let source = self.config.source.keys().next().expect("validated");
        let relay = self.relay();
        for guest in relay.filter.values() {
            self.guests().filter(source, guest)?;
        }
        for guest in relay.projection.values() {
            self.guests().projection(source, guest)?;
        }
        Ok(())
    }

    fn relay(&self) -> &config::RelayConfig {
        self.config.relay.as_ref().expect("whoever serves has this table").get_ref()
    }

    /// Opens guests of the configuration, also others than the registered ones.
    pub fn guests(&self) -> Guests<'_> {
        Guests { sandbox: &self.sandbox, config: &self.config, base: &self.base }
    }
}

impl tidemill_relay::Guests for Registered {
    fn filters(&self) -> Vec<String> {
        self.relay().filter.keys().cloned().collect()
    }

    fn projections(&self) -> Vec<String> {
        self.relay().projection.keys().cloned().collect()
    }

    fn filter(&self, name: &str, source: &str) -> Result<FilterStage, GuestFailure> {
        let guest = self.relay().filter.get(name).ok_or("no such filter is registered")?;
        Ok(self.guests().filter(source, guest)?)
    }

    fn projection(&self, name: &str, source: &str) -> Result<ProjectionStage, GuestFailure> {
        let guest = self.relay().projection.get(name).ok_or("no such projection is registered")?;
        Ok(self.guests().projection(source, guest)?)
    }

    fn partition(&self, config: &str, source: &str) -> Result<FilterStage, GuestFailure> {
        let config = serde_json::from_str::<toml::Table>(config)?;
        Ok(self.guests().filter(source, &GuestConfig::builtin("partition", config))?)
    }
}
