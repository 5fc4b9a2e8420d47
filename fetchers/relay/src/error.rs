//! What a client's error means to whoever runs a source.

use std::io;

use tidemill_client::ClientError;
use tidemill_event::{Position, Remedy, chain};
use tidemill_fetchers_api::FetchError;

/// `at`: what was given goes up to there.
pub(crate) fn of_client(error: ClientError, source: &str, at: Position) -> FetchError {
    let what = chain(&error);
    match error {
        ClientError::Setup { what, mend } => FetchError::Setup { what, mend },
        ClientError::TooOld { .. } => FetchError::Lineage {
            at,
            what,
            mend:
                "give a relay that still has it, or let this log begin anew: stop, remove it, and set `start`"
                    .into(),
        },
        ClientError::Diverged { .. } => FetchError::Lineage {
            at,
            what,
            mend: "give a relay of the same lineage, or clone what was taken over anew".into(),
        },
        ClientError::Damaged { .. } if error.remedy() == Remedy::Fix => {
            FetchError::Damaged { place: at.to_string(), what }
        }
        _ if error.remedy() == Remedy::Fix => {
            FetchError::Setup { what, mend: "mend it there, or in the settings of this source".into() }
        }
        _ => FetchError::Io { what: format!("the relays of `{source}`"), source: io::Error::other(error) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_must_mend_stays_so_and_says_how() {
        let (relay, detail) = ("https://r1".to_owned(), "it holds what follows 1/7".to_owned());
        let at = Position::default();
        let old = ClientError::TooOld { relay: relay.clone(), detail, earliest: None, latest: None };
        let error = of_client(old, "shop", at);
        assert_eq!(error.remedy(), Remedy::Fix);
        assert_eq!(
            error.to_string(),
            "the source cannot continue after 0/0: https://r1 no longer has what follows: it holds what follows 1/7; give a \
             relay that still has it, or let this log begin anew: stop, remove it, and set `start`"
        );
        let refused = ClientError::Unauthenticated { relay: relay.clone(), detail: "show a token".into() };
        assert_eq!(of_client(refused, "shop", at).remedy(), Remedy::Fix);
        let parted = ClientError::Parted { relay, at, what: "changes are missing" };
        assert_eq!(of_client(parted, "shop", at).remedy(), Remedy::Retry, "opened again, it goes on");
    }
}
