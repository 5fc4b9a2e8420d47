//! Removes what nothing points to any more.
//!
//! First everything is listed, then manifests are read: whatever is committed meanwhile points only to what the newest of
//! them points to, or to what is so new that it stays. So it is safe beside the writer, and even beside its successor.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;

use crate::latest::{LATEST, split_version};
use crate::limits::{GRACE_MIN, KEEP_MANIFESTS_MIN, PIN_SLACK, STATES_AT_ONCE};
use crate::manifest::manifest_path;
use crate::pin::{self, micros};
use crate::{
    BaseFile, CloneProgress, Retention, Store, StoreError, TablePhase, TableRef, TableState, Writer,
};

/// The name of the list of a version's files.
const VERSION_FILE: &str = "_manifest.json";

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Manifests.
    pub manifests: u64,
    /// Other objects.
    pub objects: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// An object that is there.
#[derive(Debug)]
struct Listed {
    path: String,
    bytes: u64,
    changed_us: i64,
}

/// What has to stay.
#[derive(Debug, Default)]
struct Marked {
    objects: HashSet<String>,
    /// Directories of versions, with all that is in them.
    versions: HashSet<String>,
}

impl Writer {
    /// Removes manifests that are not kept any more, and what no kept manifest and no pinned one points to; and gives all
    /// hints again. Objects of other names than this store gives are left alone.
    pub async fn collect_garbage(&self, keep: &Retention, now_us: i64) -> Result<Swept, StoreError> {
        self.tell_all().await;
        self.store().collect_garbage(keep, now_us).await
    }
}

impl Store {
    async fn collect_garbage(&self, keep: &Retention, now_us: i64) -> Result<Swept, StoreError> {
        let listed = self.list_all().await?;
        let pins = self.running_pins(&listed, now_us).await?;
        let numbers = self.manifests().await?;
        let Some(newest) = numbers.last().copied() else { return Ok(Swept::default()) };
        let young = self.oldest_young(&numbers, keep, now_us).await?;
        let pinned: BTreeSet<u64> = pins.values().copied().filter(|n| numbers.contains(n)).collect();
        let oldest = pinned.first().map_or(young, |pinned| young.min(*pinned));
        let mut swept = Swept::default();
        // The oldest first and one by one, so that there never is a gap.
        for number in numbers.iter().take_while(|number| **number < oldest) {
            self.remove(&manifest_path(*number)).await?;
            swept.manifests += 1;
        }
        let roots = numbers.into_iter().filter(|number| *number >= young || pinned.contains(number));
        let mut marked = self.mark(roots.collect()).await?;
        self.mark_older(newest, &mut marked).await?;
        marked.objects.extend(pins.into_keys());
        let oldest_us = now_us.saturating_sub(micros(keep.grace.max(GRACE_MIN)));
        self.sweep(&unmarked(&listed, &marked, oldest_us), &mut swept).await?;
        Ok(swept)
    }

    async fn list_all(&self) -> Result<Vec<Listed>, StoreError> {
        let objects = self.objects().list(Some(&self.path("")));
        let listed = objects.try_filter_map(|object| async move {
            let (bytes, changed_us) = (object.size, object.last_modified.timestamp_micros());
            Ok(self.relative(&object.location).map(|path| Listed { path, bytes, changed_us }))
        });
        listed.try_collect().await.map_err(self.failed("list", ""))
    }

    /// The pins that run, by path, each with its version. One that was put after the list is on a version that is young.
    async fn running_pins(
        &self,
        listed: &[Listed],
        now_us: i64,
    ) -> Result<BTreeMap<String, u64>, StoreError> {
        let mut running = BTreeMap::new();
        for Listed { path, .. } in listed.iter().filter(|object| object.path.starts_with(pin::DIRECTORY)) {
            let Some(bytes) = self.read_if_there(path).await? else { continue };
            let pin = self.pin_of(path, &bytes)?;
            if pin.expires_us.saturating_add(micros(PIN_SLACK)) > now_us {
                running.insert(path.clone(), pin.version);
            }
        }
        Ok(running)
    }

    /// The first manifest that was the newest not longer ago than manifests are kept.
    async fn oldest_young(&self, numbers: &[u64], keep: &Retention, now_us: i64) -> Result<u64, StoreError> {
        let oldest_us = now_us.saturating_sub(micros(keep.keep_manifests.max(KEEP_MANIFESTS_MIN)));
        for pair in numbers.windows(2) {
            match self.manifest(pair[1]).await? {
                // Another collector is ahead of this one.
                None => {}
                Some(next) if next.time_us < oldest_us => {}
                Some(_) => return Ok(pair[0]),
            }
        }
        Ok(numbers.last().copied().unwrap_or_default())
    }

    /// What those manifests point to.
    async fn mark(&self, roots: Vec<u64>) -> Result<Marked, StoreError> {
        let mut marked = Marked::default();
        let mut states: BTreeMap<String, TableRef> = BTreeMap::new();
        let mut manifests =
            stream::iter(roots).map(|number| self.manifest(number)).buffer_unordered(STATES_AT_ONCE);
        while let Some(manifest) = manifests.try_next().await? {
            let Some(manifest) = manifest else { continue };
            marked.objects.extend(manifest.log.iter().map(|segment| segment.object.path.clone()));
            for table in manifest.tables.values() {
                if !states.contains_key(&table.state.path) {
                    states.insert(table.state.path.clone(), table.clone());
                }
            }
        }
        // Owned, so that the whole can run as a task of its own.
        let refs: Vec<TableRef> = states.values().cloned().collect();
        let read = |table: TableRef| async move { self.table(&table).await };
        let mut tables = stream::iter(refs).map(read).buffer_unordered(STATES_AT_ONCE);
        while let Some(table) = tables.try_next().await? {
            marked.table(&table);
        }
        drop(tables);
        marked.objects.extend(states.into_keys());
        Ok(marked)
    }

    /// The versions that were published before and are kept.
    async fn mark_older(&self, newest: u64, marked: &mut Marked) -> Result<(), StoreError> {
        let Some(newest) = self.manifest(newest).await? else { return Ok(()) };
        for table in newest.tables.values() {
            for version in &self.table(table).await?.older {
                let list = format!("{version}/{VERSION_FILE}");
                if let Some(bytes) = self.read_if_there(&list).await? {
                    let files: VersionFile = serde_json::from_slice(&bytes)
                        .map_err(|error| self.damaged(&list, error.to_string()))?;
                    marked.objects.extend(files.files.into_iter().map(|file| file.object.path));
                }
                marked.versions.insert(version.clone());
            }
        }
        Ok(())
    }

    /// What says that a version is whole goes before its files.
    async fn sweep(&self, objects: &[&Listed], swept: &mut Swept) -> Result<(), StoreError> {
        let (first, then): (Vec<&Listed>, Vec<&Listed>) =
            objects.iter().partition(|object| !object.path.ends_with(".parquet"));
        for objects in [first, then] {
            let objects: Vec<(String, u64)> = objects.iter().map(|o| (o.path.clone(), o.bytes)).collect();
            let remove =
                |(path, bytes): (String, u64)| async move { self.remove(&path).await.map(|()| bytes) };
            let mut removed = stream::iter(objects).map(remove).buffer_unordered(STATES_AT_ONCE);
            while let Some(bytes) = removed.try_next().await? {
                swept.objects += 1;
                swept.bytes += bytes;
            }
        }
        Ok(())
    }
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
    fn table(&mut self, table: &TableState) {
        if let Some(base) = &table.base {
            self.versions.extend(base.path.clone());
            self.files(&base.files);
        }
        let runs = table.runs.iter().chain(&table.merged_runs);
        self.objects.extend(runs.map(|run| run.object.path.clone()));
        match &table.phase {
            TablePhase::Cloning(clone) | TablePhase::Stale { clone: Some(clone), .. } => self.clone(clone),
            TablePhase::Ready | TablePhase::Stale { clone: None, .. } => {}
        }
    }

    fn clone(&mut self, clone: &CloneProgress) {
        for chunk in &clone.chunks {
            self.files(&chunk.files);
        }
    }

    fn files(&mut self, files: &[BaseFile]) {
        self.objects.extend(files.iter().map(|file| file.object.path.clone()));
    }

    fn has(&self, path: &str, version: Option<&str>) -> bool {
        self.objects.contains(path) || version.is_some_and(|version| self.versions.contains(version))
    }

    fn has_version_of(&self, root: &str) -> bool {
        self.versions.iter().any(|version| split_version(version).0 == root)
    }
}

/// What an object is, by its path. Objects of other names are not ours to remove.
enum Kind<'a> {
    Alone,
    /// Belongs to the version of that directory.
    InVersion(&'a str),
    /// Tells of the newest version of that table.
    Latest(&'a str),
    Foreign,
}

fn kind(path: &str) -> Kind<'_> {
    let mut parts = path.splitn(3, '/');
    let (Some(top), Some(second), third) = (parts.next(), parts.next(), parts.next()) else {
        return Kind::Foreign;
    };
    match (top, second, third) {
        ("_meta", "table" | "pin", Some(_)) => Kind::Alone,
        ("_meta", ..) => Kind::Foreign,
        ("log", name, None) if name.ends_with(".seg") => Kind::Alone,
        (_, "run" | "clone", Some(name)) if name.ends_with(".parquet") => Kind::Alone,
        (_, name, Some(_)) if name.starts_with("snap-") => {
            Kind::InVersion(&path[..top.len() + 1 + name.len()])
        }
        (_, LATEST, None) => Kind::Latest(top),
        _ => Kind::Foreign,
    }
}

/// What is to go: nothing points to it, and it is old; a version as old as its youngest object.
fn unmarked<'a>(listed: &'a [Listed], marked: &Marked, oldest_us: i64) -> Vec<&'a Listed> {
    let mut found = Vec::new();
    let mut versions: BTreeMap<&str, Vec<&Listed>> = BTreeMap::new();
    for object in listed {
        match kind(&object.path) {
            Kind::InVersion(version) if !marked.has(&object.path, Some(version)) => {
                versions.entry(version).or_default().push(object);
            }
            Kind::Alone if !marked.has(&object.path, None) => found.push(object),
            Kind::Latest(root) if !marked.has_version_of(root) => found.push(object),
            _ => {}
        }
    }
    found.retain(|object| object.changed_us < oldest_us);
    let old = |objects: &Vec<&Listed>| objects.iter().all(|object| object.changed_us < oldest_us);
    found.extend(versions.into_values().filter(old).flatten());
    found
}
