//! Segments, indexes and their neighbours are byte for byte those of earlier releases.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::path::PathBuf;

use object_store::ObjectStoreExt;
use object_store::path::Path;
use support::*;
use tempfile::tempdir;
use tidemill_event::Part;
use tidemill_log::{From, Log};

const FILES: [&str; 4] =
    ["0000000001-00000000000000000100.seg", "0000000001-00000000000000000100.idx", "durable", "epoch"];

fn golden(name: &str) -> PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn truth() -> Vec<tidemill_event::Window> {
    vec![
        window(100, &[110, 120]),
        idle(120, 130),
        fragment(130, 140, Part::First, 0),
        fragment(130, 140, Part::Last, 3),
    ]
}

#[test]
fn files_are_byte_for_byte_those_of_earlier_releases() {
    let dir = tempdir().unwrap();
    let log = Log::open(config(dir.path())).unwrap();
    let mut writer = log.writer().unwrap();
    for window in truth() {
        writer.append(&window).unwrap();
    }
    writer.close().unwrap();
    for name in FILES {
        let written = std::fs::read(dir.path().join(name)).unwrap();
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(golden(name), &written).unwrap();
        }
        let kept = std::fs::read(golden(name)).unwrap_or_else(|e| panic!("{name}: {e}; BLESS=1 writes it"));
        assert!(
            kept == written,
            "{name} is not what earlier releases wrote; a format change carries its golden file"
        );
    }
}

#[test]
fn a_golden_log_is_read_as_what_was_written() {
    let dir = tempdir().unwrap();
    for name in FILES {
        std::fs::copy(golden(name), dir.path().join(name)).unwrap();
    }
    let log = Log::open(config(dir.path())).unwrap();
    assert_eq!(log.checkpoint().unwrap().gtid_set, "server-1:1-140");
    let read = drain(&mut log.reader(From::Earliest).unwrap());
    assert_eq!(read.len(), truth().len());
    for (read, truth) in read.iter().zip(truth()) {
        assert_same(read, &truth);
    }
}

const ENTRY: &str = "history-entry";

/// A segment's object is the file that lay on disk; its entry is a format of its own.
#[tokio::test]
async fn an_entry_of_history_is_byte_for_byte_that_of_earlier_releases() {
    let (dir, (store, _)) = (tempdir().unwrap(), faulty_store());
    let log = tiered(config(dir.path()), history(&store)).await;
    let mut writer = log.writer().unwrap();
    for window in truth() {
        writer.append(&window).unwrap();
    }
    writer.close().unwrap();
    drop(log);
    let written = std::time::UNIX_EPOCH + std::time::Duration::from_micros(1_700_000_000_123_456);
    for name in &FILES[..1] {
        let file = std::fs::OpenOptions::new().append(true).open(dir.path().join(name)).unwrap();
        file.set_modified(written).unwrap();
    }
    let log = tiered(config(dir.path()), history(&store)).await;
    log.archive_now().await.unwrap();
    let get = async |name: &str| store.get(&Path::from(name)).await.unwrap().bytes().await.unwrap();
    let entry = get("shop/catalogue/00000000000000000001").await;
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(golden(ENTRY), &entry).unwrap();
    }
    assert!(std::fs::read(golden(ENTRY)).unwrap() == entry, "a format change carries its golden file");
    let crc = crc32c::crc32c(&std::fs::read(golden(FILES[0])).unwrap());
    let object = get(&format!("shop/segments/00000000000000000001-1-{crc:08x}.seg")).await;
    assert!(std::fs::read(golden(FILES[0])).unwrap() == object);
}

#[tokio::test]
async fn a_golden_history_is_read_as_what_was_written() {
    let (dir, (store, _)) = (tempdir().unwrap(), faulty_store());
    let segment = std::fs::read(golden(FILES[0])).unwrap();
    let object = format!("shop/segments/00000000000000000001-1-{:08x}.seg", crc32c::crc32c(&segment));
    store.put(&Path::from(object), segment.into()).await.unwrap();
    let entry = std::fs::read(golden(ENTRY)).unwrap();
    store.put(&Path::from("shop/catalogue/00000000000000000001"), entry.into()).await.unwrap();
    let log = tiered(config(dir.path()), history(&store)).await;
    assert_eq!(log.checkpoint().unwrap().gtid_set, "server-1:1-140");
    let read = read_to(&mut log.reader(From::Earliest).unwrap(), 140).await;
    assert_eq!(read.len(), truth().len());
    for ((_, read), truth) in read.iter().zip(truth()) {
        assert_same(read, &truth);
    }
}
