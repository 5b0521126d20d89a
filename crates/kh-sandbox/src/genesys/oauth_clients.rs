//! `/api/v2/oauth/clients` and `/api/v2/oauth/scopes`. Invariant: a secret leaves the sandbox in the answers of
//! `POST /oauth/clients` and `POST /oauth/clients/{id}/secret` only, and each client has exactly one.

use super::access::Caller;
use super::audits::Change;
use super::state::{Client, ClientSecret, State, role_ids};
use super::{audits, client_rules, error, usage};
use crate::clock;
use crate::error_body::ErrorBody;
use crate::exchange::Call;
use crate::mint::sha256;
use crate::reply::Reply;
use crate::shared::Shared;
use serde_json::{Value, json};

/// A deactivated client is deleted after this time (help, article 188025).
const DELETED_AFTER_MS: i64 = 7 * 86_400_000;

pub(super) fn handle(shared: &Shared, call: &Call, template: &str, values: &[&str], caller: &Caller) -> Option<Reply> {
    let id = values.first().copied().unwrap_or_default();
    let reply = match (call.method.as_str(), template) {
        ("GET", "/api/v2/oauth/clients") => Ok(list(shared)),
        ("POST", "/api/v2/oauth/clients") => create(shared, call, caller),
        ("GET", "/api/v2/oauth/clients/{clientId}") => show(shared, call, id),
        ("PUT", "/api/v2/oauth/clients/{clientId}") => replace(shared, call, caller, id),
        ("DELETE", "/api/v2/oauth/clients/{clientId}") => delete(shared, call, caller, id),
        ("POST", "/api/v2/oauth/clients/{clientId}/secret") => regenerate(shared, call, caller, id),
        (_, path) if path.starts_with("/api/v2/oauth/clients/{clientId}/usage/") => {
            usage::handle(shared, call, path, values)
        }
        _ => return None,
    };
    Some(reply.unwrap_or_else(|refused| refused))
}

/// All of them: this list has no paging parameters (published swagger).
fn list(shared: &Shared) -> Reply {
    let state = shared.genesys.state.lock();
    let lag = seconds_ms(shared.config.behaviours.client_listed_after_seconds);
    let known_before = shared.clock.now_ms().saturating_sub(lag);
    let listed = state.clients.values().filter(|client| client.created_ms <= known_before);
    let entities: Vec<Value> = listed.map(Client::shown).collect();
    let total = entities.len();
    let body = json!({
        "entities": entities, "total": total, "pageSize": total, "pageNumber": 1, "pageCount": 1,
        "selfUri": "/api/v2/oauth/clients",
    });
    Reply::json(200, &body)
}

fn show(shared: &Shared, call: &Call, id: &str) -> Result<Reply, Reply> {
    let state = shared.genesys.state.lock();
    Ok(Reply::json(200, &client_rules::existing(shared, &state, call, id)?.shown()))
}

fn with_secret(client: &Client, secret: &str) -> Reply {
    let mut shown = client.shown();
    if let Some(fields) = shown.as_object_mut() {
        fields.insert("secret".to_owned(), json!(secret));
    }
    Reply::json(200, &shown).header(http::header::CACHE_CONTROL, "no-store")
}

fn seconds_ms(seconds: u64) -> i64 {
    i64::try_from(seconds.saturating_mul(1_000)).unwrap_or(i64::MAX)
}

/// A new secret in its kept form.
pub(super) fn new_secret(shared: &Shared, settle_seconds: u64) -> (String, ClientSecret) {
    let text = shared.mint.random_secret();
    let now = shared.clock.now_ms();
    let settle = seconds_ms(settle_seconds);
    let kept = ClientSecret {
        id: shared.mint.next_uuid(),
        digest: sha256(text.as_bytes()),
        created_ms: now,
        usable_from_ms: now.saturating_add(settle),
    };
    (text, kept)
}

fn create(shared: &Shared, call: &Call, caller: &Caller) -> Result<Reply, Reply> {
    let mut state = shared.genesys.state.lock();
    let fields = client_rules::document(shared, &state, call)?;
    if fields.get("state").and_then(Value::as_str) != Some("active") {
        return Err(client_rules::refused(call, "bad.client.state", "New clients can only have an active state"));
    }
    client_rules::superset(call, caller, &role_ids(&fields))?;
    if state.clients.len() >= usize::try_from(shared.config.behaviours.max_clients).unwrap_or(usize::MAX) {
        let message = "The organization has too many OAuth clients.";
        return Err(client_rules::refused(call, "auth.too.many.clients", message));
    }
    let now = shared.clock.now_ms();
    let (secret, kept) = new_secret(shared, shared.config.behaviours.client_settle_seconds);
    let creator = caller.subject_id().unwrap_or_default().to_owned();
    let client = Client {
        id: shared.mint.next_uuid(),
        allowed_ips: super::state::texts(fields.get("allowedIps")),
        fields,
        secrets: vec![kept],
        created_ms: now,
        modified_ms: now,
        created_by: creator.clone(),
        modified_by: creator,
    };
    let reply = with_secret(&client, &secret);
    note(shared, &mut state, call, caller, "Create", &client, Vec::new());
    state.clients.insert(client.id.clone(), client);
    state.forget_permissions();
    Ok(reply)
}

/// Full replace: what the request leaves out is gone, unknown members are kept as sent.
fn replace(shared: &Shared, call: &Call, caller: &Caller, id: &str) -> Result<Reply, Reply> {
    let mut state = shared.genesys.state.lock();
    let mut client = client_rules::existing(shared, &state, call, id)?;
    if client.text("state") == "disabled" {
        return Err(client_rules::refused(call, "bad.client.state", "Client is disabled."));
    }
    client_rules::superset(call, caller, &client.role_ids())?;
    let mut fields = client_rules::document(shared, &state, call)?;
    client_rules::superset(call, caller, &role_ids(&fields))?;
    let now = shared.clock.now_ms();
    let state_before = client.text("state").to_owned();
    if fields.get("state").and_then(Value::as_str) == Some("inactive") {
        fields.entry("dateToDelete").or_insert_with(|| json!(clock::iso(now.saturating_add(DELETED_AFTER_MS))));
    }
    let mut changes = Vec::new();
    for name in ["name", "description", "state", "authorizedGrantType"] {
        let (old, new) = (client.text(name), fields.get(name).and_then(Value::as_str).unwrap_or_default());
        if old != new {
            changes.push(audits::property(name, Some(old), Some(new)));
        }
    }
    client.allowed_ips = super::state::texts(fields.get("allowedIps"));
    client.fields = fields;
    client.modified_ms = now;
    caller.subject_id().unwrap_or_default().clone_into(&mut client.modified_by);
    if client.text("state") == "inactive"
        && state_before == "active"
        && !shared.config.behaviours.tokens_survive_inactive
    {
        state.kill_tokens(id, |_| true);
    }
    note(shared, &mut state, call, caller, "Update", &client, changes);
    let reply = Reply::json(200, &client.shown());
    state.clients.insert(client.id.clone(), client);
    state.forget_permissions();
    Ok(reply)
}

fn delete(shared: &Shared, call: &Call, caller: &Caller, id: &str) -> Result<Reply, Reply> {
    let mut state = shared.genesys.state.lock();
    let client = client_rules::existing(shared, &state, call, id)?;
    if client.text("state") != "inactive" {
        let message = "Clients must be marked as inactive to be eligible for deletion.";
        return Err(client_rules::refused(call, "cannot.delete.client", message));
    }
    state.clients.remove(id);
    state.kill_tokens(id, |_| true);
    state.refresh_tokens.retain(|_, token| token.client_id != id);
    state.forget_permissions();
    note(shared, &mut state, call, caller, "Delete", &client, Vec::new());
    Ok(Reply::empty(204))
}

/// "This operation will set the client secret to a randomly generated cryptographically random value."
fn regenerate(shared: &Shared, call: &Call, caller: &Caller, id: &str) -> Result<Reply, Reply> {
    let behaviours = &shared.config.behaviours;
    let mut state = shared.genesys.state.lock();
    let mut client = client_rules::existing(shared, &state, call, id)?;
    client_rules::superset(call, caller, &client.role_ids())?;
    if client.text("state") == "disabled" {
        return Err(client_rules::refused(call, "bad.client.state", "Client is disabled."));
    }
    let (secret, kept) = new_secret(shared, behaviours.secret_settle_seconds);
    client.secrets = vec![kept];
    client.modified_ms = shared.clock.now_ms();
    caller.subject_id().unwrap_or_default().clone_into(&mut client.modified_by);
    if !behaviours.tokens_survive_regeneration {
        state.kill_tokens(id, |_| true);
    }
    note(shared, &mut state, call, caller, &behaviours.regenerate_audit_action, &client, Vec::new());
    let reply = with_secret(&client, &secret);
    state.clients.insert(client.id.clone(), client);
    Ok(reply)
}

pub(super) fn note(
    shared: &Shared,
    state: &mut State,
    call: &Call,
    caller: &Caller,
    action: &str,
    client: &Client,
    changes: Vec<Value>,
) {
    let name = client.text("name").to_owned();
    let change = Change { action, entity_type: "OAuthClient", entity_id: &client.id, entity_name: &name, changes };
    audits::note(shared, state, call, caller, &change);
}

/// `GET /oauth/scopes` and `/oauth/scopes/{scopeId}`.
pub(super) fn scopes(shared: &Shared, call: &Call, values: &[&str]) -> Reply {
    let known = client_rules::known_scopes(shared);
    let shown = |id: &str| json!({"id": id, "description": id, "selfUri": format!("/api/v2/oauth/scopes/{id}")});
    let Some(&id) = values.first() else {
        let entities: Vec<Value> = known.iter().map(|id| shown(id)).collect();
        let body = json!({"total": entities.len(), "entities": entities, "selfUri": "/api/v2/oauth/scopes"});
        return Reply::json(200, &body);
    };
    if known.contains(id) {
        return Reply::json(200, &shown(id));
    }
    error(&ErrorBody::not_found(&call.correlation))
}
