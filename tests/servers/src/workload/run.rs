//! Writers in the background: each sends one transaction after another until it is told to stop, through restarts of the server.

use std::{sync::Arc, time::Duration};

use mysql_async::{Conn, Error, Opts, prelude::Queryable};
use tokio::{sync::watch, task::JoinSet};

/// Between two attempts to reach a server that is down.
const RECONNECT_PAUSE: Duration = Duration::from_millis(20);
/// Another writer was in the way: locks that were waited for too long or in a circle, or a row that changed since it was seen.
const IN_THE_WAY: [u16; 3] = [1205, 1213, 1020];
const ER_DUP_ENTRY: u16 = 1062;
/// What a server says to its clients while it goes down.
const GOING_DOWN: [u16; 4] = [1053, 1077, 1317, 1927];

/// What becomes of a transaction that would give a row a key that another row has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duplicates {
    /// It is an error, and ends its writer: the workload makes none.
    Fail,
    /// It is given up for the next one, and does not count: writers may meet.
    PassOver,
}

/// A workload that runs. Dropping it ends the writers between two packets, without waiting for them.
#[derive(Debug)]
pub struct Run {
    stop: watch::Sender<bool>,
    committed: watch::Receiver<u64>,
    writers: JoinSet<Result<(), Error>>,
}

impl Run {
    /// Starts that many writers. `transactions` makes, for the n-th of them, what gives its next transaction: what it sends at
    /// once, with BEGIN and COMMIT where it is more than one statement. It is sent again when another writer was in the way or the
    /// server was away, and any other refusal than those passed over ends the writer.
    pub fn start<F>(
        opts: &Opts,
        writers: usize,
        duplicates: Duplicates,
        transactions: impl Fn(usize) -> F,
    ) -> Self
    where
        F: FnMut() -> String + Send + 'static,
    {
        let (stop, stopped) = watch::channel(false);
        let (count, committed) = watch::channel(0);
        let count = Arc::new(count);
        let mut tasks = JoinSet::new();
        for number in 0..writers {
            let writer = Writer {
                opts: opts.clone(),
                duplicates,
                stopped: stopped.clone(),
                count: count.clone(),
                conn: None,
            };
            tasks.spawn(writer.run(transactions(number)));
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

    /// Waits for that many transactions more.
    pub async fn wait_more(&self, transactions: u64) {
        self.wait_committed(self.committed() + transactions).await;
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
    duplicates: Duplicates,
    stopped: watch::Receiver<bool>,
    count: Arc<watch::Sender<u64>>,
    conn: Option<Conn>,
}

/// What became of a transaction that was sent.
enum Sent {
    Committed,
    /// It is not to be sent again.
    PassedOver,
    /// Another writer was in the way, or the server is away.
    TryAgain,
}

impl Writer {
    async fn run(mut self, mut transactions: impl FnMut() -> String + Send) -> Result<(), Error> {
        while !*self.stopped.borrow() {
            let transaction = transactions();
            loop {
                match self.send(&transaction).await? {
                    Sent::Committed => {
                        self.count.send_modify(|count| *count += 1);
                        break;
                    }
                    Sent::PassedOver => break,
                    Sent::TryAgain if *self.stopped.borrow() => return Ok(()),
                    Sent::TryAgain => {}
                }
            }
        }
        match self.conn.take() {
            Some(conn) => conn.disconnect().await,
            None => Ok(()),
        }
    }

    async fn send(&mut self, transaction: &str) -> Result<Sent, Error> {
        let conn = match &mut self.conn {
            Some(conn) => conn,
            None => match Conn::new(self.opts.clone()).await {
                Ok(conn) => self.conn.insert(conn),
                Err(error) => return self.lost(error).await,
            },
        };
        let refused = match conn.query_drop(transaction).await {
            Ok(()) => return Ok(Sent::Committed),
            Err(Error::Server(refused)) if IN_THE_WAY.contains(&refused.code) => Sent::TryAgain,
            Err(Error::Server(refused))
                if refused.code == ER_DUP_ENTRY && self.duplicates == Duplicates::PassOver =>
            {
                Sent::PassedOver
            }
            Err(error) => return self.lost(error).await,
        };
        match conn.query_drop("ROLLBACK").await {
            Ok(()) => Ok(refused),
            Err(error) => self.lost(error).await,
        }
    }

    /// Drops the connection when the server is away, and waits a moment; any other error is the caller's.
    async fn lost(&mut self, error: Error) -> Result<Sent, Error> {
        self.conn = None;
        match &error {
            Error::Io(_) | Error::Driver(_) => {}
            Error::Server(server) if GOING_DOWN.contains(&server.code) => {}
            _ => return Err(error),
        }
        tokio::time::sleep(RECONNECT_PAUSE).await;
        Ok(Sent::TryAgain)
    }
}
