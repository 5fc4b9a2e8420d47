//! A clone's progress, for the person who waits for it: a bar a table that is being copied, redrawn on a terminal, as lines
//! elsewhere.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::time::{Duration, Instant};

use tidemill_bootstrap_clone::{CloneStatus, Gate, TableProgress, TableStage};
use tidemill_event::TableName;

/// How often it is looked.
pub(super) const INTERVAL: Duration = Duration::from_millis(200);
/// How often lines are written where they are not redrawn.
const LINES_EVERY: Duration = Duration::from_secs(5);
/// Cells of a bar.
const CELLS: u32 = 24;

/// See the module.
pub(super) struct Progress {
    is_terminal: bool,
    /// Lines that are drawn now, over which the next ones are.
    drawn: usize,
    last: Option<Instant>,
}

impl Progress {
    pub(super) fn new() -> Progress {
        Progress { is_terminal: std::io::stderr().is_terminal(), drawn: 0, last: None }
    }

    /// Shows how it stands.
    pub(super) fn show(&mut self, status: &CloneStatus) {
        if !self.is_terminal && self.last.is_some_and(|last| last.elapsed() < LINES_EVERY) {
            return;
        }
        self.last = Some(Instant::now());
        let text = text(status);
        let up = if self.is_terminal && self.drawn > 0 {
            format!("\x1b[{}A\x1b[J", self.drawn)
        } else {
            String::new()
        };
        self.drawn = text.lines().count();
        // Who does not see it misses nothing that counts.
        let _ = write!(std::io::stderr(), "{up}{text}");
    }

    /// What is drawn stays.
    pub(super) fn end(&mut self) {
        self.drawn = 0;
    }
}

fn text(status: &CloneStatus) -> String {
    let mut text = String::new();
    let copying = status.tables.iter().filter(|(_, table)| table.stage == TableStage::Copying);
    for (name, table) in copying {
        text.push_str(&line(name, table));
    }
    let done = status.tables.values().filter(|table| table.stage == TableStage::Done);
    let (count, rows) = done.fold((0, 0), |(count, rows), table| (count + 1, rows + table.rows));
    if count > 0 {
        let _ = writeln!(text, "{count} of {} tables copied, {rows} rows", status.tables.len());
    }
    match &status.gate {
        Gate::Open => {}
        Gate::Paused => text.push_str("paused by an operator\n"),
        Gate::Busy { why } => {
            let _ = writeln!(text, "waits: {why}");
        }
    }
    text
}

/// `shop.orders [######··················]  25 %  50000 rows, 310000 rows/s, 0:12 left`
fn line(name: &TableName, table: &TableProgress) -> String {
    let expected = table.chunks_expected.max(table.chunks_done).max(1);
    let filled = (u64::from(table.chunks_done) * u64::from(CELLS) / u64::from(expected)) as usize;
    let bar: String = "#".repeat(filled) + &"·".repeat(CELLS as usize - filled);
    let percent = u64::from(table.chunks_done) * 100 / u64::from(expected);
    let left =
        table.remaining.map(|left| format!(", {}:{:02} left", left.as_secs() / 60, left.as_secs() % 60));
    format!(
        "{name} [{bar}] {percent:>3} %  {} rows, {:.0} rows/s{}\n",
        table.rows,
        table.rows_per_second,
        left.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_is_copied_shows_how_far_how_fast_and_how_long() {
        let table = TableProgress {
            stage: TableStage::Copying,
            rows: 50_000,
            chunks_done: 1,
            chunks_expected: 4,
            rows_per_second: 310_000.4,
            remaining: Some(Duration::from_secs(72)),
            ..TableProgress::default()
        };
        assert_eq!(
            line(&TableName::new("shop", "orders"), &table),
            "shop.orders [######··················]  25 %  50000 rows, 310000 rows/s, 1:12 left\n"
        );
    }

    #[test]
    fn a_pause_and_a_busy_source_are_told() {
        let busy = Gate::Busy { why: "9 statements run, at most 4 may".into() };
        let status = CloneStatus { gate: busy, ..CloneStatus::default() };
        assert_eq!(text(&status), "waits: 9 statements run, at most 4 may\n");
    }
}
