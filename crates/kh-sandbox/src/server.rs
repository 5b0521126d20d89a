//! The listeners. Invariant: every task is tracked and ends with the sandbox; a listener holds at most
//! `connections_max` connections.

use crate::config::SandboxConfig;
use crate::control;
use crate::exchange::{Site, exchange};
use crate::handle::{SandboxError, SandboxHandle};
use crate::shared::{Origins, Shared};
use crate::tls;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A client that opens a connection and does not send a request head frees its place after this time.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest request head: generous for cookies and long queries, small enough for thousands of connections.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Connections that may wait to be accepted: a thousand clients that start at the same moment.
const BACKLOG: u32 = 2_048;
/// Pause after a failed accept (no descriptors left, say), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a listener answers for.
#[derive(Clone, Copy, Debug)]
enum Role {
    Platform(Site),
    Control,
}

/// Binds, builds the state and starts the three listeners.
pub(crate) async fn start(config: SandboxConfig) -> Result<SandboxHandle, SandboxError> {
    let acceptor = tls::acceptor(&config)?;
    let genesys = bind(config.listen.genesys)?;
    let cxone = bind(config.listen.cxone)?;
    let control = bind(config.listen.control)?;
    let scheme = if acceptor.is_some() { "https" } else { "http" };
    let genesys_url = origin(scheme, &genesys, config.listen.genesys)?;
    let cxone_url = origin(scheme, &cxone, config.listen.cxone)?;
    // The control API is for the same machine; it stays plain http so that a test needs no certificate for it.
    let control_url = origin("http", &control, config.listen.control)?;
    let connections = config.limits.connections_max;
    let origins = Origins { genesys: genesys_url, cxone: cxone_url };
    // Reading the published API description takes a moment of pure computation: not on a runtime thread.
    let built = tokio::task::spawn_blocking(move || Shared::new(config, origins)).await;
    let shared = Arc::new(built.map_err(|_| SandboxError::Crypto)??);
    let tracker = TaskTracker::new();
    let cancel = CancellationToken::new();
    for (listener, role, acceptor) in [
        (genesys, Role::Platform(Site::Genesys), acceptor.clone()),
        (cxone, Role::Platform(Site::Cxone), acceptor),
        (control, Role::Control, None),
    ] {
        let listening = Listening {
            role,
            acceptor,
            shared: Arc::clone(&shared),
            tracker: tracker.clone(),
            cancel: cancel.clone(),
            places: Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS))),
        };
        tracker.spawn(listening.run(listener));
    }
    tracker.close();
    Ok(SandboxHandle::new(shared, control_url, tracker, cancel))
}

fn bind(address: SocketAddr) -> Result<TcpListener, SandboxError> {
    let open = || -> io::Result<TcpListener> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    open().map_err(|source| SandboxError::Listen { address, source })
}

fn origin(scheme: &str, listener: &TcpListener, wanted: SocketAddr) -> Result<String, SandboxError> {
    let address = listener.local_addr().map_err(|source| SandboxError::Listen { address: wanted, source })?;
    Ok(format!("{scheme}://{address}"))
}

/// One listener with what its connections need.
#[derive(Clone)]
struct Listening {
    role: Role,
    acceptor: Option<TlsAcceptor>,
    shared: Arc<Shared>,
    tracker: TaskTracker,
    cancel: CancellationToken,
    places: Arc<Semaphore>,
}

impl Listening {
    async fn run(self, listener: TcpListener) {
        loop {
            let accepted = tokio::select! {
                () = self.cancel.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let (stream, remote) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "the sandbox could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
                tracing::warn!("the sandbox closed a connection: connections_max is reached");
                continue;
            };
            let connection = self.clone();
            self.tracker.spawn(async move {
                let cancel = connection.cancel.clone();
                tokio::select! {
                    () = cancel.cancelled() => {}
                    () = connection.serve(stream, remote.ip()) => {}
                }
                drop(place);
            });
        }
    }

    async fn serve(self, stream: TcpStream, remote: IpAddr) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "the connection was already closed");
            return;
        }
        let Some(acceptor) = self.acceptor.clone() else {
            return self.speak_http(stream, remote).await;
        };
        match tokio::time::timeout(HEAD_TIMEOUT, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => self.speak_http(stream, remote).await,
            Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake with the sandbox failed"),
            Err(_) => tracing::debug!("a TLS handshake with the sandbox took too long"),
        }
    }

    async fn speak_http<S>(self, stream: S, remote: IpAddr)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_BYTES_MAX);
        let service = service_fn(move |request| {
            let shared = Arc::clone(&self.shared);
            let role = self.role;
            async move {
                match role {
                    Role::Platform(site) => exchange(shared, site, remote, request).await,
                    Role::Control => control::respond(&shared, request).await,
                }
            }
        });
        if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
            tracing::trace!(%error, "a connection to the sandbox ended early");
        }
    }
}
