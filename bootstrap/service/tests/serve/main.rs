//! A store that is served: what its readers have when they are done, whatever happens to it, to them and to their servers
//! meanwhile. The store is a real one, written as it is in service.

#![allow(clippy::unwrap_used, reason = "tests")]

mod model;
mod shop;

mod cost;
mod deltas;
mod http;
mod selection;
mod snapshot;
