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
use tidemill_sink::{Effects, EmbeddedStore, Op, OutputChange, OutputRows, StoreError, Value};

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
    Effects { state: vec![], output: vec![OutputChange::Rows(output)] }
}

fn truncate(table: &str) -> OutputChange {
    OutputChange::Truncate { table: table.into() }
}

fn rename(table: &str, to: &str) -> OutputChange {
    OutputChange::Rename { table: table.into(), to: to.into() }
}

/// The rows of a test's only output.
fn only(effects: &mut Effects) -> &mut OutputRows {
    let OutputChange::Rows(rows) = &mut effects.output[0] else { panic!("not rows") };
    rows
}

/// One after the other, in one delivery.
fn together(all: impl IntoIterator<Item = Effects>) -> Effects {
    Effects { state: vec![], output: all.into_iter().flat_map(|effects| effects.output).collect() }
}

fn alone(change: OutputChange) -> Effects {
    Effects { state: vec![], output: vec![change] }
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
    store.commit("one", &checkpoint(1), &alone(OutputChange::Rows(output))).unwrap();
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
fn a_truncated_table_has_what_is_appended_behind_it_whenever_it_is_delivered() {
    let dir = tempdir().unwrap();
    let store = EmbeddedStore::open(&dir.path().join("store.redb")).unwrap();
    let insert = |id, name| rows(&[0], &[id], &[Some(name)], &[Op::Insert]);
    let mut neighbour = insert(1, "b");
    only(&mut neighbour).table = "people2".into();
    store.commit("two", &checkpoint(1), &insert(1, "other")).unwrap();
    store.commit("one", &checkpoint(1), &together([insert(1, "a"), insert(2, "b"), neighbour])).unwrap();
    let again = together([insert(3, "gone"), alone(truncate("people")), insert(2, "c"), insert(4, "d")]);
    // A crash behind the commit brings the same delivery again.
    for _ in 0..2 {
        store.commit("one", &checkpoint(2), &again).unwrap();
        assert_eq!(json(&store, "one"), [r#"{"id":2,"name":"c"}"#, r#"{"id":4,"name":"d"}"#]);
    }
    let emptied = together([alone(truncate("people")), alone(truncate("never was"))]);
    store.commit("one", &checkpoint(3), &emptied).unwrap();
    assert_eq!(json(&store, "one"), Vec::<String>::new());
    assert_eq!(store.tables("one").unwrap(), ["people", "people2"], "the table is there, without a row");
    assert_eq!(store.rows("one", "people2").unwrap().count(), 1);
    assert_eq!(json(&store, "two").len(), 1);
}

#[test]
fn a_table_without_rows_takes_other_columns_and_another_key() {
    let dir = tempdir().unwrap();
    let store = EmbeddedStore::open(&dir.path().join("store.redb")).unwrap();
    let other = |key: &[u32], ids: &[i64]| {
        let ids: ArrayRef = Arc::new(Int64Array::from(ids.to_vec()));
        let columns = RecordBatch::try_from_iter_with_nullable([("number", ids, true)]).unwrap();
        let ops = vec![Op::Insert as u8; columns.num_rows()];
        alone(OutputChange::Rows(OutputRows { table: "people".into(), key: key.into(), columns, ops }))
    };
    store.commit("one", &checkpoint(1), &rows(&[0], &[1], &[None], &[Op::Insert])).unwrap();
    let error = store.commit("one", &checkpoint(2), &other(&[0], &[7])).unwrap_err();
    assert!(error.to_string().contains("it is there with other columns or another key"), "{error}");
    store.commit("one", &checkpoint(2), &together([alone(truncate("people")), other(&[0], &[7])])).unwrap();
    assert_eq!(json(&store, "one"), [r#"{"number":7}"#]);
    store.commit("one", &checkpoint(3), &alone(truncate("people"))).unwrap();
    store.commit("one", &checkpoint(4), &other(&[], &[8, 8])).unwrap();
    assert_eq!(json(&store, "one"), [r#"{"number":8}"#; 2]);
}

#[test]
fn a_renamed_table_takes_its_rows_along_and_whatever_had_the_name_is_gone() {
    let dir = tempdir().unwrap();
    let store = EmbeddedStore::open(&dir.path().join("store.redb")).unwrap();
    let in_table = |table: &str, key: &[u32], ids: &[i64]| {
        let mut effects = rows(key, ids, &vec![None; ids.len()], &vec![Op::Insert; ids.len()]);
        only(&mut effects).table = table.into();
        effects
    };
    let ids = |table: &str| -> Vec<i64> {
        let rows = store.rows("one", table).unwrap().map(|row| match row.unwrap().get("id") {
            Some(Value::Int(id)) => *id,
            other => panic!("{other:?}"),
        });
        rows.collect()
    };
    // More than is held in memory at once.
    let many: Vec<i64> = (0..40_000).collect();
    let filled = together([in_table("new", &[0], &many), in_table("people", &[1, 0], &[-1, -2])]);
    store.commit("one", &checkpoint(1), &filled).unwrap();
    // As tools change a table: the old one out of the way, the new one in its place.
    let swapped = [rename("people", "old"), rename("new", "people"), rename("people", "people")];
    let swapped = together(swapped.map(alone).into_iter().chain([in_table("people", &[0], &[40_000])]));
    store.commit("one", &checkpoint(2), &swapped).unwrap();
    assert_eq!((ids("people"), ids("old")), ((0..40_001).collect(), vec![-2, -1]));
    assert_eq!(store.tables("one").unwrap(), ["old", "people"]);
    let view = store.view("one").unwrap();
    assert_eq!(view.schema("old").unwrap().unwrap().key(), [1, 0]);
    // A table that is not there has no rows to give.
    store.commit("one", &checkpoint(3), &alone(rename("new", "old"))).unwrap();
    assert_eq!((ids("old"), store.tables("one").unwrap()), (vec![], vec!["people".to_owned()]));
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
    only(&mut no_op).ops = vec![4];
    let mut odd = rows(&[0], &[1], &[None], &[Op::Insert]);
    *only(&mut odd) = OutputRows { table: "odd".into(), key: vec![], columns: strange, ops: vec![0] };
    let mut unkeyed = rows(&[], &[1], &[None], &[Op::Delete]);
    only(&mut unkeyed).table = "log".into();
    let cases = [
        (rows(&[1], &[1], &[None], &[Op::Insert]), "it is there with other columns or another key"),
        (rows(&[2], &[1], &[None], &[Op::Insert]), "its key names column 2, it has 2"),
        (rows(&[0], &[1], &[None], &[Op::Insert, Op::Insert]), "it has not one op a row"),
        (no_op, "there is no op 4"),
        (odd, "column \"d\" has type Dictionary"),
        (unkeyed, "it has no key, so nothing in it can be deleted"),
    ];
    for (mut effects, why) in cases {
        if !why.starts_with("it is there") {
            effects.output.insert(0, truncate("people"));
        }
        effects.state.push((b"a".to_vec(), Some(b"1".to_vec())));
        let error = store.commit("one", &checkpoint(2), &effects).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
        assert_eq!(error.remedy(), Remedy::Fix);
        assert_eq!(store.checkpoint("one").unwrap(), Some(checkpoint(1)), "{why}");
        assert_eq!(store.state_get("one", b"a").unwrap(), None);
        assert_eq!(json(&store, "one"), [r#"{"id":1,"name":null}"#], "{why}");
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

/// Runs that test in a process of its own, which is killed behind so many acknowledgements; the last of them.
fn killed(test: &str, path: &Path, acknowledged: usize) -> u64 {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture"]).env(CHILD, path).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut acks = lines.filter_map(|line| line.strip_prefix("ack ").map(|n| n.parse::<u64>().unwrap()));
    let last = acks.nth(acknowledged - 1).unwrap();
    child.kill().unwrap();
    let last = acks.last().unwrap_or(last);
    child.wait().unwrap();
    last
}

/// B36's shape: whatever the moment of death, effects and checkpoint are equal, and nothing acknowledged is lost.
#[test]
fn a_killed_process_leaves_effects_and_checkpoint_equal() {
    if let Some(path) = std::env::var_os(CHILD) {
        count_for_ever(Path::new(&path));
    }
    let dir = tempdir().unwrap();
    let path = dir.path().join("store.redb");
    for round in 0..20 {
        let name = "a_killed_process_leaves_effects_and_checkpoint_equal";
        let total = killed(name, &path, 1 + round * 7 % 13);
        let store = EmbeddedStore::open(&path).unwrap();
        let count = counter(&store);
        assert!(count == total || count == total + 1, "{count} after {total} was acknowledged");
        assert_eq!(store.checkpoint("audit").unwrap(), Some(checkpoint(count)));
        let all = json(&store, "audit");
        assert_eq!(all[0], format!(r#"{{"id":1,"name":"{count}"}}"#));
        assert_eq!(all.len() as u64, count);
    }
}

/// Truncates for ever: the table has the rows of one commit, as many as its number says, up to a hundred.
fn truncate_for_ever(path: &Path) {
    let store = EmbeddedStore::open(path).unwrap();
    loop {
        let next = counter(&store) + 1;
        let ids: Vec<i64> = (0..=next as i64 % 100).collect();
        let name = next.to_string();
        let names = vec![Some(name.as_str()); ids.len()];
        let filled = rows(&[0], &ids, &names, &vec![Op::Insert; ids.len()]);
        let mut effects = together([alone(truncate("people")), filled]);
        effects.state.push((b"counter".to_vec(), Some(next.to_be_bytes().to_vec())));
        store.commit("audit", &checkpoint(next), &effects).unwrap();
        println!("ack {next}");
    }
}

#[test]
fn a_killed_process_leaves_a_table_before_or_behind_its_truncation() {
    if let Some(path) = std::env::var_os(CHILD) {
        truncate_for_ever(Path::new(&path));
    }
    let dir = tempdir().unwrap();
    let path = dir.path().join("store.redb");
    for round in 0..10 {
        killed("a_killed_process_leaves_a_table_before_or_behind_its_truncation", &path, 1 + round * 7 % 13);
        let store = EmbeddedStore::open(&path).unwrap();
        let count = counter(&store);
        assert_eq!(store.checkpoint("audit").unwrap(), Some(checkpoint(count)));
        let expected = (0..=count % 100).map(|id| format!(r#"{{"id":{id},"name":"{count}"}}"#));
        assert_eq!(json(&store, "audit"), expected.collect::<Vec<_>>());
    }
}
