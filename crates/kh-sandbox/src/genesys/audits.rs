//! The audit trail and its queries. Invariant: every change that this sandbox applies to a client, role, grant, token
//! or the idle timeout adds one entry; a query never changes the trail.

use super::access::Caller;
use super::error;
use super::state::State;
use crate::clock;
use crate::error_body::ErrorBody;
use crate::exchange::Call;
use crate::reply::Reply;
use crate::shared::Shared;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};

/// Entries kept; the platform keeps them for days, a test run for its life.
const ENTRIES_MAX: usize = 20_000;
/// Asynchronous queries kept.
const QUERIES_MAX: usize = 1_000;
/// Rows per page when the request does not say, and at most.
const PAGE_DEFAULT: usize = 25;
const PAGE_MAX: usize = 500;
/// The service that all these entities belong to (official EventBridge sample).
const SERVICE: &str = "PeoplePermissions";

/// Entries and running queries.
#[derive(Debug, Default)]
pub(super) struct AuditTrail {
    entries: VecDeque<(i64, Value)>,
    queries: BTreeMap<String, Value>,
}

/// One change, described for the trail.
#[derive(Debug)]
pub(super) struct Change<'a> {
    pub(super) action: &'a str,
    pub(super) entity_type: &'a str,
    pub(super) entity_id: &'a str,
    pub(super) entity_name: &'a str,
    pub(super) changes: Vec<Value>,
}

/// A `PropertyChange`.
pub(super) fn property(name: &str, old: Option<&str>, new: Option<&str>) -> Value {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.into_iter().collect(), new.into_iter().collect());
    json!({"property": name, "oldValues": old, "newValues": new})
}

/// Adds an entry to the trail.
pub(super) fn note(shared: &Shared, state: &mut State, call: &Call, caller: &Caller, change: &Change<'_>) {
    let now = shared.clock.now_ms();
    let mut entry = json!({
        "id": shared.mint.next_uuid(),
        "userHomeOrgId": shared.genesys.organization_id,
        "remoteIp": [call.remote.to_string()],
        "serviceName": SERVICE,
        "level": "USER",
        "eventDate": clock::iso(now),
        "action": change.action,
        "entity": {"id": change.entity_id, "name": change.entity_name},
        "entityType": change.entity_type,
        "status": "SUCCESS",
        "propertyChanges": change.changes,
        "context": {},
    });
    if let Some(fields) = entry.as_object_mut() {
        caller.client_id.as_ref().and_then(|id| fields.insert("client".to_owned(), json!({"id": id})));
        caller.user_id.as_ref().and_then(|id| fields.insert("user".to_owned(), json!({"id": id})));
    }
    let trail = &mut state.audits.entries;
    trail.push_back((now, entry));
    while trail.len() > ENTRIES_MAX {
        trail.pop_front();
    }
}

pub(super) fn handle(shared: &Shared, call: &Call, template: &str, values: &[&str]) -> Option<Reply> {
    let reply = match (call.method.as_str(), template) {
        ("POST", "/api/v2/audits/query/realtime") => realtime(shared, call),
        ("POST", "/api/v2/audits/query") => start(shared, call),
        ("GET", "/api/v2/audits/query/servicemapping" | "/api/v2/audits/query/realtime/servicemapping") => {
            Ok(Reply::json(200, &service_mapping()))
        }
        ("GET", "/api/v2/audits/query/{transactionId}") => status(shared, call, values),
        ("GET", "/api/v2/audits/query/{transactionId}/results") => results(shared, call, values),
        _ => return None,
    };
    Some(reply.unwrap_or_else(|refused| refused))
}

/// Entity types and actions as an official SDK lists them.
fn service_mapping() -> Value {
    let actions = [
        "Create",
        "Update",
        "Delete",
        "Revoke",
        "Reset",
        "Rotate",
        "Authenticate",
        "Authorize",
        "Deauthorize",
        "IpAllowlistClear",
    ];
    let entities: Vec<Value> =
        ["AccessToken", "OAuthClient", "OAuthClientAuthorization", "Credential", "AuthUser", "Role", "Organization"]
            .iter()
            .map(|name| json!({"name": name, "actions": actions}))
            .collect();
    json!({"services": [{"name": SERVICE, "entities": entities}]})
}

fn bad(call: &Call, reason: &str, field: &str) -> Reply {
    error(&ErrorBody::bad_request(reason, &call.correlation).detail("invalid.value", field))
}

/// The query of a request body, with its interval read.
fn query_of(call: &Call) -> Result<Value, Reply> {
    let query = call.json().ok().flatten().ok_or_else(|| bad(call, "a JSON body is required", "body"))?;
    interval(&query).ok_or_else(|| bad(call, "interval is start/end in ISO-8601", "interval"))?;
    Ok(query)
}

/// Both ends of `interval` in Unix milliseconds (ISO-8601, `start/end`).
fn interval(query: &Value) -> Option<(i64, i64)> {
    let (start, end) = query.get("interval")?.as_str()?.split_once('/')?;
    let millis = |text: &str| text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond);
    Some((millis(start)?, millis(end)?))
}

/// The entries that a query picks, newest first unless it says `ascending`.
fn pick(trail: &AuditTrail, query: &Value) -> Vec<Value> {
    let Some((start, end)) = interval(query) else { return Vec::new() };
    let service = query.get("serviceName").and_then(Value::as_str);
    let filters = query.get("filters").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut found: Vec<Value> = trail
        .entries
        .iter()
        .filter(|(at, entry)| {
            (start..=end).contains(at)
                && service.is_none_or(|service| entry.get("serviceName") == Some(&json!(service)))
                && filters.iter().all(|filter| passes(entry, filter))
        })
        .map(|(_, entry)| entry.clone())
        .collect();
    let order = query.pointer("/sort/0/sortOrder").and_then(Value::as_str);
    if order != Some("ascending") {
        found.reverse();
    }
    found
}

fn passes(entry: &Value, filter: &Value) -> bool {
    let pointer = match filter.get("property").and_then(Value::as_str) {
        Some("UserId") => "/user/id",
        Some("ClientId") => "/client/id",
        Some("Action") => "/action",
        Some("EntityType") => "/entityType",
        Some("EntityId") => "/entity/id",
        Some("TrusteeOrganizationId") => "/userHomeOrgId",
        Some(_) | None => return false,
    };
    entry.pointer(pointer).is_some_and(|found| Some(found) == filter.get("value"))
}

fn page_size(wanted: Option<u64>) -> usize {
    wanted.and_then(|wanted| usize::try_from(wanted).ok()).map_or(PAGE_DEFAULT, |wanted| wanted.clamp(1, PAGE_MAX))
}

fn realtime(shared: &Shared, call: &Call) -> Result<Reply, Reply> {
    let query = query_of(call)?;
    let found = pick(&shared.genesys.state.lock().audits, &query);
    let size = page_size(query.get("pageSize").and_then(Value::as_u64));
    let number = query.get("pageNumber").and_then(Value::as_u64).unwrap_or(1).max(1);
    let skip = usize::try_from(number - 1).unwrap_or(usize::MAX).saturating_mul(size);
    let page: Vec<&Value> = found.iter().skip(skip).take(size).collect();
    let body = json!({
        "entities": page, "pageSize": size, "pageNumber": number, "total": found.len(),
        "pageCount": found.len().div_ceil(size),
    });
    Ok(Reply::json(200, &body))
}

/// 202 with a transaction; the sandbox has the result at once, but the caller must ask for its state all the same.
fn start(shared: &Shared, call: &Call) -> Result<Reply, Reply> {
    let query = query_of(call)?;
    let id = shared.mint.next_uuid();
    let mut state = shared.genesys.state.lock();
    if state.audits.queries.len() >= QUERIES_MAX {
        state.audits.queries.pop_first();
    }
    let kept = json!({"query": query, "startDate": clock::iso(shared.clock.now_ms())});
    let body = status_body(&id, &kept, "Queued");
    state.audits.queries.insert(id, kept);
    Ok(Reply::json(202, &body))
}

fn status_body(id: &str, kept: &Value, state: &str) -> Value {
    let mut body = json!({"id": id, "state": state, "startDate": kept.get("startDate")});
    let query = kept.get("query").and_then(Value::as_object);
    if let (Some(body), Some(query)) = (body.as_object_mut(), query) {
        for name in ["interval", "serviceName", "filters", "sort"] {
            query.get(name).and_then(|value| body.insert(name.to_owned(), value.clone()));
        }
    }
    body
}

fn kept_query(shared: &Shared, call: &Call, values: &[&str]) -> Result<(String, Value), Reply> {
    let id = values.first().copied().unwrap_or_default();
    let kept = shared.genesys.state.lock().audits.queries.get(id).cloned();
    kept.map(|kept| (id.to_owned(), kept)).ok_or_else(|| error(&ErrorBody::not_found(&call.correlation)))
}

fn status(shared: &Shared, call: &Call, values: &[&str]) -> Result<Reply, Reply> {
    let (id, kept) = kept_query(shared, call, values)?;
    Ok(Reply::json(200, &status_body(&id, &kept, "Succeeded")))
}

/// One page; `cursor` is the number of rows already read and absent on the last page.
fn results(shared: &Shared, call: &Call, values: &[&str]) -> Result<Reply, Reply> {
    let (id, kept) = kept_query(shared, call, values)?;
    let skip = match call.query_value("cursor") {
        Some(cursor) => cursor.parse::<usize>().map_err(|_| bad(call, "the cursor is not one of ours", "cursor"))?,
        None => 0,
    };
    let size = page_size(call.query_value("pageSize").and_then(|size| size.parse().ok()));
    let found = pick(&shared.genesys.state.lock().audits, kept.get("query").unwrap_or(&Value::Null));
    let page: Vec<&Value> = found.iter().skip(skip).take(size).collect();
    let next = skip.saturating_add(page.len());
    let mut body = json!({"id": id, "pageSize": size, "entities": page});
    if next < found.len()
        && let Some(fields) = body.as_object_mut()
    {
        fields.insert("cursor".to_owned(), json!(next.to_string()));
    }
    Ok(Reply::json(200, &body))
}
