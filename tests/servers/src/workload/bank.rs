//! Money moves between two tables in one transaction each, so the total of both is the same after every commit.
//! The journal, written in the same transaction, is the truth that a replica is compared with.

use mysql_async::{Conn, Error, Opts, prelude::Queryable};

use super::{Duplicates, Random, Run};

const BALANCE_AT_START: u64 = 1000;
const AMOUNT_MAX: u64 = 50;
const SEED: u64 = 2;

/// `bank.a` and `bank.b` (id, balance, note) and `bank.journal` (seq, origin, from_id, to_id, amount).
#[derive(Clone, Debug)]
pub struct Bank {
    opts: Opts,
    accounts: u64,
}

impl Bank {
    /// Creates the tables and `accounts` accounts in each. All balances appear in one transaction.
    pub async fn create(opts: Opts, accounts: u64) -> Result<Self, Error> {
        let mut conn = Conn::new(opts.clone()).await?;
        conn.query_drop(
            "CREATE DATABASE bank;
             CREATE TABLE bank.a (id BIGINT PRIMARY KEY, balance BIGINT NOT NULL, note VARCHAR(60) NULL);
             CREATE TABLE bank.b (id BIGINT PRIMARY KEY, balance BIGINT NOT NULL, note VARCHAR(60) NULL);
             CREATE TABLE bank.journal (seq BIGINT AUTO_INCREMENT PRIMARY KEY, origin CHAR(1) NOT NULL,
                 from_id BIGINT NOT NULL, to_id BIGINT NOT NULL, amount BIGINT NOT NULL)",
        )
        .await?;
        let rows: Vec<String> = (0..accounts).map(|id| format!("({id}, {BALANCE_AT_START}, NULL)")).collect();
        let rows = rows.join(",");
        conn.query_drop(format!(
            "BEGIN; INSERT INTO bank.a VALUES {rows}; INSERT INTO bank.b VALUES {rows}; COMMIT"
        ))
        .await?;
        conn.disconnect().await?;
        Ok(Self { opts, accounts })
    }

    /// The same accounts on another server, which has them by replication.
    pub fn on(&self, opts: Opts) -> Self {
        Self { opts, accounts: self.accounts }
    }

    /// What all balances add up to, after every transaction from the first one with rows on.
    pub fn total(&self) -> i64 {
        (2 * self.accounts * BALANCE_AT_START) as i64
    }

    /// Transfers from `writers` connections until stopped. They survive restarts of the server.
    pub fn start(&self, writers: usize) -> Run {
        let accounts = self.accounts;
        Run::start(&self.opts, writers, Duplicates::Fail, move |writer| {
            let mut random = Random::new(SEED + writer as u64);
            move || transfer(&mut random, accounts)
        })
    }
}

/// Always `a` first, then `b`, whichever way the money goes: writers wait for each other but never in a circle.
fn transfer(random: &mut Random, accounts: u64) -> String {
    let (a, b, amount) = (random.below(accounts), random.below(accounts), 1 + random.below(AMOUNT_MAX));
    let (origin, from, to, sign) = match random.below(2) {
        0 => ('a', a, b, '-'),
        _ => ('b', b, a, '+'),
    };
    let opposite = if sign == '-' { '+' } else { '-' };
    format!(
        "BEGIN; UPDATE bank.a SET balance = balance {sign} {amount}, note = 'with b{b}' WHERE id = {a}; \
         UPDATE bank.b SET balance = balance {opposite} {amount}, note = 'with a{a}' WHERE id = {b}; \
         INSERT INTO bank.journal (origin, from_id, to_id, amount) VALUES ('{origin}', {from}, {to}, {amount}); COMMIT"
    )
}
