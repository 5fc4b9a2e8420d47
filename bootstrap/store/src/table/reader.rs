//! Reads one table of one manifest: base and runs merged, or what changed since a position.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_buffer::{BooleanBuffer, ScalarBuffer};
use tidemill_event::{Position, TableSchema};

use super::key::{Key, Keys, unhex};
use super::lanes::{base_files, lanes, wanted_runs};
use super::mapping::from_stored;
use super::merge::{Limit, Merge, Rows};
use super::read::{Bounds, File, Leading, Shape};
use super::ways::{Feed, Rule, Ways};
use crate::{BaseFile, DataError, Run, Store, TableKey, TableState, limits};

/// One table of one manifest; cheap to clone.
#[derive(Clone, Debug)]
pub struct TableReader {
    store: Store,
    state: Arc<TableState>,
    schema: Arc<TableSchema>,
    applied: Position,
}

/// What is read.
#[derive(Clone, Debug, Default)]
pub struct ScanOptions {
    /// Only keys after this one, in the key encoding.
    pub after: Option<Vec<u8>>,
    /// Only keys up to this one.
    pub upto: Option<Vec<u8>>,
    /// Rows outside of any of these need not come, though they may. Of deltas only ranges of the key's columns count: what is
    /// outside of another one may have been inside before.
    pub ranges: Vec<ColumnRange>,
    /// Rows of a batch, about; 0: [`crate::limits::BATCH_ROWS`].
    pub batch_rows: usize,
}

/// Values of one column that are wanted.
#[derive(Clone, Debug)]
pub struct ColumnRange {
    /// The column's name.
    pub column: String,
    /// The lowest, as an array of one value in the stream's type; `None`: no bound.
    pub low: Option<ArrayRef>,
    /// The highest.
    pub high: Option<ArrayRef>,
}

/// A piece of a scan.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The rows, in key order, with the Arrow schema of [`TableReader::schema`].
    pub rows: RecordBatch,
    /// Of deltas, a bit a row: the row is gone, its columns are the last ones known. `None`: no row is.
    pub deleted: Option<BooleanBuffer>,
    /// The clock value of each row's last change, as far as it is known.
    pub scn: ScalarBuffer<i64>,
    /// The key of the last row: [`ScanOptions::after`] of who goes on from here.
    pub last_key: Vec<u8>,
    /// Where the rows come from: their keys.
    merged: Rows,
}

impl Batch {
    /// The key of a row, for who goes on behind it. Copies of one row have one key, and follow each other.
    pub fn key(&self, row: usize) -> Vec<u8> {
        self.merged.key_bytes(row)
    }
}

/// Rows as they come.
pub struct Scan {
    reader: TableReader,
    batch_rows: usize,
    state: State,
}

enum State {
    /// Nothing was read yet.
    New(What, Bounds),
    Live {
        base: Feed,
        changes: Feed,
    },
    Changed(Feed),
    Ended,
}

#[derive(Clone, Copy)]
enum What {
    Live,
    Changed(Position),
}

impl TableReader {
    /// A reader of that state, which is of the manifest that was applied up to `applied`.
    pub fn new(store: Store, state: Arc<TableState>, applied: Position) -> TableReader {
        let schema = state.schema.table_schema(&state.name);
        TableReader { store, state, schema, applied }
    }

    /// The schema of what is read.
    pub fn schema(&self) -> &Arc<TableSchema> {
        &self.schema
    }

    /// The live rows, in key order.
    pub fn scan(&self, options: ScanOptions) -> Scan {
        self.begin(What::Live, options)
    }

    /// The newest version of each key that changed after `since`, in key order.
    pub fn deltas(&self, since: Position, options: ScanOptions) -> Scan {
        self.begin(What::Changed(since), options)
    }

    /// Bytes of objects that a whole scan reads.
    pub fn whole_bytes(&self) -> u64 {
        let base = self.state.base.iter().flat_map(|base| &base.files).map(|file| file.object.bytes);
        base.sum::<u64>() + self.state.runs.iter().map(|run| run.object.bytes).sum::<u64>()
    }

    /// Bytes of objects that deltas since then read.
    pub fn delta_bytes(&self, since: Position) -> u64 {
        self.runs_since(since).map(|run| run.object.bytes).sum()
    }

    fn runs_since(&self, since: Position) -> impl Iterator<Item = &Run> {
        let runs = self.state.merged_runs.iter().chain(&self.state.runs);
        runs.filter(move |run| run.upto > since && since < self.applied && run.rows > 0)
    }

    /// Whether the base has no row that is newer than a version of the same key in one of those runs.
    fn is_oldest_in_base(&self, runs: &[&Run]) -> bool {
        // The chunks of a copy have low marks of their own, behind the beginning of its runs.
        let at = self.state.base.as_ref().filter(|base| base.path.is_some()).map(|base| base.at);
        at.is_some_and(|at| runs.iter().all(|run| run.after >= at))
    }

    fn begin(&self, what: What, options: ScanOptions) -> Scan {
        let batch_rows = match options.batch_rows {
            0 => limits::BATCH_ROWS,
            rows => rows,
        };
        let ScanOptions { after, upto, ranges, .. } = options;
        let bounds = Bounds { after, upto, ranges, leading: vec![] };
        Scan { reader: self.clone(), batch_rows, state: State::New(what, bounds) }
    }

    fn open(&self, what: What, bounds: Bounds) -> Result<State, DataError> {
        let shape = Shape::of(&self.state);
        let (bounds, key) = (Arc::new(bounds.with_leading(&shape)), &self.state.key);
        let ways =
            |lanes: Vec<Vec<File>>, rule| Feed::new(Ways::new(&self.store, &shape, &bounds, lanes, rule));
        let runs = |runs: Vec<&Run>| -> Vec<Vec<File>> {
            let hit = runs.into_iter().filter(|run| bounds.may_hit(&run.first_key, &run.last_key));
            hit.map(|run| vec![File::run(run, key)]).collect()
        };
        match (what, key) {
            (What::Changed(_), TableKey::WholeRow) => {
                Err(DataError::NoKey { table: self.state.name.clone() })
            }
            (What::Changed(since), _) => {
                Ok(State::Changed(ways(runs(self.runs_since(since).collect()), Rule::Newest(since))))
            }
            (What::Live, key) => {
                let (base, changes) = match key {
                    TableKey::WholeRow => (Rule::All, Rule::Sum),
                    _ => (Rule::Newest(Position::default()), Rule::Newest(Position::default())),
                };
                let files = self.state.base.as_ref().map_or(&[][..], |base| &base.files);
                let mut files = base_files(files)?;
                files.retain(|file| bounds.may_hit(&file.file.first_key, &file.file.last_key));
                let wanted = wanted_runs(&self.state, None)?;
                let is_oldest = self.is_oldest_in_base(&wanted);
                let file = |file: &BaseFile| File { is_oldest, ..File::base(file) };
                let files = lanes(&files).into_iter().map(|lane| lane.into_iter().map(file).collect());
                let base = ways(files.collect(), base);
                Ok(State::Live { base, changes: ways(runs(wanted), changes) })
            }
        }
    }
}

impl Bounds {
    /// Knows the values of the key's first column by how keys with them begin.
    fn with_leading(mut self, shape: &Shape) -> Bounds {
        let leading = (shape.key != TableKey::WholeRow).then(|| shape.places.first()).flatten();
        let Some(leading) = leading.map(|place| &shape.schema.columns[*place]) else { return self };
        let begins = |bound: &Option<ArrayRef>| {
            let bound = bound.as_ref().filter(|b| *b.data_type() == leading.data_type.0 && b.len() == 1)?;
            Some(Keys::new(std::slice::from_ref(bound), 1).bytes(0))
        };
        let of_leading = self.ranges.iter().filter(|range| range.column == leading.name);
        let leading = of_leading.map(|range| Leading { low: begins(&range.low), high: begins(&range.high) });
        self.leading = leading.collect();
        self
    }

    /// Whether a file with those keys may have rows within.
    fn may_hit(&self, first: &str, last: &str) -> bool {
        let (Some(first), Some(last)) = (unhex(first), unhex(last)) else { return true };
        let is_outside = |Leading { low, high }: &Leading| {
            let is_below = low.as_ref().is_some_and(|low| last < *low);
            is_below || high.as_ref().is_some_and(|high| first > *high && !first.starts_with(high))
        };
        if self.leading.iter().any(is_outside) {
            return false;
        }
        let is_before = self.after.as_ref().is_some_and(|after| Key::of(&last) <= Key::of(after));
        let is_behind = self.upto.as_ref().is_some_and(|upto| Key::of(&first) > Key::of(upto));
        !is_before && !is_behind
    }
}

impl Scan {
    /// The next rows, at least one; `None`: that was all. An error ends the scan.
    pub async fn next(&mut self) -> Result<Option<Batch>, DataError> {
        let mut state = match std::mem::replace(&mut self.state, State::Ended) {
            State::New(what, bounds) => self.reader.open(what, bounds)?,
            state => state,
        };
        let rows = match &mut state {
            State::Live { base, changes } => {
                let table = &self.reader.state.name;
                let is_counted = self.reader.state.key == TableKey::WholeRow;
                let mut merge = Merge { table, base, changes, is_counted, base_rows: 0, change_rows: 0 };
                merge.next(self.batch_rows, Limit::None).await?
            }
            State::Changed(feed) => changed(feed, self.batch_rows).await?,
            State::New(..) | State::Ended => return Ok(None),
        };
        if rows.is_empty() {
            return Ok(None);
        }
        let is_changed = matches!(state, State::Changed(_));
        self.state = state;
        self.batch(rows, is_changed).map(Some)
    }

    fn batch(&self, rows: Rows, is_changed: bool) -> Result<Batch, DataError> {
        let types = self.reader.schema.columns().iter().map(|column| &column.data_type);
        let columns = rows.columns()?;
        let columns = columns.iter().zip(types).map(|(column, stream)| from_stored(column, stream));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let deleted: Option<BooleanBuffer> =
            is_changed.then(|| rows.each(|sorted, row| sorted.is_deleted(row)).collect());
        Ok(Batch {
            rows: RecordBatch::try_new(Arc::clone(self.reader.schema.arrow()), columns)?,
            deleted: deleted.filter(|bits| bits.count_set_bits() > 0),
            scn: rows.scn(),
            last_key: rows.key_bytes(rows.len() - 1),
            merged: rows,
        })
    }
}

async fn changed(feed: &mut Feed, rows: usize) -> Result<Rows, DataError> {
    let mut changed = Rows::default();
    while changed.len() < rows && feed.fill().await? {
        let (block, next) = feed.here();
        let entries = (block.len() - next).min(rows - changed.len());
        changed.take(feed, entries);
    }
    Ok(changed)
}
