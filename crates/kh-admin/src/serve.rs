//! The HTTP/1.1 server of the local listeners, plain or behind TLS. axum's own has no limits in time or number, so hyper is driven here.
//!
//! Invariants: a connection that sends its head slowly, holds a request open, does not read its answers or comes on top
//! of the allowed number is ended; every task belongs to a tracker and ends soon after the cancellation.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{Response, StatusCode},
    middleware::Next,
    serve::Listener,
};
use hyper::{body::Incoming, server::conn::http1, service::Service};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use kh_core::{
    Clock, Code, Problem,
    port::security::{Security, TlsSession},
};
use kh_net::{Patient, PeerCertificate, tls_session};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{problem, telling};

/// Limits of a listener.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Most connections at once; a further one is answered 429 and closed.
    pub connections: usize,
    /// Longest time for a request's head, also on an idle connection.
    pub head: Duration,
    /// Longest time for a whole request, with the wait for a platform. A request that is forwarded has the forwarder's
    /// limits instead.
    pub request: Duration,
    /// Longest time for which a caller may read nothing of an answer; it is noticed after half as much again at most.
    pub unread: Duration,
    /// Longest time for running requests after the cancellation.
    pub drain: Duration,
}

impl Default for Limits {
    /// 1,024 connections: as many local processes may start at once and want the same token, and an idle connection
    /// costs a few KiB; 10 s for a head: loopback is fast; 200 s for a request: the broker waits out a rate limit of
    /// 180 s at most, and its own error tells more than a timeout here; 60 s unread: as at the gateway, whose answers
    /// the broker's proxy passes on; 5 s to drain: below every supervisor's kill.
    fn default() -> Self {
        Self {
            connections: 1_024,
            head: Duration::from_secs(10),
            request: Duration::from_secs(200),
            unread: Duration::from_mins(1),
            drain: Duration::from_secs(5),
        }
    }
}

/// Largest head, in bytes: a handful of headers; hyper answers 431 above it.
const HEAD_MAX: usize = 16 * 1024;

/// Most header fields in a head.
const HEADERS_MAX: usize = 64;

/// Longest time for telling a surplus connection that it is one.
const TURN_AWAY: Duration = Duration::from_millis(200);

/// Who is at the other end, as an extension of every request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peer {
    /// A TCP peer.
    Tcp(SocketAddr),
    /// A process on this machine, through a unix socket that admitted its user.
    Unix {
        /// The user.
        uid: u32,
    },
}

impl Peer {
    /// Whether the peer is on this machine.
    pub fn is_local(self) -> bool {
        match self {
            Self::Tcp(address) => match address.ip() {
                IpAddr::V4(ip) => ip.is_loopback(),
                IpAddr::V6(ip) => ip.is_loopback() || ip.to_ipv4_mapped().is_some_and(|ip| ip.is_loopback()),
            },
            Self::Unix { .. } => true,
        }
    }
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

/// Binds a TCP listener that only this machine can reach: the address must be loopback, and packets get a time to live
/// of 1, so that no mistaken route carries them further.
pub async fn bind_loopback(address: SocketAddr) -> io::Result<TcpListener> {
    if !Peer::Tcp(address).is_local() {
        let reason = format!("{address} is not a loopback address");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    }
    let listener = TcpListener::bind(address).await?;
    if address.is_ipv4() {
        listener.set_ttl(1)?;
    } else {
        SockRef::from(&listener).set_unicast_hops_v6(1)?;
    }
    Ok(listener)
}

/// Serves `router` on `listener` with the default [`Limits`] until `cancel`, then drains.
pub async fn serve<L>(listener: L, router: Router, cancel: CancellationToken)
where
    L: Listener,
    L::Addr: Into<Peer>,
{
    serve_with(listener, router, Limits::default(), cancel).await;
}

/// As [`serve`], with `limits`.
pub async fn serve_with<L>(listener: L, router: Router, limits: Limits, cancel: CancellationToken)
where
    L: Listener,
    L::Addr: Into<Peer>,
{
    accept(listener, None, router, limits, cancel).await;
}

/// How a listener speaks TLS, and who is told of the clients whose certificate it does not take.
#[derive(Clone)]
pub struct Tls {
    /// Its own certificate, and whose client certificates it takes.
    pub config: Arc<rustls::ServerConfig>,
    /// Is told who was not let in.
    pub security: Security,
    /// When that was.
    pub clock: Arc<dyn Clock>,
}

/// As [`serve_with`] behind TLS; what the handshake settled, and a certificate that the peer proved, are told with each of
/// its requests.
pub async fn serve_tls<L>(listener: L, tls: Tls, router: Router, limits: Limits, cancel: CancellationToken)
where
    L: Listener,
    L::Addr: Into<Peer>,
{
    accept(listener, Some(tls), router, limits, cancel).await;
}

async fn accept<L>(mut listener: L, tls: Option<Tls>, router: Router, limits: Limits, cancel: CancellationToken)
where
    L: Listener,
    L::Addr: Into<Peer>,
{
    let seats = Arc::new(Semaphore::new(limits.connections));
    let tracker = TaskTracker::new();
    let kill = CancellationToken::new();
    let full = full_answer();
    loop {
        let (mut io, address) = tokio::select! {
            accepted = listener.accept() => accepted,
            () = cancel.cancelled() => break,
        };
        let peer = address.into();
        let Ok(seat) = Arc::clone(&seats).try_acquire_owned() else {
            tracing::warn!(?peer, limit = limits.connections, "a local listener has all its connections in use");
            if tls.is_none() {
                // Best effort: the caller may be gone, and nothing depends on its having heard us.
                drop(timeout(TURN_AWAY, io.write_all(&full)).await);
            }
            continue;
        };
        let router = TowerToHyperService::new(router.clone());
        let mut exchange = Exchange { router, peer, tls: None, certificate: None, limit: limits.request };
        let (cancel, kill, tls) = (cancel.clone(), kill.clone(), tls.clone());
        let io = Patient::new(io, limits.unread);
        tracker.spawn(async move {
            match tls {
                None => connection(io, exchange, limits.head, &cancel, &kill).await,
                Some(tls) => {
                    let handshake = TlsAcceptor::from(Arc::clone(&tls.config)).accept(io);
                    let settled = tokio::select! {
                        settled = timeout(limits.head, handshake) => Some(settled),
                        // nothing was asked for yet, so nobody waits for an answer
                        () = cancel.cancelled() => None,
                    };
                    match settled {
                        Some(Ok(Ok(stream))) => {
                            let session = stream.get_ref().1;
                            exchange.tls = Some(tls_session(session));
                            exchange.certificate = PeerCertificate::of(session);
                            connection(stream, exchange, limits.head, &cancel, &kill).await;
                        }
                        Some(Ok(Err(error))) => {
                            tracing::debug!(?peer, %error, "a TLS handshake with the admin listener failed");
                            telling::no_handshake(&tls, peer, &error);
                        }
                        Some(Err(_)) => tracing::debug!(?peer, "a TLS handshake with the admin listener took too long"),
                        None => {}
                    }
                }
            }
            drop(seat);
        });
    }
    drop(listener);
    tracker.close();
    if timeout(limits.drain, tracker.wait()).await.is_err() {
        kill.cancel();
        tracker.wait().await;
    }
}

async fn connection<I>(io: I, exchange: Exchange, head: Duration, cancel: &CancellationToken, kill: &CancellationToken)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let peer = exchange.peer;
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head)
        .max_buf_size(HEAD_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(io), exchange);
    let mut connection = pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = cancel.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                result = connection.as_mut() => result,
                () = kill.cancelled() => return,
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(?peer, %error, "a connection of a local listener ended early");
    }
}

/// The longest time for a request that is answered here, as an extension of every request.
#[derive(Clone, Copy, Debug)]
struct RequestTime(Duration);

/// Runs the rest of a router with the listener's limit for a whole request.
pub(crate) async fn bounded(request: Request, next: Next) -> Response<Body> {
    let limit = request.extensions().get::<RequestTime>().map_or_else(|| Limits::default().request, |time| time.0);
    let Ok(answer) = timeout(limit, next.run(request)).await else {
        return problem::answer(&Problem::new(Code::OVERLOADED, "the request did not finish in time"));
    };
    answer
}

/// One connection's service: adds the peer, its TLS connection and the limit.
struct Exchange {
    router: TowerToHyperService<Router>,
    peer: Peer,
    tls: Option<TlsSession>,
    certificate: Option<PeerCertificate>,
    limit: Duration,
}

impl Service<Request<Incoming>> for Exchange {
    type Response = Response<Body>;
    type Error = std::convert::Infallible;
    type Future = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Future;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.peer);
        request.extensions_mut().insert(RequestTime(self.limit));
        if let Some(tls) = self.tls {
            request.extensions_mut().insert(tls);
        }
        if let Some(certificate) = &self.certificate {
            request.extensions_mut().insert(certificate.clone());
        }
        self.router.call(request)
    }
}

/// What a surplus connection reads. 429 and not 503: it is the callers who are too many, and a client that takes 503
/// for "the service is gone" would look for another one.
fn full_answer() -> Vec<u8> {
    let mut problem = Problem::new(Code::OVERLOADED, "all connections of this listener are in use");
    problem.status = StatusCode::TOO_MANY_REQUESTS.as_u16();
    whole_answer(&problem, "retry-after: 1\r\n")
}

/// An answer with its head, for a connection that is closed before a request was read. `fields` end in CRLF each.
pub(crate) fn whole_answer(problem: &Problem, fields: &str) -> Vec<u8> {
    let body = serde_json::to_string(problem).unwrap_or_default();
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/problem+json\r\ncache-control: no-store\r\n{fields}\
         connection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}
