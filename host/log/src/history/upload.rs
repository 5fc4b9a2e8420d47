//! One segment's way into history: checked on this disk, put into the store, read back and checked again, and only then
//! entered into the catalogue. Every step can be done again: names follow from content.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use futures_util::StreamExt;
use object_store::path::Path;
use object_store::{Error, ObjectStoreExt, PutMode, PutPayload, UpdateVersion};
use tidemill_event::TableName;

use crate::error::{Damaged, ReadError, storage};
use crate::files::{Files, SegmentFile};
use crate::history::cache::{blocking, checksum};
use crate::history::entry::{Entry, TableAt};
use crate::history::walk::Walk;
use crate::history::{HistoryConfig, HistoryError, OtherHistory};
use crate::limits::PART_BYTES;
use crate::reader::read_schema;
use crate::scan::{ScanError, scan};
use crate::state::Segment;
use tidemill_world::objects::CallFailed;

/// Brings a sealed, durable segment into history and gives its entry.
pub(crate) async fn upload(
    config: &HistoryConfig,
    files: &Arc<dyn Files>,
    segment: &Segment,
) -> Result<Arc<Entry>, HistoryError> {
    let file = files.open(&segment.path).map_err(storage("open", &segment.path))?;
    let (of, its) = (segment.clone(), Arc::clone(&file));
    let entry = blocking(move || inspect(&of, &its)).await?;
    let object = config.object_path(&entry.object);
    put(config, &object, &file, segment).await?;
    read_back(config, &object, &entry).await?;
    commit(config, entry).await
}

/// Checks a segment as it lies on this disk and says what its entry is.
fn inspect(segment: &Segment, file: &Arc<dyn SegmentFile>) -> Result<Entry, HistoryError> {
    let (path, header, length) = (&segment.path, &segment.header, segment.index.length);
    let scan = scan(file, path, header, segment.first, length).map_err(|error| match error {
        ScanError::Damaged(damaged) => HistoryError::Segment(damaged),
        ScanError::Storage(storage) => HistoryError::File(storage),
    })?;
    if scan.index.length != length {
        let what = format!("it ends at byte {}, not at {length}", scan.index.length);
        return Err(Damaged { path: path.clone(), offset: scan.index.length, what }.into());
    }
    let mut tables: BTreeMap<TableName, TableAt> = BTreeMap::new();
    for offset in scan.index.schemas.iter().copied() {
        let schema = read_schema(file, path, offset, length).map_err(|error| match error {
            ReadError::Storage(storage) => HistoryError::File(storage),
            other => Damaged { path: path.clone(), offset, what: other.to_string() }.into(),
        })?;
        let (name, id) = (schema.name().clone(), schema.id());
        tables.insert(name.clone(), TableAt { name, id, offset });
    }
    let crc = checksum(&**file, length).map_err(storage("read", path))?;
    let written = segment.written.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Entry {
        object: format!("{:020}-{}-{crc:08x}.seg", header.sequence, header.epoch),
        header: Arc::clone(header),
        index: scan.index,
        crc,
        executed: scan.executed,
        written_us: i64::try_from(written.as_micros()).unwrap_or(i64::MAX),
        tables: tables.into_values().collect(),
    })
}

/// Puts a segment's file into the store. An object of that name has the same content, or is left from a failure.
async fn put(
    config: &HistoryConfig,
    object: &Path,
    file: &Arc<dyn SegmentFile>,
    segment: &Segment,
) -> Result<(), HistoryError> {
    let length = segment.index.length;
    if length <= PART_BYTES {
        let bytes = part(file, segment, 0, length).await?;
        config.store.put(object, bytes).await.map_err(config.failed("write", object))?;
        return Ok(());
    }
    let mut upload = config.store.put_multipart(object).await.map_err(config.failed("write", object))?;
    let mut offset = 0;
    while offset < length {
        let bytes = part(file, segment, offset, PART_BYTES.min(length - offset)).await?;
        let sent = bytes.content_length() as u64;
        if let Err(error) = upload.put_part(bytes).await {
            // What was sent is nobody's object; a store that cannot be told forgets it by its own rules.
            let _ = upload.abort().await;
            return Err(config.failed("write", object)(error).into());
        }
        offset += sent;
    }
    upload.complete().await.map_err(config.failed("write", object))?;
    Ok(())
}

async fn part(
    file: &Arc<dyn SegmentFile>,
    segment: &Segment,
    offset: u64,
    length: u64,
) -> Result<PutPayload, HistoryError> {
    let file = Arc::clone(file);
    let read = blocking(move || {
        let mut bytes = vec![0; length as usize];
        file.read_exact_at(&mut bytes, offset).map(|()| bytes)
    });
    Ok(read.await.map_err(storage("read", &segment.path))?.into())
}

/// Reads an object back and checks that it is what was sent.
async fn read_back(config: &HistoryConfig, object: &Path, entry: &Entry) -> Result<(), HistoryError> {
    let got = config.store.get(object).await.map_err(config.failed("read back", object))?;
    let mut pieces = got.into_stream();
    let mut walk = Walk::default();
    let damaged = |(offset, what): (u64, String)| config.damaged(object, format!("at byte {offset}: {what}"));
    while let Some(piece) = pieces.next().await {
        walk.push(&piece.map_err(config.failed("read back", object))?).map_err(damaged)?;
    }
    let (length, crc) = walk.finish().map_err(damaged)?;
    match (length, crc) == (entry.bytes(), entry.crc) {
        true => Ok(()),
        false => Err(config.damaged(object, "it is not what was put there").into()),
    }
}

/// Creates the entry where none is, and believes the store only when it gives it back.
async fn commit(config: &HistoryConfig, entry: Entry) -> Result<Arc<Entry>, HistoryError> {
    let path = config.entry_path(entry.sequence());
    match config.store.put_opts(&path, entry.encode().into(), PutMode::Create.into()).await {
        Ok(_) | Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {}
        Err(error) => return Err(config.failed("create", &path)(error).into()),
    }
    let (stored, version) = get_version(config, &path).await?;
    if let Ok(stored) = Entry::decode(&stored) {
        return check_mine(config, &path, stored, &entry);
    }
    // The store has spoiled what it took, now or in an earlier try: nobody has an entry there. Unless it spoiled what it
    // gave, then it gives something else the next time.
    let again = config.get(&path).await?;
    match Entry::decode(&again) {
        Ok(stored) => check_mine(config, &path, stored, &entry),
        Err(error) if again != stored => Err(config.damaged(&path, error.to_string()).into()),
        Err(_) => mend(config, &path, entry, version).await,
    }
}

async fn get_version(config: &HistoryConfig, path: &Path) -> Result<(Bytes, UpdateVersion), CallFailed> {
    let got = config.store.get(path).await.map_err(config.failed("read", path))?;
    let version = UpdateVersion { e_tag: got.meta.e_tag.clone(), version: got.meta.version.clone() };
    Ok((got.bytes().await.map_err(config.failed("read", path))?, version))
}

/// Puts the entry in place of bytes that are none; where the store can tell, only of those very bytes.
async fn mend(
    config: &HistoryConfig,
    path: &Path,
    entry: Entry,
    version: UpdateVersion,
) -> Result<Arc<Entry>, HistoryError> {
    tracing::warn!(object = %config.name(path), "the store has spoiled an entry of the catalogue; it is written again");
    let put = |mode: PutMode| config.store.put_opts(path, entry.encode().into(), mode.into());
    let written = match put(PutMode::Update(version)).await {
        Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) => put(PutMode::Overwrite).await,
        written => written,
    };
    written.map_err(config.failed("write", path))?;
    let stored = config.get(path).await?;
    let stored = Entry::decode(&stored).map_err(|error| config.damaged(path, error.to_string()))?;
    check_mine(config, path, stored, &entry)
}

fn check_mine(
    config: &HistoryConfig,
    path: &Path,
    stored: Entry,
    entry: &Entry,
) -> Result<Arc<Entry>, HistoryError> {
    match stored.is_same(entry) {
        true => Ok(Arc::new(stored)),
        false => Err(other(config, path, &stored, entry).into()),
    }
}

fn other(config: &HistoryConfig, path: &Path, theirs: &Entry, ours: &Entry) -> OtherHistory {
    OtherHistory { object: config.name(path), theirs: theirs.text(), ours: ours.text() }
}
