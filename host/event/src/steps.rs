//! Places within a window, between its transactions: where a consumer stands that has only its beginning.

use crate::gtid::{Gtid, GtidSet};
use crate::{Checkpoint, Position, Window};

/// Checkpoints within a window, one after the other.
#[derive(Debug)]
pub struct Steps<'a> {
    window: &'a Window,
    /// What was executed after the transactions passed; `None` where the source has no sets.
    executed: Option<GtidSet>,
    passed: usize,
}

impl<'a> Steps<'a> {
    pub(crate) fn new(window: &'a Window) -> Steps<'a> {
        Steps { window, executed: window.executed_before(), passed: 0 }
    }

    /// The checkpoint of a consumer that has the window's first `count` transactions, which are whole.
    ///
    /// # Panics
    /// When there are fewer, or when `count` is less than it was in the call before.
    pub fn after(&mut self, count: usize) -> Checkpoint {
        let newly = &self.window.transactions[self.passed..count];
        self.passed = count;
        if let Some(executed) = &mut self.executed {
            newly.iter().filter_map(|t| Gtid::parse(&t.gtid)).for_each(|gtid| executed.add(&gtid));
        }
        let last = count.checked_sub(1).map(|last| self.window.transactions[last].scn);
        let scn = last.unwrap_or(self.window.span.after);
        let gtid_set = self.executed.as_ref().map(GtidSet::to_string).unwrap_or_default();
        Checkpoint {
            position: Position { scn, ..self.window.position() },
            gtid_set,
            ..self.window.checkpoint()
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Part, Scn, Span, Timeline, Transaction, Window};

    fn window(executed: &str, gtids: &[&str]) -> Window {
        let timeline = Timeline { number: 1, server: "s".into() };
        let span = Span { after: Scn(10), upto: Scn(100) };
        let mut window = Window::empty("shop".into(), timeline, span, executed.into());
        window.transactions = (1u32..)
            .zip(gtids)
            .map(|(number, gtid)| Transaction {
                scn: Scn(10 + u64::from(number)),
                gtid: (*gtid).into(),
                commit_time_us: 0,
                first_ordinal: number,
                change_count: 1,
                change_offset: 0,
                part: Part::Whole,
            })
            .collect();
        window
    }

    fn check(executed: &str, gtids: &[&str], expected: &[&str]) {
        let window = window(executed, gtids);
        let mut steps = window.steps();
        for (count, expected) in expected.iter().enumerate() {
            let at = steps.after(count);
            assert_eq!((at.position.scn.0, at.gtid_set.as_str()), (10 + count as u64, *expected));
        }
    }

    #[test]
    fn a_place_within_a_window_has_the_set_that_was_executed_there() {
        let id = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        let set = |upto| format!("{id}:1-{upto}");
        let gtids = [4, 5, 6].map(|number| format!("{id}:{number}"));
        let gtids: Vec<&str> = gtids.iter().map(String::as_str).collect();
        check(&set(6), &gtids, &[&set(3), &set(4), &set(5), &set(6)]);
        check("0-1-6", &["0-1-5", "0-1-6"], &["0-1-4", "0-1-5", "0-1-6"]);
    }

    #[test]
    fn a_source_without_sets_has_positions_alone() {
        check("", &["", ""], &["", "", ""]);
    }
}
