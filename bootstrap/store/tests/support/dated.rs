//! A store in memory that lets others go on in the middle of each call, and whose objects are as old as the test's time says.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use tokio::task::yield_now;

use super::now_us;

#[derive(Debug, Default)]
pub struct Dated {
    inner: InMemory,
    changed_us: Arc<Mutex<HashMap<Path, i64>>>,
}

impl fmt::Display for Dated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("dated")
    }
}

#[async_trait]
impl ObjectStore for Dated {
    async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        yield_now().await;
        let put = self.inner.put_opts(at, payload, options).await?;
        self.changed_us.lock().unwrap().insert(at.clone(), now_us());
        // It is there, and nobody was told.
        yield_now().await;
        Ok(put)
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, options).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        yield_now().await;
        self.inner.get_opts(at, options).await
    }

    fn delete_stream(&self, all: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(all)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let changed_us = Arc::clone(&self.changed_us);
        let dated = move |object: Result<ObjectMeta>| {
            let mut object = object?;
            let then = changed_us.lock().unwrap()[&object.location];
            let real = object.last_modified.timestamp_micros();
            let shift = Duration::from_micros(then.abs_diff(real));
            if then < real {
                object.last_modified -= shift;
            } else {
                object.last_modified += shift;
            }
            Ok(object)
        };
        self.inner.list(prefix).map(dated).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
