//! Deltas: whoever had the state of an older position has that of the newest one afterwards, over whichever path.

use tidemill_bootstrap_service::{ServeError, SnapshotReader};
use tidemill_client::{Bootstrap, Piece};
use tidemill_event::{Checkpoint, Phase, Position, Remedy, Scn};
use tidemill_relay::SnapshotPath;

use crate::model::{Mirror, shown};
use crate::shop::{Change, Dice, ITEMS, NOTES, ORDERS, SERVER, Shop, TAGS, executed, row};

fn place(scn: u64) -> Checkpoint {
    Checkpoint {
        source: "shop".into(),
        server: SERVER.into(),
        position: Position { timeline: 1, scn: Scn(scn) },
        gtid_set: executed(scn),
        phase: Phase::Stream,
    }
}

/// Whoever had everything up to there.
fn had(shop: &Shop, scn: u64) -> Mirror {
    Mirror { content: shop.at(scn).clone(), have: Some(place(scn)), ..Mirror::default() }
}

fn check(shop: &Shop, mirror: &Mirror, told: &str) {
    let newest = shop.writer.head().applied.position.scn.0;
    assert_eq!(mirror.have.as_ref().unwrap().position.scn.0, newest, "{told}");
    assert_eq!(shown(&mirror.content), *shop.at(newest), "{told}");
}

/// A shop with base and runs of several ages, of which some were merged.
async fn busy(seed: u64) -> (Shop, Dice) {
    let (mut shop, mut dice) = (Shop::new().await, Dice(seed));
    for round in 0..7 {
        shop.trade(&mut dice, 12, 60);
        if round == 4 && seed % 2 == 1 {
            shop.truncate(ITEMS);
            shop.trade(&mut dice, 3, 60);
        }
        shop.apply().await;
        match dice.next(4) {
            0 => shop.publish(ORDERS).await,
            1 => shop.publish(ITEMS).await,
            2 => shop.compact(ORDERS).await,
            _ => shop.publish(NOTES).await,
        }
    }
    (shop, dice)
}

#[tokio::test]
async fn deltas_since_any_position_lead_to_the_newest_one() {
    for seed in 0..4 {
        let (shop, _) = busy(seed).await;
        for since in (1..=shop.scn).filter(|since| (since + seed) % 3 == 0) {
            for path in [SnapshotPath::Auto, SnapshotPath::Whole, SnapshotPath::Deltas] {
                let mut mirror = had(&shop, since);
                mirror.read(&mut shop.reader(path)).await;
                check(&shop, &mirror, &format!("seed {seed}, since {since}, {path:?}"));
            }
        }
    }
}

#[tokio::test]
async fn b24_every_piece_of_deltas_may_come_from_another_server() {
    for seed in 0..4 {
        let (mut shop, mut dice) = busy(seed).await;
        let mut mirror = had(&shop, 10);
        let mut pieces = 0;
        let newest = shop.scn;
        while mirror.step(&mut shop.reader(SnapshotPath::Auto)).await {
            pieces += 1;
            shop.trade(&mut dice, 4, 60);
            shop.apply().await;
            assert!(pieces < 100, "it gets on");
        }
        assert_eq!(mirror.have.as_ref().unwrap().position.scn.0, newest);
        assert_eq!(shown(&mirror.content), *shop.at(newest));
    }
}

#[tokio::test]
async fn deltas_whose_version_goes_under_their_reader_begin_again_in_the_newest_one() {
    for lost_after in 1..4 {
        let (mut shop, mut dice) = busy(1).await;
        let mut mirror = had(&shop, 5);
        let mut reader = shop.reader(SnapshotPath::Auto);
        for _ in 0..lost_after {
            assert!(mirror.step(&mut reader).await);
        }
        let begun = shop.scn;
        shop.trade(&mut dice, 40, 60);
        shop.apply().await;
        for table in [ORDERS, ITEMS, NOTES] {
            shop.compact(table).await;
            shop.publish(table).await;
        }
        shop.sweep().await;
        mirror.read(&mut shop.fresh_reader()).await;
        check(&shop, &mirror, &format!("lost after {lost_after}"));
        assert!(shop.scn > begun);
    }
}

#[tokio::test]
async fn b26_a_table_comes_as_what_changed_where_that_is_little_and_whole_where_it_is_much() {
    let mut shop = Shop::new().await;
    let rows = |from: i64, to: i64, note: &str| {
        (from..to).map(|id| Change::Set(ORDERS, row(id, note))).collect::<Vec<_>>()
    };
    shop.change(&rows(0, 3000, "first"));
    shop.apply().await;
    shop.publish(ORDERS).await;
    let before = shop.scn;
    shop.change(&rows(0, 30, "second"));
    shop.apply().await;
    let mut few = had(&shop, before);
    few.read(&mut shop.reader(SnapshotPath::Auto)).await;
    check(&shop, &few, "few");
    assert_eq!((few.rows, few.emptied.len()), (30, 0));
    for note in ["third", "fourth", "fifth"] {
        shop.change(&rows(0, 2900, note));
        shop.apply().await;
    }
    shop.publish(ORDERS).await;
    let mut many = had(&shop, before);
    many.read(&mut shop.reader(SnapshotPath::Auto)).await;
    check(&shop, &many, "many");
    assert_eq!((many.rows, many.emptied), (3000, vec![ORDERS.to_owned()]));
    let mut nothing = had(&shop, shop.scn);
    nothing.read(&mut shop.reader(SnapshotPath::Auto)).await;
    assert_eq!(nothing.rows, 0);
}

#[tokio::test]
async fn a_table_without_key_comes_whole_where_it_changed_and_else_not_at_all() {
    let mut shop = Shop::new().await;
    shop.change(&[
        Change::Set(NOTES, row(1, "a")),
        Change::Set(NOTES, row(1, "a")),
        Change::Set(ORDERS, row(1, "a")),
    ]);
    shop.apply().await;
    let before = shop.scn;
    shop.change(&[Change::Set(ORDERS, row(2, "b"))]);
    shop.apply().await;
    let mut untouched = had(&shop, before);
    untouched.read(&mut shop.reader(SnapshotPath::Deltas)).await;
    check(&shop, &untouched, "untouched");
    assert_eq!((untouched.rows, untouched.emptied.len()), (1, 0));
    shop.change(&[Change::Delete(NOTES, row(1, "a"))]);
    shop.apply().await;
    let mut touched = had(&shop, before);
    touched.read(&mut shop.reader(SnapshotPath::Deltas)).await;
    check(&shop, &touched, "touched");
    assert_eq!(touched.emptied, [NOTES]);
}

#[tokio::test]
async fn a_table_whose_key_is_a_unique_one_comes_whole_where_it_changed() {
    let mut shop = Shop::new().await;
    shop.create(TAGS).await;
    shop.change(&[Change::Set(TAGS, row(1, "a")), Change::Set(TAGS, row(2, "b"))]);
    shop.apply().await;
    let before = shop.scn;
    // Its consumer holds a bag of rows, as the stream's schema of it has no key.
    shop.change(&[Change::Delete(TAGS, row(1, "a")), Change::Set(TAGS, row(1, "later"))]);
    shop.apply().await;
    shop.publish(TAGS).await;
    let mut mirror = had(&shop, before);
    mirror.read(&mut shop.reader(SnapshotPath::Deltas)).await;
    check(&shop, &mirror, "a unique key");
    assert_eq!((mirror.rows, mirror.emptied), (2, vec![TAGS.to_owned()]));
}

#[tokio::test]
async fn a_table_that_became_empty_is_emptied_and_the_reader_gets_on() {
    let mut shop = Shop::new().await;
    shop.change(&[Change::Set(ITEMS, row(1, "a")), Change::Set(ORDERS, row(1, "a"))]);
    shop.apply().await;
    let before = shop.scn;
    shop.truncate(ITEMS);
    shop.truncate(ORDERS);
    shop.apply().await;
    let mut mirror = had(&shop, before);
    let mut pieces = 0;
    // From servers that remember nothing.
    while mirror.step(&mut shop.reader(SnapshotPath::Auto)).await {
        pieces += 1;
        assert!(pieces <= 2, "each table is emptied once");
    }
    check(&shop, &mirror, "emptied");
    assert_eq!(mirror.emptied, [ITEMS, ORDERS]);
}

#[tokio::test]
async fn a_table_that_is_gone_is_told_and_one_of_its_name_comes_whole() {
    let mut shop = Shop::new().await;
    shop.change(&[Change::Set(ITEMS, row(1, "a")), Change::Set(ORDERS, row(1, "a"))]);
    shop.apply().await;
    let before = shop.scn;
    shop.drop_table(ITEMS).await;
    let mut mirror = had(&shop, before);
    while mirror.step(&mut shop.reader(SnapshotPath::Auto)).await {}
    check(&shop, &mirror, "gone");
    assert_eq!(mirror.dropped, [ITEMS]);
    shop.create(ITEMS).await;
    shop.change(&[Change::Set(ITEMS, row(9, "anew"))]);
    shop.apply().await;
    let mut again = had(&shop, before);
    while again.step(&mut shop.reader(SnapshotPath::Auto)).await {}
    check(&shop, &again, "anew");
    assert_eq!((again.dropped, again.emptied), (vec![ITEMS.to_owned()], vec![ITEMS.to_owned()]));
    // Whoever does not see the table is not told of it.
    let mut other = had(&shop, before);
    other.content.remove(ITEMS);
    other.read(&mut shop.reader_of(&[ORDERS])).await;
    assert!(other.dropped.is_empty());
}

async fn first(mut reader: SnapshotReader, have: &Checkpoint) -> Result<Piece, ServeError> {
    reader.next(Some(have)).await
}

#[tokio::test]
async fn a_checkpoint_of_an_unknown_server_is_placed_by_its_transactions() {
    let (shop, _) = busy(2).await;
    for since in [1, 20, shop.scn - 3, shop.scn] {
        let mut mirror = had(&shop, since);
        let position = Position { timeline: 9, scn: Scn(777) };
        let have = Checkpoint { server: "another".into(), position, ..place(since) };
        mirror.have = Some(have);
        mirror.read(&mut shop.reader(SnapshotPath::Deltas)).await;
        let newest = shop.writer.head().applied.position.scn.0;
        assert_eq!(shown(&mirror.content), *shop.at(newest), "since {since}");
        let end = mirror.have.unwrap();
        assert_eq!((end.server.as_str(), end.position.scn.0), (SERVER, newest));
    }
}

#[tokio::test]
async fn a_checkpoint_that_has_no_place_in_the_store_is_refused_and_one_ahead_of_it_waits() {
    let (shop, _) = busy(2).await;
    let newest = shop.scn;
    let unknown = Checkpoint { server: "another".into(), ..place(5) };
    for (have, remedy) in [
        (Checkpoint { source: "bank".into(), ..place(5) }, Remedy::Fix),
        (Checkpoint { gtid_set: String::new(), ..unknown.clone() }, Remedy::Fix),
        (
            Checkpoint { gtid_set: "4e11fa47-71ca-11e1-9e33-c80aa9429562:1-5".into(), ..unknown.clone() },
            Remedy::Fix,
        ),
        // It lost what the store never saw.
        (
            Checkpoint {
                gtid_set: format!("{},4e11fa47-71ca-11e1-9e33-c80aa9429562:1", executed(5)),
                ..place(5)
            },
            Remedy::Fix,
        ),
        (place(newest + 1), Remedy::Wait),
        (Checkpoint { gtid_set: executed(newest + 1), ..unknown }, Remedy::Wait),
    ] {
        let error = first(shop.reader(SnapshotPath::Auto), &have).await.unwrap_err();
        assert_eq!(error.remedy(), remedy, "{have:?}: {error}");
    }
}
