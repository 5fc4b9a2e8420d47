//! The feed that goes between snapshot storage and the stream by itself: what it asks of each, and when.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use support::windows::{fragment, window};
use support::{Keeper, Said};
use tidemill_client::{
    Backoff, Bootstrap, Control, Feed, PhasedError, PhasedFeed, Piece, RetryPolicy, Stream, drive,
};
use tidemill_event::{Checkpoint, Cursor, Part, Phase, Remedy, Scn, Span, Transaction, Window};
use tokio::sync::watch;

const GONE: Said = Said("what follows is gone", Remedy::Fix);

/// A stream of these windows, of which the first `gone` are no longer there.
#[derive(Clone, Default)]
struct Shelf(Arc<Mutex<ShelfState>>);

#[derive(Default)]
struct ShelfState {
    windows: Vec<Arc<Window>>,
    gone: usize,
    next: usize,
    begun: Vec<u64>,
    /// At the first time that this window is reached, so many are gone.
    falls: VecDeque<(usize, usize)>,
}

impl Shelf {
    fn of(windows: Vec<Window>) -> Shelf {
        let windows = windows.into_iter().map(Arc::new).collect();
        Shelf(Arc::new(Mutex::new(ShelfState { windows, ..ShelfState::default() })))
    }
}

impl ShelfState {
    fn take(&mut self) -> Result<Option<Arc<Window>>, Said> {
        if let Some((_, gone)) = self.falls.pop_front_if(|(at, _)| *at == self.next) {
            self.gone = gone;
        }
        if self.next < self.gone {
            return Err(GONE);
        }
        let window = self.windows.get(self.next).cloned();
        self.next += usize::from(window.is_some());
        Ok(window)
    }
}

impl Feed for Shelf {
    type Error = Said;

    async fn next(&mut self) -> Result<Option<Arc<Window>>, Said> {
        tokio::task::yield_now().await;
        self.0.lock().unwrap().take()
    }

    fn try_next(&mut self) -> Result<Option<Arc<Window>>, Said> {
        self.0.lock().unwrap().take()
    }

    fn rewind(&mut self) -> Result<(), Said> {
        Ok(())
    }

    fn remedy(error: &Said) -> Remedy {
        error.1
    }
}

impl Stream for Shelf {
    fn begin(&mut self, after: &Checkpoint) -> Result<(), Said> {
        assert_eq!(after.phase, Phase::Stream);
        let mut shelf = self.0.lock().unwrap();
        shelf.begun.push(after.position.scn.0);
        shelf.next = shelf.windows.iter().position(|w| w.span.after == after.position.scn).unwrap();
        Ok(())
    }

    fn is_gone(error: &Said) -> bool {
        error.0 == GONE.0
    }
}

/// Gives these answers, and writes down what it was asked.
#[derive(Clone, Default)]
struct Storage(Arc<Mutex<StorageState>>);

#[derive(Default)]
struct StorageState {
    answers: VecDeque<Result<Piece, Said>>,
    asked: Vec<Option<Checkpoint>>,
}

impl Storage {
    fn of(answers: impl IntoIterator<Item = Result<Piece, Said>>) -> Storage {
        let answers = answers.into_iter().collect();
        Storage(Arc::new(Mutex::new(StorageState { answers, asked: vec![] })))
    }

    fn asked(&self) -> Vec<Option<(u64, Phase)>> {
        let of = |have: &Option<Checkpoint>| have.as_ref().map(|h| (h.position.scn.0, h.phase.clone()));
        self.0.lock().unwrap().asked.iter().map(of).collect()
    }
}

impl Bootstrap for Storage {
    type Error = Said;

    async fn next(&mut self, have: Option<&Checkpoint>) -> Result<Piece, Said> {
        tokio::task::yield_now().await;
        let mut storage = self.0.lock().unwrap();
        storage.asked.push(have.cloned());
        storage.answers.pop_front().expect("it is asked no more often than this")
    }

    fn remedy(error: &Said) -> Remedy {
        error.1
    }
}

fn phase(phase: fn(Cursor) -> Phase, after: u8) -> Phase {
    phase(Cursor { version: 1, table: "shop.a".into(), after: vec![after] })
}

fn piece(at: u64, phase: Phase) -> Result<Piece, Said> {
    let like = window(0, &[at]);
    let span = Span { after: Scn(0), upto: Scn(at) };
    let transactions = vec![Transaction { scn: Scn(at), ..like.transactions[0].clone() }];
    Ok(Piece::Window(Arc::new(Window { phase, span, transactions, ..like })))
}

fn stream_at(at: u64) -> Result<Piece, Said> {
    Ok(Piece::Stream(window(0, &[at]).checkpoint()))
}

fn feed(shelf: &Shelf, storage: &Storage, have: Option<Checkpoint>) -> PhasedFeed<Shelf, Storage> {
    let backoff = Backoff { first: Duration::ZERO, most: Duration::ZERO };
    PhasedFeed::new(shelf.clone(), storage.clone(), have).with_backoff(backoff)
}

/// Where whoever has each window is: SCN, and whether that is in the stream.
async fn places(feed: &mut PhasedFeed<Shelf, Storage>) -> Vec<(u64, bool)> {
    let mut places = vec![];
    while let Some(window) = feed.next().await.unwrap() {
        window.validate().unwrap();
        places.push((window.span.upto.0, window.phase == Phase::Stream));
        assert_eq!(feed.checkpoint(), Some(window.checkpoint()));
    }
    places
}

#[tokio::test]
async fn who_has_nothing_gets_a_snapshot_then_the_stream_behind_it() {
    let shelf = Shelf::of(vec![window(0, &[10]), window(10, &[20]), window(20, &[30])]);
    let storage = Storage::of([
        piece(10, phase(Phase::Snapshot, 1)),
        piece(10, phase(Phase::Snapshot, 2)),
        stream_at(10),
    ]);
    let got = places(&mut feed(&shelf, &storage, None)).await;
    assert_eq!(got, [(10, false), (10, false), (10, true), (20, true), (30, true)]);
    let snapshot = |after| Some((10, phase(Phase::Snapshot, after)));
    assert_eq!(storage.asked(), [None, snapshot(1), snapshot(2)]);
}

#[tokio::test]
async fn who_is_within_a_snapshot_goes_on_there() {
    let shelf = Shelf::of(vec![window(0, &[10]), window(10, &[20])]);
    let storage = Storage::of([stream_at(10)]);
    let Ok(Piece::Window(had)) = piece(10, phase(Phase::Snapshot, 7)) else { unreachable!() };
    let got = places(&mut feed(&shelf, &storage, Some(had.checkpoint()))).await;
    assert_eq!(got, [(10, true), (20, true)]);
    assert_eq!(storage.asked(), [Some((10, phase(Phase::Snapshot, 7)))]);
}

#[tokio::test]
async fn b21_whoever_falls_out_of_the_stream_comes_back_over_deltas_as_often_as_that_happens() {
    let windows = (0..6).map(|n| window(n * 10, &[n * 10 + 10])).collect();
    let shelf = Shelf::of(windows);
    shelf.0.lock().unwrap().falls = VecDeque::from([(1, 3), (4, 5)]);
    let storage = Storage::of([
        piece(10, phase(Phase::Deltas, 1)),
        stream_at(30),
        piece(40, phase(Phase::Deltas, 1)),
        stream_at(50),
    ]);
    let have = window(0, &[0]).checkpoint();
    let got = places(&mut feed(&shelf, &storage, Some(have))).await;
    let streamed = |at| (at, true);
    assert_eq!(got[..2], [streamed(10), (10, false)]);
    assert_eq!(got[2..], [streamed(30), streamed(40), (40, false), streamed(50), streamed(60)]);
    assert_eq!(shelf.0.lock().unwrap().begun, [0, 30, 50]);
}

#[tokio::test]
async fn a_storage_that_is_no_further_than_the_consumer_is_asked_again() {
    let shelf = Shelf::of((0..3).map(|n| window(n * 10, &[n * 10 + 10])).collect());
    shelf.0.lock().unwrap().gone = 2;
    let wait = Err(Said("nothing yet", Remedy::Wait));
    let storage = Storage::of([stream_at(10), wait, stream_at(10), stream_at(20)]);
    let have = window(0, &[10]).checkpoint();
    assert_eq!(places(&mut feed(&shelf, &storage, Some(have))).await, [(20, true), (30, true)]);
    assert_eq!(storage.asked().len(), 4);
}

#[tokio::test]
async fn parts_of_a_transaction_whose_rest_is_gone_are_rolled_back_before_deltas_come() {
    let parts = [Part::First, Part::Middle, Part::Last].into_iter().zip([0, 2, 4]);
    let parts = parts.map(|(part, offset)| fragment(10, 20, part, offset));
    let shelf = Shelf::of([window(0, &[10])].into_iter().chain(parts).chain([window(20, &[30])]).collect());
    shelf.0.lock().unwrap().falls = VecDeque::from([(2, 4)]);
    let storage = Storage::of([piece(10, phase(Phase::Deltas, 1)), stream_at(20)]);
    let mut feed = feed(&shelf, &storage, Some(window(0, &[0]).checkpoint()));
    let keeper = Keeper::default();
    let (_stop, stopped) = watch::channel(false);
    let policy = RetryPolicy { retries: 1, first: Duration::ZERO, most: Duration::ZERO };
    drive("test", &mut feed, keeper.clone(), policy, Control::new(stopped).1).await.unwrap();
    let book = keeper.0.lock().unwrap();
    assert_eq!(book.rolled_back, 1);
    assert_eq!(storage.asked()[0], Some((10, Phase::Stream)));
    let scns: Vec<u64> = book.committed.iter().map(|(scn, _)| *scn).collect();
    assert!(!scns.contains(&20), "none of the parts is committed: {scns:?}");
    assert_eq!(scns.last(), Some(&30));
}

#[tokio::test]
async fn an_error_of_either_side_is_told_and_the_next_call_tries_again() {
    let shelf = Shelf::of(vec![window(0, &[10]), window(10, &[20])]);
    let storage = Storage::of([Err(Said("unreachable", Remedy::Retry)), stream_at(10)]);
    let mut feed = feed(&shelf, &storage, None);
    let error = feed.next().await.unwrap_err();
    assert!(matches!(error, PhasedError::Bootstrap(Said("unreachable", _))));
    assert_eq!(places(&mut feed).await, [(10, true), (20, true)]);
    assert_eq!(storage.asked(), [None, None]);
}
