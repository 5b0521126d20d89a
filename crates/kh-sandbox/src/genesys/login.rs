//! `POST /oauth/token` and the metadata beside it. Invariant: no answer but the 200 of a correct login holds a token,
//! and errors have the login host's own shape {error, description, error_description} (official Go SDK).

use super::limits::MINUTE_SECONDS;
use super::state::{Client, RefreshToken, Token};
use super::{addresses, authorize};
use crate::config::{LoginLimitStatus, WrongSecretStatus};
use crate::exchange::{Call, form_value};
use crate::mint::sha256;
use crate::reply::Reply;
use crate::shared::Shared;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use http::header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, RETRY_AFTER};
use serde_json::json;

/// The metadata document (RFC 8414) with exactly the members that a probe of the platform found: no revocation, no
/// introspection, no JWKS, no scopes.
pub(super) fn metadata(shared: &Shared) -> Reply {
    let origin = &shared.origins.genesys;
    let document = json!({
        "issuer": origin,
        "authorization_endpoint": format!("{origin}/oauth/authorize"),
        "token_endpoint": format!("{origin}/oauth/token"),
        "grant_types_supported":
            ["authorization_code", "client_credentials", "refresh_token", "urn:ietf:params:oauth:grant-type:saml2-bearer"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "response_types_supported": ["code"],
    });
    Reply::json(200, &document)
}

/// An error of the login host.
pub(super) fn refused(status: u16, error: &str, description: &str) -> Reply {
    let body = json!({"error": error, "description": description, "error_description": description});
    Reply::json(status, &body).header(CACHE_CONTROL, "no-store")
}

/// The client id that a token request claims, proven or not.
pub(super) fn claimed_client(call: &Call) -> Option<String> {
    match basic(call) {
        Some(Ok((id, _))) => Some(id),
        Some(Err(())) => None,
        None => form_value(&call.body, "client_id"),
    }
}

/// Basic credentials: the platform does not percent-decode them, unlike RFC 6749 section 2.3.1.
fn basic(call: &Call) -> Option<Result<(String, String), ()>> {
    let value = call.headers.get(AUTHORIZATION)?;
    let decoded = || {
        let (scheme, encoded) = value.to_str().ok()?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
        let (id, secret) = text.split_once(':')?;
        Some((id.to_owned(), secret.to_owned()))
    };
    Some(decoded().ok_or(()))
}

/// What of a client the rest of a login needs.
struct Proven {
    client: Client,
    secret_id: String,
}

pub(super) fn token(shared: &Shared, call: &Call) -> Reply {
    if call.method != Method::POST {
        return refused(405, "invalid_request", "method not allowed").header(ALLOW, "POST");
    }
    if !call.may_be("application/x-www-form-urlencoded") {
        return refused(400, "invalid_request", "the body must be application/x-www-form-urlencoded");
    }
    let Some(grant) = form_value(&call.body, "grant_type") else {
        return refused(400, "invalid_request", "grant_type is missing");
    };
    let proven = match prove(shared, call) {
        Ok(proven) => proven,
        Err(refused) => return refused,
    };
    match grant.as_str() {
        "client_credentials" => client_credentials(shared, &proven),
        "authorization_code" => code_grant(shared, call, &proven),
        "refresh_token" => refresh_grant(shared, call, &proven),
        _ => refused(400, "unsupported_grant_type", "the grant type is not supported"),
    }
}

/// Client authentication, the login limit, the client's state and its allowed addresses.
fn prove(shared: &Shared, call: &Call) -> Result<Proven, Reply> {
    let behaviours = &shared.config.behaviours;
    let wrong = || {
        let status = match behaviours.wrong_secret_status {
            WrongSecretStatus::BadRequest => 400,
            WrongSecretStatus::Unauthorized => 401,
        };
        refused(status, "invalid_client", "client authentication failed")
    };
    let in_body = form_value(&call.body, "client_secret");
    let (id, secret) = match (basic(call), in_body) {
        // RFC 6749 section 2.3: "The client MUST NOT use more than one authentication method in each request."
        (Some(_), Some(_)) => return Err(refused(400, "invalid_request", "two kinds of client authentication")),
        (Some(Ok(pair)), None) => pair,
        (None, Some(secret)) => (form_value(&call.body, "client_id").ok_or_else(wrong)?, secret),
        (Some(Err(())) | None, None) => return Err(wrong()),
    };
    let now = shared.clock.now_ms();
    let mut state = shared.genesys.state.lock();
    let client = state.clients.get(&id).cloned().ok_or_else(wrong)?;
    let window = state.logins.entry(id).or_default();
    let allowed = shared.limits().logins_per_minute;
    if window.hit(now, MINUTE_SECONDS) > allowed {
        return Err(too_many(behaviours.login_limit_status, allowed, window.reset_seconds(now, MINUTE_SECONDS)));
    }
    let digest = sha256(secret.as_bytes());
    let matching = client.secrets.iter().find(|known| known.digest == digest && now >= known.usable_from_ms);
    let secret_id = matching.map(|known| known.id.clone()).ok_or_else(wrong)?;
    if client.text("state") != "active" {
        return Err(refused(400, "invalid_client", "the client is not active"));
    }
    if behaviours.enforce_allowed_ips && !addresses::allowed(&client.allowed_ips, call.remote) {
        return Err(refused(401, "ip.not.authorized", "the request IP address is not authorized"));
    }
    Ok(Proven { client, secret_id })
}

/// The token endpoint's own limit is a 400 with these words (read in the official Terraform provider), not a 429.
fn too_many(status: LoginLimitStatus, allowed: u32, reset_seconds: u64) -> Reply {
    let description = format!("rate limit exceeded; at most {allowed} token requests per minute");
    match status {
        LoginLimitStatus::BadRequest => refused(400, "invalid_request", &description),
        LoginLimitStatus::TooManyRequests => {
            refused(429, "invalid_request", &description).header(RETRY_AFTER, &reset_seconds.to_string())
        }
    }
}

fn wrong_grant() -> Reply {
    refused(400, "unauthorized_client", "the client is not registered for this grant type")
}

fn invalid_grant(description: &str) -> Reply {
    refused(400, "invalid_grant", description)
}

fn client_credentials(shared: &Shared, proven: &Proven) -> Reply {
    if proven.client.text("authorizedGrantType") != "CLIENT-CREDENTIALS" {
        return wrong_grant();
    }
    granted(shared, proven, None)
}

fn code_grant(shared: &Shared, call: &Call, proven: &Proven) -> Reply {
    if proven.client.text("authorizedGrantType") != "CODE" {
        return wrong_grant();
    }
    let code = form_value(&call.body, "code").unwrap_or_default();
    // A code works once: it is taken out before it is looked at (RFC 6749 section 4.1.2).
    let Some(code) = shared.genesys.state.lock().codes.remove(&sha256(code.as_bytes())) else {
        return invalid_grant("the authorization code is unknown or was used");
    };
    if code.client_id != proven.client.id || shared.clock.now_ms() >= code.expires_ms {
        return invalid_grant("the authorization code is expired or another client's");
    }
    if form_value(&call.body, "redirect_uri").as_deref() != Some(code.redirect_uri.as_str()) {
        return invalid_grant("redirect_uri differs from the authorization request");
    }
    if !authorize::verifier_fits(code.challenge.as_deref(), form_value(&call.body, "code_verifier").as_deref()) {
        return invalid_grant("code_verifier does not fit the code_challenge");
    }
    let family = shared.mint.random_secret();
    granted(shared, proven, Some(User { id: code.user_id, scope: code.scope, family }))
}

/// Whether the platform's refresh tokens work once is not published; where they do (`refresh_tokens_rotate`), a second
/// use ends the whole login, as RFC 9700 section 4.14.2 asks, unless it comes within the grace that some issuers allow
/// for an answer that was lost.
fn refresh_grant(shared: &Shared, call: &Call, proven: &Proven) -> Reply {
    let behaviours = &shared.config.behaviours;
    let presented = form_value(&call.body, "refresh_token").unwrap_or_default();
    let digest = sha256(presented.as_bytes());
    let now = shared.clock.now_ms();
    let user = {
        let mut state = shared.genesys.state.lock();
        let known = state.refresh_tokens.get_mut(&digest).filter(|known| known.client_id == proven.client.id);
        let Some(known) = known else {
            return invalid_grant("the refresh token is unknown or another client's");
        };
        let grace_ms = i64::try_from(behaviours.refresh_reuse_grace_seconds.saturating_mul(1_000)).unwrap_or(i64::MAX);
        let reused = behaviours.refresh_tokens_rotate && known.used_ms.is_some_and(|used| now >= used + grace_ms);
        let user = User { id: known.user_id.clone(), scope: known.scope.clone(), family: known.family.clone() };
        known.used_ms.get_or_insert(now);
        if reused {
            state.end_family(&user.family);
            return invalid_grant("the refresh token was used before; the login is ended");
        }
        user
    };
    granted(shared, proven, Some(user))
}

/// Whose token it is in a code grant.
struct User {
    id: String,
    scope: Vec<String>,
    family: String,
}

/// Makes the token and, for a user, the refresh token.
fn granted(shared: &Shared, proven: &Proven, user: Option<User>) -> Reply {
    let now = shared.clock.now_ms();
    let seconds = proven.client.token_seconds();
    let real_seconds = i64::try_from(seconds)
        .unwrap_or(i64::MAX)
        .saturating_add(shared.config.behaviours.token_life_skew_seconds)
        .max(0);
    let access_token = shared.mint.random_token();
    let mut state = shared.genesys.state.lock();
    let token = Token {
        client_id: proven.client.id.clone(),
        user_id: user.as_ref().map(|user| user.id.clone()),
        secret_id: proven.secret_id.clone(),
        family: user.as_ref().map(|user| user.family.clone()),
        issued_ms: now,
        expires_ms: now.saturating_add(real_seconds.saturating_mul(1_000)),
        last_used_ms: now,
        // No scope for client credentials: it belongs to user grants only (published swagger, OAuthClient.scope).
        scope: user.as_ref().map(|user| user.scope.clone()).unwrap_or_default(),
        window: super::limits::Window::default(),
        endpoints: std::collections::HashMap::new(),
    };
    state.keep_token(sha256(access_token.as_bytes()), token, now);
    let mut body = json!({"access_token": access_token, "token_type": "bearer", "expires_in": seconds});
    // "When [the idle timeout] is on, no refresh tokens are issued for code grants" (help, inactivity timeout).
    if let Some(User { id, scope, family }) = user
        && state.idle_timeout_seconds.is_none()
    {
        let refresh_token = shared.mint.random_token();
        let kept = RefreshToken { client_id: proven.client.id.clone(), user_id: id, scope, family, used_ms: None };
        state.refresh_tokens.insert(sha256(refresh_token.as_bytes()), kept);
        if let Some(fields) = body.as_object_mut() {
            fields.insert("refresh_token".to_owned(), json!(refresh_token));
        }
    }
    Reply::json(200, &body).header(CACHE_CONTROL, "no-store")
}
