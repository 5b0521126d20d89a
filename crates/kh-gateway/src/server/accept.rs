//! Accepting callers, and serving one connection with the protocol that it speaks.

use std::{
    io::{self, ErrorKind},
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use hyper::{
    server::conn::http1::{Builder, UpgradeableConnection},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use kh_net::Patient;
use tokio::{
    net::{TcpListener, UnixListener},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    Sniff, behind,
    drain::{Finish, Phase},
    http2,
    io::{Inbound, Socket, Transport},
    refused,
    tls::{Secured, TlsSlot},
};
use crate::{
    deadline::HeadTimer,
    exchange::body::{InFlight, ReplyBody},
    listen::{Bound, Opened},
    request::{self, Caller, Door, Ends},
    site::Site,
    worker::Worker,
};

/// After a failed accept (too many open files), so that the error is not repeated at full speed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A listening socket.
enum Incoming {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A caller that connected, and its address if it has one.
type Accepted = (Socket, Option<IpAddr>);

/// The place of a connection among those of its worker, counted as open until its last holder is gone: the connection,
/// or the tunnel that it becomes.
pub(crate) type Slot = Arc<(OwnedSemaphorePermit, InFlight)>;

/// A listening socket of a worker.
pub(super) struct Listener {
    incoming: Incoming,
    given: bool,
}

impl Listener {
    /// Must run on the worker's runtime.
    pub(super) fn new(opened: Opened) -> io::Result<Self> {
        let incoming = match opened.socket {
            Bound::Tcp(listener) => Incoming::Tcp(TcpListener::from_std(listener)?),
            Bound::Unix(listener) => Incoming::Unix(UnixListener::from_std(listener)?),
        };
        Ok(Self { incoming, given: opened.given })
    }

    /// The next caller, and its address if it has one.
    async fn accept(&self) -> io::Result<Accepted> {
        match &self.incoming {
            Incoming::Tcp(listener) => {
                listener.accept().await.map(|(stream, peer)| (Socket::Tcp(stream), Some(peer.ip())))
            }
            Incoming::Unix(listener) => listener.accept().await.map(|(stream, _)| (Socket::Unix(stream), None)),
        }
    }

    /// Stops listening. Answers who had connected already and would be cut off; not those on a given socket, whom its
    /// next server takes.
    fn last(self) -> io::Result<Vec<Accepted>> {
        let mut last = Vec::new();
        if self.given {
            return Ok(last);
        }
        match self.incoming {
            Incoming::Tcp(listener) => {
                let listener = listener.into_std()?;
                let queued = queued(|| listener.accept());
                // at once: who connects from here on is told that nobody listens, and not cut off
                drop(listener);
                for (stream, peer) in queued {
                    stream.set_nonblocking(true)?;
                    last.push((Socket::Tcp(tokio::net::TcpStream::from_std(stream)?), Some(peer.ip())));
                }
            }
            Incoming::Unix(listener) => {
                let listener = listener.into_std()?;
                let queued = queued(|| listener.accept());
                drop(listener);
                for (stream, _) in queued {
                    stream.set_nonblocking(true)?;
                    last.push((Socket::Unix(tokio::net::UnixStream::from_std(stream)?), None));
                }
            }
        }
        Ok(last)
    }
}

/// Everybody in the queue of a listener that does not wait. One who left it meanwhile is no reason to cut off those
/// behind.
fn queued<T>(mut accept: impl FnMut() -> io::Result<T>) -> Vec<T> {
    let mut all = Vec::new();
    loop {
        match accept() {
            Ok(one) => all.push(one),
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
            // nobody is left, or nobody more can be taken
            Err(_) => return all,
        }
    }
}

/// What a listener speaks.
#[derive(Clone)]
pub(super) struct Protocols {
    http1: Builder,
    tls: Option<TlsSlot>,
}

impl Protocols {
    pub(super) fn new(worker: &Worker, tls: Option<TlsSlot>) -> Self {
        let limits = &worker.limits;
        let mut http1 = Builder::new();
        http1
            .header_read_timeout(limits.header_read)
            .max_header_size(limits.head_bytes)
            .max_buf_size(limits.buffer_bytes);
        Self { http1, tls }
    }
}

/// One listener of one worker.
pub(super) struct Accepting {
    pub(super) listener: Listener,
    pub(super) protocols: Protocols,
    pub(super) site: Site,
    pub(super) worker: Arc<Worker>,
    pub(super) slots: Arc<Semaphore>,
}

impl Accepting {
    /// Accepts until `finish`.
    pub(super) async fn run(self, finish: CancellationToken) {
        tokio::select! {
            () = finish.cancelled() => {}
            () = self.accept() => {}
        }
        let Self { listener, protocols, site, worker, slots } = self;
        match listener.last() {
            Ok(last) => {
                for accepted in last {
                    // above the limit nobody was waited for before either
                    let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else { break };
                    open(&protocols, &site, &worker, accepted, slot);
                }
            }
            Err(error) => tracing::debug!(%error, "the last callers of a listener could not be taken"),
        }
    }

    async fn accept(&self) {
        loop {
            let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok(accepted) => open(&self.protocols, &self.site, &self.worker, accepted, slot),
                Err(error) => {
                    if self.worker.may_warn() {
                        tracing::warn!(%error, "a connection could not be accepted");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

fn open(
    protocols: &Protocols,
    site: &Site,
    worker: &Arc<Worker>,
    (socket, peer): Accepted,
    permit: OwnedSemaphorePermit,
) {
    let mut http1 = protocols.http1.clone();
    http1.timer(HeadTimer::default());
    let open = Open { http1, tls: protocols.tls.clone(), site: site.clone(), worker: Arc::clone(worker) };
    let slot = Slot::new((permit, InFlight::new(&worker.ports.metrics.connections)));
    worker.tasks.spawn(open.serve(socket, peer, slot));
}

/// One caller's connection.
struct Open {
    http1: Builder,
    tls: Option<TlsSlot>,
    site: Site,
    worker: Arc<Worker>,
}

impl Open {
    async fn serve(self, mut socket: Socket, peer: Option<IpAddr>, slot: Slot) {
        if let Err(error) = socket.prepare() {
            tracing::debug!(%error, "a connection broke before it was used");
            return;
        }
        let Ok(client) = behind::client(&self.site, &self.worker, &mut socket, peer).await else { return };
        let ends = Ends { peer, client };
        let mut secured = None;
        let (handshake, patience) = (self.worker.limits.tls_handshake, self.worker.limits.body_idle);
        let transport = match &self.tls {
            None => Transport::plain(socket, patience),
            Some(tls) => match timeout(handshake, tls.acceptor().accept(Patient::new(socket, patience))).await {
                Ok(Ok(stream)) => {
                    let settled = Secured::of(stream.get_ref().1);
                    let http2 = stream.get_ref().1.alpn_protocol() == Some(http2::ALPN);
                    let transport = Transport::Tls(Box::new(stream));
                    if http2 {
                        // boxed, so that an HTTP/1.1 connection's task does not have its size
                        return Box::pin(http2::serve(self.worker, self.site, transport, settled, ends)).await;
                    }
                    secured = Some(settled);
                    transport
                }
                Ok(Err(error)) => return refused::tell(&self.site, &self.worker, ends, &error),
                Err(_elapsed) => return tracing::debug!("a TLS handshake took too long"),
            },
        };
        let worker = Arc::clone(&self.worker);
        let sniff = Arc::new(Sniff::default());
        let inbound = Inbound::new(transport, Arc::clone(&sniff), Arc::clone(&worker));
        let caller = Caller::new(self.worker, sniff, secured, ends).holding(slot);
        let door = Arc::new(Door { caller, site: self.site });
        let service = service_fn(move |request| request::answer(Arc::clone(&door), request));
        let connection = self.http1.serve_connection(TokioIo::new(inbound), service).with_upgrades();
        // an idle connection stays open for a moment: its next answer tells the caller that it ends
        if let Err(error) = worker.drain.watch(connection, Phase::Close).await {
            tracing::debug!(%error, "a connection ended with an error");
        }
    }
}

impl<S> Finish for UpgradeableConnection<TokioIo<Inbound>, S>
where
    Self: Future,
    S: hyper::service::HttpService<hyper::body::Incoming, ResBody = ReplyBody>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_who_left_the_queue_does_not_cut_off_those_behind() {
        use ErrorKind::{ConnectionAborted, Interrupted, Other, WouldBlock};
        for (answers, taken) in [
            (
                &[Ok(1), Err(ConnectionAborted), Ok(2), Err(Interrupted), Ok(3), Err(WouldBlock), Ok(4)][..],
                &[1, 2, 3][..],
            ),
            (&[Ok(1), Err(Other), Ok(2)], &[1]),
            (&[Err(WouldBlock)], &[]),
        ] {
            let mut answers = answers.iter().copied();
            let all = queued(|| answers.next().expect("nothing is asked after the end").map_err(io::Error::from));
            assert_eq!(all, taken);
        }
    }
}
