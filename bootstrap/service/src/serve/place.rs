//! Where a consumer's checkpoint stands in a store: by the server whose clock it is, or by the transactions that it has.

use tidemill_bootstrap_store::{Manifest, Mark, Store};
use tidemill_event::gtid::GtidSet;
use tidemill_event::{Checkpoint, Position};

use super::ServeError;

/// Everything up to that position of the store's numbering is in what the consumer has: the last such that is known. Older
/// than what it has is right as well, deltas since then only say more.
pub(crate) async fn since(
    store: &Store,
    manifest: &Manifest,
    have: &Checkpoint,
) -> Result<Position, ServeError> {
    if have.source != store.source() {
        let (theirs, ours) = (have.source.clone(), store.source().to_owned());
        return Err(ServeError::OtherSource { theirs, ours });
    }
    let executed = set(&have.gtid_set);
    let stored = set(&manifest.applied.executed);
    let applied = manifest.applied.position;
    let position = match by_server(manifest, have) {
        Some(position) => position,
        None => by_set(store, manifest, executed.as_ref(), stored.as_ref()).await?,
    };
    let (Some(executed), Some(stored)) = (&executed, &stored) else { return Ok(position) };
    let only_theirs = executed.missing_from(stored);
    match position < applied && !only_theirs.is_empty() {
        true => Err(other(format!("it has the transactions {only_theirs}, which are not stored"))),
        false => Ok(position),
    }
}

/// The place by the server's clock, where that server had one timeline, or the numbers agree.
fn by_server(manifest: &Manifest, have: &Checkpoint) -> Option<Position> {
    let numbered = (1u32..).zip(&manifest.timelines);
    let same: Vec<u32> = numbered.filter(|(_, server)| **server == have.server).map(|(n, _)| n).collect();
    let timeline = match same.as_slice() {
        [] => return None,
        [one] => *one,
        several => *several.iter().find(|number| **number == have.position.timeline)?,
    };
    (!have.server.is_empty()).then_some(Position { timeline, scn: have.position.scn })
}

/// The place by what was executed: that of the newest manifest of which all is.
async fn by_set(
    store: &Store,
    manifest: &Manifest,
    executed: Option<&GtidSet>,
    stored: Option<&GtidSet>,
) -> Result<Position, ServeError> {
    let (Some(executed), Some(stored)) = (executed, stored) else {
        return Err(other(
            "its server is not known here, and there are no sets of transactions to compare".into(),
        ));
    };
    if stored.missing_from(executed).is_empty() {
        return match executed.missing_from(stored).is_empty() {
            true => Ok(manifest.applied.position),
            false => Err(behind(store)),
        };
    }
    if !executed.is_related(stored) {
        return Err(other(
            "its server is not known here, and their transactions have nothing in common".into(),
        ));
    }
    // Sets grow from manifest to manifest, so that the newest one within is where the older ones end.
    let numbers = store.manifests().await?;
    let (mut within, mut low, mut high) = (Position::default(), 0, numbers.len());
    while low < high {
        let middle = (low + high) / 2;
        match store.manifest(numbers[middle]).await? {
            Some(older) if is_within(&older.applied, executed) => {
                (within, low) = (older.applied.position, middle + 1);
            }
            Some(_) => high = middle,
            // It went while it was looked for, and so did all before it.
            None => low = middle + 1,
        }
    }
    Ok(within)
}

fn is_within(mark: &Mark, executed: &GtidSet) -> bool {
    set(&mark.executed).is_none_or(|set| set.missing_from(executed).is_empty())
}

/// A set that can be compared; `None`: there is none.
fn set(text: &str) -> Option<GtidSet> {
    GtidSet::parse(text).ok().flatten()
}

/// The store is not as far as the consumer.
pub(crate) fn behind(store: &Store) -> ServeError {
    let what = "is not as far as the checkpoint yet".to_owned();
    ServeError::NotYet { source_name: store.source().to_owned(), what }
}

fn other(what: String) -> ServeError {
    ServeError::OtherHistory { what }
}

/// The checkpoint of whoever has all that the manifest says, in the numbers of `have`, which stands at `since` of the
/// store's: a consumer's positions never fall.
pub(crate) fn end(manifest: &Manifest, have: &Checkpoint, since: Position) -> Checkpoint {
    let mut end = manifest.applied.checkpoint(&manifest.source, &manifest.timelines);
    let passed = end.position.timeline.saturating_sub(since.timeline);
    end.position.timeline = have.position.timeline.max(1) + passed;
    end
}
