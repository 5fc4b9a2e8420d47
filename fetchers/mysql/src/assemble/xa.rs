//! XA transactions: prepared in one place of the log, committed or rolled back in another.
//!
//! Rows that are prepared go to the store, in as many fragments as they need; only the commit makes them a transaction,
//! with the commit's identity, clock value and time. One that is prepared and committed in one phase is like any other.

use tidemill_event::{Part, Position, Scn, Span, Window};
use tidemill_fetchers_api::FetchError;

use crate::assemble::give::{Ready, Release};
use crate::assemble::{Assembler, Measured, OpenState, Step};
use crate::ddl::XaStep;
use crate::event::Shape;
use crate::place::Place;
use crate::prepared::State;
use crate::window::Committed;
use crate::xa::Xid;

impl Assembler {
    pub(super) fn xa<'a>(&mut self, step: XaStep, statement: &str) -> Result<Step<'a>, FetchError> {
        let open = self.open.as_ref().map(|open| (open.state, open.event.shape, open.skipped));
        match (step, open) {
            // MariaDB says it by the GTID itself, and once more to readers that it takes for old.
            (
                XaStep::Start,
                Some(
                    (OpenState::Announced | OpenState::Packed, ..) | (OpenState::XaRows, Shape::XaPrepare, _),
                ),
            ) => {
                self.set_state(OpenState::XaRows);
                Ok(Step::Next)
            }
            (XaStep::End, Some((OpenState::XaRows, ..))) => Ok(Step::Next),
            (XaStep::Commit | XaStep::Rollback, Some((OpenState::Announced, _, true))) => self.commit(),
            (XaStep::Commit, Some((OpenState::Announced, ..))) => self.xa_commit(&self.xid(statement)?),
            (XaStep::Rollback, Some((OpenState::Announced, ..))) => self.xa_rollback(&self.xid(statement)?),
            _ => Err(self.damaged("a step of an XA transaction comes out of turn")),
        }
    }

    fn xid(&self, statement: &str) -> Result<Xid, FetchError> {
        Xid::parse(statement)
            .ok_or_else(|| self.damaged("an XA statement names its transaction in a way that we do not know"))
    }

    /// The rows are complete: they count now, or at a later XA COMMIT.
    pub(super) fn xa_prepare<'a>(&mut self, body: &[u8]) -> Result<Step<'a>, FetchError> {
        let (is_one_phase, xid) = Xid::read(body).map_err(|m| self.malformed(m))?;
        self.expect(OpenState::XaRows, "XA PREPARE")?;
        let end = self.scn(self.place()?)?;
        if self.measuring && !is_one_phase {
            self.check_home()?;
        }
        let open = self.open.as_mut().expect("checked just now");
        if self.measuring {
            self.measuring = false;
            let voids = std::mem::take(&mut open.voids);
            self.measured = Some(Measured { start: open.start, end, two_phase: !is_one_phase, voids });
            return Ok(Step::Again);
        }
        match is_one_phase || open.skipped {
            true => self.commit(),
            false => self.keep(&xid),
        }
    }

    /// What was prepared is kept, and its GTID executed.
    fn keep<'a>(&mut self, xid: &Xid) -> Result<Step<'a>, FetchError> {
        self.cut();
        if self.window.open_changes() > 0 {
            self.spill()?;
        }
        let open = self.open.as_ref().expect("the caller has checked that a transaction is open");
        let (held, begin) = (open.kept, self.begin_of(open.start));
        if self.prepared.has_place() {
            self.prepared.prepare(xid, begin, &held)?;
        }
        self.close()?;
        self.cut_silence(crate::limits::SILENT_BYTES_MAX);
        Ok(Step::Next)
    }

    /// What there is of the open transaction goes to the store. Whole ones were cut before.
    pub(super) fn spill(&mut self) -> Result<(), FetchError> {
        self.check_home()?;
        let open = self.open.as_ref().expect("rows are within a transaction");
        let (start, mut kept) = (open.start, open.kept);
        // Its place among the committed is not known yet: these stand where the store's rules want some.
        let provisional = Committed { scn: Scn(start.0 + 1), gtid: String::new(), commit_time_us: 0 };
        let changes = self.window.open_changes();
        let part = if kept.fragments == 0 { Part::First } else { Part::Middle };
        let content = self.window.take_part(provisional, part, kept.changes);
        let window = Window {
            source: self.source.clone(),
            timeline: self.timeline.clone(),
            span: Span { after: start, upto: start },
            executed: "".into(),
            transactions: content.transactions,
            tables: content.tables,
            events: content.events,
            phase: tidemill_event::Phase::Stream,
        };
        let window = self.judge(window)?;
        let rows = window.row_count() as u64;
        self.counters.rows_prepared += rows;
        self.prepared.add(self.begin_of(start), kept.fragments, &window)?;
        kept.fragments += 1;
        kept.changes += u64::from(changes);
        kept.rows += rows;
        self.open.as_mut().expect("rows are within a transaction").kept = kept;
        Ok(())
    }

    fn begin_of(&self, start: Scn) -> Position {
        Position { timeline: self.timeline.number, scn: start }
    }

    fn xa_commit<'a>(&mut self, xid: &Xid) -> Result<Step<'a>, FetchError> {
        let end = self.begin_of(self.scn(self.place()?)?);
        let Some((begin, held)) = self.prepared.find(xid, end)? else { return Err(self.not_kept(xid)) };
        self.cut();
        let before = self.executed_text();
        let (_, committed) = self.close()?;
        self.prepared.commit(xid, begin, &held, end)?;
        if held.fragments == 0 {
            self.cut_silence(crate::limits::SILENT_BYTES_MAX);
            return Ok(Step::Next);
        }
        let boundary = self.boundary.as_ref().and_then(Place::scn).expect("a transaction just ended there");
        let after = self.emitted.unwrap_or(begin.scn);
        let upto = boundary.max(after);
        self.emitted = Some(upto);
        let release = Release {
            begin,
            held: crate::prepared::Held { state: State::Committed(end), ..held },
            committed,
            timeline: self.timeline.clone(),
            span: Span { after, upto },
            executed: [before, self.executed_text()],
            next: 0,
            rows: 0,
        };
        self.ready.push_back(Ready::Prepared(Box::new(release)));
        Ok(Step::Next)
    }

    /// What was prepared never happened; if it was prepared before the beginning, nothing is known of it either.
    fn xa_rollback<'a>(&mut self, xid: &Xid) -> Result<Step<'a>, FetchError> {
        let end = self.begin_of(self.scn(self.place()?)?);
        if let Some((begin, _)) = self.prepared.find(xid, end)? {
            self.prepared.forget(xid, begin)?;
        }
        self.commit()
    }

    fn check_home(&self) -> Result<(), FetchError> {
        match self.prepared.has_place() {
            true => Ok(()),
            false => Err(self.undecodable(
                "an XA transaction is prepared, and there is no place where its rows can wait for its commit; give the fetcher a \
                 directory, or commit in one phase",
            )),
        }
    }

    fn not_kept(&self, xid: &Xid) -> FetchError {
        self.undecodable(&format!(
            "the XA transaction {xid} commits, and the rows that it prepared are not kept here: it was prepared before this \
             reader began, or without a directory to keep them in, or the store was lost; start before it was prepared, or clone \
             the tables again and start after this place"
        ))
    }
}
