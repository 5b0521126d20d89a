//! The listener: HTTP/1.1 on a loopback port, in the clear or by TLS.
//!
//! Invariant: dropping [`Running`] ends the listener and all of its connections.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    control::Control,
    fake::{Fake, Reply, Request},
    tls,
};

/// Largest body taken, in bytes; every store's own limit is lower.
const BODY_MAX: usize = 4 * 1024 * 1024;

/// How a fake is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens; port 0 for any free one.
    pub listen: SocketAddr,
    /// Whether it speaks TLS with a CA of its own.
    pub tls: bool,
    /// Further names in its certificate.
    pub names: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 0)), tls: false, names: Vec::new() }
    }
}

impl Options {
    /// On a free port by TLS.
    pub fn tls() -> Self {
        Self { tls: true, ..Self::default() }
    }
}

/// A running fake; it ends when this is dropped.
#[derive(Debug)]
pub struct Running {
    /// Where it is, without a slash at the end.
    pub url: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// What its clients must trust, with TLS.
    pub ca_pem: Option<String>,
    /// Steers it.
    pub control: Control,
    credentials: Value,
    accepting: JoinHandle<()>,
}

impl Running {
    /// What clients need, as it stands in the ready file: `url`, `ca_pem`, and what the fake adds.
    pub fn ready(&self) -> Value {
        let mut ready = json!({"url": self.url, "ca_pem": self.ca_pem});
        if let (Some(ready), Value::Object(more)) = (ready.as_object_mut(), &self.credentials) {
            ready.extend(more.clone());
        }
        ready
    }

    /// Waits for its end, which comes only by an abort.
    pub async fn wait(&mut self) {
        if let Err(error) = (&mut self.accepting).await {
            debug_assert!(error.is_cancelled(), "the listener never panics");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Starts `fake`.
pub async fn start(fake: Arc<dyn Fake>, options: Options) -> Result<Running> {
    let listener = TcpListener::bind(options.listen).await.with_context(|| format!("listen on {}", options.listen))?;
    let address = listener.local_addr()?;
    let names = [options.names, fake.names()].concat();
    let tls = options.tls.then(|| tls::make(&names)).transpose()?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let (acceptor, ca_pem) = tls.map_or((None, None), |made| (Some(made.acceptor), Some(made.ca_pem)));
    let credentials = fake.credentials();
    let control = Control::new(fake);
    let accepting = tokio::spawn(accept(listener, acceptor, scheme, control.clone()));
    Ok(Running { url: format!("{scheme}://{address}"), address, ca_pem, control, credentials, accepting })
}

async fn accept(listener: TcpListener, acceptor: Option<TlsAcceptor>, scheme: &'static str, control: Control) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                // a client that asks once per connection would wait for a delayed acknowledgement each time
                let Ok(()) = stream.set_nodelay(true) else { continue };
                let (acceptor, control) = (acceptor.clone(), control.clone());
                connections.spawn(async move {
                    match acceptor {
                        None => serve(stream, scheme, control).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                serve(stream, scheme, control).await;
                            }
                        }
                    }
                });
            }
            Some(_ended) = connections.join_next() => {}
        }
    }
}

/// Why a connection ends without an answer.
#[derive(Debug)]
struct Dropped;

impl std::fmt::Display for Dropped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the connection is dropped by a fault")
    }
}

impl std::error::Error for Dropped {}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send, scheme: &'static str, control: Control) {
    let service = service_fn(|incoming: http::Request<Incoming>| {
        let control = control.clone();
        async move {
            let Ok(request) = read(incoming, scheme).await else { return Ok(sent(&Reply::empty(413))) };
            control.handle(&request).await.as_ref().map(sent).ok_or(Dropped)
        }
    });
    let mut server = http1::Builder::new();
    server.header_read_timeout(None);
    // A client that goes away is no failure of the fake's, and a drop is meant.
    drop(server.serve_connection(TokioIo::new(stream), service).await);
}

async fn read(
    incoming: http::Request<Incoming>,
    scheme: &str,
) -> Result<Request, Box<dyn std::error::Error + Send + Sync>> {
    let (head, body) = incoming.into_parts();
    let body = Limited::new(body, BODY_MAX).collect().await?.to_bytes();
    let host = head.headers.get(http::header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
    Ok(Request {
        method: head.method,
        origin: format!("{scheme}://{host}"),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers: head.headers,
        body,
    })
}

fn sent(reply: &Reply) -> http::Response<Full<Bytes>> {
    let mut response = http::Response::builder().status(reply.status);
    for (name, value) in &reply.headers {
        response = response.header(name, value);
    }
    response.body(Full::new(reply.body.clone())).unwrap_or_else(|_: http::Error| {
        let mut broken = http::Response::new(Full::new(Bytes::from_static(b"a fake made an answer that is not HTTP")));
        *broken.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
        broken
    })
}
