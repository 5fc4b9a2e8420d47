//! Kill -9, again and again, while money moves between two tables: nothing is lost, nothing is torn, the total is
//! constant at the end of every transaction, and what was committed equals the server's tables.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use tidemill_digest::{Digest, Row, Value};
use tidemill_e2e::{Change, Folder, Output, end, free_port};
use tidemill_servers::workload::Bank;
use tidemill_servers::{Kind, Options, Server};
use tokio::task::block_in_place;

const KILLS: usize = 50;
const ACCOUNTS: u64 = 40;

/// What a reader of `builtin:print` knows: every change once, whatever came again after a kill.
#[derive(Default)]
struct Replica {
    seen: BTreeMap<(u64, u64), Change>,
    last: (u64, u64),
    balances: BTreeMap<(String, i64), i64>,
    journal: Vec<(i64, i64)>,
    total: i64,
    ends: usize,
}

impl Replica {
    /// Takes a change; a redelivered one must be the very same.
    fn take(&mut self, change: Change) {
        let place = change.place();
        if place <= self.last {
            assert_eq!(
                self.seen.get(&place),
                Some(&change),
                "a redelivered change is the one that came before"
            );
            return;
        }
        if place.0 != self.last.0 {
            self.transaction_ends();
        }
        self.last = place;
        self.apply(&change);
        self.seen.insert(place, change);
    }

    fn transaction_ends(&mut self) {
        if self.balances.is_empty() {
            return;
        }
        let total: i64 = self.balances.values().sum();
        assert_eq!(total, self.total, "the total at the end of transaction {}", self.last.0);
        self.ends += 1;
    }

    fn apply(&mut self, change: &Change) {
        let number = |column| change.after(column).as_i64().unwrap();
        let table = change.table();
        assert!(matches!(change.op(), "c" | "u"), "the bank deletes nothing");
        if table == "bank.journal" {
            self.journal.push((number("seq"), number("amount")));
        } else {
            self.balances.insert((table, number("id")), number("balance"));
        }
    }

    fn take_all(&mut self, output: &Output) {
        output.changes().into_iter().for_each(|change| self.take(change));
    }
}

fn config(source: &str, total: i64) -> String {
    format!(
        r#"{source}
[source.bank.log]
segment = "256 KiB"
[subscription.printed]
source = "bank"
consumer = {{ module = "builtin:print", grants = ["stdout"] }}
[subscription.checked]
source = "bank"
[subscription.checked.consumer]
module = "builtin:replica-check"
config.sum = [{{ table = "bank.a", column = "balance" }}, {{ table = "bank.b", column = "balance" }}]
config.equals = {total}
"#
    )
}

async fn kill_in_a_loop(kind: Kind) {
    let mut server = Server::start(kind, Options::default()).await.unwrap();
    let bank = Bank::create(server.root(), ACCOUNTS).await.unwrap();
    let folder = Folder::new("");
    folder.configure(&config(&folder.source("bank", &server), bank.total()));
    let run = bank.start(2);
    let mut replica = Replica { total: bank.total(), ..Replica::default() };
    for round in 0..KILLS {
        let mut instance = folder.up();
        let until = replica.seen.len() + 1 + round * 37 % 150;
        block_in_place(|| {
            while replica.seen.len() < until {
                let change = instance.change().unwrap_or_else(|| panic!("round {round}: it ended by itself"));
                replica.take(change);
            }
            replica.take_all(&instance.kill());
        });
    }
    let acknowledged = run.stop().await.unwrap();
    let output = block_in_place(|| folder.start(&["up", "--once"]).wait());
    assert!(output.status.success(), "{}", output.errors);
    replica.take_all(&output);
    replica.transaction_ends();
    compare(&folder, &server, &replica, acknowledged).await;
    server.stop().await.unwrap();
}

/// The truth diff: the reader's tables, and the digests that the guest committed, against the server's own.
async fn compare(folder: &Folder, server: &Server, replica: &Replica, acknowledged: u64) {
    let mut conn = server.conn().await.unwrap();
    let journal: Vec<(i64, i64)> = mysql_async::prelude::Queryable::query(
        &mut conn,
        "SELECT seq, amount FROM bank.journal ORDER BY seq",
    )
    .await
    .unwrap();
    let mut delivered = replica.journal.clone();
    delivered.sort_unstable();
    assert_eq!(delivered, journal);
    assert!(journal.len() as u64 >= acknowledged, "what was acknowledged is there");
    assert!(replica.ends > 8, "{} transactions were checked", replica.ends);
    let committed = folder.committed();
    for table in ["a", "b"] {
        let rows: Vec<(i64, i64, Option<String>)> = mysql_async::prelude::Queryable::query(
            &mut conn,
            format!("SELECT id, balance, note FROM bank.{table}"),
        )
        .await
        .unwrap();
        let mut digest = Digest::default();
        for (id, balance, note) in &rows {
            let name = (format!("bank.{table}"), *id);
            assert_eq!(replica.balances.get(&name), Some(balance), "{name:?}");
            let mut row = Row::new();
            row.push(Value::Int((*id).into()));
            row.push(Value::Int((*balance).into()));
            row.push(note.as_deref().map_or(Value::Null, Value::Text));
            digest.add(&row);
        }
        let state = committed.state("checked", &format!("table/bank.{table}")).unwrap();
        assert_eq!(state["digest"], digest.to_string(), "bank.{table}: {state}");
    }
    conn.disconnect().await.unwrap();
}

/// The relay is killed, its subscriber in another process is not, or both are; what the subscriber has printed and
/// committed equals the server's tables.
async fn kill_the_relay_in_a_loop(subscriber: &[&str], to_the_end: &[&str]) {
    const KILLS: usize = 8;
    let mut server = Server::start(Kind::MySql, Options::default()).await.unwrap();
    let bank = Bank::create(server.root(), ACCOUNTS).await.unwrap();
    let (served, port) = (Folder::new(""), free_port());
    let log = "[source.bank.log]\nsegment = \"256 KiB\"\n";
    served.configure(&format!(
        "{}{log}[relay]\nlisten = \"127.0.0.1:{port}\"\n",
        served.source("bank", &server)
    ));
    let folder = Folder::new("");
    let source = format!("[source.bank]\nkind = \"relay\"\nrelays = [\"http://127.0.0.1:{port}\"]\n");
    folder.configure(&config(&source, bank.total()));
    let run = bank.start(1);
    let mut replica = Replica { total: bank.total(), ..Replica::default() };
    let mut relay = block_in_place(|| served.serve("relay", port));
    let mut instance = folder.start(subscriber);
    for round in 0..KILLS {
        let until = replica.seen.len() + 1 + round * 37 % 90;
        block_in_place(|| {
            while replica.seen.len() < until {
                let change = instance.change().unwrap_or_else(|| panic!("round {round}: it ended by itself"));
                replica.take(change);
            }
            relay.kill();
        });
        relay = block_in_place(|| served.serve("relay", port));
        if round % 3 == 2 {
            block_in_place(|| replica.take_all(&instance.kill()));
            instance = folder.start(subscriber);
        }
    }
    let acknowledged = run.stop().await.unwrap();
    let end = end(&server).await;
    block_in_place(|| relay.wait_scn("sources", "bank", end));
    block_in_place(|| replica.take_all(&instance.terminate()));
    let output = block_in_place(|| folder.start(to_the_end).wait());
    assert!(output.status.success(), "{}", output.errors);
    replica.take_all(&output);
    replica.transaction_ends();
    assert!(block_in_place(|| relay.terminate()).status.success());
    compare(&folder, &server, &replica, acknowledged).await;
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn b10_kills_of_a_relay_and_of_a_log_that_follows_it_lose_nothing_and_tear_nothing() {
    kill_the_relay_in_a_loop(&["up"], &["up", "--once"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b10_kills_of_a_relay_and_of_its_remote_consumer_lose_nothing_and_tear_nothing() {
    kill_the_relay_in_a_loop(&["consume"], &["consume", "--once"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_kills_on_mysql_lose_nothing_and_tear_nothing() {
    kill_in_a_loop(Kind::MySql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_kills_on_mariadb_lose_nothing_and_tear_nothing() {
    kill_in_a_loop(Kind::MariaDb).await;
}
