//! Opening one connection: name lookup, TCP, TLS and the HTTP/1.1 handshake, all within one time limit.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, lookup_host},
    task::AbortHandle,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{Origin, UpstreamError};
use crate::proxy::body::OutBody;

/// How connections are opened.
pub(crate) struct Connector {
    tls: TlsConnector,
    within: Duration,
    http: Builder,
}

impl Connector {
    /// `tls` says which roots are trusted; HTTP/1.1 is what is spoken, whatever it offers.
    pub(crate) fn new(tls: &rustls::ClientConfig, within: Duration, buffer_bytes: usize) -> Self {
        let mut tls = tls.clone();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let mut http = Builder::new();
        http.max_buf_size(buffer_bytes);
        Self { tls: TlsConnector::from(Arc::new(tls)), within, http }
    }

    /// A fresh connection and the task that drives it.
    pub(crate) async fn open(&self, origin: &Origin) -> Result<(SendRequest<OutBody>, AbortHandle), UpstreamError> {
        let stream = tokio::time::timeout(self.within, self.stream(origin))
            .await
            .map_err(|_elapsed| UpstreamError::ConnectTimeout)??;
        let (sender, connection) = self.http.handshake(TokioIo::new(stream)).await.map_err(UpstreamError::Protocol)?;
        // The pool owns the task through its abort handle: it ends with the connection or when that is dropped.
        let task = tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "an upstream connection ended with an error");
            }
        });
        Ok((sender, task.abort_handle()))
    }

    async fn stream(&self, origin: &Origin) -> Result<Stream, UpstreamError> {
        let tcp = tcp(origin).await.map_err(UpstreamError::Unreachable)?;
        let Some(name) = &origin.server_name else { return Ok(Stream::Plain(tcp)) };
        let tls = self.tls.connect(name.clone(), tcp).await.map_err(UpstreamError::Tls)?;
        Ok(Stream::Tls(Box::new(tls)))
    }
}

/// Tries every address of the name in turn.
async fn tcp(origin: &Origin) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in lookup_host((origin.host.as_str(), origin.port)).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Plain or TLS, decided at run time without a virtual call.
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // a request without a body is one slice, and `send` is a shorter way through the kernel than `writev`
        if let [only] = slices {
            return self.poll_write(cx, only);
        }
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
