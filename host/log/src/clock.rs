//! The time of day by which segments grow old: read once, when the log is opened, and moved on by the clock that nobody can
//! set. So a clock that jumps while the process runs makes no segment older than it is.

use std::time::{Instant, SystemTime};

#[derive(Debug)]
pub(crate) struct Clock {
    opened: SystemTime,
    since: Instant,
}

impl Clock {
    pub(crate) fn new() -> Clock {
        Clock { opened: SystemTime::now(), since: Instant::now() }
    }

    pub(crate) fn now(&self) -> SystemTime {
        self.opened + self.since.elapsed()
    }
}
