//! A feed from relays that fail in every way that a connection can: what it gives is the source's sequence, each change
//! once, bytes as they were.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::time::Duration;

use serde_json::json;
use support::stub::{Fault, Stub};
use support::windows::{assert_sound, at, idle, long_fragment, on_timeline, time_of, window};
use support::{changes, log_of, shop};
use tidemill_client::{Backoff, ClientError, Feed, RelayFeed, RelayOptions, Start, Token};
use tidemill_event::{Checkpoint, Part, Phase, Remedy, Timeline, Window};
use tidemill_log::{From, Log};

/// Whoever has everything up to there.
fn end(timeline: u32, scn: u64) -> Checkpoint {
    Checkpoint {
        source: "shop".into(),
        server: format!("server-{timeline}"),
        position: at(timeline, scn),
        gtid_set: String::new(),
        phase: Phase::Stream,
    }
}

fn all(windows: &[Window]) -> Vec<(u64, u64)> {
    windows.iter().flat_map(changes).collect()
}

fn options<'a>(relays: impl IntoIterator<Item = &'a Stub>) -> RelayOptions {
    let mut options = RelayOptions::new("shop", relays.into_iter().map(|relay| relay.url.clone()));
    options.backoff = Backoff { first: Duration::from_micros(10), most: Duration::from_millis(1) };
    options.heartbeat = Duration::from_secs(1);
    options
}

/// What a subscriber has seen. Every window is checked: it is what was written, and joins the one before.
#[derive(Debug, Default)]
struct Seen {
    changes: Vec<(u64, u64)>,
    end: Option<(Timeline, u64)>,
}

impl Seen {
    fn add(&mut self, window: &Window) {
        assert_sound(window);
        if let Some((timeline, upto)) = &self.end {
            match *timeline == window.timeline {
                true => assert_eq!(*upto, window.span.after.0, "spans join"),
                false => assert!(timeline.number < window.timeline.number, "timelines rise"),
            }
        }
        self.changes.extend(changes(window));
        self.end = Some((window.timeline.clone(), window.span.upto.0));
    }
}

/// Reads up to the end of a log.
async fn read_on(feed: &mut RelayFeed, upto: u64, seen: &mut Seen) -> Result<(), ClientError> {
    feed.end_at(end(1, upto));
    while let Some(window) = feed.next().await? {
        seen.add(&window);
    }
    Ok(())
}

async fn read(feed: &mut RelayFeed, upto: u64) -> Result<Seen, ClientError> {
    let mut seen = Seen::default();
    read_on(feed, upto, &mut seen).await.map(|()| seen)
}

#[tokio::test]
async fn windows_come_as_they_lie_in_the_relays_log() {
    let (_directory, log, _writer) = log_of(shop());
    let relay = Stub::new(&log).await;
    let mut feed = RelayFeed::new(options([&relay]), Start::Earliest).unwrap();
    feed.end_at(end(1, 60));
    let mut reader = log.reader(From::Earliest).unwrap();
    while let Some((given, frame)) = feed.next_framed().await.unwrap() {
        let (expected, window) = reader.next_frame().await.unwrap().unwrap();
        assert_eq!(frame.unwrap().bytes(), expected.bytes());
        support::windows::assert_same(&given, &window);
    }
    assert_eq!(feed.position(), Some(at(1, 60)));
    assert_eq!(feed.checkpoint(), log.checkpoint());
}

/// How often a relay was asked for windows.
fn streams_asked(relay: &Stub) -> usize {
    relay.asked().iter().filter(|asked| asked.starts_with("POST ")).count()
}

/// Asks for windows, of which there are none, until the relay was asked so often.
async fn nothing_until(feed: &mut RelayFeed, relay: &Stub, asked: usize) {
    let is_asked = async {
        while streams_asked(relay) < asked {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        given = feed.next() => panic!("{given:?}"),
        () = is_asked => {}
    }
}

/// Bytes of the answer that gives all of [`shop`].
async fn answer_bytes(log: &Log) -> usize {
    let mut reader = log.reader(From::Earliest).unwrap();
    let mut bytes = 2000;
    while let Some((frame, _)) = reader.try_next_frame().unwrap() {
        bytes += frame.bytes().len();
    }
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b13_a_connection_that_is_cut_after_any_byte_loses_nothing_and_repeats_nothing() {
    let (_directory, log, _writer) = log_of(shop());
    let bytes = answer_bytes(&log).await;
    assert!(bytes > 5000);
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..4 {
        let log = log.clone();
        workers.spawn(async move {
            let relay = Stub::new(&log).await;
            for cut in (worker..bytes).step_by(4) {
                // The answer after it is cut in the middle again.
                relay.fails([Fault::Cut(cut), Fault::Cut(bytes / 3)]);
                let mut feed = RelayFeed::new(options([&relay]), Start::Earliest).unwrap();
                let seen = read(&mut feed, 60).await.unwrap();
                assert_eq!(seen.changes, all(&shop()), "cut after byte {cut}");
                relay.forget();
            }
        });
    }
    while let Some(ended) = workers.join_next().await {
        ended.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b13_b19_a_bit_that_flips_on_the_wire_is_never_given_as_data() {
    let (_directory, log, _writer) = log_of(shop());
    let bytes = answer_bytes(&log).await;
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..4 {
        let log = log.clone();
        workers.spawn(async move {
            let relay = Stub::new(&log).await;
            for flip in (worker..bytes).step_by(4) {
                relay.fails([Fault::Flip(flip, (flip % 8) as u8)]);
                let mut options = options([&relay]);
                options.patience = Duration::from_millis(200);
                let mut feed = RelayFeed::new(options, Start::Earliest).unwrap();
                // A header or a length may have become another one: then it says so, and asking again mends it.
                let mut seen = Seen::default();
                while let Err(error) = read_on(&mut feed, 60, &mut seen).await {
                    assert!(error.remedy() == Remedy::Fix, "byte {flip}: {error}");
                }
                assert_eq!(seen.changes, all(&shop()), "byte {flip}");
                relay.forget();
            }
        });
    }
    while let Some(ended) = workers.join_next().await {
        ended.unwrap();
    }
}

#[tokio::test]
async fn b11_a_subscriber_that_changes_the_relay_for_each_fetch_sees_the_one_sequence() {
    // Two relays of one server cut their windows where their own sockets let them.
    let (_one, one, _first) = log_of(shop());
    let parts = [
        long_fragment(20, 40, Part::First, 0, 20),
        long_fragment(20, 40, Part::Middle, 20, 5),
        long_fragment(20, 40, Part::Last, 25, 25),
    ];
    let others = [window(0, &[10]), window(10, &[20])].into_iter().chain(parts);
    let (_other, other, _second) = log_of(others.chain([window(40, &[50]), window(50, &[60])]));
    let (one, other) = (Stub::new(&one).await, Stub::new(&other).await);
    for windows in 1..4 {
        let mut feed = RelayFeed::new(options([&one, &other]), Start::Earliest).unwrap();
        let mut seen = Seen::default();
        // Where every answer ends within the transaction in parts, longer answers bring it on.
        for more in 0.. {
            [&one, &other].iter().for_each(|relay| relay.always(Some(Fault::CutAfter(windows + more))));
            let step =
                tokio::time::timeout(Duration::from_millis(100), read_on(&mut feed, 60, &mut seen)).await;
            if let Ok(ended) = step {
                ended.unwrap();
                break;
            }
        }
        assert_eq!(seen.changes, all(&shop()), "{windows} windows an answer");
        assert!(feed.link().reconnects > 0);
    }
}

#[tokio::test]
async fn a_relay_that_fails_refuses_or_is_none_is_left_for_the_next_one() {
    let (_directory, log, _writer) = log_of(shop());
    let (bad, good) = (Stub::new(&log).await, Stub::new(&log).await);
    let faults = [
        Fault::Cut(0),
        Fault::CutAfter(3),
        Fault::EndAfter(4),
        Fault::SilentAfter(4),
        Fault::Foreign("<html>welcome</html>"),
        Fault::Refuse(503, "shutting-down", json!({})),
        Fault::Refuse(500, "storage", json!({})),
        Fault::Refuse(410, "too-old", json!({"earliest": "1/40", "latest": "1/60"})),
        Fault::Refuse(401, "unauthenticated", json!({})),
        Fault::Refuse(404, "unknown-source", json!({})),
        Fault::Refuse(418, "of-a-newer-release", json!({})),
    ];
    for fault in faults {
        bad.always(Some(fault.clone()));
        let mut feed = RelayFeed::new(options([&bad, &good]), Start::Earliest).unwrap();
        let seen = read(&mut feed, 60).await.unwrap();
        assert_eq!(seen.changes, all(&shop()), "{fault:?}");
        assert_eq!(feed.link().relay.as_deref(), Some(&*good.url), "{fault:?}");
    }
}

#[tokio::test]
async fn b12_what_every_relay_refuses_is_the_feeds_error_and_asking_again_asks_them_again() {
    let (_directory, log, _writer) = log_of(shop());
    let (one, other) = (Stub::new(&log).await, Stub::new(&log).await);
    one.fails([Fault::Refuse(410, "too-old", json!({"earliest": "1/40", "latest": "1/60"}))]);
    other.fails([Fault::Refuse(410, "too-old", json!({"earliest": "1/20", "latest": "1/50"}))]);
    let mut feed = RelayFeed::new(options([&one, &other]), Start::After(at(1, 5))).unwrap();
    let error = feed.next().await.unwrap_err();
    let ClientError::TooOld { earliest, latest, .. } = &error else { panic!("{error}") };
    assert_eq!((*earliest, *latest, error.remedy()), (Some(at(1, 20)), Some(at(1, 50)), Remedy::Fix));
    // A person gave the relays more history.
    assert_eq!(read(&mut feed, 60).await.unwrap().changes, all(&shop()));
}

#[tokio::test]
async fn what_is_gone_from_the_relay_that_answers_is_said_though_another_stays_unreachable() {
    let (_directory, log, _writer) = log_of(shop());
    let relay = Stub::new(&log).await;
    let gone = Fault::Refuse(410, "too-old", json!({"earliest": "1/40", "latest": "1/60"}));
    relay.always(Some(gone));
    // Nobody listens there.
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut options = options([&relay]);
    options.relays.push(format!("http://{nowhere}"));
    let mut feed = RelayFeed::new(options, Start::After(at(1, 5))).unwrap();
    let error = feed.next().await.unwrap_err();
    assert!(matches!(error, ClientError::TooOld { .. }), "{error}");
    let rounds = relay.asked().len();
    assert_eq!(rounds, 11, "the other one was waited for");
    // It has more history now.
    relay.always(None);
    assert_eq!(read(&mut feed, 60).await.unwrap().changes, all(&shop()));
}

#[tokio::test]
async fn refusals_are_told_apart_and_say_how_to_mend_them() {
    let (_directory, log, _writer) = log_of(shop());
    let relay = Stub::new(&log).await;
    for (status, code, expected) in [
        (401, "unauthenticated", "does not know us: as told"),
        (403, "not-granted", "does not let us: as told"),
        (409, "diverged", "has another history: as told"),
        (404, "unknown-table", "refuses (unknown-table): as told"),
    ] {
        relay.fails([Fault::Refuse(status, code, json!({}))]);
        let mut feed = RelayFeed::new(options([&relay]), Start::Earliest).unwrap();
        let error = feed.next().await.unwrap_err();
        assert!(error.to_string().ends_with(expected), "{error}");
        assert_eq!(error.remedy(), Remedy::Fix);
    }
}

#[tokio::test]
async fn b40_a_subscriber_begins_at_the_head_at_a_position_at_a_time_and_at_the_earliest() {
    let (_directory, log, mut writer) = log_of(shop());
    let relay = Stub::new(&log).await;
    let starts = [
        (Start::Earliest, 10),
        (Start::After(at(1, 10)), 20),
        (Start::Time(time_of(30)), 40),
        (Start::At(log.checkpoint().unwrap()), 70),
        (Start::Now, 70),
    ];
    let mut feeds = Vec::new();
    for (start, first) in starts {
        let mut feed = RelayFeed::new(options([&relay]), start).unwrap();
        feed.end_at(end(1, 70));
        if first == 70 {
            // What begins at the head is asked for before more is there.
            nothing_until(&mut feed, &relay, streams_asked(&relay) + 1).await;
        }
        feeds.push((feed, first));
    }
    writer.append(&window(60, &[70])).unwrap();
    for (mut feed, first) in feeds {
        let mut seen = Seen::default();
        read_on(&mut feed, 70, &mut seen).await.unwrap();
        assert_eq!(seen.changes.first().unwrap().0, first);
        assert_eq!(seen.changes.last().unwrap().0, 70);
    }
}

#[tokio::test]
async fn b40_what_commits_between_now_and_a_lost_connection_before_the_first_window_is_not_lost() {
    let (_directory, log, mut writer) = log_of(shop());
    let relay = Stub::new(&log).await;
    relay.always(Some(Fault::Cut(50)));
    let mut feed = RelayFeed::new(options([&relay]), Start::Now).unwrap();
    nothing_until(&mut feed, &relay, 1).await;
    writer.append(&window(60, &[70])).unwrap();
    nothing_until(&mut feed, &relay, streams_asked(&relay) + 2).await;
    relay.always(None);
    writer.append(&window(70, &[80])).unwrap();
    let seen = read(&mut feed, 80).await.unwrap();
    assert_eq!(seen.changes, [changes(&window(60, &[70])), changes(&window(70, &[80]))].concat());
    assert_eq!(
        relay.asked().iter().filter(|asked| asked.starts_with("GET ")).count(),
        1,
        "now is one moment"
    );
}

#[tokio::test]
async fn a_relay_that_numbers_its_timelines_otherwise_is_understood_by_its_servers() {
    let (_one, one, _first) = log_of(shop());
    let renumbered = |mut window: Window| {
        window.timeline.number = 7;
        window
    };
    let (_other, other, mut second) = log_of(shop().into_iter().map(renumbered));
    second.append(&renumbered(window(60, &[70]))).unwrap();
    let (one, other) = (Stub::new(&one).await, Stub::new(&other).await);
    one.always(Some(Fault::CutAfter(4)));
    let mut feed = RelayFeed::new(options([&one, &other]), Start::Earliest).unwrap();
    let seen = read(&mut feed, 70).await.unwrap();
    assert_eq!(seen.changes, [all(&shop()), changes(&window(60, &[70]))].concat());
    assert_eq!(seen.end.unwrap().0.number, 1, "one server is one timeline");
}

#[tokio::test]
async fn another_server_opens_the_next_timeline() {
    let other = |window: Window| on_timeline(2, window);
    let more = [window(0, &[5, 9]), idle(9, 11)].map(other);
    let (_directory, log, _writer) = log_of(shop().into_iter().chain(more));
    let relay = Stub::new(&log).await;
    relay.fails([Fault::CutAfter(6), Fault::CutAfter(1), Fault::CutAfter(1)]);
    let mut feed = RelayFeed::new(options([&relay]), Start::Earliest).unwrap();
    feed.end_at(end(2, 11));
    let mut numbers = Vec::new();
    while let Some(window) = feed.next().await.unwrap() {
        numbers.push(window.timeline.number);
    }
    numbers.dedup();
    assert_eq!(numbers, [1, 2]);
}

#[tokio::test]
async fn rolled_back_a_transaction_in_parts_comes_again_from_its_first_part() {
    let (_directory, log, _writer) = log_of(shop());
    let relay = Stub::new(&log).await;
    for given in 2..=6 {
        let mut feed = RelayFeed::new(options([&relay]), Start::Earliest).unwrap();
        feed.end_at(end(1, 60));
        for _ in 0..given {
            feed.next().await.unwrap();
        }
        feed.rewind().unwrap();
        let window = feed.next().await.unwrap().unwrap();
        assert_eq!((window.transactions[0].scn.0, window.transactions[0].part), (40, Part::First));
        let mut seen = changes(&window);
        while let Some(window) = feed.next().await.unwrap() {
            seen.extend(changes(&window));
        }
        assert_eq!(seen, all(&shop())[5..], "after {given} windows");
    }
}

#[tokio::test]
async fn a_transaction_in_parts_that_no_relay_has_as_it_was_is_said_and_comes_again_after_a_rollback() {
    let (_one, one, _first) = log_of(shop());
    let (_other, other, _second) = log_of([window(0, &[10, 20, 40, 50, 60])]);
    let (one, other) = (Stub::new(&one).await, Stub::new(&other).await);
    one.fails([Fault::CutAfter(3)]);
    one.always(Some(Fault::Refuse(410, "too-old", json!({}))));
    let mut feed = RelayFeed::new(options([&one, &other]), Start::Earliest).unwrap();
    let error = read(&mut feed, 60).await.unwrap_err();
    assert!(matches!(error, ClientError::Parted { .. } | ClientError::TooOld { .. }), "{error}");
    feed.rewind().unwrap();
    let window = feed.next().await.unwrap().unwrap();
    assert_eq!(changes(&window).first(), Some(&(40, 0)));
}

#[tokio::test]
async fn b14_a_subscriber_that_stands_still_holds_no_more_than_its_bytes_and_nobody_else_waits() {
    let large = |n: u64| {
        let scns: Vec<u64> = (n * 100 + 1..=n * 100 + 100).collect();
        window(n * 100, &scns)
    };
    let (_directory, log, mut writer) = log_of((0..200).map(large));
    let relay = Stub::new(&log).await;
    let mut options = options([&relay]);
    options.in_flight_bytes = 64 << 10;
    let mut still = RelayFeed::new(options.clone(), Start::Earliest).unwrap();
    let first = still.next().await.unwrap().unwrap();
    let frame = tidemill_event::encode_window(&first).unwrap().bytes().len();
    // It takes what it may, and then nothing more.
    while still.in_flight_bytes() + 2 * frame < options.in_flight_bytes {
        tokio::task::yield_now().await;
    }
    let mut other = RelayFeed::new(options.clone(), Start::Earliest).unwrap();
    (200..220).for_each(|n| assert!(writer.append(&large(n)).is_ok()));
    let seen = read(&mut other, 22_000).await.unwrap();
    assert_eq!(seen.end.unwrap().1, 22_000);
    assert!(still.in_flight_bytes() <= options.in_flight_bytes);
    let mut rest = Seen::default();
    rest.add(&first);
    still.end_at(end(1, 22_000));
    while let Some(window) = still.next().await.unwrap() {
        rest.add(&window);
        assert!(still.in_flight_bytes() <= options.in_flight_bytes);
    }
    assert_eq!(rest.changes, seen.changes);
    assert_eq!(still.next().await.unwrap().map(|_| ()), None);
    assert_eq!(still.in_flight_bytes(), 0, "what is done with counts no more");
}

#[tokio::test]
async fn a_window_that_is_larger_than_all_that_may_be_in_flight_comes_alone() {
    let (_directory, log, _writer) = log_of(shop());
    let relay = Stub::new(&log).await;
    let mut options = options([&relay]);
    options.in_flight_bytes = 100;
    let mut feed = RelayFeed::new(options, Start::Earliest).unwrap();
    assert_eq!(read(&mut feed, 60).await.unwrap().changes, all(&shop()));
}

#[tokio::test]
async fn a_relay_that_is_silent_for_three_heartbeats_is_lost() {
    let (_directory, log, _writer) = log_of(shop());
    let relay = Stub::new(&log).await;
    relay.fails([Fault::SilentAfter(3)]);
    let mut feed = RelayFeed::new(options([&relay]), Start::Earliest).unwrap();
    assert_eq!(read(&mut feed, 60).await.unwrap().changes, all(&shop()));
    assert!(feed.link().last_error.unwrap().contains("was silent for 3 seconds"));
}

#[tokio::test]
async fn b53_a_token_is_sent_in_a_header_and_only_where_nobody_else_can_read_it() {
    let (_directory, log, _writer) = log_of(shop());
    let relay = Stub::new(&log).await;
    let mut options = options([&relay]);
    options.token = Some(Token::new("canary-7f3a"));
    let mut feed = RelayFeed::new(options.clone(), Start::Earliest).unwrap();
    read(&mut feed, 60).await.unwrap();
    let asked = relay.asked().pop().unwrap();
    let with: Vec<&str> = asked.lines().filter(|line| line.contains("canary")).collect();
    assert_eq!(with, ["authorization: Bearer canary-7f3a"]);
    options.relays = vec!["http://relay.example:7878".into()];
    let error = RelayFeed::new(options, Start::Earliest).err().unwrap();
    assert!(
        error.to_string().contains("reach the relay by https://") && !error.to_string().contains("canary")
    );
}
