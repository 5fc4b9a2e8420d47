//! Which files of a table are read, and which of them can be read one after the other.

use tidemill_event::Position;

use super::key::{Key, unhex};
use crate::{BaseFile, DataError, Run, TableKey, TableState};

/// A base file and its keys.
#[derive(Clone, Debug)]
pub(crate) struct Ranged<'a> {
    pub(crate) file: &'a BaseFile,
    pub(crate) first: Vec<u8>,
    pub(crate) last: Vec<u8>,
}

/// The files that have rows, by their first key.
pub(crate) fn base_files(files: &[BaseFile]) -> Result<Vec<Ranged<'_>>, DataError> {
    let ranged = files.iter().filter(|file| file.rows > 0).map(|file| {
        match (unhex(&file.first_key), unhex(&file.last_key)) {
            (Some(first), Some(last)) => Ok(Ranged { file, first, last }),
            _ => {
                let what = "the manifest does not have its keys in hexadecimal digits".to_owned();
                Err(DataError::Damaged { path: file.object.path.clone(), what })
            }
        }
    });
    let mut files = ranged.collect::<Result<Vec<_>, _>>()?;
    files.sort_by(|a, b| Key::of(&a.first).cmp(&Key::of(&b.first)));
    Ok(files)
}

/// Runs up to there whose rows may be newer than the base's.
pub(crate) fn wanted_runs(state: &TableState, upto: Option<Position>) -> Result<Vec<&Run>, DataError> {
    let wrong = |what: &str| Err(DataError::Files { table: state.name.clone(), what: what.to_owned() });
    let is_counted = state.key == TableKey::WholeRow;
    let files = || state.base.iter().flat_map(|base| &base.files).filter(|file| file.rows > 0);
    let oldest = match &state.base {
        Some(base) if base.path.is_some() => base.at,
        // A chunk of a copy that had no rows left no file that tells its low mark.
        _ if !is_counted => Position::default(),
        _ => files().map(|file| file.at).min().unwrap_or_default(),
    };
    if is_counted && files().any(|file| file.at != oldest) {
        return wrong("it has no key, and its copy is not of one position; copy it in one chunk");
    }
    let mut wanted = vec![];
    for run in state.runs.iter().filter(|run| run.rows > 0 && upto.is_none_or(|upto| run.after < upto)) {
        if upto.is_some_and(|upto| run.upto > upto) {
            return wrong("a run goes beyond the position that was to be merged up to; please report this");
        }
        if is_counted && run.after < oldest && oldest < run.upto {
            return wrong(
                "it has no key, and a run begins before its copy and ends behind it; please report this",
            );
        }
        if run.upto > oldest {
            wanted.push(run);
        }
    }
    Ok(wanted)
}

/// Files whose ranges overlap, together; all in key order.
pub(crate) fn clusters<'a, 'b>(files: &'b [Ranged<'a>]) -> Vec<&'b [Ranged<'a>]> {
    let mut clusters = vec![];
    let mut begin = 0;
    for end in 1..=files.len() {
        let last = files[begin..end].iter().map(|file| Key::of(&file.last)).max();
        let is_apart = files.get(end).is_none_or(|next| last < Some(Key::of(&next.first)));
        if is_apart {
            clusters.push(&files[begin..end]);
            begin = end;
        }
    }
    clusters
}

/// The files in as few lanes as hold them without overlap, each lane in key order.
pub(crate) fn lanes<'a>(files: &[Ranged<'a>]) -> Vec<Vec<&'a BaseFile>> {
    let mut lanes: Vec<(Vec<&BaseFile>, &[u8])> = vec![];
    for file in files {
        let free = lanes.iter_mut().find(|(_, last)| Key::of(last) < Key::of(&file.first));
        match free {
            Some((lane, last)) => {
                lane.push(file.file);
                *last = &file.last;
            }
            None => lanes.push((vec![file.file], &file.last)),
        }
    }
    lanes.into_iter().map(|(lane, _)| lane).collect()
}
