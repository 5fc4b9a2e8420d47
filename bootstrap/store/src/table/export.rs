//! Writes a table as one reader of it sees it, base and runs merged, into files of its own elsewhere.

use tidemill_event::Position;

use super::files::BaseFiles;
use super::key::Keys;
use super::layout::{Layout, key_places, pick, stored_columns};
use super::write::{FileShape, FileWriter};
use crate::{DataError, ScanOptions, Store, TableReader, TableState, limits};

/// Writes the rows of a table as of `applied` into Parquet files of `to`: `part-00000.parquet` and so on, each closed when it has
/// `file_bytes`. Answers with the names of the files and the number of rows.
pub async fn export_table(
    from: &Store,
    state: &TableState,
    applied: Position,
    to: &Store,
    file_bytes: u64,
) -> Result<(Vec<String>, u64), DataError> {
    let shape = FileShape::new(Layout::Base, &state.schema, &state.key, limits::ROW_GROUP_ROWS);
    let places = key_places(&state.schema, &state.key);
    let mut files = BaseFiles {
        store: to.clone(),
        shape,
        path: ("part-".to_owned(), ".parquet".to_owned()),
        at: applied,
        file_bytes,
        open: None,
        files: vec![],
    };
    let mut scan = TableReader::new(from.clone(), state.clone().into(), applied).scan(ScanOptions::default());
    while let Some(batch) = scan.next().await? {
        let keys = Keys::new(&pick(batch.rows.columns(), &places), batch.rows.num_rows());
        let (first, last) = (keys.bytes(0), keys.bytes(keys.len() - 1));
        files.write(stored_columns(&batch.rows), batch.scn, (&first, &last)).await?;
    }
    files.close().await?;
    if files.files.is_empty() {
        let path = files.next_path();
        files.open = Some(FileWriter::empty(&files.store, path, &files.shape).await?);
        files.close().await?;
    }
    let rows = files.files.iter().map(|file| file.rows).sum();
    Ok((files.files.into_iter().map(|file| file.object.path).collect(), rows))
}
