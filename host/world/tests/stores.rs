//! The stores that are always there, by what a change history asks of one.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;
use tidemill_world::faulty::{Fault, Faults, FaultyStore, Op};
use tidemill_world::objects::{self, ProbeError};
use url::Url;

fn faulty() -> (Arc<dyn ObjectStore>, Faults) {
    let faults = Faults::default();
    (Arc::new(FaultyStore::new(Arc::new(InMemory::new()), faults.clone())), faults)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_does_what_a_history_asks() {
    let dir = tempfile::tempdir().unwrap();
    let store = objects::open(Url::from_file_path(dir.path()).unwrap().as_str()).unwrap();
    support::conforms(store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_does_what_a_history_asks() {
    support::conforms(Arc::new(InMemory::new())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_faulty_store_without_faults_does_what_a_history_asks() {
    support::conforms(faulty().0).await;
}

/// Says that it created what it does not keep.
#[tokio::test]
async fn a_store_that_takes_a_name_twice_is_refused_with_what_to_do() {
    let (store, faults) = faulty();
    faults.only(Op::Put);
    faults.from(1, Fault::Vanish);
    let error = objects::probe(&*store, &Path::from("asked")).await.unwrap_err();
    assert!(matches!(error, ProbeError::Overwrites { .. }) && !error.mends_itself(), "{error}");
    assert_eq!(
        error.to_string(),
        "the object store faulty InMemory replaced `asked` when it was told to create it only where it is not there, so two relays could \
         overwrite each other's history; use a store with conditional writes (`If-None-Match: *` in S3's interface), or a \
         newer release of this one"
    );
}

#[tokio::test]
async fn a_store_that_fails_is_asked_again_and_one_that_lost_its_answer_passes() {
    let (store, faults) = faulty();
    let object = Path::from("asked");
    for call in 1..=3 {
        faults.at(call, Fault::Fail);
        let error = objects::probe(&*store, &object).await.unwrap_err();
        assert!(matches!(error, ProbeError::Failed { .. }) && error.mends_itself(), "call {call}: {error}");
        faults.clear();
    }
    objects::probe(&*store, &object).await.unwrap();
    let (store, faults) = self::faulty();
    faults.at(1, Fault::LoseAnswer);
    assert!(objects::probe(&*store, &object).await.unwrap_err().mends_itself());
    objects::probe(&*store, &object).await.unwrap();
}
