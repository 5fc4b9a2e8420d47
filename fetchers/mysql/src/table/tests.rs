//! Row images by hand-made bytes: every kind of value at its edges, NULL and absent, and cuts between rows.

#![allow(clippy::unwrap_used, reason = "tests")]

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{Array, RecordBatch};
use proptest::prelude::*;
use tidemill_event::{RowKind, TableChanges, TableName};

use super::map::{MapColumn, TableMap, code};
use super::{Layout, RowError, RowsEvent, TableBuilder};
use crate::event::{Flavour, kind};
use crate::settings::{BadText, ValuePolicy};
use crate::value::ValueError;

fn column(name: &str, code: u8, meta: u16) -> MapColumn {
    MapColumn {
        code,
        meta,
        nullable: true,
        name: Some(name.to_owned()),
        collation: Some(45),
        ..MapColumn::default()
    }
}

fn builder(columns: Vec<MapColumn>) -> TableBuilder {
    let map = TableMap { name: TableName::new("d", "t"), columns, key: vec![], has_signs: false };
    let layout = Layout::new(Flavour::MySql, &map, ValuePolicy::default());
    assert_eq!(layout.refusal, None);
    TableBuilder::new(&layout)
}

/// The body of a rows event: the bitmaps of each image, then rows.
fn body(columns: u8, present: &[&[u8]], rows: &[u8]) -> Vec<u8> {
    let mut body = vec![7, 0, 0, 0, 0, 0, 1, 0, 2, 0, columns];
    present.iter().for_each(|bits| body.extend_from_slice(bits));
    body.extend_from_slice(rows);
    body
}

fn push(builder: &mut TableBuilder, kind: u8, body: &[u8]) -> Result<u32, RowError> {
    builder.push(&RowsEvent::read(kind, body).unwrap(), 0, 0)
}

/// One value of one column.
fn one(column: MapColumn, value: &[u8]) -> Result<RecordBatch, RowError> {
    let mut builder = builder(vec![column]);
    push(&mut builder, kind::WRITE_ROWS, &body(1, &[&[1]], &[&[0][..], value].concat()))?;
    Ok(builder.take_all().unwrap().rows)
}

fn labelled(code: u8, width: u16, labels: &[&str]) -> MapColumn {
    let labels = labels.iter().map(|l| l.as_bytes().to_vec()).collect();
    MapColumn { labels, ..column("v", code, width) }
}

fn text(batch: &RecordBatch) -> &str {
    batch.column(0).as_string::<i32>().value(0)
}

#[test]
fn labels_are_found_by_their_numbers() {
    let labels = ["a", "b", "größer"];
    assert_eq!(text(&one(labelled(code::ENUM, 1, &labels), &[3]).unwrap()), "größer");
    assert_eq!(text(&one(labelled(code::ENUM, 2, &labels), &[0, 0]).unwrap()), "");
    assert_eq!(text(&one(labelled(code::SET, 1, &labels), &[0b101]).unwrap()), "a,größer");
    assert!(one(labelled(code::ENUM, 1, &labels), &[4]).is_err());
    assert!(one(labelled(code::SET, 1, &labels), &[0b1000]).is_err());
    let many: Vec<String> = (0..64).map(|n| format!("m{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(text(&one(labelled(code::SET, 8, &many), &[1, 0, 0, 0, 0, 0, 0, 0x80]).unwrap()), "m0,m63");
}

#[test]
fn a_mediumint_has_its_sign() {
    let batch = one(column("v", code::INT24, 0), &[0xff, 0xff, 0xff]).unwrap();
    assert_eq!(batch.column(0).as_primitive::<Int32Type>().value(0), -1);
    let batch = one(column("v", code::INT24, 0), &[0, 0, 0x80]).unwrap();
    assert_eq!(batch.column(0).as_primitive::<Int32Type>().value(0), -8_388_608);
}

#[test]
fn bytes_that_the_server_cut_off_are_put_back() {
    let binary = MapColumn { collation: Some(63), ..column("v", code::STRING, 4) };
    let batch = one(binary, &[2, 1, 2]).unwrap();
    assert_eq!(batch.column(0).as_binary::<i32>().value(0), [1, 2, 0, 0]);
}

#[test]
fn text_that_is_not_of_its_character_set_is_refused_and_named() {
    let error = one(column("v", code::VARCHAR, 40), &[1, 0xff]).unwrap_err();
    assert_eq!(error.column, Some(0));
    assert!(matches!(error.error, ValueError::Refused(_)));
}

#[test]
fn l15_text_of_a_key_is_never_replaced() {
    let policy = ValuePolicy { bad_text: BadText::Replace, ..ValuePolicy::default() };
    for (key, refused) in [(vec![], false), (vec![0], true)] {
        let columns = vec![column("v", code::VARCHAR, 40)];
        let map = TableMap { name: TableName::new("d", "t"), columns, key, has_signs: true };
        let mut builder = TableBuilder::new(&Layout::new(Flavour::MySql, &map, policy));
        let pushed = push(&mut builder, kind::WRITE_ROWS, &body(1, &[&[1]], &[0, 2, b'a', 0xff]));
        assert_eq!(pushed.is_err(), refused);
        if !refused {
            assert_eq!(text(&builder.take_all().unwrap().rows), "a\u{fffd}");
        }
    }
}

#[test]
fn an_update_is_two_rows_of_one_change_and_null_is_not_absent() {
    let mut builder = builder(vec![column("a", code::LONG, 0), column("b", code::LONGLONG, 0)]);
    // Before: both, b NULL. After: b alone, as with MINIMAL images.
    let rows = [&[0b10][..], &7i32.to_le_bytes(), &[0], &8i64.to_le_bytes()].concat();
    let body = body(2, &[&[0b11], &[0b10]], &rows);
    assert_eq!(push(&mut builder, kind::UPDATE_ROWS, &body), Ok(1));
    let TableChanges { rows, absent, kind, ordinal, .. } = builder.take_all().unwrap();
    assert_eq!(kind.to_vec(), [RowKind::UpdateBefore as u8, RowKind::UpdateAfter as u8]);
    assert_eq!(ordinal.to_vec(), [0, 0]);
    assert_eq!(rows.column(0).as_primitive::<Int32Type>().value(0), 7);
    assert!(rows.column(0).is_null(1) && rows.column(1).is_null(0));
    assert_eq!(rows.column(1).as_primitive::<Int64Type>().value(1), 8);
    let bits: Vec<Option<Vec<bool>>> =
        absent.iter().map(|a| a.as_ref().map(|a| a.iter().collect())).collect();
    assert_eq!(bits, [Some(vec![false, true]), None]);
}

#[test]
fn another_number_of_columns_is_refused() {
    let mut builder = builder(vec![column("a", code::LONG, 0)]);
    assert!(push(&mut builder, kind::WRITE_ROWS, &body(2, &[&[3]], &[0, 1, 0, 0, 0, 1, 0, 0, 0])).is_err());
}

/// A row of an INT and a VARCHAR, either of which may be NULL.
type Row = (Option<i32>, Option<String>);

fn rows_body(rows: &[Row]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, text) in rows {
        bytes.push(u8::from(number.is_none()) | u8::from(text.is_none()) << 1);
        number.iter().for_each(|n| bytes.extend_from_slice(&n.to_le_bytes()));
        text.iter().for_each(|t| {
            bytes.push(t.len() as u8);
            bytes.extend_from_slice(t.as_bytes());
        });
    }
    body(2, &[&[3]], &bytes)
}

fn rows_of(changes: Option<TableChanges>) -> Vec<Row> {
    let Some(TableChanges { rows, .. }) = changes else { return vec![] };
    let (numbers, texts) = (rows.column(0).as_primitive::<Int32Type>(), rows.column(1).as_string::<i32>());
    numbers.iter().zip(texts.iter()).map(|(n, t)| (n, t.map(str::to_owned))).collect()
}

fn two_columns() -> TableBuilder {
    builder(vec![column("a", code::LONG, 0), column("b", code::VARCHAR, 160)])
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    prop::collection::vec((any::<Option<i32>>(), prop::option::of("[a-zäß寸]{0,8}")), 0..20)
}

proptest! {
    #[test]
    fn a_cut_between_whole_and_open_keeps_every_row(whole in rows(), open in rows(), more in rows()) {
        let mut builder = two_columns();
        let push = |builder: &mut TableBuilder, rows: &[Row]| {
            if !rows.is_empty() {
                let body = rows_body(rows);
                let first = builder.rows() as u32;
                builder.push(&RowsEvent::read(kind::WRITE_ROWS, &body).unwrap(), first, 3).unwrap();
            }
        };
        push(&mut builder, &whole);
        builder.settle();
        push(&mut builder, &open);
        prop_assert_eq!(rows_of(builder.take_settled(whole.len() as u32)), whole);
        push(&mut builder, &more);
        let rest = builder.take_all();
        let ordinals: Vec<u32> = rest.as_ref().map(|r| r.ordinal.to_vec()).unwrap_or_default();
        prop_assert_eq!(ordinals, (0..(open.len() + more.len()) as u32).collect::<Vec<_>>());
        prop_assert_eq!(rows_of(rest), [open, more].concat());
    }

    #[test]
    fn what_is_discarded_leaves_no_trace(whole in rows(), open in rows(), more in rows()) {
        let mut builder = two_columns();
        for (rows, settles) in [(&whole, true), (&open, false), (&more, true)] {
            if !rows.is_empty() {
                push(&mut builder, kind::WRITE_ROWS, &rows_body(rows)).unwrap();
            }
            if settles { builder.settle() } else { builder.discard_from(0) }
        }
        prop_assert_eq!(rows_of(builder.take_all()), [whole, more].concat());
    }

    #[test]
    fn damaged_rows_are_an_error_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let labels = labelled(code::SET, 2, &["a", "b"]);
        let columns = vec![
            column("a", code::JSON, 2), column("b", code::NEWDECIMAL, 0x0414), column("c", code::TIME2, 3),
            column("d", code::DATETIME2, 6), column("e", code::STRING, 300), labels, column("g", code::BIT, 0x0102),
        ];
        let mut builder = builder(columns);
        let _ = push(&mut builder, kind::WRITE_ROWS, &body(7, &[&[0x7f]], &bytes));
        builder.discard_from(0);
        prop_assert!(builder.take_all().is_none());
    }
}
