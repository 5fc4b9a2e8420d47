//! A source that counts what it gives, and whose reads can be held in their middle, their transactions open.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use arrow_array::RecordBatch;
use tidemill_event::TableName;
use tidemill_fetchers_api::FetchError;
use tidemill_fetchers_api::extract::{
    Bound, ChunkMarks, ChunkRead, Extract, ExtractSession, Load, SourceTable,
};
use tokio::sync::watch;

#[derive(Clone)]
pub struct Watched<E> {
    source: E,
    pub seen: Arc<Seen>,
}

#[derive(Default)]
pub struct Seen {
    pub rows: AtomicU64,
    pub chunks: AtomicU64,
    /// Reads that stand in their middle.
    pub held: watch::Sender<u32>,
    hold: Mutex<bool>,
    released: Condvar,
}

pub struct WatchedSession<S> {
    session: S,
    seen: Arc<Seen>,
}

impl<E> Watched<E> {
    pub fn new(source: E) -> Watched<E> {
        Watched { source, seen: Arc::default() }
    }
}

impl Seen {
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    pub fn chunks(&self) -> u64 {
        self.chunks.load(Ordering::Relaxed)
    }

    /// Reads stop behind their first rows, until they are released.
    pub fn hold(&self) {
        *self.hold.lock().unwrap() = true;
    }

    pub fn release(&self) {
        *self.hold.lock().unwrap() = false;
        self.released.notify_all();
    }

    fn wait(&self) {
        let held = self.hold.lock().unwrap();
        if *held {
            self.held.send_modify(|count| *count += 1);
            tokio::task::block_in_place(|| drop(self.released.wait_while(held, |held| *held).unwrap()));
            self.held.send_modify(|count| *count -= 1);
        }
    }
}

impl<E: Extract> Extract for Watched<E> {
    type Session = WatchedSession<E::Session>;

    async fn tables(&self) -> Result<Vec<TableName>, FetchError> {
        self.source.tables().await
    }

    async fn describe(&self, table: &TableName) -> Result<Option<SourceTable>, FetchError> {
        self.source.describe(table).await
    }

    async fn load(&self) -> Result<Load, FetchError> {
        self.source.load().await
    }

    async fn open(&self) -> Result<Self::Session, FetchError> {
        Ok(WatchedSession { session: self.source.open().await?, seen: Arc::clone(&self.seen) })
    }
}

impl<S: ExtractSession> ExtractSession for WatchedSession<S> {
    async fn bound(
        &mut self,
        table: &SourceTable,
        after: Option<&Bound>,
        rows: u64,
    ) -> Result<Option<Bound>, FetchError> {
        self.session.bound(table, after, rows).await
    }

    async fn read(
        &mut self,
        chunk: &ChunkRead<'_>,
        give: &mut (dyn FnMut(RecordBatch) -> bool + Send),
    ) -> Result<ChunkMarks, FetchError> {
        let seen = Arc::clone(&self.seen);
        seen.chunks.fetch_add(1, Ordering::Relaxed);
        let mut counted = |rows: RecordBatch| {
            seen.rows.fetch_add(rows.num_rows() as u64, Ordering::Relaxed);
            seen.wait();
            give(rows)
        };
        self.session.read(chunk, &mut counted).await
    }

    async fn read_sorted(
        &mut self,
        chunk: &ChunkRead<'_>,
        give: &mut (dyn FnMut(RecordBatch) -> bool + Send),
    ) -> Result<ChunkMarks, FetchError> {
        self.session.read_sorted(chunk, give).await
    }
}
