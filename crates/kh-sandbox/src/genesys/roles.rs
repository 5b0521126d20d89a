//! Roles and grants, as far as OAuth clients need them. Invariant: a grant takes effect with the next request of its
//! subject; a role in use by a client cannot be deleted.

use super::access::Caller;
use super::audits::Change;
use super::state::{Role, State, texts};
use super::{audits, error};
use crate::error_body::ErrorBody;
use crate::exchange::Call;
use crate::reply::Reply;
use crate::shared::Shared;
use serde_json::{Map, Value, json};

/// Roles of an organisation; the platform has a limit too, its value is not published.
const ROLES_MAX: usize = 5_000;
/// Rows per page when the request does not say (published default), and at most.
const PAGE_DEFAULT: usize = 25;
const PAGE_MAX: usize = 500;

pub(super) fn handle(shared: &Shared, call: &Call, template: &str, values: &[&str], caller: &Caller) -> Option<Reply> {
    let value = |index: usize| values.get(index).copied().unwrap_or_default();
    let reply = match (call.method.as_str(), template) {
        ("GET", "/api/v2/authorization/roles") => Ok(list(shared, call)),
        ("POST", "/api/v2/authorization/roles") => save(shared, call, caller, None),
        ("GET", "/api/v2/authorization/roles/{roleId}") => show(shared, call, value(0)),
        ("PUT" | "PATCH", "/api/v2/authorization/roles/{roleId}") => save(shared, call, caller, Some(value(0))),
        ("DELETE", "/api/v2/authorization/roles/{roleId}") => delete(shared, call, caller, value(0)),
        ("POST", "/api/v2/authorization/subjects/{subjectId}/divisions/{divisionId}/roles/{roleId}") => {
            grant(shared, call, caller, value(0), value(1), value(2))
        }
        ("DELETE", "/api/v2/authorization/subjects/{subjectId}/divisions/{divisionId}/roles/{roleId}") => {
            revoke(shared, call, caller, value(0), value(1), value(2))
        }
        _ => return None,
    };
    Some(reply.unwrap_or_else(|refused| refused))
}

fn shown(id: &str, role: &Role) -> Value {
    let mut fields = role.fields.clone();
    fields.insert("id".to_owned(), json!(id));
    fields.insert("selfUri".to_owned(), json!(format!("/api/v2/authorization/roles/{id}")));
    Value::Object(fields)
}

fn list(shared: &Shared, call: &Call) -> Reply {
    let state = shared.genesys.state.lock();
    let name = call.query_value("name").map(|name| name.to_lowercase());
    let wanted = |role: &Role| {
        let own = role.fields.get("name").and_then(Value::as_str).unwrap_or_default().to_lowercase();
        name.as_ref().is_none_or(|name| own.contains(name.trim_matches('*')))
    };
    let found: Vec<Value> =
        state.roles.iter().filter(|(_, role)| wanted(role)).map(|(id, role)| shown(id, role)).collect();
    let number =
        |name: &str, fallback: usize| call.query_value(name).and_then(|text| text.parse().ok()).unwrap_or(fallback);
    let size = number("pageSize", PAGE_DEFAULT).clamp(1, PAGE_MAX);
    let page = number("pageNumber", 1).max(1);
    let entities: Vec<&Value> = found.iter().skip((page - 1).saturating_mul(size)).take(size).collect();
    let body = json!({
        "entities": entities, "total": found.len(), "pageSize": size, "pageNumber": page,
        "pageCount": found.len().div_ceil(size),
        "selfUri": format!("/api/v2/authorization/roles?pageSize={size}&pageNumber={page}"),
    });
    Reply::json(200, &body)
}

fn missing(call: &Call) -> Reply {
    error(&ErrorBody::not_found(&call.correlation))
}

fn show(shared: &Shared, call: &Call, id: &str) -> Result<Reply, Reply> {
    let state = shared.genesys.state.lock();
    let role = state.roles.get(id).ok_or_else(|| missing(call))?;
    Ok(Reply::json(200, &shown(id, role)))
}

/// Permissions of a role: the plain list and the policies `{domain, entityName, actionSet}`.
fn grants(fields: &Map<String, Value>) -> Vec<String> {
    let mut grants = texts(fields.get("permissions"));
    let policies = fields.get("permissionPolicies").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for policy in policies {
        let part = |name: &str| policy.get(name).and_then(Value::as_str).unwrap_or_default();
        for action in texts(policy.get("actionSet")) {
            grants.push(format!("{}:{}:{action}", part("domain"), part("entityName")));
        }
    }
    grants
}

fn save(shared: &Shared, call: &Call, caller: &Caller, id: Option<&str>) -> Result<Reply, Reply> {
    let body = call.json().ok().flatten();
    let Some(Value::Object(mut fields)) = body else {
        return Err(error(&ErrorBody::bad_request("A JSON object is required.", &call.correlation)));
    };
    let mut state = shared.genesys.state.lock();
    if let Some(id) = id {
        let old = state.roles.get(id).ok_or_else(|| missing(call))?;
        if call.method == http::Method::PATCH {
            let mut merged = old.fields.clone();
            merged.extend(fields);
            fields = merged;
        }
    } else if state.roles.len() >= ROLES_MAX {
        return Err(error(&ErrorBody::bad_request("The organization has too many roles.", &call.correlation)));
    }
    let Some(name) = fields.get("name").and_then(Value::as_str).map(str::to_owned).filter(|name| !name.is_empty())
    else {
        return Err(error(
            &ErrorBody::bad_request("The role needs a name.", &call.correlation).detail("missing.value", "name"),
        ));
    };
    for read_only in ["id", "selfUri"] {
        fields.remove(read_only);
    }
    let action = if id.is_some() { "Update" } else { "Create" };
    let id = id.map_or_else(|| shared.mint.next_uuid(), str::to_owned);
    let role = Role { grants: grants(&fields), fields };
    let reply = Reply::json(200, &shown(&id, &role));
    state.roles.insert(id.clone(), role);
    state.forget_permissions();
    note(shared, &mut state, call, caller, action, &id, &name);
    Ok(reply)
}

fn note(shared: &Shared, state: &mut State, call: &Call, caller: &Caller, action: &str, id: &str, name: &str) {
    let change = Change { action, entity_type: "Role", entity_id: id, entity_name: name, changes: Vec::new() };
    audits::note(shared, state, call, caller, &change);
}

fn delete(shared: &Shared, call: &Call, caller: &Caller, id: &str) -> Result<Reply, Reply> {
    let mut state = shared.genesys.state.lock();
    if state.clients.values().any(|client| client.role_ids().contains(id)) {
        let body =
            ErrorBody::new(409, "request.conflict", "The role is assigned to an OAuth client.", &call.correlation);
        return Err(error(&body));
    }
    let role = state.roles.remove(id).ok_or_else(|| missing(call))?;
    let name = role.fields.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    for user in state.users.values_mut() {
        user.roles.remove(id);
    }
    state.forget_permissions();
    note(shared, &mut state, call, caller, "Delete", id, &name);
    Ok(Reply::empty(204))
}

fn grant(
    shared: &Shared,
    call: &Call,
    caller: &Caller,
    subject: &str,
    division: &str,
    role: &str,
) -> Result<Reply, Reply> {
    let mut state = shared.genesys.state.lock();
    if !state.roles.contains_key(role) {
        return Err(missing(call));
    }
    if let Some(user) = state.users.get_mut(subject) {
        user.roles.insert(role.to_owned());
    } else {
        let client = state.clients.get_mut(subject).ok_or_else(|| missing(call))?;
        let pair = json!({"roleId": role, "divisionId": division});
        let pairs = client.fields.entry("roleDivisions").or_insert_with(|| json!([]));
        if let Some(pairs) = pairs.as_array_mut()
            && !pairs.contains(&pair)
        {
            pairs.push(pair);
        }
        let ids = client.role_ids();
        client.fields.insert("roleIds".to_owned(), json!(ids));
    }
    state.forget_permissions();
    note(shared, &mut state, call, caller, "Authorize", role, subject);
    Ok(Reply::empty(204))
}

fn revoke(
    shared: &Shared,
    call: &Call,
    caller: &Caller,
    subject: &str,
    division: &str,
    role: &str,
) -> Result<Reply, Reply> {
    let mut state = shared.genesys.state.lock();
    if let Some(user) = state.users.get_mut(subject) {
        user.roles.remove(role);
    } else {
        let client = state.clients.get_mut(subject).ok_or_else(|| missing(call))?;
        let gone = json!({"roleId": role, "divisionId": division});
        if let Some(pairs) = client.fields.get_mut("roleDivisions").and_then(Value::as_array_mut) {
            pairs.retain(|pair| *pair != gone);
        }
        client.fields.remove("roleIds");
        let ids = client.role_ids();
        client.fields.insert("roleIds".to_owned(), json!(ids));
    }
    state.forget_permissions();
    note(shared, &mut state, call, caller, "Deauthorize", role, subject);
    Ok(Reply::empty(204))
}
