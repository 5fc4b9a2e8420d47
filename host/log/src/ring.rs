//! The newest windows, in memory, in the order of their places on disk. It forgets the oldest when it holds more
//! bytes than it may; who still reads them keeps them.

use std::collections::VecDeque;
use std::sync::Arc;

use tidemill_event::{Frame, Part, Position, TableChanges, Window};

/// Where a frame lies on disk: the segment's sequence number and the offset in it. Offset 0 stands for the
/// segment's first frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) sequence: u64,
    pub(crate) offset: u64,
}

/// One window.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Where its frame begins.
    pub(crate) place: Place,
    /// Where it ends.
    pub(crate) end: Place,
    pub(crate) frame: Frame,
    pub(crate) window: Arc<Window>,
}

impl Entry {
    /// What it takes in memory. The arrays of a window lie in its frame, but what describes them does not, and of a small
    /// window that is most.
    fn bytes(&self) -> usize {
        let transactions: usize =
            self.window.transactions.iter().map(|t| size_of_val(t) + t.gtid.len()).sum();
        let columns = |t: &TableChanges| TABLE_BYTES + COLUMN_BYTES * (t.rows.num_columns() + OWN_COLUMNS);
        let tables: usize = self.window.tables.iter().map(columns).sum();
        self.frame.bytes().len() + WINDOW_BYTES + transactions + tables
    }
}

/// What a window takes beside its frame, its tables and its transactions: itself, its texts, the ring's entry.
const WINDOW_BYTES: usize = 512;

/// What a table of a window takes beside its columns.
const TABLE_BYTES: usize = 256;

/// What describes one array: measured on windows of one row.
const COLUMN_BYTES: usize = 256;

/// Kind, ordinal and transaction.
const OWN_COLUMNS: usize = 3;

/// See the module.
#[derive(Debug)]
pub(crate) struct Ring {
    entries: VecDeque<Entry>,
    bytes: usize,
    bytes_max: usize,
    /// What lies before is only on disk.
    start: Place,
}

impl Ring {
    pub(crate) fn new(bytes_max: usize, start: Place) -> Ring {
        Ring { entries: VecDeque::new(), bytes: 0, bytes_max, start }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn push(&mut self, entry: Entry) {
        debug_assert!(self.entries.back().is_none_or(|last| last.end <= entry.place));
        self.bytes += entry.bytes();
        self.entries.push_back(entry);
        while self.bytes > self.bytes_max {
            let oldest = self.entries.pop_front().expect("bytes are those of entries");
            self.bytes -= oldest.bytes();
            self.start = oldest.end;
        }
    }

    /// Whether what lies at that place, or will, is in memory.
    pub(crate) fn covers(&self, place: Place) -> bool {
        place >= self.start
    }

    /// The first window at or after a place that is covered.
    pub(crate) fn at(&self, place: Place) -> Option<&Entry> {
        self.entries.get(self.entries.partition_point(|e| e.place < place))
    }

    /// The last window that begins at or before the position: its place, and where it begins.
    pub(crate) fn seek(&self, position: Position) -> Option<(Place, Position)> {
        let before = |e: &Entry| Position { timeline: e.window.timeline.number, scn: e.window.span.after };
        let after = self.entries.partition_point(|e| before(e) <= position);
        // A reader meets a transaction from its beginning, so its later fragments are no place to begin.
        let begins = |e: &Entry| {
            let part = e.window.transactions.first().map_or(Part::Whole, |t| t.part);
            matches!(part, Part::Whole | Part::First)
        };
        self.entries.range(..after).rev().find(|e| begins(e)).map(|e| (e.place, before(e)))
    }

    /// Forgets what lies at or after a place: it was never visible.
    pub(crate) fn cut(&mut self, end: Place) {
        while self.entries.back().is_some_and(|last| last.place >= end) {
            let last = self.entries.pop_back().expect("it is there");
            self.bytes -= last.bytes();
        }
        self.start = self.start.min(end);
    }
}
