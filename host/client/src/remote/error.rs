//! Why a relay gives nothing more, and what to do about it. What heals by itself, or at another relay, never leaves the
//! feed.

use std::error::Error;
use std::time::Duration;

use tidemill_event::{FrameError, Position, Remedy};

type Cause = Box<dyn Error + Send + Sync>;

/// A client's error. Of several relays it is the last one's, after every relay has refused.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The settings cannot be used.
    #[error("{what}; {mend}")]
    Setup {
        /// What is wrong.
        what: String,
        /// How to mend it.
        mend: String,
    },
    /// No connection.
    #[error("connect to {relay}")]
    Unreachable {
        /// The relay.
        relay: String,
        /// Why not.
        source: Cause,
    },
    /// The relay could not prove who it is, or does not take our certificate.
    #[error("encrypt the connection to {relay}: {why}; {mend}")]
    Encryption {
        /// The relay.
        relay: String,
        /// What does not fit.
        why: String,
        /// How to mend it.
        mend: &'static str,
    },
    /// The connection ended within an answer.
    #[error("the connection to {relay} is lost")]
    Lost {
        /// The relay.
        relay: String,
        /// How.
        source: Cause,
    },
    /// Not even a heartbeat came.
    #[error("{relay} was silent for {} seconds", .time.as_secs())]
    Silent {
        /// The relay.
        relay: String,
        /// For how long.
        time: Duration,
    },
    /// No or wrong credentials.
    #[error("{relay} does not know us: {detail}")]
    Unauthenticated {
        /// The relay.
        relay: String,
        /// What it says.
        detail: String,
    },
    /// Known, but not allowed.
    #[error("{relay} does not let us: {detail}")]
    NotGranted {
        /// The relay.
        relay: String,
        /// What it says.
        detail: String,
    },
    /// What follows our place is gone.
    #[error("{relay} no longer has what follows: {detail}")]
    TooOld {
        /// The relay.
        relay: String,
        /// What it says.
        detail: String,
        /// It can be read after this position.
        earliest: Option<Position>,
        /// Up to this one.
        latest: Option<Position>,
    },
    /// Our history and the relay's part ways.
    #[error("{relay} has another history: {detail}")]
    Diverged {
        /// The relay.
        relay: String,
        /// What it says.
        detail: String,
    },
    /// Refused for another reason.
    #[error("{relay} refuses ({code}): {detail}")]
    Refused {
        /// The relay.
        relay: String,
        /// The reason, as in the relay's interface.
        code: String,
        /// What it says.
        detail: String,
        /// Whether it may answer otherwise a moment later.
        passing: bool,
    },
    /// What answers there is no relay, or something stands before it.
    #[error("{relay} answers as no relay does ({what}); check its address, and what may stand before it")]
    Foreign {
        /// The relay.
        relay: String,
        /// Status and type of the answer.
        what: String,
        /// Whether it may answer otherwise a moment later.
        passing: bool,
    },
    /// Bytes that are not what was sent.
    #[error("what came from {relay} is damaged")]
    Damaged {
        /// The relay.
        relay: String,
        /// What does not fit.
        source: FrameError,
    },
    /// A window that does not follow what was given.
    #[error("{relay} sent what does not follow {at}: {what}")]
    Misplaced {
        /// The relay.
        relay: String,
        /// Where we stand.
        at: Position,
        /// What does not fit.
        what: &'static str,
    },
    /// The rest of a transaction of which parts were given: no relay has it as it was.
    #[error(
        "{relay} cannot go on within the transaction at {at}: {what}; what was given of it is to be rolled back, then \
         it comes again from its beginning"
    )]
    Parted {
        /// The relay.
        relay: String,
        /// The transaction.
        at: Position,
        /// What does not fit.
        what: &'static str,
    },
}

impl ClientError {
    /// What now.
    pub fn remedy(&self) -> Remedy {
        match self {
            ClientError::Damaged { source: FrameError::Version(_), .. } => Remedy::Fix,
            ClientError::Unreachable { .. }
            | ClientError::Lost { .. }
            | ClientError::Silent { .. }
            | ClientError::Damaged { .. }
            | ClientError::Misplaced { .. }
            | ClientError::Parted { .. } => Remedy::Retry,
            ClientError::Refused { passing, .. } | ClientError::Foreign { passing, .. } => {
                if *passing {
                    Remedy::Retry
                } else {
                    Remedy::Fix
                }
            }
            ClientError::Setup { .. }
            | ClientError::Encryption { .. }
            | ClientError::Unauthenticated { .. }
            | ClientError::NotGranted { .. }
            | ClientError::TooOld { .. }
            | ClientError::Diverged { .. } => Remedy::Fix,
        }
    }

    /// Whether asking the same relay again is pointless: when every relay has said so, the feed says it too.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, ClientError::Parted { .. }) || self.remedy() == Remedy::Fix
    }
}
