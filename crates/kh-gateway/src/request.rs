//! One request from its head to its answer: guards, route, authentication, authorisation, then the platform or one of
//! keyholder's own endpoints.

use std::{convert::Infallible, net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header, request::Parts};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use kh_broker::Credential;
use kh_core::{Code, Now, PlatformKind, environment};
use kh_issuer::Session;
use kh_policy::{CanonicalPath, PathError, Verdict};
use tokio::time::{Instant, timeout};

use crate::{
    answer::{Answer, Refusal, correlation_id},
    deadline::Deadline,
    guards::{self, Head},
    observe::{self, Trail},
    own,
    proxy::{
        self,
        body::{InFlight, ReplyBody, Watched},
        in_body::InBody,
    },
    route::{Route, is_cxone_account, route},
    server::Sniff,
    worker::Worker,
};

/// RFC 6750 section 3: no token was presented.
const CHALLENGE: &str = r#"Bearer realm="keyholder""#;
/// RFC 6750 section 3.1.
const CHALLENGE_INVALID: &str =
    r#"Bearer realm="keyholder", error="invalid_token", error_description="the token is unknown, expired or revoked""#;

/// Most header fields of a request: hyper's limit for HTTP/1.1, held for HTTP/2 as well.
const HEADERS_MAX: usize = 100;

const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// The connection that a request came over.
pub(crate) struct Caller {
    pub(crate) worker: Arc<Worker>,
    pub(crate) sniff: Arc<Sniff>,
    /// When the platform's answer must have begun, for the one request that is being served.
    pub(crate) answer_due: Deadline,
    /// Whether the caller speaks TLS, for the links that it is given.
    pub(crate) secure: bool,
    /// The caller's address; none over a unix socket.
    pub(crate) peer: Option<IpAddr>,
}

/// Answers one request. Never an error: an error would break the connection without a word.
pub(crate) async fn answer(caller: Arc<Caller>, request: Request<Incoming>) -> Result<Response<ReplyBody>, Infallible> {
    let worker = &caller.worker;
    let metrics = &worker.ports.metrics;
    let in_flight = InFlight::new(&metrics.in_flight);
    // all that a request needs to know of time until it has to wait: reading clocks again would add up
    let began = worker.began();
    let (parts, body) = request.into_parts();
    let trail = worker.ports.observer.as_ref().map(|it| Trail::begin(it, &parts, began, caller.peer, caller.secure));
    let is_head = parts.method == Method::HEAD;
    let answer = handle(&caller, parts, body, began, trail.as_ref()).await;
    Ok(conclude(worker, answer, began, in_flight, trail, is_head))
}

/// Counts an answer, tells whoever watches, and at the worker's end says that the connection ends with it.
pub(crate) fn conclude(
    worker: &Worker,
    (mut response, outcome): Answer,
    began: Began,
    in_flight: InFlight,
    trail: Option<Arc<Trail>>,
    is_head: bool,
) -> Response<ReplyBody> {
    let metrics = &worker.ports.metrics;
    if worker.drain.is_announced() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(header::CONNECTION, CLOSE);
    }
    let took = began.at.elapsed();
    metrics.duration.observe(took.as_secs_f64());
    metrics.answered(outcome, response.status());
    tracing::debug!(
        status = response.status().as_u16(),
        outcome = ?outcome,
        duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        correlation_id = correlation_id(response.headers()),
        "answered a request"
    );
    let watched = trail.map(|trail| {
        trail.answered(response.status(), outcome.as_str(), correlation_id(response.headers()));
        Watched::new(trail, is_head)
    });
    response.map(|body| body.counted(in_flight, watched))
}

/// The clocks when a request came in, or when it last had to wait.
#[derive(Clone, Copy)]
pub(crate) struct Began {
    pub(crate) at: Instant,
    pub(crate) now: Now,
}

async fn handle(
    caller: &Arc<Caller>,
    mut parts: Parts,
    body: Incoming,
    began: Began,
    trail: Option<&Arc<Trail>>,
) -> Answer {
    // a copy of the handle, not of the bytes: the path must outlive the changes to the parts
    let uri = parts.uri.clone();
    let sent_id: Option<Box<str>> = correlation_id(&parts.headers).map(Box::from);
    match checked(caller, &mut parts, &uri, body, began, trail).await {
        Ok(answer) => answer,
        Err(Refused { refusal, shape: known }) => {
            if let Some(trail) = trail {
                trail.refused(refusal.code);
            }
            let id = refusal.correlation_id.clone().or(sent_id).unwrap_or_else(|| caller.worker.context_id().into());
            tracing::debug!(code = refusal.code.0, detail = ?refusal.detail, correlation_id = id, "refused a request");
            // refused before its route was looked at, and still a login to its caller
            if known.is_none() && route(uri.path()).is_login() {
                return refusal.into_oauth_answer("invalid_request", &id);
            }
            refusal.into_answer(known.unwrap_or_else(|| guess_shape(caller, uri.path())), &id)
        }
    }
}

/// A refusal, and the shape of its platform once the client is known.
pub(crate) struct Refused {
    pub(crate) refusal: Refusal,
    pub(crate) shape: Option<PlatformKind>,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, shape: None }
    }
}

async fn checked(
    caller: &Arc<Caller>,
    parts: &mut Parts,
    uri: &Uri,
    mut body: Incoming,
    began: Began,
    trail: Option<&Arc<Trail>>,
) -> Result<Answer, Refused> {
    let head = guards::check(&parts.method, &parts.uri, parts.version, &parts.headers);
    let chunked = head.map_or_else(|_| parts.headers.contains_key(header::TRANSFER_ENCODING), |head| head.chunked);
    // asked in every case: it also says that what follows is a body
    let both_lengths = caller.sniff.take(chunked, &parts.method);
    if both_lengths {
        return Err(Refusal::ambiguous("the request has both Content-Length and Transfer-Encoding").into());
    }
    let head = head.map_err(Refusal::ambiguous)?;
    if head.http2 && parts.headers.len() > HEADERS_MAX {
        let refusal = Refusal::new(Code::REQUEST_TOO_LARGE, "the request has too many headers");
        return Err(Refusal { status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, ..refusal }.into());
    }
    if head.http2 && body.size_hint().exact() == Some(0) && !body.is_end_stream() {
        // boxed: rare, and its size would be everybody's
        Box::pin(nothing(&mut body, caller.worker.limits.body_idle)).await?;
    }
    let path = target(&caller.worker, uri, 0)?;
    if let Some(trail) = trail {
        trail.path(path.as_str());
    }
    match route(path.as_str()) {
        Route::Genesys { prefix, tokens_me } => {
            let api = path.tail(prefix).unwrap_or(path);
            let session = authenticate(caller, &parts.headers, began.now).await?;
            let credential = credential(caller, &session)?;
            match credential.spec().kind {
                PlatformKind::Genesys if tokens_me => {
                    if let Some(trail) = trail {
                        trail.client(&session.client);
                    }
                    own::tokens_me(caller, &parts.method, session).await
                }
                PlatformKind::Genesys => {
                    call(caller, parts, body, head, &session, credential, api, prefix, began, trail).await
                }
                PlatformKind::Cxone | PlatformKind::Oauth2 => {
                    call(caller, parts, body, head, &session, credential, path, 0, began, trail).await
                }
            }
        }
        Route::Other => {
            let session = authenticate(caller, &parts.headers, began.now).await?;
            let credential = credential(caller, &session)?;
            let kind = credential.spec().kind;
            if kind == PlatformKind::Genesys {
                let refusal = Refusal::new(Code::NOT_FOUND, "there is no such resource: API paths contain /api/v2/");
                return Err(Refused { refusal, shape: Some(kind) });
            }
            call(caller, parts, body, head, &session, credential, path, 0, began, trail).await
        }
        own => Ok(own::answer(caller, own, parts, body, trail).await),
    }
}

/// Authorises a call and makes it.
#[allow(clippy::too_many_arguments, reason = "each is a different fact about one request")]
async fn call(
    caller: &Arc<Caller>,
    parts: &mut Parts,
    body: Incoming,
    head: Head,
    session: &Session,
    credential: Arc<Credential>,
    path: CanonicalPath<'_>,
    prefix: usize,
    began: Began,
    trail: Option<&Arc<Trail>>,
) -> Result<Answer, Refused> {
    if let Some(trail) = trail {
        trail.client(&session.client);
        trail.credential(credential.name());
    }
    let kind = credential.spec().kind;
    let verdict = session.client.allow.decide(kind, parts.method.as_str(), &path);
    let refusal = match verdict {
        Verdict::Allowed => None,
        Verdict::NotListed => {
            Some(Refusal::new(Code::CALL_NOT_ALLOWED, "the client's allow-list does not name this call"))
        }
        Verdict::Guarded => Some(Refusal::new(
            Code::CALL_GUARDED,
            "this operation handles platform secrets; the client has no right to such operations",
        )),
    };
    if let Some(refusal) = refusal {
        if caller.worker.may_warn() {
            tracing::info!(
                client.id = session.client.record.id.as_str(),
                code = refusal.code.0,
                method = parts.method.as_str(),
                trace.id = observe::context(&parts.headers).map(|context| context.trace.to_string()),
                "refused a call that the client may not make"
            );
        }
        return Err(Refused { refusal, shape: Some(kind) });
    }
    let account = kind == PlatformKind::Cxone && is_cxone_account(path.as_str());
    let call = proxy::Call {
        caller,
        who: &session.client.record.id,
        credential,
        head,
        prefix,
        account,
        began,
        trail,
        trace: None,
    };
    proxy::forward(call, parts, InBody::Own(body)).await.map_err(|refusal| Refused { refusal, shape: Some(kind) })
}

/// Whose token this is.
async fn authenticate(caller: &Caller, headers: &HeaderMap, now: Now) -> Result<Session, Refusal> {
    let unauthenticated = |detail: &'static str, challenge| Refusal {
        told: Some(challenge),
        ..Refusal::new(Code::CALLER_UNAUTHENTICATED, detail)
    };
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Err(unauthenticated("the request has no access token: log in at /oauth/token", CHALLENGE));
    };
    let token = bearer(value.as_bytes())
        .ok_or_else(|| unauthenticated("the Authorization header is not a bearer token", CHALLENGE))?;
    let issuer = &caller.worker.ports.issuer;
    if let Some(session) = issuer.session_at(token, now) {
        return Ok(session);
    }
    // a token that is known is well formed, so only the others are looked at letter by letter
    if !token.iter().all(u8::is_ascii_graphic) {
        return Err(unauthenticated("the Authorization header is not a bearer token", CHALLENGE));
    }
    match issuer.session_or_load(token).await {
        Ok(Some(session)) => Ok(session),
        Ok(None) => Err(unauthenticated("the access token is unknown, expired or revoked", CHALLENGE_INVALID)),
        // never 401: an official SDK that gets a 401 does not log in again
        Err(error) => Err(Refusal {
            status: StatusCode::SERVICE_UNAVAILABLE,
            ..Refusal::new(Code::STATE_UNAVAILABLE, error.to_string())
        }),
    }
}

/// What follows the scheme of `Bearer TOKEN` (RFC 6750 section 2.1; the scheme's letter case does not count, RFC 9110 section 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    (scheme.eq_ignore_ascii_case(b"Bearer ") && !token.is_empty()).then_some(token)
}

fn credential(caller: &Caller, session: &Session) -> Result<Arc<Credential>, Refusal> {
    let Some(name) = &session.client.record.credential else {
        return Err(Refusal::new(Code::CALL_NOT_ALLOWED, "the client has no platform credential"));
    };
    let credential = caller.worker.ports.broker.credential(name).ok_or_else(|| {
        Refusal::new(Code::CREDENTIAL_UNUSABLE, "the client's credential is not in keyholder's configuration")
    })?;
    if environment::fits(session.client.record.environment.as_ref(), credential.spec().environment.as_ref()) {
        return Ok(credential);
    }
    if caller.worker.may_warn() {
        tracing::warn!(
            client.id = session.client.record.id.as_str(),
            "refused a call of a client whose credential is one of another environment"
        );
    }
    Err(Refusal::new(
        Code::ENVIRONMENT_REFUSED,
        "the client's credential is one of another environment than the client",
    ))
}

/// Waits for the end of a body that was announced as empty: with HTTP/1.1 there is nothing to wait for, with HTTP/2
/// bytes may follow, and the platform must not be asked before that is known.
async fn nothing(body: &mut Incoming, patience: Duration) -> Result<(), Refusal> {
    match timeout(patience, body.frame()).await {
        Ok(None) => Ok(()),
        Ok(Some(Ok(frame))) if frame.data_ref().is_some_and(Bytes::is_empty) && body.is_end_stream() => Ok(()),
        Ok(Some(_)) | Err(_) => Err(Refusal::ambiguous("the body is not as long as was announced")),
    }
}

/// The path of a request from its byte `from` on, if it has one reading only and the query is not too long.
pub(crate) fn target<'a>(worker: &Worker, uri: &'a Uri, from: usize) -> Result<CanonicalPath<'a>, Refusal> {
    if uri.query().is_some_and(|query| query.len() > worker.limits.query_bytes) {
        let refusal = Refusal::new(Code::REQUEST_TOO_LARGE, "the query is too long");
        return Err(Refusal { status: StatusCode::URI_TOO_LONG, ..refusal });
    }
    CanonicalPath::parse(uri.path().get(from..).unwrap_or_default()).map_err(path_refusal)
}

fn path_refusal(error: PathError) -> Refusal {
    let refusal = Refusal::ambiguous(error.to_string());
    if error == PathError::TooLong {
        return Refusal { status: StatusCode::URI_TOO_LONG, code: Code::REQUEST_TOO_LARGE, ..refusal };
    }
    refusal
}

/// The shape for callers that are not known yet: by the path, else by what keyholder is configured for.
fn guess_shape(caller: &Caller, path: &str) -> PlatformKind {
    if path.contains("/api/v2/") {
        return PlatformKind::Genesys;
    }
    if is_cxone_account(path) || path.to_ascii_lowercase().starts_with("/incontactapi/") {
        return PlatformKind::Cxone;
    }
    let mut kinds = caller.worker.ports.broker.credentials().map(|credential| credential.spec().kind);
    let first = kinds.next().unwrap_or(PlatformKind::Oauth2);
    if kinds.all(|kind| kind == first) { first } else { PlatformKind::Oauth2 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bearer_tokens() {
        for (value, expected) in [
            ("Bearer kht_x", Some("kht_x")),
            ("bearer kht_x", Some("kht_x")),
            ("Bearer ", None),
            ("Basic kht_x", None),
            ("kht_x", None),
            ("", None),
        ] {
            assert_eq!(bearer(value.as_bytes()), expected.map(str::as_bytes), "{value}");
        }
    }
}
