//! What an operator asks of the process behind a relay, where the answer is a report a line.

use bytes::{Bytes, BytesMut};
use http::Method;
use http_body_util::BodyExt;

use super::ask::segment;
use super::connection::{Answered, Question, lost};
use super::error::ClientError;
use super::options::{Relay, RelayOptions};
use super::{caller_of, relays_of};

/// The type of reports.
const REPORTS: &str = "application/x-ndjson";

/// Reports on their way. Dropping them ends the work that they are of.
pub struct Reports {
    relay: Relay,
    answered: Answered,
    unread: BytesMut,
}

impl Reports {
    /// Has the first relay of the settings compare what a subscription of its process has written with its source. `asked`
    /// is a JSON object, of which its interface says more.
    pub async fn compare(
        options: &RelayOptions,
        subscription: &str,
        asked: String,
    ) -> Result<Reports, ClientError> {
        let mut relays = relays_of(options)?;
        let caller = caller_of(options, &relays)?;
        let relay = relays.swap_remove(0);
        let path = format!("/v1/admin/subscriptions/{}/verify", segment(subscription));
        let question =
            Question { method: Method::POST, path, accept: REPORTS, compressed: false, body: asked };
        let answered = caller.ask(&relay, &question).await?;
        Ok(Reports { relay, answered, unread: BytesMut::new() })
    }

    /// The next report, one JSON object; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let mut line = self.unread.split_to(end + 1);
                line.truncate(end);
                return Ok(Some(line.freeze()));
            }
            match self.answered.body.frame().await {
                Some(frame) => {
                    let frame = frame.map_err(|error| lost(&self.relay, error))?;
                    frame.data_ref().into_iter().for_each(|data| self.unread.extend_from_slice(data));
                }
                None if self.unread.is_empty() => return Ok(None),
                None => return Err(lost(&self.relay, "the last report ends before its end")),
            }
        }
    }
}
