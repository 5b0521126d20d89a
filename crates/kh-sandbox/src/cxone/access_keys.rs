//! `/access-key-management/v1/access-keys`: several live keys per user, the vendor's road to rotation without a gap.
//! Invariant: a key's secret is in the answer of its creation and nowhere else.

use super::state::{AccessKey, State};
use super::{oauth_error, session};
use crate::clock;
use crate::exchange::Call;
use crate::mint::sha256;
use crate::reply::Reply;
use crate::shared::Shared;
use http::header::CACHE_CONTROL;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

const BASE: &str = "/access-key-management/v1/access-keys";

pub(super) fn handle(shared: &Shared, call: &Call) -> Reply {
    let Some(session) = session(shared, call) else {
        return oauth_error(401, "invalid_token", "the access token is not valid");
    };
    let rest = call.raw_path.strip_prefix(BASE).unwrap_or_default();
    let id = rest.strip_prefix('/').filter(|id| !id.is_empty());
    let id = id.and_then(|id| percent_decode_str(id).decode_utf8().ok()).map(std::borrow::Cow::into_owned);
    let mut state = shared.cxone.state.lock();
    let tenant = state.users.get(&session.user_id).map(|user| user.tenant_id.clone()).unwrap_or_default();
    match (call.method.as_str(), id) {
        ("GET", None) => list(shared, &state, call, &tenant),
        ("POST", None) => create(shared, &mut state, call, &tenant, &session.user_id),
        ("PATCH", None) => switch(shared, &mut state, call, &tenant),
        ("GET", Some(id)) => match own(&state, &tenant, &id) {
            Some(key) => Reply::json(200, &json!({"resultSet": shown(&state, &id, key)})),
            None => unknown(),
        },
        ("DELETE", Some(id)) => delete(shared, &mut state, &tenant, &id),
        _ => oauth_error(405, "method_not_allowed", "the method is not supported here"),
    }
}

fn unknown() -> Reply {
    oauth_error(404, "not_found", "the access key is unknown")
}

/// The key, if it belongs to the caller's tenant.
fn own<'a>(state: &'a State, tenant: &str, id: &str) -> Option<&'a AccessKey> {
    state.keys.get(id).filter(|key| state.users.get(&key.user_id).is_some_and(|user| user.tenant_id == tenant))
}

fn shown(state: &State, id: &str, key: &AccessKey) -> Value {
    let user = state.users.get(&key.user_id);
    let mut shown = json!({
        "accessKeyId": id, "userId": key.user_id, "tenantId": user.map(|user| user.tenant_id.as_str()),
        "agentId": user.map(|user| user.agent_id), "isActive": key.active,
    });
    if let (Some(fields), Some(at)) = (shown.as_object_mut(), key.last_used_ms) {
        fields.insert("lastUsedDate".to_owned(), json!(clock::iso(at)));
    }
    shown
}

fn list(shared: &Shared, state: &State, call: &Call, tenant: &str) -> Reply {
    let user = call.query_value("userId");
    let agent = call.query_value("agentId").and_then(|agent| agent.parse::<u64>().ok());
    let found: Vec<Value> = state
        .keys
        .iter()
        .filter(|(id, key)| {
            own(state, tenant, id).is_some()
                && user.as_ref().is_none_or(|user| *user == key.user_id)
                && agent.is_none_or(|agent| state.users.get(&key.user_id).is_some_and(|user| user.agent_id == agent))
        })
        .map(|(id, key)| shown(state, id, key))
        .collect();
    let total = found.len();
    let skip = call.query_value("skip").and_then(|skip| skip.parse::<usize>().ok()).unwrap_or(0);
    let size = shared.config.cxone.behaviours.access_keys_per_page;
    let size = size.map_or(usize::MAX, |size| usize::try_from(size).unwrap_or(usize::MAX).max(1));
    let page: Vec<Value> = found.into_iter().skip(skip).take(size).collect();
    let mut links = json!({"self": BASE});
    let behind = skip.saturating_add(page.len());
    if behind < total
        && let Some(links) = links.as_object_mut()
    {
        let user = user.map(|user| format!("userId={user}&")).unwrap_or_default();
        links.insert("next".to_owned(), json!(format!("{BASE}?{user}skip={behind}")));
    }
    Reply::json(200, &json!({"totalRecords": total, "accessKeys": page, "_links": links}))
}

fn create(shared: &Shared, state: &mut State, call: &Call, tenant: &str, caller: &str) -> Reply {
    let body = call.json().ok().flatten().unwrap_or_default();
    let user_id = body.get("userId").and_then(Value::as_str).unwrap_or(caller).to_owned();
    let usable = state.users.get(&user_id).is_some_and(|user| user.active && user.tenant_id == tenant);
    if !usable {
        return oauth_error(404, "not_found", "the user is unknown or inactive");
    }
    let held = state.keys.values().filter(|key| key.user_id == user_id).count();
    if held >= usize::try_from(shared.config.cxone.behaviours.max_access_keys_per_user).unwrap_or(usize::MAX) {
        return oauth_error(400, "too_many_access_keys", "the user has too many access keys");
    }
    let (id, secret) = (shared.mint.random_key_text(), shared.mint.random_key_text());
    let key = AccessKey { user_id, secret: sha256(secret.as_bytes()), active: true, last_used_ms: None };
    let mut result = shown(state, &id, &key);
    if let Some(fields) = result.as_object_mut() {
        fields.insert("accessKeySecret".to_owned(), json!(secret));
    }
    state.keys.insert(id, key);
    Reply::json(200, &json!({"resultSet": result})).header(CACHE_CONTROL, "no-store")
}

/// Activates or deactivates: reversible, unlike a deletion.
fn switch(shared: &Shared, state: &mut State, call: &Call, tenant: &str) -> Reply {
    let id = call.query_value("accessKeyId").unwrap_or_default();
    let body = call.json().ok().flatten().unwrap_or_default();
    let Some(active) = body.get("isActive").and_then(Value::as_bool) else {
        return oauth_error(400, "invalid_request", "isActive is missing");
    };
    if own(state, tenant, &id).is_none() {
        return unknown();
    }
    if let Some(key) = state.keys.get_mut(&id) {
        key.active = active;
    }
    if !active {
        kill(shared, state, &id);
    }
    Reply::json(200, &json!({}))
}

fn delete(shared: &Shared, state: &mut State, tenant: &str, id: &str) -> Reply {
    if own(state, tenant, id).is_none() {
        return unknown();
    }
    state.keys.remove(id);
    kill(shared, state, id);
    Reply::json(200, &json!({}))
}

/// Whether the tokens of a dead key die with it is not documented: a switch.
fn kill(shared: &Shared, state: &mut State, key: &str) {
    if shared.config.cxone.behaviours.key_deactivation_kills_tokens {
        state.sessions.retain(|_, session| session.key_id != key);
        state.refreshes.retain(|_, session| session.key_id != key);
    }
}
