//! Answers as a subscriber gets them: where they begin and end, what they hold, and what is refused.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support {
    pub mod shop;
}

use std::time::Duration;

use http_body_util::BodyExt;
use serde_json::Value;
use support::shop::*;
use tidemill_event::{Part, Position};
use tidemill_relay::{AnswerConfig, Answers, Asked, Begin, Code, Encoding, Format, Meter, Selection};
use tokio::sync::watch;

const FORMATS: [Format; 4] = [Format::Frames, Format::Json, Format::Events, Format::Arrow];

/// The request that any format may answer: one table.
fn orders(format: Format) -> Asked {
    Asked { selection: tables(&["shop.orders"]), ..all(format) }
}

fn lines(bytes: &[u8]) -> Vec<Value> {
    std::str::from_utf8(bytes).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// SCNs of the changes of a body of JSON lines.
fn scns(bytes: &[u8]) -> Vec<u64> {
    lines(bytes).iter().filter_map(|line| line["source"]["scn"].as_u64()).collect()
}

#[tokio::test]
async fn frames_of_everything_are_the_logs_own_bytes() {
    let shop = Shop::of(&[&[10, 20], &[30]]);
    let bytes = body(&answers(), &shop, all(Format::Frames)).await;
    let mut reader = shop.served.log.reader(tidemill_log::From::Earliest).unwrap();
    let mut own = tidemill_event::encode_schema(&schema(0)).bytes().to_vec();
    while let Some((frame, _)) = reader.try_next_frame().unwrap() {
        own.extend_from_slice(frame.bytes());
    }
    assert_eq!(bytes, own);
    assert_eq!(images(&windows(&bytes)).len(), 3);
}

#[tokio::test]
async fn b40_an_answer_begins_at_the_head_at_a_position_at_a_time_or_with_the_oldest() {
    let mut shop = Shop::of(&[&[10, 20], &[30, 40]]);
    let answers = answers();
    let from = |begin| Asked { begin, ..all(Format::Json) };
    for (begin, expected) in [
        (Begin::Earliest, vec![10, 20, 30, 40]),
        (Begin::After(at(1, 10)), vec![20, 30, 40]),
        (Begin::After(at(1, 25)), vec![30, 40]),
        (Begin::Time(time_of(20)), vec![20, 30, 40]),
        (Begin::Time(time_of(20) + 1), vec![30, 40]),
        (Begin::Time(time_of(41)), vec![]),
        (Begin::Now, vec![]),
    ] {
        assert_eq!(scns(&body(&answers, &shop, from(begin.clone())).await), expected, "{begin:?}");
    }
    let mut follows = open(&answers, &shop, Asked { follow: true, ..from(Begin::Now) }).await.unwrap();
    shop.append(&inserts(40, &[50]));
    assert_eq!(scns(&piece(&mut follows).await), [50]);
}

#[tokio::test]
async fn b59_a_range_gives_the_same_bytes_each_time_whole_or_in_pieces() {
    let shop = Shop::of(&[&[10, 20], &[30], &[40, 50, 60], &[70]]);
    let answers = answers();
    for format in [Format::Json, Format::Events, Format::Frames] {
        let whole_body = body(&answers, &shop, orders(format)).await;
        assert_eq!(whole_body, body(&answers, &shop, orders(format)).await);
        let (mut pieces, mut begin, mut count) = (vec![], Begin::Earliest, 0);
        loop {
            let asked = Asked { begin: begin.clone(), bytes_max: Some(1), ..orders(format) };
            let (bytes, checkpoint_after) = whole(open(&answers, &shop, asked).await.unwrap()).await;
            if bytes.is_empty() {
                break;
            }
            count += 1;
            begin = match format {
                Format::Frames => {
                    let read = windows(&bytes);
                    assert_eq!(read.len(), 1);
                    // Every answer begins with the schemas that it needs.
                    let schema_bytes =
                        if count == 1 { 0 } else { tidemill_event::encode_schema(&schema(0)).bytes().len() };
                    pieces.extend_from_slice(&bytes[schema_bytes..]);
                    Begin::At(Box::new(read[0].checkpoint()))
                }
                _ => {
                    pieces.extend_from_slice(&bytes);
                    Begin::At(Box::new(checkpoint(&checkpoint_after.unwrap())))
                }
            };
        }
        assert_eq!(count, 4, "{format:?}: a piece ends with the window that reaches the limit");
        assert!(pieces == whole_body, "{format:?}");
    }
}

#[tokio::test]
async fn a_reader_of_json_that_leaves_within_a_long_window_goes_on_between_its_transactions() {
    let commits: Vec<u64> = (1..=200).map(|number| number * 10).collect();
    let shop = Shop::of(&[&commits]);
    let answers = answers();
    let all_lines = scns(&body(&answers, &shop, all(Format::Json)).await);
    let (mut seen, mut begin, mut turns) = (vec![], Begin::Earliest, 0);
    loop {
        let asked = Asked { begin, ..all(Format::Json) };
        let text = body(&answers, &shop, asked).await;
        if text.is_empty() {
            break;
        }
        // Up to the first checkpoint, and not a line further.
        let at = lines(&text).iter().position(|line| line["source"].is_null()).unwrap();
        let told: Vec<_> = text.split_inclusive(|byte| *byte == b'\n').take(at + 1).collect();
        let told = told.concat();
        seen.extend(scns(&told));
        turns += 1;
        let line = lines(&told).pop().unwrap();
        begin = Begin::At(Box::new(checkpoint(line["checkpoint"].as_str().unwrap())));
    }
    assert_eq!(seen, all_lines);
    assert!(turns > 3, "one window in {turns} turns");
}

#[tokio::test]
async fn b8_a_subscriber_that_sees_nothing_of_a_transaction_still_moves_on() {
    let shop = Shop::of(&[&[10, 20], &[30]]);
    let selection = Selection { filters: vec!["none".into()], ..Selection::default() };
    for format in [Format::Json, Format::Frames] {
        let asked = Asked { selection: selection.clone(), ..all(format) };
        let (bytes, trailer) = whole(open(&answers(), &shop, asked).await.unwrap()).await;
        if format == Format::Json {
            let positions: Vec<Value> = lines(&bytes).iter().map(|line| line["position"].clone()).collect();
            assert_eq!(positions, ["1/20", "1/30"]);
            let checkpoint = checkpoint(&trailer.unwrap());
            assert_eq!((checkpoint.position, &*checkpoint.gtid_set), (at(1, 30), "server-1:1-30"));
        } else {
            let read = windows(&bytes);
            assert_eq!(images(&read).len(), 0);
            assert_eq!(read.iter().map(|w| w.transactions.len()).collect::<Vec<_>>(), [2, 1]);
            assert_eq!(read[1].checkpoint().position, at(1, 30));
        }
    }
}

#[tokio::test]
async fn b12_a_position_before_the_logs_begin_is_too_old_and_the_range_is_told() {
    let mut shop = Shop::with(|config| {
        config.segment_bytes = 1;
        config.retention_bytes = Some(1);
    });
    for scn in (10..=50).step_by(10) {
        shop.append(&inserts(scn - 10, &[scn]));
    }
    let (answers, earliest) = (answers(), shop.served.log.stats().earliest.unwrap());
    assert!(earliest > at(1, 10), "the log dropped something");
    for format in FORMATS {
        let asked = Asked { begin: Begin::After(at(1, 5)), ..orders(format) };
        let problem = open(&answers, &shop, asked).await.err().unwrap();
        assert_eq!(problem.code, Code::TooOld);
        assert_eq!(problem.facts["earliest"], earliest.to_string());
        assert_eq!(problem.facts["latest"], "1/50");
        assert!(problem.facts["earliest_time"].as_str().unwrap().starts_with("2023-11-14T"), "{problem:?}");
    }
    // At the earliest, in the gap behind it, at the head, ahead of it.
    for (begin, expected) in [(earliest.scn.0, vec![50]), (45, vec![50]), (50, vec![]), (55, vec![])] {
        let asked = Asked { begin: Begin::After(at(1, begin)), ..all(Format::Json) };
        assert_eq!(scns(&body(&answers, &shop, asked).await), expected, "after {begin}");
    }
}

#[tokio::test]
async fn b12_a_subscriber_that_retention_overtakes_is_told_and_gets_nothing_newer() {
    let mut shop = Shop::with(|config| {
        (config.segment_bytes, config.retention_bytes, config.memory_bytes) = (1, Some(1), 1);
    });
    shop.append(&inserts(0, &[10]));
    shop.append(&inserts(10, &[20]));
    let config = AnswerConfig { batch_bytes: 1, ..AnswerConfig::default() };
    let answers = Answers::new(std::sync::Arc::new(Registered), config);
    let asked = Asked { begin: Begin::After(shop.served.log.stats().earliest.unwrap()), ..all(Format::Json) };
    let mut slow = open(&answers, &shop, Asked { follow: true, ..asked }).await.unwrap();
    for scn in (30..=60).step_by(10) {
        shop.append(&inserts(scn - 10, &[scn]));
    }
    let mut given = scns(&piece(&mut slow).await);
    let failed = loop {
        match slow.frame().await.unwrap() {
            Ok(frame) => given.extend(scns(frame.data_ref().unwrap())),
            Err(failed) => break failed,
        }
    };
    assert_eq!((failed.code, failed.facts["latest"].as_str()), (Code::TooOld, Some("1/60")));
    let follows = (1..).map(|n| n * 10).skip_while(|scn| *scn < given[0]).take(given.len());
    assert_eq!(given, follows.collect::<Vec<_>>(), "without a hole");
}

#[tokio::test]
async fn a_reader_ahead_of_where_its_timeline_ended_has_diverged() {
    let mut shop = Shop::of(&[&[10, 20]]);
    let mut next = inserts(5, &[10]);
    next.timeline = tidemill_event::Timeline { number: 2, server: "server-2".into() };
    shop.append(&next);
    let asked = Asked { begin: Begin::After(at(1, 25)), ..all(Format::Json) };
    let problem = open(&answers(), &shop, asked).await.err().unwrap();
    assert_eq!(problem.code, Code::Diverged, "{problem}");
}

#[tokio::test]
async fn a_position_ahead_of_the_log_waits_for_it() {
    let mut shop = Shop::of(&[&[10]]);
    let asked = Asked { begin: Begin::After(at(1, 15)), follow: true, ..all(Format::Json) };
    let mut answer = open(&answers(), &shop, asked).await.unwrap();
    shop.append(&inserts(10, &[15]));
    shop.append(&inserts(15, &[20]));
    assert_eq!(scns(&piece(&mut answer).await), [20]);
}

#[tokio::test]
async fn what_cannot_be_answered_is_refused_before_the_first_byte() {
    let shop = Shop::of(&[&[10]]);
    let answers = answers();
    let select = |change: &dyn Fn(&mut Selection)| {
        let mut asked = all(Format::Json);
        change(&mut asked.selection);
        asked
    };
    let mut elsewhere = shop.served.log.checkpoint().unwrap();
    elsewhere.source = "bank".into();
    let mut stranger = shop.served.log.checkpoint().unwrap();
    stranger.server = "server-9".into();
    let predicate = |table, text| vec![tidemill_relay::parse_predicate(table, text).unwrap()];
    let column = |name: &str| vec![(schema(0).name().clone(), vec![name.to_owned()])];
    let cases = [
        (select(&|s| *s = tables(&["shop.nothing"])), Code::UnknownTable),
        (select(&|s| s.columns = column("nothing")), Code::UnknownColumn),
        (select(&|s| s.filters = vec!["nothing".into()]), Code::UnknownGuest),
        (select(&|s| s.projections = vec!["big".into()]), Code::UnknownGuest),
        (select(&|s| s.filters = vec!["broken".into()]), Code::GuestFailed),
        (select(&|s| s.part = Some(tidemill_relay::Part { config: "{}".into() })), Code::BadParameter),
        (select(&|s| s.predicates = predicate("shop.orders", "nothing = 1")), Code::UnknownColumn),
        (select(&|s| s.predicates = predicate("shop.orders", "id = 'one'")), Code::BadParameter),
        (select(&|s| s.predicates = predicate("shop.nothing", "id = 1")), Code::UnknownTable),
        (all(Format::Arrow), Code::BadParameter),
        (Asked { selection: tables(&["shop.*"]), ..all(Format::Arrow) }, Code::BadParameter),
        (Asked { begin: Begin::At(Box::new(elsewhere)), ..all(Format::Json) }, Code::BadCheckpoint),
        (Asked { begin: Begin::At(Box::new(stranger)), ..all(Format::Json) }, Code::Diverged),
    ];
    for (asked, code) in cases {
        let problem = open(&answers, &shop, asked.clone()).await.err().unwrap_or_else(|| panic!("{asked:?}"));
        assert_eq!(problem.code, code, "{problem}");
    }
    assert_eq!(answers.stats().views, 0, "what was refused leaves nothing");
}

#[tokio::test]
async fn whoever_goes_on_may_ask_for_a_table_that_retention_has_dropped() {
    let shop = Shop::of(&[&[10]]);
    let begin = Begin::At(Box::new(shop.served.log.checkpoint().unwrap()));
    let asked = Asked { begin, selection: tables(&["shop.rare"]), ..all(Format::Json) };
    assert_eq!(body(&answers(), &shop, asked).await.len(), 0);
}

#[tokio::test]
async fn a_column_that_a_newer_version_has_lost_ends_the_answer_where_it_stands() {
    let mut shop = Shop::of(&[&[10]]);
    let columns = vec![(schema(0).name().clone(), vec!["note".to_owned()])];
    let selection = Selection { columns, ..Selection::default() };
    let asked = Asked { selection, follow: true, begin: Begin::Now, ..all(Format::Json) };
    let mut answer = open(&answers(), &shop, asked).await.unwrap();
    shop.append(&narrower(10, 20));
    let failed = answer.frame().await.unwrap().err().unwrap();
    assert_eq!((failed.code, failed.facts["table"].as_str()), (Code::UnknownColumn, Some("shop.orders")));
}

/// One order whose table has no notes any more.
fn narrower(after: u64, scn: u64) -> tidemill_event::Window {
    let mut window = inserts(after, &[scn]);
    let whole = window.tables[0].clone();
    let schema = tidemill_event::TableSchema::new(
        whole.schema.name().clone(),
        whole.schema.columns()[..2].to_vec(),
        vec![0],
    );
    let rows = whole.rows.project(&[0, 1]).unwrap().with_schema(schema.arrow().clone()).unwrap();
    window.tables = vec![tidemill_event::TableChanges { schema, rows, ..whole }];
    window
}

#[tokio::test]
async fn key_columns_stay_and_others_are_left_out() {
    let shop = Shop::of(&[&[10]]);
    let columns = vec![(schema(0).name().clone(), vec!["note".to_owned()])];
    let asked = Asked { selection: Selection { columns, ..Selection::default() }, ..all(Format::Json) };
    let line = &lines(&body(&answers(), &shop, asked).await)[0];
    assert_eq!(line["after"], serde_json::json!({"id": 10, "note": "note 10"}));
}

#[tokio::test]
async fn a_projection_gives_its_own_columns() {
    let shop = Shop::of(&[&[10]]);
    let selection = Selection { projections: vec!["masked".into()], ..Selection::default() };
    let line = &lines(&body(&answers(), &shop, Asked { selection, ..all(Format::Json) }).await)[0];
    assert_eq!(line["after"], serde_json::json!({"id": 10, "name": "open", "note": null}));
}

#[tokio::test]
async fn silence_is_broken_by_where_the_subscriber_is() {
    let shop = Shop::of(&[&[10]]);
    let answers = answers();
    let asked = |format| Asked {
        begin: Begin::Now,
        follow: true,
        heartbeat: Duration::from_millis(1),
        ..orders(format)
    };
    let mut json = open(&answers, &shop, asked(Format::Json)).await.unwrap();
    assert_eq!(lines(&piece(&mut json).await)[0]["position"], "1/10");
    let mut events = open(&answers, &shop, asked(Format::Events)).await.unwrap();
    assert!(piece(&mut events).await.starts_with(b"id: "));
    let mut frames = open(&answers, &shop, asked(Format::Frames)).await.unwrap();
    let alive = windows(&piece(&mut frames).await).remove(0);
    assert_eq!(
        (alive.span.after, alive.span.upto, alive.transactions.len()),
        (at(1, 10).scn, at(1, 10).scn, 0)
    );
    assert_eq!(alive.checkpoint(), shop.served.log.checkpoint().unwrap());
}

#[tokio::test]
async fn an_empty_log_is_alive_and_knows_no_place() {
    let shop = Shop::new();
    let answers = answers();
    let asked = |format| Asked { follow: true, heartbeat: Duration::from_millis(1), ..all(format) };
    let mut json = open(&answers, &shop, asked(Format::Json)).await.unwrap();
    assert_eq!(&piece(&mut json).await[..], b"{\"checkpoint\":null,\"position\":null}\n");
    let mut frames = open(&answers, &shop, asked(Format::Frames)).await.unwrap();
    assert_eq!(windows(&piece(&mut frames).await)[0].position(), Position::default());
    assert_eq!(body(&answers, &shop, all(Format::Json)).await.len(), 0);
}

#[tokio::test]
async fn a_stop_ends_the_body_in_an_orderly_way() {
    let shop = Shop::of(&[&[10]]);
    for format in FORMATS {
        let stop = watch::Sender::new(false);
        let asked = Asked { follow: true, ..orders(format) };
        let meter = Meter::default();
        let answer = answers()
            .open(&shop.served, asked, Encoding::Identity, meter.clone(), stop.subscribe())
            .await
            .unwrap();
        let reading = tokio::spawn(whole(answer));
        stop.send_replace(true);
        let (bytes, trailer) = reading.await.unwrap();
        assert_eq!(meter.read().bytes, bytes.len() as u64);
        assert_eq!((meter.read().rows_read, meter.read().rows_given, meter.read().transactions), (1, 1, 1));
        assert_eq!(meter.read().position, Some(at(1, 10)));
        match format {
            Format::Frames => assert_eq!((windows(&bytes).len(), trailer), (1, None)),
            _ => assert_eq!(checkpoint(&trailer.unwrap()).position, at(1, 10)),
        }
    }
}

#[tokio::test]
async fn the_checkpoint_comes_with_the_last_part_of_a_transaction() {
    let mut shop = Shop::of(&[&[10]]);
    let some = |count: i64| {
        let change = |id| (0, Change::Insert(row(id, "open")));
        window(10, &[Commit(20, (0..count).map(change).collect())])
    };
    shop.append(&part(some(3), Part::First, 0));
    shop.append(&part(some(2), Part::Middle, 3));
    shop.append(&part(some(1), Part::Last, 5));
    let answers = answers();
    let lines = lines(&body(&answers, &shop, all(Format::Json)).await);
    let positions: Vec<(usize, &str)> =
        lines.iter().enumerate().filter_map(|(i, line)| Some((i, line["position"].as_str()?))).collect();
    assert_eq!(positions, [(1, "1/10"), (8, "1/20")]);
    let orders: Vec<u64> =
        lines[2..8].iter().map(|l| l["transaction"]["total_order"].as_u64().unwrap()).collect();
    assert_eq!(orders, [1, 2, 3, 4, 5, 6]);
    // A limit of bytes within the transaction ends the answer behind it, so that whoever asks again gets on.
    let asked = Asked { begin: Begin::After(at(1, 10)), bytes_max: Some(1), ..all(Format::Json) };
    let (bytes, trailer) = whole(open(&answers, &shop, asked).await.unwrap()).await;
    assert_eq!((scns(&bytes).len(), checkpoint(&trailer.unwrap()).position), (6, at(1, 20)));
}

#[tokio::test]
async fn compressed_answers_are_the_same_answers() {
    use std::io::Read;
    let shop = Shop::of(&[&[10, 20], &[30]]);
    let answers = answers();
    for format in FORMATS {
        let plain = body(&answers, &shop, orders(format)).await;
        for encoding in [Encoding::Gzip, Encoding::Zstd] {
            let answer = open_as(&answers, &shop, orders(format), encoding).await.unwrap();
            assert!(answer.headers().contains_key("content-encoding"));
            let (small, _) = whole(answer).await;
            let mut read = vec![];
            match encoding {
                Encoding::Gzip => flate2::read::GzDecoder::new(&small[..]).read_to_end(&mut read).unwrap(),
                _ => zstd::stream::read::Decoder::new(&small[..]).unwrap().read_to_end(&mut read).unwrap(),
            };
            assert!(read == plain, "{format:?} {encoding:?}");
        }
    }
}

#[tokio::test]
async fn a_compressed_batch_can_be_read_before_the_next_one() {
    let mut shop = Shop::of(&[&[10]]);
    for encoding in [Encoding::Gzip, Encoding::Zstd] {
        let scn = shop.served.log.stats().latest.unwrap().scn.0;
        let asked = Asked { begin: Begin::Now, follow: true, ..all(Format::Json) };
        let mut answer = open_as(&answers(), &shop, asked, encoding).await.unwrap();
        shop.append(&inserts(scn, &[scn + 10]));
        let small = answer.frame().await.unwrap().unwrap().into_data().unwrap();
        let mut read = Vec::new();
        match encoding {
            Encoding::Gzip => {
                use std::io::Write;
                let mut decoder = flate2::write::GzDecoder::new(&mut read);
                decoder.write_all(&small).unwrap();
                decoder.flush().unwrap();
            }
            _ => {
                use std::io::Write;
                let mut decoder = zstd::stream::write::Decoder::new(&mut read).unwrap();
                decoder.write_all(&small).unwrap();
                decoder.flush().unwrap();
            }
        }
        assert_eq!(scns(&read), [scn + 10]);
    }
}
