//! The windows of one answer. What is being read from disk is not given up while something else is waited for.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::FutureExt;
use tidemill_event::{Frame, Position, Window};
use tidemill_log::{ReadError, Reader};

/// A window and its frame; `None`: the log's writer has closed it.
pub(crate) type Given = Result<Option<(Frame, Arc<Window>)>, ReadError>;
type Reading = Pin<Box<dyn Future<Output = (Reader, Given)> + Send>>;

/// See the module.
pub(crate) struct Windows {
    /// `None` while it is with `reading`.
    reader: Option<Reader>,
    reading: Option<Reading>,
}

impl Windows {
    pub(crate) fn new(reader: Reader) -> Windows {
        Windows { reader: Some(reader), reading: None }
    }

    /// The next window; waits for it. `None`: the log's writer has closed it. Cancel-safe: what was not given is given
    /// by the next call.
    pub(crate) async fn next(&mut self) -> Given {
        let (reader, given) = self.reading().await;
        self.take_back(reader);
        given
    }

    /// The next window, if it can be had without waiting for the source or for a disk.
    pub(crate) fn ready(&mut self) -> Option<Given> {
        let (reader, given) = self.reading().now_or_never()?;
        self.take_back(reader);
        Some(given)
    }

    /// What was given goes up to here; `None` where nobody knows yet, or while something is read.
    pub(crate) fn position(&self) -> Option<Position> {
        self.reader.as_ref()?.position()
    }

    fn reading(&mut self) -> &mut Reading {
        let Windows { reader, reading } = self;
        reading.get_or_insert_with(|| {
            let mut reader = reader.take().expect("it is here while nothing is read");
            Box::pin(async move {
                let given = reader.next_frame().await;
                (reader, given)
            })
        })
    }

    fn take_back(&mut self, reader: Reader) {
        (self.reader, self.reading) = (Some(reader), None);
    }
}
