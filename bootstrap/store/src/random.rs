//! Names that nobody else chooses. Randomness decides nothing else here.

use std::hash::{BuildHasher, RandomState};

/// 16 hexadecimal digits. The standard library seeds its hashers with the system's randomness, which is all that is needed
/// here.
pub fn random_id() -> String {
    format!("{:016x}", RandomState::new().hash_one(0u8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_id_comes_twice() {
        let ids: std::collections::BTreeSet<String> = (0..10_000).map(|_| random_id()).collect();
        assert!(ids.len() == 10_000 && ids.iter().all(|id| id.len() == 16));
    }
}
