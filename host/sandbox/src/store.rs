//! What the host keeps for one instance: its budget, its streams, its counters, and for a consumer the effects
//! of the delivery in hand. Also the interface `host`, which every guest may call.

use std::collections::BTreeMap;
use std::sync::Arc;

use wasmtime::component::{Linker, ResourceTable};
use wasmtime::{Engine, ResourceLimiter, Store, StoreContextMut};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use crate::abi::{Level, VERSION};
use crate::effects::Effects;
use crate::error::At;
use crate::limits::{
    COUNTER_NAME_BYTES_MAX, COUNTERS_MAX, LOG_LINE_BYTES_MAX, LOG_LINES_MAX, Limits, MEMORIES_MAX,
    TABLE_ELEMENTS_MAX,
};
use crate::pipe::Pipe;

/// The state of one store.
pub(crate) struct HostState {
    pub(crate) wasi: WasiCtx,
    pub(crate) table: ResourceTable,
    /// Of the inert randomness.
    pub(crate) seed: u64,
    pub(crate) budget: Budget,
    pub(crate) stderr: Pipe,
    pub(crate) counters: Counters,
    /// Of a consumer.
    pub(crate) effects: Option<Effects>,
    guest: Arc<str>,
    function: &'static str,
    at: At,
    log_lines: u32,
}

/// The seed of everything random in a guest without the grant.
const SEED: u64 = 0x7469_6465_6d69_6c6c;

impl HostState {
    /// The state of a fresh instance. The builder brings what was granted.
    pub(crate) fn new(guest: &Arc<str>, limits: &Limits, mut wasi: WasiCtxBuilder) -> HostState {
        let stderr = Pipe::tail(limits.stderr_bytes);
        wasi.stderr(stderr.clone()).allow_tcp(false).allow_udp(false).allow_ip_name_lookup(false);
        HostState {
            wasi: wasi.build(),
            table: ResourceTable::new(),
            seed: SEED,
            budget: Budget { bytes: 0, bytes_max: limits.memory_bytes, exceeded: false },
            stderr,
            counters: Counters::default(),
            effects: None,
            guest: Arc::clone(guest),
            function: "setup",
            at: At::default(),
            log_lines: 0,
        }
    }

    /// Before each call.
    pub(crate) fn begin(&mut self, function: &'static str, at: &At) {
        self.function = function;
        self.at.clone_from(at);
        self.log_lines = 0;
    }

    fn log(&mut self, level: Level, message: &str) {
        self.log_lines += 1;
        if self.log_lines > LOG_LINES_MAX {
            self.counters.add("log_lines_dropped", 1);
            return;
        }
        let text = &message[..message.floor_char_boundary(LOG_LINE_BYTES_MAX)];
        let (guest, function, at) = (&*self.guest, self.function, self.at.place());
        match level {
            Level::Trace => tracing::trace!(guest, function, %at, "{text}"),
            Level::Debug => tracing::debug!(guest, function, %at, "{text}"),
            Level::Info => tracing::info!(guest, function, %at, "{text}"),
            Level::Warn => tracing::warn!(guest, function, %at, "{text}"),
            Level::Error => tracing::error!(guest, function, %at, "{text}"),
        }
    }
}

impl WasiView for HostState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// A fresh store with its limits set: nothing of a guest runs before this.
pub(crate) fn store(engine: &Engine, limits: &Limits, state: HostState) -> Store<HostState> {
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.budget);
    store.set_hostcall_fuel(limits.output_bytes);
    store.set_epoch_deadline(limits.ticks());
    store
}

/// Links the interface `host`.
pub(crate) fn link_host(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    let mut host = linker.instance(&format!("tidemill:guest/host@{VERSION}"))?;
    host.func_wrap("log", |mut store: StoreContextMut<'_, HostState>, (level, message): (Level, String)| {
        store.data_mut().log(level, &message);
        Ok(())
    })?;
    host.func_wrap("count", |mut store: StoreContextMut<'_, HostState>, (name, by): (String, u64)| {
        store.data_mut().counters.add(&name, by);
        Ok(())
    })
}

/// What a guest counts; becomes metrics under its name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters(BTreeMap<String, u64>);

impl Counters {
    pub(crate) fn add(&mut self, name: &str, by: u64) {
        if let Some(count) = self.0.get_mut(name) {
            *count = count.saturating_add(by);
        } else if self.0.len() < COUNTERS_MAX && name.len() <= COUNTER_NAME_BYTES_MAX {
            self.0.insert(name.to_owned(), by);
        }
    }

    pub(crate) fn merge(&mut self, other: Counters) {
        for (name, by) in other.0 {
            self.add(&name, by);
        }
    }

    pub(crate) fn take(&mut self) -> Vec<(String, u64)> {
        std::mem::take(&mut self.0).into_iter().collect()
    }
}

/// The memory of one instance, over all its linear memories.
#[derive(Debug)]
pub(crate) struct Budget {
    pub(crate) bytes: usize,
    pub(crate) bytes_max: usize,
    /// Why the instance was stopped, if it was stopped for this.
    pub(crate) exceeded: bool,
}

impl ResourceLimiter for Budget {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|max| desired > max) {
            return Ok(false);
        }
        let bytes = self.bytes.saturating_sub(current).saturating_add(desired);
        if bytes > self.bytes_max {
            self.exceeded = true;
            return Err(wasmtime::Error::msg("the limit of memory is reached"));
        }
        self.bytes = bytes;
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS_MAX)
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX
    }
}
