//! Every line of the binlog's checklist (L-01 … L-89) has a test that is named by it: `l02_a_bigint_…`, or
//! `l24_l30_…` where one serves several. A ratchet: what has none yet stands in `MISSING`, which may only shrink.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The lines that there are.
const LINES: [std::ops::RangeInclusive<u8>; 4] = [1..=28, 30..=40, 50..=64, 70..=89];

/// Lines without a test.
const MISSING: &[u8] = &[];

/// Where their tests are.
const PLACES: [&str; 3] = ["fetchers/mysql", "host/event", "tests/e2e"];

fn sources() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut folders: Vec<PathBuf> = PLACES.iter().map(|place| root.join(place)).collect();
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && path.file_name().is_none_or(|name| name != "target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    assert!(found.len() > 20, "the walk finds the sources");
    found
}

/// The names of a file's test functions: those under an attribute that ends in `test]` or takes `test(…)`.
fn tests(source: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut is_test = false;
    for line in source.lines().map(str::trim_start) {
        let attribute = line.strip_prefix("#[").map(|a| a.split(['(', ']']).next().unwrap_or_default());
        if let Some(attribute) = attribute {
            is_test |= attribute == "test" || attribute.ends_with("::test");
        } else if let Some((_, name)) = line.split_once("fn ")
            && std::mem::take(&mut is_test)
        {
            names.push(name.split('(').next().unwrap_or_default());
        }
    }
    names
}

/// The lines of the checklist in the name of a test.
fn numbers(test: &str) -> impl Iterator<Item = u8> {
    let number = |part: &str| {
        let digits = part.strip_prefix('l').filter(|digits| digits.len() == 2)?;
        digits.parse().ok()
    };
    test.split('_').filter_map(number)
}

fn is_line(number: u8) -> bool {
    LINES.iter().any(|range| range.contains(&number))
}

#[test]
fn every_line_of_the_checklist_has_a_test() {
    let sources = sources();
    let tested: BTreeSet<u8> = sources.iter().flat_map(|source| tests(source)).flat_map(numbers).collect();
    let unknown: Vec<&u8> = tested.iter().filter(|number| !is_line(**number)).collect();
    assert!(unknown.is_empty(), "tests are named by lines that the checklist does not have: {unknown:?}");
    let missing: Vec<u8> = LINES.into_iter().flatten().filter(|number| !tested.contains(number)).collect();
    let lost: Vec<&u8> = missing.iter().filter(|number| !MISSING.contains(number)).collect();
    assert!(lost.is_empty(), "no test is named by the lines {lost:?}");
    let found: Vec<&u8> = MISSING.iter().filter(|number| tested.contains(number)).collect();
    assert!(found.is_empty(), "the lines {found:?} have tests now: take them out of MISSING");
}

#[test]
fn the_name_of_a_test_tells_its_lines() {
    let source = "#[test]\nfn l02_a() {}\nfn l03_no_test() {}\n#[tokio::test(flavor = \"x\")]\nasync fn l24_l30_b() {}\n\
        #[test]\n#[ignore]\n    fn small_c() {}\n";
    assert_eq!(tests(source), ["l02_a", "l24_l30_b", "small_c"]);
    let all: Vec<u8> = tests(source).into_iter().flat_map(numbers).collect();
    assert_eq!(all, [2, 24, 30]);
}
