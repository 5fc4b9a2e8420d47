//! The stream's policy judges a copy: the same rows and columns are stored, and nothing else is read.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Schema};
use support::follow::{Follower, changes, extract};
use support::stored::{rows, store, writer};
use tidemill_bootstrap_clone::{
    CloneControl, CloneError, CloneOptions, Cloner, Policy, SnapshotDestination, TableStage,
};
use tidemill_event::{ColumnSchema, TableName, TableSchema};
use tidemill_fetchers_api::{Judge, Start};
use tidemill_sandbox::{GuestConfig, PolicyStage, Sandbox, SandboxConfig};
use tidemill_servers::{Kind, Options, Server};

const CANARY: &str = "canary-7f3a";
const POLICY: &str = r#"{"tables":[{"match":"d.people",
    "columns":{"email":{"pseudonym":"K"},"note":"drop","phone":"blank"},
    "rows":"age >= 20 and not (name = 'nobody')"}]}"#;

fn policy(json: &str) -> Arc<Mutex<PolicyStage>> {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest-cache");
    let sandbox = Sandbox::new(SandboxConfig::new(cache)).unwrap();
    let module = sandbox.load("select", tidemill_artifacts::wasm("select")).unwrap();
    let secrets = HashMap::from([("K".to_owned(), b"key".to_vec())]);
    Arc::new(Mutex::new(PolicyStage::open(&module, GuestConfig::new("test", json), secrets).unwrap()))
}

fn judge(stage: Arc<Mutex<PolicyStage>>) -> Judge {
    Arc::new(move |window| stage.lock().unwrap().apply(window).map_err(Into::into))
}

async fn fill(server: &Server) {
    let person = |id: i64| {
        let name = if id % 5 == 0 { "nobody" } else { "somebody" };
        format!("({id}, '{name}', '{CANARY}-{id}@x', '{CANARY}', '{CANARY}', {})", id % 40)
    };
    let values: Vec<String> = (0..500).map(person).collect();
    let values = values.join(",");
    let statements = format!(
        "CREATE DATABASE d; CREATE TABLE d.people (id BIGINT PRIMARY KEY, name VARCHAR(20), email VARCHAR(60), \
         phone VARCHAR(20), note TEXT, age INT); INSERT INTO d.people VALUES {values}; \
         CREATE TABLE d.other (id BIGINT PRIMARY KEY, word VARCHAR(20)); INSERT INTO d.other VALUES (1, '{CANARY}')"
    );
    server.sql(&statements).await.unwrap();
}

/// Rows as texts, by their first column's order.
fn texts(batches: &[RecordBatch]) -> BTreeSet<String> {
    let row = |batch: &RecordBatch, row: usize| format!("{:?}", batch.slice(row, 1).columns());
    batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |at| row(batch, at))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b31_b52_a_copy_has_what_the_stream_has_and_reads_nothing_that_is_not_stored() {
    for kind in Kind::ALL {
        let server = Server::start(kind, Options::default()).await.unwrap();
        fill(&server).await;
        let stage = policy(POLICY);
        let follower = Follower::start(&server, Start::Earliest, Some(judge(Arc::clone(&stage)))).await;
        server.sql("SET GLOBAL log_output = 'TABLE'; SET GLOBAL general_log = ON").await.unwrap();
        let (people, other) = (TableName::new("d", "people"), TableName::new("d", "other"));
        let (store, control) = (store(), CloneControl::default());
        let writer = writer(&store).await;
        control.add_table(people.clone());
        control.add_table(other.clone());
        let destination = SnapshotDestination::new(writer.clone());
        let policy = Policy::for_readers(stage, 1).unwrap();
        let cloner = Cloner::new(extract(&server), policy, destination, follower.clone(), control);
        let options = CloneOptions { chunk_rows: 60, ..CloneOptions::default() };
        let status = cloner.with_options(options).run_to_end().await.unwrap();
        server.sql("SET GLOBAL general_log = OFF").await.unwrap();
        assert_eq!(status.tables[&other].stage, TableStage::Declined, "{kind}");
        assert_eq!(status.tables[&people].stage, TableStage::Done, "{kind}: {status:?}");
        let copied = rows(&writer, &people).await;
        let names: Vec<String> =
            copied[0].schema().fields().iter().map(|field| field.name().clone()).collect();
        assert_eq!(names, ["id", "name", "email", "phone", "age"], "{kind}");
        let mut streamed = vec![];
        changes(&follower.to_end(&server).await, &people, |_, changes, change| {
            streamed.push(changes.rows.slice(change.after.unwrap() as usize, 1));
        });
        assert!(streamed.len() > 100 && texts(&copied) == texts(&streamed), "{kind}");
        let ids = copied.iter().flat_map(|rows| rows.column(0).as_primitive::<Int64Type>().values().to_vec());
        assert!(ids.into_iter().all(|id| id % 40 >= 20 && id % 5 != 0), "{kind}");
        assert!(!format!("{copied:?}").contains(CANARY), "{kind}");
        // The age is decided by the server; what is dropped or blanked is not asked for.
        let query = "SELECT CONVERT(argument USING utf8mb4) FROM mysql.general_log WHERE argument LIKE '%FROM `d`.`people`%'";
        let asked = server.rows(query).await.unwrap();
        let asked: Vec<String> = asked.into_iter().map(mysql_async::from_row).collect();
        let reads: Vec<&String> = asked.iter().filter(|asked| asked.contains("`email`")).collect();
        assert!(
            !reads.is_empty() && reads.iter().all(|read| read.contains("`age` >= 20")),
            "{kind}: {asked:?}"
        );
        assert!(
            !asked.iter().any(|asked| asked.contains("`note`") || asked.contains("`phone`")),
            "{kind}: {asked:?}"
        );
        assert!(status.rows_read < 300, "{kind}: {}", status.rows_read);
    }
}

fn people() -> Arc<TableSchema> {
    let text = |name| ColumnSchema::new(name, DataType::Utf8, "varchar(60)", true);
    let id = ColumnSchema::new("id", DataType::Int64, "bigint", false);
    let age = ColumnSchema::new("age", DataType::Int32, "int", true);
    let columns = vec![id, text("name"), text("email"), text("phone"), text("note"), age];
    TableSchema::new(TableName::new("d", "people"), columns, vec![0])
}

#[test]
fn b28_a_reader_does_not_wait_for_the_rows_of_another_and_is_told_the_same() {
    let (stage, schema) = (policy(POLICY), people());
    let judges = Policy::for_readers(Arc::clone(&stage), 3).unwrap();
    let reads = judges.reads(&schema).unwrap().unwrap();
    let names: Vec<String> =
        (0..200).map(|id| if id % 5 == 0 { "nobody" } else { "some" }.to_owned()).collect();
    let column = |ordinal: &u32| -> ArrayRef {
        match ordinal {
            0 => Arc::new(Int64Array::from_iter_values(0..200)),
            5 => Arc::new(Int32Array::from_iter_values((0..200).map(|id| id % 40))),
            _ => Arc::new(StringArray::from(names.clone())),
        }
    };
    let field = |ordinal: &u32| schema.arrow().field(*ordinal as usize).clone();
    let fields: Vec<_> = reads.columns.iter().map(field).collect();
    let columns = reads.columns.iter().map(column).collect();
    let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    let expected =
        Policy::for_readers(policy(POLICY), 1).unwrap().judge(&schema, &reads, rows.clone()).unwrap();
    assert_eq!(expected.num_rows(), 80);
    // The first reader's rows are being judged as long as this is held.
    let _busy = stage.lock().unwrap();
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                for _ in 0..3 {
                    assert_eq!(judges.judge(&schema, &reads, rows.clone()).unwrap(), expected);
                }
            });
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_cannot_decide_stops_the_copy_of_every_table() {
    let server = Server::start(Kind::MySql, Options::default()).await.unwrap();
    fill(&server).await;
    let follower = Follower::start(&server, Start::Now, None).await;
    let (store, control) = (store(), CloneControl::default());
    let writer = writer(&store).await;
    let people = TableName::new("d", "people");
    control.add_table(people.clone());
    let json = r#"{"tables":[{"match":"d.people","columns":{"id":"drop"}}]}"#;
    let destination = SnapshotDestination::new(writer.clone());
    let cloner = Cloner::new(
        extract(&server),
        Policy::for_readers(policy(json), 1).unwrap(),
        destination,
        follower,
        control,
    );
    let error = cloner.run().await.unwrap_err();
    let CloneError::Policy { table, .. } = &error else { panic!("{error:?}") };
    assert_eq!(*table, people);
    let why = tidemill_event::chain(&error);
    assert!(
        why.contains("id is part of the key of d.people and can neither be dropped nor blanked"),
        "{why}"
    );
    assert!(writer.tables().is_empty());
}
