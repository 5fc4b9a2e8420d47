//! What a clone does when it is told something, and when something fails: its source's faults are scripted.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use support::kept::{Kept, Numbers, position};
use support::model::{Fault, Model, name, schema};
use tidemill_bootstrap_clone::{
    CloneControl, CloneError, CloneOptions, CloneStatus, Cloner, Gate, Policy, TableStage,
};
use tidemill_event::{Scn, TableName};
use tidemill_fetchers_api::extract::{Load, SourceKey};
use tokio::task::JoinHandle;
use tokio::time::Instant;

fn options() -> CloneOptions {
    CloneOptions { chunk_rows: 10, max_connections: 3, chunks_in_flight: 4, ..CloneOptions::default() }
}

fn control(tables: &[&str]) -> CloneControl {
    let control = CloneControl::default();
    tables.iter().for_each(|table| control.add_table(name(table)));
    control
}

fn cloner(
    source: &Model,
    kept: &Kept,
    control: &CloneControl,
    options: CloneOptions,
) -> Cloner<Model, Kept, Numbers> {
    let (source, kept, control) = (source.clone(), kept.clone(), control.clone());
    Cloner::new(source, Policy::none(), kept, Numbers::default(), control).with_options(options)
}

fn start(cloner: Cloner<Model, Kept, Numbers>) -> JoinHandle<Result<(), CloneError>> {
    tokio::spawn(cloner.run())
}

/// The ids of the rows that were kept of a table, in the order of its chunks.
fn ids(kept: &Kept, table: &TableName) -> Vec<i64> {
    let chunks = kept.chunks(table).into_values();
    let batches = chunks.flat_map(|chunk| chunk.batches);
    batches.flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
}

async fn until(control: &CloneControl, is: impl FnMut(&CloneStatus) -> bool) -> CloneStatus {
    control.status().wait_for(is).await.unwrap().clone()
}

fn stage<'a>(status: &'a CloneStatus, table: &str) -> Option<&'a TableStage> {
    status.tables.get(&name(table)).map(|table| &table.stage)
}

#[tokio::test]
async fn b28_any_degree_copies_the_same_rows_in_the_same_chunks_over_no_more_connections_than_allowed() {
    let bounds_of = |kept: &Kept| kept.0.lock().unwrap().copies[&name("orders")].plan.bounds.clone();
    let mut serial = None;
    for degree in [1, 2, 7, 32] {
        let (source, kept) = (Model::with(&[("items", 55), ("orders", 1234)]), Kept::default());
        let options = CloneOptions { max_connections: degree, chunks_in_flight: 2 * degree, ..options() };
        let status =
            cloner(&source, &kept, &control(&["items", "orders"]), options).run_to_end().await.unwrap();
        assert!(status.is_idle() && kept.is_complete(&name("orders")) && kept.is_complete(&name("items")));
        assert_eq!(ids(&kept, &name("orders")), (0..1234).collect::<Vec<i64>>());
        assert_eq!(ids(&kept, &name("items")), (0..55).collect::<Vec<i64>>());
        assert_eq!(serial.get_or_insert_with(|| bounds_of(&kept)), &bounds_of(&kept));
        assert!(source.change(|state| state.connections_most) <= degree);
        let orders = &status.tables[&name("orders")];
        assert_eq!((orders.rows, orders.chunks_done, orders.chunks_expected), (1234, 124, 124));
        assert_eq!(orders.remaining, Some(Duration::ZERO));
        assert_eq!(status.rows_read, 1289);
    }
}

#[tokio::test]
async fn b23_a_crash_at_any_chunk_costs_no_more_than_the_chunks_in_flight() {
    for (every, in_flight) in [(1, 1), (3, 1), (5, 4), (2, 4)] {
        let (source, kept) = (Model::with(&[("orders", 400)]).held(), Kept::default());
        let mut crashes = 0;
        while !kept.is_complete(&name("orders")) {
            let control = control(&["orders"]);
            let options = CloneOptions { chunks_in_flight: in_flight, ..options() };
            let run = start(cloner(&source, &kept, &control, options));
            source.let_read(every);
            let goal = kept.count() + every;
            let is_there =
                |status: &CloneStatus| kept.count() >= goal.min(40) && (goal < 40 || status.is_idle());
            until(&control, is_there).await;
            run.abort();
            assert!(run.await.unwrap_err().is_cancelled());
            source.0.reads.forget_permits(usize::MAX >> 4);
            crashes += 1;
        }
        let given = source.change(|state| state.rows_given);
        assert_eq!(ids(&kept, &name("orders")), (0..400).collect::<Vec<i64>>());
        assert!(crashes >= 40 / every as u64, "{crashes}");
        assert!(given <= 400 + crashes * 10 * in_flight as u64, "{given} rows, {crashes} crashes");
        assert_eq!(kept.0.lock().unwrap().begun, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_opened_again_and_its_chunk_read_again() {
    let (source, kept) = (Model::with(&[("orders", 95)]), Kept::default());
    source.change(|state| state.faults.extend([Fault::Lost; 5]));
    kept.0.lock().unwrap().unavailable = 3;
    let control = control(&["orders"]);
    let status = cloner(&source, &kept, &control, options()).run_to_end().await.unwrap();
    assert_eq!(ids(&kept, &name("orders")), (0..95).collect::<Vec<i64>>());
    assert_eq!(stage(&status, "orders"), Some(&TableStage::Done));
    // What was read in vain is told: half of a chunk, five times. What could not be written is not read again.
    assert_eq!(status.rows_read, 95 + 5 * 5);
    assert!(status.last_error.is_some());
    assert!(source.change(|state| state.opened) > 5);
}

#[tokio::test]
async fn a_table_that_cannot_be_copied_says_why_and_the_others_are_copied() {
    let (source, kept) = (Model::with(&[("orders", 95), ("view", 5)]), Kept::default());
    source.change(|state| state.tables.get_mut(&name("view")).unwrap().refused = Some("it is a view"));
    let control = control(&["gone", "orders", "view"]);
    let status = cloner(&source, &kept, &control, options()).run_to_end().await.unwrap();
    assert_eq!(stage(&status, "orders"), Some(&TableStage::Done));
    for (table, why) in [("view", "it is a view; do something"), ("gone", "no such table")] {
        let Some(TableStage::Failed { reason }) = stage(&status, table) else { panic!("{status:?}") };
        assert!(reason.contains(why), "{reason}");
    }
    // Mended, and asked for again.
    source.change(|state| state.tables.get_mut(&name("view")).unwrap().refused = None);
    control.add_table(name("view"));
    let status = cloner(&source, &kept, &control, options()).run_to_end().await.unwrap();
    assert_eq!(stage(&status, "view"), Some(&TableStage::Done));
}

#[tokio::test(start_paused = true)]
async fn a_table_that_could_not_be_copied_is_tried_again_by_itself_and_is_told_as_failed_until_it_can_be() {
    let (source, kept) = (Model::with(&[("orders", 95), ("view", 5)]), Kept::default());
    source.change(|state| state.tables.get_mut(&name("view")).unwrap().refused = Some("it is a view"));
    let control = control(&["orders", "view"]);
    let run = start(cloner(&source, &kept, &control, options()));
    let is_failed = |status: &CloneStatus| matches!(stage(status, "view"), Some(TableStage::Failed { .. }));
    until(&control, |status| status.is_idle() && is_failed(status)).await;
    let began = Instant::now();
    let mut seen = control.status();
    seen.borrow_and_update();
    seen.changed().await.unwrap();
    assert!(is_failed(&seen.borrow()), "it was tried in vain");
    assert_eq!(began.elapsed(), options().failed_again_every);
    source.change(|state| state.tables.get_mut(&name("view")).unwrap().refused = None);
    // At once, when that is asked for.
    let mended = Instant::now();
    control.resume();
    until(&control, |status| stage(status, "view") == Some(&TableStage::Done)).await;
    assert_eq!(mended.elapsed(), Duration::ZERO);
    assert_eq!(ids(&kept, &name("view")).len(), 5);
    run.abort();
}

#[tokio::test]
async fn a_copy_that_its_destination_gave_up_goes_on_as_that_says() {
    let (source, kept) = (Model::with(&[("orders", 95)]).held(), Kept::default());
    let control = control(&["orders"]);
    let run = start(cloner(&source, &kept, &control, options()));
    source.let_read(2);
    until(&control, |_| kept.count() == 2).await;
    // Nobody tells the clone.
    kept.0.lock().unwrap().copies.clear();
    source.let_read(1000);
    let status = until(&control, CloneStatus::is_idle).await;
    assert_eq!(stage(&status, "orders"), Some(&TableStage::Done));
    assert_eq!(ids(&kept, &name("orders")), (0..95).collect::<Vec<i64>>());
    assert_eq!(kept.0.lock().unwrap().begun, 2);
    run.abort();
}

#[tokio::test]
async fn a_table_that_neither_the_source_nor_the_destination_has_is_not_told_of() {
    let (source, kept) = (Model::with(&[("orders", 95)]), Kept::default());
    kept.0.lock().unwrap().unwanted.insert(name("gone"));
    let status = cloner(&source, &kept, &control(&["gone", "orders"]), options()).run_to_end().await.unwrap();
    assert_eq!(status.tables.keys().collect::<Vec<_>>(), [&name("orders")]);
}

#[tokio::test]
async fn a_table_that_is_defined_anew_while_it_is_copied_begins_again() {
    let (source, kept) = (Model::with(&[("orders", 95)]), Kept::default());
    source.change(|state| state.faults.push_back(Fault::Redefined));
    let status = cloner(&source, &kept, &control(&["orders"]), options()).run_to_end().await.unwrap();
    assert_eq!(stage(&status, "orders"), Some(&TableStage::Done));
    let copies = &kept.0.lock().unwrap();
    let plan = &copies.copies[&name("orders")].plan;
    assert_eq!((copies.begun, plan.schema.columns.len()), (2, 3));
    assert_eq!(plan.source_schema, schema(&name("orders"), &["more"]).id().to_string());
}

#[tokio::test]
async fn a_table_that_is_defined_anew_between_two_runs_begins_again_and_one_that_is_not_goes_on() {
    let (source, kept) = (Model::with(&[("items", 95), ("orders", 95)]).held(), Kept::default());
    let control = control(&["items", "orders"]);
    let run = start(cloner(&source, &kept, &control, options()));
    source.let_read(6);
    until(&control, |_| kept.count() == 6).await;
    run.abort();
    assert!(run.await.is_err());
    source.0.reads.forget_permits(usize::MAX >> 4);
    source.change(|state| {
        state.tables.get_mut(&name("orders")).unwrap().schema = schema(&name("orders"), &["more"]);
        state.rows_given = 0;
    });
    let items = kept.chunks(&name("items")).len() as u64;
    assert!(items > 0 && items < 6);
    source.let_read(1000);
    cloner(&source, &kept, &self::control(&["items", "orders"]), options()).run_to_end().await.unwrap();
    // One copy of items, two of orders; of items only what was missing was read.
    assert_eq!(kept.0.lock().unwrap().begun, 3);
    assert_eq!(source.change(|state| state.rows_given), 95 + 95 - 10 * items);
    assert_eq!(ids(&kept, &name("items")), (0..95).collect::<Vec<i64>>());
}

#[tokio::test]
async fn b30_a_table_that_is_added_is_copied_while_the_others_go_on() {
    let (source, kept) = (Model::with(&[("late", 25), ("orders", 5000)]).held(), Kept::default());
    let control = control(&["orders"]);
    let run = start(cloner(&source, &kept, &control, options()));
    source.let_read(20);
    until(&control, |_| kept.count() == 20).await;
    control.add_table(name("late"));
    until(&control, |status| stage(status, "late").is_some()).await;
    source.let_read(30);
    let status = until(&control, |status| stage(status, "late") == Some(&TableStage::Done)).await;
    assert_eq!(ids(&kept, &name("late")), (0..25).collect::<Vec<i64>>());
    let orders = &status.tables[&name("orders")];
    assert_eq!(orders.stage, TableStage::Copying);
    assert!((20..=50).contains(&orders.chunks_done), "{orders:?}");
    run.abort();
}

#[tokio::test]
async fn chunks_in_flight_end_and_nothing_new_is_read_while_the_clone_is_paused() {
    let (source, kept) = (Model::with(&[("orders", 5000)]).held(), Kept::default());
    let control = control(&["orders"]);
    let run = start(cloner(&source, &kept, &control, options()));
    source.let_read(20);
    until(&control, |_| kept.count() == 20).await;
    control.pause();
    until(&control, |status| status.gate == Gate::Paused).await;
    let begun = kept.count() as u64;
    // As many as have a connection.
    source.let_read(1000);
    let status = until(&control, |_| kept.count() as u64 == begun + 3).await;
    assert_eq!(status.gate, Gate::Paused);
    // Whoever is able to run has run when everything waits: nothing is left that reads.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(kept.count() as u64, begun + 3);
    assert_eq!(source.0.reads.available_permits(), 997);
    control.resume();
    until(&control, CloneStatus::is_idle).await;
    assert_eq!(ids(&kept, &name("orders")).len(), 5000);
    run.abort();
}

#[tokio::test(start_paused = true)]
async fn nothing_is_read_while_the_source_is_busier_than_it_may_be() {
    let (source, kept) = (Model::with(&[("orders", 5000)]), Kept::default());
    source.change(|state| state.load = Load { threads_running: 9, replica_lag: None });
    let options = CloneOptions {
        max_threads_running: Some(8),
        max_replica_lag: Some(Duration::from_secs(5)),
        ..options()
    };
    let control = control(&["orders"]);
    let run = start(cloner(&source, &kept, &control, options));
    let busy =
        |status: &CloneStatus, text: &str| matches!(&status.gate, Gate::Busy { why } if why.contains(text));
    until(&control, |status| busy(status, "9 statements run at the source, the limit is 8")).await;
    assert_eq!((kept.count(), source.change(|state| state.rows_given)), (0, 0));
    use tidemill_fetchers_api::extract::ReplicaLag;
    let behind = |lag| {
        move |state: &mut support::model::State| {
            state.load = Load { threads_running: 8, replica_lag: Some(lag) }
        }
    };
    source.change(behind(ReplicaLag::Stopped));
    until(&control, |status| busy(status, "does not follow its own source")).await;
    source.change(behind(ReplicaLag::Seconds(6)));
    until(&control, |status| busy(status, "6 s behind")).await;
    assert_eq!((kept.count(), source.change(|state| state.rows_given)), (0, 0));
    source.change(behind(ReplicaLag::Seconds(5)));
    until(&control, CloneStatus::is_idle).await;
    assert_eq!(ids(&kept, &name("orders")).len(), 5000);
    run.abort();
}

#[tokio::test(start_paused = true)]
async fn no_more_rows_are_read_a_second_than_the_budget_allows() {
    let (source, kept) = (Model::with(&[("orders", 1000)]), Kept::default());
    let options = CloneOptions { rows_per_second: Some(20), chunk_rows: 100, ..options() };
    let began = Instant::now();
    cloner(&source, &kept, &control(&["orders"]), options).run_to_end().await.unwrap();
    // The clock is the test's: 50 chunks of a second's rows, of which the first is free.
    assert_eq!(kept.chunks(&name("orders")).len(), 50);
    assert_eq!(began.elapsed().as_secs(), 49);
}

#[tokio::test(start_paused = true)]
async fn a_table_without_key_that_changed_while_it_was_read_is_read_again() {
    let (source, kept) = (Model::with(&[("orders", 95)]).held(), Kept::default());
    source.change(|state| state.tables.get_mut(&name("orders")).unwrap().key = SourceKey::Nothing);
    let (control, numbers) = (control(&["orders"]), Numbers::default());
    numbers.touched.lock().unwrap().insert(position(Scn(101)));
    let marks = numbers.clone();
    // A transaction during the first read, one before the second.
    let waiting = source.clone();
    let run = tokio::spawn(
        Cloner::new(Changing(waiting), Policy::none(), kept.clone(), marks, control.clone())
            .with_options(options())
            .run(),
    );
    source.let_read(2);
    let status = until(&control, CloneStatus::is_idle).await;
    let chunks = kept.chunks(&name("orders"));
    assert_eq!((chunks.len(), ids(&kept, &name("orders")).len()), (1, 95));
    assert_eq!((chunks[&0].low, chunks[&0].high), (position(Scn(101)), position(Scn(102))));
    assert_eq!(status.rows_read, 2 * 95);
    assert!(status.last_error.unwrap().contains("it has no key and was changed while it was read"));
    run.abort();
}

#[tokio::test]
async fn a_chunk_that_is_asked_for_again_is_read_again_and_a_table_that_is_forgotten_is_not() {
    let (source, kept) = (Model::with(&[("items", 95), ("orders", 95)]), Kept::default());
    let control = control(&["items", "orders"]);
    let run = start(cloner(&source, &kept, &control, options()));
    until(&control, CloneStatus::is_idle).await;
    {
        let mut kept = kept.0.lock().unwrap();
        let copy = kept.copies.get_mut(&name("orders")).unwrap();
        copy.is_complete = false;
        copy.chunks.remove(&3);
        kept.order.clear();
    }
    control.forget_table(name("items"));
    control.redo_chunk(name("orders"), 3);
    until(&control, |_| kept.is_complete(&name("orders"))).await;
    assert_eq!(kept.0.lock().unwrap().order, [(name("orders"), 3)]);
    let status = until(&control, CloneStatus::is_idle).await;
    assert_eq!((stage(&status, "items"), status.tables.len()), (None, 1));
    // From the beginning, when that is asked for.
    control.restart_table(name("orders"));
    until(&control, |_| kept.0.lock().unwrap().begun == 3 && kept.is_complete(&name("orders"))).await;
    assert_eq!(kept.0.lock().unwrap().order.len(), 11);
    run.abort();
}

use changing::Changing;

mod changing {
    //! The source whose log goes on by one transaction in the middle of every read.

    use arrow_array::RecordBatch;
    use tidemill_event::TableName;
    use tidemill_fetchers_api::FetchError;
    use tidemill_fetchers_api::extract::{
        Bound, ChunkMarks, ChunkRead, Extract, ExtractSession, Load, SourceTable,
    };

    use super::support::model::{Model, Session};

    #[derive(Clone)]
    pub struct Changing(pub Model);

    pub struct ChangingSession(Session, Model);

    impl Extract for Changing {
        type Session = ChangingSession;

        async fn tables(&self) -> Result<Vec<TableName>, FetchError> {
            self.0.tables().await
        }

        async fn describe(&self, table: &TableName) -> Result<Option<SourceTable>, FetchError> {
            self.0.describe(table).await
        }

        async fn load(&self) -> Result<Load, FetchError> {
            self.0.load().await
        }

        async fn open(&self) -> Result<ChangingSession, FetchError> {
            Ok(ChangingSession(self.0.open().await?, self.0.clone()))
        }
    }

    impl ExtractSession for ChangingSession {
        async fn bound(
            &mut self,
            table: &SourceTable,
            after: Option<&Bound>,
            rows: u64,
        ) -> Result<Option<Bound>, FetchError> {
            self.0.bound(table, after, rows).await
        }

        async fn read(
            &mut self,
            chunk: &ChunkRead<'_>,
            give: &mut (dyn FnMut(RecordBatch) -> bool + Send),
        ) -> Result<ChunkMarks, FetchError> {
            let source = self.1.clone();
            let mut is_first = true;
            let mut changing = |rows| {
                if std::mem::take(&mut is_first) {
                    source.change(|state| state.scn += 1);
                }
                give(rows)
            };
            self.0.read(chunk, &mut changing).await
        }

        async fn read_sorted(
            &mut self,
            chunk: &ChunkRead<'_>,
            give: &mut (dyn FnMut(RecordBatch) -> bool + Send),
        ) -> Result<ChunkMarks, FetchError> {
            self.read(chunk, give).await
        }
    }
}
