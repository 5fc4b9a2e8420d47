//! How a source is followed: how often what, and what is kept how long.

use std::time::Duration;

use tidemill_bootstrap_store::{MergeOptions, Retention, WriterOptions};

/// What becomes of a source whose log went on without us: a stretch of it is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnGap {
    /// Every table is stale, and nothing happens until somebody decides.
    #[default]
    Stop,
    /// Every table is stale, and is copied again.
    CloneAnew,
}

/// Settings of a [`crate::Follower`].
#[derive(Clone, Debug)]
pub struct ServiceOptions {
    /// What is followed is durable after this time at the latest …
    pub flush_every: Duration,
    /// … or when there is this much of it, in bytes of memory.
    pub flush_bytes: usize,
    /// Runs are built from it after this time at the latest …
    pub apply_every: Duration,
    /// … or when they have this many bytes in memory.
    pub apply_bytes: usize,
    /// A changed table has a new version after this time at the latest …
    pub publish_every: Duration,
    /// … or when its runs have this share of its base's rows.
    pub publish_ratio: f64,
    /// A table has at most this many runs before some are merged.
    pub runs_max: usize,
    /// Runs of about one size are merged when there are this many of them.
    pub runs_ratio: usize,
    /// How a version is written.
    pub merge: MergeOptions,
    /// What is kept, and how long.
    pub retention: Retention,
    /// The time: microseconds since 1970-01-01 UTC.
    pub now_us: fn() -> i64,
    /// How often what nobody needs any more is looked for.
    pub collect_every: Duration,
    /// What becomes of a log that went on without us.
    pub on_gap: OnGap,
    /// The fingerprint of the policy that judged what is followed; empty: none did. It is kept with tables that the log makes.
    pub policy: String,
}

impl Default for ServiceOptions {
    fn default() -> ServiceOptions {
        ServiceOptions {
            flush_every: Duration::from_secs(10),
            flush_bytes: 64 << 20,
            apply_every: Duration::from_secs(60),
            apply_bytes: 16 << 20,
            publish_every: Duration::from_secs(15 * 60),
            publish_ratio: 0.10,
            runs_max: 12,
            runs_ratio: 4,
            merge: MergeOptions::default(),
            retention: Retention::default(),
            now_us: WriterOptions::default().now_us,
            collect_every: Duration::from_secs(10 * 60),
            on_gap: OnGap::Stop,
            policy: String::new(),
        }
    }
}
