//! The process ends at any call to the store, calls fail and answers are lost: a commit happened wholly or not at all, and
//! whoever goes on knows which.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::FutureExt;
use object_store::ObjectStore;
use support::dated::Dated;
use support::*;
use tidemill_bootstrap_store::{
    CommitError, Draft, LogSegment, Retention, Run, Store, StoreError, Writer, trim,
};
use tidemill_event::Remedy;
use tidemill_world::faulty::{Fault, Faults, FaultyStore, Op};

fn stores() -> (Store, Store, Faults) {
    let (sound, faults) = (memory(), Faults::default());
    let faulty: Arc<dyn ObjectStore> = Arc::new(FaultyStore::new(Arc::clone(&sound), faults.clone()));
    (Store::new(sound, "shop"), Store::new(faulty, "shop"), faults)
}

/// Two tables with a version each, at 10.
async fn prepare(store: &Store) {
    let writer = store.open_writer(options("before")).await.unwrap();
    writer.commit(|draft| ["a", "b"].map(|name| create_table(draft, name))).await.unwrap();
    let versions =
        [put_version(store, "a", 10, &[]).await.unwrap(), put_version(store, "b", 10, &[]).await.unwrap()];
    let change = |draft: &mut Draft| {
        for (name, version) in ["a", "b"].into_iter().zip(versions) {
            state(draft, name).base = Some(version);
        }
        (draft.manifest.applied, draft.manifest.logged) = (mark(10), mark(10));
    };
    writer.commit(change).await.unwrap();
}

/// What the process is about: flush a segment, build the runs of both tables, publish one. Each step is made where the
/// store is not there yet, so it can be begun again.
async fn work(store: &Store, writer: &Writer) -> Result<(), CommitError> {
    let scn = |writer: &Writer| {
        let head = writer.head();
        (head.logged.position.scn.0, head.applied.position.scn.0)
    };
    if scn(writer).0 < 20 {
        let segment = put_segment(store, 10, 20).await?;
        writer.commit(|draft| flush(draft, segment)).await?;
    }
    if scn(writer).1 < 20 {
        let runs = [put_run(store, "a", 10, 20).await?, put_run(store, "b", 10, 20).await?];
        writer.commit(|draft| apply(draft, runs)).await?;
    }
    if writer.tables()[&1].base.as_ref().unwrap().at < at(20) {
        let version = put_version(store, "a", 20, &[]).await?;
        let change = |draft: &mut Draft| {
            let table = state(draft, "a");
            if table.base.as_ref().unwrap().at < at(20) {
                table.base = Some(version);
                let runs = std::mem::take(&mut table.runs);
                table.merged_runs.extend(runs);
            }
        };
        writer.commit(change).await?;
    }
    Ok(())
}

fn flush(draft: &mut Draft, segment: LogSegment) {
    if draft.manifest.logged.position < at(20) {
        draft.manifest.log.push(segment);
        draft.manifest.logged = mark(20);
    }
}

fn apply(draft: &mut Draft, runs: [Run; 2]) {
    if draft.manifest.applied.position < at(20) {
        for (name, run) in ["a", "b"].into_iter().zip(runs) {
            state(draft, name).runs.push(run);
        }
        draft.manifest.applied = mark(20);
    }
}

/// Every manifest is whole, and says one of the things that were to be said.
async fn check(store: &Store, call: u64) {
    let store = fresh(store);
    let mut said = Vec::new();
    for number in store.manifests().await.unwrap() {
        let manifest = store.manifest(number).await.unwrap().unwrap();
        let tables = whole(&store, &manifest).await;
        let runs = |id| tables.get(&id).map_or(0, |table| table.runs.len() + table.merged_runs.len());
        let (applied, logged) = (manifest.applied.position.scn.0, manifest.logged.position.scn.0);
        let base = tables.get(&1).and_then(|table| table.base.as_ref()).map_or(0, |base| base.at.scn.0);
        said.push((logged, applied, manifest.log.len(), runs(1), runs(2), base));
    }
    said.dedup();
    let all = [
        (0, 0, 0, 0, 0, 0),
        (10, 10, 0, 0, 0, 10),
        (20, 10, 1, 0, 0, 10),
        (20, 20, 1, 1, 1, 10),
        (20, 20, 1, 1, 1, 20),
    ];
    assert_eq!(said, all, "call {call}");
    let versions: BTreeSet<String> = paths(&store, "shop.a").await.into_iter().collect();
    let latest =
        store.objects().get_opts(&store.path("shop.a/LATEST.json"), Default::default()).await.unwrap();
    let latest: serde_json::Value = serde_json::from_slice(&latest.bytes().await.unwrap()).unwrap();
    assert_eq!(latest["scn"], 20, "call {call}: readers know");
    assert!(versions.contains(&format!("shop.a/{}/_SUCCESS", latest["path"].as_str().unwrap())));
}

/// The process ends at each call to the store in turn, the call itself done or not; the next one finds whatever is left.
async fn end_at_each_call(fault: Fault) {
    for call in 1.. {
        let (sound, faulty, faults) = stores();
        prepare(&sound).await;
        if fault == Fault::LoseAnswer {
            faults.at(call, fault);
            faults.from(call + 1, Fault::Fail);
        } else {
            faults.from(call, fault);
        }
        let done = match faulty.open_writer(options("first")).await {
            Ok(writer) => work(&faulty, &writer).await.is_ok(),
            Err(error) => {
                assert_eq!(error.remedy(), Remedy::Retry, "call {call}: {error}");
                false
            }
        };
        let acknowledged = fresh(&sound).newest().await.unwrap().unwrap();
        let next = fresh(&sound);
        let writer = next.open_writer(options("second")).await.unwrap();
        assert!(writer.head().number > acknowledged.number);
        work(&next, &writer).await.unwrap();
        check(&sound, call).await;
        if done && faults.calls().len() < call as usize {
            assert!(call > 30, "only {call} calls were made");
            return;
        }
    }
}

#[tokio::test]
async fn b10_a_crash_at_any_store_call_leaves_a_commit_done_or_not_done() {
    end_at_each_call(Fault::Fail).await;
}

#[tokio::test]
async fn b10_a_crash_at_any_store_call_whose_answer_was_lost_leaves_a_commit_done_or_not_done() {
    end_at_each_call(Fault::LoseAnswer).await;
}

/// One call goes wrong, more often than it is tried again; the same writer goes on and knows what happened.
#[tokio::test]
async fn a_writer_whose_store_failed_at_any_call_knows_what_happened() {
    for fault in [Fault::Fail, Fault::Throttle, Fault::LoseAnswer] {
        for call in 1.. {
            let (sound, faulty, faults) = stores();
            prepare(&sound).await;
            let writer = faulty.open_writer(options("first")).await.unwrap();
            faults.clear();
            for n in 0..8 {
                faults.at(call + n, fault);
            }
            let before = faults.calls().len();
            let mut tries = 0;
            while let Err(error) = work(&faulty, &writer).await {
                assert_eq!(error.remedy(), Remedy::Retry, "call {call}, {fault:?}: {error}");
                tries += 1;
                assert!(tries < 10, "call {call}, {fault:?}: {error}");
            }
            assert_eq!(writer.head().epoch, 2, "call {call}, {fault:?}");
            let calls = faults.calls().len() - before;
            faults.clear();
            // Hints that failed are due with the next commit.
            step(&writer, 20).await.unwrap();
            check(&sound, call).await;
            if calls < call as usize {
                assert!(call > 15, "only {call} calls were made");
                break;
            }
        }
    }
}

/// The answer to a commit is lost, and the one to the question whether it happened as well.
#[tokio::test]
async fn a_commit_of_which_nobody_knows_is_finished_by_the_next_one() {
    let (sound, faulty, faults) = stores();
    prepare(&sound).await;
    let writer = faulty.open_writer(options("one")).await.unwrap();
    let number = writer.head().number;
    for fault in [Fault::Fail, Fault::LoseAnswer] {
        faults.clear();
        // Behind the segment, and the look for the newest manifest.
        faults.at(2, fault);
        faults.from(3, Fault::Fail);
        let scn = writer.head().applied.position.scn.0;
        let segment = step(&writer, scn + 10).await.unwrap_err();
        assert_eq!(segment.remedy(), Remedy::Retry);
        assert_eq!(writer.head().applied, mark(scn), "it does not know");
        faults.clear();
        let seen = writer.commit(|draft| draft.manifest.applied.clone()).await.unwrap();
        assert_eq!(seen, mark(scn + 10), "{fault:?}");
        assert_eq!(writer.head().applied, mark(scn + 10));
    }
    assert_eq!(fresh(&sound).newest().await.unwrap().unwrap().number, number + 2);
}

/// Dropped in the middle of it, before and after each call.
#[tokio::test]
async fn a_commit_that_is_dropped_at_any_call_is_finished_by_the_next_one_or_by_nobody() {
    let mut found = BTreeSet::new();
    for polls in 1.. {
        let store = Store::new(Arc::new(Dated::default()), "shop");
        prepare(&store).await;
        let writer = store.open_writer(options("one")).await.unwrap();
        let run = put_run(&store, "a", 10, 20).await.unwrap();
        let change = |draft: &mut Draft| {
            state(draft, "a").runs.push(run.clone());
            draft.manifest.logged = mark(20);
        };
        let mut commit = Box::pin(writer.commit(change));
        let mut ended = false;
        for _ in 0..polls {
            ended = ended || (&mut commit).now_or_never().is_some();
            // What waits inside is woken by the runtime.
            tokio::task::yield_now().await;
        }
        drop(commit);
        let runs = writer.commit(|draft| state(draft, "a").runs.len()).await.unwrap();
        found.insert(runs);
        let newest = fresh(&store).newest().await.unwrap().unwrap();
        assert_eq!(newest, writer.head(), "{polls} polls");
        assert_eq!(whole(&fresh(&store), &newest).await[&1].runs.len(), runs, "{polls} polls");
        if ended {
            assert!(polls > 5 && runs == 1 && found.len() == 2, "{polls} polls: {found:?}");
            return;
        }
    }
}

/// Garbage is collected beside a commit that is under way, and ends at each of its calls.
#[tokio::test]
async fn b10_a_crash_at_any_store_call_of_a_collection_removes_nothing_that_is_used() {
    for fault in [Fault::Fail, Fault::LoseAnswer] {
        for call in 1.. {
            let (sound, faulty, faults) = stores();
            prepare(&sound).await;
            let writer = faulty.open_writer(options("one")).await.unwrap();
            work(&faulty, &writer).await.unwrap();
            let keep = Retention { keep_versions: 1, keep_deltas: DAY, ..Retention::default() };
            let later = now_us() + 48 * HOUR_US;
            writer.commit(|draft| trim(draft, &keep, later)).await.unwrap();
            faults.clear();
            if fault == Fault::LoseAnswer {
                faults.at(call, fault);
                faults.from(call + 1, Fault::Fail);
            } else {
                faults.from(call, fault);
            }
            let before = faults.calls().len();
            let done = writer.collect_garbage(&keep, later).await;
            let calls = faults.calls().len() - before;
            faults.clear();
            let store = fresh(&sound);
            let newest = store.newest().await.unwrap().unwrap();
            assert_eq!(newest, writer.head());
            whole(&store, &newest).await;
            writer.collect_garbage(&keep, later).await.unwrap();
            whole(&fresh(&sound), &newest).await;
            assert_eq!(store.manifests().await.unwrap(), [newest.number]);
            // The versions of a and b, one run of b; the states that are used.
            let kept = |under| {
                let store = store.clone();
                async move { paths(&store, under).await.len() }
            };
            assert_eq!((kept("shop.a").await, kept("shop.b").await, kept("_meta/table").await), (5, 6, 2));
            if calls < call as usize {
                assert!(done.is_ok() && call > 10, "only {call} calls were made");
                break;
            }
        }
    }
}

/// What comes from the store is not what was put there: refused, at whatever call.
#[tokio::test]
async fn b19_an_answer_that_is_damaged_at_any_call_is_never_believed() {
    for fault in [Fault::Flip, Fault::Truncate] {
        for call in 1.. {
            let (sound, faulty, faults) = stores();
            prepare(&sound).await;
            let newest = sound.newest().await.unwrap().unwrap();
            faults.only(Op::Get);
            faults.at(call, fault);
            let read = async {
                let newest = faulty.newest().await?.unwrap();
                let mut tables = Vec::new();
                for table in newest.tables.values() {
                    tables.push(faulty.table(table).await?);
                }
                Ok::<_, StoreError>((newest, tables))
            };
            match read.await {
                Ok((read, tables)) => {
                    assert_eq!(read, newest, "call {call}");
                    assert_eq!(tables.len(), 2);
                    assert!(tables.iter().all(|table| table.base.as_ref().unwrap().at == at(10)));
                }
                Err(StoreError::Damaged(_)) => {}
                Err(error) => panic!("call {call}: {error}"),
            }
            if faults.count(Op::Get) < call as usize {
                assert!(call > 4);
                break;
            }
        }
    }
}
