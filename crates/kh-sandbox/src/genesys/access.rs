//! Who calls, and may they now: token, address, idle time, rate limit. Invariant: a dead token is never told apart from
//! an unknown one; a request beyond the limit still resets the idle timer, because the token itself was good.

use super::limits::{Standing, Window};
use super::state::{State, limit_key};
use super::{addresses, error, limits};
use crate::config::LimitsConfig;
use crate::error_body::ErrorBody;
use crate::exchange::Call;
use crate::mint::{Digest32, sha256};
use crate::operations::PermissionSet;
use crate::reply::Reply;
use crate::shared::Shared;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The authenticated caller of one request.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) client_id: Option<String>,
    pub(super) user_id: Option<String>,
    pub(super) digest: Digest32,
    pub(super) permissions: Arc<PermissionSet>,
    pub(super) roles: BTreeSet<String>,
    pub(super) standing: Standing,
}

impl Caller {
    /// The user of a code grant, else the client.
    pub(super) fn subject_id(&self) -> Option<&str> {
        self.user_id.as_deref().or(self.client_id.as_deref())
    }

    fn anonymous(limits: &LimitsConfig) -> Self {
        Self {
            client_id: None,
            user_id: None,
            digest: [0; 32],
            permissions: Arc::default(),
            roles: BTreeSet::new(),
            standing: Standing::unlimited(limits),
        }
    }
}

/// Lets a request in or gives the answer that refuses it.
pub(super) fn admit(
    shared: &Shared,
    call: &Call,
    template: &str,
    needs_token: bool,
    scopes: &[Box<str>],
) -> Result<Caller, Reply> {
    let limits = shared.limits();
    let Some(token) = call.bearer() else {
        if !needs_token {
            return Ok(Caller::anonymous(&limits));
        }
        let message = "No authentication bearer token specified in authorization header.";
        return Err(unauthorized(call, "authentication.required", message));
    };
    let digest = sha256(token.as_bytes());
    let now = shared.clock.now_ms();
    let mut state = shared.genesys.state.lock();
    let (client_id, user_id) = live(shared, &state, &digest, now)
        .ok_or_else(|| unauthorized(call, "bad.credentials", "Invalid login credentials."))?;
    if shared.config.behaviours.enforce_allowed_ips
        && !state.clients.get(&client_id).is_some_and(|client| addresses::allowed(&client.allowed_ips, call.remote))
    {
        // A new token would not help: the platform lists this code on every operation.
        return Err(unauthorized(call, "ip.not.authorized", "The request IP address is not authorized."));
    }
    if !preserves_idle_time(call, template)
        && let Some(token) = state.tokens.get_mut(&digest)
    {
        token.last_used_ms = now;
    }
    let standing =
        count(&mut state, &digest, &client_id, user_id.as_deref(), call.method.as_str(), template, now, &limits);
    if standing.exceeded() {
        return Err(standing.refusal(shared.config.behaviours.rate_limit_code, &call.correlation));
    }
    if shared.config.behaviours.enforce_scopes
        && user_id.is_some()
        && !scopes.is_empty()
        && !state.tokens.get(&digest).is_some_and(|token| in_scope(&token.scope, scopes))
    {
        let message = "The client does not have a scope that this operation requires.";
        let refused = error(&ErrorBody::new(403, "app.not.authorized.for.scope", message, &call.correlation));
        return Err(limits::with_headers(refused, &standing));
    }
    let permissions = state.permissions(&client_id, user_id.as_deref());
    let roles = state.subject_roles(&client_id, user_id.as_deref());
    Ok(Caller { client_id: Some(client_id), user_id, digest, permissions, roles, standing })
}

fn in_scope(held: &[String], wanted: &[Box<str>]) -> bool {
    held.iter().any(|held| held == "all" || wanted.iter().any(|wanted| **wanted == **held))
}

/// Client and user of a token that is known, unexpired, not idle for too long, and whose client may still use it.
fn live(shared: &Shared, state: &State, digest: &Digest32, now: i64) -> Option<(String, Option<String>)> {
    let token = state.tokens.get(digest)?;
    let client = state.clients.get(&token.client_id)?;
    if now >= token.expires_ms {
        return None;
    }
    if let Some(idle) = state.idle_timeout_seconds
        && now.saturating_sub(token.last_used_ms) >= i64::try_from(idle.saturating_mul(1_000)).unwrap_or(i64::MAX)
    {
        return None;
    }
    match client.text("state") {
        // "Access tokens created by the client are invalid and new ones cannot be created" (published swagger).
        "disabled" => return None,
        // "Access tokens cannot be created with this OAuth client": whether old ones live on is not stated.
        "inactive" if !shared.config.behaviours.tokens_survive_inactive => return None,
        _ => {}
    }
    Some((token.client_id.clone(), token.user_id.clone()))
}

/// "Without preserveIdleTTL=true the check itself resets the idle timer" (published swagger, GET tokens/me).
fn preserves_idle_time(call: &Call, template: &str) -> bool {
    template == "/api/v2/tokens/me"
        && call.query_value("preserveIdleTTL").is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// Counts the request against the token, its client and the endpoint, and gives the tightest of the three.
#[expect(clippy::too_many_arguments, reason = "the three windows have three keys; a struct would only rename them")]
fn count(
    state: &mut State,
    digest: &Digest32,
    client_id: &str,
    user_id: Option<&str>,
    method: &str,
    template: &str,
    now: i64,
    limits: &LimitsConfig,
) -> Standing {
    let subject = format!("{}/{client_id}", user_id.unwrap_or_default());
    let shared_window = state.client_windows.entry(subject).or_default();
    shared_window.hit(now, limits::MINUTE_SECONDS);
    let by_client = Standing::of(
        shared_window,
        now,
        limits.requests_per_client_minute,
        limits::MINUTE_SECONDS,
        "org.app.user.rate.per.minute",
    );
    let Some(token) = state.tokens.get_mut(digest) else { return by_client };
    let key = limit_key(user_id);
    token.window.hit(now, limits.window_seconds);
    let by_token = Standing::of(&token.window, now, limits.requests_per_token, limits.window_seconds, key);
    let mut tightest = by_token.tighter(by_client);
    for (index, rule) in limits.endpoints.iter().enumerate() {
        if rule.path != template || rule.method.as_deref().is_some_and(|wanted| !wanted.eq_ignore_ascii_case(method)) {
            continue;
        }
        let window: &mut Window = token.endpoints.entry(index).or_default();
        window.hit(now, rule.window_seconds);
        tightest = tightest.tighter(Standing::of(window, now, rule.requests, rule.window_seconds, key));
    }
    tightest
}

fn unauthorized(call: &Call, code: &str, message: &str) -> Reply {
    error(&ErrorBody::new(401, code, message, &call.correlation))
}
