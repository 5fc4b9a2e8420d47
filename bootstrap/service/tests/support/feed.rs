//! The model's transactions as a feed, from a checkpoint on, with copies made between its windows.

use std::collections::VecDeque;
use std::sync::Arc;

use tidemill_client::Feed;
use tidemill_event::{Checkpoint, Position, Remedy, Scn, Window};
use tokio::task::JoinHandle;

use super::Dice;
use super::model::{Model, server};

/// Windows, and things that happen before the next one is given.
pub struct Script {
    items: VecDeque<Item>,
    running: Option<JoinHandle<()>>,
}

pub enum Item {
    Window(Arc<Window>),
    Do(futures_util::future::BoxFuture<'static, ()>),
    /// What comes next is not there any more.
    Gone,
}

/// A stretch of the log is gone.
#[derive(Debug, thiserror::Error)]
#[error("the log begins later")]
pub struct Gone;

/// Where a feed that begins "now" begins.
pub fn begin() -> Position {
    Position { timeline: 1, scn: Scn(100) }
}

impl Script {
    pub fn new(items: impl IntoIterator<Item = Item>) -> Script {
        Script { items: items.into_iter().collect(), running: None }
    }
}

/// The position of a checkpoint, as the model counts.
pub fn position(checkpoint: Option<&Checkpoint>) -> Position {
    let Some(checkpoint) = checkpoint else { return begin() };
    let timeline = (1..).find(|timeline| server(*timeline) == checkpoint.server).unwrap();
    Position { timeline, scn: checkpoint.position.scn }
}

/// What follows that position, in windows of a few transactions, some in parts.
pub fn windows(model: &Model, from: Position, dice: &mut Dice) -> Vec<Arc<Window>> {
    let (mut after, mut at, mut windows) = (from, model.count_at(from), vec![]);
    while at < model.history.len() {
        let first = &model.history[at];
        if first.actions.len() > 1 && dice.one_in(4) {
            windows.extend(model.parts(first, after).into_iter().map(Arc::new));
            (after, at) = (first.at, at + 1);
            continue;
        }
        let most = 1 + dice.below(3) as usize;
        let same = |txn: &&super::model::Txn| txn.at.timeline == first.at.timeline;
        let count = model.history[at..].iter().take(most).take_while(same).count();
        windows.push(Arc::new(model.window(&model.history[at..at + count], after)));
        (after, at) = (model.history[at + count - 1].at, at + count);
    }
    windows
}

impl Feed for Script {
    type Error = Gone;

    async fn next(&mut self) -> Result<Option<Arc<Window>>, Gone> {
        loop {
            if let Some(running) = &mut self.running {
                running.await.expect("what is done between windows does not panic");
                self.running = None;
            }
            match self.items.pop_front() {
                Some(Item::Do(what)) => self.running = Some(tokio::spawn(what)),
                Some(Item::Window(window)) => return Ok(Some(window)),
                Some(Item::Gone) => return Err(Gone),
                None => return Ok(None),
            }
        }
    }

    fn try_next(&mut self) -> Result<Option<Arc<Window>>, Gone> {
        Ok(None)
    }

    fn rewind(&mut self) -> Result<(), Gone> {
        Ok(())
    }

    fn remedy(_: &Gone) -> Remedy {
        Remedy::Fix
    }
}
