//! How a caller takes the answer of an HTTP/2 stream. Flow control (RFC 9113 section 5.2) lets it ask for an answer
//! and give no window for it, or some bytes of one now and then, on a connection that is alive in every other way.
//!
//! Invariant: a stream whose answer waits for its caller is reset unless the caller takes a least number of bytes
//! within a limit, time and again. To wait for the upstream is not to wait for the caller, and has limits of its own. The
//! last piece of an answer is the HTTP/2 library's once there is window for one byte of it: what a caller leaves of that
//! goes with its connection.

use std::{
    cell::Cell,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use kh_net::Standstill;

use crate::{config::Limits, exchange::body::ReplyBody};

/// Bytes of an answer that are offered at once: as many as a frame of it has at most unless the caller wants larger
/// ones (RFC 9113 section 4.2). So the steps in which a slow caller is seen to go on are small, and what is kept for it
/// is little more than the send buffer.
const PIECE: usize = 16 * 1024;

tokio::task_local! {
    /// The answer of the stream whose task is running.
    static OFFER: Offer;
}

/// An answer on its way into the window of its caller, in bytes.
#[derive(Default)]
struct Offer {
    /// Those that wait for window; none while there is nothing to take.
    waiting: Cell<usize>,
    /// Those that found room in it since the caller was last seen to go on.
    taken: Cell<usize>,
}

impl Offer {
    /// So many bytes are offered next, or none. Whoever asks for them has found room for those before.
    fn next(&self, bytes: usize) {
        let before = self.waiting.replace(bytes);
        self.taken.set(self.taken.get() + before);
    }

    /// Whether there is something for the caller to take.
    fn waits(&self) -> bool {
        self.waiting.get() > 0
    }

    /// Whether the caller has nothing to take, or has taken at least so many bytes since this was true last.
    fn goes_on(&self, least: usize) -> bool {
        if self.waits() && self.taken.get() < least {
            return false;
        }
        self.taken.set(0);
        true
    }
}

/// What is asked of a caller to whom an answer is sent.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    within: Duration,
    least: usize,
}

impl Terms {
    pub(super) fn new(limits: &Limits) -> Self {
        Self { within: limits.body_idle, least: limits.body_progress_bytes }
    }

    /// Runs a stream until it is answered whole, or until its caller has not kept to the terms: a stream that is
    /// dropped is reset. Then drops `held`.
    pub(super) fn run<F, H>(self, stream: F, held: H) -> impl Future<Output = ()>
    where
        F: Future,
    {
        let Self { within, least } = self;
        OFFER.scope(Offer::default(), async move {
            let mut standstill = Standstill::new(within);
            {
                let mut stream = pin!(stream);
                poll_fn(|cx| {
                    if stream.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(());
                    }
                    let (goes_on, waits) = OFFER.with(|offer| (offer.goes_on(least), offer.waits()));
                    if goes_on {
                        standstill.moved();
                    }
                    // also right after progress: the next wait has to have a timer of its own
                    if !waits {
                        return Poll::Pending;
                    }
                    ready!(standstill.poll(cx));
                    tracing::debug!("a caller does not take its answer: the stream is reset");
                    Poll::Ready(())
                })
                .await;
            }
            drop(held);
        })
    }
}

/// An answer's body, offered in pieces to the caller of the stream whose task reads it.
pub(super) struct Offered {
    body: ReplyBody,
    rest: Bytes,
}

impl Offered {
    pub(super) fn new(body: ReplyBody) -> Self {
        Self { body, rest: Bytes::new() }
    }

    fn piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.rest.is_empty() {
            let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(cx)?) else { return Poll::Ready(None) };
            match frame.into_data() {
                Ok(bytes) => self.rest = bytes,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        let length = self.rest.len().min(PIECE);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(length)))))
    }
}

impl Body for Offered {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let polled = self.get_mut().piece(cx);
        let bytes = match &polled {
            Poll::Ready(Some(Ok(frame))) => frame.data_ref().map_or(0, Bytes::len),
            Poll::Ready(Some(Err(_)) | None) | Poll::Pending => 0,
        };
        OFFER.with(|offer| offer.next(bytes));
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, of_body) = (self.rest.len() as u64, self.body.size_hint());
        let mut hint = SizeHint::new();
        if let Some(upper) = of_body.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(of_body.lower() + rest);
        hint
    }
}

#[cfg(test)]
mod tests;
