//! One table as an Arrow stream, read by a plain Arrow reader.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support {
    pub mod shop;
}

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType, UInt32Type, UInt64Type};
use arrow_array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow_buffer::BooleanBuffer;
use arrow_ipc::reader::StreamReader;
use support::shop::*;
use tidemill_event::{Part, TableChanges, Window};
use tidemill_relay::{Asked, Begin, Code, Format, Selection};

fn orders() -> Asked {
    Asked { selection: tables(&["shop.orders"]), ..all(Format::Arrow) }
}

/// The batches of a whole stream, which ends as a stream has to.
fn batches(bytes: &[u8]) -> Vec<RecordBatch> {
    assert!(bytes.ends_with(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]));
    StreamReader::try_new(bytes, None).unwrap().map(Result::unwrap).collect()
}

fn names(bytes: &[u8]) -> Vec<String> {
    let schema = StreamReader::try_new(bytes, None).unwrap().schema();
    schema.fields().iter().map(|field| field.name().clone()).collect()
}

/// Operation, SCN, ordinal and id of each row.
fn rows(batches: &[RecordBatch]) -> Vec<(String, u64, u64, i64)> {
    let of = |batch: &RecordBatch| {
        let text = batch["_op"].as_string::<i32>().clone();
        let (scn, ordinal) = (
            batch["_scn"].as_primitive::<UInt64Type>().clone(),
            batch["_ordinal"].as_primitive::<UInt64Type>().clone(),
        );
        let id = batch["id"].as_primitive::<Int64Type>().clone();
        let row = move |row| (text.value(row).to_owned(), scn.value(row), ordinal.value(row), id.value(row));
        (0..batch.num_rows()).map(row).collect::<Vec<_>>()
    };
    batches.iter().flat_map(of).collect()
}

/// One order with the wider table.
fn wider(after: u64, scn: u64) -> Window {
    let mut window = inserts(after, &[scn]);
    let (schema, narrow) = (wider_orders(), window.tables[0].clone());
    let mut columns: Vec<ArrayRef> = narrow.rows.columns().to_vec();
    columns.push(Arc::new(BooleanArray::from(vec![true])));
    let rows = RecordBatch::try_new(Arc::clone(schema.arrow()), columns).unwrap();
    window.tables = vec![TableChanges { schema, rows, ..narrow }];
    window
}

#[tokio::test]
async fn rows_say_what_they_are_and_where_they_stand() {
    let mut shop = Shop::new();
    shop.append(&window(
        0,
        &[
            Commit(10, vec![(1, Change::Insert(row(7, "part"))), (0, Change::Insert(row(1, "a")))]),
            Commit(20, vec![(0, Change::Update(row(1, "a"), row(1, "b"))), (0, Change::Delete(row(1, "b")))]),
        ],
    ));
    let (bytes, trailer) = whole(open(&answers(), &shop, orders()).await.unwrap()).await;
    let expected =
        ["id", "name", "note", "_op", "_timeline", "_scn", "_ordinal", "_commit_time", "_gtid", "_absent"];
    assert_eq!(names(&bytes), expected);
    let read = batches(&bytes);
    let expected = [("c", 10, 1, 1), ("ub", 20, 0, 1), ("ua", 20, 0, 1), ("d", 20, 1, 1)];
    assert_eq!(rows(&read), expected.map(|(op, scn, ordinal, id)| (op.to_owned(), scn, ordinal, id)));
    assert_eq!(read[0]["_timeline"].as_primitive::<UInt32Type>().values()[..], [1; 4]);
    let times = read[0]["_commit_time"].as_primitive::<TimestampMicrosecondType>();
    assert_eq!((times.value(0), times.timezone()), (time_of(10), Some("UTC")));
    assert_eq!(read[0]["_gtid"].as_string::<i32>().value(3), "server-1:20");
    assert_eq!(checkpoint(&trailer.unwrap()).position, at(1, 20));
}

#[tokio::test]
async fn what_was_not_logged_is_null_and_named() {
    let mut shop = Shop::new();
    let mut window = inserts(0, &[10, 20]);
    window.tables[0].absent = vec![None, None, Some(BooleanBuffer::from(vec![false, true]))];
    shop.append(&window);
    let read = batches(&body(&answers(), &shop, orders()).await);
    let absent = read[0]["_absent"].as_list::<i32>();
    assert_eq!((absent.value(0).len(), absent.value(1).as_string::<i32>().value(0)), (0, "note"));
    assert_eq!((read[0]["note"].is_null(0), read[0]["note"].is_null(1)), (false, true));
}

#[tokio::test]
async fn half_an_update_is_a_delete_or_an_insert() {
    let mut shop = Shop::new();
    shop.append(&window(0, &[Commit(10, vec![(0, Change::Update(row(1, "a"), row(100, "a")))])]));
    let selection = Selection { filters: vec!["big".into()], ..tables(&["shop.orders"]) };
    let read = batches(&body(&answers(), &shop, Asked { selection, ..orders() }).await);
    assert_eq!(rows(&read), [("c".to_owned(), 10, 0, 100)]);
}

#[tokio::test]
async fn another_version_of_the_table_ends_the_stream_and_the_next_one_goes_on() {
    let mut shop = Shop::of(&[&[10, 20]]);
    shop.append(&wider(20, 30));
    let (bytes, trailer) = whole(open(&answers(), &shop, orders()).await.unwrap()).await;
    assert_eq!(rows(&batches(&bytes)).len(), 2);
    let place = checkpoint(&trailer.unwrap());
    assert_eq!(place.position, at(1, 20));
    let next = Asked { begin: Begin::At(Box::new(place)), ..orders() };
    let (bytes, trailer) = whole(open(&answers(), &shop, next).await.unwrap()).await;
    assert!(names(&bytes).contains(&"paid".to_owned()));
    assert_eq!(rows(&batches(&bytes)), [("c".to_owned(), 30, 0, 30)]);
    assert_eq!(checkpoint(&trailer.unwrap()).position, at(1, 30));
}

/// Transactions 10 and 30, of which the second has the wider table, in one window.
fn two_versions() -> Window {
    let (narrow, wide) = (inserts(0, &[10, 20]), wider(20, 30));
    let mut window = inserts(0, &[10, 20, 30]);
    let mut last = wide.tables[0].clone();
    (last.ordinal, last.txn) = (vec![2].into(), vec![2].into());
    window.tables = vec![narrow.tables[0].clone(), last];
    window.validate().unwrap();
    window
}

#[tokio::test]
async fn a_version_that_changes_within_a_window_ends_the_stream_between_two_transactions() {
    let mut shop = Shop::new();
    shop.append(&two_versions());
    let (bytes, trailer) = whole(open(&answers(), &shop, orders()).await.unwrap()).await;
    assert_eq!(rows(&batches(&bytes)).len(), 2);
    let place = checkpoint(&trailer.unwrap());
    assert_eq!((place.position, &*place.gtid_set), (at(1, 20), ""));
    let next = Asked { begin: Begin::At(Box::new(place)), ..orders() };
    assert_eq!(rows(&batches(&body(&answers(), &shop, next).await)), [("c".to_owned(), 30, 0, 30)]);
}

#[tokio::test]
async fn two_versions_within_a_transaction_are_refused() {
    let mut shop = Shop::new();
    let mut window = two_versions();
    window.transactions = inserts(0, &[30]).transactions;
    window.transactions[0].change_count = 3;
    window.tables.iter_mut().for_each(|table| table.txn = vec![0; table.txn.len()].into());
    shop.append(&window);
    let problem = open(&answers(), &shop, orders()).await.err();
    // Rows of the first version come before it is seen.
    assert_eq!(problem.unwrap().code, Code::BadParameter);
}

#[tokio::test]
async fn a_stream_without_rows_has_the_tables_columns() {
    let shop = Shop::of(&[&[10]]);
    let columns = vec![(schema(0).name().clone(), vec!["name".to_owned()])];
    let selection = Selection { columns, ..tables(&["shop.orders"]) };
    let asked = Asked { begin: Begin::Now, selection, ..orders() };
    let (bytes, trailer) = whole(open(&answers(), &shop, asked).await.unwrap()).await;
    assert_eq!(batches(&bytes).len(), 0);
    assert_eq!(names(&bytes)[..3], ["id", "name", "_op"]);
    assert_eq!(checkpoint(&trailer.unwrap()).position, at(1, 10));
}

#[tokio::test]
async fn the_parts_of_a_transaction_flow_and_its_end_is_a_place() {
    let mut shop = Shop::of(&[&[10]]);
    shop.append(&part(inserts(10, &[20]), Part::First, 0));
    shop.append(&part(inserts(10, &[20]), Part::Last, 1));
    let (bytes, trailer) = whole(open(&answers(), &shop, orders()).await.unwrap()).await;
    let expected = [("c", 10, 0, 10), ("c", 20, 0, 20), ("c", 20, 1, 20)];
    assert_eq!(
        rows(&batches(&bytes)),
        expected.map(|(op, scn, ordinal, id)| (op.to_owned(), scn, ordinal, id))
    );
    assert_eq!(checkpoint(&trailer.unwrap()).position, at(1, 20));
}
