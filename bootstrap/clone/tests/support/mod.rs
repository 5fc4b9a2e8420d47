//! What the tests of clones share.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "tests")]

pub mod follow;
pub mod kept;
pub mod model;
pub mod stored;
pub mod watched;
