//! One source's store: its objects by path, each checked when it is read. What manifests mean is `manifest`'s, who writes
//! them `writer`'s business.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use object_store::ObjectStore;
use object_store::path::Path;

use crate::{ObjectRef, StoreError};

/// A store, for readers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store(#[expect(dead_code, reason = "soon")] Arc<Inner>);

#[derive(Debug)]
struct Inner;

impl Store {
    /// The store of that source: the directory of its name.
    pub fn new(objects: Arc<dyn ObjectStore>, source: &str) -> Store {
        todo!("{objects} {source}")
    }

    /// The URL of the root above the sources' directories, for those who are told whole URLs.
    pub fn with_url(self, url: &str) -> Store {
        todo!("{url}")
    }

    /// The source's name.
    pub fn source(&self) -> &str {
        todo!()
    }

    /// Its directory's URL, where it is known.
    pub fn url(&self) -> Option<String> {
        todo!()
    }

    /// The objects, from the root above the sources' directories.
    pub fn objects(&self) -> &Arc<dyn ObjectStore> {
        todo!()
    }

    /// The full path of what is at `relative` in the source's directory.
    pub fn path(&self, relative: &str) -> Path {
        todo!("{relative}")
    }

    /// Puts an object that is not there yet; one with the same content counts as put.
    pub async fn put(&self, path: &str, bytes: Bytes) -> Result<ObjectRef, StoreError> {
        todo!("{path} {bytes:?}")
    }

    /// A whole object, checked.
    pub async fn get(&self, object: &ObjectRef) -> Result<Bytes, StoreError> {
        todo!("{object:?}")
    }

    /// Parts of an object, in that order. Only their lengths are checked.
    pub async fn get_ranges(
        &self,
        object: &ObjectRef,
        ranges: &[Range<u64>],
    ) -> Result<Vec<Bytes>, StoreError> {
        todo!("{object:?} {ranges:?}")
    }
}
