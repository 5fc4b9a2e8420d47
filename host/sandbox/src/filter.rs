//! A filter in the stream: asks the guest about every row image of a table that it has planned, and keeps what
//! it says. Ordinals, transactions and events stay, so a window can become empty but never loses its position.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_buffer::{BooleanBuffer, BooleanBufferBuilder};
use tidemill_event::{Phase, SchemaId, TableChanges, TableSchema, Window};
use wasmtime::component::TypedFunc;

use crate::abi::{self, Rows};
use crate::convert::{self, Lowered};
use crate::declined;
use crate::error::{At, GuestEnd, GuestError};
use crate::guest::{Answered, Calls, Exports, Guest, GuestConfig, Live};
use crate::module::{Kind, Module};
use crate::table::{self, Input, TableIds};

type Wanted = Option<Vec<u32>>;
type Plan = TypedFunc<(abi::TableDef<'static>,), (Result<Wanted, abi::Error>,)>;
type Keep = TypedFunc<(Rows<'static>,), (Result<Vec<u8>, abi::Error>,)>;

struct FilterCalls {
    plan: Plan,
    keep: Keep,
}

impl Calls for FilterCalls {
    const KIND: Kind = Kind::Filter;

    fn find(exports: &mut Exports<'_>) -> wasmtime::Result<Self> {
        let interface = Self::KIND.interface();
        Ok(FilterCalls { plan: exports.func(interface, "plan")?, keep: exports.func(interface, "keep")? })
    }
}

/// A filter, opened.
pub struct FilterStage {
    guest: Guest<FilterCalls>,
    source: Arc<str>,
    ids: TableIds,
    plans: HashMap<SchemaId, Arc<Wanted>>,
}

impl FilterStage {
    /// Sets the guest up: a wrong configuration shows here.
    pub fn open(module: &Module, config: GuestConfig) -> Result<FilterStage, GuestError> {
        let source = config.source.as_str().into();
        let guest = Guest::open(module, config)?;
        Ok(FilterStage { guest, source, ids: TableIds::default(), plans: HashMap::new() })
    }

    /// The window with the rows that the guest keeps. A lone `−U` of what was an update is a delete, a lone
    /// `+U` an insert; they stay as they are.
    ///
    /// In deltas a row that the guest declines becomes a delete, see `declined`.
    pub fn apply(&mut self, mut window: Window) -> Result<Window, GuestError> {
        let at = At::window(&window);
        let is_deltas = matches!(window.phase, Phase::Deltas(_));
        let mut tables = Vec::with_capacity(window.tables.len());
        for changes in window.tables {
            tables.extend(self.table(changes, is_deltas, &at)?);
        }
        window.tables = tables;
        Ok(window)
    }

    /// What the guest has counted since the last time.
    pub fn take_counters(&mut self) -> Vec<(String, u64)> {
        self.guest.counters.take()
    }

    fn table(
        &mut self,
        changes: TableChanges,
        is_deltas: bool,
        at: &At,
    ) -> Result<Option<TableChanges>, GuestError> {
        let at = at.table(&changes.schema);
        let plan = self.plan(&changes.schema, &at)?;
        let Some(wanted) = &*plan else { return Ok(Some(changes)) };
        let by_key = declined::is_of_key(&changes.schema, wanted);
        declined::keep(changes, is_deltas, by_key, |rows| self.judged(rows, &plan, wanted, &at))
    }

    /// The bits of all rows; `None`: all of them are kept.
    fn judged(
        &mut self,
        changes: &TableChanges,
        plan: &Wanted,
        wanted: &[u32],
        at: &At,
    ) -> Result<Option<BooleanBuffer>, GuestError> {
        let columns: Vec<&ArrayRef> = wanted.iter().map(|c| changes.rows.column(*c as usize)).collect();
        let rows = changes.rows.num_rows();
        let ranges = convert::cut(&columns, rows, &self.guest.config.limits)
            .map_err(|limit| self.guest.failed("keep", at, GuestEnd::Limit(limit)))?;
        if let [_] = ranges.as_slice() {
            return self.keep(changes, plan, wanted, 0..rows, at);
        }
        let mut kept = BooleanBufferBuilder::new(rows);
        for range in ranges {
            match self.keep(changes, plan, wanted, range.clone(), at)? {
                None => kept.append_n(range.len(), true),
                Some(bits) => kept.append_buffer(&bits),
            }
        }
        Ok(Some(kept.finish()))
    }

    /// The columns that `keep` needs, asked for once a schema.
    fn plan(&mut self, schema: &Arc<TableSchema>, at: &At) -> Result<Arc<Wanted>, GuestError> {
        if let Some(plan) = self.plans.get(&schema.id()) {
            return Ok(Arc::clone(plan));
        }
        let (id, source) = (self.ids.of(schema), &self.source);
        let wanted =
            self.guest.twice(|guest| guest.plan("plan", id, at, |live| ask(live, id, source, schema)))?;
        if let Some(wanted) = &wanted {
            table::check_ordinals(wanted, schema)
                .map_err(|what| self.guest.invalid("plan", at, format!("its plan {what}")))?;
        }
        let wanted = Arc::new(wanted);
        self.plans.insert(schema.id(), Arc::clone(&wanted));
        Ok(wanted)
    }

    /// The bits of some rows; `None`: all of them.
    fn keep(
        &mut self,
        changes: &TableChanges,
        plan: &Wanted,
        wanted: &[u32],
        range: Range<usize>,
        at: &At,
    ) -> Result<Option<BooleanBuffer>, GuestError> {
        let input = Input::of(changes, wanted, range);
        let lowered = input.lower();
        let columns: Vec<abi::Column<'_>> = lowered.iter().map(Lowered::column).collect();
        let (id, count) = (self.ids.known(&changes.schema), input.rows);
        let rows = Rows { table: id, count: count as u32, columns: &columns };
        let source = &self.source;
        self.guest.twice(|guest| {
            guest.plan_again("plan", id, at, plan, |live| ask(live, id, source, &changes.schema))?;
            let bits = guest.call("keep", at, |live| live.calls.keep.call(&mut live.store, (rows,)));
            let bits = bits.map_err(|error| guest.about_rows(error, count, at))?;
            convert::lift_bitmap(bits, count)
                .map_err(|what| guest.invalid("keep", at, format!("it answered {what}")))
        })
    }
}

fn ask(live: &mut Live<FilterCalls>, id: u32, source: &str, schema: &TableSchema) -> Answered<Wanted> {
    let columns = convert::column_defs(schema);
    live.calls.plan.call(&mut live.store, (table::def(id, source, schema, &columns),))
}
