//! Readers read while versions are published and old ones are collected: each sees one version, whole.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use serde_json::json;
use tempfile::tempdir;
use tidemill_readers_tests::{Lake, Readers, Seen, Table};
use tokio::sync::watch;

/// Reads until told that no version follows, and once more.
fn read_on(
    reader: &'static str,
    url: &str,
    end: &watch::Receiver<bool>,
    reads: &watch::Sender<usize>,
) -> Vec<Seen> {
    let mut readers = Readers::start();
    let mut all = vec![];
    loop {
        let last = *end.borrow();
        all.push(readers.read(reader, url, &json!({})));
        reads.send_replace(all.len());
        if last {
            return all;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_sees_one_whole_version_whatever_is_published_and_collected() {
    let directory = tempdir().unwrap();
    let mut lake = Lake::create(directory.path(), Table::orders(), Table::fill(2000)).await;
    let (end, ended) = watch::channel(false);
    let mut all = vec![];
    for reader in ["duckdb", "delta-rs", "pyarrow"] {
        let (url, ended, (said, reads)) = (lake.url(), ended.clone(), watch::channel(0));
        let reading = tokio::task::spawn_blocking(move || read_on(reader, &url, &ended, &said));
        all.push((reader, reading, reads));
    }
    // Enough for a reader that begins now, with the versions that are published before we wait for it.
    lake.keep.keep_versions = 4;
    let mut swept = 0;
    for number in 0..40 {
        lake.change(50, 2500).await;
        lake.publish().await;
        swept += lake.collect().await.objects;
        // Every second version waits for everyone, so that versions do not outrun a slow reader.
        if number % 2 == 0 {
            for (_, _, reads) in &mut all {
                let before = *reads.borrow_and_update();
                reads.wait_for(|reads| *reads > before).await.unwrap();
            }
        }
    }
    assert!(swept > 40, "old versions went while others were read: {swept}");
    end.send_replace(true);
    for (reader, reading, _) in all {
        let seen = reading.await.unwrap();
        for seen in &seen {
            let scn = seen.scn.unwrap();
            let is = lake.published.iter().find(|(_, digest)| **digest == seen.digest).map(|(scn, _)| *scn);
            assert_eq!(is, Some(scn), "{reader}");
        }
        let versions: BTreeSet<_> = seen.iter().map(|seen| seen.scn).collect();
        assert!(versions.len() >= 10, "{versions:?}");
        assert_eq!(versions.last().unwrap(), &lake.published.keys().last().copied());
    }
}
