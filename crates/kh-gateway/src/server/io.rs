//! A caller's connection as hyper reads and writes it: plain or TLS, with the raw request head kept for a moment (see
//! [`super::sniff`]), and closed in a way that lets the caller read our last answer.
//!
//! Invariant: a caller that reads nothing of what is written to it holds its connection for a bounded time. hyper sets
//! no timer while bytes wait to be written, and asks for no more of an answer's body.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use kh_net::Patient;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
    time::Sleep,
};
use tokio_rustls::server::TlsStream;

use super::sniff::Sniff;
use crate::worker::Worker;

/// After our last answer we read on for this long and this much before closing: closing a socket with unread bytes
/// resets it, and a reset may overtake an answer such as 431 on its way to a caller that is still sending.
const LINGER: Duration = Duration::from_secs(2);
/// The same at the worker's end: nobody is waited for longer than an answer takes to arrive.
const LINGER_AT_END: Duration = Duration::from_millis(500);
/// Two of the largest heads that anyone sends by mistake, and what is left of a small upload.
const LINGER_BYTES: usize = 4 * 1024 * 1024;

/// Up to this many bytes of an answer, its head and body are put together and written as one: that copy costs less than
/// what the kernel needs to take two pieces. Larger answers are not copied.
const ONE_PIECE: usize = 2048;

/// What a caller connected to.
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// Sets what every connection has set.
    pub(crate) fn prepare(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_nodelay(true),
            Self::Unix(_) => Ok(()),
        }
    }
}

/// Plain or TLS. The kinds of plain are told apart here and not one level below, where the hot path would ask twice.
pub(crate) enum Transport {
    Tcp(Patient<TcpStream>),
    Unix(Patient<UnixStream>),
    Tls(Box<TlsStream<Patient<Socket>>>),
}

/// One caller's connection.
pub(crate) struct Inbound {
    transport: Transport,
    sniff: Arc<Sniff>,
    worker: Arc<Worker>,
    closing: Option<Closing>,
}

struct Closing {
    until: Pin<Box<Sleep>>,
    left: usize,
    shut: bool,
}

impl Inbound {
    pub(crate) fn new(transport: Transport, sniff: Arc<Sniff>, worker: Arc<Worker>) -> Self {
        Self { transport, sniff, worker, closing: None }
    }

    /// Bytes are about to be written.
    fn writes(&mut self) {
        let is_tunnel = self.sniff.written();
        if is_tunnel {
            self.transport.set_patience(self.worker.limits.tunnel_idle);
        }
    }
}

impl Transport {
    /// Without TLS. The caller may leave what is written to it lying for `patience`.
    pub(crate) fn plain(socket: Socket, patience: Duration) -> Self {
        match socket {
            Socket::Tcp(stream) => Self::Tcp(Patient::new(stream, patience)),
            Socket::Unix(stream) => Self::Unix(Patient::new(stream, patience)),
        }
    }

    fn set_patience(&mut self, patience: Duration) {
        match self {
            Self::Tcp(stream) => stream.set_limit(patience),
            Self::Unix(stream) => stream.set_limit(patience),
            Self::Tls(stream) => stream.get_mut().0.set_limit(patience),
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl AsyncRead for Inbound {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let polled = this.transport.poll_read(cx, buffer);
        if let Some(new) = buffer.filled().get(before..)
            && !new.is_empty()
        {
            this.sniff.read(new);
        }
        polled
    }
}

impl AsyncWrite for Inbound {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.writes();
        match &mut this.transport {
            Transport::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Transport::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Transport::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.writes();
        match &mut this.transport {
            Transport::Tcp(stream) => {
                let mut space = [0; ONE_PIECE];
                match in_one_piece(slices, &mut space) {
                    Some(bytes) => Pin::new(stream).poll_write(cx, bytes),
                    None => Pin::new(stream).poll_write_vectored(cx, slices),
                }
            }
            Transport::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Transport::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Tcp(stream) => stream.is_write_vectored(),
            Transport::Unix(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().transport {
            Transport::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // there the end of one direction is not the end of the other: what still comes in is for who listens behind us
        if this.sniff.is_tunnel() {
            return this.transport.poll_shutdown(cx);
        }
        let linger = if this.worker.drain.is_announced() { LINGER_AT_END } else { LINGER };
        let closing = this.closing.get_or_insert_with(|| Closing {
            until: Box::pin(tokio::time::sleep(linger)),
            left: LINGER_BYTES,
            shut: false,
        });
        if !closing.shut {
            ready!(this.transport.poll_shutdown(cx))?;
            closing.shut = true;
        }
        let mut space = [0; 4096];
        while closing.left > 0 {
            let mut buffer = ReadBuf::new(&mut space);
            match this.transport.poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    closing.left = closing.left.saturating_sub(buffer.filled().len());
                }
                // the caller is gone, which is what was waited for
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => return closing.until.as_mut().poll(cx).map(Ok),
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// All of `slices` in `space`, if there is room.
fn in_one_piece<'s>(slices: &[io::IoSlice<'_>], space: &'s mut [u8]) -> Option<&'s [u8]> {
    let mut used = 0;
    for slice in slices {
        let end = used + slice.len();
        space.get_mut(used..end)?.copy_from_slice(slice);
        used = end;
    }
    space.get(..used)
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use super::*;

    #[test]
    fn pieces_are_put_together_whole_or_not_at_all() {
        for (pieces, expected) in [
            (vec!["head", "body"], Some("headbody")),
            (vec!["", "body", ""], Some("body")),
            (vec!["12345678"], Some("12345678")),
            (vec!["1234", "56789"], None),
            (vec!["123456789"], None),
            (vec![], Some("")),
        ] {
            let slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece.as_bytes())).collect();
            let mut space = [b'?'; 8];
            assert_eq!(in_one_piece(&slices, &mut space), expected.map(str::as_bytes), "{pieces:?}");
        }
    }
}
