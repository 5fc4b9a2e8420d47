//! What a writer promises beyond the history itself: it stops in time, refuses contradictions and damage, and tells readers.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures_util::FutureExt;
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use support::dated::Dated;
use support::*;
use tidemill_bootstrap_store::{
    CommitError, Draft, Dropped, HintError, Hints, Manifest, Retention, Store, StoreError, TableState,
    Writer, WriterOptions, trim,
};
use tidemill_event::{Remedy, TableName};

fn dated() -> Store {
    Store::new(Arc::new(Dated::default()), "shop")
}

fn sole_epoch(error: CommitError) -> u64 {
    match error {
        CommitError::Fenced(fenced) => fenced.by_epoch,
        CommitError::Store(error) => panic!("{error}"),
    }
}

/// A successor writes so much, and so long, that the number that `store`'s older writer takes next is free again.
async fn live_on(store: &Store) -> Writer {
    let writer = fresh(store).open_writer(options("successor")).await.unwrap();
    let scn = writer.head().logged.position.scn.0;
    for n in 1..=5 {
        step(&writer, scn + n).await.unwrap();
        pass(HOUR_US);
    }
    pass(30 * HOUR_US);
    step(&writer, scn + 10).await.unwrap();
    pass(30 * HOUR_US);
    writer.collect_garbage(&Retention::default(), now_us()).await.unwrap();
    writer
}

#[tokio::test]
async fn a_writer_that_slept_until_its_next_number_was_free_again_is_fenced() {
    let store = dated();
    let sleeper = store.open_writer(options("sleeper")).await.unwrap();
    step(&sleeper, 10).await.unwrap();
    let successor = live_on(&store).await;
    let numbers = store.manifests().await.unwrap();
    assert!(numbers[0] > sleeper.head().number + 1, "{numbers:?}");
    assert_eq!(sole_epoch(step(&sleeper, 20).await.unwrap_err()), 2);
    assert_eq!(store.manifests().await.unwrap(), numbers);
    assert_eq!(fresh(&store).newest().await.unwrap().unwrap(), successor.head());
}

#[tokio::test]
async fn a_writer_that_slept_at_any_moment_of_a_commit_is_no_part_of_a_history_that_went_on_without_it() {
    let (mut acknowledged, mut stopped) = (0, 0);
    for polls in 0.. {
        let store = dated();
        let sleeper = store.open_writer(options("sleeper")).await.unwrap();
        step(&sleeper, 10).await.unwrap();
        let mut commit = Box::pin(step(&sleeper, 20));
        let mut ended = false;
        for _ in 0..polls {
            ended = ended || (&mut commit).now_or_never().is_some();
            tokio::task::yield_now().await;
        }
        if ended {
            assert!(acknowledged > 0 && stopped > 0, "{acknowledged} {stopped}");
            return;
        }
        let successor = live_on(&store).await;
        match commit.await {
            Ok(()) => acknowledged += 1,
            Err(error) => {
                assert_eq!(sole_epoch(error), 2, "{polls} polls");
                stopped += 1;
            }
        }
        assert_eq!(sole_epoch(step(&sleeper, 30).await.unwrap_err()), 2, "{polls} polls");
        let numbers = store.manifests().await.unwrap();
        assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{polls} polls: {numbers:?}");
        assert_eq!(fresh(&store).newest().await.unwrap().unwrap(), successor.head(), "{polls} polls");
    }
}

#[tokio::test]
async fn a_store_that_was_moved_away_is_not_begun_anew_in_its_place_and_goes_on_when_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let (here, away) = (folder.path().join("lake"), folder.path().join("away"));
    let open = || {
        std::fs::create_dir_all(&here).unwrap();
        let objects = object_store::local::LocalFileSystem::new_with_prefix(&here).unwrap();
        Store::new(Arc::new(objects), "shop")
    };
    let writer = open().open_writer(options("one")).await.unwrap();
    step(&writer, 10).await.unwrap();
    std::fs::rename(&here, &away).unwrap();
    std::fs::create_dir(&here).unwrap();
    for _ in 0..2 {
        let refused = step(&writer, 20).await.unwrap_err();
        assert!(matches!(refused, CommitError::Store(StoreError::Lost(_))), "{refused}");
        assert_eq!(refused.remedy(), Remedy::Fix);
    }
    assert_eq!(open().manifests().await.unwrap(), [] as [u64; 0]);
    std::fs::remove_dir_all(&here).unwrap();
    std::fs::rename(&away, &here).unwrap();
    step(&writer, 20).await.unwrap();
    assert_eq!(fresh(&open()).newest().await.unwrap().unwrap(), writer.head());
}

type Change = Box<dyn Fn(&mut Draft) + Send + Sync>;

#[tokio::test]
async fn a_change_that_contradicts_itself_is_refused_and_nothing_of_it_is_committed() {
    let store = Store::new(memory(), "shop");
    let writer = store.open_writer(options("one")).await.unwrap();
    writer.commit(|draft| create_table(draft, "a")).await.unwrap();
    step(&writer, 20).await.unwrap();
    writer.commit(|draft| draft.manifest.timelines.push("server".into())).await.unwrap();
    let segment = put_segment(&store, 20, 30).await.unwrap();
    let changes: [(&str, Change); 9] = [
        ("goes back", Box::new(|draft| draft.manifest.applied = mark(19))),
        ("goes back", Box::new(|draft| draft.manifest.logged = mark(19))),
        ("only 1/20 is logged", Box::new(|draft| draft.manifest.applied = mark(21))),
        ("forgets a timeline", Box::new(|draft| draft.manifest.timelines.clear())),
        ("a second time", Box::new(|draft| draft.manifest.next_table = 1)),
        ("another format or source", Box::new(|draft| draft.manifest.source = "other".into())),
        ("not in order", Box::new(move |draft| draft.manifest.log.push(segment.clone()))),
        ("not given to it", Box::new(|draft| drop(draft.tables.insert(9, table(9, "b"))))),
        ("two tables are", Box::new(|draft| _ = create_table(draft, "a"))),
    ];
    let head = writer.head();
    for (expected, change) in changes {
        let error = writer.commit(|draft| change(draft)).await.unwrap_err();
        assert_eq!(error.remedy(), Remedy::Bug);
        assert!(error.to_string().contains(expected), "{error}, not {expected}");
        assert_eq!(
            (writer.head(), fresh(&store).newest().await.unwrap().unwrap()),
            (head.clone(), head.clone())
        );
    }
}

#[tokio::test]
async fn b19_every_flipped_bit_of_a_manifest_a_state_and_a_run_is_refused() {
    let objects = Arc::new(InMemory::new());
    let store = Store::new(objects.clone(), "shop");
    let writer = store.open_writer(options("one")).await.unwrap();
    writer.commit(|draft| create_table(draft, "a")).await.unwrap();
    let run = put_run(&store, "a", 0, 10).await.unwrap();
    writer.commit(|draft| state(draft, "a").runs.push(run.clone())).await.unwrap();
    let head = writer.head();
    let manifest = format!("_meta/manifest/{:020}.json", head.number);
    let reference = head.tables.values().next().unwrap().clone();
    for path in [&manifest, &reference.state.path, &run.object.path] {
        let path = store.path(path);
        let sound = objects.get(&path).await.unwrap().bytes().await.unwrap();
        for bit in 0..sound.len() * 8 {
            let mut flipped = sound.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            objects.put(&path, flipped.into()).await.unwrap();
            let store = fresh(&store);
            let read = async {
                store.newest().await?;
                store.table(&reference).await?;
                store.get(&run.object).await
            };
            let refused = read.await.unwrap_err();
            assert!(matches!(&refused, StoreError::Damaged(d) if d.object == path.as_ref()), "{refused}");
        }
        let taken_over = fresh(&store).open_writer(options("two")).await;
        if path.as_ref().contains("_meta") {
            assert_eq!(taken_over.unwrap_err().remedy(), Remedy::Fix);
        }
        objects.put(&path, sound.into()).await.unwrap();
    }
    assert_eq!(writer.head(), head);
}

/// Notes what it is told, and fails as long as it is told to.
#[derive(Debug, Default)]
struct Notes {
    told: Mutex<Vec<(u64, String)>>,
    fails: AtomicBool,
}

#[async_trait]
impl Hints for Notes {
    async fn publish(&self, _: &Store, manifest: &Manifest, table: &TableState) -> Result<(), HintError> {
        if self.fails.load(Ordering::Relaxed) {
            return Err("it was told to fail".into());
        }
        self.told.lock().unwrap().push((manifest.number, table.name.table.clone()));
        Ok(())
    }
}

#[tokio::test]
async fn hints_are_given_after_the_commit_again_when_they_fail_and_at_each_start() {
    let notes = Arc::new(Notes::default());
    let hinted = || WriterOptions { hints: vec![notes.clone()], ..options("one") };
    let told = || std::mem::take(&mut *notes.told.lock().unwrap());
    let store = Store::new(memory(), "shop");
    let writer = store.open_writer(hinted()).await.unwrap();
    writer.commit(|draft| ["a", "b"].map(|name| create_table(draft, name))).await.unwrap();
    assert_eq!(told(), [], "nothing is published");
    let version = put_version(&store, "b", 10, &[]).await.unwrap();
    writer.commit(|draft| state(draft, "b").base = Some(version)).await.unwrap();
    assert_eq!(told(), [(3, "b".to_owned())]);
    step(&writer, 20).await.unwrap();
    assert_eq!(told(), [], "nothing else is published");
    notes.fails.store(true, Ordering::Relaxed);
    let version = put_version(&store, "a", 20, &[]).await.unwrap();
    writer.commit(|draft| state(draft, "a").base = Some(version)).await.unwrap();
    assert_eq!((told(), writer.head().number), (vec![], 5), "a commit does not wait for hints");
    notes.fails.store(false, Ordering::Relaxed);
    step(&writer, 30).await.unwrap();
    assert_eq!(told(), [(6, "a".to_owned())]);
    let writer = fresh(&store).open_writer(hinted()).await.unwrap();
    assert_eq!(told(), [(7, "a".to_owned()), (7, "b".to_owned())]);
    writer.collect_garbage(&Retention::default(), now_us()).await.unwrap();
    assert_eq!(told(), [(7, "a".to_owned()), (7, "b".to_owned())]);
}

#[tokio::test]
async fn a_hint_to_the_newest_version_goes_with_the_versions_of_a_table_that_is_gone_or_renamed() {
    let store = dated();
    let writer = store.open_writer(options("one")).await.unwrap();
    writer.commit(|draft| ["a", "b"].map(|name| create_table(draft, name))).await.unwrap();
    for name in ["a", "b"] {
        let version = put_version(&store, name, 10, &[]).await.unwrap();
        writer.commit(|draft| state(draft, name).base = Some(version)).await.unwrap();
    }
    let change = |draft: &mut Draft| {
        draft.tables.retain(|_, table| table.name.table != "a");
        draft.manifest.dropped.push(Dropped { table: TableName::new("shop", "a"), at: at(11) });
        state(draft, "b").name = TableName::new("shop", "c");
        (draft.manifest.applied, draft.manifest.logged) = (mark(11), mark(11));
    };
    writer.commit(change).await.unwrap();
    let foreign = store.path("shop.a/notes.txt");
    store.objects().put(&foreign, "ours".into()).await.unwrap();
    pass(48 * HOUR_US);
    step(&writer, 12).await.unwrap();
    pass(48 * HOUR_US);
    writer.collect_garbage(&Retention::default(), now_us()).await.unwrap();
    assert_eq!(paths(&store, "shop.a").await, ["shop.a/notes.txt"], "what is not ours stays");
    assert_eq!(paths(&store, "shop.b").await.len(), 5, "a rename moves nothing");
    let version = put_version(&store, "c", 20, &[]).await.unwrap();
    let keep = Retention { keep_versions: 1, ..Retention::default() };
    writer.commit(|draft| state(draft, "c").base = Some(version)).await.unwrap();
    pass(48 * HOUR_US);
    writer.commit(|draft| trim(draft, &keep, now_us())).await.unwrap();
    pass(48 * HOUR_US);
    writer.collect_garbage(&keep, now_us()).await.unwrap();
    assert_eq!(paths(&store, "shop.b").await, [""; 0]);
    assert_eq!(paths(&store, "shop.c").await.len(), 5);
}

#[tokio::test]
async fn trimming_lets_go_what_is_old_and_says_from_where_deltas_are_left() {
    let store = Store::new(memory(), "shop");
    let writer = store.open_writer(options("one")).await.unwrap();
    writer.commit(|draft| create_table(draft, "a")).await.unwrap();
    let (mut runs, mut log) = (Vec::new(), Vec::new());
    for after in [0, 10, 20] {
        runs.push(put_run(&store, "a", after, after + 10).await.unwrap());
        log.push(put_segment(&store, after, after + 10).await.unwrap());
        pass(HOUR_US);
    }
    let change = |draft: &mut Draft| {
        state(draft, "a").merged_runs = runs;
        state(draft, "a").older = ["v1", "v2", "v3"].map(str::to_owned).to_vec();
        draft.manifest.log = log;
        (draft.manifest.applied, draft.manifest.logged) = (mark(20), mark(30));
    };
    writer.commit(change).await.unwrap();
    let hours = |hours: u64| std::time::Duration::from_secs(hours * 3600 + 1);
    let upto = |draft: &Draft| {
        let table = draft.tables.values().next().unwrap();
        let log: Vec<u64> = draft.manifest.log.iter().map(|segment| segment.upto.scn.0).collect();
        let runs: Vec<u64> = table.merged_runs.iter().map(|run| run.upto.scn.0).collect();
        (log, runs, table.deltas_since.scn.0, table.older.len())
    };
    let keep =
        Retention { keep_log: hours(2), keep_deltas: hours(1), keep_versions: 3, ..Retention::default() };
    let seen = writer.commit(|draft| {
        trim(draft, &keep, now_us());
        upto(draft)
    });
    assert_eq!(seen.await.unwrap(), (vec![20, 30], vec![30], 20, 2));
    let keep = Retention { keep_log: hours(0), keep_deltas: hours(0), keep_versions: 0, ..keep };
    let seen = writer.commit(|draft| {
        trim(draft, &keep, now_us());
        upto(draft)
    });
    assert_eq!(seen.await.unwrap(), (vec![30], vec![], 30, 0), "what is not applied is only in the log");
}
