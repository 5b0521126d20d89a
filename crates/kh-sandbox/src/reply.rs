//! An answer on its way out. Invariant: whatever the fault plan does to the body, headers and status are decided before
//! the first byte is sent.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::body::{Body, Frame, SizeHint};
use serde_json::Value;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Sleep;

/// What a handler answers.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: Bytes,
    /// Whether the request reached its handler and took effect.
    pub(crate) applied: bool,
}

impl Reply {
    pub(crate) fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Bytes::new(), applied: status < 400 }
    }

    pub(crate) fn json(status: u16, value: &Value) -> Self {
        Self::text(status, "application/json", value.to_string())
    }

    pub(crate) fn text(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let mut reply = Self::empty(status);
        reply.headers.push((CONTENT_TYPE, HeaderValue::from_static(content_type)));
        reply.body = body.into();
        reply
    }

    /// Adds a header; a value that is no header value is left out.
    pub(crate) fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }

    pub(crate) fn has(&self, name: &HeaderName) -> bool {
        self.headers.iter().any(|(present, _)| present == name)
    }
}

/// hyper flushes what it has while the body is pending: the head and the first half go out before the failure.
const FLUSH_PAUSE: Duration = Duration::from_millis(20);

/// How the body leaves.
#[derive(Debug)]
pub(crate) struct ReplyBody {
    rest: Bytes,
    announced: Option<u64>,
    mode: Mode,
}

#[derive(Debug)]
enum Mode {
    Whole,
    /// Fail after the rest, so that the connection closes before the announced length.
    Truncated {
        waiting: Option<Pin<Box<Sleep>>>,
    },
    Slow {
        bytes: usize,
        pause: Duration,
        waiting: Option<Pin<Box<Sleep>>>,
    },
}

/// The connection must end here; the text is for the log only.
#[derive(Debug, thiserror::Error)]
#[error("connection dropped by the fault plan")]
pub(crate) struct Dropped;

impl ReplyBody {
    pub(crate) fn whole(body: Bytes) -> Self {
        Self { announced: Some(body.len() as u64), rest: body, mode: Mode::Whole }
    }

    /// Announces everything, sends the first half.
    pub(crate) fn truncated(body: &Bytes) -> Self {
        // An empty body cannot be cut: announce one byte that never comes.
        let announced = body.len().max(1) as u64;
        let half = body.len() / 2;
        Self { announced: Some(announced), rest: body.slice(..half), mode: Mode::Truncated { waiting: None } }
    }

    pub(crate) fn slow(body: Bytes, bytes: usize, pause: Duration) -> Self {
        Self {
            announced: Some(body.len() as u64),
            rest: body,
            mode: Mode::Slow { bytes: bytes.max(1), pause, waiting: None },
        }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Dropped;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Dropped>>> {
        let this = &mut *self;
        let piece = match &mut this.mode {
            Mode::Truncated { waiting } if this.rest.is_empty() => {
                let sleep = waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(FLUSH_PAUSE)));
                std::task::ready!(sleep.as_mut().poll(context));
                return Poll::Ready(Some(Err(Dropped)));
            }
            Mode::Whole | Mode::Truncated { .. } => std::mem::take(&mut this.rest),
            Mode::Slow { bytes, pause, waiting } => {
                if this.rest.is_empty() {
                    return Poll::Ready(None);
                }
                let sleep = waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(*pause)));
                std::task::ready!(sleep.as_mut().poll(context));
                *waiting = None;
                this.rest.split_to((*bytes).min(this.rest.len()))
            }
        };
        if piece.is_empty() {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        match self.mode {
            Mode::Whole | Mode::Slow { .. } => self.rest.is_empty(),
            Mode::Truncated { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.mode, self.announced) {
            // Asked before the first frame only, hence the announced length and not the rest.
            (Mode::Truncated { .. }, Some(announced)) => SizeHint::with_exact(announced),
            _ => SizeHint::with_exact(self.rest.len() as u64),
        }
    }
}
