//! Revocation (RFC 7009) and introspection (RFC 7662) of keyholder's own tokens, for clients that authenticate as they do
//! for a token.
//!
//! Invariants: a client revokes its own tokens alone; a token that is not active, or that the asking client may not know,
//! is answered by `{"active":false}` and nothing else.

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use http::{StatusCode, request::Parts};
use hyper::body::Incoming;
use kh_core::{Code, SecretString, port::StateError};
use kh_issuer::{ActiveToken, Client, RevokeError};
use serde_json::{Map, Value, json};

use super::{
    Visit,
    authentication::{Refused, admitted, form, invalid, note, presented, refused},
};
use crate::{
    answer::{self, Answer, Refusal},
    oauth_error::OauthError,
    observe::Trail,
    outbound::binding,
};

/// Authenticates the client; answers it with the token that it names.
async fn asked(
    visit: Visit<'_>,
    parts: &Parts,
    body: Incoming,
    trail: Option<&Arc<Trail>>,
) -> Result<(Arc<Client>, SecretString), Refused> {
    let (mut form, basic) = form(visit, parts, body).await?;
    let presented = presented(&mut form, basic)?;
    admitted(visit, &presented)?;
    let outcome = visit.site.issuer.authenticated(presented.id.expose(), &presented.secret).await;
    note(visit, &presented, &outcome);
    let client = outcome.map_err(|error| refused(&error))?;
    visit.passed(parts, &client);
    if let Some(trail) = trail {
        trail.client(&client);
    }
    // `token_type_hint` is not needed: the token itself tells its form
    let token = form.token.take().ok_or_else(|| invalid("token is missing"))?;
    Ok((client, token))
}

fn unavailable(error: &StateError) -> Refused {
    Refused(OauthError::TemporarilyUnavailable, Refusal::new(Code::STATE_UNAVAILABLE, error.to_string()))
}

/// `POST {prefix}/oauth/revoke`.
pub(super) async fn revoke(
    visit: Visit<'_>,
    parts: &Parts,
    body: Incoming,
    trail: Option<&Arc<Trail>>,
) -> Result<Answer, Refused> {
    let (client, token) = asked(visit, parts, body, trail).await?;
    let id = &client.record.id;
    match visit.site.issuer.revoke_own(id, token.expose().as_bytes()).await {
        Ok(()) => {
            tracing::debug!(client.id = id.as_str(), "a client revoked an access token");
            Ok(answer::empty())
        }
        Err(RevokeError::NotYours) => {
            tracing::info!(client.id = id.as_str(), "a client tried to revoke another client's access token");
            let refusal = Refusal::new(Code::CALL_NOT_ALLOWED, "the token was issued to another client");
            // RFC 7009 section 2.2.1 keeps to the statuses of RFC 6749 section 5.2
            Err(Refused(OauthError::UnauthorizedClient, Refusal { status: StatusCode::BAD_REQUEST, ..refusal }))
        }
        Err(RevokeError::Unsupported) => {
            let refusal = Refusal::new(Code::REQUEST_MALFORMED, "a JWT cannot be revoked here: it ends by itself");
            Err(Refused(OauthError::UnsupportedTokenType, refusal))
        }
        Err(RevokeError::State(error)) => Err(unavailable(&error)),
    }
}

/// `POST {prefix}/oauth/introspect`.
pub(super) async fn introspect(
    visit: Visit<'_>,
    parts: &Parts,
    body: Incoming,
    trail: Option<&Arc<Trail>>,
) -> Result<Answer, Refused> {
    let (client, token) = asked(visit, parts, body, trail).await?;
    if !client.record.may_introspect {
        let refusal = Refusal::new(Code::CALL_NOT_ALLOWED, "the client may not introspect tokens");
        return Err(Refused(OauthError::AccessDenied, refusal));
    }
    let found = visit.site.issuer.introspect(&client.record, token.expose().as_bytes()).await;
    let found = found.map_err(|error| unavailable(&error))?;
    let issuer = visit.site.issuer.authority().map(|authority| authority.issuer.as_str());
    Ok(answer::json(&found.map_or_else(|| json!({ "active": false }), |token| told(token, issuer))))
}

/// RFC 7662 section 2.2.
fn told(token: ActiveToken, issuer: Option<&str>) -> Value {
    let mut members = Map::new();
    let mut add = |name: &str, value: Value| drop(members.insert(name.to_owned(), value));
    add("active", true.into());
    add("client_id", token.client.as_str().into());
    add("sub", token.client.as_str().into());
    add("token_type", binding::token_type(token.bound.as_ref()).into());
    if let Some(bound) = token.bound {
        add("cnf", json!({ bound.member(): BASE64_URL_SAFE_NO_PAD.encode(bound.digest()) }));
    }
    add("iat", token.issued_at.as_secs().into());
    add("exp", token.expires_at.as_secs().into());
    if !token.scopes.is_empty() {
        add("scope", token.scopes.join(" ").into());
    }
    match &token.audience[..] {
        [] => {}
        [one] => add("aud", one.as_str().into()),
        several => add("aud", several.into()),
    }
    if let Some(issuer) = issuer {
        add("iss", issuer.into());
    }
    if let Some(id) = token.id {
        add("jti", id.into());
    }
    Value::Object(members)
}
