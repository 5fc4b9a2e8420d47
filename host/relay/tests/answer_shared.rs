//! What subscribers of one selection have in common is done once, and what fails is theirs alone.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support {
    pub mod shop;
}

use futures_util::future::join_all;
use http_body_util::BodyExt;
use support::shop::*;
use tidemill_relay::{Answer, AnswerConfig, Answers, Asked, Begin, Code, Format, Selection};

const WINDOWS: u64 = 20;

fn filtered(filter: &str, format: Format) -> Asked {
    let selection = Selection { filters: vec![filter.into()], ..Selection::default() };
    Asked { selection, begin: Begin::Now, follow: true, ..all(format) }
}

/// Windows of ten orders each, with ids around the 100 of the filter `big`.
fn append_windows(shop: &mut Shop) {
    for scn in 1..=WINDOWS {
        let change = |id: u64| (0, Change::Insert(row((scn * 10 + id) as i64, "open")));
        shop.append(&window(scn - 1, &[Commit(scn, (0..10).map(change).collect())]));
    }
}

/// Everything up to the last window.
async fn up_to_the_end(mut answer: Answer, is_end: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut bytes = vec![];
    while !is_end(&bytes) {
        bytes.extend_from_slice(&piece(&mut answer).await);
    }
    bytes
}

fn ends(format: Format) -> impl Fn(&[u8]) -> bool + Copy {
    move |bytes| match format {
        Format::Frames => windows_of(bytes).last().is_some_and(|w| w.position() == at(1, WINDOWS)),
        _ => bytes.ends_with(format!("\"position\":\"1/{WINDOWS}\"}}\n").as_bytes()),
    }
}

/// Pieces end with a frame, so that a body that goes on can be read too.
fn windows_of(bytes: &[u8]) -> Vec<tidemill_event::Window> {
    windows(bytes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_subscribers_of_one_filter_cost_one_evaluation_and_one_encoding_a_window() {
    for format in [Format::Json, Format::Frames] {
        let (mut shop, answers) = (Shop::new(), answers());
        shop.append(&inserts(0, &[]));
        let opened = join_all((0..100).map(|_| open(&answers, &shop, filtered("big", format)))).await;
        assert_eq!(answers.stats().views, 1);
        let reading: Vec<_> =
            opened.into_iter().map(|a| tokio::spawn(up_to_the_end(a.unwrap(), ends(format)))).collect();
        append_windows(&mut shop);
        let bodies: Vec<Vec<u8>> = join_all(reading).await.into_iter().map(Result::unwrap).collect();
        assert!(bodies.iter().all(|body| *body == bodies[0]), "{format:?}");
        let stats = answers.stats();
        assert_eq!((stats.evaluations, stats.encodings), (WINDOWS, WINDOWS), "{format:?}");
        assert!(stats.evaluation_us > 0);
        assert_eq!((stats.views, stats.shared_bytes), (0, 0), "nothing is left when the last one is gone");
        if format == Format::Frames {
            let ids: Vec<i64> = images(&windows(&bodies[0])).iter().map(|i| i.4.id.unwrap()).collect();
            assert_eq!(ids, (100..10 * WINDOWS as i64 + 10).collect::<Vec<_>>());
        }
    }
}

#[tokio::test]
async fn selections_that_differ_share_nothing_and_see_their_own() {
    let mut shop = Shop::new();
    append_windows(&mut shop);
    let answers = answers();
    let asked =
        |filter: &str| Asked { begin: Begin::Earliest, follow: false, ..filtered(filter, Format::Frames) };
    let big = open(&answers, &shop, asked("big")).await.unwrap();
    let none = open(&answers, &shop, asked("none")).await.unwrap();
    assert_eq!(answers.stats().evaluations, 2 * WINDOWS);
    assert_eq!(images(&windows(&whole(big).await.0)).len() as u64, 10 * WINDOWS - 90);
    assert_eq!(images(&windows(&whole(none).await.0)).len(), 0);
}

#[tokio::test]
async fn a_guest_that_fails_ends_its_own_subscribers_where_they_stand() {
    let (mut shop, answers) = (Shop::new(), answers());
    shop.append(&inserts(0, &[]));
    // It opens, and finds out with the first row that there is no such column.
    let mut broken = open(&answers, &shop, filtered("broken", Format::Json)).await.unwrap();
    let big = open(&answers, &shop, filtered("big", Format::Json)).await.unwrap();
    append_windows(&mut shop);
    let failed = loop {
        match broken.frame().await.expect("the failure is told") {
            Ok(frame) => assert!(!String::from_utf8_lossy(frame.data_ref().unwrap()).contains("\"op\"")),
            Err(failed) => break failed,
        }
    };
    assert_eq!(failed.code, Code::GuestFailed);
    assert_eq!((failed.facts["guest"].as_str(), failed.facts["at"].as_str()), (Some("where"), Some("1/1")));
    assert!(broken.frame().await.is_none(), "nothing follows");
    up_to_the_end(big, ends(Format::Json)).await;
}

#[tokio::test]
async fn what_is_kept_for_others_is_bounded_and_what_went_is_done_again() {
    let mut shop = Shop::new();
    append_windows(&mut shop);
    let answers =
        Answers::new(std::sync::Arc::new(Registered), AnswerConfig { shared_bytes: 1, batch_bytes: 1 });
    let asked = || Asked { begin: Begin::Earliest, follow: false, ..filtered("big", Format::Json) };
    let mut first = open(&answers, &shop, asked()).await.unwrap();
    piece(&mut first).await;
    let second = body(&answers, &shop, asked()).await;
    assert!(!second.is_empty());
    assert!(answers.stats().evaluations > WINDOWS, "{:?}", answers.stats());
    assert_eq!(answers.stats().shared_bytes, 0);
}
