//! Change history in the clouds' object stores, each a stand-in on loopback: the log's own requests, over the wire. What
//! history means is tested in `history`, what a store has to do in `host/world`.
#![cfg(feature = "cloud")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::io::Write;
use std::sync::Arc;

use object_store::ObjectStore;
use support::*;
use tempfile::tempdir;
use tidemill_log::{From, HistoryConfig, HistoryError, LogConfig};
use tidemill_stand_ins::StandInError;
use tidemill_stand_ins::azure::Azure;
use tidemill_stand_ins::gcs::Gcs;
use tidemill_stand_ins::s3::{Creates, S3};
use tidemill_world::objects;

fn open(url: &str, settings: Vec<(String, String)>) -> HistoryConfig {
    let store: Arc<dyn ObjectStore> = objects::open_with(url, settings).unwrap();
    HistoryConfig { url: url.to_owned(), ..history(&store) }
}

/// The log leaves this disk segment by segment, is read from the store, and goes on from it when the disk is lost; another
/// log does not get into its history.
async fn serves_a_log(history: HistoryConfig) {
    let (dir, other) = (tempdir().unwrap(), tempdir().unwrap());
    let log = tiered(fleeting(dir.path()), history.clone()).await;
    append_tens(&mut log.writer().unwrap(), 10, 200);
    log.archive_now().await.unwrap();
    let archived = log.history_stats().unwrap();
    assert!(log.stats().segment_count == 1 && archived.segment_count > 10, "{archived:?}");
    for scn in [10, 50, 120] {
        let mut reader = log.reader(From::After(at(1, scn))).unwrap();
        assert_eq!(scns_of(&read_to(&mut reader, 200).await), tens(scn + 10, 200));
    }
    let stranger =
        tiered(tiny(other.path()), HistoryConfig { source: "other".into(), ..history.clone() }).await;
    assert_eq!(stranger.history_stats().unwrap().segment_count, 0, "a source has a directory of its own");
    drop((log, stranger));
    std::fs::remove_dir_all(dir.path()).unwrap();
    let log = tiered(fleeting(dir.path()), history.clone()).await;
    let end = end(&log).unwrap();
    assert!((180..=200).contains(&end), "all but the segment that was open: {end}");
    let rival = tiered(tiny(other.path()), history).await;
    append_tens(&mut log.writer().unwrap(), end + 10, 300);
    log.archive_now().await.unwrap();
    assert_eq!(scns_of(&read_to(&mut log.reader(From::Earliest).unwrap(), 300).await), tens(10, 300));
    let mut writer = rival.writer().unwrap();
    writer.append(&window(end, &[end + 5, end + 10])).unwrap();
    append_tens(&mut writer, end + 20, 300);
    let error = rival.archive_now().await.unwrap_err();
    assert!(matches!(error, HistoryError::Other(_)), "{error}");
}

/// A segment larger than one part of an upload.
async fn takes_a_large_segment(history: HistoryConfig) {
    let (dir, source) = (tempdir().unwrap(), "large".to_owned());
    let config = LogConfig { segment_bytes: 64 << 20, ..fleeting(dir.path()) };
    let log = tiered(config.clone(), HistoryConfig { source, ..history.clone() }).await;
    let mut writer = log.writer().unwrap();
    let mut last = 0;
    while log.stats().disk_bytes < 20 << 20 {
        let scns: Vec<u64> = (last + 1..=last + 2000).collect();
        writer.append(&window(last, &scns)).unwrap();
        last += 2000;
    }
    writer.close().unwrap();
    log.archive_now().await.unwrap();
    let archived = log.history_stats().unwrap();
    assert!(archived.segment_count == 1 && archived.bytes > 20 << 20, "{archived:?}");
    drop(log);
    std::fs::remove_dir_all(dir.path()).unwrap();
    let log = tiered(config, HistoryConfig { source: "large".into(), ..history }).await;
    let given = scns_of(&read_to(&mut log.reader(From::Earliest).unwrap(), last).await);
    assert!(given.into_iter().eq(1..=last));
}

#[tokio::test]
async fn b18_history_in_s3_serves_a_log() {
    let s3 = S3::start(Creates::Once).unwrap();
    let history = open(&s3.url("a/prefix"), s3.settings());
    takes_a_large_segment(history.clone()).await;
    serves_a_log(history).await;
}

#[tokio::test]
async fn b18_history_in_google_s_store_serves_a_log() {
    let gcs = Gcs::start().unwrap();
    let history = open(&gcs.url("a/prefix"), gcs.settings());
    takes_a_large_segment(history.clone()).await;
    serves_a_log(history).await;
}

/// Where the machine has no node there is no stand-in. Continuous integration has one, and may not go without.
#[tokio::test]
async fn b18_history_in_azure_s_store_serves_a_log() {
    let azure = match Azure::start() {
        Ok(azure) => azure,
        Err(StandInError::Tools(sentence)) if std::env::var("CI").as_deref() != Ok("true") => {
            // Not `eprintln`, which the test harness keeps to itself.
            return writeln!(std::io::stderr(), "NOT TESTED: history in Azure's store. {sentence}").unwrap();
        }
        Err(error) => panic!("{error}"),
    };
    let history = open(&azure.url("a/prefix"), azure.settings());
    takes_a_large_segment(history.clone()).await;
    serves_a_log(history).await;
}
