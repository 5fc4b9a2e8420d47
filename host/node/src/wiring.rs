//! All wiring on one page: from a configuration to running sources and subscriptions.
//!
//! ```text
//! data/guests/            compiled guests
//! data/log/SOURCE/        the source's log
//! data/fetcher/SOURCE/    what the source's fetcher keeps: the rows of prepared XA transactions
//! data/store.redb         checkpoints, consumers' state and output
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use tidemill_client::Control;
use tidemill_event::{Checkpoint, Position};
use tidemill_fetchers_api::{FetchError, Judge, Selector, Start as FetchStart};
use tidemill_fetchers_mysql as mysql;
use tidemill_fetchers_mysql::{
    FileOptions, MySqlFetcher, Origin, Password, ServerOptions, Tls, TlsIdentity, TlsMode,
};
use tidemill_log::{From, Fsync, Log, LogConfig};
use tidemill_sandbox::{BoxError, Sandbox, SandboxConfig, StateReader};
use tidemill_sink::EmbeddedStore;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{error, info};

use crate::Failure;
use crate::config::{self, BadText, Config, SourceConfig, SourceKind, Start, SubscriptionConfig, ZeroDates};
use crate::guests::{Guests, OpenError};
use crate::source::{SharedPolicy, Source, SourceError};
use crate::status::{Fetched, Figures, Meter};
use crate::stdout::Stdout;
use crate::subscription::{Delivery, End, LogFeed, Paused, Subscription};

/// Everything of a configuration, ready to run.
pub struct Pipeline {
    sources: Vec<Source<MySqlFetcher>>,
    subscriptions: Vec<Subscription<LogFeed>>,
    /// The figures of each subscription.
    pub meters: BTreeMap<String, Meter>,
}

/// How a pipeline ended: each source and subscription that did not end well.
#[derive(Debug, Default)]
pub struct Ended {
    /// Sources that stopped.
    pub stopped: Vec<SourceError>,
    /// Subscriptions that paused.
    pub paused: Vec<Paused>,
}

impl Ended {
    /// Whether all went well.
    pub fn well(&self) -> bool {
        self.stopped.is_empty() && self.paused.is_empty()
    }
}

/// Opens what the configuration names. `base` is the configuration file's directory.
pub async fn open(config: &Config, base: &Path, stdout: Arc<dyn Stdout>) -> Result<Pipeline, Failure> {
    let sandbox = Sandbox::new(SandboxConfig::new(config.guest_cache()))?;
    let guests = Guests { sandbox: &sandbox, config, base };
    let store = EmbeddedStore::open(&config.data.join("store.redb"))?;
    let mut pipeline = Pipeline { sources: vec![], subscriptions: vec![], meters: BTreeMap::new() };
    let mut logs: BTreeMap<&str, Log> = BTreeMap::new();
    let mut fetched: BTreeMap<&str, Fetched> = BTreeMap::new();
    for (name, source) in &config.source {
        let source = source.get_ref();
        let log = Log::open(log_config(&config.data.join("log").join(name), source))?;
        let kept = config.data.join("fetcher").join(name);
        let opened = open_source(name, source, &guests, &log, &kept).await?;
        fetched.insert(name, opened.fetched.clone());
        pipeline.sources.push(opened);
        logs.insert(name, log);
    }
    for (name, subscription) in &config.subscription {
        let subscription = subscription.get_ref();
        let log = &logs[subscription.source.as_str()];
        let fetched = fetched[subscription.source.as_str()].clone();
        let parts = Parts { store: &store, stdout: &stdout, log, fetched };
        let opened = open_subscription(name, subscription, &guests, parts).await?;
        pipeline.meters.insert(name.clone(), opened.consumer.meter.clone());
        pipeline.subscriptions.push(opened);
    }
    Ok(pipeline)
}

impl Pipeline {
    /// What was read from a source.
    pub fn fetched(&self, source: &str) -> Fetched {
        let source = self.sources.iter().find(|s| s.name == source);
        source.map(|s| s.fetched.clone()).unwrap_or_default()
    }

    /// Lets every source end where its server's log ended when it was opened.
    pub fn end_at_open(&mut self) {
        self.sources.iter_mut().for_each(|source| source.until = source.fetcher.end_at_open());
    }

    /// Runs until every source has ended and every subscription has everything, or until told to stop. A source that
    /// stops or a subscription that pauses leaves the others alone; what a stopped source has stored is still delivered.
    pub async fn run(self, stop: watch::Receiver<bool>) -> Ended {
        let mut sources = JoinSet::new();
        for source in self.sources {
            sources.spawn(source.run(stop.clone()));
        }
        let mut subscriptions = JoinSet::new();
        for subscription in self.subscriptions {
            let (_switch, control) = Control::new(stop.clone());
            subscriptions.spawn(subscription.run(control));
        }
        let mut ended = Ended::default();
        while let Some(source) = sources.join_next().await {
            if let Err(stopped) = source.expect("a source's task does not panic") {
                error!(error = %crate::report::chain(&stopped), "a source stopped");
                ended.stopped.push(stopped);
            }
        }
        while let Some(end) = subscriptions.join_next().await {
            if let End::Paused(paused) = end.expect("a subscription's task does not panic") {
                error!(error = %crate::report::chain(&paused), "a subscription paused");
                ended.paused.push(paused);
            }
        }
        ended
    }
}

/// The figures of each subscription.
pub fn figures(meters: &BTreeMap<String, Meter>) -> BTreeMap<String, Figures> {
    meters.iter().map(|(name, meter)| (name.clone(), meter.figures())).collect()
}

fn log_config(directory: &Path, source: &SourceConfig) -> LogConfig {
    let mut config = LogConfig::new(directory);
    config.memory_bytes = usize::try_from(source.log.memory.0).unwrap_or(usize::MAX);
    config.segment_bytes = source.log.segment.0;
    config.retention_bytes = source.log.keep_bytes.map(|b| b.0);
    config.retention_time = source.log.keep_time.map(|t| t.0);
    config.fsync =
        if source.log.sync.0.is_zero() { Fsync::Always } else { Fsync::Interval(source.log.sync.0) };
    config
}

/// Which tables of a source are decoded at all: those that its policy takes.
fn selector(policy: &Option<SharedPolicy>) -> Selector {
    let Some(policy) = policy.clone() else { return Arc::new(|_| Ok(true)) };
    Arc::new(move |table| {
        let decided = policy.lock().expect("no holder panics").decides(table);
        decided.map_err(|error| crate::report::chain(&error))
    })
}

/// What may be stored of a window. Guest code runs for long on the runtime's thread, which is told so.
fn judge(policy: SharedPolicy) -> Judge {
    Arc::new(move |window| {
        let judged = tokio::task::block_in_place(|| policy.lock().expect("no holder panics").apply(window));
        judged.map_err(Into::into)
    })
}

/// A source's policy, for `up` and `tail` alike.
pub fn open_policy(
    name: &str,
    source: &SourceConfig,
    guests: &Guests<'_>,
) -> Result<Option<SharedPolicy>, OpenError> {
    let policy = source.policy.as_ref().map(|guest| guests.policy(name, guest)).transpose()?;
    Ok(policy.map(|policy| Arc::new(Mutex::new(policy))))
}

/// A source's fetcher, for `up` and `tail` alike. `kept`: the directory for what has to outlive it.
pub async fn open_fetcher(
    name: &str,
    source: &SourceConfig,
    policy: Option<SharedPolicy>,
    start: FetchStart,
    kept: &Path,
) -> Result<MySqlFetcher, Failure> {
    let mut settings = mysql::Settings::from(selector(&policy));
    settings.judge = policy.map(judge);
    settings.directory = Some(kept.to_owned());
    settings.values = value_policy(source);
    settings.declared_types = source.declared_types;
    Ok(MySqlFetcher::open(name, origin(source)?, start, settings).await?)
}

fn value_policy(source: &SourceConfig) -> mysql::ValuePolicy {
    mysql::ValuePolicy {
        zero_dates: match source.zero_dates {
            ZeroDates::Error => mysql::ZeroDates::Error,
            ZeroDates::Null => mysql::ZeroDates::Null,
        },
        bad_text: match source.bad_text {
            BadText::Error => mysql::BadText::Error,
            BadText::Replace => mysql::BadText::Replace,
        },
    }
}

async fn open_source(
    name: &str,
    config: &SourceConfig,
    guests: &Guests<'_>,
    log: &Log,
    kept: &Path,
) -> Result<Source<MySqlFetcher>, Failure> {
    let policy = open_policy(name, config, guests)?;
    let resumed = log.checkpoint();
    let at = resumed.as_ref().map(|c| c.position).unwrap_or_default();
    let start = resumed.map_or_else(|| fetch_start(config.start), FetchStart::At);
    let fetcher = open_fetcher(name, config, policy, start, kept).await?;
    info!(source = %name, at = %at, "source is open");
    Ok(Source {
        name: name.to_owned(),
        fetcher,
        writer: log.writer()?,
        fetched: Fetched::default(),
        at,
        until: None,
    })
}

/// Where a fetcher begins without a checkpoint.
pub fn fetch_start(start: Start) -> FetchStart {
    match start {
        Start::Earliest => FetchStart::Earliest,
        Start::Now => FetchStart::Now,
        Start::Time(us) => FetchStart::Time(us),
        Start::Position(_) => unreachable!("validation lets no source start at a position"),
    }
}

/// Where a source's binlog is read from.
pub fn origin(source: &SourceConfig) -> Result<Origin, FetchError> {
    if source.kind == SourceKind::Relay {
        let mend = "follow its relay instead".into();
        return Err(FetchError::Setup { what: "a relay has no binlog".into(), mend });
    }
    if source.kind == SourceKind::BinlogFiles {
        let directory = source.directory.as_ref().expect("validated");
        let base = source.base.clone().map_or_else(|| base_name(directory), Ok)?;
        let mut options = FileOptions::directory(directory, base);
        options.follow = source.follow;
        return Ok(Origin::Files(options));
    }
    server_options(source).map(Origin::Server)
}

/// How a source's server is reached.
pub fn server_options(source: &SourceConfig) -> Result<ServerOptions, FetchError> {
    let password =
        source.password.as_ref().map_or_else(|| Ok(String::new()), |p| Ok(p.fetch()?.reveal().to_owned()));
    let password =
        password.map_err(|mend: String| FetchError::Setup { what: "there is no password".into(), mend })?;
    let (host, user) = (source.host.as_ref().expect("validated"), source.user.as_ref().expect("validated"));
    let mut options = ServerOptions::new(host, source.port.unwrap_or(3306), user, Password::new(password));
    options.server_id = source.server_id;
    if let Some(heartbeat) = source.heartbeat {
        options.heartbeat = heartbeat.0;
    }
    options.tls = tls(source, options.tls.mode);
    options.cleartext_password = source.cleartext_password.unwrap_or(false);
    options.semi_sync = source.semi_sync.unwrap_or(false);
    Ok(options)
}

fn tls(source: &SourceConfig, unless_given: TlsMode) -> Tls {
    let mode = source.tls.map_or(unless_given, |tls| match tls {
        config::Tls::Off => TlsMode::Off,
        config::Tls::Prefer => TlsMode::Prefer,
        config::Tls::Require => TlsMode::Require,
        config::Tls::VerifyCa => TlsMode::VerifyCa,
        config::Tls::VerifyIdentity => TlsMode::VerifyIdentity,
    });
    let identity = source.tls_certificate.clone().zip(source.tls_key.clone());
    let identity = identity.map(|(certificate, key)| TlsIdentity { certificate, key });
    Tls { mode, ca: source.tls_ca.clone(), identity }
}

/// The one base name of the binlog files in a directory.
fn base_name(directory: &Path) -> Result<String, FetchError> {
    let unreadable = |source| FetchError::Io { what: directory.display().to_string(), source };
    let mut bases = std::collections::BTreeSet::new();
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name().to_string_lossy().into_owned();
        if let Some((base, number)) = name.rsplit_once('.')
            && number.len() >= 6
            && number.bytes().all(|b| b.is_ascii_digit())
        {
            bases.insert(base.to_owned());
        }
    }
    let found = bases.len();
    bases.pop_first().filter(|_| found == 1).ok_or_else(|| FetchError::Setup {
        what: format!("{} has binlog files of {found} base names", directory.display()),
        mend: "say which with `base`, as in base = \"binlog\" for binlog.000001".into(),
    })
}

/// What a subscription shares with the others.
struct Parts<'a> {
    store: &'a EmbeddedStore,
    stdout: &'a Arc<dyn Stdout>,
    log: &'a Log,
    fetched: Fetched,
}

/// Reads a subscription's committed state.
struct State {
    store: EmbeddedStore,
    subscription: String,
}

impl StateReader for State {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, BoxError> {
        Ok(self.store.state_get(&self.subscription, key)?)
    }
}

async fn open_subscription(
    name: &str,
    config: &SubscriptionConfig,
    guests: &Guests<'_>,
    parts: Parts<'_>,
) -> Result<Subscription<LogFeed>, Failure> {
    let checkpoint = parts.store.checkpoint(name)?;
    let feed = LogFeed::open(parts.log, read_from(config.start, checkpoint.as_ref()))?;
    let source = &config.source;
    let filters = config.filter.iter().map(|g| guests.filter(source, g)).collect::<Result<_, _>>()?;
    let projections =
        config.projection.iter().map(|g| guests.projection(source, g)).collect::<Result<_, _>>()?;
    let state = Arc::new(State { store: parts.store.clone(), subscription: name.to_owned() });
    let consumer = guests.consumer(source, &config.consumer, state).await?;
    let at = checkpoint.map(|c| c.position).unwrap_or_default();
    info!(subscription = %name, at = %at, "subscription is open");
    let delivery = Delivery {
        name: name.to_owned(),
        filters,
        projections,
        consumer,
        store: parts.store.clone(),
        stdout: Arc::clone(parts.stdout),
        meter: Meter::new(at, parts.fetched),
    };
    Ok(Subscription { feed, consumer: delivery, retries: config.retries })
}

/// Where a subscription reads on: behind its checkpoint, or where the configuration says.
fn read_from(start: Start, checkpoint: Option<&Checkpoint>) -> From {
    let after = |position: Position| From::After(position);
    match (checkpoint, start) {
        (Some(checkpoint), _) => after(checkpoint.position),
        (None, Start::Earliest) => From::Earliest,
        (None, Start::Now) => From::Now,
        (None, Start::Time(us)) => From::Time(us),
        (None, Start::Position(position)) => after(position),
    }
}
