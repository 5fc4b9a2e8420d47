//! Tables whose map names no columns, or not their types: their definitions come from the store, or from the server by way of the caller.

use tidemill_event::Scn;
use tidemill_fetchers_api::{FetchError, Undecodable};

use crate::assemble::Assembler;
use crate::assemble::rows::Asking;
use crate::ddl::Definition;
use crate::limits::SCHEMA_MARK_BYTES;
use crate::schema::{Answer, Described, Misfit, Wanted, is_incomplete};
use crate::table::TableMap;

const NO_NAMES: &str = "the log does not name the columns";
const NO_TYPES: &str = "the log does not name the types of the columns, which declared_types asks for";
const REPAIR_NAMES: &str =
    "run SET GLOBAL binlog_row_metadata = FULL, then clone the table again and start after that";
const REPAIR_TYPES: &str =
    "clone the table again and start after that, or leave declared_types out to have the bytes";

impl Assembler {
    /// What the server is to be asked for.
    pub(crate) fn wanted(&self) -> Option<&Wanted> {
        self.asking.as_ref().map(|asking| &asking.wanted)
    }

    pub(super) fn ask(
        &mut self,
        id: u64,
        body: &[u8],
        map: TableMap,
        unproven: Option<Scn>,
    ) -> Result<(), FetchError> {
        let server = std::sync::Arc::clone(&self.timeline.server);
        // The boundary is where the transaction begins: no definition lies between it and the map.
        let here = self.boundary.clone().ok_or_else(|| self.damaged("rows come before any transaction"))?;
        let wanted = Wanted { table: map.name.clone(), server, here, unproven };
        self.asking = Some(Asking { id, body: body.to_vec(), map, wanted });
        Ok(())
    }

    /// Takes the server's answer, and with it the table map that waited for it.
    pub(crate) fn answer(&mut self, answer: Answer) -> Result<(), FetchError> {
        let Some(Asking { id, body, mut map, wanted }) = self.asking.take() else { return Ok(()) };
        let here = wanted.here.scn().unwrap_or_default();
        let described = match answer {
            Answer::StillInForce => {
                self.schemas.prove(&map.name, here)?;
                match self.schemas.find(&map.name, here) {
                    crate::schema::Stored::InForce(described) => described,
                    _ => return Err(self.damaged("a definition that was in force is gone")),
                }
            }
            Answer::Described(described, proven) => {
                // What does not fit is not kept.
                self.complete(&described, &mut map.clone())?;
                self.schemas.add(&map.name, here, proven, described)?
            }
            Answer::Changed(place, statement) => {
                return Err(self.undefined(
                    &map,
                    None,
                    format!(
                        "the definition that these rows have was changed since, at \
                         {place} ({statement}), so that the server has only a later one"
                    ),
                ));
            }
            Answer::Unknown => {
                return Err(self.undefined(
                    &map,
                    None,
                    "the server shows no such table to this account: it was dropped \
                     since, or the account may not SELECT from it (GRANT SELECT mends that)"
                        .to_owned(),
                ));
            }
        };
        self.complete(&described, &mut map)?;
        let target = self.target(id, &body, &map);
        self.name_table(id, target);
        Ok(())
    }

    pub(super) fn complete(&self, described: &Described, map: &mut TableMap) -> Result<(), FetchError> {
        described.complete(map).map_err(|Misfit { column, what }| {
            self.undefined(map, column, format!("the definition does not fit it: {what}"))
        })
    }

    fn undefined(&self, map: &TableMap, column: Option<String>, what: String) -> FetchError {
        let (lack, repair) =
            if is_incomplete(map) { (NO_NAMES, REPAIR_NAMES) } else { (NO_TYPES, REPAIR_TYPES) };
        FetchError::Undecodable(Box::new(Undecodable {
            table: Some(map.name.clone()),
            column,
            source_type: None,
            place: self.place_text(),
            why: format!("{lack}, and {what}; {repair}"),
        }))
    }

    /// A definition was read: what was known of its tables ends here.
    pub(super) fn close_schemas(&mut self, definition: &Definition) -> Result<(), FetchError> {
        self.maps.known.clear();
        let at = self.place()?.clone();
        let at = self.scn(&at)?;
        self.schemas.close(definition, at)
    }

    /// From time to time it is kept how far the log was read.
    pub(super) fn mark_schemas(&mut self, at: Scn) -> Result<(), FetchError> {
        if at.0.saturating_sub(self.marked.0) >= SCHEMA_MARK_BYTES {
            self.marked = at;
            self.schemas.mark(at)?;
        }
        Ok(())
    }
}
