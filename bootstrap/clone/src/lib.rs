//! Copies tables under a policy: in parallel, without locks, no transaction longer than a chunk, resumable chunk by chunk.
//!
//! ```text
//!            CloneControl: tables to copy, redo, pause            CloneStatus: rows, chunks, remaining time
//!                    │                                                   ▲
//!                    ▼                                                   │
//! Extract ─ bound ─▶ Cloner ─ read ─▶ Policy ─ rows that may be stored ─▶ Marks ─▶ Destination
//!                    one loop owns all state;                      positions      snapshot storage, or a consumer
//!                    jobs run beside it
//! ```
//!
//! A chunk is exact only with the log replayed over it, from its low mark to its high mark or later. Who replays is elsewhere:
//! the follower of snapshot storage, or the consumer's own stream.

// What a clone is told and what it tells.
mod control;
mod options;
mod status;

// Its neighbours.
mod destination;
mod marks;
mod plan;
mod policy;
mod stamp;

// The destinations.
mod consumer;
mod snapshot;

// The clone: one loop, the state of each table, the jobs.
mod cloner;
mod error;

mod table;

mod jobs;
mod trouble;

mod budget;
mod sessions;

pub use cloner::Cloner;
pub use consumer::{Fed, InitialCopy};
pub use control::CloneControl;
pub use destination::{ChunkRows, CopyId, Destination, Resumed, TableCopy};
pub use error::{BoxError, CloneError, DestinationError};
pub use marks::{Marks, NoPlace};
pub use options::CloneOptions;
pub use plan::Plan;
pub use policy::{Policy, TableReads, inserts};
pub use snapshot::SnapshotDestination;
pub use stamp::Stamp;
pub use status::{CloneStatus, Gate, TableProgress, TableStage};
