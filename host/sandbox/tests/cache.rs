//! Compiled guests on disk: kept, trusted only when whole, and only in a directory of our own.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use support::{Order, config, inserts};
use tempfile::TempDir;
use tidemill_sandbox::{FilterStage, Kind, Sandbox, SandboxConfig, SandboxError};

fn sandbox(directory: &TempDir) -> Sandbox {
    let config = SandboxConfig { instances_max: 4, ..SandboxConfig::new(directory.path().join("guests")) };
    Sandbox::new(config).unwrap()
}

fn entries(directory: &TempDir) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory.path().join("guests")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn loads_and_runs(directory: &TempDir) {
    let module = sandbox(directory).load("where", tidemill_artifacts::wasm("where")).unwrap();
    assert_eq!((module.name(), module.kinds()), ("where", &[Kind::Filter][..]));
    let mut stage = FilterStage::open(&module, config(r#"{"where":"amount > 1"}"#)).unwrap();
    let after = stage.apply(inserts(&[Order::new(1, 50, "a"), Order::new(2, 500, "a")])).unwrap();
    assert_eq!(after.row_count(), 1);
}

#[test]
fn a_guest_is_compiled_once_and_a_damaged_entry_again() {
    let directory = TempDir::new().unwrap();
    loads_and_runs(&directory);
    let [entry] = <[PathBuf; 1]>::try_from(entries(&directory)).unwrap();
    assert_eq!(entry.extension().unwrap(), "cwasm");
    let compiled = fs::read(&entry).unwrap();
    loads_and_runs(&directory);
    assert!(fs::read(&entry).unwrap() == compiled);
    let mut flipped = compiled.clone();
    flipped[compiled.len() / 2] ^= 1;
    for damaged in [&compiled[..compiled.len() / 2], &flipped, &[]] {
        fs::write(&entry, damaged).unwrap();
        loads_and_runs(&directory);
        assert!(fs::read(&entry).unwrap().len() == compiled.len());
    }
    assert_eq!(entries(&directory).len(), 1);
}

#[test]
fn a_directory_that_others_can_write_to_is_refused() {
    let directory = TempDir::new().unwrap();
    let guests = directory.path().join("guests");
    fs::create_dir(&guests).unwrap();
    fs::set_permissions(&guests, fs::Permissions::from_mode(0o777)).unwrap();
    let error = Sandbox::new(SandboxConfig::new(&guests)).err().unwrap();
    let SandboxError::Cache { source, .. } = &error else { panic!("{error}") };
    assert!(source.to_string().contains("run chmod 700"), "{source}");
}

#[test]
fn the_whole_catalogue_loads_as_what_it_is() {
    let directory = TempDir::new().unwrap();
    let sandbox = sandbox(&directory);
    let mut kinds: Vec<(&str, Kind)> = vec![];
    for name in tidemill_sandbox::catalogue::names() {
        let wasm = tidemill_sandbox::catalogue::builtin(name).unwrap();
        kinds.extend(sandbox.load(name, wasm).unwrap().kinds().iter().map(|kind| (name, *kind)));
    }
    kinds.sort_by_key(|(name, _)| *name);
    let expected = [
        ("mask", Kind::Projection),
        ("mirror", Kind::Consumer),
        ("partition", Kind::Filter),
        ("print", Kind::Consumer),
        ("replica-check", Kind::Consumer),
        ("select", Kind::Policy),
        ("where", Kind::Filter),
    ];
    assert_eq!(kinds, expected);
}
