//! What an error of the server means for a reader: it passes, the settings are to be changed, or the lineage does not fit.

use tidemill_event::Position;
use tidemill_fetchers_api::FetchError;

use crate::transport::{ServerRefusal, TransportError};

/// What an error of the server means for us.
pub(crate) fn refusal(refusal: &ServerRefusal) -> TransportError {
    /// Too many connections, shutdown, killed, out of resources: it passes.
    const PASSING: [u16; 9] = [1040, 1053, 1077, 1152, 1158, 1159, 1160, 1317, 1927];
    const ACCESS: [u16; 5] = [1044, 1045, 1142, 1227, 1698];
    const INSECURE: [u16; 2] = [3159, 4031];
    const SOURCE_FATAL: u16 = 1236;
    const REPLACED: u16 = 4052;
    let ServerRefusal { code, message } = refusal;
    let said = format!("the server says: {message} ({code})");
    let setup = |mend: &str| TransportError::setup(said.clone(), mend);
    match *code {
        code if PASSING.contains(&code) => TransportError::lost(said),
        code if ACCESS.contains(&code) => setup(
            "check user and password, and GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* to the account (MariaDB: \
             REPLICATION SLAVE, BINLOG MONITOR); where server or account want encryption, set `tls = \"require\"` or more",
        ),
        code if INSECURE.contains(&code) => setup("set `tls = \"require\"`, or one of the modes that verify"),
        REPLACED => setup(SAME_ID),
        SOURCE_FATAL => source_fatal(message, said.clone(), setup),
        _ => setup("see the server's documentation of that error"),
    }
}

const SAME_ID: &str = "another replica has our server id: set `server_id` to a number that no other replica of this server has, or leave it out";

/// One code for many things: the text tells.
fn source_fatal(message: &str, said: String, setup: impl Fn(&str) -> TransportError) -> TransportError {
    const GONE: [&str; 7] = [
        "Could not find first log",
        "purged",
        "not in the master's binlog",
        "impossible position",
        "position > file size",
        "Could not open log file",
        "requested to start from GTID",
    ];
    let lower = message.to_lowercase();
    let has = |text: &str| lower.contains(&text.to_lowercase());
    match () {
        () if has("same server_uuid/server_id") || has("same server_id") => setup(SAME_ID),
        () if has("max_allowed_packet") => {
            setup("an event is larger than the server may send: SET GLOBAL max_allowed_packet = 1073741824")
        }
        () if GONE.iter().any(|text| has(text)) || has("more GTIDs") => {
            TransportError::Failed(FetchError::Lineage {
                at: Position::default(),
                what: said,
                mend: "clone the tables again and start after the clone; and keep binlogs for longer than a reader may be away"
                    .to_owned(),
            })
        }
        () => setup("see the server's documentation of that error"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: u16, message: &str) -> TransportError {
        refusal(&ServerRefusal { code, message: message.to_owned() })
    }

    #[test]
    fn errors_of_the_server_are_told_apart_by_what_mends_them() {
        let purged = "Cannot replicate because the source purged required binary logs.";
        for text in [purged, "Could not find first log file name in binary log index file"] {
            assert!(matches!(of(1236, text), TransportError::Failed(FetchError::Lineage { .. })), "{text}");
        }
        for (code, text) in [(1045, "Access denied"), (1236, "log event entry exceeded max_allowed_packet")] {
            assert!(matches!(of(code, text), TransportError::Failed(FetchError::Setup { .. })), "{text}");
        }
        assert!(matches!(of(1053, "Server shutdown in progress"), TransportError::Lost(_)));
    }

    #[test]
    fn an_error_packet_tells_code_and_text() {
        let packet = b"\x15\x04#28000Access denied";
        let expected = ServerRefusal { code: 1045, message: "Access denied".to_owned() };
        assert_eq!(ServerRefusal::read(packet), expected);
    }
}
