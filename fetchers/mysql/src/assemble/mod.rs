//! From events to windows: the grammar of transactions, positions, and what is carried of each event.
//!
//! ```text
//! between ── GTID ──▶ open ── BEGIN, table maps, rows … ── XID | COMMIT | one statement ──▶ between
//! ```
//!
//! Whatever does not fit the grammar is an error: a transaction that vanished on the way cannot go unnoticed.

mod boundary;
mod count;
mod cut;
mod error;
mod give;
mod rows;
mod savepoint;
mod schema;
mod statement;
#[cfg(test)]
mod tests;
mod xa;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tidemill_event::limits::WINDOW_BYTES_MAX;
use tidemill_event::{Scn, Timeline};
use tidemill_fetchers_api::{FetchError, Judge, Selector};

use crate::event::{Flavour, FormatDescription, Header, Heartbeat, RawEvent, Rotate, kind};
use crate::gtid::{GtidSet, read_set};
use crate::limits::UNMEASURED_BYTES_MAX;
use crate::place::{BinlogName, Place};
use crate::prepared::PreparedStore;
use crate::schema::Schemas;
use crate::settings::ValuePolicy;
use crate::window::WindowMaker;
use boundary::{Measured, Open, OpenState};
pub use count::{Counters, Unbalanced};
use give::Ready;
use rows::{Asking, TableMaps};

/// What the caller does next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    /// The next event.
    Next,
    /// The events of this compressed transaction, then the next event.
    Unpack(&'a [u8]),
    /// The table map in hand lacks what only the server knows: [`Assembler::wanted`], then [`Assembler::answer`].
    Ask,
    /// The log again from [`Assembler::resume_place`] on: the end of a very large transaction is known now.
    Again,
}

/// What is passed over before the first transaction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Skip {
    /// Transactions that begin before this position.
    pub(crate) upto: Option<Scn>,
    /// Transactions that committed before this time, up to the first that did not.
    pub(crate) before_us: Option<i64>,
    /// Transactions of the executed set, which lie scattered in another server's files.
    pub(crate) known: bool,
}

/// Where and as what the assembler begins.
pub(crate) struct Origin {
    pub(crate) source: Arc<str>,
    pub(crate) timeline: Timeline,
    /// Where the last window ended, where that is a place of this timeline.
    pub(crate) after: Option<Place>,
    pub(crate) executed: Option<GtidSet>,
    pub(crate) skip: Skip,
    /// Whether a server sends the events, or files are read.
    pub(crate) live: bool,
    pub(crate) schemas: Schemas,
    /// Whether names in statements are to be read in lower case.
    pub(crate) lower_case_names: bool,
}

/// See the module.
pub(crate) struct Assembler {
    source: Arc<str>,
    timeline: Timeline,
    selector: Selector,
    values: ValuePolicy,
    /// Whether types that the log does not name are asked for.
    declared_types: bool,
    live: bool,
    flavour: Flavour,
    /// The end of the last event.
    place: Option<Place>,
    /// The end of the last transaction, or a later place between two.
    boundary: Option<Place>,
    /// The end of the last window.
    emitted: Option<Scn>,
    executed: Option<GtidSet>,
    executed_text: Option<Arc<str>>,
    skip: Skip,
    open: Option<Open>,
    /// Set where a file began although a transaction is open: the next format description decides.
    interrupted: bool,
    /// A transaction that had to be read to its end first.
    measured: Option<Measured>,
    measuring: bool,
    /// Beginning of a transaction of which fragments were given, and how many changes they had.
    given: Option<(Scn, u64)>,
    maps: TableMaps,
    schemas: Schemas,
    /// The table map that waits for an answer.
    asking: Option<Asking>,
    /// Up to where the schemas were last said to be in force.
    marked: Scn,
    lower_case_names: bool,
    window: WindowMaker,
    window_bytes: usize,
    /// So much of a transaction is held whole before it is read to its end first.
    unmeasured_bytes: usize,
    ready: VecDeque<Ready>,
    judge: Option<Judge>,
    pub(crate) prepared: PreparedStore,
    pub(crate) counters: Counters,
}

impl Assembler {
    pub(crate) fn new(
        origin: Origin,
        selector: Selector,
        values: ValuePolicy,
        flavour: Flavour,
    ) -> Assembler {
        Assembler {
            source: origin.source,
            timeline: origin.timeline,
            selector,
            values,
            declared_types: false,
            live: origin.live,
            flavour,
            place: None,
            emitted: origin.after.as_ref().and_then(Place::scn),
            boundary: origin.after,
            executed: origin.executed,
            executed_text: None,
            skip: origin.skip,
            open: None,
            interrupted: false,
            measured: None,
            measuring: false,
            given: None,
            maps: TableMaps { known: HashMap::new(), named: Vec::new() },
            schemas: origin.schemas,
            asking: None,
            marked: Scn::ZERO,
            lower_case_names: origin.lower_case_names,
            window: WindowMaker::default(),
            window_bytes: WINDOW_BYTES_MAX,
            unmeasured_bytes: UNMEASURED_BYTES_MAX,
            ready: VecDeque::new(),
            judge: None,
            prepared: PreparedStore::default(),
            counters: Counters::default(),
        }
    }

    /// What judges windows, and where prepared transactions wait.
    pub(crate) fn with(mut self, judge: Option<Judge>, prepared: PreparedStore) -> Assembler {
        (self.judge, self.prepared) = (judge, prepared);
        self
    }

    pub(crate) fn with_declared_types(mut self, wanted: bool) -> Assembler {
        self.declared_types = wanted;
        self
    }

    pub(crate) fn set_window_bytes(&mut self, bytes: usize) {
        self.window_bytes = bytes;
        self.unmeasured_bytes = bytes;
    }

    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Transactions before this position come again and are passed over.
    pub(crate) fn pass_over_upto(&mut self, scn: Scn) {
        self.skip.upto = Some(scn);
    }

    /// Where reading resumes after a loss: the end of the last whole transaction.
    pub(crate) fn resume_place(&self) -> Option<&Place> {
        self.boundary.as_ref()
    }

    pub(crate) fn executed(&self) -> Option<&GtidSet> {
        self.executed.as_ref()
    }

    pub(crate) fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// Forgets the transaction in hand, since its events come again from the resume place.
    /// `server`: who sends them, if that is another one now.
    pub(crate) fn rewind(&mut self, another: Option<Timeline>) -> Result<(), FetchError> {
        self.window.discard();
        self.open = None;
        self.interrupted = false;
        self.measuring = false;
        self.maps.clear();
        self.asking = None;
        self.place = None;
        let Some(timeline) = another else { return Ok(()) };
        if self.given.is_some() {
            return Err(self.lineage("the server changed within a transaction of which a part was delivered"));
        }
        self.cut();
        self.schemas.move_to(Arc::clone(&timeline.server));
        self.marked = Scn::ZERO;
        self.timeline = timeline;
        self.boundary = None;
        self.emitted = None;
        self.measured = None;
        Ok(())
    }

    /// Files: the next one begins. Servers say it with an artificial rotate event.
    pub(crate) fn begin_file(&mut self, file: BinlogName, offset: u64) -> Result<(), FetchError> {
        if let Some(place) = &self.place {
            let is_same = place.file == file;
            if place.file.base() != file.base() || (file.number < place.file.number) {
                let what = format!("the log went from {place} to {}", file.as_str());
                return Err(self.lineage(&what));
            }
            // A server repeats its own rotate event with an artificial one: nothing changes.
            if is_same && (offset == place.offset || self.open.is_some()) {
                return Ok(());
            }
            self.interrupted |= self.open.is_some();
        }
        self.place = Some(Place { file, offset });
        Ok(())
    }

    /// Takes one event in. `packed`: it comes out of a compressed transaction and stands nowhere in the file.
    pub(crate) fn push<'a>(&mut self, event: RawEvent<'a>, packed: bool) -> Result<Step<'a>, FetchError> {
        let counted = |c: &Counters| c.carried_events + c.declined_events + c.passed_events;
        let before = counted(&self.counters);
        self.counters.events += 1;
        let is_rows = kind::is_rows(event.header.kind);
        let step = self.take_in(event, packed);
        match &step {
            Ok(_) if is_rows => {}
            Ok(_) => self.counters.control_events += 1,
            Err(_) => self.counters.failed_events += u64::from(counted(&self.counters) == before),
        }
        step
    }

    fn take_in<'a>(&mut self, event: RawEvent<'a>, packed: bool) -> Result<Step<'a>, FetchError> {
        if packed {
            return self.dispatch(event);
        }
        self.counters.bytes += u64::from(event.header.size);
        match event.header.kind {
            kind::ROTATE => self.rotate(&event)?,
            kind::HEARTBEAT | kind::HEARTBEAT_V2 => self.heartbeat(&event)?,
            _ => {
                self.advance(&event.header)?;
                return self.dispatch(event);
            }
        }
        Ok(Step::Next)
    }

    /// Counts the event's bytes, and compares with what its header says modulo 2^32.
    fn advance(&mut self, header: &Header) -> Result<(), FetchError> {
        let between = self.open.is_none();
        if header.is_artificial() || (header.log_pos == 0 && between) {
            return Ok(());
        }
        let Some(place) = &mut self.place else {
            return Err(self.damaged("an event comes before the name of its file"));
        };
        let end = place.offset.saturating_add(u64::from(header.size));
        let told = Place::offset_of(header.log_pos, end);
        if header.log_pos == 0 || told == end {
            place.offset = end;
        } else if between && self.live {
            // A server passes over transactions that this reader has.
            place.offset = told;
        } else {
            let what = format!("an event ends at {end} where its header says {} modulo 2^32", header.log_pos);
            return Err(self.damaged(&what));
        }
        Ok(())
    }

    fn rotate(&mut self, event: &RawEvent<'_>) -> Result<(), FetchError> {
        let rotate = Rotate::read(event.body).map_err(|m| self.malformed(m))?;
        let Some(file) = BinlogName::parse(rotate.file) else {
            return Err(self.damaged(&format!("`{}` is no name of a binlog file", rotate.file)));
        };
        if event.header.is_artificial() {
            return self.begin_file(file, rotate.offset);
        }
        self.advance(&event.header)?;
        if self.open.is_some() {
            return Err(self.damaged("a file ends within a transaction"));
        }
        self.begin_file(file, rotate.offset)
    }

    /// An idle server tells where it stands: readers follow.
    fn heartbeat(&mut self, event: &RawEvent<'_>) -> Result<(), FetchError> {
        let heartbeat = match event.header.kind {
            kind::HEARTBEAT_V2 => Heartbeat::read_v2(event.body),
            _ => Heartbeat::read(event.body),
        };
        let heartbeat = heartbeat.map_err(|m| self.malformed(m))?;
        let log_pos = event.header.log_pos;
        if self.open.is_some() || (heartbeat.offset.is_none() && log_pos == 0) {
            return Ok(());
        }
        if let Some(place) = self.place.as_mut().filter(|place| place.file.as_str() == heartbeat.file) {
            place.offset = match heartbeat.offset {
                Some(offset) => place.offset.max(offset),
                None => Place::offset_of(log_pos, place.offset),
            };
            self.settle_at_place()?;
            self.tell_place();
        }
        Ok(())
    }

    fn dispatch<'a>(&mut self, event: RawEvent<'a>) -> Result<Step<'a>, FetchError> {
        let RawEvent { header, body } = event;
        match header.kind {
            kind::FORMAT_DESCRIPTION => self.format_description(body)?,
            kind::GTID | kind::ANONYMOUS_GTID | kind::GTID_TAGGED | kind::MARIADB_GTID => {
                self.begin(&header, body)?
            }
            kind::PREVIOUS_GTIDS | kind::GTID_LIST => self.history(&header, body)?,
            kind::STOP | kind::BINLOG_CHECKPOINT | kind::TRANSACTION_CONTEXT => self.settle_at_place()?,
            kind::START_ENCRYPTION if self.live => {}
            kind::START_ENCRYPTION => {
                return Err(
                    self.undecodable("the file is encrypted; read it from the server, which decrypts it")
                );
            }
            kind::INTVAR
            | kind::RAND
            | kind::USER_VAR
            | kind::ROWS_QUERY
            | kind::ANNOTATE_ROWS
            | kind::IGNORABLE => {}
            kind::INCIDENT => {
                return Err(self.undecodable(
                    "the server says that its log lost events here; clone the tables again and start after this place",
                ));
            }
            // Only a type that we do not know may be passed over: a known one that says so out of turn is damage.
            unknown if self.open.is_none() && header.is_ignorable() && !kind::is_of_transactions(unknown) => {
            }
            _ => return self.within(event),
        }
        Ok(Step::Next)
    }

    /// The events of a transaction.
    fn within<'a>(&mut self, event: RawEvent<'a>) -> Result<Step<'a>, FetchError> {
        let RawEvent { header, body } = event;
        if self.open.is_none() {
            return Err(
                self.damaged(&format!("an event of type {} stands outside a transaction", header.kind))
            );
        }
        match header.kind {
            kind::QUERY | kind::QUERY_COMPRESSED => return self.query(&header, body),
            kind::XID => return self.commit_rows(),
            kind::TABLE_MAP => return self.table_map(body),
            // The lines of a file that a statement loads, or the file's end without one.
            kind::BEGIN_LOAD_QUERY | kind::APPEND_BLOCK | kind::DELETE_FILE => {}
            kind::EXECUTE_LOAD_QUERY => return Err(self.load_query(body)),
            kind::WRITE_ROWS_V1..=kind::DELETE_ROWS_V1
            | kind::WRITE_ROWS..=kind::DELETE_ROWS
            | kind::PARTIAL_UPDATE_ROWS
            | kind::WRITE_ROWS_COMPRESSED..=kind::DELETE_ROWS_COMPRESSED => self.rows(&header, body)?,
            kind::TRANSACTION_PAYLOAD => {
                self.expect(OpenState::Announced, "a compressed transaction")?;
                self.set_state(OpenState::Packed);
                return Ok(Step::Unpack(body));
            }
            kind::XA_PREPARE => return self.xa_prepare(body),
            kind::VIEW_CHANGE => {}
            _ if header.is_ignorable() => {}
            unknown => {
                return Err(self.undecodable(&format!(
                    "this release does not know events of type {unknown}, which may not be skipped"
                )));
            }
        }
        Ok(Step::Next)
    }

    fn format_description(&mut self, body: &[u8]) -> Result<(), FetchError> {
        let description = FormatDescription::read(body).map_err(|m| self.malformed(m))?;
        if std::mem::take(&mut self.interrupted) {
            // A server that starts anew never finished what its last file ends with.
            if description.created == 0 {
                return Err(self.damaged("a file ends within a transaction and the server had not crashed"));
            }
            if self.given.is_some() {
                return Err(
                    self.damaged("a transaction of which a part was delivered ended with the server's crash")
                );
            }
            tracing::warn!(source = %self.source, "the server crashed within a transaction, which never committed");
            self.window.discard();
            self.open = None;
            self.measuring = false;
        }
        if description.flavour != self.flavour && self.executed.is_some() {
            return Err(self.lineage("the log goes on as one of the other family of servers"));
        }
        self.flavour = description.flavour;
        self.maps.clear();
        self.settle_at_place()
    }

    /// The set that was executed before the file began: it only counts where we do not know better.
    fn history(&mut self, header: &Header, body: &[u8]) -> Result<(), FetchError> {
        if self.executed.is_none() && !header.is_artificial() {
            let set = read_set(self.flavour, body).map_err(|m| self.malformed(m))?;
            self.executed = Some(set);
            self.executed_text = None;
        }
        self.settle_at_place()
    }

    /// A place between two transactions is as good to resume at as the end of one.
    fn settle_at_place(&mut self) -> Result<(), FetchError> {
        if self.open.is_some() {
            return Ok(());
        }
        if let Some(place) = self.place.clone() {
            self.scn(&place)?;
            self.settle_at(place);
        }
        Ok(())
    }

    /// The boundary never goes back: a server may begin far before what this reader still needs.
    fn settle_at(&mut self, place: Place) {
        let boundary = self.boundary.as_ref().and_then(Place::scn);
        if place.scn() > boundary {
            self.boundary = Some(place);
        }
    }

    fn set_state(&mut self, state: OpenState) {
        self.open.as_mut().expect("the caller has checked that a transaction is open").state = state;
    }

    fn expect(&self, state: OpenState, what: &str) -> Result<(), FetchError> {
        match &self.open {
            Some(open) if open.state == state => Ok(()),
            _ => Err(self.damaged(&format!("{what} comes out of turn"))),
        }
    }

    /// The payload of a compressed transaction is used up.
    pub(crate) fn end_payload(&mut self) -> Result<(), FetchError> {
        match self.open {
            None => Ok(()),
            Some(_) => Err(self.damaged("a compressed transaction ends without its commit")),
        }
    }

    /// Files: the last one ended. A transaction that is open is not complete.
    pub(crate) fn is_within_transaction(&self) -> bool {
        self.open.is_some()
    }

    fn place(&self) -> Result<&Place, FetchError> {
        self.place.as_ref().ok_or_else(|| self.damaged("a transaction comes before the name of its file"))
    }

    fn scn(&self, place: &Place) -> Result<Scn, FetchError> {
        place.scn().ok_or_else(|| {
            self.damaged(
                "the number of the file exceeds 24 bits, or its size 40 bits; reset the server's binlog",
            )
        })
    }
}
