//! What a log may be told, with its defaults.

use std::path::PathBuf;
use std::time::Duration;

use tidemill_event::Position;
use tidemill_event::gtid::GtidSet;

use crate::limits::{MEMORY_BYTES_DEFAULT, SEGMENT_BYTES_DEFAULT};

/// When an appended window is forced to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// Before `append` returns; every acknowledgement is then `Durable`.
    Always,
    /// At most so long after `append`; acknowledgements are `Accepted`.
    Interval(Duration),
}

/// The settings of one log.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Its directory, made if it is not there. One source, one directory.
    pub directory: PathBuf,
    /// Newest windows are kept in memory up to so many bytes.
    pub memory_bytes: usize,
    /// A segment is sealed at this size.
    pub segment_bytes: u64,
    /// Oldest segments are dropped when all of them have more bytes than this.
    pub retention_bytes: Option<u64>,
    /// A segment is dropped when so much time has passed since its last append.
    pub retention_time: Option<Duration>,
    /// When appended windows are forced to the disk.
    pub fsync: Fsync,
    /// How often the position of an idle source is written down: it bounds how far back the fetcher goes when
    /// the process dies while the source is quiet.
    pub idle_interval: Duration,
}

impl LogConfig {
    /// The defaults, in that directory: 64 MiB of memory, segments of 64 MiB, nothing is dropped, an fsync a
    /// second, an idle position a minute.
    pub fn new(directory: impl Into<PathBuf>) -> LogConfig {
        LogConfig {
            directory: directory.into(),
            memory_bytes: MEMORY_BYTES_DEFAULT,
            segment_bytes: SEGMENT_BYTES_DEFAULT,
            retention_bytes: None,
            retention_time: None,
            fsync: Fsync::Interval(Duration::from_secs(1)),
            idle_interval: Duration::from_secs(60),
        }
    }
}

/// Where a reader begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// With the oldest window that the log holds.
    Earliest,
    /// With what is appended from now on.
    Now,
    /// With the first transaction after this position. One that is ahead of the log waits for it.
    After(Position),
    /// With the first transaction that is not in this set, as another server of the lineage executed it. Where `after` is
    /// given, it is a position up to which the reader has everything. Positions on the way are of this log; the windows'
    /// sets of executed transactions hold this set too, so a checkpoint from the middle is as good.
    Executed {
        /// What the reader has.
        set: Box<GtidSet>,
        /// Everything up to here is in the set.
        after: Option<Position>,
    },
    /// With the first transaction that committed at this time or later: microseconds since 1970-01-01 UTC. What
    /// follows it in the log is given whatever its time.
    Time(i64),
}
