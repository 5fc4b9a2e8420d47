//! The words that every other crate speaks: the source's clock, table schemas, row kinds, windows of
//! transactions held as columns, the consumer's checkpoint, and the one frame codec that disk and wire share.
//! No I/O, no clock, no randomness: whoever reads or writes bytes does it elsewhere.

mod bits;
pub mod calendar;
mod chain;
mod checkpoint;
mod frame;
mod gone;
pub mod gtid;
mod key;
pub mod limits;
mod merge;
mod remedy;
mod row;
mod schema;
mod scn;
mod steps;
mod window;
mod wire;

pub use chain::chain;
pub use checkpoint::{Checkpoint, CheckpointError, Cursor, Phase};
pub use frame::{
    Decoded, Frame, FrameError, FrameHeader, SchemaSet, decode, decode_checkpoint, decode_piece,
    encode_checkpoint, encode_schema, encode_shared, encode_window,
};
pub use merge::{can_merge, merge};
pub use remedy::Remedy;
pub use row::RowKind;
pub use schema::{ColumnSchema, SchemaId, Sensitivity, TableName, TableSchema};
pub use scn::{Position, Scn, Span, Timeline};
pub use steps::Steps;
pub use window::{Change, Event, EventKind, Part, TableChanges, Transaction, Window, WindowError};
