//! How long a connection may keep the relay waiting: for its first bytes, and for taking what waits for it. Time between
//! requests is HTTP's matter.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// A request of either version of HTTP has more bytes than this, and by them the version is known.
const FIRST_BYTES: usize = 24;

/// A connection that ends with `TimedOut` when its peer keeps us waiting.
pub(crate) struct Patience<S> {
    stream: S,
    read_bytes: usize,
    first: Pin<Box<Sleep>>,
    stalled: Pin<Box<Sleep>>,
    stalled_time: Duration,
    is_stalled: bool,
}

impl<S> Patience<S> {
    /// `first_time`: from now until the first bytes. `stalled_time`: how long nothing may be taken.
    pub(crate) fn new(stream: S, first_time: Duration, stalled_time: Duration) -> Patience<S> {
        let (first, stalled) = (Box::pin(sleep(first_time)), Box::pin(sleep(stalled_time)));
        Patience { stream, read_bytes: 0, first, stalled, stalled_time, is_stalled: false }
    }

    /// Looks at the clock while the peer takes nothing.
    fn taken<T>(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.is_stalled = false;
            return polled;
        }
        if !self.is_stalled {
            self.stalled.as_mut().reset(Instant::now() + self.stalled_time);
            self.is_stalled = true;
        }
        ready!(self.stalled.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the peer takes nothing of what waits for it",
        )))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patience<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.read_bytes = self.read_bytes.saturating_add(buffer.filled().len() - before);
        if polled.is_pending()
            && self.read_bytes < FIRST_BYTES
            && self.first.as_mut().poll(context).is_ready()
        {
            let error = io::Error::new(io::ErrorKind::TimedOut, "the peer asks for nothing");
            return Poll::Ready(Err(error));
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patience<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.taken(context, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        all: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, all);
        self.taken(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        self.taken(context, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(context);
        self.taken(context, polled)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    // Time stands still in these tests until everybody waits, and jumps to the next moment that somebody waits for.

    #[tokio::test(start_paused = true)]
    async fn who_asks_for_nothing_is_not_waited_for() {
        let (mut peer, stream) = duplex(64);
        peer.write_all(b"GET / HTTP/1.1").await.unwrap();
        let mut stream = Patience::new(stream, SECOND, SECOND);
        let mut read = Vec::new();
        let error = stream.read_to_end(&mut read).await.unwrap_err();
        assert_eq!((error.kind(), &*read), (io::ErrorKind::TimedOut, &b"GET / HTTP/1.1"[..]));
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_asked_may_be_silent() {
        let (mut peer, stream) = duplex(64);
        peer.write_all(&[b'a'; FIRST_BYTES]).await.unwrap();
        let mut stream = Patience::new(stream, SECOND, SECOND);
        let silent = tokio::spawn(async move {
            tokio::time::sleep(SECOND * 1000).await;
            drop(peer);
        });
        let mut read = Vec::new();
        assert_eq!(stream.read_to_end(&mut read).await.unwrap(), FIRST_BYTES);
        silent.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_not_waited_for_and_who_takes_little_is() {
        let (mut peer, stream) = duplex(4);
        let mut stream = Patience::new(stream, SECOND, SECOND);
        let taker = tokio::spawn(async move {
            for _ in 0..10 {
                tokio::time::sleep(SECOND / 2).await;
                peer.read_exact(&mut [0; 4]).await.unwrap();
            }
            peer
        });
        stream.write_all(&[0; 40]).await.unwrap();
        let _peer = taker.await.unwrap();
        let error = stream.write_all(&[0; 40]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
