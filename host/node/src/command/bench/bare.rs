//! The least that a client of a server can be: blocking, one packet after the other, nothing decoded. Its latency is the
//! floor for every reader of the log, and its statements load the server without another client's runtime in the way.
//! It signs in without a password, so only to the private servers of the benchmarks.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// The account of [`Bare`]: it has no password.
pub const ACCOUNT: &str = "bare";

const OK: u8 = 0x00;
const SWITCH: u8 = 0xfe;
const ERR: u8 = 0xff;
/// A server that says nothing for so long has nothing more for us.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// See the module.
pub struct Bare {
    stream: TcpStream,
    sequence: u8,
    packet: Vec<u8>,
}

/// A rows event that inserts, as it arrived.
pub struct Inserted<'a> {
    /// What follows the header, without the checksum.
    pub body: &'a [u8],
}

fn broken(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

impl Bare {
    /// Connects and signs in.
    pub fn connect(port: u16) -> io::Result<Bare> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        let mut bare = Bare { stream, sequence: 0, packet: Vec::new() };
        // The greeting; without a password its nonce is not needed.
        bare.read()?;
        bare.send(&response())?;
        loop {
            bare.read()?;
            match bare.packet.first() {
                Some(&OK) => return Ok(bare),
                // Another way to sign in: without a password all have the same empty proof.
                Some(&SWITCH) => bare.send(&[])?,
                _ => return Err(bare.refused()),
            }
        }
    }

    /// Runs one statement that gives no rows.
    pub fn run(&mut self, statement: &str) -> io::Result<()> {
        const COM_QUERY: u8 = 3;
        let mut command = vec![COM_QUERY];
        command.extend_from_slice(statement.as_bytes());
        self.command(&command)?;
        self.read()?;
        match self.packet.first() {
            Some(&OK) => Ok(()),
            _ => Err(self.refused()),
        }
    }

    /// Asks for the log from there on.
    pub fn dump(&mut self, file: &str, offset: u32) -> io::Result<()> {
        const COM_BINLOG_DUMP: u8 = 0x12;
        /// As unlikely as any other to be that of a reader beside us.
        const SERVER_ID: u32 = 0x6261_7265;
        // An older replica's log would be rewritten for it; MySQL takes it for a variable of ours.
        self.run(
            "SET @master_binlog_checksum='NONE', @source_binlog_checksum='NONE', @mariadb_slave_capability=4",
        )?;
        let mut command = vec![COM_BINLOG_DUMP];
        command.extend_from_slice(&offset.to_le_bytes());
        command.extend_from_slice(&[0; 2]);
        command.extend_from_slice(&SERVER_ID.to_le_bytes());
        command.extend_from_slice(file.as_bytes());
        self.command(&command)
    }

    /// The next insert of the log, whose events end with a checksum.
    pub fn inserted(&mut self) -> io::Result<Inserted<'_>> {
        const KIND_AT: usize = 1 + 4;
        const HEADER: usize = 1 + 19;
        const CHECKSUM: usize = 4;
        const WRITE_ROWS: [u8; 2] = [30, 23];
        loop {
            self.read()?;
            if self.packet.first() != Some(&OK) {
                return Err(self.refused());
            }
            let is_insert = self.packet.get(KIND_AT).is_some_and(|kind| WRITE_ROWS.contains(kind));
            if is_insert && self.packet.len() >= HEADER + CHECKSUM {
                let end = self.packet.len() - CHECKSUM;
                return Ok(Inserted { body: &self.packet[HEADER..end] });
            }
        }
    }

    fn command(&mut self, command: &[u8]) -> io::Result<()> {
        self.sequence = 0;
        self.send(command)
    }

    fn send(&mut self, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(payload.len()).map_err(|_| broken("a command is too long"))?;
        let mut packet = length.to_le_bytes().to_vec();
        packet[3] = self.sequence;
        packet.extend_from_slice(payload);
        self.sequence = self.sequence.wrapping_add(1);
        self.stream.write_all(&packet)
    }

    fn read(&mut self) -> io::Result<()> {
        let mut head = [0; 4];
        self.stream.read_exact(&mut head)?;
        self.sequence = head[3].wrapping_add(1);
        self.packet.resize(u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize, 0);
        self.stream.read_exact(&mut self.packet)
    }

    fn refused(&self) -> io::Error {
        match self.packet.split_first() {
            Some((&ERR, said)) => broken(format!("the server says: {}", String::from_utf8_lossy(said))),
            _ => broken("the server answers with an unknown packet"),
        }
    }
}

/// The sign-in of an account without a password.
fn response() -> Vec<u8> {
    const LONG_PASSWORD: u32 = 1;
    const PROTOCOL_41: u32 = 1 << 9;
    const SECURE_CONNECTION: u32 = 1 << 15;
    const PLUGIN_AUTH: u32 = 1 << 19;
    const PACKET_BYTES_MAX: u32 = 1 << 24;
    const UTF8MB4: u8 = 45;
    let flags = LONG_PASSWORD | PROTOCOL_41 | SECURE_CONNECTION | PLUGIN_AUTH;
    let mut response = flags.to_le_bytes().to_vec();
    response.extend_from_slice(&PACKET_BYTES_MAX.to_le_bytes());
    response.push(UTF8MB4);
    response.extend_from_slice(&[0; 23]);
    response.extend_from_slice(ACCOUNT.as_bytes());
    // The name's end, and a proof of no bytes.
    response.extend_from_slice(&[0; 2]);
    response.extend_from_slice(b"mysql_native_password\0");
    response
}
