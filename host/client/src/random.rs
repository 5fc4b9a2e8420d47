//! Numbers for spreading retries. Nothing that is stored depends on them.

use std::hash::{BuildHasher, RandomState};

/// A random number, from the keys that the standard library takes from the system for each hash table.
pub(crate) fn number() -> u64 {
    RandomState::new().hash_one(0u8)
}
