//! From a configuration's `[bootstrap.NAME]` table to snapshot storage: its store for every command that needs it, and the
//! service that follows a source's log into it and has tables copied. What is done with windows and rows is
//! `tidemill-bootstrap-service`'s.

mod judged;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidemill_bootstrap_clone::{
    CloneControl, CloneError, CloneOptions, Cloner, Policy, SnapshotDestination, Stamp,
};
use tidemill_bootstrap_service::{
    FollowError, Follower, Handle, OnGap, ServeLimits, ServiceOptions, SnapshotServer,
};
use tidemill_bootstrap_store::{
    CommitError, DeltaLake, Retention, Store, StoreError, TablePhase, Writer, WriterOptions,
};
use tidemill_client::Feed;
use tidemill_event::{
    Checkpoint, EventKind, Phase, Position, Remedy, Span, TableName, Timeline, Window, chain,
};
use tidemill_fetchers_api::FetchError;
use tidemill_fetchers_api::extract::Extract;
use tidemill_fetchers_mysql::{MySqlExtract, read_statement};
use tidemill_log::{From, Log, ReadError};
use tidemill_relay::TablePattern;
use tidemill_world::objects;
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::config::{self, BootstrapConfig, CloneConfig, Config, SourceKind, Start};
use crate::guests::Guests;
use crate::shutdown::stopped;
use crate::subscription::{LogFeed, ReadLog};
use crate::{Failure, fetch};

/// How long a service that failed is left alone, the first time; it doubles.
const RETRY_FIRST: Duration = Duration::from_millis(500);
/// The longest that it is left alone.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// The source whose snapshot storage is meant: the one that is named, or the only one that has any.
pub fn choose<'a>(config: &'a Config, named: Option<&'a str>) -> Result<&'a str, Failure> {
    let known: Vec<&str> = config.bootstrap.keys().map(String::as_str).collect();
    match (named, known.as_slice()) {
        (Some(name), _) if known.contains(&name) => Ok(name),
        (_, []) => {
            let what =
                "no source has snapshot storage; add a [bootstrap.NAME] table with `store = \"DIRECTORY\"`";
            Err(what.into())
        }
        (None, [only]) => Ok(only),
        (Some(name), _) => {
            let what = format!("source `{name}` has no snapshot storage; there are: {}", known.join(", "));
            Err(what.into())
        }
        (None, _) => Err(format!("say which source's with --source; there are: {}", known.join(", ")).into()),
    }
}

/// The snapshot storage of a source.
pub fn open_store(config: &Config, source: &str) -> Result<Store, Failure> {
    let url = &config.bootstrap[source].get_ref().store;
    Ok(Store::new(objects::open(url)?, source).with_url(url))
}

/// The snapshot storage of a source that has some, for who reads it where no service has it open.
pub fn open_server(config: &Config, source: &str) -> Result<SnapshotServer, Failure> {
    open_store(config, source).map(served)
}

fn served(store: Store) -> SnapshotServer {
    SnapshotServer::new(store, ServeLimits::default())
}

/// Whether a subscription reads snapshot storage: it begins there, or stands within it.
pub fn is_read(start: Start, checkpoint: Option<&Checkpoint>) -> bool {
    start == Start::Snapshot || checkpoint.is_some_and(|checkpoint| checkpoint.phase != Phase::Stream)
}

/// A table's name from `database.table`.
pub fn table_name(text: &str) -> Result<TableName, String> {
    let parts = text.split_once('.').filter(|(database, table)| !database.is_empty() && !table.is_empty());
    let (database, table) = parts.ok_or_else(|| format!("`{text}` is no table; write database.table"))?;
    Ok(TableName::new(database, table))
}

/// What others see of a service, and how they tell its clone what to do. Cheap to clone.
#[derive(Clone)]
pub struct BootstrapHandle {
    /// The source's name.
    pub source: Arc<str>,
    /// Its store.
    pub store: Store,
    /// Its clone.
    pub clones: CloneControl,
    /// The follower that runs now; `None`: none does.
    pub follower: watch::Receiver<Option<Handle>>,
    /// Why it ended for good, if it did.
    pub ended: watch::Receiver<Option<String>>,
    /// What it tries again until it succeeds, if anything.
    pub trouble: watch::Receiver<Option<String>>,
    /// Whether the source was asked for its tables, and every one that the store does not have is being copied.
    pub asked: watch::Receiver<bool>,
}

impl BootstrapHandle {
    /// Serves what is stored.
    pub fn server(&self) -> SnapshotServer {
        served(self.store.clone())
    }
}

/// The service of one source.
pub struct BootstrapService {
    config: BootstrapConfig,
    log: Log,
    tables: Vec<TablePattern>,
    extract: Option<MySqlExtract>,
    policy: Policy,
    /// What others see of it.
    pub handle: BootstrapHandle,
    follower: watch::Sender<Option<Handle>>,
    asked: watch::Sender<bool>,
    ended: watch::Sender<Option<String>>,
    trouble: watch::Sender<Option<String>>,
    /// These are copied anew, whatever the store has.
    anew: Vec<TableName>,
    /// Where the log ended when this process began: what it has up to there was judged by policies of before.
    judged_before: Option<Position>,
}

/// Why a service ended.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The source's log, or the store.
    #[error(transparent)]
    Follow(#[from] FollowError),
    /// Tables could not be copied.
    #[error(transparent)]
    Clone(#[from] CloneError),
    /// The store could not be taken over.
    #[error("open snapshot storage")]
    Store(#[from] StoreError),
    /// A commit failed.
    #[error("write snapshot storage")]
    Commit(#[from] CommitError),
    /// The log does not have what follows.
    #[error("read the log")]
    Log(#[from] ReadError),
    /// The source did not tell its tables.
    #[error("ask the source for its tables")]
    Source(#[from] FetchError),
}

impl BootstrapError {
    fn remedy(&self) -> Remedy {
        match self {
            BootstrapError::Follow(error) => error.remedy(),
            BootstrapError::Clone(error) => error.remedy(),
            BootstrapError::Store(error) => error.remedy(),
            BootstrapError::Commit(error) => error.remedy(),
            BootstrapError::Log(error) => error.remedy(),
            // A server that is away comes back; what it refuses is said again and again until somebody mends it.
            BootstrapError::Source(_) => Remedy::Retry,
        }
    }
}

/// The service of a source with a `[bootstrap.NAME]` table. Nothing is read or written yet.
pub fn open_service(
    config: &Config,
    name: &str,
    guests: &Guests<'_>,
    log: &Log,
) -> Result<BootstrapService, Failure> {
    let (source, bootstrap) = (config.source[name].get_ref(), config.bootstrap[name].get_ref());
    let extract = match (&bootstrap.clone.server, source.kind) {
        (Some(server), _) => Some(fetch::extract(server)?),
        (None, SourceKind::Mysql | SourceKind::Mariadb) => Some(fetch::extract(source)?),
        (None, SourceKind::Relay | SourceKind::BinlogFiles) => None,
    };
    let policy = fetch::reading_policy(name, source, guests, bootstrap.clone.connections)?;
    let (follower, seen) = watch::channel(None);
    let (asked, is_asked) = watch::channel(false);
    let (ended, has_ended) = watch::channel(None);
    let (trouble, has_trouble) = watch::channel(None);
    let handle = BootstrapHandle {
        source: name.into(),
        store: open_store(config, name)?,
        clones: CloneControl::default(),
        follower: seen,
        asked: is_asked,
        ended: has_ended,
        trouble: has_trouble,
    };
    Ok(BootstrapService {
        config: bootstrap.clone(),
        log: log.clone(),
        tables: bootstrap.tables.iter().map(|t| TablePattern::parse(t).expect("validated")).collect(),
        extract,
        policy,
        handle,
        follower,
        asked,
        ended,
        trouble,
        anew: vec![],
        judged_before: log.checkpoint().map(|end| end.position),
    })
}

impl BootstrapService {
    /// Has these tables copied anew when it runs, whatever the store has of them.
    pub fn clone_anew(&mut self, tables: Vec<TableName>) {
        self.anew = tables;
    }

    /// Runs until told to stop, or until an error that does not mend itself.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), BootstrapError> {
        let mut wait = RETRY_FIRST;
        loop {
            let began = Instant::now();
            let ended = self.once(&mut stop).await;
            self.follower.send_replace(None);
            if began.elapsed() > RETRY_MAX {
                wait = RETRY_FIRST;
            }
            let Err(error) = ended else { return Ok(()) };
            if !matches!(error.remedy(), Remedy::Retry | Remedy::Wait) {
                error!(source = %self.handle.source, error = %chain(&error), "snapshot storage stands still");
                self.ended.send_replace(Some(chain(&error)));
                return Err(error);
            }
            warn!(source = %self.handle.source, error = %chain(&error), "snapshot storage does not go on; again soon");
            self.trouble.send_replace(Some(chain(&error)));
            tokio::select! {
                biased;
                () = stopped(&mut stop) => return Ok(()),
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(RETRY_MAX),
            }
        }
    }

    async fn once(&mut self, stop: &mut watch::Receiver<bool>) -> Result<(), BootstrapError> {
        let options = WriterOptions { hints: vec![Arc::new(DeltaLake)], ..WriterOptions::default() };
        let writer = self.handle.store.open_writer(options).await?;
        self.remove_others(&writer).await?;
        if !judged::is_all_judged(&self.policy, &writer) {
            let extract = self.extract.as_ref();
            judged::judge_again(&self.policy, extract, &writer, Stamp::UNSURE).await?;
            self.catch_up(&writer, stop).await?;
            if *stop.borrow() {
                return Ok(());
            }
            judged::judge_again(&self.policy, extract, &writer, &self.policy.fingerprint()).await?;
        }
        self.begin_anew(&writer).await?;
        let clones = self.handle.clones.clone();
        let options = ServiceOptions { policy: self.policy.fingerprint(), ..service_options(&self.config) };
        let mut follower = Follower::open(writer.clone(), clones.clone(), options, read_statement).await?;
        let handle = follower.handle();
        self.follower.send_replace(Some(handle.clone()));
        self.trouble.send_replace(None);
        info!(source = %self.handle.source, "snapshot storage follows");
        let Some(extract) = self.extract.clone() else {
            return self.follow(&mut follower, stop, None).await;
        };
        let cloner = Cloner::new(
            extract.clone(),
            self.policy.clone(),
            SnapshotDestination::new(writer.clone()).telling(handle.seen()),
            handle.marks(),
            clones,
        );
        let copying = async {
            self.ask_until_told(&extract, &writer).await?;
            cloner.with_options(clone_options(&self.config.clone)).run().await?;
            Ok::<(), BootstrapError>(())
        };
        tokio::select! {
            followed = self.follow(&mut follower, stop, None) => followed,
            // It runs as long as the follower does, unless it fails.
            Err(error) = copying => Err(error),
        }
    }

    /// Removes tables that are not named any more: nobody follows their changes. What was logged of them is applied first, or
    /// they would be met in it again.
    async fn remove_others(&self, writer: &Writer) -> Result<(), BootstrapError> {
        let is_other = |table: &TableName| !is_chosen(&self.tables, table);
        let others: Vec<TableName> =
            writer.tables().values().map(|table| table.name.clone()).filter(is_other).collect();
        if others.is_empty() {
            return Ok(());
        }
        let options = ServiceOptions { policy: Stamp::UNSURE.to_owned(), ..service_options(&self.config) };
        Follower::open(writer.clone(), CloneControl::default(), options, read_statement)
            .await?
            .finish()
            .await?;
        let removed = writer.commit(|draft| {
            let at = draft.manifest.applied.position;
            let tables = draft.tables.values().filter(|table| is_other(&table.name));
            let ids: Vec<_> = tables.map(|table| table.id).collect();
            ids.into_iter().for_each(|id| draft.drop_table(id, at));
        });
        removed.await?;
        for table in others {
            warn!(source = %self.handle.source, %table, "it is not among `tables` any more: removed");
        }
        Ok(())
    }

    /// Follows what policies of before have let through. Nothing is copied meanwhile.
    async fn catch_up(
        &self,
        writer: &Writer,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<(), BootstrapError> {
        let Some(end) = self.judged_before else { return Ok(()) };
        let options = ServiceOptions { policy: Stamp::UNSURE.to_owned(), ..service_options(&self.config) };
        let nobody = CloneControl::default();
        let mut follower = Follower::open(writer.clone(), nobody, options, read_statement).await?;
        self.follower.send_replace(Some(follower.handle()));
        info!(source = %self.handle.source, upto = %end, "follows what older policies let through");
        self.follow(&mut follower, stop, Some(end)).await
    }

    /// Follows the log, also over a stretch of it that is gone where the configuration wants that; to its end, or up to there.
    async fn follow(
        &self,
        follower: &mut Follower,
        stop: &mut watch::Receiver<bool>,
        until: Option<Position>,
    ) -> Result<(), BootstrapError> {
        let copies_anew = self.config.on_gap == config::OnGap::Clone;
        loop {
            let gap = match self.feed(follower, until).await {
                Ok(feed) => match follower.follow(feed, missing, stopped(stop)).await {
                    // It has marked every table.
                    Err(FollowError::Gap { .. }) if copies_anew => None,
                    followed => return Ok(followed?),
                },
                Err(BootstrapError::Log(error)) => match gone(&error) {
                    Some(what) => Some(what),
                    None => return Err(error.into()),
                },
                Err(error) => return Err(error),
            };
            if let Some(missing) = gap {
                if !copies_anew {
                    return Err(FollowError::Gap { missing }.into());
                }
                follower.begin_anew(&format!("a stretch of the source's log is gone: {missing}"));
            }
            warn!(source = %self.handle.source, "a stretch of the log is gone; every table is copied anew");
        }
    }

    /// Marks the tables that are to be copied anew.
    async fn begin_anew(&mut self, writer: &Writer) -> Result<(), BootstrapError> {
        let anew = &self.anew;
        let marked = writer.commit(|draft| {
            let since = draft.manifest.applied.position;
            let ready = draft.tables.values_mut().filter(|table| table.phase == TablePhase::Ready);
            let asked = ready.filter(|table| anew.contains(&table.name));
            asked.for_each(|table| table.invalidate(since, "it was asked for"));
        });
        marked.await?;
        self.anew.clear();
        Ok(())
    }

    /// As often as it takes: what the log has is followed meanwhile.
    async fn ask_until_told(&self, extract: &MySqlExtract, writer: &Writer) -> Result<(), BootstrapError> {
        let mut wait = RETRY_FIRST;
        loop {
            let asked = async {
                self.ask_for_tables(extract, writer).await?;
                judged::note_decisions(&self.policy, extract, writer).await
            };
            let error = match asked.await {
                Err(error @ BootstrapError::Source(_)) => error,
                asked => {
                    self.trouble.send_replace(None);
                    return asked;
                }
            };
            warn!(source = %self.handle.source, error = %chain(&error), "nothing is copied yet; again soon");
            self.trouble.send_replace(Some(chain(&error)));
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_MAX);
        }
    }

    /// Has every table copied that the source has and the store has not.
    async fn ask_for_tables(&self, extract: &MySqlExtract, writer: &Writer) -> Result<(), BootstrapError> {
        let (known, tables) = (writer.head(), extract.tables().await?);
        if known.tables.is_empty() && !tables.iter().any(|table| is_chosen(&self.tables, table)) {
            warn!(
                source = %self.handle.source,
                "the source shows no table that is to be stored; grant the user SELECT, and check `tables`"
            );
        }
        for table in tables {
            if is_chosen(&self.tables, &table) && !known.tables.contains_key(&table.to_string()) {
                self.handle.clones.add_table(table);
            }
        }
        self.asked.send_replace(true);
        Ok(())
    }

    /// The log from where the store is; of a new store, from the end of the log, which is told first: a copy needs to know
    /// of a place that its rows are not older than.
    async fn feed(&self, follower: &Follower, until: Option<Position>) -> Result<Chosen, BootstrapError> {
        let open = |first, from: From| {
            let at = match &from {
                From::After(at) | From::Executed { after: Some(at), .. } => *at,
                _ => Position::default(),
            };
            let feed = LogFeed::open(&self.log, from)?;
            Ok(Chosen { first, feed, tables: self.tables.clone(), at, until })
        };
        if let Some(checkpoint) = follower.start() {
            return open(None, self.log.locate(&checkpoint)?);
        }
        let Some(end) = self.log.checkpoint() else { return open(None, From::Earliest) };
        let at = Span { after: end.position.scn, upto: end.position.scn };
        let timeline = Timeline { number: end.position.timeline, server: end.server.into() };
        let first = Window::empty(end.source.into(), timeline, at, end.gtid_set.into());
        open(Some(Arc::new(first)), From::After(end.position))
    }
}

fn service_options(config: &BootstrapConfig) -> ServiceOptions {
    let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    ServiceOptions {
        flush_every: config.flush_every.0,
        flush_bytes: size(config.flush.0),
        apply_every: config.apply_every.0,
        apply_bytes: size(config.apply.0),
        publish_every: config.publish_every.0,
        on_gap: match config.on_gap {
            config::OnGap::Stop => OnGap::Stop,
            config::OnGap::Clone => OnGap::CloneAnew,
        },
        retention: Retention {
            keep_versions: config.keep_versions as usize,
            keep_deltas: config.keep_deltas.0,
            keep_log: config.keep_log.0,
            ..Retention::default()
        },
        ..ServiceOptions::default()
    }
}

pub fn clone_options(config: &CloneConfig) -> CloneOptions {
    let connections = config.connections as usize;
    CloneOptions {
        max_connections: connections,
        chunks_in_flight: connections * 2,
        chunk_rows: config.chunk_rows,
        rows_per_second: config.rows_per_second,
        max_threads_running: config.threads_running,
        max_replica_lag: config.replica_lag.map(|time| time.0),
        ..CloneOptions::default()
    }
}

/// What a log no longer has.
fn missing(error: &ReadLog) -> Option<String> {
    gone(error.cause())
}

fn gone(error: &ReadError) -> Option<String> {
    match error {
        error @ (ReadError::TooOld(_) | ReadError::Diverged(_)) => Some(chain(error)),
        _ => None,
    }
}

/// Whether a table is one of the chosen ones; where none are named, all are.
fn is_chosen(tables: &[TablePattern], table: &TableName) -> bool {
    tables.is_empty() || tables.iter().any(|pattern| pattern.matches(table))
}

/// The chosen tables of a log; positions are those of the whole log.
struct Chosen {
    first: Option<Arc<Window>>,
    feed: LogFeed,
    tables: Vec<TablePattern>,
    /// How far it is.
    at: Position,
    /// Where it ends; `None`: with the log.
    until: Option<Position>,
}

impl Chosen {
    fn has_ended(&self) -> bool {
        self.until.is_some_and(|until| self.at >= until)
    }

    /// `None`: it lies behind the end.
    fn given(&mut self, window: Arc<Window>) -> Option<Arc<Window>> {
        let at = |scn| Position { timeline: window.timeline.number, scn };
        self.at = at(window.span.after);
        if self.has_ended() {
            return None;
        }
        self.at = at(window.span.upto);
        Some(self.window(window))
    }

    fn window(&self, window: Arc<Window>) -> Arc<Window> {
        if self.tables.is_empty() {
            return window;
        }
        let is_chosen = |table: &TableName| is_chosen(&self.tables, table);
        let mut window = Arc::unwrap_or_clone(window);
        window.tables.retain(|changes| is_chosen(changes.schema.name()));
        window.events.retain(|event| match &event.kind {
            EventKind::DropDatabase { .. } => true,
            kind => kind.tables().into_iter().any(is_chosen),
        });
        Arc::new(window)
    }
}

impl Feed for Chosen {
    type Error = ReadLog;

    async fn next(&mut self) -> Result<Option<Arc<Window>>, ReadLog> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        if self.has_ended() {
            return Ok(None);
        }
        Ok(self.feed.next().await?.and_then(|window| self.given(window)))
    }

    fn try_next(&mut self) -> Result<Option<Arc<Window>>, ReadLog> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        if self.has_ended() {
            return Ok(None);
        }
        Ok(self.feed.try_next()?.and_then(|window| self.given(window)))
    }

    fn rewind(&mut self) -> Result<(), ReadLog> {
        self.feed.rewind()
    }

    fn remedy(error: &ReadLog) -> Remedy {
        LogFeed::remedy(error)
    }
}
