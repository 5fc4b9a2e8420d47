//! The loop that owns a clone: which table is begun, bounded, read and finished when. The work itself is done by jobs.

use tidemill_fetchers_api::extract::Extract;

use crate::{CloneControl, CloneError, CloneOptions, CloneStatus, Destination, Marks, Policy};

/// A clone, not started.
#[expect(dead_code, reason = "the bodies follow")]
pub struct Cloner<E, D, M> {
    source: String,
    extract: E,
    policy: Policy,
    destination: D,
    marks: M,
    options: CloneOptions,
    control: CloneControl,
}

impl<E: Extract, D: Destination, M: Marks> Cloner<E, D, M> {
    /// A clone of tables of a source. `control` tells it which; what was asked before it was made counts.
    pub fn new(
        source: &str,
        extract: E,
        policy: Policy,
        destination: D,
        marks: M,
        control: CloneControl,
    ) -> Cloner<E, D, M> {
        let options = CloneOptions::default();
        Cloner { source: source.to_owned(), extract, policy, destination, marks, options, control }
    }

    /// With other limits.
    pub fn with_options(self, options: CloneOptions) -> Cloner<E, D, M> {
        Cloner { options, ..self }
    }

    /// Copies what is asked for until it is dropped, or fails as a whole.
    ///
    /// Dropping it is a crash: the chunks in flight are read again by the next one.
    pub async fn run(self) -> Result<(), CloneError> {
        todo!()
    }

    /// Copies what was asked for and ends when every table has come to its end.
    pub async fn run_to_end(self) -> Result<CloneStatus, CloneError> {
        todo!()
    }
}
