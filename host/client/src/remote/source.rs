//! What a relay says about a source.

use serde_json::Value;
use tidemill_event::Position;

use super::ask;
use super::connection::{Caller, position};
use super::error::ClientError;
use super::options::Relay;

/// What a relay has of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceInfo {
    /// It can be read after this position; `None`: nothing is there yet.
    pub earliest: Option<Position>,
    /// The source is known up to here.
    pub latest: Option<Position>,
    /// The set of transactions executed at `latest`, where the relay says it.
    pub executed: Option<String>,
    /// Number and server of each timeline, oldest first.
    pub timelines: Vec<(u32, String)>,
}

impl SourceInfo {
    /// Asks a relay.
    pub(crate) async fn ask(caller: &Caller, relay: &Relay, source: &str) -> Result<SourceInfo, ClientError> {
        let document = caller.document(relay, ask::source_path(source)).await?;
        SourceInfo::read(&document).ok_or_else(|| ClientError::Foreign {
            relay: relay.to_string(),
            what: "its description of the source cannot be read".into(),
            passing: false,
        })
    }

    fn read(document: &Value) -> Option<SourceInfo> {
        let at = |fact: &str| match document.get(fact) {
            None | Some(Value::Null) => Some(None),
            Some(value) => value.as_str().and_then(position).map(Some),
        };
        let timeline = |value: &Value| {
            let number = u32::try_from(value.get("number")?.as_u64()?).ok()?;
            Some((number, value.get("server")?.as_str()?.to_owned()))
        };
        let timelines = document.get("timelines")?.as_array()?.iter().map(timeline);
        Some(SourceInfo {
            earliest: at("earliest")?,
            latest: at("latest")?,
            executed: document.get("executed").and_then(Value::as_str).map(str::to_owned),
            timelines: timelines.collect::<Option<_>>()?,
        })
    }

    /// The end, with the server whose clock it is.
    pub(crate) fn now(&self) -> Option<(String, Position)> {
        let latest = self.latest?;
        let server = self.timelines.iter().rev().find(|(number, _)| *number == latest.timeline);
        server.map(|(_, server)| (server.clone(), latest))
    }
}
