//! The loop: takes windows, and decides when what they say is made durable, applied and merged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidemill_bootstrap_clone::CloneControl;
use tidemill_bootstrap_store::{Manifest, TableId, Writer};
use tidemill_client::Feed;
use tidemill_event::{Checkpoint, Position, Remedy, TableName, TableSchema, Window, chain};
use tidemill_fetchers_api::statement::ReadStatement;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::FollowError;
use super::applier::Applier;
use super::change::{copied_since, progress};
use super::keeper::Keeper;
use crate::limits::{RETRY_FIRST, RETRY_MAX};
use crate::{Marks, OnGap, ServiceOptions, State, Status};

/// Follows a source's stream into its store. One at a time: an older one is fenced by the store.
pub struct Follower {
    applier: Applier,
    keeper: Keeper,
    options: ServiceOptions,
    clones: CloneControl,
    /// Tables that are being copied, and since when.
    copied: BTreeMap<TableId, (TableName, Position)>,
    status: watch::Sender<Status>,
    asked: mpsc::Receiver<Ask>,
    /// Tables as the source was seen to have them, until no transaction is open.
    seen: mpsc::UnboundedReceiver<Arc<TableSchema>>,
    unread: Vec<Arc<TableSchema>>,
    handle: Handle,
    due: Due,
}

/// A handle on a follower. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    ask: mpsc::Sender<Ask>,
    status: watch::Receiver<Status>,
    marks: Marks,
    see: mpsc::UnboundedSender<Arc<TableSchema>>,
}

#[derive(Debug)]
enum Ask {
    Apply(oneshot::Sender<Position>),
    Publish(oneshot::Sender<()>),
}

/// When what was taken has to be committed.
#[derive(Debug, Default)]
struct Due {
    flush: Option<Instant>,
    apply: Option<Instant>,
    waiting: Vec<oneshot::Sender<Position>>,
}

impl Handle {
    /// What the follower is doing.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// What it has passed, for who copies tables beside it.
    pub fn marks(&self) -> Marks {
        self.marks.clone()
    }

    /// Takes schemas of tables as the source has them now, for those that whoever copies was asked to look at.
    pub fn seen(&self) -> mpsc::UnboundedSender<Arc<TableSchema>> {
        self.see.clone()
    }

    /// Has everything applied that was read; the position that the tables are at then. `None`: the follower is gone.
    pub async fn apply(&self) -> Option<Position> {
        let (answer, applied) = oneshot::channel();
        self.ask.send(Ask::Apply(answer)).await.ok()?;
        applied.await.ok()
    }

    /// Has a version published of every table that changed; does not wait for it.
    pub async fn publish(&self) -> Option<()> {
        let (answer, begun) = oneshot::channel();
        self.ask.send(Ask::Publish(answer)).await.ok()?;
        begun.await.ok()
    }
}

impl Follower {
    /// A follower that writes what `writer` has taken over, and has tables copied by `clones`; `read` knows the words of the
    /// source's statements. Reads again what was logged and not applied.
    pub async fn open(
        writer: Writer,
        clones: CloneControl,
        options: ServiceOptions,
        read: ReadStatement,
    ) -> Result<Follower, FollowError> {
        // What an earlier commit left in doubt is found out before the head is looked at.
        writer.commit(|_| ()).await?;
        let (applier, marks) = Applier::new(writer.clone(), read, &options);
        let (ask, asked) = mpsc::channel(16);
        let (status, seen) = watch::channel(Status::default());
        let (see, tables_seen) = mpsc::unbounded_channel();
        let handle = Handle { ask, status: seen, marks, see };
        let keeper = Keeper::new(writer, &options);
        let mut follower = Follower {
            applier,
            keeper,
            options,
            clones,
            copied: BTreeMap::new(),
            status,
            asked,
            seen: tables_seen,
            unread: vec![],
            handle,
            due: Due::default(),
        };
        follower.tell();
        follower.applier.replay().await?;
        follower.tell();
        Ok(follower)
    }

    /// Makes everything that was logged part of the tables, and follows no further.
    pub async fn finish(mut self) -> Result<(), FollowError> {
        self.end().await
    }

    /// A handle on it.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Where the feed has to go on; `None`: wherever it likes, nothing is stored yet or what is missing was given up.
    pub fn start(&self) -> Option<Checkpoint> {
        let (intake, head) = (self.applier.intake(), self.applier.writer().head());
        let mark = intake.mark();
        (!intake.is_fresh()).then(|| mark.checkpoint(&head.source, intake.timelines()))
    }

    /// Gives up what is missing between what is stored and where the next feed begins: every table is copied anew. What was
    /// published stays.
    pub fn begin_anew(&mut self, reason: &str) {
        self.applier.begin_anew(reason);
    }

    /// Follows until `stop` is done or the source has ended; everything that came is durable then. `missing` tells an error
    /// of a feed that says that what we need is gone.
    ///
    /// After an error the follower is to be dropped. Another one goes on where the store is.
    pub async fn follow<F: Feed>(
        &mut self,
        mut feed: F,
        missing: impl Fn(&F::Error) -> Option<String>,
        stop: impl Future<Output = ()>,
    ) -> Result<(), FollowError> {
        let result = self.run(&mut feed, missing, stop).await;
        self.status.send_modify(|status| {
            status.state = match &result {
                Err(FollowError::Gap { missing }) => State::Gap { missing: missing.clone() },
                Err(FollowError::Fenced(_)) => State::Fenced,
                _ => State::Ended,
            };
            if let Err(error) = &result {
                status.last_error = Some(chain(error));
            }
        });
        result
    }

    async fn run<F: Feed>(
        &mut self,
        feed: &mut F,
        missing: impl Fn(&F::Error) -> Option<String>,
        stop: impl Future<Output = ()>,
    ) -> Result<(), FollowError> {
        tokio::pin!(stop);
        let mut retry = Retry::default();
        self.status.send_modify(|status| status.state = State::Following);
        self.keeper.wake();
        let mut copies = self.clones.status();
        loop {
            let mut arrived = None;
            let next = self.due.next(self.keeper.next());
            tokio::select! {
                biased;
                () = &mut stop => return self.end().await,
                done = self.keeper.done() => {
                    if let Some(error) = done? {
                        self.note(&error);
                    }
                    self.keeper.wake();
                    self.tell();
                }
                Some(ask) = self.asked.recv() => self.answer(ask),
                Some(table) = self.seen.recv() => self.unread.push(table),
                // Cancel-safe: a window that is not given yet is given by the next call.
                window = feed.next(), if retry.is_over() => match window {
                    Ok(Some(window)) => arrived = Some(window),
                    Ok(None) => return self.end().await,
                    Err(error) => match (missing(&error), F::remedy(&error)) {
                        (Some(missing), _) => return self.lose(missing).await,
                        (None, Remedy::Retry | Remedy::Wait) => {
                            self.note(&error);
                            retry.later();
                        }
                        (None, remedy) => return Err(FollowError::Feed { remedy, source: Box::new(error) }),
                    },
                },
                Ok(()) = copies.changed() => {}
                () = sleep_until(retry.until()), if !retry.is_over() => retry.again(),
                () = sleep_until(next) => self.keeper.wake(),
            }
            if let Some(window) = arrived {
                retry = Retry::default();
                self.take(&window).await?;
            }
            self.settle().await?;
        }
    }

    async fn take(&mut self, window: &Window) -> Result<(), FollowError> {
        self.applier.take(window).await?;
        let now = Instant::now();
        self.due.flush.get_or_insert(now + self.options.flush_every);
        self.due.apply.get_or_insert(now + self.options.apply_every);
        let mark = self.applier.intake().mark();
        self.status.send_modify(|status| {
            (status.read, status.read_time_us) = (mark.position, mark.time_us);
        });
        Ok(())
    }

    /// Commits what is due.
    async fn settle(&mut self) -> Result<(), FollowError> {
        let held = self.applier.held();
        if !held.is_whole {
            return Ok(());
        }
        for table in std::mem::take(&mut self.unread) {
            self.applier.see(&table).await?;
            self.tell();
            self.keeper.wake();
        }
        let held = self.applier.held();
        let now = Instant::now();
        let is_over = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let wanted = held.is_urgent || !self.due.waiting.is_empty() || self.has_copy();
        if wanted || held.rows >= self.options.apply_bytes || is_over(self.due.apply) {
            return self.apply().await;
        }
        if held.log >= self.options.flush_bytes || is_over(self.due.flush) {
            self.due.flush = None;
            self.applier.flush().await?;
            self.tell();
        }
        Ok(())
    }

    async fn apply(&mut self) -> Result<(), FollowError> {
        // With a stream that begins wherever it likes, there is nothing yet that it could be at.
        if !self.applier.intake().is_fresh() {
            self.applier.apply().await?;
        }
        let waiting = std::mem::take(&mut self.due).waiting;
        let applied = self.applier.writer().head().applied.position;
        for answer in waiting {
            // Who asked may be gone.
            let _ = answer.send(applied);
        }
        self.tell();
        self.keeper.wake();
        Ok(())
    }

    /// Whether a copy is complete and only waits for a commit.
    fn has_copy(&self) -> bool {
        let read = self.applier.intake().mark().position;
        self.applier.writer().tables().values().any(|table| {
            progress(table)
                .is_some_and(|copy| copy.complete && copy.chunks.iter().all(|chunk| chunk.high <= read))
        })
    }

    /// The source has ended, or we are told to.
    async fn end(&mut self) -> Result<(), FollowError> {
        if self.applier.held().is_whole && !self.applier.intake().is_fresh() {
            self.apply().await?;
        }
        while self.keeper.is_busy() {
            if let Some(error) = self.keeper.done().await? {
                self.note(&error);
            }
        }
        self.tell();
        Ok(())
    }

    /// A stretch of the log is gone: no table is what the source has, until it is copied anew.
    async fn lose(&mut self, missing: String) -> Result<(), FollowError> {
        if self.options.on_gap == OnGap::CloneAnew {
            self.begin_anew(&format!("a stretch of the source's log is gone: {missing}"));
        }
        self.applier.lose(&missing).await?;
        self.tell();
        Err(FollowError::Gap { missing })
    }

    fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Apply(answer) => self.due.waiting.push(answer),
            Ask::Publish(answer) => {
                self.keeper.publish_all();
                let _ = answer.send(());
            }
        }
    }

    fn note(&self, error: &(dyn std::error::Error + 'static)) {
        let text = chain(error);
        tracing::warn!(error = text, "goes on");
        self.status.send_modify(|status| status.last_error = Some(text));
    }

    /// Tells what the head is: to who looks, and to who copies.
    fn tell(&mut self) {
        let writer = self.applier.writer();
        let (head, tables) = (writer.head(), writer.tables());
        let trouble = |table| self.keeper.trouble(table).map(str::to_owned);
        self.status.send_modify(|status| {
            status.committed(&head as &Manifest, tables.values().map(|t| &**t), trouble);
        });
        let open = tables.values().filter(|table| progress(table).is_none_or(|copy| !copy.complete));
        let open = open.filter_map(|table| Some((table.id, (table.name.clone(), copied_since(table)?))));
        let open: BTreeMap<TableId, (TableName, Position)> = open.collect();
        for (id, (name, _)) in &self.copied {
            let is_there = tables.get(id).is_some_and(|table| table.name == *name);
            if !is_there && !open.values().any(|(other, _)| other == name) {
                self.clones.forget_table(name.clone());
            }
        }
        for (id, (name, since)) in &open {
            match self.copied.get(id) {
                Some((known, before)) if known == name && before == since => {}
                Some((known, _)) if known == name => self.clones.restart_table(name.clone()),
                _ => self.clones.add_table(name.clone()),
            }
        }
        self.copied = open;
        self.applier.take_unknown().into_iter().for_each(|name| self.clones.restart_table(name));
        self.applier.take_defined().into_iter().for_each(|name| self.clones.look_at_table(name));
    }
}

impl Due {
    fn next(&self, other: Instant) -> Instant {
        [self.flush, self.apply].into_iter().flatten().fold(other, Instant::min)
    }
}

/// When a feed that failed is asked again.
#[derive(Debug, Default)]
struct Retry {
    until: Option<Instant>,
    delay: Duration,
}

impl Retry {
    fn is_over(&self) -> bool {
        self.until.is_none()
    }

    fn until(&self) -> Instant {
        self.until.unwrap_or_else(Instant::now)
    }

    fn later(&mut self) {
        self.delay = (self.delay * 2).clamp(RETRY_FIRST, RETRY_MAX);
        self.until = Some(Instant::now() + self.delay);
    }

    fn again(&mut self) {
        self.until = None;
    }
}
