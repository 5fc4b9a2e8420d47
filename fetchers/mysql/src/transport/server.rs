//! The log as a server sends it: packets into events, without a copy where an event is one packet.

use std::io;
use std::time::Duration;

use tidemill_fetchers_api::FetchError;
use tokio::time::timeout;

use crate::event::{Checksums, RawEvent};
use crate::limits::{BUFFER_BYTES_KEPT, EVENT_BYTES_MAX, HEARTBEATS_MISSED};
use crate::transport::buffer::Buffer;
use crate::transport::connection::{Connection, EOF, ERR, PACKET_BYTES_MAX, PACKET_HEAD, ServerRefusal};
use crate::transport::refusal::refusal;
use crate::transport::semi_sync::{Acknowledger, split_mark};
use crate::transport::stream::Stream;
use crate::transport::{Filled, TransportError};
use crate::wire::Malformed;

/// See the module.
pub(crate) struct ServerTransport {
    stream: Stream,
    sequence: u8,
    buffer: Buffer,
    /// Bytes that the next packet needs.
    needed: usize,
    /// An event of several packets, so far.
    joined: Vec<u8>,
    joining: bool,
    checksums: Checksums,
    silence_max: Duration,
    acknowledger: Acknowledger,
}

/// Where the bytes of an event are.
enum Whole {
    Buffered(usize),
    Joined,
}

impl ServerTransport {
    /// A connection on which the dump command was sent.
    pub(crate) fn new(connection: Connection, heartbeat: Duration) -> ServerTransport {
        let (stream, buffer, sequence) = connection.into_parts();
        ServerTransport::on(stream, buffer, sequence, heartbeat)
    }

    fn on(stream: Stream, buffer: Buffer, sequence: u8, heartbeat: Duration) -> ServerTransport {
        ServerTransport {
            stream,
            sequence,
            buffer,
            needed: PACKET_HEAD,
            joined: Vec::new(),
            joining: false,
            checksums: Checksums::default(),
            silence_max: heartbeat * HEARTBEATS_MISSED,
            acknowledger: Acknowledger::default(),
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
            Some((0, marked)) => {
                let (wanted, event) = split_mark(marked);
                let event = self.checksums.open(event).map_err(damaged)?;
                if let Some(wanted) = wanted {
                    self.acknowledger.note(&event, wanted);
                }
                Ok(Some(event))
            }
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
            if head[3] != self.sequence && !self.acknowledger.restarts_at(head[3]) {
                return Err(damaged(Malformed("a packet of the log comes out of turn")));
            }
            if rest.len() < length {
                self.needed = PACKET_HEAD + length;
                return Ok(None);
            }
            self.sequence = head[3].wrapping_add(1);
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

    /// Waits for more. Whoever waits has used up and stored what came before: it is acknowledged where that is wanted.
    pub(crate) async fn wait(&mut self) -> Result<(), TransportError> {
        if let Some(packet) = self.acknowledger.packet() {
            self.stream.send_soon(&packet).map_err(TransportError::Lost)?;
        }
        match timeout(self.silence_max, self.stream.readable()).await {
            Ok(ready) => ready.map_err(TransportError::Lost),
            Err(_) => Err(TransportError::lost("the server was silent for three heartbeats")),
        }
    }
}

fn damaged(Malformed(what): Malformed) -> TransportError {
    TransportError::Failed(FetchError::Damaged { place: "the connection".to_owned(), what: what.to_owned() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::event::HEADER_BYTES;
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

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
    async fn l37_events_of_one_and_several_packets_come_out_whole() {
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
        let mut transport =
            ServerTransport::on(Stream::new(stream), Buffer::default(), 1, Duration::from_secs(60));
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
}
