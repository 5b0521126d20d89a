//! One exchange with an upstream, for whichever site stands before it: a request sent on a pooled connection, once more
//! on a fresh one when the pooled one had died, and the answer streamed back.
//!
//! Invariant: a request is sent again only when the upstream cannot have acted on it (it never left) or when acting twice
//! is the same as once (an idempotent method on a connection that had died), and only with the same bytes.

pub(crate) mod body;
pub(crate) mod headers;
pub(crate) mod in_body;
pub(crate) mod right;
pub(crate) mod upgrade;

use std::sync::Arc;

use http::{HeaderValue, Request, Response, StatusCode, Version, header, request::Parts};
use hyper::body::{Body, Incoming};
use kh_core::Code;
use kh_resilience::replay;
use tokio::time::Instant;

use self::{
    body::{FromUpstream, OutBody, ReplyBody, Tee, Trailers},
    headers::Behind,
    in_body::InBody,
    upgrade::Tunnel,
};
use crate::{
    answer::{Answer, Refusal},
    guards::Head,
    metrics::Outcome,
    observe::{Attempting, Trail},
    request::{Began, Caller},
    upstream::{Conn, Host, UpstreamError},
    worker::Worker,
};

/// How a body is framed whose length is not known.
const CHUNKED: HeaderValue = HeaderValue::from_static("chunked");

/// Makes a caller's head fit to be sent upstream, and says which tunnel it asks for.
pub(crate) fn prepare(parts: &mut Parts, head: Head, behind: Behind) -> Option<Tunnel> {
    let tunnel = upgrade::wanted(parts, head);
    headers::to_upstream(&mut parts.headers, head, behind);
    if let Some(tunnel) = &tunnel {
        tunnel.ask(&mut parts.headers);
    }
    tunnel
}

/// A request that can be made again: its head as it goes out, and its body.
pub(crate) struct Outgoing<'a> {
    /// By reference, as in all that leads here: it is large, and every await that it is moved across copies it twice.
    pub(crate) parts: &'a mut Parts,
    pub(crate) body: Option<Arc<Tee>>,
    trail: Option<&'a Arc<Trail>>,
}

impl<'a> Outgoing<'a> {
    /// A prepared head and the body that comes with it. An upstream is always spoken to in HTTP/1.1.
    pub(crate) fn new(
        parts: &'a mut Parts,
        incoming: InBody,
        trailers: Trailers,
        worker: &Worker,
        trail: Option<&'a Arc<Trail>>,
    ) -> Self {
        parts.version = Version::HTTP_11;
        parts.extensions.clear();
        let has_body = !incoming.is_end_stream();
        let is_measured = incoming.size_hint().exact().is_some() || parts.headers.contains_key(header::CONTENT_LENGTH);
        if has_body && !is_measured {
            // without it hyper sends a GET or a HEAD as if there were no body
            parts.headers.insert(header::TRANSFER_ENCODING, CHUNKED);
        }
        let body = has_body.then(|| Tee::new(incoming, trailers, Arc::clone(&worker.budget), trail.cloned()));
        Self { parts, body, trail }
    }

    fn request(&self, attempt: Option<&Attempting<'_>>) -> Request<OutBody> {
        let body = self.body.as_ref().map_or(OutBody::Empty, Tee::send);
        let mut request = Request::from_parts(self.parts.clone(), body);
        if let Some(attempt) = attempt {
            attempt.mark(request.headers_mut());
        }
        request
    }

    fn attempt(&self, host: &Host) -> Option<Attempting<'_>> {
        self.trail.map(|trail| trail.attempt(&host.origin))
    }

    pub(crate) fn is_replayable(&self) -> bool {
        self.body.as_ref().is_none_or(|body| body.is_replayable())
    }

    fn has_moved(&self, least: usize) -> bool {
        self.body.as_ref().is_some_and(|body| body.has_moved(least))
    }

    /// Why there is no answer after all this time.
    fn overdue(&self) -> UpstreamError {
        let awaited = self.body.as_ref().is_some_and(|body| body.is_awaited());
        if awaited { UpstreamError::BodySlow } else { UpstreamError::AnswerTimeout }
    }

    /// Why the exchange failed with `error`: it does so too when what it sends breaks off.
    fn lost(&self, error: hyper::Error) -> UpstreamError {
        let broken = self.body.as_ref().is_some_and(|body| body.has_broken());
        if broken { UpstreamError::BodyBroken } else { UpstreamError::of_exchange(error) }
    }
}

/// The upstream's answer and the connection it comes over.
pub(crate) struct Received {
    pub(crate) response: Response<Incoming>,
    pub(crate) conn: Conn,
}

/// Sends the request once, and once more on a fresh connection when a pooled one had died under it.
pub(crate) async fn exchange(
    caller: &Caller,
    host: &Arc<Host>,
    outgoing: &Outgoing<'_>,
    began: Began,
) -> Result<Received, UpstreamError> {
    let worker = &*caller.worker;
    let attempt = outgoing.attempt(host);
    let conn = match worker.upstreams.connection(host, began.at, began.now.wall).await {
        Ok(conn) => conn,
        Err(error) => return Err(told(attempt, error)),
    };
    // opening a connection takes its time, and the upstream is not to pay for it
    let since = if conn.reused { began.at } else { Instant::now() };
    let request = outgoing.request(attempt.as_ref());
    let error = match send(caller, conn, request, outgoing, since).await {
        Ok(received) => return Ok(answered(attempt, received)),
        Err(Lost { unsent: Some(request), error, .. }) => {
            drop(told(attempt, error));
            return again(caller, host, outgoing, Some(*request)).await;
        }
        Err(Lost { reused, error: error @ (UpstreamError::Protocol(_) | UpstreamError::Tls(_)), .. }) => {
            let safe = replay::is_idempotent(outgoing.parts.method.as_str()) && outgoing.is_replayable();
            let error = told(attempt, error);
            if reused && safe {
                return again(caller, host, outgoing, None).await;
            }
            error
        }
        Err(lost) => told(attempt, lost.error),
    };
    Err(counted(worker, error))
}

/// The second send, on a fresh connection: of the request that was given back unsent, else of a new one.
async fn again(
    caller: &Caller,
    host: &Arc<Host>,
    outgoing: &Outgoing<'_>,
    unsent: Option<Request<OutBody>>,
) -> Result<Received, UpstreamError> {
    let worker = &*caller.worker;
    let attempt = outgoing.attempt(host);
    let conn = match worker.upstreams.fresh(host, worker.ports.clock.now().wall).await {
        Ok(conn) => conn,
        Err(error) => return Err(told(attempt, error)),
    };
    let request = match unsent {
        Some(mut request) => {
            if let Some(attempt) = &attempt {
                attempt.mark(request.headers_mut());
            }
            request
        }
        None => outgoing.request(attempt.as_ref()),
    };
    match send(caller, conn, request, outgoing, Instant::now()).await {
        Ok(received) => Ok(answered(attempt, received)),
        Err(lost) => Err(counted(worker, told(attempt, lost.error))),
    }
}

fn answered(attempt: Option<Attempting<'_>>, received: Received) -> Received {
    if let Some(attempt) = attempt {
        attempt.answered(received.response.status());
    }
    received
}

fn told(attempt: Option<Attempting<'_>>, error: UpstreamError) -> UpstreamError {
    if let Some(attempt) = attempt {
        attempt.failed(error.kind());
    }
    error
}

fn counted(worker: &Worker, error: UpstreamError) -> UpstreamError {
    worker.upstreams.count(&error);
    error
}

/// A request that got no answer.
struct Lost {
    error: UpstreamError,
    /// The request itself, if not a byte of it was sent.
    unsent: Option<Box<Request<OutBody>>>,
    /// Whether the connection had served before.
    reused: bool,
}

/// Not itself an `async fn`: the request is given away before the first await, so that no future has to hold it.
fn send(
    caller: &Caller,
    mut conn: Conn,
    request: Request<OutBody>,
    outgoing: &Outgoing<'_>,
    since: Instant,
) -> impl Future<Output = Result<Received, Lost>> {
    let reused = conn.reused;
    let sending = conn.sender().try_send_request(request);
    let (patience, least) = (caller.worker.limits.response_header, caller.worker.limits.body_progress_bytes);
    async move {
        let mut sending = std::pin::pin!(sending);
        let mut due = since + patience;
        let result = loop {
            match caller.answer_due.before(due, &mut sending).await {
                Some(result) => break result,
                // a long upload is progress; only then is the time counted anew
                None if outgoing.has_moved(least) => due = Instant::now() + patience,
                None => return Err(Lost { error: outgoing.overdue(), unsent: None, reused }),
            }
        };
        match result {
            Ok(response) => Ok(Received { response, conn }),
            Err(mut lost) => {
                let unsent = lost.take_message().map(Box::new);
                Err(Lost { error: outgoing.lost(lost.into_error()), unsent, reused })
            }
        }
    }
}

/// The upstream's answer, unchanged but for what belongs to the connection.
pub(crate) fn pass_on(
    caller: &Caller,
    received: Received,
    behind: Behind,
    request: Option<Arc<Tee>>,
    tunnel: Option<Tunnel>,
    trail: Option<&Arc<Trail>>,
) -> Result<Answer, Refusal> {
    let Received { mut response, conn } = received;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some(tunnel) = tunnel else {
            return Err(Refusal::new(Code::UPSTREAM_PROTOCOL, behind.unasked_switch()));
        };
        headers::to_tunnel(response.headers_mut(), behind);
        return Ok(upgrade::join(caller, response, conn, tunnel, trail.cloned()));
    }
    headers::to_caller(response.headers_mut(), behind);
    let idle = caller.worker.limits.body_idle;
    let response =
        response.map(|incoming| ReplyBody::upstream(FromUpstream::new(incoming, behind, conn, request, idle)));
    Ok((response, Outcome::Proxied))
}
