#![allow(clippy::unwrap_used, reason = "tests")]

use object_store::memory::InMemory;
use tidemill_event::{ColumnSchema, Position, Scn, Sensitivity, TableName, TableSchema};

use super::*;
use crate::{ColumnType, Mark, ObjectRef, StoredSchema, TableKey, TablePhase};

fn at(scn: u64) -> Position {
    Position { timeline: 1, scn: Scn(scn) }
}

fn file(directory: &str, number: u32, crc32c: u32) -> BaseFile {
    BaseFile {
        object: ObjectRef { path: format!("{directory}/part-{number:05}-a1.parquet"), bytes: 100, crc32c },
        rows: 10,
        first_key: format!("0200000000000000{number:02}"),
        last_key: format!("02000000000000ff{number:02}"),
        schema: "s".to_owned(),
        at: at(0),
    }
}

fn base(scn: u64, id: &str, checksums: &[u32]) -> BaseVersion {
    let path = format!("shop.orders/snap-{scn:020}-{id}");
    let files = (0..).zip(checksums).map(|(number, crc)| file(&path, number, *crc)).collect();
    BaseVersion { path: Some(path), at: at(scn), files }
}

/// The column types in `types`, each a column of its own, behind the key.
fn table(types: &[&str], base: BaseVersion) -> TableState {
    let column = |(name, data_type): (String, &str)| ColumnSchema {
        name,
        data_type: ColumnType::try_from(data_type.to_owned()).unwrap().0,
        source_type: format!("source's {data_type}"),
        nullable: true,
        sensitivity: Sensitivity::Unmarked,
    };
    let columns = types.iter().map(|t| (format!("c_{t}"), *t));
    let columns = [("id".to_owned(), "int64")].into_iter().chain(columns).map(column).collect();
    let name = TableName::new("shop", "orders");
    TableState {
        id: 1,
        name: name.clone(),
        phase: TablePhase::Ready,
        schema: StoredSchema::new(&TableSchema::new(name, columns, vec![0]), 1),
        key: TableKey::Columns { fields: vec![1] },
        policy: String::new(),
        base: Some(base),
        older: vec![],
        runs: vec![],
        merged_runs: vec![],
        deltas_since: at(0),
        next_field: 100,
    }
}

fn manifest(number: u64, scn: u64) -> Manifest {
    let applied = Mark { position: at(scn), executed: "u:1-7".to_owned(), time_us: 0 };
    Manifest {
        format: 1,
        number,
        commit_id: String::new(),
        epoch: 1,
        writer: String::new(),
        time_us: 1_000_000 * number as i64,
        source: "shop".to_owned(),
        timelines: vec!["the-server".to_owned()],
        logged: applied.clone(),
        applied,
        log: vec![],
        next_table: 2,
        tables: BTreeMap::new(),
        dropped: vec![],
    }
}

fn log() -> DeltaLog {
    DeltaLog::new(Arc::new(InMemory::new()), &Path::from("shop/shop.orders"))
}

async fn lines(log: &DeltaLog, version: u64) -> Vec<Action> {
    let bytes = log.objects.get(&log.path(version, COMMIT)).await.unwrap().bytes().await.unwrap();
    bytes
        .split(|b| *b == b'\n')
        .filter(|l| !l.is_empty())
        .map(|l| serde_json::from_slice(l).unwrap())
        .collect()
}

/// The paths that a version removes and adds, with whether their rows changed.
async fn files(log: &DeltaLog, version: u64) -> (Vec<(String, bool)>, Vec<(String, bool)>) {
    let (mut removed, mut added) = (vec![], vec![]);
    for line in lines(log, version).await {
        match line {
            Action::Remove(file) => removed.push((file.path, file.data_change)),
            Action::Add(file) => added.push((file.path, file.data_change)),
            _ => {}
        }
    }
    (removed, added)
}

fn names(id: &str, files: &[(u32, bool)]) -> Vec<(String, bool)> {
    files.iter().map(|(n, changed)| (format!("snap-{id}/part-{n:05}-a1.parquet"), *changed)).collect()
}

#[tokio::test]
async fn a_base_is_one_commit_that_replaces_the_one_before() {
    let log = log();
    let first = table(&[], base(5, "x", &[1, 2]));
    assert_eq!(log.publish(&manifest(1, 5), &first).await.unwrap(), Some(0));
    let second = table(&[], base(9, "y", &[1, 3, 4]));
    assert_eq!(log.publish(&manifest(2, 9), &second).await.unwrap(), Some(1));
    let (x, y) = ("00000000000000000005-x", "00000000000000000009-y");
    assert_eq!(files(&log, 0).await, (vec![], names(x, &[(0, true), (1, true)])));
    // The first file was only linked: its rows did not change.
    let expected = (names(x, &[(0, false), (1, true)]), names(y, &[(0, false), (1, true), (2, true)]));
    assert_eq!(files(&log, 1).await, expected);
    let metadata = |lines: Vec<Action>| {
        lines.into_iter().find_map(|line| match line {
            Action::MetaData(metadata) => Some((metadata.id, metadata.created_time)),
            _ => None,
        })
    };
    let (old, new) = (metadata(lines(&log, 0).await), metadata(lines(&log, 1).await));
    assert!(old.is_some() && old == new, "it stays the same table");
}

#[tokio::test]
async fn what_is_published_already_is_not_published_again() {
    let log = log();
    let first = table(&[], base(5, "x", &[1]));
    log.publish(&manifest(1, 5), &first).await.unwrap();
    // The next start does it again, with a later manifest that has the same base.
    assert_eq!(log.publish(&manifest(7, 20), &first).await.unwrap(), None);
    assert_eq!(log.last().await.unwrap().unwrap().version, 0);
}

#[tokio::test]
async fn a_writer_that_was_overtaken_publishes_nothing_older() {
    let log = log();
    log.publish(&manifest(3, 9), &table(&[], base(9, "y", &[2]))).await.unwrap();
    assert_eq!(log.publish(&manifest(2, 5), &table(&[], base(5, "x", &[1]))).await.unwrap(), None);
    assert_eq!(files(&log, 0).await.1, names("00000000000000000009-y", &[(0, true)]));
}

#[tokio::test]
async fn of_two_writers_at_once_both_are_in_the_log_in_order() {
    for _ in 0..20 {
        let log = log();
        let (old, new) = (table(&[], base(5, "x", &[1])), table(&[], base(9, "y", &[2])));
        let (one, other) = (manifest(1, 5), manifest(2, 9));
        let (older, newer) = tokio::join!(log.publish(&one, &old), log.publish(&other, &new));
        let last = newer.unwrap().expect("the newer one always has a place");
        assert_eq!(last, u64::from(older.unwrap().is_some()));
        assert_eq!(files(&log, last).await.1, names("00000000000000000009-y", &[(0, true)]));
    }
}

#[tokio::test]
async fn a_table_without_rows_has_no_files() {
    let log = log();
    log.publish(&manifest(1, 5), &table(&[], base(5, "x", &[1]))).await.unwrap();
    log.publish(&manifest(2, 6), &table(&[], base(6, "y", &[]))).await.unwrap();
    assert_eq!(files(&log, 1).await, (names("00000000000000000005-x", &[(0, true)]), vec![]));
}

#[tokio::test]
async fn a_base_that_is_not_published_is_in_no_log() {
    let log = log();
    let unpublished = BaseVersion { path: None, ..base(5, "x", &[1]) };
    assert_eq!(log.publish(&manifest(1, 5), &table(&[], unpublished)).await.unwrap(), None);
    assert!(log.last().await.unwrap().is_none());
}

#[tokio::test]
async fn a_log_that_others_wrote_is_refused_with_what_to_do() {
    let log = log();
    log.objects.put(&log.path(0, COMMIT), "{\"domainMetadata\":{}}\n".into()).await.unwrap();
    let error = log.publish(&manifest(1, 5), &table(&[], base(5, "x", &[1]))).await.unwrap_err();
    assert_eq!(error.remedy(), Remedy::Fix);
    assert!(
        error
            .to_string()
            .contains("shop/shop.orders/_delta_log is not as it was written; delete that directory"),
        "{error}"
    );
}

async fn versions(log: &DeltaLog, kind: &str) -> Vec<u64> {
    let mut all: Vec<_> =
        log.list().await.unwrap().into_iter().filter(|(_, k)| k == kind).map(|(v, _)| v).collect();
    all.sort_unstable();
    all
}

#[tokio::test]
async fn every_twentieth_version_is_a_checkpoint_and_what_nobody_can_read_goes() {
    let log = log();
    for number in 0..=65 {
        let state = table(&[], base(5 + number, "x", &[number as u32, 7]));
        assert_eq!(log.publish(&manifest(1 + number, 5), &state).await.unwrap(), Some(number));
    }
    assert_eq!(versions(&log, CHECKPOINT).await, [40, 60]);
    assert_eq!(versions(&log, COMMIT).await, (40..=65).collect::<Vec<_>>());
    let hint = log.objects.get(&log.directory.clone().join("_last_checkpoint")).await.unwrap();
    let hint: serde_json::Value = serde_json::from_slice(&hint.bytes().await.unwrap()).unwrap();
    assert_eq!(hint, json!({ "version": 60, "size": 5 }));
}

#[tokio::test]
async fn versions_whose_files_are_kept_stay_in_the_log() {
    let log = log();
    for number in 0..=80 {
        let mut state = table(&[], base(5 + number, "x", &[1]));
        state.older = (0..number.min(55)).map(|n| format!("older {n}")).collect();
        log.publish(&manifest(1 + number, 5), &state).await.unwrap();
    }
    assert_eq!(versions(&log, COMMIT).await.first(), Some(&20), "25 is the oldest that is kept");
}

#[tokio::test]
async fn a_checkpoint_has_what_its_commit_has() {
    use arrow_array::cast::AsArray;
    use arrow_array::{Array, StructArray};
    let state = table(&["datetime"], base(5, "x", &[1, 2]));
    let commit = commit(&manifest(1, 5), &state, state.base.as_ref().unwrap(), "shop.orders", None);
    let (file, size) = checkpoint::encode(&commit);
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(file, 100).unwrap();
    let batches: Vec<_> = reader.map(Result::unwrap).collect();
    let [batch] = batches.as_slice() else { panic!("one batch") };
    let column = |name: &str| batch.column_by_name(name).unwrap().as_struct();
    let counts =
        ["txn", "add", "metaData", "protocol"].map(|name| column(name).len() - column(name).null_count());
    assert_eq!((size, counts), (5, [1, 2, 1, 1]));
    let text = |of: &StructArray, name: &str| {
        let texts = of.column_by_name(name).unwrap().as_string::<i32>();
        texts.iter().flatten().map(str::to_owned).collect::<Vec<_>>()
    };
    let adds: Vec<&Add> =
        commit.iter().filter_map(|a| if let Action::Add(a) = a { Some(a) } else { None }).collect();
    assert_eq!(text(column("add"), "path"), adds.iter().map(|a| a.path.clone()).collect::<Vec<_>>());
    assert_eq!(text(column("add"), "stats"), adds.iter().map(|a| a.stats.clone()).collect::<Vec<_>>());
    assert_eq!(text(column("metaData"), "schemaString"), [columns::schema_string(&state.schema)]);
}

/// A commit is read by other programs, so its text is kept: `BLESS=1` writes it anew.
#[tokio::test]
async fn the_text_of_a_commit_is_golden() {
    let types = [
        "bool",
        "int8",
        "int16",
        "int32",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "float32",
        "float64",
        "text",
        "bytes",
        "date",
        "datetime",
        "timestamp",
        "time",
        "decimal(10,2)",
        "decimal(65,30)",
    ];
    let log = log();
    log.publish(&manifest(1, 5), &table(&types, base(5, "x", &[1]))).await.unwrap();
    log.publish(&manifest(2, 9), &table(&types, base(9, "y", &[1, 0xabc]))).await.unwrap();
    let bytes = log.objects.get(&log.path(1, COMMIT)).await.unwrap().bytes().await.unwrap();
    let id = log.last().await.unwrap().unwrap().metadata.unwrap().id;
    assert_eq!(id.len(), 36, "{id}");
    let text = String::from_utf8(bytes.to_vec()).unwrap().replace(&id, "ID");
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/delta-commit.json");
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(std::path::Path::new(golden).parent().unwrap()).unwrap();
        std::fs::write(golden, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(golden).unwrap());
}
