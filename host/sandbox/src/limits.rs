//! Numbers with a reason, and how they relate. What one guest may take is a [`Limits`]; the rest are bounds
//! that no configuration moves.

use std::time::Duration;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// The epoch moves this often: fine enough for a deadline of a second, rare enough to cost nothing.
pub const TICK: Duration = Duration::from_millis(10);

/// No instance may be given more memory than this: the slots of the pool are this large.
pub const MEMORY_BYTES_MAX: usize = 512 * MIB;

/// Linear memories of one component: QuickJS builds have three.
pub const MEMORIES_MAX: usize = 8;

/// Elements of one table: the function table of a large interpreter has about 20 000.
pub const TABLE_ELEMENTS_MAX: usize = 200_000;

/// Frames of a backtrace: deep enough to leave the panic machinery behind.
pub const BACKTRACE_FRAMES_MAX: usize = 16;

/// A line of a guest's log is cut here.
pub const LOG_LINE_BYTES_MAX: usize = 4 * KIB;

/// Lines that one call may log; the rest is dropped and counted.
pub const LOG_LINES_MAX: u32 = 64;

/// Counters of one guest: each becomes a metric.
pub const COUNTERS_MAX: usize = 64;

/// The name of a counter.
pub const COUNTER_NAME_BYTES_MAX: usize = 64;

/// A key of a consumer's state.
pub const STATE_KEY_BYTES_MAX: usize = KIB;

/// A value of a consumer's state.
pub const STATE_VALUE_BYTES_MAX: usize = MIB;

/// Tables that one consumer may open for output.
pub const OUTPUT_TABLES_MAX: usize = 1024;

/// What any change of an output table counts beside its bytes, so that a guest cannot pile up empty ones.
pub const OUTPUT_CHANGE_BYTES: usize = 64;

/// Rows that a `rejected` answer may name; more say nothing new to anybody.
pub const REJECTED_ROWS_SHOWN: usize = 8;

/// What one guest may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// All its linear memories together.
    pub memory_bytes: usize,
    /// One call, by the wall clock.
    pub call_time: Duration,
    /// What one call, and one call of the host by the guest, may hand over.
    pub output_bytes: usize,
    /// Column data that one call is given.
    pub input_bytes: usize,
    /// Rows that one call is given.
    pub batch_rows: usize,
    /// The end of what it wrote to standard error, kept for the message of a trap.
    pub stderr_bytes: usize,
    /// What a consumer may write to standard output, and append to its output tables, in one call.
    pub effect_bytes: usize,
}

impl Limits {
    /// For filters, projections and policies. A batch of 4096 rows keeps the guest's working set within the
    /// second-level cache; a second is hundreds of times what such a batch takes.
    pub const fn pure() -> Limits {
        Limits {
            memory_bytes: 64 * MIB,
            call_time: Duration::from_secs(1),
            output_bytes: 32 * MIB,
            input_bytes: 8 * MIB,
            batch_rows: 4096,
            stderr_bytes: 8 * KIB,
            effect_bytes: 0,
        }
    }

    /// For consumers, which may wait for others and keep more at hand.
    pub const fn consumer() -> Limits {
        Limits {
            memory_bytes: 256 * MIB,
            call_time: Duration::from_secs(30),
            batch_rows: 8192,
            effect_bytes: 64 * MIB,
            ..Limits::pure()
        }
    }

    /// The deadline of one call in ticks of the epoch; one more, since the current tick is partly over.
    pub(crate) fn ticks(&self) -> u64 {
        let ticks = self.call_time.as_millis().div_ceil(TICK.as_millis());
        u64::try_from(ticks).unwrap_or(u64::MAX / 4).max(1) + 1
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits::pure()
    }
}

// A guest needs its input, its answer and its own working copy at the same time.
const _: () = assert!(Limits::pure().input_bytes * 4 <= Limits::pure().memory_bytes);
const _: () = assert!(Limits::consumer().input_bytes * 4 <= Limits::consumer().memory_bytes);
// What a guest may answer fits into its memory.
const _: () = assert!(Limits::pure().output_bytes <= Limits::pure().memory_bytes);
const _: () = assert!(Limits::consumer().memory_bytes <= MEMORY_BYTES_MAX);
// The largest state value can be handed over in one call.
const _: () = assert!(STATE_VALUE_BYTES_MAX + STATE_KEY_BYTES_MAX <= Limits::consumer().output_bytes);
