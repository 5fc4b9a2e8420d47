//! Manifests and table states are what earlier releases wrote, and read; errors say what, where and how to mend it.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::ObjectStoreExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use support::*;
use tidemill_bootstrap_store::{
    BaseFile, BaseVersion, ChunkDone, CloneProgress, Damaged, Dropped, Fenced, Gone, LogSegment, Lost,
    Manifest, ObjectRef, Run, Store, StoreError, StoredSchema, TableKey, TablePhase, TableRef, TableState,
};
use tidemill_event::{ColumnSchema, Remedy, Sensitivity, TableName, TableSchema};

use arrow_schema::{DataType, TimeUnit};

/// The value's JSON is the golden file's, which reads as the value.
fn check<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(name: &str, value: &T) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let written = serde_json::to_string_pretty(value).unwrap() + "\n";
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &written).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{name}: {e}; BLESS=1 writes it"));
    assert_eq!(
        kept, written,
        "{name} is not what earlier releases wrote; a format change carries its golden file"
    );
    assert_eq!(serde_json::from_str::<T>(&kept).unwrap(), *value);
}

fn object(path: &str) -> ObjectRef {
    ObjectRef { path: path.to_owned(), bytes: 1234, crc32c: 0xdead_beef }
}

fn manifest() -> Manifest {
    let state = object("_meta/table/3/00112233aabbccdd.json");
    Manifest {
        format: 1,
        number: 4711,
        commit_id: "0123456789abcdef".into(),
        epoch: 9,
        writer: "process 7".into(),
        time_us: 1_790_000_000_000_000,
        source: "shop".into(),
        timelines: vec!["3e11fa47-71ca-11e1-9e33-c80aa9429562".into(), "other".into()],
        applied: mark(912_340_000),
        logged: mark(912_345_678),
        log: vec![LogSegment {
            object: object("log/1.seg"),
            after: at(912_340_000),
            upto: at(912_345_678),
            time_us: 1_789_999_999_000_000,
        }],
        tables: BTreeMap::from([("shop.orders".to_owned(), TableRef { id: 3, state })]),
        next_table: 12,
        dropped: vec![Dropped { table: TableName::new("shop", "gone"), at: at(5) }],
    }
}

/// One of each kind of column.
fn columns() -> StoredSchema {
    let types = [
        DataType::Boolean,
        DataType::Int8,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::UInt8,
        DataType::UInt16,
        DataType::UInt32,
        DataType::UInt64,
        DataType::Float32,
        DataType::Float64,
        DataType::Decimal128(10, 2),
        DataType::Decimal256(65, 30),
        DataType::Utf8,
        DataType::Binary,
        DataType::Date32,
        DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        DataType::Duration(TimeUnit::Microsecond),
    ];
    let column = |(n, data_type): (usize, DataType)| ColumnSchema {
        name: format!("c{n}"),
        data_type,
        source_type: "as the source says".into(),
        nullable: n > 0,
        sensitivity: [Sensitivity::Unmarked, Sensitivity::Personal, Sensitivity::Pseudonym][n % 3],
    };
    let columns = types.into_iter().enumerate().map(column).collect();
    StoredSchema::new(&TableSchema::new(TableName::new("shop", "orders"), columns, vec![0]), 1)
}

fn file(path: &str) -> BaseFile {
    let (first_key, last_key) = ("01".to_owned(), "01ff".to_owned());
    BaseFile { object: object(path), rows: 100, first_key, last_key, schema: columns().id, at: at(900) }
}

fn state(phase: TablePhase) -> TableState {
    let run = Run {
        object: object("shop.orders/run/a.parquet"),
        level: 1,
        after: at(900),
        upto: at(950),
        rows: 10,
        deletes: 2,
        time_us: 1_789_999_999_000_000,
        first_key: "01".into(),
        last_key: "01ff".into(),
        schema: StoredSchema { columns: columns().columns[..1].to_vec(), ..columns() },
    };
    let path = "shop.orders/snap-00000000000000000900-0a1b2c3d";
    let files = vec![file(&format!("{path}/part-00000-0a1b2c3d.parquet"))];
    TableState {
        phase,
        policy: "00000000000000ff".into(),
        base: Some(BaseVersion { path: Some(path.to_owned()), at: at(900), files }),
        older: vec!["shop.orders/snap-00000000000000000800-99999999".into()],
        runs: vec![run.clone()],
        merged_runs: vec![run],
        deltas_since: at(700),
        ..TableState::new(
            3,
            TableName::new("shop", "orders"),
            columns(),
            TableKey::Columns { fields: vec![1] },
        )
    }
}

#[test]
fn manifests_and_states_are_those_of_earlier_releases() {
    check("manifest.json", &manifest());
    check("state.json", &state(TablePhase::Ready));
    let chunk = ChunkDone {
        number: 7,
        low: at(890),
        high: at(901),
        files: vec![file("shop.orders/clone/1/chunk-7.parquet")],
    };
    let clone =
        CloneProgress { chunks: vec![chunk], complete: true, plan: serde_json::json!({"bounds": [1, 2]}) };
    let stale = TablePhase::Stale { reason: "its log was lost".into(), since: at(899), clone: Some(clone) };
    check("state-stale.json", &TableState { key: TableKey::WholeRow, base: None, ..state(stale) });
    check("version.json", &state(TablePhase::Ready).base.unwrap());
}

#[test]
fn a_state_of_an_earlier_release_names_the_version_of_its_delta_lake_metadata_and_is_read() {
    let state = state(TablePhase::Ready);
    let mut json = serde_json::to_value(&state).unwrap();
    json["delta_version"] = 4.into();
    assert_eq!(serde_json::from_value::<TableState>(json).unwrap(), state);
}

#[tokio::test]
async fn a_store_of_another_format_source_or_key_encoding_is_refused() {
    let objects = memory();
    let store = Store::new(Arc::clone(&objects), "shop");
    store.open_writer(options("one")).await.unwrap();
    let path = store.path("_meta/source.json");
    let text = objects.get(&path).await.unwrap().bytes().await.unwrap();
    let text = String::from_utf8(text.to_vec()).unwrap();
    assert_eq!(text, r#"{"crc32c":"e514af61","format":1,"source":"shop","key_encoding":1}"#);
    for (now, then, expected) in [
        ("\"format\":1", "\"format\":2", "shop/_meta/source.json has format 2, this release knows 1"),
        ("\"key_encoding\":1", "\"key_encoding\":3", "has key encoding 3, this release knows 1"),
        ("\"source\":\"shop\"", "\"source\":\"warehouse\"", "has source warehouse, this release knows shop"),
    ] {
        let body = text[19..].replace(now, then);
        let sealed = format!("{{\"crc32c\":\"{:08x}{body}", crc32c::crc32c(body.as_bytes()));
        objects.put(&path, sealed.into()).await.unwrap();
        let refused = store.open_writer(options("two")).await.unwrap_err();
        assert_eq!(refused.remedy(), Remedy::Fix);
        assert!(refused.to_string().contains(expected), "{refused}");
    }
}

#[test]
fn errors_say_what_where_and_how_to_mend_it() {
    let source_name = "shop".to_owned();
    let fenced = Fenced { source_name: source_name.clone(), epoch: 3, by: "process 8".into(), by_epoch: 4 };
    let errors: [(String, &str); 5] = [
        (
            fenced.to_string(),
            "snapshot storage of shop was taken over by process 8 (epoch 4, ours is 3); this writer stops: run one \
             bootstrap service for each source",
        ),
        (
            StoreError::from(Gone { source_name, version: 12 }).to_string(),
            "version 12 of snapshot storage of shop is not kept any more; go on with the newest one",
        ),
        (
            Damaged { object: "shop/a".into(), what: "it has 3 bytes".into() }.to_string(),
            "object shop/a is damaged: it has 3 bytes; put it back from a copy or an older version in its store, or copy the \
             tables anew that it belongs to",
        ),
        (
            Damaged { object: "shop/_meta/manifest/7.json".into(), what: "it has 3 bytes".into() }
                .to_string(),
            "object shop/_meta/manifest/7.json is damaged: it has 3 bytes; put it back from a copy or an older version in its \
             store, or remove it, if it is the newest one: the one before it counts then",
        ),
        (
            Lost { object: "shop/_meta/manifest/7.json".into() }.to_string(),
            "shop/_meta/manifest/7.json, which was committed a while ago, is not there any more: the store was emptied or moved \
             away, or is not mounted; nothing is written until it is back and this process was started again",
        ),
    ];
    for (error, expected) in errors {
        assert_eq!(error, expected);
    }
}
