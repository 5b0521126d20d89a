//! What a gateway is started with, and every limit it keeps. A limit is a number here with its reason, or it does not
//! exist.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use kh_broker::{Broker, UserSessions};
use kh_core::{Clock, Entropy, port::security::Security};
use kh_issuer::Issuer;

use crate::{
    inbound::{Inbound, Proxies},
    listen::Listen,
    metrics::Metrics,
    observe::Observer,
    outbound::{Outbound, own::events::Events},
    sender::OwnBinding,
};

/// Permissions of a unix socket unless something else is said: for the owner and the group.
pub const SOCKET_MODE: u32 = 0o660;

/// How a gateway listens.
#[derive(Debug)]
pub struct GatewayConfig {
    /// What to listen on.
    pub listen: Vec<Listen>,
    /// Permissions of the unix sockets that the gateway makes; who may write to one may connect.
    pub socket_mode: u32,
    /// Worker threads; each serves every listener.
    pub workers: usize,
    /// With a server configuration the listeners speak TLS, and HTTP/2 or HTTP/1.1 as ALPN says; otherwise plain
    /// HTTP/1.1.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Every limit.
    pub limits: Limits,
}

impl GatewayConfig {
    /// One address, one worker, plain HTTP, usual limits.
    pub fn plain(listen: SocketAddr) -> Self {
        Self { listen: vec![listen.into()], socket_mode: SOCKET_MODE, workers: 1, tls: None, limits: Limits::default() }
    }
}

/// What a gateway to the platforms works with.
#[derive(Clone)]
pub struct Ports {
    /// Who the callers are.
    pub issuer: Arc<Issuer>,
    /// Where platform tokens come from.
    pub broker: Arc<Broker>,
    /// The sessions of users; without them nobody logs in with an authorization code.
    pub sessions: Option<Arc<UserSessions>>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness, for context ids.
    pub entropy: Arc<dyn Entropy>,
    /// Where to count.
    pub metrics: Arc<Metrics>,
    /// Scheme and host under which applications reach the gateway, such as `https://keyholder.example.com`, where
    /// something before it ends their TLS; none repeats what each request came with.
    pub public_url: Option<Arc<str>>,
    /// How keyholder's own tokens are bound to their clients.
    pub binding: OwnBinding,
    /// Who carries out what platforms tell of their tokens; none has no such endpoint.
    pub events: Option<Events>,
    /// Who watches the requests; none costs nothing.
    pub observer: Option<Arc<dyn Observer>>,
    /// What watches over those who authenticate.
    pub security: Security,
    /// The proxies between callers and the listeners.
    pub proxies: Arc<Proxies>,
}

impl Ports {
    /// What every gateway has, and what this site alone has.
    pub(crate) fn split(self) -> (Shared, Outbound) {
        let Self { issuer, broker, sessions, clock, entropy, metrics, public_url, binding, events, .. } = self;
        let Self { observer, security, proxies, .. } = self;
        let outbound = Outbound { issuer, broker, sessions, public_url, binding, events, security, proxies };
        (Shared { clock, entropy, metrics, observer }, outbound)
    }
}

/// What a gateway in front of the user's own API works with.
#[derive(Clone)]
pub struct InboundPorts {
    /// The API and its routes.
    pub site: Arc<Inbound>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness, for context ids.
    pub entropy: Arc<dyn Entropy>,
    /// Where to count.
    pub metrics: Arc<Metrics>,
    /// Who watches the requests; none costs nothing.
    pub observer: Option<Arc<dyn Observer>>,
}

/// What a worker needs, whatever its site is. The fields are those of [`Ports`].
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) observer: Option<Arc<dyn Observer>>,
}

/// Limits of one gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Callers' connections per worker, tunnels among them. Each costs some 20 KiB when idle, so this is some 200 MiB;
    /// further callers wait in the kernel's backlog.
    pub connections_per_worker: usize,
    /// A request head must be complete within this time, also the next one on an open connection. Above the 60 s
    /// after which common client pools drop idle connections, so that the caller closes first.
    pub header_read: Duration,
    /// TLS handshake with a caller.
    pub tls_handshake: Duration,
    /// Largest request head, in bytes; larger ones get 431. Platform tokens and cookies fit many times.
    pub head_bytes: usize,
    /// HTTP/2 streams open at once on one connection. A caller with more to ask opens another connection; the platforms
    /// limit it far below.
    pub streams_per_connection: u32,
    /// Read and write buffer per connection, in bytes: what a slow reader costs at most.
    pub buffer_bytes: usize,
    /// Longest query, in bytes.
    pub query_bytes: usize,
    /// Name lookup, connection and TLS handshake to a platform, together.
    pub connect: Duration,
    /// Time without progress until the platform's answer starts. Above the platforms' own 60 s gateway timeouts, so
    /// that their error arrives rather than ours.
    pub response_header: Duration,
    /// What a caller's body has to bring within each `response_header` for the wait for an answer to go on, and what a
    /// caller has to take within each `body_idle` of an answer that waits for its HTTP/2 window: somebody at the
    /// slowest telephone line does, and a caller that holds an upstream connection by a byte now and then does not.
    pub body_progress_bytes: usize,
    /// Time without a byte inside a body, in either direction, and for which a caller may take nothing of what is
    /// written to it. It is noticed after half as much again at most.
    pub body_idle: Duration,
    /// Idle upstream connections kept per worker and platform.
    pub idle_connections: usize,
    /// An upstream connection idle for longer is not used again: under the 60 s of common load balancers.
    pub upstream_idle: Duration,
    /// An upstream connection older than this is not used again, so that DNS changes are followed.
    pub upstream_life: Duration,
    /// Request bodies up to this size are kept to be sent again after a 401 or a wait.
    pub replay_body_bytes: usize,
    /// All kept bodies of all workers together.
    pub replay_total_bytes: usize,
    /// Body of a request to keyholder's own endpoints.
    pub own_body_bytes: usize,
    /// How long a request waits for a platform token.
    pub token_wait: Duration,
    /// A tunnel (after 101) without a byte for this long is closed, also when it is the caller alone that takes none;
    /// web sockets send pings far more often.
    pub tunnel_idle: Duration,
    /// How often it is looked whether the token that opened a tunnel is still good: what a tunnel outlives a revocation by
    /// at most, beside the time that the token's issuer takes to answer. A look is at memory alone for most tokens, so
    /// that ten thousand tunnels cost some 2,000 hashes a second.
    pub tunnel_look: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        const KIB: usize = 1024;
        Self {
            connections_per_worker: 10_000,
            header_read: Duration::from_secs(75),
            tls_handshake: Duration::from_secs(10),
            head_bytes: 64 * KIB,
            streams_per_connection: 128,
            buffer_bytes: 128 * KIB,
            query_bytes: 16 * KIB,
            connect: Duration::from_secs(10),
            response_header: Duration::from_mins(2),
            body_progress_bytes: 16 * KIB,
            body_idle: Duration::from_mins(1),
            idle_connections: 256,
            upstream_idle: Duration::from_secs(50),
            upstream_life: Duration::from_mins(10),
            replay_body_bytes: 1024 * KIB,
            replay_total_bytes: 64 * 1024 * KIB,
            own_body_bytes: 16 * KIB,
            token_wait: Duration::from_secs(30),
            tunnel_idle: Duration::from_mins(10),
            tunnel_look: Duration::from_secs(5),
        }
    }
}

/// Why a gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No address or no worker.
    #[error("a gateway needs at least one address and one worker")]
    NothingToDo,
    /// An address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address, or `unix:` and the path.
        address: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A worker thread or its runtime could not be made.
    #[error("cannot start a worker")]
    Worker(#[source] std::io::Error),
}
