//! Numbers with a reason, and how they relate.

use tidemill_event::limits::{BODY_ALIGNMENT, WINDOW_BYTES_MAX};

/// A sparse index has one point per so many bytes of a segment: what a lookup may have to scan.
pub(crate) const INDEX_STRIDE_BYTES: u64 = 1 << 20;

/// A reader fetches so much of a segment at once: small windows share one read, a large one has its own.
pub(crate) const READ_BYTES: u64 = 1 << 20;

/// A segment's header or an index; bounds what a damaged length can make us allocate. The largest part of a
/// header is the set of executed transactions.
pub(crate) const HEADER_BYTES_MAX: usize = 64 << 20;

/// Frames begin at multiples of this, so that a frame can be used where it was read.
pub(crate) const FRAME_ALIGNMENT: usize = BODY_ALIGNMENT;

/// A ring that holds less than this serves nobody.
pub(crate) const MEMORY_BYTES_DEFAULT: usize = 64 << 20;

/// Large enough that files are few, small enough that retention is fine-grained and recovery reads one in less
/// than a second.
pub(crate) const SEGMENT_BYTES_DEFAULT: u64 = 64 << 20;

/// Segments of history on this disk: sixteen of the default size.
pub(crate) const CACHE_BYTES_DEFAULT: u64 = 1 << 30;

/// A cache that has room for so many segments fetches ahead: fewer would push out what is read.
pub(crate) const CACHE_SEGMENTS_MIN: u64 = 4;

/// Entries of a catalogue that are read at once.
pub(crate) const CATALOGUE_GETS: usize = 32;

/// A segment goes to the store in parts of this size where it is larger than one.
pub(crate) const PART_BYTES: u64 = 16 << 20;

const _: () = assert!(MEMORY_BYTES_DEFAULT >= 4 * WINDOW_BYTES_MAX);
const _: () = assert!(SEGMENT_BYTES_DEFAULT >= 4 * INDEX_STRIDE_BYTES);
const _: () = assert!(CACHE_BYTES_DEFAULT >= 4 * SEGMENT_BYTES_DEFAULT);
const _: () = assert!(PART_BYTES >= 5 << 20, "S3 takes no smaller parts");
