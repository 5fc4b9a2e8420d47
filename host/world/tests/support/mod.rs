//! What a change history asks of an object store: one suite, for every store that there is.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Error, MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use tidemill_world::objects;

/// What is sent in one part of an upload; S3 takes no smaller ones but the last.
const PART_BYTES: usize = 5 << 20;
const ROUNDS: usize = 20;
const RACERS: usize = 16;

type Store = Arc<dyn ObjectStore>;

/// All of it, each under a directory of its own.
pub async fn conforms(store: Store) {
    an_object_is_read_as_it_was_put(&store).await;
    a_name_is_created_once(&store).await;
    of_those_who_create_at_once_one_wins(&store).await;
    what_is_overwritten_is_the_newer(&store).await;
    an_upload_in_parts_is_one_object(&store).await;
    names_are_listed_below_a_directory_and_after_a_name(&store).await;
    what_is_deleted_is_gone(&store).await;
    objects::probe(&*store, &Path::from("asked")).await.unwrap();
    objects::probe(&*store, &Path::from("asked")).await.unwrap();
}

async fn create(store: &Store, at: &Path, text: impl Into<PutPayload>) -> Result<(), Error> {
    store.put_opts(at, text.into(), PutMode::Create.into()).await.map(|_| ())
}

async fn read(store: &Store, at: &Path) -> Bytes {
    store.get(at).await.unwrap().bytes().await.unwrap()
}

async fn an_object_is_read_as_it_was_put(store: &Store) {
    let at = Path::from("whole/shop one/segments/00000000000000000001-7-deadbeef.seg");
    let bytes: Bytes = (0..300_000_u64).map(|i| ((i * i) >> 7) as u8).collect::<Vec<u8>>().into();
    store.put(&at, bytes.clone().into()).await.unwrap();
    assert!(read(store, &at).await == bytes, "{store}");
    let meta = store.head(&at).await.unwrap();
    assert_eq!((meta.location, meta.size), (at.clone(), 300_000), "{store}");
    for range in [0..1, 17..4096, 299_999..300_000, 200_000..300_000] {
        let part = store.get_range(&at, range.clone()).await.unwrap();
        assert!(part == bytes[range.start as usize..range.end as usize], "{store}: {range:?}");
    }
    let parts = store.get_ranges(&at, &[5..9, 100_000..100_010]).await.unwrap();
    assert_eq!(parts, [bytes.slice(5..9), bytes.slice(100_000..100_010)], "{store}");
    let mut pieces = store.get(&at).await.unwrap().into_stream();
    let mut whole = Vec::new();
    while let Some(piece) = pieces.next().await {
        whole.extend_from_slice(&piece.unwrap());
    }
    assert!(whole == bytes, "{store}");
    store.put(&Path::from("whole/empty"), Bytes::new().into()).await.unwrap();
    assert_eq!(read(store, &Path::from("whole/empty")).await, "", "{store}");
    let none = store.get(&Path::from("whole/none")).await.unwrap_err();
    assert!(matches!(none, Error::NotFound { .. }), "{store}: {none}");
}

async fn a_name_is_created_once(store: &Store) {
    let at = Path::from("once/catalogue/00000000000000000001");
    create(store, &at, "first").await.unwrap();
    for _ in 0..2 {
        let again = create(store, &at, "second").await.unwrap_err();
        assert!(matches!(again, Error::AlreadyExists { .. }), "{store}: {again}");
    }
    assert_eq!(read(store, &at).await, "first", "{store}");
    store.delete(&at).await.unwrap();
    create(store, &at, "third").await.unwrap();
    assert_eq!(read(store, &at).await, "third", "{store}");
}

async fn of_those_who_create_at_once_one_wins(store: &Store) {
    for round in 0..ROUNDS {
        let at = Path::from(format!("race/{round}"));
        let racers = (0..RACERS).map(|racer| {
            let (store, at) = (Arc::clone(store), at.clone());
            tokio::spawn(async move { create(&store, &at, format!("racer {racer}")).await })
        });
        let mut winners = Vec::new();
        for (racer, end) in join_all(racers).await.into_iter().enumerate() {
            match end.unwrap() {
                Ok(()) => winners.push(racer),
                Err(Error::AlreadyExists { .. }) => {}
                Err(error) => panic!("{store}: racer {racer} of round {round}: {error}"),
            }
        }
        assert_eq!(winners.len(), 1, "{store}: winners {winners:?} of round {round}");
        assert_eq!(read(store, &at).await, format!("racer {}", winners[0]), "{store}");
    }
}

async fn what_is_overwritten_is_the_newer(store: &Store) {
    let at = Path::from("newer/entry");
    for text in ["a longer first text", "second"] {
        store.put(&at, text.into()).await.unwrap();
        assert_eq!(read(store, &at).await, text, "{store}");
    }
}

async fn an_upload_in_parts_is_one_object(store: &Store) {
    let at = Path::from("parts/segment");
    let parts = [vec![1; PART_BYTES], vec![2; PART_BYTES], vec![3; 1000]];
    let mut upload: Box<dyn MultipartUpload> = store.put_multipart(&at).await.unwrap();
    for part in &parts {
        upload.put_part(part.clone().into()).await.unwrap();
    }
    assert!(matches!(store.head(&at).await, Err(Error::NotFound { .. })), "{store}: half of it is there");
    upload.complete().await.unwrap();
    assert!(read(store, &at).await == parts.concat(), "{store}");

    let dropped = Path::from("parts/dropped");
    let mut upload = store.put_multipart(&dropped).await.unwrap();
    upload.put_part(parts[0].clone().into()).await.unwrap();
    upload.abort().await.unwrap();
    assert!(matches!(store.head(&dropped).await, Err(Error::NotFound { .. })), "{store}: it is there");
}

/// In any order, as a directory gives them; with an offset, all that is after it.
async fn names_are_listed_below_a_directory_and_after_a_name(store: &Store) {
    let name = |i: usize| Path::from(format!("names/shop/catalogue/{i:020}"));
    for i in 0..10 {
        create(store, &name(i), format!("{i}")).await.unwrap();
    }
    store.put(&Path::from("names/shop/catalogue-of-another/1"), "x".into()).await.unwrap();
    store.put(&Path::from("names/shop2/catalogue/1"), "x".into()).await.unwrap();
    let sorted = async |listed: futures_util::stream::BoxStream<'static, Result<_, Error>>| {
        let mut names: Vec<Path> =
            listed.map_ok(|meta: object_store::ObjectMeta| meta.location).try_collect().await.unwrap();
        names.sort();
        names
    };
    let below = Path::from("names/shop/catalogue");
    assert_eq!(sorted(store.list(Some(&below))).await, (0..10).map(name).collect::<Vec<_>>(), "{store}");
    let after = store.list_with_offset(Some(&below), &name(6));
    assert_eq!(sorted(after).await, (7..10).map(name).collect::<Vec<_>>(), "{store}");
    let nothing = store.list(Some(&Path::from("names/none")));
    assert_eq!(sorted(nothing).await, [], "{store}");
}

async fn what_is_deleted_is_gone(store: &Store) {
    let names: Vec<Path> = (0..5).map(|i| Path::from(format!("gone/{i}"))).collect();
    for name in &names {
        store.put(name, "x".into()).await.unwrap();
    }
    store.delete(&names[0]).await.unwrap();
    let rest = futures_util::stream::iter(names[1..4].to_vec()).map(Ok).boxed();
    let deleted: Vec<Path> = store.delete_stream(rest).try_collect().await.unwrap();
    assert_eq!(deleted, names[1..4], "{store}");
    let left: Vec<_> = store.list(Some(&Path::from("gone"))).try_collect().await.unwrap();
    assert_eq!(left.into_iter().map(|meta| meta.location).collect::<Vec<_>>(), names[4..], "{store}");
    assert!(matches!(store.get(&names[0]).await, Err(Error::NotFound { .. })), "{store}");
}
