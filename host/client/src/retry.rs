//! How often and how soon a delivery that failed is tried again.

use std::time::Duration;

use crate::limits::{RETRY_FIRST, RETRY_MOST};

/// How a delivery that failed is tried again, before its subscription pauses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How often between two commits.
    pub retries: u32,
    /// The wait before the first repetition; it doubles.
    pub first: Duration,
    /// The longest wait.
    pub most: Duration,
}

impl RetryPolicy {
    /// That many repetitions, with the usual waits.
    pub fn new(retries: u32) -> RetryPolicy {
        RetryPolicy { retries, first: RETRY_FIRST, most: RETRY_MOST }
    }

    /// The wait before the repetition with that number, from 0.
    pub fn wait(&self, attempt: u32) -> Duration {
        self.first.saturating_mul(2_u32.saturating_pow(attempt)).min(self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let policy =
            RetryPolicy { retries: 9, first: Duration::from_millis(50), most: Duration::from_millis(300) };
        let waits: Vec<u128> = [0, 1, 2, 3, 4, 400].map(|n| policy.wait(n).as_millis()).to_vec();
        assert_eq!(waits, [50, 100, 200, 300, 300, 300]);
    }
}
