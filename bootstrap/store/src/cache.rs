//! What never changes and was read lately, by path, in bounded memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// See the module.
#[derive(Debug)]
pub(crate) struct Cache<T> {
    bytes_max: u64,
    held: Mutex<Holdings<T>>,
}

#[derive(Debug)]
struct Holdings<T> {
    values: HashMap<String, Held<T>>,
    bytes: u64,
    uses: u64,
}

#[derive(Debug)]
struct Held<T> {
    value: Arc<T>,
    bytes: u64,
    /// When it was used last, counted in uses.
    used: u64,
}

impl<T> Cache<T> {
    pub(crate) fn new(bytes_max: u64) -> Cache<T> {
        let held = Holdings { values: HashMap::new(), bytes: 0, uses: 0 };
        Cache { bytes_max, held: Mutex::new(held) }
    }

    fn held(&self) -> MutexGuard<'_, Holdings<T>> {
        // Nothing is changed by halves under this lock.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, path: &str) -> Option<Arc<T>> {
        let mut held = self.held();
        held.uses += 1;
        let used = held.uses;
        let found = held.values.get_mut(path)?;
        found.used = used;
        Some(Arc::clone(&found.value))
    }

    /// Takes a value in, which was so many bytes as an object; the one that was not used for the longest time makes room.
    pub(crate) fn put(&self, path: &str, value: Arc<T>, bytes: u64) {
        let mut held = self.held();
        held.uses += 1;
        let used = held.uses;
        if let Some(before) = held.values.insert(path.to_owned(), Held { value, bytes, used }) {
            held.bytes -= before.bytes;
        }
        held.bytes += bytes;
        while held.bytes > self.bytes_max {
            let oldest = held.values.iter().min_by_key(|(_, held)| held.used).map(|(path, _)| path.clone());
            let oldest = oldest.and_then(|path| held.values.remove(&path));
            held.bytes -= oldest.expect("what has bytes has values").bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_the_longest_time_makes_room() {
        let cache = Cache::new(10);
        for path in ["a", "b"] {
            cache.put(path, Arc::new(path), 5);
        }
        assert!(cache.get("a").is_some());
        cache.put("c", Arc::new("c"), 5);
        assert!(cache.get("b").is_none() && cache.get("a").is_some() && cache.get("c").is_some());
        cache.put("whole", Arc::new("whole"), 11);
        assert!(cache.get("whole").is_none() && cache.get("a").is_none(), "it is larger than all there is");
    }
}
