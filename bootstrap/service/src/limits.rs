//! Numbers with a reason.

/// Positions that a follower remembers for copies beside it: hours of them at a few windows a second, in a few megabytes.
pub const MARKS_MAX: usize = 4096;
/// Stretches remembered for each table: a table without key is copied again when it changed under its copy, and one that
/// changes more often than this while it is copied changed for sure.
pub const TOUCHES_MAX: usize = 256;

const _: () = assert!(MARKS_MAX.is_multiple_of(4));
