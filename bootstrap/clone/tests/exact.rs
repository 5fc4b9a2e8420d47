//! A copy and the log behind it are the table, whatever is written meanwhile; with the wrong low mark they are not.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeMap;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use support::follow::{Follower, extract, replayed};
use support::kept::Kept;
use tidemill_bootstrap_clone::{CloneControl, CloneOptions, Cloner, Policy};
use tidemill_event::TableName;
use tidemill_fetchers_api::Start;
use tidemill_fetchers_mysql::MySqlExtract;
use tidemill_servers::workload::Churn;
use tidemill_servers::{Kind, Options, Server};

const WRITERS: usize = 12;
const ROWS: u64 = 4_000;

async fn server(kind: Kind) -> (Server, Churn) {
    let server = Server::start(kind, Options::default()).await.unwrap();
    let churn = Churn::create(server.root(), ROWS).await.unwrap();
    (server, churn)
}

fn row(batch: &RecordBatch, row: usize) -> (i64, i64) {
    let value = |column: usize| batch.column(column).as_primitive::<Int64Type>().value(row);
    (value(0), value(1))
}

/// Copies that are made one after another under the same writers.
const COPIES: usize = 20;

/// How many rows of copies that were made under writers are not those of the table when they have stopped.
async fn mismatches(server: &Server, churn: &Churn, extract: MySqlExtract) -> usize {
    server.sql("DROP DATABASE IF EXISTS follower").await.unwrap();
    let follower = Follower::start(server, Start::Now, None).await;
    let (writers, table) = (churn.start(WRITERS).await, TableName::new("d", "t"));
    let mut copies = vec![];
    for copy in 0..COPIES as u64 {
        let (kept, control) = (Kept::default(), CloneControl::default());
        control.add_table(table.clone());
        // As one chunk, as two, as many.
        let options = CloneOptions { chunk_rows: ROWS >> (copy % 6), ..CloneOptions::default() };
        let cloner = Cloner::new(extract.clone(), Policy::none(), kept.clone(), follower.clone(), control);
        let status = cloner.with_options(options).run_to_end().await.unwrap();
        assert!(status.is_idle() && kept.is_complete(&table), "{status:?}");
        copies.push(kept.chunks(&table));
    }
    assert!(writers.stop().await.unwrap() > 0);
    let windows = follower.to_end(server).await;
    let there = server.rows("SELECT id, v FROM d.t").await.unwrap();
    let there: BTreeMap<i64, i64> = there.into_iter().map(mysql_async::from_row).collect();
    let mismatches = copies.into_iter().map(|chunks| {
        let copy = replayed(chunks.into_values(), &windows, &table, row);
        let others = copy.iter().filter(|(id, v)| there.get(id) != Some(v)).count();
        others + there.keys().filter(|id| !copy.contains_key(id)).count()
    });
    mismatches.sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_under_writers_is_exact_with_the_right_low_mark() {
    for kind in Kind::ALL {
        let (server, churn) = server(kind).await;
        // A copy of MariaDB's waits a second for its first low mark, which is time enough for writers.
        for _ in 0..if kind.is_mysql() { 3 } else { 1 } {
            assert_eq!(mismatches(&server, &churn, extract(&server)).await, 0, "{kind}");
        }
    }
}

const TRIES: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_under_writers_loses_changes_with_the_logs_end_as_its_low_mark() {
    let (server, churn) = server(Kind::MySql).await;
    for _ in 0..TRIES {
        let wrong = extract(&server).with_low_mark_at_log_end();
        if mismatches(&server, &churn, wrong).await > 0 {
            return;
        }
    }
    panic!(
        "{TRIES} times {COPIES} copies with the wrong low mark had no mismatch: the test above shows nothing"
    );
}
