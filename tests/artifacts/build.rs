//! Builds every guest of `guests/`, the malicious ones too, and lists the components for `src/lib.rs`.
//! How they are built is shared with the catalogue: `guests/builder.rs`.

#[path = "../../guests/builder.rs"]
mod builder;

use std::fs;
use std::path::{Path, PathBuf};

use builder::{build, fail, variable};

/// Folders whose every child is one guest.
const FAMILIES: [&str; 5] = ["filters", "projections", "policies", "consumers", "evil"];

fn main() {
    let guests =
        Path::new("../../guests").canonicalize().unwrap_or_else(|error| fail(&format!("guests: {error}")));
    let found: Vec<(String, String)> =
        FAMILIES.iter().flat_map(|family| guests_of(&guests, family)).collect();
    let packages: Vec<String> = found.iter().map(|(package, _)| package.clone()).collect();
    build(&guests, &packages);
    let out = PathBuf::from(variable("OUT_DIR"));
    let entries: String = found.iter().map(|(package, folder)| entry(&out, package, folder)).collect();
    let list = format!("/// Every guest.\npub const ALL: &[Artifact] = &[\n{entries}];\n");
    fs::write(out.join("artifacts.rs"), list).unwrap_or_else(|error| fail(&format!("artifacts.rs: {error}")));
}

/// Package name and folder of each guest of a family, in the order of their names.
fn guests_of(guests: &Path, family: &str) -> Vec<(String, String)> {
    let Ok(entries) = fs::read_dir(guests.join(family)) else { return Vec::new() };
    let mut found: Vec<(String, String)> = entries
        .flatten()
        .filter_map(|entry| {
            let folder = format!("{family}/{}", entry.file_name().to_string_lossy());
            let manifest = fs::read_to_string(entry.path().join("Cargo.toml")).ok()?;
            let name = manifest.lines().find_map(|line| line.strip_prefix("name = \""))?;
            Some((name.trim_end_matches('"').to_owned(), folder))
        })
        .collect();
    found.sort();
    found
}

fn entry(out: &Path, package: &str, folder: &str) -> String {
    let wasm = out.join(format!("{package}.wasm"));
    let wasm = wasm.display();
    format!(
        "    Artifact {{ name: {package:?}, folder: {folder:?}, path: \"{wasm}\", wasm: include_bytes!(\"{wasm}\") }},\n"
    )
}
