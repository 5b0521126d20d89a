//! Bodies on their way out to an upstream and back to a caller. Both stream with backpressure: a frame is only read
//! when the other side takes it.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::{Instant, Sleep};

use super::{headers::Behind, in_body::InBody};
use crate::{
    observe::{Ended, Trail},
    upstream::Conn,
};

/// How many bytes of request bodies may be kept for replay, over all workers.
#[derive(Debug)]
pub(crate) struct ReplayBudget {
    left: AtomicUsize,
    per_body: usize,
}

impl ReplayBudget {
    /// `total` bytes in all, `per_body` for one.
    pub(crate) fn new(total: usize, per_body: usize) -> Self {
        Self { left: AtomicUsize::new(total), per_body }
    }

    fn take(&self, bytes: usize) -> bool {
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes)).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.left.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// What keeping one frame costs beside its bytes: its handle, and the chunk framing in the buffer that it pins. Without
/// it a body of one-byte chunks would take some forty times its budget (measured).
const FRAME_COST: usize = 64;

/// What becomes of the fields that a caller sends behind its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trailers {
    /// They are passed on.
    Pass,
    /// They are left out, as RFC 9110 section 6.5.1 allows: a server that merges them into the header would take a
    /// field for ours that nobody looked at.
    Drop,
}

/// A caller's body that is passed on while it is read, and kept as long as it is small, so that it can be sent again
/// byte for byte.
pub(crate) struct Tee {
    state: Mutex<TeeState>,
    budget: Arc<ReplayBudget>,
    /// Bytes that passed since somebody asked whether there is progress.
    moved: AtomicUsize,
    /// The length as announced; what a body says of itself later is about what is left of it.
    size: SizeHint,
    trailers: Trailers,
    trail: Option<Arc<Trail>>,
}

struct TeeState {
    incoming: InBody,
    kept: Vec<Bytes>,
    kept_bytes: usize,
    /// Bytes that came in so far.
    taken: u64,
    replayable: bool,
    /// How far the caller is with it.
    stage: Stage,
    /// Which send may read; an older one is a connection that has been given up.
    send: u32,
}

/// How far a caller is with its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// More may be there to be read.
    Begun,
    /// Whoever sends it on has taken all that there is, and waits for more.
    Awaited,
    /// It came whole.
    Ended,
    /// It broke off.
    Broken,
}

impl TeeState {
    fn give_up_replay(&mut self, budget: &ReplayBudget) {
        self.replayable = false;
        self.kept = Vec::new();
        budget.give_back(std::mem::take(&mut self.kept_bytes));
    }
}

impl Tee {
    /// Wraps a body that has not been read yet. One that announces more than the limit is not kept at all.
    pub(crate) fn new(
        incoming: InBody,
        trailers: Trailers,
        budget: Arc<ReplayBudget>,
        trail: Option<Arc<Trail>>,
    ) -> Arc<Self> {
        let size = incoming.size_hint();
        let replayable = size.lower() <= budget.per_body as u64;
        let state =
            TeeState { incoming, kept: Vec::new(), kept_bytes: 0, taken: 0, replayable, stage: Stage::Begun, send: 0 };
        Arc::new(Self { state: Mutex::new(state), budget, moved: AtomicUsize::new(0), size, trailers, trail })
    }

    /// Whether everything read so far is still there to be sent again.
    pub(crate) fn is_replayable(&self) -> bool {
        self.state.lock().replayable
    }

    /// Whether the body was read to its end.
    pub(crate) fn has_ended(&self) -> bool {
        self.state.lock().stage == Stage::Ended
    }

    /// Whether its sender broke it off.
    pub(crate) fn has_broken(&self) -> bool {
        self.state.lock().stage == Stage::Broken
    }

    /// Whether it is its sender that keeps everybody waiting.
    pub(crate) fn is_awaited(&self) -> bool {
        self.state.lock().stage == Stage::Awaited
    }

    /// Whether at least so many bytes have passed since this was asked last, or what was left of the body.
    pub(crate) fn has_moved(&self, least: usize) -> bool {
        let moved = self.moved.swap(0, Ordering::Relaxed);
        moved >= least || (moved > 0 && self.has_ended())
    }

    /// The body from its start, for one more send; earlier ones cannot read on.
    pub(crate) fn send(self: &Arc<Self>) -> OutBody {
        let mut state = self.state.lock();
        state.send += 1;
        if state.stage == Stage::Awaited {
            // what is kept of it goes out first
            state.stage = Stage::Begun;
        }
        OutBody::Tee { tee: Arc::clone(self), next: 0, send: state.send, size: self.size }
    }
}

impl Drop for Tee {
    fn drop(&mut self) {
        let kept = self.state.get_mut().kept_bytes;
        self.budget.give_back(kept);
    }
}

/// The body of a request to an upstream.
pub(crate) enum OutBody {
    /// None.
    Empty,
    /// The caller's.
    Tee {
        /// The shared body.
        tee: Arc<Tee>,
        /// The kept frame that is next.
        next: usize,
        /// Which send this is.
        send: u32,
        /// The length as announced.
        size: SizeHint,
    },
}

impl Body for OutBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let Self::Tee { tee, next, send, .. } = self.get_mut() else { return Poll::Ready(None) };
        let mut state = tee.state.lock();
        if state.send != *send {
            return Poll::Ready(Some(Err(io::Error::other("the request is being sent again"))));
        }
        if let Some(bytes) = state.kept.get(*next) {
            *next += 1;
            return Poll::Ready(Some(Ok(Frame::data(bytes.clone()))));
        }
        match state.stage {
            Stage::Ended => return Poll::Ready(None),
            // the source ends after its error, which is no end of the body
            Stage::Broken => return Poll::Ready(Some(Err(io::Error::other("the request body broke off")))),
            Stage::Begun | Stage::Awaited => {}
        }
        // until something else is known
        state.stage = Stage::Awaited;
        let frame = match ready!(Pin::new(&mut state.incoming).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                state.stage = Stage::Broken;
                state.give_up_replay(&tee.budget);
                return Poll::Ready(Some(Err(error)));
            }
            None => {
                state.stage = Stage::Ended;
                return Poll::Ready(None);
            }
        };
        tee.moved.fetch_add(frame.data_ref().map_or(0, Bytes::len), Ordering::Relaxed);
        if frame.is_trailers() && tee.trailers == Trailers::Drop {
            state.stage = Stage::Ended;
            return Poll::Ready(None);
        }
        if let (Some(trail), Some(bytes)) = (&tee.trail, frame.data_ref()) {
            trail.read(state.taken, bytes.len() as u64);
            state.taken += bytes.len() as u64;
        }
        match frame.data_ref() {
            Some(bytes) if state.replayable => {
                let size = bytes.len() + FRAME_COST;
                if state.kept_bytes + size <= tee.budget.per_body && tee.budget.take(size) {
                    state.kept_bytes += size;
                    let bytes = bytes.clone();
                    state.kept.push(bytes);
                    *next += 1;
                } else {
                    state.give_up_replay(&tee.budget);
                }
            }
            Some(_) => {}
            // trailers are passed on and not kept
            None => state.give_up_replay(&tee.budget),
        }
        state.stage = if state.incoming.is_end_stream() { Stage::Ended } else { Stage::Begun };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Tee { tee, next, .. } => {
                let state = tee.state.lock();
                state.stage == Stage::Ended && state.kept.len() <= *next
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Tee { size, .. } => *size,
        }
    }
}

/// Counts a request as in flight until its answer is complete or abandoned.
pub(crate) struct InFlight(Gauge);

impl InFlight {
    /// Counts one more.
    pub(crate) fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The body of an answer to a caller.
pub(crate) struct ReplyBody {
    source: Source,
    in_flight: Option<InFlight>,
    watched: Option<Watched>,
}

/// An answer's body that is observed.
pub(crate) struct Watched {
    trail: Arc<Trail>,
    /// Whether it was given whole.
    whole: bool,
    /// Whether it broke off.
    broke: bool,
}

impl Watched {
    /// `bodiless` says that nothing is read of the body: the answer to a HEAD.
    pub(crate) fn new(trail: Arc<Trail>, bodiless: bool) -> Self {
        Self { trail, whole: bodiless, broke: false }
    }

    fn note(&mut self, polled: &Poll<Option<Result<Frame<Bytes>, io::Error>>>) {
        match polled {
            Poll::Ready(Some(Ok(frame))) => self.trail.wrote(frame.data_ref().map_or(0, |bytes| bytes.len() as u64)),
            Poll::Ready(Some(Err(error))) => {
                self.broke = true;
                self.trail.ended(match error.kind() {
                    io::ErrorKind::TimedOut => Ended::UpstreamStalled,
                    _ => Ended::UpstreamBroke,
                });
            }
            Poll::Ready(None) => self.whole = true,
            Poll::Pending => {}
        }
    }
}

impl Drop for ReplyBody {
    fn drop(&mut self) {
        let ended = self.is_end_stream();
        if let Some(watched) = self.watched.take()
            && !watched.broke
            && (watched.whole || ended)
        {
            watched.trail.ended(Ended::Complete);
        }
    }
}

enum Source {
    Whole(Bytes),
    Upstream(Box<FromUpstream>),
}

impl ReplyBody {
    /// An answer of keyholder's own.
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self { source: Source::Whole(bytes), in_flight: None, watched: None }
    }

    /// An upstream's answer.
    pub(crate) fn upstream(body: FromUpstream) -> Self {
        Self { source: Source::Upstream(Box::new(body)), in_flight: None, watched: None }
    }

    /// The same, counted as in flight and watched.
    pub(crate) fn counted(mut self, in_flight: InFlight, watched: Option<Watched>) -> Self {
        self.in_flight = Some(in_flight);
        self.watched = watched;
        self
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        let polled = match &mut this.source {
            Source::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Source::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Source::Upstream(body) => body.poll_frame(cx),
        };
        if let Some(watched) = &mut this.watched {
            watched.note(&polled);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Whole(bytes) => bytes.is_empty(),
            Source::Upstream(body) => body.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Upstream(body) => body.incoming.size_hint(),
        }
    }
}

/// An upstream's body with the connection that it comes over and a guard against its standing still.
pub(crate) struct FromUpstream {
    pub(crate) incoming: Incoming,
    behind: Behind,
    conn: Option<Conn>,
    request: Option<Arc<Tee>>,
    watch: Option<Pin<Box<Sleep>>>,
    idle: Duration,
    moved: bool,
}

impl FromUpstream {
    /// The body, what it needs to be finished properly, and how long it may stand still.
    pub(crate) fn new(
        incoming: Incoming,
        behind: Behind,
        conn: Conn,
        request: Option<Arc<Tee>>,
        idle: Duration,
    ) -> Self {
        Self { incoming, behind, conn: Some(conn), request, watch: None, idle, moved: false }
    }

    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(mut frame))) => {
                self.moved = true;
                if let Some(trailers) = frame.trailers_mut() {
                    super::headers::to_caller(trailers, self.behind);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.conn = None;
                tracing::debug!(%error, "an upstream's answer broke off");
                Poll::Ready(Some(Err(io::Error::other(error))))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => self.poll_idle(cx),
        }
    }

    /// The timer is armed once and, when it rings, checked against what has moved since: no re-arming per frame.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let idle = self.idle;
        let watch = self.watch.get_or_insert_with(|| Box::pin(tokio::time::sleep(idle)));
        while watch.as_mut().poll(cx).is_ready() {
            let uploading = self.request.as_ref().is_some_and(|request| request.has_moved(1));
            if !std::mem::take(&mut self.moved) && !uploading {
                self.conn = None;
                let error = io::Error::new(io::ErrorKind::TimedOut, "the upstream's answer stood still");
                return Poll::Ready(Some(Err(error)));
            }
            watch.as_mut().reset(Instant::now() + idle);
        }
        Poll::Pending
    }
}

impl Drop for FromUpstream {
    fn drop(&mut self) {
        let request_done = self.request.as_ref().is_none_or(|request| request.has_ended());
        if request_done
            && self.incoming.is_end_stream()
            && let Some(conn) = self.conn.take()
        {
            conn.finish();
        }
    }
}
