//! What becomes of an error: tried again, the end of one table's copy, or of the whole clone.

use std::time::Duration;

use tidemill_event::{Remedy, TableName, chain};
use tidemill_fetchers_api::FetchError;
use tidemill_sandbox::GuestError;

use crate::{BoxError, CloneControl, CloneError, DestinationError, NoPlace};

/// What went wrong, by what becomes of it.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// It may succeed by itself.
    Again(String),
    /// The table is not the one that was described.
    Redefined,
    /// The destination does not wait for this copy any more: it says how the table goes on.
    GivenUp,
    /// This table cannot be copied.
    Table(String),
    /// Nothing more is copied.
    All(CloneError),
}

impl Trouble {
    pub(crate) fn of_policy(table: &TableName, error: GuestError) -> Trouble {
        Trouble::All(CloneError::Policy { table: table.clone(), source: Box::new(error) })
    }

    pub(crate) fn of_marks(table: &TableName, source: BoxError) -> Trouble {
        Trouble::All(CloneError::Marks { table: table.clone(), source })
    }

    pub(crate) fn of_place(table: &TableName, error: NoPlace) -> Trouble {
        match error {
            NoPlace::Again { why } => Trouble::Again(why),
            NoPlace::Never(source) => Trouble::of_marks(table, source),
        }
    }
}

impl From<FetchError> for Trouble {
    fn from(error: FetchError) -> Trouble {
        match (&error, error.remedy()) {
            (FetchError::Redefined { .. }, _) => Trouble::Redefined,
            (_, Remedy::Retry | Remedy::Wait) => Trouble::Again(chain(&error)),
            _ => Trouble::Table(chain(&error)),
        }
    }
}

impl From<DestinationError> for Trouble {
    fn from(error: DestinationError) -> Trouble {
        match error {
            DestinationError::Unavailable { .. } => Trouble::Again(chain(&error)),
            DestinationError::GivenUp { .. } => Trouble::GivenUp,
            DestinationError::Refused { .. } => Trouble::Table(chain(&error)),
            DestinationError::Fenced { .. } | DestinationError::Closed | DestinationError::Broken { .. } => {
                Trouble::All(CloneError::Destination { source: Box::new(error) })
            }
        }
    }
}

/// Waits longer and longer between tries, and tells why.
pub(crate) struct Patience<'a> {
    control: &'a CloneControl,
    table: &'a TableName,
    first: Duration,
    tries: u32,
}

const DOUBLINGS_MAX: u32 = 6;

impl<'a> Patience<'a> {
    pub(crate) fn new(control: &'a CloneControl, table: &'a TableName, first: Duration) -> Patience<'a> {
        Patience { control, table, first, tries: 0 }
    }

    /// Returns when it is time for the next try, or at once where there is none.
    pub(crate) async fn after(&mut self, trouble: Trouble) -> Result<(), Trouble> {
        let Trouble::Again(why) = trouble else { return Err(trouble) };
        tracing::warn!(table = %self.table, error = %why, "copying is tried again");
        self.control.update(|status| status.last_error = Some(format!("table {}: {why}", self.table)));
        tokio::time::sleep(self.first * (1 << self.tries.min(DOUBLINGS_MAX))).await;
        self.tries += 1;
        Ok(())
    }
}
