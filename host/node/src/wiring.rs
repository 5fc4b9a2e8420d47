//! All wiring on one page: from a configuration to running sources and subscriptions.
//!
//! ```text
//! data/guests/            compiled guests
//! data/log/SOURCE/        the source's log: segments, and in `cache/` what was fetched from its history
//! data/fetcher/SOURCE/    what the source's fetcher keeps: the rows of prepared XA transactions
//! data/store.redb         checkpoints, consumers' state and output
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tidemill_bootstrap_clone::CloneControl;
use tidemill_bootstrap_service::SnapshotServer;
use tidemill_client::{Control, PhasedFeed, Switch};
use tidemill_event::{Checkpoint, Position, TableName};
use tidemill_log::{DiskFiles, From, Fsync, HistoryConfig, Log, LogConfig};
use tidemill_relay::{Relay, RelayError, SnapshotPath};
use tidemill_sandbox::{BoxError, Sandbox, SandboxConfig, StateReader};
use tidemill_sink::EmbeddedStore;
use tidemill_world::objects;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use crate::Failure;
use crate::bootstrap::{self, BootstrapError, BootstrapHandle, BootstrapService};
use crate::config::{self, Config, SourceConfig, Start, SubscriptionConfig};
use crate::copy::{self, Beginning, Copy};
use crate::fetch::{self, Opener};
use crate::guests::Guests;
use crate::handle::SourceHandle;
use crate::shutdown::stopped;
use crate::source::{OnError, Source, SourceError};
use crate::status::{Fetched, Figures, Meter};
use crate::stdout::Stdout;
use crate::subscription::{Delivery, End, LogFeed, Paused, Subscription};
use tidemill_event::chain;

/// Everything of a configuration, ready to run.
pub struct Pipeline {
    sources: Vec<Source>,
    subscriptions: Vec<(Subscription<SubscriptionFeed>, Control)>,
    /// What others see of the sources, in their order.
    pub handles: Vec<SourceHandle>,
    /// What others see of the subscriptions, in their order.
    pub switches: Vec<SubscriptionHandle>,
    /// The figures of each subscription.
    pub meters: BTreeMap<String, Meter>,
    /// The sandbox of all guests.
    pub sandbox: Sandbox,
    /// Checkpoints, consumers' state and output; `None`: no subscription runs here.
    pub store: Option<EmbeddedStore>,
    /// What others see of snapshot storage, in the order of its sources.
    pub storages: Vec<BootstrapHandle>,
    /// What follows the sources into snapshot storage.
    services: Vec<BootstrapService>,
    /// The relay, if the sources are served.
    relay: Option<(Relay, watch::Sender<bool>)>,
    /// Turns true for subscriptions and for whoever is served, when the sources have stopped.
    later: watch::Sender<bool>,
}

/// What others see of a subscription, and how they tell it to pause and to resume.
#[derive(Clone)]
pub struct SubscriptionHandle {
    /// Its name.
    pub name: String,
    /// Its source's.
    pub source: String,
    /// Its figures.
    pub meter: Meter,
    /// Its switch.
    pub switch: Switch,
    /// How far the copy is that it begins with, where it does.
    pub copy: Option<CloneControl>,
}

/// What a process does with a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Runs the subscriptions until what is there is delivered; an error ends what it hits.
    Once,
    /// Runs the subscriptions until told to stop; an error that does not mend itself ends what it hits.
    Run,
    /// As above, and operators may pause and resume, so errors wait for them.
    RunAndServe,
    /// Serves only.
    Serve,
}

impl Role {
    fn on_error(self) -> OnError {
        match self {
            Role::Once => OnError::End,
            Role::Run => OnError::Retry,
            Role::RunAndServe | Role::Serve => OnError::Hold,
        }
    }
}

/// How a pipeline ended: each source and subscription that did not end well.
#[derive(Debug, Default)]
pub struct Ended {
    /// Sources that stopped.
    pub stopped: Vec<SourceError>,
    /// Subscriptions that paused.
    pub paused: Vec<Paused>,
    /// Why snapshot storage was not brought up to date.
    pub unstored: Vec<BootstrapError>,
    /// Why the relay stopped serving.
    pub unserved: Option<RelayError>,
}

impl Ended {
    /// Whether all went well.
    pub fn well(&self) -> bool {
        self.stopped.is_empty()
            && self.paused.is_empty()
            && self.unstored.is_empty()
            && self.unserved.is_none()
    }
}

/// Opens what the configuration names. `base` is the configuration file's directory.
pub async fn open(
    config: &Config,
    base: &Path,
    stdout: Arc<dyn Stdout>,
    role: Role,
) -> Result<Pipeline, Failure> {
    let sandbox = Sandbox::new(SandboxConfig::new(config.guest_cache()))?;
    let guests = Guests { sandbox: &sandbox, config, base };
    let (later, stop) = watch::channel(false);
    let mut pipeline = Pipeline {
        sources: vec![],
        subscriptions: vec![],
        handles: vec![],
        switches: vec![],
        meters: BTreeMap::new(),
        sandbox: sandbox.clone(),
        store: None,
        storages: vec![],
        services: vec![],
        relay: None,
        later,
    };
    for (name, source) in &config.source {
        if let Some(history) = &source.get_ref().history {
            probe_history(name, &history.url).await?;
        }
        let opened = open_source(name, source.get_ref(), config, &guests, role).await?;
        pipeline.handles.push(opened.handle.clone());
        pipeline.sources.push(opened);
    }
    // What is to end by itself copies nothing: that takes as long as it takes.
    if role != Role::Once {
        for name in config.bootstrap.keys() {
            let source = pipeline.handle(name);
            let service = bootstrap::open_service(config, name, &guests, &source.log)?;
            pipeline.storages.push(service.handle.clone());
            pipeline.services.push(service);
        }
    }
    if role == Role::Serve || config.subscription.is_empty() {
        return Ok(pipeline);
    }
    let store = EmbeddedStore::open(&store_path(config))?;
    let stored = pipeline.stored(config)?;
    pipeline.store = Some(store.clone());
    for (name, subscription) in &config.subscription {
        let subscription = subscription.get_ref();
        if subscription.at_relay.is_some() {
            let what = "`at_relay` is what a relay does for `tidemill consume`; use that, or remove it";
            return Err(format!("subscription `{name}`: {what}").into());
        }
        let source = pipeline.handle(&subscription.source);
        let storage = stored.get(&subscription.source).cloned();
        let (log, fetched) = (&source.log, source.fetched.clone());
        let parts = Parts { store: &store, stdout: &stdout, log, fetched, storage };
        let (opened, copy) = open_subscription(name, subscription, &guests, parts).await?;
        let (switch, control) = Control::new(stop.clone());
        let control = if role.on_error() == OnError::Hold { control.held_on_error() } else { control };
        let (source, meter) = (subscription.source.clone(), opened.consumer.meter.clone());
        pipeline.meters.insert(name.clone(), meter.clone());
        pipeline.switches.push(SubscriptionHandle { name: name.clone(), source, meter, switch, copy });
        pipeline.subscriptions.push((opened, control));
    }
    Ok(pipeline)
}

impl Pipeline {
    /// Has tables of a source copied anew when it runs.
    pub fn clone_anew(&mut self, source: &str, tables: Vec<TableName>) {
        let service = self.services.iter_mut().find(|service| *service.handle.source == *source);
        service.expect("the caller looked").clone_anew(tables);
    }

    /// The snapshot storage of each source that has some, opened once: what one reader has read, the others have too.
    fn stored(&self, config: &Config) -> Result<BTreeMap<String, SnapshotServer>, Failure> {
        let open = |source: &String| {
            let opened = self.storages.iter().find(|storage| *storage.source == **source);
            let server = match opened {
                Some(storage) => storage.server(),
                None => bootstrap::open_server(config, source)?,
            };
            Ok((source.clone(), server))
        };
        config.bootstrap.keys().map(open).collect()
    }

    fn handle(&self, source: &str) -> &SourceHandle {
        let handle = self.handles.iter().find(|handle| *handle.name == *source);
        handle.expect("the configuration was validated")
    }

    /// What was read from a source.
    pub fn fetched(&self, source: &str) -> Fetched {
        let handle = self.handles.iter().find(|handle| *handle.name == *source);
        handle.map(|handle| handle.fetched.clone()).unwrap_or_default()
    }

    /// Lets the sources be served while it runs. A relay that cannot go on stops the process by `stop`.
    pub fn serve(&mut self, relay: Relay, stop: watch::Sender<bool>) {
        self.relay = Some((relay, stop));
    }

    /// Runs until every source has ended and every subscription has everything, or until told to stop. A source that
    /// stops or a subscription that pauses leaves the others alone; what a stopped source has stored is still delivered.
    pub async fn run(self, mut stop: watch::Receiver<bool>) -> Ended {
        let mut sources = JoinSet::new();
        for source in self.sources {
            sources.spawn(source.run(stop.clone()));
        }
        let mut subscriptions = JoinSet::new();
        for (subscription, control) in self.subscriptions {
            subscriptions.spawn(subscription.run(control));
        }
        let mut services = JoinSet::new();
        for service in self.services {
            services.spawn(service.run(self.later.subscribe()));
        }
        let (archive, stop_archive) = watch::channel(false);
        let logs: Vec<Log> = self.handles.iter().map(|handle| handle.log.clone()).collect();
        let archiving = logs.iter().map(|log| tokio::spawn(archived(log.clone(), stop_archive.clone())));
        let archiving: Vec<_> = archiving.collect();
        let later = self.later.subscribe();
        let served = self.relay.map(|(relay, stop)| {
            tokio::spawn(async move {
                let served = relay.run(later).await;
                stop.send_replace(true);
                served
            })
        });
        let mut ended = Ended::default();
        while let Some(source) = sources.join_next().await {
            if let Err(stopped) = source.expect("a source's task does not panic") {
                error!(error = %chain(&stopped), "a source stopped");
                ended.stopped.push(stopped);
            }
        }
        loop {
            let told = *self.later.borrow();
            let end = tokio::select! {
                biased;
                () = stopped(&mut stop), if !told => {
                    self.later.send_replace(true);
                    continue;
                }
                end = subscriptions.join_next() => end,
            };
            match end {
                None => break,
                Some(end) => {
                    if let End::Paused(paused) = end.expect("a subscription's task does not panic") {
                        error!(error = %chain(&paused), "a subscription paused");
                        ended.paused.push(paused);
                    }
                }
            }
        }
        self.later.send_replace(true);
        while let Some(service) = services.join_next().await {
            if let Err(stopped) = service.expect("a service's task does not panic") {
                ended.unstored.push(stopped);
            }
        }
        if let Some(served) = served {
            ended.unserved = served.await.expect("the relay's task does not panic").err();
        }
        archive.send_replace(true);
        for archived in archiving {
            archived.await.expect("an archiver's task does not panic");
        }
        ended
    }
}

/// Asks the store of a source's history whether it takes objects, gives them back and keeps the first of a name: with
/// another one, two relays would overwrite each other's history.
pub async fn probe_history(source: &str, url: &str) -> Result<(), Failure> {
    let object = object_store::path::Path::default().join(source).join("probe");
    Ok(objects::probe(&*objects::open(url)?, &object).await?)
}

/// The same of snapshot storage, by the name that its writer asks for.
pub async fn probe_storage(source: &str, url: &str) -> Result<(), Failure> {
    let object = object_store::path::Path::default().join(source).join("_meta").join("probe");
    Ok(objects::probe(&*objects::open(url)?, &object).await?)
}

/// How long the last uploads into history may take when the process ends; what they leave is uploaded after the next start.
const LAST_UPLOADS: Duration = Duration::from_secs(10);

/// Brings a log's segments into its history, until told to stop and then a last time.
async fn archived(log: Log, stop: watch::Receiver<bool>) {
    if log.history_stats().is_none() {
        return;
    }
    let archived = match log.archive(stop).await {
        Ok(()) => match tokio::time::timeout(LAST_UPLOADS, log.archive_now()).await {
            Ok(archived) => archived,
            Err(_) => return warn!("uploads into the history take long; they go on after the next start"),
        },
        Err(error) => Err(error),
    };
    if let Err(error) = archived {
        error!(error = %chain(&error), "the change history does not go on; segments stay on this disk");
    }
}

/// The figures of each subscription.
pub fn figures(meters: &BTreeMap<String, Meter>) -> BTreeMap<String, Figures> {
    meters.iter().map(|(name, meter)| (name.clone(), meter.figures())).collect()
}

/// The file of checkpoints, consumers' state and output.
pub fn store_path(config: &Config) -> PathBuf {
    config.data.join("store.redb")
}

/// The directory of a source's log.
pub fn log_path(config: &Config, source: &str) -> PathBuf {
    config.data.join("log").join(source)
}

/// A source's log, with its history where it has one.
pub async fn open_log(config: &Config, name: &str) -> Result<Log, Failure> {
    let source = config.source[name].get_ref();
    let history = source.history.as_ref().map(|history| history_config(name, history)).transpose()?;
    let log = log_config(&log_path(config, name), source);
    Ok(Log::open_tiered(log, Arc::new(DiskFiles), history).await?)
}

/// A log's settings, in that directory.
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

async fn open_source(
    name: &str,
    source: &SourceConfig,
    config: &Config,
    guests: &Guests<'_>,
    role: Role,
) -> Result<Source, Failure> {
    let log = open_log(config, name).await?;
    let handle = SourceHandle::new(name, log.clone());
    let opener = Opener {
        name: name.to_owned(),
        costs: handle.costs.clone(),
        config: source.clone(),
        policy: fetch::open_policy(name, source, guests)?,
        kept: config.data.join("fetcher").join(name),
    };
    // Where errors are held, one source that cannot be reached keeps none of the others from being served.
    let opened = match role.on_error() {
        OnError::Hold => None,
        OnError::End | OnError::Retry => Some(opener.open(log.checkpoint()).await?),
    };
    let until = opened.as_ref().filter(|_| role == Role::Once).and_then(|fetcher| fetcher.end_at_open());
    let at = log.checkpoint().map(|checkpoint| checkpoint.position).unwrap_or_default();
    Ok(Source { opener, opened, log, handle, at, until, on_error: role.on_error() })
}

/// A log's history, in the store that the configuration names.
fn history_config(source: &str, config: &config::HistoryConfig) -> Result<HistoryConfig, Failure> {
    let mut history = HistoryConfig::new(objects::open(&config.url)?, &config.url, source);
    history.keep_time = config.keep_time.map(|time| time.0);
    history.upload_after = Some(config.upload_after.0);
    history.cache_bytes = config.cache.0;
    Ok(history)
}

/// A log in this process, with snapshot storage or a copy before it where the subscription begins with one.
type SubscriptionFeed = PhasedFeed<LogFeed, Beginning>;

/// What a subscription shares with the others.
struct Parts<'a> {
    store: &'a EmbeddedStore,
    stdout: &'a Arc<dyn Stdout>,
    log: &'a Log,
    fetched: Fetched,
    /// The source's snapshot storage, where it has some.
    storage: Option<SnapshotServer>,
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
) -> Result<(Subscription<SubscriptionFeed>, Option<CloneControl>), Failure> {
    let checkpoint = parts.store.checkpoint(name)?;
    let (feed, copy) = match open_beginning(name, config, guests, &parts, checkpoint.as_ref())? {
        None => {
            let log = LogFeed::open(parts.log, read_from(config.start, checkpoint.as_ref()))?;
            (PhasedFeed::without_storage(log), None)
        }
        Some(beginning) => {
            let copy = beginning.copy().cloned();
            (PhasedFeed::new(LogFeed::open(parts.log, From::Now)?, beginning, checkpoint), copy)
        }
    };
    let consumer = open_delivery(name, config, guests, parts.store, parts.stdout, parts.fetched).await?;
    Ok((Subscription { feed, consumer, retries: config.retries }, copy))
}

/// What a subscription reads before its log; `None`: nothing.
fn open_beginning(
    name: &str,
    config: &SubscriptionConfig,
    guests: &Guests<'_>,
    parts: &Parts<'_>,
    checkpoint: Option<&Checkpoint>,
) -> Result<Option<Beginning>, Failure> {
    let within = checkpoint.is_some_and(copy::is_within);
    if within && config.start != Start::Copy {
        let what =
            "stands within a copy of its source's tables; set start = \"copy\" again until that is done";
        return Err(format!("subscription `{name}` {what}").into());
    }
    if within || (config.start == Start::Copy && checkpoint.is_none()) {
        let copy = Copy::open(name, config, guests, parts.log)?;
        return Ok(Some(Beginning::Copied(Box::new(copy))));
    }
    if !bootstrap::is_read(config.start, checkpoint) {
        return Ok(None);
    }
    let Some(storage) = &parts.storage else {
        let source = &config.source;
        let what = "stands within a snapshot, and its source has no snapshot storage; put the [bootstrap";
        return Err(format!("subscription `{name}` {what}.{source}] table back").into());
    };
    let reader = storage.reader(vec![], SnapshotPath::Auto, name);
    Ok(Some(Beginning::Stored(Box::new(reader))))
}

/// What a subscription delivers to, behind its checkpoint; for `up` and `consume` alike.
pub async fn open_delivery(
    name: &str,
    config: &SubscriptionConfig,
    guests: &Guests<'_>,
    store: &EmbeddedStore,
    stdout: &Arc<dyn Stdout>,
    fetched: Fetched,
) -> Result<Delivery, Failure> {
    let source = &config.source;
    let filters = config.filter.iter().map(|g| guests.filter(source, g)).collect::<Result<_, _>>()?;
    let projections =
        config.projection.iter().map(|g| guests.projection(source, g)).collect::<Result<_, _>>()?;
    let state = Arc::new(State { store: store.clone(), subscription: name.to_owned() });
    let consumer = guests.consumer(source, &config.consumer, state).await?;
    let at = store.checkpoint(name)?.map(|c| c.position).unwrap_or_default();
    info!(subscription = %name, at = %at, "subscription is open");
    Ok(Delivery {
        name: name.to_owned(),
        filters,
        projections,
        consumer,
        store: store.clone(),
        stdout: Arc::clone(stdout),
        meter: Meter::new(at, fetched),
    })
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
        // The stream's turn comes later, and is told then where it begins.
        (None, Start::Snapshot | Start::Copy) => From::Now,
    }
}
