//! The client and the relay, each as it is: sockets, encryption, credentials, compression, selections, shutdowns.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/real.rs"]
mod real;
mod support;

use std::time::Duration;

use real::{Authority, Real, local};
use support::windows::{assert_same, assert_sound, at, on_timeline, time_of, window};
use support::{Keeper, changes, log_of, shop};
use tidemill_client::{
    Backoff, ClientError, ClientTls, Control, Feed, RelayFeed, RelayOptions, RetryPolicy, Start, Token, drive,
};
use tidemill_event::{Remedy, Window};
use tidemill_log::{From, Log};
use tidemill_relay::{Credential, Grant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

fn options(relays: &[&str]) -> RelayOptions {
    let mut options = RelayOptions::new("shop", relays.iter().map(|url| url.to_string()));
    options.backoff = Backoff { first: Duration::from_micros(10), most: Duration::from_millis(1) };
    options.heartbeat = Duration::from_secs(1);
    options
}

fn all(windows: &[Window]) -> Vec<(u64, u64)> {
    windows.iter().flat_map(changes).collect()
}

/// Everything up to the end of a log.
async fn read(feed: &mut RelayFeed, log: &Log) -> Result<Vec<(u64, u64)>, ClientError> {
    feed.end_at(log.checkpoint().unwrap());
    let mut seen = vec![];
    while let Some(window) = feed.next().await? {
        assert_sound(&window);
        seen.extend(changes(&window));
    }
    Ok(seen)
}

#[tokio::test]
async fn a_relays_frames_are_those_of_its_log_plain_and_compressed() {
    let (_directory, log, _writer) = log_of(shop());
    let relay = Real::new(&log, local());
    for compressed in [false, true] {
        let mut options = options(&[&relay.url]);
        options.compressed = compressed;
        let mut feed = RelayFeed::new(options, Start::Earliest).unwrap();
        feed.end_at(log.checkpoint().unwrap());
        let mut reader = log.reader(From::Earliest).unwrap();
        while let Some((given, frame)) = feed.next_framed().await.unwrap() {
            let (expected, window) = reader.next_frame().await.unwrap().unwrap();
            assert_same(&given, &window);
            assert_eq!(frame.unwrap().bytes(), expected.bytes());
        }
        assert_eq!(feed.checkpoint(), log.checkpoint());
    }
}

/// Passes bytes on, and ends each connection after so many from the relay.
async fn cutting(url: &str, cuts: impl Iterator<Item = usize> + Send + 'static) -> String {
    let target = url.trim_start_matches("http://").to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for cut in cuts {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut relay = TcpStream::connect(&target).await.unwrap();
            tokio::spawn(async move {
                let ((mut up, mut up_to), (mut down, mut down_to)) = (client.split(), relay.split());
                let mut first = tokio::io::AsyncReadExt::take(&mut down, cut as u64);
                tokio::select! {
                    _ = tokio::io::copy(&mut first, &mut up_to) => {}
                    _ = async {
                        let _ = tokio::io::copy(&mut up, &mut down_to).await;
                        std::future::pending::<()>().await;
                    } => {}
                }
            });
        }
    });
    format!("http://{address}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b13_a_connection_to_a_relay_that_is_cut_anywhere_loses_nothing_and_repeats_nothing() {
    let (_directory, log, _writer) = log_of(shop());
    let relay = Real::new(&log, local());
    for cut in (1..6000).step_by(13) {
        let url = cutting(&relay.url, [cut, 3000, usize::MAX].into_iter()).await;
        let mut feed = RelayFeed::new(options(&[&url]), Start::Earliest).unwrap();
        assert_eq!(read(&mut feed, &log).await.unwrap(), all(&shop()), "cut after byte {cut}");
    }
}

#[tokio::test]
async fn b11_b17_relays_that_end_in_good_order_hand_their_subscribers_on_without_a_gap() {
    let (_directory, log, mut writer) = log_of(shop());
    let (mut one, mut other) = (Real::new(&log, local()), Real::new(&log, local()));
    let mut feed = RelayFeed::new(options(&[&one.url, &other.url]), Start::Earliest).unwrap();
    let mut seen = read(&mut feed, &log).await.unwrap();
    let mut written = all(&shop());
    for n in 0..6 {
        // The one that it reads from ends; the other one takes over, and the first comes back at its address.
        let ending = if n % 2 == 0 { &mut one } else { &mut other };
        let address = ending.url.trim_start_matches("http://").parse().unwrap();
        ending.stop.send_replace(true);
        (&mut ending.ended).await.unwrap().unwrap();
        let next = window(60 + n * 10, &[70 + n * 10]);
        writer.append(&next).unwrap();
        written.extend(changes(&next));
        seen.extend(read(&mut feed, &log).await.unwrap());
        let mut config = local();
        config.listen = address;
        *ending = Real::new(&log, config);
    }
    assert_eq!(seen, written);
}

#[tokio::test]
async fn b40_a_subscriber_begins_where_it_wants_to() {
    let (_directory, log, mut writer) = log_of(shop());
    let relay = Real::new(&log, local());
    let starts = [
        (Start::Earliest, 10),
        (Start::After(at(1, 10)), 20),
        (Start::Time(time_of(30)), 40),
        (Start::At(log.checkpoint().unwrap()), 70),
        (Start::Now, 70),
    ];
    for (start, first) in starts {
        let head = log.checkpoint().unwrap().position.scn.0;
        let mut feed = RelayFeed::new(options(&[&relay.url]), start.clone()).unwrap();
        let begins_at_head = start == Start::Now;
        if begins_at_head {
            // It says where it is before anything commits.
            let window = feed.next().await.unwrap().unwrap();
            assert_eq!((window.row_count(), window.position()), (0, at(1, head)));
        }
        if first == 70 && head == 60 || begins_at_head {
            writer.append(&window(head, &[head + 10])).unwrap();
        }
        let seen = read(&mut feed, &log).await.unwrap();
        assert_eq!(seen.first().unwrap().0, if begins_at_head { head + 10 } else { first }, "{start:?}");
    }
}

#[tokio::test]
async fn a_relay_that_has_nothing_yet_is_waited_for() {
    let (_directory, log, mut writer) = log_of(std::iter::empty::<Window>());
    let relay = Real::new(&log, local());
    for start in [Start::Earliest, Start::Now] {
        let mut feed = RelayFeed::new(options(&[&relay.url]), start).unwrap();
        // Long enough for a sign of life that knows no place.
        assert!(tokio::time::timeout(Duration::from_millis(1300), feed.next()).await.is_err());
        assert_eq!(feed.position(), None);
    }
    let mut feed = RelayFeed::new(options(&[&relay.url]), Start::Earliest).unwrap();
    writer.append(&window(0, &[10])).unwrap();
    assert_eq!(read(&mut feed, &log).await.unwrap(), all(&[window(0, &[10])]));
}

#[tokio::test]
async fn a_selection_is_made_by_the_relay_and_moves_the_subscriber_on_all_the_same() {
    let more = window(60, &[61, 62, 65]);
    let (_directory, log, _writer) = log_of([shop(), vec![more]].concat());
    let relay = Real::new(&log, local());
    let mut options = options(&[&relay.url]);
    options.selection.tables = vec!["shop.orders".into()];
    let mut feed = RelayFeed::new(options, Start::Earliest).unwrap();
    feed.end_at(log.checkpoint().unwrap());
    let mut seen = std::collections::BTreeSet::new();
    while let Some(window) = feed.next().await.unwrap() {
        seen.extend(changes(&window).into_iter().map(|(scn, _)| scn));
    }
    assert_eq!(Vec::from_iter(seen), [61, 62]);
    assert_eq!(feed.checkpoint(), log.checkpoint());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b12_b59_what_the_relay_refuses_is_told_apart() {
    let (_directory, log, _writer) = log_of(shop());
    let relay = Real::new(&log, local());
    let mut unknown = options(&[&relay.url]);
    unknown.source = "other".into();
    let error = RelayFeed::new(unknown, Start::Earliest).unwrap().next().await.unwrap_err();
    assert!(matches!(&error, ClientError::Refused { code, .. } if code == "unknown-source"), "{error}");
    let mut unknown = options(&[&relay.url]);
    unknown.selection.tables = vec!["shop.ordres".into()];
    let error = RelayFeed::new(unknown, Start::Earliest).unwrap().next().await.unwrap_err();
    assert!(matches!(&error, ClientError::Refused { code, .. } if code == "unknown-table"), "{error}");
    let mut other = log.checkpoint().unwrap();
    (other.server, other.gtid_set) = ("another".into(), String::new());
    let error = RelayFeed::new(options(&[&relay.url]), Start::At(other)).unwrap().next().await.unwrap_err();
    assert!(matches!(&error, ClientError::Diverged { .. }), "{error}");
    assert_eq!(error.remedy(), Remedy::Fix);
}

fn grant(credential: Credential) -> Grant {
    let (name, sources) = ("reports".to_owned(), vec!["shop".to_owned()]);
    Grant { name, credential, sources, tables: vec![], admin: false, metrics: false }
}

#[tokio::test]
async fn b53_encryption_and_credentials_of_every_kind() {
    let (_directory, log, _writer) = log_of(shop());
    let (authority, stranger) = (Authority::new(), Authority::new());
    let mut settings = authority.relay();
    settings.grants = vec![grant(Credential::token("right")), grant(Credential::Certificate("lake".into()))];
    settings.grants[1].name = "lake".into();
    let relay = Real::new(&log, settings);
    let with = |token: Option<&str>, ca: &Authority, client: Option<(&Authority, &str)>| {
        let mut options = options(&[&relay.url]);
        options.token = token.map(Token::new);
        options.tls = ClientTls { ca: Some(ca.ca()), identity: client.map(|(by, name)| by.sign(name)) };
        RelayFeed::new(options, Start::Earliest).unwrap()
    };
    for mut feed in
        [with(Some("right"), &authority, None), with(None, &authority, Some((&authority, "lake")))]
    {
        assert_eq!(read(&mut feed, &log).await.unwrap(), all(&shop()));
    }
    let refused = [
        with(Some("wrong"), &authority, None),
        with(None, &authority, None),
        with(None, &authority, Some((&authority, "other"))),
    ];
    for mut feed in refused {
        let error = feed.next().await.unwrap_err();
        assert!(matches!(error, ClientError::Unauthenticated { .. }), "{error}");
    }
    let error = with(Some("right"), &stranger, None).next().await.unwrap_err();
    assert!(matches!(&error, ClientError::Encryption { mend, .. } if mend.contains("tls_ca")), "{error}");
    let error = with(None, &authority, Some((&stranger, "lake"))).next().await.unwrap_err();
    assert!(matches!(&error, ClientError::Encryption { mend, .. } if mend.contains("client_ca")), "{error}");
    let mut plain = options(&[&relay.url.replace("https", "http")]);
    plain.relays.push(relay.url.clone());
    plain.tls.ca = Some(authority.ca());
    plain.token = Some(Token::new("right"));
    let mut feed = RelayFeed::new(plain, Start::Earliest).unwrap();
    assert_eq!(read(&mut feed, &log).await.unwrap(), all(&shop()), "the relay that is asked rightly answers");
}

#[tokio::test]
async fn b33_a_consumer_that_fails_behind_a_relay_rolls_back_and_gets_the_same_again() {
    let (_directory, log, _writer) = log_of(shop());
    let relay = Real::new(&log, local());
    for call in 0..8 {
        let mut feed = RelayFeed::new(options(&[&relay.url]), Start::Earliest).unwrap();
        feed.end_at(log.checkpoint().unwrap());
        let keeper = Keeper::failing([call]);
        let (_stop, stopped) = watch::channel(false);
        let (_switch, control) = Control::new(stopped);
        let policy = RetryPolicy { first: Duration::ZERO, ..RetryPolicy::new(1) };
        drive("test", &mut feed, keeper.clone(), policy, control).await.unwrap();
        assert_eq!(keeper.0.lock().unwrap().committed, all(&shop()), "call {call}");
    }
}

/// The same transactions as another server numbers them: its SCNs are 5 higher.
fn lineage(shift: u64, mut window: Window) -> Window {
    const SERVER: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    let number = |scn: u64| (scn - shift) / 10;
    for t in &mut window.transactions {
        t.gtid = format!("{SERVER}:{}", number(t.scn.0));
    }
    window.executed = format!("{SERVER}:1-{}", number(window.span.upto.0)).into();
    window
}

#[tokio::test]
async fn b11_a_relay_of_another_server_of_the_lineage_goes_on_with_each_transaction_once() {
    let first = [window(0, &[10, 20]), window(20, &[30])].map(|w| lineage(0, w));
    let second = [window(0, &[15, 25]), window(25, &[35, 45]), window(45, &[55, 65])];
    let second = second.map(|w| on_timeline(2, lineage(5, w))).map(|mut w| {
        w.timeline.number = 1;
        w
    });
    let ((_one, one, _first), (_other, other, _second)) = (log_of(&first), log_of(&second));
    let (failing, standing) = (Real::new(&one, local()), Real::new(&other, local()));
    let mut feed = RelayFeed::new(options(&[&failing.url, &standing.url]), Start::Earliest).unwrap();
    let mut seen = read(&mut feed, &one).await.unwrap();
    failing.end().await;
    feed.end_at(other.checkpoint().unwrap());
    while let Some(window) = feed.next().await.unwrap() {
        assert_eq!((window.timeline.number, &*window.timeline.server), (2, "server-2"));
        seen.extend(changes(&window));
    }
    seen.retain(|(_, number)| *number == 0);
    let scns: Vec<u64> = seen.into_iter().map(|(scn, _)| scn).collect();
    assert_eq!(scns, [10, 20, 30, 45, 55, 65], "what the first server had is not repeated");
    assert_eq!(feed.checkpoint().unwrap().gtid_set, other.checkpoint().unwrap().gtid_set);
}
