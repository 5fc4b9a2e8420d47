//! Follows a source's stream into its store.
//!
//! ```text
//!           intake            tables              applier                 keeper
//! window ─▶ our positions ─▶ runs being built ─▶ one commit: applied ─▶ runs and bases merged, garbage removed
//!      └──▶ log buffer ────────────────────────▶ one commit: logged
//! ```
//!
//! Everything that is not committed is read again by the next start: from log segments between `applied` and `logged`, from
//! the feed after that. So any error that does not mend itself ends a run, and nothing has to be undone.

mod follower;

mod applier;
mod change;
mod intake;
mod tables;

mod keeper;
mod merge;

mod error;

pub use error::FollowError;
pub use follower::{Follower, Handle};
pub use intake::OutOfStep;

use change::{Change, Step};
