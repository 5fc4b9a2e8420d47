//! Removes what nothing points to any more.
//!
//! First everything is listed, then manifests are read: whatever is committed meanwhile points only to what the newest of
//! them points to, or to what is so new that it stays. So it is safe beside the writer, and even beside its successor.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::delta_lake::DELTA_LOG;
use crate::latest::{LATEST, split_version};
use crate::limits::{GRACE_MIN, KEEP_MANIFESTS_MIN, PIN_SLACK, STATES_AT_ONCE};
use crate::manifest::manifest_path;
use crate::named::Marked;
use crate::pin::{self, micros};
use crate::{Retention, Store, StoreError, Writer};

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

/// What is to go.
#[derive(Debug, Default)]
struct Unmarked<'a> {
    /// What tells people of tables that have no version any more, by their directories.
    told: BTreeMap<&'a str, Vec<&'a Listed>>,
    objects: Vec<&'a Listed>,
}

impl Writer {
    /// Removes manifests that are not kept any more, and what no kept manifest and no pinned one points to; and gives all
    /// hints again. Objects of other names than this store gives are left alone.
    pub async fn collect_garbage(&self, keep: &Retention, now_us: i64) -> Result<Swept, StoreError> {
        self.tell_all().await;
        self.collect(keep, now_us).await
    }

    async fn collect(&self, keep: &Retention, now_us: i64) -> Result<Swept, StoreError> {
        let store = self.store();
        let listed = store.list_all().await?;
        let mut swept = Swept::default();
        let Some(marked) = store.let_go(&listed, keep, now_us, &mut swept).await? else { return Ok(swept) };
        let oldest_us = now_us.saturating_sub(micros(keep.grace.max(GRACE_MIN)));
        let unmarked = unmarked(&listed, &marked, oldest_us);
        for (root, objects) in unmarked.told {
            // A table that was made again is published by nobody meanwhile.
            let _quiet = self.quiet().await;
            if !self.publishes(root) {
                store.sweep(&objects, &mut swept).await?;
            }
        }
        // What says that a version is whole goes before its files.
        let (first, then): (Vec<&Listed>, Vec<&Listed>) =
            unmarked.objects.iter().partition(|object| !object.path.ends_with(".parquet"));
        store.sweep(&first, &mut swept).await?;
        store.sweep(&then, &mut swept).await?;
        Ok(swept)
    }
}

impl Store {
    /// Removes manifests that are not kept any more; what the others, and the pinned ones, point to. `None`: there are none.
    async fn let_go(
        &self,
        listed: &[Listed],
        keep: &Retention,
        now_us: i64,
        swept: &mut Swept,
    ) -> Result<Option<Marked>, StoreError> {
        let pins = self.running_pins(listed, now_us).await?;
        let numbers = self.manifests().await?;
        if numbers.is_empty() {
            return Ok(None);
        }
        let young = self.oldest_young(&numbers, keep, now_us).await?;
        let pinned: BTreeSet<u64> = pins.values().copied().filter(|n| numbers.contains(n)).collect();
        let oldest = pinned.first().map_or(young, |pinned| young.min(*pinned));
        // The oldest first and one by one, so that there never is a gap.
        for number in numbers.iter().take_while(|number| **number < oldest) {
            self.remove(&manifest_path(*number)).await?;
            swept.manifests += 1;
        }
        let mut marked = self.named().lock().await.marked(self, &numbers, young).await?;
        let apart: Vec<u64> = pinned.into_iter().filter(|number| *number < young).collect();
        marked.manifests(self, &apart).await?;
        marked.objects.extend(pins.into_keys());
        Ok(Some(marked))
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

    async fn sweep(&self, objects: &[&Listed], swept: &mut Swept) -> Result<(), StoreError> {
        let objects: Vec<(String, u64)> = objects.iter().map(|o| (o.path.clone(), o.bytes)).collect();
        let remove = |(path, bytes): (String, u64)| async move { self.remove(&path).await.map(|()| bytes) };
        let mut removed = stream::iter(objects).map(remove).buffer_unordered(STATES_AT_ONCE);
        while let Some(bytes) = removed.try_next().await? {
            swept.objects += 1;
            swept.bytes += bytes;
        }
        Ok(())
    }
}

impl Marked {
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
    /// Tells people of the versions of that table.
    Told(&'a str),
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
        (_, LATEST, None) | (_, DELTA_LOG, Some(_)) => Kind::Told(top),
        _ => Kind::Foreign,
    }
}

/// What is to go: nothing points to it, and it is old; what belongs together as old as the youngest of it.
fn unmarked<'a>(listed: &'a [Listed], marked: &Marked, oldest_us: i64) -> Unmarked<'a> {
    let mut found = Unmarked::default();
    let mut versions: BTreeMap<&str, Vec<&Listed>> = BTreeMap::new();
    for object in listed {
        match kind(&object.path) {
            Kind::InVersion(version) if !marked.has(&object.path, Some(version)) => {
                versions.entry(version).or_default().push(object);
            }
            Kind::Alone if !marked.has(&object.path, None) => found.objects.push(object),
            Kind::Told(root) if !marked.has_version_of(root) => {
                found.told.entry(root).or_default().push(object);
            }
            _ => {}
        }
    }
    let old = |objects: &Vec<&Listed>| objects.iter().all(|object| object.changed_us < oldest_us);
    found.objects.retain(|object| object.changed_us < oldest_us);
    found.told.retain(|_, objects| old(objects));
    found.objects.extend(versions.into_values().filter(old).flatten());
    found
}
