//! What a directory holds, beside what history holds: both are one log, or the log is not opened.

use std::sync::Arc;

use crate::error::OpenError;
use crate::files::Files;
use crate::history::entry::{Entry, segment_text};
use crate::history::{Catalogue, HistoryConfig, HistoryError, OtherHistory};
use crate::recover::{Recovered, remove_segment};
use crate::state::{Head, Segment};

impl Recovered {
    /// Checks that the directory's segments are those of history, or follow them. A directory that has less than history
    /// (it was lost, or an old copy was put back) is emptied: the log goes on where history ends.
    pub(crate) fn join(
        &mut self,
        config: &HistoryConfig,
        catalogue: &Catalogue,
        files: &dyn Files,
    ) -> Result<(), OpenError> {
        let Some(newest) = catalogue.back() else { return Ok(()) };
        self.epoch = catalogue.iter().map(|entry| entry.header.epoch).fold(self.epoch, u64::max);
        if let Some(first) = self.segments.front().filter(|s| s.header.sequence > newest.sequence() + 1) {
            return Err(HistoryError::from(other(config, newest, first)).into());
        }
        let mut is_behind = self.segments.back().is_none_or(|s| s.header.sequence < newest.sequence());
        for segment in &self.segments {
            is_behind |= check(config, segment, catalogue).map_err(HistoryError::from)?;
        }
        if !is_behind {
            return Ok(());
        }
        for segment in std::mem::take(&mut self.segments) {
            tracing::warn!(path = %segment.path.display(), "removed: the log goes on where its history ends");
            remove_segment(files, &segment.path)?;
        }
        self.head = Some(head_of(newest));
        Ok(())
    }
}

/// Checks one segment of the directory against the catalogue. Says whether history has more of it.
fn check(config: &HistoryConfig, segment: &Segment, catalogue: &Catalogue) -> Result<bool, OtherHistory> {
    let (oldest, newest) = (&catalogue[0], &catalogue[catalogue.len() - 1]);
    let sequence = segment.header.sequence;
    let Some(at) = sequence.checked_sub(oldest.sequence()) else { return Ok(false) };
    let Some(entry) = catalogue.get(at as usize) else {
        // The one that follows the newest of history is checked; those after it follow one another.
        let is_next = sequence == newest.sequence() + 1;
        return if is_next && !follows(newest, segment) {
            Err(other(config, newest, segment))
        } else {
            Ok(false)
        };
    };
    let index = segment.index.without_incomplete();
    let is_beginning = index.end < entry.index.end && index.length < entry.index.length;
    match segment.header == entry.header && (index == entry.index || is_beginning) {
        true => Ok(is_beginning),
        false => Err(other(config, entry, segment)),
    }
}

fn follows(newest: &Entry, segment: &Segment) -> bool {
    let (before, after) = (&newest.header.timeline, &segment.header.timeline);
    let same = before == after;
    if same { newest.end() == segment.header.start() } else { before.number < after.number }
}

fn other(config: &HistoryConfig, entry: &Entry, segment: &Segment) -> OtherHistory {
    let object = config.name(&config.entry_path(entry.sequence()));
    let ours = segment_text(&segment.header, segment.end(), None);
    OtherHistory { object, theirs: entry.text(), ours }
}

fn head_of(newest: &Entry) -> Head {
    Head {
        source: Arc::clone(&newest.header.source),
        timeline: newest.header.timeline.clone(),
        scn: newest.index.end,
        executed: Arc::clone(&newest.executed),
    }
}
