//! A chained log holds what its upstream's holds, byte for byte, whatever breaks between them.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../../../host/client/tests/support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use support::stub::{Fault, Stub};
use support::windows::{config, idle, long_fragment, window};
use tempfile::TempDir;
use tidemill_client::{Backoff, RelayOptions};
use tidemill_event::{Part, Remedy, Window, encode_schema};
use tidemill_fetchers_api::{FetchError, Fetcher, Judge, Start, conformance};
use tidemill_fetchers_relay::RelayFetcher;
use tidemill_log::{From, Log, Writer};

fn open_log() -> (TempDir, Log) {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::open(config(directory.path())).unwrap();
    (directory, log)
}

/// Windows of all kinds: whole ones, an idle source, transactions in parts.
fn shop() -> Vec<Window> {
    let mut windows = vec![window(0, &[10, 20]), idle(20, 21)];
    for n in 1..6 {
        let after = if n == 1 { 21 } else { n * 20 };
        let scn = n * 20 + 10;
        windows.push(long_fragment(after, scn, Part::First, 0, 4));
        windows.push(long_fragment(after, scn, Part::Middle, 4, 6));
        windows.push(long_fragment(after, scn, Part::Last, 10, 3));
        windows.push(window(scn, &[scn + 3, scn + 5, scn + 10]));
    }
    windows
}

fn fill(log: &Log, windows: &[Window]) -> Writer {
    let mut writer = log.writer().unwrap();
    for window in windows {
        writer.append(window).unwrap();
    }
    writer
}

fn options<'a>(relays: impl IntoIterator<Item = &'a Stub>) -> RelayOptions {
    let mut options = RelayOptions::new("shop", relays.into_iter().map(|relay| relay.url.clone()));
    options.backoff = Backoff { first: Duration::from_micros(10), most: Duration::from_millis(1) };
    options.heartbeat = Duration::from_secs(1);
    options
}

/// Every frame of a log, schemas before the windows that use them.
fn frames(log: &Log) -> Vec<Vec<u8>> {
    let mut reader = log.reader(From::Earliest).unwrap();
    let (mut all, mut known) = (vec![], BTreeSet::new());
    while let Some((frame, window)) = reader.try_next_frame().unwrap() {
        for table in window.tables.iter().filter(|table| known.insert(table.schema.id())) {
            all.push(encode_schema(&table.schema).bytes().to_vec());
        }
        all.push(frame.bytes().to_vec());
    }
    all
}

/// Follows into a log, as a source does, so many windows at most. Says how many there were.
async fn follow(log: &Log, options: RelayOptions, upto: u64, most: usize) -> Result<usize, FetchError> {
    let mut writer = log.writer().unwrap();
    let start = log.checkpoint().map_or(Start::Earliest, Start::At);
    let mut fetcher = RelayFetcher::open(options, start, None).await?;
    for count in 0..most {
        if log.checkpoint().is_some_and(|c| c.position.scn.0 >= upto) {
            return Ok(count);
        }
        let window = fetcher.next().await?.unwrap();
        let frame = fetcher.take_frame().expect("nobody changed it");
        writer.append_frame(&frame, &window).unwrap();
    }
    Ok(most)
}

#[tokio::test]
async fn the_conformance_suite_passes() {
    let (_directory, log) = open_log();
    let _writer = fill(&log, &shop());
    let relay = Stub::new(&log).await;
    let transactions = shop().iter().flat_map(|w| &w.transactions).filter(|t| t.part.completes()).count();
    let seen = conformance::check(
        async |start| RelayFetcher::open(options([&relay]), start, None).await,
        transactions,
    );
    assert_eq!(seen.await.unwrap().transactions.len(), transactions);
}

#[tokio::test]
async fn b17_b50_a_chained_log_holds_the_same_bytes_through_restarts_of_either_side() {
    let (_up, upstream) = open_log();
    let _writer = fill(&upstream, &shop());
    let relay = Stub::new(&upstream).await;
    let end = upstream.checkpoint().unwrap().position.scn.0;
    for seed in 0..20_usize {
        let (directory, mut chained) = open_log();
        for step in seed.. {
            if chained.checkpoint().is_some_and(|c| c.position.scn.0 >= end) {
                break;
            }
            // The upstream's connection ends somewhere; we end after some windows, perhaps within a transaction.
            relay.fails([Fault::Cut(step * 1237 % 20_000)]);
            follow(&chained, options([&relay]), end, 1 + step * 5 % 9).await.unwrap();
            drop(chained);
            chained = Log::open(config(directory.path())).unwrap();
        }
        relay.forget();
        assert!(frames(&chained) == frames(&upstream), "seed {seed}");
        assert_eq!(chained.checkpoint(), upstream.checkpoint());
    }
}

#[tokio::test]
async fn a_chain_of_three_holds_the_same_bytes() {
    let (_a, first) = open_log();
    let _writer = fill(&first, &shop());
    let end = first.checkpoint().unwrap().position.scn.0;
    let (_b, second) = open_log();
    let (_c, third) = open_log();
    let one = Stub::new(&first).await;
    follow(&second, options([&one]), end, 100).await.unwrap();
    let two = Stub::new(&second).await;
    follow(&third, options([&two]), end, 100).await.unwrap();
    assert!(frames(&third) == frames(&first));
}

#[tokio::test]
async fn b17_behind_relays_that_count_their_timelines_otherwise_a_chained_log_has_one_timeline() {
    let (_a, one) = open_log();
    let _first = fill(&one, &shop()[..6]);
    let (_b, other) = open_log();
    let renumbered: Vec<Window> = shop()
        .into_iter()
        .map(|mut w| {
            w.timeline.number = 4;
            w
        })
        .collect();
    let _second = fill(&other, &renumbered);
    let (one, other) = (Stub::new(&one).await, Stub::new(&other).await);
    one.fails([Fault::EndAfter(6)]);
    let (_c, chained) = open_log();
    let mut writer = chained.writer().unwrap();
    let mut fetcher = RelayFetcher::open(options([&one, &other]), Start::Earliest, None).await.unwrap();
    while chained.checkpoint().is_none_or(|c| c.position.scn.0 < 120) {
        let window = fetcher.next().await.unwrap().unwrap();
        match fetcher.take_frame() {
            Some(frame) => writer.append_frame(&frame, &window).unwrap(),
            None => writer.append(&window).unwrap(),
        };
    }
    assert_eq!(chained.timelines().len(), 1);
    let expected: Vec<_> = shop().iter().flat_map(support::changes).collect();
    let mut reader = chained.reader(From::Earliest).unwrap();
    let mut got = vec![];
    while let Some(window) = reader.try_next().unwrap() {
        got.extend(support::changes(&window));
    }
    assert_eq!(got, expected);
}

#[tokio::test]
async fn what_a_policy_judges_is_encoded_anew_and_a_policy_that_fails_stops_the_source() {
    let (_directory, log) = open_log();
    let _writer = fill(&log, &shop());
    let relay = Stub::new(&log).await;
    let judge: Judge = Arc::new(|mut window: Window| {
        if window.span.upto.0 > 21 {
            return Err("no more".into());
        }
        window.tables.clear();
        Ok(window)
    });
    let mut fetcher = RelayFetcher::open(options([&relay]), Start::Earliest, Some(judge)).await.unwrap();
    assert_eq!(fetcher.next().await.unwrap().unwrap().row_count(), 0);
    assert!(fetcher.take_frame().is_none(), "the frame still has what the policy removed");
    while let Ok(window) = fetcher.next().await {
        assert!(window.unwrap().span.upto.0 <= 21);
    }
    assert!(matches!(fetcher.next().await, Err(FetchError::Judge { .. })), "it does not go on unjudged");
}

#[tokio::test]
async fn refusals_and_lost_history_are_a_persons_and_a_relay_that_is_away_is_told() {
    let (_directory, log) = open_log();
    let _writer = fill(&log, &shop());
    let relay = Stub::new(&log).await;
    relay.fails([Fault::Refuse(410, "too-old", json!({"earliest": "1/40", "latest": "1/60"}))]);
    let mut fetcher = RelayFetcher::open(options([&relay]), Start::Earliest, None).await.unwrap();
    let error = fetcher.next().await.unwrap_err();
    assert!(matches!(error, FetchError::Lineage { .. }) && error.remedy() == Remedy::Fix, "{error}");
    let liveness = fetcher.liveness();
    assert!(liveness.why().unwrap().contains("no longer has what follows"));
    fetcher.next().await.unwrap();
    assert_eq!(liveness.why(), None);
    let gone = RelayOptions::new("shop", ["http://127.0.0.1:9"]);
    let error = RelayFetcher::open(gone, Start::Now, None).await.err().unwrap();
    assert_eq!(error.remedy(), Remedy::Retry);
}
