//! The loop of a subscription: whatever fails and whenever, what is committed is the source's sequence, each change once.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::time::Duration;

use support::windows::{fragment, idle, window};
use support::{Book, Given, Keeper, Said, changes};
use tidemill_client::{Cause, Control, Paused, RetryPolicy, State, Switch, drive};
use tidemill_event::{Part, Remedy, Window};
use tokio::sync::watch;

/// Small neighbours, an idle source, and a transaction in parts between them.
fn windows() -> Vec<Window> {
    vec![
        window(0, &[10, 20]),
        window(20, &[30]),
        idle(30, 31),
        fragment(31, 40, Part::First, 0),
        fragment(31, 40, Part::Middle, 2),
        fragment(31, 40, Part::Last, 4),
        window(40, &[50]),
        window(50, &[60, 70]),
    ]
}

fn all() -> Vec<(u64, u64)> {
    windows().iter().flat_map(changes).collect()
}

fn quick(retries: u32) -> RetryPolicy {
    RetryPolicy { retries, first: Duration::ZERO, most: Duration::ZERO }
}

fn control() -> (watch::Sender<bool>, Switch, Control) {
    let (stop, stopped) = watch::channel(false);
    let (switch, control) = Control::new(stopped);
    (stop, switch, control)
}

async fn run(feed: &mut Given, keeper: &Keeper, retries: u32) -> Result<(), Paused<Said, Said>> {
    let (_stop, _switch, control) = control();
    drive("test", feed, keeper.clone(), quick(retries), control).await
}

fn book(keeper: &Keeper) -> std::sync::MutexGuard<'_, Book> {
    keeper.0.lock().unwrap()
}

#[tokio::test]
async fn b33_whichever_delivery_fails_is_rolled_back_and_comes_again_from_the_last_commit() {
    let whole = Keeper::default();
    run(&mut Given::new(windows()), &whole, 0).await.unwrap();
    let calls = book(&whole).delivered;
    assert!(calls >= 5, "small windows are merged, parts are not: {calls}");
    for call in 0..calls {
        let (mut feed, keeper) = (Given::new(windows()), Keeper::failing([call]));
        run(&mut feed, &keeper, 1).await.unwrap();
        let book = book(&keeper);
        assert_eq!(book.committed, all(), "call {call}");
        assert_eq!((book.rolled_back, book.closed), (1, 1), "call {call}");
    }
}

#[tokio::test]
async fn b33_a_delivery_that_keeps_failing_ends_with_an_error_after_the_retries() {
    for call in 0..5 {
        let (mut feed, keeper) = (Given::new(windows()), Keeper::failing(call..100));
        let paused = run(&mut feed, &keeper, 3).await.unwrap_err();
        assert!(matches!(paused.cause, Cause::Consumer(Said("the consumer failed", _))));
        let book = book(&keeper);
        assert_eq!(book.rolled_back, 4, "the first time and after each of three retries");
        assert_eq!(book.closed, 0);
        let committed = book.committed.last().map(|(scn, _)| *scn);
        assert!(paused.at.map(|at| at.scn.0) >= committed, "it stands behind its last commit");
        assert_eq!(book.committed, all()[..book.committed.len()], "whole transactions, in order");
    }
}

#[tokio::test]
async fn retries_count_between_two_commits() {
    let keeper = Keeper::failing([0, 2, 4, 6]);
    run(&mut Given::new(windows()), &keeper, 1).await.unwrap_err();
    let keeper = Keeper::failing([0, 2, 6]);
    run(&mut Given::new(windows()), &keeper, 1).await.unwrap();
    assert_eq!(book(&keeper).committed, all());
}

#[tokio::test]
async fn a_feed_that_loses_its_way_within_a_transaction_gives_it_again_from_its_first_part() {
    for at in 0..=windows().len() {
        let (mut feed, keeper) = (Given::new(windows()), Keeper::default());
        feed.errors.push_back((at, Said("the connection is lost", Remedy::Retry)));
        run(&mut feed, &keeper, 1).await.unwrap();
        assert_eq!(book(&keeper).committed, all(), "before window {at}");
        assert_eq!(feed.rewound, usize::from((4..=5).contains(&at)), "before window {at}");
    }
}

#[tokio::test]
async fn what_a_person_must_mend_pauses_at_once_behind_the_last_commit() {
    let (mut feed, keeper) = (Given::new(windows()), Keeper::default());
    feed.errors.push_back((7, Said("too old", Remedy::Fix)));
    let paused = run(&mut feed, &keeper, 3).await.unwrap_err();
    assert!(matches!(paused.cause, Cause::Feed(Said("too old", _))));
    assert_eq!(paused.at.unwrap().scn.0, 50, "what came before the error is delivered");
}

#[tokio::test]
async fn b54_an_operator_pauses_and_resumes_between_two_deliveries() {
    let (_stop, switch, control) = control();
    switch.pause();
    let keeper = Keeper::default();
    let task = tokio::spawn({
        let keeper = keeper.clone();
        async move { drive("test", &mut Given::new(windows()), keeper, quick(0), control).await.map_err(drop) }
    });
    switch.wait(|status| status.state == State::PausedByOperator).await;
    assert_eq!(book(&keeper).delivered, 0);
    switch.resume();
    task.await.unwrap().unwrap();
    assert_eq!(book(&keeper).committed, all());
    assert_eq!(switch.status().state, State::Ended);
}

#[tokio::test]
async fn b54_an_operator_resumes_what_an_error_paused_and_the_delivery_comes_again() {
    let (_stop, switch, control) = control();
    let keeper = Keeper::failing(2..4);
    let task = tokio::spawn({
        let keeper = keeper.clone();
        let control = control.held_on_error();
        async move { drive("test", &mut Given::new(windows()), keeper, quick(1), control).await.map_err(drop) }
    });
    switch.wait(|status| status.state == State::PausedByError).await;
    let status = switch.status();
    assert_eq!((status.retries, status.last_error.as_deref()), (1, Some("the consumer failed")));
    switch.resume();
    task.await.unwrap().unwrap();
    assert_eq!(book(&keeper).committed, all());
}

#[tokio::test]
async fn told_to_stop_while_paused_by_an_error_it_ends_with_that_error() {
    let (stop, switch, control) = control();
    let keeper = Keeper::failing(0..9);
    let task = tokio::spawn(async move {
        let control = control.held_on_error();
        drive("test", &mut Given::new(windows()), keeper, quick(0), control).await
    });
    switch.wait(|status| status.state == State::PausedByError).await;
    stop.send_replace(true);
    task.await.unwrap().unwrap_err();
}
