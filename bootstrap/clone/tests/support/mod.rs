//! What the tests of clones share.

#![allow(dead_code, reason = "each test binary uses its part")]

pub mod kept;
pub mod model;
