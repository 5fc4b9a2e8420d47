//! The fetcher: a client's feed, judged where there is a policy.

use std::error::Error;
use std::sync::Arc;

use tidemill_client::{RelayFeed, RelayOptions, Start as ClientStart};
use tidemill_event::{Frame, Scn, Window};
use tidemill_fetchers_api::{FetchError, Fetcher, Judge, Liveness, Start};

use crate::error::of_client;

/// Follows the relays of a source.
pub struct RelayFetcher {
    source: String,
    feed: RelayFeed,
    judge: Option<Judge>,
    /// The policy failed: nothing goes on unjudged, or leaves out what was not.
    refused: Option<Arc<dyn Error + Send + Sync>>,
    /// Of the window that was given last.
    frame: Option<Frame>,
    end_at_open: Scn,
    liveness: Liveness,
}

impl RelayFetcher {
    /// Reads the settings, and asks the relays what they have: so that what cannot be is known at once. With a `judge`
    /// windows are encoded anew.
    pub async fn open(
        options: RelayOptions,
        start: Start,
        judge: Option<Judge>,
    ) -> Result<RelayFetcher, FetchError> {
        let source = options.source.clone();
        let at = if let Start::At(checkpoint) = &start { checkpoint.position } else { Default::default() };
        let failed = |error| of_client(error, &source, at);
        let feed = RelayFeed::new(options, client_start(start)).map_err(failed)?;
        let info = feed.source().await.map_err(failed)?;
        let liveness = Liveness::default();
        let told = liveness.clone();
        feed.tells(move |why| match why {
            None => told.answers(),
            Some(why) => told.lost(why),
        });
        let end_at_open = info.latest.map_or(Scn::ZERO, |latest| latest.scn);
        Ok(RelayFetcher { source, feed, judge, refused: None, frame: None, end_at_open, liveness })
    }

    /// Where the first relay that answered had its end when this was opened.
    pub fn end_at_open(&self) -> Option<Scn> {
        Some(self.end_at_open)
    }
}

fn client_start(start: Start) -> ClientStart {
    match start {
        Start::Earliest => ClientStart::Earliest,
        Start::Now => ClientStart::Now,
        Start::Time(us) => ClientStart::Time(us),
        Start::At(checkpoint) => ClientStart::At(checkpoint),
    }
}

impl Fetcher for RelayFetcher {
    async fn next(&mut self) -> Result<Option<Window>, FetchError> {
        if let Some(refused) = &self.refused {
            return Err(FetchError::Judge { source: Arc::clone(refused) });
        }
        self.frame = None;
        let next = self.feed.next_framed().await;
        let at = self.feed.position().unwrap_or_default();
        let Some((window, frame)) = next.map_err(|error| of_client(error, &self.source, at))? else {
            return Ok(None);
        };
        let Some(judge) = &self.judge else {
            self.frame = frame;
            return Ok(Some(window));
        };
        judge(window).map(Some).map_err(|error| {
            let source: Arc<dyn Error + Send + Sync> = error.into();
            self.refused = Some(Arc::clone(&source));
            FetchError::Judge { source }
        })
    }

    fn take_frame(&mut self) -> Option<Frame> {
        self.frame.take()
    }

    fn liveness(&self) -> Liveness {
        self.liveness.clone()
    }
}
