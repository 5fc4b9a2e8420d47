//! From a checkpoint, which may come from another relay, to a place in this log. A server's clock is the same for all who
//! read it, so where the log has that server the SCN is the place; where it has another one of the lineage, the set of
//! executed transactions says what the reader has.

use tidemill_event::gtid::{GtidSet, NotASet};
use tidemill_event::{Checkpoint, Position, Scn, Timeline};

use crate::config::From;
use crate::error::{OtherLineage, OtherSource, ReadError};
use crate::state::{Head, State};

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
    let set = GtidSet::parse(&checkpoint.gtid_set);
    let chosen = choose(&stretches, checkpoint);
    match (chosen, set) {
        (Some(stretch), set) if !is_beyond(stretch, &stretches, checkpoint) => {
            Ok(by_position(stretch, checkpoint, set))
        }
        // What the reader saw more of a server than this log did, the next server may have under positions of its own.
        (_, Ok(Some(set))) if is_related(head, &set) => {
            Ok(From::Executed { set: Box::new(set), after: None })
        }
        (Some(stretch), _) => Ok(by_position(stretch, checkpoint, Ok(None))),
        (None, set) => Err(OtherLineage {
            theirs: checkpoint.server.clone(),
            scn: checkpoint.position.scn,
            ours: stretches.iter().map(|s| s.timeline.server.to_string()).collect(),
            why: why_not(&set).into(),
        }
        .into()),
    }
}

/// By the SCN, which is exact. The set says what a reader has beyond it that came from another server; on MariaDB, where
/// only the last of a domain is known and servers may count apart, the position alone is believed.
fn by_position(stretch: &Stretch, checkpoint: &Checkpoint, set: Result<Option<GtidSet>, NotASet>) -> From {
    let after = Position { timeline: stretch.timeline.number, scn: checkpoint.position.scn };
    match set {
        Ok(Some(set @ GtidSet::MySql(_))) => From::Executed { set: Box::new(set), after: Some(after) },
        _ => From::After(after),
    }
}

/// Whether the timeline ended in this log before the checkpoint.
fn is_beyond(stretch: &Stretch, all: &[Stretch], checkpoint: &Checkpoint) -> bool {
    stretch.upto < checkpoint.position.scn && all.last() != Some(stretch)
}

fn is_related(head: &Head, set: &GtidSet) -> bool {
    GtidSet::parse(&head.executed).ok().flatten().is_some_and(|ours| ours.is_related(set))
}

fn why_not(set: &Result<Option<GtidSet>, NotASet>) -> &'static str {
    match set {
        Ok(Some(_)) => "none of them is that server, and none of its executed transactions is in this log",
        _ => "none of them is that server, and it has no set of executed transactions",
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
