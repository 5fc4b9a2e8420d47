//! An object store that fails, throttles and lies, where a test tells it to. Around any other store.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use tokio::sync::watch;

/// What a call does to a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Stores an object; in parts, it counts when they are put together.
    Put,
    /// Reads one, or a part of one.
    Get,
    /// Lists names.
    List,
    /// Removes one.
    Delete,
    /// Copies one.
    Copy,
}

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails, and nothing happened.
    Fail,
    /// The store wants to be asked more slowly.
    Throttle,
    /// It happens, and is said to have failed.
    LoseAnswer,
    /// A put that is said to have succeeded and stores nothing; an object that is not there when it is read.
    Vanish,
    /// Only the first half is stored, or comes.
    Truncate,
    /// One bit is stored, or comes, as its opposite.
    Flip,
}

/// Tells a [`FaultyStore`] what to do, and what it was asked.
#[derive(Clone, Debug)]
pub struct Faults(Arc<Mutex<Plan>>);

#[derive(Debug)]
struct Plan {
    calls: Vec<(Op, Path)>,
    only: Option<Op>,
    at: BTreeMap<u64, Fault>,
    from: Option<(u64, Fault)>,
    random: Option<(u64, u64, Vec<Fault>)>,
    counted: u64,
    held: watch::Sender<bool>,
}

impl Default for Faults {
    fn default() -> Faults {
        Faults(Arc::new(Mutex::new(Plan {
            calls: Vec::new(),
            only: None,
            at: BTreeMap::new(),
            from: None,
            random: None,
            counted: 0,
            held: watch::Sender::new(false),
        })))
    }
}

impl Faults {
    fn plan(&self) -> MutexGuard<'_, Plan> {
        // A plan is whole between any two of its statements.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing goes wrong any more. Calls are counted from 1 again.
    pub fn clear(&self) {
        let mut plan = self.plan();
        (plan.only, plan.from, plan.random, plan.counted) = (None, None, None, 0);
        plan.at.clear();
    }

    /// Counts, and spoils, only calls of that kind.
    pub fn only(&self, op: Op) {
        self.plan().only = Some(op);
    }

    /// The `n`-th call from now on, from 1, goes wrong.
    pub fn at(&self, n: u64, fault: Fault) {
        let mut plan = self.plan();
        let n = plan.counted + n;
        plan.at.insert(n, fault);
    }

    /// The `n`-th call from now on, and every one after it, goes wrong.
    pub fn from(&self, n: u64, fault: Fault) {
        let mut plan = self.plan();
        plan.from = Some((plan.counted + n, fault));
    }

    /// So many of a thousand calls go wrong in one of those ways; the same ones for the same seed.
    pub fn random(&self, seed: u64, of_thousand: u64, faults: Vec<Fault>) {
        self.plan().random = Some((seed, of_thousand, faults));
    }

    /// Calls wait from now on, until [`Faults::release`].
    pub fn hold(&self) {
        self.plan().held.send_replace(true);
    }

    /// Calls that wait go on.
    pub fn release(&self) {
        self.plan().held.send_replace(false);
    }

    /// What was asked, in order.
    pub fn calls(&self) -> Vec<(Op, Path)> {
        self.plan().calls.clone()
    }

    /// How many calls of that kind there were.
    pub fn count(&self, op: Op) -> usize {
        self.plan().calls.iter().filter(|(is, _)| *is == op).count()
    }

    /// Notes a call, waits where calls are held, and says what is to go wrong with it.
    async fn call(&self, op: Op, path: &Path) -> Option<Fault> {
        let mut held = {
            let mut plan = self.plan();
            plan.calls.push((op, path.clone()));
            plan.held.subscribe()
        };
        // The sender lives in the plan, so this ends only with a release.
        let _ = held.wait_for(|held| !held).await;
        self.plan().choose(op)
    }
}

impl Plan {
    fn choose(&mut self, op: Op) -> Option<Fault> {
        if self.only.is_some_and(|only| only != op) {
            return None;
        }
        self.counted += 1;
        let planned = self.at.remove(&self.counted);
        let from = self.from.filter(|(n, _)| *n <= self.counted).map(|(_, fault)| fault);
        planned.or(from).or_else(|| self.roll())
    }

    fn roll(&mut self) -> Option<Fault> {
        let (seed, of_thousand, faults) = self.random.as_mut()?;
        let mut next = || {
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *seed >> 33
        };
        let strikes = next() % 1000 < *of_thousand;
        let which = next() as usize % faults.len().max(1);
        faults.get(which).copied().filter(|_| strikes)
    }
}

/// See the module.
#[derive(Debug)]
pub struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    faults: Faults,
}

impl FaultyStore {
    /// Around that store, as told by those faults.
    pub fn new(inner: Arc<dyn ObjectStore>, faults: Faults) -> FaultyStore {
        FaultyStore { inner, faults }
    }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "faulty {}", self.inner)
    }
}

fn failure(what: &'static str) -> Error {
    Error::Generic { store: "faulty", source: what.into() }
}

/// The error of a call of which nothing happens.
fn refusal(fault: Fault, path: &Path) -> Option<Error> {
    match fault {
        Fault::Fail => Some(failure("it was told to fail")),
        Fault::Throttle => Some(failure("503 SlowDown: please reduce your request rate")),
        Fault::Vanish => {
            Some(Error::NotFound { path: path.to_string(), source: "it was told to vanish".into() })
        }
        Fault::LoseAnswer | Fault::Truncate | Fault::Flip => None,
    }
}

/// A put spoils another bit than a get, or both together would mend it.
fn spoil(op: Op, fault: Fault, bytes: Bytes) -> Bytes {
    match fault {
        Fault::Truncate => bytes.slice(..bytes.len() / 2),
        Fault::Flip if !bytes.is_empty() => {
            let mut flipped = bytes.to_vec();
            let at = if op == Op::Put { flipped.len() / 2 } else { flipped.len() / 3 };
            flipped[at] ^= 4;
            flipped.into()
        }
        _ => bytes,
    }
}

fn nothing_stored() -> PutResult {
    PutResult { e_tag: None, version: None, extensions: Default::default() }
}

async fn put(
    (inner, faults): (&Arc<dyn ObjectStore>, &Faults),
    location: &Path,
    payload: PutPayload,
    options: PutOptions,
) -> Result<PutResult> {
    let fault = faults.call(Op::Put, location).await;
    match fault {
        None => inner.put_opts(location, payload, options).await,
        Some(Fault::Vanish) => Ok(nothing_stored()),
        Some(fault) => {
            if let Some(error) = refusal(fault, location) {
                return Err(error);
            }
            let result =
                inner.put_opts(location, spoil(Op::Put, fault, payload.into()).into(), options).await;
            if fault == Fault::LoseAnswer { Err(failure("the answer was lost")) } else { result }
        }
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        put((&self.inner, &self.faults), location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let (inner, faults) = (Arc::clone(&self.inner), self.faults.clone());
        Ok(Box::new(Upload { inner, faults, location: location.clone(), parts: Vec::new() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let fault = self.faults.call(Op::Get, location).await;
        if let Some(error) = fault.and_then(|fault| refusal(fault, location)) {
            return Err(error);
        }
        let result = self.inner.get_opts(location, options).await?;
        let Some(fault) = fault else { return Ok(result) };
        if fault == Fault::LoseAnswer {
            return Err(failure("the answer was lost"));
        }
        let (meta, range, attributes) =
            (result.meta.clone(), result.range.clone(), result.attributes.clone());
        let bytes = spoil(Op::Get, fault, result.bytes().await?);
        let payload = GetResultPayload::Stream(stream::once(async { Ok(bytes) }).boxed());
        Ok(GetResult { payload, meta, range, attributes, extensions: Default::default() })
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (inner, faults) = (Arc::clone(&self.inner), self.faults.clone());
        let one = move |location: Result<Path>| {
            let (inner, faults) = (Arc::clone(&inner), faults.clone());
            async move {
                let location = location?;
                let fault = faults.call(Op::Delete, &location).await;
                if let Some(error) = fault.and_then(|fault| refusal(fault, &location)) {
                    return Err(error);
                }
                let path = location.clone();
                let mut deleted = inner.delete_stream(stream::once(async { Ok(path) }).boxed());
                while let Some(one) = deleted.next().await {
                    one?;
                }
                if fault == Some(Fault::LoseAnswer) {
                    Err(failure("the answer was lost"))
                } else {
                    Ok(location)
                }
            }
        };
        locations.then(one).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (inner, faults) = (Arc::clone(&self.inner), self.faults.clone());
        let prefix = prefix.cloned();
        let begun = async move {
            let place = prefix.clone().unwrap_or_default();
            match faults.call(Op::List, &place).await {
                Some(_) => stream::once(async { Err(failure("it was told to fail")) }).boxed(),
                None => inner.list(prefix.as_ref()),
            }
        };
        stream::once(begun).flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        match self.faults.call(Op::List, &prefix.cloned().unwrap_or_default()).await {
            Some(_) => Err(failure("it was told to fail")),
            None => self.inner.list_with_delimiter(prefix).await,
        }
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        match self.faults.call(Op::Copy, to).await {
            Some(_) => Err(failure("it was told to fail")),
            None => self.inner.copy_opts(from, to, options).await,
        }
    }
}

/// An upload in parts, which is one put when it is complete.
#[derive(Debug)]
struct Upload {
    inner: Arc<dyn ObjectStore>,
    faults: Faults,
    location: Path,
    parts: Vec<Bytes>,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.parts.push(data.into());
        Box::pin(async { Ok(()) })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let whole = Bytes::from(std::mem::take(&mut self.parts).concat());
        put((&self.inner, &self.faults), &self.location, whole.into(), PutOptions::default()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.parts.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;

    fn store() -> (FaultyStore, Faults) {
        let faults = Faults::default();
        (FaultyStore::new(Arc::new(InMemory::new()), faults.clone()), faults)
    }

    async fn stored(store: &FaultyStore, name: &Path) -> Option<Bytes> {
        store.faults.clear();
        Some(store.get(name).await.ok()?.bytes().await.unwrap())
    }

    #[tokio::test]
    async fn a_put_goes_wrong_in_each_way() {
        for (fault, answer, left) in [
            (Fault::Fail, false, None),
            (Fault::Throttle, false, None),
            (Fault::LoseAnswer, false, Some("texts")),
            (Fault::Vanish, true, None),
            (Fault::Truncate, true, Some("te")),
            (Fault::Flip, true, Some("te|ts")),
        ] {
            let (store, faults) = store();
            let name = Path::from("a");
            faults.at(1, fault);
            assert_eq!(store.put(&name, "texts".into()).await.is_ok(), answer, "{fault:?}");
            assert_eq!(stored(&store, &name).await.as_deref(), left.map(str::as_bytes), "{fault:?}");
        }
    }

    #[tokio::test]
    async fn a_get_goes_wrong_in_each_way_and_the_object_stays() {
        for (fault, came) in [
            (Fault::Fail, None),
            (Fault::Throttle, None),
            (Fault::LoseAnswer, None),
            (Fault::Vanish, None),
            (Fault::Truncate, Some("te")),
            (Fault::Flip, Some("taxts")),
        ] {
            let (store, faults) = store();
            let name = Path::from("a");
            store.put(&name, "texts".into()).await.unwrap();
            faults.only(Op::Get);
            faults.at(1, fault);
            let got = match store.get(&name).await {
                Ok(result) => Some(result.bytes().await.unwrap()),
                Err(_) => None,
            };
            assert_eq!(got.as_deref(), came.map(str::as_bytes), "{fault:?}");
            assert_eq!(stored(&store, &name).await.as_deref(), Some(&b"texts"[..]));
        }
    }

    #[tokio::test]
    async fn an_upload_in_parts_is_one_put() {
        let (store, faults) = store();
        let name = Path::from("a");
        let mut upload = store.put_multipart(&name).await.unwrap();
        upload.put_part("te".into()).await.unwrap();
        upload.put_part("xts".into()).await.unwrap();
        faults.at(1, Fault::Flip);
        upload.complete().await.unwrap();
        assert_eq!(faults.count(Op::Put), 1);
        assert_eq!(stored(&store, &name).await.as_deref(), Some(&b"te|ts"[..]));
    }

    #[tokio::test]
    async fn calls_that_are_held_wait_and_chance_is_the_same_for_a_seed() {
        let (store, faults) = store();
        faults.hold();
        let name = Path::from("a");
        let put = store.put(&name, "x".into());
        tokio::pin!(put);
        assert!(futures_util::poll!(&mut put).is_pending());
        faults.release();
        put.await.unwrap();
        let run = async || {
            faults.clear();
            faults.random(7, 300, vec![Fault::Fail, Fault::Throttle]);
            let mut all = vec![];
            for _ in 0..100 {
                all.push(store.get(&name).await.is_ok());
            }
            all
        };
        let (first, second) = (run().await, run().await);
        assert_eq!(first, second);
        assert!((10..60).contains(&first.iter().filter(|ok| !**ok).count()), "{first:?}");
    }
}
