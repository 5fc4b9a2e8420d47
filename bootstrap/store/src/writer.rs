//! The one writer of a store: takes it over, commits, and stops when another takes over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::{CommitError, Draft, Hints, Manifest, Store, StoreError, TableId, TableState};

/// How a writer works.
#[derive(Clone, Debug)]
pub struct WriterOptions {
    /// Who it is, for people: host and process.
    pub writer: String,
    /// The time: microseconds since 1970-01-01 UTC.
    pub now_us: fn() -> i64,
    /// How often a call to the store is tried before it is an error.
    pub tries: u32,
    /// How long it waits before the second try; twice as long before each further one.
    pub retry_first: Duration,
    /// How long it waits at most.
    pub retry_max: Duration,
    /// What is told to readers after each commit, beside `LATEST.json`.
    pub hints: Vec<Arc<dyn Hints>>,
}

impl Default for WriterOptions {
    fn default() -> WriterOptions {
        todo!()
    }
}

/// The one writer of a store. Cheap to clone; commits are made one after the other.
#[derive(Clone, Debug)]
pub struct Writer(#[expect(dead_code, reason = "soon")] Arc<Inner>);

#[derive(Debug)]
struct Inner;

impl Store {
    /// Takes the store over, and makes it where there is none: whoever wrote it before is fenced.
    pub async fn open_writer(&self, options: WriterOptions) -> Result<Writer, StoreError> {
        todo!("{options:?}")
    }
}

impl Writer {
    /// What it writes.
    pub fn store(&self) -> &Store {
        todo!()
    }

    /// The newest manifest that it knows.
    pub fn head(&self) -> Arc<Manifest> {
        todo!()
    }

    /// The states of the head's tables.
    pub fn tables(&self) -> BTreeMap<TableId, Arc<TableState>> {
        todo!()
    }

    /// Commits a change: all of it, or nothing. A change that changes nothing is no commit.
    ///
    /// `change` is given the head as it is, which is not always the one that the caller saw last: it looks before it
    /// changes, and adds nothing that is there already. After an error that is not [`CommitError::Fenced`] the commit may
    /// have happened all the same: the next call finds out, and finishes it, before its own `change` is called.
    ///
    /// Cancel-safe in the same way: a commit that was begun is finished by the next call, or by nobody.
    pub async fn commit<T>(&self, change: impl FnOnce(&mut Draft) -> T + Send) -> Result<T, CommitError> {
        let mut draft: Draft = todo!();
        Ok(change(&mut draft))
    }
}
