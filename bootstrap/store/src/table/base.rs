//! Merges runs into the base: a new directory in which only the files that changes hit are new.
//!
//! ```text
//! files      [a ── f] [g ── k] [l ── p]        [t ── z]
//! changes        c                        r s
//!            rewritten  kept    kept       new  kept       changes between files: a file of their own, or the end of the
//!                                                          one before where that is rewritten
//! ```

use std::sync::Arc;

use bytes::Bytes;
use object_store::ObjectStoreExt;
use serde::Serialize;
use tidemill_event::{Position, Scn};

use super::files::BaseFiles;
use super::key::Key;
use super::lanes::{Ranged, base_files, clusters, lanes, wanted_runs};
use super::layout::Layout;
use super::merge::{Limit, Merge};
use super::name::table_root;
use super::narrow::narrowed;
use super::read::{Bounds, File, Shape};
use super::ways::{Feed, Rule, Ways};
use super::write::{FileShape, FileWriter};
use crate::{BaseFile, BaseVersion, DataError, Store, StoredSchema, TableKey, TableState, limits, random_id};

/// How a base version is written.
#[derive(Clone, Debug)]
pub struct MergeOptions {
    /// Whether files that no change hits are copied into the new directory, so that it is complete by itself; else they
    /// stay where they are.
    pub complete_dirs: bool,
    /// Compressed bytes of a file that is closed and followed by the next one.
    pub file_bytes: u64,
    /// A file below this is merged with its neighbour when either is rewritten.
    pub file_bytes_min: u64,
    /// Rows of a row group.
    pub row_group_rows: usize,
}

/// What a merge did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MergeStats {
    /// Rows of base files that were read.
    pub base_rows_read: u64,
    /// Rows of runs that were read, of each key the newest.
    pub delta_rows: u64,
    /// Rows that were written.
    pub rows_written: u64,
    /// Bytes that were written.
    pub bytes_written: u64,
    /// Files that were written.
    pub files_written: u64,
    /// Files that stay as they are.
    pub files_kept: u64,
}

impl Default for MergeOptions {
    fn default() -> MergeOptions {
        MergeOptions {
            complete_dirs: true,
            file_bytes: limits::FILE_BYTES,
            file_bytes_min: limits::FILE_BYTES_MIN,
            row_group_rows: limits::ROW_GROUP_ROWS,
        }
    }
}

/// Writes the base version of everything up to `upto`: base and runs of `state` up to there, merged. Nothing is committed.
/// The directory is `<table>/snap-<scn>-<id>`, with `_manifest.json` and `_SUCCESS` in it, and `_STARTED` before all else:
/// on a local disk a file that is kept is as old as ever, and garbage collection would take the directory for an old one.
pub async fn merge_base(
    store: &Store,
    state: &TableState,
    upto: Position,
    options: &MergeOptions,
) -> Result<(BaseVersion, MergeStats), DataError> {
    let id = random_id();
    let id = &id[..8];
    let Scn(scn) = upto.scn;
    let directory = format!("{}/snap-{scn:020}-{id}", table_root(&state.name));
    store.put(&format!("{directory}/_STARTED"), Bytes::new()).await?;
    let shape = FileShape::new(Layout::Base, &state.schema, &state.key, options.row_group_rows);
    let out = BaseFiles {
        store: store.clone(),
        shape,
        path: (format!("{directory}/part-"), format!("-{id}.parquet")),
        at: upto,
        file_bytes: options.file_bytes,
        open: None,
        files: vec![],
    };
    let (read_shape, bounds) = (Shape::of(state), Arc::new(Bounds::default()));
    let rule = match state.key {
        TableKey::Columns { .. } => Rule::Newest(Position::default()),
        TableKey::WholeRow => Rule::Sum,
    };
    let runs = wanted_runs(state, Some(upto))?.into_iter().map(|run| vec![File::run(run, &state.key)]);
    let changes = Feed::new(Ways::new(store, &read_shape, &bounds, runs, rule));
    let merge =
        BaseMerge { state, options, out, changes, shape: read_shape, bounds, stats: MergeStats::default() };
    let (files, stats) = merge.run().await?;
    let version = BaseVersion { path: Some(directory.clone()), at: upto, files };
    put_description(store, state, &directory, &version).await?;
    Ok((version, stats))
}

struct BaseMerge<'a> {
    state: &'a TableState,
    options: &'a MergeOptions,
    out: BaseFiles,
    changes: Feed,
    shape: Arc<Shape>,
    bounds: Arc<Bounds>,
    stats: MergeStats,
}

impl BaseMerge<'_> {
    async fn run(mut self) -> Result<(Vec<BaseFile>, MergeStats), DataError> {
        let files = narrowed(&self.out.store, self.state, &self.shape, self.options).await?;
        let files = base_files(&files)?;
        let clusters = clusters(&files);
        for (place, cluster) in clusters.iter().enumerate() {
            let first = Key::of(&cluster[0].first);
            self.merge(&[], Limit::Below(first)).await?;
            let last = cluster.iter().map(|file| Key::of(&file.last)).max().expect("a cluster has files");
            if self.is_rewritten(cluster, last, clusters.get(place + 1).copied()).await? {
                self.merge(cluster, Limit::Upto(last)).await?;
            } else {
                self.close().await?;
                self.keep(cluster[0].file).await?;
            }
        }
        self.merge(&[], Limit::None).await?;
        self.close().await?;
        if self.out.files.is_empty() {
            let path = self.out.next_path();
            self.out.open = Some(FileWriter::empty(&self.out.store, path, &self.out.shape).await?);
            self.close().await?;
        }
        Ok((self.out.files, self.stats))
    }

    /// Whether a cluster, whose last key that is, is written anew: it is hit, its files overlap, its schema is an old one,
    /// or it is small and beside one that is written.
    async fn is_rewritten(
        &mut self,
        cluster: &[Ranged<'_>],
        last: Key<'_>,
        next: Option<&[Ranged<'_>]>,
    ) -> Result<bool, DataError> {
        let schema = self.state.schema.fingerprint();
        let must = |cluster: &[Ranged<'_>]| cluster.len() > 1 || cluster[0].file.schema != schema;
        let has_change = self.changes.fill().await?;
        if must(cluster) || (has_change && self.changes.key() <= last) {
            return Ok(true);
        }
        // Files of a copy are as small as its chunks. The first version takes them as they are, so that a copy is written
        // once; what changes later joins them.
        let is_copy = self.state.base.as_ref().is_some_and(|base| base.path.is_none());
        let least = if is_copy { limits::COPY_FILE_BYTES_MIN } else { u64::MAX };
        let is_small = cluster[0].file.object.bytes < least.min(self.options.file_bytes_min);
        let is_next_hit = match next {
            None => has_change,
            Some(next) => {
                let last = next.iter().map(|file| Key::of(&file.last)).max().expect("a cluster has files");
                must(next) || (has_change && self.changes.key() <= last)
            }
        };
        Ok(is_small && (is_copy || is_next_hit || self.out.open.is_some()))
    }

    /// Writes the rows of those files with the changes within the limit.
    async fn merge(&mut self, files: &[Ranged<'_>], limit: Limit<'_>) -> Result<(), DataError> {
        let is_counted = self.state.key == TableKey::WholeRow;
        let rule = if is_counted { Rule::All } else { Rule::Newest(Position::default()) };
        let lanes = lanes(files).into_iter().map(|lane| lane.into_iter().map(File::base).collect());
        let mut base = Feed::new(Ways::new(&self.out.store, &self.shape, &self.bounds, lanes, rule));
        let mut merge = Merge {
            table: &self.state.name,
            base: &mut base,
            changes: &mut self.changes,
            is_counted,
            base_rows: 0,
            change_rows: 0,
        };
        loop {
            let rows = merge.next(limits::BATCH_ROWS.min(self.options.row_group_rows), limit).await?;
            if rows.is_empty() {
                break;
            }
            let keys = (rows.key_bytes(0), rows.key_bytes(rows.len() - 1));
            let files = self.out.files.len();
            self.out.write(rows.columns()?, rows.scn(), (&keys.0, &keys.1)).await?;
            for file in &self.out.files[files..] {
                self.stats.count(file);
            }
        }
        self.stats.base_rows_read += merge.base_rows;
        self.stats.delta_rows += merge.change_rows;
        Ok(())
    }

    async fn close(&mut self) -> Result<(), DataError> {
        let files = self.out.files.len();
        self.out.close().await?;
        for file in &self.out.files[files..] {
            self.stats.count(file);
        }
        Ok(())
    }

    /// Takes a file over as it is: no change hits it, so that it is exact at the new position too.
    async fn keep(&mut self, file: &BaseFile) -> Result<(), DataError> {
        let mut kept = BaseFile { at: self.out.at, ..file.clone() };
        if self.options.complete_dirs {
            let store = &self.out.store;
            let to = self.out.next_path();
            let copied = store.objects().copy(&store.path(&file.object.path), &store.path(&to)).await;
            copied.map_err(store.failed("copy", &file.object.path))?;
            kept.object.path = to;
        }
        self.out.files.push(kept);
        self.stats.files_kept += 1;
        Ok(())
    }
}

impl MergeStats {
    fn count(&mut self, file: &BaseFile) {
        self.rows_written += file.rows;
        self.bytes_written += file.object.bytes;
        self.files_written += 1;
    }
}

/// What `_manifest.json` of a directory says: for who reads the directory without the store's manifests.
#[derive(Serialize)]
struct Description<'a> {
    format: u32,
    table: [&'a str; 2],
    key: &'a TableKey,
    schema: &'a StoredSchema,
    #[serde(flatten)]
    base: &'a BaseVersion,
}

async fn put_description(
    store: &Store,
    state: &TableState,
    directory: &str,
    base: &BaseVersion,
) -> Result<(), DataError> {
    let table = [&state.name.database[..], &state.name.table];
    let description = Description { format: 1, table, key: &state.key, schema: &state.schema, base };
    let text = serde_json::to_vec_pretty(&description).expect("a description is plain data");
    store.put(&format!("{directory}/_manifest.json"), Bytes::from(text)).await?;
    store.put(&format!("{directory}/_SUCCESS"), Bytes::new()).await?;
    Ok(())
}
