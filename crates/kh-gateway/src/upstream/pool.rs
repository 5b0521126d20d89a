//! The pool of one worker. Its locks are only ever taken by that worker's thread (and by nobody across an await), so
//! they cost an uncontended exchange.

use std::{collections::HashMap, sync::Arc, time::Duration};

use hyper::client::conn::http1::SendRequest;
use kh_core::UnixMillis;
use kh_net::{ConnectError, Egress};
use parking_lot::Mutex;
use tokio::{task::AbortHandle, time::Instant};

use super::{Origin, UpstreamError, connect::Connector};
use crate::{config::Limits, exchange::body::OutBody, metrics::Metrics};

/// Most bases one worker remembers, each counted once per way to it. Bases come from configuration and discovery; a thousand organisations behind one
/// keyholder are far beyond its use, and forgetting costs a reconnect.
const HOSTS_MAX: usize = 1_024;

/// How long a connection that is just finishing its last exchange is waited for before a new one is opened instead.
const SETTLE: Duration = Duration::from_millis(20);

/// An open connection; dropping it ends its task and closes it.
struct Link {
    sender: SendRequest<OutBody>,
    task: AbortHandle,
    opened: Instant,
    /// When it was taken for its last request, by the wall clock: in a machine that was suspended the monotonic clock
    /// stood still, and nobody else may remember the connection. One that served a long answer is given up as well:
    /// that costs a handshake, and a `POST` on a dead connection an error.
    taken: UnixMillis,
    /// When a sweep first met it idle. Stamping it there rather than at every answer's end saves each request a
    /// reading of the clock, for one sweep's span of exactness.
    idle_since: Option<Instant>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A connection in use. Dropped, it is closed; [`Conn::finish`] returns it to its pool.
pub(crate) struct Conn {
    link: Link,
    host: Arc<Host>,
    /// Whether it served a request before: then it may have been closed under our hands.
    pub(crate) reused: bool,
}

impl Conn {
    /// Where the request goes in.
    pub(crate) fn sender(&mut self) -> &mut SendRequest<OutBody> {
        &mut self.link.sender
    }

    /// Request and answer are complete: the connection may serve another one.
    pub(crate) fn finish(self) {
        let Self { mut link, host, .. } = self;
        if link.sender.is_closed() {
            return;
        }
        link.idle_since = None;
        let mut idle = host.idle.lock();
        if idle.len() < host.keep {
            idle.push(link);
        }
    }
}

/// One platform base and one way to it, as a worker sees them.
pub(crate) struct Host {
    /// Its parsed address.
    pub(crate) origin: Origin,
    egress: Arc<Egress>,
    idle: Mutex<Vec<Link>>,
    keep: usize,
}

/// The bases of one worker. Most know one or two: the one asked for last is compared before anything is hashed.
#[derive(Default)]
struct Hosts {
    last: Option<(Box<str>, Arc<Host>)>,
    all: HashMap<Box<str>, Vec<Arc<Host>>>,
    count: usize,
}

/// All upstream connections of one worker.
pub(crate) struct Upstreams {
    connector: Connector,
    hosts: Mutex<Hosts>,
    keep: usize,
    idle: Duration,
    life: Duration,
    metrics: Arc<Metrics>,
}

impl Upstreams {
    /// An empty pool.
    pub(crate) fn new(limits: &Limits, metrics: Arc<Metrics>) -> Self {
        Self {
            connector: Connector::new(limits.connect, limits.buffer_bytes),
            hosts: Mutex::default(),
            keep: limits.idle_connections,
            idle: limits.upstream_idle,
            life: limits.upstream_life,
            metrics,
        }
    }

    /// The host of a base address that is reached by `egress`.
    pub(crate) fn host(&self, base: &str, egress: &Arc<Egress>) -> Result<Arc<Host>, UpstreamError> {
        let mut hosts = self.hosts.lock();
        if let Some((last, host)) = &hosts.last
            && host.egress.id() == egress.id()
            && **last == *base
        {
            return Ok(Arc::clone(host));
        }
        let known = hosts.all.get(base).and_then(|all| all.iter().find(|host| host.egress.id() == egress.id()));
        let host = if let Some(host) = known {
            Arc::clone(host)
        } else {
            let (origin, egress) = (Origin::parse(base)?, Arc::clone(egress));
            let host = Arc::new(Host { origin, egress, idle: Mutex::default(), keep: self.keep });
            if hosts.count >= HOSTS_MAX {
                hosts.all.clear();
                hosts.count = 0;
            }
            hosts.all.entry(base.into()).or_default().push(Arc::clone(&host));
            hosts.count += 1;
            host
        };
        hosts.last = Some((base.into(), Arc::clone(&host)));
        Ok(host)
    }

    /// An idle connection that is ready, else a fresh one. `now` and `wall` are recent readings of the clocks.
    pub(crate) async fn connection(
        &self,
        host: &Arc<Host>,
        now: Instant,
        wall: UnixMillis,
    ) -> Result<Conn, UpstreamError> {
        if let Some(mut link) = self.idle_link(host, now, wall).await {
            link.taken = wall;
            self.metrics.reused.inc();
            return Ok(Conn { link, host: Arc::clone(host), reused: true });
        }
        self.fresh(host, wall).await
    }

    /// A fresh connection. `wall` is a recent reading of the wall clock.
    pub(crate) async fn fresh(&self, host: &Arc<Host>, wall: UnixMillis) -> Result<Conn, UpstreamError> {
        let (sender, task) = match self.connector.open(&host.origin, &host.egress).await {
            Ok(open) => open,
            Err(error) => {
                self.count(&error);
                return Err(error);
            }
        };
        self.metrics.opened.inc();
        let link = Link { sender, task, opened: Instant::now(), taken: wall, idle_since: None };
        Ok(Conn { link, host: Arc::clone(host), reused: false })
    }

    /// Counts a failed attempt by its kind, if it is the platform's.
    pub(crate) fn count(&self, error: &UpstreamError) {
        let counter = match error {
            UpstreamError::Connect(ConnectError::Timeout) | UpstreamError::AnswerTimeout => &self.metrics.timeouts,
            UpstreamError::Connect(ConnectError::Tls(_)) | UpstreamError::Tls(_) => &self.metrics.tls_errors,
            UpstreamError::Connect(_) | UpstreamError::Address(_) => &self.metrics.connect_errors,
            UpstreamError::Protocol(_) => &self.metrics.protocol_errors,
            UpstreamError::BodyBroken | UpstreamError::BodySlow => return,
        };
        counter.inc();
    }

    /// Closes what has been idle or open for too long, and forgets what the platform closed.
    pub(crate) fn sweep(&self) {
        let now = Instant::now();
        for host in self.hosts.lock().all.values().flatten() {
            host.idle.lock().retain_mut(|link| {
                link.idle_since.get_or_insert(now);
                self.is_usable(link, now)
            });
        }
    }

    fn is_usable(&self, link: &Link, now: Instant) -> bool {
        !link.sender.is_closed()
            && link.idle_since.is_none_or(|since| now.duration_since(since) < self.idle)
            && now.duration_since(link.opened) < self.life
    }

    /// The connection used last is the one most likely to be alive, and lets the others grow old and go.
    async fn idle_link(&self, host: &Host, now: Instant, wall: UnixMillis) -> Option<Link> {
        let mut settling = loop {
            let link = host.idle.lock().pop()?;
            if !self.is_usable(&link, now) || wall.since(link.taken) >= self.idle {
                continue;
            }
            if link.sender.is_ready() {
                return Some(link);
            }
            break link;
        };
        // Its task has not run since the answer was read to its end; it is ready within a turn of the scheduler.
        let ready = tokio::time::timeout(SETTLE, settling.sender.ready()).await;
        matches!(ready, Ok(Ok(()))).then_some(settling)
    }
}
