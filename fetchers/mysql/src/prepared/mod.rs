//! The rows of XA transactions that are prepared, on disk until the log says how each one ended.
//!
//! ```text
//! XA PREPARE ─▶ add, add, … ─▶ prepare ══▶ XA COMMIT ─▶ commit, fragment, fragment, … ══▶ stored: forgotten
//!                                    ╚═══▶ XA ROLLBACK ─▶ forget
//! ```
//!
//! A transaction is known by its id and by where its events begin, since an id may be used again once it has ended.
//! Whatever is read from the log a second time replaces what was kept of it the first time. Writes become durable with
//! [`PreparedStore::sync`], which comes before any window that moves the reader past them. What was committed stays
//! until the reader says that it has that commit on disk.

mod record;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use tidemill_event::{
    Decoded, Frame, Position, SchemaSet, Scn, TableSchema, Window, decode, encode_schema, encode_window,
};
use tidemill_fetchers_api::FetchError;

use crate::limits::{STORE_CACHE_BYTES, UNSYNCED_BYTES_MAX};
use crate::xa::Xid;
pub(crate) use record::{Held, State};

type Begin = (u32, u64);
/// By XA id, then where its events begin.
const TRANSACTIONS: TableDefinition<'_, (&[u8], u32, u64), &[u8]> = TableDefinition::new("transactions 1");
/// By where the transaction's events begin, then the fragment's number.
const FRAGMENTS: TableDefinition<'_, (u32, u64, u32), &[u8]> = TableDefinition::new("fragments 1");
/// By schema id.
const SCHEMAS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("schemas 1");

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct PreparedStore {
    /// `None`: there is no place to keep anything.
    path: Option<PathBuf>,
    database: Option<Database>,
    /// All schemas that the store has, once they were read.
    schemas: Option<SchemaSet>,
    /// Bytes that were written and may be lost by a crash.
    unsynced: Option<usize>,
    /// What is committed and not forgotten yet: where that commit ends, and what it was.
    ended: Vec<(Position, Vec<u8>, Position)>,
}

impl PreparedStore {
    /// The store of a reader that goes on after `resumed`; a reader that begins anew keeps nothing of an earlier one.
    pub(crate) fn open(
        directory: Option<&Path>,
        resumed: Option<Position>,
    ) -> Result<PreparedStore, FetchError> {
        let Some(directory) = directory else { return Ok(PreparedStore::default()) };
        let path = directory.join("prepared.redb");
        let mut store = PreparedStore { path: Some(path.clone()), ..PreparedStore::default() };
        if !path.exists() {
            return Ok(store);
        }
        match resumed {
            Some(upto) => {
                store.database()?;
                store.recover()?;
                store.stored(upto)?;
            }
            None => {
                // Another process that has it open must not lose it.
                store.database()?;
                store.database = None;
                std::fs::remove_file(&path).map_err(|error| store.failed("remove", error))?;
            }
        }
        Ok(store)
    }

    /// Whether anything can be kept.
    pub(crate) fn has_place(&self) -> bool {
        self.path.is_some()
    }

    /// Keeps a fragment of a transaction whose events begin there. The first one replaces what an earlier reading left.
    pub(crate) fn add(&mut self, begin: Position, number: u32, window: &Window) -> Result<(), FetchError> {
        let frame = encode_window(window).map_err(|error| self.failed("encode rows for", error))?;
        let mut bytes = frame.bytes().len();
        self.write(|transaction| {
            if number == 0 {
                remove_fragments(transaction, begin)?;
            }
            let mut schemas = transaction.open_table(SCHEMAS)?;
            for table in &window.tables {
                let id = table.schema.id().0;
                if schemas.get(id)?.is_none() {
                    let schema = encode_schema(&table.schema);
                    bytes += schema.bytes().len();
                    schemas.insert(id, schema.bytes())?;
                }
            }
            let mut fragments = transaction.open_table(FRAGMENTS)?;
            fragments.insert((begin.timeline, begin.scn.0, number), frame.bytes())?;
            Ok(())
        })?;
        if let Some(schemas) = &mut self.schemas {
            for table in &window.tables {
                schemas.insert(Arc::clone(&table.schema));
            }
        }
        self.written(bytes)
    }

    /// The transaction is prepared; it has so many fragments, which were added.
    pub(crate) fn prepare(&mut self, xid: &Xid, begin: Position, held: &Held) -> Result<(), FetchError> {
        let key = xid.key();
        self.ended.retain(|(_, ended, at)| (ended, at) != (&key, &begin));
        if held.fragments == 0 {
            self.write(|transaction| remove_fragments(transaction, begin))?;
        }
        self.record(xid, begin, held)
    }

    /// The transaction of that id that was prepared last before `end`, where a commit or rollback of it ends.
    pub(crate) fn find(&mut self, xid: &Xid, end: Position) -> Result<Option<(Position, Held)>, FetchError> {
        if !self.is_there() {
            return Ok(None);
        }
        let key = xid.key();
        let found = self.read(|transaction| {
            let Ok(transactions) = transaction.open_table(TRANSACTIONS) else { return Ok(None) };
            let upto = (key.as_slice(), end.timeline, end.scn.0);
            let mut range = transactions.range((key.as_slice(), 0, 0)..upto)?;
            let Some(entry) = range.next_back() else { return Ok(None) };
            let (at, held) = entry?;
            let (_, timeline, scn) = at.value();
            Ok(Some(((timeline, scn), held.value().to_vec())))
        })?;
        let Some((begin, bytes)) = found else { return Ok(None) };
        let held = self.decode(&bytes)?;
        let is_usable = match held.state {
            State::Prepared => true,
            State::Committed(at) => at == end,
        };
        Ok(is_usable.then_some((position(begin), held)))
    }

    /// The transaction committed, and its commit ends there.
    pub(crate) fn commit(
        &mut self,
        xid: &Xid,
        begin: Position,
        held: &Held,
        end: Position,
    ) -> Result<(), FetchError> {
        let committed = Held { state: State::Committed(end), ..*held };
        self.record(xid, begin, &committed)?;
        self.ended.push((end, xid.key(), begin));
        Ok(())
    }

    fn record(&mut self, xid: &Xid, begin: Position, held: &Held) -> Result<(), FetchError> {
        let key = xid.key();
        self.write(|transaction| {
            let mut transactions = transaction.open_table(TRANSACTIONS)?;
            transactions.insert((key.as_slice(), begin.timeline, begin.scn.0), held.encode().as_slice())?;
            Ok(())
        })?;
        self.written(0)
    }

    /// The transaction never happened.
    pub(crate) fn forget(&mut self, xid: &Xid, begin: Position) -> Result<(), FetchError> {
        self.remove(&[(xid.key(), begin)])
    }

    /// The reader has everything up to there on disk: what committed before is not asked for again.
    pub(crate) fn stored(&mut self, upto: Position) -> Result<(), FetchError> {
        if self.ended.first().is_none_or(|(end, ..)| *end > upto) {
            return Ok(());
        }
        let count = self.ended.partition_point(|(end, ..)| *end <= upto);
        let gone: Vec<_> = self.ended.drain(..count).map(|(_, key, begin)| (key, begin)).collect();
        self.remove(&gone)
    }

    fn remove(&mut self, gone: &[(Vec<u8>, Position)]) -> Result<(), FetchError> {
        self.write(|transaction| {
            for (key, begin) in gone {
                let mut transactions = transaction.open_table(TRANSACTIONS)?;
                transactions.remove((key.as_slice(), begin.timeline, begin.scn.0))?;
                drop(transactions);
                remove_fragments(transaction, *begin)?;
            }
            Ok(())
        })?;
        self.written(0)
    }

    /// A fragment of a transaction whose events begin there.
    pub(crate) fn fragment(&mut self, begin: Position, number: u32) -> Result<Window, FetchError> {
        self.learn_schemas()?;
        let frame = self.read(|transaction| {
            let fragments = transaction.open_table(FRAGMENTS)?;
            let frame = fragments.get((begin.timeline, begin.scn.0, number))?;
            Ok(frame.map(|frame| frame.value().to_vec()))
        })?;
        let frame = frame.ok_or_else(|| self.failed("find rows in", "they are not there"))?;
        let schemas = self.schemas.as_ref().expect("they were read above");
        let window = Frame::read(&frame).and_then(|frame| decode(&frame, schemas));
        match window.map_err(|error| self.failed("decode rows of", error))? {
            Decoded::Window(window) => Ok(window),
            Decoded::Schema(_) => Err(self.failed("decode rows of", "a schema stands in their place")),
        }
    }

    fn learn_schemas(&mut self) -> Result<(), FetchError> {
        if self.schemas.is_some() {
            return Ok(());
        }
        let kept = self.read(|transaction| {
            let kept = transaction.open_table(SCHEMAS)?;
            let bytes = kept.iter()?.map(|entry| Ok(entry?.1.value().to_vec()));
            bytes.collect::<Result<Vec<_>, redb::Error>>()
        })?;
        let mut schemas = SchemaSet::default();
        for schema in kept {
            schemas.insert(self.schema(&schema)?);
        }
        self.schemas = Some(schemas);
        Ok(())
    }

    fn schema(&self, bytes: &[u8]) -> Result<Arc<TableSchema>, FetchError> {
        let decoded = Frame::read(bytes).and_then(|frame| decode(&frame, &SchemaSet::default()));
        match decoded.map_err(|error| self.failed("decode a schema of", error))? {
            Decoded::Schema(schema) => Ok(schema),
            Decoded::Window(_) => Err(self.failed("decode a schema of", "rows stand in its place")),
        }
    }

    /// Where the events of the oldest transaction begin that is prepared and has not ended.
    pub(crate) fn oldest(&mut self) -> Result<Option<Position>, FetchError> {
        let all = self.all()?;
        Ok(all
            .into_iter()
            .filter(|(.., held)| held.state == State::Prepared)
            .map(|(_, begin, _)| begin)
            .min())
    }

    /// Makes durable what was written.
    pub(crate) fn sync(&mut self) -> Result<(), FetchError> {
        if self.unsynced.take().is_none() {
            return Ok(());
        }
        let database = self.database()?;
        let synced = (|| -> Result<(), redb::Error> {
            let transaction = database.begin_write()?;
            // A transaction without a change might not be written at all.
            transaction.open_table(SCHEMAS)?.remove(u64::MAX)?;
            Ok(transaction.commit()?)
        })();
        synced.map_err(|error| self.failed("make durable", error))
    }

    fn written(&mut self, bytes: usize) -> Result<(), FetchError> {
        let unsynced = self.unsynced.unwrap_or_default() + bytes;
        self.unsynced = Some(unsynced);
        if unsynced >= UNSYNCED_BYTES_MAX { self.sync() } else { Ok(()) }
    }

    /// What a reader before this one left: what is committed, and fragments of what was never prepared.
    fn recover(&mut self) -> Result<(), FetchError> {
        let all = self.all()?;
        for (key, begin, held) in &all {
            if let State::Committed(end) = held.state {
                self.ended.push((end, key.clone(), *begin));
            }
        }
        self.ended.sort();
        let known: Vec<Begin> = all.iter().map(|(_, begin, _)| (begin.timeline, begin.scn.0)).collect();
        self.write(|transaction| {
            let mut fragments = transaction.open_table(FRAGMENTS)?;
            fragments.retain(|(timeline, scn, _), _| known.contains(&(timeline, scn)))?;
            Ok(())
        })?;
        self.written(0)
    }

    fn all(&mut self) -> Result<Vec<(Vec<u8>, Position, Held)>, FetchError> {
        if !self.is_there() {
            return Ok(Vec::new());
        }
        let entries = self.read(|transaction| {
            let Ok(transactions) = transaction.open_table(TRANSACTIONS) else { return Ok(Vec::new()) };
            let mut entries = Vec::new();
            for entry in transactions.iter()? {
                let (at, held) = entry?;
                let (key, timeline, scn) = at.value();
                entries.push((key.to_vec(), (timeline, scn), held.value().to_vec()));
            }
            Ok(entries)
        })?;
        let decoded =
            entries.into_iter().map(|(key, begin, held)| Ok((key, position(begin), self.decode(&held)?)));
        decoded.collect()
    }

    fn is_there(&self) -> bool {
        self.database.is_some() || self.path.as_ref().is_some_and(|path| path.exists())
    }

    fn decode(&self, bytes: &[u8]) -> Result<Held, FetchError> {
        Held::decode(bytes).ok_or_else(|| self.failed("read a transaction of", "it is damaged"))
    }

    /// The database, made when it is first needed.
    fn database(&mut self) -> Result<&Database, FetchError> {
        if self.database.is_none() {
            let path = self.path.as_ref().expect("callers have a place");
            if let Some(directory) = path.parent() {
                std::fs::create_dir_all(directory)
                    .map_err(|error| self.failed("make the directory of", error))?;
            }
            let database = Database::builder().set_cache_size(STORE_CACHE_BYTES).create(path);
            self.database = Some(database.map_err(|error| self.failed("open", redb::Error::from(error)))?);
        }
        Ok(self.database.as_ref().expect("it was just made"))
    }

    fn write(
        &mut self,
        change: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), FetchError> {
        let database = self.database()?;
        let written = (|| {
            let mut transaction = database.begin_write()?;
            transaction.set_durability(Durability::None)?;
            change(&transaction)?;
            Ok::<_, redb::Error>(transaction.commit()?)
        })();
        written.map_err(|error| self.failed("write", error))
    }

    fn read<T>(
        &mut self,
        look: impl FnOnce(&redb::ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, FetchError> {
        let database = self.database()?;
        let found = (|| look(&database.begin_read()?))();
        found.map_err(|error| self.failed("read", error))
    }

    fn failed(
        &self,
        what: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> FetchError {
        let path = self.path.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        FetchError::Store { what, path, source: source.into().into() }
    }
}

fn position((timeline, scn): Begin) -> Position {
    Position { timeline, scn: Scn(scn) }
}

fn remove_fragments(transaction: &WriteTransaction, begin: Position) -> Result<(), redb::Error> {
    let mut fragments = transaction.open_table(FRAGMENTS)?;
    let (timeline, scn) = (begin.timeline, begin.scn.0);
    fragments.retain_in((timeline, scn, 0)..=(timeline, scn, u32::MAX), |_, _| false)?;
    Ok(())
}

#[cfg(test)]
mod tests;
