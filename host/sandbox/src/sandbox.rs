//! The engine that all guests share, its clock, and its cache of compiled code.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tidemill_event::Remedy;
use wasmtime::component::Linker;
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::cache::Cache;
use crate::error::BoxError;
use crate::limits::{BACKTRACE_FRAMES_MAX, MEMORY_BYTES_MAX, TABLE_ELEMENTS_MAX, TICK};
use crate::link;
use crate::module::{self, Inner, Kind, LoadError, LoadReason, Module};
use crate::store::HostState;

/// Settings of the sandbox.
#[derive(Clone, Debug)]
pub struct SandboxConfig {
    /// Where compiled guests are kept: a directory of our own.
    pub cache_dir: PathBuf,
    /// Instances at one time. Their address space is reserved ahead, not their memory.
    pub instances_max: u32,
}

impl SandboxConfig {
    /// The defaults: 64 instances, four for each of sixteen subscriptions.
    pub fn new(cache_dir: impl Into<PathBuf>) -> SandboxConfig {
        SandboxConfig { cache_dir: cache_dir.into(), instances_max: 64 }
    }
}

/// A sandbox that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The directory of compiled guests.
    #[error("the guest cache directory {path} cannot be used; give another, writable by us alone")]
    Cache {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The engine.
    #[error("the WebAssembly engine does not start on this machine")]
    Engine(#[source] BoxError),
}

impl SandboxError {
    /// What now?
    pub fn remedy(&self) -> Remedy {
        Remedy::Fix
    }
}

/// Everything that guests share. Cheap to clone; the clock's thread ends with the last clone and module.
#[derive(Clone)]
pub struct Sandbox {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) engine: Engine,
    /// For filters, projections and policies; a consumer's linker depends on its grants.
    pub(crate) pure: Linker<HostState>,
    cache: Cache,
}

impl Sandbox {
    /// Starts the engine and its clock.
    pub fn new(config: SandboxConfig) -> Result<Sandbox, SandboxError> {
        let cache = open_cache(&config.cache_dir)?;
        let engine = engine(config.instances_max).map_err(|e| SandboxError::Engine(e.into()))?;
        start_clock(&engine).map_err(|e| SandboxError::Engine(e.into()))?;
        let pure = link::pure(&engine).map_err(|e| SandboxError::Engine(e.into()))?;
        Ok(Sandbox { shared: Arc::new(Shared { engine, pure, cache }) })
    }

    /// Compiles a guest, or takes it from the cache, and checks what it exports and imports. Compiling takes
    /// from a tenth of a second to half a minute of CPU: call this where blocking is allowed.
    pub fn load(&self, name: &str, wasm: &[u8]) -> Result<Module, LoadError> {
        let loaded = self.load_reason(name, wasm);
        loaded.map_err(|reason| LoadError { guest: name.to_owned(), reason })
    }

    fn load_reason(&self, name: &str, wasm: &[u8]) -> Result<Module, LoadReason> {
        module::check_preamble(wasm)?;
        let Shared { engine, pure, cache } = &*self.shared;
        let hash: [u8; 32] = Sha256::digest(wasm).into();
        let component =
            cache.component(engine, wasm, &hash).map_err(|e| LoadReason::Damaged(first_line(&e)))?;
        let ty = component.component_type();
        let kinds = module::kinds(&ty, engine)?;
        module::check_imports(&ty, engine, &kinds)?;
        let types = |e: wasmtime::Error| LoadReason::Types(first_line(&e));
        if kinds.contains(&Kind::Consumer) {
            link::consumer(engine, &[]).and_then(|l| l.instantiate_pre(&component)).map_err(types)?;
        } else {
            pure.instantiate_pre(&component).map_err(types)?;
        }
        let shared = Arc::clone(&self.shared);
        Ok(Module { inner: Arc::new(Inner { shared, name: name.into(), component, kinds, hash }) })
    }
}

/// The chain of an error of the engine, without backtraces and offsets of later lines.
fn first_line(error: &wasmtime::Error) -> String {
    let mut parts: Vec<String> = vec![];
    for cause in error.chain() {
        parts.extend(cause.to_string().lines().next().map(str::to_owned));
    }
    parts.join(": ")
}

fn open_cache(path: &Path) -> Result<Cache, SandboxError> {
    Cache::open(path).map_err(|source| SandboxError::Cache { path: path.to_owned(), source })
}

fn engine(instances_max: u32) -> wasmtime::Result<Engine> {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(BACKTRACE_FRAMES_MAX))
        // A policy must give the same bytes in every replay.
        .cranelift_nan_canonicalization(true)
        .wasm_relaxed_simd(false)
        .wasm_memory64(false);
    let on_demand = config.clone();
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(instances_max)
        // Interpreted languages have up to three memories and eight core instances a component.
        .total_memories(3 * instances_max)
        .total_core_instances(8 * instances_max)
        .total_tables(8 * instances_max)
        .total_stacks(instances_max)
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_memory_size(MEMORY_BYTES_MAX);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config).or_else(|error| {
        // Small virtual machines and `ulimit -v` leave no address space for the pool.
        tracing::info!(%error, "no pool of instances on this machine; each is allocated by itself");
        Engine::new(&on_demand)
    })
}

/// One thread an engine moves its epoch, until nobody has the engine any more.
fn start_clock(engine: &Engine) -> std::io::Result<()> {
    let weak = engine.weak();
    let tick = move || {
        while let Some(engine) = weak.upgrade() {
            engine.increment_epoch();
            drop(engine);
            std::thread::sleep(TICK);
        }
    };
    std::thread::Builder::new().name("guest clock".into()).spawn(tick).map(drop)
}
