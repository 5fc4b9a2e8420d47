//! Where a transaction begins and ends: what is known of an open one, whether it is passed over, and what its end does.

use std::ops::Range;

use tidemill_event::{Part, Scn};
use tidemill_fetchers_api::FetchError;

use crate::assemble::cut::committed;
use crate::assemble::savepoint::Savepoint;
use crate::assemble::{Assembler, Step};
use crate::event::{GtidEvent, Header, Shape};
use crate::limits::SILENT_BYTES_MAX;
use crate::place::Place;
use crate::prepared::Held;
use crate::window::Committed;

/// A transaction that has begun.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) event: GtidEvent,
    pub(super) start: Scn,
    /// Where it ends, where that is known.
    pub(super) end: Option<Scn>,
    pub(super) state: OpenState,
    pub(super) skipped: bool,
    /// Changes that earlier fragments of it carried.
    pub(super) given: u64,
    /// Changes that are to be passed over: they were given before the connection was lost.
    pub(super) repeat: u64,
    /// Whether it was read to its end before, so that end, phases and voids are known.
    pub(super) is_measured: bool,
    /// XA: whether its rows wait for a later commit, where that is known.
    pub(super) two_phase: Option<bool>,
    /// What of it went to the store of prepared transactions.
    pub(super) kept: Held,
    /// Rows events so far.
    pub(super) rows_events: u64,
    /// Rows events that were rolled back within it, by their numbers.
    pub(super) voids: Vec<Range<u64>>,
    pub(super) savepoints: Vec<Savepoint>,
}

impl Open {
    /// Whether a part of it may not leave before all of it is known: where it ends, which is its clock value, whether
    /// it commits at once, what of it is rolled back.
    pub(super) fn must_be_measured(&self) -> bool {
        let waits = self.two_phase == Some(true);
        let is_unknown = self.end.is_none() || self.state == OpenState::XaRows;
        !self.is_measured && (!self.savepoints.is_empty() || (is_unknown && !waits))
    }
}

/// What the first reading of a transaction told for the second.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    pub(super) start: Scn,
    pub(super) end: Scn,
    pub(super) two_phase: bool,
    pub(super) voids: Vec<Range<u64>>,
}

/// How far a transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OpenState {
    /// Only its GTID was seen.
    Announced,
    /// Rows follow.
    Rows,
    /// Rows of an XA transaction follow.
    XaRows,
    /// Its events are in the payload that the caller unpacks.
    Packed,
}

impl Assembler {
    pub(super) fn begin(&mut self, header: &Header, body: &[u8]) -> Result<(), FetchError> {
        let event = GtidEvent::read(header, body).map_err(|m| self.malformed(m))?;
        if self.open.is_some() {
            return Err(self.damaged("a transaction begins before the last one has ended"));
        }
        if event.flavour() != self.flavour {
            return Err(self.damaged("a GTID of the other family of servers"));
        }
        let place = self.place()?.clone();
        let offset = place.offset.checked_sub(u64::from(header.size));
        let offset = offset.ok_or_else(|| self.damaged("a GTID stands before the beginning of its file"))?;
        let begins = Place { offset, ..place };
        let start = self.scn(&begins)?;
        self.check_order(start, &event)?;
        let skipped = self.is_skipped(start, &event);
        if !skipped {
            self.skip.before_us = None;
            self.emitted.get_or_insert(start);
            self.schemas.begin(start);
        }
        let told = event
            .length
            .map(|length| Place { offset: begins.offset.saturating_add(length), ..begins.clone() });
        if told.as_ref().is_some_and(|end| end.offset <= begins.offset + u64::from(header.size)) {
            return Err(self.damaged("a GTID announces a transaction that ends with it"));
        }
        let measured = self.measured.clone().filter(|measured| measured.start == start);
        let end = match told {
            Some(end) => Some(self.scn(&end)?),
            None => measured.as_ref().map(|measured| measured.end),
        };
        self.settle_at(begins);
        let repeat = self.given.filter(|(at, _)| *at == start).map_or(0, |(_, changes)| changes);
        if self.given.is_some() && repeat == 0 {
            return Err(self.damaged("a transaction of which a part was delivered does not come again"));
        }
        let (state, two_phase) = match event.shape {
            Shape::Rows => (OpenState::Rows, None),
            Shape::XaPrepare => (OpenState::XaRows, Some(true)),
            _ => (OpenState::Announced, None),
        };
        self.open = Some(Open {
            event,
            start,
            end,
            state,
            skipped,
            given: 0,
            repeat,
            is_measured: measured.is_some(),
            two_phase: two_phase.or(measured.as_ref().map(|measured| measured.two_phase)),
            kept: Held::default(),
            rows_events: 0,
            voids: measured.map_or_else(Vec::new, |measured| measured.voids),
            savepoints: Vec::new(),
        });
        Ok(())
    }

    fn check_order(&self, start: Scn, event: &GtidEvent) -> Result<(), FetchError> {
        let boundary = self.boundary.as_ref().and_then(Place::scn).max(self.emitted);
        let is_passed_over = self.skip.upto.is_some_and(|upto| start < upto);
        match boundary {
            Some(boundary) if start < boundary && !is_passed_over => {
                let gtid =
                    event.gtid.as_ref().map_or_else(|| "a transaction".to_owned(), ToString::to_string);
                Err(self.lineage(&format!(
                    "{gtid} at {} lies before the position although it is not among the executed",
                    self.place_text()
                )))
            }
            _ => Ok(()),
        }
    }

    fn is_skipped(&self, start: Scn, event: &GtidEvent) -> bool {
        self.skip.upto.is_some_and(|upto| start < upto)
            || self.skip.before_us.is_some_and(|time| event.commit_time_us < time)
            || (self.skip.known
                && event
                    .gtid
                    .as_ref()
                    .zip(self.executed.as_ref())
                    .is_some_and(|(gtid, set)| set.contains(gtid)))
    }

    /// XID and COMMIT: rows become visible.
    pub(super) fn commit_rows<'a>(&mut self) -> Result<Step<'a>, FetchError> {
        self.expect(OpenState::Rows, "a commit")?;
        self.commit()
    }

    /// The open transaction is complete and ends here: its rows become visible.
    pub(super) fn commit<'a>(&mut self) -> Result<Step<'a>, FetchError> {
        if std::mem::take(&mut self.measuring) {
            let end = self.scn(self.place()?)?;
            let open = self.open.take().expect("the caller has checked that a transaction is open");
            self.measured = Some(Measured { start: open.start, end, two_phase: false, voids: open.voids });
            return Ok(Step::Again);
        }
        let (open, committed) = self.close()?;
        if open.skipped {
            return Ok(Step::Next);
        }
        self.mark_schemas(committed.scn)?;
        if self.given.take().is_some() {
            if open.repeat > open.given {
                return Err(self.damaged("a transaction has fewer changes than when it was read before"));
            }
            let content = self.window.take_part(committed, Part::Last, open.given);
            self.emit(content);
            return Ok(Step::Next);
        }
        self.window.commit(committed);
        match self.window.bytes() >= self.window_bytes {
            true => self.cut(),
            false => self.cut_silence(SILENT_BYTES_MAX),
        }
        Ok(Step::Next)
    }

    /// The open transaction ends here, whatever becomes of its rows: it is executed, and reading resumes behind it.
    pub(super) fn close(&mut self) -> Result<(Open, Committed), FetchError> {
        let place = self.place()?.clone();
        let scn = self.scn(&place)?;
        let open = self.open.take().expect("the caller has checked that a transaction is open");
        self.maps.named.clear();
        if open.end.is_some_and(|end| end != scn) {
            return Err(self.damaged("a transaction does not end where its GTID event says"));
        }
        self.measured = None;
        self.counters.transactions += 1;
        // What was executed before must not move the set back: in a domain of MariaDB the last one counts.
        let is_known = open.skipped && self.skip.known;
        if let (Some(gtid), Some(executed), false) = (&open.event.gtid, &mut self.executed, is_known) {
            executed.add(gtid);
            self.executed_text = None;
        }
        self.settle_at(place);
        let committed = committed(&open.event, scn);
        Ok((open, committed))
    }
}
