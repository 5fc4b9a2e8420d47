//! The subscription library: carries one subscription over relays that come and go, from a checkpoint on, and hands
//! its windows to a consumer in commit order. What a window means to the consumer is the consumer's business.

mod bootstrap;
mod consumer;
mod control;
mod drive;
mod feed;
pub mod limits;
mod random;
mod remote;
mod retry;
mod store;

pub use bootstrap::{Bootstrap, PhasedError, PhasedFeed, Piece, RelayBootstrap, Stream};
pub use consumer::Consumer;
pub use control::{Control, State, Status, Switch};
pub use drive::{Cause, Paused, drive};
pub use feed::Feed;
pub use remote::{
    Backoff, ClientError, ClientTls, Link, RelayFeed, RelayOptions, Reports, Selection, SourceInfo, Start,
    Token,
};
pub use retry::RetryPolicy;
pub use store::{CheckpointStore, FileStore, FileStoreError};
