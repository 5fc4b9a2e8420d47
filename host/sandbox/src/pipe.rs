//! What a guest writes to its standard streams: kept within a bound, and never waiting for anybody.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

/// What happens to bytes past the bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// The oldest make room.
    KeepEnd,
    /// The write fails, and the pipe remembers that it was too small.
    Refuse,
    /// Every write fails: the stream was not granted.
    NotGranted,
}

#[derive(Debug)]
struct Content {
    bytes: VecDeque<u8>,
    bytes_max: usize,
    overflowed: bool,
}

/// One end of a standard stream; clones share the content.
#[derive(Clone, Debug)]
pub(crate) struct Pipe {
    content: Arc<Mutex<Content>>,
    rule: Rule,
}

impl Pipe {
    /// Keeps the last bytes.
    pub(crate) fn tail(bytes_max: usize) -> Pipe {
        Pipe::new(bytes_max, Rule::KeepEnd)
    }

    /// Keeps everything, up to a bound.
    pub(crate) fn bounded(bytes_max: usize) -> Pipe {
        Pipe::new(bytes_max, Rule::Refuse)
    }

    /// Takes nothing.
    pub(crate) fn not_granted() -> Pipe {
        Pipe::new(0, Rule::NotGranted)
    }

    fn new(bytes_max: usize, rule: Rule) -> Pipe {
        let content = Content { bytes: VecDeque::new(), bytes_max, overflowed: false };
        Pipe { content: Arc::new(Mutex::new(content)), rule }
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().expect("nothing panics while it holds the lock")
    }

    /// Everything that is in it; it is empty afterwards.
    pub(crate) fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.content().bytes).into()
    }

    /// Whether a write was refused because the pipe was full.
    pub(crate) fn overflowed(&self) -> bool {
        self.content().overflowed
    }

    fn write_some(&self, bytes: &[u8]) -> io::Result<()> {
        let mut content = self.content();
        match self.rule {
            Rule::NotGranted => {
                return Err(io::Error::other(
                    "standard output was not granted to this guest; add the grant \"stdout\"",
                ));
            }
            Rule::Refuse if content.bytes.len() + bytes.len() > content.bytes_max => {
                content.overflowed = true;
                return Err(io::Error::other("standard output is full"));
            }
            Rule::Refuse => content.bytes.extend(bytes),
            Rule::KeepEnd => {
                content.bytes.extend(bytes);
                let surplus = content.bytes.len().saturating_sub(content.bytes_max);
                content.bytes.drain(..surplus);
            }
        }
        Ok(())
    }
}

impl IsTerminal for Pipe {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Pipe {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(self.write_some(bytes).map(|()| bytes.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Pipe {
    async fn ready(&mut self) {}
}

impl OutputStream for Pipe {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.write_some(&bytes).map_err(|e| StreamError::LastOperationFailed(wasmtime::Error::new(e)))
    }
    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }
    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(1 << 20)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_tail_keeps_the_last_bytes() {
        let pipe = Pipe::tail(4);
        pipe.write_some(b"abc").unwrap();
        pipe.write_some(b"defg").unwrap();
        assert_eq!(pipe.take(), b"defg");
        assert_eq!(pipe.take(), b"");
    }

    #[test]
    fn a_bounded_pipe_refuses_what_does_not_fit_and_remembers() {
        let pipe = Pipe::bounded(4);
        pipe.write_some(b"abc").unwrap();
        assert!(pipe.write_some(b"de").is_err() && pipe.overflowed());
        assert_eq!(pipe.take(), b"abc");
    }
}
