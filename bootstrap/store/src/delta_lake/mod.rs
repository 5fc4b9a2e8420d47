//! Delta Lake metadata over the files of published base versions: the table's directory is a Delta table, each base one commit
//! of it. Derived from a manifest, never the other way round: it gates no commit, and may be deleted and written anew.
//!
//! ```text
//! <db>.<table>/ ─┬─ snap-…/part-….parquet        the files, written before
//!                ├─ _delta_log/<version>.json     remove what the last commit named, add what this base has
//!                └─ _delta_log/<version>.checkpoint.parquet     every 20th version, whole: older commits may go
//! ```
//!
//! A commit stands by itself: it names the protocol, the schema and every live file, so the last one alone tells what the next
//! one removes, and whether a base is published already.
//!
//! Written by hand: the library for it (delta_kernel) refuses tables that have [`actions::MANAGED`], the very feature that keeps
//! outsiders' OPTIMIZE, VACUUM and appends away from our files, and would bring about 240 dependencies.

mod actions;
mod checkpoint;
mod columns;
mod statistics;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use serde_json::json;
use tidemill_event::Remedy;

use crate::{BaseFile, BaseVersion, HintError, Hints, Manifest, Store, TableState, random_id};
use actions::{Action, Add, Base, CommitInfo, Format, MetaData, Protocol, Remove, Txn};

/// Every so many versions there is a checkpoint.
const CHECKPOINT_VERSIONS: u64 = 20;
/// The directory of a table's log, in the table's own.
pub(crate) const DELTA_LOG: &str = "_delta_log";
/// What follows the version in the name of a commit, and of a checkpoint.
const COMMIT: &str = "json";
const CHECKPOINT: &str = "checkpoint.parquet";

/// Why a base has no Delta Lake metadata (yet). The base itself is published all the same.
#[derive(Debug, thiserror::Error)]
pub enum DeltaError {
    /// The object store failed.
    #[error("{action} of the Delta Lake log {log}")]
    Objects {
        /// What was tried.
        action: &'static str,
        /// The log's directory, from the store's root.
        log: String,
        /// Why it failed.
        source: object_store::Error,
    },
    /// A commit is not one of ours.
    #[error(
        "commit {version} of the Delta Lake log {log} is not as it was written; delete that directory, and it is \
         made anew at the next start"
    )]
    Malformed {
        /// The log's directory, from the store's root.
        log: String,
        /// Which commit.
        version: u64,
        /// What does not fit.
        source: serde_json::Error,
    },
}

impl DeltaError {
    /// What to do about it.
    pub fn remedy(&self) -> Remedy {
        match self {
            DeltaError::Objects { .. } => Remedy::Retry,
            DeltaError::Malformed { .. } => Remedy::Fix,
        }
    }
}

/// Keeps each table's Delta Lake metadata at its newest base.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeltaLake;

#[async_trait]
impl Hints for DeltaLake {
    async fn publish(&self, store: &Store, manifest: &Manifest, table: &TableState) -> Result<(), HintError> {
        if let Some(root) = table.base.as_ref().and_then(delta_root) {
            let log = DeltaLog::new(store.objects().clone(), &store.path(root));
            log.publish(manifest, table).await?;
        }
        Ok(())
    }
}

/// The directory that holds a base version's directory, from the source's root: the Delta table. `None`: nothing is published.
fn delta_root(base: &BaseVersion) -> Option<&str> {
    Some(base.path.as_deref()?.rsplit_once('/')?.0)
}

/// The Delta Lake log of one table.
#[derive(Clone, Debug)]
pub struct DeltaLog {
    objects: Arc<dyn ObjectStore>,
    directory: Path,
}

/// A commit that is there.
#[derive(Debug, Default)]
struct Commit {
    version: u64,
    base: Option<Base>,
    metadata: Option<MetaData>,
    files: Vec<Add>,
    /// Whether readers find where the log begins.
    is_whole: bool,
}

impl DeltaLog {
    /// The log of the table in that directory of the object store.
    pub fn new(objects: Arc<dyn ObjectStore>, table: &Path) -> DeltaLog {
        DeltaLog { objects, directory: table.clone().join(DELTA_LOG) }
    }

    /// Makes the base of a table, as that manifest has it, the log's newest version. Answers with that version, or `None` where
    /// this base or a later one is there already, or nothing is published.
    pub async fn publish(&self, manifest: &Manifest, state: &TableState) -> Result<Option<u64>, DeltaError> {
        let Some((base, root)) = state.base.as_ref().and_then(|base| Some((base, delta_root(base)?))) else {
            return Ok(None);
        };
        let mut last = self.last().await?;
        let is_whole = last.as_ref().is_none_or(|last| last.is_whole);
        loop {
            if last
                .as_ref()
                .and_then(|last| last.base.as_ref())
                .is_some_and(|last| last.manifest > manifest.number || Some(&last.path) == base.path.as_ref())
            {
                return Ok(None);
            }
            let next = last.as_ref().map_or(0, |last| last.version + 1);
            let commit = commit(manifest, state, base, root, last.as_ref());
            if self.create(next, &commit).await? {
                // A log whose beginning is gone is one again from here on.
                if next > 0 && (next.is_multiple_of(CHECKPOINT_VERSIONS) || !is_whole) {
                    self.checkpoint(next, &commit).await?;
                    self.forget(next, state.older.len() as u64).await?;
                }
                return Ok(Some(next));
            }
            // Another writer was first: what it published decides whether ours still has a place.
            last = Some(self.read(next).await?);
        }
    }

    /// The newest commit.
    async fn last(&self) -> Result<Option<Commit>, DeltaError> {
        let listed = self.list().await?;
        let is_whole = listed.iter().any(|(version, kind)| *version == 0 || kind == CHECKPOINT);
        match listed.into_iter().filter(|(_, kind)| *kind == COMMIT).max() {
            Some((version, _)) => Ok(Some(Commit { is_whole, ..self.read(version).await? })),
            None => Ok(None),
        }
    }

    /// The versions that have files, with the rest of their names.
    async fn list(&self) -> Result<Vec<(u64, String)>, DeltaError> {
        let listed = self.objects.list(Some(&self.directory)).try_filter_map(|object| async move {
            let name = object.location.filename().and_then(|name| name.split_once('.'));
            Ok(name.and_then(|(version, kind)| Some((version.parse().ok()?, kind.to_owned()))))
        });
        listed.try_collect().await.map_err(self.failed("list"))
    }

    /// Writes what the table is at that version, and that readers may begin there.
    async fn checkpoint(&self, version: u64, commit: &[Action]) -> Result<(), DeltaError> {
        let (file, size) = checkpoint::encode(commit);
        let put = self.objects.put(&self.path(version, CHECKPOINT), file.into()).await;
        put.map_err(self.failed("write a checkpoint"))?;
        let last = json!({ "version": version, "size": size }).to_string();
        let put = self.objects.put(&self.directory.clone().join("_last_checkpoint"), last.into()).await;
        put.map(drop).map_err(self.failed("write a checkpoint"))
    }

    /// Removes the files of versions that nobody can read any more, for what they name is gone: all before the newest
    /// checkpoint that every version that is kept is behind. `older` versions are kept besides the newest.
    async fn forget(&self, newest: u64, older: u64) -> Result<(), DeltaError> {
        let listed = self.list().await?;
        let oldest = newest.saturating_sub(older.max(CHECKPOINT_VERSIONS));
        let checkpoints = listed.iter().filter(|(version, kind)| kind == CHECKPOINT && *version <= oldest);
        let Some(first) = checkpoints.map(|(version, _)| *version).max() else { return Ok(()) };
        // The oldest first: what is left never begins with a gap.
        let gone: BTreeSet<&(u64, String)> = listed.iter().filter(|(version, _)| *version < first).collect();
        for (version, kind) in gone {
            let removed = self.objects.delete(&self.path(*version, kind)).await;
            removed.map_err(self.failed("remove old versions"))?;
        }
        Ok(())
    }

    async fn read(&self, version: u64) -> Result<Commit, DeltaError> {
        let object = self.objects.get(&self.path(version, COMMIT)).await.map_err(self.failed("read"))?;
        let bytes = object.bytes().await.map_err(self.failed("read"))?;
        let mut commit = Commit { version, ..Commit::default() };
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let action = serde_json::from_slice(line).map_err(|source| DeltaError::Malformed {
                log: self.directory.to_string(),
                version,
                source,
            })?;
            match action {
                Action::CommitInfo(info) => commit.base = Some(info.tidemill),
                Action::MetaData(metadata) => commit.metadata = Some(metadata),
                Action::Add(file) => commit.files.push(file),
                Action::Protocol(_) | Action::Txn(_) | Action::Remove(_) => {}
            }
        }
        Ok(commit)
    }

    /// Whether it could be created: one of that version was not there.
    async fn create(&self, version: u64, commit: &[Action]) -> Result<bool, DeltaError> {
        let mut text = String::new();
        for action in commit {
            text += &serde_json::to_string(action).expect("actions are JSON objects with text keys");
            text.push('\n');
        }
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.objects.put_opts(&self.path(version, COMMIT), text.into(), options).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(self.failed("commit")(error)),
        }
    }

    fn path(&self, version: u64, kind: &str) -> Path {
        self.directory.clone().join(format!("{version:020}.{kind}"))
    }

    fn failed(&self, action: &'static str) -> impl Fn(object_store::Error) -> DeltaError {
        let log = self.directory.to_string();
        move |source| DeltaError::Objects { action, log: log.clone(), source }
    }
}

/// The lines of a commit.
fn commit(
    manifest: &Manifest,
    state: &TableState,
    base: &BaseVersion,
    root: &str,
    last: Option<&Commit>,
) -> Vec<Action> {
    let time = manifest.time_us / 1000;
    let mut lines = vec![
        Action::CommitInfo(commit_info(manifest, base, time)),
        Action::Protocol(Protocol::of(&state.schema)),
        Action::MetaData(metadata(state, time, last.and_then(|last| last.metadata.as_ref()))),
        Action::Txn(Txn {
            app_id: format!("tidemill:{}:{}", manifest.source, state.name),
            version: base.at.scn.0 as i64,
            last_updated: time,
        }),
    ];
    let files: Vec<Add> = base.files.iter().map(|file| add(state, root, file, time)).collect();
    // Rows of a file that was only linked under another name are no change.
    let content = |file: &Add| (file.size, file.tags.get(actions::CHECKSUM).cloned());
    let old: Vec<&Add> = last.iter().flat_map(|last| &last.files).collect();
    let before: BTreeSet<_> = old.iter().map(|file| content(file)).collect();
    let after: BTreeSet<_> = files.iter().map(content).collect();
    for file in old.iter().filter(|old| !files.iter().any(|file| file.path == old.path)) {
        lines.push(Action::Remove(Remove {
            path: file.path.clone(),
            deletion_timestamp: time,
            data_change: !after.contains(&content(file)),
            extended_file_metadata: true,
            partition_values: BTreeMap::new(),
            size: file.size,
        }));
    }
    lines.extend(files.into_iter().map(|mut file| {
        file.data_change = !before.contains(&content(&file));
        Action::Add(file)
    }));
    lines
}

fn commit_info(manifest: &Manifest, base: &BaseVersion, time: i64) -> CommitInfo {
    let server = base.at.timeline.checked_sub(1).and_then(|number| manifest.timelines.get(number as usize));
    // The set of transactions is known of the position that the manifest is at.
    let executed = (manifest.applied.position == base.at).then(|| manifest.applied.executed.clone());
    CommitInfo {
        timestamp: time,
        operation: "PUBLISH".to_owned(),
        operation_parameters: BTreeMap::new(),
        engine_info: concat!("tidemill/", env!("CARGO_PKG_VERSION")).to_owned(),
        tidemill: Base {
            manifest: manifest.number,
            scn: base.at.scn.0,
            timeline: base.at.timeline,
            server: server.cloned().unwrap_or_default(),
            executed,
            path: base.path.clone().expect("only a published base is committed"),
        },
    }
}

fn metadata(state: &TableState, time: i64, last: Option<&MetaData>) -> MetaData {
    MetaData {
        id: last.map_or_else(uuid, |last| last.id.clone()),
        name: state.name.to_string(),
        format: Format::default(),
        schema_string: columns::schema_string(&state.schema),
        partition_columns: vec![],
        created_time: last.map_or(time, |last| last.created_time),
        configuration: BTreeMap::new(),
    }
}

fn add(state: &TableState, root: &str, file: &BaseFile, time: i64) -> Add {
    let path = file.object.path.strip_prefix(root).and_then(|path| path.strip_prefix('/'));
    Add {
        path: actions::escape(path.unwrap_or(&file.object.path)),
        partition_values: BTreeMap::new(),
        size: file.object.bytes,
        modification_time: time,
        data_change: true,
        stats: statistics::of(state, file),
        tags: [(actions::CHECKSUM.to_owned(), format!("{:08x}", file.object.crc32c))].into(),
    }
}

/// A random table id in the form of a UUID, version 4.
fn uuid() -> String {
    let digits = random_id() + &random_id();
    format!(
        "{}-{}-4{}-8{}-{}",
        &digits[..8],
        &digits[8..12],
        &digits[13..16],
        &digits[17..20],
        &digits[20..32]
    )
}
