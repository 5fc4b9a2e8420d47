//! Errors as a person reads them: the whole chain, outermost first.

use std::error::Error;

/// The error and its causes, each once, joined by colons.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        // Transparent errors say their cause's words themselves.
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    #[derive(Debug, thiserror::Error)]
    #[error("append to segment 7")]
    struct Append(#[source] io::Error);

    #[test]
    fn the_chain_has_every_cause_once() {
        let error = Append(io::Error::other("no space left"));
        assert_eq!(super::chain(&error), "append to segment 7: no space left");
    }
}
