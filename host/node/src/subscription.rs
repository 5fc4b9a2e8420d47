//! One subscription of a configuration: its windows come from a log here or from relays elsewhere, its guests and its
//! store are the consumer. The loop between them is `tidemill-client`'s.
//!
//! ```text
//! log or relay ─▶ filters ─▶ projections ─▶ consumer ─▶ stdout, then one commit: effects and checkpoint
//! ```

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use tidemill_client::{Cause, Consumer, Control, Feed, RetryPolicy, Stream, drive};
use tidemill_event::{Checkpoint, Part, Phase, Position, Remedy, Window};
use tidemill_log::{From, Log, ReadError, Reader};
use tidemill_sandbox::{ConsumerStage, Delivered, DeliveryPhase, FilterStage, GuestError, ProjectionStage};
use tidemill_sink::{Effects, EmbeddedStore, OutputChange, OutputRows, StoreError};
use tracing::info;

use crate::status::Meter;
use crate::stdout::Stdout;

/// What a subscription is made of; `wiring` makes it.
pub struct Subscription<F> {
    /// Where its windows come from, behind the checkpoint.
    pub feed: F,
    /// What they are delivered to.
    pub consumer: Delivery,
    /// How often a delivery is tried again.
    pub retries: u32,
}

/// How a subscription ended.
#[derive(Debug)]
pub enum End {
    /// It was asked to stop, or its source has ended and it has everything.
    Done,
    /// It cannot go on: it stands behind its last commit until a person mends the cause.
    Paused(Paused),
}

/// Why a subscription cannot go on.
#[derive(Debug, thiserror::Error)]
#[error("subscription `{name}` pauses after {at}")]
pub struct Paused {
    /// Its name.
    pub name: String,
    /// What is committed.
    pub at: Position,
    /// The cause.
    pub source: Box<dyn Error + Send + Sync>,
}

impl<F: Feed> Subscription<F> {
    /// Runs until told to stop, until its source has ended and everything is delivered, or until it pauses for good.
    pub async fn run(mut self, control: Control) -> End {
        let (name, meter) = (self.consumer.name.clone(), self.consumer.meter.clone());
        let policy = RetryPolicy::new(self.retries);
        let ended = drive(&name, &mut self.feed, self.consumer, policy, control).await;
        meter.end();
        let Err(paused) = ended else { return End::Done };
        let source: Box<dyn Error + Send + Sync> = match paused.cause {
            Cause::Feed(error) => error.into(),
            Cause::Consumer(error) => error.into(),
        };
        End::Paused(Paused { name, at: meter.position(), source })
    }
}

/// A log in this process as a feed.
pub struct LogFeed {
    log: Log,
    reader: Reader,
    /// After this begins the transaction of which the last window is a part.
    parts: Option<Position>,
}

/// The log could not be read.
#[derive(Debug, thiserror::Error)]
#[error("read the log")]
pub struct ReadLog(#[from] ReadError);

impl ReadLog {
    /// Why not.
    pub fn cause(&self) -> &ReadError {
        &self.0
    }
}

impl LogFeed {
    /// A feed from there on.
    pub fn open(log: &Log, from: From) -> Result<LogFeed, ReadError> {
        Ok(LogFeed { log: log.clone(), reader: log.reader(from)?, parts: None })
    }

    fn given(&mut self, window: &Window) {
        match window.transactions.last().map(|t| t.part) {
            Some(Part::First) => {
                let (timeline, scn) = (window.timeline.number, window.span.after);
                self.parts = Some(Position { timeline, scn });
            }
            Some(Part::Middle | Part::Last) => {}
            Some(Part::Whole) | None => self.parts = None,
        }
    }
}

impl Feed for LogFeed {
    type Error = ReadLog;

    async fn next(&mut self) -> Result<Option<Arc<Window>>, ReadLog> {
        let next = self.reader.next().await?;
        next.iter().for_each(|window| self.given(window));
        Ok(next)
    }

    fn try_next(&mut self) -> Result<Option<Arc<Window>>, ReadLog> {
        let next = self.reader.try_next()?;
        next.iter().for_each(|window| self.given(window));
        Ok(next)
    }

    fn rewind(&mut self) -> Result<(), ReadLog> {
        if let Some(after) = self.parts {
            self.reader = self.log.reader(From::After(after))?;
            self.parts = None;
        }
        Ok(())
    }

    fn remedy(error: &ReadLog) -> Remedy {
        error.0.remedy()
    }
}

impl Stream for LogFeed {
    fn begin(&mut self, after: &Checkpoint) -> Result<(), ReadLog> {
        self.reader = self.log.reader(self.log.locate(after)?)?;
        self.parts = None;
        Ok(())
    }

    fn is_gone(error: &ReadLog) -> bool {
        matches!(error.0, ReadError::TooOld(_))
    }
}

/// A subscription's guests and the store in which their effects are committed.
pub struct Delivery {
    /// The subscription's name.
    pub name: String,
    /// Filters, in order.
    pub filters: Vec<FilterStage>,
    /// Projections, in order.
    pub projections: Vec<ProjectionStage>,
    /// The consumer.
    pub consumer: ConsumerStage,
    /// Where its checkpoint and its effects are committed.
    pub store: EmbeddedStore,
    /// Where its standard output goes.
    pub stdout: Arc<dyn Stdout>,
    /// Where its figures are counted.
    pub meter: Meter,
}

/// Why a delivery failed.
#[derive(Debug, thiserror::Error)]
pub enum DeliverError {
    /// A guest said so, was stopped, or broke the contract.
    #[error(transparent)]
    Guest(Box<GuestError>),
    /// The commit failed.
    #[error("commit the checkpoint")]
    Commit(#[from] StoreError),
    /// The standard output is closed or full.
    #[error("write to the standard output")]
    Stdout(#[from] std::io::Error),
}

impl std::convert::From<GuestError> for DeliverError {
    fn from(error: GuestError) -> Self {
        DeliverError::Guest(Box::new(error))
    }
}

impl Consumer for Delivery {
    type Error = DeliverError;

    async fn deliver(&mut self, window: &Window) -> Result<(), DeliverError> {
        let staged = tokio::task::block_in_place(|| self.stages(window))?;
        self.meter.staged(window, &staged);
        let began = Instant::now();
        let delivered = self.consumer.deliver(&staged, phase_of(window)).await;
        self.meter.costs().add("consumer", began);
        let delivered = delivered.map_err(|failed| failed.error)?;
        self.meter.delivered(delivered.transactions, delivered.changes);
        if !delivered.complete {
            return Ok(());
        }
        self.stdout.write(&delivered.stdout)?;
        self.commit(&window.checkpoint(), delivered, window)?;
        Ok(())
    }

    fn rollback(&mut self) {
        self.meter.rolled_back();
        self.consumer.rollback();
    }

    async fn close(self) -> Result<(), DeliverError> {
        Ok(self.consumer.close().await?)
    }

    fn remedy(error: &DeliverError) -> Remedy {
        match error {
            DeliverError::Guest(e) => e.remedy(),
            DeliverError::Commit(_) => Remedy::Retry,
            DeliverError::Stdout(_) => Remedy::Fix,
        }
    }
}

impl Delivery {
    fn stages(&mut self, window: &Window) -> Result<Window, GuestError> {
        let mut window = window.clone();
        for (at, filter) in self.filters.iter_mut().enumerate() {
            let began = Instant::now();
            window = filter.apply(window)?;
            self.meter.costs().add(&format!("filter {}", at + 1), began);
        }
        for (at, projection) in self.projections.iter_mut().enumerate() {
            let began = Instant::now();
            window = projection.apply(window)?;
            self.meter.costs().add(&format!("projection {}", at + 1), began);
        }
        Ok(window)
    }

    fn commit(
        &mut self,
        checkpoint: &Checkpoint,
        delivered: Delivered,
        window: &Window,
    ) -> Result<(), StoreError> {
        for (counter, by) in delivered.counters {
            self.meter.count(&counter, by);
        }
        let effects =
            Effects { state: delivered.state, output: delivered.output.into_iter().map(output).collect() };
        tokio::task::block_in_place(|| self.store.commit(&self.name, checkpoint, &effects))?;
        self.meter.committed(window);
        if window.transactions.last().is_some_and(|t| t.part == Part::Last) {
            info!(subscription = %self.name, at = %checkpoint.position, "a transaction in parts is whole");
        }
        Ok(())
    }
}

/// What the consumer is told that it is given.
fn phase_of(window: &Window) -> DeliveryPhase {
    match window.phase {
        Phase::Snapshot(_) => DeliveryPhase::Snapshot,
        Phase::Deltas(_) => DeliveryPhase::Deltas,
        Phase::Stream => DeliveryPhase::Live,
    }
}

fn output(change: tidemill_sandbox::OutputChange) -> OutputChange {
    use tidemill_sandbox::OutputChange as Change;
    match change {
        Change::Rows(rows) => {
            let tidemill_sandbox::OutputRows { table, columns, key, ops } = rows;
            OutputChange::Rows(OutputRows { table, key, columns, ops })
        }
        Change::Truncate { table } => OutputChange::Truncate { table },
        Change::Rename { table, to } => OutputChange::Rename { table, to },
    }
}
