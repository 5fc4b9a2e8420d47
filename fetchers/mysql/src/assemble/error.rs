//! What the assembler says when it stops: every error names the place.

use tidemill_event::{Position, Scn};
use tidemill_fetchers_api::{FetchError, Undecodable};

use crate::assemble::Assembler;
use crate::place::Place;
use crate::wire::Malformed;

impl Assembler {
    pub(super) fn place_text(&self) -> String {
        self.place.as_ref().map_or_else(|| "the beginning of the log".to_owned(), ToString::to_string)
    }

    pub(crate) fn malformed(&self, Malformed(what): Malformed) -> FetchError {
        self.damaged(what)
    }

    pub(crate) fn damaged(&self, what: &str) -> FetchError {
        FetchError::Damaged { place: self.place_text(), what: what.to_owned() }
    }

    pub(super) fn undecodable(&self, why: &str) -> FetchError {
        FetchError::Undecodable(Box::new(Undecodable {
            table: None,
            column: None,
            source_type: None,
            place: self.place_text(),
            why: why.to_owned(),
        }))
    }

    pub(super) fn lineage(&self, what: &str) -> FetchError {
        FetchError::Lineage {
            at: self.position(),
            what: what.to_owned(),
            mend: "clone the tables again and start after the clone".to_owned(),
        }
    }

    /// Where a reader is.
    pub(crate) fn position(&self) -> Position {
        let boundary = self.boundary.as_ref().and_then(Place::scn);
        Position { timeline: self.timeline.number, scn: self.emitted.max(boundary).unwrap_or(Scn::ZERO) }
    }
}
