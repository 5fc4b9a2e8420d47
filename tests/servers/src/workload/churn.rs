//! A table in which every key comes, changes, moves and goes, over and over: whatever was read of it is old soon.

use mysql_async::{Conn, Error, Opts, prelude::Queryable};

use super::{Duplicates, Random, Run};

/// `d.t` (id, v). At first it has every other id below twice its rows.
#[derive(Clone, Debug)]
pub struct Churn {
    opts: Opts,
    rows: u64,
}

impl Churn {
    /// Creates the table with so many rows.
    pub async fn create(opts: Opts, rows: u64) -> Result<Self, Error> {
        let mut conn = Conn::new(opts.clone()).await?;
        let values: Vec<String> = (0..rows).map(|id| format!("({}, 0)", 2 * id)).collect();
        conn.query_drop(format!(
            "CREATE DATABASE d; CREATE TABLE d.t (id BIGINT PRIMARY KEY, v BIGINT NOT NULL);
             INSERT INTO d.t VALUES {}",
            values.join(",")
        ))
        .await?;
        conn.disconnect().await?;
        Ok(Self { opts, rows })
    }

    /// Inserts, updates, deletes and changed keys, some of them several in one transaction, from `writers` connections until
    /// stopped. One is committed when this returns.
    pub async fn start(&self, writers: usize) -> Run {
        let ids = 2 * self.rows;
        let run = Run::start(&self.opts, writers, Duplicates::Fail, |writer| {
            let (mut random, mut value) = (Random::new(writer as u64), 0);
            move || {
                value += 1;
                transaction(&mut random, ids, value)
            }
        });
        run.wait_committed(1).await;
        run
    }
}

fn transaction(random: &mut Random, ids: u64, value: u64) -> String {
    let (id, other) = (random.below(ids), random.below(ids));
    match random.below(8) {
        0 => format!("INSERT IGNORE INTO d.t VALUES ({id}, {value})"),
        1 => format!("DELETE FROM d.t WHERE id = {id}"),
        2 => format!("UPDATE IGNORE d.t SET id = {other}, v = {value} WHERE id = {id}"),
        3 => format!(
            "BEGIN; UPDATE d.t SET v = {value} WHERE id = {id}; DELETE FROM d.t WHERE id = {id}; \
             INSERT IGNORE INTO d.t VALUES ({id}, {value}); COMMIT"
        ),
        _ => format!("UPDATE d.t SET v = {value} WHERE id = {id}"),
    }
}
