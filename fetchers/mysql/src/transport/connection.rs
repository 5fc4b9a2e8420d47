//! Our own connection as a replica: sign in, set session variables, ask for the log. Everything else that is asked of a
//! server goes through the client library; this one exists since the log is to be read packet by packet.
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/PAGE_PROTOCOL.html>

use std::io;

use mysql_common::crypto;
use mysql_common::scramble::{scramble_native, scramble_sha256};
use tidemill_fetchers_api::FetchError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::options::ServerOptions;
use crate::transport::TransportError;
use crate::wire::{Bytes, Malformed};

/// Bytes of a packet from which on it has a continuation.
pub(crate) const PACKET_BYTES_MAX: usize = 0xff_ffff;

const OK: u8 = 0x00;
const AUTH_MORE: u8 = 0x01;
pub(crate) const EOF: u8 = 0xfe;
pub(crate) const ERR: u8 = 0xff;

const COM_QUERY: u8 = 0x03;
const COM_REGISTER_SLAVE: u8 = 0x15;

const NATIVE: &str = "mysql_native_password";
const CACHING_SHA2: &str = "caching_sha2_password";

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

/// See the module.
pub(crate) struct Connection {
    stream: TcpStream,
    sequence: u8,
}

/// What the server says first.
struct Greeting {
    plugin: String,
    nonce: Vec<u8>,
}

fn malformed(Malformed(what): Malformed) -> TransportError {
    TransportError::Lost(io::Error::new(io::ErrorKind::InvalidData, what))
}

impl Connection {
    /// Connects and signs in.
    pub(crate) async fn open(options: &ServerOptions) -> Result<Connection, TransportError> {
        let address = (options.host.as_str(), options.port);
        let stream = TcpStream::connect(address).await.map_err(TransportError::Lost)?;
        stream.set_nodelay(true).map_err(TransportError::Lost)?;
        let mut connection = Connection { stream, sequence: 0 };
        let greeting = connection.greeting().await?;
        connection.sign_in(options, greeting).await?;
        Ok(connection)
    }

    /// The stream, when nothing but the log follows, and the number of its next packet.
    pub(crate) fn into_stream(self) -> (TcpStream, u8) {
        (self.stream, self.sequence)
    }

    async fn packet(&mut self) -> Result<Vec<u8>, TransportError> {
        let mut head = [0; 4];
        self.stream.read_exact(&mut head).await.map_err(TransportError::Lost)?;
        let length = u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize;
        if head[3] != self.sequence || length == PACKET_BYTES_MAX {
            return Err(malformed(Malformed("a packet comes out of turn")));
        }
        self.sequence = self.sequence.wrapping_add(1);
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).await.map_err(TransportError::Lost)?;
        Ok(payload)
    }

    async fn send(&mut self, payload: &[u8]) -> Result<(), TransportError> {
        let length = u32::try_from(payload.len()).ok().filter(|n| (*n as usize) < PACKET_BYTES_MAX);
        let length = length.ok_or_else(|| malformed(Malformed("a command is too long for one packet")))?;
        let mut packet = length.to_le_bytes();
        packet[3] = self.sequence;
        self.sequence = self.sequence.wrapping_add(1);
        self.stream.write_all(&packet).await.map_err(TransportError::Lost)?;
        self.stream.write_all(payload).await.map_err(TransportError::Lost)
    }

    async fn greeting(&mut self) -> Result<Greeting, TransportError> {
        const VERSION: u8 = 10;
        let payload = self.packet().await?;
        if payload.first() == Some(&ERR) {
            return Err(refused(&payload));
        }
        let read = || -> Result<Greeting, Malformed> {
            let mut b = Bytes(&payload);
            if b.u8()? != VERSION {
                return Err(Malformed("the server greets in another version of the protocol than 10"));
            }
            b.until_zero()?;
            b.u32()?;
            let mut nonce = b.take(8)?.to_vec();
            b.take(1 + 2 + 1 + 2 + 2 + 1 + 10)?;
            nonce.extend_from_slice(b.take(12)?);
            b.take(1)?;
            let plugin = b.until_zero().unwrap_or(b.0);
            Ok(Greeting { plugin: String::from_utf8_lossy(plugin).into_owned(), nonce })
        };
        read().map_err(malformed)
    }

    async fn sign_in(&mut self, options: &ServerOptions, greeting: Greeting) -> Result<(), TransportError> {
        const LONG_PASSWORD: u32 = 1;
        const PROTOCOL_41: u32 = 1 << 9;
        const TRANSACTIONS: u32 = 1 << 13;
        const SECURE_CONNECTION: u32 = 1 << 15;
        const PLUGIN_AUTH: u32 = 1 << 19;
        const UTF8MB4: u8 = 45;
        let mut nonce = greeting.nonce;
        // A plugin that we do not know is the server's default; the account's own follows by a switch.
        let mut plugin = if greeting.plugin == CACHING_SHA2 { CACHING_SHA2 } else { NATIVE }.to_owned();
        let proof = proof(&plugin, &nonce, options)?;
        let flags = LONG_PASSWORD | PROTOCOL_41 | TRANSACTIONS | SECURE_CONNECTION | PLUGIN_AUTH;
        let mut response = flags.to_le_bytes().to_vec();
        response.extend_from_slice(&(1u32 << 30).to_le_bytes());
        response.push(UTF8MB4);
        response.extend_from_slice(&[0; 23]);
        response.extend_from_slice(options.user.as_bytes());
        response.push(0);
        response.push(proof.len() as u8);
        response.extend_from_slice(&proof);
        response.extend_from_slice(plugin.as_bytes());
        response.push(0);
        self.send(&response).await?;
        loop {
            let payload = self.packet().await?;
            match payload.split_first() {
                Some((&OK, _)) => return Ok(()),
                Some((&ERR, _)) => return Err(refused(&payload)),
                Some((&EOF, switch)) => {
                    (plugin, nonce) = read_switch(switch).map_err(malformed)?;
                    let proof = crate::transport::connection::proof(&plugin, &nonce, options)?;
                    self.send(&proof).await?;
                }
                Some((&AUTH_MORE, more)) => self.prove_more(&plugin, more, &nonce, options).await?,
                _ => {
                    return Err(malformed(Malformed(
                        "the server answers the sign-in with an unknown packet",
                    )));
                }
            }
        }
    }

    /// caching_sha2_password: the server knows the password's hash already, or wants the password under its public key.
    async fn prove_more(
        &mut self,
        plugin: &str,
        more: &[u8],
        nonce: &[u8],
        options: &ServerOptions,
    ) -> Result<(), TransportError> {
        const KNOWN: u8 = 3;
        const WANTED: u8 = 4;
        const GIVE_KEY: [u8; 1] = [2];
        match more {
            [KNOWN] => Ok(()),
            [WANTED] if plugin == CACHING_SHA2 => {
                self.send(&GIVE_KEY).await?;
                let answer = self.packet().await?;
                let key = match answer.split_first() {
                    Some((&AUTH_MORE, key)) if key.starts_with(b"-----BEGIN PUBLIC KEY-----") => key,
                    _ => return Err(malformed(Malformed("the server gives no public key"))),
                };
                let mut secret = options.password.reveal().as_bytes().to_vec();
                secret.push(0);
                secret.iter_mut().enumerate().for_each(|(i, byte)| *byte ^= nonce[i % nonce.len()]);
                let encrypted = crypto::encrypt(&secret, key);
                self.send(&encrypted).await
            }
            _ => Err(malformed(Malformed("the server asks for more in an unknown way"))),
        }
    }

    /// Runs a statement that has no rows.
    pub(crate) async fn run(&mut self, statement: &str) -> Result<(), TransportError> {
        self.sequence = 0;
        let mut command = vec![COM_QUERY];
        command.extend_from_slice(statement.as_bytes());
        self.send(&command).await?;
        self.expect_ok().await
    }

    async fn expect_ok(&mut self) -> Result<(), TransportError> {
        let payload = self.packet().await?;
        match payload.first() {
            Some(&OK) => Ok(()),
            Some(&ERR) => Err(refused(&payload)),
            _ => Err(malformed(Malformed("the server answers a command with an unknown packet"))),
        }
    }

    /// Has the server list us among its replicas.
    pub(crate) async fn register(&mut self, server_id: u32) -> Result<(), TransportError> {
        self.sequence = 0;
        let mut command = vec![COM_REGISTER_SLAVE];
        command.extend_from_slice(&server_id.to_le_bytes());
        command.push(8);
        command.extend_from_slice(b"tidemill");
        // No account, password, port, rank or source to show.
        command.extend_from_slice(&[0; 2 + 2 + 4 + 4]);
        self.send(&command).await?;
        self.expect_ok().await
    }

    /// Asks for the log. What follows is a stream of events.
    pub(crate) async fn dump(&mut self, command: &[u8]) -> Result<(), TransportError> {
        self.sequence = 0;
        self.send(command).await
    }
}

fn read_switch(switch: &[u8]) -> Result<(String, Vec<u8>), Malformed> {
    let mut b = Bytes(switch);
    let plugin = String::from_utf8_lossy(b.until_zero()?).into_owned();
    let nonce = b.0.strip_suffix(&[0]).unwrap_or(b.0);
    if nonce.is_empty() {
        return Err(Malformed("the server switches to a plugin without a nonce"));
    }
    Ok((plugin, nonce.to_vec()))
}

/// What shows that we know the password.
fn proof(plugin: &str, nonce: &[u8], options: &ServerOptions) -> Result<Vec<u8>, TransportError> {
    let password = options.password.reveal().as_bytes();
    let proof = match plugin {
        NATIVE => scramble_native(nonce, password).map(|p| p.to_vec()),
        CACHING_SHA2 => scramble_sha256(nonce, password).map(|p| p.to_vec()),
        other => {
            return Err(TransportError::Failed(FetchError::Setup {
                what: format!("the account `{}` signs in by {other}, which is not known here", options.user),
                mend: format!("create it with {CACHING_SHA2} (MariaDB: {NATIVE})"),
            }));
        }
    };
    Ok(proof.unwrap_or_default())
}

fn refused(payload: &[u8]) -> TransportError {
    crate::transport::server::refusal(&ServerRefusal::read(&payload[1..]))
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
