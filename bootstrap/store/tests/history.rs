//! Whatever comes in whatever order, commits, crashes and failures at any call, takeovers, writers that do not know that
//! they were replaced, collections and pins: there is one history without gaps, what was acknowledged is in it, and every
//! version that is pinned or was the newest a while ago is whole.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStore;
use proptest::prelude::*;
use support::dated::Dated;
use support::*;
use tidemill_bootstrap_store::{
    BaseVersion, CommitError, Draft, LogSegment, Manifest, Retention, Run, Store, StoreError, Writer, trim,
};
use tidemill_world::faulty::{Fault, Faults, FaultyStore};

const NAMES: [&str; 3] = ["a", "b", "c"];

fn keep() -> Retention {
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    Retention {
        keep_manifests: hours(3),
        keep_versions: 2,
        keep_deltas: hours(4),
        keep_log: hours(1),
        grace: hours(2),
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Every table has a new run, and the log a segment. With a table that is merged and published.
    Commit {
        publish: Option<usize>,
    },
    /// A table is made, or made again under its name.
    Recreate(usize),
    /// As `Commit`, but from a call on nothing gets through; the answer to that call is lost, or it fails.
    Crash {
        call: u64,
        is_lost: bool,
    },
    /// As `Commit`, and so many calls fail; the same writer goes on.
    Failures {
        call: u64,
        is_lost: bool,
        count: u64,
    },
    /// Another writer takes over; the one before does not know.
    TakeOver,
    /// A writer of before tries to commit.
    Zombie(usize),
    /// Writer, zombie, collector and a successor at once.
    Race,
    /// A run is put, a while passes with a collection, the run is committed.
    SlowCommit,
    Pass {
        minutes: i64,
    },
    Pin {
        client: u8,
        back: u64,
        hours: u64,
    },
    Unpin(u8),
    Trim,
    /// By the writer, or one of before; from a call on nothing gets through.
    Collect {
        zombie: Option<usize>,
        crash: Option<u64>,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let call = 1..14u64;
    let one = prop_oneof![
        6 => proptest::option::of(0..3usize).prop_map(|publish| Step::Commit { publish }),
        1 => (0..3usize).prop_map(Step::Recreate),
        2 => (call.clone(), any::<bool>()).prop_map(|(call, is_lost)| Step::Crash { call, is_lost }),
        2 => (call, any::<bool>(), 1..6u64)
            .prop_map(|(call, is_lost, count)| Step::Failures { call, is_lost, count }),
        1 => Just(Step::TakeOver),
        2 => (0..3usize).prop_map(Step::Zombie),
        1 => Just(Step::Race),
        1 => Just(Step::SlowCommit),
        4 => (10..150i64).prop_map(|minutes| Step::Pass { minutes }),
        3 => (0..3u8, 0..4u64, 1..9u64).prop_map(|(client, back, hours)| Step::Pin { client, back, hours }),
        1 => (0..3u8).prop_map(Step::Unpin),
        2 => Just(Step::Trim),
        4 => (proptest::option::of(0..3usize), proptest::option::of(1..40u64))
            .prop_map(|(zombie, crash)| Step::Collect { zombie, crash }),
    ];
    proptest::collection::vec(one, 1..40)
}

/// What goes into a commit, put before.
struct Material {
    segment: LogSegment,
    runs: Vec<(String, Run)>,
    version: Option<(String, BaseVersion)>,
}

struct World {
    store: Store,
    faults: Faults,
    writer: Writer,
    zombies: Vec<Writer>,
    /// What was acknowledged: the newest manifest that a writer was told to be committed.
    acknowledged: Arc<Manifest>,
    /// By client: the version and when it runs out.
    pins: BTreeMap<u8, (Arc<Manifest>, i64)>,
}

impl World {
    async fn new() -> World {
        let faults = Faults::default();
        let faulty: Arc<dyn ObjectStore> =
            Arc::new(FaultyStore::new(Arc::new(Dated::default()), faults.clone()));
        let store = Store::new(faulty, "shop");
        let writer = store.open_writer(options("first")).await.unwrap();
        writer.commit(|draft| NAMES.map(|name| create_table(draft, name))).await.unwrap();
        step(&writer, 1).await.unwrap();
        let acknowledged = writer.head();
        World { store, faults, writer, zombies: Vec::new(), acknowledged, pins: BTreeMap::new() }
    }

    async fn take(&mut self, step: &Step) {
        match step {
            Step::Commit { publish } => {
                commit(&self.writer, *publish).await.unwrap();
            }
            Step::Recreate(table) => {
                let name = NAMES[*table];
                let change = |draft: &mut Draft| {
                    draft.tables.retain(|_, table| table.name.table != name);
                    create_table(draft, name)
                };
                self.writer.commit(change).await.unwrap();
            }
            Step::Crash { call, is_lost } => {
                self.break_from(*call, *is_lost, u64::MAX);
                let done = commit(&self.writer, Some(0)).await;
                if done.is_ok() {
                    self.acknowledged = self.writer.head();
                }
                self.faults.clear();
                self.writer = fresh(&self.store).open_writer(options("after a crash")).await.unwrap();
            }
            Step::Failures { call, is_lost, count } => {
                self.break_from(*call, *is_lost, *count);
                let done = commit(&self.writer, Some(1)).await;
                self.faults.clear();
                if done.is_ok() {
                    self.acknowledged = self.writer.head();
                }
                // Now it finds out.
                self.writer.commit(|_| ()).await.unwrap();
            }
            Step::TakeOver => {
                let next = fresh(&self.store).open_writer(options("next")).await.unwrap();
                self.zombies.push(std::mem::replace(&mut self.writer, next));
            }
            Step::Zombie(which) => {
                if let Some(zombie) = self.zombies.get(*which) {
                    fenced(commit(zombie, Some(2)).await);
                }
            }
            Step::Race => self.race().await,
            Step::SlowCommit => {
                let Some(material) = material(&self.writer, Some(0)).await.ok() else { return };
                pass(HOUR_US);
                self.writer.collect_garbage(&keep(), now_us()).await.unwrap();
                put_in(&self.writer, material).await.unwrap();
            }
            Step::Pass { minutes } => pass(minutes * 60_000_000),
            Step::Pin { client, back, hours } => self.pin(*client, *back, *hours).await,
            Step::Unpin(client) => {
                self.store.unpin(&client.to_string()).await.unwrap();
                self.pins.remove(client);
            }
            Step::Trim => self.writer.commit(|draft| trim(draft, &keep(), now_us())).await.unwrap(),
            Step::Collect { zombie, crash } => {
                let writer = zombie.and_then(|which| self.zombies.get(which)).unwrap_or(&self.writer);
                if let Some(call) = crash {
                    self.faults.from(*call, Fault::Fail);
                }
                let done = writer.collect_garbage(&keep(), now_us()).await;
                self.faults.clear();
                assert!(done.is_ok() || crash.is_some(), "{done:?}");
            }
        }
    }

    fn break_from(&self, call: u64, is_lost: bool, count: u64) {
        let fault = if is_lost { Fault::LoseAnswer } else { Fault::Fail };
        self.faults.at(call, fault);
        if count == u64::MAX {
            self.faults.from(call + 1, Fault::Fail);
        }
        for n in 1..count.min(10) {
            self.faults.at(call + n, fault);
        }
    }

    async fn race(&mut self) {
        let zombie = self.zombies.last().cloned().unwrap_or_else(|| self.writer.clone());
        let (old, keep) = (self.writer.clone(), keep());
        let successor = fresh(&self.store);
        let (committed, stopped, _, next) = futures_util::join!(
            commit(&old, Some(1)),
            commit(&zombie, Some(2)),
            async { old.collect_garbage(&keep, now_us()).await.unwrap() },
            successor.open_writer(options("successor")),
        );
        if committed.is_ok() {
            self.acknowledged = old.head();
        } else {
            fenced(committed);
        }
        if !self.zombies.is_empty() {
            fenced(stopped);
        }
        self.zombies.push(std::mem::replace(&mut self.writer, next.unwrap()));
    }

    async fn pin(&mut self, client: u8, back: u64, hours: u64) {
        let version = self.writer.head().number.saturating_sub(back);
        let ttl = Duration::from_secs(hours * 3600);
        match self.store.pin(&client.to_string(), version, ttl, now_us()).await {
            Ok(()) => {
                let manifest = self.store.manifest(version).await.unwrap().unwrap();
                // It is not written again as long as half of its time is left.
                let until = now_us() + hours as i64 * HOUR_US;
                let before = self.pins.get(&client).filter(|(pinned, _)| pinned.number == version);
                let left =
                    before.map(|(_, until)| *until).filter(|u| *u > now_us() + hours as i64 * HOUR_US / 2);
                self.pins.insert(client, (manifest, left.unwrap_or(until)));
            }
            Err(StoreError::Gone(_)) => assert!(back > 0, "the newest can be pinned"),
            Err(error) => panic!("{error}"),
        }
    }

    async fn check(&mut self) {
        let store = fresh(&self.store);
        let newest = store.newest().await.unwrap().unwrap();
        assert_eq!(newest, self.writer.head());
        assert!(newest.number >= self.acknowledged.number);
        let numbers = store.manifests().await.unwrap();
        assert_eq!(numbers.last(), Some(&newest.number));
        assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{numbers:?} has a gap");
        if numbers.contains(&self.acknowledged.number) {
            let there = store.manifest(self.acknowledged.number).await.unwrap().unwrap();
            assert_eq!(there, self.acknowledged, "what was acknowledged is another commit");
        }
        self.acknowledged = Arc::clone(&newest);
        whole(&store, &newest).await;
        let oldest_us = now_us() - keep().keep_manifests.as_micros() as i64;
        for pair in numbers.windows(2).rev() {
            if store.manifest(pair[1]).await.unwrap().unwrap().time_us < oldest_us {
                break;
            }
            whole(&store, &store.manifest(pair[0]).await.unwrap().unwrap()).await;
        }
        self.pins.retain(|_, (_, until)| *until > now_us());
        for (manifest, _) in self.pins.values() {
            assert_eq!(store.manifest(manifest.number).await.unwrap().as_ref(), Some(manifest));
            whole(&store, manifest).await;
        }
    }
}

fn fenced(result: Result<(), CommitError>) {
    assert!(matches!(result, Err(CommitError::Fenced(_))), "{result:?}");
}

async fn commit(writer: &Writer, publish: Option<usize>) -> Result<(), CommitError> {
    let material = material(writer, publish).await?;
    put_in(writer, material).await
}

async fn material(writer: &Writer, publish: Option<usize>) -> Result<Material, StoreError> {
    let (store, scn) = (writer.store(), writer.head().logged.position.scn.0);
    let mut runs = Vec::new();
    for name in NAMES {
        runs.push((name.to_owned(), put_run(store, name, scn, scn + 1).await?));
    }
    let version = match publish {
        None => None,
        Some(table) => {
            let name = NAMES[table];
            let tables = writer.tables();
            let before = tables.values().find(|table| table.name.table == name).and_then(|t| t.base.as_ref());
            // One file goes on into the new version as it is.
            let shared = before.map(|base| &base.files[base.files.len() - 1..]).unwrap_or_default();
            Some((name.to_owned(), put_version(store, name, scn, shared).await?))
        }
    };
    Ok(Material { segment: put_segment(store, scn, scn + 1).await?, runs, version })
}

async fn put_in(writer: &Writer, material: Material) -> Result<(), CommitError> {
    let Material { segment, runs, version } = material;
    let change = |draft: &mut Draft| {
        // Another commit was finished first: this one is of no use.
        if draft.manifest.logged.position != segment.after {
            return;
        }
        let upto = mark(segment.upto.scn.0);
        draft.manifest.log.push(segment);
        (draft.manifest.applied, draft.manifest.logged) = (upto.clone(), upto);
        if let Some((name, version)) = version {
            let table = state(draft, &name);
            let merged = std::mem::take(&mut table.runs);
            table.merged_runs.extend(merged);
            table.base = Some(version);
        }
        for (name, run) in runs {
            state(draft, &name).runs.push(run);
        }
    };
    writer.commit(change).await
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_there_is_one_history_and_what_is_pinned_is_whole(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new().await;
            for step in &steps {
                world.take(step).await;
                world.check().await;
            }
        });
    }
}
