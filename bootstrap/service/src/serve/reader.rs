//! One reader of a store: goes through the tables of one version, and tells how far it is.
//!
//! A version that is not kept any more is left for the newest one. Rows that were read from both are those of neither, and
//! become right by the deltas since the first: they contain every change between the two.

use std::ops::Bound;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_buffer::BooleanBuffer;
use tidemill_bootstrap_store::{
    Batch, DataError, Manifest, Scan, ScanOptions, StoreError, TableReader, TableState,
};
use tidemill_client::Piece;
use tidemill_event::{Checkpoint, Cursor, EventKind, Phase, Position, TableName, TableSchema, Window};
use tidemill_relay::{Selection, SnapshotPath};
use tidemill_sandbox::Predicate;

use super::plan::{self, Way};
use super::window::{self, Content};
use super::{ServeError, SnapshotServer, part, place};
use crate::limits::{PACKED, SERVED_BYTES, SERVED_ROWS};

/// In [`Cursor::version`]: rows of an older version were given too.
const MOVED: u64 = 1 << 63;
/// In [`Cursor::version`]: the table in hand comes whole.
const WHOLE: u64 = 1 << 62;
/// In [`Cursor::table`]: what is gone was told, no table is begun. No table is called so.
const TOLD: &str = "\0";
/// In [`Cursor::after`]: behind every key, none of which begins so.
const BEHIND_ALL: u8 = 0xff;

/// Reads a store for one consumer. What it remembers saves work alone.
pub struct SnapshotReader {
    asked: Asked,
    open: Option<Open>,
}

/// What is read, for whom.
struct Asked {
    server: SnapshotServer,
    selection: Selection,
    path: SnapshotPath,
    client: String,
}

/// Where it is.
struct Open {
    manifest: Arc<Manifest>,
    /// Of whoever has everything that was given.
    have: Checkpoint,
    /// The position of `have`, in the store's numbers.
    since: Position,
    scan: Option<Scanning>,
    /// When the version was pinned.
    pinned_us: i64,
}

/// The table in hand.
struct Scanning {
    table: String,
    name: TableName,
    schema: Arc<TableSchema>,
    way: Way,
    scan: Scan,
    /// What was read and makes windows of its own, from that row on.
    rest: Option<(Batch, usize)>,
}

/// Rows of a window.
struct Rows {
    rows: RecordBatch,
    deleted: Option<BooleanBuffer>,
    last_key: Vec<u8>,
}

impl Scanning {
    /// The next rows, as many as make a window; copies of one row stay together. `None`: that was all.
    async fn next(&mut self) -> Result<Option<Rows>, DataError> {
        let (batch, from) = match self.rest.take() {
            Some(rest) => rest,
            None => match self.scan.next().await? {
                Some(batch) => (batch, 0),
                None => return Ok(None),
            },
        };
        let count = batch.rows.num_rows();
        let mut upto = count.min(from + rows_of_window(&batch.rows));
        while upto < count && batch.key(upto) == batch.key(upto - 1) {
            upto += 1;
        }
        let rows = batch.rows.slice(from, upto - from);
        let deleted = batch.deleted.as_ref().map(|deleted| deleted.slice(from, upto - from));
        let last_key = batch.key(upto - 1);
        self.rest = (upto < count).then_some((batch, upto));
        Ok(Some(Rows { rows, deleted, last_key }))
    }
}

/// How many of these rows make a window.
fn rows_of_window(rows: &RecordBatch) -> usize {
    let size = |column: &ArrayRef| column.to_data().get_slice_memory_size().unwrap_or_default();
    let row_bytes = rows.columns().iter().map(size).sum::<usize>() / rows.num_rows().max(1);
    (SERVED_BYTES as usize / row_bytes.max(1)).max(1)
}

impl SnapshotReader {
    pub(crate) fn new(
        server: SnapshotServer,
        selection: Selection,
        path: SnapshotPath,
        client: &str,
    ) -> SnapshotReader {
        SnapshotReader { asked: Asked { server, selection, path, client: client.to_owned() }, open: None }
    }

    /// What comes after the checkpoint.
    pub(crate) async fn piece(&mut self, have: Option<&Checkpoint>) -> Result<Piece, ServeError> {
        // Whoever leaves in the middle finds nothing half done: the next call begins at the checkpoint.
        let open = self.open.take().filter(|open| Some(&open.have) == have);
        let asked = &self.asked;
        let mut open = match open {
            Some(open) => open,
            None => asked.find(have).await?,
        };
        let mut piece = asked.step(&mut open).await;
        if let Err(error) = &piece
            && asked.is_lost(error, open.manifest.number).await
        {
            tracing::info!(source = asked.server.store.source(), error = %tidemill_event::chain(error),
                "a version is not kept any more; its reader goes on in the newest one");
            open = asked.move_on(&open.have).await?;
            piece = asked.step(&mut open).await;
        }
        let piece = piece?;
        match &piece {
            Piece::Window(window) => {
                open.have = window.checkpoint();
                self.open = Some(open);
            }
            Piece::Stream(_) => asked.done(open.manifest.number).await,
        }
        Ok(piece)
    }
}

impl Asked {
    async fn newest(&self) -> Result<Arc<Manifest>, ServeError> {
        let store = &self.server.store;
        let newest = store.newest().await?.filter(|newest| newest.applied.position > Position::default());
        newest.ok_or_else(|| ServeError::NotYet {
            source_name: store.source().to_owned(),
            what: "has nothing yet".to_owned(),
        })
    }

    /// Where whoever has that checkpoint goes on.
    async fn find(&self, have: Option<&Checkpoint>) -> Result<Open, ServeError> {
        let Some(have) = have else { return self.begin().await };
        let (Phase::Snapshot(cursor) | Phase::Deltas(cursor)) = &have.phase else {
            return self.begin_deltas(have).await;
        };
        let number = cursor.version & !(MOVED | WHOLE);
        let Some(manifest) = self.server.store.manifest(number).await? else {
            return self.move_on(have).await;
        };
        let since = place::since(&self.server.store, &manifest, have).await?;
        if since > manifest.applied.position {
            // Another store, which counts its versions otherwise.
            return self.move_on(have).await;
        }
        let mut have = have.clone();
        if let Phase::Snapshot(cursor) = &mut have.phase
            && manifest.applied.position != since
        {
            cursor.version |= MOVED;
        }
        self.open_at(manifest, have, since).await
    }

    /// A snapshot of the newest version.
    async fn begin(&self) -> Result<Open, ServeError> {
        let manifest = self.newest().await?;
        self.check_known(&manifest).await?;
        self.check_ready(&manifest).await?;
        let mut have = manifest.applied.checkpoint(&manifest.source, &manifest.timelines);
        have.phase = Phase::Snapshot(Cursor { version: manifest.number, ..Cursor::default() });
        let since = manifest.applied.position;
        self.open_at(manifest, have, since).await
    }

    /// Deltas up to the newest version.
    async fn begin_deltas(&self, have: &Checkpoint) -> Result<Open, ServeError> {
        let manifest = self.newest().await?;
        let since = place::since(&self.server.store, &manifest, have).await?;
        if since > manifest.applied.position {
            return Err(place::behind(&self.server.store));
        }
        self.check_ready(&manifest).await?;
        let cursor = Cursor { version: manifest.number, ..Cursor::default() };
        let have = Checkpoint { phase: Phase::Deltas(cursor), ..have.clone() };
        self.open_at(manifest, have, since).await
    }

    /// The same place in the newest version. Deltas begin again: those that were given are of an older one.
    async fn move_on(&self, have: &Checkpoint) -> Result<Open, ServeError> {
        let Phase::Snapshot(cursor) = &have.phase else { return self.begin_deltas(have).await };
        let manifest = self.newest().await?;
        let since = place::since(&self.server.store, &manifest, have).await?;
        if since > manifest.applied.position {
            return Err(place::behind(&self.server.store));
        }
        self.check_ready(&manifest).await?;
        let phase = Phase::Snapshot(Cursor { version: manifest.number | MOVED, ..cursor.clone() });
        self.open_at(manifest, Checkpoint { phase, ..have.clone() }, since).await
    }

    async fn open_at(
        &self,
        manifest: Arc<Manifest>,
        have: Checkpoint,
        since: Position,
    ) -> Result<Open, ServeError> {
        let mut open = Open { manifest, have, since, scan: None, pinned_us: i64::MIN };
        self.pin(&mut open).await?;
        Ok(open)
    }

    /// Keeps the version for another while, from time to time.
    async fn pin(&self, open: &mut Open) -> Result<(), ServeError> {
        let (limits, now_us) = (&self.server.limits, (self.server.limits.now_us)());
        let quarter = (limits.pin_ttl / 4).as_micros() as i64;
        if now_us < open.pinned_us.saturating_add(quarter) {
            return Ok(());
        }
        open.pinned_us = now_us;
        let number = open.manifest.number;
        match self.server.store.pin(&self.pin_name(number), number, limits.pin_ttl, now_us).await {
            // It may be read as long as it is there, and left for a newer one when it is not.
            Ok(()) | Err(StoreError::Gone(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The same for every server that this reader asks, and another for each version.
    fn pin_name(&self, version: u64) -> String {
        format!("{}-{version}", self.client)
    }

    /// Everything was given.
    async fn done(&self, version: u64) {
        let unpinned = self.server.store.unpin(&self.pin_name(version)).await;
        if let Err(error) = unpinned {
            // It runs out by itself.
            tracing::warn!(error = %tidemill_event::chain(&error), "a reader's pin stays until it runs out");
        }
    }

    /// Whether an error comes of a version that is not kept any more.
    async fn is_lost(&self, error: &ServeError, version: u64) -> bool {
        let is_of_rows = matches!(error, ServeError::Rows { .. });
        error.is_loss()
            || is_of_rows
                && matches!(self.server.store.manifests().await, Ok(numbers) if !numbers.contains(&version))
    }

    /// Refuses a predicate of a table that there is not.
    async fn check_known(&self, manifest: &Manifest) -> Result<(), ServeError> {
        for Predicate { table, .. } in &self.selection.predicates {
            // `a.b` and `c`, or `a` and `b.c`: the key alone does not tell.
            let is_known = match manifest.tables.get(&table.to_string()) {
                Some(id) => self.server.store.table(id).await?.name == *table,
                None => false,
            };
            if !is_known {
                let source_name = self.server.store.source().to_owned();
                return Err(ServeError::UnknownTable { source_name, table: table.clone() });
            }
        }
        Ok(())
    }

    /// Refuses tables that cannot be read yet, and predicates that do not fit theirs.
    async fn check_ready(&self, manifest: &Manifest) -> Result<(), ServeError> {
        for (key, table) in &manifest.tables {
            if plan::may_match(&self.selection.tables, key) {
                let state = self.server.store.table(table).await?;
                if plan::matches(&self.selection.tables, &state.name) {
                    plan::check_ready(manifest, &state)?;
                    let of_table = self.selection.predicates.iter().filter(|one| one.table == state.name);
                    for predicate in of_table {
                        predicate.check(&state.schema.table_schema(&state.name))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The next piece from there.
    async fn step(&self, open: &mut Open) -> Result<Piece, ServeError> {
        self.pin(open).await?;
        loop {
            if let Phase::Deltas(cursor) = &open.have.phase
                && cursor.table.is_empty()
                && let Some(window) = self.told(open)
            {
                return Ok(Piece::Window(Arc::new(window)));
            }
            while self.advance(open).await? {
                if let Some(window) = self.rows(open).await? {
                    return Ok(Piece::Window(Arc::new(window)));
                }
            }
            match &open.have.phase {
                Phase::Snapshot(cursor) if cursor.version & MOVED != 0 => {
                    *open = self.begin_deltas(&open.have).await?;
                }
                _ => {
                    let end = place::end(&open.manifest, &open.have, open.since);
                    return Ok(Piece::Stream(end));
                }
            }
        }
    }

    /// The tables that are gone since the reader's place, as one window.
    fn told(&self, open: &Open) -> Option<Window> {
        let Phase::Deltas(cursor) = &open.have.phase else { return None };
        let gone = open.manifest.dropped.iter().filter(|dropped| dropped.at > open.since);
        let gone = gone.filter(|dropped| plan::matches(&self.selection.tables, &dropped.table));
        let events: Vec<EventKind> =
            gone.map(|dropped| EventKind::Drop { table: dropped.table.clone() }).collect();
        if events.is_empty() {
            return None;
        }
        let cursor = Cursor { table: TOLD.to_owned(), ..cursor.clone() };
        let have = Checkpoint { phase: Phase::Deltas(cursor), ..open.have.clone() };
        Some(window::window(&have, &open.manifest, Content { events, rows: None }))
    }

    /// Has a table in hand; `false`: there is none left.
    async fn advance(&self, open: &mut Open) -> Result<bool, ServeError> {
        if open.scan.is_some() {
            return Ok(true);
        }
        let cursor = cursor(&open.have).clone();
        // The one in hand, unless it was never begun: then it has no key.
        let manifest = Arc::clone(&open.manifest);
        let names =
            manifest.tables.range::<str, _>((Bound::Included(cursor.table.as_str()), Bound::Unbounded));
        for (key, table) in names.filter(|(key, _)| plan::may_match(&self.selection.tables, key)) {
            let state = self.server.store.table(table).await?;
            if !plan::matches(&self.selection.tables, &state.name) {
                continue;
            }
            plan::check_ready(&manifest, &state)?;
            let after =
                (*key == cursor.table).then(|| cursor.after.clone()).filter(|after| !after.is_empty());
            if let Some(scan) = self.scan(open, key, state, after) {
                open.scan = Some(scan);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Begins to read a table behind that key; `None`: nothing of it is to come.
    fn scan(
        &self,
        open: &Open,
        key: &str,
        state: Arc<TableState>,
        after: Option<Vec<u8>>,
    ) -> Option<Scanning> {
        let (store, applied) = (self.server.store.clone(), open.manifest.applied.position);
        let reader = TableReader::new(store, Arc::clone(&state), applied);
        let way = match &open.have.phase {
            Phase::Deltas(cursor) if after.is_some() => match cursor.version & WHOLE {
                0 => Way::Deltas,
                _ => Way::Whole,
            },
            Phase::Deltas(_) => plan::way(&state, &reader, open.since, self.path),
            _ => Way::Whole,
        };
        let schema = Arc::clone(reader.schema());
        let batch_rows = batch_rows(&state);
        let ranges = part::ranges(&self.selection, &schema);
        let scan = match way {
            Way::Nothing => return None,
            Way::Whole => reader.scan(ScanOptions { after, upto: None, ranges, batch_rows }),
            Way::Deltas => reader.deltas(open.since, ScanOptions { after, upto: None, ranges, batch_rows }),
        };
        let (table, name) = (key.to_owned(), state.name.clone());
        Some(Scanning { table, name, schema, way, scan, rest: None })
    }

    /// The next rows of the table in hand; `None`: that was all of it.
    async fn rows(&self, open: &mut Open) -> Result<Option<Window>, ServeError> {
        let scanning = open.scan.as_mut().expect("a table is in hand");
        let name = scanning.name.clone();
        let failed = |source| ServeError::Rows { table: name, source: Box::new(source) };
        let batch = scanning.next().await.map_err(failed)?;
        let cursor = cursor(&open.have);
        let is_begun = cursor.table == scanning.table && !cursor.after.is_empty();
        let is_emptied =
            matches!(open.have.phase, Phase::Deltas(_)) && scanning.way == Way::Whole && !is_begun;
        let events = match is_emptied {
            true => vec![EventKind::Truncate { table: scanning.name.clone() }],
            false => vec![],
        };
        let mut next = Cursor {
            version: cursor.version & !WHOLE,
            table: scanning.table.clone(),
            after: vec![BEHIND_ALL],
        };
        let rows = match batch {
            None if events.is_empty() => {
                self.leave(open);
                return Ok(None);
            }
            None => None,
            Some(batch) => {
                next.after = batch.last_key;
                Some(match scanning.way {
                    Way::Deltas => window::deltas(&scanning.schema, batch.rows, batch.deleted.as_ref()),
                    _ => window::inserts(&scanning.schema, batch.rows, events.len() as u32),
                })
            }
        };
        let phase = match &open.have.phase {
            Phase::Deltas(_) if scanning.way == Way::Whole => {
                Phase::Deltas(Cursor { version: next.version | WHOLE, ..next })
            }
            Phase::Deltas(_) => Phase::Deltas(next),
            _ => Phase::Snapshot(next),
        };
        let have = Checkpoint { phase, ..open.have.clone() };
        Ok(Some(window::window(&have, &open.manifest, Content { events, rows })))
    }

    /// Done with the table in hand: the place is behind it, though nobody need be told.
    fn leave(&self, open: &mut Open) {
        let Some(scanning) = open.scan.take() else { return };
        // The name that comes next in order: no other lies between them.
        let table = format!("{}\0", scanning.table);
        let (Phase::Snapshot(cursor) | Phase::Deltas(cursor)) = &mut open.have.phase else { return };
        (cursor.table, cursor.after) = (table, vec![]);
    }
}

fn cursor(have: &Checkpoint) -> &Cursor {
    match &have.phase {
        Phase::Snapshot(cursor) | Phase::Deltas(cursor) => cursor,
        Phase::Stream => unreachable!("whoever reads is within a snapshot or deltas"),
    }
}

/// About how many rows of it make a window, by their size in the store: what is read at a time.
fn batch_rows(state: &TableState) -> usize {
    let base = state.base.iter().flat_map(|base| &base.files).map(|file| (file.object.bytes, file.rows));
    let runs = state.runs.iter().map(|run| (run.object.bytes, run.rows));
    let (bytes, rows) = base.chain(runs).fold((0, 0), |(b, r), (bytes, rows)| (b + bytes, r + rows));
    let row_bytes = (bytes * PACKED).checked_div(rows).unwrap_or_default().max(1);
    (SERVED_BYTES / row_bytes).clamp(*SERVED_ROWS.start(), *SERVED_ROWS.end()) as usize
}
