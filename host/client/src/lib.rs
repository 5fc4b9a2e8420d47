//! The subscription library: carries one subscription over relays that come and go, from a checkpoint on, and hands
//! its windows to a consumer in commit order. What a window means to the consumer is the consumer's business.

mod consumer;
mod feed;

pub use consumer::Consumer;
pub use feed::Feed;
