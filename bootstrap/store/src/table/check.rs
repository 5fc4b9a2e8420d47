//! Reads everything that a table's state points to, and says what is not as it was written: objects, their checksums, the
//! order of keys, counts, bounds, and ranges that must not overlap. Whether the rows are the source's is not asked here.

use std::sync::Arc;

use super::key::Key;
use super::read::{Bounds, File, FileStream, Shape};
use crate::{BaseFile, DataError, ObjectRef, Run, Store, StoreError, TableKey, TablePhase, TableState};

/// What was read of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Rows of files of every kind.
    pub rows: u64,
    /// What is wrong; none: all is well.
    pub problems: Vec<Problem>,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The object's path in the source's directory.
    pub object: String,
    /// What is wrong with it.
    pub what: String,
}

/// What a file is said to hold.
struct Said<'a> {
    object: &'a ObjectRef,
    rows: u64,
    deletes: u64,
    first_key: &'a str,
    last_key: &'a str,
}

/// What it holds.
#[derive(Default)]
struct Found {
    rows: u64,
    deletes: u64,
    first_key: Vec<u8>,
    last_key: Vec<u8>,
    /// The first row, by its number, whose key is not behind the one before.
    disorder: Option<u64>,
}

/// Reads all of a table's objects. An object that is missing or damaged is a problem; a store that does not answer an error.
pub async fn check_table(store: &Store, state: &TableState) -> Result<Checked, DataError> {
    let mut check = Check { store, shape: Shape::of(state), checked: Checked::default() };
    for file in state.base.iter().flat_map(|base| &base.files).chain(copied(state)) {
        check.file(&Said::base(file), File::base(file)).await?;
    }
    for run in state.runs.iter().chain(&state.merged_runs) {
        check.file(&Said::run(run), File::run(run, &state.key)).await?;
    }
    // Files of a copy may overlap: the source's order is another one.
    if let Some(base) = state.base.as_ref().filter(|base| base.path.is_some()) {
        check.ranges(&base.files, &state.key);
    }
    Ok(check.checked)
}

/// The files of a copy that is being made.
fn copied(state: &TableState) -> impl Iterator<Item = &BaseFile> {
    let progress = match &state.phase {
        TablePhase::Cloning(progress) => Some(progress),
        TablePhase::Stale { clone, .. } => clone.as_ref(),
        TablePhase::Ready => None,
    };
    progress.into_iter().flat_map(|progress| &progress.chunks).flat_map(|chunk| &chunk.files)
}

impl<'a> Said<'a> {
    fn base(file: &'a BaseFile) -> Said<'a> {
        let BaseFile { object, rows, first_key, last_key, .. } = file;
        Said { object, rows: *rows, deletes: 0, first_key, last_key }
    }

    fn run(run: &'a Run) -> Said<'a> {
        let Run { object, rows, deletes, first_key, last_key, .. } = run;
        Said { object, rows: *rows, deletes: *deletes, first_key, last_key }
    }
}

struct Check<'a> {
    store: &'a Store,
    shape: Arc<Shape>,
    checked: Checked,
}

impl Check<'_> {
    fn problem(&mut self, object: &ObjectRef, what: impl Into<String>) {
        self.checked.problems.push(Problem { object: object.path.clone(), what: what.into() });
    }

    async fn file(&mut self, said: &Said<'_>, file: File) -> Result<(), DataError> {
        self.checked.objects += 1;
        self.checked.bytes += said.object.bytes;
        match self.store.get(said.object).await {
            Ok(_) => {}
            Err(StoreError::Damaged(damaged)) => {
                self.problem(said.object, damaged.what);
                return Ok(());
            }
            Err(StoreError::Call(call)) if matches!(call.source, object_store::Error::NotFound { .. }) => {
                self.problem(said.object, "it is missing");
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
        match self.rows(file).await {
            Ok(found) => self.compare(said, &found),
            Err(DataError::Store(error)) => return Err(error.into()),
            Err(error) => self.problem(said.object, tidemill_event::chain(&error).to_string()),
        }
        Ok(())
    }

    async fn rows(&self, file: File) -> Result<Found, DataError> {
        let repeats = self.shape.key == TableKey::WholeRow;
        let mut stream = FileStream::new(self.store, file, &self.shape, &Arc::new(Bounds::default()));
        let mut found = Found::default();
        while let Some(rows) = stream.next().await? {
            for row in 0..rows.len() {
                let key = rows.keys.get(row);
                let is_behind = |before: Key<'_>| before < key || (repeats && before == key);
                let before = match row.checked_sub(1) {
                    Some(before) => Some(rows.keys.get(before)),
                    None => (found.rows > 0).then(|| Key::of(&found.last_key)),
                };
                if found.disorder.is_none() && before.is_some_and(|before| !is_behind(before)) {
                    found.disorder = Some(found.rows + row as u64);
                }
                found.deletes += u64::from(rows.is_deleted(row));
            }
            if found.rows == 0 {
                found.first_key = rows.keys.bytes(0);
            }
            found.last_key = rows.keys.bytes(rows.len() - 1);
            found.rows += rows.len() as u64;
        }
        Ok(found)
    }

    fn compare(&mut self, said: &Said<'_>, found: &Found) {
        self.checked.rows += found.rows;
        if let Some(row) = found.disorder {
            self.problem(said.object, format!("the key of row {row} is not behind the one before"));
        }
        if found.rows != said.rows {
            self.problem(said.object, format!("it has {} rows, not {}", found.rows, said.rows));
        }
        // A row of a table without key is told by its count.
        if self.shape.key != TableKey::WholeRow && found.deletes != said.deletes {
            self.problem(
                said.object,
                format!("{} of its rows are gone, not {}", found.deletes, said.deletes),
            );
        }
        let bounds = [super::key::hex(&found.first_key), super::key::hex(&found.last_key)];
        if found.rows > 0 && bounds != [said.first_key, said.last_key] {
            self.problem(said.object, "its first or last key is another one than is said");
        }
    }

    fn ranges(&mut self, files: &[BaseFile], key: &TableKey) {
        for pair in files.windows(2) {
            let repeats = *key == TableKey::WholeRow && pair[0].last_key == pair[1].first_key;
            // Digits order as the bytes do.
            if pair[0].last_key >= pair[1].first_key && !repeats {
                let before = &pair[0].object.path;
                self.problem(&pair[1].object, format!("its keys begin within those of {before}"));
            }
        }
    }
}
