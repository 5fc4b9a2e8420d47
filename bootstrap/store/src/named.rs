//! What the manifests that are kept point to. None of them ever changes, nor do the states of tables: each is read once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;

use crate::limits::STATES_AT_ONCE;
use crate::{
    BaseFile, CloneProgress, Manifest, Store, StoreError, TableId, TablePhase, TableRef, TableState,
};

/// The name of the list of a version's files.
const VERSION_FILE: &str = "_manifest.json";

/// What has to stay.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marked {
    pub(crate) objects: HashSet<String>,
    /// Directories of versions, with all that is in them.
    pub(crate) versions: HashSet<String>,
}

/// What was learned.
#[derive(Debug, Default)]
pub(crate) struct Named {
    /// The newest manifest that was read.
    upto: u64,
    /// What it points to, by table.
    now: HashMap<TableId, Known>,
    /// The segments of the log that it points to.
    log: HashSet<String>,
    /// What those before it pointed to, and the last that did.
    objects: HashMap<String, u64>,
    versions: HashMap<String, u64>,
    /// The files of versions that were published before.
    older: HashMap<String, Arc<Vec<String>>>,
}

#[derive(Debug)]
struct Known {
    state: String,
    marked: Marked,
    older: Vec<String>,
}

impl Named {
    /// What the manifests from `first` on point to; `numbers` are those that are there, rising.
    pub(crate) async fn marked(
        &mut self,
        store: &Store,
        numbers: &[u64],
        first: u64,
    ) -> Result<Marked, StoreError> {
        let new: Vec<u64> = numbers.iter().copied().filter(|n| *n >= first && *n > self.upto).collect();
        let read = |number: u64| async move { store.manifest(number).await };
        let mut manifests = stream::iter(new).map(read).buffered(STATES_AT_ONCE);
        while let Some(manifest) = manifests.try_next().await? {
            // Where another collector is ahead of this one.
            let Some(manifest) = manifest else { continue };
            self.take(store, &manifest).await?;
        }
        drop(manifests);
        self.objects.retain(|_, last| *last >= first);
        self.versions.retain(|_, last| *last >= first);
        self.learn_older(store).await?;
        Ok(self.all())
    }

    /// The next manifest: nothing of it counts before all of it is read.
    async fn take(&mut self, store: &Store, manifest: &Manifest) -> Result<(), StoreError> {
        let is_new =
            |table: &&TableRef| self.now.get(&table.id).is_none_or(|known| known.state != table.state.path);
        let new: Vec<TableRef> = manifest.tables.values().filter(is_new).cloned().collect();
        let states = read_states(store, new).await?;
        let there: HashSet<TableId> = manifest.tables.values().map(|table| table.id).collect();
        let gone: Vec<TableId> = self.now.keys().filter(|id| !there.contains(id)).copied().collect();
        for id in gone.into_iter().chain(states.iter().map(|(table, _)| table.id)) {
            let Some(known) = self.now.remove(&id) else { continue };
            let last = self.upto;
            self.objects.extend(known.marked.objects.into_iter().map(|path| (path, last)));
            self.versions.extend(known.marked.versions.into_iter().map(|path| (path, last)));
        }
        for (table, state) in states {
            let mut marked = Marked::default();
            marked.table(&table, &state);
            let known = Known { state: table.state.path, marked, older: state.older.clone() };
            self.now.insert(table.id, known);
        }
        let log = manifest.log.iter().map(|segment| segment.object.path.clone()).collect();
        let before = std::mem::replace(&mut self.log, log);
        let last = self.upto;
        self.objects.extend(before.into_iter().map(|path| (path, last)));
        self.upto = manifest.number;
        Ok(())
    }

    /// The versions that were published before and are kept.
    async fn learn_older(&mut self, store: &Store) -> Result<(), StoreError> {
        let kept: HashSet<String> = self.now.values().flat_map(|known| known.older.clone()).collect();
        self.older.retain(|version, _| kept.contains(version));
        for version in kept {
            if self.older.contains_key(&version) {
                continue;
            }
            if let Some(files) = version_files(store, &version).await? {
                self.older.insert(version, Arc::new(files));
            }
        }
        Ok(())
    }

    fn all(&self) -> Marked {
        let mut all = Marked::default();
        all.objects.extend(self.objects.keys().cloned());
        all.versions.extend(self.versions.keys().cloned());
        all.objects.extend(self.log.iter().cloned());
        for known in self.now.values() {
            all.objects.extend(known.marked.objects.iter().cloned());
            all.versions.extend(known.marked.versions.iter().chain(&known.older).cloned());
        }
        all.objects.extend(self.older.values().flat_map(|files| files.iter().cloned()));
        all
    }
}

async fn read_states(
    store: &Store,
    tables: Vec<TableRef>,
) -> Result<Vec<(TableRef, Arc<TableState>)>, StoreError> {
    let read = |table: TableRef| async move {
        let state = store.table(&table).await?;
        Ok::<_, StoreError>((table, state))
    };
    stream::iter(tables).map(read).buffer_unordered(STATES_AT_ONCE).try_collect().await
}

async fn version_files(store: &Store, version: &str) -> Result<Option<Vec<String>>, StoreError> {
    let list = format!("{version}/{VERSION_FILE}");
    let Some(bytes) = store.read_if_there(&list).await? else { return Ok(None) };
    let files: VersionFile =
        serde_json::from_slice(&bytes).map_err(|error| store.damaged(&list, error.to_string()))?;
    Ok(Some(files.files.into_iter().map(|file| file.object.path).collect()))
}

/// The list of a version's files, in its directory: what is needed of a [`crate::BaseVersion`].
#[derive(Deserialize)]
struct VersionFile {
    files: Vec<VersionObject>,
}

#[derive(Deserialize)]
struct VersionObject {
    object: VersionPath,
}

#[derive(Deserialize)]
struct VersionPath {
    path: String,
}

impl Marked {
    /// What single manifests point to.
    pub(crate) async fn manifests(&mut self, store: &Store, numbers: &[u64]) -> Result<(), StoreError> {
        let mut states: BTreeMap<String, TableRef> = BTreeMap::new();
        for number in numbers {
            let Some(manifest) = store.manifest(*number).await? else { continue };
            self.objects.extend(manifest.log.iter().map(|segment| segment.object.path.clone()));
            states.extend(manifest.tables.values().map(|table| (table.state.path.clone(), table.clone())));
        }
        for (table, state) in read_states(store, states.into_values().collect()).await? {
            self.table(&table, &state);
        }
        Ok(())
    }

    fn table(&mut self, table: &TableRef, state: &TableState) {
        self.objects.insert(table.state.path.clone());
        if let Some(base) = &state.base {
            self.versions.extend(base.path.clone());
            self.files(&base.files);
        }
        let runs = state.runs.iter().chain(&state.merged_runs);
        self.objects.extend(runs.map(|run| run.object.path.clone()));
        match &state.phase {
            TablePhase::Cloning(clone) | TablePhase::Stale { clone: Some(clone), .. } => self.clone_of(clone),
            TablePhase::Ready | TablePhase::Stale { clone: None, .. } => {}
        }
    }

    fn clone_of(&mut self, clone: &CloneProgress) {
        for chunk in &clone.chunks {
            self.files(&chunk.files);
        }
    }

    fn files(&mut self, files: &[BaseFile]) {
        self.objects.extend(files.iter().map(|file| file.object.path.clone()));
    }
}
