//! A subscriber that costs next to nothing: HTTP/1.1 by hand over one connection, so that the figures are the relay's.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Failure;

/// What one read takes from the socket at most.
const READ_BYTES: usize = 256 << 10;

/// An open answer.
pub struct Subscriber {
    stream: TcpStream,
    raw: Vec<u8>,
    chunked: Chunked,
}

impl Subscriber {
    /// Asks for that path and waits for the head of the answer. `read_bytes`: what one read takes from the socket at most.
    pub async fn open(address: SocketAddr, path: &str, read_bytes: usize) -> Result<Subscriber, Failure> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\naccept-encoding: identity\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        if !head.starts_with("HTTP/1.1 200") {
            let mut rest = Vec::new();
            // What the relay says about it; it may keep the connection open.
            let _ = stream.read_buf(&mut rest).await;
            return Err(format!("{path}: {head}{}", String::from_utf8_lossy(&rest)).into());
        }
        if !head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
            return Err(format!("{path}: the answer is not chunked: {head}").into());
        }
        let raw = Vec::with_capacity(read_bytes.min(READ_BYTES));
        Ok(Subscriber { stream, raw, chunked: Chunked::Size(0) })
    }

    /// Waits for more and hands every piece of the body to `take`. `false`: the answer has ended in an orderly way.
    pub async fn read(&mut self, take: impl FnMut(&[u8])) -> Result<bool, Failure> {
        if self.chunked == Chunked::Ended {
            return Ok(false);
        }
        self.raw.clear();
        if self.stream.read_buf(&mut self.raw).await? == 0 {
            return Err("the relay closed the connection within an answer".into());
        }
        self.chunked.feed(&self.raw, take)?;
        Ok(self.chunked != Chunked::Ended)
    }
}

/// Where a reader of the chunked coding stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunked {
    /// In the line that tells a chunk's size.
    Size(usize),
    /// In a chunk that has so many bytes left.
    Data(usize),
    /// Behind a chunk's data, in its line's end.
    End,
    /// Behind the last chunk: trailers and all.
    Ended,
}

impl Chunked {
    fn feed(&mut self, mut bytes: &[u8], mut take: impl FnMut(&[u8])) -> Result<(), Failure> {
        while let Some(first) = bytes.first().copied() {
            let used = match *self {
                Chunked::Size(size) => {
                    *self = match (first, char::from(first).to_digit(16)) {
                        (_, Some(digit)) => Chunked::Size(size * 16 + digit as usize),
                        (b'\r', _) => Chunked::Size(size),
                        (b'\n', _) if size == 0 => Chunked::Ended,
                        (b'\n', _) => Chunked::Data(size),
                        _ => return Err("a chunk has no size".into()),
                    };
                    1
                }
                Chunked::Data(left) => {
                    let piece = left.min(bytes.len());
                    take(&bytes[..piece]);
                    *self = if piece == left { Chunked::End } else { Chunked::Data(left - piece) };
                    piece
                }
                Chunked::End => {
                    *self = if first == b'\n' { Chunked::Size(0) } else { Chunked::End };
                    1
                }
                Chunked::Ended => bytes.len(),
            };
            bytes = &bytes[used..];
        }
        Ok(())
    }
}

/// Puts a stream's bytes together to frames.
#[derive(Debug, Default)]
pub struct Frames(Vec<u8>);

impl Frames {
    /// Takes more bytes and hands every frame that is whole to `each`.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.0.extend_from_slice(bytes);
        let mut from = 0;
        while let Some(length) = self.0.get(from..from + 4) {
            let length = u32::from_le_bytes(length.try_into().expect("four bytes")) as usize;
            let Some(frame) = self.0.get(from..from + length) else { break };
            each(frame)?;
            from += length;
        }
        self.0.drain(..from);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunked_body_is_the_same_however_it_is_cut() {
        let wire = b"3\r\nabc\r\nb\r\n0123456789\n\r\n0\r\ntrailer: x\r\n\r\n";
        for cut in 0..wire.len() {
            let (mut chunked, mut body) = (Chunked::Size(0), Vec::new());
            for part in [&wire[..cut], &wire[cut..]] {
                chunked.feed(part, |piece| body.extend_from_slice(piece)).expect("it is chunked");
            }
            assert_eq!((body.as_slice(), chunked), (&b"abc0123456789\n"[..], Chunked::Ended), "cut at {cut}");
        }
    }
}
