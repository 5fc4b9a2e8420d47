//! Where events come from: a server's binlog dump, or binlog files. Both give raw events whose checksum was verified,
//! and say when there is nothing at this moment. The connection to a server also gives the rows of statements.

mod buffer;
mod connection;
mod files;
mod payload;
mod refusal;
mod rows;
mod semi_sync;
mod server;
mod session;
mod sign_in;
mod stream;
mod tls;

use std::io;

use tidemill_fetchers_api::FetchError;

use crate::event::RawEvent;
use crate::place::BinlogName;

pub(crate) use connection::{Connection, Row, ServerRefusal};
pub(crate) use files::{FilesTransport, Listing, Peek};
pub(crate) use payload::Payload;
pub(crate) use refusal::refusal;
pub(crate) use rows::{Rows, Taken};
pub(crate) use server::ServerTransport;
pub(crate) use session::{Facts, Resume, begun_of_file, binary_logs, end_of_log, read_facts};

/// What a transport gives.
pub(crate) enum Item<'a> {
    Event(RawEvent<'a>),
    /// Files only: what follows stands in this file from this offset on.
    File(BinlogName, u64),
}

/// What a call of `fill` found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filled {
    /// There are more bytes.
    More,
    /// Nothing at this moment: cut what there is, then wait.
    Idle,
    /// The last file has ended.
    End,
}

/// Why a transport stops.
#[derive(Debug)]
pub(crate) enum TransportError {
    /// The connection is gone: the same call on a new one may succeed.
    Lost(io::Error),
    /// It does not mend itself.
    Failed(FetchError),
}

impl From<FetchError> for TransportError {
    fn from(error: FetchError) -> Self {
        TransportError::Failed(error)
    }
}

impl TransportError {
    pub(crate) fn lost(what: impl Into<String>) -> TransportError {
        TransportError::Lost(io::Error::new(io::ErrorKind::ConnectionAborted, what.into()))
    }

    pub(crate) fn setup(what: impl Into<String>, mend: impl Into<String>) -> TransportError {
        TransportError::Failed(FetchError::Setup { what: what.into(), mend: mend.into() })
    }
}

/// Both of them behind one face.
pub(crate) enum Transport {
    Server(Box<ServerTransport>),
    Files(Box<FilesTransport>),
}

impl Transport {
    /// The next item that is there whole; `None`: more bytes are needed.
    pub(crate) fn take(&mut self) -> Result<Option<Item<'_>>, TransportError> {
        match self {
            Transport::Server(server) => Ok(server.take()?.map(Item::Event)),
            Transport::Files(files) => Ok(files.take()?),
        }
    }

    /// Reads what is there. Cancel-safe.
    pub(crate) async fn fill(&mut self) -> Result<Filled, TransportError> {
        match self {
            Transport::Server(server) => server.fill(),
            Transport::Files(files) => Ok(files.fill().await?),
        }
    }

    /// Waits until there may be more. Cancel-safe.
    pub(crate) async fn wait(&mut self) -> Result<(), TransportError> {
        match self {
            Transport::Server(server) => server.wait().await,
            Transport::Files(files) => {
                files.wait().await;
                Ok(())
            }
        }
    }
}
