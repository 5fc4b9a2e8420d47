//! Compares a source with what follows it, snapshot storage or a subscription's output, while both are in use, and reports
//! real differences only.
//!
//! ```text
//! version m0 (applied p0) ── read the source (low ≥ p0, high) ── version m1 (applied ≥ high)
//!     └── rows that differ are suspects ──────────────────────────▶ judged at m1
//! ```
//!
//! A suspect that did not change in `(p0, m1]` was, when the source was read, what it is at m1: it is a difference, or it is
//! none. One that changed and is equal now is none; one that changed and is not is read again. So a difference is reported
//! only where no transaction can explain it, however busy the source is.

mod output;
mod replica;
mod shape;
mod snapshot;

mod rows;
mod suspects;

use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_schema::ArrowError;
use tidemill_bootstrap_store::{DataError, StoreError};
use tidemill_event::gtid::GtidSet;
use tidemill_event::{Position, TableName};
use tidemill_fetchers_api::FetchError;
use tidemill_fetchers_api::extract::{
    Bound, ChunkMarks, ChunkRead, Extract, ExtractSession, LowMark, SourceTable,
};
use tidemill_log::ReadError;
use tidemill_sandbox::GuestError;

use rows::{Reader, Stored};
use shape::Shown;
use suspects::Suspects;

pub use output::Output;
pub use replica::{Give, Pairing, Place, Replica, Version};
pub use shape::{Shape, Stages};

/// How a comparison is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyOptions {
    /// About how many rows are read from the source in one go.
    pub chunk_rows: u64,
    /// How many rows are held at a time: a table with more is read in several passes.
    pub pass_rows: u64,
    /// How often what changes all the time is read again before it is given up as not judged.
    pub rounds: u32,
    /// How long the replica may take to reach what the source was read at.
    pub patience: Duration,
}

impl Default for VerifyOptions {
    fn default() -> VerifyOptions {
        VerifyOptions {
            chunk_rows: 100_000,
            pass_rows: 4_000_000,
            rounds: 5,
            patience: Duration::from_secs(300),
        }
    }
}

/// What was found about one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableReport {
    /// The table.
    pub table: TableName,
    /// Rows of the source that were read the first time, those that the policy declines excepted.
    pub rows: u64,
    /// The version that was judged last, where versions have numbers.
    pub version: Option<u64>,
    /// Where the replica stood then.
    pub position: Position,
    /// Columns that only one of the two has.
    pub left_out: Vec<String>,
    /// The differences, by key.
    pub differences: Vec<Difference>,
    /// Keys that changed in every round, so that nothing can be said about them.
    pub unjudged: Vec<String>,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// The key's values, as text.
    pub key: String,
    /// What is so.
    pub kind: DifferenceKind,
}

/// What differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DifferenceKind {
    /// The source has the row, the replica does not.
    Missing,
    /// The replica has the row, the source does not.
    Extra,
    /// Both have it, with other values.
    Different,
}

/// Why a table could not be compared.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The source failed.
    #[error("read the source")]
    Source(#[from] FetchError),
    /// The store failed.
    #[error("read the store")]
    Store(#[from] StoreError),
    /// An object of the store is not what it should be.
    #[error("read the store's rows")]
    Data(#[from] DataError),
    /// A subscription's output failed.
    #[error("read the subscription's output")]
    Output(#[from] tidemill_sink::StoreError),
    /// The log that the subscription reads failed.
    #[error("read the source's log")]
    Log(#[from] ReadError),
    /// A guest failed.
    #[error("a guest that judges the source's rows failed")]
    Guest(#[from] Box<GuestError>),
    /// Columns that cannot be compared.
    #[error("compare the columns")]
    Columns(#[from] ArrowError),
    /// One of the two has no such table, or is not ready to be compared.
    #[error("table {table}: {what}")]
    NotComparable {
        /// The table.
        table: TableName,
        /// Why, and what to do.
        what: String,
    },
    /// The replica did not come to where the source was read.
    #[error(
        "it stands at {at} and does not reach {wanted}, where the source was read; see that the source is followed (`tidemill \
         up`), then verify again"
    )]
    Behind {
        /// Where it stands.
        at: Position,
        /// Where it had to come.
        wanted: Position,
    },
}

/// Compares tables of one source.
pub struct Verify<E, R> {
    extract: E,
    shape: Shape,
    replica: R,
    options: VerifyOptions,
}

/// A table on both sides.
struct Pair {
    source: SourceTable,
    shown: Shown,
    pairing: Pairing,
    reader: Reader,
    name: TableName,
}

impl<E: Extract, R: Replica> Verify<E, R> {
    /// Compares what that source has, in the shape in which the replica is to have it, with the replica.
    pub fn new(extract: E, shape: Shape, replica: R, options: VerifyOptions) -> Verify<E, R> {
        Verify { extract, shape, replica, options }
    }

    /// The tables of the replica.
    pub async fn tables(&self) -> Result<Vec<TableName>, VerifyError> {
        self.replica.tables(&self.extract.tables().await?).await
    }

    /// Compares one table.
    pub async fn table(&self, name: &TableName) -> Result<TableReport, VerifyError> {
        let mut version = self.replica.version(name).await?;
        let pair = self.pair(name, &version).await?;
        let mut report = TableReport {
            table: name.clone(),
            rows: 0,
            version: None,
            position: Position::default(),
            left_out: pair.pairing.left_out.clone(),
            differences: vec![],
            unjudged: vec![],
        };
        let (mut suspects, mut marks, rows) = self.compare(&pair, &version).await?;
        report.rows = rows;
        for round in 1.. {
            let since = version.place().position;
            // What the older one shows need not be kept any more.
            drop(version);
            version = self.reached(name, &marks).await?;
            (report.version, report.position) = (version.place().number, version.place().position);
            let judged = suspects.judge(&version, &pair, since).await?;
            report.differences.extend(judged.differences);
            if !judged.is_open {
                break;
            }
            if round >= self.options.rounds {
                report.unjudged = suspects.names();
                break;
            }
            // What is read again is judged against what changed since this version.
            marks = self.read_again(&pair, &version, &mut suspects).await?;
        }
        report.differences.sort();
        report.unjudged.sort();
        Ok(report)
    }

    async fn pair(&self, name: &TableName, version: &R::Version) -> Result<Pair, VerifyError> {
        let not = |what: String| VerifyError::NotComparable { table: name.clone(), what };
        let source = self.extract.describe(name).await?;
        let source = source.ok_or_else(|| not("the source has no such table".into()))?;
        let shown = self.shape.shows(&source.schema).map_err(Box::new)?;
        let shown = shown.ok_or_else(|| not("the policy declines it, and it is there".into()))?;
        let pairing = version.pairing(&shown.schema).map_err(not)?;
        let reader = Reader::new(pairing.schema(), &pairing.key)?;
        Ok(Pair { source, shown, pairing, reader, name: name.clone() })
    }

    /// The first reading: everything of both sides. What differs is suspect.
    async fn compare(
        &self,
        pair: &Pair,
        version: &R::Version,
    ) -> Result<(Suspects, Vec<ChunkMarks>, u64), VerifyError> {
        let most = version.row_count().max(pair.source.rows_estimate);
        let passes = most / self.options.pass_rows + 1;
        let mut suspects = Suspects::default();
        let (mut all_marks, mut rows) = (vec![], 0);
        suspects.chunks = self.bounds(pair).await?;
        for pass in 0..passes {
            let here = |key: &[u8]| Reader::place(key) % passes == pass;
            let mut left = Stored::default();
            let mut add = |batch: &RecordBatch| {
                pair.reader.each(batch, |_, key, digest| {
                    if here(key) {
                        left.add(&pair.reader, key, digest);
                    }
                })
            };
            version.rows(&pair.pairing, &mut add).await?;
            let mut session = self.extract.open().await?;
            for chunk in 0..suspects.chunks.len() {
                let bounds = suspects.chunks[chunk].clone();
                let (marks, batches) = self.chunk(&mut session, pair, version, &bounds).await?;
                all_marks.push(marks);
                for batch in &batches {
                    let mut differ = vec![];
                    pair.reader.each(batch, |row, key, digest| {
                        if here(key) {
                            rows += 1;
                            if !left.take(key, digest) {
                                differ.push((rows::Key::from(key), digest, row));
                            }
                        }
                    })?;
                    for (key, digest, row) in differ {
                        suspects.at_source(&pair.reader, &key, digest, chunk, (batch, row))?;
                    }
                }
            }
            suspects.only_stored(version, pair, left.left()).await?;
        }
        Ok((suspects, all_marks, rows))
    }

    /// Where the chunks of the table lie, which every reading of it shares.
    async fn bounds(&self, pair: &Pair) -> Result<Vec<Bounds>, VerifyError> {
        let mut session = self.extract.open().await?;
        let (mut after, mut all) = (None::<Bound>, vec![]);
        loop {
            let upto = session.bound(&pair.source, after.as_ref(), self.options.chunk_rows).await?;
            all.push(Bounds { after: after.take(), upto: upto.clone() });
            match upto {
                Some(upto) => after = Some(upto),
                None => return Ok(all),
            }
        }
    }

    /// One chunk, whose low mark is not before the version: what changed since then explains every difference.
    async fn chunk(
        &self,
        session: &mut E::Session,
        pair: &Pair,
        version: &R::Version,
        bounds: &Bounds,
    ) -> Result<(ChunkMarks, Vec<RecordBatch>), VerifyError> {
        let (after, upto) = (bounds.after.as_ref(), bounds.upto.as_ref());
        let columns = &pair.shown.reads.columns;
        let read = ChunkRead { table: &pair.source, columns, conditions: &[], after, upto };
        for _ in 0..LOW_MARK_TRIES {
            let mut batches = vec![];
            let mut give = |batch| {
                batches.push(batch);
                true
            };
            let marks = session.read(&read, &mut give).await?;
            if has_seen(version.place(), &marks) {
                let shown = batches.into_iter().map(|batch| self.shown(pair, batch));
                return Ok((marks, shown.collect::<Result<_, _>>()?));
            }
            // The replica was ahead of what can be seen at the source, for as long as a commit takes.
            tokio::time::sleep(POLL).await;
        }
        let what = "the source does not show what it has: it is another server, or far behind its own log";
        Err(VerifyError::NotComparable { table: pair.name.clone(), what: what.into() })
    }

    /// Rows that were read, as they are compared.
    fn shown(&self, pair: &Pair, rows: RecordBatch) -> Result<RecordBatch, VerifyError> {
        let rows = self.shape.of_read(&pair.source.schema, &pair.shown, rows).map_err(Box::new)?;
        Ok(pair.pairing.of_source(&rows)?)
    }

    /// Reads suspects again: their chunks, or everything where one has none.
    async fn read_again(
        &self,
        pair: &Pair,
        version: &R::Version,
        suspects: &mut Suspects,
    ) -> Result<Vec<ChunkMarks>, VerifyError> {
        let mut session = self.extract.open().await?;
        let chunks = suspects.chunks_to_read();
        suspects.forget_source();
        let mut all = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            let bounds = suspects.chunks[chunk].clone();
            let (marks, batches) = self.chunk(&mut session, pair, version, &bounds).await?;
            for batch in &batches {
                pair.reader.each(batch, |_, key, digest| suspects.seen(&pair.reader, key, digest, chunk))?;
            }
            all.push(marks);
        }
        Ok(all)
    }

    /// The first version that has everything that the source had when it was read.
    async fn reached(&self, name: &TableName, marks: &[ChunkMarks]) -> Result<R::Version, VerifyError> {
        let began = tokio::time::Instant::now();
        loop {
            let version = self.replica.version(name).await?;
            let place = version.place();
            let wanted = marks.iter().map(|marks| place.position_of(&marks.server, marks.high)).max();
            let (at, wanted) = (place.position, wanted.unwrap_or_default());
            if wanted <= at {
                return Ok(version);
            }
            if began.elapsed() > self.options.patience {
                return Err(VerifyError::Behind { at, wanted });
            }
            drop(version);
            tokio::time::sleep(POLL).await;
        }
    }
}

/// How often the replica is asked whether it has come further.
const POLL: Duration = Duration::from_millis(200);

/// How often a chunk is read again because the replica was ahead of it.
const LOW_MARK_TRIES: u32 = 50;

/// A chunk's place.
#[derive(Clone, Debug)]
struct Bounds {
    after: Option<Bound>,
    upto: Option<Bound>,
}

/// Whether every transaction of a version was to be seen in the chunk.
fn has_seen(place: &Place, marks: &ChunkMarks) -> bool {
    match &marks.low {
        LowMark::At(scn) => place.position_of(&marks.server, *scn) >= place.position,
        LowMark::Executed(seen) => match (GtidSet::parse(&place.executed), GtidSet::parse(seen)) {
            (Ok(Some(applied)), Ok(Some(seen))) => applied.missing_from(&seen).is_empty(),
            (Ok(None), _) => true,
            _ => false,
        },
    }
}
