//! Towards the platforms: an application's own token comes in, the platform's token goes out. Route, authentication,
//! authorisation, then the platform or one of keyholder's own endpoints.
//!
//! Invariants: the caller's `Authorization` never leaves keyholder, and the platform's token never reaches a caller; a
//! platform's 401 never reaches a caller: it is healed with one fresh token, or it becomes a 502. A 401 is keyholder's own
//! word: the caller's token is not good, or the session that it speaks for is over.

mod binding;
pub(crate) mod call;
pub(crate) mod own;
mod refused;
pub(crate) mod route;
mod security;
pub(crate) mod tokens;
mod tunnel;

use std::sync::Arc;

use http::{StatusCode, header, request::Parts};
use hyper::body::Incoming;
use kh_broker::{Broker, Credential, UserSessions};
use kh_core::{
    Code, Now, PlatformKind, environment,
    port::security::{ClientAddress, Security},
};
use kh_issuer::{Issuer, Session};
use kh_policy::Verdict;

use self::{
    call::Call,
    route::{Route, is_cxone_account, route},
    security::Telling,
};
use crate::{
    answer::{Answer, Refusal},
    bearer,
    exchange::in_body::InBody,
    inbound::Proxies,
    metrics::LoginEnd,
    oauth_error::OauthError,
    observe,
    request::{Asked, Caller, Refused},
    sender::OwnBinding,
    worker::Worker,
};

/// RFC 6750 section 3: no token was presented.
const CHALLENGE: &str = r#"Bearer realm="keyholder""#;

/// What this site works with.
#[derive(Clone)]
pub(crate) struct Outbound {
    /// Who the callers are.
    pub(crate) issuer: Arc<Issuer>,
    /// Where platform tokens come from.
    pub(crate) broker: Arc<Broker>,
    /// The sessions of users, if there are any.
    pub(crate) sessions: Option<Arc<UserSessions>>,
    /// See [`crate::Ports::public_url`].
    pub(crate) public_url: Option<Arc<str>>,
    /// See [`crate::Ports::binding`].
    pub(crate) binding: OwnBinding,
    /// See [`crate::Ports::events`].
    pub(crate) events: Option<own::events::Events>,
    /// See [`crate::Ports::security`].
    pub(crate) security: Security,
    /// See [`crate::Ports::proxies`].
    pub(crate) proxies: Arc<Proxies>,
}

impl Outbound {
    /// Whose request it is: what a trusted proxy tells, else the other end of the connection.
    fn client(&self, caller: &Caller, parts: &Parts) -> Option<ClientAddress> {
        caller.client.map(|client| self.proxies.addressing.find(client, &parts.headers))
    }
}

/// Answers a request that has one reading.
pub(crate) async fn serve(
    site: &Outbound,
    asked: Asked<'_>,
    parts: &mut Parts,
    body: Incoming,
) -> Result<Answer, Refused> {
    let Asked { caller, path, trail, .. } = asked;
    // before the headers that proxies write are taken off
    let client = site.client(caller, parts);
    if let Some(trail) = trail {
        trail.client_address(client.map(|client| client.ip));
    }
    let route = route(path.as_str());
    let telling = Telling { site, asked, client, route };
    match route {
        Route::Genesys { prefix, tokens_me } => {
            let api = path.tail(prefix).unwrap_or(path);
            let session = authenticate(telling, parts).await?;
            let credential = credential(telling, parts, &session)?;
            match credential.spec().kind {
                PlatformKind::Genesys if tokens_me => {
                    if let Some(trail) = trail {
                        trail.client(&session.client);
                    }
                    let of_user = credential.spec().sessions.is_some();
                    own::tokens_me(site, &parts.method, session, of_user).await
                }
                PlatformKind::Genesys => call(telling.at(api), prefix, &session, credential, parts, body).await,
                PlatformKind::Cxone | PlatformKind::Oauth2 => call(telling, 0, &session, credential, parts, body).await,
            }
        }
        Route::Other => {
            let session = authenticate(telling, parts).await?;
            let credential = credential(telling, parts, &session)?;
            let kind = credential.spec().kind;
            if kind == PlatformKind::Genesys {
                let refusal = Refusal::new(Code::NOT_FOUND, "there is no such resource: API paths contain /api/v2/");
                return Err(Refused { refusal, shape: Some(kind) });
            }
            call(telling, 0, &session, credential, parts, body).await
        }
        own => Ok(own::answer(telling, own, parts, body).await),
    }
}

/// The answer to a request that was refused, in the shape that its caller parses. `id` names this occurrence in the log.
pub(crate) fn refuse(site: &Outbound, caller: &Caller, refused: Refused, (path, id): (&str, &str)) -> Answer {
    let Refused { refusal, shape } = refused;
    let meant = route(path);
    // refused before its route was looked at, and still a login to its caller
    if shape.is_none() && meant.has_oauth_errors() {
        let error = OauthError::InvalidRequest;
        if meant.is_login() {
            caller.worker.ports.metrics.logged_in(LoginEnd::refused(error, refusal.code));
        }
        return refusal.into_oauth_answer(error, id);
    }
    refusal.into_answer(shape.unwrap_or_else(|| guess_shape(site, path)), id)
}

/// Counts a request that was refused or failed: by the reason code of the security log, or the error code where that is
/// told nothing.
pub(crate) fn count_refusal(worker: &Worker, path: &str, reason: &'static str) {
    worker.ports.metrics.refused(route(path).template(), reason);
}

/// Authorises a call and makes it. The platform's path begins at the byte `prefix` of the caller's.
async fn call(
    telling: Telling<'_>,
    prefix: usize,
    session: &Session,
    credential: Arc<Credential>,
    parts: &mut Parts,
    body: Incoming,
) -> Result<Answer, Refused> {
    let Asked { caller, head, path, began, trail, .. } = telling.asked;
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
        telling.not_allowed(parts, session, &refusal);
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
    let tokens =
        tokens::of(telling.site, credential, session).map_err(|refusal| Refused { refusal, shape: Some(kind) })?;
    let (who, by) = (&session.client.record.id, Some((&telling, session)));
    let call = Call { caller, who, tokens, head, prefix, account, began, trail, trace: None, session: by };
    let answer = call::forward(call, parts, InBody::Own(body)).await;
    answer.map_err(|refusal| {
        if refusal.code == Code::SESSION_ENDED {
            telling.session_ended(parts, session, &refusal);
        }
        Refused { refusal, shape: Some(kind) }
    })
}

/// Whose token this is.
async fn authenticate(telling: Telling<'_>, parts: &Parts) -> Result<Session, Refusal> {
    let unauthenticated = |detail: &'static str, challenge: &'static str| Refusal {
        told: Some(challenge.into()),
        ..Refusal::new(Code::CALLER_UNAUTHENTICATED, detail)
    };
    let refused = |reason: &'static str, refusal: Refusal| {
        telling.failed(parts, reason, &refusal);
        Err(refusal)
    };
    let Some(value) = parts.headers.get(header::AUTHORIZATION) else {
        let detail = "the request has no access token: log in at /oauth/token";
        return refused("token_missing", unauthenticated(detail, CHALLENGE));
    };
    let malformed = || unauthenticated("the Authorization header is not a bearer token", CHALLENGE);
    let Some((scheme, token)) = bearer::shown(value.as_bytes()) else { return refused("scheme_refused", malformed()) };
    let (issuer, now): (_, Now) = (&telling.site.issuer, telling.asked.began.now);
    if let Some(session) = issuer.session_at(token, now) {
        return binding::check(telling, parts, (scheme, token), session);
    }
    // a token that is known is well formed, so only the others are looked at letter by letter
    if !token.iter().all(u8::is_ascii_graphic) {
        return refused("authorization_malformed", malformed());
    }
    match issuer.session_or_load(token).await {
        Ok(Some(session)) => binding::check(telling, parts, (scheme, token), session),
        Ok(None) => refused("token_unknown", binding::invalid_token(&telling.site.binding, scheme)),
        // never 401: an official SDK that gets a 401 does not log in again
        Err(error) => Err(Refusal {
            status: StatusCode::SERVICE_UNAVAILABLE,
            ..Refusal::new(Code::STATE_UNAVAILABLE, error.to_string())
        }),
    }
}

fn credential(telling: Telling<'_>, parts: &Parts, session: &Session) -> Result<Arc<Credential>, Refusal> {
    let Some(name) = &session.client.record.credential else {
        let refusal = Refusal::new(Code::CALL_NOT_ALLOWED, "the client has no platform credential");
        telling.not_allowed(parts, session, &refusal);
        return Err(refusal);
    };
    let credential = telling.site.broker.credential(name).ok_or_else(|| {
        Refusal::new(Code::CREDENTIAL_UNUSABLE, "the client's credential is not in keyholder's configuration")
    })?;
    if environment::fits(session.client.record.environment.as_ref(), credential.spec().environment.as_ref()) {
        return Ok(credential);
    }
    if telling.asked.caller.worker.may_warn() {
        tracing::warn!(
            client.id = session.client.record.id.as_str(),
            "refused a call of a client whose credential is one of another environment"
        );
    }
    let refusal = Refusal::new(
        Code::ENVIRONMENT_REFUSED,
        "the client's credential is one of another environment than the client",
    );
    telling.not_allowed(parts, session, &refusal);
    Err(refusal)
}

/// The shape for callers that are not known yet: by the path, else by what keyholder is configured for.
fn guess_shape(site: &Outbound, path: &str) -> PlatformKind {
    if path.contains("/api/v2/") {
        return PlatformKind::Genesys;
    }
    if is_cxone_account(path) || path.to_ascii_lowercase().starts_with("/incontactapi/") {
        return PlatformKind::Cxone;
    }
    let mut kinds = site.broker.credentials().map(|credential| credential.spec().kind);
    let first = kinds.next().unwrap_or(PlatformKind::Oauth2);
    if kinds.all(|kind| kind == first) { first } else { PlatformKind::Oauth2 }
}
