//! `LATEST.json` beside the versions of a table: for readers that take a directory of Parquet files as a table.

use serde::{Deserialize, Serialize};

use crate::{Mark, Store, StoreError, TableState};

/// The name of the object, in a table's directory.
pub(crate) const LATEST: &str = "LATEST.json";

/// What it says.
#[derive(Debug, Serialize)]
struct Latest<'a> {
    /// The table as of this change …
    scn: u64,
    /// … of this timeline of the store.
    timeline: u32,
    /// The transactions executed up to there; `None`: not known any more, or the source has none.
    gtid_set: Option<&'a str>,
    /// When the last of them committed: microseconds since 1970-01-01 UTC.
    time_us: Option<i64>,
    /// The manifest that this was read from.
    manifest: u64,
    /// The directory of the version, from where this object is.
    path: &'a str,
    /// The same as a whole URL; `None`: the store does not know its own.
    url: Option<String>,
    schema_id: &'a str,
    rows: u64,
    bytes: u64,
    /// The files, from where this object is.
    files: Vec<&'a str>,
}

/// What tells whether it is the newest one.
#[derive(Deserialize)]
struct Told {
    path: String,
}

/// The directory of a table, and the one in it, of a version's path.
pub(crate) fn split_version(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// Writes it, where it says something else.
pub(crate) async fn publish_latest(
    store: &Store,
    manifest: u64,
    table: &TableState,
    mark: Option<&Mark>,
) -> Result<(), StoreError> {
    let Some(base) = &table.base else { return Ok(()) };
    let Some(version) = &base.path else { return Ok(()) };
    let (root, path) = split_version(version);
    let object = format!("{root}/{LATEST}");
    let there = store.read_if_there(&object).await?;
    // One that cannot be read is written anew.
    let told = there.and_then(|bytes| serde_json::from_slice::<Told>(&bytes).ok());
    if told.is_some_and(|told| told.path == path) {
        return Ok(());
    }
    let files = base.files.iter().map(|file| {
        let path = file.object.path.as_str();
        path.strip_prefix(root).and_then(|path| path.strip_prefix('/')).unwrap_or(path)
    });
    let latest = Latest {
        scn: base.at.scn.0,
        timeline: base.at.timeline,
        gtid_set: mark.map(|mark| mark.executed.as_str()).filter(|set| !set.is_empty()),
        time_us: mark.map(|mark| mark.time_us),
        manifest,
        path,
        url: store.url().map(|url| format!("{url}/{version}")),
        schema_id: &table.schema.id,
        rows: base.files.iter().map(|file| file.rows).sum(),
        bytes: base.files.iter().map(|file| file.object.bytes).sum(),
        files: files.collect(),
    };
    let json = serde_json::to_vec_pretty(&latest).expect("it has text keys and cannot fail");
    store.overwrite(&object, json.into()).await
}
