//! The checkpoint in a file: damage is reported and never read as "start over".

#![allow(clippy::unwrap_used, reason = "tests")]

use tidemill_client::{CheckpointStore, FileStore, FileStoreError};
use tidemill_event::{Checkpoint, Phase, Position, Remedy, Scn};

fn checkpoint(scn: u64) -> Checkpoint {
    Checkpoint {
        source: "shop".into(),
        server: "server-1".into(),
        position: Position { timeline: 1, scn: Scn(scn) },
        gtid_set: format!("server-1:1-{scn}"),
        phase: Phase::Stream,
    }
}

#[tokio::test]
async fn what_was_saved_last_is_loaded_and_nothing_before_the_first_time() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = FileStore::new(directory.path().join("shop.checkpoint"));
    assert_eq!(store.load().await.unwrap(), None);
    for scn in [7, 5, 900] {
        store.save(&checkpoint(scn)).await.unwrap();
        assert_eq!(store.load().await.unwrap(), Some(checkpoint(scn)));
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left beside it");
}

#[tokio::test]
async fn b35_a_file_that_is_cut_or_changed_at_any_byte_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shop.checkpoint");
    let mut store = FileStore::new(&path);
    store.save(&checkpoint(900)).await.unwrap();
    let record = std::fs::read(&path).unwrap();
    let cut = (0..record.len()).map(|length| record[..length].to_vec());
    let changed = (0..record.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))).map(|(at, bit)| {
        let mut changed = record.clone();
        changed[at] ^= 1 << bit;
        changed
    });
    let longer = std::iter::once([&record[..], b"x"].concat());
    for damaged in cut.chain(changed).chain(longer) {
        std::fs::write(&path, &damaged).unwrap();
        let error = store.load().await.unwrap_err();
        assert!(matches!(error, FileStoreError::Damaged { .. }), "{damaged:?}");
        assert_eq!(error.remedy(), Remedy::Fix);
    }
}

#[tokio::test]
async fn b35_a_crash_while_saving_leaves_the_last_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shop.checkpoint");
    let mut store = FileStore::new(&path);
    store.save(&checkpoint(900)).await.unwrap();
    // Whatever was written of a new one lies beside it.
    let record = checkpoint(901).encode();
    for length in 0..=record.len() {
        std::fs::write(directory.path().join("shop.checkpoint.new"), &record[..length]).unwrap();
        assert_eq!(store.load().await.unwrap(), Some(checkpoint(900)));
    }
    store.save(&checkpoint(902)).await.unwrap();
    assert_eq!(store.load().await.unwrap(), Some(checkpoint(902)));
}

#[tokio::test]
async fn a_place_that_takes_no_file_is_an_error_and_not_the_beginning() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = FileStore::new(directory.path());
    assert!(matches!(store.load().await, Err(FileStoreError::Io { .. })));
    assert!(matches!(store.save(&checkpoint(1)).await, Err(FileStoreError::Io { .. })));
}
