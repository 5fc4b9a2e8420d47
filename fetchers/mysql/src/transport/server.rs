//! The log as a server sends it: packets into events, without a copy where an event is one packet.

use std::io;
use std::time::Duration;

use tidemill_event::Position;
use tidemill_fetchers_api::FetchError;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::event::{Checksums, RawEvent};
use crate::limits::{BUFFER_BYTES_KEPT, EVENT_BYTES_MAX, HEARTBEATS_MISSED};
use crate::transport::buffer::Buffer;
use crate::transport::connection::{Connection, EOF, ERR, PACKET_BYTES_MAX, ServerRefusal};
use crate::transport::{Filled, TransportError};
use crate::wire::Malformed;

const PACKET_HEAD: usize = 4;

/// See the module.
pub(crate) struct ServerTransport {
    stream: TcpStream,
    sequence: u8,
    buffer: Buffer,
    /// Bytes that the next packet needs.
    needed: usize,
    /// An event of several packets, so far.
    joined: Vec<u8>,
    joining: bool,
    checksums: Checksums,
    silence_max: Duration,
}

/// Where the bytes of an event are.
enum Whole {
    Buffered(usize),
    Joined,
}

impl ServerTransport {
    /// A connection on which the dump command was sent.
    pub(crate) fn new(connection: Connection, heartbeat: Duration) -> ServerTransport {
        let (stream, sequence) = connection.into_stream();
        ServerTransport::on(stream, sequence, heartbeat)
    }

    fn on(stream: TcpStream, sequence: u8, heartbeat: Duration) -> ServerTransport {
        ServerTransport {
            stream,
            sequence,
            buffer: Buffer::default(),
            needed: PACKET_HEAD,
            joined: Vec::new(),
            joining: false,
            checksums: Checksums::default(),
            silence_max: heartbeat * HEARTBEATS_MISSED,
        }
    }

    pub(crate) fn take(&mut self) -> Result<Option<RawEvent<'_>>, TransportError> {
        if !self.joining && !self.joined.is_empty() {
            self.joined.clear();
            self.joined.shrink_to(BUFFER_BYTES_KEPT);
        }
        let payload = match self.packet()? {
            None => return Ok(None),
            Some(Whole::Buffered(length)) => &self.buffer.take(PACKET_HEAD + length)[PACKET_HEAD..],
            Some(Whole::Joined) => &self.joined,
        };
        match payload.split_first() {
            Some((0, event)) => self.checksums.open(event).map(Some).map_err(damaged),
            Some((&ERR, error)) => Err(refusal(&ServerRefusal::read(error))),
            Some((&EOF, _)) => {
                Err(TransportError::lost("the server ended the log, as it does when it shuts down"))
            }
            _ => Err(damaged(Malformed("a packet of the log has an unknown mark"))),
        }
    }

    /// The next packet or, where an event has several, the next event.
    fn packet(&mut self) -> Result<Option<Whole>, TransportError> {
        loop {
            let unread = self.buffer.unread();
            let Some((head, rest)) = unread.split_first_chunk::<PACKET_HEAD>() else {
                self.needed = PACKET_HEAD;
                return Ok(None);
            };
            let length = u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize;
            if head[3] != self.sequence {
                return Err(damaged(Malformed("a packet of the log comes out of turn")));
            }
            if rest.len() < length {
                self.needed = PACKET_HEAD + length;
                return Ok(None);
            }
            self.sequence = self.sequence.wrapping_add(1);
            if !self.joining && length < PACKET_BYTES_MAX {
                return Ok(Some(Whole::Buffered(length)));
            }
            self.joining = length == PACKET_BYTES_MAX;
            self.joined.extend_from_slice(&self.buffer.take(PACKET_HEAD + length)[PACKET_HEAD..]);
            if self.joined.len() > EVENT_BYTES_MAX + PACKET_BYTES_MAX {
                return Err(damaged(Malformed("an event is larger than any may be")));
            }
            if !self.joining {
                return Ok(Some(Whole::Joined));
            }
        }
    }

    /// Reads what the socket has.
    pub(crate) fn fill(&mut self) -> Result<Filled, TransportError> {
        let room = self.buffer.room(self.needed);
        match self.stream.try_read(room) {
            Ok(0) => Err(TransportError::lost("the server closed the connection")),
            Ok(read) => {
                self.buffer.filled(read);
                Ok(Filled::More)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Filled::Idle),
            Err(error) => Err(TransportError::Lost(error)),
        }
    }

    pub(crate) async fn wait(&mut self) -> Result<(), TransportError> {
        match timeout(self.silence_max, self.stream.readable()).await {
            Ok(ready) => ready.map_err(TransportError::Lost),
            Err(_) => Err(TransportError::lost("the server was silent for three heartbeats")),
        }
    }
}

fn damaged(Malformed(what): Malformed) -> TransportError {
    TransportError::Failed(FetchError::Damaged { place: "the connection".to_owned(), what: what.to_owned() })
}

/// What an error of the server means for us.
pub(crate) fn refusal(refusal: &ServerRefusal) -> TransportError {
    /// Too many connections, shutdown, killed, out of resources: it passes.
    const PASSING: [u16; 9] = [1040, 1053, 1077, 1152, 1158, 1159, 1160, 1317, 1927];
    const ACCESS: [u16; 5] = [1044, 1045, 1142, 1227, 1698];
    const SOURCE_FATAL: u16 = 1236;
    const REPLACED: u16 = 4052;
    let ServerRefusal { code, message } = refusal;
    let said = format!("the server says: {message} ({code})");
    let setup =
        |mend: &str| TransportError::Failed(FetchError::Setup { what: said.clone(), mend: mend.to_owned() });
    match *code {
        code if PASSING.contains(&code) => TransportError::lost(said),
        code if ACCESS.contains(&code) => setup(
            "check user and password, and GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* to the account (MariaDB: \
             REPLICATION SLAVE, BINLOG MONITOR)",
        ),
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
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::event::HEADER_BYTES;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    /// An event of that size, without checksum; its body tells its size.
    fn event(size: usize) -> Vec<u8> {
        let mut event = vec![(size % 251) as u8; size];
        event[..HEADER_BYTES].fill(0);
        event[9..13].copy_from_slice(&(size as u32).to_le_bytes());
        event
    }

    /// As the protocol cuts it: packets of the largest size, then a smaller one, which may be empty.
    fn packets(event: &[u8], sequence: &mut u8) -> Vec<u8> {
        let payload = [&[0][..], event].concat();
        let mut out = Vec::new();
        let mut parts: Vec<&[u8]> = payload.chunks(PACKET_BYTES_MAX).collect();
        if payload.len().is_multiple_of(PACKET_BYTES_MAX) {
            parts.push(&[]);
        }
        for part in parts {
            out.extend_from_slice(&(part.len() as u32).to_le_bytes()[..3]);
            out.push(*sequence);
            *sequence = sequence.wrapping_add(1);
            out.extend_from_slice(part);
        }
        out
    }

    #[tokio::test]
    async fn events_of_one_and_several_packets_come_out_whole() {
        let sizes = [
            19,
            70_000,
            PACKET_BYTES_MAX - 2,
            PACKET_BYTES_MAX - 1,
            PACKET_BYTES_MAX,
            2 * PACKET_BYTES_MAX - 1,
            20,
        ];
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let sender = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut sequence = 1;
            for size in sizes {
                stream.write_all(&packets(&event(size), &mut sequence)).await.unwrap();
            }
            stream
        });
        let stream = TcpStream::connect(address).await.unwrap();
        let mut transport = ServerTransport::on(stream, 1, Duration::from_secs(60));
        for size in sizes {
            loop {
                if let Some(event) = transport.take().unwrap() {
                    assert_eq!(event.header.size as usize, size);
                    assert!(event.body.iter().all(|byte| *byte == (size % 251) as u8));
                    break;
                }
                if transport.fill().unwrap() == Filled::Idle {
                    transport.wait().await.unwrap();
                }
            }
        }
        drop(sender.await.unwrap());
        while let Ok(Filled::Idle) = transport.fill() {
            transport.wait().await.unwrap();
        }
        assert!(matches!(transport.fill(), Err(TransportError::Lost(_))));
    }

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
