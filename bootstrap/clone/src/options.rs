//! What a clone may cost the source.

use std::time::Duration;

/// What a clone may cost the source, and how it is cut.
#[derive(Clone, Debug)]
pub struct CloneOptions {
    /// Connections to the source, over all tables.
    pub max_connections: usize,
    /// Chunks that are read, judged or written at a time: what a crash costs at most, and what is held in memory. Connections
    /// are idle while their chunks are written unless it is larger than `max_connections`.
    pub chunks_in_flight: usize,
    /// Tables that are copied at a time.
    pub tables_at_once: usize,
    /// Rows of a chunk, at most.
    pub chunk_rows: u64,
    /// Bytes of a chunk by the source's statistics, at most.
    pub chunk_bytes: u64,
    /// Rows that are read a second, over all tables; `None`: as many as come.
    pub rows_per_second: Option<u64>,
    /// Nothing new is read while more statements than that run at the source; `None`: whatever runs.
    pub max_threads_running: Option<u64>,
    /// Nothing new is read while a replica is further behind than that; `None`: however far.
    pub max_replica_lag: Option<Duration>,
    /// How often the source is asked what it is under, where one of the two is limited.
    pub load_every: Duration,
    /// How long a lost connection or a busy destination is left alone, the first time; it doubles up to 64 times that.
    pub retry_after: Duration,
    /// After which a table that could not be copied, for want of a privilege, say, is tried again.
    pub failed_again_every: Duration,
}

impl Default for CloneOptions {
    fn default() -> CloneOptions {
        CloneOptions {
            max_connections: 4,
            chunks_in_flight: 8,
            tables_at_once: 8,
            chunk_rows: 100_000,
            chunk_bytes: 64 << 20,
            rows_per_second: None,
            max_threads_running: None,
            max_replica_lag: None,
            load_every: Duration::from_secs(1),
            retry_after: Duration::from_millis(500),
            failed_again_every: Duration::from_secs(60),
        }
    }
}
