//! A delivery's effects and its checkpoint are there together or not at all.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Decimal256Array, DictionaryArray,
    DurationMicrosecondArray, Float32Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, UInt8Array, UInt64Array,
};
use arrow_buffer::i256;
use redb::{ReadableDatabase, TableDefinition};
use tempfile::tempdir;
use tidemill_event::{Checkpoint, Cursor, Phase, Position, Remedy, Scn};
use tidemill_sink::{Effects, EmbeddedStore, Op, OutputRows, StoreError, Value};

fn checkpoint(scn: u64) -> Checkpoint {
    Checkpoint {
        source: "shop".into(),
        server: "3e11fa47-71ca-11e1-9e33-c80aa9429562".into(),
        position: Position { timeline: 1, scn: Scn(scn) },
        gtid_set: format!("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-{scn}"),
        phase: Phase::Stream,
    }
}

fn batch(ids: &[i64], names: &[Option<&str>]) -> RecordBatch {
    let columns: [(&str, ArrayRef); 2] = [
        ("id", Arc::new(Int64Array::from(ids.to_vec()))),
        ("name", Arc::new(StringArray::from(names.to_vec()))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(n, c)| (n, c, true))).unwrap()
}

fn rows(key: &[u32], ids: &[i64], names: &[Option<&str>], ops: &[Op]) -> Effects {
    let ops = ops.iter().map(|op| *op as u8).collect();
    let output = OutputRows { table: "people".into(), key: key.into(), columns: batch(ids, names), ops };
    Effects { state: vec![], output: vec![output] }
}

fn json(store: &EmbeddedStore, subscription: &str) -> Vec<String> {
    store.rows(subscription, "people").unwrap().map(|row| row.unwrap().to_json()).collect()
}

#[test]
fn a_checkpoint_is_the_last_one_committed_also_after_a_restart() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("data/store.redb");
    let store = EmbeddedStore::open(&path).unwrap();
    assert_eq!(store.checkpoint("audit").unwrap(), None);
    for scn in [7, 9] {
        store.commit("audit", &checkpoint(scn), &Effects::default()).unwrap();
    }
    store.commit("other", &checkpoint(3), &Effects::default()).unwrap();
    drop(store);
    let store = EmbeddedStore::open(&path).unwrap();
    assert_eq!(store.checkpoint("audit").unwrap(), Some(checkpoint(9)));
    assert_eq!(store.subscriptions().unwrap(), ["audit", "other"]);
}

#[test]
fn a_view_shows_one_moment_whatever_is_committed_meanwhile() {
    let dir = tempdir().unwrap();
    let store = EmbeddedStore::open(&dir.path().join("store.redb")).unwrap();
    let some = |names: [Option<&str>; 2], op| rows(&[0], &[1, 2], &names, &[Op::Insert, op]);
    store.commit("one", &checkpoint(1), &some([Some("a"), None], Op::Insert)).unwrap();
    let view = store.view("one").unwrap();
    store.commit("one", &checkpoint(2), &some([Some("b"), None], Op::Delete)).unwrap();
    store.commit("other", &checkpoint(9), &some([Some("z"), Some("z")], Op::Insert)).unwrap();
    assert_eq!(view.checkpoint().unwrap(), Some(checkpoint(1)));
    assert_eq!(view.tables().unwrap(), ["people"]);
    for _ in 0..2 {
        let shown: Vec<String> = view.rows("people").unwrap().map(|row| row.unwrap().to_json()).collect();
        assert_eq!(shown, [r#"{"id":1,"name":"a"}"#, r#"{"id":2,"name":null}"#]);
    }
    assert_eq!(json(&store, "one"), [r#"{"id":1,"name":"b"}"#]);
}

#[test]
fn rows_come_back_as_the_columns_that_were_written() {
    let dir = tempdir().unwrap();
    let store = EmbeddedStore::open(&dir.path().join("store.redb")).unwrap();
    let utc = |values: Vec<Option<i64>>| TimestampMicrosecondArray::from(values).with_timezone("UTC");
    let digits =
        |values: Vec<Option<i128>>| Decimal128Array::from(values).with_precision_and_scale(20, 3).unwrap();
    let wide = Decimal256Array::from(vec![Some(i256::MAX), None, Some(i256::MINUS_ONE)]);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int32Array::from(vec![-1, 0, 1]))),
        ("bool", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
        ("int", Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(i64::MAX)]))),
        ("uint", Arc::new(UInt64Array::from(vec![Some(u64::MAX), None, Some(0)]))),
        ("byte", Arc::new(UInt8Array::from(vec![Some(255), None, Some(0)]))),
        ("real", Arc::new(Float32Array::from(vec![Some(0.1), None, Some(f32::MIN)]))),
        ("double", Arc::new(Float64Array::from(vec![Some(-0.0), None, Some(f64::MAX)]))),
        ("decimal", Arc::new(digits(vec![Some(-12_345), None, Some(1)]))),
        ("wide", Arc::new(wide.with_precision_and_scale(76, 2).unwrap())),
        ("text", Arc::new(StringArray::from(vec![Some("ü"), None, Some("")]))),
        ("bytes", Arc::new(BinaryArray::from(vec![Some(&b"\0\xff"[..]), None, Some(b"")]))),
        ("date", Arc::new(Date32Array::from(vec![Some(-1), None, Some(20_000)]))),
        ("at", Arc::new(TimestampMicrosecondArray::from(vec![Some(-1), None, Some(1)]))),
        ("made", Arc::new(utc(vec![Some(-1), None, Some(1)]))),
        ("took", Arc::new(DurationMicrosecondArray::from(vec![Some(-1), None, Some(1)]))),
    ];
    let written = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true)));
    let written = written.unwrap();
    let ops = vec![Op::Insert as u8; 3];
    let output = OutputRows { table: "all".into(), key: vec![0], columns: written.clone(), ops };
    store.commit("one", &checkpoint(1), &Effects { state: vec![], output: vec![output] }).unwrap();
    let mut rows = store.rows("one", "all").unwrap();
    let mut read = vec![];
    while let Some(batch) = rows.next_batch(2).unwrap() {
        read.push(batch);
    }
    assert_eq!(read.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [2, 1]);
    for ordinal in 0..written.num_columns() {
        let column = written.column(ordinal);
        assert_eq!(read[0].column(ordinal), &column.slice(0, 2));
        assert_eq!(read[1].column(ordinal), &column.slice(2, 1));
    }
    assert!(store.rows("one", "none").unwrap().next_batch(2).unwrap().is_none());
}

#[test]
fn state_is_each_subscriptions_own() {
    let dir = tempdir().unwrap();
    let store = EmbeddedStore::open(&dir.path().join("store.redb")).unwrap();
    let set =
        |key: &str, value: Option<&str>| (key.as_bytes().to_vec(), value.map(|v| v.as_bytes().to_vec()));
    let state = vec![set("a", Some("1")), set("b/1", Some("x")), set("b/2", Some("y")), set("c", Some("2"))];
    store.commit("one", &checkpoint(1), &Effects { state, output: vec![] }).unwrap();
    let state = vec![set("a", Some("other")), set("b/9", Some("z"))];
    store.commit("two", &checkpoint(1), &Effects { state, output: vec![] }).unwrap();
    let state = vec![set("c", None), set("a", Some("3")), set("a", Some("4")), set("missing", None)];
    store.commit("one", &checkpoint(2), &Effects { state, output: vec![] }).unwrap();
    let get = |key: &str| store.state_get("one", key.as_bytes()).unwrap();
    assert_eq!((get("a"), get("c"), get("missing")), (Some(b"4".to_vec()), None, None));
    let pairs = [("b/1", "x"), ("b/2", "y")].map(|(k, v)| (k.as_bytes().to_vec(), v.as_bytes().to_vec()));
    assert_eq!(store.state_scan("one", b"b/").unwrap(), pairs);
}

#[test]
fn output_rows_follow_their_ops_in_key_order() {
    use Op::{Delete, Insert, Snapshot, Update};
    let dir = tempdir().unwrap();
    let store = EmbeddedStore::open(&dir.path().join("store.redb")).unwrap();
    let first =
        rows(&[0], &[20, -3, 7], &[Some("zwei\n\"q\""), None, Some("x")], &[Insert, Snapshot, Insert]);
    store.commit("one", &checkpoint(1), &first).unwrap();
    store.commit("two", &checkpoint(1), &rows(&[0], &[1], &[None], &[Insert])).unwrap();
    let second =
        rows(&[0], &[7, -3, 8, 8], &[None, Some("da"), Some("n"), None], &[Delete, Update, Insert, Delete]);
    store.commit("one", &checkpoint(2), &second).unwrap();
    assert_eq!(json(&store, "one"), [r#"{"id":-3,"name":"da"}"#, r#"{"id":20,"name":"zwei\n\"q\""}"#]);
    assert_eq!(json(&store, "two"), [r#"{"id":1,"name":null}"#]);
    assert_eq!(store.tables("one").unwrap(), ["people"]);
    assert_eq!(store.rows("one", "nothing").unwrap().count(), 0);
    let row = store.rows("one", "people").unwrap().next().unwrap().unwrap();
    assert_eq!((row.get("id"), row.get("none")), (Some(&Value::Int(-3)), None));
}

#[test]
fn a_table_without_key_keeps_every_row_of_every_piece_of_a_snapshot() {
    let dir = tempdir().unwrap();
    let store = EmbeddedStore::open(&dir.path().join("store.redb")).unwrap();
    let at = |table: &str, after: u8| {
        let cursor = Cursor { version: 3, table: table.into(), after: vec![after] };
        Checkpoint { phase: Phase::Snapshot(cursor), ..checkpoint(7) }
    };
    for (id, place) in (0..).zip([at("shop.a", 1), at("shop.a", 2), at("shop.b", 1), checkpoint(7)]) {
        store.commit("audit", &place, &rows(&[], &[id], &[None], &[Op::Insert])).unwrap();
    }
    assert_eq!(json(&store, "audit").len(), 4);
}

#[test]
fn a_table_without_key_keeps_every_row() {
    let dir = tempdir().unwrap();
    let store = EmbeddedStore::open(&dir.path().join("store.redb")).unwrap();
    for scn in 1..=2 {
        let mut effects = rows(&[], &[5, 5], &[None, None], &[Op::Insert, Op::Insert]);
        effects.output.push(effects.output[0].clone());
        store.commit("one", &checkpoint(scn), &effects).unwrap();
    }
    assert_eq!(json(&store, "one").len(), 8);
}

#[test]
fn what_does_not_fit_is_refused_whole() {
    let dir = tempdir().unwrap();
    let store = EmbeddedStore::open(&dir.path().join("store.redb")).unwrap();
    store.commit("one", &checkpoint(1), &rows(&[0], &[1], &[None], &[Op::Insert])).unwrap();
    let strange: DictionaryArray<Int32Type> = ["a"].into_iter().collect();
    let strange = RecordBatch::try_from_iter([("d", Arc::new(strange) as ArrayRef)]).unwrap();
    let mut no_op = rows(&[0], &[1], &[None], &[Op::Insert]);
    no_op.output[0].ops = vec![4];
    let mut odd = rows(&[0], &[1], &[None], &[Op::Insert]);
    odd.output[0] = OutputRows { table: "odd".into(), key: vec![], columns: strange, ops: vec![0] };
    let mut unkeyed = rows(&[], &[1], &[None], &[Op::Delete]);
    unkeyed.output[0].table = "log".into();
    let cases = [
        (rows(&[1], &[1], &[None], &[Op::Insert]), "it is there with other columns or another key"),
        (rows(&[2], &[1], &[None], &[Op::Insert]), "its key names column 2, it has 2"),
        (rows(&[0], &[1], &[None], &[Op::Insert, Op::Insert]), "it has not one op a row"),
        (no_op, "there is no op 4"),
        (odd, "column \"d\" has type Dictionary"),
        (unkeyed, "it has no key, so nothing in it can be deleted"),
    ];
    for (mut effects, why) in cases {
        effects.state.push((b"a".to_vec(), Some(b"1".to_vec())));
        let error = store.commit("one", &checkpoint(2), &effects).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
        assert_eq!(error.remedy(), Remedy::Fix);
        assert_eq!(store.checkpoint("one").unwrap(), Some(checkpoint(1)), "{why}");
        assert_eq!(store.state_get("one", b"a").unwrap(), None);
    }
}

#[test]
fn a_store_has_one_process() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let store = EmbeddedStore::open(&path).unwrap();
    let error = EmbeddedStore::open(&path).unwrap_err();
    assert!(error.to_string().contains("another process has it"), "{error}");
    drop(store);
    EmbeddedStore::open(&path).unwrap();
}

/// B35: a damaged or truncated record is reported and never taken for "none".
#[test]
fn every_flipped_byte_and_every_truncation_of_a_stored_checkpoint_is_reported() {
    const RECORDS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("checkpoint");
    let dir = tempdir().unwrap();
    let path = dir.path().join("store.redb");
    EmbeddedStore::open(&path).unwrap().commit("audit", &checkpoint(5), &Effects::default()).unwrap();
    let database = redb::Database::open(&path).unwrap();
    let table = database.begin_read().unwrap().open_table(RECORDS).unwrap();
    let record = table.get("audit").unwrap().unwrap().value().to_vec();
    let mut damaged: Vec<Vec<u8>> = (0..record.len()).map(|n| record[..n].to_vec()).collect();
    for at in 0..record.len() {
        let mut flipped = record.clone();
        flipped[at] ^= 0x10;
        damaged.push(flipped);
    }
    let write = database.begin_write().unwrap();
    for (i, record) in damaged.iter().enumerate() {
        write.open_table(RECORDS).unwrap().insert(&*format!("{i}"), &record[..]).unwrap();
    }
    write.commit().unwrap();
    drop((table, database));
    let store = EmbeddedStore::open(&path).unwrap();
    for i in 0..damaged.len() {
        let error = store.checkpoint(&i.to_string()).unwrap_err();
        assert!(matches!(error, StoreError::Checkpoint(_)), "{error}");
    }
    assert_eq!(store.checkpoint("audit").unwrap(), Some(checkpoint(5)));
}

const CHILD: &str = "TIDEMILL_SINK_TEST_CHILD";

/// Counts up for ever: the state, an output row and the checkpoint say the same number.
fn count_for_ever(path: &Path) {
    let store = EmbeddedStore::open(path).unwrap();
    loop {
        let next = counter(&store) + 1;
        let mut effects =
            rows(&[0], &[1, next as i64], &[Some(&next.to_string()), None], &[Op::Update, Op::Insert]);
        effects.state.push((b"counter".to_vec(), Some(next.to_be_bytes().to_vec())));
        store.commit("audit", &checkpoint(next), &effects).unwrap();
        println!("ack {next}");
    }
}

fn counter(store: &EmbeddedStore) -> u64 {
    let bytes = store.state_get("audit", b"counter").unwrap();
    bytes.map_or(1, |bytes| u64::from_be_bytes(bytes.try_into().unwrap()))
}

/// B36's shape: whatever the moment of death, effects and checkpoint are equal, and nothing acknowledged is lost.
#[test]
fn a_killed_process_leaves_effects_and_checkpoint_equal() {
    if let Some(path) = std::env::var_os(CHILD) {
        count_for_ever(Path::new(&path));
    }
    let dir = tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let mut total = 0;
    for round in 0..20 {
        let name = "a_killed_process_leaves_effects_and_checkpoint_equal";
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([name, "--exact", "--nocapture"]).env(CHILD, &path).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut acks = lines.filter_map(|line| line.strip_prefix("ack ").map(|n| n.parse::<u64>().unwrap()));
        for _ in 0..1 + round * 7 % 13 {
            total = acks.next().unwrap();
        }
        child.kill().unwrap();
        total = acks.last().unwrap_or(total);
        child.wait().unwrap();
        let store = EmbeddedStore::open(&path).unwrap();
        let count = counter(&store);
        assert!(count == total || count == total + 1, "{count} after {total} was acknowledged");
        assert_eq!(store.checkpoint("audit").unwrap(), Some(checkpoint(count)));
        let all = json(&store, "audit");
        assert_eq!(all[0], format!(r#"{{"id":1,"name":"{count}"}}"#));
        assert_eq!(all.len() as u64, count);
    }
}
