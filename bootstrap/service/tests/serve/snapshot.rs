//! Snapshots: one position, whatever is committed meanwhile, whoever serves which piece of it.

use tidemill_bootstrap_service::ServeError;
use tidemill_client::Bootstrap;
use tidemill_event::{Phase, Remedy};
use tidemill_relay::SnapshotPath;

use crate::model::{Mirror, shown};
use crate::shop::{Change, Dice, ITEMS, NOTES, ORDERS, Shop, row};

/// A shop with base and runs of several ages.
async fn busy(seed: u64, rounds: u64) -> (Shop, Dice) {
    let (mut shop, mut dice) = (Shop::new().await, Dice(seed));
    for round in 0..rounds {
        shop.trade(&mut dice, 120, 700);
        shop.apply().await;
        if round % 3 == 1 {
            shop.publish(ORDERS).await;
            shop.publish(NOTES).await;
        }
        if round % 4 == 2 {
            shop.publish(ITEMS).await;
        }
    }
    (shop, dice)
}

fn scn(mirror: &Mirror) -> u64 {
    mirror.have.as_ref().unwrap().position.scn.0
}

#[tokio::test]
async fn b22_a_snapshot_under_constant_writes_is_the_source_at_one_position() {
    for seed in 0..3 {
        let (mut shop, mut dice) = busy(seed, 5).await;
        let at = shop.scn;
        let (mut mirror, mut reader) = (Mirror::default(), shop.reader(SnapshotPath::Auto));
        let mut pieces = 0;
        while mirror.step(&mut reader).await {
            pieces += 1;
            shop.trade(&mut dice, 20, 700);
            shop.apply().await;
            if pieces % 2 == 0 {
                shop.publish(ORDERS).await;
                shop.publish(ITEMS).await;
            }
        }
        assert_eq!(scn(&mirror), at, "it ends at the position where it began");
        assert_eq!(mirror.content, *shop.at(at));
        assert!(pieces >= 3 && shop.scn > at, "{pieces}");
    }
}

#[tokio::test]
async fn b24_every_piece_may_come_from_another_server() {
    let (mut shop, mut dice) = busy(7, 4).await;
    let at = shop.scn;
    let mut mirror = Mirror::default();
    let mut total = 0;
    loop {
        // Nothing of what a server remembers is there.
        let mut reader = shop.reader(SnapshotPath::Auto);
        if !mirror.step(&mut reader).await {
            break;
        }
        total += 1;
        shop.trade(&mut dice, 5, 700);
        shop.apply().await;
    }
    assert_eq!((scn(&mirror), &mirror.content), (at, shop.at(at)));
    // No restart: each row came once.
    assert_eq!(mirror.rows, shop.at(at).values().map(|rows| rows.len()).sum::<usize>(), "{total} pieces");
}

#[tokio::test]
async fn a_version_that_goes_under_its_reader_is_left_for_the_newest_and_nothing_is_lost() {
    for lost_after in 1..6 {
        let (mut shop, mut dice) = busy(11, 4).await;
        let (mut mirror, mut reader) = (Mirror::default(), shop.reader(SnapshotPath::Auto));
        let (mut pieces, begun) = (0, shop.scn);
        while mirror.step(&mut reader).await {
            pieces += 1;
            shop.trade(&mut dice, 30, 700);
            shop.apply().await;
            if pieces == lost_after {
                for table in [ORDERS, ITEMS, NOTES] {
                    shop.compact(table).await;
                    shop.publish(table).await;
                }
                shop.sweep().await;
                reader = shop.fresh_reader();
            }
        }
        let at = scn(&mirror);
        assert!(at > begun || pieces <= lost_after, "it went on in a newer version");
        assert_eq!(shown(&mirror.content), *shop.at(at), "lost after {lost_after} of {pieces}");
    }
}

#[tokio::test]
async fn copies_of_one_row_all_come_however_small_the_pieces() {
    let mut shop = Shop::new().await;
    let many: Vec<Change> = (0..20_000).map(|_| Change::Set(NOTES, row(1, "same"))).collect();
    shop.change(&many);
    shop.change(&[Change::Set(NOTES, row(0, "first")), Change::Set(NOTES, row(2, "last"))]);
    shop.apply().await;
    let mut mirror = Mirror::default();
    // Each piece from a server that remembers nothing.
    while mirror.step(&mut shop.reader(SnapshotPath::Auto)).await {}
    assert_eq!(mirror.content, *shop.at(shop.scn));
}

#[tokio::test]
async fn an_empty_source_has_an_empty_snapshot() {
    let shop = Shop::new().await;
    let mut mirror = Mirror::default();
    mirror.read(&mut shop.reader(SnapshotPath::Auto)).await;
    assert_eq!((scn(&mirror), mirror.rows), (1, 0));
    assert_eq!(mirror.have.unwrap().phase, Phase::Stream);
}

#[tokio::test]
async fn tables_that_are_asked_for_come_and_no_others() {
    let (shop, _) = busy(3, 2).await;
    for (tables, expected) in [
        (&["shop.*"][..], vec![ITEMS, ORDERS]),
        (&["shop.items"], vec![ITEMS]),
        (&["*.notes", "shop.orders"], vec![NOTES, ORDERS]),
    ] {
        let mut mirror = Mirror::default();
        mirror.read(&mut shop.reader_of(tables)).await;
        assert_eq!(mirror.content.keys().collect::<Vec<_>>(), expected);
        mirror.content.iter().for_each(|(name, rows)| assert_eq!(rows, &shop.at(shop.scn)[name]));
    }
}

#[tokio::test]
async fn a_table_that_is_still_being_copied_is_waited_for() {
    let (shop, _) = busy(3, 1).await;
    shop.writer
        .commit(|draft| {
            let state = draft.tables.values_mut().find(|state| state.name.table == "items").unwrap();
            state.phase = tidemill_bootstrap_store::TablePhase::Cloning(Default::default());
        })
        .await
        .unwrap();
    let error = shop.reader(SnapshotPath::Auto).next(None).await.unwrap_err();
    assert!(matches!(error, ServeError::NotYet { .. }), "{error}");
    assert_eq!(error.remedy(), Remedy::Wait);
    let mut mirror = Mirror::default();
    mirror.read(&mut shop.reader_of(&[ORDERS])).await;
    assert_eq!(mirror.content[ORDERS], shop.at(shop.scn)[ORDERS]);
}
