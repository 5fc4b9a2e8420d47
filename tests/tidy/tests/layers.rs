//! A crate may name only lower layers, and only the sandbox may name wasmtime.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

/// Layer of each crate that ships. Crates under `tests/` may name any.
const LAYERS: &[(&str, u8)] = &[
    ("tidemill-event", 0),
    ("tidemill-world", 0),
    ("tidemill-log", 1),
    ("tidemill-sandbox", 1),
    ("tidemill-fetchers-api", 1),
    ("tidemill-bootstrap-store", 1),
    ("tidemill-fetchers-mysql", 2),
    ("tidemill-sink", 2),
    ("tidemill-relay", 2),
    ("tidemill-client", 2),
    ("tidemill-bootstrap-clone", 2),
    ("tidemill-fetchers-relay", 3),
    ("tidemill-bootstrap-service", 3),
    ("tidemill", 4),
];

/// Test crates that the binary may name: the live demo and the benchmarks start real servers.
const SHIPPED_TEST_CRATES: &[&str] = &["tidemill-servers"];

/// Dependencies that belong to these crates alone.
const OWNED: &[(&str, &[&str])] = &[
    ("wasmtime", &["tidemill-sandbox"]),
    ("wasmtime-wasi", &["tidemill-sandbox"]),
    // Checkpoints and state; prepared XA transactions.
    ("redb", &["tidemill-sink", "tidemill-fetchers-mysql"]),
    ("mysql_common", &["tidemill-fetchers-mysql"]),
];

struct Package {
    folder: String,
    /// Name and kind of each dependency; `None`: a normal one.
    dependencies: Vec<(String, Option<String>)>,
}

fn packages() -> BTreeMap<String, Package> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let cargo = std::env::var("CARGO").unwrap();
    let arguments = ["metadata", "--format-version", "1", "--no-deps"];
    let output = Command::new(cargo).args(arguments).current_dir(root).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let root = metadata["workspace_root"].as_str().unwrap().to_owned();
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    let package = |p: &Value| {
        let manifest = text(&p["manifest_path"]);
        let folder = manifest.strip_prefix(&root).unwrap().trim_end_matches("/Cargo.toml").to_owned();
        let dependencies = p["dependencies"].as_array().unwrap().iter();
        let dependencies = dependencies.map(|d| (text(&d["name"]), d["kind"].as_str().map(str::to_owned)));
        (text(&p["name"]), Package { folder, dependencies: dependencies.collect() })
    };
    metadata["packages"].as_array().unwrap().iter().map(package).collect()
}

fn layer(name: &str) -> Option<u8> {
    LAYERS.iter().find(|(n, _)| *n == name).map(|(_, layer)| *layer)
}

#[test]
fn every_crate_that_ships_has_a_layer() {
    for (name, package) in packages() {
        let tests = package.folder.starts_with("/tests/");
        assert!(tests != layer(&name).is_some(), "{name} in {}: give it a layer in LAYERS", package.folder);
    }
}

#[test]
fn a_crate_names_only_lower_layers() {
    for (name, package) in packages() {
        let Some(own) = layer(&name) else { continue };
        for (dependency, kind) in &package.dependencies {
            let ours = dependency == "tidemill" || dependency.starts_with("tidemill-");
            if !ours || kind.is_some() || SHIPPED_TEST_CRATES.contains(&dependency.as_str()) {
                continue;
            }
            let lower = layer(dependency).is_some_and(|layer| layer < own);
            assert!(lower, "{name} (layer {own}) names {dependency}");
        }
    }
}

#[test]
fn what_belongs_to_some_crates_is_named_by_no_other() {
    for (name, package) in packages() {
        for (dependency, owners) in OWNED {
            let names = package.dependencies.iter().any(|(d, kind)| d == dependency && kind.is_none());
            let owns = owners.contains(&name.as_str());
            assert!(!names || owns, "{name} names {dependency}, which belongs to {}", owners.join(" and "));
        }
    }
}
