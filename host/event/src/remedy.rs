//! What an error asks of whoever consumes it.

/// The five answers to "what now?".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Remedy {
    /// The same call may succeed by itself: try again, with back-off.
    Retry,
    /// What was asked for is not there yet: wait for it.
    Wait,
    /// A person must mend something; the message says what, where and how. The stream stands still until then.
    Fix,
    /// A newer owner took over: stop.
    Fenced,
    /// Our own mistake: stop and report.
    Bug,
}
