//! The relay over real sockets: what it answers, to whom, within which limits, and how it ends.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../support/shop.rs"]
mod shop;
mod support;

mod admin;
mod grants;
mod limits;
mod protocols;
mod requests;
mod shutdown;
