//! Rows as they are compared: a key, and a digest of everything.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use arrow_array::RecordBatch;
use arrow_row::{RowConverter, SortField};
use arrow_schema::{ArrowError, Schema};

/// A key, in a form that is the same on both sides.
pub(super) type Key = Box<[u8]>;

/// What a row is, and how often it is there: more than once only where a table has no key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    digest: u64,
    count: u64,
}

/// Turns rows of one schema into keys and digests.
pub(super) struct Reader {
    key: RowConverter,
    columns: Vec<usize>,
    all: RowConverter,
    is_whole_row: bool,
}

impl Reader {
    /// For rows of that schema; `key` is empty where the whole row is one.
    pub(super) fn new(schema: &Schema, key: &[usize]) -> Result<Reader, ArrowError> {
        let field = |column: &usize| SortField::new(schema.field(*column).data_type().clone());
        let every: Vec<usize> = (0..schema.fields().len()).collect();
        let columns = if key.is_empty() { every.clone() } else { key.to_vec() };
        Ok(Reader {
            key: RowConverter::new(columns.iter().map(field).collect())?,
            columns,
            all: RowConverter::new(every.iter().map(field).collect())?,
            is_whole_row: key.is_empty(),
        })
    }

    /// Whether rows have no key, so that equal ones are counted.
    pub(super) fn is_whole_row(&self) -> bool {
        self.is_whole_row
    }

    /// Gives each row's key and what it is.
    pub(super) fn each(
        &self,
        rows: &RecordBatch,
        mut give: impl FnMut(usize, &[u8], u64),
    ) -> Result<(), ArrowError> {
        let keys: Vec<_> = self.columns.iter().map(|column| rows.column(*column).clone()).collect();
        let keys = self.key.convert_columns(&keys)?;
        let all = self.all.convert_columns(rows.columns())?;
        for row in 0..rows.num_rows() {
            give(row, keys.row(row).data(), hash(all.row(row).data()));
        }
        Ok(())
    }

    /// The columns of the key; of a table without one, all.
    pub(super) fn key_columns(&self) -> &[usize] {
        &self.columns
    }

    /// The place of a key in a pass over a part of all keys.
    pub(super) fn place(key: &[u8]) -> u64 {
        hash(key)
    }

    /// One row more.
    pub(super) fn add(&self, content: &mut Content, digest: u64) {
        content.digest = digest;
        content.count = if self.is_whole_row { content.count + 1 } else { 1 };
    }
}

fn hash(bytes: &[u8]) -> u64 {
    // Both sides are hashed in one process: the function only has to be the same within it.
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// One pass's part of the store's rows, by hashed key; what the source has too is taken out.
#[derive(Default)]
pub(super) struct Stored(HashMap<u64, Content>);

impl Stored {
    pub(super) fn add(&mut self, reader: &Reader, key: &[u8], digest: u64) {
        reader.add(self.0.entry(Reader::place(key)).or_default(), digest);
    }

    /// Takes one row of the source out; whether it was there, and as it is.
    pub(super) fn take(&mut self, key: &[u8], digest: u64) -> bool {
        let place = Reader::place(key);
        let Some(content) = self.0.get_mut(&place) else { return false };
        let same = content.digest == digest;
        content.count -= 1;
        if content.count == 0 {
            self.0.remove(&place);
        }
        same
    }

    /// The hashed keys that the source does not have.
    pub(super) fn left(self) -> HashSet<u64> {
        self.0.into_keys().collect()
    }
}
