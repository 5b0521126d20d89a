//! Who calls one of the OAuth endpoints: the client's id and secret out of a `Basic` header or a form body, and the bounds
//! on wrong ones.
//!
//! Invariants: a client authenticates in exactly one way (RFC 6749 section 2.3); a login that has to wait is refused
//! before its secret is looked at; an unknown client and a wrong secret get the same answer after the same work.

use std::time::Duration;

use http::{HeaderMap, Method, StatusCode, header, request::Parts};
use hyper::body::Incoming;
pub(super) use kh_core::port::security::Presented as How;
use kh_core::{Code, SecretString};
use kh_issuer::{LoginError, Wait};

use super::{
    Visit,
    form::{Basic, Form},
    method_refused, read,
};
use crate::{answer::Refusal, oauth_error::OauthError};

pub(super) const FORM: &str = "application/x-www-form-urlencoded";
pub(super) const JSON: &str = "application/json";

/// RFC 9110 section 15.5.2: every 401 has a challenge.
pub(super) const BASIC: &str = r#"Basic realm="keyholder""#;

/// A refusal with its OAuth error.
pub(in crate::outbound) struct Refused(pub(in crate::outbound) OauthError, pub(in crate::outbound) Refusal);

pub(super) fn invalid(detail: &'static str) -> Refused {
    Refused(OauthError::InvalidRequest, Refusal::new(Code::REQUEST_MALFORMED, detail))
}

/// The login does not prove what its token would be bound to: 400, as RFC 9449 section 5 has it.
pub(super) fn unproven(error: OauthError, detail: &'static str) -> Refused {
    let refusal = Refusal::new(Code::CALLER_PROOF_INVALID, detail);
    Refused(error, Refusal { status: StatusCode::BAD_REQUEST, ..refusal })
}

fn unauthenticated(code: Code, detail: &'static str) -> Refused {
    Refused(OauthError::InvalidClient, Refusal { told: Some(BASIC.into()), ..Refusal::new(code, detail) })
}

/// An id and a secret as they were presented.
pub(super) struct Presented {
    pub(super) id: SecretString,
    pub(super) secret: SecretString,
    /// Where they stood.
    pub(super) how: How,
}

/// Parameters that are secrets and have no business in a URL, where logs keep them (RFC 6749 section 2.3.1).
const SECRET_PARAMETERS: [&str; 7] =
    ["client_secret", "password", "token", "client_assertion", "code", "code_verifier", "refresh_token"];

/// Method, media type and query of a request with a body.
pub(super) fn check_head(parts: &Parts, media: &str) -> Result<(), Refused> {
    if parts.method != Method::POST {
        return Err(Refused(OauthError::InvalidRequest, Refusal { told: Some("POST".into()), ..method_refused() }));
    }
    let names = parts.uri.query().unwrap_or_default().split(['&', ';']).filter_map(|pair| pair.split('=').next());
    if names.into_iter().any(|name| SECRET_PARAMETERS.contains(&name)) {
        return Err(invalid("a secret stands in the URL; it belongs into the body or the Authorization header"));
    }
    if !is_media(&parts.headers, media) {
        return Err(invalid(if media == FORM {
            "the content type is not application/x-www-form-urlencoded"
        } else {
            "the content type is not application/json"
        }));
    }
    Ok(())
}

fn is_media(headers: &HeaderMap, expected: &str) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return false };
    value.split(';').next().is_some_and(|media| media.trim().eq_ignore_ascii_case(expected))
}

/// The form of a request and its `Basic` header.
pub(super) async fn form(
    visit: Visit<'_>,
    parts: &Parts,
    body: Incoming,
) -> Result<(Form, Option<Presented>), Refused> {
    check_head(parts, FORM)?;
    let basic = match parts.headers.get(header::AUTHORIZATION) {
        None => None,
        Some(value) => {
            let basic = Basic::parse(value.as_bytes());
            let basic = basic.map_err(|detail| unauthenticated(Code::CALLER_UNAUTHENTICATED, detail))?;
            Some(Presented { id: basic.id, secret: basic.secret, how: How::Basic })
        }
    };
    let text = read(visit.caller, body).await.map_err(|refusal| Refused(OauthError::InvalidRequest, refusal))?;
    let form = Form::parse(&text).map_err(invalid)?;
    Ok((form, basic))
}

/// The one way in which the client authenticates.
pub(super) fn presented(form: &mut Form, basic: Option<Presented>) -> Result<Presented, Refused> {
    match (basic, form.client_id.take(), form.client_secret.take()) {
        (Some(_), _, Some(_)) => Err(invalid("the client authenticates in more than one way")),
        (Some(basic), Some(id), None) if id != basic.id => {
            Err(invalid("client_id differs from the one in the Authorization header"))
        }
        (Some(basic), ..) => Ok(basic),
        (None, Some(id), Some(secret)) => Ok(Presented { id, secret, how: How::ClientSecretPost }),
        (None, ..) => {
            Err(unauthenticated(Code::CALLER_UNAUTHENTICATED, "the client id or the client secret is missing"))
        }
    }
}

/// Whether the client may try now; to be asked before its secret is looked at. The guard is asked about the caller's
/// address and its failures anywhere, and then the issuer about this client's wrong secrets.
pub(super) fn admitted(visit: Visit<'_>, presented: &Presented) -> Result<(), Refused> {
    let id = presented.id.expose();
    visit.tries(id, presented.how);
    let (now, attempt) = (visit.telling.asked.began.now, visit.telling.attempt(Some(id)));
    if let Some(wait) = visit.site.security.wait(attempt, now) {
        return Err(throttled(wait));
    }
    visit.site.issuer.admit_login(id, attempt.address).map_err(|error| refused(&error))
}

/// Counts how a try ended.
pub(super) fn note<T>(visit: Visit<'_>, presented: &Presented, outcome: &Result<T, LoginError>) {
    let id = presented.id.expose();
    let attempt = visit.telling.attempt(Some(id));
    // it may have been a wait for other processes' changes
    let now = visit.caller.worker.began().now;
    let wrong = match outcome {
        Ok(_) => false,
        Err(LoginError::Rejected) => true,
        Err(
            LoginError::Disabled(_)
            | LoginError::Environment(_)
            | LoginError::Scope(_)
            | LoginError::CertificateNeeded(_)
            | LoginError::ProofNeeded(_)
            | LoginError::TwoBindings(_),
        ) => return visit.is_verified(),
        // nobody knows
        Err(_) => return,
    };
    if wrong {
        visit.site.security.failed(attempt, now);
    } else {
        visit.is_verified();
        visit.site.security.succeeded(attempt, now);
    }
    let Some(Wait { bound, left }) = visit.site.issuer.login_ended(id, attempt.address, wrong) else { return };
    let worker = &visit.caller.worker;
    worker.ports.metrics.locked_out(bound);
    if worker.may_warn() {
        // an id that is no client's may be anything that a stranger wrote
        let known = visit.site.issuer.client(id).filter(|client| client.record.id.as_str() == id);
        tracing::warn!(
            client.id = known.as_ref().map(|client| client.record.id.as_str()),
            client.address = attempt.address.map(|address| address.to_string()),
            login.bound = bound.as_str(),
            wait_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
            "wrong logins have to wait"
        );
    }
}

/// The same answer, whoever makes the client wait.
fn throttled(wait: Duration) -> Refused {
    let refusal = Refusal::new(Code::LOGIN_THROTTLED, "too many wrong logins came before").after(wait);
    Refused(OauthError::TemporarilyUnavailable, refusal)
}

/// What a failed login is told.
pub(super) fn refused(error: &LoginError) -> Refused {
    let temporarily = |refusal| Refused(OauthError::TemporarilyUnavailable, refusal);
    match error {
        LoginError::Rejected => {
            unauthenticated(Code::CALLER_UNAUTHENTICATED, "the client id or the client secret is not valid")
        }
        LoginError::Disabled(_) => unauthenticated(Code::CLIENT_DISABLED, "the client is disabled"),
        LoginError::Environment(_) => {
            let detail = "the client's credential is one of another environment than the client";
            Refused(OauthError::UnauthorizedClient, Refusal::new(Code::ENVIRONMENT_REFUSED, detail))
        }
        LoginError::Scope(_) => {
            let detail = "scope is not a list of scopes that the client has";
            Refused(OauthError::InvalidScope, Refusal::new(Code::REQUEST_MALFORMED, detail))
        }
        LoginError::CertificateNeeded(_) => unproven(
            OauthError::InvalidRequest,
            "the client's tokens are bound to its certificate, and this connection has none",
        ),
        LoginError::TwoBindings(_) => {
            invalid("the client's tokens are bound to its certificate, so a DPoP proof has no place here")
        }
        LoginError::ProofNeeded(_) => unproven(
            OauthError::InvalidDpopProof,
            "the client's tokens are bound to a key, and the request has no DPoP proof",
        ),
        LoginError::TooManyTokens { .. } => {
            let refusal = Refusal::new(Code::OVERLOADED, "the client holds too many live tokens");
            temporarily(Refusal { status: StatusCode::TOO_MANY_REQUESTS, ..refusal })
        }
        LoginError::Throttled(wait) => throttled(wait.left),
        LoginError::Signing(_) | LoginError::NoIssuer => {
            temporarily(Refusal::new(Code::SIGNING_UNAVAILABLE, "no access token can be signed"))
        }
        LoginError::State(_) => temporarily(Refusal::new(Code::STATE_UNAVAILABLE, "the login could not be recorded")),
    }
}
