//! A guest without a test fails here: each one needs a native test beside its code, and a test that runs
//! the component in `host/sandbox/tests/`.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

use tidemill_artifacts::{ALL, Artifact, artifact, guests};

/// All Rust files below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| match path.is_dir() {
            true => sources(&path),
            false if path.extension().is_some_and(|extension| extension == "rs") => vec![path],
            false => Vec::new(),
        })
        .collect()
}

fn any_source_has(folder: &Path, texts: &[&str]) -> bool {
    sources(folder).iter().any(|path| {
        let text = fs::read_to_string(path).unwrap();
        texts.iter().any(|wanted| text.contains(wanted))
    })
}

fn names(artifacts: &[&Artifact]) -> String {
    artifacts.iter().map(|artifact| artifact.name).collect::<Vec<_>>().join(", ")
}

#[test]
fn every_guest_has_a_native_test() {
    let bare: Vec<&Artifact> = ALL
        .iter()
        .filter(|artifact| !any_source_has(&guests().join(artifact.folder), &["#[test]"]))
        .collect();
    assert!(bare.is_empty(), "no #[test] in guests/: {}", names(&bare));
}

#[test]
fn every_guest_has_a_test_in_the_sandbox() {
    let tests = guests().join("../host/sandbox/tests");
    let is_named = |artifact: &&Artifact| {
        let (quoted, builtin) = (format!("\"{}\"", artifact.name), format!("builtin:{}\"", artifact.name));
        any_source_has(&tests, &[&quoted, &builtin])
    };
    let bare: Vec<&Artifact> = ALL.iter().filter(|artifact| !is_named(artifact)).collect();
    assert!(bare.is_empty(), "no test in host/sandbox/tests/ names: {}", names(&bare));
}

#[test]
fn every_guest_is_a_component() {
    assert!(ALL.len() >= 10, "found only {}", names(&ALL.iter().collect::<Vec<_>>()));
    for artifact in ALL {
        // The preamble of a component: magic, version 13, layer 1.
        assert!(artifact.wasm.starts_with(b"\0asm\x0d\0\x01\0"), "{}", artifact.name);
        assert_eq!(fs::read(artifact.path()).unwrap(), artifact.wasm, "{}", artifact.name);
    }
}

#[test]
fn the_catalogue_is_what_is_not_evil() {
    let build = fs::read_to_string(guests().join("../host/sandbox/build.rs")).unwrap();
    for artifact in ALL.iter().filter(|artifact| !artifact.folder.starts_with("evil/")) {
        assert!(
            build.contains(&format!("\"{}\"", artifact.name)),
            "{} is not in the catalogue",
            artifact.name
        );
    }
    assert_eq!(artifact("evil-filter").folder, "evil/filter");
    assert!(!build.contains("evil"));
}
