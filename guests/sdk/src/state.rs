//! A consumer's key-value state, committed by the host together with the batch's position. Natively
//! it is a map of the test's thread.

#[cfg(target_arch = "wasm32")]
use crate::bindings::consumer::tidemill::guest::state as kept;

/// The value of a key.
pub fn get(key: &str) -> Option<Vec<u8>> {
    kept::get(key.as_bytes())
}

/// Sets the value of a key: only while a batch is processed.
pub fn set(key: &str, value: &[u8]) {
    kept::set(key.as_bytes(), value);
}

/// Forgets a key: only while a batch is processed.
pub fn delete(key: &str) {
    kept::delete(key.as_bytes());
}

/// The state of a native test: what the host keeps for a component.
#[cfg(not(target_arch = "wasm32"))]
mod kept {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    thread_local! {
        static KEPT: RefCell<BTreeMap<Vec<u8>, Vec<u8>>> = const { RefCell::new(BTreeMap::new()) };
    }

    pub fn get(key: &[u8]) -> Option<Vec<u8>> {
        KEPT.with_borrow(|kept| kept.get(key).cloned())
    }

    pub fn set(key: &[u8], value: &[u8]) {
        KEPT.with_borrow_mut(|kept| kept.insert(key.to_vec(), value.to_vec()));
    }

    pub fn delete(key: &[u8]) {
        KEPT.with_borrow_mut(|kept| kept.remove(key));
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_set_is_there_until_it_is_deleted() {
        super::set("a", b"1");
        super::set("a", b"2");
        assert_eq!(super::get("a"), Some(b"2".to_vec()));
        super::delete("a");
        assert_eq!(super::get("a"), None);
    }
}
