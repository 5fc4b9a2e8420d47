//! Reads manifests and table states, and finds the newest manifest.
//!
//! Manifests have numbers without gaps, and the oldest go first. So the newest one is where the next is missing, wherever
//! one begins to ask; `HINT` says where to begin, and where it says nothing the directory is listed.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::ObjectMeta;
use serde::{Deserialize, Serialize};

use crate::limits::PROBES_MAX;
use crate::sealed::{seal, unseal};
use crate::{Manifest, OtherFormat, Store, StoreError, TableRef, TableState};

/// The format of a store: manifests and all that they point to.
pub(crate) const FORMAT: u32 = 1;

const DIRECTORY: &str = "_meta/manifest";
/// How often the directory is listed to find the newest manifest.
const LISTS_MAX: u32 = 3;
const HINT: &str = "_meta/manifest/HINT";

/// What `HINT` says.
#[derive(Serialize, Deserialize)]
struct Hint {
    number: u64,
}

/// What every manifest says, whatever its format.
#[derive(Deserialize)]
struct AnyFormat {
    format: u32,
}

/// Where a manifest is.
pub(crate) fn manifest_path(number: u64) -> String {
    format!("{DIRECTORY}/{number:020}.json")
}

/// The number of a manifest at that path.
pub(crate) fn manifest_number(path: &str) -> Option<u64> {
    let digits = path.strip_prefix(DIRECTORY)?.strip_prefix('/')?.strip_suffix(".json")?;
    digits.parse().ok().filter(|_| digits.len() == 20)
}

impl Store {
    /// The newest manifest; `None`: there is none.
    pub async fn newest(&self) -> Result<Option<Arc<Manifest>>, StoreError> {
        let begin = self.hinted().await?.max(self.newest_seen());
        if begin > 0
            && let Some(newest) = self.probe_from(begin).await?
        {
            return Ok(Some(newest));
        }
        self.newest_listed().await
    }

    /// The newest manifest, by a list of all.
    pub(crate) async fn newest_listed(&self) -> Result<Option<Arc<Manifest>>, StoreError> {
        for _ in 0..LISTS_MAX {
            let Some(last) = self.manifests().await?.last().copied() else { return Ok(None) };
            // Whoever was so slow that it is gone, or far behind, lists again.
            if let Some(newest) = self.probe_from(last).await? {
                return Ok(Some(newest));
            }
        }
        Err(self.damaged(DIRECTORY, "the manifests that it lists cannot be read".to_owned()))
    }

    /// Where the next manifest is missing; `None`: that one is not there, or it is far behind.
    async fn probe_from(&self, number: u64) -> Result<Option<Arc<Manifest>>, StoreError> {
        // What is remembered may be gone by now, and those after it as well.
        let Some(mut newest) = self.read_manifest(number).await? else { return Ok(None) };
        for _ in 0..PROBES_MAX {
            match self.manifest(newest.number + 1).await? {
                Some(next) => newest = next,
                None => return Ok(Some(newest)),
            }
        }
        Ok(None)
    }

    /// A hint that is missing or damaged is none.
    async fn hinted(&self) -> Result<u64, StoreError> {
        let hint = self.read_if_there(HINT).await?;
        Ok(hint.and_then(|bytes| unseal::<Hint>(&bytes).ok()).map_or(0, |hint| hint.number))
    }

    pub(crate) async fn hint(&self, number: u64) -> Result<(), StoreError> {
        self.overwrite(HINT, seal(&Hint { number })).await
    }

    /// The manifest of that number; `None`: it is not there, or not any more.
    pub async fn manifest(&self, number: u64) -> Result<Option<Arc<Manifest>>, StoreError> {
        match self.known_manifests().get(&manifest_path(number)) {
            Some(manifest) => Ok(Some(manifest)),
            None => self.read_manifest(number).await,
        }
    }

    /// As [`Store::manifest`], of one that is there now.
    pub(crate) async fn read_manifest(&self, number: u64) -> Result<Option<Arc<Manifest>>, StoreError> {
        let path = manifest_path(number);
        let Some(bytes) = self.read_if_there(&path).await? else { return Ok(None) };
        let manifest = Arc::new(self.decode(&path, &bytes)?);
        if (manifest.number, manifest.source.as_str()) != (number, self.source()) {
            let what = format!("it is manifest {} of {}", manifest.number, manifest.source);
            return Err(self.damaged(&path, what));
        }
        self.saw(number);
        self.known_manifests().put(&path, Arc::clone(&manifest), bytes.len() as u64);
        Ok(Some(manifest))
    }

    fn decode(&self, path: &str, bytes: &Bytes) -> Result<Manifest, StoreError> {
        let damaged = |what| self.damaged(path, what);
        let AnyFormat { format } = unseal(bytes).map_err(damaged)?;
        if format != FORMAT {
            let (theirs, ours) = (format.to_string(), FORMAT.to_string());
            let object = self.path(path).to_string();
            return Err(OtherFormat { object, what: "format", theirs, ours }.into());
        }
        unseal(bytes).map_err(damaged)
    }

    /// The numbers of the manifests that are there, in order and without gaps. What the oldest ones point to may be gone
    /// where only a pin of an older one keeps them.
    pub async fn manifests(&self) -> Result<Vec<u64>, StoreError> {
        let mut numbers = Vec::new();
        let mut listed = self.objects().list(Some(&self.path(DIRECTORY)));
        let failed = |error| self.failed("list", DIRECTORY)(error);
        while let Some(ObjectMeta { location, .. }) = listed.try_next().await.map_err(failed)? {
            numbers.extend(self.relative(&location).as_deref().and_then(manifest_number));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The state of a table.
    pub async fn table(&self, table: &TableRef) -> Result<Arc<TableState>, StoreError> {
        let path = &table.state.path;
        if let Some(state) = self.known_tables().get(path) {
            return Ok(state);
        }
        let bytes = self.get(&table.state).await?;
        let state: TableState =
            serde_json::from_slice(&bytes).map_err(|error| self.damaged(path, error.to_string()))?;
        let state = Arc::new(state);
        self.known_tables().put(path, Arc::clone(&state), bytes.len() as u64);
        Ok(state)
    }
}
