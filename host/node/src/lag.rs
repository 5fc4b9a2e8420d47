//! How long transactions take from their commit, or from their reading, to the consumer: counted in buckets of a
//! sixteenth of their size, so that a quantile is right within seven percent whatever its size.

use std::time::Duration;

/// Buckets per power of two.
const FINE: u64 = 16;

/// A histogram of durations in microseconds.
#[derive(Clone, Debug, Default)]
pub struct Lag {
    buckets: Vec<u64>,
    count: u64,
    max_us: u64,
}

impl Lag {
    /// Counts one.
    pub fn add(&mut self, lag: Duration) {
        self.add_many(lag, 1);
    }

    /// Counts several of the same.
    pub fn add_many(&mut self, lag: Duration, times: u64) {
        let us = u64::try_from(lag.as_micros()).unwrap_or(u64::MAX);
        let at = bucket(us);
        if self.buckets.len() <= at {
            self.buckets.resize(at + 1, 0);
        }
        self.buckets[at] += times;
        self.count += times;
        self.max_us = self.max_us.max(us);
    }

    /// The longest.
    pub fn max(&self) -> Duration {
        Duration::from_micros(self.max_us)
    }

    /// The duration that `q` of all (0 to 1) did not exceed.
    pub fn quantile(&self, q: f64) -> Duration {
        let wanted = (self.count as f64 * q).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (at, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Duration::from_micros(upper(at).min(self.max_us));
            }
        }
        self.max()
    }
}

/// Values below `FINE` have a bucket each; above, each power of two has `FINE` of them.
fn bucket(us: u64) -> usize {
    if us < FINE {
        return us as usize;
    }
    let shift = us.ilog2() - FINE.ilog2();
    (u64::from(shift) * FINE + (us >> shift)) as usize
}

/// The largest value of a bucket.
fn upper(at: usize) -> u64 {
    let at = at as u64;
    if at < 2 * FINE {
        return at;
    }
    let shift = at / FINE - 1;
    ((at % FINE + FINE + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_a_bucket_that_is_at_most_a_sixteenth_wide() {
        for us in (0..100_000).chain([1 << 40, (1 << 50) + 12_345]) {
            let top = upper(bucket(us));
            assert!(top >= us && top - us <= us / 16, "{us} in a bucket up to {top}");
        }
    }

    #[test]
    fn quantiles_are_those_of_the_values() {
        let mut lag = Lag::default();
        (1..=1000).for_each(|ms| lag.add(Duration::from_millis(ms)));
        let near = |q: f64, ms: u64| {
            let found = lag.quantile(q).as_micros() as f64;
            assert!((found / (ms as f64 * 1000.0) - 1.0).abs() < 0.07, "{q}: {found}");
        };
        near(0.5, 500);
        near(0.99, 990);
        assert_eq!(lag.max(), Duration::from_secs(1));
    }
}
