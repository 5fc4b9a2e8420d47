//! Where a source orders keys in another way than we do, the chunks of a copy overlap in our order, perhaps all of them. Each
//! file that is open takes memory, so that many are merged in several passes; this is all but the last one.

use std::sync::Arc;

use super::files::BaseFiles;
use super::lanes::{base_files, clusters, lanes};
use super::layout::Layout;
use super::merge::Rows;
use super::name::table_root;
use super::read::{Bounds, File, Shape};
use super::ways::{Feed, Rule, Ways};
use super::write::FileShape;
use crate::limits::LANES_MAX;
use crate::{BaseFile, DataError, MergeOptions, Store, TableState, random_id};

/// The base's files, or files with the same rows, of which at most [`LANES_MAX`] are open at a time to read them in order.
pub(crate) async fn narrowed(
    store: &Store,
    state: &TableState,
    shape: &Arc<Shape>,
    options: &MergeOptions,
) -> Result<Vec<BaseFile>, DataError> {
    let mut files = state.base.as_ref().map_or(vec![], |base| base.files.clone());
    loop {
        let ranged = base_files(&files)?;
        let wide = clusters(&ranged).into_iter().map(lanes).find(|lanes| lanes.len() > LANES_MAX);
        let Some(wide) = wide else { return Ok(files) };
        let read: Vec<String> = wide.iter().flatten().map(|file| file.object.path.clone()).collect();
        let mut merged = vec![];
        for group in wide.chunks(LANES_MAX) {
            merged.extend(merge(store, state, shape, options, group).await?);
        }
        files.retain(|file| !read.contains(&file.object.path));
        files.extend(merged);
    }
}

/// One lane of the rows of several. Its files are as old as the oldest one read: changes that a newer one has already are
/// merged into it once more, which changes nothing.
async fn merge(
    store: &Store,
    state: &TableState,
    shape: &Arc<Shape>,
    options: &MergeOptions,
    group: &[Vec<&BaseFile>],
) -> Result<Vec<BaseFile>, DataError> {
    let at = group.iter().flatten().map(|file| file.at).min().unwrap_or_default();
    let lanes = group.iter().map(|lane| lane.iter().map(|file| File::base(file)).collect());
    let mut feed = Feed::new(Ways::new(store, shape, &Arc::new(Bounds::default()), lanes, Rule::All));
    let directory = format!("{}/clone/{}", table_root(&state.name), random_id());
    let mut out = BaseFiles {
        store: store.clone(),
        shape: FileShape::new(Layout::Base, &state.schema, &state.key, options.row_group_rows),
        path: (format!("{directory}/merged-"), ".parquet".to_owned()),
        at,
        file_bytes: options.file_bytes,
        open: None,
        files: vec![],
    };
    while feed.fill().await? {
        let (block, from) = feed.here();
        let entries = block.len() - from;
        let mut rows = Rows::default();
        rows.take(&mut feed, entries);
        let keys = (rows.key_bytes(0), rows.key_bytes(rows.len() - 1));
        out.write(rows.columns()?, rows.scn(), (&keys.0, &keys.1)).await?;
    }
    out.close().await?;
    Ok(out.files)
}
