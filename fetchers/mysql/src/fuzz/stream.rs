//! A whole log through the assembler, as the fetcher drives it: any events in any order give windows that hold together,
//! or an error. Read in one piece and in fragments, the same transactions come out.
//!
//! The input: a byte of settings, then events: type, control, length of the body (two bytes, little-endian), body. Sizes
//! and positions are put in, so that the fuzzer need not find them.

use std::sync::Arc;

use tidemill_event::{Decoded, SchemaSet, TableSchema, Timeline, Window, decode, encode_window};
use tidemill_fetchers_api::FetchError;

use crate::assemble::{Assembler, Origin, Skip, Step};
use crate::event::{Flavour, HEADER_BYTES, Header, RawEvent, Rotate, kind};
use crate::fuzz::{flavour, policy, unpacks_to_little};
use crate::gtid::parse_set;
use crate::place::{BinlogName, Place};
use crate::schema::{Answer, Schemas};
use crate::transport::Payload;

const LIVE: u8 = 2;
const KNOWS_ITS_PAST: u8 = 4;
const SKIPS: u8 = 8;

const ARTIFICIAL: u8 = 1;
const IGNORABLE: u8 = 2;
const NO_POSITION: u8 = 4;
const WRONG_POSITION: u8 = 8;

/// One event of the input.
#[derive(Clone, Copy)]
struct Given<'a> {
    kind: u8,
    control: u8,
    body: &'a [u8],
}

/// What a transaction was, whichever windows it came in.
#[derive(Debug, PartialEq)]
struct Seen {
    gtid: String,
    scn: u64,
    changes: u64,
}

struct Reader<'a> {
    assembler: Assembler,
    events: &'a [Given<'a>],
    /// Where each event that was pushed stands.
    places: Vec<(String, u64)>,
    place: (String, u64),
    windows: Vec<Window>,
}

pub(super) fn run(data: &[u8]) {
    let Some((settings, data)) = data.split_first() else { return };
    let events = events(data);
    let whole = Reader::new(*settings, &events, None).read();
    let parts = Reader::new(*settings, &events, Some(64)).read();
    check(&whole);
    check(&parts);
    for (a, b) in seen(&whole).iter().zip(&seen(&parts)) {
        assert_eq!(a, b, "the size of windows changes no transaction");
    }
}

fn events(mut data: &[u8]) -> Vec<Given<'_>> {
    let mut events = Vec::new();
    while let [kind, control, low, high, rest @ ..] = data {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (body, rest) = rest.split_at(length);
        events.push(Given { kind: *kind, control: *control, body });
        data = rest;
    }
    events
}

fn origin(settings: u8) -> (Origin, Flavour) {
    let flavour = flavour(settings);
    let empty = parse_set(flavour, "").expect("nothing is the empty set");
    let skip = Skip { before_us: (settings & SKIPS != 0).then_some(1_000_000), ..Skip::default() };
    let timeline = Timeline { number: 1, server: "server".into() };
    let schemas = Schemas::open(None, timeline.server.clone()).expect("nothing is opened");
    let origin = Origin {
        source: "fuzz".into(),
        timeline,
        after: None,
        executed: (settings & KNOWS_ITS_PAST != 0).then_some(empty),
        skip,
        live: settings & LIVE != 0,
        schemas,
        lower_case_names: false,
    };
    (origin, flavour)
}

impl<'a> Reader<'a> {
    fn new(settings: u8, events: &'a [Given<'a>], window_bytes: Option<usize>) -> Reader<'a> {
        let (origin, flavour) = origin(settings);
        let selector = Arc::new(|schema: &Arc<TableSchema>| Ok(schema.name().table != "declined"));
        let mut assembler = Assembler::new(origin, selector, policy(settings), flavour);
        if let Some(bytes) = window_bytes {
            assembler.set_window_bytes(bytes);
        }
        let place = ("binlog.000001".to_owned(), Place::FIRST_OFFSET);
        Reader { assembler, events, places: Vec::new(), place, windows: Vec::new() }
    }

    /// Everything up to the end or the first error.
    fn read(mut self) -> Vec<Window> {
        // A log that is to be read again and again never ends.
        for _ in 0..=self.events.len() {
            match self.pass() {
                Ok(true) => {}
                Ok(false) | Err(_) => break,
            }
        }
        let _ = self.assembler.rewind(None);
        self.assembler.cut();
        self.assembler.cut_silence(1);
        self.take();
        if let Err(unbalanced) = self.assembler.count().check() {
            panic!("{unbalanced}");
        }
        self.windows
    }

    fn take(&mut self) {
        while let Ok(Some(window)) = self.assembler.ready() {
            self.windows.push(window);
        }
    }

    /// Reads on from the resume place; true where the log is to be read again from there.
    fn pass(&mut self) -> Result<bool, FetchError> {
        let resume = self.assembler.resume_place().map(|p| (p.file.as_str().to_owned(), p.offset));
        let from = match resume {
            None => 0,
            Some(place) => match self.places.iter().position(|p| *p == place) {
                Some(at) => {
                    self.place = place;
                    at
                }
                None => return Ok(false),
            },
        };
        self.places.truncate(from);
        self.assembler.rewind(None)?;
        let file = BinlogName::parse(&self.place.0).expect("only names of files are places");
        self.assembler.begin_file(file, self.place.1)?;
        for given in &self.events[from..] {
            self.places.push(self.place.clone());
            if self.event(*given)? {
                return Ok(true);
            }
            self.take();
        }
        Ok(false)
    }

    fn event(&mut self, given: Given<'_>) -> Result<bool, FetchError> {
        let size = (HEADER_BYTES + given.body.len()) as u32;
        let artificial = given.control & ARTIFICIAL != 0;
        if !artificial {
            self.place.1 = self.place.1.saturating_add(u64::from(size));
        }
        let log_pos = match given.control {
            c if c & NO_POSITION != 0 => 0,
            c if c & WRONG_POSITION != 0 => (self.place.1 as u32).wrapping_add(1000),
            _ => self.place.1 as u32,
        };
        let flags = u16::from(artificial) * 0x20 + u16::from(given.control & IGNORABLE != 0) * 0x80;
        let header = Header { timestamp: 1, kind: given.kind, server_id: 1, size, log_pos, flags };
        let again = match self.assembler.push(RawEvent { header, body: given.body }, false)? {
            Step::Next => false,
            Step::Again => true,
            Step::Ask => {
                self.assembler.answer(Answer::Unknown)?;
                false
            }
            Step::Unpack(body) => self.unpack(body)?,
        };
        if let (kind::ROTATE, Ok(rotate)) = (given.kind, Rotate::read(given.body)) {
            self.place = (rotate.file.to_owned(), rotate.offset);
        }
        Ok(again)
    }

    fn unpack(&mut self, body: &[u8]) -> Result<bool, FetchError> {
        if !unpacks_to_little(body) {
            return Err(self.assembler.damaged("too large for here"));
        }
        let mut payload = Payload::new(body).map_err(|m| self.assembler.malformed(m))?;
        while let Some(event) = payload.next().map_err(|m| self.assembler.malformed(m))? {
            match self.assembler.push(event, true)? {
                Step::Again => return Ok(true),
                Step::Ask => self.assembler.answer(Answer::Unknown)?,
                _ => {}
            }
        }
        self.assembler.end_payload()?;
        Ok(false)
    }
}

/// Every window holds together, follows the one before, and survives its frame.
fn check(windows: &[Window]) {
    for pair in windows.windows(2) {
        assert_eq!(pair[0].span.upto, pair[1].span.after, "a window follows the one before");
    }
    let mut schemas = SchemaSet::default();
    for window in windows {
        window.validate().expect("a window holds together");
        for table in &window.tables {
            schemas.insert(Arc::clone(&table.schema));
        }
        let frame = encode_window(window).expect("a window has a frame");
        match decode(&frame, &schemas) {
            Ok(Decoded::Window(again)) => assert_eq!(again.transactions, window.transactions),
            _ => panic!("a window's frame is a window"),
        }
    }
}

fn seen(windows: &[Window]) -> Vec<Seen> {
    let mut all: Vec<Seen> = Vec::new();
    for transaction in windows.iter().flat_map(|window| &window.transactions) {
        let changes = u64::from(transaction.change_count);
        match all.last_mut().filter(|last| last.scn == transaction.scn.0) {
            Some(last) => last.changes += changes,
            None => all.push(Seen { gtid: transaction.gtid.clone(), scn: transaction.scn.0, changes }),
        }
    }
    // What an error cut off in its midst is no transaction.
    let is_whole = |w: &Window| w.transactions.last().is_none_or(|t| t.part.completes());
    if !windows.iter().rev().find(|w| !w.transactions.is_empty()).is_none_or(is_whole) {
        all.pop();
    }
    all
}
