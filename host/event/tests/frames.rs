//! The frame codec: what goes in comes out, the bytes are those of earlier releases, and nothing damaged is read.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::path::PathBuf;
use std::sync::Arc;

use proptest::prelude::*;
use support::{assert_same, every_type, example, rows, schema, transaction};
use tidemill_event::{
    Change, Decoded, Frame, FrameError, Part, RowKind, SchemaSet, Scn, Span, TableChanges, Window, decode,
    encode_schema, encode_shared, encode_window, merge,
};

fn schemas_of(window: &Window) -> SchemaSet {
    let mut set = SchemaSet::default();
    for table in &window.tables {
        let Decoded::Schema(schema) = decode(&encode_schema(&table.schema), &set).unwrap() else {
            panic!("a schema frame holds a schema")
        };
        set.insert(schema);
    }
    set
}

fn back(frame: &Frame, schemas: &SchemaSet) -> Window {
    match decode(frame, schemas).unwrap() {
        Decoded::Window(window) => window,
        Decoded::Schema(_) => panic!("a window frame holds a window"),
    }
}

#[test]
fn a_window_with_everything_survives_its_frame() {
    let window = example();
    window.validate().unwrap();
    let frame = encode_window(&window).unwrap();
    let read = Frame::read(frame.bytes()).unwrap();
    assert_same(&back(&read, &schemas_of(&window)), &window);
}

#[test]
fn a_shared_window_lies_in_its_frame_and_says_the_same() {
    let window = example();
    let (frame, shared) = encode_shared(&window).unwrap();
    assert_same(&shared, &window);
    let bytes = frame.bytes().as_ptr_range();
    let values = shared.tables[1].rows.column(0).to_data().buffers()[0].as_ptr();
    assert!(bytes.contains(&values), "the arrays point into the frame");
}

#[test]
fn the_span_is_read_without_the_columns() {
    let window = example();
    let frame = encode_window(&window).unwrap();
    assert_eq!(frame.window_span().unwrap(), Some((window.position(), window.span)));
    assert_eq!(encode_schema(&window.tables[0].schema).window_span().unwrap(), None);
}

#[test]
fn every_truncated_frame_is_refused() {
    let window = example();
    for frame in [encode_window(&window).unwrap(), encode_schema(&window.tables[0].schema)] {
        for len in 0..frame.bytes().len() {
            let refused = Frame::read(&frame.bytes()[..len]);
            assert!(matches!(refused, Err(FrameError::Truncated { .. })), "{len} bytes");
        }
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    let window = example();
    for frame in [encode_window(&window).unwrap(), encode_schema(&window.tables[1].schema)] {
        let mut bytes = frame.bytes().to_vec();
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Frame::read(&bytes).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn a_window_whose_schema_did_not_come_first_is_refused_by_name() {
    let window = example();
    let frame = encode_window(&window).unwrap();
    let refused = decode(&frame, &SchemaSet::default()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        format!("the window uses schema {}, which did not come before it", window.tables[0].schema.id())
    );
}

/// A well-formed frame with a true checksum may still lie: the rules of a window are checked on reading.
#[test]
fn a_sealed_frame_that_breaks_a_rule_of_windows_is_refused() {
    let mut window = example();
    let schemas = schemas_of(&window);
    window.tables[1].ordinal = vec![4u32, 1].into();
    assert!(window.validate().is_err());
    window.tables[1].ordinal = vec![1u32, 4].into();
    let mut bytes = encode_window(&window).unwrap().bytes().to_vec();
    // The commit SCN of the second transaction, in the header, made smaller than the first's.
    let at = bytes.windows(8).position(|w| w == 300u64.to_le_bytes()).unwrap();
    bytes[at..at + 8].copy_from_slice(&150u64.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..4]), &bytes[8..]);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    let refused = decode(&Frame::read(&bytes).unwrap(), &schemas).unwrap_err();
    assert!(matches!(refused, FrameError::Rules(_)), "{refused}");
}

fn golden(name: &str, bytes: &[u8]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, bytes).unwrap();
    }
    let kept = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}; BLESS=1 writes it", path.display()));
    assert!(
        kept == bytes,
        "{name} is not what earlier releases wrote; a format change carries its golden file"
    );
}

#[test]
fn frames_are_byte_for_byte_those_of_earlier_releases() {
    let window = example();
    golden("window.frame", encode_window(&window).unwrap().bytes());
    golden("schema.frame", encode_schema(&window.tables[0].schema).bytes());
}

#[test]
fn a_golden_frame_is_read_as_the_window_that_was_written() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/window.frame");
    let frame = Frame::read(&std::fs::read(path).unwrap()).unwrap();
    let window = example();
    assert_same(&back(&frame, &schemas_of(&window)), &window);
}

#[test]
fn changes_come_in_the_order_of_their_statements_over_all_tables() {
    let change = |ordinal, txn, table, before, after| Change { ordinal, txn, table, before, after };
    assert_eq!(
        example().changes_in_order(),
        [
            change(0, 0, 0, None, Some(0)),
            change(1, 0, 1, None, Some(0)),
            change(2, 0, 0, Some(1), Some(2)),
            change(4, 1, 1, None, Some(1)),
            change(5, 1, 0, Some(3), None),
        ]
    );
}

#[test]
fn half_of_an_update_is_a_delete_or_an_insert() {
    let table = &example().tables[0];
    let keep = |bits: [bool; 4]| table.keep(&bits.to_vec().into()).unwrap().changes(0).collect::<Vec<_>>();
    let moved_out = keep([false, true, false, false]);
    assert_eq!((moved_out[0].before, moved_out[0].after), (Some(0), None));
    let moved_in = keep([false, false, true, false]);
    assert_eq!((moved_in[0].before, moved_in[0].after), (None, Some(0)));
    assert_eq!(table.keep(&vec![false; 4].into()).map(|t| t.rows.num_rows()), None);
}

prop_compose! {
    /// What one table does within one transaction: kinds of its changes.
    fn changes()(kinds in prop::collection::vec((0u8..3, 0usize..3), 0..20)) -> Vec<(u8, usize)> { kinds }
}

/// Lays random changes out as a window: 0 insert, 1 update, 2 delete, over three tables.
fn window_of(transactions: Vec<Vec<(u8, usize)>>, types: Vec<Vec<usize>>, seed: u64) -> Window {
    let all = every_type();
    let mut plan: Vec<Vec<(RowKind, u32, u32)>> = vec![vec![]; 3];
    let (mut ordinal, mut list) = (0u32, vec![]);
    for (txn, changes) in transactions.iter().enumerate() {
        list.push(transaction(200 + txn as u64 * 7, ordinal, changes.len() as u32));
        for (kind, table) in changes {
            let at = (ordinal, txn as u32);
            match kind {
                0 => plan[*table].push((RowKind::Insert, at.0, at.1)),
                1 => plan[*table]
                    .extend([(RowKind::UpdateBefore, at.0, at.1), (RowKind::UpdateAfter, at.0, at.1)]),
                _ => plan[*table].push((RowKind::Delete, at.0, at.1)),
            }
            ordinal += 1;
        }
    }
    let table = |(i, plan): (usize, &Vec<_>)| -> TableChanges {
        let types: Vec<_> = types[i].iter().map(|t| all[*t].clone()).collect();
        rows(&schema(&format!("t{i}"), &types), plan, seed)
    };
    let mut window = example();
    window.span.upto = Scn(10_000);
    window.tables = plan.iter().enumerate().map(table).collect();
    (window.transactions, window.events) = (list, vec![]);
    window
}

proptest! {
    #[test]
    fn any_window_survives_its_frame(
        transactions in prop::collection::vec(changes(), 0..8),
        types in prop::collection::vec(prop::collection::vec(0usize..19, 1..6), 3),
        seed in any::<u64>(),
    ) {
        let window = window_of(transactions, types, seed);
        window.validate().unwrap();
        let frame = encode_window(&window).unwrap();
        let read = back(&Frame::read(frame.bytes()).unwrap(), &schemas_of(&window));
        assert_same(&read, &window);
        let (_, shared) = encode_shared(&window).unwrap();
        assert_same(&shared, &window);
    }

    #[test]
    fn a_kept_part_of_a_window_survives_its_frame(
        transactions in prop::collection::vec(changes(), 1..6),
        bits in any::<u64>(),
    ) {
        let mut window = window_of(transactions, vec![vec![4, 11], vec![0], vec![18, 12]], bits);
        let kept = window.tables.iter().filter_map(|t| {
            let mask: Vec<bool> = (0..t.rows.num_rows()).map(|i| bits >> (i % 64) & 1 == 1).collect();
            t.keep(&mask.into())
        });
        window.tables = kept.collect();
        window.validate().unwrap();
        let read = back(&encode_window(&window).unwrap(), &schemas_of(&window));
        assert_same(&read, &window);
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Frame::read(&bytes).is_err());
    }

    /// Damage behind a true checksum (a hostile peer) is an error or a window, never a panic.
    #[test]
    fn a_resealed_damaged_frame_never_panics(at in 16usize..4000, with in any::<u8>()) {
        let window = example();
        let mut bytes = encode_window(&window).unwrap().bytes().to_vec();
        let at = 16 + at % (bytes.len() - 16);
        bytes[at] = with;
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..4]), &bytes[8..]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        if let Ok(frame) = Frame::read(&bytes) {
            let _ = decode(&frame, &schemas_of(&window));
        }
    }
}

#[test]
fn merged_windows_say_what_they_said_one_after_the_other() {
    let first = example();
    let mut second = example();
    second.span = Span { after: Scn(500), upto: Scn(900) };
    for (i, transaction) in second.transactions.iter_mut().enumerate() {
        transaction.scn = Scn(600 + i as u64);
    }
    second.tables.reverse();
    second.tables[1].absent = vec![];
    let both = [Arc::new(first), Arc::new(second)];
    let merged = merge(&both).unwrap();
    merged.validate().unwrap();
    let said = |w: &Window| -> Vec<_> {
        let change = |c: &Change| {
            let (txn, table) = (&w.transactions[c.txn as usize], &w.tables[c.table as usize]);
            let image = |row: Option<u32>| row.map(|r| table.rows.slice(r as usize, 1));
            let absent = c.after.map(|row| table.is_absent(row as usize, 3));
            let number = txn.change_number(c.ordinal);
            (txn.scn, number, table.schema.name().clone(), image(c.before), image(c.after), absent)
        };
        w.changes_in_order().iter().map(change).collect()
    };
    let apart: Vec<_> = both.iter().flat_map(|w| said(w)).collect();
    assert_eq!(said(&merged), apart);
    assert_eq!((merged.span, merged.events.len()), (Span { after: Scn(100), upto: Scn(900) }, 14));
}

#[test]
fn windows_that_are_not_neighbours_or_not_whole_are_not_merged() {
    let apart = [Arc::new(example()), Arc::new(example())];
    assert!(merge(&apart).is_none());
    let mut fragment = example();
    fragment.transactions.truncate(1);
    fragment.transactions[0].part = Part::First;
    assert!(merge(&[Arc::new(fragment)]).is_none());
    assert!(merge(&[]).is_none());
}

#[test]
fn schemas_are_shared_not_copied() {
    let window = example();
    let set = schemas_of(&window);
    let first = Arc::clone(set.get(window.tables[0].schema.id()).unwrap());
    let read = back(&encode_window(&window).unwrap(), &set);
    assert!(Arc::ptr_eq(&read.tables[0].schema, &first));
}
