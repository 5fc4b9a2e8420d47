//! Compares a source with its snapshot storage while both are in use, and reports real differences only.
//!
//! ```text
//! version m0 (applied p0) ── read the source (low ≥ p0, high) ── version m1 (applied ≥ high)
//!     └── rows that differ are suspects ──────────────────────────▶ judged at m1
//! ```
//!
//! A suspect that did not change in `(p0, m1]` was, when the source was read, what it is at m1: it is a difference, or it is
//! none. One that changed and is equal now is none; one that changed and is not is read again. So a difference is reported
//! only where no transaction can explain it, however busy the source is.

mod rows;
mod suspects;

use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_schema::ArrowError;
use tidemill_bootstrap_clone::Policy;
use tidemill_bootstrap_store::{
    DataError, Manifest, ScanOptions, Store, StoreError, TableKey, TablePhase, TableReader, TableState,
};
use tidemill_event::gtid::GtidSet;
use tidemill_event::{Position, TableName};
use tidemill_fetchers_api::FetchError;
use tidemill_fetchers_api::extract::{
    Bound, ChunkMarks, ChunkRead, Extract, ExtractSession, LowMark, SourceTable,
};
use tidemill_sandbox::GuestError;

use rows::{Reader, Stored};
use suspects::Suspects;

/// How a comparison is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyOptions {
    /// About how many rows are read from the source in one go.
    pub chunk_rows: u64,
    /// How many rows are held at a time: a table with more is read in several passes.
    pub pass_rows: u64,
    /// How often what changes all the time is read again before it is given up as not judged.
    pub rounds: u32,
    /// How long the store may take to reach what the source was read at.
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
    /// The version that was judged last.
    pub version: u64,
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
    /// The source has the row, the store does not.
    Missing,
    /// The store has the row, the source does not.
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
    /// The policy failed.
    #[error("the policy failed")]
    Policy(#[from] Box<GuestError>),
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
    /// The store did not come to where the source was read.
    #[error(
        "the store stands at {at} and does not reach {wanted}; see that its service runs (`tidemill up`), then verify again"
    )]
    Behind {
        /// Where it stands.
        at: Position,
        /// Where it had to come.
        wanted: Position,
    },
}

/// Compares tables of one source.
pub struct Verify<E> {
    extract: E,
    policy: Policy,
    store: Store,
    options: VerifyOptions,
}

/// A table on both sides.
struct Pair {
    source: SourceTable,
    columns: Vec<u32>,
    reader: Reader,
    name: TableName,
}

/// One version of the store, of one table.
struct Version {
    manifest: Arc<Manifest>,
    state: Arc<TableState>,
}

impl<E: Extract> Verify<E> {
    /// Compares what that source has, as its policy lets it be stored, with that store.
    pub fn new(extract: E, policy: Policy, store: Store, options: VerifyOptions) -> Verify<E> {
        Verify { extract, policy, store, options }
    }

    /// The tables of the newest version.
    pub async fn tables(&self) -> Result<Vec<TableName>, VerifyError> {
        let Some(manifest) = self.store.newest().await? else { return Ok(vec![]) };
        let mut names = Vec::with_capacity(manifest.tables.len());
        for table in manifest.tables.values() {
            names.push(self.store.table(table).await?.name.clone());
        }
        Ok(names)
    }

    /// Compares one table.
    pub async fn table(&self, name: &TableName) -> Result<TableReport, VerifyError> {
        let mut version = self.version(name).await?;
        let pair = self.pair(name, &version.state).await?;
        let mut report =
            TableReport { table: name.clone(), rows: 0, version: 0, differences: vec![], unjudged: vec![] };
        let (mut suspects, mut marks, rows) = self.compare(&pair, &version).await?;
        report.rows = rows;
        for round in 1.. {
            let since = version.manifest.applied.position;
            version = self.reached(name, &marks).await?;
            report.version = version.manifest.number;
            let table = self.reader(&version);
            let judged = suspects.judge(&table, &pair.reader, &version, since).await?;
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

    async fn version(&self, name: &TableName) -> Result<Version, VerifyError> {
        let not = |what: &str| VerifyError::NotComparable { table: name.clone(), what: what.to_owned() };
        let manifest = self.store.newest().await?.ok_or_else(|| not("the store is empty"))?;
        let table = manifest.tables.get(&name.to_string());
        let table = table.ok_or_else(|| not("the store has no such table; see `tidemill snapshot ls`"))?;
        let state = self.store.table(table).await?;
        match &state.phase {
            TablePhase::Ready => Ok(Version { manifest, state }),
            TablePhase::Cloning(_) => Err(not("it is being copied; verify again when that is done")),
            TablePhase::Stale { reason, .. } => {
                Err(not(&format!("its copy is stale ({reason}); verify again when it was made anew")))
            }
        }
    }

    async fn pair(&self, name: &TableName, state: &TableState) -> Result<Pair, VerifyError> {
        let not = |what: String| VerifyError::NotComparable { table: name.clone(), what };
        let source = self.extract.describe(name).await?;
        let source = source.ok_or_else(|| not("the source has no such table".into()))?;
        let reads = self.policy.reads(&source.schema).map_err(Box::new)?;
        let reads = reads.ok_or_else(|| not("the policy declines it, and the store has it".into()))?;
        let stored = state.schema.table_schema(name);
        if stored.id() != reads.schema.id() {
            let what =
                "the source has other columns than the store; verify again when the store has followed";
            return Err(not(what.into()));
        }
        let ordinal = |field: &u32| state.schema.columns.iter().position(|column| column.field == *field);
        let key: Vec<usize> = match &state.key {
            TableKey::Columns { fields } => fields.iter().filter_map(ordinal).collect(),
            TableKey::WholeRow => vec![],
        };
        Ok(Pair { source, columns: reads.columns, reader: Reader::new(&stored, &key)?, name: name.clone() })
    }

    /// The first reading: everything of both sides. What differs is suspect.
    async fn compare(
        &self,
        pair: &Pair,
        version: &Version,
    ) -> Result<(Suspects, Vec<ChunkMarks>, u64), VerifyError> {
        let stored: u64 = version.state.base.iter().flat_map(|base| &base.files).map(|file| file.rows).sum();
        let passes = (stored.max(pair.source.rows_estimate) / self.options.pass_rows + 1).max(1);
        let mut suspects = Suspects::default();
        let (mut all_marks, mut rows) = (vec![], 0);
        suspects.chunks = self.bounds(pair).await?;
        for pass in 0..passes {
            let here = |key: &[u8]| Reader::place(key) % passes == pass;
            let mut left = Stored::default();
            let table = self.reader(version);
            let mut scan = table.scan(ScanOptions::default());
            while let Some(batch) = scan.next().await? {
                pair.reader.each(&batch.rows, |_, key, digest| {
                    if here(key) {
                        left.add(&pair.reader, key, digest);
                    }
                })?;
            }
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
            suspects.only_stored(&table, &pair.reader, left.left()).await?;
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

    fn reader(&self, version: &Version) -> TableReader {
        TableReader::new(self.store.clone(), Arc::clone(&version.state), version.manifest.applied.position)
    }

    /// One chunk, whose low mark is not before the version: what changed since then explains every difference.
    async fn chunk(
        &self,
        session: &mut E::Session,
        pair: &Pair,
        version: &Version,
        bounds: &Bounds,
    ) -> Result<(ChunkMarks, Vec<RecordBatch>), VerifyError> {
        let (after, upto) = (bounds.after.as_ref(), bounds.upto.as_ref());
        let read = ChunkRead { table: &pair.source, columns: &pair.columns, conditions: &[], after, upto };
        let reads = self.policy.reads(&pair.source.schema).map_err(Box::new)?.expect("it was asked before");
        for _ in 0..LOW_MARK_TRIES {
            let mut batches = vec![];
            let mut give = |batch| {
                batches.push(batch);
                true
            };
            let marks = session.read(&read, &mut give).await?;
            if has_seen(version, &marks) {
                let judge = |batch| self.policy.judge(&pair.source.schema, &reads, batch);
                let judged = batches.into_iter().map(judge).collect::<Result<Vec<_>, _>>();
                return Ok((marks, judged.map_err(Box::new)?));
            }
            // The store was ahead of what can be seen at the source, for as long as a commit takes.
            tokio::time::sleep(POLL).await;
        }
        let what =
            "the source does not show what the store has: it is another server, or far behind its own log";
        Err(VerifyError::NotComparable { table: pair.name.clone(), what: what.into() })
    }

    /// Reads suspects again: their chunks, or everything where one has none.
    async fn read_again(
        &self,
        pair: &Pair,
        version: &Version,
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
    async fn reached(&self, name: &TableName, marks: &[ChunkMarks]) -> Result<Version, VerifyError> {
        let began = tokio::time::Instant::now();
        loop {
            let version = self.version(name).await?;
            let behind = marks.iter().map(|marks| high(&version.manifest, marks)).max();
            let at = version.manifest.applied.position;
            match behind {
                Some(wanted) if wanted > at => {
                    if began.elapsed() > self.options.patience {
                        return Err(VerifyError::Behind { at, wanted });
                    }
                    tokio::time::sleep(POLL).await;
                }
                _ => return Ok(version),
            }
        }
    }
}

/// How often the store is asked whether it has come further.
const POLL: Duration = Duration::from_millis(200);

/// How often a chunk is read again because the store was ahead of it.
const LOW_MARK_TRIES: u32 = 50;

/// A chunk's place.
#[derive(Clone, Debug)]
struct Bounds {
    after: Option<Bound>,
    upto: Option<Bound>,
}

/// Whether every transaction of the version was to be seen in the chunk.
fn has_seen(version: &Version, marks: &ChunkMarks) -> bool {
    let applied = &version.manifest.applied;
    match &marks.low {
        LowMark::At(scn) => high_of(&version.manifest, marks, *scn) >= applied.position,
        LowMark::Executed(seen) => {
            let sets = (GtidSet::parse(&applied.executed), GtidSet::parse(seen));
            match sets {
                (Ok(Some(applied)), Ok(Some(seen))) => applied.missing_from(&seen).is_empty(),
                (Ok(None), _) => true,
                _ => false,
            }
        }
    }
}

fn high(manifest: &Manifest, marks: &ChunkMarks) -> Position {
    high_of(manifest, marks, marks.high)
}

/// The position of an SCN of the server that was read. One that the store has not met is ahead of it.
fn high_of(manifest: &Manifest, marks: &ChunkMarks, scn: tidemill_event::Scn) -> Position {
    let known = manifest.timelines.iter().rposition(|server| **server == *marks.server);
    let timeline = known.unwrap_or(manifest.timelines.len()) as u32 + 1;
    Position { timeline, scn }
}
