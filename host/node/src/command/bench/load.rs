//! The steady load of the benchmarks: single-row transactions sent at a fixed rate, whether or not the last ones were
//! answered, each with the moments at which it was to be sent and was acknowledged.

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tidemill_event::{RowKind, Window};
use tidemill_servers::Server;

use super::bare::{ACCOUNT, Bare};
use crate::Failure;

/// What the load needs on a server: its account and its table.
pub async fn prepare(server: &Server) -> Result<(), Failure> {
    let statements = format!(
        "CREATE USER '{ACCOUNT}'@'%' IDENTIFIED BY ''; GRANT ALL ON *.* TO '{ACCOUNT}'@'%'; CREATE DATABASE latency; \
         CREATE TABLE latency.t (body VARCHAR(80) NOT NULL, price DECIMAL(12,4) NOT NULL, at DATETIME(6) NOT NULL, \
         id BIGINT UNSIGNED NOT NULL PRIMARY KEY)"
    );
    Ok(server.sql(&statements).await?)
}

/// When a transaction was to be sent, was acknowledged, and arrived, in nanoseconds since the turn began.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    pub intended: u64,
    pub acknowledged: u64,
    pub arrived: u64,
}

/// A load that is to be sent.
#[derive(Clone, Copy)]
pub struct Plan {
    pub port: u16,
    pub rate: u64,
    pub writers: u64,
    /// The keys of its transactions.
    pub first: u64,
    pub count: u64,
}

/// Sends the load; when it began, and the times of every transaction by its key.
pub fn load(plan: Plan) -> Result<(Instant, Vec<Times>), Failure> {
    let begun = Instant::now() + Duration::from_millis(50);
    let writers: Vec<JoinHandle<_>> =
        (0..plan.writers).map(|number| thread::spawn(move || write(plan, number, begun))).collect();
    let mut times = vec![Times::default(); plan.count as usize];
    for writer in writers {
        for (at, one) in joined(writer)? {
            times[at as usize] = one;
        }
    }
    Ok((begun, times))
}

/// Every `writers`-th transaction, each at its moment or, where that has passed, at once.
fn write(plan: Plan, number: u64, begun: Instant) -> Result<Vec<(u64, Times)>, Failure> {
    let mut connection = Bare::connect(plan.port)?;
    let mut all = Vec::new();
    for at in (number..plan.count).step_by(plan.writers as usize) {
        let intended = Duration::from_nanos(at * 1_000_000_000 / plan.rate);
        let early = (begun + intended).saturating_duration_since(Instant::now());
        if !early.is_zero() {
            thread::sleep(early);
        }
        connection.run(&format!(
            "INSERT INTO latency.t VALUES ('the quick brown fox jumps over the lazy dog', {at}.25, NOW(6), {})",
            plan.first + at
        ))?;
        let acknowledged = begun.elapsed().as_nanos() as u64;
        all.push((at, Times { intended: intended.as_nanos() as u64, acknowledged, arrived: 0 }));
    }
    Ok(all)
}

/// What a thread gave; its panic is ours.
pub fn joined<T>(thread: JoinHandle<Result<T, Failure>>) -> Result<T, Failure> {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The keys of the rows that a window inserts.
pub fn keys(window: &Window) -> Vec<u64> {
    let mut keys = Vec::new();
    for table in &window.tables {
        let column = table.rows.columns().last().expect("the table has four columns").to_data();
        let values = column.buffers()[0].typed_data::<u64>();
        let inserted = table.kind.iter().map(|kind| *kind == RowKind::Insert as u8);
        keys.extend(values.iter().zip(inserted).filter(|(_, inserted)| *inserted).map(|(key, _)| *key));
    }
    keys
}

/// What `q` of the sorted values do not exceed.
pub fn quantile(sorted: &[u64], q: f64) -> u64 {
    let rank = (sorted.len() as f64 * q).ceil().max(1.0) as usize;
    sorted.get(rank - 1).copied().unwrap_or_default()
}

/// p50, p99 and the longest, in milliseconds.
pub fn three(sorted: &[u64]) -> [f64; 3] {
    [0.5, 0.99, 1.0].map(|q| quantile(sorted, q) as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_smallest_value_that_so_many_do_not_exceed() {
        let sorted: Vec<u64> = (1..=200).collect();
        assert_eq!([0.5, 0.99, 1.0].map(|q| quantile(&sorted, q)), [100, 198, 200]);
        assert_eq!(quantile(&[7], 0.5), 7);
    }
}
