//! Where a consumer's effects are committed together with its checkpoint, so that each transaction has its effect
//! exactly once. This crate holds the embedded store: output rows, state and checkpoint in one file, one write
//! transaction a delivery. What a consumer is, and when it is asked, is decided elsewhere.

mod batch;
mod commit;
mod effects;
mod error;
mod rows;
mod store;
mod value;
mod view;

pub use effects::{Effects, Op, OutputChange, OutputRows};
pub use error::{DamagedCheckpoint, Rejected, StoreError, StoreFailed};
pub use rows::{Rows, StoredRow};
pub use store::{EmbeddedStore, StateEntry};
pub use value::Value;
pub use view::View;
