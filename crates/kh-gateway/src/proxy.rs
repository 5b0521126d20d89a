//! One call to a platform: the token put in, the answer streamed back, a refused token healed once, a short
//! `Retry-After` waited out, everything else passed through unchanged.
//!
//! Invariant: a request is sent again only when the platform cannot have acted on it (it never left, or the platform
//! refused the token or the rate) or when acting twice is the same as once (an idempotent method on a connection that
//! had died), and only with the same bytes.

pub(crate) mod body;
mod headers;
pub(crate) mod in_body;
mod refused;
mod upgrade;

use std::sync::Arc;

use http::{Request, Response, StatusCode, Uri, Version, header, request::Parts};
use hyper::body::{Body, Incoming};
use hyper::upgrade::OnUpgrade;
use kh_broker::{Credential, Lease, TokenError};
use kh_core::{ClientId, Code, Retry, trace::TraceId};
use kh_resilience::{replay, retry_after};
use tokio::time::{Instant, timeout};

use self::{
    body::{FromPlatform, OutBody, ReplyBody, Tee},
    in_body::InBody,
};
use crate::{
    answer::{Answer, Refusal, correlation_id},
    guards::Head,
    metrics::Outcome,
    observe::{self, Attempting, Trail},
    request::{Began, Caller},
    upstream::{Conn, Host, UpstreamError},
    worker::Worker,
};

/// Whose call it is and where it goes.
pub(crate) struct Call<'a> {
    pub(crate) caller: &'a Arc<Caller>,
    /// The client, for log lines and for the broker's doubts.
    pub(crate) who: &'a ClientId,
    pub(crate) credential: Arc<Credential>,
    pub(crate) head: Head,
    /// Bytes of the caller's path before the platform's path.
    pub(crate) prefix: usize,
    /// CXone's account host instead of its API host.
    pub(crate) account: bool,
    pub(crate) began: Began,
    /// Whoever watches.
    pub(crate) trail: Option<&'a Arc<Trail>>,
    /// The trace that the call belongs to, for log lines; found by [`forward`].
    pub(crate) trace: Option<TraceId>,
}

impl Call<'_> {
    /// For log lines.
    fn trace_id(&self) -> Option<String> {
        self.trace.map(|trace| trace.to_string())
    }
}

/// A request that can be made again: its head as it goes out, and its body.
struct Outgoing<'a> {
    /// By reference, as in all that leads here: it is large, and every await that it is moved across copies it twice.
    parts: &'a mut Parts,
    body: Option<Arc<Tee>>,
    trail: Option<&'a Arc<Trail>>,
}

impl Outgoing<'_> {
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

    fn is_replayable(&self) -> bool {
        self.body.as_ref().is_none_or(|body| body.is_replayable())
    }

    fn has_moved(&self) -> bool {
        self.body.as_ref().is_some_and(|body| body.has_moved())
    }
}

/// The platform's answer and the connection it comes over.
struct Received {
    response: Response<Incoming>,
    conn: Conn,
}

/// Makes the call.
pub(crate) async fn forward(mut call: Call<'_>, parts: &mut Parts, incoming: InBody) -> Result<Answer, Refusal> {
    let worker = &*call.caller.worker;
    let mut began = call.began;
    if call.head.trace {
        call.trace = observe::keep_valid(&mut parts.headers).map(|context| context.trace);
    }
    if let Some(context) = call.trail.and_then(|trail| trail.context()) {
        call.trace = Some(context.trace);
    }
    let mut lease = if let Some(lease) = call.credential.current_at(began.now) {
        lease
    } else {
        let lease = fetch(&call).await?;
        began = worker.began();
        lease
    };
    let tunnel = upgrade::wanted(parts, call.head);
    headers::to_platform(&mut parts.headers, call.head);
    if let Some((protocol, _)) = &tunnel {
        upgrade::ask(&mut parts.headers, protocol);
    }
    let target = parts.uri.clone();
    let mut host = aim(&call, &lease, parts, &target)?;
    parts.version = Version::HTTP_11;
    parts.extensions.clear();
    let body = (!incoming.is_end_stream()).then(|| Tee::new(incoming, Arc::clone(&worker.budget), call.trail.cloned()));
    let outgoing = Outgoing { parts, body, trail: call.trail };
    let (mut sent, mut heals) = (0, Heals::default());
    loop {
        let received = exchange(call.caller, &host, &outgoing, began).await.map_err(|error| failed(&call, &error))?;
        sent += 1;
        let status = received.response.status();
        if status == StatusCode::UNAUTHORIZED {
            let refused = refused::read(received, &outgoing, worker.limits.body_idle).await;
            lease = heal(&call, refused, &lease, &outgoing, &mut heals).await?;
            began = worker.began();
            host = aim(&call, &lease, outgoing.parts, &target)?;
            continue;
        }
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
            && let Some(wait) = wait(worker, &received.response, &outgoing, sent)
        {
            worker.ports.metrics.waits.inc();
            drop(received);
            tokio::time::sleep(wait).await;
            // the token may have run out meanwhile
            lease = match call.credential.current() {
                Some(lease) => lease,
                None => fetch(&call).await?,
            };
            began = worker.began();
            host = aim(&call, &lease, outgoing.parts, &target)?;
            continue;
        }
        // the platform counts from the moment it was asked
        lease.note_used(began.now);
        if heals.count > 0 {
            worker.ports.metrics.healed.inc();
        }
        return pass_on(&call, received, outgoing.body, tunnel);
    }
}

/// A token, waiting for it if need be.
async fn fetch(call: &Call<'_>) -> Result<Arc<Lease>, Refusal> {
    let worker = &call.caller.worker;
    match timeout(worker.limits.token_wait, call.credential.lease(std::time::Duration::ZERO)).await {
        Ok(Ok(lease)) => Ok(lease),
        Ok(Err(error)) => Err(no_token(call, &error)),
        Err(_elapsed) => Err(no_token(call, &TokenError::GaveUp)),
    }
}

fn no_token(call: &Call<'_>, error: &TokenError) -> Refusal {
    let mut refusal = Refusal::new(error.code(), error.to_string());
    // whatever went wrong, it is not the caller's token
    if refusal.status.is_client_error() {
        refusal.status = StatusCode::BAD_GATEWAY;
    }
    refusal.platform_code = error.platform_code().map(Box::from);
    refusal.correlation_id = error.correlation_id().map(Box::from);
    if let Retry::After(wait) = error.retry() {
        refusal = refusal.after(wait);
    }
    if call.caller.worker.may_warn() {
        tracing::warn!(
            credential.name = call.credential.name().as_str(),
            client.id = call.who.as_str(),
            code = refusal.code.0,
            correlation_id = refusal.correlation_id,
            trace.id = call.trace_id(),
            "no platform token is available: {error}"
        );
    }
    refusal
}

/// Points the request to where its token is good: a token goes to the address that came with it and to no other.
fn aim(call: &Call<'_>, lease: &Lease, parts: &mut Parts, target: &Uri) -> Result<Arc<Host>, Refusal> {
    let base = if call.account { lease.auth_base().unwrap_or(lease.api_base()) } else { lease.api_base() };
    let egress = &call.credential.spec().egress;
    let host = call.caller.worker.upstreams.host(base, egress).map_err(|error| failed(call, &error))?;
    parts.uri =
        host.origin.target(target, call.prefix).map_err(|error| failed(call, &UpstreamError::Address(error)))?;
    parts.headers.insert(header::HOST, host.origin.host_header.clone());
    parts.headers.insert(header::AUTHORIZATION, lease.authorization().clone());
    Ok(host)
}

fn failed(call: &Call<'_>, error: &UpstreamError) -> Refusal {
    let detail = error.detail();
    if call.caller.worker.may_warn() {
        tracing::warn!(
            credential.name = call.credential.name().as_str(),
            client.id = call.who.as_str(),
            code = error.code().0,
            detail = ?detail,
            trace.id = call.trace_id(),
            "a call to a platform failed"
        );
    }
    Refusal::new(error.code(), detail)
}

/// Sends the request once, and once more on a fresh connection when a pooled one had died under it.
async fn exchange(
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
    // opening a connection takes its time, and the platform is not to pay for it
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
    let patience = caller.worker.limits.response_header;
    async move {
        let mut sending = std::pin::pin!(sending);
        let mut due = since + patience;
        let result = loop {
            match caller.answer_due.before(due, &mut sending).await {
                Some(result) => break result,
                // a long upload is progress; only then is the time counted anew
                None if outgoing.has_moved() => due = Instant::now() + patience,
                None => return Err(Lost { error: UpstreamError::AnswerTimeout, unsent: None, reused }),
            }
        };
        match result {
            Ok(response) => Ok(Received { response, conn }),
            Err(mut lost) => {
                let unsent = lost.take_message().map(Box::new);
                Err(Lost { error: UpstreamError::of_exchange(lost.into_error()), unsent, reused })
            }
        }
    }
}

/// How long a 429 or 503 is waited out, if it is.
fn wait(
    worker: &Worker,
    response: &Response<Incoming>,
    outgoing: &Outgoing<'_>,
    sent: u32,
) -> Option<std::time::Duration> {
    let value = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    let asked = retry_after::parse(value, worker.ports.clock.now().wall);
    let method = outgoing.parts.method.as_str();
    replay::wait_before_replay(response.status().as_u16(), method, outgoing.is_replayable(), asked, sent)
}

/// Tokens that one call tries at most after a 401: one that was fetched because of it, and one that had taken the place of
/// the refused token in the ordinary way meanwhile, which is no answer to the 401.
const HEALS_MAX: u32 = 2;

/// What was done about the 401s of one call.
#[derive(Default)]
struct Heals {
    count: u32,
    /// The token in use was fetched because of this call's 401.
    is_fresh: bool,
}

/// After a 401: another token to try, or the refusal that the caller gets.
async fn heal(
    call: &Call<'_>,
    refused: refused::RefusedToken,
    lease: &Lease,
    outgoing: &Outgoing<'_>,
    heals: &mut Heals,
) -> Result<Arc<Lease>, Refusal> {
    let who = call.who;
    let tried = heals.is_fresh || heals.count >= HEALS_MAX;
    let doubted = lease.is_proven() && call.credential.is_doubted(lease.sha256(), who);
    if tried && !refused.is_address() {
        // the fresh token is kept: what this client asks for is refused, and others need the token
        call.credential.doubt(lease.sha256(), who);
    }
    // a fresh token has the same address as the old one: it is not the token that the platform refuses
    if !refused.is_address() && !tried && !doubted {
        let first = call.credential.invalidate(lease.sha256());
        // a thousand calls may meet the same dead token: the first one tells
        if first {
            tracing::info!(
                credential.name = call.credential.name().as_str(),
                token.sha256 = %lease.sha256().to_hex(),
                platform_code = refused.code,
                correlation_id = refused.correlation_id,
                trace.id = call.trace_id(),
                "the platform refused a token; it is not used again"
            );
        }
        if outgoing.is_replayable() {
            *heals = Heals { count: heals.count + 1, is_fresh: first };
            return fetch(call).await;
        }
    }
    call.caller.worker.ports.metrics.unhealed.inc();
    if call.caller.worker.may_warn() {
        tracing::warn!(
            credential.name = call.credential.name().as_str(),
            client.id = call.who.as_str(),
            platform_code = refused.code,
            correlation_id = refused.correlation_id,
            trace.id = call.trace_id(),
            "the platform refuses the credential's token"
        );
    }
    let detail = if refused.is_address() {
        "the platform does not accept this credential from keyholder's address"
    } else if tried || doubted {
        "the platform refused the credential's token, and a fresh one as well"
    } else {
        "the platform refused the credential's token; the request could not be sent again with a fresh one because \
         its body is too large to be kept"
    };
    Err(Refusal {
        platform_code: refused.code,
        correlation_id: refused.correlation_id,
        ..Refusal::new(Code::CREDENTIAL_REJECTED, detail)
    })
}

/// The platform's answer, unchanged but for what belongs to the connection.
fn pass_on(
    call: &Call<'_>,
    received: Received,
    request: Option<Arc<Tee>>,
    tunnel: Option<(http::HeaderValue, OnUpgrade)>,
) -> Result<Answer, Refusal> {
    let Received { mut response, conn } = received;
    tracing::debug!(
        client.id = call.who.as_str(),
        upstream.status = response.status().as_u16(),
        correlation_id = correlation_id(response.headers()),
        "the platform answered"
    );
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some((_, of_caller)) = tunnel else {
            return Err(Refusal::new(Code::UPSTREAM_PROTOCOL, "the platform switched protocols without being asked"));
        };
        return Ok(upgrade::join(call.caller, response, conn, of_caller, call.trail.cloned()));
    }
    headers::to_caller(response.headers_mut());
    let idle = call.caller.worker.limits.body_idle;
    let response = response.map(|incoming| ReplyBody::platform(FromPlatform::new(incoming, conn, request, idle)));
    Ok((response, Outcome::Proxied))
}

/// For logs and errors: the platform's correlation id, if its answer has one.
fn platform_correlation(response: &Response<Incoming>) -> Option<Box<str>> {
    correlation_id(response.headers()).map(Box::from)
}
