//! A caller's body as it comes in: from the gateway's own connections, or from another server in this process.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use hyper::body::Incoming;

/// What goes wrong with somebody else's body.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a caller's request. Two kinds and no trait object for the first, which is the hot path's.
pub(crate) enum InBody {
    /// Of the gateway's own connections.
    Own(Incoming),
    /// Of another server's.
    Other(UnsyncBoxBody<Bytes, BoxError>),
}

impl InBody {
    /// Somebody else's.
    pub(crate) fn other<B>(body: B) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self::Other(body.map_err(Into::into).boxed_unsync())
    }
}

impl Body for InBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.get_mut() {
            Self::Own(body) => Pin::new(body).poll_frame(cx).map_err(io::Error::other),
            Self::Other(body) => Pin::new(body).poll_frame(cx).map_err(io::Error::other),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(body) => body.is_end_stream(),
            Self::Other(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(body) => body.size_hint(),
            Self::Other(body) => body.size_hint(),
        }
    }
}
