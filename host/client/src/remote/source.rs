//! What a relay says about a source.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use tidemill_event::{Checkpoint, Position};

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
    /// The checkpoint of whoever has everything up to `latest`.
    pub checkpoint: Option<Checkpoint>,
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
        let checkpoint = match document.get("checkpoint")? {
            Value::Null => None,
            value => Some(Checkpoint::decode(&URL_SAFE_NO_PAD.decode(value.as_str()?).ok()?).ok()?),
        };
        Some(SourceInfo { earliest: at("earliest")?, latest: at("latest")?, checkpoint })
    }
}
