//! How many rows a second may be read, over all connections: each chunk is given the moment at which it may begin.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// See the module.
pub(crate) struct Budget {
    rows_per_second: Option<u64>,
    /// When the rows that were granted so far are paid for.
    paid_at: Mutex<Option<Instant>>,
}

impl Budget {
    pub(crate) fn new(rows_per_second: Option<u64>) -> Budget {
        Budget { rows_per_second, paid_at: Mutex::default() }
    }

    /// Waits until that many rows may be read.
    pub(crate) async fn grant(&self, rows: u64) {
        let Some(rate) = self.rows_per_second else { return };
        let begin = {
            let mut paid_at = self.paid_at.lock().expect("no holder panics");
            let begin = paid_at.unwrap_or_else(Instant::now).max(Instant::now());
            *paid_at = Some(begin + cost(rows, rate));
            begin
        };
        sleep_until(begin).await;
    }

    /// Fewer rows than granted were read: what is left is for others.
    pub(crate) fn refund(&self, rows: u64) {
        let Some(rate) = self.rows_per_second else { return };
        let mut paid_at = self.paid_at.lock().expect("no holder panics");
        *paid_at = paid_at.map(|at| at.checked_sub(cost(rows, rate)).unwrap_or(at));
    }
}

fn cost(rows: u64, rate: u64) -> Duration {
    Duration::from_secs_f64(rows as f64 / rate.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn over_all_who_ask_no_more_rows_are_granted_than_the_rate_allows() {
        let (budget, began) = (Budget::new(Some(100)), Instant::now());
        let mut granted = vec![];
        for _ in 0..5 {
            budget.grant(50).await;
            granted.push(began.elapsed().as_millis());
        }
        assert_eq!(granted, [0, 500, 1000, 1500, 2000]);
        // The last one read 10 rows only.
        budget.refund(40);
        budget.grant(50).await;
        assert_eq!(began.elapsed().as_millis(), 2100);
        Budget::new(None).grant(u64::MAX).await;
        assert_eq!(began.elapsed().as_millis(), 2100);
    }
}
