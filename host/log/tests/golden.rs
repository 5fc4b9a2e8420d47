//! Segments, indexes and their neighbours are byte for byte those of earlier releases.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::path::{Path, PathBuf};

use support::*;
use tempfile::tempdir;
use tidemill_event::Part;
use tidemill_log::{From, Log};

const FILES: [&str; 4] =
    ["0000000001-00000000000000000100.seg", "0000000001-00000000000000000100.idx", "durable", "epoch"];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
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
