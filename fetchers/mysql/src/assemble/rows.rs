//! Table maps and rows within a transaction: which table is decoded, and into which builder.

use std::collections::HashMap;

use tidemill_fetchers_api::FetchError;

use crate::assemble::{Assembler, OpenState, Step};
use crate::event::{Header, inflate_rows, kind};
use crate::limits::TABLE_MAPS_MAX;
use crate::schema::{Stored, Wanted, is_incomplete, may_hide_types};
use crate::table::{Layout, RowsEvent, TableMap, fault, table_id};

/// The server numbers a statement's tables anew; most maps are the same bytes as the last time.
#[derive(Debug)]
pub(super) struct TableMaps {
    /// By the server's number: the map's bytes and what follows from them.
    pub(super) known: HashMap<u64, (Vec<u8>, Target)>,
    /// The tables that the open transaction has named.
    pub(super) named: Vec<(u64, Target)>,
}

/// What becomes of a table's rows.
#[derive(Clone, Debug)]
pub(super) enum Target {
    Declined,
    /// Decoded, into this builder.
    Slot(usize),
    /// The first row stops the stream.
    Refused(std::sync::Arc<Refusal>),
}

/// Why a table's rows cannot be carried.
#[derive(Debug)]
pub(super) struct Refusal {
    layout: Layout,
    column: Option<usize>,
    why: String,
}

/// A table map that lacks what only the server knows.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) id: u64,
    pub(super) body: Vec<u8>,
    pub(super) map: TableMap,
    pub(super) wanted: Wanted,
}

impl TableMaps {
    pub(super) fn clear(&mut self) {
        self.known.clear();
        self.named.clear();
    }
}

impl Assembler {
    pub(super) fn table_map<'a>(&mut self, body: &[u8]) -> Result<Step<'a>, FetchError> {
        if self.open.as_ref().is_some_and(|open| open.skipped) {
            return Ok(Step::Next);
        }
        self.expect_rows()?;
        let id = table_id(body).map_err(|m| self.malformed(m))?;
        let target = match self.maps.known.get(&id) {
            Some((known, target)) if known == body => target.clone(),
            _ => match self.learn(id, body)? {
                Some(target) => target,
                None => return Ok(Step::Ask),
            },
        };
        self.name_table(id, target);
        Ok(Step::Next)
    }

    pub(super) fn name_table(&mut self, id: u64, target: Target) {
        match self.maps.named.iter_mut().find(|(named, _)| *named == id) {
            Some(entry) => entry.1 = target,
            None => self.maps.named.push((id, target)),
        }
    }

    /// What becomes of the table's rows; `None`: the server has to be asked first.
    fn learn(&mut self, id: u64, body: &[u8]) -> Result<Option<Target>, FetchError> {
        let mut map = TableMap::read(self.flavour, body).map_err(|m| self.malformed(m))?;
        let hides_types = self.declared_types && may_hide_types(self.flavour, &map);
        if (hides_types || is_incomplete(&map)) && !self.is_declined(&map) {
            let here = self.open.as_ref().expect("maps are within a transaction").start;
            match self.schemas.find(&map.name, here) {
                Stored::InForce(described) => self.complete(&described, &mut map)?,
                // Files cannot be asked: the first row stops the stream.
                _ if !self.live && hides_types => return Ok(Some(self.refuse(id, body, &map))),
                _ if !self.live => {}
                stored => {
                    let unproven = if let Stored::Unproven(scn) = stored { Some(scn) } else { None };
                    return self.ask(id, body, map, unproven).map(|()| None);
                }
            }
        }
        Ok(Some(self.target(id, body, &map)))
    }

    fn is_declined(&self, map: &TableMap) -> bool {
        // Without names the judge may not know; then it is asked again with them.
        matches!((self.selector)(&Layout::new(self.flavour, map, self.values).schema), Ok(false))
    }

    /// Of a table whose types files cannot tell.
    fn refuse(&mut self, id: u64, body: &[u8], map: &TableMap) -> Target {
        const WHY: &str = "the log does not name the types of its columns, and files cannot be asked for them; read the server, or \
                           leave declared_types out to have the bytes";
        let layout = Layout::new(self.flavour, map, self.values);
        self.know(id, body, Target::Refused(Refusal { layout, column: None, why: WHY.to_owned() }.into()))
    }

    pub(super) fn target(&mut self, id: u64, body: &[u8], map: &TableMap) -> Target {
        let layout = Layout::new(self.flavour, map, self.values);
        let target = match ((self.selector)(&layout.schema), layout.refusal.clone()) {
            (Ok(false), _) => Target::Declined,
            (Ok(true), None) => Target::Slot(self.window.slot(&layout)),
            (Ok(true), Some((column, why))) => Target::Refused(Refusal { layout, column, why }.into()),
            (Err(why), _) => Target::Refused(Refusal { layout, column: None, why }.into()),
        };
        self.know(id, body, target)
    }

    fn know(&mut self, id: u64, body: &[u8], target: Target) -> Target {
        if self.maps.known.len() >= TABLE_MAPS_MAX {
            self.maps.known.clear();
        }
        self.maps.known.insert(id, (body.to_vec(), target.clone()));
        target
    }

    fn expect_rows(&self) -> Result<(), FetchError> {
        match self.open.as_ref().map(|open| open.state) {
            Some(OpenState::Rows | OpenState::XaRows) => Ok(()),
            _ => Err(self.damaged("rows come out of turn")),
        }
    }

    pub(super) fn rows(&mut self, header: &Header, body: &[u8]) -> Result<(), FetchError> {
        /// Ends a statement and names no table.
        const NO_TABLE: u64 = 0xff_ffff;
        self.expect_rows()?;
        if self.is_void() {
            self.counters.passed_events += 1;
            return Ok(());
        }
        let id = RowsEvent::table_of(body).map_err(|m| self.malformed(m))?;
        let target = self.maps.named.iter().find(|(named, _)| *named == id).map(|(_, target)| target);
        let slot = match target {
            Some(Target::Slot(slot)) => *slot,
            Some(Target::Declined) => {
                self.counters.declined_events += 1;
                return Ok(());
            }
            Some(Target::Refused(refusal)) => {
                let Refusal { layout, column, why } = &**refusal;
                return Err(fault::unreadable(&layout.schema, *column, self.place_text(), why.clone()));
            }
            None if id == NO_TABLE => {
                self.counters.passed_events += 1;
                return Ok(());
            }
            None => return Err(self.damaged("rows name a table that no table map names")),
        };
        self.decode(slot, header, body)?;
        self.counters.carried_events += 1;
        self.cut_full()
    }

    /// Numbers a rows event, and says whether its rows are not to be seen: of a transaction that is skipped or only
    /// measured, or of a part of it that is known to be rolled back.
    fn is_void(&mut self) -> bool {
        let open = self.open.as_mut().expect("rows are within a transaction");
        let number = open.rows_events;
        open.rows_events += 1;
        let is_rolled_back = open.is_measured && open.voids.iter().any(|void| void.contains(&number));
        self.measuring || open.skipped || is_rolled_back
    }

    fn decode(&mut self, slot: usize, header: &Header, body: &[u8]) -> Result<(), FetchError> {
        let inflated;
        let body = match header.kind {
            kind::WRITE_ROWS_COMPRESSED..=kind::DELETE_ROWS_COMPRESSED => {
                let is_update = header.kind == kind::UPDATE_ROWS_COMPRESSED;
                inflated = inflate_rows(body, is_update).map_err(|m| self.malformed(m))?;
                &inflated
            }
            _ => body,
        };
        let event = RowsEvent::read(header.kind, body).map_err(|m| self.malformed(m))?;
        let changes = match self.window.rows(slot, &event, body.len()) {
            Ok(changes) => changes,
            Err(error) => return Err(fault::of_row(self.window.schema(slot), error, self.place_text())),
        };
        self.counters.changes += u64::from(changes);
        self.pass_over_repeated(changes)
    }

    /// After a loss in the midst of a transaction, what was given before comes again.
    pub(super) fn pass_over_repeated(&mut self, changes: u32) -> Result<(), FetchError> {
        let open = self.open.as_mut().expect("rows are within a transaction");
        if open.given >= open.repeat {
            return Ok(());
        }
        open.given += u64::from(changes);
        if open.given > open.repeat {
            return Err(self.damaged("a transaction has other rows events than when it was read before"));
        }
        self.window.discard();
        Ok(())
    }
}
