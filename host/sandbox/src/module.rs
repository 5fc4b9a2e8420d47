//! A loaded guest: compiled, and known to fit. What it is, its exports say; what it wants, its imports say.
//! Nothing of it has run yet.

use std::fmt;
use std::sync::Arc;

use tidemill_event::Remedy;
use wasmtime::component::Component;
use wasmtime::component::types::Component as ComponentType;

use crate::abi::VERSION;
use crate::error::BoxError;
use crate::sandbox::Shared;

/// What a guest can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Says which rows go on.
    Filter,
    /// Says what rows look like.
    Projection,
    /// Says what may be stored.
    Policy,
    /// Does something with the changes.
    Consumer,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 4] = [Kind::Filter, Kind::Projection, Kind::Policy, Kind::Consumer];

    /// The interface that makes a guest one of these.
    pub(crate) fn interface(self) -> &'static str {
        match self {
            Kind::Filter => "row-filter",
            Kind::Projection => "row-projection",
            Kind::Policy => "clone-policy",
            Kind::Consumer => "change-consumer",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Filter => "filter",
            Kind::Projection => "projection",
            Kind::Policy => "policy",
            Kind::Consumer => "consumer",
        })
    }
}

/// A guest that is ready to be opened. Cheap to clone.
#[derive(Clone)]
pub struct Module {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) shared: Arc<Shared>,
    pub(crate) name: Arc<str>,
    pub(crate) component: Component,
    pub(crate) kinds: Vec<Kind>,
    pub(crate) hash: [u8; 32],
}

impl Module {
    /// Its configured name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }
    /// What it can be opened as.
    pub fn kinds(&self) -> &[Kind] {
        &self.inner.kinds
    }
    /// The SHA-256 of its code.
    pub fn hash(&self) -> &[u8; 32] {
        &self.inner.hash
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module").field("name", &self.inner.name).field("kinds", &self.inner.kinds).finish()
    }
}

/// A guest that does not load.
#[derive(Debug, thiserror::Error)]
#[error("guest {guest:?}: {reason}")]
pub struct LoadError {
    /// Its configured name.
    pub guest: String,
    /// Why.
    #[source]
    pub reason: LoadReason,
}

impl LoadError {
    /// What now? A person gives another file.
    pub fn remedy(&self) -> Remedy {
        Remedy::Fix
    }
}

/// Why a guest does not load.
#[derive(Debug, thiserror::Error)]
pub enum LoadReason {
    /// Not WebAssembly at all.
    #[error(
        "the file ({bytes} bytes) is not a WebAssembly component; give the .wasm that the guest's build made"
    )]
    NotWasm {
        /// Its size.
        bytes: usize,
    },
    /// A core module.
    #[error("the file is a core module, not a component; build it with `cargo build --target wasm32-wasip2`")]
    CoreModule,
    /// Cut off, damaged, or made with something that this host does not have.
    #[error(
        "the component does not compile: it is cut off, damaged or uses what this host does not have ({0}); build or copy it again"
    )]
    Damaged(String),
    /// It exports none of the interfaces.
    #[error("the component exports none of {0}; export one of them, and `lifecycle`")]
    NoInterface(String),
    /// It exports no lifecycle.
    #[error(
        "the component does not export tidemill:guest/lifecycle@{VERSION}; every guest does: use the SDK's macro, or export `setup`"
    )]
    NoLifecycle,
    /// Another version of the contract.
    #[error(
        "it speaks {name}; this host supports tidemill:guest@{VERSION}: build the guest with that version of wit/, or use another release of the host"
    )]
    Version {
        /// The name that it exports or imports.
        name: String,
    },
    /// It wants something that it is not given.
    #[error("it imports {import}, which is not granted: {advice}")]
    NotGranted {
        /// The import.
        import: String,
        /// What to do.
        advice: &'static str,
    },
    /// Its functions have other types than the contract's.
    #[error(
        "its imports or exports do not have the contract's types ({0}); build it with the wit/ of this release"
    )]
    Types(String),
    /// Compiling failed for a reason of the host's own.
    #[error("the host could not compile it")]
    Host(#[source] BoxError),
}

const PREAMBLE: &[u8] = b"\0asm";

/// Whether those bytes can be a component at all.
pub(crate) fn check_preamble(wasm: &[u8]) -> Result<(), LoadReason> {
    if wasm.len() < 8 || !wasm.starts_with(PREAMBLE) {
        return Err(LoadReason::NotWasm { bytes: wasm.len() });
    }
    if wasm[6..8] == [0, 0] {
        return Err(LoadReason::CoreModule);
    }
    Ok(())
}

/// The version that a name of our package carries: `tidemill:guest/host@0.2.0` → `host`, if we speak it.
fn ours(name: &str) -> Option<Result<&str, LoadReason>> {
    let (interface, version) = name.strip_prefix("tidemill:guest/")?.split_once('@')?;
    let (major_minor, _) = VERSION.rsplit_once('.').expect("the version has three numbers");
    let patch = version.strip_prefix(major_minor).and_then(|rest| rest.strip_prefix('.'));
    let known = patch.is_some_and(|patch| patch.bytes().all(|b| b.is_ascii_digit()));
    Some(if known { Ok(interface) } else { Err(LoadReason::Version { name: name.to_owned() }) })
}

/// What the component is, by its exports.
pub(crate) fn kinds(ty: &ComponentType, engine: &wasmtime::Engine) -> Result<Vec<Kind>, LoadReason> {
    let (mut kinds, mut lifecycle) = (vec![], false);
    for (name, _) in ty.exports(engine) {
        let Some(interface) = ours(name) else { continue };
        let interface = interface?;
        lifecycle |= interface == "lifecycle";
        kinds.extend(Kind::ALL.into_iter().find(|kind| kind.interface() == interface));
    }
    if kinds.is_empty() {
        let all = Kind::ALL.map(|kind| format!("tidemill:guest/{}@{VERSION}", kind.interface()));
        return Err(LoadReason::NoInterface(all.join(", ")));
    }
    if lifecycle { Ok(kinds) } else { Err(LoadReason::NoLifecycle) }
}

/// Whether everything that it imports is something that a guest of those kinds can have.
pub(crate) fn check_imports(
    ty: &ComponentType,
    engine: &wasmtime::Engine,
    kinds: &[Kind],
) -> Result<(), LoadReason> {
    let consumer = kinds.contains(&Kind::Consumer);
    for (name, _) in ty.imports(engine) {
        let refuse = |advice| Err(LoadReason::NotGranted { import: name.to_owned(), advice });
        if let Some(interface) = ours(name) {
            match interface? {
                "types" | "host" => {}
                "output" | "state" if consumer => {}
                "output" | "state" => return refuse("only consumers have output and state"),
                _ => return refuse("the contract has no such import"),
            }
            continue;
        }
        match name.split_once('/').map(|(package, _)| package) {
            Some(
                "wasi:io" | "wasi:cli" | "wasi:clocks" | "wasi:random" | "wasi:filesystem" | "wasi:sockets",
            ) => {}
            Some("wasi:http") => return refuse("outgoing HTTP is not in this release"),
            _ => return refuse("no grant gives it; build the guest without it"),
        }
    }
    Ok(())
}
