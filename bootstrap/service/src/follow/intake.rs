//! Which position of the store a window is at. A store counts timelines by itself, since relays that it may read one after
//! the other count theirs differently: by the server that numbers.

use std::sync::Arc;

use tidemill_bootstrap_store::{Manifest, Mark};
use tidemill_event::{Part, Position, Scn, Window};

/// A window that does not go on where the last one ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutOfStep {
    /// Something is missing in between.
    #[error(
        "the stream goes on after {after}, and everything is stored up to {upto} only: what lies between is missing; \
         copy the source's tables anew"
    )]
    Hole {
        /// Where the stream goes on.
        after: Position,
        /// Where we are.
        upto: Position,
    },
    /// A transaction goes on that did not begin, or begins within another one.
    #[error("the stream goes on in the middle of a transaction at {at}; please report this")]
    Torn {
        /// The transaction.
        at: Position,
    },
}

/// How far we are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Intake {
    timelines: Vec<String>,
    mark: Mark,
    /// The number that the feed has for our timeline; `None`: no window came yet.
    feed_timeline: Option<u32>,
    /// The transaction whose parts are coming: where it ends, and how many changes came.
    open: Option<(Scn, u64)>,
    /// The next window is taken wherever it begins: nothing is stored, or what is missing was given up.
    is_fresh: bool,
    /// Windows are read from the log again, where those without transactions were left out.
    is_again: bool,
}

/// What a window is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Everything up to here came before.
    pub(crate) after: Position,
    /// Its last transaction, finished or not.
    pub(crate) last: Position,
    /// Whether a transaction is left open.
    pub(crate) is_open: bool,
}

impl Intake {
    /// Goes on where a manifest's `mark` is.
    pub(crate) fn at(manifest: &Manifest, mark: &Mark) -> Intake {
        Intake {
            timelines: manifest.timelines.clone(),
            mark: mark.clone(),
            is_fresh: manifest.timelines.is_empty(),
            ..Intake::default()
        }
    }

    /// Goes on wherever the next window begins.
    pub(crate) fn begin_anew(&mut self) {
        (self.is_fresh, self.feed_timeline, self.open) = (true, None, None);
    }

    /// What follows is read from the log again, from there on.
    pub(crate) fn reread(&mut self, from: Position) {
        self.mark.position = from;
        (self.is_again, self.feed_timeline, self.open) = (true, None, None);
    }

    /// What follows is the feed's again, from there on.
    pub(crate) fn go_on_at(&mut self, mark: &Mark) {
        self.mark = mark.clone();
        (self.is_again, self.feed_timeline, self.open) = (false, None, None);
    }

    pub(crate) fn is_fresh(&self) -> bool {
        self.is_fresh
    }

    /// Takes a window; a first one decides where everything begins.
    pub(crate) fn take(&mut self, window: &Window) -> Result<Taken, OutOfStep> {
        if self.is_fresh {
            self.begin(window);
        }
        self.follow_timeline(window);
        let timeline = self.mark.position.timeline;
        let here = Position { timeline, scn: window.span.after };
        if here != self.mark.position && !self.is_again {
            return Err(OutOfStep::Hole { after: here, upto: self.mark.position });
        }
        self.check_part(window)?;
        let last = window.transactions.last().map_or(window.span.upto, |t| t.scn.max(window.span.upto));
        let taken =
            Taken { after: here, last: Position { timeline, scn: last }, is_open: self.open.is_some() };
        self.mark.position.scn = window.span.upto;
        self.mark.executed = window.executed.to_string();
        let newest = window.transactions.iter().rfind(|t| t.part.completes());
        self.mark.time_us = newest.map_or(self.mark.time_us, |t| t.commit_time_us);
        Ok(taken)
    }

    fn begin(&mut self, window: &Window) {
        let server = window.timeline.server.to_string();
        let last = (self.timelines.len() as u32, self.timelines.last());
        let goes_on = last.1 == Some(&server) && self.mark.position.scn <= window.span.after;
        let timeline = if goes_on { last.0 } else { last.0 + 1 };
        if !goes_on {
            self.timelines.push(server);
        }
        self.mark.position = Position { timeline, scn: window.span.after };
        self.mark.executed = match window.executed_before() {
            Some(executed) => executed.to_string(),
            None => String::new(),
        };
        (self.feed_timeline, self.is_fresh) = (Some(window.timeline.number), false);
    }

    /// Another server, or one that counts from the beginning again, is the next timeline.
    fn follow_timeline(&mut self, window: &Window) {
        let Position { timeline, scn } = self.mark.position;
        let ours = self.timelines.get(timeline as usize - 1).map(String::as_str);
        let same_number = self.feed_timeline.is_none_or(|number| number == window.timeline.number);
        self.feed_timeline = Some(window.timeline.number);
        if ours == Some(&*window.timeline.server) && same_number && window.span.after >= scn {
            return;
        }
        self.open = None;
        let next = timeline as usize;
        // When the log is read again, the next one is known already.
        if self.timelines.get(next).map(String::as_str) != Some(&*window.timeline.server) {
            self.timelines.truncate(next);
            self.timelines.push(window.timeline.server.to_string());
        }
        self.mark.position = Position { timeline: timeline + 1, scn: window.span.after };
    }

    fn check_part(&mut self, window: &Window) -> Result<(), OutOfStep> {
        let Some(first) = window.transactions.first() else { return Ok(()) };
        let at = Position { timeline: self.mark.position.timeline, scn: first.scn };
        let torn = Err(OutOfStep::Torn { at });
        let goes_on = |open: Option<(Scn, u64)>| open == Some((first.scn, first.change_offset));
        let through = first.change_offset + u64::from(first.change_count);
        match first.part {
            Part::Whole | Part::First if self.open.is_some() => return torn,
            Part::Whole => {}
            Part::First => self.open = Some((first.scn, through)),
            _ if !goes_on(self.open) => return torn,
            Part::Middle => self.open = Some((first.scn, through)),
            Part::Last => self.open = None,
        }
        Ok(())
    }

    /// How far we are: everything up to here was taken.
    pub(crate) fn mark(&self) -> &Mark {
        &self.mark
    }

    pub(crate) fn timelines(&self) -> &[String] {
        &self.timelines
    }

    /// Whether a transaction's parts are still coming.
    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    pub(crate) fn executed(&self) -> Arc<str> {
        self.mark.executed.as_str().into()
    }
}
