//! Our own connection: packets, statements and their rows, registering as a replica, asking for the log. The same connection
//! asks a server who it is and then reads its log: behind a balancer two connections may be to two servers.
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/PAGE_PROTOCOL.html>

use std::io;
use std::sync::Arc;

use tokio::net::TcpStream;

use crate::options::ServerOptions;
use crate::transport::TransportError;
use crate::transport::buffer::Buffer;
use crate::transport::sign_in::sign_in;
use crate::transport::stream::Stream;
use crate::transport::tls::{self, Encryption};
use crate::wire::{Bytes, Malformed};

/// Bytes of a packet from which on it has a continuation.
pub(crate) const PACKET_BYTES_MAX: usize = 0xff_ffff;
/// What stands before a packet's payload: length and number.
pub(crate) const PACKET_HEAD: usize = 4;

pub(crate) const OK: u8 = 0x00;
pub(crate) const EOF: u8 = 0xfe;
pub(crate) const ERR: u8 = 0xff;

const COM_QUERY: u8 = 0x03;
const COM_REGISTER_SLAVE: u8 = 0x15;

/// An error packet: the server says no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerRefusal {
    pub(crate) code: u16,
    pub(crate) message: String,
}

impl ServerRefusal {
    /// What stands behind the mark of an error packet.
    pub(crate) fn read(payload: &[u8]) -> ServerRefusal {
        let mut b = Bytes(payload);
        let code = b.u16().unwrap_or_default();
        let text = match b.0 {
            [b'#', rest @ ..] => rest.get(5..).unwrap_or_default(),
            rest => rest,
        };
        ServerRefusal { code, message: String::from_utf8_lossy(text).into_owned() }
    }
}

/// A row of an answer, as texts.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    columns: Arc<[String]>,
    values: Vec<Option<String>>,
}

impl Row {
    /// The value in that column; none where it is NULL or there is no such column.
    pub(crate) fn at(&self, column: usize) -> Option<&str> {
        self.values.get(column)?.as_deref()
    }

    /// The value of the column of that name, in any case; none where it is NULL or there is no such column.
    pub(crate) fn get(&self, column: &str) -> Option<&str> {
        self.at(self.columns.iter().position(|name| name.eq_ignore_ascii_case(column))?)
    }
}

/// See the module.
pub(crate) struct Connection {
    stream: Stream,
    pub(super) buffer: Buffer,
    pub(super) sequence: u8,
    /// For what a failure says.
    options: ServerOptions,
}

pub(crate) fn malformed(Malformed(what): Malformed) -> TransportError {
    TransportError::Lost(io::Error::new(io::ErrorKind::InvalidData, what))
}

pub(crate) fn refused(payload: &[u8]) -> TransportError {
    crate::transport::refusal::refusal(&ServerRefusal::read(&payload[1..]))
}

impl Connection {
    /// Connects and signs in.
    pub(crate) async fn open(options: &ServerOptions) -> Result<Connection, TransportError> {
        let address = (options.host.as_str(), options.port);
        let tcp = TcpStream::connect(address).await.map_err(TransportError::Lost)?;
        tcp.set_nodelay(true).map_err(TransportError::Lost)?;
        let stream = Stream::new(tcp);
        let mut connection =
            Connection { stream, buffer: Buffer::default(), sequence: 0, options: options.clone() };
        sign_in(&mut connection, options).await?;
        Ok(connection)
    }

    /// The stream, what was read of it already, and the number of its next packet: nothing but the log follows.
    pub(crate) fn into_parts(self) -> (Stream, Buffer, u8) {
        (self.stream, self.buffer, self.sequence)
    }

    pub(crate) fn is_encrypted(&self) -> bool {
        self.stream.is_encrypted()
    }

    /// Encrypts everything that follows.
    pub(crate) async fn encrypt(&mut self, encryption: Encryption) -> Result<(), TransportError> {
        if !self.buffer.unread().is_empty() {
            // Whoever stands between could otherwise have put in a statement before the encryption began.
            return Err(malformed(Malformed("the server goes on before the encryption began")));
        }
        let encrypted = self.stream.encrypt(encryption.config, encryption.name).await;
        encrypted.map_err(|error| self.failed(error))
    }

    fn failed(&self, error: io::Error) -> TransportError {
        tls::failure(error, &self.options)
    }

    /// The next packet. What is larger than one packet is no answer to anything that is asked here.
    pub(crate) async fn packet(&mut self) -> Result<Vec<u8>, TransportError> {
        let mut needed = PACKET_HEAD;
        loop {
            let unread = self.buffer.unread();
            if let Some((head, rest)) = unread.split_first_chunk::<PACKET_HEAD>() {
                let length = u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize;
                if head[3] != self.sequence || length == PACKET_BYTES_MAX {
                    return Err(malformed(Malformed("a packet comes out of turn")));
                }
                if rest.len() >= length {
                    self.sequence = self.sequence.wrapping_add(1);
                    return Ok(self.buffer.take(PACKET_HEAD + length)[PACKET_HEAD..].to_vec());
                }
                needed = PACKET_HEAD + length;
            }
            self.fill(needed).await?;
        }
    }

    /// Reads what is there, or waits until there is something; `needed` bytes will find room.
    pub(super) async fn fill(&mut self, needed: usize) -> Result<(), TransportError> {
        match self.stream.try_read(self.buffer.room(needed)) {
            Ok(0) => Err(TransportError::lost("the server closed the connection")),
            Ok(read) => {
                self.buffer.filled(read);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let readable = self.stream.readable().await;
                readable.map_err(|error| self.failed(error))
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    pub(crate) async fn send(&mut self, payload: &[u8]) -> Result<(), TransportError> {
        let length = u32::try_from(payload.len()).ok().filter(|n| (*n as usize) < PACKET_BYTES_MAX);
        let length = length.ok_or_else(|| malformed(Malformed("a command is too long for one packet")))?;
        let mut packet = length.to_le_bytes().to_vec();
        packet[3] = self.sequence;
        packet.extend_from_slice(payload);
        self.sequence = self.sequence.wrapping_add(1);
        self.stream.write_all(&packet).await.map_err(|error| self.failed(error))
    }

    pub(super) async fn command(&mut self, kind: u8, content: &[u8]) -> Result<(), TransportError> {
        self.sequence = 0;
        self.send(&[&[kind], content].concat()).await
    }

    /// Runs a statement that has no rows.
    pub(crate) async fn run(&mut self, statement: &str) -> Result<(), TransportError> {
        self.command(COM_QUERY, statement.as_bytes()).await?;
        self.expect_ok().await
    }

    /// The rows of a query. `Err` of the inner result: the server refuses the statement, and the connection goes on.
    pub(crate) async fn try_query(
        &mut self,
        statement: &str,
    ) -> Result<Result<Vec<Row>, ServerRefusal>, TransportError> {
        self.command(COM_QUERY, statement.as_bytes()).await?;
        let first = self.packet().await?;
        match first.first() {
            Some(&ERR) => return Ok(Err(ServerRefusal::read(&first[1..]))),
            Some(&OK) => return Ok(Ok(Vec::new())),
            _ => {}
        }
        let count = Bytes(&first).length().map_err(malformed)?;
        let mut columns = Vec::new();
        for _ in 0..count {
            columns.push(column_name(&self.packet().await?).map_err(malformed)?);
        }
        let columns: Arc<[String]> = columns.into();
        let mut rows = Vec::new();
        // Definitions end as rows do.
        let mut ends = 0;
        while ends < 2 {
            let packet = self.packet().await?;
            match packet.first() {
                Some(&EOF) if packet.len() < 9 => ends += 1,
                Some(&ERR) => return Ok(Err(ServerRefusal::read(&packet[1..]))),
                _ if ends == 0 => {
                    return Err(malformed(Malformed("an answer has more columns than it says")));
                }
                _ => {
                    let values = values(&packet, columns.len()).map_err(malformed)?;
                    rows.push(Row { columns: Arc::clone(&columns), values });
                }
            }
        }
        Ok(Ok(rows))
    }

    /// The rows of a query.
    pub(crate) async fn query(&mut self, statement: &str) -> Result<Vec<Row>, TransportError> {
        let rows = self.try_query(statement).await?;
        rows.map_err(|refused| crate::transport::refusal::refusal(&refused))
    }

    async fn expect_ok(&mut self) -> Result<(), TransportError> {
        let payload = self.packet().await?;
        match payload.first() {
            Some(&OK) => Ok(()),
            Some(&ERR) => Err(refused(&payload)),
            _ => Err(malformed(Malformed("the server answers a command with an unknown packet"))),
        }
    }

    /// Has the server list us among its replicas, under this name.
    pub(crate) async fn register(&mut self, server_id: u32) -> Result<(), TransportError> {
        const NAME: &[u8] = b"tidemill";
        let mut command = server_id.to_le_bytes().to_vec();
        command.push(NAME.len() as u8);
        command.extend_from_slice(NAME);
        // No account, password, port, rank or source to show.
        command.extend_from_slice(&[0; 2 + 2 + 4 + 4]);
        self.command(COM_REGISTER_SLAVE, &command).await?;
        self.expect_ok().await
    }

    /// Asks for the log. What follows is a stream of events.
    pub(crate) async fn dump(&mut self, command: &[u8]) -> Result<(), TransportError> {
        self.sequence = 0;
        self.send(command).await
    }
}

/// The name in a column's definition: catalogue, schema, table and the table's own name come before it.
fn column_name(definition: &[u8]) -> Result<String, Malformed> {
    const BEFORE: usize = 4;
    let mut b = Bytes(definition);
    for _ in 0..BEFORE {
        b.counted()?;
    }
    Ok(String::from_utf8_lossy(b.counted()?).into_owned())
}

fn values(row: &[u8], columns: usize) -> Result<Vec<Option<String>>, Malformed> {
    const NULL: u8 = 0xfb;
    let mut b = Bytes(row);
    let mut values = Vec::with_capacity(columns);
    for _ in 0..columns {
        values.push(match b.0.split_first() {
            Some((&NULL, rest)) => {
                b.0 = rest;
                None
            }
            _ => Some(String::from_utf8_lossy(b.counted()?).into_owned()),
        });
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::options::Password;
    use tidemill_servers::{Kind, Options, Server};

    /// MySQL does not know the password's hash after a start: the first sign-in is the long one.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_first_and_the_second_sign_in_succeed_and_a_wrong_password_does_not() {
        for kind in Kind::ALL {
            let server = Server::start(kind, Options::default()).await.unwrap();
            server
                .sql("CREATE USER other IDENTIFIED BY 'other''s'; CREATE USER nobody IDENTIFIED BY ''")
                .await
                .unwrap();
            for (user, password) in [("other", "other's"), ("nobody", "")] {
                let mut options =
                    ServerOptions::new("127.0.0.1", server.port(), user, Password::new(password));
                for _ in 0..2 {
                    let mut connection = Connection::open(&options).await.unwrap();
                    connection.run("SET @a = 1").await.unwrap();
                    assert!(connection.run("SET GLOBAL max_connections = 1").await.is_err(), "{kind}");
                }
                options.password = Password::new("wrong");
                assert!(matches!(Connection::open(&options).await, Err(TransportError::Failed(_))), "{kind}");
            }
        }
    }
}
