//! Every guest as a component, for the tests of the host. `build.rs` builds them; `tests/guarded.rs`
//! holds that each one has a native test and a test in the sandbox.

use std::path::{Path, PathBuf};

include!(concat!(env!("OUT_DIR"), "/artifacts.rs"));

/// One built guest.
#[derive(Clone, Copy, Debug)]
pub struct Artifact {
    /// The guest's package: "where", "evil-filter".
    pub name: &'static str,
    /// Its folder below `guests/`.
    pub folder: &'static str,
    path: &'static str,
    /// The component.
    pub wasm: &'static [u8],
}

impl Artifact {
    /// The component as a file.
    pub fn path(&self) -> &'static Path {
        Path::new(self.path)
    }
}

/// The guest of that package name.
///
/// # Panics
/// When there is none; the message lists those that there are.
pub fn artifact(name: &str) -> &'static Artifact {
    ALL.iter().find(|artifact| artifact.name == name).unwrap_or_else(|| {
        let names: Vec<&str> = ALL.iter().map(|artifact| artifact.name).collect();
        panic!("no guest {name:?}; there are {}", names.join(", "))
    })
}

/// The component of that guest as a file.
///
/// # Panics
/// When there is no such guest.
pub fn path(name: &str) -> PathBuf {
    artifact(name).path().to_path_buf()
}

/// The component of that guest.
///
/// # Panics
/// When there is no such guest.
pub fn wasm(name: &str) -> &'static [u8] {
    artifact(name).wasm
}

/// The source folder of all guests.
pub fn guests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests")
}
