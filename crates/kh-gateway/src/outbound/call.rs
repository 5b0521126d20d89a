//! One call to a platform: the token put in, the answer streamed back, a refused token healed once, a short
//! `Retry-After` waited out, everything else passed through unchanged.
//!
//! Invariant: a request that got an answer is sent again only when the platform did not act on it (it refused the token
//! or the rate), and only with the same bytes.

use std::sync::Arc;

use http::{Response, StatusCode, Uri, header, request::Parts};
use hyper::body::Incoming;
use kh_broker::{Lease, TokenError};
use kh_core::{ClientId, Code, trace::TraceId};
use kh_issuer::Session;
use kh_resilience::{replay, retry_after};
use tokio::time::timeout;

use super::{
    refused::{self, RefusedToken},
    security::Telling,
    tokens::{self, Tokens},
    tunnel::BySession,
};
use crate::{
    answer::{Answer, Refusal, correlation_id},
    exchange::{self, Outgoing, body::Trailers, headers::Behind, in_body::InBody},
    guards::Head,
    observe::{self, Trail},
    request::{Began, Caller},
    upstream::{Host, UpstreamError},
    worker::Worker,
};

/// Whose call it is and where it goes.
pub(crate) struct Call<'a> {
    pub(crate) caller: &'a Caller,
    /// The client, for log lines and for the broker's doubts.
    pub(crate) who: &'a ClientId,
    /// Where its tokens come from.
    pub(crate) tokens: Tokens,
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
    /// The session that it is made by, and a tunnel stands by, and what the security log is told of it; none for a local
    /// caller, who was let in elsewhere and has no tunnels.
    pub(crate) session: Option<(&'a Telling<'a>, &'a Session)>,
}

impl Call<'_> {
    /// For log lines.
    fn trace_id(&self) -> Option<String> {
        self.trace.map(|trace| trace.to_string())
    }
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
    let first = if let Some(lease) = call.tokens.current_at(began.now) {
        Ok(lease)
    } else {
        let fetched = fetch(&call).await;
        began = worker.began();
        fetched
    };
    tell_passed(&call, parts, &first);
    let mut lease = first?;
    let mut tunnel = exchange::prepare(parts, call.head, Behind::Platform);
    if let (Some(tunnel), Some((telling, session))) = (&mut tunnel, call.session) {
        tunnel.right = Some(Box::new(BySession::of(&telling.site.issuer, session)));
    }
    let target = parts.uri.clone();
    let mut host = aim(&call, &lease, parts, &target)?;
    let outgoing = Outgoing::new(parts, incoming, Trailers::Pass, worker, call.trail);
    let (mut sent, mut heals) = (0, Heals::default());
    loop {
        let received =
            exchange::exchange(call.caller, &host, &outgoing, began).await.map_err(|error| failed(&call, &error))?;
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
            refused::give_back(received, &outgoing).await;
            tokio::time::sleep(wait).await;
            // the token may have run out meanwhile
            lease = match call.tokens.current_at(worker.ports.clock.now()) {
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
        tracing::debug!(
            client.id = call.who.as_str(),
            upstream.status = status.as_u16(),
            correlation_id = correlation_id(received.response.headers()),
            "the platform answered"
        );
        return exchange::pass_on(call.caller, received, Behind::Platform, outgoing.body, tunnel, call.trail);
    }
}

/// Tells the security log that the caller was let through, before its call goes to the platform: who hangs up after that
/// is told of all the same. Not where the caller's session has ended, of which whoever made the call tells.
fn tell_passed(call: &Call<'_>, parts: &Parts, first: &Result<Arc<Lease>, Refusal>) {
    let Some((telling, session)) = call.session else { return };
    if !first.as_ref().is_err_and(|refusal| refusal.code == Code::SESSION_ENDED) {
        telling.passed(parts, session);
    }
}

/// A token, waiting for it if need be.
async fn fetch(call: &Call<'_>) -> Result<Arc<Lease>, Refusal> {
    let worker = &call.caller.worker;
    match timeout(worker.limits.token_wait, call.tokens.lease()).await {
        Ok(Ok(lease)) => Ok(lease),
        Ok(Err(refused)) => Err(no_token(call, refused)),
        Err(_elapsed) => Err(no_token(call, tokens::refusal(&TokenError::GaveUp))),
    }
}

fn no_token(call: &Call<'_>, refusal: Refusal) -> Refusal {
    // the end of a session is told where it ends, and is news to its caller alone
    if refusal.status == StatusCode::UNAUTHORIZED {
        return refusal;
    }
    if call.caller.worker.may_warn() {
        tracing::warn!(
            credential.name = call.tokens.credential().name().as_str(),
            client.id = call.who.as_str(),
            code = refusal.code.0,
            correlation_id = refusal.correlation_id,
            trace.id = call.trace_id(),
            "no platform token is available: {}",
            refusal.detail
        );
    }
    refusal
}

/// Points the request to where its token is good: a token goes to the address that came with it and to no other.
fn aim(call: &Call<'_>, lease: &Lease, parts: &mut Parts, target: &Uri) -> Result<Arc<Host>, Refusal> {
    let base = if call.account { lease.auth_base().unwrap_or(lease.api_base()) } else { lease.api_base() };
    let egress = &call.tokens.credential().spec().egress;
    let host = call.caller.worker.upstreams.host(base, egress).map_err(|error| failed(call, &error))?;
    parts.uri =
        host.origin.target(target, call.prefix).map_err(|error| failed(call, &UpstreamError::Address(error)))?;
    parts.headers.insert(header::HOST, host.origin.host_header.clone());
    parts.headers.insert(header::AUTHORIZATION, lease.authorization().clone());
    Ok(host)
}

fn failed(call: &Call<'_>, error: &UpstreamError) -> Refusal {
    if let Some(refusal) = error.of_caller() {
        return refusal;
    }
    let detail = error.detail();
    if call.caller.worker.may_warn() {
        tracing::warn!(
            credential.name = call.tokens.credential().name().as_str(),
            client.id = call.who.as_str(),
            code = error.code().0,
            detail = ?detail,
            trace.id = call.trace_id(),
            "a call to a platform failed"
        );
    }
    Refusal::new(error.code(), detail)
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
    refused: RefusedToken,
    lease: &Lease,
    outgoing: &Outgoing<'_>,
    heals: &mut Heals,
) -> Result<Arc<Lease>, Refusal> {
    let who = call.who;
    let tried = heals.is_fresh || heals.count >= HEALS_MAX;
    let doubted = call.tokens.is_doubted(lease, who);
    if tried && !refused.is_address() {
        // the fresh token is kept: what this client asks for is refused, and others need the token
        call.tokens.doubt(lease, who);
    }
    // a fresh token has the same address as the old one: it is not the token that the platform refuses
    if !refused.is_address() && !tried && !doubted {
        let first = call.tokens.invalidate(lease);
        // a thousand calls may meet the same dead token: the first one tells
        if first {
            tracing::info!(
                credential.name = call.tokens.credential().name().as_str(),
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
            credential.name = call.tokens.credential().name().as_str(),
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
