//! Rows of a base with what changed since: the rows that are live, in key order, a piece at a time.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef};
use arrow_buffer::ScalarBuffer;
use arrow_schema::ArrowError;
use arrow_select::interleave::interleave;
use tidemill_event::TableName;

use super::key::Key;
use super::read::Sorted;
use super::ways::Feed;
use crate::DataError;

/// Rows of several batches, in key order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows {
    batches: Vec<Arc<Sorted>>,
    picks: Vec<(usize, usize)>,
}

/// Base and changes of one table.
pub(crate) struct Merge<'a> {
    pub(crate) table: &'a TableName,
    pub(crate) base: &'a mut Feed,
    pub(crate) changes: &'a mut Feed,
    /// Copies of equal rows are counted.
    pub(crate) is_counted: bool,
    /// Rows of the base that were read.
    pub(crate) base_rows: u64,
    /// Changes that were read.
    pub(crate) change_rows: u64,
}

/// Up to which key changes are merged.
#[derive(Clone, Copy)]
pub(crate) enum Limit<'a> {
    None,
    Below(Key<'a>),
    Upto(Key<'a>),
}

impl Rows {
    pub(crate) fn len(&self) -> usize {
        self.picks.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.picks.is_empty()
    }

    /// The place of a batch, which is most often the last one that was asked for.
    fn place(&mut self, batch: &Arc<Sorted>) -> usize {
        if let Some(place) = self.batches.iter().rposition(|known| Arc::ptr_eq(known, batch)) {
            return place;
        }
        self.batches.push(Arc::clone(batch));
        self.batches.len() - 1
    }

    /// Adds entries of a feed's block.
    pub(crate) fn take(&mut self, feed: &mut Feed, entries: usize) {
        let (block, from) = feed.here();
        let mut known = (usize::MAX, 0);
        for entry in from..from + entries {
            let (batch, row) = block.pick(entry);
            if known.0 != batch {
                known = (batch, self.place(&block.batches[batch]));
            }
            self.picks.push((known.1, row));
        }
        feed.advance(entries);
    }

    fn sorted(&self, row: usize) -> (&Sorted, usize) {
        let (batch, row) = self.picks[row];
        (&self.batches[batch], row)
    }

    fn key(&self, row: usize) -> Key<'_> {
        let (sorted, row) = self.sorted(row);
        sorted.keys.get(row)
    }

    pub(crate) fn key_bytes(&self, row: usize) -> Vec<u8> {
        let (sorted, row) = self.sorted(row);
        sorted.keys.bytes(row)
    }

    /// All of them where they lie next to each other in one batch: its place and the first row.
    fn span(&self) -> Option<(usize, usize)> {
        let first = *self.picks.first()?;
        let mut picks = self.picks.iter().enumerate();
        picks.all(|(place, pick)| *pick == (first.0, first.1 + place)).then_some(first)
    }

    /// The columns, as they are stored.
    pub(crate) fn columns(&self) -> Result<Vec<ArrayRef>, ArrowError> {
        let Some(some) = self.batches.first() else { return Ok(vec![]) };
        if let Some((batch, row)) = self.span() {
            let columns = self.batches[batch].columns.iter();
            return Ok(columns.map(|column| column.slice(row, self.len())).collect());
        }
        let column = |place: usize| {
            let parts: Vec<&dyn Array> = self.batches.iter().map(|b| b.columns[place].as_ref()).collect();
            interleave(&parts, &self.picks)
        };
        (0..some.columns.len()).map(column).collect()
    }

    pub(crate) fn scn(&self) -> ScalarBuffer<i64> {
        if let Some((batch, row)) = self.span() {
            return self.batches[batch].scn.slice(row, self.len());
        }
        self.picks.iter().map(|(batch, row)| self.batches[*batch].scn[*row]).collect()
    }

    /// Something of each row.
    pub(crate) fn each<T>(&self, of: impl Fn(&Sorted, usize) -> T) -> impl Iterator<Item = T> {
        self.picks.iter().map(move |(batch, row)| of(&self.batches[*batch], *row))
    }
}

impl Merge<'_> {
    /// The next live rows, about `rows` of them, changes only within the limit. Empty: that was all. Equal rows of a table
    /// without key come together.
    pub(crate) async fn next(&mut self, rows: usize, limit: Limit<'_>) -> Result<Rows, DataError> {
        let mut live = Rows::default();
        while live.len() < rows {
            let has_base = self.base.fill().await?;
            let has_change = self.changes.fill().await? && limit.admits(self.changes.key());
            let below = has_change.then(|| self.changes.key());
            let untouched = match has_base {
                true => untouched(self.base, rows - live.len(), below),
                false => 0,
            };
            match (untouched, has_change) {
                (0, false) => break,
                (0, true) => self.change(&mut live).await?,
                _ => live.take(self.base, untouched),
            }
            self.base_rows += untouched as u64;
        }
        while self.is_counted && !live.is_empty() && self.base.fill().await? {
            if live.key(live.len() - 1) != self.base.key() {
                break;
            }
            live.take(self.base, 1);
            self.base_rows += 1;
        }
        Ok(live)
    }

    /// The next change, and what the base has of its key.
    async fn change(&mut self, live: &mut Rows) -> Result<(), DataError> {
        self.change_rows += 1;
        let (block, entry) = self.changes.here();
        let (key, (batch, row)) = (block.key(entry), block.pick(entry));
        let (mut copies, mut is_newer) = (0, true);
        while self.base.fill().await? && self.base.key() == key {
            let (base, entry) = self.base.here();
            let (base_batch, base_row) = base.pick(entry);
            let at = base.batches[base_batch].position(base_row);
            self.base_rows += 1;
            copies += 1;
            is_newer = block.batches[batch].position(row) > at;
            match is_newer || self.is_counted {
                true => self.base.advance(1),
                false => live.take(self.base, 1),
            }
        }
        let copies = match self.is_counted {
            true => copies + block.count(entry),
            false => i64::from(is_newer && !block.batches[batch].is_deleted(row)),
        };
        if copies < 0 {
            return Err(DataError::NegativeCount { table: self.table.clone(), count: copies });
        }
        let place = live.place(&block.batches[batch]);
        live.picks.extend(std::iter::repeat_n((place, row), copies as usize));
        self.changes.advance(1);
        Ok(())
    }
}

/// How many of the base's next entries, at most `rows`, lie below the key of the next change.
fn untouched(base: &Feed, rows: usize, below: Option<Key<'_>>) -> usize {
    let (block, next) = base.here();
    let end = below.map_or(block.len(), |key| block.seek(next, key));
    (end - next).min(rows)
}

impl Limit<'_> {
    fn admits(self, key: Key<'_>) -> bool {
        match self {
            Limit::None => true,
            Limit::Below(limit) => key < limit,
            Limit::Upto(limit) => key <= limit,
        }
    }
}
