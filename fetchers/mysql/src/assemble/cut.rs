//! Cutting windows: whole transactions, fragments of one that fills a window by itself, and silence.

use std::sync::Arc;

use tidemill_event::{Part, Scn, Span, Window};
use tidemill_fetchers_api::FetchError;

use crate::assemble::Assembler;
use crate::assemble::give::Ready;
use crate::event::GtidEvent;
use crate::place::Place;
use crate::window::{Committed, Content};

impl Assembler {
    /// After rows: a full window is cut; of a transaction that fills one by itself a fragment goes out.
    pub(super) fn cut_full(&mut self) -> Result<(), FetchError> {
        if self.window.bytes() < self.window_bytes {
            return Ok(());
        }
        if self.window.has_transactions() {
            self.cut();
        }
        if self.window.open_bytes() < self.window_bytes {
            return Ok(());
        }
        let open_bytes = self.window.open_bytes();
        let open = self.open.as_mut().expect("rows are within a transaction");
        if open.must_be_measured() {
            if open_bytes < self.unmeasured_bytes {
                return Ok(());
            }
            // It is read to its end first, then again.
            self.measuring = true;
            self.window.discard();
            return Ok(());
        }
        if open.two_phase == Some(true) {
            return self.spill();
        }
        let end = open.end.expect("it was measured where the source does not tell");
        let committed = committed(&open.event, end);
        let part = if open.given == 0 { Part::First } else { Part::Middle };
        let before = open.given;
        open.given += u64::from(self.window.open_changes());
        self.given = Some((open.start, open.given));
        let content = self.window.take_part(committed, part, before);
        self.emit(content);
        Ok(())
    }

    /// Everything whole that there is becomes a window.
    pub(crate) fn cut(&mut self) {
        if self.window.has_transactions() {
            let content = self.window.take_whole();
            self.emit(content);
        }
    }

    /// Moves readers on over a stretch without transactions of at least so many bytes.
    pub(crate) fn cut_silence(&mut self, bytes: u64) {
        let (Some(boundary), Some(emitted)) = (self.boundary.as_ref().and_then(Place::scn), self.emitted)
        else {
            return;
        };
        let moved = boundary.0.saturating_sub(emitted.0);
        if !self.window.has_transactions() && self.given.is_none() && moved > 0 && moved >= bytes {
            self.emit(Content::default());
        }
    }

    pub(super) fn emit(&mut self, content: Content) {
        let boundary = self.boundary.as_ref().and_then(Place::scn).expect("what is emitted has a boundary");
        let after = *self.emitted.get_or_insert(boundary);
        self.emitted = Some(boundary.max(after));
        let window = Window {
            source: Arc::clone(&self.source),
            timeline: self.timeline.clone(),
            span: Span { after, upto: boundary.max(after) },
            executed: self.executed_text(),
            transactions: content.transactions,
            tables: content.tables,
            events: content.events,
            phase: tidemill_event::Phase::Stream,
        };
        debug_assert_eq!(window.validate(), Ok(()));
        self.ready.push_back(Ready::Window(window));
    }

    pub(super) fn executed_text(&mut self) -> Arc<str> {
        let executed = self.executed.as_ref();
        let text = || executed.map(ToString::to_string).unwrap_or_default().into();
        Arc::clone(self.executed_text.get_or_insert_with(text))
    }

    /// An idle source says so with an empty window, also when it did not move: readers learn where it is.
    pub(super) fn tell_place(&mut self) {
        let pending = self.window.has_transactions() || self.given.is_some();
        if self.boundary.is_some() && !pending {
            self.emit(Content::default());
        }
    }
}

pub(super) fn committed(event: &GtidEvent, scn: Scn) -> Committed {
    let gtid = event.gtid.as_ref().map(ToString::to_string).unwrap_or_default();
    Committed { scn, gtid, commit_time_us: event.commit_time_us }
}
