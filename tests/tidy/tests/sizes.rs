//! Ratchets: a production file has at most 600 lines and a function at most 70. What is longer today stands in the
//! lists below with its length; it may shrink, never grow, and nothing may join.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;

/// Files that are longer, with their length.
const LONG_FILES: &[(&str, usize)] = &[];

/// Functions that are longer, as `file: name`, with their length.
const LONG_FUNCTIONS: &[(&str, usize)] = &[];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Every Rust file of production code, by its path from the root.
fn production() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for top in ["host", "fetchers", "bootstrap", "guests"] {
        collect(&root().join(top), &mut found);
    }
    assert!(found.len() > 20, "the walk finds the sources");
    found
}

fn collect(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !["target", "tests", "benches"].contains(&name.as_str()) {
                collect(&path, found);
            }
        } else if name.ends_with(".rs") && name != "tests.rs" {
            let relative = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            let production = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default();
            found.push((relative, production.to_owned()));
        }
    }
}

/// Name and length of each function. Formatted code ends a function with a brace at its own indent.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let words = line.trim_start();
        let is_function =
            ["fn ", "pub fn ", "pub(crate) fn ", "pub(super) fn ", "async fn ", "pub async fn "]
                .iter()
                .any(|head| words.starts_with(head));
        if !is_function {
            continue;
        }
        let name = words.split("fn ").nth(1).unwrap().split(['(', '<']).next().unwrap().to_owned();
        let rest = lines[start..].iter();
        let length =
            rest.take_while(|l| indent(l) > indent(line) || !l.trim_start().starts_with('}')).count();
        let one_line = line.ends_with('}') || line.ends_with(';');
        found.push((name, if one_line { 1 } else { length + 1 }));
    }
    found
}

/// What is longer than `max` must be listed with its length, and what is listed must still be so long.
fn ratchet(max: usize, found: &[(String, usize)], listed: &[(&str, usize)]) {
    for (name, length) in found.iter().filter(|(_, length)| *length > max) {
        let allowed = listed.iter().find(|(n, _)| n == name).map_or(max, |(_, l)| *l);
        assert!(*length <= allowed, "{name} has {length} lines, {allowed} are allowed; split it");
    }
    for (name, length) in listed {
        let now = found.iter().filter(|(n, _)| n == name).map(|(_, l)| *l).max().unwrap_or(0);
        assert!(
            now == *length,
            "{name} has {now} lines now; write that in place of {length}, or remove the entry"
        );
    }
}

#[test]
fn production_files_stay_short() {
    let found: Vec<_> = production().into_iter().map(|(path, text)| (path, text.lines().count())).collect();
    ratchet(FILE_LINES_MAX, &found, LONG_FILES);
}

#[test]
fn functions_fit_a_screen() {
    let of = |(path, text): (String, String)| {
        functions(&text).into_iter().map(move |(name, length)| (format!("{path}: {name}"), length))
    };
    let found: Vec<_> = production().into_iter().flat_map(of).collect();
    ratchet(FUNCTION_LINES_MAX, &found, LONG_FUNCTIONS);
}

#[test]
fn every_file_opens_with_what_it_owns() {
    for (path, text) in production() {
        assert!(text.starts_with("//!") || path.ends_with("build.rs"), "{path} does not open with `//!`");
    }
}

#[test]
fn a_function_is_measured_from_its_name_to_its_brace() {
    let text =
        "fn one() {\n    a();\n}\n\nimpl X {\n    fn two(\n        a: u8,\n    ) {\n        b();\n    }\n}\n";
    assert_eq!(functions(text), [("one".to_owned(), 3), ("two".to_owned(), 5)]);
}
