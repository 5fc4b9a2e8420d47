//! What a selection shows of a snapshot and of deltas: what it would show of all of it on the reader's side.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use futures_util::TryStreamExt;
use http_body_util::BodyExt;
use tidemill_event::{
    Checkpoint, Decoded, Frame, FrameHeader, Phase, SchemaSet, Window, decode_checkpoint, decode_piece,
};
use tidemill_relay::{
    AnswerConfig, Answers, Encoding, Format, Guests, Meter, Part, Selection, SnapshotPath, SnapshotWanted,
    SnapshotsServed, parse_predicate,
};
use tidemill_sandbox::{FilterStage, GuestConfig, Module, ProjectionStage, Sandbox, SandboxConfig};
use tokio::sync::watch;

use crate::model::{Content, Mirror, Row, Rows, shown};
use crate::shop::{Change, Dice, ITEMS, NOTES, ORDERS, Shop, row};

type Failed = Box<dyn Error + Send + Sync>;

/// The guests of the tests: filter `some`, projection `masked`.
pub struct Registered;

impl Guests for Registered {
    fn filters(&self) -> Vec<String> {
        vec!["some".into()]
    }
    fn projections(&self) -> Vec<String> {
        vec!["masked".into()]
    }
    fn filter(&self, _: &str, source: &str) -> Result<FilterStage, Failed> {
        stage("where", SOME, source)
    }
    fn projection(&self, _: &str, source: &str) -> Result<ProjectionStage, Failed> {
        Ok(ProjectionStage::open(&module("mask"), GuestConfig::new(source, MASKED))?)
    }
    fn partition(&self, config: &str, source: &str) -> Result<FilterStage, Failed> {
        stage("partition", config, source)
    }
}

const SOME: &str = r#"{"tables":["shop.*"],"where":"part >= 3 or note like '%7%'"}"#;

const MASKED: &str = r#"{"rules":[{"columns":"shop.*.note","action":"truncate","length":16}]}"#;

fn stage(guest: &str, json: &str, source: &str) -> Result<FilterStage, Failed> {
    Ok(FilterStage::open(&module(guest), GuestConfig::new(source, json))?)
}

/// A guest of the catalogue, loaded once a process.
fn module(name: &str) -> Module {
    static SANDBOX: OnceLock<Sandbox> = OnceLock::new();
    static LOADED: Mutex<BTreeMap<String, Module>> = Mutex::new(BTreeMap::new());
    let sandbox = SANDBOX.get_or_init(|| {
        let cache = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("guest-cache");
        Sandbox::new(SandboxConfig { instances_max: 64, ..SandboxConfig::new(cache) }).unwrap()
    });
    let wasm = tidemill_sandbox::catalogue::builtin(name).unwrap();
    let mut loaded = LOADED.lock().unwrap();
    loaded.entry(name.to_owned()).or_insert_with(|| sandbox.load(name, wasm).unwrap()).clone()
}

/// What a relay gives of that, from there to the stream.
pub async fn answered(
    shop: &Shop,
    selection: &Selection,
    have: Option<Checkpoint>,
) -> (Vec<Window>, Checkpoint) {
    let served = SnapshotsServed { source: "shop".into(), snapshots: Arc::new(shop.server()) };
    let wanted = SnapshotWanted {
        have,
        selection: selection.clone(),
        path: SnapshotPath::Auto,
        format: Format::Frames,
        bytes_max: None,
        subscriber: "test".into(),
    };
    let answers = Answers::new(Arc::new(Registered), AnswerConfig::default());
    let stop = watch::Sender::new(false);
    let opened =
        answers.open_snapshot(&served, wanted, Encoding::Identity, Meter::default(), stop.subscribe());
    let body: Vec<_> = opened.await.unwrap().into_data_stream().try_collect().await.unwrap();
    frames(&body.concat())
}

fn frames(mut bytes: &[u8]) -> (Vec<Window>, Checkpoint) {
    let (mut schemas, mut windows, mut ahead) = (SchemaSet::default(), vec![], None);
    while !bytes.is_empty() {
        let length = FrameHeader::read(bytes).unwrap().length;
        let frame = Frame::read(bytes).unwrap();
        bytes = &bytes[length..];
        match decode_checkpoint(&frame).unwrap() {
            Some(checkpoint) if checkpoint.phase == Phase::Stream => {
                assert!(bytes.is_empty(), "nothing follows");
                return (windows, checkpoint);
            }
            Some(checkpoint) => ahead = Some(checkpoint),
            None => {
                let phase = ahead.as_ref().map(|ahead: &Checkpoint| ahead.phase.clone()).unwrap_or_default();
                match decode_piece(&frame, &schemas, phase).unwrap() {
                    Decoded::Schema(schema) => assert!(schemas.insert(schema), "a schema came twice"),
                    Decoded::Window(window) => {
                        assert_eq!(Some(window.checkpoint()), ahead.take());
                        windows.push(window);
                    }
                }
            }
        }
    }
    panic!("the answer ends before the stream");
}

fn mirrored(content: Content, windows: &[Window]) -> Mirror {
    let mut mirror = Mirror { content, ..Mirror::default() };
    windows.iter().for_each(|window| mirror.take(window));
    mirror
}

/// What filters leave of a content, on the reader's side.
pub fn filtered(content: &Content, kept: impl Fn(&str, &Row) -> bool) -> Content {
    let mut left = Content::new();
    for (table, rows) in content {
        let of = left.entry(table.clone()).or_insert_with(|| Rows::new(matches!(rows, Rows::Keyed(_))));
        match rows {
            Rows::Keyed(rows) => {
                rows.values().filter(|row| kept(table, row)).for_each(|row| of.add(row.clone()))
            }
            Rows::Counted(rows) => {
                for (row, count) in rows.iter().filter(|(row, _)| kept(table, row)) {
                    (0..*count).for_each(|_| of.add(row.clone()));
                }
            }
        }
    }
    shown(&left)
}

fn is_some(table: &str, row: &Row) -> bool {
    table == NOTES
        || row.part.is_some_and(|part| part >= 3)
        || row.note.as_ref().is_some_and(|note| note.contains('7'))
}

fn parts(config: &str) -> Selection {
    let tables = vec![tidemill_relay::TablePattern::parse("shop.*").unwrap()];
    Selection { tables, part: Some(Part { config: config.into() }), ..Selection::default() }
}

fn predicates(texts: &[(&str, &str)]) -> Selection {
    let parse = |(table, text): &(&str, &str)| parse_predicate(table, text).unwrap();
    Selection { predicates: texts.iter().map(parse).collect(), ..Selection::default() }
}

/// Whether somebody wants that row of that table.
type Wants = fn(&str, &Row) -> bool;

/// Predicates, and the same in the reader's own words.
fn declared() -> [(Selection, Wants); 5] {
    [
        // A decimal literal between two values of the column, negative.
        (predicates(&[(ORDERS, "cents >= -10.005 and cents < 12.5")]), |table, row| {
            table != ORDERS || row.cents.is_some_and(|cents| (-1000..1250).contains(&cents))
        }),
        (
            predicates(&[(ORDERS, "part is null"), (ITEMS, "part in (1, 3) and cents <> -1.00")]),
            |table, row| match table {
                ORDERS => row.part.is_none(),
                ITEMS => matches!(row.part, Some(1 | 3)) && row.cents.is_some_and(|cents| cents != -100),
                _ => true,
            },
        ),
        // Of the key, with a condition on another column in one of the tables.
        (
            predicates(&[(ORDERS, "id between -20 and 30"), (ITEMS, "id > -10 and part is not null")]),
            |table, row| match table {
                ORDERS => (-20..=30).contains(&row.id),
                ITEMS => row.id > -10 && row.part.is_some(),
                _ => true,
            },
        ),
        (predicates(&[(NOTES, "note = 'again' and id in (1, 2, 9)")]), |table, row| {
            table != NOTES || [1, 2].contains(&row.id)
        }),
        (
            predicates(&[(ORDERS, "note >= 'shop.orders at 1' and note < 'shop.orders at 3'")]),
            |table, row| {
                let note = row.note.as_deref().unwrap_or_default();
                table != ORDERS || ("shop.orders at 1".."shop.orders at 3").contains(&note)
            },
        ),
    ]
}

async fn busy(seed: u64) -> (Shop, Dice) {
    let (mut shop, mut dice) = (Shop::new().await, Dice(seed));
    for _ in 0..4 {
        shop.trade(&mut dice, 40, 200);
        shop.apply().await;
        shop.publish([ORDERS, ITEMS, NOTES][dice.next(3) as usize]).await;
    }
    (shop, dice)
}

#[tokio::test(flavor = "multi_thread")]
async fn b38_a_filtered_snapshot_is_the_filter_of_the_whole_one() {
    for seed in 0..4 {
        let (shop, _) = busy(seed).await;
        let (windows, end) = answered(&shop, &Selection::default(), None).await;
        let whole = mirrored(Content::new(), &windows).content;
        assert_eq!((end.position.scn.0, shown(&whole)), (shop.scn, shop.at(shop.scn).clone()));
        let some = Selection { filters: vec!["some".into()], ..Selection::default() };
        let (windows, _) = answered(&shop, &some, None).await;
        assert_eq!(
            shown(&mirrored(Content::new(), &windows).content),
            filtered(&whole, is_some),
            "seed {seed}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn b38_a_snapshot_by_a_predicate_is_what_the_reader_would_choose_from_the_whole_one() {
    for seed in 0..4 {
        let (mut shop, mut dice) = busy(seed).await;
        // Rows of the base come into the predicates and go out of them by changes that are not merged.
        shop.trade(&mut dice, 40, 200);
        shop.apply().await;
        for (selection, wants) in declared() {
            let (windows, end) = answered(&shop, &selection, None).await;
            let expected = filtered(shop.at(shop.scn), wants);
            assert_eq!(end.position.scn.0, shop.scn);
            let seen = shown(&mirrored(Content::new(), &windows).content);
            assert_eq!(seen, expected, "seed {seed}, {selection:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn b38_every_row_of_a_snapshot_is_in_exactly_one_part() {
    let (shop, _) = busy(5).await;
    let expected: usize =
        shop.at(shop.scn).iter().filter(|(table, _)| *table != NOTES).map(|(_, rows)| rows.len()).sum();
    let configs: [fn(u64) -> String; 3] = [
        |take| format!(r#"{{"by":"hash","of":4,"take":[{take}]}}"#),
        |take| format!(r#"{{"by":"mod","column":"part","of":4,"take":[{take}]}}"#),
        |take| format!(r#"{{"by":"range","bounds":[-20,5,90],"column":"id","take":[{take}]}}"#),
    ];
    for config in configs {
        let mut seen = Content::new();
        let mut count = 0;
        for take in 0..4 {
            let (windows, _) = answered(&shop, &parts(&config(take)), None).await;
            let part = mirrored(Content::new(), &windows);
            count += part.rows;
            for (table, rows) in part.content {
                let Rows::Keyed(rows) = rows else { panic!("both tables have a key") };
                let of = seen.entry(table).or_insert_with(|| Rows::new(true));
                rows.into_values().for_each(|row| of.add(row));
            }
        }
        let whole = filtered(shop.at(shop.scn), |table, _| table != NOTES);
        assert_eq!((count, shown(&seen)), (expected, whole), "{}", config(0));
    }
}

/// Rows move between parts, and in and out of filters and predicates; one that somebody saw is deleted.
fn moved(shop: &mut Shop, dice: &mut Dice) {
    let moved = |n: i64, dice: &mut Dice| Row {
        part: Some(dice.next(9) as i32).filter(|part| *part < 8),
        cents: Some(dice.next(4000) as i64 - 2000),
        ..row(n * 3, "moved")
    };
    let changes: Vec<Change> = (0..20).map(|n| Change::Set(ORDERS, moved(n, dice))).collect();
    shop.change(&changes);
    let Rows::Keyed(orders) = &shop.content[ORDERS] else { panic!("it has a key") };
    let gone: Vec<Row> = orders.values().skip(dice.next(5) as usize).step_by(9).cloned().collect();
    shop.change(&gone.into_iter().map(|row| Change::Delete(ORDERS, row)).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn b38_deltas_bring_whoever_had_the_filtered_state_to_the_filtered_newest_one() {
    let mut selections = vec![
        Selection { filters: vec!["some".into()], ..Selection::default() },
        // Of a row that is gone, what a projection computes from is not known.
        Selection {
            filters: vec!["some".into()],
            projections: vec!["masked".into()],
            ..Selection::default()
        },
        parts(r#"{"by":"hash","of":3,"take":[1]}"#),
        parts(r#"{"by":"mod","column":"part","of":3,"take":[0,2]}"#),
        parts(r#"{"by":"range","bounds":[0,60],"column":"id","take":[1]}"#),
    ];
    selections.extend(declared().map(|(selection, _)| selection));
    for seed in 10..12 {
        let (mut shop, mut dice) = (Shop::new().await, Dice(seed));
        shop.trade(&mut dice, 60, 80);
        shop.apply().await;
        let mut before = vec![];
        for selection in &selections {
            let (windows, end) = answered(&shop, selection, None).await;
            before.push((mirrored(Content::new(), &windows).content, end));
        }
        for _ in 0..3 {
            shop.trade(&mut dice, 15, 80);
            moved(&mut shop, &mut dice);
            shop.apply().await;
            shop.publish([ORDERS, ITEMS][dice.next(2) as usize]).await;
        }
        for (selection, (content, have)) in selections.iter().zip(before) {
            let (windows, _) = answered(&shop, selection, None).await;
            let newest = shown(&mirrored(Content::new(), &windows).content);
            let (windows, end) = answered(&shop, selection, Some(have)).await;
            assert_eq!(end.position.scn.0, shop.scn);
            assert_eq!(shown(&mirrored(content, &windows).content), newest, "seed {seed}, {selection:?}");
        }
    }
}
