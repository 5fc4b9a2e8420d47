//! A consumer at the end of the stream: gets whole transactions in commit order, and what it does is held back
//! until the host commits it together with the position. Whatever goes wrong, what it did since the last
//! completed transaction is dropped and it begins again on a fresh instance.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tidemill_event::{SchemaId, TableName, TableSchema, Window};
use wasmtime::Store;
use wasmtime::component::{Component, InstancePre, TypedFunc};

use crate::abi::{self, Batch, ChangeSet, Column, Interest};
use crate::batch::{self, Cut, Entry, TableBatch};
use crate::convert::{self, Lowered};
use crate::effects::{Effects, Mark, OutputChange, StateReader, StateWrite};
use crate::error::{Answer, At, GuestEnd, GuestError, LimitHit};
use crate::events::{self, Told};
use crate::grant::{self, Grant};
use crate::guest::{self, Exports, GuestConfig, Setup};
use crate::link;
use crate::module::{Kind, Module};
use crate::pipe::Pipe;
use crate::store::{Counters, HostState, store};
use crate::table::{self, TableIds};

type Plan = TypedFunc<(abi::TableDef<'static>,), (Result<Option<Interest>, abi::Error>,)>;
type Process = TypedFunc<(Batch<'static>,), (Result<(), abi::Failure>,)>;
type Close = TypedFunc<(), ()>;
type TakesEvents = TypedFunc<(), (bool,)>;

/// Where the subscription is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryPhase {
    /// Rows of a snapshot.
    Snapshot,
    /// The last state of every key that changed since the snapshot.
    Deltas,
    /// Transactions as they were committed.
    Live,
}

/// What a delivery did. Commit it together with the window's checkpoint before the next delivery.
#[derive(Clone, Debug, Default)]
pub struct Delivered {
    /// Whether the window ended with a transaction's end. If not, nothing is to be committed yet: the effects
    /// are held back until the window that brings the rest.
    pub complete: bool,
    /// Transactions, and parts of them, that the guest was given.
    pub transactions: u64,
    /// Changes and events that the guest was given.
    pub changes: u64,
    /// The last write of each key.
    pub state: Vec<StateWrite>,
    /// What becomes of its output tables, in order.
    pub output: Vec<OutputChange>,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it counted.
    pub counters: Vec<(String, u64)>,
}

/// A delivery that was not done to its end. Nothing of the consumer is left over: deliver again from the
/// position that is committed.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct DeliveryError {
    /// What happened.
    pub error: GuestError,
    /// How many transactions of the window, from the first, were processed to their end.
    pub done: usize,
    /// The effects of exactly those: commit them with the last one's position, or drop them.
    pub effects: Box<Delivered>,
}

/// A consumer, opened.
pub struct ConsumerStage {
    module: Module,
    config: GuestConfig,
    grants: Vec<Grant>,
    linked: InstancePre<HostState>,
    state: Arc<dyn StateReader>,
    ids: TableIds,
    plans: HashMap<SchemaId, Option<Arc<Interest>>>,
    wanted: HashMap<TableName, bool>,
    counters: Counters,
    live: Option<Live>,
}

struct Live {
    store: Store<HostState>,
    plan: Plan,
    process: Process,
    close: Close,
    takes_events: bool,
    planned: HashSet<u32>,
    bytes_at_start: usize,
    /// The effects up to the end of the last completed transaction.
    boundary: Mark,
}

/// How one call of `process` failed.
struct Failed {
    end: GuestEnd,
    done: usize,
}

impl ConsumerStage {
    /// Links what is granted and sets the guest up.
    pub async fn open(
        module: &Module,
        config: GuestConfig,
        grants: Vec<Grant>,
        state: Arc<dyn StateReader>,
    ) -> Result<ConsumerStage, GuestError> {
        let at = At::nowhere(&config.source);
        guest::check(module, Kind::Consumer, &config.limits, &at)?;
        let inner = &module.inner;
        let linked = link::consumer(&inner.shared.engine, &grants)
            .and_then(|linker| linker.instantiate_pre(&inner.component))
            .map_err(|e| failed(module, "setup", &at, GuestEnd::HostFault(e.into())))?;
        let mut stage = ConsumerStage {
            module: module.clone(),
            config,
            grants,
            linked,
            state,
            ids: TableIds::default(),
            plans: HashMap::new(),
            wanted: HashMap::new(),
            counters: Counters::default(),
            live: None,
        };
        stage.ensure_live(&at).await?;
        Ok(stage)
    }

    /// Gives the guest the window's changes. With none for it, the guest is not called.
    pub async fn deliver(
        &mut self,
        window: &Window,
        phase: DeliveryPhase,
    ) -> Result<Delivered, DeliveryError> {
        let at = At::window(window);
        let prepared = self.prepare(window, phase, &at).await;
        let (interests, entries, cuts) = prepared.map_err(|error| self.nothing_done(error))?;
        let (mut transactions, mut changes) = (0, 0);
        for cut in &cuts {
            if let Err(Failed { end, done }) =
                self.process(window, &interests, &entries, cut, phase, &at).await
            {
                return Err(self.partly_done(failed(&self.module, "process", &at, end), cut, done));
            }
            transactions += cut.shares.len() as u64;
            changes += cut.entries.len() as u64;
        }
        let complete = window.transactions.last().is_none_or(|last| last.part.completes());
        Ok(if complete {
            Delivered { transactions, changes, ..self.take_effects() }
        } else {
            Delivered {
                complete,
                transactions,
                changes,
                counters: self.counters.take(),
                ..Delivered::default()
            }
        })
    }

    /// Forgets what is not committed. The next delivery begins on a fresh instance.
    pub fn rollback(&mut self) {
        self.live = None;
    }

    /// Tells the guest that it is stopped in good order.
    pub async fn close(mut self) -> Result<(), GuestError> {
        let at = At::nowhere(&self.config.source);
        let limit = self.config.limits.call_time;
        let Some(live) = &mut self.live else { return Ok(()) };
        live.store.data_mut().begin("close", &at);
        let called = within(limit, live.close.call_async(&mut live.store, ())).await;
        match called {
            Ok(()) => Ok(()),
            Err(error) => Err(self.stopped("close", &at, error)),
        }
    }

    async fn prepare(
        &mut self,
        window: &Window,
        phase: DeliveryPhase,
        at: &At,
    ) -> Result<(Vec<Option<Arc<Interest>>>, Vec<Entry>, Vec<Cut>), GuestError> {
        let mut interests = Vec::with_capacity(window.tables.len());
        for table in &window.tables {
            interests.push(self.plan(&table.schema, &at.table(&table.schema)).await?);
        }
        let told = self.told_events(window, at).await?;
        let entries = batch::entries(window, &interests, &told, phase == DeliveryPhase::Snapshot);
        let cuts = batch::cuts(window, &entries, &interests, &self.config.limits)
            .map_err(|limit| failed(&self.module, "process", at, GuestEnd::Limit(limit)))?;
        Ok((interests, entries, cuts))
    }

    /// Which of the window's events the guest is told. One that it does not take and that its copy of a table would
    /// not survive stops it, rather than pass by.
    async fn told_events(&mut self, window: &Window, at: &At) -> Result<Vec<u32>, GuestError> {
        if window.events.is_empty() {
            return Ok(vec![]);
        }
        self.ensure_live(at).await?;
        let takes_events = self.live.as_ref().expect("it was ensured above").takes_events;
        let wanted = |table: &TableName| self.wanted.get(table) != Some(&false);
        let mut told = Vec::with_capacity(window.events.len());
        for (index, event) in (0..).zip(&window.events) {
            match events::told(&event.kind, wanted) {
                Told::Nothing => {}
                _ if takes_events => told.push(index),
                Told::SchemaChanged => {}
                Told::ContentGone(what) => {
                    let scn = window.transactions[event.txn as usize].scn;
                    let text = format!(
                        "{what}, in the transaction at {scn}, and the guest does not take events: empty or reload what \
                         it wrote, and start it again after {scn}"
                    );
                    return Err(failed(
                        &self.module,
                        "process",
                        at,
                        GuestEnd::Error(Answer::Unsupported(text)),
                    ));
                }
            }
        }
        Ok(told)
    }

    /// What the guest wants of a table; it is asked once a schema in every instance.
    async fn plan(
        &mut self,
        schema: &Arc<TableSchema>,
        at: &At,
    ) -> Result<Option<Arc<Interest>>, GuestError> {
        self.ensure_live(at).await?;
        let id = self.ids.of(schema);
        let limit = self.config.limits.call_time;
        let live = self.live.as_mut().expect("it was ensured above");
        if live.planned.contains(&id) {
            return Ok(self.plans.get(&schema.id()).cloned().flatten());
        }
        live.store.data_mut().begin("plan", at);
        let columns = convert::column_defs(schema);
        let def = table::def(id, &self.config.source, schema, &columns);
        let answered = within(limit, live.plan.call_async(&mut live.store, (def,))).await;
        let interest = match answered {
            Ok((Ok(interest),)) => interest.map(Arc::new),
            Ok((Err(answer),)) => {
                return Err(failed(&self.module, "plan", at, GuestEnd::Error(answer.into())));
            }
            Err(error) => return Err(self.stopped("plan", at, error)),
        };
        live.planned.insert(id);
        if let Some(interest) = &interest {
            let checked = table::check_ordinals(&interest.after, schema)
                .and_then(|()| table::check_ordinals(&interest.before, schema));
            if let Err(what) = checked {
                self.live = None;
                let what = format!("its interest {what}");
                return Err(failed(&self.module, "plan", at, GuestEnd::Invalid(what)));
            }
        }
        self.wanted.insert(schema.name().clone(), interest.is_some());
        self.plans.insert(schema.id(), interest.clone());
        Ok(interest)
    }

    /// One call of `process`.
    async fn process(
        &mut self,
        window: &Window,
        interests: &[Option<Arc<Interest>>],
        entries: &[Entry],
        cut: &Cut,
        phase: DeliveryPhase,
        at: &At,
    ) -> Result<(), Failed> {
        let limits = self.config.limits;
        let tables = batch::table_batches(window, &entries[cut.entries.clone()], interests);
        let lowered: Vec<_> = tables.iter().map(|t| (t.after.lower(), t.before.lower())).collect();
        let columns: Vec<_> =
            lowered.iter().map(|(after, before)| (as_columns(after), as_columns(before))).collect();
        let id = |table: &TableBatch| self.ids.known(&window.tables[table.table].schema);
        let sets: Vec<_> = tables.iter().zip(&columns).map(|(t, c)| change_set(t, id(t), c)).collect();
        let names: Vec<String> = cut.shares.iter().map(|share| transaction_id(window, share.txn)).collect();
        let shares = cut.shares.iter().zip(&names);
        let transactions: Vec<_> = shares.map(|(share, name)| transaction(window, share, name)).collect();
        let happened = events::Lowered::of(window, &batch::events(&entries[cut.entries.clone()]));
        let happened = happened.events();
        let batch =
            Batch { phase: phase.into(), transactions: &transactions, changes: &sets, events: &happened };
        let live = self.live.as_mut().expect("tables were planned in this instance");
        live.store.data_mut().begin("process", at);
        effects(&mut live.store).begin();
        let answered = within(limits.call_time, live.process.call_async(&mut live.store, (batch,))).await;
        match answered {
            Ok((Ok(()),)) => {
                let mark = effects(&mut live.store).end();
                if cut.shares.last().is_some_and(|share| share.part.completes()) {
                    live.boundary = mark;
                }
                Ok(())
            }
            Ok((Err(failure),)) => Err(self.refused(cut, failure)),
            Err(error) => Err(Failed { end: self.end_of(error), done: 0 }),
        }
    }

    /// The guest said that it did only a part of the batch.
    fn refused(&mut self, cut: &Cut, failure: abi::Failure) -> Failed {
        let done = failure.done as usize;
        if done > cut.completed() {
            let what =
                format!("it says that {done} transactions are done, of {} in the batch", cut.completed());
            return Failed { end: GuestEnd::Invalid(what), done: 0 };
        }
        if let (Some(live), true) = (&mut self.live, done > 0) {
            live.boundary = effects(&mut live.store).end();
        }
        Failed { end: GuestEnd::Error(failure.cause.into()), done }
    }

    fn nothing_done(&mut self, error: GuestError) -> DeliveryError {
        self.live = None;
        let effects = Box::new(Delivered { counters: self.counters.take(), ..Delivered::default() });
        DeliveryError { error, done: 0, effects }
    }

    /// Effects up to the last completed transaction; everything later is dropped with the instance.
    fn partly_done(&mut self, error: GuestError, cut: &Cut, done: usize) -> DeliveryError {
        if let Some(live) = &mut self.live {
            let boundary = live.boundary;
            effects(&mut live.store).end_at(boundary);
        }
        let effects = Box::new(self.take_effects());
        self.live = None;
        // What lies between two transactions of the batch had nothing for this consumer.
        let done = match cut.shares.get(done) {
            Some(next) => next.txn as usize,
            None => cut.shares.last().map_or(0, |share| share.txn as usize + 1),
        };
        DeliveryError { error, done, effects }
    }

    fn take_effects(&mut self) -> Delivered {
        let mut delivered = Delivered { complete: true, ..Delivered::default() };
        if let Some(live) = &mut self.live {
            let effects = effects(&mut live.store);
            (delivered.state, delivered.output, delivered.stdout) = effects.take();
            live.boundary = effects.mark();
            self.counters.merge(std::mem::take(&mut live.store.data_mut().counters));
            if guest::outgrown(live.store.data(), live.bytes_at_start) {
                self.live = None;
            }
        }
        delivered.counters = self.counters.take();
        delivered
    }

    async fn ensure_live(&mut self, at: &At) -> Result<(), GuestError> {
        if self.live.is_none() {
            let live = self.instantiate(at).await?;
            self.live = Some(live);
        }
        Ok(())
    }

    async fn instantiate(&mut self, at: &At) -> Result<Live, GuestError> {
        let (module, limits) = (&self.module.inner, self.config.limits);
        let pipe = match self.grants.contains(&Grant::Stdout) {
            true => Pipe::bounded(limits.effect_bytes),
            false => Pipe::not_granted(),
        };
        let mut wasi = grant::context(&self.grants);
        wasi.stdout(pipe.clone());
        let mut state = HostState::new(&module.name, &limits, wasi);
        state.effects = Some(Effects::new(Arc::clone(&self.state), pipe, &limits));
        state.begin("setup", at);
        let mut store = store(&module.shared.engine, &limits, state);
        // A call gives way at every tick, so that its deadline can be judged by the clock.
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        let made = within(limits.call_time, instance(&self.linked, &module.component, &mut store)).await;
        let (mut live, setup, takes_events) = match made {
            Ok((find, setup, takes_events)) => (find(store), setup, takes_events),
            Err(error) => {
                let end = end_of(error, store.data(), &self.config);
                return Err(failed(&self.module, "setup", at, end));
            }
        };
        let json = self.config.json.as_str();
        let answered = within(limits.call_time, setup.call_async(&mut live.store, (json,))).await;
        self.counters.merge(std::mem::take(&mut live.store.data_mut().counters));
        let end = match answered {
            Ok((Ok(info),)) => {
                tracing::debug!(guest = &*module.name, info.name, info.version, "set up");
                live.store.data_mut().begin("takes-events", at);
                match within(limits.call_time, takes_events.call_async(&mut live.store, ())).await {
                    Ok((takes,)) => live.takes_events = takes,
                    Err(error) => {
                        let end = end_of(error, live.store.data(), &self.config);
                        return Err(failed(&self.module, "takes-events", at, end));
                    }
                }
                live.bytes_at_start = live.store.data().budget.bytes;
                return Ok(live);
            }
            Ok((Err(answer),)) => GuestEnd::Error(answer.into()),
            Err(error) => end_of(error, live.store.data(), &self.config),
        };
        Err(failed(&self.module, "setup", at, end))
    }

    fn stopped(&mut self, function: &'static str, at: &At, error: Stopped) -> GuestError {
        let end = self.end_of(error);
        self.live = None;
        failed(&self.module, function, at, end)
    }

    fn end_of(&self, error: Stopped) -> GuestEnd {
        let live = self.live.as_ref().expect("a call was made in this instance");
        end_of(error, live.store.data(), &self.config)
    }
}

/// A fresh instance and its functions.
async fn instance(
    linked: &InstancePre<HostState>,
    component: &Component,
    store: &mut Store<HostState>,
) -> wasmtime::Result<(impl FnOnce(Store<HostState>) -> Live + use<>, Setup, TakesEvents)> {
    let instance = linked.instantiate_async(&mut *store).await?;
    let mut exports = Exports { component, instance: &instance, store };
    let interface = Kind::Consumer.interface();
    let plan: Plan = exports.func(interface, "plan")?;
    let process: Process = exports.func(interface, "process")?;
    let close: Close = exports.func(interface, "close")?;
    let takes_events = exports.func(interface, "takes-events")?;
    let setup = exports.func("lifecycle", "setup")?;
    let live = move |store| Live {
        store,
        plan,
        process,
        close,
        takes_events: false,
        planned: HashSet::new(),
        bytes_at_start: 0,
        boundary: Mark::default(),
    };
    Ok((live, setup, takes_events))
}

/// Why a call has no answer.
enum Stopped {
    Deadline,
    Engine(wasmtime::Error),
}

/// Bounds a call by the wall clock: it may wait, which no epoch interrupts.
async fn within<T>(limit: Duration, call: impl Future<Output = wasmtime::Result<T>>) -> Result<T, Stopped> {
    match tokio::time::timeout(limit, call).await {
        Ok(answered) => answered.map_err(Stopped::Engine),
        Err(_) => Err(Stopped::Deadline),
    }
}

fn end_of(error: Stopped, state: &HostState, config: &GuestConfig) -> GuestEnd {
    match error {
        Stopped::Deadline => GuestEnd::Limit(LimitHit::Time(config.limits.call_time)),
        Stopped::Engine(error) => guest::ending(error, state, &config.limits),
    }
}

fn failed(module: &Module, function: &'static str, at: &At, end: GuestEnd) -> GuestError {
    guest::failed(module, Kind::Consumer, function, at, end)
}

fn effects(store: &mut Store<HostState>) -> &mut Effects {
    store.data_mut().effects.as_mut().expect("a consumer's state has effects")
}

fn as_columns<'a>(lowered: &'a [Lowered<'_>]) -> Vec<Column<'a>> {
    lowered.iter().map(Lowered::column).collect()
}

fn change_set<'a>(
    table: &'a TableBatch,
    id: u32,
    (after, before): &'a (Vec<Column<'a>>, Vec<Column<'a>>),
) -> ChangeSet<'a> {
    let (places, ops) = (&table.places, &table.ops);
    ChangeSet { table: id, count: ops.len() as u32, places, ops, after, before }
}

/// The same in every redelivery: the GTID, or the place on the source's clock.
fn transaction_id(window: &Window, txn: u32) -> String {
    let txn = &window.transactions[txn as usize];
    if txn.gtid.is_empty() { format!("{}/{}", window.timeline.number, txn.scn) } else { txn.gtid.clone() }
}

fn transaction<'a>(window: &Window, share: &batch::Share, id: &'a str) -> abi::Transaction<'a> {
    let txn = &window.transactions[share.txn as usize];
    abi::Transaction {
        id,
        scn: txn.scn.0,
        committed: txn.commit_time_us,
        changes: share.changes,
        part: share.part.into(),
    }
}

impl From<DeliveryPhase> for abi::Phase {
    fn from(phase: DeliveryPhase) -> Self {
        match phase {
            DeliveryPhase::Snapshot => abi::Phase::Snapshot,
            DeliveryPhase::Deltas => abi::Phase::Deltas,
            DeliveryPhase::Live => abi::Phase::Live,
        }
    }
}
