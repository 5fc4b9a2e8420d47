//! Rows that differed once: what is known of each, and the judgement over it.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use arrow_array::RecordBatch;
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::ArrowError;
use tidemill_event::Position;

use super::replica::Version;
use super::rows::{Content, Key, Reader};
use super::{Bounds, Difference, DifferenceKind, Pair, VerifyError};

/// See the module.
#[derive(Default)]
pub(super) struct Suspects {
    /// Where chunks lie at the source.
    pub(super) chunks: Vec<Bounds>,
    rows: BTreeMap<Key, Suspect>,
    /// All that the source has of each suspect was counted: not so in the first reading of a table without key.
    is_counted: bool,
}

struct Suspect {
    name: String,
    source: Option<Content>,
    chunk: Option<usize>,
}

/// What came out.
pub(super) struct Judgement {
    pub(super) differences: Vec<Difference>,
    /// Some rows changed meanwhile and are to be read again.
    pub(super) is_open: bool,
}

impl Suspects {
    /// A row of the source that the replica has otherwise, or not.
    pub(super) fn at_source(
        &mut self,
        reader: &Reader,
        key: &[u8],
        digest: u64,
        chunk: usize,
        place: (&RecordBatch, usize),
    ) -> Result<(), ArrowError> {
        if !self.rows.contains_key(key) {
            let suspect = Suspect { name: name(reader, place)?, source: None, chunk: Some(chunk) };
            self.rows.insert(key.into(), suspect);
        }
        let suspect = self.rows.get_mut(key).expect("it was added");
        reader.add(suspect.source.get_or_insert_default(), digest);
        Ok(())
    }

    /// Rows that only the replica has, by hashed key.
    pub(super) async fn only_stored(
        &mut self,
        version: &impl Version,
        pair: &Pair,
        left: HashSet<u64>,
    ) -> Result<(), VerifyError> {
        if left.is_empty() {
            return Ok(());
        }
        let reader = &pair.reader;
        let mut find = |batch: &RecordBatch| {
            let mut found = vec![];
            reader.each(batch, |row, key, _| {
                if left.contains(&Reader::place(key)) && !self.rows.contains_key(key) {
                    found.push((Key::from(key), row));
                }
            })?;
            for (key, row) in found {
                let name = name(reader, (batch, row))?;
                self.rows.insert(key, Suspect { name, source: None, chunk: None });
            }
            Ok(())
        };
        version.rows(&pair.pairing, &mut find).await
    }

    /// Which chunks hold the suspects: all, where one of them was not found at the source.
    pub(super) fn chunks_to_read(&self) -> Vec<usize> {
        let chunks: Option<BTreeSet<usize>> = self.rows.values().map(|suspect| suspect.chunk).collect();
        chunks.map_or_else(|| (0..self.chunks.len()).collect(), |chunks| chunks.into_iter().collect())
    }

    /// The source is read again.
    pub(super) fn forget_source(&mut self) {
        self.is_counted = true;
        self.rows.values_mut().for_each(|suspect| suspect.source = None);
    }

    /// A row of the source, read again.
    pub(super) fn seen(&mut self, reader: &Reader, key: &[u8], digest: u64, chunk: usize) {
        if let Some(suspect) = self.rows.get_mut(key) {
            suspect.chunk = Some(chunk);
            reader.add(suspect.source.get_or_insert_default(), digest);
        }
    }

    /// Those that are left, by name.
    pub(super) fn names(&self) -> Vec<String> {
        self.rows.values().map(|suspect| suspect.name.clone()).collect()
    }

    /// Judges every suspect at a version that has all that the source had; what changed after `since` may be explained by
    /// that, and stays where it is not equal now.
    pub(super) async fn judge(
        &mut self,
        version: &impl Version,
        pair: &Pair,
        since: Position,
    ) -> Result<Judgement, VerifyError> {
        let mut judgement = Judgement { differences: vec![], is_open: false };
        if self.rows.is_empty() {
            return Ok(judgement);
        }
        let changed = self.changed(version, pair, since).await?;
        let stored = self.stored(version, pair).await?;
        let is_whole_row = pair.reader.is_whole_row();
        let may_clear = !is_whole_row || self.is_counted;
        self.rows.retain(|key, suspect| {
            let stored = stored.get(key).copied();
            if may_clear && suspect.source == stored {
                return false;
            }
            if changed.as_ref().is_none_or(|changed| changed.contains(key)) {
                judgement.is_open = true;
                return true;
            }
            let kind = match (suspect.source.is_some(), stored.is_some()) {
                (true, true) if !is_whole_row => DifferenceKind::Different,
                (true, _) => DifferenceKind::Missing,
                (false, _) => DifferenceKind::Extra,
            };
            judgement.differences.push(Difference { key: suspect.name.clone(), kind });
            false
        });
        Ok(judgement)
    }

    /// The suspects that changed after `since`; `None`: that is not known, so any may have.
    async fn changed(
        &self,
        version: &impl Version,
        pair: &Pair,
        since: Position,
    ) -> Result<Option<HashSet<Key>>, VerifyError> {
        let mut changed = HashSet::new();
        let mut note = |batch: &RecordBatch| {
            pair.reader.each(batch, |_, key, _| {
                if self.rows.contains_key(key) {
                    changed.insert(key.into());
                }
            })
        };
        let is_known = version.changed(&pair.pairing, since, &mut note).await?;
        Ok(is_known.then_some(changed))
    }

    /// What the replica has of the suspects.
    async fn stored(
        &self,
        version: &impl Version,
        pair: &Pair,
    ) -> Result<BTreeMap<Key, Content>, VerifyError> {
        let mut stored = BTreeMap::<Key, Content>::new();
        let mut note = |batch: &RecordBatch| {
            pair.reader.each(batch, |_, key, digest| {
                if self.rows.contains_key(key) {
                    pair.reader.add(stored.entry(key.into()).or_default(), digest);
                }
            })
        };
        version.rows(&pair.pairing, &mut note).await?;
        Ok(stored)
    }
}

/// A row's key as people read it.
fn name(reader: &Reader, (rows, row): (&RecordBatch, usize)) -> Result<String, ArrowError> {
    let options = FormatOptions::default().with_null("NULL");
    let value = |column: &usize| {
        let formatter = ArrayFormatter::try_new(rows.column(*column), &options)?;
        formatter.value(row).try_to_string()
    };
    let values = reader.key_columns().iter().map(value).collect::<Result<Vec<_>, _>>()?;
    Ok(values.join(", "))
}
