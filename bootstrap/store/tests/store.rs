//! What a store means, in memory and in a directory.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use support::conformance::conforms;
use tidemill_world::objects;

#[tokio::test]
async fn a_store_in_memory_keeps_one_history_and_what_readers_use() {
    conforms(support::memory()).await;
}

#[tokio::test]
async fn a_store_in_a_directory_keeps_one_history_and_what_readers_use() {
    let dir = tempfile::tempdir().unwrap();
    conforms(objects::open(&format!("file://{}", dir.path().display())).unwrap()).await;
}
