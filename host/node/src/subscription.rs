//! One subscription: reads windows from the log, runs filters and projections, delivers to the consumer and commits
//! its effects together with the checkpoint. One task owns it; nobody else writes its checkpoint.
//!
//! ```text
//! log reader ─▶ merge what is there ─▶ filters ─▶ projections ─▶ consumer ─▶ stdout, then one commit
//!      ▲                                                             │ error
//!      └──────────────── the same windows again, at most `retries` times ◀──┘ then pause
//! ```

use std::sync::Arc;
use std::time::Duration;

use tidemill_event::{Checkpoint, Part, Position, Remedy, Window, can_merge, merge};
use tidemill_log::{ReadError, Reader};
use tidemill_sandbox::{ConsumerStage, Delivered, DeliveryPhase, FilterStage, GuestError, ProjectionStage};
use tidemill_sink::{Effects, EmbeddedStore, StoreError};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::shutdown::stopped;
use crate::status::{Meter, Reported};
use crate::stdout::Stdout;

/// Small windows are merged up to this many rows: enough that a guest call costs less than its rows.
const MERGE_ROWS_MAX: usize = 8192;
/// A window of this many rows is not worth copying into a larger one.
const MERGE_ROWS_EACH_MAX: usize = 1024;
/// The wait before the first retry; it doubles.
const RETRY_FIRST: Duration = Duration::from_millis(50);

/// What a subscription is made of; `wiring` makes it.
pub struct Subscription {
    /// Its name.
    pub name: String,
    /// The log, from behind the checkpoint.
    pub reader: Reader,
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
    /// How often a delivery is tried again.
    pub retries: u32,
    /// Where its figures are counted.
    pub meter: Meter,
    /// A window that was read and not yet delivered.
    pub pending: Option<Arc<Window>>,
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
    pub source: DeliverError,
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
    /// The log could not be read.
    #[error("read the log")]
    Read(#[from] ReadError),
    /// The standard output is closed or full.
    #[error("write to the standard output")]
    Stdout(#[from] std::io::Error),
}

impl From<GuestError> for DeliverError {
    fn from(error: GuestError) -> Self {
        DeliverError::Guest(Box::new(error))
    }
}

impl DeliverError {
    fn remedy(&self) -> Remedy {
        match self {
            DeliverError::Guest(e) => e.remedy(),
            DeliverError::Commit(_) => Remedy::Retry,
            DeliverError::Read(e) => e.remedy(),
            DeliverError::Stdout(_) => Remedy::Fix,
        }
    }
}

impl Subscription {
    /// Runs until told to stop, until its source has ended and everything is delivered, or until it pauses.
    pub async fn run(self, stop: watch::Receiver<bool>) -> End {
        let meter = self.meter.clone();
        let end = self.run_to_end(stop).await;
        meter.end();
        end
    }

    async fn run_to_end(mut self, mut stop: watch::Receiver<bool>) -> End {
        let mut at = self.meter.position();
        loop {
            let next = tokio::select! {
                biased;
                // The batch in hand was committed, or never read: safe to leave.
                () = stopped(&mut stop) => return self.done().await,
                next = self.next() => next,
            };
            let outcome = match next {
                Ok(None) => return self.done().await,
                Ok(Some(first)) => self.batch(first).await,
                Err(error) => Err(error.into()),
            };
            match outcome {
                Ok(position) => at = position,
                Err(source) => return End::Paused(Paused { name: self.name, at, source }),
            }
        }
    }

    async fn next(&mut self) -> Result<Option<Arc<Window>>, ReadError> {
        match self.pending.take() {
            Some(window) => Ok(Some(window)),
            None => self.reader.next().await,
        }
    }

    async fn done(self) -> End {
        if let Err(error) = self.consumer.close().await {
            warn!(subscription = %self.name, %error, "the consumer's close failed; everything is committed");
        }
        End::Done
    }

    /// Delivers a window and whatever else is there, and gives the position that is now committed.
    async fn batch(&mut self, first: Arc<Window>) -> Result<Position, DeliverError> {
        let mut windows = vec![first];
        self.gather(&mut windows)?;
        let whole = match windows.as_slice() {
            [one] => Arc::clone(one),
            several => Arc::new(merge(several).expect("what is gathered are whole neighbours")),
        };
        self.deliver_with_retries(&whole).await?;
        Ok(whole.position())
    }

    /// Takes what is there now, as long as it can be merged and is small; the first that is not waits its turn.
    fn gather(&mut self, windows: &mut Vec<Arc<Window>>) -> Result<(), ReadError> {
        let small = |w: &Window| can_merge(w) && w.row_count() <= MERGE_ROWS_EACH_MAX;
        let mut rows = windows[0].row_count();
        while rows < MERGE_ROWS_MAX && small(windows.last().expect("never empty")) {
            let Some(next) = self.reader.try_next()? else { break };
            if !small(&next) || next.timeline != windows[0].timeline {
                self.pending = Some(next);
                break;
            }
            rows += next.row_count();
            windows.push(next);
        }
        Ok(())
    }

    async fn deliver_with_retries(&mut self, window: &Window) -> Result<(), DeliverError> {
        let mut wait = RETRY_FIRST;
        for attempt in 0.. {
            match self.deliver(window).await {
                Ok(()) => break,
                Err(error) if attempt >= self.retries || error.remedy() == Remedy::Bug => return Err(error),
                Err(error) => {
                    let chain = crate::report::chain(&error);
                    warn!(subscription = %self.name, at = %window.span.after, attempt, error = %chain, "delivery failed; retry");
                    self.consumer.rollback();
                    tokio::time::sleep(wait).await;
                    wait *= 2;
                }
            }
        }
        Ok(())
    }

    async fn deliver(&mut self, window: &Window) -> Result<(), DeliverError> {
        let staged = tokio::task::block_in_place(|| self.stages(window))?;
        let delivered = self.consumer.deliver(&staged, DeliveryPhase::Live).await;
        let delivered = delivered.map_err(|failed| failed.error)?;
        if !delivered.complete {
            return Ok(());
        }
        self.stdout.write(&delivered.stdout)?;
        self.commit(&window.checkpoint(), delivered, window)?;
        Ok(())
    }

    fn stages(&mut self, window: &Window) -> Result<Window, GuestError> {
        let mut window = window.clone();
        for filter in &mut self.filters {
            window = filter.apply(window)?;
        }
        for projection in &mut self.projections {
            window = projection.apply(window)?;
        }
        Ok(window)
    }

    fn commit(
        &mut self,
        checkpoint: &Checkpoint,
        delivered: Delivered,
        window: &Window,
    ) -> Result<(), StoreError> {
        let (transactions, changes) = (delivered.transactions, delivered.changes);
        for (counter, by) in delivered.counters {
            self.meter.count(&counter, by);
        }
        let effects =
            Effects { state: delivered.state, output: delivered.output.into_iter().map(output).collect() };
        tokio::task::block_in_place(|| self.store.commit(&self.name, checkpoint, &effects))?;
        self.meter.committed(&Reported { position: checkpoint.position, transactions, changes }, window);
        if window.transactions.last().is_some_and(|t| t.part == Part::Last) {
            info!(subscription = %self.name, at = %checkpoint.position, "a transaction in parts is whole");
        }
        Ok(())
    }
}

fn output(rows: tidemill_sandbox::OutputRows) -> tidemill_sink::OutputRows {
    tidemill_sink::OutputRows { table: rows.table, key: rows.key, columns: rows.columns, ops: rows.ops }
}
