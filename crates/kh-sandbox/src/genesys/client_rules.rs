//! The rules of an OAuth client document. Invariant: what passes has a name, a known grant type, a life within bounds,
//! roles for client credentials and scopes for everything else; unknown members pass untouched.

use super::access::Caller;
use super::state::{Client, State, role_ids, texts};
use super::{addresses, error};
use crate::error_body::ErrorBody;
use crate::exchange::Call;
use crate::reply::Reply;
use crate::shared::Shared;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// The grant types of the published swagger.
const GRANT_TYPES: [&str; 5] = ["CODE", "TOKEN", "SAML2-BEARER", "PASSWORD", "CLIENT-CREDENTIALS"];
/// The states of the published swagger.
const STATES: [&str; 3] = ["active", "disabled", "inactive"];
/// Members that only the platform sets; a request that repeats them (read, change, write back) is not wrong.
const READ_ONLY: [&str; 7] = ["id", "secret", "dateCreated", "dateModified", "createdBy", "modifiedBy", "selfUri"];

/// 400 with one of the published codes.
pub(super) fn refused(call: &Call, code: &str, message: &str) -> Reply {
    error(&ErrorBody::new(400, code, message, &call.correlation))
}

/// The checked document of a create or update request, defaults filled in.
pub(super) fn document(shared: &Shared, state: &State, call: &Call) -> Result<Map<String, Value>, Reply> {
    let body = call.json().map_err(|_| refused(call, "bad.request", "The request body is not JSON."))?;
    let Some(Value::Object(mut fields)) = body else {
        return Err(refused(call, "bad.request", "A JSON object is required."));
    };
    for name in READ_ONLY {
        fields.remove(name);
    }
    // A null member means "not set" (SDKs serialise absent members so).
    fields.retain(|_, value| !value.is_null());
    if fields.get("name").and_then(Value::as_str).is_none_or(|name| name.trim().is_empty()) {
        let body =
            ErrorBody::bad_request("The client needs a name.", &call.correlation).detail("missing.value", "name");
        return Err(error(&body));
    }
    grant_rules(shared, state, call, &fields)?;
    let (least, most) = shared.config.behaviours.token_life_bounds;
    let seconds = fields
        .entry("accessTokenValiditySeconds")
        .or_insert_with(|| json!(crate::config::DEFAULT_TOKEN_SECONDS.clamp(least, most)));
    if seconds.as_u64().is_none_or(|seconds| !(least..=most).contains(&seconds)) {
        let reason = format!("accessTokenValiditySeconds lies between {least} and {most}.");
        let body =
            ErrorBody::bad_request(reason, &call.correlation).detail("invalid.value", "accessTokenValiditySeconds");
        return Err(error(&body));
    }
    let wanted = fields.entry("state").or_insert_with(|| json!("active"));
    if !wanted.as_str().is_some_and(|state| STATES.contains(&state)) {
        return Err(refused(call, "bad.client.state", "The client state is not valid."));
    }
    if texts(fields.get("allowedIps")).iter().any(|range| !addresses::is_range(range)) {
        return Err(refused(call, "bad.request", "allowedIps holds what is no address and no CIDR range."));
    }
    fields.insert("roleIds".to_owned(), json!(role_ids(&fields)));
    Ok(fields)
}

fn grant_rules(shared: &Shared, state: &State, call: &Call, fields: &Map<String, Value>) -> Result<(), Reply> {
    let Some(grant) = fields.get("authorizedGrantType").and_then(Value::as_str) else {
        return Err(refused(call, "grant.type.required", "The authorized grant type is required."));
    };
    // New implicit-grant clients were closed in 2026; the enum still lists the value, so the sandbox takes it.
    if !GRANT_TYPES.contains(&grant) {
        return Err(refused(call, "bad.grant.type", "The authorized grant type is not valid."));
    }
    if grant == "CLIENT-CREDENTIALS" {
        // "Roles and divisions only apply to clients using the client_credential grant" (published swagger).
        let roles = role_ids(fields);
        if roles.is_empty() {
            return Err(refused(call, "missing.client.roles", "Client credentials clients need at least one role."));
        }
        if roles.iter().any(|role| !state.roles.contains_key(role)) {
            return Err(refused(call, "bad.client.role", "A role of the client does not exist."));
        }
        return Ok(());
    }
    let scopes = texts(fields.get("scope"));
    if scopes.is_empty() {
        return Err(refused(call, "missing.client.scope", "The client needs at least one scope."));
    }
    let known = known_scopes(shared);
    match scopes.iter().find(|scope| !known.contains(scope.as_str())) {
        Some(unknown) => Err(refused(call, "auth.invalid.scope", &format!("The scope {unknown} is not valid."))),
        None => Ok(()),
    }
}

/// Every scope that a published operation asks for, and `all`.
pub(super) fn known_scopes(shared: &Shared) -> BTreeSet<&str> {
    let operations = shared.genesys.operations.all();
    let mut scopes: BTreeSet<&str> =
        operations.iter().flat_map(|operation| operation.scopes().iter()).map(AsRef::as_ref).collect();
    scopes.insert("all");
    scopes
}

/// The role-superset rule: whoever creates, edits or regenerates a client must hold every role of it.
pub(super) fn superset(call: &Call, caller: &Caller, roles: &BTreeSet<String>) -> Result<(), Reply> {
    if roles.is_subset(&caller.roles) {
        return Ok(());
    }
    Err(refused(call, "bad.client.role", "The caller does not have all the roles assigned to this client."))
}

/// The client of a path, unless it does not exist or is so new that the platform's caches do not know it.
pub(super) fn existing(shared: &Shared, state: &State, call: &Call, id: &str) -> Result<Client, Reply> {
    let delay = shared.config.behaviours.client_visible_after_seconds.saturating_mul(1_000);
    let now = shared.clock.now_ms();
    let visible = |client: &&Client| now.saturating_sub(client.created_ms) >= i64::try_from(delay).unwrap_or(i64::MAX);
    state.clients.get(id).filter(visible).cloned().ok_or_else(|| {
        let body = ErrorBody::new(404, "client.not.found", "The client was not found.", &call.correlation);
        error(&body)
    })
}
