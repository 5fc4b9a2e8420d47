//! Conservation: what came in is what went out, was declined, judged away or kept back. Every station counts for itself,
//! so that a change that vanishes on the way shows as a difference.

/// What went through, since the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Events. Each is one of the next five.
    pub events: u64,
    /// Events that carry no rows.
    pub control_events: u64,
    /// Rows events that were decoded.
    pub carried_events: u64,
    /// Rows events of tables that the selector declined.
    pub declined_events: u64,
    /// Rows events that were passed over: of transactions before the beginning, rolled back, or read only to find
    /// their end.
    pub passed_events: u64,
    /// Events that stopped the stream.
    pub failed_events: u64,
    /// The events' bytes, as the log holds them.
    pub bytes: u64,
    /// Transactions that ended, with or without changes that are carried.
    pub transactions: u64,
    /// Changes that were decoded: an update is one.
    pub changes: u64,
    /// Row images that were decoded: an update has two.
    pub rows_read: u64,
    /// Row images of prepared transactions that came back from the disk at their commit.
    pub rows_released: u64,
    /// Row images that were given out.
    pub rows_given: u64,
    /// Row images that the judge removed, less those that it added.
    pub rows_judged_away: i64,
    /// Row images that were forgotten: rolled back, or of a transaction that comes again after a lost connection.
    pub rows_discarded: u64,
    /// Row images that went to disk with a prepared transaction.
    pub rows_prepared: u64,
    /// Row images that are here: of an open transaction, or of windows that were not asked for yet.
    pub rows_pending: u64,
    /// Row images that an error keeps back.
    pub rows_failed: u64,
    /// Connections that were lost and made again.
    pub reconnects: u64,
}

/// Something came in and went nowhere, or came from nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the fetcher took in {taken} {what} and accounts for {accounted}: {}; this is a bug", difference(*.taken, *.accounted))]
pub struct Unbalanced {
    /// What was counted.
    pub what: &'static str,
    /// How much of it came in.
    pub taken: i128,
    /// Where it is known to be.
    pub accounted: i128,
}

fn difference(taken: i128, accounted: i128) -> String {
    match taken > accounted {
        true => format!("{} went nowhere", taken - accounted),
        false => format!("{} came from nowhere", accounted - taken),
    }
}

impl Counters {
    /// Whether everything that came in is accounted for.
    pub fn check(&self) -> Result<(), Unbalanced> {
        let events = [
            self.control_events,
            self.carried_events,
            self.declined_events,
            self.passed_events,
            self.failed_events,
        ];
        let out =
            [self.rows_given, self.rows_discarded, self.rows_prepared, self.rows_pending, self.rows_failed];
        let sum = |parts: &[u64]| parts.iter().copied().map(i128::from).sum::<i128>();
        balance("events", sum(&[self.events]), sum(&events))?;
        let rows = sum(&[self.rows_read, self.rows_released]);
        balance("row images", rows, sum(&out) + i128::from(self.rows_judged_away))
    }
}

fn balance(what: &'static str, taken: i128, accounted: i128) -> Result<(), Unbalanced> {
    if taken == accounted { Ok(()) } else { Err(Unbalanced { what, taken, accounted }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_side() {
        let balanced = Counters {
            events: 5,
            control_events: 3,
            carried_events: 1,
            declined_events: 1,
            rows_read: 7,
            rows_released: 2,
            rows_given: 4,
            rows_judged_away: 3,
            rows_prepared: 2,
            ..Counters::default()
        };
        assert_eq!(balanced.check(), Ok(()));
        let lost = Counters { rows_given: 3, ..balanced }.check();
        let text = lost.expect_err("one is missing").to_string();
        assert!(text.contains("9 row images") && text.contains("1 went nowhere"), "{text}");
        let made = Counters { declined_events: 4, ..balanced }.check();
        let text = made.expect_err("three are made up").to_string();
        assert!(text.contains("5 events") && text.contains("3 came from nowhere"), "{text}");
    }
}
