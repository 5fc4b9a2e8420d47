//! How the guests are built: one cargo call for `wasm32-wasip2`, from the build scripts of
//! `host/sandbox` (the catalogue) and `tests/artifacts` (all of them), which include this file.
//!
//! The components of every profile and both build scripts share one directory, `guests-build` in the
//! workspace's target directory, so that they are compiled once.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where guests run.
const TARGET: &str = "wasm32-wasip2";

/// Builds these packages of the guests' workspace and copies each component to `OUT_DIR/NAME.wasm`.
pub fn build(guests: &Path, packages: &[String]) {
    watch(guests);
    watch(&guests.join("../wit"));
    add_target();
    let target_dir = target_dir();
    let mut cargo = Command::new(variable("CARGO"));
    cargo.current_dir(guests).args(["build", "--release", "--locked", "--target", TARGET]);
    cargo.arg("--target-dir").arg(&target_dir);
    for package in packages {
        cargo.args(["-p", package]);
    }
    forget_outer_build(&mut cargo);
    let output = cargo.output().unwrap_or_else(|error| fail(&format!("cargo did not start: {error}")));
    if !output.status.success() {
        fail(&format!("the guests do not build:\n{}", String::from_utf8_lossy(&output.stderr)));
    }
    let built = target_dir.join(TARGET).join("release");
    for package in packages {
        copy_if_changed(
            &built.join(format!("{}.wasm", package.replace('-', "_"))),
            &PathBuf::from(variable("OUT_DIR")).join(format!("{package}.wasm")),
        );
    }
}

/// The outer build's flags and wrappers are for the host: coverage, clippy and the like would break
/// the components or make them anew for each.
fn forget_outer_build(cargo: &mut Command) {
    for name in [
        "CARGO_ENCODED_RUSTFLAGS",
        "RUSTFLAGS",
        "RUSTC",
        "RUSTDOC",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_LINKER",
        "CARGO_BUILD_RUSTC_WRAPPER",
        "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
        "CARGO_BUILD_RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "CARGO_BUILD_TARGET_DIR",
        "CARGO_TARGET_DIR",
        "CARGO_MANIFEST_DIR",
        "CARGO_MANIFEST_PATH",
        "TARGET",
        "HOST",
        "PROFILE",
        "OPT_LEVEL",
        "DEBUG",
    ] {
        cargo.env_remove(name);
    }
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_PROFILE_", "CARGO_CFG_", "CARGO_FEATURE_", "CARGO_PKG_"]
            .iter()
            .any(|start| text.starts_with(start))
        {
            cargo.env_remove(&name);
        }
    }
}

/// A toolchain that was there before this repository lacks the guests' target: rustup adds it.
fn add_target() {
    let sysroot = Command::new(variable("RUSTC")).args(["--print", "sysroot"]).output();
    let sysroot = sysroot.unwrap_or_else(|error| fail(&format!("rustc did not start: {error}"))).stdout;
    let root = PathBuf::from(String::from_utf8_lossy(&sysroot).trim());
    if root.join("lib/rustlib").join(TARGET).is_dir() {
        return;
    }
    let added = Command::new("rustup").args(["target", "add", TARGET]).output();
    let mend = format!("run `rustup target add {TARGET}`, or install that target as rustc was installed");
    match added {
        Ok(output) if output.status.success() => {
            println!(
                "cargo::warning=rustup added the target {TARGET} to the toolchain: guests are built for it"
            );
        }
        Ok(output) => {
            fail(&format!("rustup could not add it: {}\n{mend}", String::from_utf8_lossy(&output.stderr)))
        }
        Err(error) => fail(&format!("rustup did not start: {error}\n{mend}")),
    }
}

/// `guests-build` in the workspace's target directory, which cargo marks with a tag file.
fn target_dir() -> PathBuf {
    let out = PathBuf::from(variable("OUT_DIR"));
    let tagged = out.ancestors().find(|dir| dir.join("CACHEDIR.TAG").exists());
    // OUT_DIR is target/PROFILE/build/PACKAGE-HASH/out.
    let root = tagged.or_else(|| out.ancestors().nth(4)).unwrap_or(&out);
    root.join("guests-build")
}

/// Runs the build script again when something in `dir` changes. Cargo looks into the folders that it is
/// given; what it writes itself, in `target`, does not count.
fn watch(dir: &Path) {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| fail(&format!("{}: {error}", dir.display())));
    for entry in entries.flatten().filter(|entry| entry.file_name() != "target") {
        println!("cargo::rerun-if-changed={}", entry.path().display());
    }
}

/// An unchanged component keeps its time, so that what includes it is not compiled again.
fn copy_if_changed(from: &Path, to: &Path) {
    let new = fs::read(from).unwrap_or_else(|error| fail(&format!("{}: {error}", from.display())));
    if fs::read(to).ok().as_ref() != Some(&new) {
        fs::write(to, new).unwrap_or_else(|error| fail(&format!("{}: {error}", to.display())));
    }
}

/// A variable that cargo sets for build scripts.
pub fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| fail(&format!("cargo sets {name} for build scripts")))
}

/// Ends the build with what is wrong.
pub fn fail(message: &str) -> ! {
    println!("cargo::error={}", message.replace('\n', "\ncargo::error="));
    std::process::exit(1);
}
