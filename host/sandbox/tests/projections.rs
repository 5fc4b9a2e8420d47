//! Projections in the sandbox: what is computed, what passes, and that NULL and absent stay apart.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use support::{Order, Random, config, inserts, module, with_absent};
use tidemill_sandbox::{Answer, GuestEnd, Limits, ProjectionStage};

const MASK: &str = r#"{"key_id":"k1","key":"a secret of enough bytes","rules":[
    {"columns":"shop.orders.note","action":"hash"},
    {"columns":"shop.*.status","action":"truncate","length":3},
    {"columns":"shop.orders.quantity","action":"drop"}]}"#;

fn mask(json: &str) -> ProjectionStage {
    ProjectionStage::open(&module("mask"), config(json)).unwrap()
}

fn hashed(text: &str) -> String {
    let mut hmac = Hmac::<Sha256>::new_from_slice(b"a secret of enough bytes").unwrap();
    hmac.update(text.as_bytes());
    let digest = hmac.finalize().into_bytes();
    format!("k1:{}", digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

#[test]
fn mask_in_the_sandbox_gives_what_native_code_gives() {
    let before = Random(21).window(700);
    let after = mask(MASK).apply(before.clone()).unwrap();
    after.validate().unwrap();
    let (from, to) = (&before.tables[0], &after.tables[0]);
    let names: Vec<&str> = to.schema.columns().iter().map(|column| column.name.as_str()).collect();
    assert_eq!((names.as_slice(), to.schema.key()), (&["id", "amount", "status", "note"][..], &[0][..]));
    assert_eq!((&to.kind, &to.ordinal, &to.txn), (&from.kind, &from.ordinal, &from.txn));
    // What passes never enters the guest: it is the same memory.
    assert!(to.rows.column(1).to_data().ptr_eq(&from.rows.column(1).to_data()));
    let (notes, masked) = (from.rows.column(4).as_string::<i32>(), to.rows.column(3).as_string::<i32>());
    let (states, cut) = (from.rows.column(2).as_string::<i32>(), to.rows.column(2).as_string::<i32>());
    for row in 0..notes.len() {
        let expected = notes.is_valid(row).then(|| hashed(notes.value(row)));
        assert_eq!(masked.is_valid(row).then(|| masked.value(row).to_owned()), expected);
        let expected = states.is_valid(row).then(|| states.value(row).chars().take(3).collect::<String>());
        assert_eq!(cut.is_valid(row).then(|| cut.value(row).to_owned()), expected);
    }
}

#[test]
fn absent_stays_absent_through_a_projection_and_null_stays_null() {
    let mut order = Order::new(2, 1, "sent");
    order.note = None;
    let mut before = inserts(&[Order::new(1, 1, "sent"), order, Order::new(3, 1, "sent")]);
    before.tables[0] = with_absent(before.tables[0].clone(), 4, &[0]);
    before.tables[0] = with_absent(before.tables[0].clone(), 1, &[2]);
    for batch_rows in [1, 2, 4096] {
        let mut config = config(MASK);
        config.limits = Limits { batch_rows, ..Limits::pure() };
        let mut stage = ProjectionStage::open(&module("mask"), config).unwrap();
        let after = stage.apply(before.clone()).unwrap();
        let table = &after.tables[0];
        let absent = |column| [0, 1, 2].map(|row| table.is_absent(row, column));
        let null = |column: usize| [0, 1, 2].map(|row| table.rows.column(column).is_null(row));
        assert_eq!((absent(3), null(3)), ([true, false, false], [true, true, false]), "{batch_rows}");
        assert_eq!(absent(1), [false, false, true]);
    }
}

#[test]
fn an_unnamed_table_passes_and_a_lost_key_is_refused() {
    let before = inserts(&[Order::new(1, 1, "sent")]);
    let json = r#"{"rules":[{"columns":"other.*.x","action":"null"}]}"#;
    let after = mask(json).apply(before.clone()).unwrap();
    assert_eq!(after.tables[0].rows, before.tables[0].rows);
    let json = r#"{"rules":[{"columns":"shop.orders.id","action":"drop"}]}"#;
    let error = mask(json).apply(before).unwrap_err();
    assert!(matches!(error.end, GuestEnd::Error(Answer::Config(_))), "{error}");
    assert_eq!(error.function, "plan");
}
