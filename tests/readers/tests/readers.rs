//! What DuckDB, Spark, pyarrow, polars and delta-rs see of published tables is what was written.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::tempdir;
use tidemill_readers_tests::{ALL, DELTA, Digest, Lake, Readers, Rows, Table, digest};

fn kept(table: &Table, rows: &Rows, keep: impl Fn(i64) -> bool) -> Digest {
    digest(&table.batch(rows.iter().filter(|(id, _)| keep(**id))))
}

/// Every reader, on the newest version.
fn check(readers: &mut Readers, lake: &Lake) {
    let (scn, expected) = lake.published.last_key_value().unwrap();
    for reader in ALL {
        let seen = readers.read(reader, &lake.url(), &json!({}));
        assert_eq!(&seen.digest, expected, "{reader}");
        assert!(seen.scn.is_none_or(|seen| seen == *scn), "{reader}: {:?}, not {scn}", seen.scn);
        assert_eq!((seen.scn_column.0.as_str(), seen.scn_column.1), ("int", expected.rows), "{reader}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_reader_sees_every_type_as_it_was_written() {
    let (directory, mut readers) = (tempdir().unwrap(), Readers::start());
    let mut lake = Lake::create(directory.path(), Table::matrix(), Table::fill(1500)).await;
    check(&mut readers, &lake);
    for _ in 0..3 {
        lake.change(200, 2000).await;
        lake.publish().await;
    }
    check(&mut readers, &lake);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_reader_sees_keys_that_are_large_or_texts() {
    let mut readers = Readers::start();
    for table in [Table::orders(), Table::words()] {
        let directory = tempdir().unwrap();
        let mut lake = Lake::create(directory.path(), table, Table::fill(2000)).await;
        lake.change(300, 2500).await;
        lake.publish().await;
        check(&mut readers, &lake);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_reader_sees_a_table_without_rows() {
    let (directory, mut readers) = (tempdir().unwrap(), Readers::start());
    let mut lake = Lake::create(directory.path(), Table::matrix(), Rows::new()).await;
    check(&mut readers, &lake);
    lake.change(10, 10).await;
    lake.publish().await;
    assert!(lake.digest().rows > 0);
    check(&mut readers, &lake);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_skips_files_and_loses_no_row() {
    let mut readers = Readers::start();
    let directory = tempdir().unwrap();
    let mut lake = Lake::create(directory.path(), Table::matrix(), Table::fill(3000)).await;
    lake.change(300, 3000).await;
    lake.publish().await;
    let is = |id: i64| if id % 100 == 99 { -id } else { id };
    let bounds = [(700, 1100), (0, 1), (-2999, 0), (2990, 9000), (40_000, 50_000)];
    for (low, high) in bounds {
        let expected = kept(&lake.table, &lake.rows, |id| (low..high).contains(&is(id)));
        filter(&mut readers, &lake, &format!("id >= {low} AND id < {high}"), &expected);
    }
    let directory = tempdir().unwrap();
    let lake = Lake::create(directory.path(), Table::words(), Table::fill(3000)).await;
    for id in [4, 7, 1500, 2999] {
        let word = |id: i64| format!("{}{:x}{}", ["", "ä", "z"][id as usize % 3], id / 2, long(id));
        let expected = kept(&lake.table, &lake.rows, |other| word(other) == word(id));
        assert!(expected.rows >= 1);
        filter(&mut readers, &lake, &format!("word = '{}'", word(id)), &expected);
    }
}

fn long(id: i64) -> String {
    if id % 5 == 0 { "-long".repeat(30) } else { String::new() }
}

fn filter(readers: &mut Readers, lake: &Lake, condition: &str, expected: &Digest) {
    // pyarrow takes no SQL.
    for reader in ALL.iter().filter(|reader| **reader != "pyarrow") {
        let seen = readers.read(reader, &lake.url(), &json!({ "where": condition }));
        assert_eq!(&seen.digest, expected, "{reader} where {condition}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn delta_lake_shows_each_version_as_it_was() {
    let (directory, mut readers) = (tempdir().unwrap(), Readers::start());
    let mut lake = Lake::create(directory.path(), Table::orders(), Table::fill(300)).await;
    // Behind the twentieth version there is a checkpoint that readers begin at.
    for _ in 0..23 {
        lake.change(30, 400).await;
        lake.publish().await;
    }
    for (version, (scn, expected)) in lake.published.iter().enumerate() {
        for reader in DELTA {
            let seen = readers.read(reader, &lake.url(), &json!({ "version": version }));
            assert_eq!(&seen.digest, expected, "{reader}, version {version}");
            assert!(seen.scn.is_none_or(|seen| seen == *scn), "{reader}, version {version}: {:?}", seen.scn);
        }
    }
    // As a log is whose older commits went.
    for version in 0..20 {
        std::fs::remove_file(lake.path().join(format!("_delta_log/{version:020}.json"))).unwrap();
    }
    for reader in DELTA {
        assert_eq!(readers.read(reader, &lake.url(), &json!({})).digest, lake.digest(), "{reader}");
    }
}

/// The names of all files below.
fn files(directory: &Path) -> BTreeSet<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { BTreeSet::from([path]) }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_is_nobody_elses_to_change() {
    let (directory, mut readers) = (tempdir().unwrap(), Readers::start());
    let mut lake = Lake::create(directory.path(), Table::orders(), Table::fill(100)).await;
    lake.change(10, 100).await;
    lake.publish().await;
    let before = files(directory.path());
    let refused = readers.ask(&json!({ "reader": "outsider", "table": lake.url() }));
    let refused = refused.as_object().unwrap();
    assert_eq!(refused.len(), 5);
    for (attempt, answer) in refused {
        let because = answer.as_str().unwrap_or_else(|| panic!("{attempt} was not refused"));
        assert!(because.contains("tidemillManaged"), "{attempt}: {because}");
    }
    // An append leaves files of its own that no log names.
    assert!(files(directory.path()).is_superset(&before));
    check(&mut readers, &lake);
}

#[test]
fn a_digest_that_differs_in_one_row_differs() {
    let table = Table::matrix();
    let rows = Table::fill(100);
    let whole = digest(&table.batch(&rows));
    for id in rows.keys() {
        let changed: Rows =
            rows.iter().map(|(other, seed)| (*other, seed ^ u64::from(other == id))).collect();
        assert_ne!(digest(&table.batch(&changed)), whole);
    }
    let fewer = kept(&table, &rows, |id| id != 50);
    assert_eq!((fewer.rows, whole.rows), (99, 100));
}

#[test]
fn what_a_reader_cannot_read_is_an_error() {
    let mut readers = Readers::start();
    for reader in ALL {
        let request = json!({ "reader": reader, "table": "file:///nowhere/shop.orders" });
        let answer: Result<Value, String> = readers.try_ask(&request);
        assert!(answer.is_err(), "{reader}: {answer:?}");
    }
}
