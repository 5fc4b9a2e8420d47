//! A relay as a source: follows an upstream relay and gives its windows as they are, frames included, so that a chained
//! log holds the same bytes. How relays are reached, and what becomes of one that fails, is the client's.
//!
//! Timelines keep the numbers and servers that they have upstream. Behind several relays they keep those of the relay that
//! was followed first: one that numbers them otherwise is understood by its servers' identities, and its windows are
//! encoded anew, since the number is in the frame. So a chained log never has one timeline under two numbers, and where
//! no relay has what follows it stops with an error instead.

mod error;
mod fetcher;

pub use fetcher::RelayFetcher;
