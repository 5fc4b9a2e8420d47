//! What is said when a table cannot be read, and how it is mended.

use std::io;

use tidemill_event::TableName;
use tidemill_fetchers_api::FetchError;

use crate::options::ServerOptions;
use crate::transport::{ServerRefusal, TransportError, refusal};

/// Between whom a connection is.
#[derive(Clone, Debug)]
pub(super) struct Sides {
    server: String,
    user: String,
}

impl Sides {
    pub(super) fn of(options: &ServerOptions) -> Sides {
        Sides { server: format!("{}:{}", options.host, options.port), user: options.user.clone() }
    }

    fn what(&self) -> String {
        format!("tables of {}", self.server)
    }

    pub(super) fn failed(&self, error: TransportError) -> FetchError {
        match error {
            TransportError::Failed(error) => error,
            TransportError::Lost(source) => FetchError::Io { what: self.what(), source },
        }
    }

    /// The server does not answer any more.
    pub(super) fn silent(&self) -> FetchError {
        self.failed(TransportError::lost("it does not answer"))
    }

    /// The caller does not want the rest.
    pub(super) fn given_up(&self) -> FetchError {
        let source = io::Error::new(io::ErrorKind::Interrupted, "whoever takes the rows takes no more");
        FetchError::Io { what: self.what(), source }
    }

    /// What the server's refusal to read a table means.
    pub(super) fn refused(&self, table: &TableName, refused: &ServerRefusal) -> FetchError {
        const ACCESS: [u16; 4] = [1044, 1142, 1143, 1370];
        /// No such database, table, column or index; a definition newer than the snapshot.
        const REDEFINED: [u16; 5] = [1049, 1054, 1146, 1176, 1412];
        /// Waits for locks that took too long, deadlocks, statements that were ended.
        const PASSING: [u16; 4] = [1205, 1213, 1969, 3024];
        let ServerRefusal { code, message } = refused;
        let said = || format!("table {table} cannot be read, the server says: {message} ({code})");
        match *code {
            code if ACCESS.contains(&code) => FetchError::Setup {
                what: said(),
                mend: format!(
                    "run GRANT SELECT ON `{}`.`{}` TO '{}', or leave the table out",
                    table.database.replace('`', "``"),
                    table.table.replace('`', "``"),
                    self.user
                ),
            },
            code if REDEFINED.contains(&code) => redefined(table),
            code if PASSING.contains(&code) => {
                FetchError::Io { what: self.what(), source: io::Error::other(said()) }
            }
            _ => self.failed(refusal(refused)),
        }
    }
}

pub(super) fn redefined(table: &TableName) -> FetchError {
    FetchError::Redefined { table: table.clone() }
}

/// The table is no table that can be copied.
pub(super) fn unreadable(table: &TableName, what: &str, mend: &str) -> FetchError {
    FetchError::Setup { what: format!("table {table} cannot be copied: {what}"), mend: mend.to_owned() }
}
