//! Compiled guests on disk, so that a module is compiled once. An entry is trusted only because this directory
//! is ours alone and its checksum fits: compiled code is loaded as it is.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

/// Entries end with the SHA-256 of what stands before it.
const CHECKSUM_BYTES: usize = 32;

/// The directory of compiled guests.
#[derive(Debug)]
pub(crate) struct Cache {
    directory: PathBuf,
}

impl Cache {
    /// Makes the directory, or takes it if nobody else may write to it.
    pub(crate) fn open(directory: &Path) -> io::Result<Cache> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let mode = fs::metadata(directory)?.permissions().mode();
        if mode & 0o022 != 0 {
            return Err(io::Error::other(format!(
                "others may write to it (mode {:o}), and compiled code is run as it lies there; run chmod 700",
                mode & 0o777
            )));
        }
        Ok(Cache { directory: directory.to_owned() })
    }

    /// The compiled component: from the cache, or compiled now and kept. A damaged entry is compiled again;
    /// an entry that cannot be written costs only the next start.
    pub(crate) fn component(
        &self,
        engine: &Engine,
        wasm: &[u8],
        hash: &[u8; 32],
    ) -> wasmtime::Result<Component> {
        let path = self.path(engine, hash);
        if let Some(component) = load(engine, &path) {
            return Ok(component);
        }
        let component = Component::from_binary(engine, wasm)?;
        if let Err(error) = self.store(&path, &component.serialize()?) {
            tracing::warn!(%error, path = %path.display(), "a compiled guest could not be kept");
        }
        Ok(component)
    }

    /// Different code and a different engine, or engine settings, have different names.
    fn path(&self, engine: &Engine, hash: &[u8; 32]) -> PathBuf {
        let mut settings = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut settings);
        self.directory.join(format!("{}-{:016x}.cwasm", crate::text::hex(hash), settings.finish()))
    }

    fn store(&self, path: &Path, compiled: &[u8]) -> io::Result<()> {
        static UNIQUE: AtomicU64 = AtomicU64::new(0);
        let unique = UNIQUE.fetch_add(1, Ordering::Relaxed);
        let aside = self.directory.join(format!("{}-{unique}.tmp", std::process::id()));
        let written = (|| {
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
            file.write_all(compiled)?;
            file.write_all(&Sha256::digest(compiled))?;
            file.sync_all()?;
            fs::rename(&aside, path)
        })();
        if written.is_err() {
            // Best effort: what is left over is never read.
            let _ = fs::remove_file(&aside);
        }
        written
    }
}

fn load(engine: &Engine, path: &Path) -> Option<Component> {
    let entry = fs::read(path).ok()?;
    let (compiled, checksum) = entry.split_at_checked(entry.len().checked_sub(CHECKSUM_BYTES)?)?;
    if *Sha256::digest(compiled) != *checksum {
        tracing::warn!(path = %path.display(), "a compiled guest is damaged; it is compiled again");
        return None;
    }
    // SAFETY: the bytes are what `serialize` gave on an engine of the same settings: their checksum fits, and
    // nobody but us writes to the directory.
    unsafe { Component::deserialize(engine, compiled) }.ok()
}
