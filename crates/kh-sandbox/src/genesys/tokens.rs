//! `/api/v2/tokens/*`. Invariant: `tokens/me` shows no expiry (the platform's TokenInfo has none), and deleting a
//! user's tokens never touches those of client credentials.

use super::access::Caller;
use super::audits::Change;
use super::{audits, error};
use crate::clock;
use crate::error_body::ErrorBody;
use crate::exchange::Call;
use crate::reply::Reply;
use crate::shared::Shared;
use http::Method;
use serde_json::{Value, json};

/// Range of the idle timeout in seconds (help, "inactivity timeout").
const IDLE_SECONDS: std::ops::RangeInclusive<u64> = 300..=28_800;

pub(super) fn handle(shared: &Shared, call: &Call, template: &str, values: &[&str], caller: &Caller) -> Option<Reply> {
    match (call.method.as_str(), template) {
        ("GET", "/api/v2/tokens/me") => Some(show(shared, caller)),
        ("HEAD", "/api/v2/tokens/me") => Some(Reply::empty(200)),
        ("DELETE", "/api/v2/tokens/me") => Some(revoke_own(shared, call, caller)),
        ("DELETE", "/api/v2/tokens/{userId}") => values.first().map(|user| revoke_of_user(shared, call, caller, user)),
        (_, "/api/v2/tokens/timeout") => Some(timeout(shared, call, caller)),
        _ => None,
    }
}

fn show(shared: &Shared, caller: &Caller) -> Reply {
    let genesys = &shared.genesys;
    let state = genesys.state.lock();
    let organization = json!({"id": genesys.organization_id, "name": genesys.organization_name});
    let mut shown = json!({"organization": organization, "homeOrganization": organization, "authorizedScope": []});
    let Some(fields) = shown.as_object_mut() else { return Reply::empty(200) };
    if let Some(token) = state.tokens.get(&caller.digest) {
        fields.insert("authorizedScope".to_owned(), json!(token.scope));
        if let Some(idle) = state.idle_timeout_seconds {
            let idles = token.last_used_ms.saturating_add(i64::try_from(idle * 1_000).unwrap_or(i64::MAX));
            fields.insert("dateTokenIdles".to_owned(), json!(clock::iso(idles)));
        }
    }
    if let Some(client) = caller.client_id.as_ref().and_then(|id| state.clients.get(id)) {
        let full = client.shown();
        let mut short = json!({"organization": organization});
        if let (Some(short), Some(full)) = (short.as_object_mut(), full.as_object()) {
            // The members of OrgOAuthClient in the published swagger.
            for name in [
                "id",
                "name",
                "dateCreated",
                "dateModified",
                "createdBy",
                "modifiedBy",
                "authorizedGrantType",
                "scope",
                "roleDivisions",
                "state",
                "dateToDelete",
            ] {
                full.get(name).and_then(|value| short.insert(name.to_owned(), value.clone()));
            }
        }
        fields.insert("OAuthClient".to_owned(), short);
    }
    Reply::json(200, &shown)
}

fn revoke_own(shared: &Shared, call: &Call, caller: &Caller) -> Reply {
    let mut state = shared.genesys.state.lock();
    state.tokens.remove(&caller.digest);
    // The audit names the token by nothing: it has no public id.
    let change =
        Change { action: "Revoke", entity_type: "AccessToken", entity_id: "", entity_name: "", changes: Vec::new() };
    audits::note(shared, &mut state, call, caller, &change);
    Reply::empty(200)
}

fn revoke_of_user(shared: &Shared, call: &Call, caller: &Caller, user: &str) -> Reply {
    let mut state = shared.genesys.state.lock();
    let Some(name) = state.users.get(user).map(|user| user.name.clone()) else {
        return error(&ErrorBody::not_found(&call.correlation));
    };
    state.tokens.retain(|_, token| token.user_id.as_deref() != Some(user));
    state.refresh_tokens.retain(|_, token| token.user_id != user);
    let change = Change {
        action: "Delete",
        entity_type: "AccessToken",
        entity_id: user,
        entity_name: &name,
        changes: Vec::new(),
    };
    audits::note(shared, &mut state, call, caller, &change);
    Reply::empty(204)
}

fn timeout(shared: &Shared, call: &Call, caller: &Caller) -> Reply {
    let mut state = shared.genesys.state.lock();
    if call.method == Method::PUT {
        let wanted = match wanted_timeout(call) {
            Ok(wanted) => wanted,
            Err(refused) => return refused,
        };
        let before = state.idle_timeout_seconds;
        state.idle_timeout_seconds = wanted;
        let text = |value: Option<u64>| value.map_or_else(|| "off".to_owned(), |seconds| seconds.to_string());
        let changes = vec![audits::property("idleTokenTimeoutSeconds", Some(&text(before)), Some(&text(wanted)))];
        let id = &shared.genesys.organization_id;
        let name = &shared.genesys.organization_name;
        let change =
            Change { action: "Update", entity_type: "Organization", entity_id: id, entity_name: name, changes };
        audits::note(shared, &mut state, call, caller, &change);
    }
    let idle = state.idle_timeout_seconds;
    Reply::json(
        200,
        &json!({"idleTokenTimeoutSeconds": idle.unwrap_or(*IDLE_SECONDS.end()), "enableIdleTokenTimeout": idle.is_some()}),
    )
}

fn wanted_timeout(call: &Call) -> Result<Option<u64>, Reply> {
    let bad = |reason: &str, field: &str| {
        error(&ErrorBody::bad_request(reason, &call.correlation).detail("invalid.value", field))
    };
    let body = call.json().ok().flatten().ok_or_else(|| bad("a JSON body is required", "body"))?;
    if body.get("enableIdleTokenTimeout").and_then(Value::as_bool) == Some(false) {
        return Ok(None);
    }
    let seconds = body.get("idleTokenTimeoutSeconds").and_then(Value::as_u64);
    match seconds.filter(|seconds| IDLE_SECONDS.contains(seconds)) {
        Some(seconds) => Ok(Some(seconds)),
        None => Err(bad("idleTokenTimeoutSeconds lies between 300 and 28800", "idleTokenTimeoutSeconds")),
    }
}
