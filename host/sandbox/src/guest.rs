//! One configured guest that is called synchronously: a filter, a projection or a policy. Its instance is made
//! when it is needed, reused, and replaced after a trap; what it answers is told apart from how it can end.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use wasmtime::component::{Component, ComponentNamedList, Instance, Lift, Lower, TypedFunc};
use wasmtime::{Store, WasmBacktrace};

use crate::abi::{self, VERSION};
use crate::effects::HostFailed;
use crate::error::{Answer, At, Ending, GuestEnd, GuestError, LimitHit, Trap};
use crate::grant;
use crate::limits::{Limits, MEMORY_BYTES_MAX};
use crate::module::{Kind, Module};
use crate::store::{Counters, HostState, store};

/// How a guest is configured. Its `Debug` leaves the guest's own configuration out: it may hold secrets.
#[derive(Clone)]
pub struct GuestConfig {
    /// The name of the source whose tables it will see.
    pub source: String,
    /// Its own configuration, as JSON.
    pub json: String,
    /// What it may take.
    pub limits: Limits,
}

impl GuestConfig {
    /// A guest on that source with that configuration and the default limits of a pure guest.
    pub fn new(source: impl Into<String>, json: impl Into<String>) -> GuestConfig {
        GuestConfig { source: source.into(), json: json.into(), limits: Limits::pure() }
    }
}

impl fmt::Debug for GuestConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let GuestConfig { source, limits, .. } = self;
        f.debug_struct("GuestConfig").field("source", source).field("limits", limits).finish_non_exhaustive()
    }
}

/// What a call gives: the engine's word, and within it the guest's.
pub(crate) type Answered<T> = wasmtime::Result<(Result<T, abi::Error>,)>;

/// The function that every guest has.
pub(crate) type Setup = TypedFunc<(&'static str,), (Result<abi::Info, abi::Error>,)>;

/// The exported functions of one kind of guest.
pub(crate) trait Calls: Sized {
    const KIND: Kind;
    fn find(exports: &mut Exports<'_>) -> wasmtime::Result<Self>;
}

/// Where exported functions are looked up.
pub(crate) struct Exports<'a> {
    pub(crate) component: &'a Component,
    pub(crate) instance: &'a Instance,
    pub(crate) store: &'a mut Store<HostState>,
}

impl Exports<'_> {
    /// The function of that name, if it has those types.
    pub(crate) fn func<P, R>(&mut self, interface: &str, name: &str) -> wasmtime::Result<TypedFunc<P, R>>
    where
        P: ComponentNamedList + Lower,
        R: ComponentNamedList + Lift,
    {
        let full = format!("tidemill:guest/{interface}@{VERSION}");
        let missing = || wasmtime::Error::msg(format!("{full} has no function {name}"));
        let interface = self.component.get_export_index(None, &full).ok_or_else(missing)?;
        let function = self.component.get_export_index(Some(&interface), name).ok_or_else(missing)?;
        self.instance.get_typed_func(&mut *self.store, function)
    }
}

/// One guest and, most of the time, its instance.
pub(crate) struct Guest<C> {
    pub(crate) module: Module,
    pub(crate) config: GuestConfig,
    pub(crate) counters: Counters,
    live: Option<Live<C>>,
}

/// An instance that has been set up.
pub(crate) struct Live<C> {
    pub(crate) store: Store<HostState>,
    pub(crate) calls: C,
    /// Ids of the tables that this instance has planned.
    planned: HashSet<u32>,
    bytes_at_start: usize,
}

impl<C: Calls> Guest<C> {
    /// The guest, set up once, so that a wrong configuration shows now.
    pub(crate) fn open(module: &Module, config: GuestConfig) -> Result<Guest<C>, GuestError> {
        let mut guest = Guest { module: module.clone(), config, counters: Counters::default(), live: None };
        let at = At::nowhere(&guest.config.source);
        check(module, C::KIND, &guest.config.limits, &at)?;
        guest.live(&at)?;
        Ok(guest)
    }

    /// Makes `attempt`, and if it ends in a trap or limit once more, on a fresh instance.
    pub(crate) fn twice<T>(
        &mut self,
        mut attempt: impl FnMut(&mut Self) -> Result<T, GuestError>,
    ) -> Result<T, GuestError> {
        match attempt(self) {
            Err(error) if error.end.ending() == Ending::TrapOrLimit => {
                tracing::warn!(%error, "the guest is called once more, on a fresh instance");
                attempt(self)
            }
            other => other,
        }
    }

    /// Plans a table in the present instance.
    pub(crate) fn plan<T>(
        &mut self,
        function: &'static str,
        id: u32,
        at: &At,
        call: impl FnOnce(&mut Live<C>) -> Answered<T>,
    ) -> Result<T, GuestError> {
        let plan = self.call(function, at, call)?;
        if let Some(live) = &mut self.live {
            live.planned.insert(id);
        }
        Ok(plan)
    }

    /// Plans a table again where a fresh instance has not yet: a pure guest plans it as before.
    pub(crate) fn plan_again<T: PartialEq>(
        &mut self,
        function: &'static str,
        id: u32,
        at: &At,
        before: &T,
        call: impl FnOnce(&mut Live<C>) -> Answered<T>,
    ) -> Result<(), GuestError> {
        if self.live(at)?.planned.contains(&id) || self.plan(function, id, at, call)? == *before {
            return Ok(());
        }
        let what = "it planned the same table in another way than before";
        Err(self.invalid(function, at, what.to_owned()))
    }

    /// One call, with its limits.
    pub(crate) fn call<T>(
        &mut self,
        function: &'static str,
        at: &At,
        call: impl FnOnce(&mut Live<C>) -> Answered<T>,
    ) -> Result<T, GuestError> {
        let limits = self.config.limits;
        let live = self.live(at)?;
        live.store.set_epoch_deadline(limits.ticks());
        live.store.data_mut().begin(function, at);
        let answered = call(live);
        let state = live.store.data_mut();
        let outgrown = outgrown(state, live.bytes_at_start);
        let counters = std::mem::take(&mut state.counters);
        let (answer, keep) = match answered {
            Ok((Ok(value),)) => (Ok(value), !outgrown),
            Ok((Err(answer),)) => (Err(GuestEnd::Error(answer.into())), true),
            Err(error) => (Err(ending(error, state, &limits)), false),
        };
        if !keep {
            self.live = None;
        }
        self.counters.merge(counters);
        answer.map_err(|end| self.failed(function, at, end))
    }

    /// An answer about rows is about rows of the batch.
    pub(crate) fn about_rows(&mut self, error: GuestError, count: usize, at: &At) -> GuestError {
        match &error.end {
            GuestEnd::Error(Answer::Rejected(rows)) if rows.iter().any(|row| row.row as usize >= count) => {
                let what = format!("it rejected a row that is not among the {count} of the batch");
                self.invalid(error.function, at, what)
            }
            _ => error,
        }
    }

    /// An answer that breaks the contract: the instance is not trusted any more.
    pub(crate) fn invalid(&mut self, function: &'static str, at: &At, what: String) -> GuestError {
        self.live = None;
        self.failed(function, at, GuestEnd::Invalid(what))
    }

    pub(crate) fn failed(&self, function: &'static str, at: &At, end: GuestEnd) -> GuestError {
        failed(&self.module, C::KIND, function, at, end)
    }

    fn live(&mut self, at: &At) -> Result<&mut Live<C>, GuestError> {
        if self.live.is_none() {
            self.live = Some(self.instantiate(at)?);
        }
        Ok(self.live.as_mut().expect("it was made just now"))
    }

    fn instantiate(&mut self, at: &At) -> Result<Live<C>, GuestError> {
        let (module, limits) = (&self.module.inner, &self.config.limits);
        let mut state = HostState::new(&module.name, limits, grant::context(&[]));
        state.begin("setup", at);
        let mut store = store(&module.shared.engine, limits, state);
        let made = instance::<C>(&self.module, &mut store);
        let (calls, setup) =
            made.map_err(|error| self.failed("setup", at, ending(error, store.data(), limits)))?;
        let answered = setup.call(&mut store, (&self.config.json,));
        self.counters.merge(std::mem::take(&mut store.data_mut().counters));
        match answered {
            Ok((Ok(info),)) => tracing::debug!(guest = &*module.name, info.name, info.version, "set up"),
            Ok((Err(answer),)) => return Err(self.failed("setup", at, GuestEnd::Error(answer.into()))),
            Err(error) => {
                let end = ending(error, store.data(), limits);
                return Err(self.failed("setup", at, end));
            }
        }
        let bytes_at_start = store.data().budget.bytes;
        Ok(Live { store, calls, planned: HashSet::new(), bytes_at_start })
    }
}

fn instance<C: Calls>(module: &Module, store: &mut Store<HostState>) -> wasmtime::Result<(C, Setup)> {
    let component = &module.inner.component;
    let instance = module.inner.shared.pure.instantiate(&mut *store, component)?;
    let mut exports = Exports { component, instance: &instance, store };
    Ok((C::find(&mut exports)?, exports.func("lifecycle", "setup")?))
}

/// Memory never shrinks: an instance that has grown past half its limit, and to twice what it began with, is
/// replaced before it reaches the limit.
pub(crate) fn outgrown(state: &HostState, bytes_at_start: usize) -> bool {
    let budget = &state.budget;
    budget.bytes > budget.bytes_max / 2 && budget.bytes > bytes_at_start * 2
}

/// Whether the module is what it is opened as, and can be given what it may take.
pub(crate) fn check(module: &Module, kind: Kind, limits: &Limits, at: &At) -> Result<(), GuestError> {
    let text = if !module.kinds().contains(&kind) {
        let is: Vec<String> = module.kinds().iter().map(Kind::to_string).collect();
        format!("the module is a {}, not a {kind}; name it where a {0} belongs", is.join(" and "))
    } else if limits.memory_bytes > MEMORY_BYTES_MAX {
        format!("its memory of {} bytes is more than {MEMORY_BYTES_MAX}; give it less", limits.memory_bytes)
    } else {
        return Ok(());
    };
    Err(failed(module, kind, "setup", at, GuestEnd::Error(Answer::Config(text))))
}

pub(crate) fn failed(
    module: &Module,
    kind: Kind,
    function: &'static str,
    at: &At,
    end: GuestEnd,
) -> GuestError {
    let guest = Arc::clone(&module.inner.name);
    GuestError { guest, kind, function, place: Box::new(at.place()), end }
}

/// What an error of the engine means.
pub(crate) fn ending(error: wasmtime::Error, state: &HostState, limits: &Limits) -> GuestEnd {
    if state.budget.exceeded {
        return GuestEnd::Limit(LimitHit::Memory(limits.memory_bytes));
    }
    if state.effects.as_ref().is_some_and(|effects| effects.overflowed()) {
        return GuestEnd::Limit(LimitHit::Effects(limits.effect_bytes));
    }
    let error = match error.downcast::<HostFailed>() {
        Ok(HostFailed(cause)) => return GuestEnd::HostFault(cause),
        Err(error) => error,
    };
    if error.is::<wasmtime::PoolConcurrencyLimitError>() {
        return GuestEnd::HostFault(error.into());
    }
    let trap = error.downcast_ref::<wasmtime::Trap>();
    if trap == Some(&wasmtime::Trap::Interrupt) {
        return GuestEnd::Limit(LimitHit::Time(limits.call_time));
    }
    let cause = error.root_cause().to_string();
    if cause.contains("fuel allocated for hostcalls") {
        return GuestEnd::Limit(LimitHit::Output(limits.output_bytes));
    }
    let backtrace = error.downcast_ref::<WasmBacktrace>();
    if trap.is_none() && backtrace.is_none() {
        return GuestEnd::Invalid(cause);
    }
    let stderr = String::from_utf8_lossy(&state.stderr.take()).into_owned();
    GuestEnd::Trap(Box::new(Trap { cause, backtrace: frames(backtrace), stderr }))
}

/// The functions of a backtrace, innermost first. Only its text has them with readable names.
fn frames(backtrace: Option<&WasmBacktrace>) -> Vec<String> {
    let Some(backtrace) = backtrace else { return vec![] };
    let text = backtrace.to_string();
    let names = text.lines().filter_map(|line| line.split_once(" - "));
    names.map(|(_, name)| name.trim().to_owned()).collect()
}
