//! Logins: the global password grant with an access key, the regional flow, both refreshes. Invariant: a key of an
//! inactive user, an inactive key and a wrong secret get the same answer.

use super::discovery::issuer;
use super::state::Session;
use super::{oauth_error, session};
use crate::clock;
use crate::config::WrongSecretStatus;
use crate::exchange::{Call, form_value};
use crate::mint::sha256;
use crate::reply::Reply;
use crate::shared::Shared;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, CACHE_CONTROL};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

/// The id of an application or key that a global token request claims.
pub(super) fn claimed_client(call: &Call) -> Option<String> {
    basic(call).map(|(id, _)| id).or_else(|| form_value(&call.body, "client_id"))
}

/// The key id that a regional token request claims.
pub(super) fn claimed_key(call: &Call) -> Option<String> {
    call.json().ok()??.get("accessKeyId")?.as_str().map(str::to_owned)
}

/// Basic credentials; id and secret may be form-encoded inside (RFC 6749 section 2.3.1), as ordinary libraries do.
fn basic(call: &Call) -> Option<(String, String)> {
    let value = call.headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    let decode = |text: &str| percent_decode_str(text).decode_utf8().map(std::borrow::Cow::into_owned).ok();
    scheme.eq_ignore_ascii_case("basic").then(|| Some((decode(id)?, decode(secret)?)))?
}

fn wrong(shared: &Shared, code: &str) -> Reply {
    let status = match shared.config.cxone.behaviours.wrong_secret_status {
        WrongSecretStatus::BadRequest => 400,
        WrongSecretStatus::Unauthorized => 401,
    };
    oauth_error(status, code, "the credentials are not valid")
}

/// The application that authenticates, or the refusal.
fn application(shared: &Shared, call: &Call) -> Result<String, Reply> {
    let in_body = form_value(&call.body, "client_secret");
    let claimed = match (call.headers.contains_key(AUTHORIZATION), in_body) {
        // RFC 6749 section 2.3: "The client MUST NOT use more than one authentication method in each request."
        (true, Some(_)) => return Err(oauth_error(400, "invalid_request", "two kinds of client authentication")),
        (true, None) => basic(call),
        (false, Some(secret)) => form_value(&call.body, "client_id").map(|id| (id, secret)),
        (false, None) => None,
    };
    let (id, secret) = claimed.ok_or_else(|| wrong(shared, "invalid_client"))?;
    let state = shared.cxone.state.lock();
    let known = state.applications.get(&id);
    match known.filter(|known| known.enabled && known.secret == sha256(secret.as_bytes())) {
        Some(_) => Ok(id),
        None => Err(wrong(shared, "invalid_client")),
    }
}

/// Whether a second `=` stands as it is after a name of a form.
fn has_raw_equals(form: &[u8], name: &str) -> bool {
    form.split(|&byte| byte == b'&').any(|pair| {
        let value = pair.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"="));
        value.is_some_and(|value| value.contains(&b'='))
    })
}

/// The refusal of a body that is not of the published media type; the status for it is not published.
fn checked_kind(call: &Call, media_type: &str) -> Result<(), Reply> {
    if call.may_be(media_type) {
        return Ok(());
    }
    Err(oauth_error(400, "invalid_request", &format!("the body must be {media_type}")))
}

/// `POST /auth/token`: a form (the vendor's article on the global authentication service).
pub(super) fn global(shared: &Shared, call: &Call) -> Reply {
    if let Err(refused) = checked_kind(call, "application/x-www-form-urlencoded") {
        return refused;
    }
    let answer = application(shared, call).and_then(|application| {
        let value = |name: &str| form_value(&call.body, name).unwrap_or_default();
        match value("grant_type").as_str() {
            // The same article: the `=` at the end of an access key must be percent-encoded.
            "password" if ["username", "password"].iter().any(|name| has_raw_equals(&call.body, name)) => {
                Err(oauth_error(400, "invalid_request", "an equals sign in a value must be percent-encoded"))
            }
            "password" => by_key(shared, &value("username"), &value("password"), Some(application)),
            "refresh_token" => refreshed(shared, &value("refresh_token"), Some(&application)),
            "" => Err(oauth_error(400, "invalid_request", "grant_type is missing")),
            // The published grants are authorization_code, password, refresh_token and exchanges. There is no
            // client_credentials grant; the interactive and exchange grants need a person or another token.
            _ => Err(oauth_error(400, "unsupported_grant_type", "the grant type is not supported")),
        }
    });
    answer.map_or_else(|refused| refused, |issued| token_answer(shared, &issued))
}

/// `POST /authentication/v1/token/access-key`: JSON, no application (the vendor's page "UserHub getting started").
pub(super) fn regional(shared: &Shared, call: &Call) -> Reply {
    if let Err(refused) = checked_kind(call, "application/json") {
        return refused;
    }
    let body = call.json().ok().flatten().unwrap_or_default();
    let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    match by_key(shared, &text("accessKeyId"), &text("accessKeySecret"), None) {
        Ok(issued) => token_answer(shared, &issued),
        Err(refused) => refused,
    }
}

/// `POST /public/user/refresh`: JSON, with other keys than `/auth/token` in request and answer (a public Singer tap).
pub(super) fn regional_refresh(shared: &Shared, call: &Call) -> Reply {
    if let Err(refused) = checked_kind(call, "application/json") {
        return refused;
    }
    let body = call.json().ok().flatten().unwrap_or_default();
    let token = body.get("token").and_then(Value::as_str).unwrap_or_default();
    match refreshed(shared, token, None) {
        Ok(issued) => {
            let config = &shared.config.cxone;
            let body = json!({
                "token": issued.access, "refreshToken": issued.refresh,
                "tokenExpirationTimeSec": config.access_token_seconds,
                "refreshTokenExpirationTimeSec": config.refresh_token_seconds,
            });
            Reply::json(200, &body).header(CACHE_CONTROL, "no-store")
        }
        Err(refused) => refused,
    }
}

struct Issued {
    access: String,
    id: String,
    refresh: String,
}

fn token_answer(shared: &Shared, issued: &Issued) -> Reply {
    let body = json!({
        "access_token": issued.access, "token_type": "Bearer", "refresh_token": issued.refresh,
        "id_token": issued.id, "expires_in": shared.config.cxone.access_token_seconds,
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
    });
    Reply::json(200, &body).header(CACHE_CONTROL, "no-store")
}

fn by_key(shared: &Shared, key_id: &str, secret: &str, application: Option<String>) -> Result<Issued, Reply> {
    let now = shared.clock.now_ms();
    let user_id = {
        let mut state = shared.cxone.state.lock();
        let digest = sha256(secret.as_bytes());
        let key = state.keys.get(key_id).filter(|key| key.active && key.secret == digest);
        let user_id = key.map(|key| key.user_id.clone()).ok_or_else(|| wrong(shared, "invalid_grant"))?;
        if !state.users.get(&user_id).is_some_and(|user| user.active) {
            return Err(wrong(shared, "invalid_grant"));
        }
        if let Some(key) = state.keys.get_mut(key_id) {
            key.last_used_ms = Some(now);
        }
        user_id
    };
    issue(shared, &user_id, key_id, application)
}

fn refreshed(shared: &Shared, token: &str, application: Option<&str>) -> Result<Issued, Reply> {
    let digest = sha256(token.as_bytes());
    let known = {
        let mut state = shared.cxone.state.lock();
        let known = state.refreshes.get(&digest).cloned().ok_or_else(|| wrong(shared, "invalid_grant"))?;
        let key_lives = state.keys.get(&known.key_id).is_some_and(|key| key.active);
        let user_lives = state.users.get(&known.user_id).is_some_and(|user| user.active);
        let key_matters = shared.config.cxone.behaviours.key_deactivation_kills_tokens;
        let own = application.is_none() || application == known.application.as_deref();
        if shared.clock.now_ms() >= known.expires_ms || !user_lives || !own || (key_matters && !key_lives) {
            return Err(wrong(shared, "invalid_grant"));
        }
        if shared.config.cxone.behaviours.refresh_tokens_rotate {
            state.refreshes.remove(&digest);
        }
        known
    };
    issue(shared, &known.user_id, &known.key_id, known.application)
}

fn issue(shared: &Shared, user_id: &str, key_id: &str, application: Option<String>) -> Result<Issued, Reply> {
    let config = &shared.config.cxone;
    let now = shared.clock.now_ms();
    let session_id = shared.mint.random_uuid();
    let common = claims(shared, user_id, now).ok_or_else(|| wrong(shared, "invalid_grant"))?;
    let audience = application.as_deref().map_or_else(|| "sandbox@keyholder".to_owned(), |id| format!("{id}@sandbox"));
    let with = |issuer: &str, seconds: u64, extra: Value| {
        let mut claims = common.clone();
        let issued_at = now / 1_000;
        let timing = json!({
            "iss": issuer, "aud": audience, "iat": issued_at,
            "exp": issued_at.saturating_add(i64::try_from(seconds).unwrap_or(i64::MAX)),
        });
        for part in [timing, extra] {
            if let (Value::Object(claims), Value::Object(part)) = (&mut claims, part) {
                claims.extend(part);
            }
        }
        claims
    };
    let signer = &shared.cxone.signer;
    let own = issuer(shared);
    let access_claims =
        with(&config.access_token_issuer, config.access_token_seconds, json!({"jti": shared.mint.random_uuid()}));
    let id_claims = with(&own, config.access_token_seconds, json!({}));
    let refresh_claims =
        with(&own, config.refresh_token_seconds, json!({"sessionId": session_id, "jti": shared.mint.random_uuid()}));
    let failed = || oauth_error(500, "server_error", "the token could not be signed");
    let issued = Issued {
        access: signer.without_key_id(&access_claims).ok_or_else(failed)?,
        id: signer.with_key_id(&id_claims).ok_or_else(failed)?,
        refresh: signer.with_key_id(&refresh_claims).ok_or_else(failed)?,
    };
    let until = |seconds: u64| now.saturating_add(i64::try_from(seconds.saturating_mul(1_000)).unwrap_or(i64::MAX));
    let session = Session {
        id: session_id,
        user_id: user_id.to_owned(),
        key_id: key_id.to_owned(),
        application,
        expires_ms: until(config.access_token_seconds),
    };
    let (access, refresh) = (sha256(issued.access.as_bytes()), sha256(issued.refresh.as_bytes()));
    shared.cxone.state.lock().keep_session(access, refresh, session, until(config.refresh_token_seconds), now);
    Ok(issued)
}

/// The claims of the vendor's published example; there is no `scope`.
fn claims(shared: &Shared, user_id: &str, now: i64) -> Option<Value> {
    let state = shared.cxone.state.lock();
    let user = state.users.get(user_id)?;
    let tenant = state.tenants.get(&user.tenant_id)?;
    let role = json!({
        "legacyId": "Administrator", "id": shared.mint.uuid_for("cxone role"), "lastUpdateTime": now, "secondaryRoles": [],
    });
    Some(json!({
        "sub": format!("user:{user_id}"), "tenantId": user.tenant_id, "tenant": tenant.name,
        "icBUId": tenant.business_unit, "icClusterId": tenant.cluster, "icAgentId": user.agent_id.to_string(),
        "role": role, "name": format!("{}@example.com", user.name), "given_name": user.name, "family_name": "Sandbox",
    }))
}

/// `GET /auth/userinfo` (OpenID Connect Core section 5.3).
pub(super) fn userinfo(shared: &Shared, call: &Call) -> Reply {
    let Some(session) = session(shared, call) else {
        return oauth_error(401, "invalid_token", "the access token is not valid");
    };
    claims(shared, &session.user_id, shared.clock.now_ms())
        .map_or_else(|| oauth_error(404, "not_found", "the user is gone"), |claims| Reply::json(200, &claims))
}

/// The legacy `whoami`, still called by the vendor's own SDK.
pub(super) fn whoami(shared: &Shared, call: &Call) -> Reply {
    let Some(session) = session(shared, call) else {
        return oauth_error(401, "invalid_token", "the access token is not valid");
    };
    let state = shared.cxone.state.lock();
    let agent = state.users.get(&session.user_id).map(|user| user.agent_id);
    let body = json!({
        "resourceServerBaseUri": format!("{}/inContactAPI/", shared.origins.cxone), "teamId": 1, "agentId": agent,
        "sessionId": session.id, "dateExpires": clock::iso(session.expires_ms),
    });
    Reply::json(200, &body)
}
