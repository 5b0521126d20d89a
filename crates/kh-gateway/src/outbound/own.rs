//! keyholder's own endpoints: logins in the platforms' shapes, discovery, and `tokens/me`.
//!
//! Invariant: nothing here but a login with a user's authorization code calls a platform, and no answer or log line
//! repeats a credential.

pub(super) mod authentication;
mod code;
pub(super) mod discovery;
pub(crate) mod events;
pub(crate) mod form;
mod login;
mod metadata;
mod tokens;

use std::time::Duration;

use bytes::Buf;
use http::{Method, request::Parts};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use kh_core::{
    Code, PlatformKind,
    port::security::{Presented, Told},
};
use kh_issuer::{Client, Session};
use parking_lot::Mutex;
use serde_json::json;
use zeroize::Zeroizing;

use super::{
    Outbound,
    route::Route,
    security::{Telling, Tried},
};
use crate::{
    answer::{self, Answer, Refusal, correlation_id},
    oauth_error::OauthError,
    request::{Caller, Refused},
};

/// Who calls, and at which site.
#[derive(Clone, Copy)]
pub(crate) struct Visit<'a> {
    pub(crate) caller: &'a Caller,
    pub(crate) site: &'a Outbound,
    pub(super) telling: Telling<'a>,
    tried: &'a Mutex<Tried>,
}

impl Visit<'_> {
    /// The request was authenticated: the security log is told if that is news.
    fn passed(self, parts: &Parts, client: &Client) {
        let shown = self.tried.lock().shown;
        self.telling.logged_in(parts, shown, client);
    }

    /// The request was refused.
    fn refused(self, parts: &Parts, error: OauthError, refusal: &Refusal) {
        self.telling.not_logged_in(parts, &self.tried.lock(), error, refusal);
    }

    /// Somebody says who it is and shows a secret.
    fn tries(self, id: &str, shown: Presented) {
        // an id that is no client's may be anything that a stranger wrote, or a secret in the wrong place
        let known = self.site.issuer.client(id).filter(|client| client.record.id.as_str() == id);
        let client = known.map(|client| Told::new(client.record.id.as_str()));
        *self.tried.lock() = Tried { shown, client, verified: false };
    }

    /// It is who it says.
    fn is_verified(self) {
        self.tried.lock().verified = true;
    }
}

/// Answers one of the endpoints that need no access token.
pub(crate) async fn answer(telling: Telling<'_>, route: Route, parts: &Parts, body: Incoming) -> Answer {
    let (caller, trail) = (telling.asked.caller, telling.asked.trail);
    let tried = Mutex::default();
    let visit = Visit { caller, site: telling.site, telling, tried: &tried };
    let id = correlation_id(&parts.headers).map_or_else(|| visit.caller.worker.context_id(), str::to_owned);
    let result = match route {
        Route::OauthToken | Route::CxoneToken | Route::CxoneAccessKey => {
            return login::answer(visit, route, parts, body, &id, trail).await;
        }
        Route::OauthRevoke => {
            let answered = tokens::revoke(visit, parts, body, trail).await;
            return answered.unwrap_or_else(|refused| oauth_refusal(visit, parts, refused, &id));
        }
        Route::OauthIntrospect => {
            let answered = tokens::introspect(visit, parts, body, trail).await;
            return answered.unwrap_or_else(|refused| oauth_refusal(visit, parts, refused, &id));
        }
        Route::Events => {
            let answered = events::answer(visit, parts, body).await;
            return answered.unwrap_or_else(|refusal| {
                if let Some(trail) = trail {
                    trail.refused(refusal.code);
                }
                refusal.into_problem(&id)
            });
        }
        Route::AuthorizationServer => metadata::authorization_server(visit, parts),
        Route::OauthKeys => metadata::jwks(visit, parts),
        Route::Jwks => discovery::jwks(&parts.method),
        Route::OpenidConfiguration => discovery::openid(visit, parts),
        Route::CxoneConfiguration => discovery::cxone(visit, parts),
        Route::Genesys { .. } | Route::Other => Err(Refusal::new(Code::NOT_FOUND, "there is no such resource")),
    };
    result.unwrap_or_else(|refusal| {
        if let Some(trail) = trail {
            trail.refused(refusal.code);
        }
        refusal.into_answer(PlatformKind::Cxone, &id)
    })
}

/// The answer to a refused request of an OAuth endpoint, and its trace in the log.
fn oauth_refusal(
    visit: Visit<'_>,
    parts: &Parts,
    authentication::Refused(error, refusal): authentication::Refused,
    id: &str,
) -> Answer {
    if let Some(trail) = visit.telling.asked.trail {
        trail.refused(refusal.code);
    }
    visit.refused(parts, error, &refusal);
    let (code, told) = (refusal.code.0, error.as_str());
    // at most one a second: whoever may send requests must not be able to fill the disk with them
    if visit.caller.worker.may_warn() {
        tracing::info!(oauth.error = told, code, correlation_id = id, "refused a client's request: {}", refusal.detail);
    } else {
        tracing::debug!(
            oauth.error = told,
            code,
            correlation_id = id,
            "refused a client's request: {}",
            refusal.detail
        );
    }
    refusal.into_oauth_answer(error, id)
}

/// `GET|HEAD|DELETE /api/v2/tokens/me` (Genesys Cloud `TokenInfo`), about the keyholder token. Deleting one that speaks
/// for a user's session ends the session.
pub(crate) async fn tokens_me(
    site: &Outbound,
    method: &Method,
    session: Session,
    of_user: bool,
) -> Result<Answer, Refused> {
    let record = &session.client.record;
    let client = json!({
        "id": record.id, "name": record.name,
        "authorizedGrantType": if of_user { "CODE" } else { "CLIENT-CREDENTIALS" },
        "scope": record.scopes, "state": "active",
    });
    match *method {
        Method::GET => Ok(answer::json(&json!({ "authorizedScope": session.scopes(), "OAuthClient": client }))),
        Method::HEAD => Ok(answer::empty()),
        Method::DELETE => match site.issuer.revoke_digest(session.digest).await {
            Ok(_) => {
                tracing::info!(client.id = record.id.as_str(), "a client revoked its own access token");
                Ok(answer::empty())
            }
            Err(error) => Err(Refused {
                refusal: Refusal::new(Code::STATE_UNAVAILABLE, error.to_string()),
                shape: Some(PlatformKind::Genesys),
            }),
        },
        _ => Err(Refused {
            refusal: Refusal { told: Some("GET, HEAD, DELETE".into()), ..method_refused() },
            shape: Some(PlatformKind::Genesys),
        }),
    }
}

fn method_refused() -> Refusal {
    Refusal::new(Code::METHOD_NOT_ALLOWED, "this resource does not answer this method")
}

/// Reads a small body whole. It may hold a secret, so the copy is wiped.
async fn read(caller: &Caller, body: Incoming) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let limits = &caller.worker.limits;
    read_up_to(body, limits.own_body_bytes, limits.body_idle).await
}

/// The same for a body of at most so many bytes, which comes within this time.
async fn read_up_to(body: Incoming, bytes_max: usize, within: Duration) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let whole = Limited::new(body, bytes_max).collect();
    let broken = || Refusal { close: true, ..Refusal::new(Code::REQUEST_MALFORMED, "the request body broke off") };
    match tokio::time::timeout(within, whole).await {
        Ok(Ok(collected)) => {
            let mut rest = collected.aggregate();
            let mut text = Zeroizing::new(Vec::with_capacity(rest.remaining()));
            while rest.has_remaining() {
                let chunk = rest.chunk();
                text.extend_from_slice(chunk);
                let read = chunk.len();
                rest.advance(read);
            }
            Ok(text)
        }
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(Refusal { close: true, ..Refusal::new(Code::REQUEST_TOO_LARGE, "the request body is too large") })
        }
        Ok(Err(_)) | Err(_) => Err(broken()),
    }
}

/// An empty buffer for a JSON text that will hold a token and `others` bytes.
fn secret_buffer(others: usize) -> Zeroizing<Vec<u8>> {
    // large enough, so that growing leaves no copy behind
    Zeroizing::new(Vec::with_capacity(others + 64))
}
