//! A platform made of one closure, with a journal of everything that reached it.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, request::Parts};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

pub(crate) type Reply = Response<BoxBody<Bytes, io::Error>>;
pub(crate) type ReplyFuture = Pin<Box<dyn Future<Output = Reply> + Send>>;
type Handler = dyn Fn(Request<Incoming>) -> ReplyFuture + Send + Sync;

/// What the upstream saw of one request, its body not included.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
}

pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    journal: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Upstream {
    /// Serves `handler` over plain HTTP.
    pub(crate) async fn start<F>(handler: F) -> Self
    where
        F: Fn(Request<Incoming>) -> ReplyFuture + Send + Sync + 'static,
    {
        Self::serve(Arc::new(handler), None).await
    }

    /// Serves `handler` over TLS.
    pub(crate) async fn start_tls<F>(handler: F, tls: TlsAcceptor) -> Self
    where
        F: Fn(Request<Incoming>) -> ReplyFuture + Send + Sync + 'static,
    {
        Self::serve(Arc::new(handler), Some(tls)).await
    }

    async fn serve(handler: Arc<Handler>, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let journal: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let connections: Arc<AtomicUsize> = Arc::default();
        let (seen, count) = (Arc::clone(&journal), Arc::clone(&connections));
        let server = tokio::spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let (handler, seen, tls) = (Arc::clone(&handler), Arc::clone(&seen), tls.clone());
                open.spawn(async move {
                    match tls {
                        None => connection(stream, handler, seen).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                connection(stream, handler, seen).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, journal, connections, server }
    }

    /// What arrived, in order.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.journal.lock().clone()
    }

    /// How many connections were opened.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn connection<S>(stream: S, handler: Arc<Handler>, seen: Arc<Mutex<Vec<Seen>>>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        seen.lock().push(Seen { target: request.uri().to_string(), headers: request.headers().clone() });
        let reply = handler(request);
        async move { Ok::<_, Infallible>(reply.await) }
    });
    // a broken connection is one of the things under test
    let ended = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
    drop(ended);
}

/// A complete answer.
pub(crate) fn reply(status: u16, headers: &[(&'static str, &str)], body: impl Into<Bytes>) -> Reply {
    let mut response = Response::new(Full::new(body.into()).map_err(|never| match never {}).boxed());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    for (name, value) in headers {
        response.headers_mut().append(*name, value.parse().unwrap());
    }
    response
}

/// The bearer token of a request.
pub(crate) fn token(parts: &Parts) -> String {
    let value = parts.headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
    value.unwrap_or_default().trim_start_matches("Bearer ").to_owned()
}

/// Reads a body whole.
pub(crate) async fn whole(body: Incoming) -> Bytes {
    body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default()
}

/// An upstream that answers everything and keeps the bodies that reached it.
pub(crate) async fn hearing() -> (Upstream, Arc<Mutex<Vec<Bytes>>>) {
    let bodies: Arc<Mutex<Vec<Bytes>>> = Arc::default();
    let heard = Arc::clone(&bodies);
    let upstream = Upstream::start(move |request| {
        let heard = Arc::clone(&heard);
        Box::pin(async move {
            let body = whole(request.into_body()).await;
            heard.lock().push(body);
            reply(200, &[], "heard")
        })
    })
    .await;
    (upstream, bodies)
}

/// An upstream that answers each connection with raw bytes after the first request head, then closes.
pub(crate) async fn raw(answers: Vec<&'static [u8]>) -> (SocketAddr, Arc<AtomicUsize>, JoinSet<()>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heads: Arc<AtomicUsize> = Arc::default();
    let count = Arc::clone(&heads);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        for index in 0.. {
            let Ok((mut stream, _)): io::Result<(TcpStream, _)> = listener.accept().await else { return };
            let mut head = Vec::new();
            let mut space = [0; 1024];
            while !head.windows(4).any(|window| window == b"\r\n\r\n") {
                match stream.read(&mut space).await {
                    Ok(count) if count > 0 => head.extend_from_slice(&space[..count]),
                    _ => break,
                }
            }
            count.fetch_add(1, Ordering::SeqCst);
            let answer = answers.get(index).or(answers.last()).copied().unwrap_or_default();
            drop(stream.write_all(answer).await);
            drop(stream.shutdown().await);
        }
    });
    (address, heads, tasks)
}
