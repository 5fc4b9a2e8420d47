//! B38: what the relay selects is what its subscriber would have selected from the full stream, and parts of the keys
//! share it out without remainder.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support {
    pub mod shop;
}

use std::collections::BTreeMap;

use proptest::prelude::*;
use support::shop::*;
use tidemill_event::{RowKind, Window};
use tidemill_relay::{Answers, Asked, Format, Part, Selection, parse_predicate};

const TABLES: [&str; 3] = ["shop.orders", "shop.parts", "bank.notes"];

/// Predicates, which are ones of the catalogue's filter as well.
const WORDS: [&str; 8] = [
    "id >= -2 and id < 100",
    "id = -9223372036854775808",
    "id != 1",
    "id is null",
    "name in ('a', 'ä', '') and id is not null",
    "`name` > 'a' and name <= 'bc'",
    "id between 95 and 101",
    "name <> 'ab' and note = 'n'",
];

fn rows() -> impl Strategy<Value = Row> {
    let ids = prop_oneof![
        Just(None),
        Just(Some(i64::MIN)),
        Just(Some(i64::MAX)),
        (-3i64..4).prop_map(Some),
        (95i64..105).prop_map(Some),
    ];
    let names = prop_oneof![Just(None), "[a-cä]{0,2}".prop_map(Some)];
    (ids, names).prop_map(|(id, name)| Row { id, name, note: Some("n".into()) })
}

fn changes() -> impl Strategy<Value = (usize, Change)> {
    let change = prop_oneof![
        rows().prop_map(Change::Insert),
        rows().prop_map(Change::Delete),
        (rows(), rows()).prop_map(|(before, after)| Change::Update(before, after)),
    ];
    (0..3usize, change)
}

/// Windows of transactions, with SCNs from 1.
fn streams() -> impl Strategy<Value = Vec<Window>> {
    let commits = prop::collection::vec(prop::collection::vec(changes(), 0..6), 1..4);
    prop::collection::vec(commits, 1..4).prop_map(|all| {
        let mut scn = 0;
        let mut next = |commits: Vec<Vec<(usize, Change)>>| {
            let after = scn;
            let commit = |changes| {
                scn += 1;
                Commit(scn, changes)
            };
            let commits: Vec<Commit> = commits.into_iter().map(commit).collect();
            window(after, &commits)
        };
        all.into_iter().map(&mut next).collect()
    })
}

fn shop_of(stream: &[Window]) -> Shop {
    let mut shop = Shop::new();
    stream.iter().for_each(|window| shop.append(window));
    shop
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

async fn selected(answers: &Answers, shop: &Shop, selection: Selection) -> Vec<Window> {
    let windows = windows(&body(answers, shop, Asked { selection, ..all(Format::Frames) }).await);
    windows.iter().for_each(|window| assert_eq!(window.validate(), Ok(())));
    windows
}

fn part(config: String, patterns: &[&str]) -> Selection {
    Selection { part: Some(Part { config }), ..tables(patterns) }
}

/// The windows' positions, transactions and events are those of the full stream.
fn assert_same_course(seen: &[Window], stream: &[Window]) {
    let course = |windows: &[Window]| {
        let of = |w: &Window| (w.timeline.clone(), w.span, w.executed.clone(), w.transactions.clone());
        windows.iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(course(seen), course(stream));
}

/// Tables by name and row as its key, as somebody holds them who applies what comes.
fn replayed(images: &[Image]) -> BTreeMap<(String, Row), i64> {
    let mut held = BTreeMap::new();
    for (table, _, _, kind, row) in images {
        let more = if matches!(kind, RowKind::Insert | RowKind::UpdateAfter) { 1 } else { -1 };
        *held.entry((table.clone(), row.clone())).or_insert(0) += more;
    }
    held.retain(|_, count| *count != 0);
    held
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn b38_what_the_relay_selects_is_what_the_subscriber_would_select(
        stream in streams(),
        chosen in prop::sample::subsequence(TABLES.to_vec(), 1..3),
        by in 0..4usize,
    ) {
        // A pattern of a table that the log has not seen is refused, so databases are asked for.
        let patterns: Vec<String> = chosen.iter().map(|t| format!("*.{}", t.split_once('.').unwrap().1)).collect();
        let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
        let config = [
            None,
            Some(r#"{"by":"mod","of":3,"take":[0,2],"column":"id"}"#),
            Some(r#"{"by":"range","bounds":[0,100],"take":[1],"column":"id"}"#),
            Some(r#"{"by":"hash","of":2,"take":[1],"column":"name"}"#),
        ][by];
        let filters = if by % 2 == 0 { vec!["big".to_owned()] } else { vec![] };
        let selection = Selection {
            part: config.map(|config| Part { config: config.into() }),
            filters: filters.clone(),
            ..tables(&patterns)
        };
        let (shop, answers) = (shop_of(&stream), answers());
        let at_relay = run(selected(&answers, &shop, selection));
        assert_same_course(&at_relay, &stream);
        // The subscriber's own work on the full stream.
        let mut full = run(selected(&answers, &shop, Selection::default()));
        let mut partition = config.map(|config| stage("partition", config, "shop").unwrap());
        let big = r#"{"tables":["shop.orders"],"where":"id >= 100"}"#;
        let mut big = (!filters.is_empty()).then(|| stage("where", big, "shop").unwrap());
        for window in &mut full {
            window.tables.retain(|t| chosen.contains(&&*t.schema.name().to_string()));
            for stage in [&mut partition, &mut big].into_iter().flatten() {
                *window = stage.apply(window.clone()).unwrap();
            }
        }
        prop_assert_eq!(images(&at_relay), images(&full));
    }

    #[test]
    fn b38_rows_by_a_predicate_are_those_that_a_filter_of_the_same_words_keeps(
        stream in streams(),
        orders in 0..WORDS.len(),
        notes in 0..WORDS.len(),
    ) {
        let (shop, answers) = (shop_of(&stream), answers());
        let mut full = run(selected(&answers, &shop, Selection::default()));
        let seen: Vec<String> =
            stream.iter().flat_map(|w| &w.tables).map(|t| t.schema.name().to_string()).collect();
        let wanted = [("shop.orders", WORDS[orders]), ("bank.notes", WORDS[notes])];
        // A table that the log has not seen is refused.
        let wanted: Vec<_> = wanted.into_iter().filter(|(table, _)| seen.contains(&table.to_string())).collect();
        let predicates = wanted.iter().map(|(table, text)| parse_predicate(table, text).unwrap()).collect();
        let at_relay = run(selected(&answers, &shop, Selection { predicates, ..Selection::default() }));
        assert_same_course(&at_relay, &stream);
        for (table, text) in wanted {
            let config = serde_json::json!({ "tables": [table], "where": text }).to_string();
            let mut stage = stage("where", &config, "shop").unwrap();
            for window in &mut full {
                *window = stage.apply(window.clone()).unwrap();
            }
        }
        prop_assert_eq!(images(&at_relay), images(&full));
    }

    #[test]
    fn b38_buckets_hold_every_row_exactly_once(stream in streams(), by in 0..4usize) {
        // By the whole key where there is one (composite, in another order than the columns), else by a column.
        let (patterns, buckets): (&[&str], Vec<String>) = match by {
            0 => (&["*.orders", "*.parts"], (0..3).map(|b| format!(r#"{{"by":"hash","of":3,"take":[{b}]}}"#)).collect()),
            1 => (&[], (0..2).map(|b| format!(r#"{{"by":"hash","of":2,"take":[{b}],"column":"name"}}"#)).collect()),
            2 => (&[], (0..4).map(|b| format!(r#"{{"by":"mod","of":4,"take":[{b}],"column":"id"}}"#)).collect()),
            _ => (&[], (0..3).map(|b| format!(r#"{{"by":"range","bounds":[0,100],"take":[{b}],"column":"id"}}"#)).collect()),
        };
        let (shop, answers) = (shop_of(&stream), answers());
        let full = images(&run(selected(&answers, &shop, tables(patterns))));
        let mut together: Vec<Image> = vec![];
        let mut held = BTreeMap::new();
        for (bucket, config) in buckets.into_iter().enumerate() {
            let seen = images(&run(selected(&answers, &shop, part(config, patterns))));
            for (.., row) in &seen {
                match by {
                    2 => prop_assert_eq!(row.id.map_or(0, |id| id.rem_euclid(4)), bucket as i64),
                    3 => prop_assert_eq!(row.id.map_or(0, |id| usize::from(id >= 0) + usize::from(id >= 100)), bucket),
                    _ => {}
                }
            }
            // A row that moves from one part to another is deleted here and inserted there.
            held.extend(replayed(&seen));
            together.extend(seen);
        }
        prop_assert_eq!(held, replayed(&full));
        // The two images of an update share their place; the kind tells them apart.
        let place = |image: &Image| (image.1, image.2, image.3 as u8);
        together.sort_by_key(place);
        let mut full = full;
        full.sort_by_key(place);
        prop_assert_eq!(together, full);
    }
}
