//! A connection whose other end may leave what is written to it lying for a bounded time only.
//!
//! Invariant: a write of which no byte is taken for the limit, and half as much again at most, fails with
//! [`io::ErrorKind::TimedOut`], and whoever serves the connection ends it. Reading is not timed, and a write that is
//! taken at once costs nothing.
//!
//! It belongs below TLS, where bytes that the kernel takes are seen. The kernel says that there is room when a third of
//! a connection's buffer is free: who takes some bytes now and then takes nothing in this sense.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::Standstill;

/// A connection that waits for its other end with patience, but not for ever.
#[derive(Debug)]
pub struct Patient<S> {
    inner: S,
    unread: Standstill,
}

impl<S> Patient<S> {
    /// A connection whose other end may take nothing for `limit`.
    pub fn new(inner: S, limit: Duration) -> Self {
        Self { inner, unread: Standstill::new(limit) }
    }

    /// Has another limit, see [`Standstill::set_limit`].
    pub fn set_limit(&mut self, limit: Duration) {
        self.unread.set_limit(limit);
    }

    fn after_write(&mut self, written: Poll<io::Result<usize>>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if written.is_pending() {
            return self.wait(cx);
        }
        self.unread.moved();
        written
    }

    fn wait<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        self.unread.poll(cx).map(|()| {
            Err(io::Error::new(io::ErrorKind::TimedOut, "the other end takes nothing of what is written to it"))
        })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.inner).poll_write(cx, bytes);
        this.after_write(written, cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.inner).poll_write_vectored(cx, slices);
        this.after_write(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    // a flush that is done moved nothing: a socket has none to do
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.inner).poll_flush(cx) {
            Poll::Pending => this.wait(cx),
            done @ Poll::Ready(_) => done,
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.inner).poll_shutdown(cx) {
            Poll::Pending => this.wait(cx),
            done @ Poll::Ready(_) => done,
        }
    }
}

#[cfg(test)]
mod tests;
