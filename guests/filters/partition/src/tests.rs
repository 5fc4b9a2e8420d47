//! Every row falls in exactly one bucket, whatever its key.

#![allow(clippy::unwrap_used, reason = "tests")]

use tidemill_guest::filter::Running;
use tidemill_guest::{Column, Error, TableDef, build, testing};

use super::Partition;

fn table(columns: &[(&str, &str)], key: &[&str]) -> TableDef {
    testing::table("shop.orders", columns, key)
}

/// The bucket of every row, from asking for each bucket by itself; panics when a row is in none or in
/// several.
fn buckets(config: &str, of: usize, table: &TableDef, columns: &[Column]) -> Vec<usize> {
    let mut found: Vec<Vec<usize>> = vec![Vec::new(); columns[0].len()];
    for bucket in 0..of {
        let mut filter = Running::<Partition>::setup(&format!("{{{config}, \"take\": [{bucket}]}}")).unwrap();
        filter.plan(table).unwrap().unwrap();
        let kept = filter.keep(&testing::rows(table, columns.to_vec())).unwrap();
        kept.rows().for_each(|row| found[row].push(bucket));
    }
    found
        .iter()
        .enumerate()
        .map(|(row, buckets)| match buckets.as_slice() {
            [bucket] => *bucket,
            other => panic!("row {row} is in buckets {other:?}"),
        })
        .collect()
}

fn with_null(values: &[i64]) -> Column {
    let mut ints = build::Ints::default();
    values.iter().for_each(|value| ints.push(*value));
    ints.push_null();
    ints.finish()
}

#[test]
fn extreme_integers_and_null_have_one_bucket_each() {
    let ids = table(&[("id", "int64")], &["id"]);
    let values = [i64::MIN, i64::MIN + 1, -8, -1, 0, 1, 7, i64::MAX];
    assert_eq!(buckets(r#""by":"mod","of":7"#, 7, &ids, &[with_null(&values)]), [6, 0, 6, 6, 0, 1, 0, 0, 0]);
    buckets(r#""by":"hash","of":7"#, 7, &ids, &[with_null(&values)]);
    assert_eq!(
        buckets(r#""by":"range","bounds":[-1,7]"#, 3, &ids, &[with_null(&values)]),
        [0, 0, 0, 1, 1, 1, 2, 2, 0]
    );
    let uints = table(&[("id", "uint64")], &["id"]);
    let values = build::Uints::of(&[0, 1 << 63, u64::MAX]);
    assert_eq!(buckets(r#""by":"mod","of":10"#, 10, &uints, std::slice::from_ref(&values)), [0, 8, 5]);
    let bounds = r#""by":"range","bounds":[9223372036854775808]"#;
    assert_eq!(buckets(bounds, 2, &uints, &[values]), [0, 1, 1]);
}

#[test]
fn hashes_are_the_documented_ones() {
    // XXH64 of the canonical bytes, modulo 16.
    let ids = table(&[("id", "int64")], &["id"]);
    let expected = |value: i64| {
        let mut row = tidemill_guest::digest::Row::new();
        row.push(tidemill_guest::digest::Value::Int(value.into()));
        (row.hash64() % 16) as usize
    };
    let values = [-1, 0, 1, 2, 1_000_000];
    let found = buckets(r#""by":"hash","of":16"#, 16, &ids, &[build::Ints::of(&values)]);
    assert_eq!(found, values.map(expected));
    assert_eq!(found, VECTORS);
}

/// These never change: what was in a bucket yesterday is in it today.
const VECTORS: [usize; 5] = [1, 6, 8, 6, 9];

#[test]
fn strings_and_composite_keys_have_one_bucket_each() {
    let both = table(&[("a", "text"), ("b", "int64"), ("c", "text")], &["b", "a"]);
    let mut names = build::Texts::default();
    ["", "a", "ä", "a"].iter().for_each(|name| names.push(name));
    names.push_null();
    let columns = [build::Ints::of(&[1, 1, 1, 2, 2]), names.finish()];
    let found = buckets(r#""by":"hash","of":1024"#, 1024, &both, &columns);
    assert_ne!(found[1], found[3]);
    let texts = build::Texts::of(&["", "a", "m", "z", "ä"]);
    let by = r#""by":"range","bounds":["a","n"],"column":"a""#;
    assert_eq!(buckets(by, 3, &both, &[texts]), [0, 1, 1, 2, 2]);
}

#[test]
fn ranges_follow_the_columns_type() {
    let price = table(&[("price", "decimal(10,2)"), ("day", "date"), ("score", "float64")], &[]);
    let values = build::Texts::of(&["-1.00", "9.99", "10.00", "100"]);
    assert_eq!(
        buckets(r#""by":"range","bounds":[0,10.0],"column":"price""#, 3, &price, &[values]),
        [0, 1, 2, 2]
    );
    let days = build::Ints::of(&[-1, 0, 20_777]);
    assert_eq!(
        buckets(r#""by":"range","bounds":["1970-01-01","2026-11-20"],"column":"day""#, 3, &price, &[days]),
        [0, 1, 2]
    );
    let scores = build::Floats::of(&[-0.5, 0.5, f64::NAN]);
    assert_eq!(buckets(r#""by":"range","bounds":[0],"column":"score""#, 2, &price, &[scores]), [0, 1, 1]);
}

#[test]
fn several_buckets_can_be_taken() {
    let ids = table(&[("id", "int64")], &["id"]);
    let mut filter = Running::<Partition>::setup(r#"{"by":"mod","of":4,"take":[0,3]}"#).unwrap();
    filter.plan(&ids).unwrap();
    let kept = filter.keep(&testing::rows(&ids, vec![build::Ints::of(&[0, 1, 2, 3, 4, -1])])).unwrap();
    assert_eq!(kept.rows().collect::<Vec<_>>(), [0, 3, 4, 5]);
}

#[test]
fn an_absent_key_rejects_its_rows_by_name() {
    let ids = table(&[("id", "int64")], &["id"]);
    let mut filter = Running::<Partition>::setup(r#"{"by":"hash","of":4,"take":[0]}"#).unwrap();
    filter.plan(&ids).unwrap();
    let mut column = build::Ints::default();
    column.push(1);
    column.push_absent();
    let Err(Error::Rejected(rows)) = filter.keep(&testing::rows(&ids, vec![column.finish()])) else {
        panic!("absent")
    };
    assert!(rows[0].row == 1 && rows[0].message.starts_with("column \"id\" is needed"), "{rows:?}");
}

#[test]
fn what_cannot_be_meant_is_refused_with_what_would_be_right() {
    let error = |config: &str, table: &TableDef| match Running::<Partition>::setup(config)
        .and_then(|mut filter| filter.plan(table))
    {
        Err(Error::Config(message) | Error::Unsupported(message)) => message,
        other => panic!("{config}: {other:?}"),
    };
    let no_key = table(&[("note", "text")], &[]);
    assert_eq!(
        error(r#"{"by":"hash","of":2,"take":[0]}"#, &no_key),
        "table shop.orders has no primary key to partition by; give it one, name a `column`, or leave it out of `tables`"
    );
    let mod_text = r#"{"by":"mod","of":2,"take":[0],"column":"note"}"#;
    assert_eq!(
        error(mod_text, &no_key),
        "column shop.orders.note is text, and `mod` takes integers; use `hash`"
    );
    let two = table(&[("a", "int64"), ("b", "int64")], &["a", "b"]);
    assert_eq!(
        error(r#"{"by":"mod","of":2,"take":[0]}"#, &two),
        "table shop.orders has a key of 2 columns, and `mod` takes one; name it with `column`, or use `hash`"
    );
    assert_eq!(
        error(r#"{"by":"hash","of":2,"take":[2]}"#, &two),
        "take: there is no bucket 2; the last is 1"
    );
    assert_eq!(error(r#"{"by":"hash","of":0,"take":[0]}"#, &two), "of: from 1 to 65536 buckets, not 0");
    assert_eq!(
        error(r#"{"by":"hash","of":2,"take":[]}"#, &two),
        "take: name at least one bucket from 0 to 1"
    );
    assert_eq!(
        error(r#"{"by":"range","bounds":[2,1],"take":[0],"column":"a"}"#, &two),
        "bounds: each has to be greater than the one before"
    );
    assert_eq!(
        error(r#"{"by":"range","bounds":[1],"of":3,"take":[0]}"#, &two),
        "of: 1 bounds make 2 buckets, not 3; leave `of` out"
    );
}
