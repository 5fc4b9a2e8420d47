//! A feed that begins with a snapshot where the consumer has nothing, and goes over deltas where the stream no longer has
//! what follows, as often as that happens. Whether a relay answers is not its business: it waits, as the stream does.

use std::error::Error;
use std::sync::Arc;

use tidemill_event::{Checkpoint, Remedy, Window};

use super::{Bootstrap, Stream};
use crate::Feed;

/// See the module.
pub struct PhasedFeed<S, B> {
    stream: S,
    bootstrap: B,
    have: Option<Checkpoint>,
}

/// Why a feed of both cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum PhasedError<S: Error + 'static, B: Error + 'static> {
    /// The stream cannot.
    #[error(transparent)]
    Stream(S),
    /// Snapshot storage cannot.
    #[error(transparent)]
    Bootstrap(B),
    /// The stream lost what follows within a transaction of which parts were given.
    #[error("what follows is gone within a transaction; its parts are to be rolled back, then deltas follow")]
    Parted,
}

impl<S: Stream, B: Bootstrap> PhasedFeed<S, B> {
    /// A feed behind the checkpoint; `None`: the consumer has nothing, and begins with a snapshot. The stream is told where it
    /// begins when it is its turn.
    pub fn new(stream: S, bootstrap: B, have: Option<Checkpoint>) -> PhasedFeed<S, B> {
        PhasedFeed { stream, bootstrap, have }
    }

    /// The checkpoint of whoever has everything that was given.
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        self.have.as_ref()
    }

    /// The stream's side, for what it tells about itself.
    pub fn stream(&self) -> &S {
        &self.stream
    }
}

impl<S: Stream, B: Bootstrap> Feed for PhasedFeed<S, B> {
    type Error = PhasedError<S::Error, B::Error>;

    async fn next(&mut self) -> Result<Option<Arc<Window>>, Self::Error> {
        let _ = &mut self.bootstrap;
        todo!()
    }

    fn try_next(&mut self) -> Result<Option<Arc<Window>>, Self::Error> {
        todo!()
    }

    fn rewind(&mut self) -> Result<(), Self::Error> {
        todo!()
    }

    fn remedy(error: &Self::Error) -> Remedy {
        match error {
            PhasedError::Stream(error) => S::remedy(error),
            PhasedError::Bootstrap(error) => B::remedy(error),
            PhasedError::Parted => Remedy::Retry,
        }
    }
}
