//! Changes become a run: of each key the newest version, sorted.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int8Array, Int32Array, Int64Array, RecordBatch, UInt32Array};
use arrow_select::take::take;
use tidemill_event::{Position, RowKind, Scn, TableChanges, Window};

use super::key::Keys;
use super::layout::{Layout, OP_DELETE, OP_UPSERT, key_places, pick};
use super::mapping::to_stored;
use super::sorted::{Piece, gather, is_same_key, key_order};
use super::write::{FileShape, FileWriter};
use crate::{DataError, Run, Store, StoredSchema, TableKey, limits, random_id};

/// So many pieces of similar size become one.
const SMALL_PIECES: usize = 64;
/// Sizes that are similar: of transactions, and of what became of those.
const SMALL_SIZES: [Range<usize>; 2] = [1..SMALL_PIECES, SMALL_PIECES..SMALL_PIECES * SMALL_PIECES];

/// Collects the changes of one table.
pub struct RunBuilder {
    schema: StoredSchema,
    key: TableKey,
    places: Vec<usize>,
    skip_upto: Position,
    pieces: Vec<Piece>,
    /// Of each piece, the versions of its rows.
    versions: Vec<Vec<Version>>,
    rows: u64,
    bytes: usize,
    time_us: i64,
}

/// A row's transaction, and what became of the row.
#[derive(Clone, Copy)]
struct Version {
    at: Position,
    is_after: bool,
}

impl RunBuilder {
    /// A run of rows of that schema, nothing in it.
    pub fn new(schema: StoredSchema, key: TableKey) -> RunBuilder {
        let places = key_places(&schema, &key);
        RunBuilder {
            schema,
            key,
            places,
            skip_upto: Position::default(),
            pieces: vec![],
            versions: vec![],
            rows: 0,
            bytes: 0,
            time_us: 0,
        }
    }

    /// Leaves out changes up to there: for a table without key, whose copy has them already.
    pub fn skip_upto(&mut self, position: Position) {
        self.skip_upto = position;
    }

    /// Adds the changes of one of the window's tables. `timeline` is the store's number of the window's timeline.
    pub fn add(&mut self, window: &Window, changes: &TableChanges, timeline: u32) -> Result<(), DataError> {
        self.check_schema(changes)?;
        let columns = changes.rows.columns();
        let all = Keys::new(&pick(columns, &self.places), changes.rows.num_rows());
        let (mut rows, mut versions) = (vec![], vec![]);
        for row in 0..changes.rows.num_rows() {
            let scn = window.transactions[changes.txn[row] as usize].scn;
            let at = Position { timeline, scn };
            if at <= self.skip_upto || self.is_superseded(changes, &all, row) {
                continue;
            }
            let is_after = RowKind::from_u8(changes.kind[row]).is_some_and(RowKind::is_after);
            self.check_values(changes, row, is_after, at)?;
            rows.push(row as u32);
            versions.push(Version { at, is_after });
        }
        if rows.is_empty() {
            return Ok(());
        }
        let keys = all.select(&rows);
        let indices = UInt32Array::from(rows);
        // Copied, so that nothing of the window is held.
        let taken = columns.iter().map(|column| Ok(to_stored(&take(column, &indices, None)?)));
        let columns = taken.collect::<Result<Vec<ArrayRef>, arrow_schema::ArrowError>>()?;
        let piece = Piece { columns, keys };
        let times = window.transactions.iter().map(|txn| txn.commit_time_us);
        self.time_us = times.fold(self.time_us, i64::max);
        self.bytes += piece.memory() + size_of_val(&versions[..]);
        self.rows += versions.len() as u64;
        self.pieces.push(piece);
        self.versions.push(versions);
        self.join_small()
    }

    /// Many small pieces take many times the memory of one with their rows.
    fn join_small(&mut self) -> Result<(), DataError> {
        for sizes in SMALL_SIZES {
            let Some(from) = self.pieces.len().checked_sub(SMALL_PIECES) else { return Ok(()) };
            if self.pieces[from..].iter().all(|piece| sizes.contains(&piece.keys.len())) {
                let joined = Piece::concat(&self.pieces[from..])?;
                let small: usize = self.pieces.drain(from..).map(|piece| piece.memory()).sum();
                self.bytes = self.bytes + joined.memory() - small;
                self.pieces.push(joined);
                let versions = self.versions.drain(from..).flatten().collect();
                self.versions.push(versions);
            }
        }
        Ok(())
    }

    fn check_schema(&self, changes: &TableChanges) -> Result<(), DataError> {
        let ours = self.schema.columns.iter().map(|column| (&column.name, &column.data_type.0));
        let theirs = changes.schema.columns().iter().map(|column| (&column.name, &column.data_type));
        match ours.eq(theirs) {
            true => Ok(()),
            false => Err(DataError::Schema { table: changes.schema.name().to_string() }),
        }
    }

    /// Whether the row is the old image of an update whose new image, the next row, has the same key.
    fn is_superseded(&self, changes: &TableChanges, keys: &Keys, row: usize) -> bool {
        changes.kind[row] == RowKind::UpdateBefore as u8
            && changes.ordinal.get(row + 1) == Some(&changes.ordinal[row])
            && keys.get(row) == keys.get(row + 1)
            && self.key != TableKey::WholeRow
    }

    /// A row that will be there needs all its values, one that is gone its key.
    fn check_values(
        &self,
        changes: &TableChanges,
        row: usize,
        is_after: bool,
        at: Position,
    ) -> Result<(), DataError> {
        if changes.absent.is_empty() {
            return Ok(());
        }
        let needed = |column: &usize| is_after || self.places.contains(column);
        let mut columns = (0..self.schema.columns.len()).filter(needed);
        match columns.find(|column| changes.is_absent(row, *column)) {
            Some(column) => Err(DataError::Absent {
                table: changes.schema.name().clone(),
                column: self.schema.columns[column].name.clone(),
                position: at,
            }),
            None => Ok(()),
        }
    }

    /// Rows that are held.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes of memory that are held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Writes the run of everything in `(after, upto]`; `None`: nothing changed.
    pub async fn finish(
        self,
        store: &Store,
        table_root: &str,
        after: Position,
        upto: Position,
    ) -> Result<Option<Run>, DataError> {
        let (rows, counts) = self.newest();
        let shape =
            FileShape::new(Layout::of_runs(&self.key), &self.schema, &self.key, limits::ROW_GROUP_ROWS);
        let mut out = RunOut::new(store, table_root, shape, upto);
        for from in (0..rows.len()).step_by(limits::BATCH_ROWS) {
            let to = (from + limits::BATCH_ROWS).min(rows.len());
            let rows = &rows[from..to];
            let version = |(piece, row): &(usize, usize)| self.versions[*piece][*row];
            let versions = RunVersions {
                counts: counts.as_ref().map(|counts| counts[from..to].to_vec()),
                deleted: rows.iter().map(|row| !version(row).is_after).collect(),
                at: rows.iter().map(|row| version(row).at).collect(),
            };
            let key = |(piece, row): (usize, usize)| self.pieces[piece].keys.bytes(row);
            let keys = (key(rows[0]), key(rows[rows.len() - 1]));
            out.write(gather(&self.pieces, rows)?, versions, (&keys.0, &keys.1)).await?;
        }
        out.finish(self.schema, 0, after, upto, self.time_us).await
    }

    /// The newest row of each key, in key order; without key the counts as well.
    fn newest(&self) -> (Vec<(usize, usize)>, Option<Vec<i64>>) {
        let order = key_order(&self.pieces);
        let mut rows: Vec<(usize, usize)> = Vec::with_capacity(order.len());
        if self.key != TableKey::WholeRow {
            for row in order {
                match rows.last_mut() {
                    Some(last) if is_same_key(&self.pieces, *last, row) => *last = row,
                    _ => rows.push(row),
                }
            }
            return (rows, None);
        }
        let mut counts: Vec<i64> = Vec::with_capacity(order.len());
        for row in order {
            let count = if self.versions[row.0][row.1].is_after { 1 } else { -1 };
            match rows.last_mut().zip(counts.last_mut()) {
                Some((last, sum)) if is_same_key(&self.pieces, *last, row) => {
                    (*last, *sum) = (row, *sum + count);
                }
                _ => {
                    rows.push(row);
                    counts.push(count);
                }
            }
        }
        let kept = rows.into_iter().zip(counts).filter(|(_, count)| *count != 0);
        let (rows, counts) = kept.unzip();
        (rows, Some(counts))
    }
}

/// Our columns of a run's rows.
pub(crate) struct RunVersions {
    /// Of a table without key.
    pub(crate) counts: Option<Vec<i64>>,
    pub(crate) deleted: Vec<bool>,
    pub(crate) at: Vec<Position>,
}

/// A run that is being written.
pub(crate) struct RunOut {
    store: Store,
    path: String,
    shape: Arc<FileShape>,
    file: Option<FileWriter>,
    deletes: u64,
}

impl RunOut {
    pub(crate) fn new(store: &Store, table_root: &str, shape: Arc<FileShape>, upto: Position) -> RunOut {
        let (Position { timeline, scn: Scn(scn) }, id) = (upto, random_id());
        let path = format!("{table_root}/run/{timeline:010}-{scn:020}-{id}.parquet");
        RunOut { store: store.clone(), path, shape, file: None, deletes: 0 }
    }

    pub(crate) async fn write(
        &mut self,
        mut columns: Vec<ArrayRef>,
        versions: RunVersions,
        keys: (&[u8], &[u8]),
    ) -> Result<(), DataError> {
        let timelines = versions.at.iter().map(|at| at.timeline as i32);
        let scns = versions.at.iter().map(|at| at.scn.0 as i64);
        match versions.counts {
            Some(counts) => {
                self.deletes += counts.iter().filter(|count| **count < 0).count() as u64;
                columns.push(Arc::new(Int64Array::from(counts)));
            }
            None => {
                self.deletes += versions.deleted.iter().filter(|deleted| **deleted).count() as u64;
                let op = |deleted: &bool| if *deleted { OP_DELETE } else { OP_UPSERT };
                columns.push(Arc::new(versions.deleted.iter().map(op).collect::<Int8Array>()));
            }
        }
        columns.push(Arc::new(Int32Array::from_iter_values(timelines)));
        columns.push(Arc::new(Int64Array::from_iter_values(scns)));
        let rows = RecordBatch::try_new(Arc::clone(&self.shape.arrow), columns)?;
        match &mut self.file {
            Some(file) => file.write(&rows, keys.1).await,
            None => {
                let path = self.path.clone();
                self.file = Some(FileWriter::open(&self.store, path, &self.shape, &rows, keys).await?);
                Ok(())
            }
        }
    }

    pub(crate) async fn finish(
        self,
        schema: StoredSchema,
        level: u32,
        after: Position,
        upto: Position,
        time_us: i64,
    ) -> Result<Option<Run>, DataError> {
        match self.file.is_some() {
            true => self.finish_even_empty(schema, level, after, upto, time_us).await.map(Some),
            false => Ok(None),
        }
    }

    /// The run, also where it has no rows.
    pub(crate) async fn finish_even_empty(
        mut self,
        schema: StoredSchema,
        level: u32,
        after: Position,
        upto: Position,
        time_us: i64,
    ) -> Result<Run, DataError> {
        let file = match self.file.take() {
            Some(file) => file,
            None => FileWriter::empty(&self.store, self.path, &self.shape).await?,
        };
        let written = file.finish().await?;
        Ok(Run {
            object: written.object,
            level,
            after,
            upto,
            rows: written.rows,
            deletes: self.deletes,
            first_key: written.first_key,
            last_key: written.last_key,
            schema,
            time_us,
        })
    }
}
