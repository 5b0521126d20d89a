//! Listeners, workers and their end.
//!
//! Invariant: every thread and task belongs to the handle. Shutting it down finishes what is in flight until the
//! deadline, then ends everything; dropping it ends everything at once.

mod drain;
mod io;
mod sniff;

use std::{
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    thread,
    time::Duration,
};

use hyper::{
    server::conn::http1::{Builder, UpgradeableConnection},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, oneshot},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use self::sniff::Sniff;
use self::{drain::Drain, io::Inbound};
use crate::{
    config::{GatewayConfig, Limits, Ports, StartError},
    deadline::{Deadline, HeadTimer},
    proxy::body::ReplayBudget,
    request::{self, Caller},
    worker::Worker,
};

/// Connections that wait in the kernel before they are accepted.
const BACKLOG: i32 = 1_024;

/// How often idle upstream connections are looked through.
const SWEEP: Duration = Duration::from_secs(5);

/// After a failed accept (too many open files), so that the error is not repeated at full speed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The outbound gateway.
#[derive(Debug)]
pub struct Gateway;

/// A running gateway.
#[derive(Debug)]
pub struct GatewayHandle {
    addresses: Vec<SocketAddr>,
    finish: CancellationToken,
    stop: CancellationToken,
    ended: Vec<oneshot::Receiver<()>>,
}

impl Gateway {
    /// Listens on every address with every worker, and serves until the handle is shut down or dropped.
    #[allow(clippy::needless_pass_by_value, reason = "the gateway takes its ports over; callers clone what they keep")]
    pub fn start(config: GatewayConfig, ports: Ports) -> Result<GatewayHandle, StartError> {
        let GatewayConfig { listen, workers, tls, limits } = config;
        if listen.is_empty() || workers == 0 {
            return Err(StartError::NothingToDo);
        }
        let tls = tls.map(|tls| {
            let mut tls = rustls::ServerConfig::clone(&tls);
            tls.alpn_protocols = vec![b"http/1.1".to_vec()];
            TlsAcceptor::from(Arc::new(tls))
        });
        let mut addresses = Vec::new();
        let mut sockets: Vec<Vec<std::net::TcpListener>> = (0..workers).map(|_| Vec::new()).collect();
        for wanted in listen {
            let mut address = wanted;
            claim(wanted).map_err(|source| StartError::Listen { address, source })?;
            for of_worker in &mut sockets {
                let socket = bind(address).map_err(|source| StartError::Listen { address, source })?;
                // with port 0 the first socket picks the port for all
                address = socket.local_addr().map_err(|source| StartError::Listen { address, source })?;
                of_worker.push(socket);
            }
            addresses.push(address);
        }
        let (finish, stop) = (CancellationToken::new(), CancellationToken::new());
        let mut handle = GatewayHandle { addresses, finish, stop, ended: Vec::new() };
        let budget = Arc::new(ReplayBudget::new(limits.replay_total_bytes, limits.replay_body_bytes));
        for (index, sockets) in sockets.into_iter().enumerate() {
            let serving = Serving {
                sockets,
                tls: tls.clone(),
                limits: limits.clone(),
                ports: ports.clone(),
                budget: Arc::clone(&budget),
                finish: handle.finish.clone(),
                stop: handle.stop.clone(),
            };
            handle.ended.push(serving.spawn(index)?);
        }
        Ok(handle)
    }
}

impl GatewayHandle {
    /// The addresses listened on, in the order of the configuration, with the real ports.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Accepts nothing new, finishes what is in flight, and ends after `deadline` at the latest. Answers whether
    /// everything was finished by then.
    pub async fn shutdown(mut self, deadline: Duration) -> bool {
        self.finish.cancel();
        let all = std::mem::take(&mut self.ended);
        let mut all = std::pin::pin!(async move {
            for ended in all {
                // an error means that the worker is gone, which is as good
                drop(ended.await);
            }
        });
        let finished = timeout(deadline, &mut all).await.is_ok();
        if !finished {
            self.stop.cancel();
            all.await;
        }
        finished
    }
}

impl Drop for GatewayHandle {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Fails if another process listens on `address`: with `SO_REUSEPORT` it would silently share the callers with us.
fn claim(address: SocketAddr) -> std::io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // connections of an earlier process that linger are no reason to refuse
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(1)
}

fn bind(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    // the kernel spreads connections over the workers' sockets
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Everything one worker thread is started with.
struct Serving {
    sockets: Vec<std::net::TcpListener>,
    tls: Option<TlsAcceptor>,
    limits: Limits,
    ports: Ports,
    budget: Arc<ReplayBudget>,
    finish: CancellationToken,
    stop: CancellationToken,
}

impl Serving {
    fn spawn(self, index: usize) -> Result<oneshot::Receiver<()>, StartError> {
        let (ended, receiver) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Worker)?;
        let name = format!("kh-gateway-{index}");
        let run = move || {
            runtime.block_on(self.run());
            drop(runtime);
            if ended.send(()).is_err() {
                tracing::trace!("nobody waits for this worker: its handle was dropped");
            }
        };
        thread::Builder::new().name(name).spawn(run).map_err(StartError::Worker)?;
        Ok(receiver)
    }

    async fn run(self) {
        let Self { sockets, tls, limits, ports, budget, finish, stop } = self;
        let tasks = TaskTracker::new();
        let slots = Arc::new(Semaphore::new(limits.connections_per_worker));
        let worker = Arc::new(Worker::new(ports, limits, budget, tasks.clone()));
        let drain = Arc::new(Drain::default());
        for socket in sockets {
            let listener = match TcpListener::from_std(socket) {
                Ok(listener) => listener,
                Err(error) => {
                    tracing::error!(%error, "a listener cannot be used");
                    continue;
                }
            };
            let accepting = Accepting {
                listener,
                http: http(&worker.limits),
                tls: tls.clone(),
                worker: Arc::clone(&worker),
                drain: Arc::clone(&drain),
                slots: Arc::clone(&slots),
            };
            let finish = finish.clone();
            tasks.spawn(async move {
                tokio::select! {
                    () = finish.cancelled() => {}
                    () = accepting.run() => {}
                }
            });
        }
        let sweeping = async {
            loop {
                tokio::time::sleep(SWEEP).await;
                worker.upstreams.sweep();
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = finish.cancelled() => {}
            () = sweeping => {}
        }
        drain.start();
        tasks.close();
        tokio::select! {
            () = stop.cancelled() => {}
            () = tasks.wait() => {}
        }
    }
}

fn http(limits: &Limits) -> Builder {
    let mut http = Builder::new();
    http.header_read_timeout(limits.header_read).max_header_size(limits.head_bytes).max_buf_size(limits.buffer_bytes);
    http
}

/// One listener of one worker.
struct Accepting {
    listener: TcpListener,
    http: Builder,
    tls: Option<TlsAcceptor>,
    worker: Arc<Worker>,
    drain: Arc<Drain>,
    slots: Arc<Semaphore>,
}

impl Accepting {
    async fn run(self) {
        loop {
            let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else { return };
            let (stream, peer) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    if self.worker.may_warn() {
                        tracing::warn!(%error, "a connection could not be accepted");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let mut http = self.http.clone();
            http.timer(HeadTimer::default());
            let open =
                Open { http, tls: self.tls.clone(), worker: Arc::clone(&self.worker), drain: Arc::clone(&self.drain) };
            self.worker.tasks.spawn(async move {
                open.serve(stream, peer.ip()).await;
                drop(slot);
            });
        }
    }
}

/// One caller's connection.
struct Open {
    http: Builder,
    tls: Option<TlsAcceptor>,
    worker: Arc<Worker>,
    drain: Arc<Drain>,
}

impl Open {
    async fn serve(self, stream: TcpStream, peer: IpAddr) {
        let counted = crate::proxy::body::InFlight::new(&self.worker.ports.metrics.connections);
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection broke before it was used");
            return;
        }
        let secure = self.tls.is_some();
        let transport = match &self.tls {
            None => io::Transport::Plain(stream),
            Some(tls) => match timeout(self.worker.limits.tls_handshake, tls.accept(stream)).await {
                Ok(Ok(stream)) => io::Transport::Tls(Box::new(stream)),
                Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake failed"),
                Err(_elapsed) => return tracing::debug!("a TLS handshake took too long"),
            },
        };
        let sniff = Arc::new(Sniff::default());
        let inbound = Inbound::new(transport, Arc::clone(&sniff));
        let caller =
            Arc::new(Caller { worker: self.worker, sniff, answer_due: Deadline::default(), secure, peer: Some(peer) });
        let service = service_fn(move |request| request::answer(Arc::clone(&caller), request));
        let connection = self.http.serve_connection(TokioIo::new(inbound), service).with_upgrades();
        if let Err(error) = self.drain.watch(connection).await {
            tracing::debug!(%error, "a connection ended with an error");
        }
        drop(counted);
    }
}

impl<S> drain::Finish for UpgradeableConnection<TokioIo<Inbound>, S>
where
    Self: Future,
    S: hyper::service::HttpService<hyper::body::Incoming, ResBody = crate::proxy::body::ReplyBody>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}
