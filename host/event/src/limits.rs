//! Numbers with a reason, and how they relate.

/// One frame, whole. A window is cut long before; this bounds what a damaged length can make us allocate.
pub const FRAME_BYTES_MAX: usize = 1 << 30;

/// A window is cut at this many bytes of column data: large enough for vectorised work, small enough that its buffers
/// stay in the processor's caches and come from memory that was used a moment ago. Four times as much costs a tenth more
/// time and half as much memory again over the whole pipeline.
pub const WINDOW_BYTES_MAX: usize = 1 << 20;

/// Columns of one table: MySQL allows 4096, Oracle 1000.
pub const COLUMNS_MAX: usize = 4096;

/// Tables in one window.
pub const TABLES_MAX: usize = 1 << 16;

/// Alignment of column buffers within a frame, so that arrays are read where they lie: the widest value (a
/// 256-bit decimal) needs 16. More would only pad the many small windows of a quiet source.
pub const BODY_ALIGNMENT: usize = 16;

const _: () = assert!(WINDOW_BYTES_MAX * 4 <= FRAME_BYTES_MAX);
const _: () = assert!(BODY_ALIGNMENT.is_power_of_two());
