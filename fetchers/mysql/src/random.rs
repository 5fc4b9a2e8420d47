//! Numbers for identities and for spreading retries. Nothing that is stored depends on them.

use std::hash::{BuildHasher, RandomState};

/// A random number, from the keys that the standard library takes from the system for each hash table.
pub(crate) fn number() -> u64 {
    RandomState::new().hash_one(0u8)
}

/// A server id above those that people choose.
pub(crate) fn server_id() -> u32 {
    const BASE: u32 = 1_000_000_000;
    BASE + (number() % u64::from(u32::MAX - BASE)) as u32
}

#[cfg(test)]
mod tests {
    #[test]
    fn server_ids_differ_and_are_high() {
        let ids: std::collections::HashSet<u32> = (0..64).map(|_| super::server_id()).collect();
        assert!(ids.len() > 60 && ids.iter().all(|id| *id >= 1_000_000_000));
    }
}
