//! A small ACD API under `/inContactAPI/services/v{N}.0/`: collections with skip/top paging. Invariant: errors have an
//! empty body and their text in the header `icStatusDescription`; entities belong to the caller's tenant.

use super::state::State;
use super::{STATUS_DESCRIPTION, session};
use crate::exchange::Call;
use crate::reply::Reply;
use crate::shared::Shared;
use http::header::ACCEPT;
use serde_json::{Map, Value, json};

/// Versions in the path that public clients use.
const VERSIONS: std::ops::RangeInclusive<u32> = 21..=34;
/// Largest page (paging skip/top, max 100).
const TOP_MAX: usize = 100;
/// Collections that exist here.
const COLLECTIONS: [&str; 6] = ["agents", "users", "contacts", "skills", "teams", "campaigns"];
/// Entities of one collection; a test that needs more is a load test of its own.
const ENTITIES_MAX: usize = 20_000;

pub(super) fn refused(status: u16, message: &str) -> Reply {
    Reply::empty(status).header(STATUS_DESCRIPTION, message)
}

pub(super) fn handle(shared: &Shared, call: &Call) -> Reply {
    let Some(session) = session(shared, call) else { return refused(401, "Invalid or expired token") };
    // A public client reports this text for requests without Accept.
    if shared.config.cxone.behaviours.require_accept && !call.headers.contains_key(ACCEPT) {
        return refused(406, "No known way to render data");
    }
    let rest = call.raw_path.strip_prefix("/inContactAPI/services/").unwrap_or_default();
    let mut parts = rest.trim_end_matches('/').split('/');
    let version = parts.next().and_then(|part| part.strip_prefix('v')?.strip_suffix(".0")?.parse::<u32>().ok());
    if !version.is_some_and(|version| VERSIONS.contains(&version)) {
        return refused(404, "Unknown API version");
    }
    let Some(collection) = parts.next().filter(|name| COLLECTIONS.contains(name)) else {
        return refused(404, "Unknown resource");
    };
    let id = parts.next();
    if parts.next().is_some() {
        return refused(404, "Unknown resource");
    }
    let mut state = shared.cxone.state.lock();
    let tenant = state.users.get(&session.user_id).map(|user| user.tenant_id.clone()).unwrap_or_default();
    let key = (tenant, collection.to_owned());
    match (call.method.as_str(), id) {
        ("GET", None) => list(&state, call, &key),
        ("POST", None) => create(&mut state, call, key),
        (_, None) => refused(405, "Method not allowed"),
        (method, Some(id)) => {
            let Some(id) = id.parse::<u64>().ok() else { return refused(400, "The id must be a number") };
            one(&mut state, call, method, &key, id)
        }
    }
}

/// `agents` to `agentId`.
fn id_name(collection: &str) -> String {
    format!("{}Id", collection.trim_end_matches('s'))
}

fn list(state: &State, call: &Call, key: &(String, String)) -> Reply {
    let number = |name: &str, fallback: usize| match call.query_value(name) {
        Some(text) => text.parse::<usize>().ok(),
        None => Some(fallback),
    };
    let (Some(skip), Some(top)) = (number("skip", 0), number("top", TOP_MAX)) else {
        return refused(400, "skip and top must be numbers");
    };
    if !(1..=TOP_MAX).contains(&top) {
        return refused(400, "top lies between 1 and 100");
    }
    let empty = std::collections::BTreeMap::new();
    let all = state.entities.get(key).unwrap_or(&empty);
    let page: Vec<&Map<String, Value>> = all.values().skip(skip).take(top).collect();
    let next = skip.saturating_add(page.len());
    let mut links = json!({"self": format!("{}?skip={skip}&top={top}", call.raw_path)});
    if next < all.len()
        && let Some(links) = links.as_object_mut()
    {
        links.insert("next".to_owned(), json!(format!("{}?skip={next}&top={top}", call.raw_path)));
    }
    let mut body = json!({"totalRecords": all.len(), "_links": links});
    if let Some(fields) = body.as_object_mut() {
        fields.insert(key.1.clone(), json!(page));
    }
    Reply::json(200, &body)
}

fn object(call: &Call) -> Result<Map<String, Value>, Reply> {
    match call.json() {
        Ok(Some(Value::Object(fields))) => Ok(fields),
        Ok(_) => Err(refused(400, "A JSON object is required")),
        Err(_) => Err(refused(400, "The body is not JSON")),
    }
}

fn create(state: &mut State, call: &Call, key: (String, String)) -> Reply {
    let mut fields = match object(call) {
        Ok(fields) => fields,
        Err(refused) => return refused,
    };
    let id = state.next_entity;
    let name = id_name(&key.1);
    let collection = state.entities.entry(key).or_default();
    if collection.len() >= ENTITIES_MAX {
        return refused(400, "Too many entities");
    }
    state.next_entity += 1;
    fields.insert(name, json!(id));
    let reply = Reply::json(200, &Value::Object(fields.clone()));
    collection.insert(id, fields);
    reply
}

fn one(state: &mut State, call: &Call, method: &str, key: &(String, String), id: u64) -> Reply {
    let Some(collection) = state.entities.get_mut(key).filter(|collection| collection.contains_key(&id)) else {
        return refused(404, "The entity does not exist");
    };
    match method {
        "GET" => Reply::json(200, &json!(collection.get(&id))),
        "PUT" => {
            let mut fields = match object(call) {
                Ok(fields) => fields,
                Err(refused) => return refused,
            };
            fields.insert(id_name(&key.1), json!(id));
            collection.insert(id, fields);
            Reply::empty(204)
        }
        "DELETE" => {
            collection.remove(&id);
            Reply::empty(204)
        }
        _ => refused(405, "Method not allowed"),
    }
}
