//! The workloads do what they promise, as the server's own tables show.

#![allow(clippy::unwrap_used, reason = "tests")]

use tidemill_servers::{
    Kind, MySql, Options, Server,
    workload::{Backlog, Bank, Duplicates, Random, Run, Shop},
};

const BALANCES: &str =
    "SELECT CAST((SELECT SUM(balance) FROM bank.a) + (SELECT SUM(balance) FROM bank.b) AS SIGNED)";

/// What the journal says about each account of `a`, against its balance.
const JOURNAL_DIFFERENCES: &str = "SELECT COUNT(*) FROM bank.a WHERE balance <> 1000 \
    - COALESCE((SELECT SUM(amount) FROM bank.journal WHERE origin = 'a' AND from_id = a.id), 0) \
    + COALESCE((SELECT SUM(amount) FROM bank.journal WHERE origin = 'b' AND to_id = a.id), 0)";

#[tokio::test]
async fn transfers_keep_the_total_and_agree_with_the_journal() {
    for kind in Kind::ALL {
        let server = Server::start(kind, Options::default()).await.unwrap();
        let bank = Bank::create(server.root(), 20).await.unwrap();
        let run = bank.start(4);
        run.wait_committed(300).await;
        assert_eq!(server.value(BALANCES).await.unwrap(), Some(bank.total()), "{kind}: while it runs");
        let transfers = run.stop().await.unwrap();
        assert!(transfers >= 300);
        assert_eq!(server.value(BALANCES).await.unwrap(), Some(bank.total()), "{kind}: at the end");
        assert_eq!(
            server.value("SELECT COUNT(*) FROM bank.journal").await.unwrap(),
            Some(transfers),
            "{kind}"
        );
        assert_eq!(server.value(JOURNAL_DIFFERENCES).await.unwrap(), Some(0), "{kind}");
    }
}

#[tokio::test]
async fn transfers_go_on_after_a_crash_of_the_server() {
    for kind in Kind::ALL {
        let mut server = Server::start(kind, Options::default()).await.unwrap();
        let bank = Bank::create(server.root(), 20).await.unwrap();
        let run = bank.start(3);
        run.wait_committed(50).await;
        server.kill();
        server.restart().await.unwrap();
        run.wait_committed(run.committed() + 50).await;
        let transfers = run.stop().await.unwrap();
        let journal: u64 = server.value("SELECT COUNT(*) FROM bank.journal").await.unwrap().unwrap();
        assert!(journal >= transfers, "{kind}: {transfers} transfers were acknowledged, {journal} are there");
        assert_eq!(server.value(BALANCES).await.unwrap(), Some(bank.total()), "{kind}");
    }
}

#[tokio::test]
async fn the_shop_trades_the_same_on_both_servers() {
    let mut seen = Vec::new();
    for kind in Kind::ALL {
        let server = Server::start(kind, Options::default()).await.unwrap();
        let mut shop = Shop::create(server.root(), 7).await.unwrap().alter_at(150);
        let changes = shop.run(300).await.unwrap();
        assert_eq!(shop.transactions(), 302);
        shop.close().await.unwrap();
        let orders: u64 =
            server.value("SELECT COUNT(*) FROM shop.orders WHERE channel = 'web'").await.unwrap().unwrap();
        let amount: String =
            server.value("SELECT CAST(SUM(amount) AS CHAR) FROM shop.orders").await.unwrap().unwrap();
        assert!(orders > 20, "{kind}: {orders} orders");
        let wrong = "SELECT COUNT(*) FROM shop.orders o WHERE amount <> \
            (SELECT SUM(quantity * price) FROM shop.order_items WHERE order_id = o.id)";
        assert_eq!(server.value(wrong).await.unwrap(), Some(0), "{kind}");
        seen.push((changes, orders, amount));
    }
    assert_eq!(seen[0], seen[1]);
}

#[tokio::test]
async fn the_backlog_has_the_changes_asked_for() {
    let server = MySql::start(Options::for_load()).await.unwrap();
    let backlog = Backlog { changes: 5_000, connections: 2, seed: 1 };
    let count = backlog.write(server.root()).await.unwrap();
    assert_eq!((count.changes(), count.transactions), (5_000, 1_000));
    let rows = "SELECT (SELECT COUNT(*) FROM backlog.t0) + (SELECT COUNT(*) FROM backlog.t1) \
        + (SELECT COUNT(*) FROM backlog.t2) + (SELECT COUNT(*) FROM backlog.t3)";
    assert_eq!(server.value(rows).await.unwrap(), Some(count.inserts - count.deletes));
    assert!(count.updates > 900, "{count:?}");
    let null = "SELECT COUNT(*) FROM backlog.t0 WHERE place IS NULL OR ratio IS NULL OR small IS NULL";
    assert!(server.value::<u64>(null).await.unwrap().unwrap() > 0);
}

const TABLE: &str = "CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, v INT NOT NULL); \
    INSERT INTO d.t VALUES (1, 0), (2, 0)";

async fn deadlocks(server: &Server) -> u64 {
    let query = match server.kind().is_mysql() {
        true => "SELECT count FROM information_schema.innodb_metrics WHERE name = 'lock_deadlocks'",
        false => {
            "SELECT CAST(variable_value AS UNSIGNED) FROM information_schema.global_status \
             WHERE variable_name = 'INNODB_DEADLOCKS'"
        }
    };
    server.value(query).await.unwrap().unwrap()
}

#[tokio::test]
async fn writers_that_want_each_other_s_rows_go_on_and_each_transaction_counts_once() {
    for kind in Kind::ALL {
        let server = Server::start(kind, Options::default()).await.unwrap();
        server.sql(TABLE).await.unwrap();
        let run = Run::start(&server.root(), 4, Duplicates::Fail, |writer| {
            let mut random = Random::new(writer as u64);
            move || {
                let (first, second) = *random.pick(&[(1, 2), (2, 1)]);
                format!(
                    "BEGIN; UPDATE d.t SET v = v + 1 WHERE id = {first}; UPDATE d.t SET v = v + 1 WHERE id = {second}; COMMIT"
                )
            }
        });
        while deadlocks(&server).await == 0 {
            run.wait_more(1).await;
        }
        run.wait_more(10).await;
        let committed = run.stop().await.unwrap();
        let sums = "SELECT CAST(SUM(v) AS UNSIGNED) FROM d.t";
        assert_eq!(server.value(sums).await.unwrap(), Some(2 * committed), "{kind}");
    }
}

#[tokio::test]
async fn what_a_server_refuses_ends_a_writer_unless_it_is_a_key_that_is_there_and_that_is_passed_over() {
    for kind in Kind::ALL {
        let server = Server::start(kind, Options::default()).await.unwrap();
        server.sql(TABLE).await.unwrap();
        for (duplicates, table) in [(Duplicates::Fail, "d.t"), (Duplicates::PassOver, "d.nowhere")] {
            let run = Run::start(&server.root(), 1, duplicates, |_| {
                move || format!("INSERT INTO {table} VALUES (1, 0)")
            });
            // Its only writer has failed.
            run.wait_more(1).await;
            assert!(matches!(run.stop().await, Err(mysql_async::Error::Server(_))), "{kind}: {table}");
        }
        let run = Run::start(&server.root(), 1, Duplicates::PassOver, |_| {
            let mut numbers = 0..;
            move || format!("INSERT INTO d.t VALUES ({}, 0)", numbers.next().unwrap() / 2)
        });
        run.wait_committed(20).await;
        let committed = run.stop().await.unwrap();
        let rows = server.value("SELECT COUNT(*) FROM d.t").await.unwrap();
        assert_eq!(rows, Some(2 + committed), "{kind}: two were there");
    }
}
