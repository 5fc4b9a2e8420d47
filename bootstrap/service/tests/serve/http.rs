//! A store that is served over HTTP beside a log, and consumers that go from one to the other by themselves.

use std::sync::Arc;
use std::time::Duration;

use tidemill_client::{
    Backoff, Bootstrap, ClientError, Feed, PhasedFeed, Piece, RelayBootstrap, RelayFeed, RelayOptions, Start,
};
use tidemill_event::{Checkpoint, Phase};
use tidemill_log::{Fsync, Log, LogConfig, Writer};
use tidemill_relay::{
    Credential, Grant, Nobody, Relay, RelayConfig, RelayError, RelayParts, Served, ServingMetrics,
    SnapshotsServed, TablePattern,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::model::{Mirror, Row, shown};
use crate::selection::{Registered, filtered};
use crate::shop::{Change, Dice, ITEMS, NOTES, ORDERS, Shop, row};

const DAY: Duration = Duration::from_secs(86_400);

/// A relay that serves the shop's store, and its log where there is one.
struct Real {
    url: String,
    stop: watch::Sender<bool>,
    ended: JoinHandle<Result<(), RelayError>>,
}

impl Real {
    fn new(shop: &Shop, log: Option<&Log>) -> Real {
        Real::guarded(shop, log, vec![])
    }

    /// For whoever holds one of those grants; none: for everybody.
    fn guarded(shop: &Shop, log: Option<&Log>, grants: Vec<Grant>) -> Real {
        let snapshots = SnapshotsServed { source: "shop".into(), snapshots: Arc::new(shop.server()) };
        let parts = RelayParts {
            served: log.map(|log| Served { name: "shop".into(), log: log.clone() }).into_iter().collect(),
            snapshots: vec![snapshots],
            guests: Arc::new(Registered),
            operator: Arc::new(Nobody),
            metrics: ServingMetrics::default(),
        };
        let mut config = RelayConfig { grants, ..RelayConfig::new("127.0.0.1:0".parse().unwrap()) };
        // Who takes nothing is cut off when the relay ends.
        config.limits.shutdown_time = Duration::from_millis(100);
        let relay = Relay::new(config, parts).unwrap();
        let (url, stop) = (format!("http://{}", relay.address()), watch::Sender::new(false));
        let ended = tokio::spawn(relay.run(stop.subscribe()));
        Real { url, stop, ended }
    }

    async fn end(self) {
        self.stop.send_replace(true);
        self.ended.await.unwrap().unwrap();
    }

    /// The body of an answer to that path, and its status.
    async fn get(&self, path: &str) -> (u16, Vec<u8>) {
        self.get_as("", path).await
    }

    /// The same for whoever shows that token.
    async fn get_as(&self, token: &str, path: &str) -> (u16, Vec<u8>) {
        let address = self.url.strip_prefix("http://").unwrap();
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let shown = match token {
            "" => String::new(),
            token => format!("Authorization: Bearer {token}\r\n"),
        };
        let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n{shown}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = vec![];
        stream.read_to_end(&mut answer).await.unwrap();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let status = std::str::from_utf8(&answer[9..12]).unwrap().parse().unwrap();
        (status, answer.split_off(end + 4))
    }
}

fn options(relays: &[&Real]) -> RelayOptions {
    let mut options = RelayOptions::new("shop", relays.iter().map(|relay| relay.url.as_str()));
    options.backoff = Backoff { first: Duration::from_millis(1), most: Duration::from_millis(5) };
    options
}

/// A log that drops what is older than some windows.
fn short_log() -> (tempfile::TempDir, Log, Writer) {
    let directory = tempfile::tempdir().unwrap();
    let config = LogConfig {
        fsync: Fsync::Interval(DAY),
        idle_interval: DAY,
        memory_bytes: 16 << 10,
        segment_bytes: 16 << 10,
        retention_bytes: Some(32 << 10),
        ..LogConfig::new(directory.path())
    };
    let log = Log::open(config).unwrap();
    let writer = log.writer().unwrap();
    (directory, log, writer)
}

/// Appends what the log does not have yet.
fn append(shop: &Shop, writer: &mut Writer, appended: &mut usize) {
    for window in &shop.windows[*appended..] {
        writer.append(window).unwrap();
    }
    *appended = shop.windows.len();
}

type Phased = PhasedFeed<RelayFeed, RelayBootstrap>;

fn phased(relays: &[&Real], have: Option<Checkpoint>) -> Phased {
    let feed = RelayFeed::new(options(relays), Start::Now).unwrap();
    let storage = RelayBootstrap::new(options(relays)).unwrap();
    PhasedFeed::new(feed, storage, have).with_backoff(options(relays).backoff)
}

/// Takes windows until everything up to there has come; gives the phases in which they came.
async fn follow(mirror: &mut Mirror, feed: &mut Phased, upto: u64) -> Vec<&'static str> {
    let mut phases = vec![];
    while mirror.have.as_ref().is_none_or(|have| have.phase != Phase::Stream || have.position.scn.0 < upto) {
        let window = feed.next().await.unwrap().unwrap();
        mirror.take(&window);
        let phase = match window.phase {
            Phase::Snapshot(_) => "snapshot",
            Phase::Deltas(_) => "deltas",
            Phase::Stream => "stream",
        };
        if phases.last() != Some(&phase) {
            phases.push(phase);
        }
    }
    phases
}

#[tokio::test(flavor = "multi_thread")]
async fn b21_a_consumer_that_falls_out_of_the_log_comes_back_by_itself_each_time() {
    let (mut shop, mut dice) = (Shop::new().await, Dice(21));
    let (_directory, log, mut writer) = short_log();
    let mut appended = 0;
    shop.trade(&mut dice, 30, 300);
    append(&shop, &mut writer, &mut appended);
    shop.apply().await;
    let relay = Real::new(&shop, Some(&log));
    let mut mirror = Mirror::default();
    let phases = follow(&mut mirror, &mut phased(&[&relay], None), shop.scn).await;
    assert_eq!(phases, ["snapshot", "stream"]);
    for round in 0..3 {
        // It is away, under load, for longer than the log keeps anything.
        shop.trade(&mut dice, 400, 300);
        append(&shop, &mut writer, &mut appended);
        let earliest = log.stats().earliest.unwrap();
        assert!(earliest > mirror.have.as_ref().unwrap().position, "it has fallen out");
        shop.apply().await;
        shop.publish([ORDERS, ITEMS, NOTES][round]).await;
        // It is back, and the source goes on.
        shop.trade(&mut dice, 10, 300);
        append(&shop, &mut writer, &mut appended);
        let have = mirror.have.clone();
        let phases = follow(&mut mirror, &mut phased(&[&relay], have), shop.scn).await;
        assert_eq!(phases, ["deltas", "stream"], "round {round}");
        assert_eq!(shown(&mirror.content), *shop.at(shop.scn), "round {round}");
    }
    relay.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b38_a_consumer_has_the_rows_of_its_predicate_through_snapshot_stream_and_deltas() {
    let (mut shop, mut dice) = (Shop::new().await, Dice(38));
    let (_directory, log, mut writer) = short_log();
    let mut appended = 0;
    shop.trade(&mut dice, 60, 100);
    append(&shop, &mut writer, &mut appended);
    shop.apply().await;
    shop.publish(ORDERS).await;
    let relay = Real::new(&shop, Some(&log));
    let mut wanted = options(&[&relay]);
    wanted.selection.predicates.insert(ORDERS.into(), "cents >= -5.005 and part is not null".into());
    let is_wanted = |table: &str, row: &Row| {
        table != ORDERS || row.part.is_some() && row.cents.is_some_and(|cents| cents >= -500)
    };
    let mut mirror = Mirror::default();
    for expected in [["snapshot", "stream"], ["deltas", "stream"], ["deltas", "stream"]] {
        shop.trade(&mut dice, 10, 100);
        append(&shop, &mut writer, &mut appended);
        let stream = RelayFeed::new(wanted.clone(), Start::Now).unwrap();
        let storage = RelayBootstrap::new(wanted.clone()).unwrap();
        let mut feed = PhasedFeed::new(stream, storage, mirror.have.clone()).with_backoff(wanted.backoff);
        assert_eq!(follow(&mut mirror, &mut feed, shop.scn).await, expected);
        assert_eq!(shown(&mirror.content), filtered(shop.at(shop.scn), is_wanted), "{expected:?}");
        // It is away for longer than the log keeps anything.
        shop.trade(&mut dice, 400, 100);
        append(&shop, &mut writer, &mut appended);
        shop.apply().await;
    }
    relay.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b21_a_consumer_that_has_fallen_out_comes_back_though_one_of_its_relays_stays_away() {
    let (mut shop, mut dice) = (Shop::new().await, Dice(23));
    let (_directory, log, mut writer) = short_log();
    let mut appended = 0;
    shop.trade(&mut dice, 30, 300);
    append(&shop, &mut writer, &mut appended);
    let have = shop.windows.last().unwrap().checkpoint();
    let mut mirror = Mirror { content: shop.at(shop.scn).clone(), have: Some(have), ..Mirror::default() };
    shop.trade(&mut dice, 400, 300);
    append(&shop, &mut writer, &mut appended);
    shop.apply().await;
    let relay = Real::new(&shop, Some(&log));
    let mut wanted = options(&[&relay]);
    // Nobody listens there.
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    wanted.relays.insert(0, format!("http://{nowhere}"));
    let stream = RelayFeed::new(wanted.clone(), Start::Now).unwrap();
    let storage = RelayBootstrap::new(wanted.clone()).unwrap();
    let mut feed = PhasedFeed::new(stream, storage, mirror.have.clone()).with_backoff(wanted.backoff);
    assert_eq!(follow(&mut mirror, &mut feed, shop.scn).await, ["deltas", "stream"]);
    assert_eq!(shown(&mirror.content), *shop.at(shop.scn));
    relay.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b21_a_storage_that_is_behind_the_log_is_waited_for() {
    let (mut shop, mut dice) = (Shop::new().await, Dice(22));
    let (_directory, log, mut writer) = short_log();
    let mut appended = 0;
    shop.trade(&mut dice, 30, 300);
    append(&shop, &mut writer, &mut appended);
    let have = shop.windows.last().unwrap().checkpoint();
    let mut mirror =
        Mirror { content: shop.at(shop.scn).clone(), have: Some(have.clone()), ..Mirror::default() };
    shop.trade(&mut dice, 400, 300);
    append(&shop, &mut writer, &mut appended);
    let relay = Real::new(&shop, Some(&log));
    let mut feed = phased(&[&relay], Some(have));
    let upto = shop.scn;
    // The store has nothing but an empty shop: the consumer asks again and again, until it has more.
    let followed = tokio::spawn(async move {
        let phases = follow(&mut mirror, &mut feed, upto).await;
        (mirror, phases)
    });
    shop.apply().await;
    let (mirror, phases) = followed.await.unwrap();
    assert_eq!(phases.last(), Some(&"stream"));
    assert_eq!(shown(&mirror.content), *shop.at(upto));
    relay.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b24_a_snapshot_goes_on_at_another_server_when_its_own_ends() {
    // More than lies between two ends of a connection.
    let (mut shop, mut dice) = (Shop::new().await, Dice(24));
    let note = "wide ".repeat(8000);
    shop.change(&(0..1200).map(|id| Change::Set(ORDERS, row(id, &note))).collect::<Vec<_>>());
    shop.trade(&mut dice, 100, 900);
    shop.apply().await;
    let begun = shop.scn;
    let (first, second) = (Real::new(&shop, None), Real::new(&shop, None));
    let mut storage = RelayBootstrap::new(options(&[&first, &second])).unwrap();
    let mut mirror = Mirror::default();
    assert!(mirror.step(&mut storage).await);
    first.end().await;
    shop.trade(&mut dice, 50, 900);
    shop.apply().await;
    let mut given = 1;
    while mirror.step(&mut storage).await {
        given += 1;
    }
    assert!(given > 20, "{given} pieces");
    assert_eq!(mirror.have.as_ref().unwrap().position.scn.0, begun);
    assert_eq!(mirror.content, *shop.at(begun));
    assert_eq!(
        mirror.rows,
        shop.at(begun).values().map(|rows| rows.len()).sum::<usize>(),
        "nothing came twice"
    );
    second.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_without_snapshot_storage_says_so_once_all_have() {
    let shop = Shop::new().await;
    let relay = Real::new(&shop, None);
    let mut wanted = options(&[&relay]);
    wanted.source = "bank".into();
    let error = RelayBootstrap::new(wanted).unwrap().next(None).await.unwrap_err();
    assert!(matches!(&error, ClientError::Refused { code, .. } if code == "unknown-source"), "{error}");
    let mut storage = RelayBootstrap::new(options(&[&relay])).unwrap();
    let other = Checkpoint { source: "shop".into(), server: "nobody".into(), ..shop_place(&shop) };
    let error = storage.next(Some(&other)).await.unwrap_err();
    assert!(matches!(error, ClientError::Diverged { .. }), "{error}");
    assert!(matches!(storage.next(None).await.unwrap(), Piece::Stream(_)), "it may be asked again");
    relay.end().await;
}

fn shop_place(shop: &Shop) -> Checkpoint {
    let manifest = shop.writer.head();
    let place = manifest.applied.checkpoint("shop", &manifest.timelines);
    Checkpoint { gtid_set: String::new(), ..place }
}

#[tokio::test(flavor = "multi_thread")]
async fn people_read_a_snapshot_as_lines_of_json_and_programs_a_table_as_arrow() {
    let mut shop = Shop::new().await;
    shop.change(&[
        Change::Set(ORDERS, row(1, "a")),
        Change::Set(ORDERS, row(2, "b")),
        Change::Set(ITEMS, row(3, "c")),
    ]);
    shop.apply().await;
    let relay = Real::new(&shop, None);
    let (status, body) = relay.get("/v1/sources/shop/bootstrap?format=json&tables=shop.orders").await;
    let text = String::from_utf8(body).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((status, lines.len()), (200, 4), "{text}");
    for (line, id) in lines.iter().zip([1, 2]) {
        assert_eq!((&line["op"], &line["after"]["id"]), (&"r".into(), &id.into()));
        assert_eq!(line["source"]["snapshot"], "true");
    }
    // Behind the piece, and at the end: whoever asks with that is told that there is nothing more.
    let checkpoint = lines[3]["checkpoint"].as_str().unwrap();
    assert_ne!(lines[2]["checkpoint"], lines[3]["checkpoint"]);
    let (_, rest) =
        relay.get(&format!("/v1/sources/shop/bootstrap?format=json&checkpoint={checkpoint}")).await;
    assert_eq!(String::from_utf8(rest).unwrap().lines().count(), 1);
    let (status, body) = relay.get("/v1/sources/shop/bootstrap?format=arrow&tables=shop.orders").await;
    assert_eq!(
        (status, &body[..4], &body[body.len() - 8..]),
        (200, &[0xff; 4][..], &b"\xff\xff\xff\xff\0\0\0\0"[..])
    );
    for (query, status) in [
        ("format=arrow", 400),
        ("format=events", 400),
        ("path=sideways", 400),
        ("from=earliest", 400),
        ("checkpoint=nonsense", 400),
    ] {
        assert_eq!(relay.get(&format!("/v1/sources/shop/bootstrap?{query}")).await.0, status, "{query}");
    }
    assert_eq!(relay.get("/v1/sources/bank/bootstrap").await.0, 404);
    relay.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_asked_for_by_their_values_and_a_predicate_that_does_not_fit_says_where() {
    let mut shop = Shop::new().await;
    shop.change(&(1..=9).map(|id| Change::Set(ORDERS, row(id, "a"))).collect::<Vec<_>>());
    shop.apply().await;
    let relay = Real::new(&shop, None);
    let ask = async |predicate: &str| {
        let text: String = predicate.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let (status, body) = relay.get(&format!("/v1/sources/shop/bootstrap?format=json&where={text}")).await;
        (status, String::from_utf8(body).unwrap())
    };
    let (status, text) = ask("shop.orders: cents >= -8.15 and note = 'a'").await;
    assert_eq!((status, text.matches("\"op\":\"r\"").count()), (200, 5), "{text}");
    for (predicate, status, code, what) in [
        ("shop.orders: total >= 1", 400, "unknown-column", "table shop.orders has no column"),
        ("shop.orders: cents >= 'ten'", 400, "bad-parameter", "write a plain decimal number, as -10.50"),
        ("shop.orders: cents", 400, "bad-parameter", "the end follows column `cents`"),
        ("shop.nothing: id = 1", 404, "unknown-table", "snapshot storage of shop has no table shop.nothing"),
        ("orders: id = 1", 400, "bad-parameter", "write database.table: column"),
    ] {
        let (found, text) = ask(predicate).await;
        assert!(found == status && text.contains(code) && text.contains(what), "{predicate}: {found} {text}");
    }
    relay.end().await;
}

fn grant(name: &str, source: &str, tables: &[&str]) -> Grant {
    Grant {
        name: name.to_owned(),
        credential: Credential::token(name),
        sources: vec![source.to_owned()],
        tables: tables.iter().map(|text| TablePattern::parse(text).unwrap()).collect(),
        admin: false,
        metrics: false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn b53_a_grant_of_some_tables_sees_no_other_in_a_snapshot_or_in_deltas() {
    let mut shop = Shop::new().await;
    shop.change(&[Change::Set(ORDERS, row(1, "order")), Change::Set(ITEMS, row(2, "item"))]);
    shop.apply().await;
    let grants =
        vec![grant("all", "shop", &[]), grant("orders", "shop", &[ORDERS]), grant("elsewhere", "bank", &[])];
    let relay = Real::guarded(&shop, None, grants);
    let path = "/v1/sources/shop/bootstrap?format=json";
    let ask = async |token: &str, more: &str| {
        let (status, body) = relay.get_as(token, &format!("{path}{more}")).await;
        (status, String::from_utf8(body).unwrap())
    };
    let end = |text: &str| -> String {
        let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        last["checkpoint"].as_str().unwrap().to_owned()
    };
    let (_, whole) = ask("all", "").await;
    assert!(whole.contains("\"order\"") && whole.contains("\"item\""), "{whole}");
    let (status, seen) = ask("orders", "").await;
    assert!(status == 200 && seen.contains("\"order\"") && !seen.contains("item"), "{seen}");
    let have = end(&seen);
    shop.change(&[Change::Set(ORDERS, row(1, "later")), Change::Set(ITEMS, row(2, "item later"))]);
    shop.drop_table(ITEMS).await;
    // What is gone of a table that one may not see is not told either.
    let (status, deltas) = ask("orders", &format!("&checkpoint={have}")).await;
    assert!(status == 200 && deltas.contains("\"later\"") && !deltas.contains("item"), "{deltas}");
    for (token, more, expected) in [
        ("", "", 401),
        ("wrong", "", 401),
        ("elsewhere", "", 403),
        ("orders", "&tables=shop.items", 403),
        ("orders", "&tables=bank.*", 403),
        ("orders", "&columns=shop.items:id", 403),
        ("orders", "&where=shop.items:id=2", 403),
        ("orders", "&tables=shop.*", 200),
    ] {
        let (status, text) = ask(token, more).await;
        assert!(status == expected && !text.contains("item later"), "{token} {more}: {status} {text}");
    }
    relay.end().await;
}
