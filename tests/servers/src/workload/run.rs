//! Writers in the background: each repeats its transaction until it is told to stop, through restarts of the server.

use std::{sync::Arc, time::Duration};

use mysql_async::{Conn, Error, Opts, prelude::Queryable};
use tokio::{sync::watch, task::JoinSet};

/// Between two attempts to reach a server that is down.
const RECONNECT_PAUSE: Duration = Duration::from_millis(20);
const ER_LOCK_WAIT_TIMEOUT: u16 = 1205;
const ER_LOCK_DEADLOCK: u16 = 1213;
/// What a server says to its clients while it goes down.
const GOING_DOWN: [u16; 4] = [1053, 1077, 1317, 1927];

/// A workload that runs. Dropping it ends the writers between two packets, without waiting for them.
#[derive(Debug)]
pub struct Run {
    stop: watch::Sender<bool>,
    committed: watch::Receiver<u64>,
    writers: JoinSet<Result<(), Error>>,
}

impl Run {
    /// Starts `writers` of them; `statements` makes the n-th transaction of a writer as statements between BEGIN and COMMIT.
    pub(super) fn start<F>(opts: &Opts, writers: usize, statements: impl Fn(usize) -> F) -> Self
    where
        F: FnMut() -> String + Send + 'static,
    {
        let (stop, stopped) = watch::channel(false);
        let (count, committed) = watch::channel(0);
        let count = Arc::new(count);
        let mut tasks = JoinSet::new();
        for number in 0..writers {
            let writer =
                Writer { opts: opts.clone(), stopped: stopped.clone(), count: count.clone(), conn: None };
            tasks.spawn(writer.run(statements(number)));
        }
        Self { stop, committed, writers: tasks }
    }

    /// Transactions whose commit was acknowledged. One that a crash interrupted may have been committed unacknowledged.
    pub fn committed(&self) -> u64 {
        *self.committed.borrow()
    }

    /// Waits until this many transactions are committed. Returns early when all writers have failed: [`Run::stop`] says why.
    pub async fn wait_committed(&self, transactions: u64) {
        let _ = self.committed.clone().wait_for(|committed| *committed >= transactions).await;
    }

    /// Lets the writers finish the transaction in hand and returns how many were acknowledged.
    pub async fn stop(mut self) -> Result<u64, Error> {
        self.stop.send_replace(true);
        while let Some(ended) = self.writers.join_next().await {
            match ended {
                Ok(result) => result?,
                Err(failed) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
                Err(_) => {}
            }
        }
        Ok(self.committed())
    }
}

struct Writer {
    opts: Opts,
    stopped: watch::Receiver<bool>,
    count: Arc<watch::Sender<u64>>,
    conn: Option<Conn>,
}

impl Writer {
    async fn run(mut self, mut statements: impl FnMut() -> String + Send) -> Result<(), Error> {
        while !*self.stopped.borrow() {
            let transaction = format!("BEGIN; {}; COMMIT", statements());
            while !self.commit(&transaction).await? {
                if *self.stopped.borrow() {
                    return Ok(());
                }
            }
            self.count.send_modify(|count| *count += 1);
        }
        match self.conn.take() {
            Some(conn) => conn.disconnect().await,
            None => Ok(()),
        }
    }

    /// False when the transaction has to be tried again: another writer was in the way, or the server is.
    async fn commit(&mut self, transaction: &str) -> Result<bool, Error> {
        let conn = match &mut self.conn {
            Some(conn) => conn,
            None => match Conn::new(self.opts.clone()).await {
                Ok(conn) => self.conn.insert(conn),
                Err(error) => return self.lost(error).await,
            },
        };
        match conn.query_drop(transaction).await {
            Ok(()) => Ok(true),
            Err(Error::Server(error)) if matches!(error.code, ER_LOCK_WAIT_TIMEOUT | ER_LOCK_DEADLOCK) => {
                match conn.query_drop("ROLLBACK").await {
                    Ok(()) => Ok(false),
                    Err(error) => self.lost(error).await,
                }
            }
            Err(error) => self.lost(error).await,
        }
    }

    /// Drops the connection when the server is away, and waits a moment; any other error is the caller's.
    async fn lost(&mut self, error: Error) -> Result<bool, Error> {
        self.conn = None;
        match &error {
            Error::Io(_) | Error::Driver(_) => {}
            Error::Server(server) if GOING_DOWN.contains(&server.code) => {}
            _ => return Err(error),
        }
        tokio::time::sleep(RECONNECT_PAUSE).await;
        Ok(false)
    }
}
