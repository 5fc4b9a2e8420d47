//! From a checkpoint, which may come from another relay, to a place in this log. A server's clock is the same for all who
//! read it, so where the log has that server the SCN is the place.

use tidemill_event::{Checkpoint, Position, Scn, Timeline};

use crate::config::From;
use crate::error::{OtherLineage, OtherSource, ReadError};
use crate::state::State;

/// A stretch of the log on one timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stretch {
    timeline: Timeline,
    after: Scn,
    upto: Scn,
}

/// Where a reader goes on that has everything up to the checkpoint.
pub(crate) fn locate(state: &State, checkpoint: &Checkpoint) -> Result<From, ReadError> {
    let Some(head) = &state.head else { return Err(ReadError::NothingYet) };
    if *head.source != *checkpoint.source {
        let (theirs, ours) = (checkpoint.source.clone(), head.source.to_string());
        return Err(OtherSource { theirs, ours }.into());
    }
    let stretches = stretches(state);
    match choose(&stretches, checkpoint) {
        Some(stretch) => {
            let timeline = stretch.timeline.number;
            Ok(From::After(Position { timeline, scn: checkpoint.position.scn }))
        }
        None => Err(OtherLineage {
            theirs: checkpoint.server.clone(),
            scn: checkpoint.position.scn,
            ours: stretches.iter().map(|s| s.timeline.server.to_string()).collect(),
            why: "none of them is that server".into(),
        }
        .into()),
    }
}

/// The log's timelines, oldest first.
fn stretches(state: &State) -> Vec<Stretch> {
    let mut all: Vec<Stretch> = Vec::new();
    let mut note = |timeline: &Timeline, after: Scn, upto: Scn| match all.last_mut() {
        Some(last) if last.timeline == *timeline => last.upto = last.upto.max(upto),
        _ => all.push(Stretch { timeline: timeline.clone(), after, upto }),
    };
    for piece in state.pieces() {
        note(&piece.header().timeline, piece.header().after, piece.index().end);
    }
    if let Some(head) = &state.head {
        note(&head.timeline, head.scn, head.scn);
    }
    all
}

/// The checkpoint's server may have begun to count anew, or have come back after another one: then several timelines are
/// its own. The one that holds the SCN is meant, before all others that of the same number; else the nearest.
fn choose<'a>(stretches: &'a [Stretch], checkpoint: &Checkpoint) -> Option<&'a Stretch> {
    let scn = checkpoint.position.scn;
    let own = || stretches.iter().filter(|s| *s.timeline.server == *checkpoint.server);
    let holds = |s: &&Stretch| s.after <= scn && scn <= s.upto;
    let same_number = own().filter(holds).find(|s| s.timeline.number == checkpoint.position.timeline);
    same_number
        .or_else(|| own().rev().find(holds))
        .or_else(|| own().rev().find(|s| s.upto < scn))
        .or_else(|| own().next())
}
