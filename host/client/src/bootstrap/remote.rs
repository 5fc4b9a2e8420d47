//! Snapshot storage behind relays elsewhere, over HTTP. It asks one of them and reads as long as that goes well; whatever
//! happens, it goes on at another one, or at the same a little later, behind the last piece that it gave.

use tidemill_event::{Checkpoint, Remedy};

use super::{Bootstrap, Piece};
use crate::{ClientError, RelayOptions};

/// See the module.
pub struct RelayBootstrap {
    _options: RelayOptions,
}

impl RelayBootstrap {
    /// Reads the settings and the files that they name; connects when it is first asked. The same settings as of the feed
    /// that follows: it shows the same.
    pub fn new(options: RelayOptions) -> Result<RelayBootstrap, ClientError> {
        Ok(RelayBootstrap { _options: options })
    }
}

impl Bootstrap for RelayBootstrap {
    type Error = ClientError;

    async fn next(&mut self, _have: Option<&Checkpoint>) -> Result<Piece, ClientError> {
        todo!()
    }

    fn remedy(error: &ClientError) -> Remedy {
        error.remedy()
    }
}
