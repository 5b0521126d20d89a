//! Port to whoever watches requests: the access log and the tracer.
//!
//! Invariants: an observer is told once per request, after its last byte or its breaking off; nothing that it is told
//! holds a query, a header that may carry a secret, or a body.

use std::{net::IpAddr, time::Duration};

use crate::{
    ClientId, ClientName, Code, CredentialName, UnixMillis,
    port::security::Told,
    trace::{SpanId, TraceContext},
};

/// Longest user agent that is told, in characters: those of browsers and SDKs fit.
pub const USER_AGENT_MAX: usize = 256;

/// How a request ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// The answer was given whole.
    Complete,
    /// The caller went away before its answer was complete.
    CallerGone,
    /// The platform's answer broke off.
    UpstreamBroke,
    /// The platform's answer stood still for too long.
    UpstreamStalled,
}

impl Ended {
    /// Its name in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::CallerGone => "caller_gone",
            Self::UpstreamBroke => "upstream_broke",
            Self::UpstreamStalled => "upstream_stalled",
        }
    }
}

/// One attempt to reach a platform.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attempt {
    /// Its span, when the request belongs to a trace.
    pub span: Option<SpanId>,
    /// When it began, counted from the request's begin.
    pub after: Duration,
    /// Until the head of the platform's answer, or the error.
    pub took: Duration,
    /// The platform's host.
    pub host: Box<str>,
    /// Its port.
    pub port: u16,
    /// Whether it is reached over TLS.
    pub secure: bool,
    /// The platform's status; none when there was no answer.
    pub status: Option<u16>,
    /// What went wrong: `connect`, `tls`, `timeout`, `protocol`.
    pub error: Option<&'static str>,
}

/// The gateway's part of a trace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestTrace {
    /// The gateway's own span.
    pub context: TraceContext,
    /// The caller's span, if the caller sent one.
    pub parent: Option<SpanId>,
}

/// Everything that is told of one request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finished {
    /// When its head had come in.
    pub began: UnixMillis,
    /// From then to the last byte of the answer.
    pub took: Duration,
    /// From then to the head of the answer; none when there was none.
    pub head_took: Option<Duration>,
    /// The method, at most 32 characters.
    pub method: Box<str>,
    /// The canonical path; none when the request had no such path.
    pub path: Option<Box<str>>,
    /// `1.0`, `1.1` or `2`.
    pub http_version: &'static str,
    /// Whether the caller spoke TLS.
    pub secure: bool,
    /// The caller's address; none over a unix socket.
    pub peer: Option<IpAddr>,
    /// The caller's user agent: printable, bounded by [`USER_AGENT_MAX`].
    pub user_agent: Option<Box<str>>,
    /// The status; none when the caller went before there was one.
    pub status: Option<u16>,
    /// `proxied`, `own`, `refused` or `failed`.
    pub outcome: Option<&'static str>,
    /// Why it was refused or failed.
    pub code: Option<Code>,
    /// The client.
    pub client: Option<ClientId>,
    /// The client's name.
    pub client_name: Option<ClientName>,
    /// The route of a protected API that the request took, by its name.
    pub route: Option<Box<str>>,
    /// Who calls a protected API: the client of the verified token, else its subject.
    pub caller: Option<Told>,
    /// The credential that the call used.
    pub credential: Option<CredentialName>,
    /// The platform's correlation id, or the one given to an error.
    pub correlation_id: Option<Box<str>>,
    /// Bytes of the request's body, as far as it was read.
    pub bytes_in: u64,
    /// Bytes of the answer's body, as far as it was written.
    pub bytes_out: u64,
    /// How it ended.
    pub ended: Ended,
    /// Its place in a trace.
    pub trace: Option<RequestTrace>,
    /// The attempts to reach the platform, in order.
    pub attempts: Vec<Attempt>,
}

/// Who watches requests. Called on data-plane threads: must neither block nor wait.
pub trait Observer: Send + Sync {
    /// A request came in; `caller` is what its valid trace headers say. Answers the gateway's own place in the trace;
    /// with none, the headers pass through as they are.
    fn begin(&self, caller: Option<TraceContext>) -> Option<RequestTrace>;

    /// The id of the span of one attempt to reach the platform.
    fn span_id(&self) -> Option<SpanId>;

    /// A request is over.
    fn finished(&self, request: Finished);
}
