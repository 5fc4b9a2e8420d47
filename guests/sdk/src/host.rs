//! What every guest may call. On the machine that tests a guest natively, the log goes to stderr.

pub use crate::bindings::base::tidemill::guest::host::Level;

/// Writes one line to the host's log. No row values.
pub fn log(level: Level, message: &str) {
    #[cfg(target_arch = "wasm32")]
    crate::bindings::base::tidemill::guest::host::log(level, message);
    #[cfg(not(target_arch = "wasm32"))]
    eprintln!("{level:?}: {message}");
}

/// Adds to a counter of this guest.
pub fn count(name: &str, by: u64) {
    #[cfg(target_arch = "wasm32")]
    crate::bindings::base::tidemill::guest::host::count(name, by);
    #[cfg(not(target_arch = "wasm32"))]
    let _ = (name, by);
}
