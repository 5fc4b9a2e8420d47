//! The loop that owns a clone: which table is begun, bounded, read and finished when. The work itself is done by jobs.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::future::Future;
use std::panic;
use std::sync::Arc;
use std::time::Duration;

use tidemill_event::TableName;
use tidemill_fetchers_api::extract::{Bound, Extract, Load, ReplicaLag};
use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, interval_at};

use crate::budget::Budget;
use crate::control::TableRequest;
use crate::jobs::{Begun, Chunks, Counted, Site, load_trouble};
use crate::sessions::Sessions;
use crate::table::Copying;
use crate::trouble::Trouble;
use crate::{
    CloneControl, CloneError, CloneOptions, CloneStatus, Destination, Gate, Marks, Policy, TableProgress,
    TableStage,
};

/// A clone, not started.
pub struct Cloner<E, D, M> {
    extract: E,
    policy: Policy,
    destination: D,
    marks: M,
    options: CloneOptions,
    control: CloneControl,
}

impl<E: Extract, D: Destination, M: Marks> Cloner<E, D, M> {
    /// A clone of tables of a source. `control` tells it which; what was asked before it was made counts.
    pub fn new(
        extract: E,
        policy: Policy,
        destination: D,
        marks: M,
        control: CloneControl,
    ) -> Cloner<E, D, M> {
        let options = CloneOptions::default();
        Cloner { extract, policy, destination, marks, options, control }
    }

    /// With other limits.
    pub fn with_options(self, options: CloneOptions) -> Cloner<E, D, M> {
        Cloner { options, ..self }
    }

    /// Copies what is asked for until it is dropped, or fails as a whole.
    ///
    /// Dropping it is a crash: the chunks in flight are read again by the next one. A table that could not be copied is tried
    /// again after a while.
    pub async fn run(self) -> Result<(), CloneError> {
        let every = self.options.failed_again_every;
        let mut running = Running::new(self);
        running.again = Some(later(every));
        loop {
            running.turn().await?;
        }
    }

    /// Copies what was asked for and ends when every table has come to its end.
    pub async fn run_to_end(self) -> Result<CloneStatus, CloneError> {
        let status = self.control.status();
        let mut running = Running::new(self);
        running.take_requests();
        while !running.is_idle() {
            running.turn().await?;
        }
        let status = status.borrow().clone();
        Ok(status)
    }
}

/// A clone that runs.
struct Running<E: Extract, D, M> {
    site: Arc<Site<E, D, M>>,
    tables: BTreeMap<TableName, Table>,
    /// Tables with chunks to read, the one whose turn it is first.
    active: VecDeque<TableName>,
    jobs: JoinSet<Result<Done, Trouble>>,
    running: HashMap<Id, Job>,
    tickets: u64,
    open: watch::Sender<bool>,
    is_paused: bool,
    busy: Option<String>,
    load: Option<Interval>,
    /// When tables that could not be copied are tried again; `None`: never.
    again: Option<Interval>,
}

struct Table {
    /// Tells its jobs from those of an earlier copy of the same table.
    ticket: u64,
    state: State,
}

enum State {
    Waiting { anew: bool },
    Beginning,
    Copying(Box<Copying>),
    Ended,
}

/// A job that runs.
struct Job {
    what: What,
    table: Option<(TableName, u64)>,
    abort: AbortHandle,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Begin,
    Bound,
    Chunk(u32),
    Finish,
    Load,
}

/// What a job has done.
enum Done {
    Begun(Begun),
    Bound(Option<Bound>),
    Chunk(Counted),
    Finished(BTreeSet<u32>),
    Load(Option<Load>),
}

impl<E: Extract, D: Destination, M: Marks> Running<E, D, M> {
    fn new(cloner: Cloner<E, D, M>) -> Self {
        let Cloner { extract, policy, destination, marks, options, control } = cloner;
        let (open, seen) = watch::channel(true);
        let is_limited = options.max_threads_running.is_some() || options.max_replica_lag.is_some();
        let load = is_limited.then(|| {
            let mut every = interval(options.load_every);
            every.set_missed_tick_behavior(MissedTickBehavior::Delay);
            every
        });
        let site = Site {
            sessions: Sessions::new(extract, options.max_connections.max(1)),
            budget: Budget::new(options.rows_per_second),
            policy,
            destination,
            marks,
            options,
            control,
            open: seen,
        };
        let mut running = Running {
            site: Arc::new(site),
            tables: BTreeMap::new(),
            active: VecDeque::new(),
            jobs: JoinSet::new(),
            running: HashMap::new(),
            tickets: 0,
            open,
            is_paused: false,
            busy: None,
            load,
            again: None,
        };
        if running.load.is_some() {
            // Until the source has said that it is not.
            running.busy = Some("what the source is under is not known yet".to_owned());
        }
        running.set_gate();
        running
    }

    /// One thing that happened, and what it lets begin.
    async fn turn(&mut self) -> Result<(), CloneError> {
        self.schedule();
        let asks_load = self.load.is_some() && self.count(|what| what == What::Load) == 0;
        // Each branch may be dropped before it is ready: requests and results stay where they are.
        tokio::select! {
            biased;
            Some(ended) = self.jobs.join_next_with_id(), if !self.jobs.is_empty() => self.ended(ended)?,
            () = self.site.control.arrived() => self.take_requests(),
            () = tick(&mut self.load), if asks_load => self.ask_load(),
            () = tick(&mut self.again), if self.again.is_some() => self.try_failed(),
        }
        Ok(())
    }

    fn is_idle(&self) -> bool {
        self.tables.values().all(|table| match &table.state {
            State::Ended => true,
            State::Copying(copying) => copying.is_done(),
            State::Waiting { .. } | State::Beginning => false,
        })
    }

    // ---- what begins ----

    fn schedule(&mut self) {
        if *self.open.borrow() {
            self.begin_tables();
            self.plan_chunks();
            self.read_chunks();
        }
        self.finish_tables();
        if self.jobs.is_empty() {
            self.site.sessions.close_idle();
        }
    }

    fn begin_tables(&mut self) {
        let at_once = match self.site.destination.in_order() {
            true => 1,
            false => self.site.options.tables_at_once.max(1),
        };
        while self.active.len() + self.count(|what| what == What::Begin) < at_once {
            let waiting = self.tables.iter().find_map(|(name, table)| match table.state {
                State::Waiting { anew } => Some((name.clone(), table.ticket, anew)),
                _ => None,
            });
            let Some((name, ticket, anew)) = waiting else { return };
            self.tables.get_mut(&name).expect("it was found").state = State::Beginning;
            let (site, table) = (Arc::clone(&self.site), name.clone());
            let job = async move { site.begin(&table, anew).await.map(Done::Begun) };
            self.spawn(What::Begin, Some((name, ticket)), job);
        }
    }

    /// One bound at a time, of the tables in turn, so that no table waits until another is planned to its end.
    fn plan_chunks(&mut self) {
        if self.count(|what| what == What::Bound) > 0 {
            return;
        }
        let (site, ahead) = (Arc::clone(&self.site), self.site.options.chunks_in_flight.max(1));
        for _ in 0..self.active.len() {
            let Some((name, ticket, copying)) = self.next_active() else { return };
            let Some(after) = copying.take_bound(ahead) else { continue };
            let work = Arc::clone(&copying.work);
            let job = async move { site.bound(&work, after.as_ref()).await.map(Done::Bound) };
            self.spawn(What::Bound, Some((name, ticket)), job);
            return;
        }
    }

    fn read_chunks(&mut self) {
        let in_flight = self.site.options.chunks_in_flight.max(1);
        let mut free = in_flight.saturating_sub(self.count(|what| matches!(what, What::Chunk(_))));
        let mut without = 0;
        while free > 0 && without < self.active.len() {
            let Some((name, ticket, copying)) = self.next_active() else { return };
            let Some(chunk) = copying.take_chunk() else {
                without += 1;
                continue;
            };
            let (work, plan) = (Arc::clone(&copying.work), Arc::clone(&copying.plan));
            let site = Arc::clone(&self.site);
            let job = async move { site.chunk(&work, &plan, chunk).await.map(Done::Chunk) };
            self.spawn(What::Chunk(chunk), Some((name, ticket)), job);
            (free, without) = (free - 1, 0);
        }
    }

    fn finish_tables(&mut self) {
        for _ in 0..self.active.len() {
            let Some((name, ticket, copying)) = self.next_active() else { return };
            if copying.take_finish() {
                let (work, plan) = (Arc::clone(&copying.work), Arc::clone(&copying.plan));
                let site = Arc::clone(&self.site);
                let job = async move { site.finish(&work, &plan).await.map(Done::Finished) };
                self.spawn(What::Finish, Some((name, ticket)), job);
            }
        }
    }

    /// The table whose turn it is; the next time it is the next one's.
    fn next_active(&mut self) -> Option<(TableName, u64, &mut Copying)> {
        self.active.rotate_left(usize::from(self.active.len() > 1));
        let name = self.active.back()?.clone();
        let table = self.tables.get_mut(&name).expect("what is active is known");
        match &mut table.state {
            State::Copying(copying) => Some((name, table.ticket, copying)),
            _ => unreachable!("what is active is being copied"),
        }
    }

    fn ask_load(&mut self) {
        let site = Arc::clone(&self.site);
        let job = async move {
            match site.load().await {
                Ok(load) => Ok(Done::Load(Some(load))),
                Err(error) => match load_trouble(&error) {
                    (why, true) => {
                        site.control.update(|status| status.last_error = Some(why));
                        Ok(Done::Load(None))
                    }
                    (why, false) => Err(Trouble::Table(why)),
                },
            }
        };
        self.spawn(What::Load, None, job);
    }

    fn spawn(
        &mut self,
        what: What,
        table: Option<(TableName, u64)>,
        job: impl Future<Output = Result<Done, Trouble>> + Send + 'static,
    ) {
        let abort = self.jobs.spawn(job);
        self.running.insert(abort.id(), Job { what, table, abort });
    }

    fn count(&self, which: impl Fn(What) -> bool) -> usize {
        self.running.values().filter(|job| which(job.what)).count()
    }

    // ---- what ended ----

    fn ended(&mut self, ended: Result<(Id, Result<Done, Trouble>), JoinError>) -> Result<(), CloneError> {
        let (id, result) = match ended {
            Ok((id, result)) => (id, Some(result)),
            Err(error) if error.is_cancelled() => (error.id(), None),
            Err(error) => panic::resume_unwind(error.into_panic()),
        };
        let job = self.running.remove(&id).expect("every job is known");
        let Some(result) = result else { return Ok(()) };
        let Some((name, ticket)) = job.table else {
            self.measured(result);
            return Ok(());
        };
        if self.tables.get(&name).is_none_or(|table| table.ticket != ticket) {
            return Ok(());
        }
        match result {
            Ok(done) => self.done(&name, job.what, done),
            Err(Trouble::All(error)) => return Err(error),
            Err(Trouble::Redefined) => self.ask(name, true),
            // Whoever gave it up may have told nobody: it did not know yet that it was being made.
            Err(Trouble::GivenUp) => self.begin_again(name, false),
            Err(Trouble::Table(reason) | Trouble::Again(reason)) => {
                tracing::warn!(table = %name, error = %reason, "a table is not copied");
                self.end(&name, TableStage::Failed { reason: reason.clone() });
                if self.site.destination.in_order() {
                    return Err(CloneError::Table { table: name, source: reason.into() });
                }
            }
        }
        Ok(())
    }

    fn done(&mut self, name: &TableName, what: What, done: Done) {
        let table = self.tables.get_mut(name).expect("it was looked up");
        if let Done::Begun(begun) = done {
            match begun {
                Begun::Declined => self.end(name, TableStage::Declined),
                Begun::Gone => self.forget(name),
                Begun::Complete => self.end(name, TableStage::Done),
                Begun::Chunks(chunks) => {
                    let Chunks { work, plan, done } = *chunks;
                    let copying = Copying::new(work, plan, done, Instant::now());
                    table.state = State::Copying(Box::new(copying));
                    self.active.push_back(name.clone());
                    self.tell(name);
                }
            }
            return;
        }
        let State::Copying(copying) = &mut table.state else {
            unreachable!("{what:?} of a table that is not being copied")
        };
        match (what, done) {
            (_, Done::Bound(bound)) => copying.bounded(bound),
            (What::Chunk(number), Done::Chunk(Counted { rows, bytes })) => {
                copying.chunk_done(number, rows, bytes);
            }
            (_, Done::Finished(missing)) => {
                copying.finished(missing);
                if copying.is_done() {
                    self.active.retain(|active| active != name);
                }
            }
            (what, _) => unreachable!("{what:?} ended as another job"),
        }
        self.tell(name);
    }

    /// What is asked for is copied, unless it is being copied already.
    fn ask(&mut self, name: TableName, anew: bool) {
        if anew || !self.is_copied(&name) {
            self.begin_again(name, anew);
        }
    }

    /// What is told of the table stays, unless it is copied.
    fn look_at(&mut self, name: &TableName) {
        if !self.is_copied(name) {
            self.wait(name, false);
        }
    }

    fn is_copied(&self, name: &TableName) -> bool {
        self.tables.get(name).is_some_and(|table| match &table.state {
            State::Waiting { .. } | State::Beginning => true,
            State::Copying(copying) => !copying.is_done(),
            State::Ended => false,
        })
    }

    fn begin_again(&mut self, name: TableName, anew: bool) {
        self.wait(&name, anew);
        self.site.control.update(|status| {
            status.tables.insert(name, TableProgress::default());
        });
    }

    fn wait(&mut self, name: &TableName, anew: bool) {
        self.drop_jobs(name);
        self.tickets += 1;
        let table = Table { ticket: self.tickets, state: State::Waiting { anew } };
        self.tables.insert(name.clone(), table);
    }

    /// Tables that could not be copied: what was in the way may be mended. Until they can be, they are told as failed.
    fn try_failed(&mut self) {
        let status = self.site.control.status();
        let is_failed = |progress: &TableProgress| matches!(progress.stage, TableStage::Failed { .. });
        let tables = &status.borrow().tables;
        let failed = tables.iter().filter(|(_, progress)| is_failed(progress)).map(|(name, _)| name);
        let failed: Vec<TableName> = failed.cloned().collect();
        failed.iter().for_each(|name| self.wait(name, false));
    }

    fn end(&mut self, name: &TableName, stage: TableStage) {
        self.drop_jobs(name);
        if let Some(table) = self.tables.get_mut(name) {
            table.state = State::Ended;
        }
        self.site.control.update(|status| status.tables.entry(name.clone()).or_default().stage = stage);
    }

    fn forget(&mut self, name: &TableName) {
        self.drop_jobs(name);
        self.tables.remove(name);
        self.site.control.update(|status| {
            status.tables.remove(name);
        });
    }

    fn drop_jobs(&mut self, name: &TableName) {
        self.active.retain(|active| active != name);
        let is_its = |job: &&Job| job.table.as_ref().is_some_and(|(table, _)| table == name);
        self.running.values().filter(is_its).for_each(|job| job.abort.abort());
    }

    // ---- what is asked for ----

    fn take_requests(&mut self) {
        let requests = self.site.control.take();
        for (name, request) in requests.tables {
            match request {
                TableRequest::Copy => self.ask(name, false),
                TableRequest::Restart => self.ask(name, true),
                TableRequest::Redo(chunks) => self.redo(name, chunks),
                TableRequest::Forget => self.forget(&name),
                TableRequest::Look => self.look_at(&name),
            }
        }
        if let Some(is_paused) = requests.pause {
            self.is_paused = is_paused;
            self.set_gate();
            // Whoever lets it go on has mended what was in the way.
            if !is_paused {
                self.try_failed();
            }
        }
    }

    fn redo(&mut self, name: TableName, chunks: BTreeSet<u32>) {
        let Some(Table { state: State::Copying(copying), .. }) = self.tables.get_mut(&name) else {
            // What is missing is found out when it is begun.
            return self.ask(name, false);
        };
        copying.redo(chunks);
        if !self.active.contains(&name) {
            self.active.push_back(name.clone());
        }
        self.tell(&name);
    }

    // ---- whether anything is read, and what is told ----

    fn measured(&mut self, load: Result<Done, Trouble>) {
        self.busy = match load {
            Ok(Done::Load(Some(load))) => too_busy(&self.site.options, load),
            // Not known now: it stays as it was.
            Ok(_) => return,
            Err(Trouble::Table(why)) => Some(format!("what the source is under cannot be read: {why}")),
            Err(_) => return,
        };
        self.set_gate();
    }

    fn set_gate(&mut self) {
        let gate = match (self.is_paused, &self.busy) {
            (true, _) => Gate::Paused,
            (false, Some(why)) => Gate::Busy { why: why.clone() },
            (false, None) => Gate::Open,
        };
        self.open.send_replace(gate == Gate::Open);
        self.site.control.update(|status| status.gate = gate);
    }

    fn tell(&self, name: &TableName) {
        let Some(Table { state: State::Copying(copying), .. }) = self.tables.get(name) else { return };
        self.site.control.update(|status| {
            let progress = status.tables.entry(name.clone()).or_default();
            copying.tell(progress, Instant::now());
            progress.stage = if copying.is_done() { TableStage::Done } else { TableStage::Copying };
        });
    }
}

/// The first time is a while from now.
fn later(every: Duration) -> Interval {
    let mut every = interval_at(Instant::now() + every, every);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    every
}

async fn tick(every: &mut Option<Interval>) {
    if let Some(every) = every {
        every.tick().await;
    }
}

fn too_busy(options: &CloneOptions, load: Load) -> Option<String> {
    if let Some(limit) = options.max_threads_running.filter(|limit| load.threads_running > *limit) {
        return Some(format!("{} statements run at the source, the limit is {limit}", load.threads_running));
    }
    let limit = options.max_replica_lag?.as_secs();
    match load.replica_lag? {
        ReplicaLag::Seconds(lag) if lag <= limit => None,
        ReplicaLag::Seconds(lag) => Some(format!(
            "the server that is copied is {lag} s behind its own source, the limit is {limit} s"
        )),
        ReplicaLag::Stopped => Some(format!(
            "the server that is copied does not follow its own source, and the limit is {limit} s; start its replication, or \
             take it away from a server that is no replica any more, or leave the limit `replica_lag` out"
        )),
    }
}
