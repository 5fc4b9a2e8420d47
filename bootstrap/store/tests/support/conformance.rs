//! What a store has to mean on every object store.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use object_store::ObjectStore;
use object_store::ObjectStoreExt;
use serde_json::Value;
use tidemill_bootstrap_store::{CommitError, Retention, Store, StoreError, trim};

use super::*;

/// Runs everything; each in the directory of a source of its own.
pub async fn conforms(objects: Arc<dyn ObjectStore>) {
    objects_are_checked(&Store::new(objects.clone(), "objects")).await;
    commits_are_numbered(&Store::new(objects.clone(), "commits")).await;
    a_successor_fences(&Store::new(objects.clone(), "fences")).await;
    racing_writers_leave_one_history(&Store::new(objects.clone(), "races")).await;
    the_newest_is_found(&Store::new(objects.clone(), "newest")).await;
    readers_are_told(&Store::new(objects.clone(), "told").with_url("s3://lake/cdc/")).await;
    garbage_goes_and_pins_keep(&Store::new(objects.clone(), "garbage")).await;
}

fn is_damaged<T: std::fmt::Debug>(result: Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Damaged(_)))
}

async fn objects_are_checked(store: &Store) {
    let text = Bytes::from_static(b"0123456789");
    let object = store.put("shop.orders%2Fnew/run/a.parquet", text.clone()).await.unwrap();
    assert_eq!((object.bytes, store.get(&object).await.unwrap()), (10, text.clone()));
    assert_eq!(store.put(&object.path, text).await.unwrap(), object, "the same counts as put");
    assert!(is_damaged(store.put(&object.path, Bytes::from_static(b"other")).await));
    let parts = store.get_ranges(&object, &[2..4, 0..1, 8..10]).await.unwrap();
    assert_eq!(parts, ["23", "0", "89"]);
    assert!(is_damaged(store.get_ranges(&object, &[0..1, 8..11]).await), "it is not so long");
    let mut other = object.clone();
    other.crc32c ^= 1;
    assert!(is_damaged(store.get(&other).await));
    let large: Bytes = (0..(40u32 << 20) / 4).flat_map(u32::to_le_bytes).collect::<Vec<u8>>().into();
    let object = store.put("log/large.seg", large.clone()).await.unwrap();
    assert!(store.get(&object).await.unwrap() == large);
}

async fn commits_are_numbered(store: &Store) {
    assert_eq!(store.newest().await.unwrap(), None);
    let writer = store.open_writer(options("one")).await.unwrap();
    assert_eq!((writer.head().number, writer.head().epoch), (1, 1));
    let ids = writer.commit(|draft| ["a", "b"].map(|name| create_table(draft, name))).await.unwrap();
    assert_eq!(ids, [1, 2]);
    let run = put_run(store, "a", 0, 10).await.unwrap();
    let change = |draft: &mut Draft| {
        state(draft, "a").runs.push(run.clone());
        (draft.manifest.applied, draft.manifest.logged) = (mark(10), mark(10));
    };
    writer.commit(change).await.unwrap();
    let head = fresh(store).newest().await.unwrap().unwrap();
    assert_eq!((&head, head.number), (&writer.head(), 3));
    let tables = whole(&fresh(store), &head).await;
    assert_eq!(tables, writer.tables());
    assert_eq!(tables[&1].runs, [run]);
    assert_eq!(paths(store, "_meta/table/1").await.len(), 2);
    assert_eq!(paths(store, "_meta/table/2").await.len(), 1, "it did not change");
    writer.commit(|_| ()).await.unwrap();
    assert_eq!(store.manifests().await.unwrap(), [1, 2, 3], "nothing changed");
    // Every version reads as it was.
    let before = fresh(store).manifest(2).await.unwrap().unwrap();
    assert!(whole(store, &before).await[&1].runs.is_empty());
    assert_eq!(fresh(store).manifest(4).await.unwrap(), None);
    let gone = writer.commit(|draft| draft.tables.remove(&2).unwrap().id).await.unwrap();
    let again = writer.commit(|draft| create_table(draft, "b")).await.unwrap();
    assert!(again > gone, "a table that is made again is another one");
}

async fn a_successor_fences(store: &Store) {
    let old = store.open_writer(options("old")).await.unwrap();
    step(&old, 10).await.unwrap();
    let new = fresh(store).open_writer(options("new")).await.unwrap();
    assert_eq!((new.head().epoch, new.head().number), (2, 3));
    assert_eq!(new.head().applied, mark(10));
    for _ in 0..2 {
        match step(&old, 20).await {
            Err(CommitError::Fenced(fenced)) => assert_eq!((fenced.epoch, fenced.by_epoch), (1, 2)),
            other => panic!("{other:?}"),
        }
    }
    step(&new, 30).await.unwrap();
    assert_eq!(fresh(store).newest().await.unwrap().unwrap().applied, mark(30));
    assert_eq!(store.manifests().await.unwrap(), [1, 2, 3, 4]);
}

/// All open at once, and all commit as long as they can.
async fn racing_writers_leave_one_history(store: &Store) {
    let names = ["a", "b", "c", "d"];
    let opened = join_all(names.map(|name| {
        let store = fresh(store);
        async move { store.open_writer(options(name)).await.unwrap() }
    }));
    let writers = opened.await;
    let done = join_all(writers.iter().map(|writer| async move {
        let mut count = 0;
        for _ in 0..5 {
            let change = |draft: &mut Draft| {
                let scn = draft.manifest.applied.position.scn.0 + 1;
                (draft.manifest.applied, draft.manifest.logged) = (mark(scn), mark(scn));
            };
            match writer.commit(change).await {
                Ok(()) => count += 1,
                Err(CommitError::Fenced(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        (writer.head().epoch, count)
    }));
    let done = done.await;
    let last = done.iter().max().unwrap();
    assert_eq!(last.1, 5, "the last one that took over is stopped by nobody: {done:?}");
    let all = fresh(store);
    let (mut scn, mut epoch) = (0, 0);
    for number in 1..=all.newest().await.unwrap().unwrap().number {
        let manifest = all.manifest(number).await.unwrap().unwrap();
        assert!(manifest.epoch >= epoch, "an older writer wrote after a newer one");
        scn += if manifest.epoch > epoch { 0 } else { 1 };
        epoch = manifest.epoch;
        assert_eq!(manifest.applied.position.scn.0, scn, "each commit goes on from the one before");
    }
    assert_eq!(scn, done.iter().map(|(_, count)| count).sum::<u64>(), "what was said to be committed is");
}

async fn the_newest_is_found(store: &Store) {
    let writer = store.open_writer(options("one")).await.unwrap();
    let hint = store.path("_meta/manifest/HINT");
    let first = store.objects().get(&hint).await.unwrap().bytes().await.unwrap();
    for scn in 1..=20 {
        step(&writer, scn).await.unwrap();
    }
    let mut damaged = first.to_vec();
    damaged[30] ^= 1;
    for hint_is in [Some(first), Some(damaged.into()), Some(Bytes::new()), None] {
        store.objects().delete(&hint).await.unwrap();
        if let Some(bytes) = hint_is {
            store.objects().put(&hint, bytes.into()).await.unwrap();
        }
        assert_eq!(fresh(store).newest().await.unwrap().unwrap().number, 21);
        store.objects().put(&hint, "".into()).await.unwrap();
    }
}

async fn latest(store: &Store) -> Value {
    let object = store.objects().get(&store.path("shop.a/LATEST.json")).await.unwrap();
    serde_json::from_slice(&object.bytes().await.unwrap()).unwrap()
}

async fn readers_are_told(store: &Store) {
    let writer = store.open_writer(options("one")).await.unwrap();
    writer.commit(|draft| create_table(draft, "a")).await.unwrap();
    let mut versions = Vec::new();
    for scn in [10, 20] {
        step(&writer, scn).await.unwrap();
        let version = put_version(store, "a", scn, &[]).await.unwrap();
        writer.commit(|draft| state(draft, "a").base = Some(version.clone())).await.unwrap();
        let told = latest(store).await;
        let path = version.path.clone().unwrap();
        assert_eq!(told["path"], path.strip_prefix("shop.a/").unwrap());
        assert_eq!(told["url"], format!("s3://lake/cdc/told/{path}"));
        assert_eq!(told["gtid_set"], format!("set:1-{scn}"));
        let numbers =
            ["scn", "timeline", "time_us", "manifest", "rows"].map(|key| told[key].as_u64().unwrap());
        assert_eq!(numbers, [scn, 1, scn, writer.head().number, 20]);
        let files: Vec<&str> =
            told["files"].as_array().unwrap().iter().map(|f| f.as_str().unwrap()).collect();
        let expected: Vec<&str> = version.files.iter().map(|f| &f.object.path["shop.a/".len()..]).collect();
        assert_eq!(files, expected);
        versions.push(path);
    }
    assert_eq!(writer.tables()[&1].older, versions[..1]);
    // Whoever starts says it again.
    store.objects().put(&store.path("shop.a/LATEST.json"), "{}".into()).await.unwrap();
    let _writer = fresh(store).open_writer(options("two")).await.unwrap();
    assert_eq!(latest(store).await["scn"], 20);
}

async fn garbage_goes_and_pins_keep(store: &Store) {
    let writer = store.open_writer(options("one")).await.unwrap();
    writer.commit(|draft| create_table(draft, "a")).await.unwrap();
    let mut pinned = None;
    for scn in [10, 20, 30, 40] {
        step(&writer, scn).await.unwrap();
        let version = put_version(store, "a", scn, &[]).await.unwrap();
        writer.commit(|draft| state(draft, "a").base = Some(version)).await.unwrap();
        if scn == 10 {
            store.pin("a/reader", writer.head().number, 2 * DAY, now_us()).await.unwrap();
            pinned = Some(writer.head());
        }
    }
    let (head, pinned) = (writer.head(), pinned.unwrap());
    let orphan = put_version(store, "a", 50, &[]).await.unwrap().path.unwrap();
    let keep = Retention::default();
    assert_eq!(writer.collect_garbage(&keep, now_us()).await.unwrap().objects, 0, "all is young");
    // A day later: the pinned version stays, and as many as are kept; the others go whole.
    let later = now_us() + 30 * HOUR_US;
    writer.commit(|draft| trim(draft, &keep, later)).await.unwrap();
    let swept = writer.collect_garbage(&keep, later).await.unwrap();
    let numbers = store.manifests().await.unwrap();
    assert_eq!((swept.manifests, numbers[0]), (pinned.number - 1, pinned.number));
    whole(&fresh(store), &pinned).await;
    whole(&fresh(store), &fresh(store).newest().await.unwrap().unwrap()).await;
    let versions = |paths: &[String]| {
        let scn = |path: &String| path.strip_prefix("shop.a/snap-")?.get(..20)?.parse::<u64>().ok();
        let mut versions: Vec<u64> = paths.iter().filter_map(scn).collect();
        versions.dedup();
        versions
    };
    let left = paths(store, "shop.a").await;
    assert_eq!(versions(&left), [10, 30, 40]);
    assert!(
        !left.iter().any(|path| path.starts_with(&orphan)) && left.contains(&"shop.a/LATEST.json".into())
    );
    // When the pin ran out, it goes as the others.
    let later = now_us() + 60 * HOUR_US;
    writer.collect_garbage(&keep, later).await.unwrap();
    assert_eq!(versions(&paths(store, "shop.a").await), [30, 40]);
    assert_eq!(store.manifests().await.unwrap(), [head.number + 1]);
    assert!(paths(store, "_meta/pin").await.is_empty());
    assert!(matches!(store.pin("late", pinned.number, DAY, later).await, Err(StoreError::Gone(_))));
}
