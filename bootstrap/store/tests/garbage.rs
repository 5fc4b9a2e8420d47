//! What is left of a table that is gone, for who reads its directory as it lies.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::Arc;

use support::dated::Dated;
use support::*;
use tidemill_bootstrap_store::{DeltaLake, Retention, Store, Writer, WriterOptions};

/// Makes the table and publishes it, so that its directory has all that people are told.
async fn publish(writer: &Writer, scn: u64) {
    let version = put_version(writer.store(), "a", scn, &[]).await.unwrap();
    let change = |draft: &mut tidemill_bootstrap_store::Draft| {
        (draft.manifest.applied, draft.manifest.logged) = (mark(scn), mark(scn));
        create_table(draft, "a");
        state(draft, "a").base = Some(version);
    };
    writer.commit(change).await.unwrap();
}

async fn collect(writer: &Writer) {
    writer.collect_garbage(&Retention::default(), now_us()).await.unwrap();
}

#[tokio::test]
async fn a_table_that_is_gone_leaves_nothing_in_its_directory_once_its_retention_is_over() {
    let store = Store::new(Arc::new(Dated::default()), "shop");
    let hints: Vec<Arc<dyn tidemill_bootstrap_store::Hints>> = vec![Arc::new(DeltaLake)];
    let writer = store.open_writer(WriterOptions { hints, ..options("one") }).await.unwrap();
    publish(&writer, 10).await;
    let published = paths(&store, "shop.a").await;
    let told = |paths: &[String], name: &str| paths.iter().any(|path| path.starts_with(name));
    assert!(
        told(&published, "shop.a/LATEST.json")
            && told(&published, "shop.a/_delta_log/00000000000000000000.json")
    );
    let drop = |draft: &mut tidemill_bootstrap_store::Draft| {
        let id = state(draft, "a").id;
        draft.drop_table(id, at(10));
    };
    writer.commit(drop).await.unwrap();
    // As long as who asks for the table of then finds it, all of it stays.
    pass(23 * HOUR_US);
    collect(&writer).await;
    assert_eq!(paths(&store, "shop.a").await, published);
    pass(2 * HOUR_US);
    step(&writer, 20).await.unwrap();
    pass(25 * HOUR_US);
    collect(&writer).await;
    assert_eq!(paths(&store, "shop.a").await, Vec::<String>::new());
    // Made again, it begins anew for everybody.
    publish(&writer, 30).await;
    let again = paths(&store, "shop.a").await;
    assert!(
        told(&again, "shop.a/LATEST.json") && told(&again, "shop.a/_delta_log/00000000000000000000.json")
    );
    pass(25 * HOUR_US);
    step(&writer, 40).await.unwrap();
    pass(25 * HOUR_US);
    collect(&writer).await;
    assert_eq!(paths(&store, "shop.a").await, again, "what is published stays");
}

#[tokio::test]
async fn a_delta_lake_log_whose_beginning_is_gone_is_readable_again_from_its_next_version() {
    let store = Store::new(Arc::new(Dated::default()), "shop");
    let hints: Vec<Arc<dyn tidemill_bootstrap_store::Hints>> = vec![Arc::new(DeltaLake)];
    let writer = store.open_writer(WriterOptions { hints, ..options("one") }).await.unwrap();
    publish(&writer, 10).await;
    let next = async |scn| {
        let version = put_version(&store, "a", scn, &[]).await.unwrap();
        let change = |draft: &mut tidemill_bootstrap_store::Draft| {
            (draft.manifest.applied, draft.manifest.logged) = (mark(scn), mark(scn));
            state(draft, "a").base = Some(version);
        };
        writer.commit(change).await.unwrap();
    };
    next(20).await;
    let first = store.path("shop.a/_delta_log/00000000000000000000.json");
    object_store::ObjectStoreExt::delete(store.objects().as_ref(), &first).await.unwrap();
    next(30).await;
    let log = paths(&store, "shop.a/_delta_log").await;
    let begins = "shop.a/_delta_log/00000000000000000002.checkpoint.parquet";
    assert!(log.iter().any(|path| path == begins), "{log:?}");
}
