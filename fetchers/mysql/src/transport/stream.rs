//! A byte stream to the server, plain or encrypted, that can be read without waiting: what is there decides what a
//! window holds.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use tokio::net::TcpStream;

/// See the module.
pub(crate) struct Stream {
    tcp: TcpStream,
    session: Option<Box<ClientConnection>>,
    /// What is still to be sent, after a send that must not wait.
    unsent: Vec<u8>,
}

/// The socket as the encryption wants it: blocking calls that never block.
struct NoWait<'a>(&'a TcpStream);

impl Read for NoWait<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(room)
    }
}

impl Write for NoWait<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream {
    pub(crate) fn new(tcp: TcpStream) -> Stream {
        Stream { tcp, session: None, unsent: Vec::new() }
    }

    pub(crate) fn is_encrypted(&self) -> bool {
        self.session.is_some()
    }

    /// Begins to encrypt. The error of a certificate that was refused is [`rustls::Error`], inside.
    pub(crate) async fn encrypt(
        &mut self,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<()> {
        let mut session = Box::new(ClientConnection::new(config, name).map_err(io::Error::other)?);
        // What is written waits in memory until the socket takes it: commands are small.
        session.set_buffer_limit(None);
        while session.is_handshaking() {
            if session.wants_write() {
                match session.write_tls(&mut NoWait(&self.tcp)) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => self.tcp.writable().await?,
                    other => drop(other?),
                }
                continue;
            }
            match receive(&mut session, &self.tcp) {
                Ok(true) => {}
                Ok(false) => return Err(ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.tcp.readable().await?,
                Err(error) => {
                    // The alert tells the server why; whether it arrives changes nothing.
                    let _ = session.write_tls(&mut NoWait(&self.tcp));
                    return Err(error);
                }
            }
        }
        self.session = Some(session);
        self.write_all(&[]).await
    }

    /// Reads what is there; `WouldBlock` where there is nothing, zero at the end.
    pub(crate) fn try_read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let Some(session) = &mut self.session else { return self.tcp.try_read(room) };
        loop {
            match session.reader().read(room) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                other => return other,
            }
            receive(session, &self.tcp)?;
        }
    }

    /// Waits until there may be something to read. Cancel-safe.
    pub(crate) async fn readable(&mut self) -> io::Result<()> {
        while !self.send_unsent()? {
            tokio::select! {
                biased;
                readable = self.tcp.readable() => return readable,
                writable = self.tcp.writable() => writable?,
            }
        }
        self.tcp.readable().await
    }

    pub(crate) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.send_soon(bytes)?;
        while !self.send_unsent()? {
            self.tcp.writable().await?;
        }
        Ok(())
    }

    /// Sends without waiting; what the socket does not take now goes with the next call that waits.
    pub(crate) fn send_soon(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.session {
            Some(session) => session.writer().write_all(bytes)?,
            None => self.unsent.extend_from_slice(bytes),
        }
        self.send_unsent().map(drop)
    }

    /// Whether everything is sent.
    fn send_unsent(&mut self) -> io::Result<bool> {
        let result = match &mut self.session {
            Some(session) => loop {
                if !session.wants_write() {
                    break Ok(());
                }
                if let Err(error) = session.write_tls(&mut NoWait(&self.tcp)) {
                    break Err(error);
                }
            },
            None => loop {
                if self.unsent.is_empty() {
                    break Ok(());
                }
                match self.tcp.try_write(&self.unsent) {
                    Ok(sent) => drop(self.unsent.drain(..sent)),
                    Err(error) => break Err(error),
                }
            },
        };
        match result {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Takes in what the socket has and decrypts it; false: the server ended the stream.
fn receive(session: &mut ClientConnection, tcp: &TcpStream) -> io::Result<bool> {
    let read = session.read_tls(&mut NoWait(tcp))?;
    session.process_new_packets().map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
    Ok(read > 0)
}
