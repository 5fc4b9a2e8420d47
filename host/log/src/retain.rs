//! Which segments leave this disk, and when.

use crate::recover::remove_segment;
use crate::state::{Shared, State};
use tidemill_event::chain;

/// Drops the oldest segments as far as the settings say, and history has them where the log has one. Who reads one keeps
/// it.
pub(crate) fn drop_old(shared: &Shared) {
    loop {
        let mut state = shared.state();
        let is_too_much = is_too_much(shared, &state);
        let is_waited_for = is_too_much && !may_go(shared, &state);
        note_waiting(shared, is_waited_for);
        if !is_too_much || is_waited_for {
            return;
        }
        let dropped = state.segments.pop_front().expect("there are at least two");
        state.dropped_end = Some(dropped.end_place());
        drop(state);
        if let Err(error) = remove_segment(&*shared.files, &dropped.path) {
            tracing::warn!(path = %dropped.path.display(), error = %chain(&error), "an old segment stays on disk");
        }
    }
}

/// Whether the oldest segment is more than the settings allow. The last one always stays.
fn is_too_much(shared: &Shared, state: &State) -> bool {
    let (bytes_max, age_max) = (shared.config.retention_bytes, shared.config.retention_time);
    let Some(oldest) = state.segments.front().filter(|_| state.segments.len() > 1) else { return false };
    let bytes: u64 = state.segments.iter().map(|s| s.index.length).sum();
    let age = shared.clock.now().duration_since(oldest.written).unwrap_or_default();
    bytes_max.is_some_and(|max| bytes > max) || age_max.is_some_and(|max| age > max)
}

/// Whether nothing is lost with the oldest segment that should be kept.
fn may_go(shared: &Shared, state: &State) -> bool {
    let archived = state.history.back().map_or(0, |entry| entry.sequence());
    shared.history.is_none() || state.segments.front().is_some_and(|s| s.header.sequence <= archived)
}

fn note_waiting(shared: &Shared, is_waited_for: bool) {
    let Some(history) = &shared.history else { return };
    let was = std::mem::replace(&mut history.status().is_over_limit, is_waited_for);
    if is_waited_for && !was {
        let log = shared.config.directory.display();
        tracing::warn!(%log, "the log is larger than it should be: its oldest segments are not in history yet");
    }
}
