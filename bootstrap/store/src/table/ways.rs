//! Many sorted files become one sequence of rows: of equal keys the newest, or their sum. The merge of what changed into
//! what was there is `merge`'s.

use std::collections::VecDeque;
use std::sync::Arc;

use tidemill_event::Position;

use super::key::Key;
use super::read::{Bounds, File, FileStream, Shape, Sorted};
use crate::{DataError, Store, limits};

/// What becomes of rows with equal keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// The newest stays, if it is after that position.
    Newest(Position),
    /// Their counts are added.
    Sum,
    /// All stay.
    All,
}

/// Files whose keys follow each other.
struct Lane {
    files: VecDeque<FileStream>,
    /// The rows in hand; `None`: there are no more.
    rows: Option<Arc<Sorted>>,
    row: usize,
    /// The place of `rows` in the block that is being made.
    place: Option<u32>,
}

/// A piece of the sequence: some rows of some batches.
#[derive(Default)]
pub(crate) struct Block {
    pub(crate) batches: Vec<Arc<Sorted>>,
    /// Batch and row of each; empty: all rows of the only batch.
    picks: Vec<(u32, u32)>,
    /// Of a sum, what it is for each.
    counts: Vec<i64>,
}

/// The sequence.
pub(crate) struct Ways {
    lanes: Vec<Lane>,
    /// Lanes that have rows, the one with the lowest key first: a binary heap.
    heap: Vec<usize>,
    rule: Rule,
    begun: bool,
}

/// A sequence that is looked at before it is taken.
pub(crate) struct Feed {
    ways: Ways,
    block: Block,
    next: usize,
}

impl Lane {
    async fn load(&mut self) -> Result<bool, DataError> {
        (self.rows, self.row, self.place) = (None, 0, None);
        while let Some(file) = self.files.front_mut() {
            match file.next().await? {
                Some(rows) => {
                    self.rows = Some(Arc::new(rows));
                    return Ok(true);
                }
                None => drop(self.files.pop_front()),
            }
        }
        Ok(false)
    }

    fn sorted(&self) -> &Arc<Sorted> {
        self.rows.as_ref().expect("a lane of the heap has rows")
    }

    fn key(&self) -> Key<'_> {
        self.sorted().keys.get(self.row)
    }
}

impl Block {
    pub(crate) fn len(&self) -> usize {
        match self.picks.len() {
            0 => self.batches.first().map_or(0, |batch| batch.len()),
            picks => picks,
        }
    }

    /// Batch and row of an entry.
    pub(crate) fn pick(&self, entry: usize) -> (usize, usize) {
        match self.picks.get(entry) {
            Some((batch, row)) => (*batch as usize, *row as usize),
            None => (0, entry),
        }
    }

    pub(crate) fn key(&self, entry: usize) -> Key<'_> {
        let (batch, row) = self.pick(entry);
        self.batches[batch].keys.get(row)
    }

    /// What a sum is.
    pub(crate) fn count(&self, entry: usize) -> i64 {
        let (batch, row) = self.pick(entry);
        self.counts.get(entry).copied().unwrap_or_else(|| self.batches[batch].count(row))
    }

    /// The first entry from `from` on whose key is not below `key`.
    pub(crate) fn seek(&self, from: usize, key: Key<'_>) -> usize {
        if self.picks.is_empty() {
            return self.batches[0].keys.seek(from, key);
        }
        (from..self.len()).find(|entry| self.key(*entry) >= key).unwrap_or(self.len())
    }
}

impl Ways {
    /// The sequence of lanes of files, each lane's in key order.
    pub(crate) fn new(
        store: &Store,
        shape: &Arc<Shape>,
        bounds: &Arc<Bounds>,
        lanes: impl IntoIterator<Item = Vec<File>>,
        rule: Rule,
    ) -> Ways {
        let lane = |files: Vec<File>| {
            let streams = files.into_iter().map(|file| FileStream::new(store, file, shape, bounds));
            Lane { files: streams.collect(), rows: None, row: 0, place: None }
        };
        Ways { lanes: lanes.into_iter().map(lane).collect(), heap: vec![], rule, begun: false }
    }

    /// The next rows, at least one; `None`: that was all.
    pub(crate) async fn next(&mut self) -> Result<Option<Block>, DataError> {
        if !self.begun {
            self.begun = true;
            for lane in 0..self.lanes.len() {
                if self.lanes[lane].load().await? {
                    self.heap.push(lane);
                    self.sift_up(self.heap.len() - 1);
                }
            }
        }
        if self.heap.len() == 1 && !matches!(self.rule, Rule::Newest(after) if after > Position::default()) {
            return self.rest_of_lane().await.map(Some);
        }
        let mut block = Block::default();
        self.lanes.iter_mut().for_each(|lane| lane.place = None);
        while block.picks.len() < limits::BATCH_ROWS && !self.heap.is_empty() {
            match self.rule {
                Rule::All => {
                    let pick = self.pick(&mut block);
                    block.picks.push(pick);
                    self.advance().await?;
                }
                Rule::Newest(after) => self.newest(&mut block, after).await?,
                Rule::Sum => self.sum(&mut block).await?,
            }
        }
        Ok((!block.picks.is_empty()).then_some(block))
    }

    /// What the only lane has in hand, as it is: its keys differ from each other.
    async fn rest_of_lane(&mut self) -> Result<Block, DataError> {
        let lane = &mut self.lanes[self.heap[0]];
        let (rows, row) = (Arc::clone(lane.sorted()), lane.row);
        let picks = match row {
            0 => vec![],
            _ => (row..rows.len()).map(|row| (0, row as u32)).collect(),
        };
        lane.row = rows.len() - 1;
        self.advance().await?;
        Ok(Block { batches: vec![rows], picks, counts: vec![] })
    }

    /// The pick of the lowest row.
    fn pick(&mut self, block: &mut Block) -> (u32, u32) {
        let lane = &mut self.lanes[self.heap[0]];
        let place = *lane.place.get_or_insert_with(|| {
            block.batches.push(Arc::clone(lane.rows.as_ref().expect("a lane of the heap has rows")));
            block.batches.len() as u32 - 1
        });
        (place, lane.row as u32)
    }

    async fn newest(&mut self, block: &mut Block, after: Position) -> Result<(), DataError> {
        let at =
            |block: &Block, (batch, row): (u32, u32)| block.batches[batch as usize].position(row as usize);
        // Of two versions of one transaction, which came in parts, the one of the later run.
        let (mut best, mut lane) = (self.pick(block), self.heap[0]);
        let mut position = at(block, best);
        self.advance().await?;
        while self.is_next(block, best) {
            let (other, other_lane) = (self.pick(block), self.heap[0]);
            let newer = at(block, other);
            if (newer, other_lane) > (position, lane) {
                (best, position, lane) = (other, newer, other_lane);
            }
            self.advance().await?;
        }
        if position > after || after == Position::default() {
            block.picks.push(best);
        }
        Ok(())
    }

    async fn sum(&mut self, block: &mut Block) -> Result<(), DataError> {
        let mut pick = self.pick(block);
        let count =
            |block: &Block, (batch, row): (u32, u32)| block.batches[batch as usize].count(row as usize);
        let mut sum = count(block, pick);
        self.advance().await?;
        while self.is_next(block, pick) {
            let other = self.pick(block);
            sum += count(block, other);
            let newer = |(batch, row): (u32, u32)| block.batches[batch as usize].position(row as usize);
            if newer(other) > newer(pick) {
                pick = other;
            }
            self.advance().await?;
        }
        block.picks.push(pick);
        block.counts.push(sum);
        Ok(())
    }

    /// Whether the lowest row has that key too.
    fn is_next(&self, block: &Block, (batch, row): (u32, u32)) -> bool {
        let key = block.batches[batch as usize].keys.get(row as usize);
        self.heap.first().is_some_and(|lane| self.lanes[*lane].key() == key)
    }

    /// Leaves the lowest row behind.
    async fn advance(&mut self) -> Result<(), DataError> {
        let lane = &mut self.lanes[self.heap[0]];
        lane.row += 1;
        if lane.row == lane.sorted().len() && !lane.load().await? {
            self.heap.swap_remove(0);
        }
        self.sift_down();
        Ok(())
    }

    fn is_below(&self, a: usize, b: usize) -> bool {
        self.lanes[self.heap[a]].key() < self.lanes[self.heap[b]].key()
    }

    fn sift_up(&mut self, mut place: usize) {
        while place > 0 && self.is_below(place, (place - 1) / 2) {
            self.heap.swap(place, (place - 1) / 2);
            place = (place - 1) / 2;
        }
    }

    fn sift_down(&mut self) {
        let mut place = 0;
        loop {
            let children = 2 * place + 1..(2 * place + 3).min(self.heap.len());
            let Some(lowest) = children.reduce(|a, b| if self.is_below(b, a) { b } else { a }) else {
                return;
            };
            if !self.is_below(lowest, place) {
                return;
            }
            self.heap.swap(place, lowest);
            place = lowest;
        }
    }
}

impl Feed {
    pub(crate) fn new(ways: Ways) -> Feed {
        Feed { ways, block: Block::default(), next: 0 }
    }

    /// Whether there is a next entry.
    pub(crate) async fn fill(&mut self) -> Result<bool, DataError> {
        if self.next < self.block.len() {
            return Ok(true);
        }
        let block = self.ways.next().await?;
        let there_is = block.is_some();
        (self.block, self.next) = (block.unwrap_or_default(), 0);
        Ok(there_is)
    }

    /// The key of the next entry, which [`Feed::fill`] said there is.
    pub(crate) fn key(&self) -> Key<'_> {
        self.block.key(self.next)
    }

    /// The block of the next entry and its place in it; the place is the block's length where there is none.
    pub(crate) fn here(&self) -> (&Block, usize) {
        (&self.block, self.next)
    }

    /// Leaves entries behind.
    pub(crate) fn advance(&mut self, entries: usize) {
        self.next += entries;
    }
}
