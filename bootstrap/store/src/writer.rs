//! The one writer of a store: takes it over, commits, and stops when another takes over.
//!
//! A commit writes the table states that changed, then creates manifest n + 1, which is the commit, then gives hints. Only
//! one writer can create a number. Who finds it taken reads it: it is its own, where the answer was lost, or of who took
//! over.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::Error;
use serde::{Deserialize, Serialize};
use tidemill_event::chain;
use tidemill_world::objects::{CallFailed, probe};
use tokio::sync::Mutex;

use crate::head::{Head, nothing};
use crate::hints::Told;
use crate::latest::split_version;
use crate::limits::{HEAD_TRUSTED, STATES_AT_ONCE};
use crate::manifest::{FORMAT, manifest_path};
use crate::sealed::{seal, unseal};
use crate::{
    CommitError, Draft, Fenced, Hints, Lost, Manifest, OtherFormat, Store, StoreError, TableId, TableRef,
    TableState,
};

const SOURCE: &str = "_meta/source.json";
const PROBE: &str = "_meta/probe";
/// How keys are written as bytes: in cursors, and as the bounds of files.
const KEY_ENCODING: u32 = 1;

/// How a writer works.
#[derive(Clone, Debug)]
pub struct WriterOptions {
    /// Who it is, for people: host and process.
    pub writer: String,
    /// The time: microseconds since 1970-01-01 UTC.
    pub now_us: fn() -> i64,
    /// How often a call to the store is tried before it is an error.
    pub tries: u32,
    /// How long it waits before the second try; twice as long before each further one.
    pub retry_first: Duration,
    /// How long it waits at most.
    pub retry_max: Duration,
    /// What is told to readers after each commit, beside `LATEST.json`.
    pub hints: Vec<Arc<dyn Hints>>,
}

impl Default for WriterOptions {
    /// The clients of the clouds try again by themselves: these tries are for what they give up.
    fn default() -> WriterOptions {
        WriterOptions {
            writer: format!("process {}", std::process::id()),
            now_us,
            tries: 6,
            retry_first: Duration::from_millis(200),
            retry_max: Duration::from_secs(5),
            hints: Vec::new(),
        }
    }
}

fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// What says, once, of which kind a store is.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct SourceFile {
    format: u32,
    source: String,
    key_encoding: u32,
}

/// The one writer of a store. Cheap to clone; commits are made one after the other.
#[derive(Clone, Debug)]
pub struct Writer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    options: WriterOptions,
    head: RwLock<Head>,
    state: Mutex<State>,
}

/// What only the commit in hand sees.
#[derive(Debug)]
pub(crate) struct State {
    /// A commit of which it is not known whether it happened.
    pending: Option<Head>,
    fenced: Option<Fenced>,
    /// When the head was known to be the newest.
    confirmed_us: i64,
    told: Told,
}

/// How the creation of a manifest ended.
enum Created {
    Ours,
    Other(Arc<Manifest>),
}

impl Store {
    /// Takes the store over, and makes it where there is none: whoever wrote it before is fenced.
    pub async fn open_writer(&self, options: WriterOptions) -> Result<Writer, StoreError> {
        probe(&**self.objects(), &self.path(PROBE)).await?;
        self.introduce().await?;
        loop {
            let newest = self.newest().await?;
            let before = match newest {
                Some(manifest) => Head { tables: self.states(&manifest).await?, manifest },
                None => Head { tables: BTreeMap::new(), manifest: Arc::new(nothing(self.source())) },
            };
            let head = before.taken_over(&options);
            // Another one may be taking over as well: then from that one.
            if let Created::Ours = self.create_manifest(&head.manifest, &options).await? {
                let (number, epoch) = (head.manifest.number, head.manifest.epoch);
                tracing::info!(source = self.source(), number, epoch, "snapshot storage is taken over");
                return Ok(Writer::begin(self.clone(), options, head).await);
            }
        }
    }

    /// Says of which kind the store is, or finds that it is of this kind.
    async fn introduce(&self) -> Result<(), StoreError> {
        let ours =
            SourceFile { format: FORMAT, source: self.source().to_owned(), key_encoding: KEY_ENCODING };
        match self.create(SOURCE, seal(&ours)).await {
            Err(StoreError::Call(CallFailed { source: Error::AlreadyExists { .. }, .. })) => {}
            created => return created,
        }
        let theirs: SourceFile =
            unseal(&self.read(SOURCE).await?).map_err(|what| self.damaged(SOURCE, what))?;
        let other = |what, theirs: String, ours: String| {
            let object = self.path(SOURCE).to_string();
            StoreError::from(OtherFormat { object, what, theirs, ours })
        };
        if theirs.format != FORMAT {
            return Err(other("format", theirs.format.to_string(), FORMAT.to_string()));
        }
        if theirs.key_encoding != KEY_ENCODING {
            return Err(other("key encoding", theirs.key_encoding.to_string(), KEY_ENCODING.to_string()));
        }
        if theirs.source != self.source() {
            return Err(other("source", theirs.source, ours.source));
        }
        Ok(())
    }

    async fn states(&self, manifest: &Manifest) -> Result<BTreeMap<TableId, Arc<TableState>>, StoreError> {
        let refs: Vec<TableRef> = manifest.tables.values().cloned().collect();
        let states = stream::iter(refs)
            .map(|table| async move { Ok((table.id, self.table(&table).await?)) })
            .buffer_unordered(STATES_AT_ONCE);
        states.try_collect().await
    }

    /// Creates a manifest, and says whose it is that is there then. After an error nobody knows.
    async fn create_manifest(
        &self,
        manifest: &Manifest,
        options: &WriterOptions,
    ) -> Result<Created, StoreError> {
        let (path, bytes) = (manifest_path(manifest.number), seal(manifest));
        let mut wait = options.retry_first;
        for last in (0..options.tries.max(1)).rev() {
            let error = match self.create(&path, bytes.clone()).await {
                Ok(()) => {
                    self.saw(manifest.number);
                    return Ok(Created::Ours);
                }
                Err(error) => error,
            };
            // Whatever was said: what is there counts.
            match self.read_manifest(manifest.number).await {
                Ok(Some(there)) if there.commit_id == manifest.commit_id => return Ok(Created::Ours),
                Ok(Some(there)) => return Ok(Created::Other(there)),
                Err(StoreError::Damaged(damaged)) => return Err(damaged.into()),
                Ok(None) | Err(_) if last > 0 => {
                    tracing::warn!(%path, error = %chain(&error), "a commit is tried again");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(options.retry_max);
                }
                Ok(None) | Err(_) => return Err(error),
            }
        }
        unreachable!("the last try returns")
    }
}

impl Writer {
    async fn begin(store: Store, options: WriterOptions, head: Head) -> Writer {
        let told = Told::new(&head);
        let state = State { pending: None, fenced: None, confirmed_us: (options.now_us)(), told };
        let inner = Inner { store, options, head: RwLock::new(head), state: Mutex::new(state) };
        let writer = Writer(Arc::new(inner));
        writer.tell(&mut *writer.0.state.lock().await).await;
        writer
    }

    /// What it writes.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// The newest manifest that it knows.
    pub fn head(&self) -> Arc<Manifest> {
        self.whole_head().manifest
    }

    /// The states of the head's tables.
    pub fn tables(&self) -> BTreeMap<TableId, Arc<TableState>> {
        self.whole_head().tables
    }

    fn whole_head(&self) -> Head {
        // It is replaced as a whole.
        self.0.head.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Commits a change: all of it, or nothing. A change that changes nothing is no commit.
    ///
    /// `change` is given the head as it is, which is not always the one that the caller saw last: it looks before it
    /// changes, and adds nothing that is there already. After an error that is not [`CommitError::Fenced`] the commit may
    /// have happened all the same: the next call finds out, and finishes it, before its own `change` is called.
    ///
    /// Cancel-safe in the same way: a commit that was begun is finished by the next call, or by nobody.
    pub async fn commit<T>(&self, change: impl FnOnce(&mut Draft) -> T + Send) -> Result<T, CommitError> {
        let mut state = self.0.state.lock().await;
        self.settle(&mut state).await?;
        self.look_again(&mut state).await?;
        let head = self.whole_head();
        let mut draft = head.draft();
        let answer = change(&mut draft);
        if let Some(next) = head.next(draft, &self.0.options)? {
            self.find_head(&mut state).await?;
            let put = |(object, bytes): (crate::ObjectRef, Bytes)| async move {
                self.patiently(|| self.0.store.put(&object.path, bytes.clone())).await
            };
            let mut states = stream::iter(next.states).map(put).buffer_unordered(STATES_AT_ONCE);
            while states.try_next().await?.is_some() {}
            drop(states);
            state.pending = Some(next.head);
            self.settle(&mut state).await?;
        }
        self.tell(&mut state).await;
        Ok(answer)
    }

    /// Finishes the commit that is pending.
    async fn settle(&self, state: &mut State) -> Result<(), CommitError> {
        if let Some(fenced) = &state.fenced {
            return Err(fenced.clone().into());
        }
        let Some(pending) = &state.pending else { return Ok(()) };
        match self.0.store.create_manifest(&pending.manifest, &self.0.options).await? {
            Created::Ours => {}
            Created::Other(by) => return Err(self.fence(state, &by)),
        }
        // Whoever slept through the creation may have created a number that was used and removed before.
        let now_us = (self.0.options.now_us)();
        if is_doubtful(state.confirmed_us, now_us) {
            self.confirm_created(state).await?;
        }
        let head = state.pending.take().expect("it was there above");
        state.told.committed(&self.whole_head(), &head);
        state.confirmed_us = now_us;
        *self.0.head.write().unwrap_or_else(PoisonError::into_inner) = head;
        Ok(())
    }

    /// Makes sure that the manifest that was created is in the history: the newest one, or followed by the next. Where it
    /// is not, it goes.
    async fn confirm_created(&self, state: &mut State) -> Result<(), CommitError> {
        let Some(number) = state.pending.as_ref().map(|head| head.manifest.number) else { return Ok(()) };
        let store = &self.0.store;
        let Some(newest) = store.newest_listed().await?.filter(|newest| newest.number != number) else {
            return Ok(());
        };
        if store.read_manifest(number + 1).await?.is_some() {
            return Ok(());
        }
        store.remove(&manifest_path(number)).await?;
        Err(self.fence(state, &newest))
    }

    /// The next manifest is created behind the head, or nowhere: a directory that was moved away, or is not mounted, is there
    /// again as an empty one as soon as somebody writes.
    async fn find_head(&self, state: &mut State) -> Result<(), CommitError> {
        let path = manifest_path(self.head().number);
        if self.patiently(|| self.0.store.is_there(&path)).await? {
            return Ok(());
        }
        match self.0.store.newest_listed().await? {
            Some(newest) => Err(self.fence(state, &newest)),
            None => Err(self.lost().into()),
        }
    }

    fn lost(&self) -> StoreError {
        Lost { object: self.0.store.path(&manifest_path(self.head().number)).to_string() }.into()
    }

    /// A writer that knew its head to be the newest long ago may have been replaced since, and may not see that by a
    /// creation: its next number may have been used and removed.
    async fn look_again(&self, state: &mut State) -> Result<(), CommitError> {
        let now_us = (self.0.options.now_us)();
        if !is_doubtful(state.confirmed_us, now_us) {
            return Ok(());
        }
        let head = self.head();
        match self.0.store.newest_listed().await? {
            Some(newest) if newest.number == head.number && newest.commit_id == head.commit_id => {
                state.confirmed_us = now_us;
                Ok(())
            }
            Some(newest) => Err(self.fence(state, &newest)),
            None => Err(self.lost().into()),
        }
    }

    fn fence(&self, state: &mut State, by: &Manifest) -> CommitError {
        let fenced = Fenced {
            source_name: self.0.store.source().to_owned(),
            epoch: self.head().epoch,
            by: by.writer.clone(),
            by_epoch: by.epoch,
        };
        state.pending = None;
        state.fenced = Some(fenced.clone());
        fenced.into()
    }

    /// Gives the hints that are due. What fails is due again with the next commit.
    async fn tell(&self, state: &mut State) {
        let (store, head) = (&self.0.store, self.whole_head());
        state.told.tell(store, &head, &self.0.options.hints).await;
    }

    /// Gives the hints of every published table again, where there is no newer writer.
    pub(crate) async fn tell_all(&self) {
        let mut state = self.0.state.lock().await;
        if state.fenced.is_none() && state.pending.is_none() {
            state.told.all(&self.whole_head());
            self.tell(&mut state).await;
        }
    }

    /// As long as it is held, nothing is committed and no hint is given.
    pub(crate) async fn quiet(&self) -> impl Drop + Send + '_ {
        self.0.state.lock().await
    }

    /// Whether a table has its published versions in that directory.
    pub(crate) fn publishes(&self, root: &str) -> bool {
        let head = self.whole_head();
        let mut paths = head.tables.values().filter_map(|table| table.base.as_ref()?.path.as_deref());
        paths.any(|path| split_version(path).0 == root)
    }

    /// Tries a call again that may succeed by itself.
    async fn patiently<T, F>(&self, call: impl Fn() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let options = &self.0.options;
        let mut wait = options.retry_first;
        for _ in 1..options.tries.max(1) {
            match call().await {
                Err(error) if error.remedy() == tidemill_event::Remedy::Retry => {
                    tracing::warn!(error = %chain(&error), "a call is tried again");
                }
                ended => return ended,
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(options.retry_max);
        }
        call().await
    }
}

/// Whether so much time lies between that a number may have been removed; a clock that was set back tells nothing.
fn is_doubtful(confirmed_us: i64, now_us: i64) -> bool {
    let trusted = i64::try_from(HEAD_TRUSTED.as_micros()).unwrap_or(i64::MAX);
    !(0..trusted).contains(&now_us.saturating_sub(confirmed_us))
}
