//! The rows of one statement, one after the other and without a copy where a row is one packet. The statement is prepared,
//! since the rows of such a one have numbers as they are in memory: a FLOAT loses digits as a text.
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_command_phase_ps.html>

use crate::limits::{BUFFER_BYTES_KEPT, EVENT_BYTES_MAX};
use crate::transport::TransportError;
use crate::transport::connection::{
    Connection, EOF, ERR, OK, PACKET_BYTES_MAX, PACKET_HEAD, ServerRefusal, malformed,
};
use crate::wire::{Bytes, Malformed};

const COM_STMT_PREPARE: u8 = 0x16;
const COM_STMT_EXECUTE: u8 = 0x17;
const COM_STMT_CLOSE: u8 = 0x19;
/// An EOF packet is shorter than any row that begins with its mark.
const EOF_BYTES_MAX: usize = 9;

/// See the module. One that is dropped before its end leaves the connection in the midst of an answer.
pub(crate) struct Rows<'a> {
    connection: &'a mut Connection,
    statement: [u8; 4],
    /// The number of each column's type.
    types: Vec<u8>,
    /// A row of several packets, so far.
    joined: Vec<u8>,
    joining: bool,
    /// Bytes that the next packet needs.
    needed: usize,
}

/// What a call of `take` found.
pub(crate) enum Taken<'a> {
    /// A row: a bit for each column that is NULL, behind two that mean nothing, then the values of the others.
    Row(&'a [u8]),
    /// More bytes are needed.
    Wait,
    /// There are no more.
    End,
    /// The server goes no further.
    Refused(ServerRefusal),
}

impl<'a> Rows<'a> {
    /// Runs the statement. `Err` of the inner result: the server refuses it, and the connection goes on.
    pub(crate) async fn of(
        connection: &'a mut Connection,
        statement: &str,
    ) -> Result<Result<Rows<'a>, ServerRefusal>, TransportError> {
        let statement = match prepare(connection, statement).await? {
            Ok(statement) => statement,
            Err(refused) => return Ok(Err(refused)),
        };
        // No cursor, once.
        connection.command(COM_STMT_EXECUTE, &[&statement[..], &[0, 1, 0, 0, 0]].concat()).await?;
        let first = connection.packet().await?;
        if first.first() == Some(&ERR) {
            close(connection, statement).await?;
            return Ok(Err(ServerRefusal::read(&first[1..])));
        }
        let count = Bytes(&first).count_of_columns()?;
        let mut types = Vec::with_capacity(count);
        for _ in 0..count {
            types.push(column_type(&connection.packet().await?).map_err(malformed)?);
        }
        end_of_definitions(connection).await?;
        let (joined, joining, needed) = (Vec::new(), false, PACKET_HEAD);
        Ok(Ok(Rows { connection, statement, types, joined, joining, needed }))
    }

    pub(crate) fn types(&self) -> &[u8] {
        &self.types
    }

    /// The next row that is there whole.
    pub(crate) fn take(&mut self) -> Result<Taken<'_>, TransportError> {
        if !self.joining && !self.joined.is_empty() {
            self.joined.clear();
            self.joined.shrink_to(BUFFER_BYTES_KEPT);
        }
        let Some(buffered) = self.packet()? else { return Ok(Taken::Wait) };
        let payload = match buffered {
            Some(length) => &self.connection.buffer.take(PACKET_HEAD + length)[PACKET_HEAD..],
            None => &self.joined[..],
        };
        match payload.split_first() {
            Some((&OK, row)) => Ok(Taken::Row(row)),
            Some((&ERR, error)) => Ok(Taken::Refused(ServerRefusal::read(error))),
            Some((&EOF, rest)) if rest.len() < EOF_BYTES_MAX => Ok(Taken::End),
            _ => Err(malformed(Malformed("a row has an unknown mark"))),
        }
    }

    /// The next packet's length, where it is all there: of the row's only packet, or none for a row that is joined now.
    fn packet(&mut self) -> Result<Option<Option<usize>>, TransportError> {
        loop {
            let unread = self.connection.buffer.unread();
            let Some((head, rest)) = unread.split_first_chunk::<PACKET_HEAD>() else {
                self.needed = PACKET_HEAD;
                return Ok(None);
            };
            let length = u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize;
            if head[3] != self.connection.sequence {
                return Err(malformed(Malformed("a packet comes out of turn")));
            }
            if rest.len() < length {
                self.needed = PACKET_HEAD + length;
                return Ok(None);
            }
            self.connection.sequence = self.connection.sequence.wrapping_add(1);
            if !self.joining && length < PACKET_BYTES_MAX {
                return Ok(Some(Some(length)));
            }
            self.joining = length == PACKET_BYTES_MAX;
            let part = &self.connection.buffer.take(PACKET_HEAD + length)[PACKET_HEAD..];
            self.joined.extend_from_slice(part);
            if self.joined.len() > EVENT_BYTES_MAX + PACKET_BYTES_MAX {
                return Err(malformed(Malformed("a row is larger than any may be")));
            }
            if !self.joining {
                return Ok(Some(None));
            }
        }
    }

    /// Waits for more bytes.
    pub(crate) async fn fill(&mut self) -> Result<(), TransportError> {
        self.connection.fill(self.needed).await
    }

    /// After the end, or a refusal: the connection is free again.
    pub(crate) async fn close(self) -> Result<(), TransportError> {
        close(self.connection, self.statement).await
    }
}

impl Bytes<'_> {
    fn count_of_columns(&mut self) -> Result<usize, TransportError> {
        const COLUMNS_MAX: u64 = tidemill_event::limits::COLUMNS_MAX as u64;
        match self.length().map_err(malformed)? {
            count @ 1..=COLUMNS_MAX => Ok(count as usize),
            _ => Err(malformed(Malformed("a statement gives no rows, or too many columns"))),
        }
    }
}

/// Has the server parse the statement; its number.
async fn prepare(
    connection: &mut Connection,
    statement: &str,
) -> Result<Result<[u8; 4], ServerRefusal>, TransportError> {
    connection.command(COM_STMT_PREPARE, statement.as_bytes()).await?;
    let packet = connection.packet().await?;
    if packet.first() == Some(&ERR) {
        return Ok(Err(ServerRefusal::read(&packet[1..])));
    }
    let mut b = Bytes(&packet);
    let mut head = || Ok((b.u8()?, b.array::<4>()?, b.u16()?, b.u16()?));
    let (mark, number, columns, parameters) = head().map_err(malformed)?;
    if mark != OK {
        return Err(malformed(Malformed("the server answers a statement with an unknown packet")));
    }
    for definitions in [parameters, columns].into_iter().filter(|count| *count > 0) {
        for _ in 0..definitions {
            connection.packet().await?;
        }
        end_of_definitions(connection).await?;
    }
    Ok(Ok(number))
}

async fn end_of_definitions(connection: &mut Connection) -> Result<(), TransportError> {
    match connection.packet().await?.first() {
        Some(&EOF) => Ok(()),
        _ => Err(malformed(Malformed("an answer has more columns than it says"))),
    }
}

/// The server does not answer that.
async fn close(connection: &mut Connection, statement: [u8; 4]) -> Result<(), TransportError> {
    connection.command(COM_STMT_CLOSE, &statement).await
}

/// The number of the type in a column's definition: six names, the length of what follows, character set and display
/// length come before it.
fn column_type(definition: &[u8]) -> Result<u8, Malformed> {
    const NAMES: usize = 6;
    let mut b = Bytes(definition);
    for _ in 0..NAMES {
        b.counted()?;
    }
    b.take(1 + 2 + 4)?;
    b.u8()
}
