//! HTTP/2 with a caller (RFC 9113), agreed on by ALPN. Each stream goes the way of an HTTP/1.1 request; towards
//! platforms nothing differs.
//!
//! Invariants: what one connection can make us keep is bounded (streams, windows, header lists, resets); a connection
//! without a stream ends after the time that an idle HTTP/1.1 connection has, and a stream whose caller does not take
//! its answer ends too (see [`taking`]); every stream's task belongs to the worker's tracker.

mod taking;

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response, header};
use hyper::{
    body::Incoming,
    rt::{Executor, bounds::Http2ServerConnExec},
    server::conn::http2::{Builder, Connection},
    service::{HttpService, service_fn},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::task::TaskTracker;

use self::taking::{Offered, Terms};
use super::{
    Sniff,
    drain::{Finish, Phase},
    io::{Inbound, Transport},
    tls::Secured,
};
use crate::{
    config::Limits,
    request::{self, Caller, Door, Ends},
    site::Site,
    worker::Worker,
};

/// What ALPN calls it.
pub(super) const ALPN: &[u8] = b"h2";

/// Bytes of one request's body that a caller may have sent and nobody read: what the read buffer of an HTTP/1.1
/// connection holds.
const STREAM_WINDOW: u32 = 128 * 1024;

/// The same for all streams of a connection: four uploads that stand still leave room for the others, and a full house
/// of such connections costs no more than a few GiB.
const CONNECTION_WINDOW: u32 = 512 * 1024;

/// Bytes of one answer that wait to be written.
const SEND_BUFFER: usize = 64 * 1024;

/// Streams that were reset before anybody looked at them, and streams that we reset for their errors: one more, and the
/// connection ends (CVE-2023-44487, RUSTSEC-2024-0003). Ordinary callers reset a handful, when a user gives up.
const PENDING_RESETS: usize = 20;
const ERROR_RESETS: usize = 100;

/// How often a connection is asked whether anybody is there, and how long the answer may take. A caller that vanished
/// without a word holds no answer for longer.
const PING: Duration = Duration::from_secs(30);
const PONG: Duration = Duration::from_secs(20);

/// How long an idle connection that was told to go away may take to do so: a ping there and back.
const GOODBYE: Duration = Duration::from_secs(1);

/// Serves one connection to its end.
pub(super) async fn serve(worker: Arc<Worker>, site: Site, transport: Transport, secured: Secured, ends: Ends) {
    let busy = Arc::new(Busy { streams: AtomicUsize::new(0), idle_since: Mutex::new(Instant::now()) });
    // frames say where each message ends: there is no raw head to look at
    let sniff = Arc::new(Sniff::default());
    sniff.end();
    let inbound = Inbound::new(transport, Arc::clone(&sniff), Arc::clone(&worker));
    let of_streams = Arc::clone(&worker);
    let service = service_fn(move |request| {
        let caller = Caller::new(Arc::clone(&of_streams), Arc::clone(&sniff), Some(secured.clone()), ends);
        answer(Arc::new(Door { caller, site: site.clone() }), request)
    });
    let terms = Terms::new(&worker.limits);
    let streams = Streams { tasks: worker.tasks.clone(), busy: Arc::clone(&busy), terms };
    let connection = builder(streams, &worker.limits).serve_connection(TokioIo::new(inbound), service);
    let patience = worker.limits.header_read;
    let connection = Watched {
        connection: Box::pin(connection),
        busy,
        patience,
        told: false,
        timer: Box::pin(sleep_until(Instant::now() + patience)),
    };
    if let Err(error) = worker.drain.watch(connection, Phase::Announce).await {
        tracing::debug!(%error, "a connection ended with an error");
    }
}

fn builder(streams: Streams, limits: &Limits) -> Builder<Streams> {
    let mut builder = Builder::new(streams);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_per_connection)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(ERROR_RESETS)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG);
    builder
}

async fn answer(door: Arc<Door>, request: Request<Incoming>) -> Result<Response<Offered>, Infallible> {
    let mut response = request::answer(door, request).await?;
    // RFC 9113 section 8.2.2: it has no meaning here; what it would say is said by GOAWAY
    response.headers_mut().remove(header::CONNECTION);
    Ok(response.map(Offered::new))
}

/// What goes on on a connection.
struct Busy {
    streams: AtomicUsize,
    /// When the last stream ended.
    idle_since: Mutex<Instant>,
}

/// One stream, until it is answered whole.
struct Stream(Arc<Busy>);

impl Drop for Stream {
    fn drop(&mut self) {
        *self.0.idle_since.lock() = Instant::now();
        self.0.streams.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Runs the streams of one connection as tasks of its worker.
#[derive(Clone)]
struct Streams {
    tasks: TaskTracker,
    busy: Arc<Busy>,
    terms: Terms,
}

impl<F> Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, stream: F) {
        self.busy.streams.fetch_add(1, Ordering::AcqRel);
        let counted = Stream(Arc::clone(&self.busy));
        drop(self.tasks.spawn(self.terms.run(stream, counted)));
    }
}

/// A connection that ends when it has been idle for too long.
struct Watched<C> {
    connection: Pin<Box<C>>,
    busy: Arc<Busy>,
    /// How long it may be idle.
    patience: Duration,
    /// It has been told to go away.
    told: bool,
    timer: Pin<Box<Sleep>>,
}

impl<S> Finish for Watched<Connection<TokioIo<Inbound>, S, Streams>>
where
    Self: Future,
    S: HttpService<Incoming, ResBody = Offered>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    Streams: Http2ServerConnExec<S::Future, Offered>,
{
    fn finish(mut self: Pin<&mut Self>) {
        self.told = true;
        self.connection.as_mut().graceful_shutdown();
        // whoever is idle and does not go, is not waited for
        self.patience = self.patience.min(GOODBYE);
        let next = Instant::now() + self.patience;
        self.timer.as_mut().reset(next);
    }
}

impl<S> Future for Watched<Connection<TokioIo<Inbound>, S, Streams>>
where
    S: HttpService<Incoming, ResBody = Offered>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    Streams: Http2ServerConnExec<S::Future, Offered>,
{
    type Output = hyper::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        loop {
            if let Poll::Ready(ended) = self.connection.as_mut().poll(cx) {
                return Poll::Ready(ended);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let now = Instant::now();
            let next = if self.busy.streams.load(Ordering::Acquire) > 0 {
                now + self.patience
            } else {
                *self.busy.idle_since.lock() + self.patience
            };
            if next > now {
                self.timer.as_mut().reset(next);
                continue;
            }
            if self.told {
                return Poll::Ready(Ok(()));
            }
            self.as_mut().finish();
        }
    }
}
