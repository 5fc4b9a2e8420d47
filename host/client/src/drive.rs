//! The loop of a subscription: takes windows from a feed, merges what is there, delivers, and after a failure lets the
//! consumer roll back and delivers again, from the last commit on.
//!
//! ```text
//! feed ─▶ merge what is there ─▶ consumer: effects and checkpoint, one commit
//!   ▲                                │ error: rollback
//!   └── the same again, at most `retries` times between two commits ◀──┘ then pause
//! ```

use std::collections::VecDeque;
use std::error::Error;
use std::sync::Arc;

use tidemill_event::{Part, Position, Remedy, Window, can_merge, merge};
use tracing::{error, warn};

use crate::control::{Interrupt, State, Told};
use crate::limits::{MERGE_ROWS_EACH_MAX, MERGE_ROWS_MAX};
use crate::{Consumer, Control, Feed, RetryPolicy};
use tidemill_event::chain;

/// Why a subscription cannot go on. It stands behind its last commit.
#[derive(Debug, thiserror::Error)]
#[error("pauses after {}", .at.map_or_else(|| "nothing".to_owned(), |at| at.to_string()))]
pub struct Paused<F: Error + 'static, C: Error + 'static> {
    /// The last commit; `None`: there was none in this run.
    pub at: Option<Position>,
    /// The cause.
    #[source]
    pub cause: Cause<F, C>,
}

/// On whose side it failed.
#[derive(Debug, thiserror::Error)]
pub enum Cause<F: Error + 'static, C: Error + 'static> {
    /// The feed cannot go on.
    #[error(transparent)]
    Feed(F),
    /// The consumer cannot.
    #[error(transparent)]
    Consumer(C),
}

/// Runs a subscription until it is told to stop, its feed ends, or it cannot go on. `name` is for log lines.
pub async fn drive<F: Feed, C: Consumer>(
    name: &str,
    feed: &mut F,
    consumer: C,
    policy: RetryPolicy,
    control: Control,
) -> Result<(), Paused<F::Error, C::Error>> {
    let pending = VecDeque::new();
    let (open, rewind) = (false, false);
    let mut driver =
        Driver { name, feed, consumer, policy, control, pending, open, rewind, attempt: 0, at: None };
    let ended = driver.run().await;
    if ended.is_ok()
        && let Err(error) = driver.consumer.close().await
    {
        warn!(subscription = name, error = %chain(&error), "the consumer's close failed; everything is committed");
    }
    ended
}

struct Driver<'a, F, C> {
    name: &'a str,
    feed: &'a mut F,
    consumer: C,
    policy: RetryPolicy,
    control: Control,
    /// What is to be delivered next: failed, or was read ahead.
    pending: VecDeque<Arc<Window>>,
    /// The consumer has parts of a transaction that is not complete.
    open: bool,
    /// The feed is to give those parts again.
    rewind: bool,
    /// Failures since the last commit.
    attempt: u32,
    /// The last commit.
    at: Option<Position>,
}

enum Next {
    Window(Arc<Window>),
    Interrupt(Interrupt),
    End,
}

impl<F: Feed, C: Consumer> Driver<'_, F, C> {
    async fn run(&mut self) -> Result<(), Paused<F::Error, C::Error>> {
        loop {
            let done = match self.next().await {
                Ok(Next::End | Next::Interrupt(Interrupt::Stop)) => return Ok(()),
                Ok(Next::Interrupt(Interrupt::Pause)) => {
                    match self.control.pause(State::PausedByOperator).await {
                        Told::Stop => return Ok(()),
                        Told::GoOn => continue,
                    }
                }
                Ok(Next::Window(first)) => self.batch(first).await,
                Err(error) => Err(Cause::Feed(error)),
            };
            if let Err(cause) = done
                && self.failed(cause).await? == Told::Stop
            {
                return Ok(());
            }
        }
    }

    async fn next(&mut self) -> Result<Next, F::Error> {
        if self.rewind {
            self.feed.rewind()?;
            self.rewind = false;
        }
        tokio::select! {
            biased;
            // What was given before is committed, or is given again: safe to leave.
            interrupt = self.control.interrupted() => Ok(Next::Interrupt(interrupt)),
            next = next_window(&mut self.pending, self.feed) => Ok(next?.map_or(Next::End, Next::Window)),
        }
    }

    /// Delivers a window and whatever else is there.
    async fn batch(&mut self, first: Arc<Window>) -> Result<(), Cause<F::Error, C::Error>> {
        let mut windows = vec![first];
        let gathered = self.gather(&mut windows);
        let whole = match windows.as_slice() {
            [one] => Arc::clone(one),
            several => Arc::new(merge(several).expect("what is gathered are whole neighbours")),
        };
        // What was read before an error is delivered first: the feed gives the error again.
        drop(gathered);
        let completes = whole.transactions.last().is_none_or(|t| t.part.completes());
        match self.consumer.deliver(&whole).await {
            Ok(()) if completes => {
                (self.open, self.attempt, self.at) = (false, 0, Some(whole.position()));
                Ok(())
            }
            Ok(()) => {
                self.open = true;
                Ok(())
            }
            Err(error) => {
                self.open |= is_part(&whole);
                self.pending.push_front(whole);
                Err(Cause::Consumer(error))
            }
        }
    }

    /// Takes what is there now, as long as it can be merged and is small; the first that is not waits its turn.
    fn gather(&mut self, windows: &mut Vec<Arc<Window>>) -> Result<(), F::Error> {
        let small = |w: &Window| can_merge(w) && w.row_count() <= MERGE_ROWS_EACH_MAX;
        let mut rows = windows[0].row_count();
        while rows < MERGE_ROWS_MAX && small(windows.last().expect("never empty")) {
            let next =
                self.pending.pop_front().map_or_else(|| self.feed.try_next(), |next| Ok(Some(next)))?;
            let Some(next) = next else { break };
            if !small(&next) || next.timeline != windows[0].timeline {
                self.pending.push_front(next);
                break;
            }
            rows += next.row_count();
            windows.push(next);
        }
        Ok(())
    }

    /// After a failure: rolls back, then waits and goes on, or pauses.
    async fn failed(&mut self, cause: Cause<F::Error, C::Error>) -> Result<Told, Paused<F::Error, C::Error>> {
        self.roll_back(&cause);
        let text = chain(&cause);
        self.control.says(|status| status.last_error = Some(text.clone()));
        if self.attempt < self.policy.retries && may_heal::<F, C>(&cause) {
            warn!(subscription = self.name, at = ?self.at, attempt = self.attempt, error = text, "failed; again");
            self.control.says(|status| status.retries += 1);
            let wait = self.policy.wait(self.attempt);
            self.attempt += 1;
            return Ok(self.control.sleep(wait).await);
        }
        let paused = Paused { at: self.at, cause };
        if !self.control.holds() {
            return Err(paused);
        }
        error!(subscription = self.name, at = ?self.at, error = text, "paused; an operator may resume it");
        match self.control.pause(State::PausedByError).await {
            Told::Stop => Err(paused),
            Told::GoOn => {
                self.attempt = 0;
                Ok(Told::GoOn)
            }
        }
    }

    /// A transaction in parts is delivered again from its first part; anything else is still in hand.
    fn roll_back(&mut self, cause: &Cause<F::Error, C::Error>) {
        if self.open {
            self.pending.clear();
            (self.open, self.rewind) = (false, true);
        } else if let Cause::Feed(_) = cause {
            return;
        }
        self.consumer.rollback();
    }
}

async fn next_window<F: Feed>(
    pending: &mut VecDeque<Arc<Window>>,
    feed: &mut F,
) -> Result<Option<Arc<Window>>, F::Error> {
    match pending.pop_front() {
        Some(window) => Ok(Some(window)),
        None => feed.next().await,
    }
}

fn is_part(window: &Window) -> bool {
    window.transactions.iter().any(|t| t.part != Part::Whole)
}

/// Whether the same may go well a moment later. A consumer's errors are its guests', which may not know that they do.
fn may_heal<F: Feed, C: Consumer>(cause: &Cause<F::Error, C::Error>) -> bool {
    match cause {
        Cause::Feed(error) => matches!(F::remedy(error), Remedy::Retry | Remedy::Wait),
        Cause::Consumer(error) => !matches!(C::remedy(error), Remedy::Bug | Remedy::Fenced),
    }
}
