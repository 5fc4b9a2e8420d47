//! The bootstrap service: an ordinary subscriber of a relay that applies what it follows to snapshot storage, has tables copied,
//! and serves snapshots and consolidated deltas.
//!
//! ```text
//! feed ──▶ Follower ──┬─▶ log segments        ─┐
//!                     ├─▶ delta runs           ├─▶ Writer::commit
//! clone ──chunks──────┼────────────────────────┤
//!   ▲                 └─▶ merges, publishing  ─┘
//!   └── Marks: what the follower has passed
//! ```
//!
//! How a store is written is `bootstrap/store`'s business, how rows are copied is `bootstrap/clone`'s.

mod follow;
pub mod limits;
mod marks;
mod options;
mod schema;
mod status;

mod serve;
pub mod verify;

pub use follow::{FollowError, Follower, Handle, OutOfStep};
pub use marks::{MarkError, Marks};
pub use options::{OnGap, ServiceOptions};
pub use serve::{ServeError, ServeLimits, SnapshotReader, SnapshotServer};
pub use status::{CloneState, State, Status, TableStatus};
