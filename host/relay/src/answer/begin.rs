//! Where an answer begins, and what the log says when it cannot begin or go on there.

use tidemill_event::{Checkpoint, Phase, Position, Scn, Span, Timeline, Window};
use tidemill_log::{From, Log, ReadError};

use crate::{Begin, Code, Problem, Served};

/// Where a reader begins, and what is known of the place: a window that says nothing but where it ends.
pub(crate) fn begin(source: &Served, begin: &Begin) -> Result<(From, Option<Window>), Problem> {
    let log = &source.log;
    let head = log.checkpoint();
    Ok(match begin {
        Begin::Earliest => (From::Earliest, None),
        Begin::Time(time) => (From::Time(*time), None),
        // After the head, so that it is known where that is.
        Begin::Now => match &head {
            Some(head) => (From::After(head.position), Some(place(head, head.position))),
            None => (From::Now, None),
        },
        Begin::After(position) => {
            let known = head.filter(|head| head.position == *position);
            (From::After(*position), known.map(|head| place(&head, *position)))
        }
        Begin::At(checkpoint) => {
            let from = locate(source, checkpoint)?;
            let known = match &from {
                From::After(position) | From::Executed { after: Some(position), .. } => {
                    Some(place(checkpoint, *position))
                }
                _ => None,
            };
            (from, known)
        }
    })
}

fn locate(source: &Served, checkpoint: &Checkpoint) -> Result<From, Problem> {
    if checkpoint.source != source.name {
        let detail = format!(
            "the checkpoint is of source {:?}, and {:?} was asked; ask for the checkpoint's source",
            checkpoint.source, source.name
        );
        return Err(Problem::new(Code::BadCheckpoint, detail));
    }
    if checkpoint.phase != Phase::Stream {
        let detail = "the checkpoint lies within a snapshot or its deltas, which a relay does not have; go on at the \
                      snapshot's store, and come back with the checkpoint at its end";
        return Err(Problem::new(Code::BadCheckpoint, detail));
    }
    source.log.locate(checkpoint).map_err(|error| problem(&source.log, &source.name, &error))
}

/// What a checkpoint says, at a position of this relay's numbering.
fn place(checkpoint: &Checkpoint, at: Position) -> Window {
    let timeline = Timeline { number: at.timeline, server: checkpoint.server.as_str().into() };
    let span = Span { after: at.scn, upto: at.scn };
    Window::empty(checkpoint.source.as_str().into(), timeline, span, checkpoint.gtid_set.as_str().into())
}

/// The same place, told by a window that ends there.
pub(crate) fn end_of(window: &Window) -> Window {
    let span = Span { after: window.span.upto, upto: window.span.upto };
    Window::empty(
        std::sync::Arc::clone(&window.source),
        window.timeline.clone(),
        span,
        std::sync::Arc::clone(&window.executed),
    )
}

/// A place that nobody knows: a log that has nothing yet.
pub(crate) fn nowhere(source: &str) -> Window {
    let timeline = Timeline { number: 0, server: "".into() };
    let span = Span { after: Scn::ZERO, upto: Scn::ZERO };
    Window::empty(source.into(), timeline, span, "".into())
}

/// What a subscriber is told when the log cannot be read.
pub(crate) fn problem(log: &Log, source: &str, error: &ReadError) -> Problem {
    match error {
        ReadError::TooOld(too_old) => {
            let told = Problem::new(Code::TooOld, error.to_string())
                .with("earliest", too_old.earliest.to_string())
                .with("latest", too_old.latest.to_string());
            match log.stats().earliest_time_us {
                Some(time) => told.with("earliest_time", crate::format::instant_text(time)),
                None => told,
            }
        }
        ReadError::Diverged(_) | ReadError::OtherLineage(_) => {
            Problem::new(Code::Diverged, error.to_string())
        }
        ReadError::OtherSource(_) => Problem::new(Code::BadCheckpoint, error.to_string()),
        ReadError::NothingYet => Problem::new(Code::NothingYet, error.to_string()),
        // Its file names are nobody else's business.
        other => {
            let cause: &dyn std::error::Error = other;
            tracing::error!(source, error = cause, "a subscription cannot be read on");
            let detail = "the relay cannot read its log there; its own log says why: ask another relay, or again later";
            Problem::new(Code::Storage, detail)
        }
    }
}
