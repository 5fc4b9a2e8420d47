//! One source's store: its objects by path, each checked when it is read. What manifests mean is `manifest`'s, who writes
//! them `writer`'s business.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::TryStreamExt;
use futures_util::stream::FuturesUnordered;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode};

use crate::cache::Cache;
use crate::limits::{CACHE_BYTES, PART_BYTES, PARTS_AT_ONCE};
use crate::named::Named;
use crate::{Damaged, Manifest, ObjectRef, StoreError, TableState};
use tidemill_world::objects::CallFailed;
use tokio::sync::Mutex;

/// A store, for readers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    source: Arc<str>,
    root: Path,
    url: Option<Arc<str>>,
    known: Arc<Known>,
}

/// What was read before.
#[derive(Debug)]
struct Known {
    tables: Cache<TableState>,
    manifests: Cache<Manifest>,
    /// The highest number of a manifest that was seen.
    newest: AtomicU64,
    /// What manifests that are kept point to.
    named: Mutex<Named>,
}

impl Store {
    /// The store of that source: the directory of its name.
    pub fn new(objects: Arc<dyn ObjectStore>, source: &str) -> Store {
        let newest = AtomicU64::new(0);
        let (tables, manifests) = (Cache::new(CACHE_BYTES), Cache::new(CACHE_BYTES));
        let known = Known { tables, manifests, newest, named: Mutex::default() };
        Store { objects, source: source.into(), root: Path::from(source), url: None, known: Arc::new(known) }
    }

    /// The URL of the root above the sources' directories, for those who are told whole URLs.
    pub fn with_url(mut self, url: &str) -> Store {
        self.url = Some(url.trim_end_matches('/').into());
        self
    }

    /// The source's name.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Its directory's URL, where it is known.
    pub fn url(&self) -> Option<String> {
        Some(format!("{}/{}", self.url.as_ref()?, self.root))
    }

    /// The objects, from the root above the sources' directories.
    pub fn objects(&self) -> &Arc<dyn ObjectStore> {
        &self.objects
    }

    /// The full path of what is at `relative` in the source's directory.
    pub fn path(&self, relative: &str) -> Path {
        let whole = format!("{}/{relative}", self.root);
        // Names that are escaped already stay as they are.
        Path::parse(&whole).unwrap_or_else(|_| Path::from(whole))
    }

    /// The path in the source's directory of a full one; `None`: it is elsewhere.
    pub(crate) fn relative(&self, path: &Path) -> Option<String> {
        path.as_ref().strip_prefix(self.root.as_ref())?.strip_prefix('/').map(str::to_owned)
    }

    /// Puts an object that is not there yet; one with the same content counts as put.
    pub async fn put(&self, path: &str, bytes: Bytes) -> Result<ObjectRef, StoreError> {
        let object =
            ObjectRef { path: path.to_owned(), bytes: bytes.len() as u64, crc32c: crc32c::crc32c(&bytes) };
        if bytes.len() > PART_BYTES {
            self.put_parts(path, bytes).await?;
            return Ok(object);
        }
        match self.create(path, bytes).await {
            Ok(()) => Ok(object),
            // A call whose answer was lost, and which was made again.
            Err(StoreError::Call(CallFailed { source: Error::AlreadyExists { .. }, .. })) => {
                self.get(&object).await.map(|_| object)
            }
            Err(error) => Err(error),
        }
    }

    /// Creates an object, once.
    pub(crate) async fn create(&self, path: &str, bytes: Bytes) -> Result<(), StoreError> {
        let created = self.objects.put_opts(&self.path(path), bytes.into(), PutMode::Create.into()).await;
        created.map(|_| ()).map_err(self.failed("create", path))
    }

    /// Puts an object, whether there is one or not.
    pub(crate) async fn overwrite(&self, path: &str, bytes: Bytes) -> Result<(), StoreError> {
        let put = self.objects.put(&self.path(path), bytes.into()).await;
        put.map(|_| ()).map_err(self.failed("write", path))
    }

    async fn put_parts(&self, path: &str, mut bytes: Bytes) -> Result<(), StoreError> {
        let begun = self.objects.put_multipart(&self.path(path)).await;
        let mut upload = begun.map_err(self.failed("create", path))?;
        let mut under_way = FuturesUnordered::new();
        let put = async {
            while !bytes.is_empty() {
                under_way.push(upload.put_part(bytes.split_to(bytes.len().min(PART_BYTES)).into()));
                if under_way.len() == PARTS_AT_ONCE {
                    under_way.try_next().await?;
                }
            }
            while under_way.try_next().await?.is_some() {}
            upload.complete().await
        };
        let put = put.await;
        if put.is_err() {
            // What is left of it costs space until the store's own clean-up; the error is the first one.
            let _ = upload.abort().await;
        }
        put.map(|_| ()).map_err(self.failed("create", path))
    }

    /// A whole object, checked.
    pub async fn get(&self, object: &ObjectRef) -> Result<Bytes, StoreError> {
        let bytes = self.read(&object.path).await?;
        let (length, crc) = (bytes.len() as u64, crc32c::crc32c(&bytes));
        if (length, crc) != (object.bytes, object.crc32c) {
            let (bytes, crc32c) = (object.bytes, object.crc32c);
            let what = format!("it has {length} bytes and checksum {crc:08x}, not {bytes} and {crc32c:08x}");
            return Err(self.damaged(&object.path, what));
        }
        Ok(bytes)
    }

    /// A whole object as it is.
    pub(crate) async fn read(&self, path: &str) -> Result<Bytes, StoreError> {
        let read = async { self.objects.get(&self.path(path)).await?.bytes().await };
        read.await.map_err(self.failed("read", path))
    }

    /// As [`Store::read`], of one that need not be there.
    pub(crate) async fn read_if_there(&self, path: &str) -> Result<Option<Bytes>, StoreError> {
        match self.read(path).await {
            Err(StoreError::Call(CallFailed { source: Error::NotFound { .. }, .. })) => Ok(None),
            read => read.map(Some),
        }
    }

    pub(crate) async fn is_there(&self, path: &str) -> Result<bool, StoreError> {
        match self.objects.head(&self.path(path)).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(self.failed("look for", path)(error)),
        }
    }

    /// Parts of an object, in that order. Only their lengths are checked.
    pub async fn get_ranges(
        &self,
        object: &ObjectRef,
        ranges: &[Range<u64>],
    ) -> Result<Vec<Bytes>, StoreError> {
        if let Some(range) = ranges.iter().find(|range| range.end > object.bytes) {
            let what = format!("bytes {range:?} were asked for, it has {}", object.bytes);
            return Err(self.damaged(&object.path, what));
        }
        let read = self.objects.get_ranges(&self.path(&object.path), ranges).await;
        let parts = read.map_err(self.failed("read", &object.path))?;
        let fits = |(part, range): (&Bytes, &Range<u64>)| part.len() as u64 == range.end - range.start;
        if parts.len() != ranges.len() || !parts.iter().zip(ranges).all(fits) {
            return Err(self.damaged(&object.path, "it is shorter than it was".to_owned()));
        }
        Ok(parts)
    }

    /// Removes an object; one that is not there counts as removed.
    pub(crate) async fn remove(&self, path: &str) -> Result<(), StoreError> {
        match self.objects.delete(&self.path(path)).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed("remove", path)(error)),
        }
    }

    pub(crate) fn failed(&self, action: &'static str, path: &str) -> impl FnOnce(Error) -> StoreError {
        let object = self.path(path).to_string();
        move |source| CallFailed { action, object, source }.into()
    }

    pub(crate) fn damaged(&self, path: &str, what: String) -> StoreError {
        Damaged { object: self.path(path).to_string(), what }.into()
    }

    pub(crate) fn known_tables(&self) -> &Cache<TableState> {
        &self.known.tables
    }

    pub(crate) fn known_manifests(&self) -> &Cache<Manifest> {
        &self.known.manifests
    }

    pub(crate) fn named(&self) -> &Mutex<Named> {
        &self.known.named
    }

    /// The highest number of a manifest that was seen; 0: none was.
    pub(crate) fn newest_seen(&self) -> u64 {
        self.known.newest.load(Ordering::Relaxed)
    }

    pub(crate) fn saw(&self, number: u64) {
        self.known.newest.fetch_max(number, Ordering::Relaxed);
    }
}
