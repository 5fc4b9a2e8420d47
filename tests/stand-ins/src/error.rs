//! What can go wrong with a stand-in. Every message carries what is needed to mend it.

use std::io;

/// Why a stand-in, or its program, could not be had.
#[derive(Debug, thiserror::Error)]
pub enum StandInError {
    /// The script that obtains it failed, with that sentence.
    #[error("{0}")]
    Tools(String),
    /// The program cannot be run, or spoken with.
    #[error("{what} of {name}")]
    Io {
        /// The stand-in.
        name: &'static str,
        /// What was tried, as a verb phrase.
        what: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// It ended before it said where it listens.
    #[error("{name} did not start; what it said:\n{said}")]
    Start {
        /// The stand-in.
        name: &'static str,
        /// Its output.
        said: String,
    },
    /// It refused to make what a test stores into.
    #[error("{name} refused: {answer}")]
    Refused {
        /// The stand-in.
        name: &'static str,
        /// The first line of its answer.
        answer: String,
    },
}

impl StandInError {
    pub(crate) fn io(name: &'static str, what: &'static str) -> impl FnOnce(io::Error) -> StandInError {
        move |source| StandInError::Io { name, what, source }
    }
}
