//! The switchable secrets API: several live secrets per client. Genesys Cloud has no such API (none of its published
//! paths); other platforms do, and overlap rotation can be tried against this one. Invariant: while it is switched off,
//! its paths are as unknown as any other.

use super::access::Caller;
use super::state::ClientSecret;
use super::{audits, client_rules, error, oauth_clients};
use crate::clock;
use crate::error_body::ErrorBody;
use crate::exchange::Call;
use crate::reply::Reply;
use crate::shared::Shared;
use http::header::{ALLOW, CACHE_CONTROL};
use serde_json::{Value, json};

/// A path of this API.
#[derive(Debug)]
pub(super) struct Route<'a> {
    pub(super) template: &'static str,
    client: &'a str,
    secret: Option<&'a str>,
}

/// The route of a path, if the API is switched on.
pub(super) fn route<'a>(shared: &Shared, path: &'a str) -> Option<Route<'a>> {
    if !shared.config.behaviours.secrets_api {
        return None;
    }
    let (client, rest) = path.strip_prefix("/api/v2/oauth/clients/")?.split_once('/')?;
    if rest == "secrets" {
        return Some(Route { template: "/api/v2/oauth/clients/{clientId}/secrets", client, secret: None });
    }
    let secret = rest.strip_prefix("secrets/").filter(|secret| !secret.is_empty() && !secret.contains('/'))?;
    Some(Route { template: "/api/v2/oauth/clients/{clientId}/secrets/{secretId}", client, secret: Some(secret) })
}

pub(super) fn handle(shared: &Shared, call: &Call, caller: &Caller, route: &Route<'_>) -> Reply {
    let needed = if call.method == http::Method::GET { "oauth:client:view" } else { "oauth:client:edit" };
    if !caller.permissions.grants(needed) {
        let message = format!("You must have at least one of the following permissions assigned: [{needed}]");
        return error(&ErrorBody::new(403, "missing.any.permissions", message, &call.correlation));
    }
    let reply = match (call.method.as_str(), route.secret) {
        ("GET", None) => list(shared, call, route.client),
        ("POST", None) => add(shared, call, caller, route.client),
        ("DELETE", Some(secret)) => remove(shared, call, caller, route.client, secret),
        _ => {
            let body = ErrorBody::new(405, "method.not.allowed", "HTTP 405 Method Not Allowed", &call.correlation);
            Ok(error(&body).header(ALLOW, if route.secret.is_some() { "DELETE" } else { "GET, POST" }))
        }
    };
    reply.unwrap_or_else(|refused| refused)
}

fn shown(secret: &ClientSecret) -> Value {
    json!({"id": secret.id, "dateCreated": clock::iso(secret.created_ms)})
}

fn list(shared: &Shared, call: &Call, id: &str) -> Result<Reply, Reply> {
    let state = shared.genesys.state.lock();
    let client = client_rules::existing(shared, &state, call, id)?;
    let entities: Vec<Value> = client.secrets.iter().map(shown).collect();
    Ok(Reply::json(200, &json!({"total": entities.len(), "entities": entities})))
}

fn add(shared: &Shared, call: &Call, caller: &Caller, id: &str) -> Result<Reply, Reply> {
    let behaviours = &shared.config.behaviours;
    let mut state = shared.genesys.state.lock();
    let mut client = client_rules::existing(shared, &state, call, id)?;
    client_rules::superset(call, caller, &client.role_ids())?;
    if client.secrets.len() >= usize::try_from(behaviours.max_secrets_per_client).unwrap_or(usize::MAX) {
        return Err(client_rules::refused(call, "too.many.secrets", "The client has too many secrets."));
    }
    let (text, kept) = oauth_clients::new_secret(shared, behaviours.secret_settle_seconds);
    let mut body = shown(&kept);
    if let Some(fields) = body.as_object_mut() {
        fields.insert("secret".to_owned(), json!(text));
    }
    let changes = vec![audits::property("secrets", None, Some(&kept.id))];
    client.secrets.push(kept);
    oauth_clients::note(shared, &mut state, call, caller, "Update", &client, changes);
    state.clients.insert(client.id.clone(), client);
    Ok(Reply::json(200, &body).header(CACHE_CONTROL, "no-store"))
}

fn remove(shared: &Shared, call: &Call, caller: &Caller, id: &str, secret: &str) -> Result<Reply, Reply> {
    let mut state = shared.genesys.state.lock();
    let mut client = client_rules::existing(shared, &state, call, id)?;
    client_rules::superset(call, caller, &client.role_ids())?;
    if !client.secrets.iter().any(|known| known.id == secret) {
        return Err(error(&ErrorBody::not_found(&call.correlation)));
    }
    if client.secrets.len() == 1 {
        return Err(client_rules::refused(call, "last.secret", "The last secret of a client cannot be deleted."));
    }
    client.secrets.retain(|known| known.id != secret);
    if !shared.config.behaviours.tokens_survive_regeneration {
        state.kill_tokens(id, |made_with| made_with == secret);
    }
    let changes = vec![audits::property("secrets", Some(secret), None)];
    oauth_clients::note(shared, &mut state, call, caller, "Update", &client, changes);
    state.clients.insert(client.id.clone(), client);
    Ok(Reply::empty(204))
}
