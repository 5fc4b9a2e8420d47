//! A backlog to drain: four tables of ten mixed columns, transactions of five changes over two tables, written as fast as possible.

use std::{collections::VecDeque, fmt::Write};

use mysql_async::{Conn, Error, Opts, prelude::Queryable};
use tokio::task::JoinSet;

use super::Random;

/// Rows inserted, updated and deleted by one transaction; together its changes.
const INSERTS: u64 = 3;
const CHANGES: u64 = INSERTS + 2;
const TABLES: usize = 4;
/// Many transactions in one packet: the client is then never what the server waits for.
const TRANSACTIONS_PER_PACKET: u64 = 64;
/// The keys of one writer, so that writers never meet.
const KEYS_PER_WRITER: u64 = 1 << 40;
const PLACES: [&str; 4] = ["NULL", "'Kraków, Rynek Główny'", "'東京都千代田区'", "'São Paulo 🌴'"];

/// A backlog in `backlog.t0` to `backlog.t3`.
#[derive(Clone, Debug)]
pub struct Backlog {
    /// How many row changes, rounded up to whole transactions of five for every connection.
    pub changes: u64,
    /// Over how many connections.
    pub connections: u64,
    /// The same seed gives the same rows, in an order that depends on the server alone.
    pub seed: u64,
}

/// What has been written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BacklogCount {
    /// Transactions with rows.
    pub transactions: u64,
    /// Rows inserted.
    pub inserts: u64,
    /// Rows updated.
    pub updates: u64,
    /// Rows deleted.
    pub deletes: u64,
}

impl BacklogCount {
    /// Row changes of every kind.
    pub fn changes(&self) -> u64 {
        self.inserts + self.updates + self.deletes
    }

    fn add(&mut self, other: Self) {
        self.transactions += other.transactions;
        self.inserts += other.inserts;
        self.updates += other.updates;
        self.deletes += other.deletes;
    }
}

impl Backlog {
    /// Creates the tables and writes the backlog.
    pub async fn write(&self, opts: Opts) -> Result<BacklogCount, Error> {
        let mut conn = Conn::new(opts.clone()).await?;
        conn.query_drop("CREATE DATABASE backlog CHARACTER SET utf8mb4").await?;
        for table in 0..TABLES {
            conn.query_drop(format!(
                "CREATE TABLE backlog.t{table} (id BIGINT UNSIGNED NOT NULL PRIMARY KEY, number INT NOT NULL, small SMALLINT NULL, \
                 price DECIMAL(12,4) NOT NULL, name VARCHAR(40) NOT NULL, place VARCHAR(60) NULL, at DATETIME(6) NOT NULL, \
                 body TEXT NOT NULL, details JSON NOT NULL, ratio DOUBLE NULL)"
            ))
            .await?;
        }
        conn.disconnect().await?;
        let transactions = self.changes.div_ceil(CHANGES).div_ceil(self.connections);
        let mut writers = JoinSet::new();
        for number in 0..self.connections {
            writers.spawn(Writer::new(self.seed, number).run(opts.clone(), transactions));
        }
        let mut total = BacklogCount::default();
        while let Some(ended) = writers.join_next().await {
            match ended {
                Ok(count) => total.add(count?),
                Err(failed) => std::panic::resume_unwind(failed.into_panic()),
            }
        }
        Ok(total)
    }
}

struct Writer {
    random: Random,
    next_key: u64,
    /// The keys that are in each table, oldest first.
    keys: [VecDeque<u64>; TABLES],
    count: BacklogCount,
}

impl Writer {
    fn new(seed: u64, number: u64) -> Self {
        Self {
            random: Random::new(seed ^ (number << 32)),
            next_key: 1 + number * KEYS_PER_WRITER,
            keys: Default::default(),
            count: BacklogCount::default(),
        }
    }

    async fn run(mut self, opts: Opts, transactions: u64) -> Result<BacklogCount, Error> {
        let mut conn = Conn::new(opts).await?;
        let mut packet = String::new();
        while self.count.transactions < transactions {
            packet.clear();
            let left = transactions - self.count.transactions;
            for _ in 0..left.min(TRANSACTIONS_PER_PACKET) {
                self.transaction(&mut packet);
            }
            conn.query_drop(&packet).await?;
        }
        conn.disconnect().await?;
        Ok(self.count)
    }

    /// Three rows into one table, an update and a delete in the next; as long as that one is empty, two rows into it instead.
    fn transaction(&mut self, sql: &mut String) {
        let table = (self.count.transactions % TABLES as u64) as usize;
        let other = (table + 1) % TABLES;
        sql.push_str("BEGIN;");
        self.insert(sql, table, INSERTS);
        match self.keys[other].pop_front().zip(self.keys[other].front().copied()) {
            Some((oldest, next)) => {
                let (number, place) = (self.random.below(1 << 31), self.place());
                push(
                    sql,
                    format_args!(
                        "UPDATE backlog.t{other} SET number={number}, place={place}, ratio=NULL WHERE id={next};"
                    ),
                );
                push(sql, format_args!("DELETE FROM backlog.t{other} WHERE id={oldest};"));
                self.count.updates += 1;
                self.count.deletes += 1;
            }
            None => self.insert(sql, other, CHANGES - INSERTS),
        }
        sql.push_str("COMMIT;");
        self.count.transactions += 1;
    }

    fn insert(&mut self, sql: &mut String, table: usize, rows: u64) {
        push(sql, format_args!("INSERT INTO backlog.t{table} VALUES "));
        for row in 0..rows {
            if row > 0 {
                sql.push(',');
            }
            self.row(sql);
            self.keys[table].push_back(self.next_key);
            self.next_key += 1;
        }
        sql.push(';');
        self.count.inserts += rows;
    }

    fn row(&mut self, sql: &mut String) {
        let key = self.next_key;
        let bits = self.random.next();
        push(sql, format_args!("({key},{},", bits as i32));
        match bits >> 60 {
            0..4 => sql.push_str("NULL"),
            _ => push(sql, format_args!("{}", (bits >> 32) as i16)),
        }
        push(
            sql,
            format_args!(
                ",{}.{:04},'customer {:08x}',",
                (bits >> 20) as i32 % 99_999_999,
                bits % 10_000,
                bits as u32
            ),
        );
        let place = self.place();
        push(sql, format_args!("{place},'2026-{:02}-{:02} ", 1 + bits % 12, 1 + bits % 28));
        push(
            sql,
            format_args!(
                "{:02}:{:02}:{:02}.{:06}','",
                bits % 24,
                bits % 60,
                (bits >> 8) % 60,
                bits % 1_000_000
            ),
        );
        self.body(sql);
        let (stars, weight) = (bits % 5, bits % 1000);
        push(
            sql,
            format_args!(
                r#"','{{"sku": "{:06x}", "stars": {stars}, "tags": ["new", "größer"], "weight": {weight}}}',"#,
                bits >> 40
            ),
        );
        match bits % 5 {
            0 => sql.push_str("NULL"),
            _ => push(sql, format_args!("{}e-7", (bits >> 16) as i32)),
        }
        sql.push(')');
    }

    /// A quoted name with multi-byte characters, or NULL one time in four.
    fn place(&mut self) -> &'static str {
        PLACES[self.random.below(PLACES.len() as u64) as usize]
    }

    /// 32 to 256 bytes of text.
    fn body(&mut self, sql: &mut String) {
        const TEXT: &str = "the quick brown fox jumps over the lazy dog while forty-two ships sail past the lighthouse at dawn, and \
            nobody on the pier looks up from the nets that they have been mending since the first bell rang over the harbour, for the \
            herring will not wait for those who do";
        let length = 32 + self.random.below(TEXT.len() as u64 - 31) as usize;
        sql.push_str(&TEXT[..length]);
    }
}

fn push(sql: &mut String, text: std::fmt::Arguments<'_>) {
    sql.write_fmt(text).expect("a String takes everything");
}
