//! The log store of one source: windows go in at one end, by one writer, and come out in commit order to any
//! number of readers. What is new lies in a memory ring, then in segment files, and where a log has history for as long as
//! configured in an object store; a reader falls from one to the other without noticing. What a window means, and who may
//! see it, is decided elsewhere.
//!
//! ```text
//!             earliest                                                      stored      head
//!                │                                                            │          │
//!  dropped ……… ──┼── segment 6 ──┬── segment 7 ──┬── segment 8 ──┬── segment 9 ┤ (idle)  │
//!                └────── history ┴───────────────┘               │             │
//!                                └────── disk ───┴───────────────┴─────────────┤
//!                                                              └── memory ring ┘
//! ```
//!
//! What holds after every crash: a transaction is there whole or not at all; what was acknowledged as durable
//! is there; a frame that is not what was written is an error or, in the tail that was never synced, cut.

mod clock;
mod codec;
mod config;
mod error;
mod files;
mod history;
mod index;
mod limits;
mod locate;
mod log;
mod reader;
mod recover;
mod retain;
mod ring;
mod scan;
mod schemas;
mod segment;
mod skip;
mod state;
mod sync;
mod trim;
mod writer;

pub use config::{From, Fsync, LogConfig};
pub use error::{
    AppendError, Asked, Damaged, Discontinuous, Diverged, Fenced, InUse, OpenError, OtherLineage,
    OtherSource, Poisoned, ReadError, StorageError, TooOld,
};
pub use files::{DiskFiles, Files, SegmentFile};
pub use history::{DamagedObject, HistoryConfig, HistoryError, HistoryStats, OtherHistory};
pub use log::{Log, LogStats};
pub use reader::Reader;
pub use writer::{Ack, Writer};
