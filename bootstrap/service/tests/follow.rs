//! The follower against a model of the source: whatever happens in whatever order, each version is the source at its position.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use arrow_buffer::BooleanBuffer;
use futures_util::TryStreamExt;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use tidemill_bootstrap_clone::{CloneControl, Destination, SnapshotDestination};
use tidemill_bootstrap_service::{FollowError, Follower, OnGap, ServiceOptions, State};
use tidemill_bootstrap_store::{BaseVersion, Draft, Retention, Store, TablePhase, Writer, WriterOptions};
use tidemill_event::Window;
use tidemill_fetchers_mysql::read_statement;
use tidemill_world::faulty::{Fault, Faults, FaultyStore};

use support::Dice;
use support::copy::Copier;
use support::feed::{Gone, Item, Script, position, windows};
use support::model::Model;
use support::read::{check, check_deltas};

fn missing(gone: &Gone) -> Option<String> {
    Some(gone.to_string())
}

struct World {
    model: Model,
    memory: Arc<InMemory>,
    faults: Faults,
    dice: Dice,
    /// The newest manifest that was compared.
    checked: u64,
    /// Tables that were compared and were ready.
    ready: usize,
    deltas: usize,
}

impl World {
    fn new(seed: u64) -> World {
        let (memory, faults) = (Arc::new(InMemory::new()), Faults::default());
        World {
            model: Model::new(seed),
            memory,
            faults,
            dice: Dice(seed ^ 77),
            checked: 0,
            ready: 0,
            deltas: 0,
        }
    }

    fn store(&self) -> Store {
        Store::new(Arc::clone(&self.memory) as Arc<dyn ObjectStore>, "shop")
    }

    async fn writer(&self) -> Option<Writer> {
        let objects = FaultyStore::new(Arc::clone(&self.memory) as Arc<dyn ObjectStore>, self.faults.clone());
        let options = WriterOptions { tries: 1, retry_first: Duration::ZERO, ..Default::default() };
        Store::new(Arc::new(objects), "shop").open_writer(options).await.ok()
    }

    fn options(&mut self) -> ServiceOptions {
        let mut often = |n| if self.dice.one_in(2) { 1 } else { n };
        let defaults = ServiceOptions::default();
        ServiceOptions {
            flush_bytes: often(defaults.flush_bytes),
            apply_bytes: often(defaults.apply_bytes),
            publish_ratio: if often(2) == 1 { 0.1 } else { 1.0 },
            publish_every: Duration::from_secs(often(60) as u64 - 1),
            runs_ratio: 2 + often(3),
            collect_every: if often(2) == 1 { Duration::ZERO } else { defaults.collect_every },
            retention: Retention { keep_manifests: Duration::ZERO, ..Retention::default() },
            ..defaults
        }
    }

    /// One life of a follower, from its start to the end of what the source has, or to its crash.
    async fn live(&mut self) -> Result<(), Option<FollowError>> {
        let Some(writer) = self.writer().await else { return Err(None) };
        let options = self.options();
        if self.dice.one_in(3) {
            // Nothing is under way, and everything is old: only what somebody needs stays. It may fail.
            let _ = writer.collect_garbage(&options.retention, i64::MAX / 2).await;
        }
        let mut follower = Follower::open(writer.clone(), CloneControl::default(), options, read_statement)
            .await
            .map_err(Some)?;
        let from = position(follower.start().as_ref());
        let model = Arc::new(std::mem::replace(&mut self.model, Model::new(0)));
        let copier = Copier::new(&model, &writer, follower.handle().marks());
        let mut items = vec![];
        for window in windows(&model, from, &mut self.dice) {
            items.push(Item::Window(window));
            for _ in 0..self.dice.below(3) {
                let dice = Dice(self.dice.below(u64::MAX >> 40));
                items.push(Item::Do(Box::pin(copier.clone().step(dice))));
            }
        }
        let result = follower.follow(Script::new(items), missing, std::future::pending()).await;
        drop((follower, copier));
        // After a crash a copy may go on for a while, until it finds the store taken over.
        self.model = Arc::unwrap_or_clone(model);
        result.map_err(Some)
    }

    /// A table changes in a way that nobody tells, and is copied anew for somebody asks for it: what runs have of rows that are
    /// gone must not come again.
    async fn ask_anew(&mut self) {
        let Some(writer) = self.writer().await else { return };
        if writer.head().applied.position != self.model.head() {
            return;
        }
        let tables = writer.tables();
        let ready = tables.values().filter(|table| table.phase == TablePhase::Ready);
        let Some(name) = ready.map(|table| table.name.clone()).next() else { return };
        self.compare().await;
        let Some(table) = self.model.forget_rows(&name) else { return };
        if self.dice.one_in(2) {
            let copy = Copier::copy_of(&name, &table);
            SnapshotDestination::new(writer).begin(&copy).await.unwrap();
            return;
        }
        let mark = |draft: &mut Draft| {
            let at = draft.manifest.applied.position;
            let mut tables = draft.tables.values_mut();
            tables.find(|table| table.name == name).unwrap().invalidate(at, "it was asked for");
        };
        writer.commit(mark).await.unwrap();
    }

    /// Compares everything that was committed since the last time.
    async fn compare(&mut self) {
        let store = self.store();
        let mut manifests = vec![];
        for number in store.manifests().await.unwrap() {
            manifests.extend(store.manifest(number).await.unwrap());
        }
        for manifest in manifests.iter().filter(|manifest| manifest.number > self.checked) {
            self.ready += check(&store, &self.model, manifest).await;
        }
        let Some(newest) = manifests.last() else { return };
        self.checked = newest.number;
        for _ in 0..3 {
            let old = &manifests[self.dice.below(manifests.len() as u64) as usize];
            self.deltas += check_deltas(&store, &self.model, old, newest).await;
        }
    }

    /// Nothing fails any more, and the source stands still: in the end every table is what it has.
    async fn settle(&mut self) {
        self.faults.clear();
        for _ in 0..60 {
            self.model.commit(vec![]);
            self.live().await.unwrap();
            self.compare().await;
            let store = self.store();
            let newest = store.newest().await.unwrap().unwrap();
            assert_eq!(newest.applied.position.scn, self.model.head().scn);
            let mut missing: Vec<_> =
                self.model.now.iter().filter(|(_, table)| !table.rows.is_empty()).collect();
            let mut open = 0;
            for table_ref in newest.tables.values() {
                let table = store.table(table_ref).await.unwrap();
                open += usize::from(table.phase != TablePhase::Ready);
                missing.retain(|(name, _)| **name != table.name);
            }
            if missing.is_empty() && open == 0 {
                return;
            }
        }
        panic!("copies do not come to an end");
    }
}

async fn run(seed: u64, crashes: bool) -> World {
    let mut world = World::new(seed);
    for _ in 0..8 {
        for _ in 0..2 + world.dice.below(8) {
            world.model.step();
        }
        let crash = crashes && world.dice.one_in(2);
        if crash {
            let (at, how) = (1 + world.dice.below(60), world.dice.below(3));
            match how {
                0 => world.faults.from(at, Fault::Fail),
                1 => world.faults.at(at, Fault::Fail),
                _ => world.faults.at(at, Fault::LoseAnswer),
            }
        }
        let ended = world.live().await;
        assert!(ended.is_ok() || crash, "{ended:?}");
        world.faults.clear();
        world.compare().await;
        if world.dice.one_in(4) {
            world.ask_anew().await;
        }
    }
    world.settle().await;
    world
}

/// Runs a case for each seed, or for those of the environment. A wait that never ends is over at once, since time goes on by
/// itself where everybody waits.
fn for_each_seed(seeds: Range<u64>, crashes: bool, check: impl Fn(u64, &World)) {
    // One seed, or several as in 3000..3200.
    let only = std::env::var("SEED").ok().map(|only| {
        let (first, end) = only.split_once("..").map_or((only.as_str(), None), |(a, b)| (a, Some(b)));
        let first = first.parse::<u64>().unwrap();
        first..end.map_or(first + 1, |end| end.parse().unwrap())
    });
    for seed in only.unwrap_or(seeds) {
        let _named = Named(seed);
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().start_paused(true).build().unwrap();
        let world = runtime.block_on(async { tokio::time::timeout(ENDLESS, run(seed, crashes)).await });
        check(seed, &world.expect("something waits for ever"));
    }
}

const ENDLESS: Duration = Duration::from_secs(24 * 3600);

/// Says which case it was, where one fails.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("run it again with SEED={}", self.0);
        }
    }
}

#[test]
fn every_version_is_the_source_at_its_position_and_deltas_lead_from_any_to_any_later() {
    for_each_seed(0..20, false, |seed, world| assert!(world.ready > 0, "{seed}"));
}

#[test]
fn b10_a_crash_at_any_call_to_the_store_leaves_every_version_what_the_source_was() {
    for_each_seed(0..20, true, |_, _| {});
    // A table goes away between the moment that somebody saw it and the one in which its copy begins.
    for_each_seed(3144..3145, true, |_, _| {});
}

/// What a source logs that does not log whole rows: the last column's values are not there.
fn without_values(window: Arc<Window>) -> Arc<Window> {
    let mut window = Arc::unwrap_or_clone(window);
    for table in &mut window.tables {
        let (columns, rows) = (table.schema.columns().len(), table.rows.num_rows());
        table.absent = vec![None; columns];
        table.absent[columns - 1] = Some(BooleanBuffer::new_set(rows));
    }
    Arc::new(window)
}

#[tokio::test(start_paused = true)]
async fn rows_that_the_log_has_in_part_stop_the_service_until_their_tables_are_to_be_copied_anew() {
    for seed in 7..12 {
        let mut world = World::new(seed);
        (0..8).for_each(|_| world.model.write());
        world.settle().await;
        let from = world.model.head();
        (0..12).for_each(|_| world.model.write());
        let given: Vec<_> =
            windows(&world.model, from, &mut world.dice).into_iter().map(without_values).collect();
        let follow = async || {
            let (writer, options) = (world.writer().await.unwrap(), ServiceOptions::default());
            let mut follower =
                Follower::open(writer, CloneControl::default(), options, read_statement).await.unwrap();
            let items = given.iter().cloned().map(Item::Window);
            follower.follow(Script::new(items), missing, std::future::pending()).await
        };
        for _ in 0..2 {
            let ended = follow().await.unwrap_err();
            assert_eq!(ended.remedy(), tidemill_event::Remedy::Fix, "{ended:?}");
            let text = tidemill_event::chain(&ended);
            assert!(text.contains("set binlog_row_image=FULL"), "{text}");
        }
        let all_anew = |draft: &mut Draft| {
            let at = draft.manifest.applied.position;
            draft.tables.values_mut().for_each(|table| table.invalidate(at, "it was asked for"));
        };
        world.writer().await.unwrap().commit(all_anew).await.unwrap();
        follow().await.unwrap();
        world.settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_table_whose_rows_are_lost_says_so_until_it_is_copied_anew() {
    let mut world = World::new(7);
    (0..8).for_each(|_| world.model.write());
    world.settle().await;
    let from = world.model.head();
    for object in world.memory.list(None).try_collect::<Vec<_>>().await.unwrap() {
        if object.location.as_ref().ends_with(".parquet") {
            world.memory.delete(&object.location).await.unwrap();
        }
    }
    (0..8).for_each(|_| world.model.write());
    let items = windows(&world.model, from, &mut world.dice).into_iter().map(Item::Window);
    let options = ServiceOptions { publish_every: Duration::ZERO, ..ServiceOptions::default() };
    let writer = world.writer().await.unwrap();
    let mut follower =
        Follower::open(writer.clone(), CloneControl::default(), options, read_statement).await.unwrap();
    let status = follower.handle().status();
    let troubles = || -> Vec<String> {
        status.borrow().tables.values().filter_map(|table| table.trouble.clone()).collect()
    };
    let looked = std::pin::pin!(async {
        let mut status = status.clone();
        let is_told = |status: &tidemill_bootstrap_service::Status| {
            status.tables.values().any(|table| table.trouble.is_some())
        };
        status.wait_for(is_told).await.unwrap();
    });
    follower.follow(Script::new(items), missing, looked).await.unwrap();
    assert!(troubles()[0].contains(".parquet; put it back"), "{:?}", troubles());
    let anew = |draft: &mut Draft| {
        let at = draft.manifest.applied.position;
        draft.tables.values_mut().for_each(|table| table.invalidate(at, "it was asked for"));
    };
    writer.commit(anew).await.unwrap();
    follower.follow(Script::new([]), missing, std::future::pending()).await.unwrap();
    assert_eq!(troubles(), [] as [String; 0]);
    drop(follower);
    world.checked = world.store().newest().await.unwrap().unwrap().number;
    world.settle().await;
}

/// A source that is copied, and of which a stretch is gone then.
async fn lose(on_gap: OnGap) -> (World, Follower) {
    let mut world = World::new(7);
    (0..8).for_each(|_| world.model.write());
    world.live().await.unwrap();
    world.settle().await;
    let before = world.store().newest().await.unwrap().unwrap();
    (0..4).for_each(|_| world.model.write());
    let writer = world.writer().await.unwrap();
    let options = ServiceOptions { on_gap, ..ServiceOptions::default() };
    let mut follower =
        Follower::open(writer, CloneControl::default(), options, read_statement).await.unwrap();
    let ended = follower.follow(Script::new([Item::Gone]), missing, std::future::pending()).await;
    assert!(matches!(ended, Err(FollowError::Gap { .. })), "{ended:?}");
    assert!(matches!(follower.handle().status().borrow().state, State::Gap { .. }));
    let after = world.store().newest().await.unwrap().unwrap();
    assert!(!after.tables.is_empty() && after.tables.len() == before.tables.len());
    for (name, table) in &after.tables {
        let old = world.store().table(&before.tables[name]).await.unwrap();
        let table = world.store().table(table).await.unwrap();
        assert!(table.phase != TablePhase::Ready, "{name}");
        let published = |base: Option<&BaseVersion>| base.and_then(|base| base.path.clone());
        assert_eq!(published(table.base.as_ref()), published(old.base.as_ref()), "{name}");
    }
    (world, follower)
}

#[tokio::test(start_paused = true)]
async fn b29_a_stretch_that_is_gone_makes_every_table_stale_and_publishes_nothing() {
    let (world, follower) = lose(OnGap::Stop).await;
    // Whoever follows next asks for the same place again.
    assert!(follower.start().is_some());
    drop(follower);
    let writer = world.writer().await.unwrap();
    let next = Follower::open(writer, CloneControl::default(), ServiceOptions::default(), read_statement)
        .await
        .unwrap();
    assert!(position(next.start().as_ref()) < world.model.head());
}

#[tokio::test(start_paused = true)]
async fn b29_after_a_stretch_that_is_gone_every_table_is_copied_anew_where_that_is_wanted() {
    let (mut world, mut follower) = lose(OnGap::CloneAnew).await;
    assert_eq!(follower.start(), None);
    let from = world.model.head();
    (0..6).for_each(|_| world.model.write());
    let items = windows(&world.model, from, &mut world.dice).into_iter().map(Item::Window);
    follower.follow(Script::new(items), missing, std::future::pending()).await.unwrap();
    drop(follower);
    world.settle().await;
}

#[tokio::test(start_paused = true)]
async fn of_two_services_on_one_store_the_older_is_fenced_and_stops() {
    let mut world = World::new(7);
    (0..8).for_each(|_| world.model.write());
    let mut followers = vec![];
    for _ in 0..2 {
        let (writer, options) = (world.writer().await.unwrap(), ServiceOptions::default());
        followers
            .push(Follower::open(writer, CloneControl::default(), options, read_statement).await.unwrap());
    }
    let given = windows(&world.model, position(None), &mut world.dice);
    let mut ended = vec![];
    for follower in &mut followers {
        let items = given.iter().cloned().map(Item::Window);
        ended.push(follower.follow(Script::new(items), missing, std::future::pending()).await);
        let is_fenced = follower.handle().status().borrow().state == State::Fenced;
        assert_eq!(is_fenced, ended.len() == 1);
    }
    assert!(matches!(ended[..], [Err(FollowError::Fenced(_)), Ok(())]), "{ended:?}");
    world.settle().await;
}
